"""Settings of a scan that is put together from what several senders say: the table ``[scan]``."""

import string
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from streamptycho.messages.geometry import wavelength_from_ev
from streamptycho.options import Options


class Role(StrEnum):
    """What an endpoint is there for."""

    FRAMES = "frames"
    POSITIONS = "positions"
    DOCUMENTS = "documents"
    """What is known of the scan besides: energy, distance, names."""


Positive = Annotated[float, Field(gt=0)]


class Quantities(Options):
    """What can be said of a scan in the place of its senders."""

    energy_ev: Positive | None = None
    """Photon energy."""
    wavelength_m: Positive | None = None
    """The same as a wavelength; one of the two."""
    distance_m: Positive | None = None
    """Sample to detector."""
    pitch_m: Positive | tuple[Positive, Positive] | None = None
    """Detector pixel, one number or (y, x)."""
    beam_center_px: tuple[float, float] | None = None
    """(y, x) of the direct beam on the detector as received, pixels."""
    saturation: int | None = Field(None, ge=0)
    """Counts at and above which a pixel tells nothing."""
    expected: int | None = Field(None, ge=1)
    """Frames planned."""

    @model_validator(mode="after")
    def _say_it_once(self) -> Self:
        if self.energy_ev is not None and self.wavelength_m is not None:
            raise ValueError("energy_ev and wavelength_m say the same thing; give one of the two")
        return self

    @property
    def wavelength(self) -> float | None:
        """Wavelength in metres, from either; None where neither is given."""
        return self.wavelength_m if self.energy_ev is None else wavelength_from_ev(self.energy_ev)


def _is_template(text: str) -> str:
    try:
        list(string.Formatter().parse(text))
    except ValueError as error:
        raise ValueError(f"{error}; write a text with names in braces, such as 'series-{{run}}'") from error
    return text


class ScanOptions(Quantities):
    """How scans are made of what several senders say.

    The quantities given here overrule what the senders say; those in `fallback` stand in where none of them says anything.
    """

    fallback: Quantities = Quantities()
    """Values for what no sender says."""
    leader: Role = Role.FRAMES
    """Whose runs open scans. The runs of the others join them."""
    pairing: Literal["auto", "same-id", "field", "open-scan"] = "auto"
    """Which run joins which scan: that of the same name (same-id), that with the same value of `pairing_field` (field), or
    the only one that begins at about the same time (open-scan). With auto that of the same name, else the only one that runs
    at the same time."""
    pairing_field: str = ""
    """Name in the metadata that both sides give the same value; a side that has no such name is known by that of its run."""
    pairing_window_s: float = Field(30.0, gt=0)
    """Runs that begin within this time of each other may belong together, where their names do not say so."""
    partner_s: float = Field(5.0, gt=0)
    """Time after which a stream without its partner is told of."""
    name: Annotated[str, AfterValidator(_is_template)] = ""
    """Scan id for a leader that does not speak our own dialect: text with ``{run}`` (the sender's name of the run),
    ``{started}`` (UTC) and any name in its metadata. Default: the sender's name, or ``series-12``, ``scan-12``, ``run-12``
    where that is a number, by the leader's role; of documents their ``scan_id``."""
    start_deadline_s: float = Field(10.0, ge=0)
    """Time from the first frame in which wavelength, distance and pixel size must be known. After it the file is written
    without what is missing, and no picture is made."""
    max_held_bytes: int = Field(128 << 20, gt=0)
    """Frames held until then; with more of them the deadline is over."""
    max_held_rows: int = Field(1_000_000, gt=0)
    """Sample rows that wait for their scan, or for names and units of their columns; beyond it the oldest are dropped."""
    positions_from: Role = Role.POSITIONS
    """Whose samples are the positions."""
    columns: tuple[str, str] | None = None
    """Sample columns that hold y and x; default: those that the sender names."""
    unit: Literal["m", "mm", "um", "nm", "pm"] | None = None
    """Unit of these columns; default: what the sender says."""
    first_frame: int | Literal["first"] = 0
    """Number that the detector gives to frame 0; ``first``: whatever number comes first."""
    line_length: int | None = Field(None, ge=2)
    """Frames after which the detector begins to count anew, where it does so for each line of the scan."""
    first_number: int = 0
    """Frame number in the samples that stands for frame 0, where samples carry frame numbers."""
    first_sample: int = Field(0, ge=0)
    """Sample row with which frame 0 begins, where they do not."""
    samples_per_frame: int = Field(1, ge=1)
    """Sample rows for each frame, of which the position is the mean."""

    @model_validator(mode="after")
    def _has_its_field(self) -> Self:
        if (self.pairing == "field") != bool(self.pairing_field):
            raise ValueError("pairing = 'field' and pairing_field go together; give both or neither")
        return self
