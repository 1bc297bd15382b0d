"""The assessment as the reconstruct stage publishes it: when, with what, and at what cost."""

import time
from collections.abc import Iterator

import numpy as np
import pytest

from streamptycho.assess.assessor import Assessor
from streamptycho.assess.halves import FEWEST_FRAMES, HalfData
from streamptycho.assess.readings import Readings
from streamptycho.messages.live import Action, Command
from streamptycho.messages.reasons import EndReason, ServiceState, Stream
from streamptycho.messages.results import Assessment, Snapshot
from streamptycho.messages.status import ReconstructStatus
from streamptycho.messages.stream import Frame, ScanStart
from streamptycho.pipeline.options import ReconstructOptions
from streamptycho.pipeline.reconstruct import ReconstructStage
from streamptycho.pipeline.stage import Port
from streamptycho.preprocess.options import FrameOptions, PositionOptions
from streamptycho.solve.settings import EngineOptions
from streamptycho_sim.forward import DetectorOptions
from streamptycho_sim.scan import ProbeStart
from tests.scans import Clock, end, point
from tests.sim.helpers import small

FRAMES = 144
SCAN = small(frames=FRAMES, shape=48, probe_start=ProbeStart.TRUE, detector=DetectorOptions(dtype="uint32", photons=1e5))


class Watch:
    """A stage and what it shows."""

    def __init__(self, step: float = 0.01, **options: object) -> None:
        self.clock = Clock(step)
        engine = EngineOptions(backend="cpu", threads=1, polish_passes=2, slice_updates=20)
        tables = FrameOptions(), PositionOptions(), engine
        self.stage = ReconstructStage(ReconstructOptions(**options), *tables, self.clock, self.clock.ns)
        self.shown: list[object] = []

    def take(self, message: object) -> None:
        self.shown += [m for port, m in self.stage.handle(message) if port is Port.DISPLAY]

    def idle(self, times: int = 1) -> None:
        for _ in range(times):
            self.shown += [m for port, m in self.stage.idle() if port is Port.DISPLAY]

    def until_done(self) -> None:
        for _ in range(5000):
            if not self.stage.scans:
                return
            assert self.stage.busy
            self.idle()
        pytest.fail("the scan does not end")

    @property
    def assessments(self) -> list[Assessment]:
        return [m for m in self.shown if isinstance(m, Assessment)]


@pytest.fixture(scope="module")
def counts() -> list[np.ndarray]:
    return list(SCAN.counts())


def point_of(counts: list[np.ndarray], i: int, place: int) -> Frame:
    """Frame `i` with the position of another."""
    y, x = SCAN.yx_m[place].tolist()
    return point(i, SCAN.options.scan_id, (y, x), counts[i][None])


def points(counts: list[np.ndarray]) -> Iterator[Frame]:
    return (point_of(counts, i, i) for i in range(FRAMES))


def test_from_gathering_to_finished(counts):
    watch = Watch()
    watch.take(SCAN.start(1))
    watch.idle(3)
    assert not watch.assessments, "nothing is said before the first frame"
    for i, taken in enumerate(points(counts)):
        watch.take(taken)
        if i % 8 == 7:
            watch.idle(8)
    watch.take(end(FRAMES, Stream.SCAN, SCAN.start(1).scan_id))
    watch.until_done()
    said = watch.assessments
    assert said[0].verdict.startswith("Gathering: ")
    assert said[-1].verdict.startswith("Finished: 144 of 144 frames, resolution about ")
    assert all(not a.findings for a in said)
    assert all(a.scan_id == SCAN.options.scan_id and a.started_ns == 1 for a in said)
    gaps_s = np.diff([a.time_ns for a in said[:-1]]) / 1e9
    assert gaps_s.min() > 1.4
    assert np.median(gaps_s) < 3
    last = said[-1]
    assert last.figures["resolution_m"] == pytest.approx(2 * SCAN.pixel_m[0], rel=0.5)
    assert last.frequency_per_m[-1] == pytest.approx(0.5 / SCAN.pixel_m[0], rel=0.03)
    assert last.ring_correlation.max() > 0.9
    assert last.figures["frames_fraction"] == 1
    assert last.figures["covered_fraction"] > 0.95
    assert last.figures["photons_per_frame"] == pytest.approx(np.median([c.sum() for c in counts]), rel=0.01)


