"""Logging of a process: one line per event on standard error, plain or JSON, and in a file if one is given.

A line names the scan it is about: that of the message being handled (:func:`about`), or the one that its ``extra`` names.
"""

import json
import logging
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from types import TracebackType

from streamptycho.config import LogOptions
from streamptycho.errors import ConfigError
from streamptycho.messages.run import RunId

log = logging.getLogger(__name__)

_about: ContextVar[RunId | None] = ContextVar("about", default=None)


@contextmanager
def about(message: object) -> Iterator[None]:
    """Lines that are logged meanwhile are about the scan that this message names, if it names one."""
    scan_id = getattr(message, "scan_id", None)
    token = _about.set(RunId(scan_id, getattr(message, "started_ns", 0)) if scan_id is not None else None)
    try:
        yield
    finally:
        _about.reset(token)


def _run_of(record: logging.LogRecord) -> RunId | None:
    """The run that a line is about: `extra` goes before what is being handled."""
    scan_id = getattr(record, "scan_id", None)
    return RunId(scan_id, getattr(record, "started_ns", 0)) if scan_id is not None else _about.get()


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time, level, service, message; scan_id, started_ns and error where there are any."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self.service = service

    def format(self, record: logging.LogRecord) -> str:
        """Render one record."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "service": self.service,
        }
        run = _run_of(record)
        if run is not None:
            line["scan_id"] = run.scan_id
            if run.started_ns:
                line["started_ns"] = str(run.started_ns)  # as text, as in the reports: programs may read it as a float
        line["message"] = record.getMessage()
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line)


class TextFormatter(logging.Formatter):
    """Time, service, level, scan in brackets, message; a traceback follows on lines of its own."""

    def __init__(self, service: str, *, dated: bool) -> None:
        super().__init__("%(asctime)s %(where)s: %(message)s", "%Y-%m-%d %H:%M:%S" if dated else "%H:%M:%S")
        self.service = service

    def format(self, record: logging.LogRecord) -> str:
        """Render one record."""
        run = _run_of(record)
        record.where = f"{self.service} {record.levelname}" + (f" [{run.scan_id}]" if run is not None else "")
        return super().format(record)


class _File(RotatingFileHandler):
    """A file that may become unwritable: that is said once, and everything else goes on."""

    _said = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name is that of the library
        error = sys.exception()
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self._said:
            self._said = True
            print(f"{self.baseFilename}: cannot be written ({error.strerror}); lines are missing there", file=sys.stderr)


@dataclass(frozen=True, slots=True)
class Logs:
    """How the log lines of a process look, and where they go besides standard error."""

    as_json: bool = False
    options: LogOptions = field(default_factory=LogOptions)

    def beside(self, service: str) -> "Logs":
        """The same for another process: with a file of its own, as no two can rotate one."""
        file = self.options.file
        if file is None:
            return self
        own = file.with_name(f"{file.stem}.{service}{file.suffix}")
        return replace(self, options=self.options.model_copy(update={"file": own}))


NO_FILE = Logs()


def configure_logging(logs: Logs, service: str = "streamptycho") -> None:
    """Send warnings and worse of this process to standard error, and to the file if there is one.

    Also those of Python, and the traceback that ends a process or a thread. Raises :class:`ConfigError` if the file cannot
    be written.
    """
    shown = logging.StreamHandler(sys.stderr)
    handlers: list[logging.Handler] = [shown]
    options = logs.options
    if options.file is not None:
        try:
            options.file.parent.mkdir(parents=True, exist_ok=True)
            file = _File(options.file, maxBytes=options.max_bytes, backupCount=options.kept, encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"log.file = {options.file}: cannot be written ({error.strerror}); choose another") from error
        handlers.append(file)
    for handler in handlers:
        text = TextFormatter(service, dated=handler is not shown)
        handler.setFormatter(JsonFormatter(service) if logs.as_json else text)
    logging.basicConfig(level=logging.WARNING, handlers=handlers, force=True)
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_in_thread


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        traceback.print_exception(kind, error, trace)
        return
    log.critical("a bug has ended this process: %s", error, exc_info=(kind, error, trace))


def _log_uncaught_in_thread(ended: threading.ExceptHookArgs) -> None:
    if ended.exc_value is not None:
        name = ended.thread.name if ended.thread is not None else "of no name"
        log.critical(
            "a bug has ended the thread %s: %s",
            name,
            ended.exc_value,
            exc_info=(ended.exc_type, ended.exc_value, ended.exc_traceback),
        )
