"""From metres to object pixels, against values worked out by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from streamptycho.messages.geometry import Orientation
from streamptycho.preprocess.options import PositionOptions
from streamptycho.preprocess.positions import PositionTransform

PIXEL = (2e-9, 4e-9)
YX = (6e-6, -8e-6)
BY_HAND = [
    ({}, (3000, -2000)),
    ({"swap": True}, (-4000, 1500)),
    ({"flip_y": True}, (-3000, -2000)),
    ({"flip_x": True}, (3000, 2000)),
    ({"swap": True, "flip_y": True}, (4000, 1500)),
    ({"swap": True, "flip_x": True}, (-4000, -1500)),
    ({"rotation_deg": 90}, (-4000, -1500)),  # x' = -y = -6 um, y' = x = -8 um
    ({"rotation_deg": -90}, (4000, 1500)),
    ({"rotation_deg": 180}, (-3000, 2000)),
    ({"flip_y": True, "rotation_deg": 90}, (-4000, 1500)),
    ({"affine": ((2.0, 0.0), (0.0, 0.5))}, (6000, -1000)),
    ({"affine": ((1.0, 0.5), (0.0, 1.0))}, (1000, -2000)),  # y' = 6 - 4 = 2 um
    ({"affine": ((1.0, 0.0), (0.5, 1.0))}, (3000, -1250)),  # x' = -8 + 3 = -5 um
    ({"rotation_deg": 90, "affine": ((1.0, 0.0), (0.5, 1.0))}, (-4000, -2500)),  # x' = -6 - 4 = -10 um
    ({"swap": True, "rotation_deg": 90}, (3000, 2000)),  # y, x = -8, 6: x' = 8, y' = 6
]


@pytest.mark.parametrize(("options", "expected"), BY_HAND)
def test_by_hand(options, expected):
    assert PositionTransform(PositionOptions(**options), PIXEL)(YX) == pytest.approx(expected)


def test_rotation_by_30_degrees_turns_x_towards_y():
    """As the option says: x' = x cos - y sin, y' = x sin + y cos."""
    turn = PositionTransform(PositionOptions(rotation_deg=30), (1.0, 1.0))
    assert turn((0.0, 1.0)) == pytest.approx((0.5, math.sqrt(0.75)))
    assert turn((1.0, 0.0)) == pytest.approx((math.sqrt(0.75), -0.5))


@pytest.mark.parametrize(("unit", "factor"), [("m", 1), ("mm", 1e3), ("um", 1e6), ("nm", 1e9)])
def test_units(unit: str, factor: float):
    transform = PositionTransform(PositionOptions(unit=unit), PIXEL)
    assert transform((YX[0] * factor, YX[1] * factor)) == pytest.approx((3000, -2000))


numbers = st.floats(-1e-3, 1e-3)


@given(numbers, numbers, st.floats(-180, 180))
def test_rotation_and_back(y: float, x: float, degrees: float):
    there = PositionTransform(PositionOptions(rotation_deg=degrees), (1.0, 1.0))
    back = PositionTransform(PositionOptions(rotation_deg=-degrees), (1.0, 1.0))
    assert back(there((y, x))) == pytest.approx((y, x), abs=1e-15)
    assert math.hypot(*there((y, x))) == pytest.approx(math.hypot(y, x), abs=1e-15)


@given(numbers, numbers, st.booleans(), st.booleans())
def test_swap_and_flips_and_back(y: float, x: float, flip_y: bool, flip_x: bool):
    there = PositionTransform(PositionOptions(swap=True, flip_y=flip_y, flip_x=flip_x), (1.0, 1.0))
    back = PositionTransform(PositionOptions(swap=True, flip_y=flip_x, flip_x=flip_y), (1.0, 1.0))
    assert back(there((y, x))) == (y, x)


@given(numbers, numbers, st.lists(st.floats(-2, 2), min_size=4, max_size=4))
def test_affine_and_back(y: float, x: float, entries: list[float]):
    matrix = np.reshape(entries, (2, 2)) + 5 * np.eye(2)
    options = [PositionOptions(affine=tuple(map(tuple, m.tolist()))) for m in (matrix, np.linalg.inv(matrix))]
    there, back = (PositionTransform(o, (1.0, 1.0)) for o in options)
    assert back(there((y, x))) == pytest.approx((y, x), abs=1e-12)


@pytest.mark.parametrize(
    ("orientation", "options"),
    [
        (Orientation.FLIP_Y, {"flip_y": True}),
        (Orientation.FLIP_X, {"flip_x": True}),
        (Orientation.ROTATE_180, {"flip_y": True, "flip_x": True}),
        (Orientation.TRANSPOSE, {"swap": True}),
        (Orientation.ROTATE_90, {"swap": True, "flip_y": True}),
        (Orientation.ROTATE_270, {"swap": True, "flip_x": True}),
        (Orientation.ANTI_TRANSPOSE, {"swap": True, "flip_y": True, "flip_x": True}),
    ],
)
def test_positions_can_be_turned_exactly_as_frames_are(orientation: Orientation, options):
    """A displacement of a spot on the frame and the same displacement of the position stay the same."""
    marks = np.zeros((9, 9))
    marks[4, 4], marks[6, 5] = 1, 2
    oriented = orientation.apply(marks)
    moved = np.argwhere(oriented == 2)[0] - np.argwhere(oriented == 1)[0]
    assert PositionTransform(PositionOptions(**options), (1.0, 1.0))((2.0, 1.0)) == pytest.approx(tuple(moved))


@pytest.mark.parametrize("options", [{"unit": "cm"}, {"affine": ((1, 0),)}, {"flip": True}])
def test_options_that_cannot_be(options):
    with pytest.raises(ValidationError, match=next(iter(options))):
        PositionOptions(**options)
