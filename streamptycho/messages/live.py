"""What is shown of a scan besides snapshots and status, and what a viewer may ask for; conventions as in :mod:`messages`.

All of it is for display only: it may be lost, repeated or late, and nothing is reconstructed or written from it.
"""

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Annotated, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from streamptycho.errors import GrammarError
from streamptycho.messages.checks import Count, Index, Point, ScanId, check, finite
from streamptycho.messages.marks import Wire
from streamptycho.messages.reasons import ServiceKind
from streamptycho.messages.run import OfRun

MAX_BINNING = 1 << 16
"""Pixels along a block of a preview, at most: more than any detector has."""

_T = TypeVar("_T", bound=np.generic)


class PointState(IntEnum):
    """What has become of a scan point; up to `USED` its frame is in the reconstruction. The numbers travel."""

    WAITING = 0
    """Its frame has come and does not shape the picture yet."""
    USED = 1
    """Its frame shapes the picture."""
    REFUSED = 2
    """Its frame came and cannot be used: empty, corrupt, outside, late, or after a stop."""
    LOST = 3
    """No frame came for this position, though frames after it did; one that comes after all is used."""
    PLANNED = 4
    """Named by the start of the scan, and its frame has not come to the reconstruction so far."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Survey(OfRun):
    """What frames say before anything is reconstructed: a block of points for coverage and instant maps.

    Points whose state has changed come again soon. All repeat in turn while the scan is being reconstructed: late
    subscribers catch up within seconds.

    First points that were outliers are given up, and the log of points begins again. If `known` decreases, or is smaller
    than the number of used points that a reader holds with those of the newest block, the reader discards all points of
    earlier blocks: one socket carries all blocks of a scan, and it may lose some but keeps their order.
    """

    kind: ClassVar[str] = "survey"
    scan_id: ScanId
    started_ns: Count
    time_ns: Count
    known: Count
    """Points of the scan so far whose frames are in the reconstruction; falls if the first ones are given up."""
    index: Index
    """(n,) frame indices, strictly rising."""
    yx_m: Annotated[NDArray[np.float64], "indices yx", finite]
    """(n, 2) where the beam was, in the coordinates of `Snapshot.origin_m`."""
    counts: Annotated[NDArray[np.float32], "indices", finite]
    """(n,) sum over valid pixels; this and what follows is 0 where the frame is not in the reconstruction."""
    dark_field: Annotated[NDArray[np.float32], "indices", finite]
    """(n,) part of it outside the bright field."""
    centre_px: Annotated[NDArray[np.float32], "indices yx", finite]
    """(n, 2) centre of mass from the zero frequency, pixels of the frames as reconstructed."""
    state: Annotated[NDArray[np.uint8], "indices"]
    """(n,) of :class:`PointState`."""
    service: str = ServiceKind.RECONSTRUCT.value
    """Which reconstruction it comes from."""

    def __post_init__(self) -> None:
        check(self)
        if self.state.max() > max(PointState):
            raise GrammarError("survey.state", f"{self.state.max()} is not a state; 0 to {max(PointState):d} are")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Preview(OfRun):
    """The newest diffraction pattern, as the detector sent it."""

    kind: ClassVar[str] = "preview"
    scan_id: ScanId
    started_ns: Count
    time_ns: Count
    index: Count
    pattern: Annotated[NDArray[np.float32], "rows columns"]
    """(ny, nx) counts, oriented as configured; the largest of each block of `binning` squared pixels."""
    valid: Annotated[NDArray[np.bool_], "rows columns"]
    """(ny, nx) True where any pixel of the block is used."""
    saturated: Annotated[NDArray[np.bool_], "rows columns"]
    """(ny, nx) True where any pixel of the block is saturated or holds a reserved value."""
    binning: int
    centre_px: Point
    """(y, x) zero frequency, pixels of the full frame."""
    crop_px: tuple[int, int]
    """(y, x) first pixel of the part that is reconstructed, pixels of the full frame; may lie off it."""
    crop_shape_px: tuple[int, int]
    service: str = ServiceKind.RECONSTRUCT.value

    def __post_init__(self) -> None:
        check(self)
        if not 1 <= self.binning <= MAX_BINNING:
            raise GrammarError("preview.binning", f"{self.binning} is not from 1 to {MAX_BINNING}")


def largest_of_blocks(array: NDArray[_T], size: int) -> NDArray[_T]:
    """Largest value of each block of `size` squared, as a preview has them; blocks at the far edges may be smaller."""
    if size == 1:
        return array
    rows, columns = (np.arange(0, n, size) for n in array.shape)
    largest: NDArray[_T] = np.maximum.reduceat(np.maximum.reduceat(array, rows, axis=0), columns, axis=1)
    return largest


class Action(StrEnum):
    """What a viewer may ask of the reconstruction."""

    PAUSE = "pause"
    RESUME = "resume"
    STOP = "stop"
    """End the reconstruction after the present pass; frames are still received and written."""
    RESET_PROBE = "reset_probe"
    """Begin again from a probe found in the data."""
    RESET_OBJECT = "reset_object"
    """Begin again with the present probe."""
    MODES = "modes"
    """From now on so many probe modes."""
    PASSES = "passes"
    """So many passes after the last frame."""


LARGEST_VALUE = {Action.MODES: 16, Action.PASSES: 100_000}
"""Actions that take a number, from 1 to this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command(OfRun):
    """A viewer's request to the reconstruction."""

    kind: ClassVar[str] = "command"
    action: Action
    scan_id: ScanId
    started_ns: Count = 0
    """That of the start message: which run of the id; 0 is whichever is being reconstructed."""
    value: Annotated[int, Wire.REQUIRED] = 0
    """0 for an action that takes no number."""

    def __post_init__(self) -> None:
        check(self)
        largest = LARGEST_VALUE.get(self.action)
        if largest is None and self.value != 0:
            raise GrammarError("command.value", f"{self.value}: {self.action} takes no number")
        if largest is not None and not 1 <= self.value <= largest:
            raise GrammarError("command.value", f"{self.value}: {self.action} takes a number from 1 to {largest}")
