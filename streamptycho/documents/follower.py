"""The side of late subscribers: live and earlier documents as one complete run, nothing twice."""

import logging
import time
from collections.abc import Callable
from typing import Any, cast

from event_model import EventPage, unpack_event_page

from streamptycho.documents.wire import Document
from streamptycho.errors import CodecError

log = logging.getLogger(__name__)

AGAIN_S = 2.0
"""Shortest time between two requests for earlier documents."""
_MAX_RUNS = 64


class _Seen:
    def __init__(self) -> None:
        self.sequence: dict[str, int] = {}
        """Stream to the highest number of an event."""
        self.streams: dict[str, str] = {}
        """Descriptor to stream."""
        self.stopped = False


class Follower:
    """Calls `callback(name, doc)` with each document once and in order, also if the first ones were missed.

    Give it documents by calling it, as any callback of bluesky. When one belongs to a start or descriptor that has not been
    seen, it requests the earlier ones. Until that succeeds such documents are dropped, with a warning.

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
        self.dropped = 0
        """Documents that were not passed on because earlier ones are missing; :meth:`catch_up` may still bring them."""

    def __call__(self, name: str, doc: dict[str, Any]) -> None:
        """Take a live document."""
        if not self._is_known(name, doc) and (self._asked_s is None or self._clock() - self._asked_s >= AGAIN_S):
            self.catch_up()
        if self._is_known(name, doc):
            self._pass_on(name, doc)
        else:
            self.dropped += 1
            log.warning("a %s was dropped: what goes before it was missed", name)

    def catch_up(self) -> bool:
        """Request earlier documents and pass on the new ones; False if no answer came."""
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
        run = None if name == "start" else self._run_of(name, doc)
        if name == "start" and doc["uid"] not in self._runs:
            self._runs[doc["uid"]] = _Seen()
            while len(self._runs) > _MAX_RUNS:
                del self._runs[next(iter(self._runs))]
            self._callback(name, doc)
        if run is None or run.stopped:
            return
        if name in ("event", "event_page"):
            stream = run.streams[doc["descriptor"]]
            for event in unpack_event_page(cast(EventPage, doc)) if name == "event_page" else [doc]:
                if event["seq_num"] > run.sequence.get(stream, 0):
                    run.sequence[stream] = event["seq_num"]
                    self._callback("event", dict(event))
        elif name == "stop":
            run.stopped = True
            self._callback(name, doc)
        elif doc["uid"] not in run.streams:
            run.streams[doc["uid"]] = doc["name"]
            self._callback(name, doc)
