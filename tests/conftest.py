"""What every test shares: the data beside the checkout, and a watch over forgotten threads and errors."""

import importlib.util
import logging
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import settings

SHARED = Path(__file__).resolve().parents[2] / "shared"
THREAD_GRACE_S = 2.0
"""Time a thread gets to end after the test that started it."""

settings.register_profile("streamptycho", deadline=None, print_blob=True)
settings.load_profile("streamptycho")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Directory with recorded scans, which are too large for the repository."""
    path = SHARED / "data"
    if not path.is_dir():
        pytest.skip("recorded scans are not here: no directory ../shared/data beside the checkout")
    return path


@pytest.fixture(scope="session")
def shared_tools() -> ModuleType:
    """The module that compares a reconstructed object with a reference."""
    path = SHARED / "tools" / "compare_objects.py"
    if not path.is_file():
        pytest.skip("the comparison tool is not here: no file ../shared/tools/compare_objects.py beside the checkout")
    spec = importlib.util.spec_from_file_location("compare_objects", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def surviving_threads(before: set[threading.Thread], grace_s: float) -> list[threading.Thread]:
    """Non-daemon threads that are not in `before` and still run after `grace_s` seconds."""
    until = time.monotonic() + grace_s
    while True:
        alive = [t for t in threading.enumerate() if t not in before and not t.daemon and t.is_alive()]
        if not alive or time.monotonic() > until:
            return alive
        time.sleep(0.01)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """A test that leaves a thread behind fails: such a thread would keep a process from ending."""
    before = set(threading.enumerate())
    yield
    alive = surviving_threads(before, THREAD_GRACE_S)
    if alive:
        pytest.fail(f"threads left running: {', '.join(sorted(thread.name for thread in alive))}", pytrace=False)


class ErrorLog(logging.Handler):
    """Keeps what was logged as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.name}: {record.getMessage()}")


@pytest.fixture(autouse=True)
def no_error_is_logged(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test during which an error was logged fails, unless it is marked ``expects_errors``."""
    log = ErrorLog()
    root = logging.getLogger()
    root.addHandler(log)
    yield
    root.removeHandler(log)
    if log.lines and request.node.get_closest_marker("expects_errors") is None:
        pytest.fail("errors were logged:\n  " + "\n  ".join(log.lines), pytrace=False)
