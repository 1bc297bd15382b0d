"""How many threads an engine should use on this machine."""

import os
from pathlib import Path

AUTOMATIC = 4
"""Most threads taken by default: the probe of each is out of date by the changes of the others."""


def usable_threads() -> int:
    """Physical cores that this process may use, at most `AUTOMATIC`: affinity, siblings of one core and CPU quota count."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    cores = {_siblings(cpu) for cpu in allowed}
    return max(1, min(len(cores), _quota(), AUTOMATIC))


def _siblings(cpu: int) -> str:
    """Identifies the core of a logical CPU: the list of CPUs that share it, where the system has one."""
    path = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    return path.read_text() if path.is_file() else str(cpu)


def _quota(path: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Whole CPUs that a container grants (cgroup v2)."""
    words = path.read_text().split() if path.is_file() else []
    if len(words) != 2 or words[0] == "max":
        return AUTOMATIC
    return int(words[0]) // int(words[1])
