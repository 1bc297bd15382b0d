"""Units, and the eight ways a detector can lie against the scan."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamptycho.messages.geometry import HC_EV_M, JOULE_PER_EV, Geometry, Orientation, wavelength_from_ev
from tests.strategies import geometries

FRAME = np.arange(6).reshape(2, 3)
BY_HAND = {
    "as-is": [[0, 1, 2], [3, 4, 5]],
    "flip-y": [[3, 4, 5], [0, 1, 2]],
    "flip-x": [[2, 1, 0], [5, 4, 3]],
    "rotate-180": [[5, 4, 3], [2, 1, 0]],
    "transpose": [[0, 3], [1, 4], [2, 5]],
    "rotate-90": [[2, 5], [1, 4], [0, 3]],
    "rotate-270": [[3, 0], [4, 1], [5, 2]],
    "anti-transpose": [[5, 2], [4, 1], [3, 0]],
}


def test_constants():
    planck, light, charge = 6.62607015e-34, 299792458, 1.602176634e-19
    assert pytest.approx(planck * light / charge, rel=1e-12) == HC_EV_M
    assert charge == JOULE_PER_EV


def test_wavelength():
    assert wavelength_from_ev(8800.0) == pytest.approx(1.40891e-10, rel=1e-5)
    assert wavelength_from_ev(12398.41984332) == pytest.approx(1e-10)


@given(geometries)
def test_energy_and_wavelength_are_inverse(geometry: Geometry):
    assert wavelength_from_ev(geometry.energy_ev) == pytest.approx(geometry.wavelength_m)


def test_object_pixel_of_a_real_scan():
    geometry = Geometry(
        wavelength_m=wavelength_from_ev(8800.0), distance_m=1.92, pitch_m=(75e-6, 75e-6), frame_shape=(128, 128)
    )
    assert geometry.object_pixel_m((128, 128)) == pytest.approx((28.18e-9, 28.18e-9), rel=1e-4)


def test_object_pixel_takes_each_axis_from_its_own_side():
    geometry = Geometry(wavelength_m=1e-10, distance_m=1.0, pitch_m=(1e-4, 2e-4), frame_shape=(100, 400))
    assert geometry.object_pixel_m((100, 400)) == pytest.approx((1e-8, 1.25e-9))


@pytest.mark.parametrize("bad", [0, 0.0, -1, -1e-9, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("field", "name"),
    [
        ("wavelength_m", "wavelength_m"),
        ("distance_m", "distance_m"),
        ("pitch_m", "pitch_m[y]"),
        ("pitch_m", "pitch_m[x]"),
        ("frame_shape", "frame_shape[y]"),
        ("frame_shape", "frame_shape[x]"),
    ],
)
def test_refuses_what_is_not_positive_and_finite(field: str, name: str, bad: float):
    values = {"wavelength_m": 1e-10, "distance_m": 1.0, "pitch_m": (1e-4, 1e-4), "frame_shape": (4, 4)}
    good = values[field]
    values[field] = (bad, good[1]) if name.endswith("[y]") else (good[0], bad) if name.endswith("[x]") else bad
    with pytest.raises(ValueError, match=name.replace("[", r"\[")):
        Geometry(**values)


def test_what_is_not_known_is_nan_and_named():
    values = {"wavelength_m": 1e-10, "distance_m": 1.0, "pitch_m": (1e-4, 1e-4), "frame_shape": (4, 4)}
    assert Geometry(**values).unknown == []
    for name, nan in (("wavelength_m", math.nan), ("distance_m", math.nan), ("pitch_m", (1e-4, math.nan))):
        assert Geometry(**values | {name: nan}).unknown == [name]
    assert math.isnan(Geometry(**values | {"distance_m": math.nan}).object_pixel_m((4, 4))[0])


def test_orientations_by_hand():
    assert {str(orientation): orientation.apply(FRAME).tolist() for orientation in Orientation} == BY_HAND


def test_rotations_are_numpys():
    assert np.array_equal(Orientation.ROTATE_90.apply(FRAME), np.rot90(FRAME))
    assert np.array_equal(Orientation.ROTATE_180.apply(FRAME), np.rot90(FRAME, 2))
    assert np.array_equal(Orientation.ROTATE_270.apply(FRAME), np.rot90(FRAME, 3))


def test_orientations_form_the_dihedral_group():
    square = np.arange(9).reshape(3, 3)
    images = {orientation: orientation.apply(square).tobytes() for orientation in Orientation}
    assert len(set(images.values())) == 8

    def then(first: Orientation, second: Orientation) -> Orientation:
        image = second.apply(first.apply(square)).tobytes()
        return next(orientation for orientation in Orientation if images[orientation] == image)

    table = {pair: then(*pair) for pair in itertools.product(Orientation, repeat=2)}  # closed, or next() fails
    unit = Orientation.AS_IS
    assert all(table[unit, a] is a and table[a, unit] is a for a in Orientation)
    assert all(any(table[a, b] is unit and table[b, a] is unit for b in Orientation) for a in Orientation)
    assert sum(table[a, a] is unit for a in Orientation) == 6, "unit, half turn and four reflections"
    assert table[Orientation.ROTATE_90, Orientation.FLIP_Y] is not table[Orientation.FLIP_Y, Orientation.ROTATE_90]


@pytest.mark.parametrize("orientation", Orientation)
def test_shape_and_pair_follow_the_axes(orientation: Orientation):
    # the frame's coordinates carry the pitch of each axis as a step
    pitch = (10, 1)
    frame = np.add.outer(np.arange(4) * pitch[0], np.arange(7) * pitch[1])
    oriented = orientation.apply(frame)
    assert oriented.shape == orientation.shape((4, 7))
    steps = abs(int(oriented[1, 0] - oriented[0, 0])), abs(int(oriented[0, 1] - oriented[0, 0]))
    assert steps == orientation.pair(pitch)


@given(st.sampled_from(Orientation), st.integers(1, 5), st.integers(1, 5), st.integers(1, 3))
def test_stack_is_oriented_frame_by_frame_without_a_copy(orientation: Orientation, ny: int, nx: int, n: int):
    stack = np.arange(n * ny * nx).reshape(n, ny, nx)
    oriented = orientation.apply(stack)
    assert np.shares_memory(oriented, stack)
    assert oriented.shape[1:] == orientation.shape((ny, nx))
    for one, frame in zip(oriented, stack, strict=True):
        assert np.array_equal(one, orientation.apply(frame))


@pytest.mark.parametrize("orientation", list(Orientation))
@pytest.mark.parametrize("point", [(0, 0), (3, 5), (6, 10), (0, 10)])
def test_a_point_is_where_its_pixel_is(orientation: Orientation, point: tuple[int, int]):
    frame = np.zeros((7, 11))
    frame[point] = 1
    [[y, x]] = np.argwhere(orientation.apply(frame))
    assert orientation.point(point, (7, 11)) == (y, x)
    half = orientation.point((point[0] + 0.5, point[1] + 0.25), (7, 11))
    assert sorted(abs(a - b) for a, b in zip(half, (y, x), strict=True)) == [0.25, 0.5]
