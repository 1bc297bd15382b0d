"""The write stage: when a file is closed, what it says then, and how far a broken disk reaches."""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

from streamptycho.errors import CodecError
from streamptycho.files.writer import CxiWriter
from streamptycho.join import MatchOptions
from streamptycho.messages import Message, ScanEnd, Snapshot, Status
from streamptycho.pipeline import write as module
from streamptycho.pipeline.options import WriteOptions
from streamptycho.pipeline.stage import Port
from streamptycho.pipeline.write import WriteStage
from streamptycho.reasons import EndReason, ServiceState, Stream
from tests.files.factories import LIVE, LIVE_KEY, TRANSLATION
from tests.files.factories import snapshot as picture
from tests.hostile import GOOD
from tests.scans import Clock, balanced, broken_frame, end, frame, place, positions, start


def snapshot(sequence: int = 0, scan_id: str = "s", **changes: Any) -> Snapshot:
    return picture(sequence, scan_id=scan_id, **({"started_ns": 1} | changes))


def final(sequence: int = 9, scan_id: str = "s") -> Snapshot:
    return snapshot(sequence, scan_id, final=True)


def over(scan_id: str = "s", reason: EndReason = EndReason.COMPLETE, count: int = 3) -> Message:
    return end(count, Stream.SCAN, scan_id, reason)


def word(service: str, scan_id: str = "s", used: int = 0, waiting: int = 0, **more: Any) -> Status:
    """A status of another service."""
    dropped = more.pop("dropped", {})
    return Status(
        service=service,
        scan_id=scan_id,
        state=more.pop("state", ServiceState.RECEIVING),
        time_ns=1,
        received=used + waiting + sum(dropped.values()),
        used=used,
        waiting=waiting,
        dropped=dropped,
        **more,
    )


class Run:
    def __init__(self, directory: Path, **options: Any) -> None:
        self.directory = directory
        self.clock = Clock()
        self.stage = WriteStage(WriteOptions(directory=directory, **options), '{"a": 1}', self.clock, self.clock.ns)
        self.out: list[Status] = []

    def __call__(self, *messages: object) -> "Run":
        for message in messages:
            self._take(self.stage.handle(message))
            self.clock.now += 0.2  # so that each next message finds a flush due
        return self

    def wait(self, seconds: float = 1.0) -> "Run":
        self.clock.now += seconds
        self._take(self.stage.idle())
        return self

    def finish(self) -> None:
        self._take(self.stage.finish())

    def _take(self, outputs: Iterable[tuple[Port, Message]]) -> None:
        for port, message in outputs:
            assert port is Port.DISPLAY
            assert isinstance(message, Status)
            self.out.append(message)
        assert all(balanced(status) and status.service == "write" for status in [*self.out, *self.stage.statuses()])

    def read(self, name: str = "s", *, swmr: bool = False) -> dict[str, Any]:
        """What the file says."""
        with h5py.File(self.directory / f"{name}.cxi", "r", swmr=swmr) as file:
            live = file[LIVE]
            counters = live["counters"]
            return {
                "frames": file["/entry_1/data_1/data"][()],
                "key": file[LIVE_KEY][()].tolist(),
                "xyz": file[TRANSLATION][()],
                "complete": int(live["complete"][()]),
                "reason": live["end_reason"][()].decode(),
                "sequences": live["snapshots/sequence"][()].tolist(),
                "counters": {name: int(counters[name][()]) for name in ("received", "used", "waiting", "n_frames")},
                "dropped": {name: int(d[()]) for name, d in counters["dropped"].items() if d[()]},
            }


@pytest.fixture
def run(tmp_path):
    run = Run(tmp_path / "out")
    yield run
    for scan in run.stage.scans.values():
        scan.writer.close()


def test_a_scan_into_its_file(run):
    run(start(), frame([0, 1]), positions([0, 2]), frame(2), snapshot(0), over(), final()).wait()
    assert run.stage.scans == {}
    file = run.read()
    assert file["key"] == [1, 1, 1]
    assert file["frames"][:, 0, 0].tolist() == [0, 1, 2]
    assert file["xyz"][2, :2].tolist() == list(place(2)[::-1])
    assert np.isnan(file["xyz"][1]).any()
    assert (file["complete"], file["reason"], file["sequences"]) == (1, "complete", [0, 9])
    (status,) = run.out
    assert (status.state, status.received, status.used) == (ServiceState.DONE, 3, 3)
    assert status.notes["end"] == "complete"
    assert status.notes["file"] == str(run.directory / "s.cxi")
    assert Path(status.notes["result"]).is_file()
    with Image.open(status.notes["picture"]) as image:
        assert image.width > 100


