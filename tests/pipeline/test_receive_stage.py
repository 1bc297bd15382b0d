"""The receive stage: routing, and a balance that holds whichever consumer falls behind."""

import logging
from collections.abc import Callable, Iterable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamptycho.errors import CodecError
from streamptycho.join.options import MatchOptions
from streamptycho.messages.kinds import Message
from streamptycho.messages.reasons import EndReason, ServiceState, Stream
from streamptycho.messages.status import ReceiveStatus, Status
from streamptycho.messages.stream import Frame, Positions, ScanEnd, ScanStart
from streamptycho.pipeline.receive import ReceiveStage
from streamptycho.pipeline.stage import Port
from tests.scans import FRAME_BYTES, Clock, balanced, end, ends, frame, only, place, points_in, positions, start


class Run:
    """A stage whose engine may refuse; statuses are looked at after every output."""

    def __init__(self, **options: float) -> None:
        self.clock = Clock()
        self.stage = ReceiveStage(MatchOptions(**options), self.clock, self.clock.ns)
        self.taken: dict[Port, list[Message]] = {port: [] for port in Port}
        self.offers = 0
        self.takes: Callable[[Message], bool] = lambda message: True

    def __call__(self, *messages: object) -> "Run":
        for message in messages:
            self._send(self.stage.handle(message))
        return self

    def idle(self) -> "Run":
        self._send(self.stage.idle())
        return self

    def finish(self) -> None:
        self._send(self.stage.finish())

    def _send(self, outputs: Iterable[tuple[Port, Message]]) -> None:
        for port, message in outputs:
            if port is Port.ENGINE:
                self.offers += 1
                if not self.takes(message):
                    self.stage.unsent(port, message)
                    self.statuses()
                    continue
            self.taken[port].append(message)
            self.statuses()

    def statuses(self) -> list[Status]:
        found = self.stage.statuses()
        assert all(balanced(status) and status.service == "receive" for status in found)
        return found

    @property
    def engine(self) -> list[Message]:
        return self.taken[Port.ENGINE]

    @property
    def writer(self) -> list[Message]:
        return [m for m in self.taken[Port.WRITER] if not isinstance(m, Status)]

    def last(self) -> Status:
        return only(Status, self.taken[Port.DISPLAY])[-1]

    def kinds(self) -> list[str]:
        """What the engine was given, without the counts before each end."""
        names = {ScanStart: "start", ScanEnd: "end"}
        for before, after in pairwise(self.engine):
            assert isinstance(after, ScanEnd) == isinstance(before, ReceiveStatus)
            assert not isinstance(after, ScanEnd) or (before.done and before.run == after.run)
        kinds = []
        for message in self.engine:
            if isinstance(message, Frame):
                kinds += [f"{'dark' if message.dark else 'point'} {message.scan_id}"] * len(message)
            elif not isinstance(message, ReceiveStatus):
                kinds.append(f"{names[type(message)]} {message.scan_id}")
        return kinds


def nobody(message: Message) -> bool:
    return False


def test_a_scan_goes_to_writer_and_engine():
    messages = [start(), frame([0, 1]), positions([0, 1])]
    run = Run()(*messages, *ends(2))
    assert run.writer[:3] == messages
    assert [type(m) for m in run.engine] == [ScanStart, Frame, ReceiveStatus, ScanEnd]
    assert run.writer[3] is run.engine[-1]
    assert run.engine[-1].reason is EndReason.COMPLETE
    assert (run.last().state, run.last().used) == (ServiceState.DONE, 2)


def test_a_scan_that_waits_for_positions_says_so_while_it_does():
    run = Run()(start(), frame(range(4)), positions(0), end(4, Stream.FRAMES))
    assert run.statuses()[0].remarks == ()
    run.clock.now += 3
    run.idle()
    (remark,) = run.statuses()[0].remarks
    assert "3 of them have no position" in remark
    assert "60 s (match.positions_grace_s)" in remark
    run(positions([1, 2, 3]))
    assert run.statuses()[0].remarks == ()


def test_the_final_count_reaches_the_writer_before_the_end():
    run = Run()(start(), frame([0, 1]), positions(0), *ends(2))
    run.clock.now += 2
    run.idle()
    status, last = run.taken[Port.WRITER][-2:]
    assert isinstance(last, ScanEnd)
    assert (status.state, status.received, status.used, status.waiting) == (ServiceState.DONE, 2, 1, 0)
    assert status.dropped == {"no_position": 1}
    assert status is run.last()


