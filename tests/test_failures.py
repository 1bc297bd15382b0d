"""What breaks in operation, against real services: each test stands beside its row of ``docs/how-to/deploy.md``."""

import os
import resource
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamptycho.config import Config
from streamptycho.display.known import Known
from streamptycho.files.scan import open_scan
from streamptycho.messages.reasons import EndReason, Stream
from streamptycho.messages.stream import ScanStart
from streamptycho.solve.store import FrameStore
from streamptycho.wire.outlink import OutLink
from streamptycho.wire.sockets import Sender, new_context
from streamptycho_services import cli
from streamptycho_services.commands.session import service_works
from streamptycho_services.processes.started import Work
from streamptycho_services.processes.supervisor import Supervisor
from streamptycho_services.processes.watch import Watcher
from streamptycho_sim.publisher import PublishOptions, publish
from streamptycho_sim.scan import SimulatedScan, SyntheticOptions
from streamptycho_sim.stream import chain as one_after_the_other
from tests import chain, failing
from tests.chain import LONG_S, PROGRAM, Command, assert_frames, facts, wait_until
from tests.ports import free_address

ROOT = str(Path(__file__).resolve().parents[1])
SCAN = SyntheticOptions(scan_id="scan", frames=300, shape=32)
QUICK: dict[str, Any] = {"engine__polish_passes": 2, "match__settle_s": 0.5, "engine__threads": 1}


@dataclass
class Chain:
    """Services in processes that are watched and started again, and a scan that is on its way to them."""

    services: Supervisor
    watcher: Watcher
    scan: SimulatedScan
    directory: Path

    def known(self) -> Known:
        """All that the services say about the scan."""
        return self.watcher.known(self.scan.options.scan_id) or Known(self.scan.start(0).run)

    def until(self, condition: Callable[[], Any], what: str, *, look: bool = True) -> None:
        """Wait; meanwhile services that have died are started again, unless told otherwise."""

        def turn() -> Any:
            self.watcher.poll(0.02)
            if look:
                self.services.look(serving=True)
            return condition()

        wait_until(turn, what, 3 * LONG_S)

    def until_written(self, *, look: bool = True) -> Path:
        """Wait for the file of the scan to be closed."""
        self.until(lambda: self.known().written, "the file to be closed", look=look)
        return Path(self.known().write.file)  # type: ignore[union-attr, arg-type]

    def frames(self, number: int) -> None:
        """Wait until so many frames are in the file."""
        self.until(lambda: (self.known().write is not None) and self.known().write.used >= number, f"{number} frames")  # type: ignore[union-attr]


@contextmanager
def running(
    settings: Config, scan: SimulatedScan, rate_hz: float = 100.0, works: Sequence[Work] | None = None
) -> Iterator[Chain]:
    with (
        new_context() as context,
        Watcher(context, settings.services) as watcher,
        Supervisor(works or service_works(settings), hung_s=settings.services.hung_s) as services,
    ):
        made, stop = Chain(services, watcher, scan, settings.write.directory), threading.Event()
        options = PublishOptions(rate_hz=rate_hz, peer_timeout_s=3 * LONG_S, send_timeout_s=3 * LONG_S)

        def send() -> None:
            publish(scan.items(), *chain.outlets(settings.detector), options, context=context, stop=stop.is_set)

        thread = threading.Thread(target=send, name="detector")
        thread.start()
        try:
            yield made
        finally:
            stop.set()
            thread.join()


def assert_whole(path: Path, scan: SimulatedScan) -> None:
    """Every frame is in the file, whatever became of the picture."""
    assert_frames(path, dict(enumerate(scan.counts())))
    assert (facts(path)["complete"], facts(path)["missing"], facts(path)["end_reason"]) == (1, 0, "complete")


