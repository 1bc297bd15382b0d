"""One scan as one run of the event model."""

import json
import math
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeAlias

from event_model import compose_run

from streamptycho import __version__
from streamptycho.display.known import Facts
from streamptycho.display.points import Points
from streamptycho.documents.frames import maps_data, pattern_data
from streamptycho.documents.keys import DEVICE, HINTED, STREAMS, data_keys, shapes
from streamptycho.documents.pictures import ObjectCanvas, probe_data
from streamptycho.documents.unknown import fourier_error, length_m, number
from streamptycho.documents.wire import Document
from streamptycho.messages.kinds import Message
from streamptycho.messages.live import Preview
from streamptycho.messages.reasons import ServiceState
from streamptycho.messages.results import Assessment, Snapshot
from streamptycho.messages.run import RunId
from streamptycho.messages.stream import ScanStart

ExitStatus: TypeAlias = Literal["success", "abort", "fail"]

_LARGEST_COUNT = (1 << 63) - 1
_FIGURES = 64
_TEXT = 4000
"""Characters of a text that is passed on."""


class Run:
    """Composes the documents of one run; each method returns those that are to be sent now, in order.

    `number` is that of the run in bluesky's sense, from 1. With `validate`, each document is checked against the event
    model's schema, which takes longer than making it.
    """

    def __init__(self, start: ScanStart | None, run: RunId, number: int, *, validate: bool) -> None:
        self._validate = validate
        bundle = compose_run(metadata=_start_metadata(start, run, number), validate=validate)
        self.start: Document = ("start", dict(bundle.start_doc))
        self._bundle = bundle
        self._events: dict[str, Any] = {}
        """Stream to the composer of its events, for the newest descriptor."""
        self._shapes: dict[str, dict[str, list[int]]] = {}
        self._canvas = ObjectCanvas()
        self._progress: dict[str, Any] = {}

    def progress(self, values: Mapping[str, Any]) -> Iterator[Document]:
        """An event of the stream `progress`, if anything has changed."""
        if values != self._progress:
            self._progress = dict(values)
            yield from self._event("progress", self._progress, time.time())

    def of(self, message: Message) -> Iterator[Document]:
        """Events of a snapshot (`object` and `probe`), a preview (`diffraction`) or an assessment (`quality`)."""
        match message:
            case Snapshot():
                yield from self._event("object", self._canvas.data(message), _seconds(message.time_ns))
                yield from self._event("probe", probe_data(message), _seconds(message.time_ns))
            case Preview():
                yield from self._event("diffraction", pattern_data(message), _seconds(message.time_ns))
            case Assessment():
                yield from self._event("quality", _quality_data(message), _seconds(message.time_ns))

    def maps(self, points: Points, time_ns: int) -> Iterator[Document]:
        """An event of the stream `maps`, of at least one point; the newest came at `time_ns`."""
        yield from self._event("maps", maps_data(points), _seconds(time_ns))

    def stop(self, exit_status: ExitStatus, reason: str) -> Document:
        """The last document."""
        doc = self._bundle.compose_stop(exit_status=exit_status, reason=reason[:_TEXT], validate=self._validate)
        return "stop", dict(doc)

    def _event(self, stream: str, data: Mapping[str, Any], time_s: float) -> Iterator[Document]:
        """The event, after a descriptor if it is the first of its stream or the shape of an array has changed."""
        sizes = shapes(data)
        if self._shapes.get(stream) != sizes:
            self._shapes[stream] = sizes
            descriptor = self._bundle.compose_descriptor(
                name=stream,
                data_keys=data_keys(stream, sizes),
                hints={DEVICE: {"fields": HINTED.get(stream, [])}},
                object_keys={DEVICE: list(STREAMS[stream])},
                configuration={DEVICE: {"data": {}, "data_keys": {}, "timestamps": {}}},
                validate=self._validate,
            )
            self._events[stream] = descriptor.compose_event
            yield "descriptor", dict(descriptor.descriptor_doc)
        event = self._events[stream](
            data=dict(data),
            timestamps=dict.fromkeys(data, time_s),
            time=time_s,
            uid=str(uuid.uuid4()),
            validate=self._validate,
        )
        yield "event", dict(event)