def test_what_the_engine_cannot_take_now_waits_in_order():
    run = Run()(start())
    run.takes = lambda message: message.index[0] < 2
    run(positions(range(6)), *map(frame, range(6)))
    assert [m.index for m in points_in(run.engine)] == [0, 1]
    (status,) = run.statuses()
    assert (status.received, status.used, status.dropped) == (6, 6, {})
    assert len(only(Frame, run.writer)) == 6
    run.takes = lambda message: True
    run.idle()
    assert [m.index for m in points_in(run.engine)] == [0, 1, 2, 3, 4, 5]


def test_what_exceeds_the_backlog_is_counted_and_written():
    run = Run(max_backlog_bytes=3 * (start().geometry.frame_shape[0] * start().geometry.frame_shape[1] * 2 + 1024))(start())
    run.takes = nobody
    run(positions(range(6)), *map(frame, range(6)))
    (status,) = run.statuses()
    assert (status.received, status.used, status.dropped) == (6, 3, {"engine_full": 3})
    assert len(only(Frame, run.writer)) == 6
    run.takes = lambda message: True
    run.idle()
    assert [m.index for m in points_in(run.engine)] == [0, 1, 2]
    run(positions(range(6, 9)), frame(range(6, 9)))
    assert [m.index for m in points_in(run.engine)] == [0, 1, 2, 6, 7, 8]


def test_what_is_late_and_exceeds_the_backlog_is_left_to_the_file():
    """When the frames have ended, the reconstruction soon asks the file for what it has not got."""
    run = Run(max_backlog_bytes=3 * (FRAME_BYTES + 1024))(start(), *map(frame, range(6)), end(6, Stream.FRAMES))
    run.takes = nobody
    run(*(positions(i) for i in range(6)))
    (status,) = run.statuses()
    assert (status.received, status.used, status.dropped) == (6, 6, {})
    run.takes = lambda message: True
    run(end(6, Stream.POSITIONS)).idle()
    assert [m.index for m in points_in(run.engine)] == [0, 1, 2]
    assert [m.used for m in only(ReceiveStatus, run.engine)] == [6]
    assert run.engine[-1].reason is EndReason.COMPLETE


def test_a_start_that_is_owed_comes_before_everything_else():
    run = Run()
    run.takes = nobody
    run(start(), positions(range(9)), frame([0, 1]))
    assert run.engine == []
    assert run.statuses()[0].dropped == {}
    run.takes = lambda message: True
    run(frame(2)).idle()
    assert run.kinds() == ["start s", "point s", "point s", "point s"]
    assert run.statuses()[0].used == 3


def test_no_point_goes_to_an_engine_that_has_not_taken_the_start():
    run = Run()
    run.takes = lambda message: isinstance(message, Frame)
    run(start(), positions(range(3)), frame(range(3)))
    assert run.engine == [], "a point without its start would be lost uncounted"
    assert run.statuses()[0].dropped == {}


def test_an_engine_that_takes_nothing_is_asked_once_per_turn():
    run = Run()
    run.takes = nobody
    for scan_id in "abc":
        run(start(scan_id), frame(0, scan_id), positions(0, scan_id), *ends(1, scan_id))
    before = run.offers
    run(start("d"), positions(range(10), "d"))
    before = run.offers
    run(frame(0, "d"))
    assert run.offers == before, "each offer may cost time that the detector feels"
    run.idle()
    assert run.offers - before == 1


def test_owed_starts_and_ends_are_delivered_in_order_in_idle_time():
    run = Run()
    run.takes = nobody
    for scan_id in "ab":
        run(start(scan_id), *ends(0, scan_id))
    run.idle().idle()
    assert run.engine == []
    run.takes = lambda message: len(run.engine) < 4
    run.idle()
    run.takes = lambda message: True
    run.idle().idle()
    assert run.kinds() == ["start a", "end a", "start b", "end b"]


def test_equal_ends_of_two_scans_are_both_owed():
    run = Run()
    run.takes = nobody
    run(start(started_ns=1), *ends(0), start(started_ns=2), *ends(0))
    run.takes = lambda message: True
    run.idle()
    assert run.kinds() == ["start s", "end s"] * 2


