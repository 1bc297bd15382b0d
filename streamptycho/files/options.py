"""Option tables of the file package: how to read a recorded scan, how to write a growing one."""

from enum import StrEnum
from typing import Any, Literal, TypeAlias

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from streamptycho.messages.geometry import Radiation
from streamptycho.options import Options

_TRUTHS = ("true", "false", "yes", "no", "on", "off", "1", "0", "t", "f", "y", "n")
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
    """What a file does not say, or says wrongly. Every value set here wins over the file.

    A place is ``/path`` in the scan's file, ``FILE::/path`` in another, or ``FILE::X,Y`` in a text of columns.
    """

    entry: str | None = None
    """Which entry of a file that has several."""
    frames: str | None = None
    """Place of the frames."""
    axes: Literal["nyx", "nxy", "yxn", "xyn"] | None = None
    """Axes of the stored frames: frame number, rows y and columns x."""
    shifted: bool | None = None
    """True: the zero frequency of the frames is at pixel [0, 0], as FFTs leave it; it is moved to the centre."""
    amplitudes: bool | None = None
    """True: the frames are square roots of counts; they are squared."""
    positions: str | None = None
    """Place of the positions: a dataset of rows x, y; or two, as ``/path/x,/path/y``."""
    position_unit: PositionUnit | None = None
    """Unit of the positions."""
    positions_transposed: bool | None = None
    """True: positions are stored as (2 or 3, N) rows x, y; False: as (N, 2 or 3). Needed where N is 2 or 3."""
    basis_vectors: Literal["file", "ignore"] = "file"
    """``ignore``: take row = +y and column = +x whatever the file says."""
    radiation: Radiation | None = None
    """``photons`` or ``electrons``."""
    energy_ev: PositiveFloat | None = None
    """Energy of a photon, or kinetic energy of an electron, electronvolts."""
    distance_m: PositiveFloat | None = None
    """Sample to detector, metres."""
    pixel_size_m: tuple[PositiveFloat, PositiveFloat] | None = None
    """Detector pixel (y, x), metres."""
    mask: str = MaskMeaning.AUTO.value
    """Meaning of the mask's values, or the place of the mask, or both: ``zero-is-good bad.h5::/mask``."""
    probe: bool = True
    """Take the recorded probe as the start of the reconstruction."""
    probe_at: str | None = None
    """Place of that probe."""
    truncate: bool = False
    """Where the numbers of frames and positions differ, use the first rows that both have."""

    @model_validator(mode="before")
    @classmethod
    def _probe_place(cls, values: Any) -> Any:
        """``probe`` may be the place itself."""
        if isinstance(values, dict) and isinstance(values.get("probe"), str) and values["probe"].lower() not in _TRUTHS:
            return values | {"probe": True, "probe_at": values["probe"]}
        return values

    @property
    def mask_meaning(self) -> MaskMeaning:
        """What the values of the mask mean."""
        word = self.mask.split(" ", 1)[0]
        return MaskMeaning(word) if word in list(MaskMeaning) else MaskMeaning.AUTO

    @property
    def mask_at(self) -> str | None:
        """Place of the mask, where it is set."""
        word, _, rest = self.mask.partition(" ")
        return (rest.strip() or None) if word in list(MaskMeaning) else self.mask

    @field_validator("mask")
    @classmethod
    def _mask(cls, value: str) -> str:
        if value not in list(MaskMeaning) and "/" not in value:
            raise ValueError(f"{value!r} is no place and not one of {', '.join(MaskMeaning)}")
        return value


class WriterOptions(Options):
    """Limits and habits of the growing file."""

    compression: Literal["plain", "bslz4", "none"] = "plain"
    """How frames are stored that arrive plain: ``plain`` so that any program with HDF5 reads them, deflated as far as there
    is time; ``bslz4`` smaller and faster, for readers with hdf5plugin. Frames that arrive as bslz4 are stored as they are
    unless this is ``none``."""
    batch_frames: PositiveInt = 512
    """Frames that wait in memory at most; then they are committed."""
    batch_bytes: PositiveInt = 64 << 20
    """Bytes that wait in memory at most."""
    sync: bool = False
    """Wait at each commit until the disk itself has it: what is committed survives a loss of power. Writing is slower."""
    max_frames: PositiveInt = 10_000_000
    """Highest frame index + 1 that is believed; not below ``match.max_index``, or frames are received and not written."""
    max_darks: PositiveInt = 10_000
    """Highest index + 1 of an exposure without beam that is believed."""
    max_snapshot_bytes: int = Field(default=2 << 30, ge=0)
    """Bytes of snapshots that are kept; later ones are counted and skipped, the final one excepted."""