def _seconds(time_ns: int) -> float:
    """Event times are seconds since the Unix epoch; 0 is not a time."""
    return time_ns / 1e9 if time_ns else time.time()


def _start_metadata(start: ScanStart | None, run: RunId, number: int) -> dict[str, Any]:
    known: dict[str, Any] = {
        "plan_name": "streamptycho",
        "plan_type": "generator",
        "scan_id": number,
        "scan_name": run.scan_id,
        "scan_started_ns": run.started_ns,
        "frames_expected": (start.expected or 0) if start else 0,
        "scan_metadata": _metadata(start.metadata) if start else {},
        "detectors": [DEVICE],
        "hints": {"dimensions": [[["updates"], "progress"]]},
        "streamptycho_version": __version__,
    }
    if start is not None:
        geometry = start.geometry
        lengths: dict[str, Any] = {
            "wavelength_m": float(geometry.wavelength_m),
            "distance_m": float(geometry.distance_m),
            "pitch_m": [float(p) for p in geometry.pitch_m],
        }
        known |= {name.replace("pitch", "detector_pitch"): lengths[name] for name in lengths.keys() - geometry.unknown}
        known["frame_shape"] = [int(n) for n in geometry.frame_shape]
        sample = start.metadata.get("sample", start.metadata.get("sample_name"))
        if isinstance(sample, str):
            known["sample"] = sample
    return known


def _metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata under keys that the event model allows: neither empty nor with dot or slash; numbers finite.

    Keys that become the same are numbered.
    """
    clean: dict[str, Any] = {}
    met: Counter[str] = Counter()
    for key, value in metadata.items():
        name = base = key.replace(".", "_").replace("/", "_").replace("\n", "_") or "_"
        while name in clean:
            met[base] += 1
            name = f"{base}_{met[base] + 1}"
        clean[name] = str(value) if isinstance(value, float) and not math.isfinite(value) else value
    return clean


def progress_data(facts: Facts) -> dict[str, Any]:
    """The values of a `progress` event."""
    ledger = facts.ledger
    counts = {
        "frames_received": ledger.received,
        "frames_used": ledger.used,
        "frames_dropped": sum(ledger.dropped.values()),
        "frames_missing": -1 if facts.missing is None else facts.missing,
        "positions_missing": -1 if facts.missing_positions is None else facts.missing_positions,
        "updates": facts.updates,
    }
    return {
        **{name: min(count, _LARGEST_COUNT) for name, count in counts.items()},
        "error": fourier_error(facts.error, ledger.used),
        "resolution_m": length_m(facts.resolution_m),
        "covered_fraction": number(facts.figures.get("covered_fraction"), 0.0),
        "rate_hz": facts.rate_hz,
        "updates_hz": facts.updates_hz,
        "lag_s": number(facts.lag_s, -1.0),
        "state": str(facts.state or ServiceState.RECEIVING),
    }


def _quality_data(assessment: Assessment) -> dict[str, Any]:
    frequency, correlation = assessment.frequency_per_m, assessment.ring_correlation
    known = (abs(frequency) < math.inf) & (abs(correlation) < math.inf)
    figures = {name: float(value) for name, value in list(assessment.figures.items())[:_FIGURES] if math.isfinite(value)}
    return {
        "verdict": assessment.verdict[:_TEXT],
        "findings": " ".join(assessment.findings)[:_TEXT],
        "explanation": "\n".join(assessment.findings.values())[:_TEXT],
        "quality_resolution_m": length_m(figures.get("resolution_m")),
        "photons_per_frame": number(figures.get("photons_per_frame"), 0.0),
        "quality_figures": json.dumps(figures),
        "frequency_per_m": frequency[known],
        "ring_correlation": correlation[known],
    }
