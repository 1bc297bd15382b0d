"""The reconstruct stage: how scans share the time, when pictures are shown, and what becomes of frames that are no use."""

import dataclasses
import logging
import math
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from streamptycho.assess import halves
from streamptycho.display.ledger import Ledger, combine
from streamptycho.display.points import Points
from streamptycho.errors import CodecError
from streamptycho.messages.kinds import Message
from streamptycho.messages.live import Action, Command, PointState, Preview, Survey
from streamptycho.messages.payload import Payload
from streamptycho.messages.reasons import EndReason, ServiceState, Stream
from streamptycho.messages.results import Assessment, Estimates, Snapshot
from streamptycho.messages.run import RunId
from streamptycho.messages.status import ReceiveStatus, ReconstructStatus, Status
from streamptycho.messages.stream import Frame, Positions, ScanEnd, ScanStart
from streamptycho.pipeline import missed, reconstruction
from streamptycho.pipeline import survey as points
from streamptycho.pipeline.options import ReconstructOptions
from streamptycho.pipeline.reconstruct import ReconstructStage
from streamptycho.pipeline.stage import Port
from streamptycho.preprocess.options import FrameOptions, PositionOptions
from streamptycho.solve.settings import EngineOptions
from streamptycho.solve.start.trust import Trust
from streamptycho_sim.scan import ProbeStart
from tests.hostile import GOOD
from tests.scans import Clock, balanced, broken_frame, end, frame, only, start
from tests.sim.helpers import SMALL, small

SCAN = small(frames=24, probe_start=ProbeStart.TRUE)
COUNTS = list(SCAN.counts())
START = SCAN.start(1)
START_RUN = RunId("s", 1)


def begin(scan_id: str = "s", **changes: Any) -> ScanStart:
    values: dict[str, Any] = {"geometry": START.geometry, "dtype": START.dtype, "started_ns": 1, "probe": START.probe}
    return ScanStart(scan_id=scan_id, **(values | changes))


def point(index: int, scan_id: str = "s", **changes: Any) -> Frame:
    pixels = changes.pop("pixels", COUNTS[index % len(COUNTS)])
    block = Frame(
        scan_id=scan_id, index=np.array([index]), timestamp_ns=np.array([10**9]), payload=Payload.raw(pixels[None])
    )
    return changes.pop("frame", block).taken(np.array([changes.pop("yx_m", SCAN.yx_m[index % len(COUNTS)])]))


STATUS = ReceiveStatus(scan_id="s1", state=ServiceState.RECEIVING, time_ns=5, started_ns=START.started_ns)


def over(scan_id: str = "s", reason: EndReason = EndReason.COMPLETE, count: int = 24) -> ScanEnd:
    return end(count, Stream.SCAN, scan_id, reason)


class Run:
    """A stage with a clock that moves a hundredth of a second at each look."""

    def __init__(
        self,
        step: float = 0.01,
        frames: dict[str, Any] | None = None,
        engine: dict[str, Any] | None = None,
        name: str = "reconstruct",
        **options: Any,
    ) -> None:
        self.clock = Clock(step)
        made = {"backend": "numpy", "polish_passes": 3, "slice_updates": 10, "max_object_pixels": 1 << 16}
        self.stage = ReconstructStage(
            ReconstructOptions(**options),
            FrameOptions(detect_bad_pixels=False, **(frames or {})),
            PositionOptions(),
            EngineOptions(**(made | (engine or {}))),
            self.clock,
            self.clock.ns,
            name=name,
        )
        self.out: list[tuple[Port, Message]] = []

    def __call__(self, *messages: object) -> "Run":
        for message in messages:
            self._take(self.stage.handle(message))
        return self

    def idle(self, times: int = 1) -> "Run":
        for _ in range(times):
            self._take(self.stage.idle())
        return self

    def until_done(self) -> "Run":
        for _ in range(500):
            if not self.stage.scans:
                return self
            self.idle()
        pytest.fail("the scans do not end")

    def finish(self) -> None:
        self._take(self.stage.finish())

    def _take(self, outputs: Iterable[tuple[Port, Message]]) -> None:
        for item in outputs:
            self.out.append(item)
            self.statuses()
        self.statuses()

    def statuses(self) -> list[Status]:
        found = self.stage.statuses()
        assert all(balanced(status) for status in found)
        assert all(status.waiting >= 0 for status in found)
        return found

    def to(self, port: Port, kind: type, scan_id: str = "s") -> list[Any]:
        return [m for m in only(kind, (m for p, m in self.out if p is port)) if m.scan_id == scan_id]

    def snapshots(self, scan_id: str = "s") -> list[Snapshot]:
        """Those shown; the first and the last of them are kept, and none that is not shown."""
        shown, kept = (self.to(port, Snapshot, scan_id) for port in (Port.DISPLAY, Port.RESULTS))
        assert [snapshot for snapshot in shown if snapshot in kept] == kept
        assert not shown or (shown[0], shown[-1]) == (kept[0], kept[-1])
        return shown

    def last_status(self, scan_id: str = "s") -> ReconstructStatus:
        """The last word, the same for writer and display."""
        status = self.to(Port.DISPLAY, Status, scan_id)[-1]
        assert status is self.to(Port.RESULTS, Status, scan_id)[-1]
        return status


