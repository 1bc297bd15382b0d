"""The write stage: when a file is closed, what it says then, and what is missing from it."""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from streamptycho.errors import CodecError
from streamptycho.files.durable.disk import abandon
from streamptycho.files.writer import CxiWriter
from streamptycho.join.options import MatchOptions
from streamptycho.messages.kinds import Message
from streamptycho.messages.reasons import EndReason, ServiceState, Stream
from streamptycho.messages.results import Assessment, Estimates
from streamptycho.messages.stream import ScanEnd
from streamptycho.pipeline import early, scan_file
from streamptycho.pipeline.options import WriteOptions
from streamptycho.pipeline.receive import ReceiveStage
from streamptycho.pipeline.stage import Port
from tests.hostile import GOOD
from tests.pipeline.writing import Run, final, last_word, over, snapshot, word
from tests.scans import broken_frame, ends, frame, place, positions, start


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
    assert status.end == "complete"
    assert status.file == str(run.directory / "s.cxi")
    assert Path(status.result).is_file()
    with Image.open(status.picture) as image:
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
    run(word("reconstruct", dropped={"failed": 1}, no_picture=True, state=ServiceState.DONE)).wait()
    (status,) = run.out
    assert status.result is None
    assert status.picture is None
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
    assert Path(status.result).is_file(), "the last picture is better than none"


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
    assert run.stage.rejected.total() == 2
    assert len(run.read()["xyz"]) == 1


def test_the_same_id_twice_gives_two_files(run):
    run(start(), frame(0), over(count=1), final()).wait()
    run(start(), frame([0, 1]), over(count=2), final()).wait()
    assert run.read("s")["key"] == [1]
    assert run.read("s-2")["key"] == [1, 1]
    assert len(list(run.directory.glob("*.result.h5"))) == 2


def test_the_same_id_while_the_first_is_open_closes_the_first(run):
    run(start(), frame(0), start(started_ns=2), frame([0, 1]))
    run(ScanEnd(scan_id="s", stream=Stream.SCAN, count=2, started_ns=2), snapshot(9, started_ns=2, final=True)).wait()
    assert (run.read("s")["reason"], run.read("s")["key"]) == ("superseded", [1])
    assert (run.read("s-2")["reason"], run.read("s-2")["key"]) == ("complete", [1, 1])


def test_what_belongs_to_another_run_of_the_id_does_not_reach_the_file(run):
    """The first run is still polished while the second is written."""
    first = {"started_ns": 5, "final": True}
    run(start(started_ns=5), frame(0), ScanEnd(scan_id="s", stream=Stream.SCAN, count=1, started_ns=5))
    run(start(started_ns=6), frame([0, 1]), snapshot(3, started_ns=6))
    run(word("reconstruct", used=9, no_picture=True, started_ns=5), snapshot(9, **first))
    run(ScanEnd(scan_id="s", stream=Stream.SCAN, count=1, started_ns=5)).wait()
    assert [status.started_ns for status in run.out] == [5], "the second is still open"
    assert run.stage.rejected.total() == 2, "the snapshot and the end"
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
    assert run.stage.rejected.total() == 0


def test_several_scans_at_once(run):
    run(start("a"), start("b"), frame(0, "a"), frame([0, 1], "b"), over("a"), over("b"), final(1, "b"), final(1, "a")).wait()
    assert [s.scan_id for s in run.out] == ["b", "a"]
    assert (run.read("a")["key"], run.read("b")["key"]) == ([1], [1, 1])


def test_a_path_cannot_be_left(tmp_path):
    run = Run(tmp_path / "deep")(start("a:b ~*c"), over("a:b ~*c"), final(1, "a:b ~*c")).wait()
    (status,) = run.out
    assert Path(status.file).parent == tmp_path / "deep"


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
    monkeypatch.setattr(scan_file, "save_picture", lambda path, s, *_: saved.append(s.sequence))
    run(start(), *(snapshot(i) for i in range(10)), final(10))
    assert saved == [0, 3, 6, 9, 10]


