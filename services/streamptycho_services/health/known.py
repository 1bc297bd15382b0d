"""What the services say of themselves, kept for monitors. No socket, no thread."""

import threading
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from streamptycho.messages.reasons import ServiceKind
from streamptycho.messages.run import RunId
from streamptycho.messages.status import Status

ALL: tuple[str, ...] = tuple(ServiceKind)
SILENCE_S = 10.0
"""Time without a status after which a service counts as missing: each says something twice a second."""
SCANS_SHOWN = 4
"""Newest scans that have figures of their own: each new label costs a monitor memory for as long as it remembers."""
SCANS_KEPT = 32
"""Newest runs of each service whose counts may still change."""
MAX_SERVICES = 16
"""Services that are followed, whatever names arrive."""


@dataclass
class Service:
    """What one service has said."""

    heard_s: float
    status: Status
    """The newest one, whatever its scan; not the last words about one, if there is another."""
    runs: dict[RunId, tuple[float, Status]] = field(default_factory=dict)
    """The newest status of each run and when it came, in the order in which they were first heard of."""
    past: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Counts of runs that are no longer kept, by field and key."""
    shown: dict[tuple[str, str], int] = field(default_factory=dict)
    """Totals as they were last shown: a total never falls, also when a scan's count is corrected."""


class Health:
    """The newest of what services say. One thread feeds it with :meth:`take`, others read."""

    def __init__(self, counted: Iterable[str], clock: Callable[[], float], expected: Iterable[str] = ALL) -> None:
        """`counted` are the fields whose sum over all scans is wanted; `expected` the services that must be there."""
        self.expected = tuple(expected)
        self._counted = tuple(counted)
        self._clock = clock
        self._lock = threading.Lock()
        self._services: dict[str, Service] = {}

    def take(self, message: Any) -> None:
        """Take in a message; all but statuses are ignored."""
        if not isinstance(message, Status):
            return
        with self._lock:
            service = self._services.get(message.service)
            if service is None:
                if len(self._services) >= MAX_SERVICES:
                    return
                service = self._services[message.service] = Service(self._clock(), message)
            service.heard_s = self._clock()
            if service.status.done or not message.done:  # last words are repeated, and know nothing of the present
                service.status = message
            if message.run is not None:
                self._take_run(service, message.run, message)

    def _take_run(self, service: Service, run: RunId, status: Status) -> None:
        before = service.runs.get(run)
        if before is not None and status.received < before[1].received:  # the service began anew
            self._add_up(before[1], service.past)
        service.runs[run] = (self._clock(), status)
        while len(service.runs) > SCANS_KEPT:
            _, oldest = service.runs.pop(next(iter(service.runs)))
            self._add_up(oldest, service.past)

    def _add_up(self, status: Status, totals: Counter[tuple[str, str]]) -> None:
        for name in self._counted:
            for key, number in values(getattr(status, name, None)):
                totals[name, key] += int(number)

    def totals(self) -> dict[str, dict[tuple[str, str], int]]:
        """For each service the sums over all its scans, by field and key."""
        with self._lock:
            for service in self._services.values():
                totals = Counter(service.past)
                for _, status in service.runs.values():
                    self._add_up(status, totals)
                for name, number in totals.items():
                    service.shown[name] = max(service.shown.get(name, 0), number)
            return {name: dict(service.shown) for name, service in self._services.items()}

    def newest(self) -> dict[str, Status]:
        """The newest status of each service."""
        with self._lock:
            return {name: service.status for name, service in self._services.items()}

    def scans(self) -> list[Status]:
        """For each service the newest status of each of its newest scans; of one scan id, that of the newest run."""
        with self._lock:
            shown = []
            for service in self._services.values():
                runs = {
                    run.scan_id: status
                    for run, (_, status) in sorted(service.runs.items(), key=lambda item: item[0].started_ns)
                }
                shown += list(runs.values())[-SCANS_SHOWN:]
            return shown

    def ages_s(self) -> dict[str, float]:
        """For each service that was ever heard of, how long ago that was."""
        with self._lock:
            return {name: self._clock() - service.heard_s for name, service in self._services.items()}

    def failures(self) -> dict[str, str]:
        """For each service that cannot go on with a scan, why; as long as it says so."""
        with self._lock:
            since_s = self._clock() - SILENCE_S
            return {
                name: status.failure
                for name, service in self._services.items()
                for heard_s, status in service.runs.values()
                if status.failure and heard_s >= since_s
            }

    def report(self) -> dict[str, Any]:
        """Whether all expected services are there and well: ``ready``, and which are not and why."""
        ages_s, failed = self.ages_s(), self.failures()
        missing = [name for name in self.expected if ages_s.get(name, SILENCE_S) >= SILENCE_S]
        return {
            "ready": not missing and not failed,
            "missing": missing,
            "failed": failed,
            "silence_s": {name: round(age_s, 1) for name, age_s in ages_s.items()},
        }


def values(value: Any) -> list[tuple[str, float]]:
    """A field of a status as key and number; a plain number has no key, what is not known is left out."""
    if value is None:
        return []
    return list(value.items()) if isinstance(value, dict) else [("", value)]
