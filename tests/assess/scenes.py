"""Simulated scans with one fault each, as the engine and the assessment see them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamptycho.assess.assessor import Assessor
from streamptycho.assess.evidence import Evidence
from streamptycho.messages.geometry import Orientation
from streamptycho.messages.results import Assessment
from streamptycho.messages.run import RunId
from streamptycho.pipeline.survey import PointLog
from streamptycho.solve.devices.backend import backend_for
from streamptycho.solve.engine import EngineState, RollingEngine
from streamptycho.solve.settings import EngineOptions
from streamptycho_sim.forward import DetectorOptions
from streamptycho_sim.illumination import IlluminationOptions, guess
from streamptycho_sim.scan import SimulatedScan, SyntheticOptions
from streamptycho_sim.specimen import SpecimenOptions
from streamptycho_sim.trajectory import Path, TrajectoryOptions

N = 64
FRAMES = 256


@dataclass(frozen=True)
class Measured:
    """Counts and positions as they arrive."""

    counts: NDArray[np.float64]
    """(k, n, n), zero frequency in the middle."""
    yx_px: NDArray[np.float64]
    pixel_m: tuple[float, float]
    valid: NDArray[np.bool_]
    """(k, n, n)."""
    index: NDArray[np.int64]
    probe: NDArray[np.complex64] | None
    expected: int
    dropped: dict[str, int] = field(default_factory=dict)

    def first(self, count: int) -> "Measured":
        parts = {name: getattr(self, name)[:count] for name in ("counts", "yx_px", "valid", "index")}
        return replace(self, **parts)


def simulated(path: str = "snake", seed: int = 0, *, frames: int = FRAMES, **options: Any) -> Measured:
    scan = simulation(path, seed, frames, tuple(sorted(options.items())))
    counts = np.array(list(scan.counts()), np.float64)
    light = scan.options.illumination, N, scan.options.detector.photons
    centres = scan.corners + N // 2.0 + (0 if scan.shifts is None else scan.shifts)
    everything = np.ones(counts.shape, np.bool_)
    return Measured(counts, centres, scan.pixel_m, everything, np.arange(frames), guess(*light), frames)


@cache
def simulation(path: str, seed: int, frames: int, options: tuple[tuple[str, Any], ...]) -> SimulatedScan:
    """By the simulator; options of the scan and its parts by their names."""
    values: dict[Any, dict[str, Any]] = {
        SpecimenOptions: {},
        IlluminationOptions: {},
        TrajectoryOptions: {"path": Path(path)},
        DetectorOptions: {"dtype": "uint32", "photons": 1e5},
        SyntheticOptions: {"shape": N, "frames": frames, "seed": seed},
    }
    for name, value in options:
        values[next(kind for kind in values if name in kind.model_fields)][name] = value
    scan = values.pop(SyntheticOptions)
    specimen, illumination, trajectory, detector = (kind(**chosen) for kind, chosen in values.items())
    made = SyntheticOptions(specimen=specimen, illumination=illumination, trajectory=trajectory, detector=detector, **scan)
    return SimulatedScan(made)


# faults: from a path and a seed to what arrives


def blank(path: str, seed: int) -> Measured:
    return simulated(path, seed, phase_rad=0.0, absorption=0.0)


def few_photons(path: str, seed: int) -> Measured:
    return simulated(path, seed, photons=400.0)


def far_apart(path: str, seed: int) -> Measured:
    return simulated(path, seed, overlap=0.15)


def hot(path: str, seed: int) -> Measured:
    return simulated(path, seed, hot_pixels=6, hot_value=20000, mask_defects=False)


def shuffled(path: str, seed: int) -> Measured:
    made = simulated(path, seed)
    return replace(made, yx_px=made.yx_px[np.random.default_rng(seed).permutation(FRAMES)])


def shifted(path: str, seed: int) -> Measured:
    made = simulated(path, seed)
    late = 4
    kept = made.first(FRAMES - late)
    return replace(kept, counts=made.counts[late:])


def mirrored(path: str, seed: int) -> Measured:
    return _turned(path, seed, Orientation.FLIP_Y)


def transposed(path: str, seed: int) -> Measured:
    return _turned(path, seed, Orientation.TRANSPOSE)


def quarter_turn(path: str, seed: int) -> Measured:
    return _turned(path, seed, Orientation.ROTATE_90)


def _turned(path: str, seed: int, how: Orientation) -> Measured:
    made = simulated(path, seed)
    centred = made.counts[:, 1:, 1:]  # an odd number of pixels keeps the zero frequency in the middle
    return replace(made, counts=np.pad(how.apply(centred), ((0, 0), (1, 0), (1, 0))))


def saturating(path: str, seed: int) -> Measured:
    made = simulated(path, seed)
    limit = np.quantile(made.counts.max((1, 2)), 0.4)
    return replace(made, valid=made.counts < limit)


def clipped(path: str, seed: int) -> Measured:
    """The same without an announcement."""
    made = simulated(path, seed)
    return replace(made, counts=np.minimum(made.counts, np.quantile(made.counts.max((1, 2)), 0.1) / 2))


def off_centre(path: str, seed: int) -> Measured:
    made = simulated(path, seed)
    return replace(made, counts=np.roll(made.counts, (7, -4), (1, 2)))


def beam_lost(path: str, seed: int) -> Measured:
    made = simulated(path, seed)
    counts = made.counts.copy()
    counts[-40:] = np.random.default_rng(seed).poisson(1e-3 * counts[-40:])
    return replace(made, counts=counts)


def beam_returned(path: str, seed: int) -> Measured:
    made = simulated(path, seed)
    counts = made.counts.copy()
    counts[100:130] = np.random.default_rng(seed).poisson(1e-3 * counts[100:130])
    return replace(made, counts=counts)


def jumping(path: str, seed: int) -> Measured:
    made = simulated(path, seed)
    random = np.random.default_rng(seed)
    scale = random.choice([1.0, 0.6], FRAMES)[:, None, None]
    return replace(made, counts=random.poisson(scale * made.counts).astype(np.float64))


def wandering(path: str, seed: int) -> Measured:
    made = simulated(path, seed)
    at = np.arange(FRAMES) / FRAMES
    moves = np.rint(np.stack([6 * at, 3 * np.sin(4 * at)], 1)).astype(int)
    rolled = [np.roll(pattern, move, (0, 1)) for pattern, move in zip(made.counts, moves.tolist(), strict=True)]
    return replace(made, counts=np.array(rolled))


def lossy(path: str, seed: int) -> Measured:
    made = simulated(path, seed)
    kept = np.random.default_rng(seed).random(FRAMES) > 0.1
    parts = {name: getattr(made, name)[kept] for name in ("counts", "yx_px", "valid", "index")}
    return replace(made, **parts)


def unsure_stage(path: str, seed: int) -> Measured:
    """Every position is off by a third of the beam: nothing that a probe could explain."""
    made = simulated(path, seed)
    return replace(made, yx_px=made.yx_px + np.random.default_rng(seed).normal(0, 6.0, made.yx_px.shape))


FAULTS: dict[str, tuple[Callable[[str, int], Measured], str]] = {
    "blank": (blank, "blank"),
    "few photons": (few_photons, "photons"),
    "far apart": (far_apart, "overlap"),
    "hot pixels": (hot, "hot_pixels"),
    "shuffled": (shuffled, "mismatch"),
    "shifted": (shifted, "mismatch"),
    "mirrored": (mirrored, "orientation"),
    "transposed": (transposed, "orientation"),
    "quarter turn": (quarter_turn, "orientation"),
    "saturating": (saturating, "saturation"),
    "clipped": (clipped, "saturation"),
    "off centre": (off_centre, "centre"),
    "beam lost": (beam_lost, "beam"),
    "beam returned": (beam_returned, "beam"),
    "jumping": (jumping, "flux"),
    "wandering": (wandering, "wander"),
    "lossy": (lossy, "missing"),
    "unsure stage": (unsure_stage, "probe"),
}
"""Name to what makes the scan, and the code of the finding that must come first."""


# what the pipeline would do with it


class Watched:
    """An engine, and an assessment of it, both fed with the same frames."""

    def __init__(
        self, made: Measured, *, probe: bool = True, orientation: Orientation = Orientation.AS_IS, **options: Any
    ) -> None:
        self.made = made
        self.orientation = orientation
        self.now = 0.0
        settings = EngineOptions(backend="cpu", threads=1, **options)
        shape = made.counts.shape[1:]
        self.engine = RollingEngine(settings, backend_for(settings), shape, made.probe if probe else None)
        self.points = PointLog(shape)
        self.assessor = Assessor(lambda: self.now)
        self.ended = False

    def add(self, stop: int | None = None) -> "Watched":
        made = self.made
        for i in range(len(self.points), len(made.counts) if stop is None else stop):
            amplitude = np.where(made.valid[i], np.sqrt(made.counts[i]), -1)
            amplitude = np.fft.ifftshift(amplitude).astype(np.float32)
            y, x = made.yx_px[i].tolist()
            assert self.engine.add(amplitude, (y, x)) is not None
            yx_m = (y * made.pixel_m[0], x * made.pixel_m[1])
            self.points.add(int(made.index[i]), yx_m, amplitude, int((~made.valid[i]).sum()), 0)
        return self

    def refine(self, visits: float) -> "Watched":
        """So many updates per frame more."""
        done = idle = 0
        while done < visits * len(self.engine.store) and idle < 5:
            some = self.engine.step_slice()
            self.assessor.step(self.engine)
            done, idle = done + some, 0 if some else idle + 1
        return self

    def finish(self) -> "Watched":
        self.engine.finish()
        self.ended = True
        for _ in range(10**5):
            if self.engine.state is EngineState.DONE:
                return self
            self.engine.step_slice()
            self.assessor.step(self.engine)
        raise AssertionError("polishing does not end")

    @property
    def evidence(self) -> Evidence:
        table, made = self.points.table, self.made
        return Evidence.of(
            table,
            shape=made.counts.shape[1:],
            pixel_m=made.pixel_m,
            orientation=self.orientation,
            expected=made.expected,
            dropped=made.dropped,
            ended=self.ended,
            complete=self.ended,
        )

    def assess(self, *, final: bool = False) -> Assessment:
        self.now += 1.5
        return self.assessor.assess(self.evidence, self.engine, RunId("s", 1), int(self.now * 1e9), final=final)

    def conclude(self) -> Assessment:
        """The last assessment of the finished scan, with all that it needs."""
        self.finish()
        for _ in range(10**5):
            if not self.assessor.owed(self.engine):
                return self.assess(final=True)
            self.assessor.pay(self.engine)
        raise AssertionError("the last assessment is owed for ever")

    def told(self) -> list[str]:
        """Codes reported after as many assessments as they need."""
        self.assess()
        return list(self.assess().findings)


def stages(made: Measured, fractions: tuple[float, ...] = (0.25, 0.5, 1.0), visits: float = 4) -> Iterator[Watched]:
    """A scan at some moments of it."""
    watched = Watched(made)
    for fraction in fractions:
        yield watched.add(round(fraction * len(made.counts))).refine(visits)