def test_no_picture_if_none_is_wanted(tmp_path):
    run = Run(tmp_path, picture=False)(start(), frame(0), over(), final()).wait()
    assert not list(tmp_path.glob("*.png"))
    assert run.out[0].picture is None
    assert run.out[0].result is not None


def test_messages_of_no_open_scan_are_counted(run):
    run(frame(0), positions(0), over(), snapshot(1), CodecError("header", "bad"), word("receive"))
    assert run.stage.rejected.total() == 5
    assert sum(run.stage.statuses()[0].rejected.values()) == 5
    run(start(), GOOD["survey"], GOOD["positions"], word("receive", "s1"))
    assert run.stage.rejected.total() == 7


# what the files are given


def assessed(final: bool, **changes: Any) -> Assessment:
    return Assessment(scan_id="s", started_ns=1, time_ns=7, verdict="Good.", final=final, **changes)


def estimated(**changes: Any) -> Estimates:
    values: dict[str, Any] = {"scan_id": "s", "started_ns": 1, "time_ns": 8, "index": np.arange(3), "flux": np.ones(3)}
    return Estimates(**(values | {"recorded_yx_m": np.zeros((3, 2))} | changes))


def test_estimates_and_the_last_assessment_reach_both_files(run, monkeypatch):
    given = []
    monkeypatch.setattr(CxiWriter, "finish", lambda self, outcome: [given.append(outcome), self.close()])
    monkeypatch.setattr(scan_file, "write_result", lambda path, outcome: given.append(outcome))
    last, estimates = assessed(final=True), estimated()
    run(start(), frame([0, 1, 2]), assessed(final=False), estimated(started_ns=9), last, estimates, over())
    run(word("reconstruct", used=3, state=ServiceState.DONE), final()).wait()
    assert len(given) == 2
    for outcome in given:
        assert (outcome.assessment, outcome.estimates) == (last, estimates)
        assert (outcome.snapshot.sequence, outcome.end.reason, outcome.written) == (9, EndReason.COMPLETE, 3)
        assert (outcome.ledger.used, outcome.config_json) == (3, '{"a": 1}')
    assert run.stage.rejected == {"stray": 1}, "estimates of another run"


def test_what_no_file_can_hold_is_counted(run):
    survey = GOOD["survey"]
    run(start(survey.scan_id, started_ns=survey.started_ns), survey)
    assert run.stage.rejected == {"unexpected_kind": 1}
    assert run.stage.statuses()[0].run == survey.run


# what is missing


def closed(run: Run, *messages: object) -> tuple[str, int, int, int]:
    """End reason in the file and the status, then what the file says is missing: frames, positions, gaps."""
    run(start(), *messages, final(), counted=False).wait()
    (status,) = run.out
    file = run.read()
    assert status.end == file["reason"]
    assert file["complete"] == (file["reason"] == "complete")
    return file["reason"], *file["missing"]


def test_a_file_that_has_all_that_the_receiver_counts_is_complete(run):
    sent = frame([0, 1, 2]), positions([0, 1, 2]), last_word(unique=3, positions=3)
    assert closed(run, *sent, over()) == ("complete", 0, 0, 0)


def test_frames_that_the_writer_has_not_got_are_missing(run, caplog):
    sent = frame([0, 2]), positions([0, 1, 2]), last_word(unique=3, positions=3)
    with caplog.at_level(logging.WARNING):
        assert closed(run, *sent, over()) == ("incomplete", 1, 0, 0)
    assert "s.cxi: incomplete; 1 frame missing" in caplog.text


def test_positions_that_the_writer_has_not_got_are_missing(run):
    sent = frame([0, 1, 2]), positions([0, 1]), last_word(unique=3, positions=3)
    assert closed(run, *sent, over()) == ("incomplete", 0, 1, 0)


