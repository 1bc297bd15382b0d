"""Processes that die, hang and cannot be started; on a clock of ours first, then real ones."""

import ctypes
import logging
import os
import platform
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from streamptycho.errors import ConfigError, GrammarError
from streamptycho_services.processes import supervisor
from streamptycho_services.processes.child import Child
from streamptycho_services.processes.host import Activity, activity
from streamptycho_services.processes.logs import Logs
from streamptycho_services.processes.policy import HEALTHY_S, LONGEST_S, LOOP_DEATHS
from streamptycho_services.processes.runtime import Control
from streamptycho_services.processes.started import BESIDE, MISCONFIGURED, Work
from streamptycho_services.processes.supervisor import KILL_S, LOSSLESS_S, Supervisor
from tests.chain import wait_until

ROOT = str(Path(__file__).resolve().parents[2])


class Clock:
    """Seconds that pass when they are waited for."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class FakeChild:
    """A process that does as it is told: `beats`, dies with `exitcode`, ends `obeys_s` after it is asked to."""

    def __init__(self, work: Work, stage: "Stage") -> None:
        self.name, self.pid, self.stage = work.name, len(stage.made), stage
        self.exitcode: int | None = None
        self.beats, self.obeys_s, self.asked_s = True, 0.0, float("inf")

    def heard(self) -> bool:
        return self.beats

    def finish(self) -> None:
        self.asked_s = self.stage.clock()
        self.stage.log.append(f"finish {self.name}")

    def kill(self) -> None:
        self.stage.log.append(f"kill {self.name}")
        self.finish()

    def destroy(self) -> None:
        self.exitcode = -9
        self.stage.log.append(f"destroy {self.name}")

    def wait(self, seconds: float) -> bool:
        if self.exitcode is None and self.stage.clock() + seconds >= self.asked_s + self.obeys_s:
            self.exitcode = 0
        if self.exitcode is None:
            self.stage.clock.now_s += seconds
        return self.exitcode is not None

    def close(self) -> None:
        self.stage.log.append(f"close {self.name}")


class Stage:
    """A supervisor of fakes."""

    def __init__(self, *names: str, optional: tuple[str, ...] = ()) -> None:
        self.clock = Clock()
        self.made: list[FakeChild] = []
        self.log: list[str] = []
        self.told: list[int] = []
        """To each child, how often its service was started again."""
        self.refuse: OSError | None = None
        works = [Work(name, print, needed=name not in optional) for name in names]
        self.supervisor = Supervisor(works, hung_s=30, clock=self.clock, start=self._start)

    def _start(self, work: Work, *, logs: Logs, restarts: int) -> Any:
        if self.refuse is not None:
            raise self.refuse
        self.made.append(FakeChild(work, self))
        self.told.append(restarts)
        self.log.append(f"start {work.name}")
        return self.made[-1]

    def newest(self, name: str) -> FakeChild:
        return next(child for child in reversed(self.made) if child.name == name)

    def run(self, seconds: float, *, serving: bool = True) -> None:
        """Look ten times a second."""
        until_s = self.clock() + seconds
        while self.clock() < until_s - 1e-9:
            self.clock.now_s += 0.1
            self.supervisor.look(serving=serving)


def test_they_are_started_in_order_and_ended_in_the_opposite_one():
    stage = Stage("write", "reconstruct", "receive")
    with stage.supervisor:
        assert stage.log == ["start write", "start reconstruct", "start receive"]
        stage.log.clear()
    assert [entry for entry in stage.log if "finish" in entry] == ["finish receive", "finish reconstruct", "finish write"]


def test_a_death_is_mended_and_counted_and_the_others_do_not_notice(caplog):
    stage = Stage("write", "receive")
    with stage.supervisor as services:
        stage.run(10)
        stage.newest("write").exitcode = -9
        stage.run(0.35)
        assert services.restarts == {"write": 1, "receive": 0}
        assert [child.name for child in stage.made] == ["write", "receive", "write"]
        assert stage.told == [0, 0, 1]
    assert caplog.messages == [
        "write was ended by SIGKILL (exit code -9); it is started again in 0.1 s, and all else goes on"
    ]


@pytest.mark.expects_errors
@pytest.mark.parametrize(("name", "failures"), [("reconstruct", ["reconstruct could not be kept running"]), ("page", [])])
def test_what_dies_again_and_again_until_the_end_is_a_failure_unless_it_only_shows(name: str, failures: list[str]):
    stage = Stage("write", name)
    with stage.supervisor as services:
        for _ in range(40):
            stage.newest(name).exitcode = 1
            stage.run(0.5)
        assert services.failures == []
    assert services.failures == failures


@pytest.mark.expects_errors
def test_a_crash_loop_is_said_once_and_goes_on(caplog):
    stage = Stage("write", "reconstruct")

    def die(seconds: float) -> None:
        until_s = stage.clock() + seconds
        while stage.clock() < until_s:
            stage.newest("reconstruct").exitcode = 1
            stage.run(0.5)

    with stage.supervisor as services:
        die(400)
        assert services.looping == ["reconstruct"]
        assert [record.levelno for record in caplog.records] == [logging.WARNING] * 4 + [logging.ERROR]
        last = caplog.messages[-1]
        assert last.startswith("reconstruct ended by itself (exit code 1), for the 5th time within 60 s: mend what")
        assert services.restarts["reconstruct"] >= 15, "it is tried again"
        assert services.restarts["write"] == 0
        caplog.clear()
        stage.run(LONGEST_S + HEALTHY_S + 1)
        assert caplog.messages == ["reconstruct has been running for a minute again"]
        assert services.looping == []


class TestRefusedConfiguration:
    def test_ends_the_command_before_the_first_scan(self, caplog):
        stage = Stage("write", "receive")

        def refuse() -> None:
            with stage.supervisor:
                stage.newest("write").exitcode = MISCONFIGURED
                stage.run(1, serving=False)

        with pytest.raises(ConfigError, match="write cannot run with this configuration"):
            refuse()
        assert [child.name for child in stage.made] == ["write", "receive"], "not started again"
        assert caplog.messages == [], "its own message is enough"
        assert "finish receive" in stage.log

    def test_is_a_death_like_others_once_there_was_a_scan(self):
        stage = Stage("write")
        with stage.supervisor as services:
            stage.newest("write").exitcode = MISCONFIGURED
            stage.run(1)
            assert services.restarts == {"write": 1}

    def test_of_what_may_be_absent_stops_nothing(self):
        stage = Stage("documents", "write", optional=("documents",))
        with stage.supervisor as services:
            stage.newest("documents").exitcode = MISCONFIGURED
            stage.run(1, serving=False)
            assert services.restarts == {"documents": 1, "write": 0}

    @pytest.mark.expects_errors
    def test_of_what_may_be_absent_is_a_failure_if_it_lasts(self):
        stage = Stage("documents", "write", optional=("documents",))
        with stage.supervisor as services:
            for _ in range(LOOP_DEATHS):
                stage.newest("documents").exitcode = MISCONFIGURED
                stage.run(5, serving=False)
        assert services.failures == ["documents could not be kept running"]


class TestHung:
    @pytest.fixture
    def doing(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[Activity | None], None]:
        return lambda found: monkeypatch.setattr(supervisor, "activity", lambda pid: found)

    @pytest.mark.parametrize("found", [Activity(in_disk_wait=False, cpu_s=3.0), None])
    def test_it_is_ended_and_started_again(self, doing, found, caplog):
        doing(found)
        stage = Stage("write")
        with stage.supervisor as services:
            stage.run(5)
            stage.newest("write").beats = False
            stage.run(29)
            assert services.restarts == {"write": 0}
            stage.run(2)
            assert services.restarts == {"write": 1}
            assert "destroy write" in stage.log
            assert caplog.messages == [
                "write hung: no sign of life for 30 s (services.hung_s); it is started again in 0.1 s, and all else goes on"
            ]

    def test_before_its_first_beat_it_may_compile(self, doing):
        doing(Activity(in_disk_wait=False, cpu_s=3.0))
        stage = Stage("reconstruct")
        with stage.supervisor as services:
            stage.newest("reconstruct").beats = False
            stage.run(200)
            assert services.restarts == {"reconstruct": 0}
            assert not services.beating("reconstruct")

    def test_who_waits_for_a_disk_is_left_to_it(self, doing, caplog):
        doing(Activity(in_disk_wait=True, cpu_s=3.0))
        stage = Stage("write")
        with stage.supervisor as services:
            stage.run(1)
            stage.newest("write").beats = False
            stage.run(120)
            assert services.restarts == {"write": 0}
            assert caplog.messages == ["write has waited for a disk or a network folder for 15 s; it is left to it"]
            doing(Activity(in_disk_wait=False, cpu_s=3.0))  # it is over, and the next beat takes a moment
            stage.run(10)
            stage.newest("write").beats = True
            stage.run(60)
            assert services.restarts == {"write": 0}


def test_a_start_that_fails_is_tried_again(caplog):
    stage = Stage("write")
    stage.refuse = OSError(11, "Resource temporarily unavailable")
    with stage.supervisor as services:
        assert services.pids == {}
        stage.refuse = None
        stage.run(1)
        assert services.pids == {"write": 0}
    assert caplog.messages[0].startswith("write cannot be started: Resource temporarily unavailable; it is started again")


class TestFinish:
    def test_a_writer_that_is_down_is_started_for_what_the_others_hold(self):
        stage = Stage("write", "receive")
        stage.supervisor.__enter__()
        stage.newest("receive").obeys_s = 3.0
        stage.newest("write").exitcode = -9
        stage.supervisor.look(serving=True)
        stage.supervisor.finish()
        assert stage.log[-3:] == ["finish receive", "start write", "finish write"]

    @pytest.mark.expects_errors
    def test_who_does_not_end_is_ended(self, caplog):
        stage = Stage("write", "reconstruct")
        stage.supervisor.__enter__()
        stage.newest("reconstruct").obeys_s = stage.newest("write").obeys_s = 1e9
        begun_s, called = stage.clock(), []
        stage.supervisor.finish(lambda: called.append(1))
        took_s = stage.clock() - begun_s
        assert LOSSLESS_S < took_s < LOSSLESS_S + 10, "the writer holds frames"
        assert len(called) >= 10 * LOSSLESS_S
        assert caplog.messages == [f"{name} does not come to its end and is stopped" for name in ("reconstruct", "write")]

    @pytest.mark.expects_errors
    def test_a_failure_at_the_end_is_told(self, caplog):
        stage = Stage("write")
        stage.supervisor.__enter__()
        stage.newest("write").exitcode = 1
        stage.supervisor.finish()
        assert caplog.messages == ["write ended by itself (exit code 1) while it was coming to its end"]

    def test_at_once(self):
        stage = Stage("write", "receive")
        begun_s = stage.clock()

        def interrupt() -> None:
            with stage.supervisor:
                stage.newest("write").obeys_s = 1e9
                stage.supervisor.kill()
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            interrupt()
        assert stage.clock() - begun_s <= 2 * KILL_S
        assert {"kill write", "kill receive", "destroy write"} <= set(stage.log)
        assert "destroy receive" not in stage.log


# real processes


def obedient(path: str, control: Control) -> None:
    """Beats until asked to stop, and says how it ended."""
    while not control.ended():
        control.beat()
        time.sleep(0.01)
    Path(path).write_text("killed" if control.killed() else f"finished at niceness {os.nice(0)}")


def failing(text: str, control: Control) -> None:
    raise GrammarError("frame.index", text) if text != "bug" else RuntimeError(text)


def stalled(seconds: float, control: Control) -> None:
    """Beats, waits as one whose disk does not answer, where no signal reaches it, and beats until asked to stop."""
    control.beat()
    libc, clone, flags = ctypes.PyDLL(None), {"x86_64": 56, "aarch64": 220}[platform.machine()], 0x4000 | signal.SIGCHLD
    if libc.syscall(clone, flags, 0, 0, 0, 0) == 0:  # CLONE_VFORK: the parent is in state D until this child has ended
        time.sleep(seconds)
        os._exit(0)
    while not control.ended():
        control.beat()
        time.sleep(0.01)


@pytest.fixture
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes find the functions above."""
    monkeypatch.setenv("PYTHONPATH", ROOT, prepend=os.pathsep)


