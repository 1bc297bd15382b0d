"""Experiment geometry: metres, electronvolts and pixels. The only module that converts between them.

Axis order is (y, x) everywhere. Row = +y and column = +x of the probe position on the sample.
"""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

HC_EV_M = 1.239841984332e-06
"""Planck constant times speed of light, eV m (CODATA 2018, exact)."""
JOULE_PER_EV = 1.602176634e-19
ELECTRON_REST_EV = 510998.95
"""Rest energy of the electron, eV (CODATA 2018)."""

_T = TypeVar("_T", bound=np.generic)


def wavelength_from_ev(energy_ev: float) -> float:
    """Photon wavelength in metres."""
    return HC_EV_M / energy_ev


def electron_wavelength_from_ev(energy_ev: float) -> float:
    """Wavelength in metres of an electron of this kinetic energy, relativistic."""
    return HC_EV_M / math.sqrt(energy_ev * (energy_ev + 2 * ELECTRON_REST_EV))


class Radiation(StrEnum):
    """What makes the patterns."""

    PHOTONS = "photons"
    ELECTRONS = "electrons"

    def wavelength_m(self, energy_ev: float) -> float:
        """Wavelength in metres at this energy, kinetic for electrons."""
        return wavelength_from_ev(energy_ev) if self is Radiation.PHOTONS else electron_wavelength_from_ev(energy_ev)

    def energy_ev(self, wavelength_m: float) -> float:
        """Energy in electronvolts at this wavelength, kinetic for electrons."""
        photon_ev = HC_EV_M / wavelength_m
        return photon_ev if self is Radiation.PHOTONS else math.hypot(photon_ev, ELECTRON_REST_EV) - ELECTRON_REST_EV


def in_unit(length_m: float) -> tuple[float, str]:
    """A length as people write it: a number and the unit, m to pm, that suits it."""
    for unit, scale in (("m", 1.0), ("mm", 1e-3), ("um", 1e-6), ("nm", 1e-9), ("pm", 1e-12)):
        if abs(length_m) >= 0.9995 * scale:
            return length_m / scale, unit
    return length_m, "m"


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """Far-field geometry of one scan, as the detector sees it (before any orientation, crop or binning).

    NaN in a length says that it is not known: frames can be stored, but no picture can be made.

    Raises ``ValueError`` that names the field if another value is not positive and finite.
    """

    wavelength_m: float
    distance_m: float
    """Sample to detector, metres."""
    pitch_m: tuple[float, float]
    """Detector pixel size (y, x), metres."""
    frame_shape: tuple[int, int]
    """Detector frame (ny, nx), pixels."""
    radiation: Radiation = Radiation.PHOTONS

    def __post_init__(self) -> None:
        numbers = [("wavelength_m", self.wavelength_m), ("distance_m", self.distance_m)]
        for name, pair in (("pitch_m", self.pitch_m), ("frame_shape", self.frame_shape)):
            numbers += [(f"{name}[{axis}]", value) for axis, value in zip("yx", pair, strict=True)]
        for name, value in numbers:
            if not (np.isfinite(value) and value > 0) and not (np.isnan(value) and not name.startswith("frame_shape")):
                raise ValueError(f"{name}: {value!r} is not a positive number")

    @property
    def unknown(self) -> list[str]:
        """Names of the lengths that are not known."""
        lengths = {"wavelength_m": self.wavelength_m, "distance_m": self.distance_m, "pitch_m": sum(self.pitch_m)}
        return [name for name, value in lengths.items() if np.isnan(value)]

    @property
    def energy_ev(self) -> float:
        """Energy in electronvolts, kinetic for electrons."""
        return self.radiation.energy_ev(self.wavelength_m)

    def object_pixel_m(self, crop_shape: tuple[int, int]) -> tuple[float, float]:
        """Object pixel (y, x) in metres when `crop_shape` detector pixels are transformed: lambda z / (n pitch)."""
        scale = self.wavelength_m * self.distance_m
        return scale / (crop_shape[0] * self.pitch_m[0]), scale / (crop_shape[1] * self.pitch_m[1])


class Orientation(StrEnum):
    """How the detector's rows and columns lie against the scan's y and x: the eight symmetries of a rectangle.

    The name says what is done to a frame as received to make its rows run along +y and its columns along +x.
    """

    AS_IS = "as-is"
    FLIP_Y = "flip-y"
    FLIP_X = "flip-x"
    ROTATE_180 = "rotate-180"
    TRANSPOSE = "transpose"
    ROTATE_90 = "rotate-90"
    """Counter-clockwise as displayed with the first row on top (``numpy.rot90``)."""
    ROTATE_270 = "rotate-270"
    ANTI_TRANSPOSE = "anti-transpose"
    """Reflection about the other diagonal."""

    def apply(self, frames: NDArray[_T]) -> NDArray[_T]:
        """Orient the last two axes of `frames`; a view, no copy."""
        transpose, flip_y, flip_x = _STEPS[self]
        if transpose:
            frames = frames.swapaxes(-1, -2)
        if flip_y:
            frames = frames[..., ::-1, :]
        if flip_x:
            frames = frames[..., ::-1]
        return frames

    def shape(self, frame_shape: tuple[int, int]) -> tuple[int, int]:
        """Shape of an oriented frame."""
        return (frame_shape[1], frame_shape[0]) if _STEPS[self][0] else frame_shape

    def pair(self, values: tuple[Any, Any]) -> tuple[Any, Any]:
        """Reorder a per-axis (y, x) pair, such as the pixel pitch, like the axes of the frame."""
        return (values[1], values[0]) if _STEPS[self][0] else values

    def point(self, yx: tuple[float, float], frame_shape: tuple[int, int]) -> tuple[float, float]:
        """Where a point (y, x) of a frame of `frame_shape` lies once that is oriented, pixels."""
        _, flip_y, flip_x = _STEPS[self]
        (y, x), (ny, nx) = self.pair(yx), self.shape(frame_shape)
        return (ny - 1 - y if flip_y else y), (nx - 1 - x if flip_x else x)


# transpose first, then flip rows, then flip columns
_STEPS: dict[Orientation, tuple[bool, bool, bool]] = {
    Orientation.AS_IS: (False, False, False),
    Orientation.FLIP_Y: (False, True, False),
    Orientation.FLIP_X: (False, False, True),
    Orientation.ROTATE_180: (False, True, True),
    Orientation.TRANSPOSE: (True, False, False),
    Orientation.ROTATE_90: (True, True, False),
    Orientation.ROTATE_270: (True, False, True),
    Orientation.ANTI_TRANSPOSE: (True, True, True),
}
