"""What the page remembers: the newest of everything, bounded, whatever comes in whatever order."""

import json
from dataclasses import replace

import numpy as np
import pytest

from streamptycho.display.points import MAX_POINTS, Points
from streamptycho.messages.live import PointState, Survey
from streamptycho.messages.reasons import ServiceState, Stream
from streamptycho.messages.status import AnyStatus, ReceiveStatus
from streamptycho.messages.stream import ScanEnd
from streamptycho_services.dashboard import state as state_module
from streamptycho_services.dashboard.history import Curve, History, Moment
from streamptycho_services.dashboard.state import MAX_SCANS, State, plain
from tests import statuses
from tests.files.factories import snapshot


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def state(clock) -> State:
    return State(lambda snapshot, key: {"phase": b"x" * 1000}, clock)


def show(state: State, message) -> None:
    scan = state.take(message)
    if scan is not None:
        state.keep(scan)


def shot(sequence: int, scan_id: str = "s", started_ns: int = 5, **changes):
    history = changes.pop("error_history", np.linspace(1, 0.1, sequence, dtype=np.float32))
    made = snapshot(sequence, scan_id=scan_id, started_ns=started_ns)
    return replace(made, **({"error_history": history, "final": False, "time_ns": 10**9 * (1 + sequence)} | changes))


def status(service: str = "receive", state: ServiceState = ServiceState.RECEIVING, **changes) -> AnyStatus:
    return statuses.status(service, state, **({"started_ns": 5} | changes))


def block(index, known: int = 0, value: float = 1.0, **changes) -> Survey:
    index = np.asarray(index, np.int64)
    n = len(index)
    fields = {
        "scan_id": "s",
        "started_ns": 5,
        "time_ns": 1,
        "known": known or n,
        "index": index,
        "yx_m": np.stack([index, 2 * index], axis=1).astype(float),
        "counts": np.full(n, value, np.float32),
        "dark_field": np.zeros(n, np.float32),
        "centre_px": np.zeros((n, 2), np.float32),
        "state": np.zeros(n, np.uint8),
    }
    return Survey(**(fields | changes))


class TestFacts:
    def test_nothing_yet(self, state):
        report = state.report(None)
        assert (report["key"], report["facts"], report["scans"]) == (None, None, [])

    def test_remarks_of_no_scan_are_the_newest(self, state):
        remarks = ("detector.frames: not understood",)
        state.take(ReceiveStatus(state=ServiceState.IDLE, time_ns=5, stream_remarks=remarks))
        assert state.report(None)["stream_remarks"] == list(remarks)
        state.take(status(time_ns=4))  # last words, repeated
        assert state.report(None)["stream_remarks"] == list(remarks)
        state.take(ReceiveStatus(state=ServiceState.IDLE, time_ns=6))
        assert state.report(None)["stream_remarks"] == []

    def test_the_health_strip(self, state, clock):
        figures = {"rate_hz": 50.0, "expected": 100, "unique": 38, "positions": 41, "rejected": {"x": 2}}
        state.take(status(used=36, waiting=2, dropped={"duplicate": 2}, **figures))
        engine = {"error": 0.02, "lag_s": 0.3, "passes": 4, "device": "2 cores", "time_ns": 10**10}
        state.take(status("reconstruct", ServiceState.RECONSTRUCTING, used=30, waiting=6, **engine))
        state.take(shot(3))
        clock.now_s += 1.5
        facts = state.report(None)["facts"]
        assert (facts["received"], facts["used"], facts["waiting"], facts["dropped"]) == (40, 30, 8, {"duplicate": 2})
        assert (facts["expected"], facts["rate_hz"], facts["eta_s"]) == (100, 50.0, pytest.approx(1.2))
        assert (facts["unmatched"], facts["missing"], facts["rejected"]) == (2, None, 2)
        assert (facts["lag_s"], facts["error"], facts["device"]) == (0.3, 0.02, "2 cores")
        assert facts["picture_age_s"] == pytest.approx(1.5)
        assert facts["state"] == "reconstructing"

    def test_what_is_missing_is_known_at_the_end(self, state):
        state.take(status(state=ServiceState.DONE, used=90, expected=100, unique=90))
        facts = state.report(None)["facts"]
        assert (facts["missing"], facts["eta_s"]) == (10, None)
        assert facts["complete"] is None, "the file is not closed yet"

    def test_numbers_that_json_does_not_know(self, state):
        state.take(status("reconstruct", error=float("nan"), lag_s=float("inf")))
        facts = state.report(None)["facts"]
        assert (facts["error"], facts["lag_s"]) == (None, None)
        json.dumps(state.report(None), allow_nan=False)

    def test_plain_goes_all_the_way_down(self):
        assert plain({"a": [float("nan"), (1.5, float("-inf"))], 3: "x"}) == {"a": [None, [1.5, None]], "3": "x"}

    def test_what_went_wrong(self, state):
        state.take(status("write", failure="disk full", used=7, dropped={"failed": 3}))
        facts = state.report(None)["facts"]
        assert facts["problem"] == "write: disk full"
        assert "3 of 10 frames not written" in facts["write_problem"]

    def test_idle_services_are_heard(self, state, clock):
        state.take(status(scan_id=None, started_ns=0))
        clock.now_s += 4
        report = state.report(None)
        assert report["silence_s"] == {"receive": 4.0}
        assert report["key"] is None

    def test_what_is_not_for_the_eye_is_left_out(self, state):
        state.take(ScanEnd(scan_id="s", stream=Stream.FRAMES, count=1))
        assert state.version == 0


