"""The join: what can happen to a stream, and the pairs, counts and bounds that hold nevertheless."""

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from pydantic import ValidationError

from streamptycho.errors import CodecError
from streamptycho.join import matcher as matcher_module
from streamptycho.join.indices import IndexSet
from streamptycho.join.matcher import Matcher
from streamptycho.join.open_scan import Edge, OpenScan
from streamptycho.join.options import MatchOptions
from streamptycho.messages.kinds import Message
from streamptycho.messages.reasons import EndReason, Stream
from streamptycho.messages.results import Snapshot
from streamptycho.messages.stream import Frame, Positions, ScanEnd, ScanStart
from streamptycho.pipeline.points import points_of
from tests.hostile import GOOD
from tests.scans import FRAME_BYTES, Clock, end, ends, frame, only, place, points_in, positions, start
from tests.strategies import bslz4, same

HELD = FRAME_BYTES + 1024
"""Bytes counted for a frame that waits."""


class Run:
    """A matcher whose every step is checked, and what it has put out."""

    def __init__(self, **options: float) -> None:
        self.options = MatchOptions(**options)
        self.matcher = Matcher(self.options)
        self.clock = Clock()
        self.scans: list[OpenScan] = []
        """All scans ever, oldest first."""
        self.writer: list[Message] = []
        self.engine: list[Message] = []

    def __call__(self, *messages: object) -> "Run":
        for message in messages:
            self._take(self.matcher.handle(message, self.clock.now))
        return self

    def wait(self, seconds: float) -> "Run":
        self.clock.now += seconds
        self._take(self.matcher.tick(self.clock.now))
        return self

    def finish(self, reason: EndReason) -> None:
        self._take(self.matcher.finish(reason))

    def _take(self, routed: Iterable[tuple[Edge, Message]]) -> None:
        for edge, message in routed:
            self.scans += [scan for scan in self.matcher.scans.values() if scan not in self.scans]
            if edge is not Edge.ENGINE:
                self.writer.append(message)
            if edge is not Edge.WRITER:
                self.engine.append(message)
            self.check_balance()  # also in the middle: a sender may block there, and its counts are read
        self.check()

    def check_balance(self) -> None:
        for scan in self.scans:
            assert scan.received == scan.matched + scan.waiting + scan.dropped.total()

    def check(self) -> None:
        self.check_balance()
        for scan in self.scans:
            held = [f.payload.nbytes + 1024 for f in scan.frames.values()]
            assert sum(held) == scan.waiting_bytes
            assert len(held) == scan.waiting
            assert len(scan.positions) <= self.options.max_waiting_positions
            assert not scan.frames.keys() & scan.positions.keys(), "a pair was not joined"
        assert len(self.matcher.scans) <= self.options.max_open_scans
        open_scans = self.matcher.scans.values()
        held_bytes, held = sum(scan.waiting_bytes for scan in open_scans), sum(len(scan.frames) for scan in open_scans)
        assert held_bytes <= self.options.max_waiting_bytes or held == 1

    def indices_written(self, scan_id: str = "s") -> list[int]:
        return [i for m in only(Frame, self.writer) if m.scan_id == scan_id and not m.dark for i in m.index.tolist()]

    def positions_written(self, scan_id: str = "s") -> dict[int, tuple[float, float]]:
        blocks = [m for m in only(Positions, self.writer) if m.scan_id == scan_id]
        rows = [(i, tuple(yx)) for m in blocks for i, yx in zip(m.index.tolist(), m.yx_m.tolist(), strict=True)]
        assert len(dict(rows)) == len(rows), "a position was written twice"
        return dict(rows)

    def pairs(self, scan_id: str = "s") -> dict[int, tuple[float, float]]:
        points = points_in(self.engine, scan_id)
        for p in points:
            assert p.counts()[0, 0] == p.index, "index and pixels were mixed up"
        assert len({p.index for p in points}) == len(points), "a frame was paired twice"
        return {p.index: p.yx_m for p in points}

    def ends(self) -> list[tuple[str, EndReason, int]]:
        assert all(m.stream is Stream.SCAN for m in only(ScanEnd, self.writer))
        assert only(ScanEnd, self.writer) == only(ScanEnd, self.engine)
        return [(m.scan_id, m.reason, m.count) for m in only(ScanEnd, self.writer)]

    @property
    def rejected(self) -> dict[str, int]:
        return dict(self.matcher.rejected)

    def dropped(self, which: int = 0) -> dict[str, int]:
        return dict(self.scans[which].dropped)


def blocks(draw: st.DrawFn, indices: list[int]) -> list[list[int]]:
    """Neighbours together, in blocks of any size."""
    out: list[list[int]] = []
    while indices:
        size = draw(st.integers(1, 5))
        out.append(indices[:size])
        indices = indices[size:]
    return out


@st.composite
def streams(draw: st.DrawFn) -> tuple[int, set[int], set[int], list[Message], int]:
    """Frames and positions of one scan in any order: number sent, frames and positions that arrive, messages, repeats."""
    n = draw(st.integers(1, 24))
    frames, places = ([i for i in range(n) if i not in draw(st.sets(st.integers(0, n - 1), max_size=3))] for _ in "fp")
    repeats = [draw(st.sampled_from(frames))] * draw(st.integers(0, 3)) if frames else []
    again = [draw(st.sampled_from(places))] * draw(st.integers(0, 3)) if places else []
    messages: list[Message] = [frame(block) for block in blocks(draw, frames)] + [frame(i) for i in repeats]
    messages += [positions(block) for block in blocks(draw, places)] + [positions(i) for i in again]
    return n, set(frames), set(places), draw(st.permutations(messages + ends(n))), len(repeats)


