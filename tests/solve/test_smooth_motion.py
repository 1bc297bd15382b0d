"""What changes the object from outside is no motion of its smooth part."""

from collections.abc import Callable

import numpy as np
import pytest

from streamptycho.solve.canvas import block_mean
from streamptycho.solve.devices.backend import numpy_backend
from streamptycho.solve.equations.constraints import exchange_ramp
from streamptycho.solve.estimates.modes import ModeGrowth
from streamptycho.solve.estimates.positions import PositionRefiner
from streamptycho.solve.estimates.positions_field import level
from streamptycho.solve.polish.difference_map import DifferenceMapRefiner
from streamptycho.solve.polish.lsqml import LsqmlRefiner
from streamptycho.solve.polish.options import PolishOptions
from streamptycho.solve.polish.polish import Polish
from streamptycho.solve.schedule import Schedule
from streamptycho.solve.settings import PositionRefinement, RuleOptions
from streamptycho.solve.solver import Solver
from streamptycho.solve.start.start import balance
from tests.solve.helpers import scene, stored

BACKEND = numpy_backend()
MADE = scene(32, 40)


def moving() -> Solver:
    """A solver whose object has changed since its smooth part was advanced last."""
    solver = Solver(BACKEND, stored(MADE, BACKEND), MADE.guess, RuleOptions(), poor_probe=True)
    for row in range(len(solver.store)):
        solver.admit(row)
    solver.sweep(np.arange(120) % 40)
    assert np.linalg.norm(change(solver)) > 0.01
    return solver


def change(solver: Solver) -> np.ndarray:
    """What momentum would be built on."""
    return block_mean(solver.canvas.object) - solver.canvas.cell_object


def polish(solver: Solver) -> Polish:
    positions = PositionRefiner(PositionRefinement(), 0)
    options = PolishOptions(polish_passes=3, polish_tolerance=0)
    return Polish(solver, Schedule(0), ModeGrowth(1, 0), positions, options, [])


@pytest.mark.parametrize(
    "begin",
    [
        lambda solver: LsqmlRefiner(solver, Schedule(0), PolishOptions()),
        lambda solver: DifferenceMapRefiner(solver, Schedule(0), PolishOptions()),
        lambda solver: polish(solver)._restore(),
        lambda solver: level(solver.canvas, BACKEND, np.zeros((1, 2)), np.full((2, *solver.canvas.velocity.shape), 0.3)),
    ],
    ids=["lsqml", "dm", "restored", "moved"],
)
def test_who_takes_over_begins_at_rest(begin: Callable[[Solver], object]):
    solver = moving()
    begin(solver)
    assert abs(change(solver)).max() < 1e-6


def test_a_ramp_turns_what_has_changed_and_adds_nothing():
    solver = moving()
    before = change(solver)
    ny, nx = solver.canvas.shape
    exchange_ramp(solver.canvas, solver.probe, np.array([0.01, -0.02]), (slice(0, ny), slice(0, nx)), BACKEND)
    known = block_mean(solver.canvas.dose) > 0.1
    np.testing.assert_allclose(abs(change(solver))[known], abs(before)[known], atol=1e-6)
    assert np.linalg.norm((change(solver) - before)[known]) > 0.01 * np.linalg.norm(before[known])


def test_another_scale_scales_what_has_changed():
    solver = moving()
    known = block_mean(solver.canvas.dose) > 1
    before = change(solver)[known]
    solver.probe *= np.float32(2)
    balance(solver, float((abs(solver.probe) ** 2).sum()) / 4)
    np.testing.assert_allclose(change(solver)[known], 2 * before, atol=1e-5)


def test_without_momentum_nothing_is_carried_on():
    solver = Solver(BACKEND, stored(MADE, BACKEND), MADE.guess, RuleOptions(momentum=False), poor_probe=True)
    for row in range(len(solver.store)):
        solver.admit(row)
    solver.sweep(np.arange(120) % 40)
    assert not solver.canvas.velocity.any()