class TestScans:
    def test_the_one_that_began_last_is_the_newest(self, state):
        state.take(shot(1, "b", 20))
        state.take(shot(1, "a", 10))
        assert state.newest.run.scan_id == "b"
        assert [scan.key for scan in state.scans] == ["a@10", "b@20"]
        assert state.report("a@10")["facts"]["scan"] == "a"

    def test_two_runs_of_one_id_are_two_scans(self, state):
        state.take(shot(4, "s", 5))
        state.take(shot(1, "s", 9))
        assert [scan.key for scan in state.scans] == ["s@5", "s@9"]
        assert state.scan("s@5").snapshot.sequence == 4

    def test_who_does_not_know_its_run_means_the_newest(self, state):
        state.take(shot(1, "s", 5))
        state.take(status("write", started_ns=0))
        assert [scan.key for scan in state.scans] == ["s@5"]

    def test_an_older_picture_does_not_replace_a_newer_one(self, state):
        state.take(shot(4))
        state.take(shot(3))
        assert state.newest.snapshot.sequence == 4

    def test_scans_without_end_are_bounded(self, state):
        for i in range(3 * MAX_SCANS):
            show(state, shot(1, f"s{i}", i + 1, final=True))
        assert len(state.scans) == MAX_SCANS
        assert state.newest.run.scan_id == f"s{3 * MAX_SCANS - 1}"
        whole = [scan for scan in state.scans if scan.snapshot is not None]
        assert len(whole) == state_module.WHOLE_SNAPSHOTS
        assert all(scan.history.moments for scan in state.scans)

    def test_a_key_that_is_unknown(self, state):
        assert state.report("none")["facts"] is None


class TestHistory:
    def test_is_spread_over_the_scan_and_bounded(self):
        history = History(16)
        for sequence in range(1000):
            made = shot(sequence)
            if history.wants(made):
                history.add(Moment(sequence, made.time_ns, 1, 0.1, False, {}))
        sequences = [moment.sequence for moment in history.moments]
        assert 8 <= len(sequences) <= 16
        assert sequences[0] == 0
        assert sequences[-1] > 900
        assert max(np.diff(sequences)) <= 4 * min(np.diff(sequences))

    def test_the_last_picture_is_always_kept(self):
        history = History(4)
        for sequence in range(9):
            history.add(Moment(sequence, sequence, 1, 0.1, False, {}))
        assert history.wants(shot(9, final=True, time_ns=8))
        history.add(Moment(9, 8, 1, 0.1, True, {}))
        assert history.at(9).final
        history.only_last()
        assert [moment.sequence for moment in history.moments] == [9]
        assert history.at(0) is None

    def test_memory_of_all_scans_is_bounded(self, state, monkeypatch):
        monkeypatch.setattr(state_module, "HISTORY_BYTES", 20_000)
        for i in range(4):
            for sequence in range(12):
                show(state, shot(sequence, f"s{i}", i + 1))
        assert state._history_bytes() <= 20_000
        assert len(next(iter(state.scans)).history.moments) == 1
        assert len(state.newest.history.moments) == 12


class TestCurve:
    def test_goes_on_where_the_reconstruction_begins_again(self):
        curve = Curve()
        curve.take(np.array([3, 2, 1], np.float32), 30)
        curve.take(np.array([3, 2, 1, 0.5], np.float32), 40)
        curve.take(np.array([9], np.float32), 10)
        assert curve.shown() == ([1, 2, 3, 4, 5], [3, 2, 1, 0.5, 9])
        assert curve.restarts == [4]

    def test_a_reset_that_keeps_its_history_is_marked(self):
        curve = Curve()
        curve.take(np.array([3, 2], np.float32), 20)
        curve.take(np.array([3, 2], np.float32), 5)
        curve.take(np.array([3, 2, 4], np.float32), 15)
        assert curve.restarts == [2]
        assert curve.shown() == ([1, 2, 3], [3, 2, 4])

    def test_long_ones_are_thinned_and_bounded(self):
        curve = Curve()
        for _ in range(5):
            curve.take(np.linspace(1, 0, 15_000, dtype=np.float32), 15_000)
            curve.take(np.zeros(0, np.float32), 0)
        assert len(curve.earlier) + len(curve.present) <= 20_000
        passes, errors = curve.shown()
        assert len(passes) == len(errors) <= 601
        assert passes[-1] == len(curve.earlier) + len(curve.present)
        assert all(0 < restart <= 20_000 for restart in curve.restarts)


