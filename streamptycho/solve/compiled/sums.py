"""Sums over a pattern in one pass, compiled: its counts, those outside the bright field, and their centre of mass."""

from typing import Any

import numpy as np

from streamptycho.solve.compiled.jit import jit


@jit
def pattern_sums(amplitude, outside, y_px, x_px):
    """Sum of the counts, part of it where `outside`, and their centre of mass along y and x (0 without counts); float64.

    `amplitude` (ny, nx) float32, negative where masked; `outside` (ny, nx) float32, 1 or 0; `y_px` (ny,) and `x_px` (nx,)
    float32 signed frequency samples, see :func:`modulus.frequencies`. The centre is that of :func:`modulus.centre_of_mass`.
    """
    nothing: Any = 0.0
    total = beyond = along_y = along_x = nothing
    for y in range(len(y_px)):
        a, o = amplitude[y], outside[y]
        of_row, beyond_of_row, moment = np.float32(0), np.float32(0), np.float32(0)
        for x in range(len(x_px)):
            counts = a[x] if a[x] > 0 else np.float32(0)
            counts *= counts
            of_row += counts
            beyond_of_row += counts * o[x]
            moment += counts * x_px[x]
        total += of_row
        beyond += beyond_of_row
        along_y += of_row * y_px[y]
        along_x += moment
    if total == 0:
        return 0.0, 0.0, 0.0, 0.0
    return total, beyond, along_y / total, along_x / total
