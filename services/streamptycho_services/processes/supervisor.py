"""Starts processes, watches them, starts them again, and ends them in order. When and whether is up to `policy.py`."""

import logging
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType

from streamptycho.errors import ConfigError
from streamptycho_services.processes.child import Child
from streamptycho_services.processes.host import activity
from streamptycho_services.processes.logs import NO_FILE, Logs
from streamptycho_services.processes.policy import LONGEST_S, LOOP_DEATHS, LOOP_S, Restarts, Silence
from streamptycho_services.processes.started import MISCONFIGURED, Work

log = logging.getLogger(__name__)

FINISH_S = {"reconstruct": 5.0, "page": 2.0, "documents": 2.0}
"""How long the end of a process is waited for; the last picture and the viewers' last words are not worth more."""
LOSSLESS_S = 60.0
"""The same for those that hold frames."""
KILL_S = 2.0
"""How long a process that is to stop at once may take."""
_STEP_S = 0.1
VIEWERS = ("page", "documents")
"""Without them all is recorded and reconstructed."""
KEPT = "write"
"""What is started again even at the end: without it, what the others still hold would be lost."""


class _Watched:
    """One service: its process, if it has one, and its past."""

    def __init__(self, work: Work, hung_s: float) -> None:
        self.work = work
        self.restarts = Restarts()
        self.child: Child | None = None
        self.due_s = 0.0
        """Without a process: when it is started."""
        self.silence = Silence(hung_s)
        self.waits_for_disk = False
        self.misconfigured = False
        """Whether it ended because it cannot use the configuration, for example an address that is taken."""


