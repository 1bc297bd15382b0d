"""Runs composed from display messages."""

import math

import numpy as np
import pytest

from streamptycho.documents.composer import _REMEMBERED, MAX_OPEN_RUNS, SILENCE_S, WRITER_PATIENCE_S
from streamptycho.documents.keys import STREAMS
from streamptycho.errors import CodecError
from streamptycho.messages.reasons import EndReason, ServiceState
from tests.documents.helpers import Told, assessment, check, end, last_picture, preview, survey, whole_scan, word
from tests.files.factories import STARTED_NS, snapshot, start

AGAIN_NS = STARTED_NS + 10**9


@pytest.fixture
def told() -> Told:
    return Told()


def test_a_whole_scan_is_a_valid_run(told):
    whole_scan(told)
    check(told.documents)
    assert told.names()[0] == "start"
    assert told.names()[-1] == "stop"
    (begin,) = told.of("start")
    assert (begin["plan_name"], begin["scan_id"], begin["scan_name"]) == ("streamptycho", 1, "scan")
    assert (begin["sample"], begin["scan_metadata"]) == ("star", {"sample": "star", "beam_line": "x"})
    assert (begin["frames_expected"], begin["frame_shape"]) == (30, [16, 24])
    (stop,) = told.of("stop")
    assert (stop["exit_status"], stop["reason"]) == ("success", "complete")
    progress = told.events("progress")
    assert progress[-1]["state"] == "done"
    assert (progress[-1]["frames_received"], progress[-1]["frames_used"]) == (30, 30)
    assert progress[-1]["resolution_m"] == 2e-8
    assert [p["frames_received"] for p in progress] == sorted(p["frames_received"] for p in progress)
    assert told.events("quality")[0]["verdict"] == "converging"


def test_only_the_error_is_hinted(told):
    whole_scan(told)
    hints = {d["name"]: d["hints"]["streamptycho"]["fields"] for d in told.of("descriptor")}
    assert {name for name, fields in hints.items() if fields} == {"progress"}
    assert (hints["progress"], set(hints)) == (["error"], set(STREAMS))


@pytest.mark.parametrize(
    ("reason", "status"),
    [(EndReason.COMPLETE, "success"), *((r, "abort") for r in EndReason if r is not EndReason.COMPLETE)],
)
def test_the_end_of_the_scan_is_that_of_the_run(told, reason, status):
    whole_scan(told, reason)
    (stop,) = told.of("stop")
    assert (stop["exit_status"], stop["reason"]) == (status, str(reason))


class TestMissing:
    """The end of a run says what is missing, as the writer knows it."""

    def begun(self, told, missing: int = 0) -> None:
        told.say(start(), word("write", ServiceState.RECEIVING, used=20), snapshot(1), end())
        told.say(word("receive", ServiceState.DONE, used=30, unique=30, missing=missing, missing_positions=0))
        told.say(snapshot(2, final=True), after_s=1)

    def test_a_writer_that_is_heard_is_waited_for(self, told):
        self.begun(told)
        told.say(after_s=WRITER_PATIENCE_S / 2)
        assert told.of("stop") == []
        told.say(word("write", ServiceState.DONE, used=30, end=EndReason.COMPLETE))
        (stop,) = told.of("stop")
        assert (stop["exit_status"], stop["reason"]) == ("success", "complete")
        assert (told.events("progress")[-1]["frames_missing"], told.events("progress")[0]["frames_missing"]) == (0, -1)
        check(told.documents)

    def test_frames_that_are_not_in_the_file(self, told):
        self.begun(told, missing=2)
        told.say(word("write", ServiceState.DONE, used=25, end=EndReason.INCOMPLETE))
        (stop,) = told.of("stop")
        assert (stop["exit_status"], stop["reason"]) == ("abort", "incomplete: 7 frames missing")
        assert told.events("progress")[-1]["frames_missing"] == 7

    def test_a_writer_that_hangs_is_not_waited_for_long(self, told):
        self.begun(told)
        told.say(after_s=WRITER_PATIENCE_S)
        (stop,) = told.of("stop")
        assert (stop["exit_status"], stop["reason"]) == ("success", "complete; its file was not closed in time")


