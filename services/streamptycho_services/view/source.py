"""The thread that brings the documents: it listens, and asks for what it has missed."""

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from event_model import DocumentNames, schema_validators
from jsonschema import ValidationError

from streamptycho.documents import Document, Follower, unframe
from streamptycho.documents.history import QUESTION, read_answer
from streamptycho.errors import CodecError, ConfigError, GrammarError, ProtocolError
from streamptycho.wire.questions import Listener, ask
from streamptycho.wire.security import NO_KEYS, SecurityOptions
from streamptycho.wire.sockets import new_context
from streamptycho_services.view.model import ReconModel

log = logging.getLogger(__name__)

ASK_S = 1.0
ASK_AGAIN_S = 2.0
"""Time between two questions while nobody answers."""
LOOK_S = 0.1
QUIET_S = 60.0
"""Time between two lines about messages that could not be used."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the documents come from."""

    documents: str
    catch_up: str
    security: SecurityOptions = NO_KEYS


def addresses(documents: str, catch_up: str | None, security: SecurityOptions = NO_KEYS) -> Addresses:
    """Both addresses; the second is on the port after the first's unless it is given. Raises :class:`ConfigError`."""
    if catch_up is not None:
        return Addresses(documents, catch_up, security)
    host, _, port = documents.rpartition(":")
    if not documents.startswith("tcp://") or not port.isdecimal() or not 0 < int(port) < 65535:
        raise ConfigError(
            f"--address {documents}: no address to catch up from follows from it; write tcp://HOST:PORT or add --catch-up"
        )
    return Addresses(documents, f"{host}:{int(port) + 1}", security)


class DocumentSource:
    """Context manager around the thread that feeds a model. What goes wrong in the thread is raised by :meth:`check`."""

    def __init__(self, model: ReconModel, where: Addresses) -> None:
        self.model = model
        self.where = where
        self.heard = 0
        self.refused = 0
        self.catch_ups = 0
        self.last_heard_s = time.monotonic()
        """When the last document came, or the listening began."""
        self._caught_up = False
        self._follow = Follower(self._tell, self._past)
        self._error: BaseException | None = None
        self._next_word_s = 0.0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="documents")

    def __enter__(self) -> "DocumentSource":
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening; takes as long as an answer that is being waited for."""
        self._end.set()
        self._thread.join()

    def check(self) -> None:
        """Raises what ended the thread before its time."""
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            with new_context(self.where.security) as context, Listener(context, self.where.documents) as listener:
                self._listen(listener)
        except BaseException as error:  # noqa: BLE001 - raised again by check(), in the thread that owns the viewer
            self._error = error

    def _listen(self, listener: Listener) -> None:
        """Listen first and ask then, so that nothing falls in between."""
        next_ask_s = 0.0
        while not self._end.is_set():
            if not self._caught_up and time.monotonic() >= next_ask_s:
                self._follow.catch_up()
                next_ask_s = time.monotonic() + ASK_AGAIN_S
            message = listener.poll(LOOK_S)
            if message is not None:
                self._take(message)

    def _take(self, message: Sequence[bytes | memoryview]) -> None:
        try:
            if len(message) != 1:
                raise CodecError("document", f"{len(message)} parts instead of one")
            name, document = checked(unframe(bytes(message[0])))
        except ProtocolError as error:
            self._refuse(error)
        else:
            dropped = self._follow.dropped
            self._follow(name, document)
            self._caught_up &= self._follow.dropped == dropped

    def _past(self) -> list[Document]:
        """What has been so far; nothing if nobody is there, which is no fault of anyone's before the services start."""
        self._caught_up = False
        try:
            answer = read_answer(ask(self.where.catch_up, QUESTION, ASK_S, self.where.security))
            documents = [checked(document) for document in answer]
        except TimeoutError:
            return []
        except ProtocolError as error:
            self._refuse(error)
            return []
        self._caught_up = True
        self.catch_ups += 1
        return documents

    def _tell(self, name: str, document: dict[str, Any]) -> None:
        try:
            self.model(name, document)
        except GrammarError as error:
            self._refuse(error)
        else:
            self.heard += 1
            self.last_heard_s = time.monotonic()

    def _refuse(self, error: ProtocolError) -> None:
        self.refused += 1
        if time.monotonic() >= self._next_word_s:
            self._next_word_s = time.monotonic() + QUIET_S
            log.warning("not used: %s (%d messages so far)", error, self.refused)


def checked(document: Document) -> Document:
    """The same document; raises :class:`GrammarError` unless it is one of the event model."""
    name, content = document
    try:
        schema_validators[DocumentNames[name]].validate(content)
    except ValidationError as error:
        where = ".".join(map(str, error.absolute_path)) or "document"
        raise GrammarError(f"{name}.{where}", error.message[:200]) from error
    if name == "event_page":
        _check_page(content)
    return document


def _check_page(page: Mapping[str, Any]) -> None:
    events = len(page["seq_num"])
    columns = {"time": page["time"], "uid": page["uid"], **page["data"], **page["timestamps"]}
    for name, column in columns.items():
        if len(column) != events:
            raise GrammarError(f"event_page.{name}", f"{len(column)} values of {events} events")