@pytest.fixture
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes find the modules of the tests."""
    monkeypatch.setenv("PYTHONPATH", ROOT, prepend=os.pathsep)


# the reconstruction


@pytest.mark.slow
@pytest.mark.usefixtures("importable")
def test_a_device_that_fails_in_mid_scan(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    settings, scan = chain.config(tmp_path, engine__backend="numpy", **QUICK), SimulatedScan(SCAN)
    broken = Work("reconstruct", failing.reconstruct_on_failing_device, (tmp_path / "failed", settings))
    works = [broken if work.name == "reconstruct" else work for work in service_works(settings)]
    with running(settings, scan, works=works) as made:
        path = made.until_written()
        assert made.services.restarts == {"write": 0, "reconstruct": 1, "receive": 0}
        assert made.known().write.result is not None, "the picture came back"  # type: ignore[union-attr]
    said = capfd.readouterr().err
    assert "Test GPU has failed: cudaErrorIllegalAddress" in said
    assert "if it does so again, set engine.backend to 'cpu'" in said
    assert "Traceback" not in said
    assert_whole(path, scan)


@pytest.mark.expects_errors
def test_a_scan_that_needs_more_memory_than_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The next one has its picture: the memory of the first is free again."""
    append, options = FrameStore.append, PublishOptions(rate_hz=200.0, peer_timeout_s=LONG_S)

    def out_of_memory(self: FrameStore, *frame: Any) -> int:
        if len(self) == 150 and "out of memory" not in caplog.text:
            np.empty(1 << 50)
        return append(self, *frame)

    monkeypatch.setattr(FrameStore, "append", out_of_memory)
    settings = chain.config(tmp_path, **QUICK)
    first, second = (SimulatedScan(SCAN.model_copy(update={"scan_id": name})) for name in ("first", "second"))
    with (
        new_context() as context,
        Watcher(context, settings.services) as watcher,
        chain.in_threads(settings, context) as check,
    ):
        items = one_after_the_other((first.items(), second.items()))
        publish(items, *chain.outlets(settings.detector), options, context=context)
        chain.wait_written(watcher, "first", "second", check=check)
        known = {name: watcher.known(name) for name in ("first", "second")}
    said = known["first"].lead.status  # type: ignore[union-attr]
    assert said is not None
    assert said.failure is not None
    assert "out of memory on CPU (Unable to allocate" in said.failure
    assert "crop or bin the frames" in said.failure
    assert (said.received, said.dropped, said.no_picture) == (300, {"failed": 300}, True)
    assert caplog.text.count("its frames are in the file") == 1
    for scan in (first, second):
        assert_whole(tmp_path / f"{scan.options.scan_id}.cxi", scan)
    assert known["second"].write.result == str(tmp_path / "second.result.h5")  # type: ignore[union-attr]


# memory


