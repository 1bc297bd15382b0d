"""What a process imports, and what the operating system is asked for."""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from streamptycho.config import Config, ServiceEndpoints
from streamptycho.errors import ConfigError
from streamptycho_services.processes import host, interrupt
from streamptycho_services.processes.folder import INNER, PREFIX, socket_folder, with_ipc
from streamptycho_services.processes.host import activity, give_up_streams, reap_orphans
from streamptycho_services.processes.interrupt import AGAIN_S, SIGNALS, interruptible
from streamptycho_services.processes.memory import memory_given_back
from streamptycho_services.processes.notify import EVERY_S, Notifier
from tests.chain import wait_until

HOLD = """
import sys, time
from streamptycho_services.processes.folder import socket_folder
with socket_folder() as folder:
    print(folder.path, flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize(
    "module",
    [
        "streamptycho.config",
        "streamptycho_services.processes.supervisor",
        "streamptycho_services.processes.started",
        "streamptycho.pipeline.receive",
    ],
)
def test_a_process_imports_what_it_runs(module: str) -> None:
    """What computes, draws and writes takes seconds to import in each of five processes."""
    heavy = {"scipy", "numba", "h5py", "PIL", "starlette"}
    said = subprocess.run(
        [sys.executable, "-c", f"import sys, {module}; print(*sorted({heavy} & set(sys.modules)))"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert said.stdout.split() == []


class TestFolder:
    @pytest.fixture(autouse=True)
    def place(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
        """The only temporary directory; short, as those of pytest are not."""
        monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
        with tempfile.TemporaryDirectory() as place:
            monkeypatch.setattr(tempfile, "tempdir", place)
            yield Path(place)

    def test_is_private_and_vanishes(self, place):
        with socket_folder() as folder:
            assert folder.path.parent == place
            assert folder.path.stat().st_mode & 0o077 == 0
        assert list(place.iterdir()) == []

    def test_addresses_that_others_look_for_stay(self):
        config = Config(services=ServiceEndpoints(documents="tcp://127.0.0.1:7001", writer="tcp://127.0.0.1:7002"))
        services = with_ipc(config, Path("/d")).services
        assert services.documents == "tcp://127.0.0.1:7001"
        assert services.catch_up == ServiceEndpoints().catch_up
        assert services.writer == "ipc:///d/writer"
        assert services.hung_s == config.services.hung_s

    def test_a_path_too_long_for_sockets_is_avoided(self, place, monkeypatch):
        deep = place / ("d" * 90)
        deep.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(deep))
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(place))
        with socket_folder() as folder:
            assert folder.path.parent == place
            assert list(deep.iterdir()) == []
            for name in INNER:
                with socket.socket(socket.AF_UNIX) as trial:
                    trial.bind(str(folder.path / name))

    def test_without_any_the_remedy_is_named(self, place, monkeypatch):
        def refuse(*args: Any, dir: Path, **more: Any) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(tempfile, "mkdtemp", refuse)
        with pytest.raises(ConfigError, match=f"TMPDIR: .*{place} \\(Permission denied\\).*short path"), socket_folder():
            pass

    def test_what_a_killed_run_has_left_is_removed(self, place):
        others = [place / f"{PREFIX}of-somebody", place / "other"]
        for other in others:
            other.mkdir()
        environment = os.environ | {"TMPDIR": str(place)}
        with subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True, env=environment) as run:
            assert run.stdout is not None
            left = Path(run.stdout.readline().strip())
            try:
                with socket_folder() as mine:
                    assert left.is_dir(), "it is in use"
                    assert mine.path != left
            finally:
                run.kill()
        assert left.is_dir()
        with socket_folder() as mine:
            assert sorted(place.iterdir()) == sorted([mine.path, *others])


class TestSignals:
    @pytest.fixture
    def said(self, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
        """What is said to the terminal."""
        lines: list[bytes] = []
        monkeypatch.setattr(interrupt.os, "write", lambda descriptor, line: lines.append(line))
        return lines

    @pytest.fixture
    def later(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
        """Lets time pass."""
        now_s = [0.0]
        monkeypatch.setattr(interrupt.time, "monotonic", lambda: now_s[0])
        return lambda seconds: now_s.append(now_s.pop() + seconds)

    @pytest.mark.parametrize("number", SIGNALS)
    def test_the_first_asks_to_finish_and_says_what_the_second_does(self, number, said):
        called = []
        with interruptible(on_first=lambda: called.append(1)) as asked:
            assert not asked.is_set()
            signal.raise_signal(number)
            assert asked.is_set()
        assert called == [1]
        assert said == [b"finishing; again to stop at once\n"]

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_the_second_stops_at_once(self, number, said, later):
        called = []
        with interruptible(on_second=lambda: called.append(1)):
            signal.raise_signal(signal.SIGTERM)
            later(AGAIN_S)
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(number)
        assert called == [1]
        assert len(said) == 1

    def test_one_that_is_sent_to_process_and_group_is_one(self, said, later):
        with interruptible(on_second=pytest.fail):
            for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGHUP):
                signal.raise_signal(number)
                later(AGAIN_S / 4)

    def test_the_end_of_the_terminal_insists_on_nothing(self, said, later):
        with interruptible(on_second=pytest.fail):
            signal.raise_signal(signal.SIGINT)
            later(10)
            signal.raise_signal(signal.SIGHUP)

    def test_nohup_is_respected(self, said):
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            with interruptible() as asked:
                signal.raise_signal(signal.SIGHUP)
                assert not asked.is_set()
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        finally:
            signal.signal(signal.SIGHUP, before)

    def test_what_was_before_is_restored(self):
        before = [signal.getsignal(number) for number in SIGNALS]
        with interruptible():
            pass
        assert [signal.getsignal(number) for number in SIGNALS] == before


class TestNotifier:
    @pytest.fixture(params=["path", "abstract"])
    def systemd(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[str]]]:
        """What systemd hears at the address that it has given."""
        with tempfile.TemporaryDirectory() as place, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
            name = f"{place}/notify" if request.param == "path" else f"@{place}"
            heard.bind(name.replace("@", "\0", 1))
            heard.setblocking(False)
            monkeypatch.setenv("NOTIFY_SOCKET", name)

            def words() -> list[str]:
                found = []
                while True:
                    try:
                        found.append(heard.recv(1000).decode())
                    except BlockingIOError:
                        return found

            yield words

    def test_hears_when_it_is_ready_alive_and_ending(self, systemd):
        now_s = [100.0]
        notifier = Notifier.of_environment()
        assert "NOTIFY_SOCKET" not in os.environ, "other processes are not to speak for this one"
        notifier = Notifier(notifier.address, lambda: now_s[0])
        for _ in range(3):
            notifier.beat()
        assert systemd() == ["READY=1\nWATCHDOG=1"]
        for _ in range(16):
            now_s[0] += EVERY_S / 8
            notifier.beat()
        assert systemd() == ["WATCHDOG=1"] * 2
        notifier.stopping()
        assert systemd() == ["STOPPING=1"]

    def test_it_is_ready_once_somebody_hears_it(self, tmp_path):
        now_s = [0.0]
        with tempfile.TemporaryDirectory() as place:
            notifier = Notifier(f"{place}/notify", lambda: now_s[0])
            notifier.beat()
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
                heard.bind(f"{place}/notify")
                now_s[0] += EVERY_S
                notifier.beat()
                assert heard.recv(100) == b"READY=1\nWATCHDOG=1"

    def test_without_systemd_nothing_is_said(self, monkeypatch):
        monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
        monkeypatch.setattr(socket, "socket", pytest.fail)
        notifier = Notifier.of_environment()
        notifier.beat()
        notifier.stopping()


class TestMemory:
    def resident_bytes(self) -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")

    @pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="the C library is not glibc")
    def test_what_is_free_between_pieces_in_use_goes_back(self):
        libc = ctypes.CDLL(None)
        libc.malloc.restype, libc.free.argtypes, libc.memset.argtypes = (
            ctypes.c_void_p, [ctypes.c_void_p], [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t],
        )  # fmt: skip
        large, small = [], []
        for _ in range(1000):
            large.append(libc.malloc(60_000))
            small.append(libc.malloc(2000))
            libc.memset(large[-1], 1, 60_000)
        try:
            for piece in large:
                libc.free(piece)
            before = self.resident_bytes()
            with memory_given_back(every_s=0.01):
                wait_until(lambda: self.resident_bytes() < before - 40e6, "40 of 60 MB to be given back")
        finally:
            for piece in small:
                libc.free(piece)

    def test_without_glibc_nothing_is_done(self, monkeypatch):
        monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
        before = threading.active_count()
        with memory_given_back(every_s=0.0):
            assert threading.active_count() == before


class TestHost:
    def test_what_a_process_is_doing(self):
        with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
            try:
                wait_until(lambda: (found := activity(busy.pid)) and found.cpu_s > 0.2, "some processor time")
                found = activity(busy.pid)
                assert found is not None
                assert not found.in_disk_wait
            finally:
                busy.kill()
        assert activity(busy.pid) is None

    def test_a_name_of_ps(self):
        said = subprocess.run(
            [sys.executable, "-c", "from streamptycho_services.processes.host import *; name_process('reconstruct');"
             "print(open('/proc/self/comm').read(), end='')"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert said.stdout == "ptycho-reconstr\n"

    def test_as_process_1_orphans_are_collected_and_our_own_are_left(self, monkeypatch):
        with (
            subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as ours,
            subprocess.Popen([sys.executable, "-c", "pass"]) as orphan,
        ):
            os.waitid(os.P_PID, orphan.pid, os.WEXITED | os.WNOWAIT)
            reap_orphans([ours.pid])
            assert Path(f"/proc/{orphan.pid}").exists(), "that is the task of process 1 only"
            monkeypatch.setattr(host.os, "getpid", lambda: 1)
            reap_orphans([ours.pid])
            assert not Path(f"/proc/{orphan.pid}").exists()
            assert ours.stdin is not None
            ours.stdin.close()
            os.waitid(os.P_PID, ours.pid, os.WEXITED | os.WNOWAIT)
            reap_orphans([ours.pid])
        assert ours.returncode == 0

    def test_streams_without_a_reader_are_given_up(self):
        program = (
            "import os, sys\nfrom streamptycho_services.processes.host import give_up_streams\n"
            "sys.stdin.read()\ngive_up_streams()\nprint('nobody reads this', flush=True)\n"
            "print('but this', file=sys.stderr, flush=True)"
        )
        pipe = subprocess.PIPE
        with subprocess.Popen([sys.executable, "-c", program], stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
            assert process.stdout is not None
            process.stdout.close()
            assert process.stderr is not None
            assert process.stdin is not None
            process.stdin.close()
            assert process.stderr.read() == "but this\n"
            assert process.wait() == 0

    def test_streams_with_a_reader_are_kept(self, capfd):
        give_up_streams()
        os.write(1, b"still here")
        assert capfd.readouterr().out == "still here"