class TestPace:
    def test_progress_twice_a_second_and_pictures_once(self, told):
        told.say(start())
        for i in range(100):
            told.say(word(used=i), snapshot(i), assessment(verdict=str(i)), after_s=0.1)
        assert 19 <= len(told.events("progress")) <= 21
        assert 10 <= len(told.events("object")) <= 11
        assert len(told.events("probe")) == len(told.events("object"))
        assert 10 <= len(told.events("quality")) <= 11

    def test_large_pictures_come_less_often(self, told):
        told.cost_s = 0.3
        told.say(start())
        for i in range(100):
            told.say(snapshot(i), after_s=0.1)
        assert 3 <= len(told.events("object")) <= 4

    def test_patterns_and_maps_once_a_second(self, told):
        told.say(start())
        for i in range(100):
            told.say(preview(i), survey(10 * i, 10), after_s=0.1)
        assert 10 <= len(told.events("diffraction")) <= 11
        assert 10 <= len(told.events("maps")) <= 11
        assert told.events("diffraction")[-1]["pattern_index"] >= 90
        assert told.events("maps")[-1]["points_mapped"] >= 900

    def test_costly_maps_come_less_often(self, told):
        told.cost_s = 0.3
        told.say(start())
        for i in range(100):
            told.say(survey(10 * i, 10), after_s=0.1)
        assert 3 <= len(told.events("maps")) <= 4

    def test_the_newest_picture_and_no_other(self, told):
        told.say(start(), snapshot(1))
        told.say(snapshot(2), snapshot(3))
        assert [e["object_frames_used"] for e in told.events("object")] == [10]
        told.say(after_s=1)
        assert [e["object_frames_used"] for e in told.events("object")] == [10, 30]

    def test_the_final_picture_is_always_told(self, told):
        told.say(start(), snapshot(1))
        told.say(last_picture())
        assert [e["object_final"] for e in told.events("object")] == [0, 1]

    def test_nothing_new_is_not_told_again(self, told):
        told.say(start(), word(used=3), snapshot(1))
        for _ in range(20):
            told.say(word(used=3), survey(0, 9), after_s=1)
        assert len(told.events("progress")) == 1
        assert len(told.events("maps")) == 1, "blocks repeat"
        assert len(told.events("object")) == 1


class TestFrames:
    """What they say before there is a picture."""

    def test_pattern_and_maps_go_before_any_picture(self, told):
        told.say(start(), survey(0, 4), preview(3))
        check(told.documents)
        (pattern,), (maps,) = told.events("diffraction"), told.events("maps")
        assert pattern["pattern_index"] == 3
        assert (maps["points_mapped"], maps["points_known"]) == (4, 4)
        assert told.events("object") == []

    def test_points_gather(self, told):
        told.say(start())
        for first in (20, 0, 10):
            told.say(survey(first, 10, known=30), after_s=1)
        maps = told.events("maps")
        assert [data["points_mapped"] for data in maps] == [10, 20, 30]
        assert maps[-1]["map_sum"].max() == 29
        assert [data["points_known"] for data in maps] == [30, 30, 30]

    def test_of_each_scan_its_own(self, told):
        told.say(start(), start(scan_id="next", started_ns=AGAIN_NS))
        told.say(survey(0, 3), survey(0, 5, scan_id="next", started_ns=AGAIN_NS))
        assert sorted(data["points_mapped"] for data in told.events("maps")) == [3, 5]

    def test_the_last_points_are_told_before_the_end(self, told):
        told.say(start(), survey(0, 10))
        told.say(survey(10, 3), preview(12), last_picture(), after_s=0.1)
        assert told.events("maps")[-1]["points_mapped"] == 13
        assert told.events("diffraction")[-1]["pattern_index"] == 12
        assert told.names()[-1] == "stop"
        told.say(survey(0, 10), preview(12), after_s=100)
        assert told.names()[-1] == "stop", "what is said of it late begins nothing"

    def test_a_growing_scan_is_not_described_at_each_event(self, told):
        told.say(start())
        for i in range(60):
            told.say(survey(30 * i, 30, columns=30), after_s=1)
        described = [doc["name"] for doc in told.of("descriptor")]
        assert len(told.events("maps")) == 60
        assert described.count("maps") <= 9
        check(told.documents)

    def test_a_scan_of_which_only_they_are_heard(self, told):
        told.say(survey(0, 3), preview())
        assert told.documents == []
        told.say(after_s=3)
        assert told.names()[0] == "start"
        assert len(told.events("maps")) == len(told.events("diffraction")) == 1
        check(told.documents)