def grown(pid: int) -> int:
    """Address space of a process, bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()


@pytest.mark.slow
@pytest.mark.expects_errors
@pytest.mark.parametrize("name", ["write", "receive"])
def test_a_service_gets_no_more_memory(tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    """A limit on its address space in mid-scan, which its next process does not have: who cannot go on is replaced.

    On a machine without memory the kernel ends a process by SIGKILL, as in `tests/test_restarts.py`; what a
    reconstruction does without memory is above.
    """
    scan = SimulatedScan(SCAN.model_copy(update={"frames": 400, "shape": 256}))
    with running(chain.config(tmp_path, **QUICK), scan) as made:
        made.frames(50)
        pid = made.services.pids[name]
        resource.prlimit(pid, resource.RLIMIT_AS, (grown(pid), resource.RLIM_INFINITY))
        path = made.until_written()
        restarts, facts_ = made.services.restarts, made.known().facts()
        made.services.finish()
    said = capfd.readouterr().err
    assert in_file(path) == 400 - (facts_.missing or 0)
    if name == "receive":  # its memory is bounded: it may have been enough
        assert facts_.complete is (facts_.missing == 0)
    else:
        assert_whole(path, scan)
        assert restarts[name] == 1
        assert "memory" in said.lower()
    assert sum(restarts.values()) <= 1, "no loop"


def in_file(path: Path) -> int:
    """Frames in a file."""
    with open_scan(path) as scan:
        return len(scan)


# processes


@pytest.mark.slow
@pytest.mark.expects_errors
def test_a_reconstruction_that_dies_again_and_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    scan = SimulatedScan(SCAN)
    with running(chain.config(tmp_path, write__result_timeout_s=1, **QUICK), scan, rate_hz=50) as made:
        made.frames(1)

        def said() -> bool:
            if (pid := made.services.pids.get("reconstruct")) is not None:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return made.services.looping == ["reconstruct"]

        made.until(said, "a crash loop")
        path = made.until_written()
    assert caplog.text.count("mend what its messages above say") == 1
    assert_whole(path, scan)


@pytest.mark.slow
@pytest.mark.expects_errors
def test_a_receiver_that_vanishes(tmp_path: Path) -> None:
    """Nobody starts it again here."""
    settings = chain.config(tmp_path, write__silence_s=2, write__result_timeout_s=1, **QUICK)
    with running(settings, SimulatedScan(SCAN)) as made:
        made.frames(50)
        os.kill(made.services.pids["receive"], signal.SIGKILL)
        path = made.until_written(look=False)
        status = made.known().write
        os.kill(made.services.pids["reconstruct"], signal.SIGKILL)
    assert status is not None
    assert (status.end, facts(path)["end_reason"], facts(path)["complete"]) == (EndReason.TIMEOUT, "timeout", 0)
    assert in_file(path) == status.used >= 50


@pytest.mark.slow
@pytest.mark.parametrize("repeats", [False, True])
def test_a_receiver_that_dies_before_the_writer_has_heard_of_the_scan(tmp_path: Path, repeats: bool) -> None:
    """Nor is there a writer meanwhile. Frames that come later are recorded if the sender repeats its start, else counted."""
    settings, scan = chain.config(tmp_path, match__timeout_s=5, **QUICK), SimulatedScan(SCAN)
    frames, positions = (
        [i.message for i in scan.items() if i.stream is stream] for stream in (Stream.FRAMES, Stream.POSITIONS)
    )
    start, *frames = frames
    unrecorded = []
    with (
        new_context() as context,
        Watcher(context, settings.services) as watcher,
        Supervisor(service_works(settings), hung_s=settings.services.hung_s) as services,
        ExitStack() as stack,
    ):
        made = Chain(services, watcher, scan, tmp_path)
        first, second = (stack.enter_context(Sender(context, e, linger_s=0)) for e in chain.outlets(settings.detector))
        made.until(lambda: first.wait_for_peer(0) and second.wait_for_peer(0), "the receiver")
        os.kill(services.pids["write"], signal.SIGKILL)
        for message in (start, *frames[:100]):
            made.until(lambda message=message: first.send(message, wait_s=0.1), "room", look=False)
        made.until(
            lambda: made.known().receive is not None and made.known().receive.received == 100, "100 frames", look=False
        )  # type: ignore[union-attr]
        os.kill(services.pids["receive"], signal.SIGKILL)
        made.until(lambda: services.restarts["receive"] == 1 and not first.wait_for_peer(0), "the end of its connection")
        for message in (*([start] if repeats else []), *frames[100:]):
            made.until(lambda message=message: first.send(message, wait_s=0.1), "room")
        for message in positions:
            made.until(lambda message=message: second.send(message, wait_s=0.1), "room")

        def counted() -> Any:
            said = watcher.idle.get("receive")
            return said is not None and said.rejected.get("unrecorded")

        if repeats:
            path = made.until_written()
        else:
            made.until(counted, "the count of the frames")
            unrecorded.append(counted())
    if repeats:
        assert in_file(path) == 200
        assert (facts(path)["complete"], facts(path)["missing"]) == (0, 100)
    else:
        assert unrecorded == [300], "as the end message says"
        assert list(tmp_path.glob("*.cxi")) == []


@pytest.mark.slow
def test_a_reconstruction_that_does_not_keep_up(tmp_path: Path) -> None:
    """Stopped for the whole scan, with little room for what waits for it."""
    settings = chain.config(tmp_path, match__max_backlog_bytes=100_000, links__max_unacknowledged_bytes=1 << 20, **QUICK)
    scan = SimulatedScan(SCAN.model_copy(update={"frames": 600, "shape": 64}))
    with running(settings, scan, rate_hz=200) as made:
        made.frames(1)
        pid = made.services.pids["reconstruct"]
        os.kill(pid, signal.SIGSTOP)
        made.until(lambda: made.known().receive is not None and made.known().receive.done, "the end")  # type: ignore[union-attr]
        os.kill(pid, signal.SIGCONT)
        path = made.until_written()
        receive, engine = made.known().receive, made.known().lead.status
    assert receive is not None
    assert engine is not None
    assert receive.dropped["engine_full"] > 0
    assert receive.used + receive.dropped["engine_full"] == 600
    assert engine.received == receive.used
    assert_whole(path, scan)


# disks


@pytest.mark.slow
@pytest.mark.expects_errors
def test_a_disk_that_is_full_for_a_time(tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk, as a quota does; `tests/pipeline/test_real_disks.py` fills one."""
    scan = SimulatedScan(SCAN)
    with running(chain.config(tmp_path, **QUICK), scan) as made:
        made.frames(50)
        pid = made.services.pids["write"]
        resource.prlimit(pid, resource.RLIMIT_FSIZE, ((tmp_path / "scan.cxi").stat().st_size, resource.RLIM_INFINITY))
        made.until(lambda: made.known().write.trouble, "it to be said")  # type: ignore[union-attr]
        assert "File too large" in made.known().write.trouble  # type: ignore[operator, union-attr]
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        path = made.until_written()
    assert_whole(path, scan)


