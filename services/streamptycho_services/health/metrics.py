"""Figures of the services in the format of Prometheus: a table, from which all else follows.

To export another field of a status, add a line to :data:`FIGURES` and one to the table in ``docs/how-to/deploy.md``.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from streamptycho.messages.status import Status
from streamptycho_services.health.known import SILENCE_S, Health, values

PREFIX = "streamptycho"
CONTENT_TYPE = CONTENT_TYPE_LATEST
F = TypeVar("F", GaugeMetricFamily, CounterMetricFamily)


class Of(Enum):
    """What a figure belongs to, and hence its name and labels."""

    COUNT = "a number that grows during a scan"
    """``_total`` by service, over all scans, and ``scan_`` by service and scan."""
    SCAN = "a figure of a scan"
    """``scan_`` by service and scan."""
    SERVICE = "a figure of a service"
    """By service."""
    SERVICE_COUNT = "a number that grows while a service runs"
    """``_total`` by service."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One field of a status."""

    name: str
    field: str
    of: Of
    text: str
    by: str | None = None
    """Label for the keys of a field that is a table."""


FIGURES = (
    Figure("frames_received", "received", Of.COUNT, "Frames that a service has taken in, as it sees them."),
    Figure(
        "frames_used", "used", Of.COUNT, "Frames passed on (receive), in the picture (reconstruct), in the file (write)."
    ),
    Figure("frames_dropped", "dropped", Of.COUNT, "Frames that did not get that far.", by="reason"),
    Figure("frames_waiting", "waiting", Of.SCAN, "Frames on their way within the service."),
    Figure("frames_unique", "unique", Of.SCAN, "Frames of different index."),
    Figure("frames_expected", "expected", Of.SCAN, "Frames planned, where known."),
    Figure("frame_rate_hertz", "rate_hz", Of.SCAN, "Frames that arrive per second."),
    Figure("positions", "positions", Of.SCAN, "Positions of different index."),
    Figure("lag_seconds", "lag_s", Of.SCAN, "Age of the newest frame in the reconstruction, by the detector's clock."),
    Figure("updates", "updates", Of.COUNT, "Frame updates of the reconstruction."),
    Figure("update_rate_hertz", "updates_hz", Of.SCAN, "Frame updates per second."),
    Figure("passes", "passes", Of.SCAN, "Passes over all frames."),
    Figure("fourier_error_ratio", "error", Of.SCAN, "Fourier error of the picture; 1 explains nothing."),
    Figure("frames_announced", "announced", Of.SCAN, "Frames sent, as the end of their stream says."),
    Figure("frames_missing", "missing", Of.SCAN, "Frames planned, announced or skipped that did not come, after the end."),
    Figure("positions_missing", "missing_positions", Of.SCAN, "The same of the positions."),
    Figure("index_gaps", "gaps", Of.SCAN, "Indices below the largest that have not come."),
    Figure("free_space_bytes", "free_bytes", Of.SERVICE, "Free space where the files go."),
    Figure("unacknowledged_messages", "unacknowledged", Of.SERVICE, "Messages kept until they are safe.", by="consumer"),
    Figure("unacknowledged_bytes", "unacknowledged_bytes", Of.SERVICE, "Their size.", by="consumer"),
    Figure("silence_seconds", "silence_s", Of.SERVICE, "Time since something has come from there.", by="peer"),
    Figure("restarts", "restarts", Of.SERVICE_COUNT, "How often `run` has started the service again."),
    Figure("messages_rejected", "rejected", Of.SERVICE_COUNT, "Messages of no open scan, or unreadable.", by="reason"),
)
COUNTED = tuple(figure.field for figure in FIGURES if figure.of is Of.COUNT)


class _Collector(Collector):
    def __init__(self, health: Health) -> None:
        self._health = health

    def collect(self) -> Iterator[Metric]:
        """All families, with what is known now."""
        yield from self._services()
        totals, newest, scans = self._health.totals(), self._health.newest().values(), self._health.scans()
        for figure in FIGURES:
            by = [figure.by] if figure.by is not None else []
            if figure.of is Of.COUNT:
                yield _totals(_family(CounterMetricFamily, figure.name, figure.text, *by), figure, totals)
            if figure.of in (Of.COUNT, Of.SCAN):
                family = _family(GaugeMetricFamily, f"scan_{figure.name}", figure.text, "scan_id", *by)
                yield _fill(family, figure, ((status, [status.scan_id or ""]) for status in scans))
            if figure.of is Of.SERVICE:
                family = _family(GaugeMetricFamily, figure.name, figure.text, *by)
                yield _fill(family, figure, ((status, []) for status in newest))
            if figure.of is Of.SERVICE_COUNT:
                counters = _family(CounterMetricFamily, figure.name, figure.text, *by)
                yield _fill(counters, figure, ((status, []) for status in newest))

    def _services(self) -> Iterator[Metric]:
        ages_s, failures = self._health.ages_s(), self._health.failures()
        up = _family(GaugeMetricFamily, "up", f"1 if the service has said something within {SILENCE_S:g} s.")
        age = _family(GaugeMetricFamily, "status_age_seconds", "Time since the service said something.")
        failed = _family(GaugeMetricFamily, "failed", "1 if the service cannot go on with a scan.")
        for name in dict.fromkeys((*self._health.expected, *ages_s)):
            up.add_metric([name], float(ages_s.get(name, SILENCE_S) < SILENCE_S))
            failed.add_metric([name], float(name in failures))
            if name in ages_s:
                age.add_metric([name], ages_s[name])
        yield from (up, age, failed)


def _family(kind: type[F], name: str, text: str, *labels: str) -> F:
    return kind(f"{PREFIX}_{name}", text, labels=["service", *labels])


def _totals(
    family: CounterMetricFamily, figure: Figure, totals: Mapping[str, Mapping[tuple[str, str], int]]
) -> CounterMetricFamily:
    for service, numbers in totals.items():
        for (field, key), number in numbers.items():
            if field == figure.field:
                family.add_metric([service] if figure.by is None else [service, key], number)
    return family


def _fill(
    family: GaugeMetricFamily | CounterMetricFamily, figure: Figure, statuses: Iterable[tuple[Status, list[str]]]
) -> Metric:
    """Add this figure of each status that has it, under the labels beside it."""
    for status, labels in statuses:
        for key, number in values(getattr(status, figure.field, None)):
            if math.isfinite(number):
                family.add_metric([status.service, *labels, *([] if figure.by is None else [key])], number)
    return family


def exposition(health: Health) -> bytes:
    """All figures of the services and of this process, as a monitor fetches them."""
    registry = CollectorRegistry()
    registry.register(_Collector(health))
    ProcessCollector(registry=registry)
    return generate_latest(registry)