def test_the_file_is_open_until_the_end_and_the_final_picture_have_come(run):
    run(start(), frame(0), final()).wait()
    assert run.out == [], "a picture without the end"
    run(over()).wait()
    assert len(run.out) == 1
    run(start("t"), frame(0, "t"), over("t"), snapshot(1, "t")).wait()
    assert len(run.out) == 1, "an end without the final picture"
    run(final(2, "t")).wait()
    assert [s.scan_id for s in run.out] == ["s", "t"]


def test_frames_are_in_the_file_soon(run):
    run(start(), frame(0)).wait(0.2)
    assert run.read()["key"] == [1]
    assert run.read()["complete"] == 0


def test_word_that_there_will_be_no_picture_closes_the_file(run):
    run(start(), frame(0), over(count=1)).wait()
    assert run.out == []
    run(word("reconstruct", dropped={"failed": 1}, notes={"no_picture": "why"}, state=ServiceState.DONE)).wait()
    (status,) = run.out
    assert "result" not in status.notes
    assert "picture" not in status.notes
    assert not list(run.directory.glob("*.h5"))
    assert run.read()["complete"] == 1
    assert run.read()["dropped"] == {"failed": 1}


def test_a_reconstruction_that_says_nothing_is_waited_for_so_long(tmp_path):
    run = Run(tmp_path, result_timeout_s=50)(start(), frame(0), over()).wait(40)
    assert run.out == []
    run(snapshot(1)).wait(40)
    assert run.out == [], "it is still there"
    run(word("reconstruct", waiting=1)).wait(40)
    assert run.out == []
    run.wait(11)
    (status,) = run.out
    assert Path(status.notes["result"]).is_file(), "the last picture is better than none"


def test_the_counters_are_those_of_the_services(run):
    run(start(), frame([0, 1, 2]))
    run(word("receive", used=10, waiting=3, dropped={"duplicate": 1}), word("reconstruct", used=4, waiting=2)).wait()
    assert run.read()["counters"] == {"received": 14, "used": 4, "waiting": 9, "n_frames": 3}
    run(word("receive", used=12, dropped={"duplicate": 2, "engine_full": 1}))
    run(over(), word("reconstruct", used=11, dropped={"empty": 1}), final()).wait()
    file = run.read()
    assert file["counters"] == {"received": 15, "used": 11, "waiting": 0, "n_frames": 3}
    assert file["dropped"] == {"duplicate": 2, "engine_full": 1, "empty": 1}


def test_repeats_and_broken_frames_are_counted(run):
    run(start(), frame([0, 1]), frame([1, 2]), broken_frame(7), frame(0, dark=True), frame(50_000_000))
    status, *_ = run.stage.statuses()
    assert (status.received, status.used) == (6, 3)
    assert status.dropped == {"duplicate": 1, "corrupt": 1, "bad_index": 1}
    assert status.state is ServiceState.RECEIVING


def test_positions_of_absurd_rows_are_refused_and_the_next_are_taken(run):
    run(start(), positions([50_000_000]), positions([0, 2**62]), positions([0]), over(), final()).wait()
    assert run.stage.rejected == 2
    assert len(run.read()["xyz"]) == 1


def test_the_same_id_twice_gives_two_files(run):
    run(start(), frame(0), over(count=1), final()).wait()
    run(start(), frame([0, 1]), over(count=2), final()).wait()
    assert run.read("s")["key"] == [1]
    assert run.read("s-2")["key"] == [1, 1]
    assert len(list(run.directory.glob("*.result.h5"))) == 2


def test_the_same_id_while_the_first_is_open_closes_the_first(run):
    run(start(), frame(0), start(), frame([0, 1]), over(count=2), final()).wait()
    assert (run.read("s")["reason"], run.read("s")["key"]) == ("superseded", [1])
    assert (run.read("s-2")["reason"], run.read("s-2")["key"]) == ("complete", [1, 1])


