"""What the services say about themselves, gathered for a terminal or a program."""

from typing import Any

from streamptycho.config import ServiceEndpoints
from streamptycho.ledger import Ledger, combine, not_written
from streamptycho.messages import Snapshot, Status
from streamptycho.reasons import ServiceState
from streamptycho.transport import Endpoint, Receiver, SocketKind

_KEPT_SNAPSHOTS = 8
"""Scans of which the picture is kept: a display may run for weeks."""
_SERVICES = ("receive", "reconstruct", "write")


class Watcher:
    """Newest status of each service and scan, newest snapshot of each of the last scans.

    Of several runs of the same scan id, the one that began last counts: others may still be polished or say their last word.
    A display wants the newest picture and not every one: :meth:`poll` drains what has come and keeps the last.
    """

    def __init__(self, context: Any, services: ServiceEndpoints) -> None:
        addresses = (services.display_receive, services.display_reconstruct, services.display_write)
        self._receiver = Receiver(context, [Endpoint(address=a, socket=SocketKind.SUB, queue=100) for a in addresses])
        self.statuses: dict[tuple[str, str | None], Status] = {}
        self.snapshots: dict[str, Snapshot] = {}
        self.scans: list[str] = []
        """Scan ids in the order in which they appeared."""
        self._runs: dict[str, int] = {}

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
            elif isinstance(message, Snapshot) and self._is_newest(message.scan_id, message.started_ns):
                self.snapshots[message.scan_id] = message
                while len(self.snapshots) > _KEPT_SNAPSHOTS:
                    del self.snapshots[next(iter(self.snapshots))]
            message = self._receiver.receive(0)
        return True

    def _is_newest(self, scan_id: str, started_ns: int) -> bool:
        """Whether this is the newest run of the id so far; what is known of an earlier one is forgotten."""
        newest = self._runs.setdefault(scan_id, started_ns)
        if started_ns > newest:
            self._runs[scan_id] = started_ns
            self.snapshots.pop(scan_id, None)
            for service in _SERVICES:
                self.statuses.pop((service, scan_id), None)
        return started_ns >= newest

    def _take(self, status: Status) -> None:
        if status.scan_id is not None and not self._is_newest(status.scan_id, status.started_ns):
            return
        self.statuses[status.service, status.scan_id] = status
        if status.scan_id is not None and status.scan_id not in self.scans:
            self.scans.append(status.scan_id)

    @property
    def ready(self) -> bool:
        """True once every service has said something."""
        return {service for service, _ in self.statuses}.issuperset(_SERVICES)

    def status(self, service: str, scan_id: str | None) -> Status | None:
        """Last word of a service on a scan."""
        return self.statuses.get((service, scan_id))

    def ledger(self, scan_id: str) -> Ledger:
        """Where the frames of a scan are."""
        return combine(self.status("receive", scan_id), self.status("reconstruct", scan_id))

    def problem(self, scan_id: str) -> str | None:
        """What a service says went wrong with a scan."""
        known = [(name, self.status(name, scan_id)) for name in _SERVICES]
        said = [f"{name}: {status.notes['error']}" for name, status in known if status and "error" in status.notes]
        return "; ".join(said) or None

    def write_problem(self, scan_id: str) -> str | None:
        """What of a scan is not in its file, and why."""
        return not_written(self.status("write", scan_id))

    def written(self) -> list[str]:
        """Scans whose files are closed."""
        return [s for s in self.scans if (w := self.status("write", s)) is not None and w.state is ServiceState.DONE]
