"""Every kind of message, and its name on the wire."""

from typing import TypeAlias, get_args

from streamptycho.messages.live import Command, Preview, Survey
from streamptycho.messages.results import Assessment, Estimates, Snapshot
from streamptycho.messages.status import ReceiveStatus, ReconstructStatus, WriteStatus
from streamptycho.messages.stream import Frame, Positions, Resume, ScanEnd, ScanStart

Message: TypeAlias = (
    ScanStart
    | Frame
    | Positions
    | ScanEnd
    | Snapshot
    | Assessment
    | Estimates
    | ReceiveStatus
    | ReconstructStatus
    | WriteStatus
    | Survey
    | Preview
    | Command
    | Resume
)

KINDS: dict[str, type[Message]] = {message.kind: message for message in get_args(Message)}