@given(st.lists(st.booleans(), min_size=60, max_size=60))
def test_every_start_and_end_arrives_in_order_whatever_the_engine_refuses(answers):
    run = Run()
    replies = iter(answers)
    run.takes = lambda message: next(replies, True)
    for scan_id in "abc":
        run(start(scan_id), positions(range(4), scan_id))
        run(*(frame(i, scan_id) for i in range(4)), *ends(4, scan_id))
    run.takes = lambda message: True
    run.idle()
    frame_marks = [kind for kind in run.kinds() if not kind.startswith("point")]
    assert frame_marks == ["start a", "end a", "start b", "end b", "start c", "end c"]
    at = {kind: k for k, kind in enumerate(run.kinds())}
    for k, kind in enumerate(run.kinds()):
        if kind.startswith("point"):
            scan_id = kind[-1]
            assert at[f"start {scan_id}"] < k < at[f"end {scan_id}"]
    finals = [s for s in only(Status, run.taken[Port.DISPLAY]) if s.state is ServiceState.DONE]
    assert [s.scan_id for s in finals] == ["a", "b", "c"]
    for status in finals:
        used = sum(kind == f"point {status.scan_id}" for kind in run.kinds())
        assert (status.used, status.dropped.get("engine_full", 0)) == (used, 4 - used)


def test_only_the_engine_may_refuse_without_a_trace():
    run = Run()(start(), frame(0))
    run.stage.unsent(Port.DISPLAY, run.statuses()[0])
    run.stage.unsent(Port.WRITER, frame(1))
    assert run.statuses()[0].dropped == {}


def test_scans_that_are_due_are_closed_in_idle_time():
    run = Run(timeout_s=5)(start(), frame(0))
    run.clock.now += 4.9
    assert run.idle().engine == run.engine[:1]
    run.clock.now += 0.1
    run.idle()
    assert run.engine[-1].reason is EndReason.TIMEOUT
    assert run.last().dropped == {"no_position": 1}


def test_interrupted():
    run = Run()(start("a"), start("b"), frame(0, "b"), positions(0, "b"))
    run.finish()
    assert [(m.scan_id, m.reason) for m in only(ScanEnd, run.writer)] == [
        ("a", EndReason.INTERRUPTED),
        ("b", EndReason.INTERRUPTED),
    ]
    assert run.statuses()[0].state is ServiceState.IDLE


def test_the_last_word_on_a_scan_is_repeated_for_a_while():
    run = Run()(start("a", started_ns=7), *ends(0, "a"))
    idle, last = run.statuses()
    assert idle.scan_id is None
    assert last is run.last()
    assert (last.state, last.started_ns) == (ServiceState.DONE, 7)
    run(start("b"))
    assert [(s.scan_id, s.state) for s in run.statuses()] == [("b", ServiceState.RECEIVING), ("a", ServiceState.DONE)]
    run(start("a", started_ns=8))
    assert [s.started_ns for s in run.statuses() if s.scan_id == "a"] == [8], "an id in use again is not over"
    run(*ends(0, "a"))
    run.clock.now += 5.1
    assert [s.scan_id for s in run.statuses()] == ["b"]


def test_the_end_says_which_run_of_the_id_it_ends():
    run = Run()(start(started_ns=7), start(started_ns=8), *ends(0))
    assert [m.started_ns for m in only(ScanEnd, run.writer)] == [7, 8]
    assert only(ScanEnd, run.engine) == only(ScanEnd, run.writer)


def test_idle_status_tells_what_was_refused():
    run = Run()(CodecError("header", "bad"), frame(0), end(0, Stream.FRAMES))
    (status,) = run.statuses()
    assert (status.scan_id, status.state) == (None, ServiceState.IDLE)
    assert status.rejected == {"undecodable": 1, "no_start": 2}


def test_figures():
    run = Run()(start(expected=40))
    run(frame(range(20)), frame([0, 1]), positions([0, 1, 30]))
    run.clock.now += 1
    (status,) = run.statuses()
    assert status.state is ServiceState.RECEIVING
    assert status.time_ns == run.clock.ns()
    figures = {"rate_hz": 22.0, "unique": 20, "expected": 40, "positions": 3}
    assert {key: getattr(status, key) for key in figures} == pytest.approx(figures)
    run.clock.now += 0.1
    assert run.statuses()[0].rate_hz == pytest.approx(22), "too soon for another figure"
    run.clock.now += 1
    assert run.statuses()[0].rate_hz == 0
    assert Run()(start()).statuses()[0].expected is None