class TestBeginning:
    def test_waits_a_little_for_the_start_message(self, told):
        assert told.say(snapshot(1), word()) == []
        told.say(start(expected=7), after_s=2)
        (begin,) = told.of("start")
        assert begin["frames_expected"] == 7
        assert len(told.events("object")) == 1

    def test_does_without_it_if_it_was_missed(self, told):
        told.say(snapshot(1))
        told.say(after_s=3)
        (begin,) = told.of("start")
        assert begin["frames_expected"] == 0
        assert "wavelength_m" not in begin
        told.say(start(), after_s=1)
        assert len(told.of("start")) == 1
        check(told.documents)

    def test_of_a_final_picture_out_of_nowhere(self, told):
        told.say(last_picture())
        check(told.documents)
        assert [n for n in told.names() if n != "descriptor"] == ["start", "event", "event", "event", "stop"]

    def test_a_last_word_does_not_begin_a_run(self, told):
        told.say(word(state=ServiceState.DONE), word("receive", ServiceState.DONE), end(), after_s=100)
        told.say(word("receive", ServiceState.IDLE, scan_id=None, started_ns=0), CodecError("x", "y"))
        told.say(word("write", ServiceState.RECEIVING))
        told.say(after_s=100)
        assert told.finish() == []
        assert told.documents == []

    def test_a_scan_without_pictures(self, told):
        told.say(start(), word("receive", ServiceState.RECEIVING, used=3), after_s=0.1)
        told.say(end(EndReason.ABORTED), word("receive", ServiceState.DONE, used=3))
        told.say(word(state=ServiceState.DONE, no_picture=True))
        check(told.documents)
        (stop,) = told.of("stop")
        assert (stop["exit_status"], stop["reason"]) == ("fail", "nothing could be reconstructed")
        assert told.events("progress")[-1]["frames_received"] == 3

    def test_a_scan_that_cannot_be_reconstructed(self, told):
        told.say(start())
        told.say(word(state=ServiceState.DONE, failure="frames too large"), after_s=1)
        (stop,) = told.of("stop")
        assert (stop["exit_status"], stop["reason"]) == ("fail", "frames too large")
        told.say(start(), word("receive", ServiceState.RECEIVING, used=3), after_s=1)
        assert len(told.of("start")) == 1, "the receiver goes on with it"


class TestSeveral:
    def test_scans_in_a_row(self, told):
        for i in range(5):
            whole_scan(told, scan_id=f"scan-{i}", started_ns=STARTED_NS + i)
        check(told.documents)
        assert [(d["scan_id"], d["scan_name"]) for d in told.of("start")] == [(i + 1, f"scan-{i}") for i in range(5)]
        assert len(told.of("stop")) == 5

    def test_the_same_id_again(self, told):
        whole_scan(told)
        told.say(word(state=ServiceState.DONE), word("receive", ServiceState.DONE), last_picture(), after_s=1)
        assert len(told.of("start")) == 1, "its last words are repeated"
        whole_scan(told, started_ns=AGAIN_NS)
        check(told.documents)
        assert [d["scan_started_ns"] for d in told.of("start")] == [STARTED_NS, AGAIN_NS]

    def test_the_same_id_again_without_a_time(self, told):
        for count in (1, 2, 3):
            whole_scan(told, started_ns=0)
            told.say(word(state=ServiceState.DONE, started_ns=0), last_picture(started_ns=0), after_s=1)
            assert len(told.of("stop")) == count
        check(told.documents)

    def test_at_once(self, told):
        told.say(start(), start(scan_id="next", started_ns=AGAIN_NS))
        told.say(snapshot(1), snapshot(2, scan_id="next", started_ns=AGAIN_NS))
        told.say(last_picture(), end())
        told.say(last_picture(scan_id="next", started_ns=AGAIN_NS))
        check(told.documents)
        assert len(told.of("stop")) == 2

    def test_are_bounded(self, told):
        count = _REMEMBERED + 20
        for i in range(count):
            told.say(start(scan_id=f"s{i}"), word(scan_id=f"s{i}"))
        told.finish()
        check(told.documents)
        assert len(told.of("start")) == len(told.of("stop")) == count
        reasons = [d["reason"] for d in told.of("stop")]
        assert reasons.count("the documents service was stopped") == MAX_OPEN_RUNS
        assert {d["exit_status"] for d in told.of("stop")} == {"abort"}
        assert len(told.composer._ended) <= _REMEMBERED
        assert len(told.composer._scans) == 0


