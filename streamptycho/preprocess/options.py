"""Settings of the preprocessing."""

from typing import Literal

from pydantic import Field

from streamptycho.messages.geometry import Orientation
from streamptycho.options import LocalPath, Options


class FrameOptions(Options):
    """How raw frames become amplitudes."""

    orientation: Orientation = Orientation.AS_IS
    """Turns and flips after which the frame's rows run along +y of the positions and its columns along +x."""
    dark: bool = True
    """Subtract the dark frame of the start message, or the mean of the dark exposures at the start of the scan."""
    mask_file: LocalPath | None = None
    """NumPy file (.npy) of the detector's shape, True or 1 where valid; in addition to the mask in the start message."""
    detect_bad_pixels: bool = True
    """Find hot and dead pixels in the first frames."""
    saturation: int | None = None
    """Counts at and above which a pixel is masked; default: as announced in the start message."""
    reserved_values: bool = True
    """Mask the two highest values of an unsigned pixel type and the negative ones of a signed type, as received, which
    detectors use for gaps and defects. Negative values that vary are noise about zero, and are kept."""
    center: Literal["auto", "mass", "frame"] | tuple[float, float] = "auto"
    """Beam centre (y, x) on the oriented detector: given, the centre of mass of the first frames (mass), the middle of the
    frame, or (auto) as announced in the start message and else the centre of mass. A given centre or one of mass becomes the
    middle of the crop even if that then leaves the detector, where it is masked. With auto the crop stays on the detector
    and follows the beam as far as it can; the rest is a phase ramp of the object."""
    center_each_frame: bool = False
    """Crop every frame about its own centre of mass, and mask pixels off the detector: for a beam that wanders on it."""
    crop: int | tuple[int, int] | None = None
    """Detector pixels (y, x) to reconstruct from; default: the largest square."""
    binning: int = Field(1, ge=1, le=16)
    """Side of the blocks of pixels that are summed after cropping."""
    background: Literal["off", "constant", "pattern", "outside"] = "off"
    """Subtract a constant, a given pattern, or the level found outside the bright disc."""
    background_counts: float = 0.0
    """Level of the constant background, counts per detector pixel."""
    background_file: LocalPath | None = None
    """NumPy file (.npy) of the detector's shape: the background pattern in counts."""
    learn_frames: int = Field(16, ge=1, le=256)
    """Frames from which bad pixels, centre and background are learnt."""


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
