"""A message that exists is valid, and no consumer can change what another one reads."""

import dataclasses
import math
from dataclasses import replace
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamptycho.errors import GrammarError
from streamptycho.messages import stream as messages_module
from streamptycho.messages.checks import MAX_METADATA_BYTES, MAX_SCAN_ID
from streamptycho.messages.kinds import Message
from streamptycho.messages.payload import Payload
from streamptycho.messages.reasons import EndReason, Stream
from streamptycho.messages.results import Snapshot
from streamptycho.messages.stream import Frame, Positions, ScanEnd, ScanStart
from tests.hostile import GOOD, PIXELS, STATUSES
from tests.strategies import arrays_of, frames, messages, same

NAN = math.nan


def bad(kind: str, field: str, /, **changes: Any) -> None:
    with pytest.raises(GrammarError) as caught:
        replace(GOOD[kind], **changes)
    assert caught.value.field == field


@given(messages)
def test_arrays_are_contiguous_and_read_only(message: Message):
    for name, array in arrays_of(message).items():
        assert array.flags.c_contiguous, name
        assert not array.flags.writeable, name


@given(messages)
def test_messages_are_frozen(message: Message):
    for item in dataclasses.fields(message):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(message, item.name, None)


@given(messages)
def test_a_valid_message_can_be_built_again_from_its_fields(message: Message):
    assert same(replace(message), message)


def test_arrays_of_another_width_or_order_are_converted():
    start = replace(
        GOOD["start"],
        dtype=np.dtype(">u2"),
        dark=np.ones((16, 24), ">f8"),
        probe=np.ones((1, 4, 4)),
        valid=np.ones((24, 16), bool).T,
    )
    assert isinstance(start, ScanStart)
    assert (start.dark.dtype, start.probe.dtype, start.dtype) == (np.float32, np.complex64, np.dtype("<u2"))
    assert start.valid.flags.c_contiguous
    block = replace(GOOD["positions"], index=np.array([1, 2], np.int32), yx_m=np.array([[1, 2], [3, 4]]))
    assert isinstance(block, Positions)
    assert (block.index.dtype, block.yx_m.dtype) == (np.int64, np.float64)


def test_arrays_of_another_kind_are_refused():
    bad("start", "start.valid", valid=np.ones((16, 24), np.uint8))
    bad("start", "start.dark", dark=np.ones((16, 24), np.complex64))
    bad("start", "start.probe", probe=np.full((1, 4, 4), "a"))
    bad("frame", "frame.index", index=np.array([3.0, 4.0]))
    bad("frame", "frame.timestamp_ns", timestamp_ns=np.array([3.0, 4.0]))
    bad("positions", "positions.index", index=np.array([0.0, 1.0, 2.0]))
    bad("snapshot", "snapshot.covered", covered=np.ones((20, 30)))
    bad("snapshot", "snapshot.error_history", error_history=np.ones(3, np.complex64))


@pytest.mark.parametrize("planned", [np.zeros((0, 2)), np.zeros(2), np.zeros((2, 3)), np.array([[0, np.nan]])])
def test_a_plan_that_is_none_is_refused(planned: np.ndarray):
    bad("start", "start.planned_yx_m", planned_yx_m=planned)


def test_a_plan_is_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(messages_module, "MAX_PLANNED", 2)
    bad("start", "start.planned_yx_m", planned_yx_m=np.zeros((3, 2)))


@pytest.mark.parametrize("kind", sorted(GOOD))
@pytest.mark.parametrize(
    "scan_id",
    ["", "x" * (MAX_SCAN_ID + 1), "漢" * 43, "a\n", "\x00", "\x7f", "\ud800", "a/b", "a\\b", ".", "..", ".a", "/a"],
)
def test_scan_ids_that_are_no_file_name_are_refused(kind: str, scan_id: str):
    bad(kind, "scan_id", scan_id=scan_id)


