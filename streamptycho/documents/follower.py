"""A late viewer's side: live documents and those of the past as one run that has its beginning, and nothing twice."""

import logging
import time
from collections.abc import Callable
from typing import Any, cast

from event_model import EventPage, unpack_event_page

from streamptycho.documents.wire import Document
from streamptycho.errors import CodecError

log = logging.getLogger(__name__)

AGAIN_S = 2.0
"""Shortest time between two questions for the past."""
_MAX_RUNS = 64
"""Runs that are remembered."""


class _Seen:
    """What of a run the callback has been given."""

    def __init__(self) -> None:
        self.sequence: dict[str, int] = {}
        """Stream to the highest number of an event."""
        self.streams: dict[str, str] = {}
        """Descriptor to stream."""
        self.stopped = False


class Follower:
    """Calls `callback(name, doc)` with each document once and in order, also if the first ones were missed.

    Give it documents by calling it, as any callback of bluesky. When one belongs to a start or descriptor that has not been
    seen, the past is asked for. Until that succeeds such documents are dropped, with a warning.

    Parameters
    ----------
    callback : takes ``(name, doc)``; events only, never pages.
    ask : gives the documents so far; may raise :class:`TimeoutError` or :class:`~streamptycho.errors.CodecError`.
    """

    def __init__(
        self,
        callback: Callable[[str, dict[str, Any]], object],
        ask: Callable[[], list[Document]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._callback = callback
        self._ask = ask
        self._clock = clock
        self._asked_s: float | None = None
        self._runs: dict[str, _Seen] = {}

    def __call__(self, name: str, doc: dict[str, Any]) -> None:
        """Take a live document."""
        if not self._is_known(name, doc) and (self._asked_s is None or self._clock() - self._asked_s >= AGAIN_S):
            self.catch_up()
        if self._is_known(name, doc):
            self._pass_on(name, doc)
        else:
            log.warning("a %s was dropped: what goes before it was missed", name)

    def catch_up(self) -> bool:
        """Ask for what has been and pass on what is new of it; False if no answer came."""
        self._asked_s = self._clock()
        try:
            documents = self._ask()
        except (TimeoutError, CodecError) as error:
            log.warning("cannot catch up: %s", error)
            return False
        for name, doc in documents:
            if self._is_known(name, doc):
                self._pass_on(name, doc)
        return True

    def _run_of(self, name: str, doc: dict[str, Any]) -> _Seen | None:
        if name in ("descriptor", "stop"):
            return self._runs.get(doc["run_start"])
        return next((run for run in reversed(self._runs.values()) if doc["descriptor"] in run.streams), None)

    def _is_known(self, name: str, doc: dict[str, Any]) -> bool:
        """Whether all that goes before the document has been passed on."""
        return name == "start" or self._run_of(name, doc) is not None

    def _pass_on(self, name: str, doc: dict[str, Any]) -> None:
        if name == "start":
            self._start(doc)
            return
        run = self._run_of(name, doc)
        if run is None or run.stopped:
            return
        if name == "event_page":
            for event in unpack_event_page(cast(EventPage, doc)):
                self._event(run, dict(event))
        elif name == "event":
            self._event(run, doc)
        elif name == "descriptor":
            if doc["uid"] not in run.streams:
                run.streams[doc["uid"]] = doc["name"]
                self._callback(name, doc)
        else:
            run.stopped = True
            self._callback(name, doc)

    def _start(self, doc: dict[str, Any]) -> None:
        if doc["uid"] in self._runs:
            return
        self._runs[doc["uid"]] = _Seen()
        while len(self._runs) > _MAX_RUNS:
            del self._runs[next(iter(self._runs))]
        self._callback("start", doc)

    def _event(self, run: _Seen, doc: dict[str, Any]) -> None:
        stream = run.streams[doc["descriptor"]]
        if doc["seq_num"] > run.sequence.get(stream, 0):
            run.sequence[stream] = doc["seq_num"]
            self._callback("event", doc)
