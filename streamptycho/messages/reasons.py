"""The words for what happened: why a stream or a scan ended, why a frame was dropped, what a service is doing."""

from enum import StrEnum


class Stream(StrEnum):
    """Which stream a :class:`ScanEnd` ends."""

    FRAMES = "frames"
    POSITIONS = "positions"
    SCAN = "scan"
    """Both: sent by the receiver to its consumers."""


class EndReason(StrEnum):
    """Why a scan ended."""

    COMPLETE = "complete"
    """All that was planned and announced has come and is in the file."""
    INCOMPLETE = "incomplete"
    """The source declared the scan finished, and some of it is missing."""
    ABORTED = "aborted"
    """The detector or the plan stopped early and said so."""
    SUPERSEDED = "superseded"
    """Another scan began before this one ended."""
    TIMEOUT = "timeout"
    """Nothing arrived for too long, and no end message."""
    INTERRUPTED = "interrupted"
    """streamptycho itself was asked to stop."""


class DropReason(StrEnum):
    """Why a frame that arrived does not contribute to the picture."""

    DUPLICATE = "duplicate"
    """The same index came before; the first one counts."""
    NO_POSITION = "no_position"
    """Its position has not come; the frame is in the file, and the picture takes it once that does."""
    CORRUPT = "corrupt"
    """Its bytes do not decode."""
    WRONG_SHAPE = "wrong_shape"
    """Shape or pixel type differ from the start message."""
    BAD_INDEX = "bad_index"
    """Index beyond the limit."""
    ENGINE_FULL = "engine_full"
    """The reconstruction could not take it in time; the frame is in the file nevertheless."""
    OUTSIDE = "outside"
    """Its position lies so far out that the object would exceed the configured size."""
    EMPTY = "empty"
    """No valid pixel holds any count."""
    LATE = "late"
    """It came after the end of its scan."""
    STOPPED = "stopped"
    """It came after a viewer had stopped the reconstruction of its scan; the frame is in the file nevertheless."""
    LOST = "lost"
    """The receiver has passed it on and it did not come; the frame is in the file nevertheless."""
    FAILED = "failed"
    """The reconstruction of this scan could not start or broke off."""
    DISK = "disk"
    """The disk refused it for longer than it could wait in memory, or lost the file that it was in."""


class ServiceKind(StrEnum):
    """The services. The first of a kind bears its name; others of the same kind bear names of their own."""

    RECEIVE = "receive"
    RECONSTRUCT = "reconstruct"
    WRITE = "write"


class ServiceState(StrEnum):
    """What a service is doing."""

    IDLE = "idle"
    RECEIVING = "receiving"
    SEARCHING = "searching"
    """Looking for a probe to start from."""
    RECONSTRUCTING = "reconstructing"
    POLISHING = "polishing"
    """All frames are in; the picture is still improving."""
    PAUSED = "paused"
    """A viewer asked the reconstruction to wait or to stop; frames are still received and written."""
    DONE = "done"