@given(streams())
def test_any_order_of_any_stream_gives_the_offline_join(stream):
    n, frames, places, messages, repeats = stream
    run = Run()(start())
    for k, message in enumerate(messages):
        run(message)
        seen = {i for m in only(Frame, messages[: k + 1]) for i in m.index.tolist()}
        known = {i for m in only(Positions, messages[: k + 1]) for i in m.index.tolist()}
        assert set(run.indices_written()) == seen, "a frame waited for something"
        assert set(run.pairs()) == seen & known, "a pair waited for something"
    complete = len(frames) == len(places) == n
    assert bool(run.ends()) == complete, "without loss the last message closes the scan, else it stays open"
    run.wait(2.0)
    reason = EndReason.COMPLETE if complete else EndReason.INCOMPLETE
    assert run.ends() == [("s", reason, len(frames))]
    assert (run.scans[0].missing(reason), run.scans[0].missing_positions(reason)) == (n - len(frames), n - len(places))
    alone = Run()(start(), *(message for message in messages if not isinstance(message, ScanEnd)))
    assert alone.scans[0].missing_positions(reason) == len(frames - places)
    assert sorted(run.indices_written()) == sorted(frames)
    assert run.positions_written() == {i: place(i) for i in places}
    assert run.pairs() == {i: place(i) for i in frames & places}
    dropped = run.dropped()
    assert dropped.get("no_position", 0) == len(frames - places)
    assert dropped.get("duplicate", 0) <= repeats
    if not complete:
        assert dropped.get("duplicate", 0) == repeats
    assert set(dropped) <= {"no_position", "duplicate"}


class AnyStreams(RuleBasedStateMachine):
    """Any number of scans at once, against a model that is two sets per scan."""

    @initialize()
    def begin(self) -> None:
        self.run = Run(settle_s=2.0, timeout_s=10.0, max_open_scans=3, max_index=30)
        self.frames: dict[int, set[int]] = {}
        self.places: dict[int, dict[int, tuple[float, float]]] = {}
        self.received: Counter[int] = Counter()
        self.started = 0

    def scan(self, scan_id: str) -> int | None:
        """Which scan takes a message of this id: its number in order of starts."""
        scan = self.run.matcher.scans.get(scan_id)
        return None if scan is None else self.run.scans.index(scan)

    ids = st.sampled_from(["a", "b", "c"])
    some = st.lists(st.integers(0, 32), min_size=1, max_size=6, unique=True).map(sorted)

    @rule(scan_id=ids, again=st.booleans())
    def start(self, scan_id: str, again: bool) -> None:
        self.started += not again
        self.run(start(scan_id, started_ns=self.started))

    @rule(scan_id=ids, index=some)
    def send_frames(self, scan_id: str, index: list[int]) -> None:
        which = self.scan(scan_id)
        if which is not None:
            self.received[which] += len(index)
            self.frames.setdefault(which, set()).update(i for i in index if i < 30)
        self.run(frame(index, scan_id))

    @precondition(lambda self: self.run.matcher.scans)
    @rule(index=some, salt=st.integers(0, 3), data=st.data())
    def send_positions(self, index: list[int], salt: int, data: st.DataObject) -> None:
        scan_id = data.draw(st.sampled_from(sorted(self.run.matcher.scans)))
        known = self.places.setdefault(self.scan(scan_id), {})
        for i in index:
            if i < 30:
                known.setdefault(i, place(i, salt))
        self.run(positions(index, scan_id, salt))

    @rule(scan_id=ids)
    def send_other_shape(self, scan_id: str) -> None:
        which = self.scan(scan_id)
        if which is not None:
            self.received[which] += 2
        self.run(frame([1, 2], scan_id, pixels=np.zeros((2, 4, 4), np.uint16)))

    @rule(scan_id=ids, frames=st.integers(0, 3))
    def send_corrupt(self, scan_id: str, frames: int) -> None:
        which = self.scan(scan_id)
        if which is not None:
            self.received[which] += frames
        self.run(CodecError("frame.payload", "bad", scan_id=scan_id, frames=frames))

    @rule(scan_id=ids, stream=st.sampled_from(Stream), count=st.integers(0, 12))
    def send_end(self, scan_id: str, stream: Stream, count: int) -> None:
        if self.run.matcher.scans.get(scan_id) is not None or stream is not Stream.POSITIONS:
            self.run(end(count, stream, scan_id))

    @rule(seconds=st.sampled_from([0.1, 1.9, 2.5, 9.0]))
    def pass_time(self, seconds: float) -> None:
        self.run.wait(seconds)

    @rule()
    def interrupt(self) -> None:
        self.run.finish(EndReason.INTERRUPTED)
        assert not self.run.matcher.scans

    @invariant()
    def agrees_with_the_model(self) -> None:
        written: dict[str, list[int]] = {}
        paired: dict[str, list[tuple[int, tuple[float, float]]]] = {}
        expected_written: dict[str, list[int]] = {}
        expected_pairs: dict[str, list[tuple[int, tuple[float, float]]]] = {}
        for message in only(Frame, self.run.writer):
            written.setdefault(message.scan_id, []).extend(message.index.tolist())
        for message in only(Frame, self.run.engine):
            paired.setdefault(message.scan_id, []).extend((p.index, p.yx_m) for p in points_of(message))
        for which, scan in enumerate(self.run.scans):
            frames, places = self.frames.get(which, set()), self.places.get(which, {})
            assert scan.received == self.received[which]
            assert scan.matched == len(frames & places.keys())
            if frames:
                expected_written.setdefault(scan.scan_id, []).extend(frames)
            if frames & places.keys():
                expected_pairs.setdefault(scan.scan_id, []).extend((i, places[i]) for i in frames & places.keys())
        assert {k: sorted(v) for k, v in written.items()} == {k: sorted(v) for k, v in expected_written.items()}
        assert {k: sorted(v) for k, v in paired.items()} == {k: sorted(v) for k, v in expected_pairs.items()}

    @invariant()
    def each_scan_ends_once(self) -> None:
        starts = Counter(m.scan_id for m in only(ScanStart, self.run.writer))
        over = Counter(scan_id for scan_id, _, _ in self.run.ends())
        assert starts - over == Counter(self.run.matcher.scans.keys())


