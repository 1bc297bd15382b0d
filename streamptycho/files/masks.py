"""What the numbers of a mask mean: 1 = valid, 0 = good, or a CXI bit field. Pure; knows nothing of HDF5."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamptycho.errors import FormatError
from streamptycho.files.options import MaskMeaning

HAS_SIGNAL = 0x1000
"""The one CXI pixel bit that does not make a pixel bad."""
_CLEAR_MAJORITY = 0.6


def valid_pixels(
    mask: NDArray[Any], meaning: MaskMeaning, polarity: str | None, path: str
) -> tuple[NDArray[np.bool_] | None, str]:
    """(ny, nx) bool, True = valid, or None if nothing is masked; and the reason.

    Decided by `meaning` unless that is ``auto``, then by the text of the `polarity` attribute, then by the values.
    """
    if meaning is MaskMeaning.IGNORE:
        return None, "ignored as set"
    if not np.issubdtype(mask.dtype, np.integer) and mask.dtype != np.bool_:
        raise FormatError(f"{path}: type {mask.dtype} is no mask; set read.mask = 'ignore'")
    values = set(np.unique(mask).tolist())
    if meaning is not MaskMeaning.AUTO:
        one_valid, why = meaning is MaskMeaning.ONE_IS_VALID, "the setting"
    elif polarity:
        one_valid, why = _says_one_is_valid(polarity, values, path), "polarity attribute"
    elif values in ({0}, {1}):
        return None, f"nothing masked: all values are equal ({path})"
    else:
        one_valid, why = _looks_as_if_one_is_valid(mask, values, path)
    valid = mask != 0 if one_valid else (mask.astype(np.int64) & ~HAS_SIGNAL) == 0
    if valid.all():
        return None, f"nothing masked, from {why} ({path})"
    if not valid.any():
        raise FormatError(f"{path}: no pixel is valid when read by {why}; set read.mask")
    return valid, f"{int((~valid).sum())} pixels masked, {'1 = valid' if one_valid else '0 = good'} from {why} ({path})"


def _says_one_is_valid(polarity: str, values: set[int], path: str) -> bool:
    text = polarity.lower().replace(" ", "")
    one_valid = any(word in text for word in ("1=valid", "1=good", "0=masked", "0=bad"))
    if one_valid == any(word in text for word in ("0=valid", "0=good", "1=masked", "1=bad")):
        raise FormatError(f"{path}: polarity {polarity!r} is not understood; set read.mask")
    if one_valid and not values <= {0, 1, 255}:
        raise FormatError(
            f"{path}: polarity {polarity!r} contradicts the value {max(values)}, which only a bit field has; set read.mask"
        )
    return one_valid


def _looks_as_if_one_is_valid(mask: NDArray[Any], values: set[int], path: str) -> tuple[bool, str]:
    if values <= {0, 255}:
        return True, "the values 0 and 255"
    if not values <= {0, 1}:
        return False, "bit-field values"
    share = float(np.count_nonzero(mask)) / mask.size
    if 1 - _CLEAR_MAJORITY <= share <= _CLEAR_MAJORITY:
        raise FormatError(f"{path}: {share:.0%} of the pixels are 1, so neither 0 nor 1 is clearly 'valid'; set read.mask")
    return share > _CLEAR_MAJORITY, "the majority value"