def test_dark_frames_go_to_writer_and_engine():
    dark = frame(0, dark=True)
    run = Run()(start(), dark)
    assert run.writer[-1] is run.engine[-1] is dark
    assert only(Positions, run(positions(0)).engine) == []
    assert points_in(run(frame(0)).engine)[-1].yx_m == place(0)


def whole(scan_id: str, count: int, started_ns: int = 0) -> list[Message]:
    """A scan with one dark exposure, all of it."""
    rows = list(range(count))
    first = start(scan_id, started_ns=started_ns)
    frames = [frame(row, scan_id) for row in rows]
    return [first, frame(0, scan_id, dark=True), *frames, positions(rows, scan_id), *ends(count, scan_id)]


def test_scans_that_are_over_are_given_up_if_there_are_too_many(caplog):
    run = Run(max_open_scans=2)
    run.takes = nobody
    with caplog.at_level(logging.WARNING):
        for scan_id in "abcd":
            run(*whole(scan_id, 2))
    given_up = [record.getMessage() for record in caplog.records if "taken nothing" in record.getMessage()]
    assert given_up == [
        f"the reconstruction has taken nothing of scan {scan_id} and will not see it; it is in the file" for scan_id in "ab"
    ]
    statuses = {status.scan_id: (status.used, status.dropped) for status in run.statuses()}
    gone, there = (0, {"engine_full": 2}), (2, {})
    assert statuses == {None: (0, {}), "a": gone, "b": gone, "c": there, "d": there}
    assert run.statuses()[0].rejected["dark_engine_full"] == 2
    run.takes = lambda message: True
    run.idle()
    assert run.kinds() == [f"{kind} {scan_id}" for scan_id in "cd" for kind in ("start", "dark", "point", "point", "end")]


def test_of_a_scan_that_is_given_up_nothing_counts_as_used():
    """Nor what was let go, and left to the file."""
    run = Run(max_open_scans=1, max_waiting_bytes=2 * (FRAME_BYTES + 1024))
    run.takes = nobody
    run(start("a"), *(frame(i, "a") for i in range(10)), positions(range(10), "a"), *ends(10, "a"), *whole("b", 1))
    (last,) = [status for status in run.statuses() if status.scan_id == "a"]
    assert (last.used, last.dropped) == (0, {"engine_full": 10})


def test_scans_that_are_over_make_room_for_the_one_that_runs():
    run = Run(max_backlog_bytes=4 * (FRAME_BYTES + 1024))
    run.takes = nobody
    run(*whole("a", 2), start("b"), positions(range(5), "b"), *(frame(i, "b") for i in range(5)))
    statuses = {status.scan_id: (status.used, status.dropped) for status in run.statuses()}
    assert statuses == {"b": (4, {"engine_full": 1}), "a": (0, {"engine_full": 2})}
    run.takes = lambda message: True
    run.idle()
    assert run.kinds() == ["start b"] + ["point b"] * 4


def test_scans_that_are_over_make_no_room_for_what_is_only_shown():
    run = Run(max_backlog_bytes=4 * FRAME_BYTES + 2 * 1024, settle_s=1)  # a dark exposure and a block of three
    run.takes = nobody
    run(*whole("a", 3), start("b"), positions([0], "b"), frame(3, "b"))
    for _ in range(3):
        run.clock.now += 1.1
        run.idle()
    run.takes = lambda message: True
    run.idle()
    assert run.kinds() == ["start a", "dark a"] + ["point a"] * 3 + ["end a", "start b"]


def test_a_scan_that_the_engine_has_begun_is_not_given_up():
    run = Run(max_open_scans=2)
    run(start("a"), positions([0, 1], "a"))
    run.takes = nobody
    run(frame([0, 1], "a"), start("b"), *ends(2, "a"), start("c"), *ends(0, "c"), start("d"))
    run.takes = lambda message: True
    run.idle()
    assert run.kinds() == ["start a", "point a", "point a", "start b", "end a", "start d"]