def test_a_trusted_probe_starts_the_next_scan_of_the_same_geometry():
    run = Run()(begin("a"), *(point(i, "a") for i in range(24))).idle(5)
    run(begin("early", probe=None))
    assert run.stage.scans["early"].engine.probe_note == "not found yet", "nothing is known of the first probe yet"
    run.stage.scans["a"].engine._start.trust = Trust.CONFIDENT
    other = dataclasses.replace(START.geometry, wavelength_m=2 * START.geometry.wavelength_m)
    notes = {}
    for scan_id, changes in {"same": {}, "other": {"geometry": other}, "own": {"probe": START.probe}}.items():
        run(begin(scan_id, **({"probe": None} | changes)))
        notes[scan_id] = run.stage.scans[scan_id].engine.probe_note
    assert notes == {"same": "from the previous scan", "other": "not found yet", "own": "recorded with the scan"}
    before = run.stage.scans["own"].engine.trust
    assert run.stage.statuses()[-1].trust == before.value == "uncertain"


def test_a_scan_from_start_to_final_picture():
    run = Run()(begin(), *map(point, range(24))).idle(5)
    assert run.stage.busy
    assert run.statuses()[0].state is ServiceState.RECONSTRUCTING
    assert run.statuses()[0].lag_s is not None
    run(over())
    assert run.statuses()[0].state is ServiceState.POLISHING
    assert run.statuses()[0].lag_s is None
    run.until_done()
    assert not run.stage.busy
    pictures = run.snapshots()
    assert [p.sequence for p in pictures] == list(range(len(pictures)))
    assert [p.final for p in pictures] == [False] * (len(pictures) - 1) + [True]
    final = pictures[-1]
    assert (final.frames_used, final.scan_id) == (24, "s")
    assert final.error < 0.2
    assert final.covered.sum() > SMALL**2 / 4
    assert final.pixel_m == pytest.approx(SCAN.pixel_m)
    assert len(final.error_history) >= 3
    status = run.last_status()
    assert (status.state, status.received, status.used, status.dropped) == (ServiceState.DONE, 24, 24, {})
    assert run.statuses()[0].state is ServiceState.IDLE


def test_the_final_count_comes_before_the_final_picture():
    run = Run()(begin(), *map(point, range(24)), over()).until_done()
    results = [m for port, m in run.out if port is Port.RESULTS]
    assert isinstance(results[-2], Status)
    assert results[-2].state is ServiceState.DONE
    assert results[-1].final


def test_pictures_come_by_the_clock():
    run = Run(step=0.0, snapshot_s=0.5, display_s=0.1)
    run.clock.step = 0.0001
    run(begin(), *map(point, range(24)))
    engine = run.stage.scans["s"].engine
    engine.step_slice()
    for _ in range(20):
        list(run.stage._show_if_due(run.stage.scans["s"]))
    times: dict[Port, list[float]] = {Port.DISPLAY: [], Port.RESULTS: []}
    for _ in range(200):
        run.clock.now += 0.01
        for port, _ in run.stage._show_if_due(run.stage.scans["s"]):
            times[port].append(run.clock.now)
    assert np.diff(times[Port.DISPLAY]) == pytest.approx(0.1, abs=0.03)
    assert np.diff(times[Port.RESULTS]) == pytest.approx(0.5, abs=0.12)


def test_pictures_take_a_twentieth_of_the_time_at_most(monkeypatch):
    run = Run(snapshot_s=0.1)(begin(), *map(point, range(24)))
    scan = run.stage.scans["s"]
    picture = scan.engine.picture

    def slow():
        run.clock.now += 1.0
        return picture()

    monkeypatch.setattr(scan.engine, "picture", slow)
    scan.engine.step_slice()
    run.idle()
    then = run.clock.now
    assert len(run.snapshots()) == 1
    while len(run.snapshots()) == 1:
        run.clock.now += 0.5
        run.idle()
    assert run.clock.now - then > 19


def test_nothing_is_shown_before_there_is_a_picture():
    run = Run()(begin(probe=None), *map(point, range(5))).idle(20)
    assert run.snapshots() == []
    assert run.statuses()[0].waiting == 5


def test_snapshots_do_not_change_with_the_engine():
    run = Run(snapshot_s=0.01)(begin(), *map(point, range(24))).idle(3)
    first = run.snapshots()[0]
    engine = run.stage.scans["s"].engine
    solver = engine._solver
    for array in (first.object, first.covered, first.probe, first.error_history):
        assert not np.shares_memory(array, solver.canvas.object)
        assert not np.shares_memory(array, solver.probe)
        assert not array.flags.writeable
    before = [np.array(a) for a in (first.object, first.probe)]
    run.idle(10)
    assert (np.array(solver.probe) != before[1]).any(), "the engine must have moved on"
    assert (first.object == before[0]).all()
    assert (first.probe == before[1]).all()


def test_an_interrupted_scan_ends_at_once():
    run = Run()(begin(), *map(point, range(24))).idle(2)(over(reason=EndReason.INTERRUPTED))
    assert not run.stage.scans
    assert run.snapshots()[-1].final


def test_finish_shows_every_scan_as_it_is():
    run = Run()(begin("a"), begin("b"), *(point(i, s) for i in range(24) for s in "ab")).idle(8)
    run.finish()
    assert not run.stage.scans
    assert [run.snapshots(s)[-1].final for s in "ab"] == [True, True]


