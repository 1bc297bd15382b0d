"""Masks of unknown polarity."""

import numpy as np
import pytest

from streamptycho.errors import FormatError
from streamptycho.files.masks import valid_pixels
from streamptycho.files.options import MaskMeaning

AUTO = MaskMeaning.AUTO


def mask_of(ones: int, dtype: str = "uint8", one: int = 1, zero: int = 0) -> np.ndarray:
    values = np.full(100, zero, dtype)
    values[:ones] = one
    return values.reshape(10, 10)


def read(mask, meaning=AUTO, polarity=None):
    return valid_pixels(mask, meaning, polarity, "/mask")


@pytest.mark.parametrize(("ones", "valid"), [(97, 97), (61, 61), (39, 61), (3, 97)])
@pytest.mark.parametrize("dtype", ["uint8", "int64", "bool", "uint32"])
def test_the_majority_of_zeros_and_ones_is_valid(ones, valid, dtype):
    found, note = read(mask_of(ones, dtype))
    assert found.sum() == valid
    assert "majority" in note
    assert f"{100 - valid} pixels masked" in note


@pytest.mark.parametrize("ones", [40, 50, 60])
def test_an_even_split_is_not_guessed(ones):
    with pytest.raises(FormatError, match=r"/mask: .*set read.mask"):
        read(mask_of(ones))


@pytest.mark.parametrize("one", [0, 1])
def test_equal_values_mask_nothing(one):
    assert read(mask_of(100, one=one))[0] is None


@pytest.mark.parametrize("dtype", ["uint16", "uint32", "int32"])
def test_any_other_value_makes_it_a_bit_field(dtype):
    mask = mask_of(90, dtype, one=0x1000)
    mask[9, 0], mask[9, 1], mask[9, 2] = 1, 0x1080, 4
    found, note = read(mask)
    assert (~found).sum() == 3
    assert not found[9, :3].any()
    assert "bit-field" in note


def test_a_byte_wide_bit_field():
    found, _ = read(mask_of(5, one=0x80))
    assert found.sum() == 95


def test_has_signal_alone_masks_nothing():
    assert read(mask_of(20, "uint16", one=0x1000))[0] is None


def test_0_and_255_is_an_image_of_validity():
    assert read(mask_of(20, one=255))[0].sum() == 20


@pytest.mark.parametrize(
    ("polarity", "valid"),
    [("1=valid,0=masked", 30), ("1 = good", 30), ("0=bad", 30), ("0=good,1=masked", 70), ("0 = valid, 1 = bad", 70)],
)
def test_the_attribute_beats_the_majority(polarity, valid):
    found, note = read(mask_of(30), polarity=polarity)
    assert found.sum() == valid
    assert "polarity attribute" in note


@pytest.mark.parametrize("polarity", ["positive", "1=valid, 0=good"])
def test_a_polarity_that_says_nothing_is_refused(polarity):
    with pytest.raises(FormatError, match=r"is not understood; set read\.mask"):
        read(mask_of(30), polarity=polarity)


def test_a_polarity_that_the_values_contradict_is_refused():
    with pytest.raises(FormatError, match="contradicts the value 128"):
        read(mask_of(30, one=128), polarity="1=valid")


@pytest.mark.parametrize(("meaning", "valid"), [(MaskMeaning.ONE_IS_VALID, 50), (MaskMeaning.ZERO_IS_GOOD, 50)])
def test_the_setting_beats_everything(meaning, valid):
    mask = mask_of(50)
    found, note = read(mask, meaning, "1=valid" if meaning is MaskMeaning.ZERO_IS_GOOD else "0=good")
    assert found.sum() == valid
    assert found[0, 0] == (meaning is MaskMeaning.ONE_IS_VALID)
    assert "setting" in note


def test_ignored():
    assert read(mask_of(50), MaskMeaning.IGNORE) == (None, "ignored as set")


def test_no_valid_pixel_is_refused():
    with pytest.raises(FormatError, match="no pixel is valid"):
        read(mask_of(100, one=4))


def test_a_float_is_no_mask():
    with pytest.raises(FormatError, match="float64 is no mask"):
        read(mask_of(50, "float64"))
