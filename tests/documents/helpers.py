"""A scan as a display receives it, and what must hold of every document."""

import itertools
import json
from collections.abc import Iterable
from typing import Any

import numpy as np
from event_model import DocumentNames, schema_validators

from streamptycho.documents import Composer, Document, dumps, loads
from streamptycho.documents.keys import STREAMS
from streamptycho.messages.kinds import Message
from streamptycho.messages.live import PointState, Preview, Survey
from streamptycho.messages.reasons import EndReason, ServiceState, Stream
from streamptycho.messages.results import Assessment, Snapshot
from streamptycho.messages.status import AnyStatus
from streamptycho.messages.stream import ScanEnd
from tests.files.factories import STARTED_NS, snapshot, start
from tests.statuses import status

_PYTHON = {"number": (float,), "integer": (int,), "string": (str,), "array": (np.ndarray,)}


def plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value


def check(documents: Iterable[Document]) -> list[Document]:
    """Every document by the schema, finite, as JSON, through the wire, and true to its descriptor; grammar of the runs."""
    descriptors: dict[str, dict[str, Any]] = {}
    state: dict[str, str] = {}
    numbers: dict[tuple[str, str], int] = {}
    checked = list(documents)
    for name, doc in checked:
        schema_validators[DocumentNames[name]].validate(doc)
        json.dumps(doc, default=plain, allow_nan=False)
        again = loads(dumps(doc))
        assert json.dumps(again, default=plain) == json.dumps(doc, default=plain)
        if name == "start":
            assert doc["uid"] not in state
            state[doc["uid"]] = "open"
        elif name == "descriptor":
            assert state[doc["run_start"]] == "open"
            descriptors[doc["uid"]] = doc
        elif name == "stop":
            assert state[doc["run_start"]] == "open"
            state[doc["run_start"]] = "stopped"
            sent = {stream: last for (run, stream), last in numbers.items() if run == doc["run_start"]}
            assert doc.get("num_events", {}) == sent
        else:
            descriptor = descriptors[doc["descriptor"]]
            assert state[descriptor["run_start"]] == "open"
            key = (descriptor["run_start"], descriptor["name"])
            assert doc["seq_num"] == numbers.get(key, 0) + 1
            numbers[key] = doc["seq_num"]
            _check_event(descriptor, doc)
    return checked


def _check_event(descriptor: dict[str, Any], doc: dict[str, Any]) -> None:
    assert list(doc["data"]) == list(descriptor["data_keys"]) == list(STREAMS[descriptor["name"]])
    assert set(doc["timestamps"]) == set(doc["data"])
    for name, value in doc["data"].items():
        key = descriptor["data_keys"][name]
        assert type(value) in _PYTHON[key["dtype"]], name
        assert list(np.shape(value)) == key["shape"], name
        if key["dtype"] == "array":
            assert np.isfinite(value).all(), name
            assert value.dtype.str == key["dtype_numpy"], name


class Told:
    """A composer with a clock of its own, fed in order; keeps every document."""

    def __init__(self) -> None:
        self.now = 100.0
        self.cost_s = 0.0
        self._computed = itertools.count()
        self.composer = Composer(lambda: self.now, lambda: next(self._computed) * self.cost_s, validate=True)
        self.documents: list[Document] = []

    def say(self, *messages: Message, after_s: float = 0.0) -> list[Document]:
        """Take messages, then what is due `after_s` later."""
        self.now += after_s
        for message in messages:
            self.composer.take(message)
        new = list(self.composer.due())
        self.documents += new
        return new

    def finish(self) -> list[Document]:
        new = list(self.composer.finish())
        self.documents += new
        return new

    def events(self, stream: str) -> list[dict[str, Any]]:
        uids = {doc["uid"] for name, doc in self.documents if name == "descriptor" and doc["name"] == stream}
        return [doc["data"] for name, doc in self.documents if name == "event" and doc["descriptor"] in uids]

    def names(self) -> list[str]:
        return [name for name, _ in self.documents]

    def of(self, name: str) -> list[dict[str, Any]]:
        return [doc for n, doc in self.documents if n == name]


