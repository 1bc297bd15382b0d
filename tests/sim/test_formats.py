"""Scans that are sent in the formats of others, heard as a receiver hears them."""

import threading
from contextlib import ExitStack

import numpy as np
import pytest
from pydantic import ValidationError

from streamptycho.compose.composer import Composer
from streamptycho.compose.options import Role, ScanOptions
from streamptycho.join.options import MatchOptions
from streamptycho.messages.stream import ScanEnd, ScanStart
from streamptycho.pipeline.receive import ReceiveStage
from streamptycho.pipeline.stage import Port
from streamptycho.sources.listener import listen
from streamptycho.sources.options import DetectorEndpoint
from streamptycho.wire.sockets import new_context
from streamptycho_sim.publisher import OutletOptions, PublishOptions, publish
from streamptycho_sim.scan import SimulatedScan, SyntheticOptions
from tests.scans import points_in

WAIT_S = 60.0
FRAMES = 25


def heard(format: str, positions_format: str, scan: SimulatedScan, **options: object) -> list:
    """What goes to the writer and the engine of a scan that is sent so."""
    publishing = PublishOptions(format=format, positions_format=positions_format, positions_per_message=7)
    outlets = OutletOptions(
        frames_address="inproc://f", positions_address="inproc://p", positions_socket="push", connect=True
    )
    ends = {
        Role.FRAMES: DetectorEndpoint(address="inproc://f", bind=True, format=format, socket="pull"),
        Role.POSITIONS: DetectorEndpoint(address="inproc://p", bind=True, format=positions_format, socket="pull"),
    }
    foreign = [role for role, end in ends.items() if end.format != "streamptycho"]
    stage = ReceiveStage(MatchOptions(), composer=Composer(ScanOptions(**options), foreign))
    out: list = []
    with ExitStack() as stack:
        context = stack.enter_context(new_context())
        listener = stack.enter_context(listen(context, ends))
        send = threading.Thread(
            target=publish, args=(scan.items(), *outlets.endpoints(), publishing), kwargs={"context": context}
        )
        send.start()
        stack.callback(send.join)
        waited = threading.Event()
        stack.enter_context(_after(WAIT_S, waited))
        while not any(isinstance(message, ScanEnd) for _, message in out) and not waited.is_set():
            one = listener.receive(0.05)
            out += stage.hear(*one) if one is not None else stage.idle()
    return out


def _after(seconds: float, event: threading.Event) -> ExitStack:
    timer = threading.Timer(seconds, event.set)
    timer.start()
    stack = ExitStack()
    stack.callback(timer.join)
    stack.callback(timer.cancel)
    return stack


@pytest.mark.parametrize(
    ("format", "positions_format"),
    [
        ("streamptycho", "streamptycho"),
        ("dectris-v1", "streamptycho"),
        ("dectris-v2", "streamptycho"),
        ("streamptycho", "panda-json"),
        ("dectris-v1", "panda-json"),
        ("dectris-v2", "panda-json"),
    ],
)
def test_a_scan_in_any_format_is_the_same_scan(format: str, positions_format: str):
    scan = SimulatedScan(SyntheticOptions(frames=FRAMES, shape=32))
    columns = {} if positions_format == "streamptycho" else {"columns": ("Y.Mean", "X.Mean"), "unit": "um"}
    out = heard(format, positions_format, scan, **columns)
    (start,) = {id(m): m for port, m in out if isinstance(m, ScanStart) and port is Port.WRITER}.values()
    points = {p.index: p for p in points_in(m for port, m in out if port is Port.ENGINE)}
    assert sorted(points) == list(range(FRAMES))
    expected = {item.message.index[0]: item.message for item in scan.items() if type(item.message).__name__ == "Frame"}
    places = {item.message.index[0]: item.message for item in scan.items() if type(item.message).__name__ == "Positions"}
    for index, point in points.items():
        assert np.array_equal(point.counts(), expected[index].payload.decode())
        assert point.yx_m == pytest.approx(places[index].yx_m[0], abs=1e-15, rel=1e-9)
    sent = next(item.message for item in scan.items() if isinstance(item.message, ScanStart))
    for name in ("wavelength_m", "distance_m", "pitch_m", "frame_shape"):
        assert getattr(start.geometry, name) == pytest.approx(getattr(sent.geometry, name)), name


def test_only_our_own_frames_carry_positions():
    with pytest.raises(ValidationError, match="only frames in our own format carry positions"):
        PublishOptions(format="dectris-v1", positions_with_frames=True)
