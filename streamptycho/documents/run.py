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
from streamptycho.documents.frames import maps_data, pattern_data
from streamptycho.documents.keys import DEVICE, HINTED, STREAMS, data_keys, shapes
from streamptycho.documents.pictures import ObjectCanvas, probe_data
from streamptycho.documents.unknown import fourier_error, length_m, number
from streamptycho.documents.wire import Document
from streamptycho.feed import Assessment, Preview
from streamptycho.messages import ScanStart, Snapshot, Status
from streamptycho.points import Points
from streamptycho.reasons import ServiceState

ExitStatus: TypeAlias = Literal["success", "abort", "fail"]

_LARGEST_COUNT = (1 << 63) - 1
_FIGURES = 64
"""Figures of an assessment that are passed on."""
_TEXT = 4000
"""Characters of a text that is passed on."""


class Run:
    """Composes the documents of one run; each method returns those that are to be sent now, in order.

    Parameters
    ----------
    start : start message of the scan, None if it was missed.
    scan_id, started_ns : of the scan.
    number : of the run, from 1.
    validate : check each document against the event model's schema, for tests: it takes longer than making it.
    """

    def __init__(self, start: ScanStart | None, scan_id: str, started_ns: int, number: int, *, validate: bool) -> None:
        self._validate = validate
        bundle = compose_run(metadata=_start_metadata(start, scan_id, started_ns, number), validate=validate)
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

    def picture(self, snapshot: Snapshot) -> Iterator[Document]:
        """Events of the streams `object` and `probe`."""
        yield from self._event("object", self._canvas.data(snapshot), _seconds(snapshot.time_ns))
        yield from self._event("probe", probe_data(snapshot), _seconds(snapshot.time_ns))

    def diffraction(self, preview: Preview) -> Iterator[Document]:
        """An event of the stream `diffraction`."""
        yield from self._event("diffraction", pattern_data(preview), _seconds(preview.time_ns))

    def maps(self, points: Points, time_ns: int) -> Iterator[Document]:
        """An event of the stream `maps`, of at least one point, told last at `time_ns`."""
        yield from self._event("maps", maps_data(points), _seconds(time_ns))

    def quality(self, assessment: Assessment) -> Iterator[Document]:
        """An event of the stream `quality`."""
        yield from self._event("quality", _quality_data(assessment), _seconds(assessment.time_ns))

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


def _start_metadata(start: ScanStart | None, scan_id: str, started_ns: int, number: int) -> dict[str, Any]:
    known: dict[str, Any] = {
        "plan_name": "streamptycho",
        "plan_type": "generator",
        "scan_id": number,
        "scan_name": scan_id,
        "scan_started_ns": started_ns,
        "frames_expected": (start.expected or 0) if start else 0,
        "scan_metadata": _metadata(start.metadata) if start else {},
        "detectors": [DEVICE],
        "hints": {"dimensions": [[["updates"], "progress"]]},
        "streamptycho_version": __version__,
    }
    if start is None:
        return known
    geometry = start.geometry
    known |= {
        "wavelength_m": float(geometry.wavelength_m),
        "distance_m": float(geometry.distance_m),
        "detector_pitch_m": [float(p) for p in geometry.pitch_m],
        "frame_shape": [int(n) for n in geometry.frame_shape],
    }
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


def progress_data(
    receive: Status | None, reconstruct: Status | None, snapshot: Snapshot | None, assessment: Assessment | None
) -> dict[str, Any]:
    """The values of a `progress` event from the newest word of each."""
    figures = reconstruct.figures if reconstruct else {}
    used, updates, error = reconstruct.used if reconstruct else 0, figures.get("updates", 0), figures.get("error")
    if snapshot is not None and (reconstruct is None or snapshot.time_ns > reconstruct.time_ns):
        used, updates, error = snapshot.frames_used, snapshot.updates, snapshot.error
    quality = assessment.figures if assessment else {}
    dropped = sum(sum(status.dropped.values()) for status in (receive, reconstruct) if status)
    # whichever was heard last: the receiver may have spoken before the picture was made
    received = max(used, 0, *(status.received for status in (receive, reconstruct) if status))
    newest = reconstruct or receive
    receiving = receive is not None and receive.state is not ServiceState.DONE
    return {
        "frames_received": received,
        "frames_used": used,
        "frames_dropped": min(dropped, _LARGEST_COUNT),
        "updates": int(number(updates, 0)),
        "error": fourier_error(error, used),
        "resolution_m": length_m(quality.get("resolution_m")),
        "covered_fraction": number(quality.get("covered_fraction"), 0.0),
        "rate_hz": number(receive.figures.get("rate_hz"), 0.0) if receive and receiving else 0.0,
        "updates_hz": number(figures.get("updates_hz"), 0.0),
        "lag_s": number(figures.get("lag_s"), -1.0),
        "state": str(newest.state) if newest else str(ServiceState.RECEIVING),
    }


def _quality_data(assessment: Assessment) -> dict[str, Any]:
    figures = {name: float(value) for name, value in list(assessment.figures.items())[:_FIGURES] if math.isfinite(value)}
    return {
        "verdict": assessment.verdict[:_TEXT],
        "findings": " ".join(assessment.findings)[:_TEXT],
        "explanation": "\n".join(assessment.findings.values())[:_TEXT],
        "quality_resolution_m": length_m(figures.get("resolution_m")),
        "photons_per_frame": number(figures.get("photons_per_frame"), 0.0),
        "quality_figures": json.dumps(figures),
        **_curve(assessment),
    }


def _curve(assessment: Assessment) -> dict[str, Any]:
    """The ring correlation where both it and its frequency are numbers."""
    frequency, correlation = assessment.frequency_per_m, assessment.ring_correlation
    known = (abs(frequency) < math.inf) & (abs(correlation) < math.inf)
    return {"frequency_per_m": frequency[known], "ring_correlation": correlation[known]}
