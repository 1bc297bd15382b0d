"""One reconstruction: object, probe, and the rule by which frames change them.

The rule anneals with the visits v of each frame from an aggressive start (rPIE weights, full step, momentum on the coarse
grid) to plain ePIE, because model errors of real data make aggressive rules plateau:

    gamma_O = min(1, g (1 + v/32 (1/g - 1)))     alpha = max(1/2, 1 / (1 + v/32))     momentum ~ mean of 1 / (1 + v/16)
    beta = max(0.1, 1 / (1 + updates/1000))      from a poor probe; 0.1 from a good one
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from streamptycho.options import Options
from streamptycho.solve.backend import Array, Backend
from streamptycho.solve.canvas import Canvas
from streamptycho.solve.epie import Workspace
from streamptycho.solve.gradient import footprint, missing_gradient, overlap
from streamptycho.solve.kernels import kernels_for
from streamptycho.solve.store import FrameStore

SLICE = 50
"""Updates between two corrections of the smooth phase."""
CORRECTION_VISITS = 1
"""Visits after which a frame's correction is halved: on real data, residuals that no object explains would wind up. With 3
simulated pictures are a little better while few updates are to be had, and the measured star worse."""


class RuleOptions(Options):
    """Strength of the updates."""

    gamma_object: float = Field(0.2, gt=0, le=1)
    """Regularisation of the object's weight for fresh frames; 1 is plain ePIE throughout."""
    gamma_probe: float = Field(1.0, gt=0, le=1)
    """The same for the probe."""
    object_step: float = Field(1.0, gt=0, le=1)
    """Object step for fresh frames."""
    settled_object_step: float = Field(0.5, gt=0, le=1)
    """Object step for frames visited very often."""
    probe_step: float = Field(1.0, ge=0, le=1)
    """Probe step at the start, from a probe that was guessed; 0 keeps the probe."""
    settled_probe_step: float = Field(0.1, ge=0, le=1)
    """Probe step at the end, and throughout from a probe that was given."""
    probe_memory: float = Field(1000, gt=0)
    """Updates over which the probe step falls to a half."""
    anneal_visits: float = Field(32, gt=0)
    """Visits of a frame over which the rule turns to plain ePIE."""
    momentum: bool = True
    """Momentum of the smooth part of the object."""
    correction: bool = False
    """Correction of the smooth phase from the patterns' centres of mass: halves the live error of simulated scans, and costs
    the measured star 0.005 in detail correlation when only few updates are to be had (ADR 7)."""
    warm_fill: bool = True
    """Continue the known object smoothly into newly covered area."""


