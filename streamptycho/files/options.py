"""Option tables of the file package: how to read a recorded scan, how to write a growing one."""

from enum import StrEnum
from typing import Literal, TypeAlias

from pydantic import Field, PositiveFloat, PositiveInt

from streamptycho.options import Options

PositionUnit: TypeAlias = Literal["m", "mm", "um", "nm"]


class MaskMeaning(StrEnum):
    """What the numbers of a mask mean."""

    AUTO = "auto"
    """Decide by the ``polarity`` attribute, else by the values."""
    ONE_IS_VALID = "one-is-valid"
    ZERO_IS_GOOD = "zero-is-good"
    """CXI bit field: 0 and the has-signal bit 0x1000 are good, any other bit is bad."""
    IGNORE = "ignore"
    """Treat every pixel as valid."""


class ReadOptions(Options):
    """What a file does not say, or says wrongly. Every value set here wins over the file."""

    energy_ev: PositiveFloat | None = None
    """Photon energy, electronvolts."""
    distance_m: PositiveFloat | None = None
    """Sample to detector, metres."""
    pixel_size_m: tuple[PositiveFloat, PositiveFloat] | None = None
    """Detector pixel (y, x), metres."""
    position_unit: PositionUnit | None = None
    """Unit of the positions."""
    positions_transposed: bool | None = None
    """True: positions are stored as (2 or 3, N) rows x, y; False: as (N, 2 or 3). Needed where N is 2 or 3."""
    basis_vectors: Literal["file", "ignore"] = "file"
    """``ignore``: take row = +y and column = +x whatever the file says."""
    mask: MaskMeaning = MaskMeaning.AUTO
    """Meaning of the mask's values."""
    probe: bool = True
    """Take the recorded probe as the start of the reconstruction."""
    truncate: bool = False
    """Where the numbers of frames and positions differ, use the first rows that both have."""


class WriterOptions(Options):
    """Limits and habits of the growing file."""

    compression: Literal["bslz4", "none"] = "bslz4"
    """How frames are stored. Frames that arrive as bslz4 are stored as they are unless this is ``none``."""
    batch_frames: PositiveInt = 512
    """Frames that wait in memory at most; then they are committed."""
    batch_bytes: PositiveInt = 64 << 20
    """Bytes that wait in memory at most."""
    max_frames: PositiveInt = 10_000_000
    """Highest frame index + 1 that is believed; not below ``match.max_index``, or frames are received and not written."""
    max_darks: PositiveInt = 10_000
    """Highest index + 1 of an exposure without beam that is believed."""
    max_snapshot_bytes: int = Field(default=2 << 30, ge=0)
    """Bytes of snapshots that are kept; later ones are counted and skipped, the final one excepted."""