# several scans


def spy(run: Run, monkeypatch) -> Counter[str]:
    turns: Counter[str] = Counter()
    for scan_id, scan in run.stage.scans.items():
        step = scan.engine.step

        def counted(*args: Any, scan_id: str = scan_id, step: Any = step) -> int:
            turns[scan_id] += 1
            return step(*args)

        monkeypatch.setattr(scan.engine, "step", counted)
    return turns


def test_the_newest_scan_gets_three_slices_of_four(monkeypatch):
    run = Run()(begin("a"), begin("b"), *(point(i, s) for i in range(8) for s in "ab"))
    turns = spy(run, monkeypatch)
    run.idle(40)
    assert turns == {"a": 10, "b": 30}


def test_earlier_scans_take_turns(monkeypatch):
    run = Run()(begin("a"), begin("b"), begin("c"), *(point(i, s) for i in range(8) for s in "abc"))
    turns = spy(run, monkeypatch)
    run.idle(80)
    assert turns == {"a": 10, "b": 10, "c": 60}


def test_a_scan_without_frames_yet_leaves_the_time_to_the_others(monkeypatch):
    run = Run()(begin("a"), *(point(i, "a") for i in range(8)), begin("b"))
    turns = spy(run, monkeypatch)
    run.idle(8)
    assert turns == {"a": 8}


def test_beyond_the_limit_the_oldest_scan_ends_as_it_is():
    run = Run(max_scans=2)(begin("a"), *(point(i, "a") for i in range(24))).idle(2)(begin("b"), begin("c"))
    assert list(run.stage.scans) == ["b", "c"]
    assert run.snapshots("a")[-1].final
    assert run.last_status("a").state is ServiceState.DONE


def test_the_same_id_again_ends_the_first():
    run = Run()(begin(), *map(point, range(24))).idle(2)(begin())
    assert run.snapshots()[-1].final
    assert run.statuses()[0].received == 0
    run(point(0), over()).until_done()
    assert run.last_status().received == 1


# frames that are no use


def test_a_frame_that_does_not_decode_is_counted():
    run = Run()(begin(), point(0), point(1, frame=broken_frame(1, shape=(SMALL, SMALL))), point(2)).idle(3)
    (status,) = run.statuses()
    assert (status.received, status.dropped) == (3, {"corrupt": 1})
    assert status.used == 2


def test_an_empty_frame_is_counted():
    run = Run()(begin(), point(0, pixels=np.zeros_like(COUNTS[0])), point(1)).idle(3)
    (status,) = run.statuses()
    assert (status.received, status.used, status.dropped) == (2, 1, {"empty": 1})


@pytest.mark.parametrize("yx_m", [(1.0, 0.0), (1e300, -1e300), (0.0, -1.7e308)])
def test_a_frame_far_outside_is_counted(yx_m):
    run = Run()(begin(), point(0), point(1, yx_m=yx_m), point(2)).idle(3)
    (status,) = run.statuses()
    assert (status.received, status.used, status.dropped) == (3, 2, {"outside": 1})


def test_pixels_that_are_not_finite_do_no_harm():
    pixels = COUNTS[3].astype(np.float32)
    pixels[4:9, 2] = np.nan
    pixels[0, 0] = np.inf
    run = Run()(begin(dtype=np.dtype(np.float32)))
    run(*(point(i, pixels=c.astype(np.float32)) for i, c in enumerate(COUNTS[:12])), point(12, pixels=pixels))
    run(point(13, pixels=np.full_like(pixels, np.nan)), over()).until_done()
    assert run.last_status().dropped == {"empty": 1}
    final = run.snapshots()[-1]
    assert np.isfinite(final.object).all()
    assert np.isfinite(final.probe).all()
    assert np.isfinite(final.error)


# points that the receiver has sent and that did not come


def sent(points: int, scan_id: str = "s", state: ServiceState = ServiceState.DONE) -> ReceiveStatus:
    return ReceiveStatus(scan_id=scan_id, state=state, time_ns=5, started_ns=1, received=points, used=points)


def test_points_that_the_receiver_has_sent_and_that_did_not_come_are_lost():
    run = Run()(begin(), *map(point, range(16)), sent(20, state=ServiceState.RECEIVING)).idle(3)
    assert run.statuses()[0].dropped == {}, "they may be on their way"
    run(sent(24), over()).until_done()
    status = run.last_status()
    assert (status.received, status.used, status.waiting, status.dropped) == (24, 16, 0, {"lost": 8})
    assert run.stage.rejected["unexpected_kind"] == 1


def test_with_the_receivers_count_nothing_waits_for_ever():
    """Of 24 points 7 did not come: the ledger over both services ends with nothing under way."""
    run = Run()(begin(), *map(point, range(17)), sent(24), over()).until_done()
    ledger = combine(sent(24), run.last_status())
    assert ledger == Ledger(received=24, used=17, waiting=0, dropped={"lost": 7})


def test_a_point_that_comes_after_all_is_late_and_no_longer_lost():
    run = Run()(begin(), *map(point, range(23)), sent(24), over())
    run.clock.now += missed.NAMED_S
    run.idle()
    assert run.statuses()[0].dropped == {"lost": 1}
    run(point(23))
    assert run.statuses()[0].dropped == {"late": 1}
    soon = Run()(begin(), *map(point, range(23)), sent(24), over()).idle()(point(23)).until_done()
    assert soon.last_status().dropped == {}


