"""What stands for an unknown figure: a value that fails every test for "good enough"."""

import math

FEWEST_FRAMES = 4
"""Fewer frames have less to say than the object has pixels: some object explains them, the first one to 1e-14."""


def number(value: float | None, unknown: float) -> float:
    """`value` if it is a finite number."""
    return float(value) if value is not None and math.isfinite(value) else unknown


def length_m(value: float | None) -> float:
    """A length in metres that is not known is a metre: no goal is coarser."""
    return number(value, 1.0) if value is not None and value > 0 else 1.0


def fourier_error(value: float | None, frames: int) -> float:
    """The error of a picture of so many frames; 1, nothing explained, if it is not known or does not mean anything yet."""
    return number(value, 1.0) if frames >= FEWEST_FRAMES else 1.0