TestAnyStreams = AnyStreams.TestCase
TestAnyStreams.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


# one scan


def test_a_frame_reaches_the_writer_before_its_position_comes():
    run = Run()(start(), frame([0, 1]))
    assert run.indices_written() == [0, 1]
    assert run.pairs() == {}
    run(positions(1))
    assert run.pairs() == {1: place(1)}, "a position that is missing does not delay the next"


def test_blocks_go_to_the_writer_whole_and_to_the_engine_one_by_one():
    block = frame([3, 4, 9])
    run = Run()(start(), positions([3, 4, 9]), block)
    assert only(Frame, run.writer) == [block]
    assert sorted(run.pairs()) == [3, 4, 9]


def test_positions_that_come_with_their_frames_are_positions():
    """Those that are not known may follow; writer and engine get frames and positions as from two senders."""
    taken = np.array([place(0), (np.nan, 0.0), place(2)])
    both = replace(frame([0, 1, 2]), taken_yx_m=taken)
    run = Run()(start(expected=3), both, replace(frame([7], dark=True), taken_yx_m=taken[:1]))
    assert run.indices_written() == [0, 1, 2]
    assert run.positions_written() == {0: place(0), 2: place(2)}
    assert run.pairs() == {0: place(0), 2: place(2)}
    assert all(message.taken_yx_m is None for message in only(Frame, run.writer))
    run(positions(1), *ends(3))
    assert run.pairs() == {i: place(i) for i in range(3)}
    assert run.ends() == [("s", EndReason.COMPLETE, 3)]
    assert not run.rejected


def test_of_a_block_with_repeats_the_new_frames_are_kept():
    run = Run()(start(), frame([0, 2]), frame([0, 1, 2, 3]))
    assert run.indices_written() == [0, 2, 1, 3]
    assert run.dropped() == {"duplicate": 2}


def test_the_first_position_of_an_index_counts():
    run = Run()(start(), positions([0, 1]), positions([1, 2], salt=5), frame([1, 2]))
    assert run.pairs() == {1: place(1), 2: place(2, 5)}
    assert run.positions_written() == {0: place(0), 1: place(1), 2: place(2, 5)}


def test_repeated_positions_do_not_close_the_scan_early():
    run = Run()(start(), frame([0, 1]), positions(0), positions(0), *ends(2))
    assert run.ends() == []
    run(positions(1))
    assert run.ends() == [("s", EndReason.COMPLETE, 2)]
    assert run.dropped() == {}


def test_positions_that_overtake_their_start_wait_for_it():
    run = Run()(positions([0, 1]), end(2, Stream.POSITIONS), start(), frame([0, 1]), end(2, Stream.FRAMES))
    assert run.pairs() == {0: place(0), 1: place(1)}
    assert run.ends() == [("s", EndReason.COMPLETE, 2)]
    assert run.rejected == {}


def test_frames_and_their_end_need_a_start():
    run = Run()(frame([0, 1]), end(2, Stream.FRAMES))
    assert run.rejected == {"no_start": 3, "unrecorded": 2}, "two frames, and their end"
    assert run.writer == run.engine == []


def test_a_scan_without_frames():
    run = Run()(start(), *ends(0))
    assert run.ends() == [("s", EndReason.COMPLETE, 0)]


def test_ends_before_the_frames():
    run = Run()(start(), *ends(3), frame([0, 1]), positions([0, 1]))
    assert run.ends() == []
    run(positions(2), frame(2))
    assert run.ends() == [("s", EndReason.COMPLETE, 3)]
    assert len(run.pairs()) == 3


def test_a_scan_with_losses_closes_after_silence():
    run = Run(settle_s=2.0)(start(), frame([0, 1]), positions(0), *ends(3)).wait(1.9)
    run(frame(2)).wait(1.9)
    assert run.ends() == [], "each message restarts the wait"
    run.wait(0.1)
    assert run.ends() == [("s", EndReason.INCOMPLETE, 3)]
    assert run.dropped() == {"no_position": 2}