def test_of_a_scan_that_failed_lost_points_are_counted_too():
    run = Run(frames={"crop": 512})(begin(), *map(point, range(5)), sent(9), over())
    assert (run.last_status().received, run.last_status().dropped) == (9, {"failed": 5, "lost": 4})


def test_the_count_of_another_run_is_not_believed():
    run = Run()(begin(started_ns=2), *map(point, range(20)), sent(24), over()).until_done()
    assert run.last_status().dropped == {}
    assert run.stage.rejected == {"stray": 1}


def test_frames_of_which_none_fits_are_told_in_the_log_and_by_a_finding(caplog):
    """As with a large sensor that is not cropped."""
    with caplog.at_level(logging.WARNING):
        run = Run(assess_s=0.1)(start("s", shape=(160, 160)))
        run(*(point(i, pixels=np.ones((160, 160), np.uint16), yx_m=(0.0, 0.0)) for i in range(4))).idle(60)
        (warning,) = [record.getMessage() for record in caplog.records]
    assert "outside" in warning
    assert "engine.max_object_pixels" in warning
    assert "frame_size" in run.to(Port.DISPLAY, Assessment)[-1].findings
    run(over(count=4)).until_done()
    final = run.to(Port.RESULTS, Assessment)[-1]
    assert (final.final, final.trusted, list(final.findings)) == (True, False, ["frame_size"])
    assert run.last_status().dropped == {"outside": 4}
    assert run.last_status().no_picture


# scans that come to nothing


def test_a_scan_that_cannot_start_has_no_picture_and_counts_its_frames():
    run = Run(frames={"crop": 512})(begin())
    (status,) = run.to(Port.DISPLAY, Status)
    assert "preprocess.crop" in status.failure
    run(*map(point, range(5)), frame(0, dark=True), over())
    status = run.last_status()
    assert (status.received, status.dropped, status.state) == (5, {"failed": 5}, ServiceState.DONE)
    assert status.no_picture
    assert "preprocess.crop" in status.failure
    assert run.snapshots() == []
    assert not run.stage.busy


def test_after_a_scan_that_failed_the_next_one_works():
    run = Run()(begin("a", geometry=start(shape=(4, 4)).geometry, probe=None), begin("b"))
    run(*(point(i, s) for i in range(24) for s in "ab"), over("a"), over("b")).until_done()
    assert run.last_status("a").dropped == {"failed": 24}
    assert run.snapshots("b")[-1].final


def test_a_geometry_that_is_not_known_fails_by_name():
    unknown = dataclasses.replace(START.geometry, wavelength_m=math.nan, pitch_m=(math.nan, math.nan))
    run = Run()(begin(geometry=unknown), point(0), over())
    assert "wavelength_m, pitch_m: not known" in run.last_status().failure
    assert run.last_status().dropped == {"failed": 1}


def test_a_geometry_that_is_not_in_metres_fails():
    geometry = start(shape=(SMALL, SMALL)).geometry
    strange = type(geometry)(wavelength_m=1e-200, distance_m=1e-200, pitch_m=(1, 1), frame_shape=geometry.frame_shape)
    run = Run()(begin(geometry=strange), point(0), over())
    assert "metres" in run.last_status().failure
    assert run.last_status().dropped == {"failed": 1}


def test_a_scan_without_frames_has_no_picture():
    run = Run()(begin(), over(count=0))
    assert not run.stage.scans
    assert run.last_status().no_picture
    assert run.snapshots() == []


def test_a_scan_of_empty_frames_has_no_picture():
    run = Run()(begin(), *(point(i, pixels=np.zeros_like(COUNTS[0])) for i in range(3)), over()).until_done()
    assert run.last_status().no_picture
    assert run.last_status().dropped == {"empty": 3}


def test_memory_is_not_taken_on_the_word_of_a_start_message():
    run = Run()(begin(expected=2**62), begin("b", expected=7))
    sizes = {scan_id: scan.engine.store.amplitudes.nbytes for scan_id, scan in run.stage.scans.items()}
    assert sizes["s"] <= 1 << 30
    assert sizes["b"] < 1 << 20


# messages that do not belong here


def test_dark_exposures_are_subtracted():
    dark = np.full((1, SMALL, SMALL), 20_000, START.dtype)
    run = Run()(begin())
    run(frame(0, dark=True, pixels=dark), point(0), point(1, pixels=np.full_like(COUNTS[0], 20_000)))
    assert run.statuses()[0].dropped == {"empty": 2}, "no pixel has more"
    bad = broken_frame(0, shape=(SMALL, SMALL))
    run(Frame(scan_id="s", index=bad.index, timestamp_ns=bad.timestamp_ns, payload=bad.payload, dark=True))
    assert run.stage.rejected == {"undecodable": 1}


def test_other_messages_are_counted():
    run = Run()(point(0), over(), CodecError("header", "bad"), STATUS)
    run(begin("s1"), GOOD["snapshot"], STATUS)
    assert run.stage.rejected == {"no_start": 3, "undecodable": 1, "unexpected_kind": 2}
    run(over("s1", count=0))
    status, _ = run.statuses()
    assert status.rejected["no_start"] == 3
    assert status.device == "CPU"


