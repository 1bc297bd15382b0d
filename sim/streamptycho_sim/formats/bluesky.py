"""A scan as bluesky documents: points as events, or a fly scan whose values an HDF5 file has."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from streamptycho.messages.reasons import Stream
from streamptycho.messages.stream import Positions, ScanEnd, ScanStart
from streamptycho.wire.codec import Part
from streamptycho_sim.stream import Item

Document: TypeAlias = tuple[str, dict[str, Any]]


def as_json(doc: dict[str, Any]) -> bytes:
    """A document as JSON; arrays become lists."""
    return json.dumps(doc, default=lambda value: value.tolist()).encode()


def message(document: Document, prefix: bytes = b"", serialise: Callable[[dict[str, Any]], bytes] = as_json) -> bytes:
    """The one part that ``bluesky.callbacks.zmq.Publisher`` sends."""
    name, doc = document
    return b" ".join((prefix, name.encode(), serialise(doc)))


@dataclass(frozen=True, kw_only=True)
class Scan:
    """The positions of a scan, and what its documents say besides."""

    columns: Mapping[str, NDArray[np.float64]]
    """Motor or data key to its (n,) values, y before x."""
    unit: str = "um"
    uid: str = "11111111-2222-3333-4444-555555555555"
    scan_id: int = 42
    time_s: float = 1.7e9
    extra: Mapping[str, Any] = field(default_factory=dict)
    """More for the start document."""

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def start(self) -> Document:
        """The start document."""
        dimensions = [[[name], "primary"] for name in self.columns]
        head = {"uid": self.uid, "scan_id": self.scan_id, "time": self.time_s, "plan_name": "grid_scan"}
        return "start", {**head, "num_points": len(self), "hints": {"dimensions": dimensions}, **self.extra}

    def baseline(self, values: Mapping[str, tuple[float, str]]) -> Iterator[Document]:
        """Quantities that are read once, each as value and unit."""
        uid = f"{self.uid}-baseline"
        keys = {name: {"dtype": "number", "shape": [], "source": "sim", "units": unit} for name, (_, unit) in values.items()}
        yield "descriptor", {"uid": uid, "run_start": self.uid, "name": "baseline", "time": self.time_s, "data_keys": keys}
        data = {name: value for name, (value, _) in values.items()}
        stamps = dict.fromkeys(data, self.time_s)
        yield "event", {**_event(uid, self.time_s), "seq_num": 1, "data": data, "timestamps": stamps}

    def steps(self, per_page: int = 0) -> Iterator[Document]:
        """A step scan: an event for each point, or pages of so many."""
        yield self.start()
        yield from self._points(per_page)
        yield self.stop()

    def descriptor(self) -> Document:
        """What events of the points hold."""
        keys = {name: {"dtype": "number", "shape": [], "source": "sim", "units": self.unit} for name in self.columns}
        head = {"uid": f"{self.uid}-primary", "run_start": self.uid, "name": "primary", "time": self.time_s}
        return "descriptor", {**head, "data_keys": keys}

    def event(self, row: int, data: Mapping[str, float]) -> Document:
        """The values of a point."""
        head = _event(f"{self.uid}-primary", self.time_s)
        return "event", {**head, "seq_num": row + 1, "data": data, "timestamps": data}

    def _points(self, per_page: int) -> Iterator[Document]:
        uid, n = f"{self.uid}-primary", len(self)
        yield self.descriptor()
        for first in range(0, n, per_page or 1):
            rows = range(first, min(first + (per_page or 1), n))
            if per_page:
                data: dict[str, Any] = {name: values[rows.start : rows.stop] for name, values in self.columns.items()}
                page = {**_event(uid, self.time_s), "seq_num": [row + 1 for row in rows], "data": data}
                yield "event_page", {**page, "time": [self.time_s] * len(rows), "timestamps": data}
            else:
                yield self.event(first, {name: float(values[first]) for name, values in self.columns.items()})

    def flight(self, path: Path, datasets: Mapping[str, str], per_datum: int = 10) -> Iterator[Document]:
        """A fly scan: `datasets`, data key to path, of the file at `path`, which somebody else writes.

        Documents name rows `per_datum` at a time. Consume each when its rows are in the file.
        """
        yield self.start()
        uid, n = f"{self.uid}-primary", len(self)
        keys = {
            name: {"dtype": "number", "shape": [1], "source": "sim", "units": self.unit, "external": "STREAM:"}
            for name in datasets
        }
        yield "descriptor", {"uid": uid, "run_start": self.uid, "name": "primary", "time": self.time_s, "data_keys": keys}
        for name, dataset in datasets.items():
            where = {"uri": f"file://localhost{path}", "mimetype": "application/x-hdf5"}
            parameters = {"dataset": dataset, "chunk_shape": [1024]}
            resource = {"uid": f"{self.uid}-{name}", "run_start": self.uid, "data_key": name, "parameters": parameters}
            yield "stream_resource", {**where, **resource}
        for first in range(0, n, per_datum):
            stop = min(first + per_datum, n)
            for name in datasets:
                yield (
                    "stream_datum",
                    {
                        "uid": f"{self.uid}-{name}/{first}",
                        "stream_resource": f"{self.uid}-{name}",
                        "descriptor": uid,
                        "indices": {"start": first, "stop": stop},
                        "seq_nums": {"start": first + 1, "stop": stop + 1},
                    },
                )
        yield self.stop()

    def stop(self, exit_status: str = "success", reason: str = "") -> Document:
        """The stop document."""
        doc = {"uid": f"{self.uid}-stop", "run_start": self.uid, "time": self.time_s + 1, "exit_status": exit_status}
        return "stop", {**doc, "reason": reason, "num_events": {"primary": len(self)}}


class BlueskyPositions:
    """Encodes the positions of scans as a step scan of the motors sy and sx, in micrometres, as ``bluesky`` publishes it."""

    def __init__(self) -> None:
        self._run = Scan(columns={})
        self._rows = 0

    def messages(self, item: Item) -> Iterator[list[Part]]:
        """The one part of each message that an item becomes: an event for each position, in the order of the frames."""
        match item.message:
            case ScanStart() as start:
                none = {"sy": np.empty(0), "sx": np.empty(0)}
                said = {"num_points": start.expected} if start.expected is not None else {}
                name = f"{start.scan_id}-{start.started_ns}"
                self._run, self._rows = Scan(columns=none, uid=name, time_s=start.started_ns / 1e9, extra=said), 0
                yield [message(self._run.start())]
                yield [message(self._run.descriptor())]
            case Positions(index=index, yx_m=yx_m):
                for number, (y_m, x_m) in zip(index.tolist(), yx_m.tolist(), strict=True):
                    self._rows += 1
                    yield [message(self._run.event(number, {"sy": y_m * 1e6, "sx": x_m * 1e6}))]
            case ScanEnd(stream=Stream.POSITIONS):
                name, doc = self._run.stop()
                yield [message((name, doc | {"num_events": {"primary": self._rows}}))]


def _event(descriptor: str, time_s: float) -> dict[str, Any]:
    return {"uid": f"{descriptor}-event", "descriptor": descriptor, "time": time_s, "filled": {}}