class TestComplete:
    """A scan is complete if all who count agree; else the number says how much is missing."""

    def closed(self, *messages: object, wait_s: float = 2.0, **plan: int) -> tuple[EndReason, int, int]:
        """Reason, missing frames and missing positions of a scan of these messages, after silence."""
        run = Run(settle_s=2.0)(start(**plan), *messages).wait(wait_s)
        ((_, reason, count),) = run.ends()
        assert count == run.scans[0].unique
        return reason, run.scans[0].missing(reason), run.scans[0].missing_positions(reason)

    def test_with_all_that_was_announced(self):
        assert self.closed(frame(range(900)), positions(range(900)), *ends(900)) == (EndReason.COMPLETE, 0, 0)

    def test_not_with_fewer_frames_than_announced(self):
        assert self.closed(frame(range(900)), positions(range(1000)), *ends(1000)) == (EndReason.INCOMPLETE, 100, 0)

    def test_not_with_fewer_frames_than_planned(self):
        sent = frame(range(900)), positions(range(900)), *ends(900)
        assert self.closed(*sent, expected=1000) == (EndReason.INCOMPLETE, 100, 0)

    def test_with_more_than_planned_as_the_sender_says(self):
        sent = frame(range(1000)), positions(range(1000)), *ends(1000)
        assert self.closed(*sent, expected=900) == (EndReason.COMPLETE, 0, 0)

    def test_not_if_an_index_beyond_the_plan_stands_in_for_one_within(self):
        sent = frame([*range(9), 500]), positions([*range(9), 500]), *ends(10)
        assert self.closed(*sent, expected=10) == (EndReason.INCOMPLETE, 1, 0)

    def test_not_with_fewer_positions_than_announced(self):
        assert self.closed(frame(range(10)), positions(range(7)), *ends(10)) == (EndReason.INCOMPLETE, 0, 3)

    def test_not_with_gaps_that_nobody_has_announced(self):
        index = [0, 1, 2, 5, 6, 9]
        assert self.closed(frame(index), positions(index), *ends(6)) == (EndReason.INCOMPLETE, 4, 0)

    def test_not_with_frames_that_could_not_be_kept(self):
        corrupt = CodecError("frame.payload", "bad", scan_id="s", frames=1)
        assert self.closed(frame([0, 1]), positions([0, 1, 2]), corrupt, *ends(3)) == (EndReason.INCOMPLETE, 1, 0)
        assert self.closed(frame([0, 1]), positions([0, 1]), corrupt, *ends(2)) == (EndReason.INCOMPLETE, 0, 0)
        other = frame([2], pixels=np.zeros((1, 4, 4), np.uint16))
        assert self.closed(frame([0, 1]), positions([0, 1, 2]), other, *ends(3)) == (EndReason.INCOMPLETE, 1, 0)

    def test_with_frames_for_which_no_position_was_sent(self):
        """All that was sent has come; that some frames are of no use for the picture is in the ledger."""
        sent = frame(range(10)), positions(range(8)), end(10, Stream.FRAMES), end(8, Stream.POSITIONS)
        assert self.closed(*sent) == (EndReason.COMPLETE, 0, 0)

    def test_without_an_end_of_positions_each_frame_needs_one(self):
        sent = frame(range(10)), end(10, Stream.FRAMES)
        assert self.closed(*sent, positions(range(12))) == (EndReason.COMPLETE, 0, 0)
        assert self.closed(*sent, positions(range(1, 12)), wait_s=60) == (EndReason.INCOMPLETE, 0, 1)
        assert self.closed(*sent, wait_s=60) == (EndReason.INCOMPLETE, 0, 10)

    def test_positions_that_have_not_ended_are_waited_for(self):
        run = Run(settle_s=2.0)(start(), frame(range(10)), positions(range(4)), end(10, Stream.FRAMES)).wait(30)
        assert run.ends() == []
        run(positions(range(4, 10))).wait(2)
        assert run.ends() == [("s", EndReason.COMPLETE, 10)]
        assert run.scans[0].matched == 10

    def test_a_scan_that_waits_costs_the_others_nothing(self, monkeypatch):
        run = Run()(start(), frame(range(1000)), end(1000, Stream.FRAMES), start("t"))
        monkeypatch.setattr(IndexSet, "without", None)  # looks at all frames that have come
        run(*(frame(i, "t") for i in range(10)))
        assert run.scans[0].awaited_positions == 1000

    def test_positions_of_a_later_scan_end_the_wait(self):
        run = Run(settle_s=2.0)(start(), frame(range(10)), positions(range(4)), end(10, Stream.FRAMES))
        run(start("t"), frame(range(3), "t"), positions(range(3), "t")).wait(2)
        assert ("s", EndReason.INCOMPLETE, 10) in run.ends()

    def test_positions_of_a_later_scan_wait_while_their_own_run(self):
        run = Run(settle_s=2.0)(start(), frame(range(10)), positions(range(4)), end(10, Stream.FRAMES))
        run(start("t"), frame(range(3), "t")).wait(30)
        assert run.ends() == []

    def test_a_plan_that_is_carried_out_needs_no_end(self):
        plan = start(expected=10), frame(range(10)), positions(range(10))
        run = Run(settle_s=2.0)(*plan).wait(1)
        assert run.ends() == []
        assert run.wait(1).ends() == [("s", EndReason.COMPLETE, 10)]

    def test_a_plan_of_no_frames_is_none(self):
        run = Run(settle_s=2.0)(start(expected=0)).wait(30)
        assert run.ends() == []
        run(frame(range(3)), positions(range(3)), *ends(3))
        assert run.ends() == [("s", EndReason.COMPLETE, 3)]
        assert run.indices_written() == [0, 1, 2]

    def test_what_was_only_planned_is_not_missing_from_an_aborted_scan(self):
        stopped = [end(4, stream, reason=EndReason.ABORTED) for stream in (Stream.FRAMES, Stream.POSITIONS)]
        assert self.closed(frame(range(4)), positions(range(4)), *stopped, expected=100) == (EndReason.ABORTED, 0, 0)
        assert self.closed(frame(range(3)), positions(range(4)), *stopped, expected=100) == (EndReason.ABORTED, 1, 0)

    def test_without_any_end_the_plan_tells(self):
        run = Run(timeout_s=60)(start(expected=10), frame(range(4)), positions(range(4))).wait(60)
        assert run.ends() == [("s", EndReason.TIMEOUT, 4)]
        assert (run.scans[0].missing(EndReason.TIMEOUT), run.scans[0].missing(EndReason.INTERRUPTED)) == (6, 0)

    def test_positions_still_on_their_way_are_not_missing_from_an_interrupted_scan(self):
        run = Run()(start(), frame(range(4)), positions(range(3)))
        run.finish(EndReason.INTERRUPTED)
        scan = run.scans[0]
        assert (scan.missing_positions(EndReason.INTERRUPTED), scan.missing_positions(EndReason.TIMEOUT)) == (0, 1)