class Solver:
    """Object and probe that rows of a :class:`FrameStore` have shaped so far.

    Parameters
    ----------
    store : frames; several solvers may share one.
    probe : (modes, ny, nx) complex64.
    poor_probe : True if the probe is a guess, which then may change quickly at first.
    """

    def __init__(
        self,
        backend: Backend,
        store: FrameStore,
        probe: Array,
        rule: RuleOptions,
        *,
        poor_probe: bool,
        max_pixels: int = 1 << 28,
    ) -> None:
        self.backend = backend
        self.store = store
        self.rule = rule
        self.poor_probe = poor_probe
        self.probe: Array = backend.to_device(np.array(probe, np.complex64, order="C"))
        self.canvas = Canvas(backend, max_pixels)
        self._work = Workspace(backend, self.probe.shape)
        self._kernels = kernels_for(backend)
        self.updates = 0
        self.rows_used = 0
        """Rows visited at least once."""
        self.visits = np.zeros(0, np.int64)
        self.misfit: Array = backend.xp.zeros(0, np.float32)
        self.background: Array = backend.xp.zeros((0, 0), np.float32)
        """(ny, nx) incoherent intensity beside the model, or empty."""
        self._unfilled: list[int] = []
        self._recent_rows: list[NDArray[np.int64]] = []
        self._since_momentum = 0
        self._visited: list[tuple[NDArray[np.int64], Array]] = []
        """Rows since the last correction, and the centres of mass of their models."""

    def admit(self, row: int) -> bool:
        """Take a new row of the store on; False if its window lies too far out for the canvas."""
        corner = self.store.corners[row]
        if not self.canvas.ensure((int(corner[0]), int(corner[1])), self.store.shape):
            return False
        if row >= len(self.visits):
            size = max(64, 2 * row)
            self.visits = np.concatenate([self.visits, np.zeros(size - len(self.visits), np.int64)])
            longer = self.backend.xp.zeros(size, np.float32)
            longer[: len(self.misfit)] = self.misfit
            self.misfit = longer
        self._unfilled.append(row)
        return True

    def sweep(self, rows: NDArray[np.int64]) -> None:
        """One update from each of `rows` in order, in place; nothing waits for the device."""
        self._prepare_new()
        for first in range(0, len(rows), SLICE):
            self._slice(rows[first : first + SLICE])

    def _slice(self, rows: NDArray[np.int64]) -> None:
        """Updates whose strengths are settled together, then what builds on their outcome."""
        store, canvas, xp = self.store, self.canvas, self.backend.xp
        corners = store.corners[rows]
        figures = xp.empty((len(rows), 4), xp.float32)
        self._kernels.sweep(
            canvas.object,
            self.probe,
            store.amplitudes,
            corners - np.array(canvas.origin),
            rows,
            self._steps(rows),
            store.flux,
            self.background,
            self.misfit,
            figures,
            self._work,
        )
        if self.rule.correction:
            self._visited.append((rows, figures[:, :2]))
            if sum(len(some) for some, _ in self._visited) >= SLICE:
                self._correct()
        self.rows_used += int((self.visits[np.unique(rows)] == 0).sum())
        np.add.at(self.visits, rows, 1)
        self.updates += len(rows)
        if self.rule.momentum:
            self._recent_rows.append(rows)
            self._since_momentum += len(rows)
            if self._since_momentum >= self._momentum_interval():
                self._momentum()

    def _steps(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """(k, 4) alpha, beta, gamma_object, gamma_probe."""
        rule = self.rule
        age = self.visits[rows] / rule.anneal_visits
        g = rule.gamma_object
        beta = np.full(len(rows), rule.settled_probe_step)
        if self.poor_probe:
            updates = self.updates + np.arange(len(rows))
            beta = np.maximum(beta, rule.probe_step / (1 + updates / rule.probe_memory))
        steps = np.empty((len(rows), 4), np.float32)
        steps[:, 0] = np.maximum(rule.settled_object_step, rule.object_step / (1 + age))
        steps[:, 1] = np.minimum(beta, rule.probe_step)
        steps[:, 2] = np.minimum(1, g + age * (1 - g))
        steps[:, 3] = rule.gamma_probe
        return steps

    def _correct(self) -> None:
        """Correction from the centres of mass, weak for frames seen often or covered by no other."""
        rows = np.concatenate([rows for rows, _ in self._visited])
        centres = self.backend.xp.concatenate([centres for _, centres in self._visited])
        self._visited.clear()
        corners = self.store.corners[rows]
        share = footprint(self.probe)
        covered = overlap(self.backend, self.canvas, share, corners)
        seen = self.backend.to_device((1 / (1 + self.visits[rows] / CORRECTION_VISITS)).astype(np.float32))
        trust = seen * self.backend.xp.clip((covered - 1) / 2, 0, 1)
        missing = missing_gradient(self.backend, self.store.centres[rows], centres, trust, self.store.shape)
        self._kernels.correct(self.canvas, self.backend, share, corners, missing)

    def _prepare_new(self) -> None:
        """Fill the windows of new frames, then count their dose."""
        if not self._unfilled:
            return
        corners = self.store.corners[self._unfilled]
        if self.rule.warm_fill:
            self._kernels.warm_fill(self.canvas, self.backend, corners, self.store.shape)
        power = self._work.intensity(self.backend.xp, self.probe)
        power = power / power.max()
        self.canvas.add_dose(corners, power)
        self._unfilled.clear()

    def _momentum_interval(self) -> int:
        """Updates between two steps of momentum: 50, or more over a large area so that its share of the time stays small."""
        window = self.store.shape[0] * self.store.shape[1]
        return max(50, 4 * self.canvas.area // window)

    def _momentum(self) -> None:
        rows = np.unique(np.concatenate(self._recent_rows))
        fade = float((1 / (1 + 2 * self.visits[rows] / self.rule.anneal_visits)).mean())
        self._kernels.momentum(self.canvas, self.backend, self.store.corners[rows], self.store.shape, fade)
        self._recent_rows.clear()
        self._since_momentum = 0

    # places of the windows

    def shift_sums(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """(k, 6) of :func:`positions_kernels.shift_sums`, on the host."""
        sums = self.backend.xp.zeros((len(rows), 6), np.float32)
        self._measure(self._kernels.shift_sums, rows, self.store.corners[rows], sums)
        found: NDArray[np.float64] = self.backend.to_host(sums).astype(np.float64)
        return found

    def misfits_at(self, rows: NDArray[np.int64], corners: NDArray[np.int64]) -> NDArray[np.float64]:
        """(k,) misfits of `rows` if their windows stood at the absolute `corners` (k, 2), which must lie on the canvas."""
        out = self.backend.xp.zeros(len(rows), np.float32)
        self._measure(self._kernels.misfits, rows, corners, out)
        found: NDArray[np.float64] = self.backend.to_host(out).astype(np.float64)
        return found

    def _measure(self, kernel: Callable[..., None], rows: Array, corners: Array, out: Array) -> None:
        places = corners - np.array(self.canvas.origin)
        store = self.store
        kernel(self.canvas.object, self.probe, store.amplitudes, places, rows, store.flux, self.background, out, self._work)

    def worst(self, count: int) -> NDArray[np.int64]:
        """The `count` rows of the largest misfit for their power."""
        n = len(self.store)
        misfit = self.backend.to_host(self.misfit)[:n] / np.maximum(self.store.power[:n], 1e-30)
        worst: NDArray[np.int64] = np.argsort(misfit)[-count:]
        return worst

    def move(self, rows: NDArray[np.int64], corners: NDArray[np.int64]) -> None:
        """Let the windows of `rows` stand at `corners` from now on; those for which the canvas is too small stay.

        What a moved frame has taught counts half. The dose is not moved with it: it is wanted to a cell, not to a pixel.
        """
        for row, corner in zip(rows.tolist(), corners.tolist(), strict=True):
            moved = (self.store.corners[row] != corner).any()
            if moved and self.canvas.ensure((corner[0], corner[1]), self.store.shape):
                self.store.corners[row] = corner
                self.visits[row] = (self.visits[row] + 1) // 2

    def error(self, rows: NDArray[np.int64] | None = None) -> float:
        """Fourier error sum (|model| - A)^2 / sum A^2 over the latest visit of each row visited; NaN before the first."""
        misfit = self.backend.to_host(self.misfit)
        rows = np.arange(len(self.store)) if rows is None else rows
        rows = rows[rows < len(self.visits)]
        rows = rows[self.visits[rows] > 0]
        power = self.store.power[rows].sum()
        return float(misfit[rows].sum(dtype=np.float64) / power) if power > 0 else float("nan")

    def orthogonalise(self) -> None:
        """Rotate the modes among themselves so that they are orthogonal, strongest first; the model does not change."""
        if len(self.probe) == 1:
            return
        xp = self.backend.xp
        flat = self.probe.reshape(len(self.probe), -1)
        _, vectors = np.linalg.eigh(self.backend.to_host(flat @ flat.conj().T).astype(np.complex128))
        rotation = self.backend.to_device(vectors[:, ::-1].conj().T.astype(np.complex64))
        self.probe = xp.ascontiguousarray((rotation @ flat).reshape(self.probe.shape))
