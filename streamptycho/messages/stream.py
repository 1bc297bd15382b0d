"""What a detector and a scanner send, and what the receiver makes of it.

Stream grammar, per scan id::

    ScanStart  (Frame | Positions)*  ScanEnd(frames)  ScanEnd(positions)

in which frames and positions may come on separate sockets, in any order and interleaving, with gaps and duplicates.
Conventions: SI units; suffixes ``_m``, ``_ns``, ``_ev``, ``_px``; axis order (y, x); times are integer nanoseconds since
the Unix epoch; masks are True where valid; arrays are C-contiguous and read-only. A message that exists is valid: each
checks itself when it is built and raises :class:`~streamptycho.errors.GrammarError` naming the field. Messages that hold
arrays are equal only to themselves.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from streamptycho.errors import GrammarError
from streamptycho.messages.checks import (
    Checked,
    Count,
    Index,
    Point,
    Scalar,
    ScanId,
    check,
    finite,
    plain_metadata,
    rising,
)
from streamptycho.messages.geometry import Geometry
from streamptycho.messages.marks import Wire
from streamptycho.messages.payload import PIXEL_DTYPES, Payload
from streamptycho.messages.reasons import EndReason, Stream
from streamptycho.messages.run import OfRun

MAX_FRAME_PIXELS = 1 << 26
"""Pixels of one frame: a start message sizes arrays and files."""
MAX_PLANNED = 1_000_000
"""Positions that a start message may announce."""


def check_plan(yx_m: NDArray[np.float64]) -> None:
    """Raises :class:`GrammarError` unless (n, 2) positions are a plan that can be shown."""
    if not (yx_m.ndim == 2 and yx_m.shape[1] == 2 and 1 <= len(yx_m) <= MAX_PLANNED):
        raise GrammarError("start.planned_yx_m", f"shape {yx_m.shape} is not (n, 2) with n from 1 to {MAX_PLANNED}")
    if not np.isfinite(yx_m).all():
        raise GrammarError("start.planned_yx_m", "has values that are not finite; leave the array out where not known")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScanStart(OfRun):
    """First message of a scan: everything that must be known before the first frame."""

    kind: ClassVar[str] = "start"
    scan_id: ScanId
    geometry: Geometry
    dtype: np.dtype
    """Pixel type of every frame."""
    started_ns: Count
    """Beginning of the scan. Tells two runs of the same scan id apart; 0, for not known, does not."""
    expected: Count | None = None
    """Number of frames planned, where known."""
    valid: Annotated[NDArray[np.bool_], "rows columns"] | None = None
    """(ny, nx) bool, True = valid; None = all valid."""
    dark: Annotated[NDArray[np.float32], "rows columns", finite] | None = None
    """(ny, nx) float32, counts of a frame without beam."""
    probe: Annotated[NDArray[np.complex64], "modes y x", finite] | None = None
    """(modes, n, n) complex64, a recorded or earlier probe to start from; beam centre at [n//2, n//2]."""
    saturation: Count | None = None
    """Counts at and above which a pixel has saturated."""
    beam_center_px: Point | None = None
    """(y, x) of the direct beam on the detector, pixels."""
    metadata: Annotated[dict[str, Scalar], plain_metadata, Wire.REQUIRED] = field(default_factory=dict)
    planned_yx_m: NDArray[np.float64] | None = None
    """(n, 2) float64 metres, where the frames of index 0 to n - 1 are to be taken; shown, and used for nothing else."""
    repeated: bool = False
    """Sent by the receiver to a service that has begun anew, or that knows the scan already: what came before has been sent
    before."""

    def __post_init__(self) -> None:
        shape = self.geometry.frame_shape
        if shape[0] * shape[1] > MAX_FRAME_PIXELS:
            raise GrammarError("start.geometry", f"frames of {shape} have more than {MAX_FRAME_PIXELS} pixels")
        if self.dtype.name not in PIXEL_DTYPES:
            raise GrammarError("start.dtype", f"{self.dtype.name!r} is not one of {', '.join(PIXEL_DTYPES)}")
        object.__setattr__(self, "dtype", self.dtype.newbyteorder("<"))  # as payloads have it
        check(self, rows=shape[0], columns=shape[1])
        if self.planned_yx_m is not None:
            check_plan(self.planned_yx_m)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frame(Checked):
    """A block of one or more diffraction patterns of one scan."""

    kind: ClassVar[str] = "frame"
    scan_id: ScanId
    index: Annotated[Index, Wire.IN_HEADER]
    """(n,) position of each frame in the scan, from 0: the key of the join and the row in the file."""
    timestamp_ns: Annotated[NDArray[np.int64], "indices", Wire.IN_HEADER]
    """(n,) end of exposure; 0 where the detector has no clock."""
    dark: Annotated[bool, Wire.REQUIRED] = False
    """An exposure without beam, taken before the scan; its index counts separately."""
    taken_yx_m: Annotated[NDArray[np.float64], "indices yx", Wire.IN_HEADER] | None = None
    """(n, 2) metres, where each was taken: from a sender of both, with NaN where it is not known, and, known of all, from
    the join to the reconstruction."""
    payload: Annotated[Payload, Wire.INLINE]

    def __post_init__(self) -> None:
        if not self.payload.chunks:
            raise GrammarError("frame.payload", "the block is empty")
        check(self, indices=len(self.payload.chunks))

    def __len__(self) -> int:
        return len(self.payload)

    def select(self, rows: Sequence[int]) -> "Frame":
        """The given rows (rising) of the block as a block of their own; shares the bytes."""
        payload = replace(self.payload, chunks=tuple(self.payload.chunks[i] for i in rows))
        index, timestamp_ns = self.index[list(rows)], self.timestamp_ns[list(rows)]
        taken_yx_m = None if self.taken_yx_m is None else self.taken_yx_m[list(rows)]
        return replace(self, index=index, timestamp_ns=timestamp_ns, taken_yx_m=taken_yx_m, payload=payload)

    def taken(self, yx_m: NDArray[np.float64]) -> "Frame":
        """The same with the positions (n, 2), metres."""
        return replace(self, taken_yx_m=yx_m)

    def apart(self) -> "tuple[Frame, Positions | None]":
        """The block without its positions, and those that are known."""
        if self.taken_yx_m is None:
            return self, None
        known = np.isfinite(self.taken_yx_m).all(axis=1)
        alone = replace(self, taken_yx_m=None)
        if self.dark or not known.any():
            return alone, None
        return alone, Positions(scan_id=self.scan_id, index=self.index[known], yx_m=self.taken_yx_m[known])

    @staticmethod
    def joined(blocks: Sequence["Frame"]) -> "Frame":
        """One block of several of one scan and form, whose indices rise from one to the next; shares the bytes."""
        payload = Payload.joined([block.payload for block in blocks])
        names = ("index", "timestamp_ns") if blocks[0].taken_yx_m is None else ("index", "timestamp_ns", "taken_yx_m")
        rows: dict[str, Any] = {name: np.concatenate([getattr(block, name) for block in blocks]) for name in names}
        return replace(blocks[0], payload=payload, **rows)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Positions(Checked):
    """A block of scan positions: where the probe was on the sample."""

    kind: ClassVar[str] = "positions"
    scan_id: ScanId
    index: Index
    """(n,) frame indices, strictly rising."""
    yx_m: Annotated[NDArray[np.float64], "indices yx", finite]
    """(n, 2) metres, (y, x); finite."""

    def __len__(self) -> int:
        return len(self.index)

    @staticmethod
    def joined(blocks: Sequence["Positions"]) -> "Positions":
        """One block of several of one scan, whose indices rise from one to the next."""
        index, yx_m = np.concatenate([block.index for block in blocks]), np.concatenate([block.yx_m for block in blocks])
        return Positions(scan_id=blocks[0].scan_id, index=index, yx_m=yx_m)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanEnd(OfRun):
    """Last message of a stream of a scan."""

    kind: ClassVar[str] = "end"
    scan_id: ScanId
    stream: Stream
    count: Count
    """Frames or positions that were sent, so that a loss can be distinguished from an end."""
    reason: Annotated[EndReason, Wire.REQUIRED] = EndReason.COMPLETE
    started_ns: Count = 0
    """That of the start message; 0 where the sender does not say."""

    @property
    def complete(self) -> bool:
        """True if the source declared the scan finished, and nothing of it is missing."""
        return self.reason is EndReason.COMPLETE

    @property
    def as_planned(self) -> bool:
        """True if the source declared the scan finished, whatever is missing."""
        return self.reason in (EndReason.COMPLETE, EndReason.INCOMPLETE)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Resume(OfRun):
    """What the writer has of an open scan: from it and the start a receiver that has begun anew goes on."""

    kind: ClassVar[str] = "resume"
    scan_id: ScanId
    started_ns: Count
    frames: Annotated[NDArray[np.bool_], "rows"]
    """(rows,) bool, True where the frame of that index has come; may be empty."""
    index: Annotated[NDArray[np.int64], "places", rising] | None = None
    """(n,) int64, frame indices of the positions that have come, strictly rising; None if none have."""
    yx_m: Annotated[NDArray[np.float64], "places yx", finite] | None = None
    """(n, 2) float64 metres, (y, x)."""

    def __post_init__(self) -> None:
        check(self)
        if (self.index is None) is not (self.yx_m is None):
            raise GrammarError("resume.index", "goes with yx_m; send both or neither")