def test_positions_and_dark_frames_that_are_of_no_use_are_counted():
    run = Run(max_index=10, max_waiting_positions=3)(start(), positions([0, 1, 12]), positions([1, 2, 3]))
    run(frame([0, 1], dark=True, pixels=np.zeros((2, 4, 4), np.uint16)))
    assert run.rejected == {"position_index": 1, "position_repeated": 1, "position_forgotten": 1, "dark_wrong_shape": 2}
    assert run.matcher.rejected.latest == dict.fromkeys(run.rejected, "s")


# reports of lost frames


def told_lost(run: Run) -> list[list[int]]:
    return [block.index.tolist() for block in only(Positions, run.engine)]


def test_a_position_whose_frame_is_overdue_is_told_and_still_joined():
    run = Run(settle_s=2.0)(start(), positions(range(6)), frame([0, 1, 3])).wait(0.5)
    run.wait(1.9)
    assert told_lost(run) == [], "it may only be late"
    run.wait(0.1)
    assert told_lost(run) == [[2]], "4 and 5 may still come"
    run.wait(2.0).wait(2.0)
    assert told_lost(run) == [[2]], "once"
    (block,) = only(Positions, run.engine)
    assert block.yx_m.tolist() == [list(place(2))]
    run(frame(2))
    assert run.pairs()[2] == place(2)


def test_a_position_that_is_later_than_its_frame_was_due_is_told_at_once():
    run = Run(settle_s=2.0)(start(), frame([0, 1, 3])).wait(0.0).wait(2.0)
    run(positions([0, 1, 2, 3, 4]))
    assert told_lost(run) == [[2]]


def test_at_the_end_all_that_was_sent_and_did_not_come_is_told_before_the_end():
    run = Run(settle_s=2.0)(start(), positions(range(9)), frame([0, 1, 3]), *ends(6)).wait(2.0)
    assert told_lost(run) == [[2, 4, 5]], "6 to 8 were never exposed"
    assert isinstance(run.engine[-2], Positions)
    assert isinstance(run.engine[-1], ScanEnd)
    assert len(only(Positions, run.writer)) == 1


def test_one_odd_index_is_no_reason_to_look_at_all_below_it():
    run = Run(settle_s=2.0)(start(), positions([5, 9_000_000]), frame(9_999_999)).wait(0.0)
    begun = time.process_time()
    run.wait(2.0)
    assert told_lost(run) == [[5, 9_000_000]]
    assert time.process_time() - begun < 0.1, "ten million look-ups take more"


def test_an_index_beyond_the_scan_makes_nothing_lost():
    run = Run(settle_s=2.0)(start(expected=100), positions(range(10)), frame(9_999)).wait(0.0).wait(2.0)
    assert told_lost(run) == []


def test_lost_frames_are_told_in_bounded_blocks():
    run = Run(settle_s=2.0)(start(), positions(range(2500)), frame(2500)).wait(0.0).wait(2.0)
    assert [len(block) for block in told_lost(run)] == [1000, 1000, 500]


def test_the_reason_of_the_end_is_passed_on():
    run = Run()(start(), frame(0), positions(0), end(1, Stream.FRAMES, reason=EndReason.ABORTED), end(1, Stream.POSITIONS))
    assert run.ends() == [("s", EndReason.ABORTED, 1)]


@pytest.mark.parametrize("count", [1, 2])
def test_a_scan_whose_positions_were_aborted_is_not_complete(count):
    aborted = end(count, Stream.POSITIONS, reason=EndReason.ABORTED)
    run = Run(settle_s=2.0)(start(), frame(0), positions(0), end(1, Stream.FRAMES), aborted).wait(2.0)
    assert run.ends() == [("s", EndReason.ABORTED, 1)]
    lost = end(1, Stream.FRAMES, reason=EndReason.TIMEOUT)
    run = Run()(start(), frame(0), positions(0), lost, end(1, Stream.POSITIONS))
    assert run.ends() == [("s", EndReason.TIMEOUT, 1)]


def test_silence_without_an_end_is_a_timeout():
    run = Run(timeout_s=60.0)(start(), frame(0)).wait(59.9)
    assert run.ends() == []
    run.wait(0.1)
    assert run.ends() == [("s", EndReason.TIMEOUT, 1)]
    assert run.dropped() == {"no_position": 1}


