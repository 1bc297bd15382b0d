"""What neighbours on the sample tell: curls, incoherence, changes with time."""

from collections.abc import Callable

import numpy as np
import pytest

from streamptycho.assess.arrangement import better_orientations
from streamptycho.assess.curl import AS_IS, MIRRORED, TRANSPOSED, TURNED, Curls, curls
from streamptycho.assess.in_time import KNOTS, change_in_time
from streamptycho.assess.neighbours import Neighbours
from streamptycho.messages.geometry import Orientation


def grid(side: int = 20, seed: int = 0) -> np.ndarray:
    """(side^2, 2) jittered snake with steps of one."""
    y, x = np.divmod(np.arange(side * side), side)
    x = np.where(y % 2, side - 1 - x, x)
    return np.stack([y, x], 1) + np.random.default_rng(seed).uniform(-0.2, 0.2, (side * side, 2))


def slopes(yx: np.ndarray, seed: int = 0) -> np.ndarray:
    """Gradient of smooth random hills."""
    random = np.random.default_rng(seed)
    waves, phases = random.normal(0, 0.35, (30, 2)), random.uniform(0, 6, 30)
    return np.cos(yx @ waves.T + phases) @ waves


def looked(change: Callable[[np.ndarray], np.ndarray] = lambda field: field, seed: int = 0, shift: int = 0) -> Curls:
    yx = grid(seed=seed)
    field = change(slopes(yx, seed))
    end = len(yx) - shift
    near = Neighbours.find(yx[:end])
    assert near is not None
    return curls(near, np.arange(end), field[shift:])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda f: f, AS_IS),
        (lambda f: -f, AS_IS),
        (lambda f: f * [1, -1], MIRRORED),
        (lambda f: f * [-1, 1], MIRRORED),
        (lambda f: f[:, ::-1], TRANSPOSED),
        (lambda f: -f[:, ::-1], TRANSPOSED),
        (lambda f: f[:, ::-1] * [1, -1], TURNED),
    ],
    ids=["as it is", "half-turn", "flip x", "flip y", "transpose", "anti-transpose", "quarter turn"],
)
def test_the_right_class_has_no_curl(change, kind, seed):
    found = looked(change, seed)
    assert found.best == kind
    assert found.classes[kind] < 0.15
    assert np.delete(found.classes, kind).min() > 3 * found.classes[kind]
    assert found.certainty[kind] > 2 or kind == AS_IS


@pytest.mark.parametrize("shift", [1, 3, 12])
def test_a_shift_of_the_index_is_found(shift):
    found = looked(shift=shift)
    assert found.lag == -shift
    assert found.lagged < min(0.03, 0.3 * found.classes[AS_IS])
    assert found.lag_certainty > 2


def test_without_a_shift_none_is_better():
    found = looked()
    assert found.lagged > found.classes[AS_IS]


@pytest.mark.parametrize("present", Orientation)
def test_a_better_orientation_undoes_a_wrong_one(present):
    """Frames that would be right with `wanted` and are mirrored, transposed or turned by `present`."""
    frame = np.random.default_rng(0).normal(size=(4, 6))
    kinds = {Orientation.FLIP_Y: MIRRORED, Orientation.TRANSPOSE: TRANSPOSED, Orientation.ROTATE_90: TURNED}
    for step, kind in kinds.items():
        one, other = better_orientations(present, kind)
        np.testing.assert_array_equal(one.apply(frame), step.apply(present.apply(frame)))
        np.testing.assert_array_equal(other.apply(frame), one.apply(frame)[::-1, ::-1])


def test_points_along_a_line_tell_nothing():
    line = np.stack([np.arange(100.0), 0.01 * np.random.default_rng(0).normal(size=100)], 1)
    assert Neighbours.find(line) is None
    assert Neighbours.find(np.zeros((50, 2))) is None
    assert Neighbours.find(grid()[:10]) is None


def test_a_point_whose_neighbours_lie_along_a_line_is_no_centre():
    """With it, the nine have a plane, without it not: a frame beside a row, where the rows between are missing."""
    row = np.stack([np.zeros(40), np.arange(40.0)], 1)
    beside = np.array([[3.0, 5.0], [3.0, 20.0], [-3.0, 35.0]])
    yx = np.concatenate([grid() + 100, row, beside])
    near = Neighbours.find(yx)
    assert near is not None
    assert abs(near.residuals(3 * yx[:, 0] - yx[:, 1] + 5)).max() < 1e-6


def test_incoherence_and_residuals():
    yx = grid()
    near = Neighbours.find(yx)
    assert near is not None
    random = np.random.default_rng(1)
    assert near.step == pytest.approx(1, abs=0.15)
    assert near.incoherence(np.sin(yx[:, 0] / 4)) < 0.2
    assert near.incoherence(random.normal(size=len(yx))) == pytest.approx(1, abs=0.15)
    assert np.isnan(near.incoherence(np.ones(len(yx))))
    assert abs(near.residuals(3 * yx[:, 0] - yx[:, 1])).max() < 1e-9
    assert near.residuals(random.normal(size=len(yx))).std() == pytest.approx(1, abs=0.1)


def test_a_change_with_time_is_told_from_one_with_place():
    yx = grid()
    near = Neighbours.find(yx)
    assert near is not None
    index = np.arange(len(yx))
    first, second = near.pairs(index)
    assert (index[second] - index[first] >= 10).all()
    place = slopes(yx, 3)[:, :1] / 3
    drift = np.stack([4 * index / len(yx), np.sin(index / 60)], 1)
    still, uncertain = change_in_time(first, second, index, np.hstack([place, place]))
    moving, error = change_in_time(first, second, index, drift + place)
    assert still.shape == moving.shape == (KNOTS, 2)
    assert np.ptp(still, axis=0).max() < 0.8
    assert (np.ptp(still, axis=0) < 4 * uncertain).all()
    assert np.ptp(moving[:, 0]) > 4 * error[0]
    at = np.linspace(0, len(yx) - 1, KNOTS)
    wanted = np.stack([4 * at / len(yx), np.sin(at / 60)], 1)
    np.testing.assert_allclose(moving - still, wanted - wanted.mean(0), atol=0.4)
