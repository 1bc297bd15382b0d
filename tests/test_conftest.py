"""The watch that conftest keeps over all other tests does fail them."""

import logging
import threading
from pathlib import Path
from types import ModuleType

import pytest

from tests.conftest import surviving_threads

pytest_plugins = ["pytester"]

CONFTEST = Path(__file__).with_name("conftest.py").read_text()


def test_thread_that_ends_in_time_is_no_leak():
    before = set(threading.enumerate())
    thread = threading.Timer(0.05, lambda: None)
    thread.start()
    assert surviving_threads(before, 5) == []


def test_daemon_is_no_leak_but_another_thread_is():
    before = set(threading.enumerate())
    done = threading.Event()
    threading.Thread(target=done.wait, daemon=True).start()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        assert surviving_threads(before, 0.05) == [thread]
    finally:
        done.set()


def test_watch_fails_a_test_that_leaks_or_logs_an_error(pytester: pytest.Pytester):
    pytester.makeconftest(CONFTEST.replace("THREAD_GRACE_S = 2.0", "THREAD_GRACE_S = 0.05"))
    pytester.makeini("[pytest]\nmarkers = expects_errors: x")
    pytester.makepyfile(
        """
        import logging, threading, pytest
        done = threading.Event()

        def test_leaks():
            threading.Thread(target=done.wait, name="straggler").start()

        def test_ends_the_thread():
            done.set()

        def test_logs():
            logging.getLogger("a.b").error("broken %s", "pipe")

        @pytest.mark.expects_errors
        def test_logs_on_purpose():
            logging.getLogger("a.b").error("on purpose")

        def test_warns():
            logging.getLogger("a.b").warning("harmless")
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=5, errors=2)
    result.stdout.fnmatch_lines(["*threads left running: straggler*", "*a.b: broken pipe*"])


@pytest.mark.expects_errors
def test_marked_test_may_log_an_error():
    logging.getLogger("streamptycho.anything").error("on purpose")


def test_shared_data(shared_data: Path):
    assert (shared_data / "siemens_star_seed.cxi").is_file()


def test_shared_tools(shared_tools: ModuleType):
    assert callable(shared_tools.load)
