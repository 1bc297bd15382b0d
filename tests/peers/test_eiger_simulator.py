"""ALBA's eiger-simulator 0.5.1: the star as Stream V1, received by configuration alone."""

import signal
from pathlib import Path
from types import ModuleType

import h5py
import numpy as np
import pytest

from streamptycho.files.scan import open_scan
from streamptycho.messages.reasons import Stream
from streamptycho.messages.stream import Positions, ScanEnd
from streamptycho.wire.endpoint import Endpoint, SocketKind
from streamptycho.wire.security import NO_KEYS
from streamptycho.wire.sockets import Sender, new_context
from tests.chain import LONG_S, PROGRAM, Command
from tests.peers.simplon import detector, program
from tests.ports import free_address, free_port

RATE_HZ = 100.0
CONFIGURATION = """
[detector.frames]
address = "{frames}"
format = "dectris-v1"

[detector.positions]
address = "{positions}"
"""


@pytest.mark.peers
@pytest.mark.parametrize(("compression", "detail"), [("bslz4", "all"), ("lz4", "basic")])
def test_the_star(compression: str, detail: str, shared_data: Path, shared_tools: ModuleType, tmp_path: Path):
    simulator = program("eiger", "eiger-simulator")
    with open_scan(shared_data / "siemens_star_seed.cxi") as scan:
        start, yx_m = scan.start("star", 1), scan.yx_m
        counts = np.stack([scan.payload(i).decode() for i in scan.index.tolist()])
    (tmp_path / "input").mkdir()
    with h5py.File(tmp_path / "input" / "star.h5", "w") as file:
        file["entry/data/data_000001"] = counts
    port, frames, positions = free_port(), free_address(), free_address()
    command = [str(simulator), "--host", "127.0.0.1", "--port", str(port), "--zmq", frames]
    command += ["--dataset", str(tmp_path / "input" / "star.h5"), "--default-compression", compression]
    (tmp_path / "beamline.toml").write_text(CONFIGURATION.format(frames=frames, positions=positions))
    receive = ("run", "-c", tmp_path / "beamline.toml", "--output", tmp_path / "out", "--json", "--no-page")
    with (
        detector(command, f"http://127.0.0.1:{port}", "1.6.0", tmp_path) as eiger,
        new_context(NO_KEYS) as context,
        Sender(context, Endpoint(address=positions, socket=SocketKind.PUB, bind=True)) as scanner,
        Command(PROGRAM, *receive) as run,
    ):
        geometry, center = start.geometry, start.beam_center_px
        for name, value in {
            "nimages": len(counts),
            "count_time": 1 / RATE_HZ,
            "x_pixels_in_detector": geometry.frame_shape[1],
            "y_pixels_in_detector": geometry.frame_shape[0],
            "x_pixel_size": geometry.pitch_m[1],
            "y_pixel_size": geometry.pitch_m[0],
            "wavelength": geometry.wavelength_m * 1e10,
            "photon_energy": geometry.energy_ev,
            "detector_distance": geometry.distance_m,
            **({} if center is None else {"beam_center_y": center[0], "beam_center_x": center[1]}),
        }.items():
            eiger.put("detector", f"config/{name}", value)
        eiger.put("stream", "config/header_detail", detail)
        eiger.command("initialize")
        run.wait_while_running(lambda: '"scan"' in run.err or run.services(), "the services")
        assert scanner.wait_for_peer(LONG_S)
        eiger.command("arm")
        scanner.send(Positions(scan_id="motion-17", index=np.arange(len(yx_m)), yx_m=yx_m))
        eiger.command("trigger")  # which takes as long as the series
        scanner.send(ScanEnd(scan_id="motion-17", stream=Stream.POSITIONS, count=len(yx_m)))
        run.wait_while_running(lambda: any(line.get("result") for line in run.progress()), "the result")
        run.process.send_signal(signal.SIGINT)
        assert run.wait() == 0, run.err
        report = run.report()
    assert (report["complete"], report["missing"], report["end"]) == (True, 0, "complete")
    masks = ["detector: the pixel mask cannot be read, and is not used: 24 bytes, but 100 x 100 uint32 are 40000"]
    assert report["remarks"] == (masks if detail == "all" else []), "it sends words instead of tables"
    assert report["frames"] == {"received": 516, "used": 516, "waiting": 0, "dropped": {}}
    reference, support = shared_tools.load(str(shared_data / "siemens_star_reference.npz"))
    picture, _ = shared_tools.load(str(report["result"]))
    found = shared_tools.compare(picture, reference, support)["detail_correlation"]
    print(f"{compression}, header detail {detail}: detail correlation {found:.4f}")
    assert found >= 0.99
    with open_scan(Path(report["cxi"])) as written:
        for i in range(0, 516, 100):
            assert np.array_equal(written.payload(i).decode(), counts[i])
