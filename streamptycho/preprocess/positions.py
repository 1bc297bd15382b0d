"""From motor positions to object pixels."""

import numpy as np
from numpy.typing import NDArray

from streamptycho.preprocess.options import PositionOptions

_METRES = {"m": 1.0, "mm": 1e-3, "um": 1e-6, "nm": 1e-9}


class PositionTransform:
    """Positions as sent to absolute object pixels (y, x)."""

    def __init__(self, options: PositionOptions, pixel_m: tuple[float, float]) -> None:
        matrix = np.eye(2) * _METRES[options.unit]
        if options.swap:
            matrix = np.array([[0.0, 1.0], [1.0, 0.0]]) @ matrix
        matrix = np.diag([-1.0 if options.flip_y else 1.0, -1.0 if options.flip_x else 1.0]) @ matrix
        angle = np.deg2rad(options.rotation_deg)
        cos, sin = np.cos(angle), np.sin(angle)
        matrix = np.array([[cos, sin], [-sin, cos]]) @ matrix  # rows: y, x
        matrix = np.array(options.affine) @ matrix
        self._matrix = np.diag([1 / pixel_m[0], 1 / pixel_m[1]]) @ matrix

    def __call__(self, yx: tuple[float, float]) -> tuple[float, float]:
        """(y, x) in object pixels, not rounded."""
        y, x = self._matrix @ np.asarray(yx)
        return float(y), float(x)

    def all(self, yx: NDArray[np.float64]) -> NDArray[np.float64]:
        """The same of many: (n, 2) as sent to (n, 2)."""
        pixels: NDArray[np.float64] = yx @ self._matrix.T
        return pixels
