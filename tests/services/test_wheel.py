"""A dialect of thirty lines in a wheel of its own, as somebody at a beamline would make it, in the commands."""

import base64
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from streamptycho.files.scan import open_scan
from streamptycho.messages.reasons import Stream
from streamptycho.messages.stream import Positions, ScanEnd
from streamptycho.wire.endpoint import Endpoint, SocketKind
from streamptycho.wire.security import NO_KEYS
from streamptycho.wire.sockets import Sender, new_context
from tests.chain import LONG_S, PROGRAM, Command
from tests.ports import free_address

DIALECT = '''"""Shots of a home-made camera: a JSON head and the pixels."""
import json

import numpy as np
from streamptycho.messages.facts import Began, Ended, Frames, StartParts
from streamptycho.messages.payload import Payload


class Shots:
    def feed(self, parts, now_s):
        head = json.loads(bytes(parts[0]))
        run, shot = head["name"], head["shot"]
        if shot == 0:
            lengths = {"wavelength_m": head["wavelength_nm"] * 1e-9, "distance_m": head["distance_m"]}
            pixel = (head["pixel_um"] * 1e-6,) * 2
            yield Began(run=run, parts=StartParts(pitch_m=pixel, expected=head["of"], **lengths))
        pixels = np.frombuffer(parts[1], "<u2").reshape(head["shape"])
        number, time_ns = np.array([shot]), np.zeros(1, np.int64)
        yield Frames(run=run, number=number, timestamp_ns=time_ns, payload=Payload.raw(pixels))
        if shot == head["of"] - 1:
            yield Ended(run=run, count=head["of"])

    def tick(self, now_s):
        return ()
'''
SHOTS, SIDE = 40, 64


def wheel(folder: Path) -> Path:
    """As a build tool makes it."""
    name = "home_camera-1.0"
    files = {
        "home_camera.py": DIALECT,
        f"{name}.dist-info/METADATA": "Metadata-Version: 2.1\nName: home-camera\nVersion: 1.0\n",
        f"{name}.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{name}.dist-info/entry_points.txt": "[streamptycho.dialects]\nhome-camera = home_camera:Shots\n",
    }
    record = f"{name}.dist-info/RECORD,,\n"
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
        record += f"{path},sha256={digest},{len(text.encode())}\n"
    wheel_file = folder / f"{name}-py3-none-any.whl"
    with zipfile.ZipFile(wheel_file, "w") as archive:
        for path, text in (files | {f"{name}.dist-info/RECORD": record}).items():
            archive.writestr(path, text)
    return wheel_file


def shots() -> list[list[bytes]]:
    random = np.random.default_rng(1)
    head = {"name": "monday", "of": SHOTS, "shape": [SIDE, SIDE], "wavelength_nm": 0.14, "distance_m": 2.0, "pixel_um": 75}
    pixels = random.poisson(50, (SHOTS, SIDE, SIDE)).astype("<u2")
    return [[json.dumps(head | {"shot": i}).encode(), pixels[i].tobytes()] for i in range(SHOTS)]


@pytest.fixture
def camera(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, str, str]:
    """Configuration, and addresses of frames and positions, with the wheel installed."""
    site, frames, positions = tmp_path / "site", free_address(), free_address()
    install = ["install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-index", "--target", str(site)]
    subprocess.run([sys.executable, "-m", "pip", *install, str(wheel(tmp_path))], check=True)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")])))
    config = tmp_path / "beamline.toml"
    config.write_text(
        f'[detector.frames]\naddress = "{frames}"\nformat = "home-camera"\n[detector.positions]\naddress = "{positions}"\n'
    )
    return config, frames, positions


def push(context: object, address: str) -> Sender:
    return Sender(context, Endpoint(address=address, socket=SocketKind.PUSH, bind=True))


def test_it_has_thirty_lines():
    assert len(DIALECT.splitlines()) <= 30


def test_check_hears_it(camera: tuple[Path, str, str]):
    config, frames, _ = camera
    with (
        new_context(NO_KEYS) as context,
        push(context, frames) as detector,
        Command(PROGRAM, "check", "-c", config, "--take", "--seconds", 6, "--json") as check,
    ):
        assert detector.wait_for_peer(LONG_S)
        for parts in shots():
            assert detector.send_parts(parts, wait_s=LONG_S)
            time.sleep(0.02)
        check.wait()
        found = json.loads(check.out)["frames"]
    assert found["state"] == "ok"
    assert found["shape"] == [SIDE, SIDE]


def test_run_records_it(camera: tuple[Path, str, str], tmp_path: Path):
    config, frames, positions = camera
    sent = shots()
    yx_m = np.stack(np.divmod(np.arange(SHOTS), 8), 1) * 1e-7
    arguments = ("run", "-c", config, "--output", tmp_path / "out", "--json", "--no-page", "--no-documents")
    with (
        new_context(NO_KEYS) as context,
        push(context, frames) as detector,
        Sender(context, Endpoint(address=positions, socket=SocketKind.PUB, bind=True)) as scanner,
        Command(PROGRAM, *arguments, "--set", "engine.polish_passes=1") as run,
    ):
        assert detector.wait_for_peer(LONG_S)
        assert scanner.wait_for_peer(LONG_S)
        for i, parts in enumerate(sent):
            assert detector.send_parts(parts, wait_s=LONG_S)
            scanner.send(Positions(scan_id="stage", index=np.array([i]), yx_m=yx_m[i : i + 1]))
        scanner.send(ScanEnd(scan_id="stage", stream=Stream.POSITIONS, count=SHOTS))
        # an engine that is still compiling when the end is asked for is stopped after a while, and that is a failure
        run.wait_while_running(lambda: any(line.get("final") for line in run.progress()), "the final picture")
        run.process.send_signal(signal.SIGINT)
        assert run.wait() == 0, run.err
        report = run.report()
    assert (report["scan"], report["complete"], report["written"], report["remarks"]) == ("monday", True, SHOTS, [])
    with open_scan(Path(report["cxi"])) as scan:
        assert [scan.payload(i).decode().tobytes() for i in range(SHOTS)] == [pixels for _, pixels in sent]
