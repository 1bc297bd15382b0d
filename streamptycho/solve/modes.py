"""Mutually incoherent probe modes: added one after the other, from what the patterns show beyond the present ones.

Source of the mixed-state model: Thibault & Menzel, Nature 494, 68 (2013). A mode of zero power has no gradient, so each
must be given a start. It is sought among the strongest mode times low polynomials of position (what a finite source, a
vibration or motion during the exposure make of a beam, to first orders) as the combination whose intensity correlates best
with what the model lacks; its power follows from a least-squares fit.
"""

import numpy as np
from numpy.typing import NDArray

from streamptycho.solve.backend import Array
from streamptycho.solve.epie import far_field
from streamptycho.solve.solver import Solver

SETTLING_UPDATES = 1000
"""Updates between two new modes, if that is not more than so many passes:"""
SETTLING_PASSES = 10
FEWEST_FRAMES = 8
"""Frames from which the shape of a new mode is estimated at least, and at most:"""
MOST_FRAMES = 48
LEAST_POWER, MOST_POWER = 0.01, 0.1
"""Bounds of a new mode's share."""
SMALLEST_PART = 1e-4
"""Share of a trial mode's power outside the modes present, below which it is there already, but for rounding."""


def mode_powers(probe: NDArray[np.complex64]) -> NDArray[np.float64]:
    """Share of the power in each mode of the orthogonalised probe, strongest first.

    Parameters
    ----------
    probe : (modes, ny, nx) complex64, not necessarily orthogonal.

    Returns
    -------
    (modes,) float64, sum 1: the eigenvalues of the probe's density matrix; zeros for a dark probe.
    """
    flat = probe.reshape(len(probe), -1).astype(np.complex128)
    powers = np.clip(np.linalg.eigvalsh(flat @ flat.conj().T)[::-1], 0, None)
    shares: NDArray[np.float64] = powers / max(float(powers.sum()), 1e-300)
    return shares


def trial_modes(probe: NDArray[np.complex64]) -> NDArray[np.complex128]:
    """Strongest mode times x, y, xy..., orthogonal to all modes and among each other, of unit power each: (k, ny, nx)."""
    flat = probe.reshape(len(probe), -1).astype(np.complex128)
    basis = [mode / np.sqrt(np.vdot(mode, mode).real) for mode in flat if mode.any()]
    present = len(basis)
    y, x = (np.linspace(-1, 1, n) for n in probe.shape[1:])
    y, x = y[:, None], x[None]
    for factor in (x, y, x * y, x**2 - y**2, x**2 + y**2, x**3, y**3):
        extra = (probe[0] * factor).ravel().astype(np.complex128)
        whole = np.vdot(extra, extra).real
        for _ in range(2):  # once more against rounding
            for mode in basis:
                extra = extra - mode * np.vdot(mode, extra)
        if np.vdot(extra, extra).real > SMALLEST_PART * whole:
            basis.append(extra / np.sqrt(np.vdot(extra, extra).real))
    return np.array(basis[present:]).reshape(-1, *probe.shape[1:])


def add_modes(probe: NDArray[np.complex64], modes: int, power: float = 0.05) -> NDArray[np.complex64]:
    """`probe` (m, ny, nx) with as many modes as asked: guesses, from no data.

    New ones are the strongest times x, y, xy..., orthogonal to the others, with `power` of the total each.
    """
    stack = probe[:modes].astype(np.complex128)
    total = (abs(stack) ** 2).sum()
    extra = trial_modes(probe[:modes])[: modes - len(stack)] * np.sqrt(power * total)
    stack = np.concatenate([stack, extra])
    stack *= np.sqrt(total / (abs(stack) ** 2).sum())
    return stack.astype(np.complex64)


def missing_mode(solver: Solver, rows: NDArray[np.int64]) -> tuple[NDArray[np.complex64], float] | None:
    """The mode that `rows` show to be missing most, and its share of the power; None if they show none.

    To first order, a mode q adds |F O q|^2 to the model. Over the span of :func:`trial_modes` the weighted residual is a
    Hermitian form, whose strongest eigenvector is returned: (ny, nx), unit power. The weights depend on the model alone, so
    that counting noise does not bias them.
    """
    xp, store = solver.backend.xp, solver.store
    trials_host = trial_modes(solver.backend.to_host(solver.probe)).astype(np.complex64)
    if not len(trials_host):
        return None
    trials = solver.backend.to_device(trials_host)
    form: Array = xp.zeros((len(trials), len(trials)), xp.complex128)
    fields, weights = [], []
    for row in rows:
        window = solver.canvas.object[solver.canvas.window(tuple(store.corners[row].tolist()), store.shape)]
        amplitude = store.amplitudes[row] / store.flux[row]
        field = far_field(solver.backend, solver.probe * window)
        model = (field.real**2 + field.imag**2).sum(0)
        if solver.background.size:
            model = model + solver.background
        weight = (amplitude >= 0) / (model + 1)
        trial = far_field(solver.backend, trials * window)
        flat = trial.reshape(len(trials), -1)
        form += flat.conj() @ (flat * (weight * (amplitude**2 - model)).reshape(1, -1)).T
        fields.append(trial)
        weights.append(weight)
    gains, vectors = np.linalg.eigh(solver.backend.to_host(form + form.conj().T) / 2)
    if not gains[-1] > 0:
        return None
    # the form is conj(F_a) F_b: a combination sum c_a F_a has the intensity c^H form^T... of these coefficients
    coefficients = solver.backend.to_device(vectors[:, -1].astype(np.complex64))
    curvature = 0.0
    for trial, weight in zip(fields, weights, strict=True):
        added = abs(xp.tensordot(coefficients, trial, 1)) ** 2
        curvature += float((weight * added**2).sum())
    total = float((abs(solver.probe) ** 2).sum())
    share = float(gains[-1]) / max(curvature, 1e-30) / total
    mode = np.tensordot(vectors[:, -1].astype(np.complex64), trials_host, 1)
    return mode, float(np.clip(share, LEAST_POWER, MOST_POWER))


class ModeGrowth:
    """Adds modes to a solver until there are as many as asked, each when the ones before it have settled."""

    def __init__(self, modes: int, seed: int) -> None:
        self.modes = modes
        self.complete = modes == 1
        """True once there are enough modes, or nothing shows that more are needed."""
        self._random = np.random.default_rng(seed)
        self._solver: Solver | None = None
        self._since = 0

    def grow(self, solver: Solver) -> bool:
        """Add a mode if it is time; True if one was added."""
        if solver is not self._solver:
            self._solver, self._since = solver, 0
        self.complete = len(solver.probe) >= self.modes
        used = np.flatnonzero(solver.visits[: len(solver.store)])
        wait = min(SETTLING_UPDATES, SETTLING_PASSES * len(solver.store))
        if self.complete or len(used) < FEWEST_FRAMES or solver.updates - self._since < wait:
            return False
        self._since = solver.updates
        solver.orthogonalise()
        missing = missing_mode(solver, self._random.permutation(used)[:MOST_FRAMES])
        if missing is None:
            return False
        mode, share = missing
        probe = solver.backend.to_host(solver.probe)
        total = (abs(probe) ** 2).sum()
        grown = np.concatenate([probe * np.sqrt(1 - share), mode[None] * np.sqrt(share * total)])
        solver.take_probe(grown)
        self.complete = len(grown) >= self.modes
        return True
