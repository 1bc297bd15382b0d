"""What the numbers of a mask mean: 1 = valid, 0 = good, or a CXI bit field. Pure; knows nothing of HDF5."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamptycho.errors import FormatError
from streamptycho.files.options import MaskMeaning

HAS_SIGNAL = 0x1000
"""The one CXI pixel bit that does not make a pixel bad."""
_CLEAR_MAJORITY = 0.6
_HIDDEN = 0.35
"""Share of the light that a mask may hide where the light decides what it means."""
_BLIND = 0.5
"""Share of the light that no mask hides, whatever says what it means."""
_ONE = {MaskMeaning.ONE_IS_VALID: "1 = valid", MaskMeaning.ZERO_IS_GOOD: "0 = good"}


def valid_pixels(
    mask: NDArray[Any],
    meaning: MaskMeaning,
    polarity: str | None,
    path: str,
    *,
    standard: str | None = None,
    light: NDArray[np.float64] | None = None,
) -> tuple[NDArray[np.bool_] | None, str]:
    """(ny, nx) bool, True = valid, or None if nothing is masked; and the reason.

    Decided by `meaning` unless that is ``auto``, then by the text of the `polarity` attribute, then by the standard of the
    file, which is a reason for 0 = good, then by the values and the light.

    light : (ny, nx) mean of some frames, 0 or more; masked pixels hold little of it.
    """
    if meaning is MaskMeaning.IGNORE:
        return None, "ignored as set"
    mask = _whole(mask, path)
    values = set(np.unique(mask).tolist())
    if meaning is not MaskMeaning.AUTO:
        one_valid, why = meaning is MaskMeaning.ONE_IS_VALID, "the setting"
    elif polarity:
        one_valid, why = _says_one_is_valid(polarity, values, path), "polarity attribute"
    elif values == {0} or (values == {1} and standard is None):
        return None, f"nothing masked: all values are equal ({path})"
    elif standard is not None:
        one_valid, why = False, standard
    else:
        one_valid, why = _decided(mask, values, path, light)
    valid = mask != 0 if one_valid else (mask & ~HAS_SIGNAL) == 0
    if valid.all():
        return None, f"nothing masked, from {why} ({path})"
    if not valid.any():
        raise FormatError(f"{path}: no pixel is valid when read by {why}; set read.mask")
    hidden = _hidden(valid, light)
    if meaning is MaskMeaning.AUTO and hidden is not None and hidden > _BLIND:
        raise FormatError(
            f"{path}: read as {_name(one_valid)} by {why}, the masked pixels hold {hidden:.0%} of the light; set read.mask "
            "to one-is-valid or zero-is-good"
        )
    dark = "" if hidden is None else f", which hold {hidden:.1%} of the light"
    return valid, f"{int((~valid).sum())} pixels masked{dark}, {_name(one_valid)} from {why} ({path})"


def _name(one_valid: bool) -> str:
    return _ONE[MaskMeaning.ONE_IS_VALID if one_valid else MaskMeaning.ZERO_IS_GOOD]


def _whole(mask: NDArray[Any], path: str) -> NDArray[np.int64]:
    """The mask in whole numbers."""
    whole = mask.astype(np.int64) if mask.dtype.kind in "biuf" and np.isfinite(mask).all() else None
    if whole is None or (mask.dtype.kind == "f" and (whole != mask).any()):
        raise FormatError(f"{path}: type {mask.dtype} with other than whole numbers is no mask; set read.mask = 'ignore'")
    return whole


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


def _decided(mask: NDArray[np.int64], values: set[int], path: str, light: NDArray[np.float64] | None) -> tuple[bool, str]:
    """Whether other values than 0 are valid, and what tells it."""
    if not values <= {0, 1} and not values <= {0, 255}:
        return False, "bit-field values"
    if 255 in values and (light is None or not light.any()):
        return True, "the values 0 and 255"
    hidden = _hidden(mask != 0, light)
    if hidden is not None and not _HIDDEN < hidden < 1 - _HIDDEN:
        return hidden <= _HIDDEN, "the light"
    share = float(np.count_nonzero(mask)) / mask.size
    if hidden is not None or 1 - _CLEAR_MAJORITY <= share <= _CLEAR_MAJORITY:
        lit = "" if hidden is None else f" and hold {1 - hidden:.0%} of the light"
        raise FormatError(
            f"{path}: {share:.0%} of the pixels are {max(values)}{lit}, so neither 0 nor {max(values)} is clearly 'valid'; "
            "set read.mask to one-is-valid or zero-is-good"
        )
    return share > _CLEAR_MAJORITY, "the majority value"


def _hidden(valid: NDArray[np.bool_], light: NDArray[np.float64] | None) -> float | None:
    """Share of the light outside `valid`; None if there is no light. Roots, so that a hot pixel weighs little."""
    if light is None or not light.any():
        return None
    roots = np.sqrt(light)
    return float(roots[~valid].sum() / roots.sum())
