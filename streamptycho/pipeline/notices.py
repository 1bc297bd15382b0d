"""What is dropped, told in the log: once for each scan and reason, however many there are."""

import logging
from collections import OrderedDict
from collections.abc import Callable

from streamptycho.errors import BEGAN_BEFORE, ProtocolError
from streamptycho.join.rejected import Rejected
from streamptycho.messages.reasons import DropReason
from streamptycho.messages.run import RunId
from streamptycho.messages.status import AnyStatus

log = logging.getLogger(__name__)

WARN_S = 10.0
"""Time between two warnings about messages of one sort that belong to no scan: a flood of them makes no flood of lines."""
_RUNS = 1000
"""Runs that are remembered."""
_DROPPED: dict[str, str] = {
    DropReason.DUPLICATE: "the same index came before; the first one counts",
    DropReason.NO_POSITION: "their positions have not come; they are in the file, and in the picture once these have",
    DropReason.CORRUPT: "their bytes do not decode; they are not in the file",
    DropReason.WRONG_SHAPE: "shape or pixel type differ from the start message; they are not in the file",
    DropReason.BAD_INDEX: "their index is beyond match.max_index or write.max_frames; they are not in the file",
    DropReason.ENGINE_FULL: "the reconstruction did not take them in time (match.max_backlog_bytes); they are in the file",
    DropReason.OUTSIDE: "the object would exceed engine.max_object_pixels; they are in the file. Raise it, crop or bin the "
    "frames (preprocess.crop, .binning), or check the unit of the positions (positions.unit)",
    DropReason.EMPTY: "no valid pixel holds any count; look at the beam and at the mask",
    DropReason.LATE: "they came after the end of the scan",
    DropReason.STOPPED: "a viewer has stopped the reconstruction; they are in the file",
    DropReason.LOST: "they did not reach the reconstruction; they are in the file",
    DropReason.DISK: "the disk refuses them, or has lost their file; no more can wait in memory (write.hold_bytes, .hold_s)",
    DropReason.FAILED: "the service cannot go on with this scan",
}
REJECTED = {
    "no_start": "no start message came before them",
    "failed": "the file of their scan has failed",
    "unrecorded": "so many frames were sent, as the end message says, of a scan whose start has not come; none is recorded",
    "stray": "their scan is over, or they are of another run of its id",
    "repeated_start": "the scan is known already",
    "unexpected_kind": "messages of this kind are not for this service",
    "dark_engine_full": "the reconstruction did not take these dark exposures in time",
    "dark_wrong_shape": "shape or pixel type of dark exposures differ from the start message",
    "position_index": "their index is beyond match.max_index",
    "position_repeated": "the position of the same index came before; the first one counts",
    "unpaired": "these frames, or messages of others, belong to a run that has joined no scan",
    "unplaced": "no position could be made of these samples",
    "position_forgotten": "more positions wait for their frames than match.max_waiting_positions; these are in the file",
}
"""What each reason means; what cannot be decoded is named with its field instead."""


class Notices:
    """Tells of what has been dropped since the last look; `clock` in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._told: OrderedDict[RunId, set[str]] = OrderedDict()
        self._counted: dict[str, int] = {}
        """Rejected messages when they were last told of, by reason."""
        self._next_s: dict[str, float] = {}

    def of(self, status: AnyStatus) -> None:
        """Frames that were dropped, each reason once for each run."""
        if status.run is None or not status.dropped:
            return
        told = self._told.setdefault(status.run, set())
        self._told.move_to_end(status.run)
        while len(self._told) > _RUNS:
            self._told.popitem(last=False)
        for reason, frames in status.dropped.items():
            if frames and reason not in told:
                told.add(reason)
                why = _DROPPED.get(reason, "not known to this version")
                said = (status.scan_id, reason, frames, why)
                log.warning("scan %s: frames are dropped as %s, %d so far: %s", *said, extra=status.run.fields)

    def rejected(self, rejected: Rejected) -> None:
        """Messages that belong to no scan, and the like."""
        for reason, why in REJECTED.items():
            more = rejected[reason] - self._counted.get(reason, 0)
            if more and self._may_warn(reason):
                self._counted[reason] = rejected[reason]
                log.warning("%d rejected as %s, the last of scan %s: %s", more, reason, rejected.latest[reason], why)

    def refused(self, error: ProtocolError) -> None:
        """A message that cannot be decoded."""
        if error.reason != BEGAN_BEFORE and self._may_warn(error.field):  # that is a finding
            log.warning("a message was refused: %s", error)

    def _may_warn(self, what: str) -> bool:
        now = self._clock()
        if now < self._next_s.get(what, now):
            return False
        self._next_s[what] = now + WARN_S
        return True
