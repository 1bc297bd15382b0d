"""The newest state of one run, made from bluesky documents as they come: nothing here knows of screens or sockets."""

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from event_model import DocumentRouter, Event
from numpy.typing import NDArray

from streamptycho.errors import GrammarError
from streamptycho_services.view.shapes import arranged

SERIES_LENGTH = 4096
"""Points kept of a curve. When it is full every other point of it goes, so that the whole run stays in it."""
MAX_RUNS = 8
"""Runs of which the newest values are kept: scans are still polished while the next one is measured."""
_KEPT_UIDS = 4096


class Series:
    """A curve of bounded length: what has come of one scalar field, with the times (s since the epoch)."""

    def __init__(self, length: int = SERIES_LENGTH) -> None:
        self._length = length
        self._points: list[tuple[float, float]] = []

    def append(self, time_s: float, value: float) -> None:
        """Add a point; the newest is always kept."""
        if len(self._points) >= self._length:
            del self._points[1::2]
        self._points.append((time_s, value))

    def arrays(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(n,) times and (n,) values, copies."""
        points = np.array(self._points, np.float64).reshape(-1, 2)
        return points[:, 0], points[:, 1]


@dataclass(frozen=True, slots=True)
class State:
    """What is known of one run; keys are the data keys of the documents."""

    start: Mapping[str, Any]
    stop: Mapping[str, Any] | None
    arrays: Mapping[str, NDArray[Any]]
    """Newest array of each field; shared with the documents, to be read only."""
    series: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]]
    """(n,) times (s since the epoch) and (n,) values of each scalar field."""
    words: Mapping[str, str]
    streams: frozenset[str]
    """Streams of which something came since the last flush."""
    begun: bool
    """What was shown before belongs to another run."""
    newest: bool = True
    """False for an earlier run that has ended meanwhile."""

    def last(self, key: str) -> float:
        """Newest value of a scalar field; NaN before the first."""
        return float(self.series[key][1][-1]) if key in self.series else float("nan")


@dataclass(slots=True)
class _Run:
    start: Mapping[str, Any]
    stop: Mapping[str, Any] | None = None
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)
    series: dict[str, Series] = field(default_factory=dict)
    words: dict[str, str] = field(default_factory=dict)
    streams: set[str] = field(default_factory=set)
    """Streams of which anything has come."""
    touched: set[str] = field(default_factory=set)
    begun: bool = True
    dirty: bool = True

    def all_anew(self) -> None:
        """Everything of it must be shown again."""
        self.touched, self.begun, self.dirty = set(self.streams), True, True

    def state(self, *, newest: bool) -> State:
        """A copy to draw; from here on changes are counted anew."""
        series = {name: values.arrays() for name, values in self.series.items()}
        touched, begun = frozenset(self.touched), self.begun
        self.touched, self.begun, self.dirty = set(), False, False
        arrays, words = dict(self.arrays), dict(self.words)
        return State(self.start, self.stop, arrays, series, words, streams=touched, begun=begun, newest=newest)


class ReconModel(DocumentRouter):
    """Takes documents in, in any thread; gives the newest state out, in the thread that draws.

    Of several runs the one that began last is shown. Events may be lost; nothing may come twice, nor before what it belongs
    to: :class:`~streamptycho.documents.Follower` sees to that. Documents must be valid in the event model; one that does
    not fit what streamptycho sends raises :class:`GrammarError` and changes nothing.

    Parameters
    ----------
    ended_too : also give the last state of each earlier run when it ends.
    """

    def __init__(self, *, ended_too: bool = False) -> None:
        super().__init__()
        self._ended_too = ended_too
        self._lock = threading.Lock()
        self._runs: dict[str, _Run] = {}
        self._newest: _Run | None = None
        self._ended: deque[_Run] = deque(maxlen=MAX_RUNS)
        self._streams: dict[str, tuple[str, str]] = {}
        """Run and stream of each descriptor."""

    def start(self, doc: Mapping[str, Any]) -> None:
        """A run begins."""
        if not isinstance(doc.get("frames_expected", 0), int):
            raise GrammarError("start.frames_expected", f"{doc['frames_expected']!r} is not a whole number")
        with self._lock:
            run, shown = _Run(start=doc), self._newest
            _remember(self._runs, doc["uid"], run, MAX_RUNS)
            if shown is None or doc["time"] >= shown.start["time"]:
                self._newest = run
                if shown is not None and shown.stop is not None and shown.dirty:
                    self._let_go(shown)

    def descriptor(self, doc: Mapping[str, Any]) -> None:
        """A stream of a run is announced."""
        with self._lock:
            _remember(self._streams, doc["uid"], (doc["run_start"], doc["name"]), _KEPT_UIDS)

    def event(self, doc: Event) -> Event:
        """New values of one stream."""
        with self._lock:
            uid, stream = self._streams.get(doc["descriptor"], ("", ""))
            run = self._runs.get(uid)
            if run is not None:  # else of one that is shown no longer
                for name, value in arranged(stream, doc["data"]).items():
                    _take(run, name, value, doc["time"])
                run.streams.add(stream)
                run.touched.add(stream)
                run.dirty = True
        return doc

    def stop(self, doc: Mapping[str, Any]) -> None:
        """A run has ended."""
        with self._lock:
            run = self._runs.get(doc["run_start"])
            if run is None or run.stop is not None:
                return
            run.stop, run.dirty = doc, True
            if run is not self._newest:
                self._let_go(run)

    def flush(self) -> State | None:
        """What has changed since the last call, else None. Call again until it is None."""
        with self._lock:
            if self._ended:
                if self._newest is not None:
                    self._newest.all_anew()
                return self._ended.popleft().state(newest=False)
            if self._newest is None or not self._newest.dirty:
                return None
            return self._newest.state(newest=True)

    def _let_go(self, run: _Run) -> None:
        """Nothing more comes of an earlier run."""
        self._runs.pop(run.start["uid"], None)
        if self._ended_too:
            run.all_anew()
            self._ended.append(run)


def _take(run: _Run, name: str, value: Any, time_s: float) -> None:
    if isinstance(value, str):
        run.words[name] = value
    elif np.ndim(value) == 0:
        run.series.setdefault(name, Series()).append(time_s, float(value))
    else:
        run.arrays[name] = value


def _remember(table: dict[str, Any], uid: str, value: Any, most: int) -> None:
    table.pop(uid, None)
    table[uid] = value
    while len(table) > most:
        del table[next(iter(table))]