def test_what_belongs_to_another_run_of_the_id_does_not_reach_the_file(run):
    """The first run is still polished while the second is written."""
    first = {"started_ns": 5, "final": True}
    run(start(started_ns=5), frame(0), ScanEnd(scan_id="s", stream=Stream.SCAN, count=1, started_ns=5))
    run(start(started_ns=6), frame([0, 1]), snapshot(3, started_ns=6))
    run(word("reconstruct", used=9, notes={"no_picture": "why"}, started_ns=5), snapshot(9, **first))
    run(ScanEnd(scan_id="s", stream=Stream.SCAN, count=1, started_ns=5)).wait()
    assert [status.started_ns for status in run.out] == [5], "the second is still open"
    assert run.stage.rejected == 2, "the snapshot and the end"
    run(ScanEnd(scan_id="s", stream=Stream.SCAN, count=2, started_ns=6), snapshot(4, started_ns=6, final=True)).wait()
    assert run.read("s-2")["sequences"] == [3, 4]
    assert run.read("s-2")["counters"]["used"] == 0
    assert [status.started_ns for status in run.out] == [5, 6]


def test_the_last_word_on_a_file_is_repeated_for_a_while(run):
    run(start(), frame(0), over(count=1), final()).wait()
    assert run.stage.statuses()[1:] == run.out
    run(start("t"))
    assert [(s.scan_id, s.state) for s in run.stage.statuses()] == [
        ("t", ServiceState.RECEIVING),
        ("s", ServiceState.DONE),
    ]
    run(start("s", started_ns=2))
    assert [s.state for s in run.stage.statuses()] == [ServiceState.RECEIVING] * 2, "an id in use again is not over"
    run.finish()
    run.clock.now += 5.1
    assert [s.state for s in run.stage.statuses()] == [ServiceState.IDLE]


def test_what_the_matcher_accepts_the_writer_accepts(run):
    highest = min(MatchOptions().max_index, WriteOptions().max_frames) - 1
    assert highest == MatchOptions().max_index - 1
    run(start(), frame(highest), positions(highest))
    assert run.stage.statuses()[0].dropped == {}
    assert run.stage.rejected == 0


def test_several_scans_at_once(run):
    run(start("a"), start("b"), frame(0, "a"), frame([0, 1], "b"), over("a"), over("b"), final(1, "b"), final(1, "a")).wait()
    assert [s.scan_id for s in run.out] == ["b", "a"]
    assert (run.read("a")["key"], run.read("b")["key"]) == ([1], [1, 1])


def test_a_path_cannot_be_left(tmp_path):
    run = Run(tmp_path / "deep")(start("a:b ~*c"), over("a:b ~*c"), final(1, "a:b ~*c")).wait()
    (status,) = run.out
    assert Path(status.notes["file"]).parent == tmp_path / "deep"


def test_finish_closes_every_file(run):
    run(start("a"), frame(0, "a"), start("b"), over("b"), snapshot(1, "b"))
    run.finish()
    assert run.stage.scans == {}
    assert (run.read("a")["reason"], run.read("b")["reason"]) == ("interrupted", "complete")
    assert (run.directory / "b.result.h5").is_file()
    idle, *said = run.stage.statuses()
    assert (idle.scan_id, idle.state) == (None, ServiceState.IDLE)
    assert said == run.out


def test_the_picture_is_refreshed_now_and_then_and_at_the_end(run, monkeypatch):
    saved: list[int] = []
    monkeypatch.setattr(module, "save_phase", lambda s, path: saved.append(s.sequence))
    run(start(), *(snapshot(i) for i in range(10)), final(10))
    assert saved == [0, 3, 6, 9, 10]


def test_no_picture_if_none_is_wanted(tmp_path):
    run = Run(tmp_path, picture=False)(start(), frame(0), over(), final()).wait()
    assert not list(tmp_path.glob("*.png"))
    assert "picture" not in run.out[0].notes
    assert "result" in run.out[0].notes


def test_messages_of_no_open_scan_are_counted(run):
    run(frame(0), positions(0), over(), snapshot(1), CodecError("header", "bad"), word("receive"))
    assert run.stage.rejected == 5
    assert run.stage.statuses()[0].figures == {"rejected": 5}
    run(start(), GOOD["point"], GOOD["positions"], GOOD["status"])
    assert run.stage.rejected == 7


# the disk


def full(*args: Any, **more: Any) -> None:
    raise OSError(28, "No space left on device")