def test_unsent_pictures_are_skipped():
    run = Run(step=0.004)(begin(), *map(point, range(24))).idle(2)
    run.stage.unsent(Port.RESULTS, run.snapshots()[0])
    assert run.statuses()[0].received == 24


def test_a_stage_still_on_its_way_costs_its_own_frame_only():
    run = Run()(begin(), point(0, yx_m=(0.0, 5e-3)), *(point(i) for i in range(1, 12)), over())
    run.idle(60)
    results = [message for port, message in run.out if port is Port.RESULTS]
    final = only(Snapshot, results)[-1]
    status = [s for s in only(Status, results) if s.state is ServiceState.DONE][-1]
    assert final.final
    assert status.received == 12
    assert status.used >= 9, "the odd one, and at most those by which it is known"
    assert status.dropped == {"outside": 12 - status.used}


@pytest.mark.parametrize(
    "changes", [{"pixels": np.ones((3, 5), np.uint16)}, {"pixels": COUNTS[1].astype(np.float32)}, {"index": 2**62}]
)
def test_points_that_no_receiver_lets_through_are_counted(changes, caplog):
    changes = {"index": 1, **changes}
    run = Run()(begin(), point(0), point(**changes), point(2))
    assert run.stage.scans["s"].received == 2
    assert run.stage.rejected == {"unfit": 1}
    assert caplog.text.count("a message was refused: frame.") == 1


def test_a_scan_that_does_not_fit_into_memory_fails_and_the_next_goes_on(monkeypatch):
    def full(*_: object) -> None:
        raise MemoryError("256 GiB")

    with monkeypatch.context() as patch:
        patch.setattr(reconstruction, "RollingEngine", full)
        run = Run()(begin())
        reason = str(run.stage.failed["s"])
        assert "too large for the memory (256 GiB); crop or bin them" in reason
        assert not run.stage.scans
        run(*(begin(f"s{i}") for i in range(300)))
    assert list(run.stage.failed) == [f"s{i}" for i in range(200, 300)], "senders choose the ids: only the newest are kept"
    run(begin())
    assert run.stage.scans


def test_pictures_and_statuses_say_which_run_of_the_id_they_show():
    run = Run()(begin(started_ns=5), *map(point, range(24))).idle(2)(begin(started_ns=6), *map(point, range(24)))
    run(over()).until_done()
    finals = [s for s in run.snapshots() if s.final]
    assert [s.started_ns for s in finals] == [5, 6]
    assert [s.started_ns for s in run.to(Port.RESULTS, Status) if s.state is ServiceState.DONE] == [5, 6]


def test_the_last_word_on_a_scan_is_repeated_for_a_while():
    run = Run(frames={"crop": 512})(begin(started_ns=5), over(count=0))
    idle, last = run.statuses()
    assert idle.scan_id is None
    assert last is run.last_status()
    assert (last.state, last.started_ns) == (ServiceState.DONE, 5)
    run.clock.now += 5.1
    assert [s.scan_id for s in run.statuses()] == [None]


def shown(run: Run, kind: type) -> list[Any]:
    return [message for port, message in run.out if port is Port.DISPLAY and isinstance(message, kind)]


def test_points_and_patterns_are_shown_before_any_picture():
    run = Run(preview_s=0.05, survey_s=0.05)
    run(begin(probe=None), point(0), point(1)).idle(3)
    survey, preview = shown(run, Survey)[-1], shown(run, Preview)[-1]
    assert survey.index.tolist() == [0, 1]
    assert survey.counts[0] == pytest.approx(COUNTS[0].sum())
    np.testing.assert_allclose(survey.yx_m, [SCAN.yx_m[0], SCAN.yx_m[1]], atol=1e-12)
    assert preview.index == 1
    np.testing.assert_array_equal(preview.pattern, COUNTS[1])
    assert preview.binning == 1
    assert preview.valid.all()
    assert not preview.saturated.any()
    assert preview.crop_shape_px == COUNTS[1].shape
    assert not shown(run, Snapshot)


def test_every_point_is_shown_once_the_scan_ends():
    run = Run(survey_s=1e6)
    run(begin(), *(point(i) for i in range(24)), over()).until_done()
    assert set(np.concatenate([survey.index for survey in shown(run, Survey)]).tolist()) == set(range(24))


def states_shown(run: Run) -> dict[int, int]:
    blocks = shown(run, Survey)
    return {i: s for block in blocks for i, s in zip(block.index.tolist(), block.state.tolist(), strict=True)}


def test_points_are_shown_with_what_became_of_them():
    run = Run(survey_s=0.01)
    dark = np.zeros_like(COUNTS[0])
    run(begin(), *(point(i) for i in range(20)), point(20, pixels=dark), point(21, yx_m=(1e9, 0.0)))
    run.stage.scans["s"].paused = True
    run.idle()
    waiting = dict.fromkeys(range(20), PointState.WAITING)
    assert states_shown(run) == waiting | {20: PointState.REFUSED}, "what lies beyond all reason has no place"
    run.stage.scans["s"].paused = False
    lost = Positions(scan_id="s", index=np.array([3, 22]), yx_m=np.array([SCAN.yx_m[3], SCAN.yx_m[22]]))
    run(lost).idle(20)
    used = dict.fromkeys(range(20), PointState.USED)
    assert states_shown(run) == used | {20: PointState.REFUSED, 22: PointState.LOST}, "the frame of 3 did come"
    (where,) = {tuple(yx) for s in shown(run, Survey) for i, yx in zip(s.index, s.yx_m.tolist(), strict=True) if i == 22}
    np.testing.assert_allclose(where, SCAN.yx_m[22], atol=1e-12)
    run(point(22)).idle(20)
    assert states_shown(run)[22] == PointState.USED
    run(over(), point(23)).idle()
    assert states_shown(run)[23] == PointState.REFUSED, "too late"