@pytest.mark.usefixtures("importable")
class TestRealProcesses:
    @pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="the number of a system call is not known")
    def test_one_that_waits_where_no_signal_reaches_it_is_left_to_it(self, caplog):
        """What a stalled disk does to the writer, as far as it can be had without one: the kernel's uninterruptible wait.

        No disk stalls here: a file system that really hangs needs rights that a test does not have. That slow writes are
        told of, that frames wait and that nothing is lost are tests of their own (`tests/pipeline/test_disk.py`, SIGSTOP in
        `tests/chaos`). Not reproduced: how long HDF5 keeps its lock, and what the kernel does to a dying mount.
        """
        with Supervisor([Work("write", stalled, (12.0,))], hung_s=10.0) as services:
            wait_until(lambda: (services.look(serving=True), "it is left to it" in caplog.text)[1], "the warning")
            pid = services.pids["write"]
            wait_until(
                lambda: (services.look(serving=True), not (found := activity(pid)) or not found.in_disk_wait)[1], "its end"
            )
            wait_until(lambda: (services.look(serving=True), services.beating("write"))[1], "a beat")
            assert (services.pids["write"], services.restarts["write"]) == (pid, 0)

    def begun(self, path: Path, **more: Any) -> Child:
        child = Child(Work("test", obedient, (str(path),), **more))
        wait_until(child.heard, "a beat")
        return child

    @pytest.mark.parametrize(("how", "said"), [("finish", f"finished at niceness {BESIDE}"), ("kill", "killed")])
    def test_asked_to_stop(self, how, said, tmp_path):
        child = self.begun(tmp_path / "said", niceness=BESIDE)
        assert Path(f"/proc/{child.pid}/comm").read_text() == "ptycho-test\n"
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(child.pid, number)
        assert child.exitcode is None, "signals are for the parent"
        getattr(child, how)()
        assert child.wait(20)
        assert (child.exitcode, (tmp_path / "said").read_text()) == (0, said)
        child.close()

    def test_without_its_parent_it_finishes(self, tmp_path):
        child = self.begun(tmp_path / "said")
        child.close()
        assert child.wait(20)
        assert (child.exitcode, (tmp_path / "said").read_text()) == (0, "finished at niceness 0")

    @pytest.mark.parametrize(("text", "code"), [("-1", MISCONFIGURED), ("bug", 1)])
    def test_an_error_of_ours_is_one_line_and_a_bug_a_traceback(self, text, code, capfd):
        child = Child(Work("test", failing, (text,)))
        assert child.wait(20)
        said = capfd.readouterr().err
        assert child.exitcode == code
        assert ("Traceback" in said) == (text == "bug")
        assert "test ERROR: frame.index: -1" in said or text == "bug"
        child.close()

    def test_killed_and_stopped_ones_are_replaced(self, tmp_path):
        with Supervisor([Work("test", obedient, (str(tmp_path / "said"),))], hung_s=0.5) as services:
            for number in (signal.SIGKILL, signal.SIGSTOP):
                wait_until(lambda: services.look(serving=True) or services.beating("test"), "a beat")
                os.kill(struck := services.pids["test"], number)
                wait_until(
                    lambda struck=struck: services.look(serving=True) or services.pids.get("test", struck) != struck,
                    "a successor",
                )
            assert services.restarts == {"test": 2}
        assert (tmp_path / "said").read_text().startswith("finished")
