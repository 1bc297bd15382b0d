"""Bytes and milliseconds of a 1024 x 1024 object phase as it travels to the live page, raw and as JPEG.

``python -m tests.bench.pictures`` prints one JSON line: processor time to make each (``jpeg``: from the raw one), and
time to open it in a browser. ``finished`` is a simulated object with edges as sharp as a pixel, ``begun`` the same under
noise, ``soft`` one without edges.
"""

import base64
import json
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
from playwright.sync_api import sync_playwright

from streamptycho.messages.results import Snapshot
from streamptycho_services.dashboard import images
from streamptycho_services.dashboard.compress import as_jpeg
from streamptycho_services.dashboard.server import PageOptions
from streamptycho_sim.scan import SimulatedScan, SyntheticOptions
from tests.dashboard.browser import CHROMIUM, FLAGS
from tests.dashboard.show import PageThread, Show, Stage

SIDE = 1024
REPEATS = 9
OPEN = """async (text) => {
  const { opened } = await import("/static/link.js");
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const spent = [];
  for (let i = 0; i < 9; i++) {
    const begun = performance.now();
    await opened(bytes.buffer);
    spent.push(performance.now() - begun);
  }
  return spent.sort((a, b) => a - b)[4];
}"""


def timed_ms(make: Callable[[], bytes]) -> tuple[float, bytes]:
    """Median processor time of this thread, and what was made."""
    spent, made = [], b""
    for _ in range(REPEATS):
        begun = time.thread_time()
        made = make()
        spent.append(1e3 * (time.thread_time() - begun))
    return round(float(np.median(spent)), 1), made


def snapshots() -> dict[str, Snapshot]:
    """Objects of 1024 x 1024 pixels, a disc of them covered."""
    scan = SimulatedScan(SyntheticOptions(frames=3000, shape=128))
    obj = np.tile(scan.obj, [-(-SIDE // n) for n in scan.obj.shape])[:SIDE, :SIDE]
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE / 2 + 0.5
    covered = np.hypot(y, x) < SIDE / 2
    noise = np.random.default_rng(0).normal(scale=0.1, size=(2, SIDE, SIDE))
    snapshot = Show(frames=4, shape=16).snapshot(1)
    soft = np.exp(1j * np.sin(y / 20) * np.cos(x / 30))
    objects = {"finished": obj, "begun": obj + noise[0] + 1j * noise[1], "soft": soft}
    return {name: replace(snapshot, object=made.astype(np.complex64), covered=covered) for name, made in objects.items()}


def main() -> None:
    """Make them, and open them."""
    report = {}
    with Stage() as stage, PageThread(stage.config, PageOptions(port=0)) as page, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        shown = browser.new_page()
        shown.goto(page.address)
        for name, snapshot in snapshots().items():
            raw_ms, raw = timed_ms(partial(images.picture, snapshot, "phase"))
            jpeg_ms, jpeg = timed_ms(partial(as_jpeg, raw))
            opened_ms = round(shown.evaluate(OPEN, base64.b64encode(jpeg).decode()), 1)
            figures = {"bytes": len(jpeg), "made_ms": jpeg_ms, "opened_ms": opened_ms}
            report[name] = {"raw": {"bytes": len(raw), "made_ms": raw_ms}, "jpeg": figures}
        browser.close()
    print(json.dumps(report))


if __name__ == "__main__":
    main()