@pytest.mark.slow
@pytest.mark.expects_errors
def test_the_output_folder_is_removed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out, scan = tmp_path / "out", SimulatedScan(SCAN)
    with running(chain.config(out, **QUICK), scan) as made:
        made.frames(50)
        shutil.rmtree(out)
        path = made.until_written()
    assert "goes on in a new file" in capfd.readouterr().err
    assert_whole(path, scan)


def test_a_scan_that_will_not_fit(tmp_path: Path) -> None:
    settings, scan = chain.config(tmp_path, match__timeout_s=1, write__result_timeout_s=1, **QUICK), SimulatedScan(SCAN)
    items = (
        replace(i, message=replace(i.message, expected=10**12)) if isinstance(i.message, ScanStart) else i
        for i in scan.items()
    )
    said = set()
    with (
        new_context() as context,
        Watcher(context, settings.services) as watcher,
        chain.in_threads(settings, context) as check,
    ):
        thread = threading.Thread(
            target=publish,
            args=(items, *chain.outlets(settings.detector), PublishOptions(rate_hz=100.0)),
            kwargs={"context": context},
        )
        thread.start()

        def look() -> None:
            check()
            write = known.write if (known := watcher.known("scan")) is not None else None
            said.add(write.trouble if write is not None else None)

        chain.wait_written(watcher, "scan", check=look)
        thread.join()
    assert any(text is not None and "are free and the scan needs" in text for text in said)


# senders


@pytest.mark.parametrize("linger_s", [30.0, 0.0])
def test_a_sender_closes_right_after_its_last_message(tmp_path: Path, linger_s: float) -> None:
    """With a linger time nothing is lost; without, what had not left yet is missing, and counted, whatever that is."""
    settings, scan = chain.config(tmp_path, match__timeout_s=2, **QUICK), SimulatedScan(SCAN)
    with (
        new_context() as context,
        Watcher(context, settings.services) as watcher,
        chain.in_threads(settings, context) as check,
    ):
        own = new_context()  # a program of its own, which ends with its last message
        senders = [Sender(own, endpoint, linger_s=linger_s) for endpoint in chain.outlets(settings.detector)]
        assert all(sender.wait_for_peer(LONG_S) for sender in senders)
        for item in scan.items():
            assert senders[item.stream is Stream.POSITIONS].send(item.message, wait_s=LONG_S)  # type: ignore[arg-type]
        for sender in senders:
            sender.close()
        own.term()
        chain.wait_written(watcher, "scan", check=check)
    path = tmp_path / "scan.cxi"
    if linger_s:
        assert_whole(path, scan)
    else:
        found = facts(path)
        assert found["used"] + found["missing"] == len(scan)
        assert found["end_reason"] == (
            "complete" if found["complete"] else "timeout" if found["missing"] else found["end_reason"]
        )


# peers


def flags(**settings: object) -> list[str]:
    """The same as flags of a command: `services__writer` for ``services.writer``."""
    words = {
        key.replace("__", "."): str(value).lower() if isinstance(value, bool) else value for key, value in settings.items()
    }
    return [
        word
        for key, value in words.items()
        for word in ("--set", f"{key}={value!r}" if key.startswith("services") else f"{key}={value}")
    ]


def test_of_two_writers_the_older_ends_for_good(tmp_path: Path) -> None:
    """On two machines, where nothing but their sender knows of both: here each has a display address of its own."""
    writer = free_address()
    with ExitStack() as stack:
        context = stack.enter_context(new_context())
        sender = stack.enter_context(OutLink(context, writer, "write", max_bytes=1 << 20))

        def begin(name: str) -> Command:
            own = flags(services__writer=writer, services__results=free_address(), services__display_write=free_address())
            return stack.enter_context(Command(PROGRAM, "write", "--output", tmp_path / name, *own))

        older = begin("older")
        assert sender.wait_for_peer(60)
        newer = begin("newer")
        wait_until(lambda: sender.turn() or older.process.poll() is not None, "the older one to end")
        assert older.wait() == cli.REPLACED, "which systemd takes for the last word: RestartPreventExitStatus"
        assert older.err.splitlines() == [f"error: {writer}: another write service has taken over; stop one of the two"], (
            "one line, with the remedy"
        )
        assert newer.process.poll() is None