def test_planned_points_are_shown_until_their_frames_come():
    run = Run(survey_s=0.01)
    plan = np.concatenate([SCAN.yx_m, [[1e300, 0.0]]])
    run(begin(planned_yx_m=plan)).idle()
    assert states_shown(run) == dict.fromkeys(range(24), PointState.PLANNED), "but what has no place"
    (survey,) = shown(run, Survey)
    assert (survey.known, survey.index.tolist()) == (0, list(range(24)))
    run(*(point(i) for i in range(20)))
    run(Positions(scan_id="s", index=np.array([21]), yx_m=SCAN.yx_m[21:22])).idle(20)
    planned = dict.fromkeys(range(24), PointState.PLANNED) | {21: PointState.LOST}
    assert states_shown(run) == planned | dict.fromkeys(range(20), PointState.USED)


def test_a_long_plan_is_told_in_order_and_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(points, "BLOCK_POINTS", 100)
    run = Run(survey_s=0.001)
    run(begin(planned_yx_m=np.zeros((points.MOST_PLANNED + 500, 2)))).idle()
    assert shown(run, Survey)[0].index.tolist() == list(range(100))
    assert len(run.stage.scans["s"].points.aside) == points.MOST_PLANNED < points.MOST_ASIDE


def test_a_plan_that_was_not_carried_out_does_not_burst_out_at_the_end():
    run = Run(survey_s=1e6)
    run(begin(planned_yx_m=np.zeros((points.MOST_PLANNED, 2))), *(point(i) for i in range(20)))
    lost = np.arange(1000, 1000 + points.BLOCK_POINTS)
    run(Positions(scan_id="s", index=lost, yx_m=np.zeros((len(lost), 2))), over()).idle(400)
    assert not run.stage.scans
    assert len(shown(run, Survey)) <= 4
    assert sum(state == PointState.LOST for state in states_shown(run).values()) == len(lost), "news are told"


def test_positions_of_lost_frames_that_cannot_be_shown_are_left_out():
    run = Run(survey_s=0.01)
    run(Positions(scan_id="s", index=np.array([1]), yx_m=np.zeros((1, 2))))
    assert run.stage.rejected["no_start"] == 1
    far = np.array([[1e300, 0.0], [0.0, 1e308], [1e-6, 0.0]])
    run(begin(), Positions(scan_id="s", index=np.arange(3), yx_m=far)).idle()
    assert states_shown(run) == {2: PointState.LOST}


def test_the_last_states_are_told_when_the_scan_closes():
    run = Run(survey_s=1e6)
    run(begin(), *(point(i) for i in range(24)), over()).until_done()
    assert states_shown(run) == dict.fromkeys(range(24), PointState.USED)


def test_first_points_that_are_given_up_are_shown_as_refused():
    run = Run(survey_s=0.01)(begin(), point(0, yx_m=(0.0, 5e-3)), *(point(i) for i in range(1, 12)), over())
    run.until_done()
    found = states_shown(run)
    assert found[0] == PointState.REFUSED
    assert found[11] == PointState.USED