class TestPoints:
    def test_blocks_in_any_order_repeated(self):
        points = Points()
        points.take(block([4, 5, 6]))
        points.take(block([0, 1], known=9))
        before = points.version
        points.take(block([4, 5, 6], known=9))
        assert points.version == before, "nothing new, nothing to draw"
        assert points.index.tolist() == [0, 1, 4, 5, 6]
        assert points.yx_m[:, 1].tolist() == [0, 2, 8, 10, 12]
        assert points.known == 9

    def test_a_point_told_anew_replaces_the_old(self):
        points = Points()
        points.take(block([1, 2, 3]))
        points.take(block([2, 7], known=4, value=5.0))
        assert points.counts.tolist() == [1, 5, 1, 5]
        assert points.version == 2

    def test_a_point_changes_its_state(self):
        points = Points()
        points.take(block([1, 2, 3], known=2, state=np.array([0, 0, PointState.LOST], np.uint8)))
        assert points.measured.tolist() == [0, 1]
        points.take(block([2, 3], known=3, state=np.array([1, 1], np.uint8)))
        assert points.state.tolist() == [0, 1, 1]
        assert points.version == 2
        points.take(block([2, 3], known=3, state=np.array([1, 1], np.uint8)))
        assert points.version == 2

    def test_lost_points_are_not_those_of_a_log_given_up(self):
        points = Points()
        points.take(block([0, 1, 2, 3], known=3, state=np.array([1, 1, 1, PointState.LOST], np.uint8)))
        points.take(block([10, 11], known=2))
        assert points.index.tolist() == [3, 10, 11]
        version = points.version
        points.take(block([3], known=1, state=np.array([PointState.LOST], np.uint8)))
        assert points.index.tolist() == [3]
        assert points.version > version, "there is something new to show"
        points.take(block([10, 11], known=2))
        points.take(block([12, 13, 14], known=3))
        assert points.index.tolist() == [3, 12, 13, 14], "more in work than there are: the rest was of another log"

    def test_frozen_does_not_change(self):
        points = Points()
        points.take(block([1]))
        frozen = points.frozen()
        points.take(block([2], known=2))
        assert (len(frozen), len(points)) == (1, 2)

    def test_bounded(self):
        points = Points()
        points.take(block(np.arange(MAX_POINTS - 1)))
        points.take(block(np.arange(MAX_POINTS, MAX_POINTS + 5), known=MAX_POINTS + 4))
        assert len(points) == MAX_POINTS - 1

    def test_outliers_given_up_are_forgotten(self):
        points = Points()
        points.take(block([0, 1, 2]))
        before = points.version
        points.take(block([4], known=1))
        assert (points.index.tolist(), points.known) == ([4], 1)
        assert points.version > before

    def test_outliers_are_forgotten_though_the_log_has_outgrown_them(self):
        """Two blocks lie half a second apart: a fast scan has more points by then than were given up."""
        points = Points()
        points.take(block([0, 1, 2]))
        points.take(block(np.arange(4, 54)))
        assert points.index.tolist() == list(range(4, 54))
        points.take(block(np.arange(54, 60), known=56))
        assert len(points) == 56

    def test_outliers_are_forgotten_though_not_all_points_have_come(self):
        points = Points()
        points.take(block([0, 1, 2]))
        points.take(block(np.arange(4, 24), known=50))
        points.take(block(np.arange(24, 54), known=50))
        points.take(block(np.arange(4, 34), known=50))
        assert points.index.tolist() == list(range(4, 54))

    def test_lost_blocks_are_no_new_beginning(self):
        points = Points()
        points.take(block([0, 1, 2], known=3))
        points.take(block([40, 41], known=42))
        assert points.index.tolist() == [0, 1, 2, 40, 41]


def test_keeping_costs_a_fiftieth_of_the_time_at_most(clock):
    def slow(snapshot, key):
        clock.now_s += 0.1
        return {"phase": b""}

    state = State(slow, clock)
    for sequence in range(250):
        clock.now_s += 0.1
        show(state, shot(sequence, time_ns=sequence * 10**8))
    assert 4 <= len(state.newest.history.moments) <= 6
