"""Frames and positions joined on their way."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streamptycho.messages.blocks import BLOCK_BYTES, BLOCK_ROWS, Blocks, pieces
from streamptycho.messages.facts import Ended, Frames
from streamptycho.messages.payload import Payload
from streamptycho.messages.stream import Frame, Positions, ScanEnd
from streamptycho.wire.codec import MAX_PARTS, encode
from tests.scans import ends, frame, only, place, point, positions, start


def through(messages: Iterable[Any]) -> list[Any]:
    blocks = Blocks[Any]()
    return [*(due for message in messages for due in blocks.add(message)), *blocks.flush()]


def test_what_waits_becomes_one_block_with_all_of_its_bytes():
    frames = [frame(i) for i in range(5)]
    (block,) = through(frames)
    assert isinstance(block, Frame)
    assert block.index.tolist() == list(range(5))
    assert block.timestamp_ns.tolist() == [one.timestamp_ns[0] for one in frames]
    assert [bytes(chunk) for chunk in block.payload.chunks] == [bytes(one.payload.chunks[0]) for one in frames]


def test_a_single_one_is_passed_on_as_it_is():
    one = frame(3)
    assert through([one]) == [one]


def test_frames_and_positions_do_not_break_up_each_other():
    out = through(one for i in range(6) for one in (frame(i), positions(i)))
    assert [type(message) for message in out] == [Frame, Positions]
    assert out[1].index.tolist() == list(range(6))
    assert out[1].yx_m.tolist() == [list(place(i)) for i in range(6)]


def test_everything_else_comes_behind_what_was_before_it():
    end = ends(2)[0]
    out = through([start("a"), frame(0, "a"), positions(0, "a"), frame(1, "a"), end, start("b"), frame(2, "b")])
    assert [type(message).__name__ for message in out] == [
        *("ScanStart", "Frame", "Positions", "ScanEnd", "ScanStart", "Frame")
    ]
    assert only(ScanEnd, out) == [end]


def test_only_what_fits_is_joined():
    other = frame(10, pixels=np.zeros((1, 4, 4), np.uint16))
    out = through([frame(1), frame(1), frame(0), frame(2, "t"), frame(8), frame(9, dark=True), other])
    assert [one.index.tolist() for one in out] == [[1], [1], [0], [2], [8], [9], [10]]
    assert [one.scan_id for one in out] == ["s", "s", "s", "t", "s", "s", "s"]


def test_a_block_as_large_as_a_message_can_be_gets_no_company():
    most = MAX_PARTS - 1
    out = through([*map(frame, range(5)), frame(range(5, 5 + most)), frame(5 + most)])
    assert [len(encode(block)) for block in out] == [6, MAX_PARTS, 2]


def test_blocks_are_bounded_in_number_and_bytes():
    out = through(frame(i) for i in range(3 * BLOCK_ROWS))
    assert [len(block) for block in out] == 3 * [BLOCK_ROWS]
    large = np.zeros((1, 512, BLOCK_BYTES // 2048), np.uint16)
    out = through(frame(i, pixels=large) for i in range(6))
    assert [len(block) for block in out] == [2, 2, 2]


def test_nothing_is_held_after_a_block_was_let_go():
    blocks = Blocks()
    assert list(blocks.add(frame(0))) == []
    assert len(list(blocks.flush())) == 1
    assert list(blocks.flush()) == []


def test_frames_with_positions_keep_them_and_are_not_joined_with_others():
    out = through([point(0), point(1), frame(2), frame(3), point(4)])
    assert [block.index.tolist() for block in out] == [[0, 1], [2, 3], [4]]
    assert [block.taken_yx_m is None for block in out] == [False, True, False]
    assert out[0].taken_yx_m.tolist() == [list(place(0)), list(place(1))]


@given(rows=st.integers(1, 200), side=st.sampled_from([8, 64, 512, 1024]))
def test_pieces_are_the_block_and_no_larger_than_what_is_joined(rows: int, side: int):
    pixels = np.broadcast_to(np.zeros((side, side), np.uint16), (rows, side, side))
    chunk = pixels[0].tobytes()
    payload = replace(Payload.raw(pixels[:1]), chunks=(memoryview(chunk),) * rows)
    whole = Frame(scan_id="s", index=np.arange(rows), timestamp_ns=np.arange(rows), payload=payload)
    out = list(pieces(whole.taken(np.array([place(i) for i in range(rows)]))))
    assert [i for one in out for i in one.index.tolist()] == list(range(rows))
    assert [tuple(yx) for one in out for yx in one.taken_yx_m.tolist()] == [place(i) for i in range(rows)]
    assert all(len(one) <= BLOCK_ROWS and (len(one) == 1 or one.payload.nbytes <= BLOCK_BYTES) for one in out)
    fits = min(BLOCK_ROWS, max(BLOCK_BYTES // len(chunk), 1))
    assert len(out) == -(-rows // fits), "no more of them than are needed"


def test_frames_of_other_formats_are_joined_within_their_run():
    payload = Payload.raw(np.zeros((1, 4, 4), np.uint16))

    def one(number: int, run: str = "7", **values: Any) -> Frames:
        zero = np.zeros(1, np.int64)
        return Frames(run=run, number=np.array([number]), **({"timestamp_ns": zero + number, "payload": payload} | values))

    wide = Payload.raw(np.zeros((1, 4, 8), np.uint16))
    facts = [
        one(1),
        one(2),
        Ended(run="6"),
        one(3),
        one(4),
        one(0),
        one(1, "8"),
        one(2, "8", dark=True),
        one(3, "8", payload=wide),
    ]
    out = through(facts)
    assert [fact.number.tolist() for fact in out if isinstance(fact, Frames)] == [[1, 2], [3, 4], [0], [1], [2], [3]]
    assert out[0].timestamp_ns.tolist() == [1, 2]
    assert out[1] is facts[2]