def test_interruption_closes_every_scan():
    run = Run()(start("a"), start("b"), frame(0, "a"))
    run.finish(EndReason.INTERRUPTED)
    assert run.ends() == [("a", EndReason.INTERRUPTED, 1), ("b", EndReason.INTERRUPTED, 0)]
    assert run.dropped() == {"no_position": 1}


def test_dark_frames_go_to_both_and_are_not_counted():
    run = Run()(start(), frame([0, 1], dark=True), frame(0), positions(0))
    darks = [m for m in only(Frame, run.engine) if m.dark]
    assert [m for m in only(Frame, run.writer) if m.dark] == darks
    assert len(darks) == 1
    assert (run.scans[0].received, run.scans[0].matched) == (1, 1)
    run(frame(7, dark=True, pixels=np.zeros((1, 4, 4), np.uint16)))
    assert [m for m in only(Frame, run.engine) if m.dark] == darks, "a dark frame of another shape is of no use"


@pytest.mark.parametrize("pixels", [np.zeros((2, 4, 4), np.uint16), np.zeros((2, 8, 8), np.float32)])
def test_frames_that_do_not_fit_the_start_are_counted(pixels):
    run = Run()(start(), positions([0, 1]), frame([0, 1], pixels=pixels))
    assert run.dropped() == {"wrong_shape": 2}
    assert run.indices_written() == []
    run(frame([0, 1]))
    assert sorted(run.pairs()) == [0, 1], "the index is still free"


def test_frames_that_do_not_decode_are_counted_where_they_belong():
    run = Run()(start(), CodecError("frame.payload", "bad", scan_id="s", frames=3))
    assert run.scans[0].received == 3
    assert run.dropped() == {"corrupt": 3}
    run(CodecError("header", "bad"), CodecError("frame.payload", "bad", scan_id="other", frames=2))
    run(CodecError("end.count", "bad", scan_id="s"))
    assert run.rejected == {"undecodable": 3}
    assert run.scans[0].received == 3


def test_only_the_receiver_ends_a_scan():
    run = Run()(start(), end(0, Stream.SCAN))
    assert run.ends() == []
    assert run.rejected == {"unexpected_kind": 1}


def test_other_messages_are_refused():
    run = Run()(start(), GOOD["snapshot"], GOOD["receive_status"])
    assert run.rejected == {"unexpected_kind": 2}
    assert not only(Snapshot, run.writer)


@pytest.mark.parametrize("frames_first", [False, True])
def test_frames_that_find_their_positions_go_to_the_engine_in_blocks(frames_first: bool):
    rows = range(100)
    both = [frame(rows), positions([i for i in rows if i % 10])]
    run = Run()(start(), *(both if frames_first else reversed(both)))
    assert [len(block) for block in only(Frame, run.engine)] == [64, 26]
    run(positions(range(0, 100, 10)))
    assert [len(block) for block in only(Frame, run.engine)] == [64, 26, 10]
    assert run.pairs() == {i: place(i) for i in rows}


def test_held_frames_of_different_encoding_are_no_block():
    packed = replace(frame(1), payload=bslz4(frame(1).payload.decode()[None]))
    run = Run()(start(), frame(0), packed, frame(2), positions(range(3)))
    assert [len(block) for block in only(Frame, run.engine)] == [1, 1, 1]
    assert run.pairs() == {i: place(i) for i in range(3)}


# several scans


def scan_of(scan_id: str, n: int, started_ns: int = 1) -> list[Message]:
    return [
        start(scan_id, started_ns=started_ns),
        *(m for i in range(n) for m in (frame(i, scan_id), positions(i, scan_id))),
        *ends(n, scan_id),
    ]


def test_three_scans_back_to_back():
    run = Run()
    for scan_id in "abc":
        run(*scan_of(scan_id, 5))
    assert run.ends() == [(scan_id, EndReason.COMPLETE, 5) for scan_id in "abc"]
    assert run.rejected == {}
    for scan_id in "abc":
        assert run.pairs(scan_id) == {i: place(i) for i in range(5)}


@given(st.data())
def test_scans_that_overlap_all_complete_if_their_ends_come(data):
    queues = [scan_of(scan_id, 4) for scan_id in "abc"]
    run = Run()
    while any(queues):
        queue = data.draw(st.sampled_from([queue for queue in queues if queue]))
        run(queue.pop(0))
    assert sorted(run.ends()) == [(scan_id, EndReason.COMPLETE, 4) for scan_id in "abc"]
    assert [len(run.pairs(scan_id)) for scan_id in "abc"] == [4, 4, 4]


def test_a_scan_without_end_is_superseded_after_silence():
    run = Run(settle_s=2.0)(start("a"), frame(0, "a"), start("b")).wait(1.0)
    run(positions(0, "a")).wait(1.9)
    assert run.ends() == []
    assert run.pairs("a") == {0: place(0)}
    run.wait(0.1)
    assert run.ends() == [("a", EndReason.SUPERSEDED, 1)]
    run(frame(1, "a"), positions(1, "a"), end(2, Stream.FRAMES, "a"))
    assert run.rejected == {"stray": 2}
    run.wait(2.0)
    assert run.rejected == {"stray": 3}, "no other scan of this id came for the position"
    assert run.indices_written("a") == [0]


