"""Scans that are sent in the formats of others, heard as a receiver hears them."""

import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from streamptycho.compose.composer import Composer
from streamptycho.compose.options import Role, ScanOptions
from streamptycho.files.scan import open_scan
from streamptycho.join.options import MatchOptions
from streamptycho.messages.reasons import EndReason
from streamptycho.messages.status import ReceiveStatus
from streamptycho.messages.stream import Frame, Positions, ScanEnd, ScanStart
from streamptycho.pipeline.receive import ReceiveStage
from streamptycho.pipeline.stage import Port
from streamptycho.sources.listener import listen
from streamptycho.sources.options import DetectorEndpoint
from streamptycho.wire.sockets import new_context
from streamptycho_sim.faults import EndLoss, FaultOptions, inject
from streamptycho_sim.publisher import OutletOptions, PublishOptions, publish
from streamptycho_sim.replay import ReplayOptions, replay
from streamptycho_sim.scan import SimulatedScan, SyntheticOptions
from streamptycho_sim.stream import Item, Items
from streamptycho_sim.tally import Tally
from tests.how_to import page_options
from tests.scans import points_in

WAIT_S = 60.0
FRAMES = 25


PAIRS = [
    ("streamptycho", "streamptycho"),
    ("dectris-v1", "streamptycho"),
    ("dectris-v2", "streamptycho"),
    ("streamptycho", "panda-json"),
    ("dectris-v1", "panda-json"),
    ("dectris-v2", "panda-json"),
    ("dectris-v1", "bluesky"),
    ("streamptycho", "bluesky"),
    ("dectris-v2", "table-json"),
    ("streamptycho", "table-json"),
    ("dectris-v1", "table-csv"),
]
QUICK = MatchOptions(settle_s=0.3, positions_grace_s=0.3)


def heard(format: str, positions_format: str, items: Items, match: MatchOptions = QUICK) -> list:
    """What goes to the writer and the engine of a scan that is sent so."""
    options = {"columns": ("Y.Mean", "X.Mean"), "unit": "um"} if positions_format == "panda-json" else {}
    said = page_options("your-own-daq", "table-json") if positions_format == "table-json" else {}
    publishing = PublishOptions(format=format, positions_format=positions_format, positions_per_message=7)
    outlets = OutletOptions(
        frames_address="inproc://f", positions_address="inproc://p", positions_socket="push", connect=True
    )
    ends = {
        Role.FRAMES: DetectorEndpoint(address="inproc://f", bind=True, format=format, socket="pull"),
        Role.POSITIONS: DetectorEndpoint(
            address="inproc://p", bind=True, format=positions_format, socket="pull", options=said
        ),
    }
    foreign = [role for role, end in ends.items() if end.format != "streamptycho"]
    stage = ReceiveStage(match, composer=Composer(ScanOptions(**options), foreign))
    out: list = []
    with ExitStack() as stack:
        context = stack.enter_context(new_context())
        listener = stack.enter_context(listen(context, ends))
        send = threading.Thread(target=publish, args=(items, *outlets.endpoints(), publishing), kwargs={"context": context})
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


def messages(items: Items, kind: type) -> dict[int, Any]:
    return {int(item.message.index[0]): item.message for item in items if isinstance(item.message, kind)}


def assert_same(out: list, items: list[Item]) -> None:
    """What the engine gets are the frames that were sent, where they were taken, and the start says the same."""
    starts = {id(m): m for port, m in out if isinstance(m, ScanStart) and port is Port.WRITER}.values()
    (start,), (sent,) = starts, [item.message for item in items if isinstance(item.message, ScanStart)]
    points = {p.index: p for p in points_in(m for port, m in out if port is Port.ENGINE)}
    frames, places = messages(items, Frame), messages(items, Positions)
    assert sorted(points) == sorted(frames)
    for index, point in points.items():
        assert np.array_equal(point.counts(), frames[index].payload.decode())
        assert point.yx_m == pytest.approx(places[index].yx_m[0], abs=1e-15, rel=1e-9)
    for name in ("wavelength_m", "distance_m", "pitch_m", "frame_shape"):
        assert getattr(start.geometry, name) == pytest.approx(getattr(sent.geometry, name)), name
    (end,) = (m for port, m in out if isinstance(m, ScanEnd) and port is Port.WRITER)
    assert end.reason is EndReason.COMPLETE


