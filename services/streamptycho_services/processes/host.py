"""What the operating system is asked for: names and doings of processes, their remains, streams without a reader."""

import ctypes
import os
import select
import sys
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path

PREFIX = "ptycho-"
"""Of names in ``ps`` and ``top``, which show 15 bytes."""
_PR_SET_NAME = 15
_STANDARD = (1, 2)


def name_process(service: str) -> None:
    """Name this process after its service, where the system can (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_NAME, f"{PREFIX}{service}".encode()[:15], 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Activity:
    """What a process is doing."""

    in_disk_wait: bool
    """It waits for a device and cannot be killed."""
    cpu_s: float
    """Processor time it has used since its start."""


def activity(pid: int) -> Activity | None:
    """What a process is doing; None if it has gone, or where the system does not say (other than Linux)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:  # the file system is not there, or the process is not
        return None
    fields = text.rpartition(")")[2].split()  # the name before may hold anything
    return Activity(fields[0] == "D", (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"))


def reap_orphans(ours: Container[int]) -> None:
    """As process 1 of a container, collect what others have left behind; `ours` are left to who waits for them."""
    if os.getpid() != 1:
        return
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if ended is None or ended.si_pid in ours:
            return
        os.waitpid(ended.si_pid, 0)


def open_streams() -> None:
    """Give input, output and error to a process that was started without: else sockets get their numbers, here and below."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):  # each gets the lowest number that is free
        if getattr(sys, name) is None:
            stream = open(os.devnull, mode)  # noqa: SIM115, PTH123 - for as long as the process lives
            os.set_inheritable(stream.fileno(), True)
            setattr(sys, name, stream)


def give_up_streams() -> None:
    """Where nobody reads standard output or error any more (a closed terminal, a dead pager), write to nothing instead.

    Else the next line would raise, and end what goes on very well without a reader.
    """
    poll = select.poll()
    for descriptor in _STANDARD:
        poll.register(descriptor, 0)
    lost = [descriptor for descriptor, event in poll.poll(0) if event & (select.POLLERR | select.POLLHUP)]
    if lost:
        nothing = os.open(os.devnull, os.O_WRONLY)
        for descriptor in lost:
            os.dup2(nothing, descriptor)
        os.close(nothing)