def test_what_never_came_and_what_is_not_written_add_up(run):
    sent = frame([0, 1]), positions([0, 1]), last_word(unique=4, positions=3, missing=6, missing_positions=7, gaps=5)
    assert closed(run, *sent, over(reason=EndReason.INCOMPLETE)) == ("incomplete", 8, 8, 5)


def test_a_frame_that_does_not_decode_is_missing_from_the_file(run):
    sent = frame([0, 1]), broken_frame(2), positions([0, 1, 2]), last_word(unique=3, positions=3)
    assert closed(run, *sent, over()) == ("incomplete", 1, 0, 0)
    assert run.out[0].dropped == {"corrupt": 1}


def test_without_the_receivers_last_word_nothing_is_complete(run):
    assert closed(run, frame([0, 1, 2]), positions([0, 1, 2]), over()) == ("incomplete", -1, -1, -1)


def test_the_reason_of_the_source_stays(run):
    sent = frame([0, 1]), positions([0, 1]), last_word(unique=3, positions=2, missing=1)
    assert closed(run, *sent, over(reason=EndReason.TIMEOUT)) == ("timeout", 2, 0, 0)


def test_a_scan_that_is_interrupted_counts_what_was_planned(run):
    run(start(expected=10), frame([0, 1]), positions([0, 1]))
    run.finish()
    assert (run.read()["reason"], run.read()["missing"][:2]) == ("interrupted", (8, -1))


def test_frames_in_memory_wait_and_are_not_yet_written(run):
    run(start())
    run.clock.now -= 0.2  # the next flush is not due yet
    run.stage.idle()
    run._take(run.stage.handle(frame([0, 1])))
    (status,) = run.stage.statuses()
    assert (status.received, status.used, status.waiting) == (2, 0, 2)
    run.wait()
    (status,) = run.stage.statuses()
    assert (status.received, status.used, status.waiting) == (2, 2, 0)


def test_dark_exposures_that_are_of_no_use_are_counted(run):
    run(start(), frame([0, 1], dark=True), frame([1, 2], dark=True))
    assert run.stage.rejected == {"unfit": 1}
    assert run.stage.statuses()[0].received == 0


def test_a_scan_whose_receiver_and_writer_died_together_goes_on_from_its_file(tmp_path):
    run = Run(tmp_path)(start(expected=4), frame([0, 1]), positions([0, 1])).wait()
    abandon(run.stage.scans["s"].writer._file)
    again = Run(tmp_path)
    receiver = ReceiveStage(MatchOptions(settle_s=0), again.clock, again.clock.ns)

    def receive(outputs: Iterable[tuple[Port, Message]]) -> None:
        again(*(message for port, message in outputs if port is Port.WRITER), counted=False)

    receive(receiver.resume(list(again.stage.holdings())))
    for message in (frame(3), positions(3), *ends(4)):
        receive(receiver.handle(message))
    again(word("reconstruct", no_picture=True)).wait()
    found = again.read()
    assert found["key"] == [1, 1, 0, 1]
    assert (found["reason"], found["missing"]) == ("incomplete", (1, 0, 1))


def test_a_picture_that_overtakes_the_start_of_its_scan_is_not_lost(run):
    """The way over the reconstruction is the shorter one while the writer has much to read from the receiver."""
    done = word("reconstruct", used=3, state=ServiceState.DONE, started_ns=1)
    run(word("reconstruct", started_ns=1), done, final(), counted=False)
    assert run.stage.rejected.total() == 0
    run(start(), frame([0, 1, 2]), positions([0, 1, 2]), over()).wait()
    assert run.stage.scans == {}
    assert run.read()["sequences"] == [9]
    assert (run.directory / "s.result.h5").exists()


def test_of_scans_that_never_begin_little_is_kept(run):
    for number in range(early.MOST + 2):
        run(final(scan_id=f"s{number}"))
    assert run.stage.rejected == {"no_start": 2}
    run(start("s0"), start("s5"))
    assert run.stage.scans["s0"].known.snapshot is None
    assert run.stage.scans["s5"].known.snapshot is not None
