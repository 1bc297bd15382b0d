"""Deaths and signals of whole commands: what is stopped ends in order, what dies is replaced, and files are closed."""

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from streamptycho.files.result import read_result
from streamptycho_services.processes.host import activity
from tests.chain import LONG_S, PROGRAM, SIMULATOR, Command, address_flags, at, facts, wait_until
from tests.ports import free_address

FIVE = ("documents", "page", "write", "reconstruct", "receive")
ENDLESS = ["--set", "engine.polish_passes=1000000", "--set", "engine.polish_tolerance=0"]


@contextmanager
def running(directory: Path, frames: int, *settings: str) -> Iterator[Command]:
    """`run` with a scan of so many frames that has a picture, and more than twenty frames in the file."""
    flags = address_flags()
    scan = ["--frames", frames, "--shape", 32, "--rate-hz", 100, "--scan-id", "scan"]
    with (
        Command(PROGRAM, "run", "--json", "--page-port", 0, "--output", directory, *flags, *settings) as run,
        Command(SIMULATOR, "synthetic", *at(flags), *scan) as simulator,
    ):
        run.wait_while_running(lambda: any(line["used"] > 20 for line in run.progress() if "used" in line), "a picture")
        yield run
        simulator.process.poll()


@pytest.mark.slow
@pytest.mark.parametrize("whom", [os.kill, os.killpg], ids=["parent", "group"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=["INT", "TERM", "HUP"])
@pytest.mark.parametrize("when", ["scan", "polish"])
def test_a_signal_ends_a_run_in_order(when: str, number: int, whom: object, tmp_path: Path) -> None:
    assert callable(whom)
    with running(tmp_path, 100_000 if when == "scan" else 60, *(ENDLESS if when == "polish" else [])) as run:
        if when == "polish":
            run.wait_while_running(lambda: any(line.get("state") == "polishing" for line in run.progress()), "the polish")
        whom(run.process.pid, number)
        assert run.wait() == 0, run.err
        assert "finishing; again to stop at once" in run.err
        assert "Traceback" not in run.err
        assert run.report()["restarts"] == dict.fromkeys(FIVE, 0)
    found = facts(tmp_path / "scan.cxi")
    assert (found["complete"], found["end_reason"]) == ((0, "interrupted") if when == "scan" else (1, "complete"))
    assert read_result(tmp_path / "scan.result.h5").object.shape == found["picture_shape"]


@pytest.mark.slow
def test_without_the_parent_the_services_end_in_order(tmp_path: Path) -> None:
    with running(tmp_path, 100_000) as run:
        services = run.services()
        run.process.send_signal(signal.SIGKILL)
        wait_until(lambda: all(activity(pid) is None for pid in services.values()), "all to end")
        assert "Traceback" not in run.err
    found = facts(tmp_path / "scan.cxi")
    assert found["end_reason"] == "interrupted"
    assert read_result(tmp_path / "scan.result.h5").object.shape == found["picture_shape"]


def test_what_dies_is_replaced(tmp_path: Path) -> None:
    with Command(PROGRAM, "run", "--page-port", 0, "--output", tmp_path, *address_flags()) as run:
        run.wait_while_running(lambda: run.services().keys() == set(FIVE), "five processes")
        before = run.services()
        for pid in before.values():
            os.kill(pid, signal.SIGKILL)

        def replaced() -> bool:
            now = run.services()
            return now.keys() == set(FIVE) and all(now[name] != before[name] for name in FIVE)

        run.wait_while_running(replaced, "five successors")
        run.process.send_signal(signal.SIGTERM)
        assert run.wait() == 0, run.err
        for name in FIVE:
            assert (
                f"{name} was ended by SIGKILL (exit code -9); it is started again in 0.1 s, and all else goes on" in run.err
            )
        assert "Traceback" not in run.err


def test_each_command_alone_ends_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hangup, stop = signal.SIGHUP, signal.SIGTERM
    numbers = {"receive": hangup, "reconstruct": stop, "write": hangup, "documents": signal.SIGINT, "dashboard": stop}
    services = ("writer", "engine", "results", "display_receive", "display_reconstruct", "display_write", "control")
    flags = [*address_flags(), *(word for name in services for word in ("--set", f"services.{name}={free_address()!r}"))]
    own = {"dashboard": ["--port", 0], "write": ["--output", tmp_path]}
    with ExitStack() as stack:
        systemd = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        systemd.bind(f"\0{tmp_path}")
        systemd.settimeout(LONG_S)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{tmp_path}")
        started = {n: stack.enter_context(Command(PROGRAM, n, *own.get(n, []), *flags)) for n in numbers}
        ready = 0
        while ready < len(numbers):
            ready += b"READY=1" in systemd.recv(1000)
        for name, command in started.items():
            assert Path(f"/proc/{command.process.pid}/comm").read_text().startswith("ptycho-")
            command.process.send_signal(numbers[name])
        for name, command in started.items():
            assert command.wait() == 0, (name, command.err)
            assert "finishing; again to stop at once" in command.err
            assert "Traceback" not in command.err


def test_a_run_without_standard_streams(tmp_path: Path) -> None:
    program = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *PROGRAM]
    with Command(program, "run", "--page-port", 0, "--output", tmp_path, *address_flags()) as run:
        run.wait_while_running(lambda: run.services().keys() == set(FIVE), "five processes")
        before = run.services()
        wait_until(lambda: all(serves(pid) for pid in before.values()), "each to do its work")
        assert run.services() == before
        run.process.send_signal(signal.SIGTERM)
        assert run.wait() == 0


def serves(pid: int) -> bool:
    """True once a process has named itself, opened sockets and begun."""
    return "ptycho-" in Path(f"/proc/{pid}/comm").read_text() and len(list(Path(f"/proc/{pid}/fd").iterdir())) > 8
