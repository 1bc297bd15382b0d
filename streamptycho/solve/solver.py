"""One reconstruction: object, probe, and the rule by which frames change them.

The rule anneals with the visits v of each frame from an aggressive start (rPIE weights, full step, momentum on the coarse
grid, correction from the centres of mass) to plain ePIE, because model errors of real data make aggressive rules plateau:

    gamma_O = min(1, g (1 + v/32 (1/g - 1)))     alpha = max(1/2, 1 / (1 + v/32))
    beta = max(0.1, b / (1 + updates/1000))      b = 1 from a guessed probe, 0.7 from one that was given
    momentum ~ mean of 1 / (1 + v/16)            correction ~ 1 / (1 + (v/6)^2) for each frame

Momentum and correction act once per `SLICE` updates, counted across calls, or more rarely on a large object, so that their
share of the computing stays the same. ADR 10 has the measurements behind the constants.
"""

import numpy as np
from numpy.typing import NDArray

from streamptycho.solve.backend import Array, Backend
from streamptycho.solve.background import BackgroundEstimate
from streamptycho.solve.canvas import BLOCK, Canvas
from streamptycho.solve.constraints import impose, interval
from streamptycho.solve.epie import Workspace
from streamptycho.solve.flux import FluxEstimate
from streamptycho.solve.kernels import kernels_for, refining
from streamptycho.solve.rule_options import RuleOptions
from streamptycho.solve.store import FrameStore

SLICE = 50
"""Updates between two changes of the smooth part, while the object is small."""