@pytest.mark.parametrize(("format", "positions_format"), PAIRS)
def test_a_scan_in_any_format_is_the_same_scan(format: str, positions_format: str):
    items = list(SimulatedScan(SyntheticOptions(frames=FRAMES, shape=32)).items())
    assert_same(heard(format, positions_format, items), items)


@pytest.mark.parametrize(("format", "positions_format"), PAIRS)
def test_the_star_in_any_format_is_the_star(shared_data: Path, format: str, positions_format: str):
    with open_scan(shared_data / "siemens_star_seed.cxi") as scan:
        items = list(replay(scan, ReplayOptions(), "star"))
        assert_same(heard(format, positions_format, items), items)


@pytest.mark.parametrize("seed", [*range(3), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(3, 50))])
def test_every_frame_is_accounted_for_in_any_format(seed: int):
    """Lost, repeated, spoilt and shuffled frames and positions, lost ends and nonsense, over sockets."""
    format, positions_format = PAIRS[seed % 6]
    ours = positions_format == "streamptycho"
    faults = FaultOptions(
        fault_seed=seed,
        drop_frames=0.1,
        duplicate_frames=0.05,
        corrupt_frames=0.05 if format == "streamptycho" else 0.0,
        drop_positions=0.1 if ours else 0.0,
        duplicate_positions=0.05 if ours else 0.0,
        shuffle=1 + 5 * (seed % 4) if ours else 1,
        delay_positions=40 * (seed % 3),
        garbage=0.05 if seed % 2 else 0.0,
        missing_end=[EndLoss.NONE, EndLoss.FRAMES, EndLoss.POSITIONS, EndLoss.BOTH][seed // 6 % 4] if ours else EndLoss.NONE,
    )
    scan = SimulatedScan(SyntheticOptions(frames=120, shape=32, seed=seed))
    tally = Tally()
    items = list(inject(scan.items(), faults, tally))
    for item in items:
        tally.sent(item.message, ())
    out = heard(format, positions_format, items, MatchOptions(settle_s=0.3, positions_grace_s=0.3, timeout_s=1.0))
    sent = tally.of(scan.options.scan_id)
    last = [m for port, m in out if isinstance(m, ReceiveStatus) and m.done and port is Port.WRITER][-1]
    assert last.received == last.used + last.waiting + sum(last.dropped.values())
    written = [i for port, m in out if isinstance(m, Frame) and port is Port.WRITER for i in m.index.tolist()]
    assert sorted(written) == sorted(sent.frames), "each once"
    pixels, frames = messages(scan.items(), Frame), points_in(m for port, m in out if port is Port.ENGINE)
    assert sorted(point.index for point in frames) == sorted(sent.frames & sent.positions)
    for point in frames:
        assert np.array_equal(point.counts(), pixels[point.index].payload.decode())
        assert point.yx_m == pytest.approx(tuple(scan.yx_m[point.index]), abs=1e-15, rel=1e-9)
    (end,) = (m for port, m in out if isinstance(m, ScanEnd) and port is Port.WRITER)
    assert end.reason is not EndReason.COMPLETE
    assert (last.missing or 0) >= (len(sent.dropped_frames) if format == "streamptycho" else 1)


def test_only_our_own_frames_carry_positions():
    with pytest.raises(ValidationError, match="only frames in our own format carry positions"):
        PublishOptions(format="dectris-v1", positions_with_frames=True)