@pytest.mark.parametrize("scan_id", ["1", "x" * MAX_SCAN_ID, "漢" * 42, "2026-05-01 run_7", "a.b", "8f14e45f-ceea"])
def test_scan_ids_that_beamlines_use_are_accepted(scan_id: str):
    assert replace(GOOD["end"], scan_id=scan_id).scan_id == scan_id


@pytest.mark.parametrize(
    ("kind", "name"),
    [("start", name) for name in ("started_ns", "expected", "saturation")]
    + [("end", "count")]
    + [("snapshot", name) for name in ("sequence", "time_ns", "frames_used", "updates")]
    + [(kind, name) for kind in STATUSES for name in ("time_ns", "started_ns", "received", "used", "waiting")]
    + [("receive_status", name) for name in ("unique", "expected", "positions", "announced", "gaps", "missing")]
    + [("write_status", "positions")]
    + [("reconstruct_status", name) for name in ("updates", "passes")]
    + [("estimates", name) for name in ("started_ns", "time_ns")],
)
@pytest.mark.parametrize("value", [-1, 2**63, 10**30])
def test_counts_outside_their_range_are_refused(kind: str, name: str, value: int):
    bad(kind, f"{kind}.{name}", **{name: value})


def test_start():
    bad("start", "start.dtype", dtype=np.dtype("f8"))
    bad("start", "start.valid", valid=np.ones((16, 23), bool))
    bad("start", "start.dark", dark=np.ones((24, 16), np.float32))
    bad("start", "start.dark", dark=np.full((16, 24), np.nan, np.float32))
    bad("start", "start.dark", dark=np.full((16, 24), 1e300))
    for shape in ((4, 4), (0, 4, 4), (1, 0, 4), (1, 1, 4, 4)):
        bad("start", "start.probe", probe=np.ones(shape, np.complex64))
    bad("start", "start.probe", probe=np.full((1, 4, 4), np.inf, np.complex64))
    bad("start", "start.beam_center_px", beam_center_px=(NAN, 1.0))
    for value in (None, [1], {}, b"x", 2**63, -(2**63) - 1, 10**30):
        bad("start", "start.metadata", metadata={"a": value})


def test_frame():
    for index in ([4, 3], [3, 3], [-1, 0], [3], [3, 4, 5], [2**63 - 1, -(2**63)]):
        bad("frame", "frame.index", index=np.array(index, np.int64))
    bad("frame", "frame.index", index=np.array([[3], [4]]))
    bad("frame", "frame.timestamp_ns", timestamp_ns=np.array([1]))
    bad("frame", "frame.payload", payload=replace(Payload.raw(PIXELS), chunks=()))


@given(frames(), st.data())
def test_selected_rows_share_the_bytes(block: Frame, data: st.DataObject):
    rows = sorted(data.draw(st.sets(st.integers(0, len(block) - 1), min_size=1)))
    part = block.select(rows)
    assert len(part) == len(rows)
    assert np.array_equal(part.index, block.index[rows])
    assert np.array_equal(part.timestamp_ns, block.timestamp_ns[rows])
    assert (part.scan_id, part.dark) == (block.scan_id, block.dark)
    assert (part.taken_yx_m is None) == (block.taken_yx_m is None)
    assert part.taken_yx_m is None or np.array_equal(part.taken_yx_m, block.taken_yx_m[rows], equal_nan=True)
    for i, row in enumerate(rows):
        assert part.payload.chunks[i] is block.payload.chunks[row]
        assert part.payload.decode(i).tobytes() == block.payload.decode(row).tobytes()


def test_no_rows_or_rows_out_of_order_are_refused():
    for rows, field in (([], "frame.payload"), ([1, 0], "frame.index"), ([0, 0], "frame.index")):
        with pytest.raises(GrammarError) as caught:
            GOOD["frame"].select(rows)
        assert caught.value.field == field


