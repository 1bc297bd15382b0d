"""Mutually incoherent probe modes, added two at a time as the ones before settle.

Source of the mixed-state model: Thibault & Menzel, Nature 494, 68 (2013). A mode of zero power has no gradient and needs a
start: the strongest mode times low polynomials of position, which are the first orders of a finite source, a vibration or
motion during the exposure. When one more than asked for have settled, the weakest is removed. (The residuals of a young
object are no guide: on the simulated scan they pointed across the true mode.)
"""

import numpy as np
from numpy.typing import NDArray

from streamptycho.solve.equations.noise import root_count_variance
from streamptycho.solve.solver import Solver

SETTLING_UPDATES = 1000
"""Updates between two new modes, but not more than the passes below."""
SETTLING_PASSES = 10
FEWEST_FRAMES = 8
"""Frames in use before a mode is added."""
NOISE_FRAMES = 48
"""Frames from which the counting noise is estimated."""
CONTEST = 2
"""Modes added at a time, in the end one more than asked for: times x and times y, of which the data may need both."""
COUNT_FLOOR = 1.0
"""Counts; see :attr:`Step.count_floor`."""
NOISE_LIMITED = 1.25
"""Ratio of misfit to counting noise up to which the noise determines the modes."""
SMALLEST_PART = 1e-4
"""Share of a trial mode's power outside the present modes, below which it is one of them but for rounding."""


def mode_powers(probe: NDArray[np.complex64]) -> NDArray[np.float64]:
    """(modes,) share of the power in each mode of `probe` (modes, ny, nx) once orthogonal, strongest first.

    Eigenvalues of the probe's density matrix, sum 1; zeros for a dark probe.
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
    """`probe` (m, ny, nx) with this number of modes: new ones are :func:`trial_modes`, with `power` of the total each."""
    stack = probe[:modes].astype(np.complex128)
    total = (abs(stack) ** 2).sum()
    extra = trial_modes(probe[:modes])[: modes - len(stack)] * np.sqrt(power * total)
    stack = np.concatenate([stack, extra])
    stack *= np.sqrt(total / (abs(stack) ** 2).sum())
    return stack.astype(np.complex64)


class ModeGrowth:
    """Adds modes to a solver until there are as many as asked, each when the ones before it have settled."""

    def __init__(self, modes: int, seed: int) -> None:
        self.modes = modes
        self.complete = modes == 1
        """True once there are as many as asked for."""
        self._random = np.random.default_rng(seed)
        self._solver: Solver | None = None
        self._since = 0

    def settle(self, solver: Solver) -> bool:
        """After the last frame: remove the bias of counting noise from the modes, where the noise limits the fit.

        Several modes are told apart by the darkest pixels, where amplitudes of few counts are biased. Measured data whose
        misfit has other causes are better without this. True if the fit is measured in another way from now on: without the
        bias it is worse, and the modes must leave the shapes that the noise gave them.
        """
        if len(solver.probe) == 1 or solver.count_floor or solver.backend.cuda is not None:  # the CUDA kernels know no floor
            return False
        rows = self._random.permutation(len(solver.store))[:NOISE_FRAMES]
        noise = root_count_variance(solver.store.mean_intensity(rows)).sum() / max(solver.store.power[rows].mean(), 1e-30)
        if solver.error() >= NOISE_LIMITED * noise:
            return False
        solver.count_floor = COUNT_FLOOR
        solver.poor_probe, solver.probe_since = True, solver.updates
        return True

    def begin(self, solver: Solver) -> None:
        """Start over with the modes that a new `solver` has."""
        self._solver, self._since, self.complete = solver, 0, len(solver.probe) == self.modes

    def end(self, solver: Solver) -> None:
        """Keep the strongest modes of a contest that has not ended."""
        if len(solver.probe) > self.modes:
            solver.orthogonalise()
            solver.take_probe(solver.probe[: self.modes])

    def grow(self, solver: Solver) -> bool:
        """Add modes, or remove the weakest, if due; True if anything changed."""
        if solver is not self._solver:
            self.begin(solver)
        wait = min(SETTLING_UPDATES, SETTLING_PASSES * len(solver.store))
        if self.complete or solver.rows_used < FEWEST_FRAMES or solver.updates - self._since < wait:
            return False
        solver.orthogonalise()
        probe = solver.backend.to_host(solver.probe)
        have = len(probe)
        self.complete = have > self.modes  # the contest is over: the strongest stay
        changed = probe[: self.modes] if self.complete else add_modes(probe, min(have + CONTEST, self.modes + 1))
        if len(changed) == have:
            self.complete = True  # a beam of so few pixels has no more modes
            return False
        changed = changed * np.sqrt((abs(probe) ** 2).sum() / (abs(changed) ** 2).sum())
        solver.take_probe(changed)
        solver.poor_probe, solver.probe_since = True, solver.updates  # quick to find their shapes, then settling again
        self._since = solver.updates
        return True
