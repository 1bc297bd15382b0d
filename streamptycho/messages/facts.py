"""What a dialect learns from a sender that does not speak our protocol: facts, from which the composer makes messages.

Our own messages are facts as well. Conventions as in :mod:`streamptycho.messages.stream`: SI units, (y, x), masks True where
valid. A *run* is what a sender calls a series, an acquisition, a scan: one leader's run becomes a scan, and the runs of the
other senders join it. Its key is the sender's own name for it, as text, and unique among its open runs; empty where the
format has none: then the run is the sender's latest.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from streamptycho.errors import GrammarError, ProtocolError
from streamptycho.messages.checks import Scalar
from streamptycho.messages.kinds import Message
from streamptycho.messages.payload import Payload
from streamptycho.messages.reasons import EndReason


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StartParts:
    """What a sender knows of the start of a scan; None, or left out, for what it does not say.

    A value that cannot be right is left out by its dialect, with an entry in `doubts`.
    """

    wavelength_m: float | None = None
    distance_m: float | None = None
    """Sample to detector, metres; positive."""
    pitch_m: tuple[float, float] | None = None
    """Detector pixel (y, x), metres."""
    frame_shape: tuple[int, int] | None = None
    """(ny, nx) of a frame, pixels."""
    dtype: np.dtype | None = None
    """Pixel type. What the first frame has overrules it, and the difference is told."""
    expected: int | None = None
    """Frames planned."""
    started_ns: int | None = None
    """Beginning of the run by the sender's clock, ns since the Unix epoch."""
    valid: NDArray[np.bool_] | None = None
    """(ny, nx) bool, True where a pixel can be used."""
    dark: NDArray[np.float32] | None = None
    """(ny, nx) float32, counts of a frame without beam."""
    saturation: int | None = None
    """Counts at and above which a pixel tells nothing."""
    beam_center_px: tuple[float, float] | None = None
    """(y, x) of the direct beam on the detector, pixels."""
    planned_yx_m: NDArray[np.float64] | None = None
    """(n, 2) float64 metres, where the frames are to be taken."""
    columns: tuple[str, str] | None = None
    """Names of the sample columns that hold y and x, where the sender says which they are."""
    units: dict[str, str] = field(default_factory=dict)
    """Column to its unit as the sender writes it."""
    metadata: dict[str, Scalar] = field(default_factory=dict)
    """Anything else worth keeping in the file."""
    doubts: tuple[str, ...] = ()
    """What the sender says that cannot be right, each with the value and the remedy."""

    def over(self, other: "StartParts") -> "StartParts":
        """These parts, and those of `other` where these have none."""
        merged: dict[str, Any] = {}
        for part in fields(self):
            mine, theirs = getattr(self, part.name), getattr(other, part.name)
            if part.name in ("units", "metadata"):
                merged[part.name] = {**theirs, **mine}
            elif part.name == "doubts":
                merged[part.name] = (*theirs, *(doubt for doubt in mine if doubt not in theirs))
            else:
                merged[part.name] = theirs if mine is None else mine
        return StartParts(**merged)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Began:
    """A run has begun, or is seen for the first time in its middle."""

    run: str
    parts: StartParts = field(default_factory=StartParts)
    in_middle: bool = False
    """The beginning itself was not seen: what came before is not known."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Learned:
    """More about a run that has begun."""

    run: str
    parts: StartParts


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frames:
    """One or more diffraction patterns of a run."""

    run: str
    number: NDArray[np.int64]
    """(n,) number of each as the sender counts, rising."""
    timestamp_ns: NDArray[np.int64]
    """(n,) end of exposure, ns since the Unix epoch; 0 where not known."""
    payload: Payload
    dark: bool = False

    def __post_init__(self) -> None:
        if not len(self.number) == len(self.timestamp_ns) == len(self.payload) >= 1:
            sizes = f"{len(self.number)}, {len(self.timestamp_ns)}, {len(self.payload)}"
            raise GrammarError(
                "frames", f"{sizes} entries in number, timestamp_ns and payload; each needs as many, and one at least"
            )

    def __len__(self) -> int:
        return len(self.number)

    @staticmethod
    def joined(blocks: Sequence["Frames"]) -> "Frames":
        """One block of several of one run and form, whose numbers rise from one to the next; shares the bytes."""
        payload = Payload.joined([block.payload for block in blocks])
        number = np.concatenate([block.number for block in blocks])
        timestamp_ns = np.concatenate([block.timestamp_ns for block in blocks])
        return replace(blocks[0], number=number, timestamp_ns=timestamp_ns, payload=payload)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Samples:
    """Consecutive rows of what a scanner, an encoder or a plan records."""

    run: str
    first: int
    """Number of the first row in its run, from 0: absolute, so that a loss does not shift the rest."""
    columns: dict[str, NDArray[np.float64]]
    """Column to (n,) values as sent, in the units of the sender; NaN where a row has none."""
    number: NDArray[np.int64] | None = None
    """(n,) frame number of each row where the sender says it; then `first` is of no use. May repeat: the last one counts."""

    def __post_init__(self) -> None:
        if not self.columns:
            raise GrammarError("samples", "has no columns")
        sizes = {len(column) for column in (*self.columns.values(), *([] if self.number is None else [self.number]))}
        if len(sizes) != 1 or self.first < 0:
            raise GrammarError(
                "samples", f"columns of {sorted(sizes)} rows from row {self.first}; all need as many, from 0 on"
            )

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A run is over."""

    run: str
    reason: EndReason = EndReason.COMPLETE
    count: int | None = None
    """Frames or sample rows that the sender says it has sent; None where it does not say."""
    detail: str = ""
    """The sender's own words, for an end that is not as planned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a file holds the rows of one quantity."""

    path: str
    """Of the HDF5 file, on this machine."""
    dataset: str
    row: int
    """Of the first of them, from 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """Rows that a file holds, or is about to: for a source, which follows the file and makes :class:`Samples` or
    :class:`Frames` of it.
    """

    run: str
    first: int
    """Number of the first row in its run, from 0; the others follow it."""
    count: int
    """Rows; one at least."""
    columns: dict[str, Place] = field(default_factory=dict)
    """Of samples: column to where it is."""
    frames: Place | None = None
    """Of frames; then there are no columns."""

    def __post_init__(self) -> None:
        if bool(self.columns) is (self.frames is not None):
            raise GrammarError("stored", "has columns or frames, one of the two")
        if self.count < 1 or self.first < 0 or any(place.row < 0 for place in self.places):
            raise GrammarError("stored", f"{self.count} rows from number {self.first}; at least one, all counted from 0")

    @property
    def places(self) -> tuple[Place, ...]:
        """All that must be read."""
        return tuple(self.columns.values()) if self.frames is None else (self.frames,)


@dataclass(frozen=True, slots=True)
class Remark:
    """What people should know of a stream as a whole, whatever its runs."""

    text: str


ForeignFact: TypeAlias = Began | Learned | Frames | Samples | Stored | Ended
Fact: TypeAlias = Message | ForeignFact | Remark | ProtocolError
"""What a dialect has learned: one of our messages, a fact in the terms of its sender, or what is wrong with the bytes,
which is counted and costs nothing else."""
