"""From motor positions to object pixels."""

from typing import Literal

import numpy as np

from streamptycho.options import Options

_METRES = {"m": 1.0, "mm": 1e-3, "um": 1e-6, "nm": 1e-9}


class PositionOptions(Options):
    """How the positions that arrive relate to the frames' rows and columns. Applied in the order of the fields."""

    unit: Literal["m", "mm", "um", "nm"] = "m"
    """Unit in which positions are sent. The protocol says metres; some scan engines do otherwise."""
    swap: bool = False
    """Exchange y and x."""
    flip_y: bool = False
    """Positions grow towards smaller rows."""
    flip_x: bool = False
    """Positions grow towards smaller columns."""
    rotation_deg: float = 0.0
    """Angle of the scan axes against the detector axes: x' = x cos - y sin, y' = x sin + y cos."""
    affine: tuple[tuple[float, float], tuple[float, float]] = ((1.0, 0.0), (0.0, 1.0))
    """Matrix on the column (y, x), for scale errors and shear of the stages."""


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
