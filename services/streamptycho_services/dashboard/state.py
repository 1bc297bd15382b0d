"""The newest of everything that the services say, by scan. Pure: no socket, no thread, no clock of its own."""

import math
import threading
from collections.abc import Callable
from typing import Any

from streamptycho.feed import Assessment, Preview, Survey
from streamptycho.ledger import Ledger, combine, not_written
from streamptycho.messages import Message, Snapshot, Status
from streamptycho.points import Points
from streamptycho.reasons import ServiceState
from streamptycho_services.dashboard.history import Curve, History, Moment

SERVICES = ("receive", "reconstruct", "write")
MAX_SCANS = 24
"""Scans that can be opened; older ones are forgotten."""
WHOLE_SNAPSHOTS = 3
"""Scans of which the newest snapshot is kept as it came; of others only what was shown."""
HISTORY_BYTES = 256 << 20
"""Memory for pictures to look back at, of all scans together."""
KEEP_TIMES = 50
"""A moment is kept at most every so many times as long as it takes to encode it: a fiftieth of a core."""
RETRY_NS = 10_000_000_000
"""Time to the next try where a moment could not be encoded."""

Encode = Callable[[Snapshot, str], dict[str, bytes]]
"""Pictures of a snapshot, given the key of its scan."""


class Scan:
    """What is known of one run of a scan id."""

    def __init__(self, scan_id: str, started_ns: int, seen_s: float) -> None:
        self.scan_id = scan_id
        self.started_ns = started_ns
        self.statuses: dict[str, Status] = {}
        self.snapshot: Snapshot | None = None
        self.picture_s: float | None = None
        """When the newest snapshot came, on the clock of who feeds the state."""
        self.news_s = seen_s
        self.preview: Preview | None = None
        self.assessment: Assessment | None = None
        self.points = Points()
        self.curve = Curve()
        self.history = History()

    @property
    def key(self) -> str:
        """Tells apart two runs of the same scan id."""
        return f"{self.scan_id}@{self.started_ns}"

    @property
    def ledger(self) -> Ledger:
        """Where the frames are."""
        return combine(self.statuses.get("receive"), self.statuses.get("reconstruct"))

    @property
    def state(self) -> ServiceState | None:
        """What is being done with it: the reconstruction's word, else the receiver's."""
        status = self.statuses.get("reconstruct") or self.statuses.get("receive")
        return status.state if status is not None else None

    @property
    def finished(self) -> bool:
        """True if nothing more is expected of it."""
        return self.state is ServiceState.DONE or (self.snapshot is not None and self.snapshot.final)

    def take(self, message: Message, now_s: float) -> bool:
        """Take in a message of this scan; True if it is a snapshot to be kept for looking back."""
        self.news_s = now_s
        if isinstance(message, Status):
            self.statuses[message.service] = message
        elif isinstance(message, Survey):
            self.points.take(message)
        elif isinstance(message, Preview):
            self.preview = message
        elif isinstance(message, Assessment):
            self.assessment = message
        elif isinstance(message, Snapshot) and (self.snapshot is None or message.sequence > self.snapshot.sequence):
            self.snapshot = message
            self.picture_s = now_s
            self.curve.take(message.error_history, message.updates)
            return self.history.wants(message)
        return False

    def facts(self, now_s: float) -> dict[str, Any]:
        """The figures of the health strip; None where not known."""
        receive, engine, write = (self.statuses.get(service) for service in SERVICES)
        said = receive.figures if receive else {}
        worked = engine.figures if engine else {}
        notes = engine.notes if engine else {}
        ledger, snapshot = self.ledger, self.snapshot
        expected = int(said["expected"]) if said.get("expected", -1) >= 0 else None
        rate_hz, ended = said.get("rate_hz", 0.0), receive is not None and receive.state is ServiceState.DONE
        left = max(expected - ledger.received, 0) if expected is not None else None
        return {
            "scan": self.scan_id,
            "started_ns": str(self.started_ns),
            "state": str(self.state) if self.state else None,
            **ledger.as_dict(),
            "expected": expected,
            "missing": max(expected - int(said.get("unique", 0)), 0) if ended and expected is not None else None,
            "unmatched": receive.waiting if receive else None,
            "positions": int(said["positions"]) if "positions" in said else None,
            "rate_hz": rate_hz,
            "eta_s": left / rate_hz if left and rate_hz > 0 and not ended else None,
            "lag_s": worked.get("lag_s"),
            "picture_age_s": now_s - self.picture_s if self.picture_s is not None else None,
            "picture_frames": snapshot.frames_used if snapshot else None,
            "final": snapshot.final if snapshot else False,
            "error": worked.get("error", snapshot.error if snapshot else None),
            "passes": worked.get("passes"),
            "updates": worked.get("updates"),
            "updates_hz": worked.get("updates_hz"),
            "position_shift_px": worked.get("position_shift_px"),
            "unexplained": worked.get("unexplained"),
            "device": notes.get("device"),
            "probe": notes.get("probe"),
            "trust": notes.get("trust"),
            "algorithm": snapshot.algorithm if snapshot else None,
            "rejected": int(sum(n for name, n in said.items() if name.startswith("rejected_"))),
            "written": write.used if write else None,
            "file": write.notes.get("file") if write else None,
            "end": write.notes.get("end") if write else None,
            "write_problem": not_written(write),
            "problem": self._problem(),
            "verdict": self.assessment.verdict if self.assessment else None,
            "findings": self.assessment.findings if self.assessment else {},
            "figures": self.assessment.figures if self.assessment else {},
        }

    def _problem(self) -> str | None:
        said = [f"{name}: {status.notes['error']}" for name, status in self.statuses.items() if "error" in status.notes]
        return "; ".join(said) or None

    def summary(self) -> dict[str, Any]:
        """One line of the list of scans."""
        return {"key": self.key, "scan": self.scan_id, "state": str(self.state) if self.state else None}


