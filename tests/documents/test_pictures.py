"""Object and probe as arrays of bounded size."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamptycho.display.phase import displayed_phase
from streamptycho.documents import pictures
from streamptycho.documents.pictures import MAX_PROBE_PIXELS, MAX_SIDE, ObjectCanvas, probe_data
from streamptycho.messages.results import Snapshot
from tests.files.factories import snapshot

PIXEL_M = (20e-9, 10e-9)


def specimen(shape: tuple[int, int]) -> np.ndarray:
    y, x = np.ogrid[: shape[0], : shape[1]]
    return ((1 - 0.3 * np.cos(y / 9)) * np.exp(1j * np.sin(x / 7) * np.cos(y / 11))).astype(np.complex64)


def at(top: int, left: int, shape: tuple[int, int], **changes: object) -> Snapshot:
    origin = (top * PIXEL_M[0], left * PIXEL_M[1])
    obj, covered = specimen(shape), np.ones(shape, np.bool_)
    return snapshot(0, shape, **({"object": obj, "covered": covered, "origin_m": origin, "pixel_m": PIXEL_M} | changes))


def test_one_picture_is_as_it_was():
    picture = at(3, -5, (40, 60))
    data = ObjectCanvas().data(picture)
    np.testing.assert_allclose(data["object_phase"], displayed_phase(picture.object, picture.covered), atol=1e-5)
    np.testing.assert_allclose(data["object_amplitude"], abs(picture.object), rtol=1e-5)
    assert data["object_covered"].all()
    assert (tuple(data["object_pixel_m"]), tuple(data["object_origin_m"])) == (PIXEL_M, picture.origin_m)


def test_nothing_where_nothing_is_covered():
    covered = np.zeros((40, 60), np.bool_)
    covered[:, 20:] = True
    data = ObjectCanvas().data(at(0, 0, (40, 60), covered=covered))
    for name in ("object_phase", "object_amplitude", "object_covered"):
        assert (data[name][:, :20] == 0).all()
    np.testing.assert_array_equal(data["object_covered"], covered)


def test_a_growing_object_changes_its_shape_a_few_times_only():
    canvas, shapes = ObjectCanvas(), []
    for i in range(200):
        data = canvas.data(at(-i, 0, (64 + i, 64 + 2 * i)))
        shapes.append(data["object_phase"].shape)
        # the same point of the sample at every size of the canvas
        y, x = (round(-o / p) for o, p in zip(data["object_origin_m"], data["object_pixel_m"], strict=True))
        assert data["object_covered"][y - i : y + 64, x : x + 64].all()
        assert data["object_covered"].sum() == (64 + i) * (64 + 2 * i)
    assert len(set(shapes)) <= 32
    final = canvas.data(at(-199, 0, (263, 462), final=True))
    assert final["object_phase"].shape == (263, 462)


def test_an_outlier_does_not_leave_an_empty_canvas_behind():
    canvas = ObjectCanvas()
    canvas.data(at(0, 0, (64, 64)))
    canvas.data(at(50_000, 50_000, (64, 64)))
    assert canvas.data(at(50_000, 50_000, (64, 64)))["object_phase"].shape == (64, 64)


@pytest.mark.parametrize(("shape", "binning"), [((1024, 1024), 1), ((1025, 300), 2), ((300, 3000), 3)])
def test_large_objects_are_binned(shape, binning):
    picture = at(0, 0, shape)
    data = ObjectCanvas().data(picture)
    assert max(data["object_phase"].shape) <= MAX_SIDE
    assert data["object_pixel_m"].tolist() == [p * binning for p in PIXEL_M]
    np.testing.assert_allclose(data["object_origin_m"], [(binning - 1) / 2 * p for p in PIXEL_M])
    ny, nx = (n // binning for n in shape)
    blocks = picture.object[: ny * binning, : nx * binning].reshape(ny, binning, nx, binning)
    np.testing.assert_allclose(data["object_amplitude"][:ny, :nx], abs(blocks).mean((1, 3)), rtol=1e-4)
    mean = blocks.mean((1, 3))
    seen = data["object_phase"][:ny, :nx]
    expected = displayed_phase(mean.astype(np.complex64), np.ones(mean.shape, np.bool_))
    apart = np.angle(np.exp(1j * (seen - expected)))
    assert np.abs(apart).max() < 0.05, "but for the ramp of the rim"


def test_binned_pixels_stay_where_they_are_when_the_object_grows():
    canvas = ObjectCanvas()
    canvas.data(at(0, 0, (2100, 64)))
    data = canvas.data(at(-1, -2, (2101, 70)))
    b = round(data["object_pixel_m"][0] / PIXEL_M[0])
    covered = np.argwhere(data["object_covered"])
    first_m = [o + n * p for o, n, p in zip(data["object_origin_m"], covered.min(0), data["object_pixel_m"], strict=True)]
    for axis, top in ((0, -1), (1, -2)):
        centre_px = first_m[axis] / PIXEL_M[axis]
        assert top - b / 2 <= centre_px <= top + b, "the first block holds the first pixel"


@given(
    top=st.integers(-3000, 3000),
    shape=st.tuples(st.integers(1, 2500), st.integers(1, 40)),
    before=st.tuples(st.integers(1, 2500), st.integers(1, 40)),
    final=st.booleans(),
)
def test_any_sizes_and_places(top, shape, before, final):
    canvas = ObjectCanvas()
    canvas.data(at(0, 0, before))
    data = canvas.data(at(top, 3, shape, final=final))
    assert max(data["object_phase"].shape) <= MAX_SIDE
    assert data["object_phase"].shape == data["object_amplitude"].shape == data["object_covered"].shape
    assert data["object_covered"].any()


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30, 3e38 * (1 + 1j), 0])
def test_values_that_are_not_numbers_do_no_harm(value):
    picture = at(0, 0, (40, 60))
    obj, probe = picture.object.copy(), picture.probe.copy()
    obj[5:9, 7] = value
    probe[1, 3:5, 2] = value
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for array in [*ObjectCanvas().data(at(0, 0, (40, 60), object=obj, probe=probe)).values()]:
            assert np.isfinite(array).all()
        for array in probe_data(at(0, 0, (40, 60), object=obj, probe=probe)).values():
            assert np.isfinite(array).all()
            assert np.size(array)


@pytest.mark.parametrize("far", [1e300, -1e300, 1e-3, 4e8])
def test_any_origin(far):
    data = ObjectCanvas().data(at(0, 0, (8, 8), origin_m=(far, -far)))
    assert data["object_phase"].shape == (8, 8)


class TestProbe:
    def test_modes(self):
        y, x = np.mgrid[-8:8, -8:8]
        mode = np.exp(-(y**2 + x**2) / 20) * np.exp(2j)
        data = probe_data(at(0, 0, (8, 8), probe=np.stack([2 * mode, mode]).astype(np.complex64)))
        np.testing.assert_allclose(data["probe_power"], [0.8, 0.2], rtol=1e-6)
        np.testing.assert_allclose(data["probe_amplitude"][1], abs(mode), rtol=1e-5)
        np.testing.assert_allclose(data["probe_phase"], 0, atol=1e-5)
        assert data["probe_pixel_m"].tolist() == list(PIXEL_M)

    @pytest.mark.parametrize("shape", [(1, 1024, 1024), (2, 1024, 1024), (16, 300, 500), (3, 2000, 10)])
    def test_is_bounded(self, shape):
        data = probe_data(at(0, 0, (8, 8), probe=np.ones(shape, np.complex64)))
        assert data["probe_amplitude"].size <= MAX_PROBE_PIXELS
        binning = data["probe_pixel_m"][0] / PIXEL_M[0]
        assert data["probe_amplitude"].shape == (shape[0], *(int(np.ceil(n / binning)) for n in shape[1:]))
        assert data["probe_amplitude"][0, 0, 0] == 1

    def test_of_many_modes(self, monkeypatch):
        monkeypatch.setattr(pictures, "MAX_PROBE_PIXELS", 100)
        data = probe_data(at(0, 0, (8, 8), probe=np.ones((7, 30, 20), np.complex64)))
        assert data["probe_amplitude"].size <= 100

    def test_of_nothing(self):
        data = probe_data(at(0, 0, (8, 8), probe=np.zeros((2, 4, 4), np.complex64)))
        assert not any(np.any(data[name]) for name in ("probe_amplitude", "probe_phase", "probe_power"))
