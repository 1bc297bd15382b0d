"""What viewers see: each picture is made once, in a thread, and only when a viewer wants it."""

import asyncio
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias

from streamptycho.display.logbook import logbook
from streamptycho.messages.results import Snapshot
from streamptycho_services.dashboard import images
from streamptycho_services.dashboard.compress import as_jpeg, encoded
from streamptycho_services.dashboard.state import Scan, State, plain

ITEMS = ("status", "phase", "pattern", "maps", "curve", "coverage", "probe", "amplitude", "moments", "ring", "exact")
"""All items that viewers can want, most needed first."""
LOOKED_BACK = ("phase", "amplitude", "probe")
"""What is kept of earlier snapshots."""
_LEAST_S = {"status": 0.4, "maps": 1.0, "coverage": 1.0, "curve": 0.4, "ring": 1.0, "moments": 0.4, "probe": 0.5}
"""Least time between two of the same for one viewer, where it is not :data:`_PICTURE_S`."""
_FAR_S = {"probe": 1.0, "maps": 2.0}
"""The same for viewers far away, of what is not compressed for them."""
_PICTURE_S = 0.1
_PULSE_S = 0.05
"""Least time between two wake-ups of the viewers."""
_TEXTS = ("status", "curve", "moments", "ring")
_HEARTBEAT_S = 1.0
"""A status is due so often though nothing has come: ages grow."""
_MADE = 64
"""Encodings that are kept for other viewers."""
_MADE_BYTES = 64 << 20
"""Memory of those that are kept, beyond the newest of each item of the newest scan."""

Version: TypeAlias = tuple[object, ...]
Payload: TypeAlias = bytes | str
Maker: TypeAlias = bytes | Callable[[], Payload]
"""How an item is made, or its bytes if they are there."""


def least_s(item: str, *, far: bool = False) -> float:
    """Least time between two of the same for one viewer."""
    least = _LEAST_S.get(item, _PICTURE_S)
    return _FAR_S.get(item, least) if far else least


class Hub:
    """Encodings of the state, shared by all viewers. Lives in the event loop; :meth:`news` may be called from any thread."""

    def __init__(self, state: State) -> None:
        self.state = state
        self._loop = asyncio.get_running_loop()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="images")
        self._waiting: set[asyncio.Event] = set()
        self._made: dict[tuple[str, str], tuple[Version, asyncio.Future[Payload]]] = {}
        """By scan and item, in the order in which they were wanted last."""
        self._next_pulse_s = 0.0
        self._pulse_due = False

    def close(self) -> None:
        """End the thread."""
        self._pool.shutdown(cancel_futures=True)

    def news(self) -> None:
        """Wake the viewers: there is something new."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        """Wake the viewers: at once after a pause, else when :data:`_PULSE_S` have passed."""
        if not self._pulse_due:
            self._pulse_due = True
            self._loop.call_at(max(self._next_pulse_s, self._loop.time()), self._beat)

    def _beat(self) -> None:
        self._pulse_due = False
        self._next_pulse_s = self._loop.time() + _PULSE_S
        for event in self._waiting:
            event.set()

    def wake(self, event: asyncio.Event, *, wanted: bool) -> None:
        """Set `event` with all news from now on, or no more."""
        (self._waiting.add if wanted else self._waiting.discard)(event)

    def find(self, item: str, key: str | None, moment: int | None) -> tuple[Version, Maker] | None:
        """Which version of an item there is, and how it is made; None if there is none yet.

        `key` is that of a scan, None for the newest; `moment` the sequence of an earlier snapshot.
        """
        with self.state.lock:
            if item == "status":
                version = (key, self.state.version, int(time.monotonic() / _HEARTBEAT_S))
                return version, lambda: _text("status", self.state.report(key))
            scan = self.state.scan(key)
            if scan is None:
                return None
            if moment is not None and item in (*LOOKED_BACK, "exact"):
                return _earlier(scan, item, moment)
            return _subject(scan, item)

    async def make(self, item: str, version: Version, maker: Maker) -> Payload:
        """The bytes of an item, made once for all viewers that want it."""
        if isinstance(maker, bytes):
            return maker
        slot = str(version[0]), item
        known = self._made.pop(slot, None)
        if known is None or known[0] != version:
            known = (version, self._begin(item, maker))
            known[1].add_done_callback(self._make_room)
        self._made[slot] = known
        return await asyncio.shield(known[1])

    async def make_jpeg(self, item: str, version: Version, maker: Maker) -> Payload:
        """The same of a picture as JPEG, made once as well."""
        raw = await self.make(item, version, maker)
        return await self.make(f"{item}.jpeg", version, lambda: as_jpeg(raw) if isinstance(raw, bytes) else raw)

    def _make_room(self, _: "asyncio.Future[Payload]") -> None:
        """Let go of what was wanted longest ago, until few enough are left and small enough; the newest scan's stay."""
        with self.state.lock:
            newest = self.state.newest
        others = {slot: _size(made) for slot, (_, made) in self._made.items() if newest is None or slot[0] != newest.key}
        held = sum(others.values())
        for slot, size in others.items():
            if len(self._made) <= _MADE and held <= _MADE_BYTES:
                return
            del self._made[slot]
            held -= size

    def _begin(self, item: str, maker: Callable[[], Payload]) -> "asyncio.Future[Payload]":
        """Texts are made at once, pictures in the thread."""
        if item not in _TEXTS:
            return self._loop.run_in_executor(self._pool, maker)
        done: asyncio.Future[Payload] = self._loop.create_future()
        done.set_result(maker())
        return done

    async def png(self, key: str | None) -> bytes | None:
        """The newest object phase as PNG; None while there is none."""
        found = self.find("png", key, None)
        made = await self.make("png", *found) if found is not None else None
        return made if isinstance(made, bytes) else None