def word(service: str = "reconstruct", state: ServiceState = ServiceState.RECONSTRUCTING, **changes: Any) -> AnyStatus:
    values: dict[str, Any] = {"scan_id": "scan", "time_ns": STARTED_NS, "started_ns": STARTED_NS}
    return status(service, state, **(values | changes))


def assessment(**changes: Any) -> Assessment:
    values: dict[str, Any] = {
        "scan_id": "scan",
        "started_ns": STARTED_NS,
        "time_ns": STARTED_NS + 5,
        "verdict": "converging",
        "figures": {"resolution_m": 2e-8, "covered_fraction": 0.5, "photons_per_frame": 1e6},
    }
    return Assessment(**(values | changes))


def survey(first: int, count: int = 1, *, columns: int = 10, **changes: Any) -> Survey:
    """Points `first` to `first` + `count` of a raster of 100 nm by 200 nm; the sum is the index."""
    index = np.arange(first, first + count)
    values: dict[str, Any] = {
        "scan_id": "scan",
        "started_ns": STARTED_NS,
        "time_ns": STARTED_NS + 7 + first,
        "known": first + count,
        "index": index,
        "yx_m": np.stack([3e-6 + index // columns * 1e-7, -5e-6 + index % columns * 2e-7], axis=1),
        "counts": index.astype(np.float32),
        "dark_field": index.astype(np.float32) / 10,
        "centre_px": np.stack([index, -index], axis=1).astype(np.float32),
        "state": np.full(count, PointState.USED, np.uint8),
    }
    return Survey(**(values | changes))


def preview(index: int = 3, shape: tuple[int, int] = (16, 24), **changes: Any) -> Preview:
    """Counts that rise to the bottom right; the first row is masked, the last pixel saturated."""
    pattern = np.arange(shape[0] * shape[1], dtype=np.float32).reshape(shape)
    valid = np.ones(shape, np.bool_)
    valid[0] = False
    values: dict[str, Any] = {
        "scan_id": "scan",
        "started_ns": STARTED_NS,
        "time_ns": STARTED_NS + index,
        "index": index,
        "pattern": pattern,
        "valid": valid,
        "saturated": pattern == pattern.max(),
        "binning": 2,
        "centre_px": (15.5, 23.0),
        "crop_px": (-2, 4),
        "crop_shape_px": (32, 32),
    }
    return Preview(**(values | changes))


def end(reason: EndReason = EndReason.COMPLETE, **changes: Any) -> ScanEnd:
    values: dict[str, Any] = {"scan_id": "scan", "stream": Stream.SCAN, "count": 3, "started_ns": STARTED_NS}
    return ScanEnd(reason=reason, **(values | changes))


def whole_scan(told: Told, reason: EndReason = EndReason.COMPLETE, **changes: Any) -> None:
    """A scan of five pictures, the object growing."""
    told.say(start(metadata={"sample": "star", "beam.line": "x"}, expected=30, **changes))
    for i in range(4):
        told.say(word("receive", ServiceState.RECEIVING, used=10 * i, rate_hz=20.0, **changes), after_s=0.4)
        told.say(word(used=8 * i, error=0.5 / (i + 1), updates=20 * i, lag_s=0.1, **changes))
        told.say(snapshot(i, (40 + 3 * i, 50 + 2 * i), **changes), assessment(**changes), after_s=0.4)
        told.say(survey(25 * i, 25, **changes), preview(25 * i, **changes))
    told.say(end(reason, **changes), word("receive", ServiceState.DONE, used=30, **changes))
    told.say(word(state=ServiceState.DONE, used=30, error=0.01, updates=900, **changes), after_s=1)
    told.say(last_picture(**changes), after_s=0.01)


def last_picture(**changes: Any) -> Snapshot:
    return snapshot(9, (60, 70), **({"final": True, "frames_used": 30} | changes))