def test_a_repeated_start_changes_nothing():
    run = Run()(start(started_ns=5), frame(0), start(started_ns=5), positions(0))
    assert run.rejected == {"repeated_start": 1}
    assert len(only(ScanStart, run.writer)) == 1
    assert run.pairs() == {0: place(0)}


def test_another_scan_of_the_same_id_closes_the_first():
    run = Run()(start(started_ns=5), frame(0), start(started_ns=6), frame(0))
    assert run.ends() == [("s", EndReason.SUPERSEDED, 1)]
    assert run.indices_written() == [0, 0]
    assert [scan.received for scan in run.scans] == [1, 1]


def test_the_same_id_again_after_the_end():
    run = Run()(*scan_of("s", 2, 5), *scan_of("s", 2, 6))
    assert run.ends() == [("s", EndReason.COMPLETE, 2)] * 2
    assert [scan.matched for scan in run.scans] == [2, 2]
    assert run.rejected == {}
    assert [m.started_ns for m in only(ScanEnd, run.writer)] == [5, 6]


def test_a_start_that_is_repeated_after_the_end_opens_no_scan():
    run = Run()(*scan_of("s", 2, 5), start(started_ns=5), *scan_of("s", 2, 6), start(started_ns=5), start(started_ns=6))
    assert run.rejected == {"repeated_start": 3}
    assert len(run.scans) == 2
    assert run.matcher.scans == {}


def test_an_old_start_does_not_end_the_next_scan_of_that_id():
    run = Run()(*scan_of("s", 2, 5), start(started_ns=6), start(started_ns=5), frame(0))
    assert len(run.ends()) == 1
    assert run.scans[1].received == 1


def test_starts_that_do_not_know_their_time_are_all_believed():
    run = Run()(*scan_of("s", 2, 0), *scan_of("s", 3, 0))
    assert run.ends() == [("s", EndReason.COMPLETE, 2), ("s", EndReason.COMPLETE, 3)]
    assert run.rejected == {}


def test_positions_that_overtake_the_second_start_of_an_id_wait_for_it():
    run = Run(settle_s=2.0)(*scan_of("s", 1, 5)).wait(5.0)
    run(positions([0, 1], salt=7), end(2, Stream.POSITIONS)).wait(1.9)
    run(start(started_ns=6), frame([0, 1]), end(2, Stream.FRAMES))
    assert [(p.index, p.yx_m) for p in points_in(run.engine)][1:] == [(0, place(0, 7)), (1, place(1, 7))]
    assert [scan.matched for scan in run.scans] == [1, 2]
    assert run.ends() == [("s", EndReason.COMPLETE, 1), ("s", EndReason.COMPLETE, 2)]
    assert run.rejected == {}


def test_positions_that_are_late_do_not_become_those_of_the_next_scan_of_that_id():
    run = Run(settle_s=2.0)(*scan_of("s", 2, 5))
    run(positions([0, 1], salt=7), end(2, Stream.POSITIONS)).wait(1.0)(positions(1, salt=8)).wait(1.0)
    assert run.rejected == {"stray": 2}
    run(start(started_ns=6), frame([0, 1]))
    assert run.scans[1].matched == 1
    assert points_in(run.engine)[-1].yx_m == place(1, 8)


def test_positions_of_closed_scans_that_wait_are_bounded():
    run = Run(max_waiting_positions=5)(*scan_of("s", 1, 5), positions([0, 1, 2]), positions([3, 4, 5]))
    assert run.rejected == {"stray": 2}
    run(start(started_ns=6), frame([0, 3]))
    assert run.scans[1].matched == 0


def test_an_end_of_another_run_does_not_end_this_one():
    other = ScanEnd(scan_id="s", stream=Stream.FRAMES, count=1, started_ns=5)
    late = ScanEnd(scan_id="s", stream=Stream.POSITIONS, count=1, started_ns=5)
    run = Run()(*scan_of("s", 1, 5), late, start(started_ns=6), frame(0), other, late)
    assert run.rejected == {"stray": 3}
    assert run.wait(10).ends() == [("s", EndReason.COMPLETE, 1)]


def test_frames_that_do_not_decode_keep_their_scan_open():
    run = Run(timeout_s=5.0)(start())
    for _ in range(3):
        run.wait(4.0)(CodecError("frame.payload", "bad", scan_id="s", frames=1))
    assert run.ends() == []
    assert run.wait(5.0).ends() == [("s", EndReason.TIMEOUT, 0)]


def test_a_flood_of_starts_opens_only_so_many_scans():
    run = Run(max_open_scans=2)(*(start(f"s{i}") for i in range(5)))
    assert list(run.matcher.scans) == ["s3", "s4"]
    assert run.ends() == [(f"s{i}", EndReason.SUPERSEDED, 0) for i in range(3)]


# bounds


def test_frames_that_wait_are_bounded_in_bytes():
    run = Run(max_waiting_bytes=3 * HELD)(start(), *(frame(i) for i in range(10)))
    assert list(run.scans[0].frames) == [7, 8, 9]
    assert run.dropped() == {"no_position": 7}
    assert len(run.indices_written()) == 10
    run(positions(range(8)))
    assert sorted(run.pairs()) == [7]
    assert run.dropped() == {}, "the reconstruction takes those that were let go from the file"
    assert run.scans[0].matched == 8
    run(positions([8, 9]))
    assert sorted(run.pairs()) == [7, 8, 9]
    assert len(run.scans[0].positions) == 0, "a position whose frame was let go is not kept"
    run(*(frame(i) for i in range(10, 12)), frame([3, 12]))
    assert list(run.scans[0].frames) == [10, 11, 12], "what was paired no longer counts"


