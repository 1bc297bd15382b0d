"""Assessment of one scan: figures, findings, verdict, within a bounded share of the computing."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from streamptycho.assess.arrangement import beam_px, overlap
from streamptycho.assess.evidence import Evidence, Standing
from streamptycho.assess.field import coverage
from streamptycho.assess.findings import findings
from streamptycho.assess.halves import HalfData
from streamptycho.assess.patterns import Patterns, looking
from streamptycho.assess.readings import Readings
from streamptycho.assess.rings import CRITERION
from streamptycho.assess.signs import Signs, signs_of
from streamptycho.assess.verdict import Steady, trusted, verdict
from streamptycho.messages.results import Assessment
from streamptycho.messages.run import RunId
from streamptycho.solve.engine import RollingEngine
from streamptycho.solve.start.trust import Trust

FIRST_PATTERNS = 16
"""Frames from which patterns are examined; again whenever there are twice as many, and at the end."""


class Assessor:
    """Assesses one scan again and again; `clock` in seconds, `pixel_m` (y, x) of the object."""

    def __init__(self, clock: Callable[[], float], seed: int = 0, pixel_m: tuple[float, float] = (1.0, 1.0)) -> None:
        self.halves = HalfData(seed)
        self.readings = Readings(pixel_m, seed)
        self.hurried = False
        """Set where somebody has stopped the scan: other readings of the positions are no longer tried."""
        self._clock = clock
        self._steady = Steady()
        self._patterns: Patterns | None = None
        self._looking: Iterator[Patterns | None] | None = None
        self._looked = 0
        """Frames when they were examined last."""
        self._probe: tuple[float, NDArray[np.complex64]] | None = None
        self._began: NDArray[np.float64] | None = None
        self._explained = False
        """A finding of the latest assessment says why the picture is wrong."""
        self._before = (0, 0)
        """Frames and updates at the assessment before."""

    def step(self, engine: RollingEngine) -> int:
        """A slice of what takes time, if one is due: a pattern, or some updates of a trial or of the resolution.

        Returns the number of updates done.
        """
        if self._looking is None and len(engine.store) >= max(FIRST_PATTERNS, 2 * self._looked):
            self._looked, self._looking = len(engine.store), looking(engine.store)
        if self._looking is not None:
            self._look()
            return 0
        if self.readings.due(engine) and self._may_try:
            return self.readings.pay(engine)
        return self.halves.step(engine)

    def owed(self, engine: RollingEngine) -> bool:
        """True if the last assessment of the scan should wait for :meth:`pay`."""
        return self.halves.owed(engine) or self._owes_readings(engine)

    def pay(self, engine: RollingEngine) -> int:
        """A slice of what the last assessment needs; returns the number of updates done."""
        return self.readings.pay(engine) if self._owes_readings(engine) else self.halves.pay(engine)

    def _owes_readings(self, engine: RollingEngine) -> bool:
        return self._may_try and self.readings.owed(engine)

    @property
    def _may_try(self) -> bool:
        return not self._explained and not self.hurried

    def _look(self) -> None:
        for seen in self._looking or ():
            self._patterns = seen or self._patterns
            return
        self._looking = None

    def assess(
        self, evidence: Evidence, engine: RollingEngine, run: RunId, time_ns: int, *, final: bool = False
    ) -> Assessment:
        """Figures, findings and verdict of this moment; the final one reports every finding at once."""
        while final and self._looking is not None and self._patterns is None:
            self._look()
        pixel_m = evidence.pixel_m
        standing = Standing.of(engine, self._pace(engine), self.readings.unexplained)
        signs = signs_of(evidence, self._patterns, shifts=standing.trust is not Trust.CONFIDENT)
        found = self._steady(findings(evidence, standing, signs), final=final)
        self._explained = any(finding.spoils_picture for finding in found)
        curve = self.halves.latest
        resolution_m = float("nan") if curve is None else curve.resolution_px * max(pixel_m)
        figures = _figures(evidence, standing, signs) | self._probe_figures(standing) | {"resolution_m": resolution_m}
        if engine.solver is not None and len(evidence):
            fraction, area = coverage(engine.solver, evidence.yx_px)
            figures |= {"covered_fraction": fraction, "covered_m2": area * pixel_m[0] * pixel_m[1]}
        nothing = np.zeros(0, np.float32)
        return Assessment(
            **run.fields,
            time_ns=time_ns,
            verdict=verdict(found, evidence, standing, curve, resolution_m, final=final),
            findings={finding.code: str(finding) for finding in found},
            figures={name: float(value) for name, value in figures.items() if np.isfinite(value)},
            frequency_per_m=nothing if curve is None else (curve.frequency / max(pixel_m)).astype(np.float32),
            ring_correlation=nothing if curve is None else curve.correlation.astype(np.float32),
            criterion="" if curve is None else CRITERION,
            trusted=trusted(found, standing),
            final=final,
        )

    def _pace(self, engine: RollingEngine) -> float:
        """Updates per new frame since the assessment before."""
        (frames, updates), self._before = self._before, (len(engine.store), engine.updates)
        new, done = self._before[0] - frames, self._before[1] - updates
        return done / new if new > 0 and done >= 0 else float("nan")

    def _probe_figures(self, standing: Standing) -> dict[str, float]:
        """How fast the strongest mode changes, and how far the probe has moved in its window since it was first seen."""
        if standing.probe is None:
            return {}
        now, probe = self._clock(), standing.probe[0]
        place = _place(standing.probe)
        if self._began is None:
            self._began = place
        found = {"probe_motion_px": float(np.linalg.norm(place - self._began))}
        if self._probe is not None and now > self._probe[0] and self._probe[1].shape == probe.shape:
            then, old = self._probe
            found["probe_change_per_s"] = _change(old, probe) / (now - then)
        self._probe = now, probe
        return found


def _change(old: NDArray[np.complex64], new: NDArray[np.complex64]) -> float:
    """Distance of two fields of any scale and phase: 0 for the same, 1 for nothing in common."""
    power = float(np.vdot(old, old).real) * float(np.vdot(new, new).real)
    shared = float(abs(np.vdot(old, new))) ** 2
    return float(np.sqrt(max(0.0, 1 - shared / power))) if power > 0 else 0.0


def _place(probe: NDArray[np.complex64]) -> NDArray[np.float64]:
    """(2,) centre of the power of (modes, ny, nx) about the middle, px."""
    power = (np.abs(probe.astype(np.complex128)) ** 2).sum(0)
    total = max(float(power.sum()), 1e-30)
    y, x = (np.arange(n) - n // 2 for n in power.shape)
    return np.array([float((power.sum(1) * y).sum()), float((power.sum(0) * x).sum())]) / total


def _figures(evidence: Evidence, standing: Standing, signs: Signs) -> dict[str, float]:
    y, x = evidence.pixel_m
    photons = signs.photons if signs.patterns is None or signs.patterns.counted else float("nan")
    figures = {
        "error": standing.error,
        "unexplained": standing.unexplained,
        "visits": standing.visits,
        "photons_per_frame": photons,
        "photons_per_pixel": photons / signs.step_px**2,
        "step_m": signs.step_px * np.sqrt(y * x),
        "beam_m": beam_px(standing, signs) * np.sqrt(y * x),
        "overlap": overlap(standing, signs),
        "saturated_frames": signs.saturated_frames,
        "saturated_px": signs.saturated_px,
        "dark_frames": signs.dark_frames,
        "missing_frames": float(signs.missing),
        "flux_jitter": signs.flux_jitter,
        "centre_off_px": float(np.hypot(*signs.centre_px)),
        "centre_wander_px": signs.wander_px,
    }
    if evidence.expected:
        figures["frames_fraction"] = len(evidence) / evidence.expected
    if signs.patterns is not None:
        figures["noise_error"] = signs.patterns.noise_share
    if signs.curls is not None:
        figures["curl"] = float(signs.curls.classes[0])
    if standing.positions_refined:
        figures |= {"position_shift_px": standing.position_shift_px, "position_drift_px": standing.position_drift_px}
    if len(standing.mode_powers) > 1:
        figures |= {f"mode_power_{i}": float(power) for i, power in enumerate(standing.mode_powers)}
    return figures
