"""What is shown of a scan besides snapshots and status, and what a viewer may ask for; conventions as in :mod:`messages`.

All of it is for the eye: it may be lost, repeated or late, and nothing is reconstructed or written from it.
"""

from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from streamptycho.errors import GrammarError
from streamptycho.invariants import check_counts, check_index, check_scan_id, seal

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
class Survey:
    """What frames say before anything is reconstructed: a block of points for coverage and instant maps.

    Points whose state has changed come again soon. All repeat in turn while the scan is in work, so that who comes late has
    all of them after some seconds.

    First points that were outliers are given up, and the log of points begins again. Who has more of them in the
    reconstruction than `known`, those of the newest block counted in, or hears of fewer `known` than before, forgets those
    that came before that block: one socket carries all blocks of a scan, and it may lose some but keeps their order.
    """

    scan_id: str
    started_ns: int
    time_ns: int
    known: int
    """Points of the scan so far whose frames are in the reconstruction; falls if the first ones are given up."""
    index: NDArray[np.int64]
    """(k,) frame indices, strictly rising."""
    yx_m: NDArray[np.float64]
    """(k, 2) where the beam was, in the coordinates of `Snapshot.origin_m`."""
    counts: NDArray[np.float32]
    """(k,) sum over valid pixels; this and what follows is 0 where the frame is not in the reconstruction."""
    dark_field: NDArray[np.float32]
    """(k,) part of it outside the bright field."""
    centre_px: NDArray[np.float32]
    """(k, 2) centre of mass from the zero frequency, pixels of the frames in work."""
    state: NDArray[np.uint8]
    """(k,) of :class:`PointState`."""

    def __post_init__(self) -> None:
        check_scan_id(self.scan_id)
        check_counts(self, "survey", "started_ns", "time_ns", "known")
        floats = {"counts": np.float32, "dark_field": np.float32, "centre_px": np.float32}
        seal(self, "survey", index=np.int64, yx_m=np.float64, state=np.uint8, **floats)
        n = self.index.size
        if n < 1:
            raise GrammarError("survey.index", "the block is empty")
        check_index("survey.index", self.index, n)
        shapes = {"yx_m": (n, 2), "counts": (n,), "dark_field": (n,), "centre_px": (n, 2), "state": (n,)}
        for name, shape in shapes.items():
            array = getattr(self, name)
            if array.shape != shape:
                raise GrammarError(f"survey.{name}", f"shape {array.shape} does not match {n} indices")
            if not np.isfinite(array).all():
                raise GrammarError(f"survey.{name}", "has values that are not finite")
        if self.state.max() > max(PointState):
            raise GrammarError("survey.state", f"{self.state.max()} is not a state; 0 to {max(PointState):d} are")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Preview:
    """The newest diffraction pattern, as the detector sent it."""

    scan_id: str
    started_ns: int
    time_ns: int
    index: int
    pattern: NDArray[np.float32]
    """(ny, nx) counts, oriented as configured; the largest of each block of `binning` squared pixels."""
    valid: NDArray[np.bool_]
    """(ny, nx) True where any pixel of the block is used."""
    saturated: NDArray[np.bool_]
    """(ny, nx) True where any pixel of the block is saturated or holds a reserved value."""
    binning: int
    centre_px: tuple[float, float]
    """(y, x) zero frequency, pixels of the full frame."""
    crop_px: tuple[int, int]
    """(y, x) first pixel of the part in work, pixels of the full frame; may lie off it."""
    crop_shape_px: tuple[int, int]

    def __post_init__(self) -> None:
        check_scan_id(self.scan_id)
        check_counts(self, "preview", "started_ns", "time_ns", "index")
        seal(self, "preview", pattern=np.float32, valid=np.bool_, saturated=np.bool_)
        if self.pattern.ndim != 2 or self.pattern.size == 0:
            raise GrammarError("preview.pattern", f"shape {self.pattern.shape} is not (ny, nx)")
        for name in ("valid", "saturated"):
            if getattr(self, name).shape != self.pattern.shape:
                raise GrammarError(f"preview.{name}", f"{getattr(self, name).shape} differs from the pattern's")
        if not 1 <= self.binning <= MAX_BINNING:
            raise GrammarError("preview.binning", f"{self.binning} is not from 1 to {MAX_BINNING}")
        if not np.isfinite(self.centre_px).all():
            raise GrammarError("preview.centre_px", f"{self.centre_px} is not finite")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Assessment:
    """How far the picture can be trusted, in words and figures."""

    scan_id: str
    started_ns: int
    time_ns: int
    verdict: str
    """One sentence for the scientist."""
    findings: dict[str, str] = field(default_factory=dict)
    """What is wrong, gravest first: code (``overlap``, ``orientation``...) to a sentence with reason and remedy."""
    figures: dict[str, float] = field(default_factory=dict)
    """Numbers behind it, named with their unit: ``resolution_m``, ``covered_fraction``, ``photons_per_frame``..."""
    frequency_per_m: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    """(k,) spatial frequencies of the ring correlation; empty before there is one."""
    ring_correlation: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    """(k,) Fourier ring correlation of two half-data objects."""

    def __post_init__(self) -> None:
        check_scan_id(self.scan_id)
        check_counts(self, "assessment", "started_ns", "time_ns")
        seal(self, "assessment", frequency_per_m=np.float32, ring_correlation=np.float32)
        if self.frequency_per_m.ndim != 1 or self.ring_correlation.shape != self.frequency_per_m.shape:
            raise GrammarError("assessment.ring_correlation", f"{self.ring_correlation.shape} differs from the frequencies'")


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
    """End the reconstruction after the pass in work; frames are received and written all the same."""
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
class Command:
    """A wish of a viewer."""

    action: Action
    scan_id: str
    started_ns: int = 0
    """That of the start message: which run of the id; 0 is whichever is in work."""
    value: int = 0
    """0 for an action that takes no number."""

    def __post_init__(self) -> None:
        check_scan_id(self.scan_id)
        check_counts(self, "command", "started_ns")
        largest = LARGEST_VALUE.get(self.action)
        if largest is None and self.value != 0:
            raise GrammarError("command.value", f"{self.value}: {self.action} takes no number")
        if largest is not None and not 1 <= self.value <= largest:
            raise GrammarError("command.value", f"{self.value}: {self.action} takes a number from 1 to {largest}")
