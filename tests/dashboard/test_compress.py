"""Pictures as JPEG: what is no measure stays what it is, the rest is near, and there are fewer bytes."""

import json
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from streamptycho_services.dashboard import images
from streamptycho_services.dashboard.compress import MEASURED, as_jpeg
from tests.dashboard.show import Show


@pytest.fixture(scope="module")
def show() -> Show:
    return Show(frames=60, shape=64)


def opened(message: bytes):
    """Header, JPEG and PNG of a message, as arrays (ny, nx)."""
    length = int.from_bytes(message[:4], "little")
    header = json.loads(message[4 : 4 + length])
    jpeg, png = message[4 + length :][: header["jpeg"]], message[4 + length :][header["jpeg"] :]
    return header, *(np.asarray(Image.open(BytesIO(part))) for part in (jpeg, png))


@pytest.mark.parametrize("item", ["phase", "amplitude"])
def test_what_is_not_covered_stays_empty_and_the_rest_is_near(show, item):
    raw = images.picture(show.snapshot(0.5), item, "s")
    before, values = images.unpack(raw)
    header, jpeg, png = opened(as_jpeg(raw))
    assert before | {"jpeg": header["jpeg"]} == header
    assert png.shape == jpeg.shape == values.shape
    assert np.array_equal(png == 0, values == 0)
    assert set(np.unique(png)) == {0, MEASURED}
    assert abs(jpeg.astype(int) - values)[values > 0].mean() < 5


def test_masked_and_saturated_pixels_of_a_pattern_stay_what_they_are(show):
    raw = images.pattern(show.preview(0.5))
    _, values = images.unpack(raw)
    _, _, png = opened(as_jpeg(raw))
    for special in (images.MASKED, images.SATURATED):
        assert np.array_equal(png == special, values == special)
        assert (png == special).any()


def test_a_picture_of_nothing(show):
    snapshot = show.snapshot(0.5)
    raw = images.picture(replace(snapshot, object=np.full_like(snapshot.object, np.nan)), "phase")
    _, jpeg, png = opened(as_jpeg(raw))
    assert not png.any()
    assert jpeg.shape == png.shape


def test_a_smooth_picture_takes_a_tenth_of_the_bytes(show):
    snapshot = show.snapshot(0.5)
    y, x = np.mgrid[:512, :512] / 40
    covered = np.hypot(y - 6.4, x - 6.4) < 6
    obj = np.exp(1j * np.sin(y) * np.cos(x)).astype(np.complex64)
    raw = images.picture(replace(snapshot, object=obj, covered=covered), "phase")
    assert len(as_jpeg(raw)) < 0.1 * len(raw)
