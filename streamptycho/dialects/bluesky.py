"""bluesky documents over ZeroMQ, as ``bluesky.callbacks.zmq`` sends them: positions of step scans, and files of fly scans.

The number of a point is ``seq_num`` - 1; of a point that was taken again the last counts. Fly scans send no values, only the
places in files where they will be: facts :class:`~streamptycho.messages.facts.Stored`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from streamptycho.dialects.bluesky_axes import columns_of, readback_of
from streamptycho.dialects.bluesky_fields import (
    Document,
    is_scalar,
    metadata,
    names,
    number,
    per_event,
    said,
    span,
    table,
    values,
)
from streamptycho.dialects.bluesky_fields import text as text_of
from streamptycho.dialects.bluesky_options import PathMap, Quantity, check_columns
from streamptycho.dialects.bluesky_payload import loads, split
from streamptycho.dialects.bluesky_stored import Joint
from streamptycho.errors import BEGAN_BEFORE, CodecError, ConfigError, ProtocolError
from streamptycho.messages.facts import Began, Ended, ForeignFact, Learned, Place, Samples, StartParts, Stored
from streamptycho.messages.reasons import EndReason
from streamptycho.wire.codec import Part

_RUNS, _STREAMS, _RESOURCES, _COLUMNS = 16, 64, 1024, 64
"""Most that are kept of open runs, of streams and files of one run, and of columns where none are named."""
_BEFORE = "documents of a run that began before: its positions cannot be used; the next scan is taken"
_IGNORED = frozenset({"resource", "datum", "datum_page", "bulk_events", "bulk_datum"})
_REASONS = {"success": EndReason.COMPLETE, "abort": EndReason.ABORTED, "fail": EndReason.ABORTED}


@dataclass(slots=True)
class _Stream:
    """What a descriptor says."""

    run: "_Run"
    keys: Document
    main: bool
    """Whether its events are the points of the scan."""
    inline: list[str] = field(default_factory=list)
    """Columns whose values are in the events."""
    joint: Joint | None = None
    stored: dict[str, int] = field(default_factory=dict)
    """Columns whose values are in files, and their rows for each event."""


@dataclass(slots=True)
class _Run:
    uid: str
    columns: tuple[str, str] | None
    motors: list[str]
    learned: set[str] = field(default_factory=set)
    """Quantities that are known."""
    streams: dict[str, _Stream] = field(default_factory=dict)
    resources: dict[str, tuple[str, Document]] = field(default_factory=dict)
    """Data key and document of each file."""


class Bluesky:
    """The documents of one proxy.

    Parameters
    ----------
    columns : ``"y,x"``, names of the data keys that hold the positions; default: what the run says of its motors.
    stream : name of the stream whose events are the points.
    frames : data key of the detector whose frames are read from the file that the documents name; empty: none are.
    energy, distance : where the photon energy and the distance from sample to detector stand, as ``"name"`` or
        ``"name unit"``: a data key of any stream, a configuration value, or a dotted path in the start document.
    prefix : that of the publisher; others are passed over. Empty: any.
    path_map : ``"/their/folder=/our/folder"``, for files.
    allow_pickle : read plain data and arrays from pickles too.
    """

    def __init__(
        self,
        *,
        columns: str = "",
        stream: str = "primary",
        frames: str = "",
        energy: str = "",
        distance: str = "",
        prefix: str = "",
        path_map: str = "",
        allow_pickle: bool = False,
    ) -> None:
        options = {k: v for k, v in locals().items() if k not in ("self", "allow_pickle")}
        for name, value in options.items():
            if not isinstance(value, str):
                raise ConfigError(f"options.{name}: {value!r} is not text; write it in quotes")
        if not isinstance(allow_pickle, bool):
            raise ConfigError(f"options.allow_pickle: {allow_pickle!r} is not true or false")
        self._columns, self._stream, self._frames = check_columns(columns), stream, frames
        quantities = (Quantity.parse("energy", energy), Quantity.parse("distance", distance))
        self._quantities = [quantity for quantity in quantities if quantity is not None]
        self._prefix, self._paths, self._allow_pickle = prefix.encode(), PathMap.parse(path_map), allow_pickle
        self._runs: dict[str, _Run] = {}
        self._takers: dict[str, Callable[[Document], Iterator[ForeignFact | ProtocolError]]] = {
            "start": self._start,
            "descriptor": self._descriptor,
            "event": self._event,
            "event_page": self._event_page,
            "stream_resource": self._stream_resource,
            "stream_datum": self._stream_datum,
            "stop": self._stop,
        }

    def feed(self, parts: Sequence[Part], now_s: float) -> Iterable[ForeignFact | ProtocolError]:
        """Facts that a document tells."""
        if len(parts) != 1:
            raise CodecError("document", f"{len(parts)} parts; bluesky sends a document as one")
        prefix, name, payload = split(parts[0])
        if (self._prefix and prefix != self._prefix) or name in _IGNORED:
            return ()
        if name not in self._takers:
            raise CodecError("document.name", f"{name[:20]!r} is not one of {', '.join(self._takers)}")
        return self._takers[name](loads(payload, allow_pickle=self._allow_pickle))

    def tick(self, now_s: float) -> Iterable[ForeignFact]:
        """Nothing follows from silence."""
        return ()

    def _open(self, uid: str, columns: tuple[str, str] | None, motors: list[str]) -> _Run:
        while len(self._runs) >= _RUNS:
            del self._runs[next(iter(self._runs))]
        self._runs[uid] = _Run(uid, columns, motors)
        return self._runs[uid]

    def _start(self, doc: Document) -> Iterator[ForeignFact]:
        uid = text_of(doc, "start.uid")
        if uid in self._runs:
            return
        columns, doubts = self._columns, tuple[str, ...]()
        hints = table(doc, "start.hints").get("dimensions")
        if columns is None:
            columns, doubts = columns_of(hints, self._stream)
        run = self._open(uid, columns, names(doc.get("motors")))
        planned, time_s = doc.get("num_points"), doc.get("time")
        parts = StartParts(
            columns=columns,
            expected=planned if type(planned) is int and 0 < planned < 1 << 31 else None,
            started_ns=int(time_s * 1e9) if isinstance(time_s, int | float) and 0 < time_s < 1 << 32 else None,
            metadata=metadata(doc),
            doubts=doubts,
        )
        for quantity in self._quantities:
            found = quantity.in_start(doc)
            if found is not None:
                run.learned.add(quantity.what)
                parts = found.over(parts)
        yield Began(run=uid, parts=parts)

    def _descriptor(self, doc: Document) -> Iterator[ForeignFact]:
        uid, of_run = text_of(doc, "descriptor.uid"), text_of(doc, "descriptor.run_start")
        if of_run not in self._runs:
            self._open(of_run, self._columns, [])
            yield Began(run=of_run, parts=StartParts(columns=self._columns), in_middle=True)
        run = self._runs[of_run]
        if uid in run.streams:
            return
        if len(run.streams) >= _STREAMS:
            raise CodecError("descriptor", f"the run has more than {_STREAMS} of them")
        keys = table(doc, "descriptor.data_keys")
        stream = run.streams[uid] = _Stream(run, keys, main=doc.get("name") == self._stream)
        parts = StartParts()
        for device in table(doc, "descriptor.configuration").values():
            if type(device) is dict:
                known, described = table(device, "configuration.data"), table(device, "configuration.data_keys")
                parts = self._quantities_in(run, known, described).over(parts)
        if stream.main:
            parts = self._points_of(stream, doc).over(parts)
        yield Learned(run=of_run, parts=parts)

    def _points_of(self, stream: _Stream, doc: Document) -> StartParts:
        """Find the columns among the keys, and what the keys say of them."""
        keys, run, doubts = stream.keys, stream.run, tuple[str, ...]()
        if run.columns is None:
            fields = [readback_of(motor, doc) for motor in run.motors]
            run.columns, doubts = columns_of([[[name], self._stream] for name in fields if name], self._stream)
        scalars = [name for name, key in keys.items() if isinstance(name, str) and is_scalar(key)]
        wanted: Sequence[str] = scalars[:_COLUMNS] if run.columns is None else run.columns
        missing = [name for name in wanted if name not in scalars]
        if missing:
            has = ", ".join(scalars[:_COLUMNS]) or "none"
            doubts += (
                f"the stream {self._stream} has no numbers {', '.join(missing)}; set options.columns to two of {has}",
            )
        found = [name for name in wanted if name in scalars]
        stream.stored = {
            name: per_event(keys[name], 0, f"data_keys.{name}.shape") for name in found if keys[name].get("external")
        }
        stream.inline = [name for name in found if name not in stream.stored]
        if len(set(stream.stored.values())) > 1 or (run.columns and stream.stored and stream.inline):
            rows = ", ".join(f"{name}: {stream.stored.get(name, 'in events')}" for name in found)
            doubts += (f"columns whose rows for each event differ ({rows}) cannot be joined; set options.columns",)
            stream.stored, stream.inline = {}, []
        stream.joint = Joint(run.uid, stream.stored) if stream.stored else None
        units = {name: keys[name]["units"] for name in found if isinstance(keys[name].get("units"), str)}
        if self._frames and type(keys.get(self._frames)) is not dict:
            doubts += (f"the stream {self._stream} has no {self._frames}; correct options.frames",)
        return StartParts(columns=run.columns, units=units, doubts=doubts)

    def _quantities_in(self, run: _Run, known: Document, described: Document) -> StartParts:
        """Energy and distance, where a stream or a configuration has them; the first value counts."""
        parts = StartParts()
        for quantity in self._quantities:
            if quantity.what not in run.learned and quantity.key in known:
                run.learned.add(quantity.what)
                value, key = known[quantity.key], described.get(quantity.key)
                if isinstance(value, list | tuple | np.ndarray) and len(value) == 1:
                    value = value[0].item() if isinstance(value, np.ndarray) and value.ndim == 1 else value[0]
                parts = quantity.parts(value, key.get("units") if type(key) is dict else None).over(parts)
        return parts

    def _stream_of(self, doc: Document, name: str) -> _Stream:
        uid = text_of(doc, f"{name}.descriptor")
        for run in self._runs.values():
            if uid in run.streams:
                return run.streams[uid]
        if not self._runs:
            raise CodecError(f"{name}.descriptor", _BEFORE, reason=BEGAN_BEFORE)
        raise CodecError(f"{name}.descriptor", f"{uid[:40]!r} is not known: what describes these values was missed")

    def _event(self, doc: Document) -> Iterator[ForeignFact]:
        data = {name: [value] for name, value in table(doc, "event.data").items()}
        yield from self._rows("event", [doc.get("seq_num")], data, self._stream_of(doc, "event"))

    def _event_page(self, doc: Document) -> Iterator[ForeignFact]:
        counted = doc.get("seq_num")
        if isinstance(counted, np.ndarray):
            counted = counted.tolist()
        if not isinstance(counted, list | tuple) or not counted:
            raise CodecError("event_page.seq_num", f"{said(counted)} is not a list of numbers")
        data = table(doc, "event_page.data")
        yield from self._rows("event_page", counted, data, self._stream_of(doc, "event_page"))

    def _rows(self, name: str, counted: Sequence[object], data: Document, stream: _Stream) -> Iterator[ForeignFact]:
        learned = self._quantities_in(stream.run, data, stream.keys)
        if learned.wavelength_m or learned.distance_m or learned.doubts:
            yield Learned(run=stream.run.uid, parts=learned)
        if not stream.main or not stream.inline:
            return
        numbers = np.array([number(one, f"{name}.seq_num", 1) - 1 for one in counted], np.int64)
        columns = {key: values(data.get(key), f"{name}.data.{key}", len(numbers)) for key in stream.inline}
        yield Samples(run=stream.run.uid, first=int(numbers[0]), columns=columns, number=numbers)

    def _stream_resource(self, doc: Document) -> Iterator[ForeignFact]:
        uid, of_run = text_of(doc, "stream_resource.uid"), doc.get("run_start")
        key = text_of(doc, "stream_resource.data_key")
        run = self._runs.get(of_run) if isinstance(of_run, str) else next(reversed(self._runs.values()), None)
        if run is None:
            raise CodecError("stream_resource.run_start", _BEFORE, reason=BEGAN_BEFORE)
        if len(run.resources) >= _RESOURCES:
            raise CodecError("stream_resource", f"the run has more than {_RESOURCES} of them")
        run.resources[uid] = (key, doc)
        yield from ()

    def _stream_datum(self, doc: Document) -> Iterator[ForeignFact | ProtocolError]:
        stream, uid = self._stream_of(doc, "stream_datum"), text_of(doc, "stream_datum.stream_resource")
        if uid not in stream.run.resources:
            raise CodecError("stream_datum.stream_resource", f"{uid[:40]!r} is not known: what names the file was missed")
        key, resource = stream.run.resources[uid]
        as_frames = bool(self._frames) and key == self._frames
        if not stream.main or not (as_frames or key in stream.stored):
            return
        at, count = span(doc, "stream_datum.indices", 0)
        first, events = span(doc, "stream_datum.seq_nums", 1)
        if events != count:
            raise CodecError("stream_datum", f"{events} sequence numbers for {count} indices; send one each")
        rows = per_event(table(stream.keys, f"data_keys.{key}"), 2, "shape") if as_frames else stream.stored[key]
        place = Place(path=self._path_of(resource), dataset=_dataset_of(resource), row=at * rows)
        first = (first - 1) * rows
        if as_frames:
            yield Stored(run=stream.run.uid, first=first, count=count * rows, frames=place)
        elif stream.joint is not None:
            yield from stream.joint.add(key, first, count * rows, place)

    def _path_of(self, resource: Document) -> str:
        uri, kind = resource.get("uri"), resource.get("mimetype")
        if not isinstance(uri, str) or not 0 < len(uri) <= 4096:
            raise CodecError("stream_resource.uri", f"{said(uri)} is not a text of up to 4096 characters")
        if kind not in ("application/x-hdf5", None):
            raise CodecError("stream_resource.mimetype", f"{said(kind)} cannot be followed; only application/x-hdf5 can")
        return self._paths.local(uri, "stream_resource.uri")

    def _stop(self, doc: Document) -> Iterator[ForeignFact | ProtocolError]:
        uid, status, why = text_of(doc, "stop.run_start"), doc.get("exit_status"), doc.get("reason")
        run = self._runs.pop(uid, None)
        if run is None:
            yield CodecError("stop.run_start", _BEFORE, reason=BEGAN_BEFORE)
        rows = 1
        for stream in run.streams.values() if run is not None else ():
            rows = max([rows, *stream.stored.values()])
            yield from stream.joint.rest() if stream.joint is not None else ()
        count = table(doc, "stop.num_events").get(self._stream)
        reason = _REASONS.get(status, EndReason.ABORTED) if isinstance(status, str) else EndReason.ABORTED
        words = [str(word)[:200] for word in (status, why) if isinstance(word, str) and word and word != "success"]
        yield Ended(
            run=uid,
            reason=reason,
            count=count * rows if type(count) is int and 0 <= count < 1 << 31 else None,
            detail=": ".join(words),
        )


def _dataset_of(resource: Document) -> str:
    parameters = table(resource, "stream_resource.parameters")
    dataset = parameters.get("dataset", parameters.get("path"))
    if not isinstance(dataset, str) or not 0 < len(dataset) <= 1024 or "\0" in dataset:
        raise CodecError("stream_resource.parameters.dataset", f"{said(dataset)} is no path of a dataset")
    return dataset
