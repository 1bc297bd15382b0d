"""Receiver and writer that begin anew in the middle of a scan: what they learn from each other, and what is counted."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamptycho.files.durable.disk import abandon
from streamptycho.files.durable.mend import unfinished_run
from streamptycho.join.options import MatchOptions
from streamptycho.messages.kinds import Message
from streamptycho.messages.reasons import EndReason, ServiceState
from streamptycho.messages.status import ReceiveStatus, Status, WriteStatus
from streamptycho.messages.stream import Frame, Positions, Resume, ScanEnd, ScanStart
from streamptycho.pipeline.receive import ReceiveStage
from streamptycho.pipeline.stage import Port
from streamptycho.wire.introduction import Introduction, lasts
from tests.files.factories import LIVE
from tests.hostile import GOOD
from tests.pipeline.writing import Run, final, last_word, over, snapshot
from tests.scans import Clock, balanced, ends, frame, only, place, points_in, positions, start
from tests.strategies import same

AGAIN = replace(start(), repeated=True)


def held(frames: set[int], places: set[int], scan_id: str = "s") -> Resume:
    """What a writer has after these frames and positions."""
    flags = np.zeros(max(frames, default=-1) + 1, bool)
    flags[sorted(frames)] = True
    index = np.array(sorted(places), np.int64)
    yx_m = np.array([place(i) for i in sorted(places)]).reshape(-1, 2)
    return Resume(
        scan_id=scan_id, started_ns=1, frames=flags, index=index if places else None, yx_m=yx_m if places else None
    )


class Receiver:
    """A receive stage whose outputs are all taken."""

    def __init__(self, *resumed: Message, **options: Any) -> None:
        self.clock = Clock()
        self.stage = ReceiveStage(MatchOptions(**options), self.clock, self.clock.ns)
        self.out: dict[Port, list[Message]] = {port: [] for port in Port}
        self._take(self.stage.resume(resumed))

    def __call__(self, *messages: Message) -> "Receiver":
        for message in messages:
            self._take(self.stage.handle(message))
        return self

    def wait(self, seconds: float) -> "Receiver":
        self.clock.now += seconds
        self._take(self.stage.idle())
        return self

    def _take(self, outputs: Any) -> None:
        for port, message in outputs:
            self.out[port].append(message)
            assert all(balanced(status) for status in self.stage.statuses())

    @property
    def status(self) -> ReceiveStatus:
        return self.stage.statuses()[0]

    def indices(self, kind: type = Frame) -> list[int]:
        return [i for message in only(kind, self.out[Port.WRITER]) for i in message.index.tolist()]


# the receiver


def test_a_receiver_goes_on_with_what_the_writer_has():
    run = Receiver(start(), held({0, 1, 4}, {0, 1, 2, 3}))
    for port in (Port.WRITER, Port.ENGINE):
        assert [message.repeated for message in only(ScanStart, run.out[port])] == [True]
    status = run.status
    assert (status.unique, status.positions, status.received, status.used) == (3, 4, 3, 2)
    assert status.dropped == {"no_position": 1}, "the frame that waited for its position has died with that receiver"
    assert status.gaps == 2

    run(frame(range(8)), positions(range(8)), *ends(8))
    assert run.indices() == [2, 3, 5, 6, 7], "what is in the file is not sent again"
    assert run.indices(Positions) == [4, 5, 6, 7]
    assert sorted(point.index for point in points_in(run.out[Port.ENGINE])) == [2, 3, 5, 6, 7]
    (end,) = only(ScanEnd, run.out[Port.WRITER])
    assert (end.count, end.reason) == (8, EndReason.COMPLETE)
    last = only(Status, run.out[Port.WRITER])[-1]
    assert (last.received, last.used, last.missing) == (11, 8, 0)
    assert last.dropped == {"duplicate": 3}, "frame 4 has its position now, and the reconstruction takes it from the file"


def test_counts_of_the_receiver_before_are_kept():
    before = ReceiveStatus(
        scan_id="s",
        started_ns=1,
        state=ServiceState.RECEIVING,
        time_ns=1,
        received=12,
        used=4,
        waiting=1,
        dropped={"duplicate": 2, "corrupt": 1, "bad_index": 1, "engine_full": 2, "no_position": 1},
        unique=8,
        announced=9,
    )
    run = Receiver(start(), before, held({0, 1, 2, 3, 4, 5}, {0, 1, 2, 3}))
    status = run.status
    assert (status.unique, status.received, status.used) == (6, 10, 2)
    assert status.dropped == {"duplicate": 2, "corrupt": 1, "bad_index": 1, "engine_full": 2, "no_position": 2}
    assert (status.announced, status.announced_positions) == (9, None)
    run.wait(61)
    (end,) = only(ScanEnd, run.out[Port.WRITER])
    assert end.reason is EndReason.INCOMPLETE
    assert only(Status, run.out[Port.WRITER])[-1].missing == 3, "its end was announced, and three have died on the way"


def test_nothing_held_is_a_scan_that_has_just_begun():
    run = Receiver(start(), held(set(), set()))
    assert (run.status.unique, run.status.received, run.status.dropped) == (0, 0, {})
    run(frame(0), positions(0), *ends(1))
    assert only(ScanEnd, run.out[Port.WRITER])[0].reason is EndReason.COMPLETE


def test_what_is_held_of_another_run_opens_nothing():
    run = Receiver(start(), held({0}, {0}, "other"), held({0}, {0}))
    assert list(run.stage.matcher.scans) == ["s"]
    assert Receiver(held({0}, {0})).stage.matcher.scans == {}


def test_scans_keep_their_order():
    """The detector goes on with the newest; the one before it runs out."""
    run = Receiver(start("a"), held({0}, {0}, "a"), start("b"), held({0}, {0}, "b"))
    run.wait(3)
    assert [(end.scan_id, end.reason) for end in only(ScanEnd, run.out[Port.WRITER])] == [("a", EndReason.SUPERSEDED)]
    assert list(run.stage.matcher.scans) == ["b"]


def test_more_than_the_limits_allow_is_left_out():
    run = Receiver(start(), held({0, 1, 7}, {0}), max_index=5)
    assert run.status.unique == 2


@given(cut=st.data())
def test_wherever_it_breaks_off_all_is_in_the_file_or_counted(cut: st.DataObject):
    """Frames and positions in any order up to a point, of which the writer has some; then all that the sender still has."""
    n = 12
    messages = cut.draw(st.permutations([*((frame, i) for i in range(n)), *((positions, i) for i in range(n))]))
    at = cut.draw(st.integers(0, len(messages)))
    taken = [item for item in messages[:at] if cut.draw(st.booleans())]  # the rest has died with the receiver
    frames, places = ({i for make, i in taken if make is kind} for kind in (frame, positions))
    run = Receiver(start(), held(frames, places))
    run(*(make(i) for make, i in messages[at:]), *ends(n)).wait(3)
    got = {i for make, i in [*taken, *messages[at:]] if make is frame}
    placed = {i for make, i in [*taken, *messages[at:]] if make is positions}
    last = only(Status, run.out[Port.WRITER])[-1]
    assert sorted(run.indices()) == sorted(got - frames)
    assert (last.unique, last.missing) == (len(got), n - len(got))
    assert (last.positions, last.missing_positions) == (len(placed), n - len(placed))
    complete = len(got) == len(placed) == n
    assert (only(ScanEnd, run.out[Port.WRITER])[0].reason is EndReason.COMPLETE) is complete
    points = {point.index for point in points_in(run.out[Port.ENGINE])}
    assert points <= got & placed
    assert (got - frames) & placed <= points, "a frame that comes now finds a position that came before"


# the writer


@pytest.fixture
def run(tmp_path: Path) -> Any:
    run = Run(tmp_path / "out")
    yield run
    for scan in run.stage.scans.values():
        scan.writer.close()


def test_a_writer_says_what_it_has_of_scans_that_go_on(run):
    run(start("a"), frame(0, "a"), over("a"))
    run(start(), last_word(), frame([0, 2]), positions([0, 1]))
    first, count, resume = run.stage.holdings()
    assert same(first, start())
    assert isinstance(count, ReceiveStatus)
    assert same(resume, held({0, 2}, {0, 1}))
    scans = Receiver(first, count, resume).stage.matcher.scans
    assert scans["s"].unique == 2


def test_a_repeated_start_of_an_open_scan_changes_nothing(run):
    run(start(), frame(0), AGAIN, frame(1), positions([0, 1]))
    assert list(run.stage.scans) == ["s"]
    assert run.stage.scans["s"].received == 2
    assert not run.stage.rejected


def test_a_new_writer_goes_on_with_the_file_and_closes_it(tmp_path, run):
    run(start(), frame([0, 1]), positions([0, 1]))
    run.stage.scans["s"].writer.close()

    new = Run(tmp_path / "out")
    assert list(new.stage.scans) == ["s"], "also without being told"
    new(AGAIN, frame([1, 2]), positions([1, 2]), last_word(unique=3, positions=3), over(), final(), counted=False).wait()
    assert new.stage.scans == {}
    file = new.read()
    assert (file["key"], file["complete"]) == ([1, 1, 1], 1)
    done = new.out[-1]
    assert (done.state, done.used, done.dropped) == (ServiceState.DONE, 3, {})
    assert sorted(path.name for path in (tmp_path / "out").glob("*.cxi")) == ["s.cxi", "s.strict.cxi"]


def test_files_that_have_been_left_for_long_are_left_alone(tmp_path, run):
    run(start(), frame(0))
    run.stage.scans["s"].writer.close()
    assert Run(tmp_path / "out", silence_s=1e-6).stage.scans == {}


def test_files_whose_writer_died_long_ago_are_made_whole(tmp_path, run):
    run(start(), frame([0, 1]), positions([0, 1]), snapshot(1)).wait()
    path = run.stage.scans["s"].path
    assert Run(tmp_path / "out", silence_s=1e-6).stage.scans == {}
    assert unfinished_run(path) == start().run, "a living one goes on"
    abandon(run.stage.scans.pop("s").writer._file)
    assert Run(tmp_path / "out", silence_s=1e-6).stage.scans == {}
    with h5py.File(path, "r") as file:
        assert file[f"{LIVE}/end_reason"][()] == b"aborted"
    assert sorted(file.name for file in path.parent.iterdir()) == ["s.cxi", "s.png", "s.result.h5"]


def test_a_scan_whose_file_is_finished_is_said_to_be_so_again(tmp_path, run):
    run(start(), frame([0, 1]), positions([0, 1]), over(count=2), final()).wait()
    before = run.out[-1]
    new = Run(tmp_path / "out")
    new(AGAIN, last_word(), replace(over(), started_ns=1), snapshot(3), counted=False).wait()
    assert new.stage.scans == {}
    assert not new.stage.rejected
    (said,) = [status for status in new.out if status.done]
    assert replace(said, time_ns=0, frame_bytes=0, free_bytes=None) == WriteStatus(
        scan_id="s",
        started_ns=1,
        state=ServiceState.DONE,
        time_ns=0,
        received=2,
        used=2,
        file=before.file,
        result=before.result,
        picture=before.picture,
        end=EndReason.COMPLETE,
        positions=2,
    )


def test_a_run_that_was_finished_is_not_taken_for_another_of_its_name(tmp_path, run):
    run(start(), frame(0), over(count=1), final()).wait()
    new = Run(tmp_path / "out")
    new(replace(AGAIN, started_ns=2), frame(0), counted=False)
    assert new.stage.scans["s"].path.name == "s-2.cxi"
    new.stage.scans["s"].writer.close()


# what a link tells


def test_what_lasts_is_told_again():
    told = Introduction(over=1)
    assessment = replace(GOOD["assessment"], scan_id="s", started_ns=1)
    done = ReceiveStatus(scan_id="s", started_ns=1, state=ServiceState.DONE, time_ns=1)
    assert [
        lasts(message) for message in (start(), frame(0), positions(0), assessment, replace(assessment, final=False))
    ] == [
        True,
        False,
        False,
        True,
        False,
    ]
    assert not lasts(replace(done, state=ServiceState.RECEIVING))
    assert not lasts(snapshot())
    for message in (start(), done, over(), assessment):
        told.add(replace(message, started_ns=1))
    assert [message.kind for message in told.messages] == ["start", "receive_status", "end", "assessment"]
    for scan_id in "ab":
        told.add(start(scan_id))
    assert [message.scan_id for message in told.messages] == ["s"] * 4 + ["a", "b"], (
        "all that are open, and one that is over"
    )
    told.add(replace(over("a"), started_ns=1))
    assert [message.scan_id for message in told.messages] == ["a", "a", "b"]


def test_a_scan_without_a_beginning_is_forgotten_at_its_end():
    """Its file could not be told from that of another run."""
    told = Introduction(over=8)
    told.add(start(started_ns=0))
    assert len(told.messages) == 1
    told.add(over())
    assert told.messages == []


def test_a_start_that_comes_again_begins_the_story_anew():
    told = Introduction(over=8)
    for message in (start(), replace(over(), started_ns=1), start()):
        told.add(message)
    assert [message.kind for message in told.messages] == ["start"]
