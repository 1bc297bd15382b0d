"""The health of the services: one kind of status for each."""

import math
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, TypeAlias

from streamptycho.errors import GrammarError
from streamptycho.messages.checks import Checked, Count, ScanId, check, counts, seconds
from streamptycho.messages.marks import Wire
from streamptycho.messages.reasons import EndReason, ServiceKind, ServiceState
from streamptycho.messages.run import RunId


@dataclass(frozen=True, slots=True, kw_only=True)
class Status(Checked):
    """What every service says of itself, about once per second and at every change of state.

    The counts are in frames and always obey ``received = used + waiting + sum(dropped)``, as that service sees them.
    """

    kind: ClassVar[str]
    service: str
    """Name of the service that speaks."""
    scan_id: ScanId | None = None
    state: ServiceState
    time_ns: Count
    started_ns: Annotated[Count, Wire.REQUIRED] = 0
    """That of the start message; 0 without a scan."""
    received: Annotated[Count, Wire.REQUIRED] = 0
    used: Annotated[Count, Wire.REQUIRED] = 0
    """Passed on (receive), reconstructed from (reconstruct), in the file for every reader (write)."""
    waiting: Annotated[Count, Wire.REQUIRED] = 0
    dropped: Annotated[dict[str, int], counts, Wire.REQUIRED] = field(default_factory=dict)
    """Reason to number of frames."""
    rejected: Annotated[dict[str, int], counts] = field(default_factory=dict)
    """Reason to number of messages that belong to no open scan or cannot be read."""
    failure: str | None = None
    """Why the service cannot go on with this scan."""
    restarts: Count = 0
    """How often the service was started again by the one that watches it; 0 where nobody does."""
    unacknowledged: Annotated[dict[str, int], counts] = field(default_factory=dict)
    """Service to number of messages that are kept until it has them safe."""
    unacknowledged_bytes: Annotated[dict[str, int], counts] = field(default_factory=dict)
    """The same in bytes."""
    silence_s: Annotated[dict[str, float], seconds] = field(default_factory=dict)
    """``frames``, ``positions`` or a service to the time since something came from there; what never spoke is left out."""

    def __post_init__(self) -> None:
        check(self)
        if self.received != self.used + self.waiting + sum(self.dropped.values()):
            raise GrammarError(
                f"{self.kind}.received",
                f"{self.received} != {self.used} used + {self.waiting} waiting + {sum(self.dropped.values())} dropped",
            )

    @property
    def run(self) -> RunId | None:
        """The current run; None without a scan."""
        return None if self.scan_id is None else RunId(self.scan_id, self.started_ns)

    @property
    def done(self) -> bool:
        """True if the service has finished with this scan."""
        return self.state is ServiceState.DONE


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiveStatus(Status):
    """The receiver's."""

    kind: ClassVar[str] = "receive_status"
    service: str = ServiceKind.RECEIVE.value
    rate_hz: float = 0.0
    """Frames that arrive per second."""
    unique: Count = 0
    """Frames of different index so far."""
    expected: Count | None = None
    """Frames planned, where known."""
    positions: Count = 0
    """Positions of different index so far."""
    announced: Count | None = None
    """Frames sent, as the end of their stream says; None before it has come."""
    announced_positions: Count | None = None
    """The same of the positions."""
    gaps: Count = 0
    """Indices below the largest that have not come; while frames arrive in disorder they may still come."""
    missing: Count | None = None
    """Frames that were planned, announced or skipped and did not come as they should; None before the end of the scan."""
    missing_positions: Count | None = None
    """The same of the positions."""
    remarks: tuple[str, ...] = ()
    """What people should know of how the scan was put together, each with the setting that answers; without a scan, why
    nothing is understood of what comes."""
    stream_remarks: tuple[str, ...] = ()
    """The same of what concerns no open scan: a stream that is not understood, a run without one, what came late."""
    connections: dict[str, str] = field(default_factory=dict)
    """``frames`` or ``positions`` to how it stands with the connection to a sender of whom nothing has come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconstructStatus(Status):
    """That of a reconstruction."""

    kind: ClassVar[str] = "reconstruct_status"
    service: str = ServiceKind.RECONSTRUCT.value
    error: float = math.nan
    """Fourier error; NaN before there is one."""
    updates: Count = 0
    """Frame updates so far."""
    updates_hz: float = 0.0
    passes: Count = 0
    """Passes over all frames so far."""
    position_shift_px: float = 0.0
    """How far refined positions lie from the recorded ones, rms, px."""
    unexplained: float = math.nan
    """The figure behind the trust; NaN while there is none."""
    lag_s: float | None = None
    """Age of the newest frame that has arrived, by the detector's clock; None without a clock, or after the end."""
    device: str = ""
    """What computes."""
    probe: str = ""
    """Where the probe comes from, and how far it is trusted."""
    trust: str = ""
    """What prediction says about the probe: ``confident``, ``uncertain`` or ``failed``."""
    no_picture: bool = False
    """No snapshot of this scan has come or will come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteStatus(Status):
    """The writer's."""

    kind: ClassVar[str] = "write_status"
    service: str = ServiceKind.WRITE.value
    file: str | None = None
    """The growing file."""
    result: str | None = None
    """The reconstruction's file, once it is written."""
    picture: str | None = None
    """The PNG beside it."""
    end: EndReason | None = None
    """Why the scan ended; complete only if all that came to the receiver is in the file too."""
    positions: Count = 0
    """Positions taken so far."""
    trouble: str | None = None
    """Why the disk takes nothing at the moment, or will soon take no more; frames wait in memory."""
    free_bytes: Count | None = None
    """Free space where the file is; None where the disk does not answer."""
    frame_bytes: Count = 0
    """Bytes of the file per frame so far; 0 before there is one."""


AnyStatus: TypeAlias = ReceiveStatus | ReconstructStatus | WriteStatus
"""What travels: :class:`Status` is only their common part."""