def _size(made: "asyncio.Future[Payload]") -> int:
    """Bytes of an encoding; 0 while it is in the making, or where that failed."""
    return len(made.result()) if made.done() and not made.cancelled() and made.exception() is None else 0


def _earlier(scan: Scan, item: str, sequence: int) -> tuple[Version, Maker] | None:
    moment = scan.history.at(sequence)
    if moment is None or item not in moment.images:
        return None
    return (scan.key, "moment", sequence), moment.images[item]


def _subject(scan: Scan, item: str) -> tuple[Version, Maker] | None:
    """Version and maker of an item of the newest state of a scan."""
    lead = scan.lead
    snapshot, preview, assessment, points = lead.snapshot, lead.preview, lead.assessment, lead.points
    if item in (*LOOKED_BACK, "exact", "png", "curve") and snapshot is not None:
        error = (lead.error,) if item == "curve" else ()
        return (scan.key, snapshot.service, snapshot.sequence, *error), _of_snapshot(scan, snapshot, item)
    if item in LOOKED_BACK and scan.history.moments:
        return _earlier(scan, item, scan.history.moments[-1].sequence)
    if item == "curve" and scan.curve.present:
        return (scan.key, "curve"), lambda: _curve(scan)
    if item == "pattern" and preview is not None:
        return (scan.key, preview.time_ns, preview.index), lambda: images.pattern(preview, scan.key)
    if (item == "maps" and points.any_measured) or (item == "coverage" and len(points)):
        maker, frozen = (images.maps if item == "maps" else images.coverage), points.frozen()
        return (scan.key, points.version), lambda: maker(frozen, scan.key)
    if item == "moments" and scan.history.moments:
        kept = [{"sequence": m.sequence, "frames": m.frames_used, "error": m.error} for m in scan.history.moments]
        return (scan.key, scan.history.version), lambda: _text("moments", {"scan": scan.key, "moments": kept})
    if item == "ring" and assessment is not None and assessment.ring_correlation.size:
        rings = {
            "scan": scan.key,
            "frequency_per_m": assessment.frequency_per_m.tolist(),
            "correlation": assessment.ring_correlation.tolist(),
            "resolution_m": assessment.figures.get("resolution_m"),
        }
        return (scan.key, assessment.time_ns), lambda: _text("ring", rings)
    return None


def _of_snapshot(scan: Scan, snapshot: Snapshot, item: str) -> Callable[[], Payload]:
    if item == "curve":
        return lambda: _curve(scan)
    if item == "png":
        return lambda: encoded(logbook(snapshot), "PNG")
    special = {"probe": images.probe, "exact": images.exact_phase}.get(item)
    return lambda: special(snapshot, scan.key) if special else images.picture(snapshot, item, scan.key)


def _curve(scan: Scan) -> str:
    passes, errors = scan.curve.shown()
    facts = {"passes": passes, "errors": errors, "restarts": scan.curve.restarts, "newest": scan.lead.error}
    return _text("curve", {"scan": scan.key} | facts)


def _text(item: str, facts: dict[str, Any]) -> str:
    return json.dumps({"item": item} | plain(facts), allow_nan=False, separators=(",", ":"))
