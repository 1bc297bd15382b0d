"""What the page shows of each scan: the newest of everything, and pictures to look back at. No socket, no thread."""

import math
import threading
from collections.abc import Callable
from typing import Any

from streamptycho.display.known import Known
from streamptycho.display.pace import Pace
from streamptycho.display.scans import Scans
from streamptycho.messages.kinds import Message
from streamptycho.messages.live import Preview, Survey
from streamptycho.messages.results import Assessment, Snapshot
from streamptycho.messages.run import RunId
from streamptycho.messages.status import ReceiveStatus, Status
from streamptycho_services.dashboard.history import Curve, History, Moment
from streamptycho_services.health.known import Health
from streamptycho_services.health.metrics import COUNTED

MAX_SCANS = 24
"""Scans that can be opened; older ones are forgotten."""
WHOLE_SNAPSHOTS = 3
"""Scans whose newest snapshot is kept as it came; of others only what was shown."""
HISTORY_BYTES = 256 << 20
"""Memory for pictures to look back at, of all scans together."""
KEEP_SHARE = 1 / 50
"""Part of the time in which moments are encoded: a fiftieth of a core."""
RETRY_S = 10.0
"""Time to the next try where a moment could not be encoded."""

Encode = Callable[[Snapshot, str], dict[str, bytes]]
"""Pictures of a snapshot, given the key of its scan."""


class Scan(Known):
    """What is known of one run of a scan id, and what was shown of it."""

    def __init__(self, run: RunId, clock: Callable[[], float]) -> None:
        super().__init__(run)
        self.key = str(run)
        self.picture_s: float | None = None
        """When the newest snapshot came, on the state's clock."""
        self.curve = Curve()
        self.history = History()
        self.keeping = Pace(0.0, clock, share=KEEP_SHARE)
        self._clock = clock

    def show(self, message: Message) -> bool:
        """Take in a message of this scan; True if it is a snapshot to be kept for looking back."""
        before = self.lead
        if not self.take(message) or not isinstance(message, Snapshot):
            return False
        if self.lead is not before:
            self.curve = Curve()
        self.picture_s = self._clock()
        self.curve.take(message.error_history, message.updates)
        return message.final or (self.keeping.due and self.history.wants(message))

    def strip(self) -> dict[str, Any]:
        """The figures of the health strip; None where not known."""
        age_s = self._clock() - self.picture_s if self.picture_s is not None else None
        return self.facts().as_dict() | {"picture_age_s": age_s}


class State:
    """All scans of this session. One thread feeds it, others read under :attr:`lock`."""

    def __init__(self, encode: Encode, clock: Callable[[], float]) -> None:
        self.lock = threading.Lock()
        self.scans = Scans(lambda run: Scan(run, clock))
        self.version = 0
        self.undecodable = 0
        self.heard: dict[str, float] = {}
        self.stream_remarks: tuple[str, ...] = ()
        self._remarked_ns = 0
        self.health = Health(COUNTED, clock)
        """The same statuses as monitors want them."""
        self._encode = encode
        self._clock = clock

    def take(self, message: Message) -> Scan | None:
        """Take in one message; what is not shown is left out. The scan, if its snapshot is due for :meth:`keep`."""
        self.health.take(message)
        if not isinstance(message, Status | Snapshot | Survey | Preview | Assessment):
            return None
        with self.lock:
            self.version += 1
            self.heard[message.service] = self._clock()
            if isinstance(message, ReceiveStatus) and message.time_ns >= self._remarked_ns:  # not repeated last words
                self.stream_remarks, self._remarked_ns = message.stream_remarks, message.time_ns
            if message.run is None:
                return None
            scan = self.scans.find(message.run) or self._begin(message.run)
            return scan if scan is not None and scan.show(message) else None

    def _begin(self, run: RunId) -> Scan | None:
        """A new scan; None if there are enough newer ones."""
        self.scans.add(run)
        self.scans.keep_newest(MAX_SCANS)
        for old in list(self.scans)[:-WHOLE_SNAPSHOTS]:
            if old.finished:
                old.forget_pictures()
        return self.scans.find(run)

    def keep(self, scan: Scan) -> None:
        """Keep the newest snapshot of a scan for looking back; takes as long as encoding it."""
        snapshot = scan.snapshot
        if snapshot is None:
            return
        scan.keeping.wait(RETRY_S)  # unless all goes well
        with scan.keeping.turn():
            images = self._encode(snapshot, scan.key)
        moment = Moment(
            sequence=snapshot.sequence,
            time_ns=snapshot.time_ns,
            frames_used=snapshot.frames_used,
            error=snapshot.error,
            final=snapshot.final,
            images=images,
        )
        with self.lock:
            self.version += 1
            scan.history.add(moment)
            self._make_room()

    def _make_room(self) -> None:
        """Keep the memory bounded: first the oldest scans keep their last moment only, then all keep every other."""
        newest = self.newest
        for scan in self.scans:
            if self._history_bytes() <= HISTORY_BYTES:
                return
            if scan is not newest:
                scan.history.only_last()
        while newest is not None and self._history_bytes() > HISTORY_BYTES and len(newest.history.moments) > 2:
            newest.history.thin()

    def _history_bytes(self) -> int:
        return sum(scan.history.nbytes for scan in self.scans)

    @property
    def newest(self) -> Scan | None:
        """The scan that began last."""
        return self.scans.newest

    def scan(self, key: str | None) -> Scan | None:
        """A scan by its key; None is the newest."""
        return self.newest if key is None else next((scan for scan in self.scans if scan.key == key), None)

    def report(self, key: str | None) -> dict[str, Any]:
        """The figures of one scan, and which others there are."""
        with self.lock:
            now_s, scan, newest = self._clock(), self.scan(key), self.newest
            facts: dict[str, Any] = plain(
                {
                    "key": scan.key if scan else None,
                    "facts": scan.strip() if scan else None,
                    "scans": [{"key": each.key, "scan": each.run.scan_id, "state": each.state} for each in self.scans],
                    "newest": newest.key if newest else None,
                    "silence_s": {name: now_s - heard_s for name, heard_s in self.heard.items()},
                    "undecodable": self.undecodable,
                    "stream_remarks": self.stream_remarks,
                }
            )
            return facts


def plain(value: Any) -> Any:
    """The same for JSON: numbers that JSON does not know become None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value