def test_positions():
    block = GOOD["positions"]
    assert len(block) == 3
    for index in ([0, 2, 1], [0, 1, 1], [-1, 0, 1], [0, 1]):
        name = "positions.yx_m" if len(index) == 2 else "positions.index"
        bad("positions", name, index=np.array(index))
    bad("positions", "positions.index", index=np.array([], np.int64), yx_m=np.empty((0, 2)))
    bad("positions", "positions.index", index=np.int64(3))
    bad("positions", "positions.yx_m", yx_m=np.zeros((3, 3)))
    bad("positions", "positions.yx_m", yx_m=np.array([[0, 0], [0, NAN], [0, 0]]))
    bad("positions", "positions.yx_m", yx_m=np.array([[0, 0], [0, np.inf], [0, 0]]))


@pytest.mark.parametrize("reason", EndReason)
def test_end(reason: EndReason):
    end = ScanEnd(scan_id="s1", stream=Stream.POSITIONS, count=0, reason=reason)
    assert end.complete == (reason is EndReason.COMPLETE)


def test_snapshot():
    bad("snapshot", "snapshot.covered", covered=np.ones((30, 20), bool))
    bad("snapshot", "snapshot.object", object=np.ones(20, np.complex64), covered=np.ones(20, bool))
    bad("snapshot", "snapshot.object", object=np.ones((0, 20), np.complex64), covered=np.ones((0, 20), bool))
    bad("snapshot", "snapshot.probe", probe=np.ones((8, 8), np.complex64))
    bad("snapshot", "snapshot.probe", probe=np.ones((0, 8, 8), np.complex64))
    bad("snapshot", "snapshot.error_history", error_history=np.ones((2, 2), np.float32))
    bad("snapshot", "snapshot.error_history", error_history=np.float32(1))
    bad("snapshot", "snapshot.origin_m", origin_m=(NAN, 0.0))
    bad("snapshot", "snapshot.pixel_m", pixel_m=(1e-8, 0.0))
    bad("snapshot", "snapshot.pixel_m", pixel_m=(-1e-8, 1e-8))
    first = replace(GOOD["snapshot"], error=NAN, error_history=np.empty(0, np.float32))
    assert isinstance(first, Snapshot)
    assert math.isnan(first.error)


@pytest.mark.parametrize("kind", STATUSES)
def test_ledger_of_a_status_must_balance(kind: str):
    status = GOOD[kind]
    assert status.received == status.used + status.waiting + sum(status.dropped.values())
    bad(kind, f"{kind}.received", received=7)
    bad(kind, f"{kind}.received", dropped={})
    bad(kind, f"{kind}.dropped", dropped={"duplicate": -1, "late": 2})
    bad(kind, f"{kind}.rejected", rejected={"late": 4, "unreadable": -1})
    bad(kind, "scan_id", scan_id="a/b")
    assert replace(status, scan_id=None).scan_id is None


def test_estimates():
    bad("estimates", "estimates.index", index=np.array([], np.int64))
    bad("estimates", "estimates.index", index=np.array([1, 0, 2]))
    bad("estimates", "estimates.recorded_yx_m", recorded_yx_m=np.zeros((2, 2)))
    bad("estimates", "estimates.refined_yx_m", refined_yx_m=np.zeros((3, 3)))
    bad("estimates", "estimates.flux", flux=np.ones((3, 1)))
    bad("estimates", "estimates.flux", flux=np.ones(3, np.complex64))
    bad("estimates", "estimates.background", background=np.ones(3))
    bad("estimates", "estimates.background", background=np.ones((0, 3)))
    bare = replace(GOOD["estimates"], refined_yx_m=None, flux=None, background=None)
    assert (bare.refined_yx_m, bare.flux, bare.background) == (None, None, None)


def test_metadata_is_limited_in_size():
    fits = {"note": "x" * (MAX_METADATA_BYTES - 9)}
    assert len(msgpack.packb(fits)) == MAX_METADATA_BYTES
    assert replace(GOOD["start"], metadata=fits).metadata == fits
    for metadata in ({"note": fits["note"] + "x"}, {str(i): 0.5 for i in range(80_000)}):
        with pytest.raises(GrammarError, match=r"start\.metadata: \d+ bytes; at most 65536 are accepted"):
            replace(GOOD["start"], metadata=metadata)
