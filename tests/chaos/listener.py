"""What the services publish, with the times that matter here."""

import math
import time
from typing import Any

from streamptycho.config import ServiceEndpoints
from streamptycho.errors import ProtocolError
from streamptycho.messages.kinds import Message
from streamptycho.messages.results import Snapshot
from streamptycho.messages.status import ReceiveStatus, Status
from streamptycho_services.processes.watch import Watcher

WORSE = 1.3
"""Largest error of a picture that was put back, relative to that before."""
TELLING = 100
"""Frames in a picture from which its error can be compared with that of a later one."""


class Listener(Watcher):
    """Also notes when each service was heard, and how good the pictures of each scan were."""

    def __init__(self, context: Any, services: ServiceEndpoints) -> None:
        super().__init__(context, services)
        self.heard_ns: dict[str, int] = {}
        """Service to the time at which it made its last status."""
        self.pictures: dict[str, list[tuple[int, int, float]]] = {}
        """Scan id to time, frames used and Fourier error of its pictures."""
        self.unrecorded = 0
        """Frames of scans whose start was lost, as the receiver counts them; over all its lives."""
        self._unrecorded = 0
        self._kills: list[tuple[str, int, float]] = []
        self.back_s: list[tuple[str, float]] = []
        """Services that were killed, and how long after the kill each made a status again."""

    def take(self, message: Message | ProtocolError) -> None:
        super().take(message)
        if isinstance(message, Status):
            self.heard_ns[message.service] = message.time_ns
            if isinstance(message, ReceiveStatus):
                self._count(message.rejected.get("unrecorded", 0))
            for kill in [kill for kill in self._kills if kill[0] == message.service and message.time_ns > kill[1]]:
                self._kills.remove(kill)
                self.back_s.append((kill[0], (message.time_ns - kill[1]) / 1e9 - kill[2]))
        elif isinstance(message, Snapshot):
            picture = message.time_ns, message.frames_used, message.error
            self.pictures.setdefault(message.scan_id, []).append(picture)

    def _count(self, unrecorded: int) -> None:
        """By the newest status; a smaller number than before is that of a new process."""
        before, self._unrecorded = self._unrecorded, unrecorded
        self.unrecorded += unrecorded - before if unrecorded >= before else unrecorded

    def killed(self, name: str, delay_s: float) -> None:
        """Note a kill; `delay_s` are waited on purpose before the next start."""
        self._kills = [kill for kill in self._kills if kill[0] != name]  # killed again before it was back
        self._kills.append((name, time.time_ns(), delay_s))

    def forgive(self) -> None:
        """Services that were stopped or cut off meanwhile say nothing about the time they need."""
        self._kills.clear()

    def picture_back(self, scan_id: str, killed_ns: int) -> float | None:
        """Seconds until the picture had as many frames again and was as good, but for `WORSE`.

        None if there was none before, infinite if it never was.
        """
        pictures = self.pictures.get(scan_id, [])
        before = [picture for picture in pictures if picture[0] < killed_ns]
        if not before or before[-1][1] < TELLING:  # the error of a few frames says little
            return None
        _, frames, error = before[-1]
        good = (time_ns for time_ns, n, e in pictures if time_ns > killed_ns and n >= frames and e <= WORSE * error)
        return (next(good, math.inf) - killed_ns) / 1e9