def test_a_scan_that_runs_is_not_given_up():
    run = Run(max_backlog_bytes=2 * (FRAME_BYTES + 1024))
    run.takes = nobody
    run(start("a"), positions([0, 1], "a"), frame([0, 1], "a"), start("b"), positions(0, "b"), frame(0, "b"))
    assert {status.scan_id: status.used for status in run.statuses()} == {"a": 2, "b": 0}
    run.takes = lambda message: True
    run.idle()
    assert run.kinds() == ["start a", "point a", "point a", "start b"]


def test_of_runs_with_the_same_name_the_first_is_given_up():
    run = Run(max_open_scans=1)
    run.takes = nobody
    run(*whole("s", 1, started_ns=1), *whole("s", 2, started_ns=2))
    run.takes = lambda message: True
    run.idle()
    assert run.kinds() == ["start s", "dark s", "point s", "point s", "end s"]


def test_dark_frames_that_the_engine_refuses_are_owed():
    run = Run(max_backlog_bytes=10 * (FRAME_BYTES + 1024))
    run.takes = nobody
    run(start(), *(frame(i, dark=True) for i in range(5)), positions(range(20)), *(frame(i) for i in range(20)))
    run(start("t"), *(frame(i, "t", dark=True) for i in range(3)), *ends(0, "t"))
    run.takes = lambda message: True
    run.idle()
    assert run.kinds() == ["start s"] + ["dark s"] * 5 + ["point s"] * 5 + ["start t"] + ["dark t"] * 3 + ["end t"]


def test_dark_frames_beyond_the_limit_are_counted():
    run = Run(max_backlog_bytes=1000 * (FRAME_BYTES + 1024))
    run.takes = nobody
    run(start(), positions(range(1000)), *(frame(i) for i in range(1000)))
    run(*(frame([2 * i, 2 * i + 1], dark=True) for i in range(70)))
    (status,) = run.statuses()
    assert status.rejected["dark_engine_full"] == 12
    run.takes = lambda message: True
    run.idle()
    assert run.kinds() == ["start s"] + ["point s"] * 1000 + ["dark s"] * 128


def test_starts_and_ends_are_owed_even_if_dark_frames_have_filled_all():
    run = Run(max_backlog_bytes=2 * (FRAME_BYTES + 1024))
    run.takes = nobody
    run(start(), positions(range(2)), frame(0), frame(1), frame(0, dark=True), frame(1, dark=True), *ends(2), start("t"))
    run.takes = lambda message: True
    run.idle()
    assert run.kinds() == ["start s", "point s", "point s", "dark s", "dark s", "end s", "start t"]


def test_refused_messages_are_named_in_the_log_once_in_a_while(caplog):
    run = Run()
    with caplog.at_level(logging.WARNING):
        run(*[CodecError("header", "not msgpack")] * 5, CodecError("frame.index", "missing"))
        assert [record.getMessage() for record in caplog.records] == [
            "a message was refused: header: not msgpack",
            "a message was refused: frame.index: missing",
        ]
        run.clock.now += 9.9
        run(CodecError("header", "not msgpack"))
        assert len(caplog.records) == 2
        run.clock.now += 0.2
        run(CodecError("header", "not msgpack"))
        assert len(caplog.records) == 3
    assert run.statuses()[0].rejected["undecodable"] == 8


def test_who_watches_gets_start_and_end_without_arrays():
    valid = np.ones(start().geometry.frame_shape, np.bool_)
    run = Run()(start(valid=valid, metadata={"sample": "star"}, planned_yx_m=np.zeros((3, 2))))
    (shown,) = only(ScanStart, run.taken[Port.DISPLAY])
    assert (shown.scan_id, shown.metadata, shown.valid) == (run.writer[0].scan_id, {"sample": "star"}, None)
    assert shown.planned_yx_m is None
    assert run.writer[0].valid is not None, "the writer gets it whole"
    for _ in range(10):
        run.clock.now += 1
        run.idle()
    again = len(only(ScanStart, run.taken[Port.DISPLAY]))
    assert again == 6, "every two seconds, for who comes late"
    run(frame(0), positions(0), *ends(1))
    run.clock.now += 10
    run.idle()
    status, end_ = [m for m in run.taken[Port.DISPLAY] if m is not None][-2:]
    assert status is run.last()
    assert end_ is run.engine[-1]
    assert len(only(ScanStart, run.taken[Port.DISPLAY])) == again, "a scan that has ended is not begun again"
