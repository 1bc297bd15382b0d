"""Log lines: what they say of the scan, their file, and what ends a process."""

import io
import json
import logging
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from streamptycho.config import LogOptions, load
from streamptycho.errors import ConfigError
from streamptycho.messages.run import RunId
from streamptycho_services.processes.logs import Logs, about, configure_logging
from tests.scans import frame, start

log = logging.getLogger("tests.logs")
Configure = Callable[..., io.StringIO]


@pytest.fixture
def configure(monkeypatch: pytest.MonkeyPatch) -> Iterator[Configure]:
    """Configures the logging of this process, and returns what it will say on standard error."""
    root = logging.getLogger()
    handlers, level, hooks = root.handlers[:], root.level, (sys.excepthook, threading.excepthook)

    def make(as_json: bool = False, service: str = "write", **options: Any) -> io.StringIO:
        said = io.StringIO()
        monkeypatch.setattr(sys, "stderr", said)
        configure_logging(Logs(as_json, LogOptions(**options)), service)
        return said

    for handler in handlers:
        root.removeHandler(handler)  # configuring closes what it finds
    yield make
    for handler in root.handlers[:]:
        root.removeHandler(handler)
        with suppress(OSError):  # a full disk, which one of these tests is about
            handler.close()
    for handler in handlers:
        root.addHandler(handler)
    root.setLevel(level)
    sys.excepthook, threading.excepthook = hooks
    logging.captureWarnings(False)


def lines(said: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in said.getvalue().splitlines()]


class TestScan:
    def test_that_of_the_message_being_handled(self, configure):
        said = configure(as_json=True)
        begin = start(scan_id="scan 7")
        with about(begin):
            log.warning("a start")
        with about(frame(0, scan_id="scan 7")):
            log.warning("a frame, which does not say when its scan began")
        with about(ValueError("no message")):
            log.warning("a refusal")
        log.warning("nothing")
        first, second, third, fourth = lines(said)
        assert (first["scan_id"], first["started_ns"]) == ("scan 7", str(begin.started_ns))
        assert second["scan_id"] == "scan 7"
        assert "started_ns" not in second
        assert "scan_id" not in third
        assert "scan_id" not in fourth
        assert set(fourth) == {"time", "level", "service", "message"}
        assert (fourth["level"], fourth["service"], fourth["message"]) == ("warning", "write", "nothing")

    def test_what_the_line_itself_names_goes_first(self, configure):
        said = configure(as_json=True)
        with about(start(scan_id="new")):
            log.error("closed", extra=RunId("old", 5).fields)
        (line,) = lines(said)
        assert (line["scan_id"], line["started_ns"], line["level"]) == ("old", "5", "error")

    def test_text_has_it_in_brackets(self, configure):
        said = configure()
        with about(start(scan_id="scan 7")):
            log.warning("slow disk")
        log.warning("idle")
        first, second = said.getvalue().splitlines()
        assert first[8:] == " write WARNING [scan 7]: slow disk"
        assert second[8:] == " write WARNING: idle"

    def test_threads_do_not_mix_theirs(self, configure):
        said = configure(as_json=True)
        with about(start(scan_id="mine")):
            other = threading.Thread(target=lambda: log.warning("elsewhere"))
            other.start()
            other.join()
        assert "scan_id" not in lines(said)[0]


class TestFile:
    def test_has_the_same_lines(self, configure, tmp_path):
        said = configure(as_json=True, file=tmp_path / "logs" / "write.jsonl")
        log.warning("one")
        assert lines(said) == [json.loads(line) for line in (tmp_path / "logs" / "write.jsonl").read_text().splitlines()]

    def test_of_text_has_the_day_too(self, configure, tmp_path):
        configure(file=tmp_path / "write.log")
        log.warning("one")
        line = (tmp_path / "write.log").read_text()
        assert line[4] == line[7] == "-"
        assert line[19:] == " write WARNING: one\n"

    def test_is_put_aside_when_it_is_full_and_the_oldest_goes(self, configure, tmp_path):
        configure(file=tmp_path / "write.log", max_bytes=1024, kept=2)
        for i in range(100):
            log.warning("line %d %s", i, "x" * 80)
        names = sorted(path.name for path in tmp_path.iterdir())
        assert names == ["write.log", "write.log.1", "write.log.2"]
        assert all(path.stat().st_size <= 1024 for path in tmp_path.iterdir())
        assert "line 99 " in (tmp_path / "write.log").read_text()

    def test_each_process_has_its_own(self, tmp_path):
        logs = Logs(True, LogOptions(file=tmp_path / "run.jsonl", kept=7))
        beside = logs.beside("receive")
        assert beside.options.file == tmp_path / "run.receive.jsonl"
        assert (beside.as_json, beside.options.kept) == (True, 7)
        assert Logs().beside("receive") == Logs()

    def test_that_cannot_be_made_is_named(self, configure, tmp_path):
        (tmp_path / "file").write_text("in the way")
        with pytest.raises(ConfigError, match=r"log\.file = .*file/write\.log: cannot be written"):
            configure(file=tmp_path / "file" / "write.log")

    def test_that_cannot_be_written_any_more_is_said_once_and_nothing_else_is_lost(self, configure):
        full = Path("/dev/full")
        if not full.exists():
            pytest.skip("no device that is always full")
        said = configure(file=full)
        for _ in range(3):
            log.warning("line")
        text = said.getvalue()
        assert text.count("/dev/full: cannot be written (No space left on device); lines are missing there") == 1
        assert text.count("WARNING: line") == 3

    def test_settings(self):
        assert load(None, {"log.file": "x.log", "log.max_bytes": 2048, "log.kept": 3}).log == LogOptions(
            file=Path("x.log"), max_bytes=2048, kept=3
        )
        for bad in ({"log.kept": 0}, {"log.max_bytes": 10}):
            with pytest.raises(ConfigError, match="log"):
                load(None, bad)


class TestEnd:
    @pytest.mark.expects_errors
    def test_a_bug_is_one_line_with_its_traceback(self, configure):
        said = configure(as_json=True)
        with pytest.raises(ZeroDivisionError) as raised:
            print(1 // 0)
        sys.excepthook(raised.type, raised.value, raised.tb)
        (line,) = lines(said)
        assert line["level"] == "critical"
        assert line["message"] == "a bug has ended this process: integer division or modulo by zero"
        assert line["error"].splitlines()[0] == "Traceback (most recent call last):"
        assert line["error"].splitlines()[-1].startswith("ZeroDivisionError")

    @pytest.mark.expects_errors
    def test_one_in_a_thread_too(self, configure):
        said = configure(as_json=True)

        def broken() -> None:
            raise RuntimeError("broken on purpose")

        thread = threading.Thread(target=broken, name="feed")
        thread.start()
        thread.join()
        (line,) = lines(said)
        assert line["message"] == "a bug has ended the thread feed: broken on purpose"
        assert "Traceback" in line["error"]

    def test_warnings_of_python_are_lines_too(self, configure):
        said = configure(as_json=True)
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            logging.captureWarnings(False)
            logging.captureWarnings(True)  # within the block, which has put back what Python does
            warnings.warn("old", DeprecationWarning, stacklevel=1)
        (line,) = lines(said)
        assert "DeprecationWarning: old" in line["message"]
