"""What a viewer reads of a scan that runs through the whole chain, right and with faults of the network or the settings."""

import threading
from pathlib import Path
from typing import Any

import pytest

from streamptycho.messages.results import Assessment
from streamptycho.wire.endpoint import Endpoint, SocketKind
from streamptycho.wire.sockets import Receiver, new_context
from streamptycho_services.processes.watch import Watcher
from streamptycho_sim.faults import FaultOptions, inject
from streamptycho_sim.publisher import PublishOptions, publish
from streamptycho_sim.scan import ProbeStart, SimulatedScan, SyntheticOptions
from streamptycho_sim.stream import encode
from streamptycho_sim.tally import Tally
from tests import chain

SCAN = SyntheticOptions(scan_id="scan", frames=300, shape=64, probe_start=ProbeStart.GUESS)
LATE = FaultOptions(shuffle=60, delay_positions=50)
LOSSY = FaultOptions(drop_frames=0.05, drop_positions=0.05)


def said(directory: Path, faults: FaultOptions, **overrides: Any) -> list[Assessment]:
    """All assessments that a viewer gets."""
    settings = chain.config(directory, engine__polish_passes=8, reconstruct__assess_s=0.3, engine__threads=1, **overrides)
    heard: list[Assessment] = []
    enough = threading.Event()
    with (
        new_context() as context,
        Watcher(context, settings.services) as watcher,
        chain.in_threads(settings, context) as check,
    ):

        def listen() -> None:
            shown = Endpoint(address=settings.services.display_reconstruct, socket=SocketKind.SUB)
            with Receiver(context, [shown]) as receiver:
                while not enough.is_set():
                    message = receiver.receive(0.1)
                    if isinstance(message, Assessment):
                        heard.append(message)

        listener = threading.Thread(target=listen, name="listener")
        listener.start()
        try:
            made = PublishOptions(rate_hz=150.0, peer_timeout_s=20)
            items = inject(encode(SimulatedScan(SCAN).items(), made.encoding), faults, Tally())
            publish(items, *chain.outlets(settings.detector), made, context=context, tally=Tally())
            chain.wait_written(watcher, "scan", check=check)
            chain.wait_until(lambda: heard and heard[-1].final, "a last word")
        finally:
            enough.set()
            listener.join()
    return heard


@pytest.mark.parametrize("faults", [FaultOptions(), LATE], ids=["in order", "late"])
def test_a_right_scan(tmp_path, faults):
    heard = said(tmp_path, faults)
    words = [assessment.verdict.split(":")[0] for assessment in heard]
    assert words[0] in ("Gathering", "Converging")
    assert words[-1] == "Finished"
    assert all(not assessment.findings for assessment in heard)
    assert heard[-1].figures["missing_frames"] == 0
    assert 2 <= heard[-1].figures["resolution_m"] / SimulatedScan(SCAN).pixel_m[0] < 4


@pytest.mark.slow
def test_lost_frames_and_positions(tmp_path):
    last = said(tmp_path, LOSSY)[-1]
    assert list(last.findings) == ["missing"]
    assert last.verdict == "Frames are missing from the picture."
    assert last.figures["missing_frames"] == pytest.approx(300 * 0.0975, rel=0.6)


def test_a_detector_set_the_wrong_way(tmp_path):
    last = said(tmp_path, FaultOptions(), preprocess__orientation="transpose")[-1]
    assert next(iter(last.findings)) == "orientation"
    assert "Set preprocess.orientation = 'as-is', or 'rotate-180'" in last.findings["orientation"]