class State:
    """All scans of this run. One thread feeds it, others read under :attr:`lock`."""

    def __init__(self, encode: Encode, clock: Callable[[], float]) -> None:
        self.lock = threading.Lock()
        self.scans: dict[str, Scan] = {}
        """By key, in the order in which they began."""
        self.version = 0
        self.undecodable = 0
        self.heard: dict[str, float] = {}
        """Service to when it was last heard of."""
        self._encode = encode
        self._clock = clock

    def take(self, message: Message) -> Scan | None:
        """Take in one message; what is not for the eye is left out. The scan, if its snapshot is due for :meth:`keep`."""
        if not isinstance(message, Status | Snapshot | Survey | Preview | Assessment):
            return None
        now_s = self._clock()
        with self.lock:
            self.version += 1
            self.heard[message.service if isinstance(message, Status) else "reconstruct"] = now_s
            scan = self._scan_of(message, now_s)
            return scan if scan is not None and scan.take(message, now_s) else None

    def keep(self, scan: Scan) -> None:
        """Keep the newest snapshot of a scan for looking back; takes as long as encoding it."""
        snapshot = scan.snapshot
        if snapshot is None:
            return
        scan.history.not_before_ns = snapshot.time_ns + RETRY_NS  # unless all goes well
        begun_s = self._clock()
        images = self._encode(snapshot, scan.key)
        spent_s = self._clock() - begun_s
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
            scan.history.not_before_ns = snapshot.time_ns + int(KEEP_TIMES * 1e9 * spent_s)
            scan.history.add(moment)
            self._make_room()

    def _scan_of(self, message: Any, now_s: float) -> Scan | None:
        """The scan a message belongs to; of a message that does not know its run, the newest of the id."""
        if message.scan_id is None:
            return None
        if message.started_ns == 0:
            known = [scan for scan in self.scans.values() if scan.scan_id == message.scan_id]
            if known:
                return known[-1]
        key = f"{message.scan_id}@{message.started_ns}"
        if key not in self.scans:
            self.scans[key] = Scan(message.scan_id, message.started_ns, now_s)
            if message.started_ns:
                self._sort()
            while len(self.scans) > MAX_SCANS:
                del self.scans[next(iter(self.scans))]
            for old in list(self.scans.values())[:-WHOLE_SNAPSHOTS]:
                old.snapshot = old.snapshot if not old.finished else None
        return self.scans.get(key)

    def _sort(self) -> None:
        """By beginning; a scan that does not tell stays where it came."""
        scans, last = [], 0
        for place, scan in enumerate(self.scans.values()):
            last = scan.started_ns or last
            scans.append((last, place, scan))
        self.scans = {scan.key: scan for _, _, scan in sorted(scans, key=lambda item: item[:2])}

    def _make_room(self) -> None:
        """Keep the memory bounded: first the oldest scans keep their last moment only, then all keep every other."""
        for scan in self.scans.values():
            if self._history_bytes() <= HISTORY_BYTES:
                return
            if scan is not self.newest:
                scan.history.only_last()
        newest = self.newest
        while newest is not None and self._history_bytes() > HISTORY_BYTES and len(newest.history.moments) > 2:
            newest.history.thin()

    def _history_bytes(self) -> int:
        return sum(scan.history.nbytes for scan in self.scans.values())

    @property
    def newest(self) -> Scan | None:
        """The scan that began last."""
        return next(reversed(self.scans.values()), None)

    def scan(self, key: str | None) -> Scan | None:
        """A scan by its key; None is the newest."""
        return self.newest if key is None else self.scans.get(key)

    def report(self, key: str | None) -> dict[str, Any]:
        """The figures of one scan, and which others there are."""
        with self.lock:
            now_s, scan, newest = self._clock(), self.scan(key), self.newest
            facts: dict[str, Any] = plain(
                {
                    "key": scan.key if scan else None,
                    "facts": scan.facts(now_s) if scan else None,
                    "scans": [known.summary() for known in self.scans.values()],
                    "newest": newest.key if newest else None,
                    "silence_s": {name: now_s - heard_s for name, heard_s in self.heard.items()},
                    "undecodable": self.undecodable,
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