def test_frames_of_all_scans_that_wait_are_bounded_together():
    run = Run(max_waiting_bytes=3 * HELD, max_open_scans=9)
    for scan_id in "abc":
        run(start(scan_id), *(frame(i, scan_id) for i in range(2)))
    assert [list(scan.frames) for scan in run.scans] == [[], [1], [0, 1]]
    run(frame([2, 3], "b"))
    assert [list(scan.frames) for scan in run.scans] == [[], [3], [0, 1]], "the oldest scan first"
    for scan_id in "abc":
        run(positions(range(4), scan_id))
    assert [scan.matched for scan in run.scans] == [2, 4, 2]
    assert [scan.dropped for scan in run.scans] == [{}, {}, {}]


def test_a_frame_larger_than_the_bound_still_waits_alone():
    run = Run(max_waiting_bytes=1)(start(), frame(0), frame(1), positions([0, 1]))
    assert run.pairs() == {1: place(1)}


def test_frames_without_pixels_to_speak_of_are_bounded_too():
    tiny = np.zeros((4000, 1, 1), np.uint16)
    run = Run(max_waiting_bytes=1 << 20)(start(shape=(1, 1)), frame(range(4000), pixels=tiny))
    assert 0 < len(run.scans[0].frames) <= 1024


def test_positions_that_wait_are_bounded():
    run = Run(max_waiting_positions=3)(start(), positions(range(10)), frame(range(10)))
    assert sorted(run.pairs()) == [7, 8, 9]
    assert (run.scans[0].matched, run.dropped()) == (10, {}), "those that were let go are in the file"
    assert run.rejected == {"position_forgotten": 7}
    assert len(run.positions_written()) == 10


def test_a_sender_cannot_say_that_its_start_is_repeated():
    run = Run()(start(repeated=True), frame(0))
    assert [message.repeated for message in only(ScanStart, run.writer)] == [False]


def test_counts_that_senders_announce_stay_numbers_that_can_be_told():
    run = Run()(*(end(2**63 - 1, Stream.FRAMES, f"s{i}") for i in range(3)))
    assert run.rejected == {"no_start": 3, "unrecorded": 2**63 - 1}


def test_early_positions_are_bounded_in_rows():
    run = Run(max_waiting_positions=5)(positions([0, 1, 2]), positions([3, 4, 5]), positions(0, "other"))
    assert run.rejected == {"no_start": 2}
    run(start(), start("other"), frame([0, 3]), frame(0, "other"))
    assert (run.pairs(), run.pairs("other")) == ({}, {0: place(0)})


def test_early_ends_are_bounded():
    run = Run(max_waiting_positions=5)(*(end(i, Stream.POSITIONS) for i in range(6)))
    assert run.rejected == {"no_start": 6}


def test_early_messages_are_bounded_however_little_they_say(monkeypatch):
    monkeypatch.setattr(matcher_module, "_EARLY_MESSAGES", 3)
    run = Run()(positions(0), positions(1), end(0, Stream.POSITIONS, "other"))
    assert run.rejected == {}
    run(positions(2))
    assert run.rejected == {"no_start": 3}
    run(start("other"), *(positions(i, "third") for i in range(3)))
    assert run.rejected == {"no_start": 3}


def test_early_scans_are_bounded():
    run = Run()(*(positions(0, f"s{i}") for i in range(101)))
    assert run.rejected == {"no_start": 1}
    run(start("s0"), start("s1"), frame(0, "s0"), frame(0, "s1"))
    assert (run.pairs("s0"), run.pairs("s1")) == ({}, {0: place(0)})


def test_the_count_of_early_rows_is_given_back():
    run = Run(max_waiting_positions=5)
    for i in range(4):
        run(positions([0, 1, 2], f"s{i}"), start(f"s{i}"), frame(0, f"s{i}"))
        assert run.pairs(f"s{i}") == {0: place(0)}
    assert run.rejected == {}


def test_indices_are_bounded():
    run = Run(max_index=10)(start(), frame([8, 9, 10, 2**62]), positions([9, 10, 2**62]))
    assert run.dropped() == {"bad_index": 2}
    assert run.indices_written() == [8, 9]
    assert run.positions_written() == {9: place(9)}
    assert run.pairs() == {9: place(9)}
    run(positions([2**62, 2**63 - 1]))
    assert len(run.positions_written()) == 1


def test_a_count_that_nobody_can_reach_closes_after_silence():
    run = Run()(start(), frame(0), positions(0), *ends(2**63 - 1)).wait(2.0)
    assert run.ends() == [("s", EndReason.INCOMPLETE, 1)]


@pytest.mark.parametrize(
    "bad",
    [{"max_waiting_bytes": 0}, {"max_waiting_positions": 0}, {"max_index": 0}, {"timeout_s": 0}, {"max_open_scans": 0}],
)
def test_bounds_must_be_positive(bad):
    with pytest.raises(ValidationError, match=next(iter(bad))):
        MatchOptions(**bad)


def test_messages_pass_through_unchanged():
    messages = [start(), positions([0, 1]), frame([0, 1])]
    run = Run()(*messages)
    assert all(same(a, b) for a, b in zip(run.writer, messages, strict=True))