def fail_for(monkeypatch, scan_id: str, method: str) -> None:
    """The disk refuses one scan's file."""
    real = getattr(CxiWriter, method)

    def perhaps(self: CxiWriter, *args: Any, **more: Any) -> Any:
        self._check_open()
        if self._start.scan_id == scan_id:
            with self._disk("be written"):
                full()
        return real(self, *args, **more)

    monkeypatch.setattr(CxiWriter, method, perhaps)


@pytest.mark.expects_errors
@pytest.mark.parametrize("method", ["append", "positions", "snapshot", "flush", "finish", "counters"])
def test_a_disk_that_refuses_one_file_costs_only_that_file(run, monkeypatch, method):
    run(start("bad"), start("good"), frame(0, "bad"))
    fail_for(monkeypatch, "bad", method)
    for scan_id in ("bad", "good"):
        run(frame(1, scan_id), positions(1, scan_id), snapshot(1, scan_id), over(scan_id), final(2, scan_id)).wait()
    bad, good = run.out
    assert (bad.scan_id, bad.state) == ("bad", ServiceState.DONE)
    assert "No space left" in bad.notes["error"]
    assert bad.notes["file"].endswith("bad.cxi")
    assert (good.scan_id, "error" in good.notes) == ("good", False)
    assert run.read("good")["complete"] == 1
    assert run.read("bad", swmr=True)["complete"] == 0, "it is as if its writer had died"
    assert run.stage.rejected == 0, "what still comes for it is expected"


@pytest.mark.expects_errors
def test_a_file_that_cannot_be_made_costs_only_that_scan(run, monkeypatch):
    real = module.CxiWriter.__init__

    def perhaps(self: Any, path: Path, scan: Any, **more: Any) -> None:
        real(self, run.directory / "none" / "x.cxi" if scan.scan_id == "bad" else path, scan, **more)

    monkeypatch.setattr(module.CxiWriter, "__init__", perhaps)
    run(start("bad"), frame(0, "bad"), start("good"), frame(0, "good"), over("good"), final(1, "good")).wait()
    assert "cannot be created" in run.out[0].notes["error"]
    assert (run.out[0].scan_id, run.out[0].started_ns) == ("bad", 1)
    assert run.out[0].state is ServiceState.DONE, "whoever waits for the file waits no longer"
    assert run.read("good")["complete"] == 1
    assert run.stage.rejected == 0


@pytest.mark.expects_errors
def test_after_a_failure_the_same_id_may_come_again(run, monkeypatch):
    with monkeypatch.context() as patch:
        fail_for(patch, "s", "append")
        run(start(), frame(0))
    run(start(), frame(0), over(count=1), final()).wait()
    assert run.read("s-2")["key"] == [1]
    assert run.stage.failed == {}


@pytest.mark.expects_errors
def test_finish_closes_the_others_although_one_fails(run, monkeypatch):
    run(start("bad"), frame(0, "bad"), start("good"), frame(0, "good"))
    fail_for(monkeypatch, "bad", "finish")
    run.finish()
    assert ["error" in status.notes for status in run.out] == [True, False]
    assert run.read("good")["reason"] == "interrupted"


@pytest.mark.expects_errors
def test_a_first_file_that_cannot_be_closed_does_not_cost_the_second_of_that_id(run, monkeypatch):
    run(start(), frame(0))
    with monkeypatch.context() as patch:
        fail_for(patch, "s", "finish")
        run(start())
    run(frame([0, 1]), over(count=2), final()).wait()
    assert run.read("s-2")["key"] == [1, 1]


@pytest.mark.expects_errors
def test_a_result_that_cannot_be_written_leaves_the_data(run, monkeypatch):
    monkeypatch.setattr("streamptycho.files.result.build", full)
    run(start(), frame(0), over(count=1), final()).wait()
    assert "the result cannot be written" in run.out[0].notes["error"]
    assert run.read()["complete"] == 1


def test_a_picture_that_cannot_be_written_costs_nothing(run, monkeypatch, caplog):
    monkeypatch.setattr(module, "save_phase", full)
    with caplog.at_level(logging.WARNING):
        run(start(), frame(0), snapshot(1), over(count=1), final()).wait()
    assert "the picture cannot be written" in caplog.text
    assert "picture" not in run.out[0].notes
    assert "error" not in run.out[0].notes
    assert run.read()["complete"] == 1
