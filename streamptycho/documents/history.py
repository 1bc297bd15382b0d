"""What late subscribers receive: the open runs so far, in few and bounded bytes."""

from collections.abc import Sequence
from typing import Any, cast

from event_model import Event, pack_event_page

from streamptycho.documents.wire import Document, frame, unframe
from streamptycho.errors import CodecError

QUESTION = b"catch-up 1"
ANSWER = b"ok 1"
MAX_EVENTS = 2000
"""Events of `progress` that are kept of a run."""


class _Past:
    def __init__(self, start: bytes) -> None:
        self.start = start
        self.descriptors: dict[str, bytes] = {}
        self.newest: dict[str, bytes] = {}
        self.progress: list[Event] = []
        self.stop: bytes | None = None
        self.streams: dict[str, str] = {}
        """Newest descriptor of each stream to the stream."""

    def describe(self, doc: dict[str, Any], message: bytes) -> None:
        """A new descriptor of a stream: events under the old one are kept for `progress` alone."""
        stream = doc["name"]
        self.streams = {uid: name for uid, name in self.streams.items() if name != stream} | {doc["uid"]: stream}
        self.descriptors[stream] = message
        self.newest.pop(stream, None)

    def add(self, stream: str, doc: dict[str, Any], message: bytes) -> None:
        if stream != "progress":
            self.newest[stream] = message
            return
        self.progress.append(cast(Event, doc))
        if len(self.progress) > MAX_EVENTS:
            del self.progress[-2::-2]

    def messages(self) -> list[bytes]:
        messages = [self.start]
        for stream, descriptor in self.descriptors.items():
            messages.append(descriptor)
            if stream == "progress" and self.progress:
                messages.append(frame("event_page", dict(pack_event_page(*self.progress))))
            elif stream in self.newest:
                messages.append(self.newest[stream])
        return [*messages, self.stop] if self.stop is not None else messages


class History:
    """Of each open run start, newest descriptors, newest pictures and the figures so far; of those that ended the last."""

    def __init__(self) -> None:
        self._open: dict[str, _Past] = {}
        self._last: _Past | None = None

    def add(self, name: str, doc: dict[str, Any], message: bytes) -> None:
        """Take a document and the message that carried it; of pictures only the message is kept."""
        if name == "start":
            self._open[doc["uid"]] = _Past(message)
        elif name == "descriptor":
            self._open[doc["run_start"]].describe(doc, message)
        elif name == "stop":
            self._last = self._open.pop(doc["run_start"])
            self._last.stop = message
        else:
            for past in self._open.values():
                stream = past.streams.get(doc["descriptor"])
                if stream is not None:
                    past.add(stream, doc, message)

    def answer(self, question: Sequence[bytes]) -> list[bytes]:
        """Parts of the answer to a question, whatever it is."""
        if list(question) != [QUESTION]:
            return [b"error the question is one part, " + QUESTION]
        runs = list(self._open.values()) or ([self._last] if self._last is not None else [])
        return [ANSWER, *(message for past in runs for message in past.messages())]


def read_answer(parts: Sequence[bytes]) -> list[Document]:
    """The documents of an answer; raises :class:`CodecError` if it is none."""
    if not parts or parts[0] != ANSWER:
        raise CodecError("catch-up", f"{bytes(parts[0])[:200]!r}" if parts else "an empty answer")
    return [unframe(part) for part in parts[1:]]
