"""Screenshots of the live page during the demonstration, and how soon it shows what has come.

``python -m tests.bench.shots DIRECTORY [-- simulator flags]`` writes PNGs at 25 %, 60 % and the end, in two sizes, and
prints one JSON line: seconds from the first frames to the first picture and map on the screen, and the latency from the
timestamp of the newest frame in a picture to its painting (where snapshots tell that timestamp).
"""

import argparse
import json
import re
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import sync_playwright

from tests.chain import PROGRAM
from tests.chain import Command as Program
from tests.dashboard.browser import CHROMIUM, FLAGS

SIZES = {"1280": ((1280, 720), "dark"), "1920": ((1920, 1080), "light")}
STATE = """() => [parseInt(document.getElementById("progress").innerText) || 0, window.streamptycho.painted.length,
  document.getElementById("n-maps").innerText !== "", document.getElementById("state").innerText]"""


def latency_s(painted: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Median and 95th percentile over the pictures that tell their newest frame, while frames came.

    ``made`` is the part from the frame's timestamp to the snapshot, ``shown`` that from there to the painting.
    """
    told = [shot for shot in painted if int(shot["newest_ns"])]
    newest = [shot for i, shot in enumerate(told) if i == 0 or int(shot["newest_ns"]) > int(told[i - 1]["newest_ns"])]
    if not newest:
        return None
    frame_s, made_s = (np.array([int(shot[name]) for shot in newest]) / 1e9 for name in ("newest_ns", "time_ns"))
    painted_s = np.array([shot["at_ms"] for shot in newest]) / 1e3
    parts = {"whole": painted_s - frame_s, "made": made_s - frame_s, "shown": painted_s - made_s}
    figures = {name: [round(float(np.percentile(delays, part)), 3) for part in (50, 95)] for name, delays in parts.items()}
    return {"p50": figures["whole"][0], "p95": figures["whole"][1], "n": len(newest), **figures}


def watch(pages: dict[str, Any], directory: Path, demo: Program) -> dict[str, Any]:
    """Take the screenshots when they are due; what was seen when."""
    report: dict[str, Any] = {}
    begun_s = None
    due = [25, 60, 100]
    page = next(iter(pages.values()))
    while due:
        assert demo.process.poll() is None, demo.err
        percent, pictures, maps, state = page.evaluate(STATE)
        begun_s = begun_s or (time.monotonic() if percent else None)
        if begun_s is not None:
            for name, there in (("first_picture_s", pictures > 0), ("first_maps_s", maps)):
                if there:
                    report.setdefault(name, round(time.monotonic() - begun_s, 2))
        if percent >= due[0] and (due[0] < 100 or state == "done"):
            page.wait_for_timeout(300)
            for size, shown in pages.items():
                shown.screenshot(path=directory / f"page-{size}-{due[0]}.png")
            del due[0]
        page.wait_for_timeout(20)
    return report | {"latency_s": latency_s(page.evaluate("() => window.streamptycho.painted"))}


def main() -> None:
    """Run the demonstration and look at it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--rate", type=float, default=100)
    given, simulator = parser.parse_known_args()
    given.directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as output, sync_playwright() as driver:
        arguments = ["--page-port", 0, "--stay", "--rate", given.rate, "--output", output, *simulator]
        with Program(PROGRAM, "demo", *arguments, warnings="default") as demo:
            demo.wait_while_running(lambda: "live page" in demo.err, "the address")
            address = re.findall(r"live page: (\S+)", demo.err)[0]
            browser = driver.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
            pages = {}
            for size, ((width, height), scheme) in SIZES.items():
                context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
                pages[size] = context.new_page()
                pages[size].goto(address)
            report = watch(pages, given.directory, demo)
            browser.close()
            demo.process.send_signal(signal.SIGINT)
            demo.wait()
    print(json.dumps(report))


if __name__ == "__main__":
    main()