class TestSilence:
    def test_of_the_reconstruction_after_the_scan(self, told):
        """As after a restart: the new process knows nothing of the scan."""
        told.say(start(), snapshot(1), word(used=1))
        for _ in range(100):
            told.say(word("receive", ServiceState.RECEIVING, used=5), after_s=1)
        assert told.of("stop") == []
        told.say(end(), word("receive", ServiceState.DONE, used=5))
        told.say(word("receive", ServiceState.DONE, used=5), after_s=SILENCE_S - 1)
        assert told.of("stop") == []
        told.say(after_s=1)
        (stop,) = told.of("stop")
        assert (stop["exit_status"], stop["reason"]) == ("abort", "nothing was heard of the reconstruction for 60 s")
        check(told.documents)

    def test_of_everybody(self, told):
        told.say(start(), snapshot(1))
        told.say(after_s=SILENCE_S)
        (stop,) = told.of("stop")
        assert stop["exit_status"] == "abort"

    def test_while_it_is_polished_is_none(self, told):
        told.say(start(), end(), word("receive", ServiceState.DONE))
        for i in range(200):
            told.say(word(state=ServiceState.POLISHING, used=i), after_s=10)
        assert told.of("stop") == []

    def test_a_final_picture_that_was_missed(self, told):
        told.say(start(), snapshot(1), end())
        told.say(word(state=ServiceState.DONE, used=3))
        told.say(word(state=ServiceState.DONE, used=3), after_s=4)
        assert told.of("stop") == []
        told.say(after_s=1)
        (stop,) = told.of("stop")
        assert (stop["exit_status"], stop["reason"]) == ("success", "complete; the final picture was missed")


class TestUnknown:
    def test_the_error_of_a_first_frame(self, told):
        told.say(start(), word(used=1, error=1e-13))
        told.say(snapshot(1, frames_used=1, error=1e-13), after_s=1)
        told.say(word(used=9, time_ns=STARTED_NS + 9, error=0.2), after_s=1)
        assert [event["error"] for event in told.events("progress")][-2:] == [1.0, 0.2]
        assert min(event["error"] for event in told.events("progress")) == 0.2
        assert told.events("object")[0]["object_error"] == 1.0

    def test_figures_that_are_not_numbers(self, told):
        nothing = float("nan")
        told.say(start(metadata={"a": nothing, "b": math.inf, "x.y": 1, "x/y": 2, "": 3}))
        told.say(word(error=nothing, updates_hz=math.inf, lag_s=nothing), after_s=1)
        told.say(word("receive", ServiceState.RECEIVING, rate_hz=-math.inf), after_s=1)
        told.say(snapshot(1, error=nothing), after_s=1)
        figures = {"resolution_m": nothing, "photons_per_frame": math.inf, "a": 1.0}
        curve = np.array([1, nothing, 3], np.float32)
        told.say(assessment(figures=figures, frequency_per_m=curve, ring_correlation=curve), after_s=1)
        told.say(assessment(figures={"resolution_m": 0.0}), after_s=1)
        check(told.documents)
        for progress in told.events("progress"):
            assert (progress["error"], progress["resolution_m"], progress["lag_s"]) == (1.0, 1.0, -1.0)
        assert told.events("object")[0]["object_error"] == 1.0
        quality = told.events("quality")
        assert quality[0]["quality_figures"] == '{"a": 1.0}'
        assert quality[0]["ring_correlation"].tolist() == [1, 3]
        assert [q["quality_resolution_m"] for q in quality] == [1.0, 1.0]
        assert told.of("start")[0]["scan_metadata"] == {"a": "nan", "b": "inf", "x_y": 1, "x_y_2": 2, "_": 3}

    def test_the_newer_word_counts(self, told):
        told.say(start(), word(used=30, time_ns=STARTED_NS + 2, error=0.3, updates=30))
        told.say(snapshot(1, time_ns=STARTED_NS + 1), after_s=1)
        assert told.events("progress")[-1]["error"] == 0.3
        told.say(snapshot(2, time_ns=STARTED_NS + 3), after_s=1)
        assert told.events("progress")[-1]["error"] == snapshot(2).error
        assert told.events("progress")[-1]["updates"] == 50
