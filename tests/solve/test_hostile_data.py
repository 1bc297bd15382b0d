"""Frames of any shape, and what detectors do to them: masks, saturation, hot pixels, not a number."""

import numpy as np
import pytest
from numpy.typing import NDArray

from streamptycho.assess.truth import Agreement, compare
from streamptycho.preprocess.frames import FramePreprocessor
from streamptycho.preprocess.options import FrameOptions
from streamptycho.solve.devices.backend import cpu_backend
from streamptycho.solve.engine import EngineState, RollingEngine
from streamptycho.solve.settings import EngineOptions, RuleOptions
from streamptycho.solve.start.search import defocused_probe
from tests import scans
from tests.solve.helpers import polish, run

STEP = 7
COUNTS = 2e5


class Bench:
    """A phase object under a defocused beam, frames of any shape; zero frequency first."""

    def __init__(self, shape: tuple[int, int], side: int = 9, defocus_px2: float = 70.0) -> None:
        rng = np.random.default_rng(0)
        self.shape, self.side = shape, side
        extent = (shape[0] + STEP * side + STEP, shape[1] + STEP * side + STEP)
        k2 = np.fft.fftfreq(extent[0])[:, None] ** 2 + np.fft.fftfreq(extent[1])[None] ** 2
        rough = [np.fft.ifft2(np.fft.fft2(rng.normal(size=extent)) * np.exp(-k2 * w)).real for w in (150, 1500)]
        phase = sum(r / r.std() for r in rough)
        self.object = np.exp(0.35j * phase)
        f2 = np.fft.fftfreq(shape[0])[:, None] ** 2 + np.fft.fftfreq(shape[1])[None] ** 2
        self.pupil = np.where(f2 < 0.15**2, COUNTS / (f2 < 0.15**2).sum(), 0.0)
        self.probe = defocused_probe(self.pupil, defocus_px2)
        self.corners = [
            (STEP * y + int(rng.integers(0, 4)), STEP * x + int(rng.integers(0, 4)))
            for y in range(side)
            for x in range(side)
        ]
        self.counts = [rng.poisson(self._intensity(corner)) for corner in self.corners]
        self.pixel_weights = self._dose()

    def _intensity(self, corner: tuple[int, int]) -> NDArray[np.float64]:
        y, x = corner
        window = self.object[y : y + self.shape[0], x : x + self.shape[1]]
        intensity: NDArray[np.float64] = abs(np.fft.fft2(self.probe[0] * window, norm="ortho")) ** 2
        return intensity

    def _dose(self) -> NDArray[np.bool_]:
        dose = np.zeros(self.object.shape)
        power = abs(self.probe[0]) ** 2
        for y, x in self.corners:
            dose[y : y + self.shape[0], x : x + self.shape[1]] += power / power.max()
        support: NDArray[np.bool_] = dose > 1
        return support

    def amplitude(self, k: int) -> NDArray[np.float32]:
        return np.sqrt(self.counts[k]).astype(np.float32)

    def add(self, engine: RollingEngine, k: int, amplitude: NDArray[np.float32] | None = None) -> int | None:
        y, x = self.corners[k]
        at = (float(y + self.shape[0] // 2), float(x + self.shape[1] // 2))
        return engine.add(self.amplitude(k) if amplitude is None else amplitude, at)

    def judge(self, engine: RollingEngine) -> Agreement:
        picture = engine.picture()
        assert picture is not None
        assert np.isfinite(picture.object).all()
        assert np.isfinite(picture.probe).all()
        found = compare(picture.object, picture.covered, picture.origin_px, self.object, self.pixel_weights, (0, 0))
        assert found is not None
        return found


def engine_with(bench: Bench, probe: NDArray[np.complex64] | None, **options: object) -> RollingEngine:
    rule = RuleOptions(correction=True)
    given = {"polish_passes": 20, "rule": rule} | options
    return RollingEngine(EngineOptions.model_validate(given), cpu_backend(), bench.shape, probe)


@pytest.mark.parametrize("shape", [(96, 160), (100, 100), (90, 120), (45, 77)])
def test_frames_of_any_shape_with_everything_switched_on(shape: tuple[int, int]):
    bench = Bench(shape)
    engine = engine_with(bench, defocused_probe(bench.pupil, 60.0), flux=True, background=True)
    for k in range(len(bench.corners)):
        bench.add(engine, k)
        if k % 9 == 8:
            run(engine, 100)
    polish(engine)
    assert bench.judge(engine).phase_correlation > 0.9
    assert engine.error < 0.02


@pytest.mark.parametrize("shape", [(100, 100), (72, 96)])
def test_the_probe_is_searched_for_with_frames_of_any_shape(shape: tuple[int, int]):
    bench = Bench(shape)
    engine = engine_with(bench, None)
    for k in range(len(bench.corners)):
        bench.add(engine, k)
    polish(engine)
    assert "not certain" not in engine.probe_note
    assert bench.judge(engine).phase_correlation > 0.9


@pytest.fixture(scope="module")
def bench() -> Bench:
    return Bench((64, 64))


def whole(bench: Bench, spoil: object, **options: object) -> RollingEngine:
    """The scan to the end, each frame's amplitudes changed by `spoil` (k, amplitude)."""
    engine = engine_with(bench, defocused_probe(bench.pupil, 60.0), **options)
    for k in range(len(bench.corners)):
        bench.add(engine, k, spoil(k, bench.amplitude(k)))
        if k % 9 == 8:
            run(engine, 100)
    polish(engine)
    return engine


def beamstop(_: int, amplitude: NDArray[np.float32]) -> NDArray[np.float32]:
    """Covers half of the zero order, off its middle, and its holder."""
    n = amplitude.shape[0]
    y, x = np.fft.fftfreq(n)[:, None] * n, np.fft.fftfreq(n)[None] * n
    return np.where(((y - 2) ** 2 + (x + 1) ** 2 < 25) | ((abs(x) < 1.5) & (y > 0)), -1, amplitude).astype(np.float32)


@pytest.mark.parametrize("correction", [True, False])
def test_a_beamstop_over_the_zero_order_does_not_mislead_the_centre_of_mass(correction: bool, bench: Bench):
    clear = whole(bench, lambda _, a: a, rule=RuleOptions(correction=correction))
    engine = whole(bench, beamstop, rule=RuleOptions(correction=correction))
    assert bench.judge(engine).phase_correlation > 0.95 * bench.judge(clear).phase_correlation
    picture = engine.picture()
    assert picture is not None
    slope = [np.angle((np.diff(picture.object, axis=a) * 0 + _pairs(picture.object, a)).sum()) for a in (0, 1)]
    assert abs(np.array(slope)).max() < 0.02


def _pairs(obj: NDArray[np.complex64], axis: int) -> NDArray[np.complex64]:
    """Products of neighbours."""
    made: NDArray[np.complex64] = obj[1:] * obj[:-1].conj() if axis == 0 else obj[:, 1:] * obj[:, :-1].conj()
    return made


def test_saturated_pixels_do_no_more_harm_than_masked_ones(bench: Bench):
    """Clipped by the detector, masked by the preprocessing; not masked they would spoil the picture."""
    top = float(int(np.quantile(np.array(bench.counts), 0.99)))
    start = scans.start(shape=bench.shape, dtype=np.dtype(np.uint32), saturation=top)
    prepare = FramePreprocessor(FrameOptions(detect_bad_pixels=False), start)

    def saturated(k: int, _: NDArray[np.float32]) -> NDArray[np.float32]:
        raw = np.fft.fftshift(np.minimum(bench.counts[k], top)).astype(np.uint32)
        made = [p for p in prepare.add(k, raw) if p.key == k][-1].amplitude
        clipped = bench.counts[k] >= top
        assert (made[clipped] == -1).all()
        assert (made[~clipped] >= 0).all()
        return made

    masked = whole(bench, saturated)
    clipped = whole(bench, lambda k, _: np.sqrt(np.minimum(bench.counts[k], top)).astype(np.float32))
    assert bench.judge(masked).phase_correlation > 0.9
    assert bench.judge(masked).error < bench.judge(clipped).error


def test_values_that_are_no_counts_are_masked(bench: Bench):
    start = scans.start(shape=bench.shape, dtype=np.dtype(np.float32))
    prepare = FramePreprocessor(FrameOptions(detect_bad_pixels=False), start)
    raw = np.fft.fftshift(bench.counts[0]).astype(np.float32)
    raw[5, 6], raw[7, 8], raw[9, 10] = np.nan, np.inf, -np.inf
    made = np.fft.fftshift(prepare.add(0, raw)[-1].amplitude)
    assert made[5, 6] == made[7, 8] == made[9, 10] == -1
    assert np.isfinite(made).all()
    assert (made < 0).sum() == 3


@pytest.mark.parametrize("options", [{}, {"flux": True, "background": True}])
def test_frames_masked_altogether_change_nothing_for_the_others(options: dict[str, bool], bench: Bench):
    lost = {0, 1, 30, 31, 44}
    engine = whole(bench, lambda k, a: np.full_like(a, -1) if k in lost else a, **options)
    assert engine.state is EngineState.DONE
    assert np.isfinite(engine.error)
    assert bench.judge(engine).phase_correlation > 0.9


def test_hot_pixels_found_by_the_preprocessing_leave_no_trace(bench: Bench):
    rng = np.random.default_rng(5)
    hot = tuple(rng.integers(4, 60, (2, 12)))
    prepare = FramePreprocessor(FrameOptions(), scans.start(shape=bench.shape, dtype=np.dtype(np.uint32)))
    engine = engine_with(bench, defocused_probe(bench.pupil, 60.0))
    rows = {}
    for k in range(len(bench.corners)):
        raw = np.fft.fftshift(bench.counts[k]).astype(np.uint32)
        raw[hot] += 60_000
        for made in prepare.add(k, raw):
            if made.key in rows:
                engine.replace(rows[made.key], made.amplitude)
            else:
                rows[made.key] = bench.add(engine, made.key, made.amplitude)
    polish(engine)
    assert bench.judge(engine).phase_correlation > 0.9


def test_a_burst_of_noise_far_brighter_than_the_beam_is_found_out(bench: Bench):
    """With the flux of each frame estimated; without, a single such frame undoes the picture."""
    burst = np.random.default_rng(0).uniform(0, 300, bench.shape).astype(np.float32)
    engine = whole(bench, lambda k, a: burst if k == 40 else a, flux=True)
    assert engine.store.flux[40] > 5
    assert bench.judge(engine).phase_correlation > 0.9


def test_all_light_in_the_middle_pixel_does_not_end_the_search_for_a_probe():
    bench = Bench((16, 16))
    engine = engine_with(bench, None)
    spot = np.zeros((16, 16), np.float32)
    spot[0, 0] = 100  # zero frequency comes first
    for k in range(len(bench.corners)):
        bench.add(engine, k, spot)
    polish(engine)
    assert engine.state is EngineState.DONE
