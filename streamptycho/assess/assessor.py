"""Assessment of one scan: figures, findings, verdict, within a bounded share of the computing."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from streamptycho.assess.evidence import Evidence, Standing
from streamptycho.assess.field import coverage
from streamptycho.assess.findings import Finding, beam_px, findings, overlap
from streamptycho.assess.halves import HalfData
from streamptycho.assess.patterns import Patterns, looking
from streamptycho.assess.signs import Signs, signs_of
from streamptycho.assess.verdict import Steady, verdict
from streamptycho.solve.engine import RollingEngine
from streamptycho.solve.trust import Trust

FIRST_LOOK = 16
"""Frames from which patterns are looked at; again whenever there are twice as many, and at the end."""


class Clock(Protocol):
    """Seconds."""

    def __call__(self) -> float:
        """Now."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Judgement:
    """What is said of a scan at one moment."""

    verdict: str
    findings: list[Finding]
    figures: dict[str, float]
    frequency_per_m: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    ring_correlation: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))


class Assessor:
    """Looks at one scan again and again.

    Attributes
    ----------
    halves : the estimates of the resolution, advanced by :meth:`step`.
    """

    def __init__(self, clock: Clock, seed: int = 0) -> None:
        self.halves = HalfData(seed)
        self._clock = clock
        self._steady = Steady()
        self._patterns: Patterns | None = None
        self._looking: Iterator[Patterns | None] | None = None
        self._looked = 0
        """Frames when they were looked at."""
        self._probe: tuple[float, NDArray[np.complex64]] | None = None
        self._began: NDArray[np.float64] | None = None
        self._before = (0, 0)
        """Frames and updates at the assessment before."""

    def step(self, engine: RollingEngine) -> int:
        """A slice of what takes time, if one is due: one pattern, or some updates of the estimate of the resolution.

        Returns the number of updates done.
        """
        if self._looking is None and len(engine.store) >= max(FIRST_LOOK, 2 * self._looked):
            self._looked, self._looking = len(engine.store), looking(engine.store)
        if self._looking is not None:
            self._look()
            return 0
        return self.halves.step(engine)

    def _look(self) -> None:
        if self._looking is None:
            return
        for seen in self._looking:
            self._patterns = seen or self._patterns
            return
        self._looking = None

    def assess(self, evidence: Evidence, engine: RollingEngine, *, final: bool = False) -> Judgement:
        """Figures, findings and verdict of this moment; the final one tells every finding at once."""
        while final and self._looking is not None and self._patterns is None:
            self._look()
        pixel_m = evidence.pixel_m
        standing = Standing.of(engine, self._pace(engine))
        signs = signs_of(evidence, self._patterns, shifts=standing.trust is not Trust.CONFIDENT)
        told = self._steady(findings(evidence, standing, signs), final=final)
        curve = self.halves.latest
        resolution_m = float("nan") if curve is None else curve.resolution_px * max(pixel_m)
        figures = _figures(evidence, standing, signs) | self._probe_figures(standing) | {"resolution_m": resolution_m}
        if engine.solver is not None and len(evidence):
            fraction, area = coverage(engine.solver, evidence.yx_px)
            figures |= {"covered_fraction": fraction, "covered_m2": area * pixel_m[0] * pixel_m[1]}
        words = verdict(told, evidence, standing, curve, resolution_m)
        known = {name: float(value) for name, value in figures.items() if np.isfinite(value)}
        if curve is None:
            return Judgement(verdict=words, findings=told, figures=known)
        return Judgement(
            verdict=words,
            findings=told,
            figures=known,
            frequency_per_m=(curve.frequency / max(pixel_m)).astype(np.float32),
            ring_correlation=curve.correlation.astype(np.float32),
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
    shared = float(abs(np.vdot(old, new)) ** 2)
    return float(np.sqrt(max(0.0, 1 - shared / power))) if power > 0 else 0.0


def _place(probe: NDArray[np.complex64]) -> NDArray[np.float64]:
    """(2,) centre of the power of (modes, ny, nx) about the middle, px."""
    power = (np.abs(probe) ** 2).sum(0)
    total = max(float(power.sum()), 1e-30)
    y, x = (np.arange(n) - n // 2 for n in power.shape)
    return np.array([float((power.sum(1) * y).sum()), float((power.sum(0) * x).sum())]) / total


def _figures(evidence: Evidence, standing: Standing, signs: Signs) -> dict[str, float]:
    y, x = evidence.pixel_m
    figures = {
        "error": standing.error,
        "unexplained": standing.unexplained,
        "visits": standing.visits,
        "photons_per_frame": signs.photons,
        "photons_per_pixel": signs.photons / signs.step_px**2,
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
