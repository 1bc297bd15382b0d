"""What the services publish, gathered for a terminal or a program."""

from collections import Counter
from typing import Any

from streamptycho.config import ServiceEndpoints
from streamptycho.display.known import Known
from streamptycho.display.scans import Scans
from streamptycho.errors import ProtocolError
from streamptycho.messages.kinds import Message
from streamptycho.messages.results import Assessment, Snapshot
from streamptycho.messages.run import RunId
from streamptycho.messages.status import ReceiveStatus, ReconstructStatus, Status, WriteStatus
from streamptycho.wire.endpoint import Endpoint, SocketKind
from streamptycho.wire.sockets import Receiver

MAX_SCANS = 1000
"""Scans that are remembered: a terminal may run for weeks."""
_WITH_PICTURES = 8
_MOST_REMARKS = 100
MAX_REFUSALS = 4
"""Reasons of refusals that are remembered."""


class Watcher:
    """What is known of each run, also where two have one scan id: the one before may be the one that lacks something.

    :meth:`poll` drains the sockets; of pictures only the newest is kept.
    """

    def __init__(self, context: Any, services: ServiceEndpoints) -> None:
        addresses = (services.display_receive, services.display_reconstruct, services.display_write)
        self._receiver = Receiver(context, [Endpoint(address=a, socket=SocketKind.SUB, queue=100) for a in addresses])
        self._forget()

    def _forget(self) -> None:
        self.runs = Scans(Known)
        self.idle: dict[str, Status] = {}
        """By name of the service, its newest status without a scan."""
        self._kinds: set[type[Status]] = set()
        self._refused: dict[int, Counter[str]] = {}
        """By start of the receiver."""
        self._remarks: dict[str, None] = {}
        self.refusals: dict[str, None] = {}
        """Why messages of no scan were refused, each reason once, the newest last."""

    def __enter__(self) -> "Watcher":
        return self

    def __exit__(self, *exc: object) -> None:
        self._receiver.close()

    def poll(self, timeout_s: float) -> bool:
        """Take in all that has arrived; True if anything was new."""
        message = self._receiver.receive(timeout_s)
        if message is None:
            return False
        while message is not None:
            self.take(message)
            message = self._receiver.receive(0)
        return True

    def take(self, message: Message | ProtocolError) -> None:
        """Take in a status, picture or assessment; others are ignored."""
        if not isinstance(message, Status | Snapshot | Assessment):
            return
        if isinstance(message, Status):
            self._kinds.add(type(message))
        if isinstance(message, ReceiveStatus):  # the last one of a scan is repeated after newer ones
            refused = self._refused.setdefault(message.restarts, Counter())
            self._refused[message.restarts] = refused | Counter(message.rejected)
            self._remarks |= dict.fromkeys(message.stream_remarks)
            while len(self._remarks) > _MOST_REMARKS:
                del self._remarks[next(iter(self._remarks))]
        if message.run is None:
            self.idle[message.service] = message
            self._note_refusals(message)
            return
        known, newest = self.runs.find(message.run), self.known(message.run.scan_id)
        # of a run before the first that was heard of, nothing is wanted
        if known is None and (newest is None or newest.run < message.run):
            known = self.runs.add(message.run)
            self.runs.keep_newest(MAX_SCANS)
            for old in list(self.runs)[:-_WITH_PICTURES]:
                old.forget_pictures()
        if known is not None:
            known.take(message)

    def _note_refusals(self, status: Status) -> None:
        for text in status.remarks if isinstance(status, ReceiveStatus) else ():
            self.refusals.pop(text, None)
            self.refusals[text] = None
            if len(self.refusals) > MAX_REFUSALS:
                del self.refusals[next(iter(self.refusals))]

    @property
    def ready(self) -> bool:
        """True once each kind of service has sent a status."""
        return self._kinds.issuperset({ReceiveStatus, ReconstructStatus, WriteStatus})

    @property
    def recording(self) -> bool:
        """True once receiver and writer have sent a status: the detector's streams are connected."""
        return self._kinds.issuperset({ReceiveStatus, WriteStatus})

    @property
    def refused(self) -> Counter[str]:
        """Messages that the receiver has refused or could not use, by reason."""
        return sum(self._refused.values(), Counter())

    @property
    def stream_remarks(self) -> list[str]:
        """What the receiver has said that concerns no scan, oldest first."""
        return list(self._remarks)

    @property
    def scans(self) -> list[str]:
        """Scan ids in the order in which the first run of each began."""
        return list(self._by_id())

    def known(self, scan_id: str) -> Known | None:
        """All about the newest run of a scan id."""
        return self.runs.find(RunId(scan_id))

    def written(self) -> list[str]:
        """Scan ids of whose newest run the file is closed."""
        return [scan_id for scan_id, known in self._by_id().items() if known.written]

    def _by_id(self) -> dict[str, Known]:
        """The newest run of each scan id."""
        return {known.run.scan_id: known for known in self.runs}