class Supervisor:
    """Keeps the processes of `works` running while the context is entered.

    Started in the order of `works` and ended in the opposite one, so that what is in flight arrives. They leave signals to
    this process; :meth:`look` must be called several times a second.
    """

    def __init__(
        self,
        works: Sequence[Work],
        *,
        hung_s: float,
        logs: Logs = NO_FILE,
        clock: Callable[[], float] = time.monotonic,
        start: Callable[..., Child] = Child,
        failures: Iterable[str] = (),
    ) -> None:
        self._watched = {work.name: _Watched(work, hung_s) for work in works}
        self._hung_s = hung_s
        self._logs = logs
        self._clock = clock
        self._start_child = start
        self._killed = False
        self._refused = False
        self.failures = list(failures)
        """What went wrong with services that make files and pictures, or that cannot run at all, as far as it is known; it
        begins with that of services that could not even be started."""

    def __enter__(self) -> "Supervisor":
        for service in self._watched.values():
            self._start(service)
        return self

    @property
    def restarts(self) -> dict[str, int]:
        """By service: how often it was started again."""
        return {name: service.restarts.count for name, service in self._watched.items()}

    @property
    def looping(self) -> list[str]:
        """Services that die again and again."""
        return [name for name, service in self._watched.items() if service.restarts.looping]

    @property
    def pids(self) -> dict[str, int]:
        """By service: the number of its process, of those that have one."""
        return {name: child.pid for name, child in self._children()}

    def beating(self, *names: str) -> bool:
        """True if the loop of each of these services turns."""
        return all(self._watched[name].silence.heard for name in names)

    def look(self, *, serving: bool) -> None:
        """Start again what has died or hangs; `serving`: whether there was a scan.

        Raises :class:`~streamptycho.errors.ConfigError` if a service that is needed refuses the configuration before there
        was one: nothing is lost, and somebody is there to mend it.
        """
        for service in self._watched.values():
            self._look(service, serving=serving)

    def finish(self, waiting: Callable[[], None] = lambda: None) -> None:
        """End in order, upstream first, so that nothing in flight is lost; `waiting` is called meanwhile."""
        services = list(self._watched.values())
        for name in self.looping:
            if name not in VIEWERS or self._watched[name].misconfigured:
                self._note_failure(f"{name} could not be kept running")
        keeper = None if self._refused else self._watched.get(KEPT)
        if keeper is not None and not keeper.restarts.looping:
            keeper.due_s = self._clock()
        while services:
            service = services.pop()
            if service.child is not None:
                self._finish(service, service.child, waiting, keeper if keeper in services else None)

    def _finish(self, service: _Watched, child: Child, waiting: Callable[[], None], keeper: _Watched | None) -> None:
        name = service.work.name
        child.finish()
        until_s = self._clock() + FINISH_S.get(name, LOSSLESS_S)
        while not self._killed and not child.wait(_STEP_S):
            if self._clock() >= until_s:
                log.error("%s does not come to its end and is stopped", name)
                if name not in FINISH_S:
                    self._note_failure(f"{name} did not come to its end and was stopped")
                child.destroy()
                return
            waiting()
            if keeper is not None:
                self._look(keeper, serving=True)
        if child.exitcode and not self._killed and not self._refused:
            log.error("%s %s while it was coming to its end", name, _why(child.exitcode))
            if name not in VIEWERS:
                self._note_failure(f"{name} {_why(child.exitcode)} while it was coming to its end")

    def _note_failure(self, text: str) -> None:
        if text not in self.failures:
            self.failures.append(text)

    def kill(self) -> None:
        """Stop at once; may be called by a handler of signals."""
        self._killed = True
        for _, child in self._children():
            child.kill()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None or isinstance(error, Exception):
            self.finish()
        else:
            self.kill()
        until_s = self._clock() + KILL_S
        for service in self._watched.values():
            if service.child is not None:
                if not service.child.wait(max(until_s - self._clock(), 0.0)):
                    service.child.destroy()
                    service.child.wait(KILL_S)
                self._forget(service)

    def _children(self) -> Iterator[tuple[str, Child]]:
        for name, service in self._watched.items():
            if service.child is not None:
                yield name, service.child

    def _start(self, service: _Watched) -> None:
        try:
            service.child = self._start_child(service.work, logs=self._logs, restarts=service.restarts.next_count)
        except OSError as error:  # no process or no memory left: like a death
            self._mourn(service, f"cannot be started: {error.strerror}")
            return
        service.silence = Silence(self._hung_s)
        service.waits_for_disk = False
        service.restarts.started(self._clock())

    def _look(self, service: _Watched, *, serving: bool) -> None:
        now_s, child = self._clock(), service.child
        if child is None:
            if now_s >= service.due_s:
                self._start(service)
            return
        code = child.exitcode
        if code is not None:
            self._forget(service)
            if code == MISCONFIGURED and service.work.needed and not serving:
                self._refused = True
                raise ConfigError(f"{service.work.name} cannot run with this configuration; its message is above")
            service.misconfigured = code == MISCONFIGURED
            self._mourn(service, _why(code))
        elif self._hangs(service, child, now_s):
            child.destroy()
            child.wait(KILL_S)
            self._forget(service)
            self._mourn(service, f"hung: no sign of life for {self._hung_s:g} s (services.hung_s)")
        elif service.restarts.looping and service.restarts.healthy(now_s):
            log.warning("%s has been running for a minute again", service.work.name)

    def _hangs(self, service: _Watched, child: Child, now_s: float) -> bool:
        silence, name = service.silence, service.work.name
        silence.look(now_s, heard=child.heard())
        if not silence.suspicious:
            return False
        doing = activity(child.pid)
        if doing is None or not doing.in_disk_wait:
            return silence.hung(None if doing is None else doing.cpu_s)
        if not service.waits_for_disk:
            service.waits_for_disk = True
            log.warning("%s has waited for a disk or a network folder for %.0f s; it is left to it", name, silence.silent_s)
        silence.excuse()
        return False

    @staticmethod
    def _forget(service: _Watched) -> None:
        if service.child is not None:
            service.child.close()
            service.child = None

    def _mourn(self, service: _Watched, why: str) -> None:
        restarts, name = service.restarts, service.work.name
        was_looping, now_s = restarts.looping, self._clock()
        delay_s = restarts.died(now_s)
        service.due_s = now_s + delay_s
        if not restarts.looping:
            log.warning("%s %s; it is started again in %g s, and all else goes on", name, why, delay_s)
        elif not was_looping:
            log.error(
                "%s %s, for the %dth time within %.0f s: mend what its messages above say, or end with Ctrl-C; "
                "all else goes on, and it is started again every %.0f s at the latest, without further lines",
                name, why, LOOP_DEATHS, LOOP_S, LONGEST_S,
            )  # fmt: skip


def _why(code: int) -> str:
    if code >= 0:
        return f"ended by itself (exit code {code})"
    try:
        return f"was ended by {signal.Signals(-code).name} (exit code {code})"
    except ValueError:
        return f"was ended by signal {-code} (exit code {code})"
