"""What the services say about themselves, gathered for a terminal or a program."""

from typing import Any

from streamptycho.config import ServiceEndpoints
from streamptycho.ledger import Ledger, combine
from streamptycho.messages import ServiceState, Snapshot, Status
from streamptycho.transport import Endpoint, Receiver, SocketKind

_KEPT_SNAPSHOTS = 8
"""Scans of which the picture is kept: a display may run for weeks."""


class Watcher:
    """Newest status of each service and scan, newest snapshot of each of the last scans.

    A display wants the newest picture and not every one: :meth:`poll` drains what has come and keeps the last.
    """

    def __init__(self, context: Any, services: ServiceEndpoints) -> None:
        addresses = (services.display_receive, services.display_reconstruct, services.display_write)
        self._receiver = Receiver(context, [Endpoint(address=a, socket=SocketKind.SUB, queue=100) for a in addresses])
        self.statuses: dict[tuple[str, str | None], Status] = {}
        self.snapshots: dict[str, Snapshot] = {}
        self.scans: list[str] = []
        """Scan ids in the order in which they appeared."""

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
            if isinstance(message, Status):
                self._take(message)
            elif isinstance(message, Snapshot):
                self.snapshots[message.scan_id] = message
                while len(self.snapshots) > _KEPT_SNAPSHOTS:
                    del self.snapshots[next(iter(self.snapshots))]
            message = self._receiver.receive(0)
        return True

    def _take(self, status: Status) -> None:
        self.statuses[status.service, status.scan_id] = status
        if status.scan_id is not None and status.scan_id not in self.scans:
            self.scans.append(status.scan_id)

    def status(self, service: str, scan_id: str | None) -> Status | None:
        """Last word of a service on a scan."""
        return self.statuses.get((service, scan_id))

    def ledger(self, scan_id: str) -> Ledger:
        """Where the frames of a scan are."""
        return combine(self.status("receive", scan_id), self.status("reconstruct", scan_id))

    def written(self) -> list[str]:
        """Scans whose files are closed."""
        return [s for s in self.scans if (w := self.status("write", s)) is not None and w.state is ServiceState.DONE]
