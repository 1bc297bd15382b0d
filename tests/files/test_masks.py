"""Masks of unknown polarity."""

import numpy as np
import pytest

from streamptycho.errors import FormatError
from streamptycho.files.options import MaskMeaning
from streamptycho.files.recorded.masks import valid_pixels

AUTO = MaskMeaning.AUTO


def mask_of(ones: int, dtype: str = "uint8", one: int = 1, zero: int = 0) -> np.ndarray:
    values = np.full(100, zero, dtype)
    values[:ones] = one
    return values.reshape(10, 10)


def read(mask, meaning=AUTO, polarity=None, **more):
    return valid_pixels(mask, meaning, polarity, "/mask", **more)


def lit(first: int) -> np.ndarray:
    """Light on so many of the first pixels."""
    return (np.arange(100.0) < first).reshape(10, 10).astype(float)


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


def test_whole_numbers_in_a_float_are_a_mask():
    assert read(mask_of(20, "float64"))[0].sum() == 80


@pytest.mark.parametrize("odd", [0.5, np.nan])
def test_other_numbers_are_no_mask(odd):
    with pytest.raises(FormatError, match="float64 with other than whole numbers is no mask"):
        read(mask_of(50, "float64") * odd)


@pytest.mark.parametrize("one", [1, 255])
@pytest.mark.parametrize(("light", "valid"), [(30, 30), (0, None)])
def test_the_light_decides_before_the_majority(one, light, valid):
    found, note = read(mask_of(30, one=one), light=lit(light))
    if valid is None:
        assert "the light" not in note
    else:
        assert found.sum() == valid
        assert "the light" in note


def test_masked_pixels_that_hold_the_light_are_not_masked():
    """Two thirds of the pixels are 1 and dark: a beam on a detector of which most is masked."""
    found, note = read(mask_of(66), light=1 - lit(66))
    assert found.sum() == 34
    assert "hold 0.0% of the light, 0 = good from the light" in note


def test_light_on_both_is_asked_about():
    with pytest.raises(FormatError, match=r"hold 50% of the light.*set read.mask to one-is-valid or zero-is-good"):
        read(mask_of(30), light=lit(60))


def test_a_standard_beats_the_majority():
    found, note = read(mask_of(66), standard="the standard of CXI", light=1 - lit(66))
    assert found.sum() == 34
    assert "standard of CXI" in note


@pytest.mark.parametrize("more", [{"standard": "the standard of CXI"}, {"polarity": "0=good"}])
def test_a_mask_that_hides_the_light_is_asked_about_whoever_says_what_it_means(more):
    with pytest.raises(FormatError, match=r"the masked pixels hold 100% of the light; set read.mask"):
        read(mask_of(66), light=lit(60), **more)
    found, _ = read(mask_of(66), MaskMeaning.ZERO_IS_GOOD, light=lit(60))
    assert found.sum() == 34