def test_a_large_pattern_is_shown_in_blocks(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(reconstruction, "PREVIEW_SIDE", 20)
    run = Run(frames={"saturation": 100_000_000}, preview_s=0.01)
    pixels = COUNTS[0].copy()
    pixels[-1, -1] = 999
    run(begin(), point(0, pixels=pixels)).idle()
    (preview,) = shown(run, Preview)
    ny, nx = COUNTS[0].shape
    assert preview.binning == -(-max(ny, nx) // 20)
    assert preview.pattern.shape == (-(-ny // preview.binning), -(-nx // preview.binning))
    assert preview.pattern[-1, -1] == 999


def test_saturated_pixels_are_shown_and_counted():
    pixels = COUNTS[3].copy()
    pixels[2, 3] = 50_000
    run = Run(frames={"saturation": 40_000}, preview_s=0.01)
    run(begin(), *(point(i) for i in range(3)), point(3, pixels=pixels)).idle()
    (preview,) = shown(run, Preview)
    assert np.argwhere(preview.saturated).tolist() == [[2, 3]]
    assert run.stage.scans["s"].points.table["saturated"].tolist() == [0, 0, 0, 1]


def test_a_snapshot_says_how_new_it_is():
    run = Run(snapshot_s=0.01)
    run(begin(), *(point(i) for i in range(8))).idle(3)
    assert shown(run, Snapshot)[-1].newest_ns == 10**9


# what viewers may ask for


def ask(action: Action, value: int = 0) -> Command:
    return Command(action=action, scan_id="s", value=value)


def controlled(count: int = 24) -> Run:
    run = Run(allow_control=True)
    return run(begin(), *(point(i) for i in range(count))).idle(5)


def test_without_leave_nothing_is_obeyed():
    run = Run()(begin(), *(point(i) for i in range(24)), ask(Action.PAUSE))
    assert run.stage.busy
    assert run.stage.rejected == {"unexpected_kind": 1}


def test_a_command_for_a_scan_that_is_not_there_is_counted():
    run = Run(allow_control=True)(ask(Action.STOP))
    assert run.stage.rejected == {"no_start": 1}


def test_a_command_for_another_run_of_the_id_is_refused_and_counted():
    run = Run(allow_control=True)(begin(started_ns=5), point(0), begin(started_ns=6), point(0))
    run(Command(action=Action.PAUSE, scan_id="s", started_ns=5))
    assert not run.stage.scans["s"].paused
    assert run.stage.rejected == {"stray": 1}
    for started_ns in (6, 0):
        run(ask(Action.RESUME), Command(action=Action.PAUSE, scan_id="s", started_ns=started_ns))
        assert run.stage.scans["s"].paused
    assert run.stage.rejected == {"stray": 1}


def test_pause_and_resume():
    run = controlled()(ask(Action.PAUSE))
    before = run.stage.scans["s"].engine.updates
    assert not run.stage.busy
    assert run.stage.statuses()[0].state is ServiceState.PAUSED
    run(point(23)).idle(5)
    assert run.stage.scans["s"].engine.updates == before
    run(ask(Action.RESUME)).idle(2)
    assert run.stage.scans["s"].engine.updates > before


def test_stop_ends_the_picture_but_not_the_counting():
    run = controlled(16)(ask(Action.STOP)).idle(200)
    scan = run.stage.scans["s"]
    assert not run.stage.busy
    assert len(scan.engine.error_history) >= 1
    run(point(20), point(21))
    (status,) = run.stage.statuses()
    assert status.dropped == {"stopped": 2}
    run(over()).until_done()
    assert shown(run, Snapshot)[-1].final
    assert shown(run, Snapshot)[-1].frames_used == 16


def test_stop_while_polishing_ends_after_the_pass_in_work():
    run = controlled()(ask(Action.PASSES, 1000), over()).idle(10)
    before = len(run.stage.scans["s"].engine.error_history)
    run(ask(Action.STOP)).until_done()
    assert len(shown(run, Snapshot)[-1].error_history) <= before + 1


def test_passes_after_the_last_frame():
    lengths = []
    for passes in (2, 7):
        run = controlled()
        before = len(run.stage.scans["s"].engine.error_history)
        run(ask(Action.PASSES, passes), over()).until_done()
        lengths.append(len(shown(run, Snapshot)[-1].error_history) - before)
    assert lengths == [2, 7]


def test_modes_are_added_and_taken_away():
    run = controlled()(ask(Action.MODES, 2), ask(Action.PASSES, 60), over()).until_done()
    assert len(shown(run, Snapshot)[-1].probe) == 2
    run = controlled()(ask(Action.MODES, 2), ask(Action.PASSES, 60), over()).idle(5)
    run(ask(Action.MODES, 1)).until_done()
    assert len(shown(run, Snapshot)[-1].probe) == 1


@pytest.mark.parametrize("rate", [1, 100])
def test_wishes_outlive_outliers_and_their_points_do_not(rate: int):
    """However many frames come between two blocks of points."""
    run = Run(allow_control=True, survey_s=0.01)(begin(), *(point(i, yx_m=(0.0, 5e-3)) for i in range(2))).idle()
    run(ask(Action.MODES, 2), ask(Action.PASSES, 7), ask(Action.RESET_PROBE))
    old = run.stage.scans["s"].engine
    for i in range(2, 24, rate):
        run(*(point(j) for j in range(i, min(i + rate, 24)))).idle()
    scan = run.stage.scans["s"]
    assert scan.engine is not old
    assert (scan.engine.options.modes, scan.engine.options.polish_passes) == (2, 7)
    assert "recorded" not in scan.engine.probe_note, "that is the probe which the viewer did not want"
    points = Points()
    for survey in shown(run, Survey):
        points.take(survey)
    assert set(points.index[points.measured].tolist()) == set(scan.points.table["index"].tolist())


def test_the_object_begins_again_from_the_present_probe():
    run = controlled()
    engine = run.stage.scans["s"].engine
    probe = engine.picture().probe
    run(ask(Action.RESET_OBJECT))
    assert engine.updates == 0
    run.idle(1)
    assert engine.updates > 0
    again = engine.picture().probe
    assert np.linalg.norm(again - probe) < 0.5 * np.linalg.norm(probe)
    run(over()).until_done()


def test_the_probe_is_searched_for_again():
    run = controlled()(ask(Action.RESET_PROBE))
    assert run.stage.statuses()[0].state is ServiceState.SEARCHING
    run(over()).until_done()
    assert "from the data" in run.stage._last_words.again({})[0].probe


def test_a_stopped_scan_is_not_done_before_it_is_closed():
    """Who watches waits for the final picture of a scan that is done."""
    run = controlled(16)(ask(Action.STOP)).idle(300)
    assert run.stage.statuses()[0].state is ServiceState.PAUSED
    run(over()).until_done()
    assert run.stage.statuses()[1].state is ServiceState.DONE


def test_stop_again_changes_nothing():
    run = controlled(16)(ask(Action.STOP)).idle(300)
    before = len(run.stage.scans["s"].engine.error_history)
    run(ask(Action.STOP)).idle(50)
    assert len(run.stage.scans["s"].engine.error_history) == before


def test_fewer_passes_than_there_were_end_after_the_one_in_work():
    run = controlled()(ask(Action.PASSES, 100), over())
    engine = run.stage.scans["s"].engine
    while engine._polish is None or engine._polish.passes < 6:
        run.idle()
    settled = []
    engine._polish._settle = settled.append
    run(ask(Action.PASSES, 2)).until_done()
    assert engine._polish.passes == 7
    assert len(settled) == 1


def test_a_preview_takes_a_twentieth_of_the_time_at_most(monkeypatch: pytest.MonkeyPatch):
    run = Run(preview_s=0.1)(begin(), *(point(i) for i in range(8)))
    scan = run.stage.scans["s"]
    preview = scan.preview

    def slow(time_ns: int) -> Any:
        run.clock.now += 1.0
        return preview(time_ns)

    monkeypatch.setattr(scan, "preview", slow)
    run.idle()
    then = run.clock.now
    run(point(9))
    while len(shown(run, Preview)) == 1:
        run.clock.now += 0.5
        run.idle()
    assert run.clock.now - then > 19


def test_a_scan_of_which_few_frames_can_be_compared_ends(monkeypatch: pytest.MonkeyPatch):
    """The halves are made of frames that lie near enough; that there are no more of them is no reason to try again."""
    monkeypatch.setattr(halves, "central", lambda solver: np.arange(9))
    monkeypatch.setattr(halves, "FEWEST_FRAMES", 8)
    run = Run(assess_s=0.05)(begin(), *(point(i) for i in range(24)), over()).until_done()
    assert shown(run, Snapshot)[-1].final


# results


def results(run: Run) -> list[Message]:
    return [message for port, message in run.out if port is Port.RESULTS]


def test_the_results_come_before_the_final_picture():
    run = Run()(begin(), *map(point, range(24)), over()).until_done()
    *_, assessment, estimates, status, snapshot = results(run)
    kinds = [type(m) for m in (assessment, estimates, status, snapshot)]
    assert kinds == [Assessment, Estimates, ReconstructStatus, Snapshot]
    assert (assessment.final, status.done, snapshot.final) == (True, True, True)
    for message in (assessment, estimates):
        assert message.run == START_RUN
        assert [shown for shown in run.to(Port.DISPLAY, type(message)) if shown is message]


def test_an_interrupted_scan_has_results_too():
    run = Run()(begin(), *map(point, range(24))).idle(3)
    run.finish()
    *_, assessment, estimates, _, snapshot = results(run)
    assert assessment.final
    assert snapshot.final
    assert len(estimates.index) == 24


def test_without_a_picture_there_are_no_estimates():
    run = Run()(begin(), over(count=0))
    assert only(Estimates, results(run)) == []


def test_estimates_are_by_frame_and_those_that_were_not_made_are_none():
    order = np.random.default_rng(0).permutation(24).tolist()
    run = Run()(begin(), *map(point, order), over()).until_done()
    (estimates,) = run.to(Port.RESULTS, Estimates)
    assert estimates.index.tolist() == list(range(24))
    np.testing.assert_allclose(estimates.recorded_yx_m, SCAN.yx_m[:24], rtol=1e-9)
    assert (estimates.refined_yx_m, estimates.flux, estimates.background) == (None, None, None)
    assert estimates.mode_powers == (1.0,)
    assert estimates.probe_origin == "recorded with the scan"
    assert estimates.trust in set(Trust)


def test_estimates_that_were_made():
    order = np.random.default_rng(0).permutation(24)
    engine = {"flux": True, "background": True, "modes": 2, "positions": {"refine": "on"}}
    run = Run(engine=engine)(begin(), *map(point, order.tolist())).idle(3)
    engine = run.stage.scans["s"].engine
    engine.positions.offsets[:24] = np.stack([order, -order], axis=1)
    engine.store.flux[:24] = 1 + order / 10
    engine.solver.background = np.zeros((SMALL, SMALL), np.float32)
    engine.solver.background[0, 1] = 5
    run.finish()
    (estimates,) = run.to(Port.RESULTS, Estimates)
    offsets_px = (estimates.refined_yx_m - estimates.recorded_yx_m) / SCAN.pixel_m
    np.testing.assert_allclose(offsets_px, np.stack([np.arange(24), -np.arange(24)], axis=1), atol=1e-6)
    np.testing.assert_allclose(estimates.flux, (1 + np.arange(24) / 10) ** 2, rtol=1e-6)
    assert np.argwhere(estimates.background).tolist() == [[SMALL // 2, SMALL // 2 + 1]]
    assert sum(estimates.mode_powers) == pytest.approx(1)
    assert list(estimates.mode_powers) == sorted(estimates.mode_powers, reverse=True)


def test_a_second_reconstruction_speaks_under_its_own_name():
    run = Run(name="fast")(begin(), *map(point, range(24)), over()).until_done()
    run(begin("t", probe=None, geometry=start(shape=(4, 4)).geometry))
    said = [m for _, m in run.out] + run.statuses()
    assert {m.service for m in said} == {"fast"}
    assert {Survey, Preview, Assessment, Estimates, Snapshot, ReconstructStatus} == {type(m) for m in said}