def test_the_final_assessment_comes_before_the_last_word(counts):
    watch = Watch()
    for message in (SCAN.start(1), *points(counts), end(FRAMES, Stream.SCAN, SCAN.start(1).scan_id)):
        watch.take(message)
    watch.until_done()
    tail = [m for m in watch.shown if isinstance(m, Assessment | ReconstructStatus | Snapshot)][-3:]
    assert [type(m) for m in tail] == [Assessment, ReconstructStatus, Snapshot]
    assert tail[1].state is ServiceState.DONE


def test_a_scan_does_not_end_without_an_estimate_but_an_interrupted_one_does(counts):
    for reason, known in ((EndReason.COMPLETE, True), (EndReason.INTERRUPTED, False)):
        watch = Watch()
        for message in (SCAN.start(1), *list(points(counts))[: FEWEST_FRAMES + 8]):
            watch.take(message)
        watch.idle()
        watch.take(end(FEWEST_FRAMES + 8, Stream.SCAN, SCAN.start(1).scan_id, reason))
        watch.until_done()
        assert bool(watch.assessments[-1].ring_correlation.size) is known


def test_the_end_waits_for_the_last_assessment_for_a_bounded_time(counts, monkeypatch):
    monkeypatch.setattr(Assessor, "owed", lambda *_: True)
    watch = Watch(step=0.05)
    for message in (SCAN.start(1), *list(points(counts))[:32], end(32, Stream.SCAN, SCAN.start(1).scan_id)):
        watch.take(message)
    watch.until_done()
    assert watch.assessments[-1].final


def test_no_other_readings_are_tried_after_a_stop(counts, monkeypatch):
    monkeypatch.setattr(Readings, "owed", lambda *_: True)
    monkeypatch.setattr(HalfData, "owed", lambda *_: False)
    watch = Watch()
    for message in (SCAN.start(1), *list(points(counts))[:32]):
        watch.take(message)
    scan = watch.stage.scans[SCAN.options.scan_id]
    assert scan.assessor.owed(scan.engine)
    scan.obey(Command(action=Action.STOP, scan_id=SCAN.options.scan_id))
    assert not scan.assessor.owed(scan.engine)


def test_a_fault_reaches_the_display(counts):
    """Frames in the order of arrival with positions in another one."""
    order = np.random.default_rng(0).permutation(FRAMES)
    watch = Watch()
    watch.take(SCAN.start(1))
    for i in range(FRAMES):
        watch.take(point_of(counts, i, int(order[i])))
        if i % 8 == 7:
            watch.idle(8)
    watch.take(end(FRAMES, Stream.SCAN, SCAN.start(1).scan_id))
    watch.until_done()
    last = watch.assessments[-1]
    assert next(iter(last.findings)) == "mismatch"
    assert last.verdict.startswith("Not to be trusted: positions and frames do not belong together")
    assert not last.trusted
    assert last.findings["mismatch"].startswith("Positions and frames do not belong together: frames from neighbouring")


def test_the_interval_is_set(counts):
    watch = Watch(assess_s=10.0)
    for message in (SCAN.start(1), *points(counts)):
        watch.take(message)
    began = watch.clock.now
    watch.idle(300)
    spent_s = watch.clock.now - began
    assert len(watch.assessments) == pytest.approx(spent_s / 10, abs=1.1)


@pytest.mark.slow
def test_what_it_costs(counts):
    """Less than a twentieth of the time of the reconstruction, by the clock on the wall."""
    watch = Watch()
    watch.stage = ReconstructStage(
        ReconstructOptions(), FrameOptions(), PositionOptions(), EngineOptions(backend="cpu", threads=1, polish_passes=0)
    )
    spent_s = 0.0
    for message in (SCAN.start(1), *points(counts)):
        watch.take(message)
    (scan,) = watch.stage.scans.values()
    for name in ("step", "assess"):
        inner = getattr(scan.assessor, name)

        def timed(*args: object, inner=inner, **named: object) -> object:
            nonlocal spent_s
            began = time.perf_counter()
            result = inner(*args, **named)
            spent_s += time.perf_counter() - began
            return result

        setattr(scan.assessor, name, timed)
    began = time.perf_counter()
    while time.perf_counter() - began < 3.5:
        watch.idle()
    share = spent_s / (time.perf_counter() - began)
    assert len(watch.assessments) >= 2
    assert share < 0.08, f"{share:.1%}"  # 5 % aimed at; the rest is for machines that are busy


def test_a_start_without_frames_ends_without_a_word():
    watch = Watch()
    start: ScanStart = SCAN.start(1)
    watch.take(start)
    watch.take(end(0, Stream.SCAN, start.scan_id))
    assert not watch.assessments
    assert not watch.stage.scans