VANISHING = 1e-20
"""Object step that changes nothing: in single precision x + 1e-20 x = x."""


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
        self.chosen_rule = rule
        """As it was set; another may follow it while polishing."""
        self.follow(rule)
        self.poor_probe = poor_probe
        self.probe_since = 0
        """Updates after which a poor probe began to settle."""
        self.count_floor = 0.0
        """Counts added on both sides of the comparison of amplitudes; see :func:`epie.update`."""
        self.take_probe(probe)
        self.canvas = Canvas(backend, max_pixels)
        self._kernels = kernels_for(backend)
        self.updates = 0
        self.rows_used = 0
        """Rows visited at least once."""
        self.visits = np.zeros(0, np.int64)
        self.misfit: Array = backend.xp.zeros(0, np.float32)
        self.background: Array = backend.xp.zeros((0, 0), np.float32)
        """(ny, nx) incoherent intensity beside the model, or empty."""
        self.constrained = True
        """Whether :func:`constraints.impose` is called between passes."""
        self._next_constraints = 0
        self.flux: FluxEstimate | None = None
        self.background_estimate: BackgroundEstimate | None = None
        self._unfilled: list[int] = []
        self._since = 0
        """Updates since the smooth part was changed last, and for each slice of them the rows, the figures of their
        models, and how often each had been visited by then:"""
        self._visited: list[tuple[NDArray[np.int64], Array, NDArray[np.int64]]] = []

    def take_probe(self, probe: Array) -> None:
        """Go on with this probe, (modes, ny, nx), of as many modes as it has."""
        self.probe: Array = self.backend.to_device(np.array(probe, np.complex64, order="C"))
        self._work = Workspace(self.backend, self.probe.shape)

    def follow(self, rule: RuleOptions) -> None:
        """Go on by this rule; patterns smaller than a coarse cell have no coarse correction."""
        self.rule = rule.resolved()
        if min(self.store.shape) < BLOCK:
            self.rule = self.rule.model_copy(update={"correction": False})

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
        self.prepare()
        while len(rows):
            count = min(SLICE, max(self._interval() - self._since, 1))
            self._slice(rows[:count])
            rows = rows[count:]

    def coverage(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(k,) visits and (k, 2) corners of all frames, in order of arrival, for :meth:`Schedule.draw`."""
        frames = len(self.store)
        return self.visits[:frames], self.store.corners[:frames]

    def visited(self, rows: NDArray[np.int64]) -> None:
        """Count an update from each of `rows`."""
        seen = self.visits[rows]
        if not seen.all():
            self.rows_used += len(set(rows[seen == 0].tolist()))
        np.add.at(self.visits, rows, 1)
        self.updates += len(rows)

    def _slice(self, rows: NDArray[np.int64]) -> None:
        """Updates whose strengths are settled together, then what builds on their outcome."""
        figures = self.backend.xp.empty((len(rows), 4), np.float32)
        self._work.floor = self.count_floor
        self._run(rows, self._steps(rows), figures)
        if self.flux is not None:
            self.flux.learn(rows, figures)
        if self.background_estimate is not None:
            self.background_estimate.learn(len(rows))
        self.visited(rows)
        self._visited.append((rows, figures, self.visits[rows]))
        self._since += len(rows)
        if self._since >= self._interval():
            self._smooth()

    def _steps(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """(k, 4) alpha, beta, gamma_object, gamma_probe."""
        rule = self.rule
        age = self.visits[rows] / rule.anneal_visits
        g = rule.gamma_object
        first = rule.probe_step if self.poor_probe else rule.given_probe_step
        steps = np.full((len(rows), 4), rule.gamma_probe, np.float32)
        steps[:, 0] = np.maximum(rule.settled_object_step, rule.object_step / (1 + age))
        since = 1 + (self.updates - self.probe_since) / rule.probe_memory
        beta = first / (since + np.arange(len(rows)) / rule.probe_memory)
        steps[:, 1] = np.minimum(np.maximum(beta, rule.settled_probe_step), rule.probe_step)
        steps[:, 2] = np.minimum(1, g + age * (1 - g))
        if self.flux is not None:
            steps[:, :2] *= self.flux.weight(rows)[:, None]
        return steps

    def _smooth(self) -> None:
        """Change the smooth part by what the frames visited since the last time tell about it."""
        slices, self._visited, self._since = self._visited, [], 0
        if not (self.rule.correction or self.rule.momentum):
            return
        rows = np.concatenate([rows for rows, _, _ in slices])
        box = self.canvas.box(self.store.corners[rows], self.store.shape, margin=BLOCK)
        phase, fade = None, None
        if self.rule.correction:
            figures = self.backend.xp.concatenate([figures for _, figures, _ in slices])
            visits = np.concatenate([visits for _, _, visits in slices])
            fresh = (1 / (1 + (visits / self.rule.correction_visits) ** 2)).astype(np.float32)
            corners, centres = self.store.corners[rows], self.store.centres[rows]
            phase = self._kernels.phase_step(self.canvas, self.backend, box, self.probe, corners, centres, figures, fresh)
        if self.rule.momentum:
            fade = float((1 / (1 + 2 * self.visits[rows] / self.rule.anneal_visits)).mean())
        self._kernels.advance(self.canvas, self.backend, box, phase, fade)

    def prepare(self) -> None:
        """Make ready for an update from any row that was admitted: fill the windows of new ones, then count their dose."""
        if not self._unfilled:
            return
        corners = self.store.corners[self._unfilled]
        if self.rule.warm_fill:
            self._kernels.warm_fill(self.canvas, self.backend, corners, self.store.shape)
        self._kernels.add_dose(self.canvas, corners, self.probe)
        if self.flux is not None:
            self.flux.predict(np.array(self._unfilled))
        self._unfilled.clear()

    def look(self, rows: NDArray[np.int64]) -> Array:
        """(k, 4) figures of the models of `rows`, see :func:`epie.sweep`; object and probe stay as they are."""
        figures = self.backend.xp.empty((len(rows), 4), np.float32)
        steps = np.tile(np.array([VANISHING, 0, 1, 1], np.float32), (len(rows), 1))
        self._run(rows, steps, figures)
        return figures

    def _run(self, rows: NDArray[np.int64], steps: NDArray[np.float32], figures: Array) -> None:
        """The kernel over `rows`."""
        self._kernels.sweep(
            self.canvas.object,
            self.probe,
            self.store.amplitudes,
            self.store.corners[rows] - np.array(self.canvas.origin),
            rows,
            steps,
            self.store.flux,
            self.background,
            self.misfit,
            figures,
            self._work,
        )

    def _interval(self) -> int:
        """Updates between two changes of the smooth part: more over a large area, so that they take no larger a share."""
        window = self.store.shape[0] * self.store.shape[1]
        return max(SLICE, 4 * self.canvas.area // window)

    # places of the windows

    def shift_sums(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """(k, 6) of :func:`positions_kernels.shift_sums`, on the host."""
        sums = self.backend.xp.zeros((len(rows), 6), np.float32)
        store, places = self.store, self.store.corners[rows] - np.array(self.canvas.origin)
        self._kernels.shift_sums(
            self.canvas.object, self.probe, store.amplitudes, places, rows, store.flux, self.background, sums, self._work
        )
        found: NDArray[np.float64] = self.backend.to_host(sums).astype(np.float64)
        return found

    def misfits_at(self, rows: NDArray[np.int64], corners: NDArray[np.int64]) -> NDArray[np.float64]:
        """(k,) misfits of `rows`, none twice, if their windows stood at the absolute `corners` (k, 2) on the canvas."""
        store, places = self.store, corners - np.array(self.canvas.origin)
        out = self.backend.xp.zeros_like(self.misfit)
        refining(self.backend).measure(
            self.canvas.object, self.probe, store.amplitudes, places, rows, store.flux, self.background, out
        )
        found: NDArray[np.float64] = self.backend.to_host(out[rows]).astype(np.float64)
        return found

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

    def settle(self) -> None:
        """Once per pass, without changing any model: modes orthogonal, and the object within its constraints if due."""
        self.orthogonalise()
        if self.constrained and self.updates >= self._next_constraints:
            impose(self.canvas, self.probe, self.backend, keep_probe=self.rule.probe_step == 0)
            self._next_constraints = self.updates + interval(self.canvas, self.store.shape)

    def orthogonalise(self) -> None:
        """Rotate the modes among themselves so that they are orthogonal, strongest first; the model does not change."""
        if len(self.probe) == 1:
            return
        xp = self.backend.xp
        flat = self.probe.reshape(len(self.probe), -1)
        _, vectors = np.linalg.eigh(self.backend.to_host(flat @ flat.conj().T).astype(np.complex128))
        rotation = self.backend.to_device(vectors[:, ::-1].conj().T.astype(np.complex64))
        self.probe = xp.ascontiguousarray((rotation @ flat).reshape(self.probe.shape))
