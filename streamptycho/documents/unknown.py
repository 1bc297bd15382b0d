"""What stands for a figure that is not known: a value that fails every test for "good enough"."""

import math

LEAST_ERROR = 1e-6
"""A smaller Fourier error is that of a first frame, which the object explains wholly: it tells nothing of the picture."""


def number(value: float | None, unknown: float) -> float:
    """`value` if it is a finite number."""
    return float(value) if value is not None and math.isfinite(value) else unknown


def length_m(value: float | None) -> float:
    """A length in metres that is not known is a metre: no goal is coarser."""
    return number(value, 1.0) if value is not None and value > 0 else 1.0


def fourier_error(value: float | None) -> float:
    """An error that is not known, or does not mean anything yet, is 1: nothing is explained."""
    known = number(value, 1.0)
    return known if known >= LEAST_ERROR else 1.0
