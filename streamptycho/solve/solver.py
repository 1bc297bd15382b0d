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

from streamptycho.solve.canvas import BLOCK, Canvas
from streamptycho.solve.devices.backend import Array, Backend
from streamptycho.solve.equations.constraints import impose, interval
from streamptycho.solve.equations.gradient import Deflections
from streamptycho.solve.frames import Frames, Model, Outcome, Steps
from streamptycho.solve.kernels import kernels_for
from streamptycho.solve.settings import RuleOptions
from streamptycho.solve.store import FrameStore

SLICE = 50
"""Updates between two changes of the smooth part, while the object is small."""

VANISHING = 1e-20
"""Object step that changes nothing: in single precision x + 1e-20 x = x."""


class Estimate:
    """An estimate beside object and probe, such as flux or background: learns from sweeps and may weight them."""

    def predict(self, rows: NDArray[np.int64]) -> None:
        """Before the first use of `rows`."""

    def learn(self, rows: NDArray[np.int64], figures: Array) -> None:
        """After a sweep of `rows`; `figures` (k, 4) as in :class:`Outcome`."""

    def weight(self, rows: NDArray[np.int64]) -> NDArray[np.float32] | float:
        """(k,) factor of the steps of `rows`, 0 to 1."""
        return 1.0


class Solver:
    """Object and probe (modes, ny, nx) shaped by rows of a store; `poor_probe`: a guess, which may change fast at first."""

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
        """As configured; another may follow it while polishing."""
        self.follow(rule)
        self.poor_probe = poor_probe
        self.probe_since = 0
        """Updates after which a poor probe began to settle."""
        self.count_floor = 0.0
        self.take_probe(probe)
        self.canvas = Canvas(backend, max_pixels)
        self.kernels = kernels_for(backend)
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
        self.estimates: list[Estimate] = []
        """In the order in which they learn."""
        self._unfilled: list[int] = []
        self._since = 0
        """Updates since the smooth part was changed last, and for each slice of them the rows, the figures of their
        models, and how often each had been visited by then:"""
        self._visited: list[tuple[NDArray[np.int64], Array, NDArray[np.int64]]] = []

    def take_probe(self, probe: Array) -> None:
        """Go on with this probe, (modes, ny, nx), of as many modes as it has."""
        self.probe: Array = self.backend.to_device(np.array(probe, np.complex64, order="C"))

    @property
    def model(self) -> Model:
        """Object and probe as the kernels take them; the arrays are replaced when the canvas grows or modes come and go."""
        return Model(self.canvas.object, self.probe)

    def frames(self, rows: NDArray[np.int64], corners: NDArray[np.int64] | None = None) -> Frames:
        """`rows` as the kernels take them, with their windows in place or at the absolute `corners` (k, 2) on the canvas."""
        store = self.store
        corners = (store.corners[rows] if corners is None else corners) - np.array(self.canvas.origin)
        return Frames(store.amplitudes, store.flux, self.background, rows, corners)

    def follow(self, rule: RuleOptions) -> None:
        """Go on by this rule; patterns smaller than a coarse cell have no coarse correction."""
        self.rule = rule.resolved()
        if min(self.store.shape) < BLOCK:
            self.rule = self.rule.model_copy(update={"correction": False})

    def admit(self, row: int) -> bool:
        """Take a new row of the store on; False if its window lies too far out for the canvas."""
        y, x = self.store.corners[row].tolist()
        if not self.canvas.ensure((y, x), self.store.shape):
            return False
        if row >= len(self.visits):
            more = max(64, 2 * row) - len(self.visits)
            self.visits, self.misfit = np.pad(self.visits, (0, more)), self.backend.xp.pad(self.misfit, (0, more))
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
        """Updates whose strengths are chosen together, and the estimates and the smooth part that follow from them."""
        figures = self._run(rows, Steps(self._steps(rows), self.count_floor))
        for estimate in self.estimates:
            estimate.learn(rows, figures)
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
        for estimate in self.estimates:
            steps[:, :2] *= np.asarray(estimate.weight(rows), np.float32).reshape(-1, 1)
        return steps

    def _smooth(self) -> None:
        """Change the smooth part by the frames visited since the last time."""
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
            seen = Deflections(self.store.corners[rows], self.store.centres[rows], figures, fresh)
            phase = self.kernels.phase_step(self.canvas, box, self.probe, seen)
        if self.rule.momentum:
            fade = float((1 / (1 + 2 * self.visits[rows] / self.rule.anneal_visits)).mean())
        self.kernels.advance(self.canvas, box, phase, fade)

    def prepare(self) -> None:
        """Make ready for an update from any row that was admitted: fill the windows of new ones, then count their dose."""
        if not self._unfilled:
            return
        corners = self.store.corners[self._unfilled]
        if self.rule.warm_fill:
            self.kernels.warm_fill(self.canvas, corners, self.store.shape)
        self.kernels.add_dose(self.canvas, corners, self.probe)
        for estimate in self.estimates:
            estimate.predict(np.array(self._unfilled))
        self._unfilled.clear()

    def look(self, rows: NDArray[np.int64]) -> Array:
        """(k, 4) figures of the models of `rows`, see :class:`Outcome`; object and probe stay as they are."""
        strengths = np.tile(np.array([VANISHING, 0, 1, 1], np.float32), (len(rows), 1))
        return self._run(rows, Steps(strengths))

    def _run(self, rows: NDArray[np.int64], steps: Steps) -> Array:
        figures = self.backend.xp.empty((len(rows), 4), np.float32)
        self.kernels.sweep(self.model, self.frames(rows), steps, Outcome(self.misfit, figures))
        return figures

    def _interval(self) -> int:
        """Updates between two changes of the smooth part: more over a large area, so that they take no larger a share."""
        window = self.store.shape[0] * self.store.shape[1]
        return max(SLICE, 4 * self.canvas.area // window)

    # places of the windows

    def shift_sums(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """(k, 6) of :func:`shift.shift_sums`, on the host."""
        sums = self.kernels.shift_sums(self.model, self.frames(rows))
        return np.asarray(self.backend.to_host(sums), np.float64)

    def misfits(self, rows: NDArray[np.int64], corners: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
        """(k,) present misfits of `rows`, on the host; with `corners` (k, 2), absolute, as if their windows were there."""
        misfits = self.kernels.measure(self.model, self.frames(rows, corners))
        return np.asarray(self.backend.to_host(misfits), np.float64)

    def measure(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """:meth:`misfits` of `rows`, which from now on count as their latest."""
        misfits = self.misfits(rows)
        self.misfit[self.backend.to_device(rows)] = self.backend.to_device(misfits.astype(np.float32))
        return misfits

    def worst(self, count: int) -> NDArray[np.int64]:
        """The `count` rows of the largest misfit for their power."""
        n = len(self.store)
        misfit = self.backend.to_host(self.misfit)[:n] / np.maximum(self.store.power[:n], 1e-30)
        return np.argsort(misfit)[-count:]

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
