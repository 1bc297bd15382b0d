"""What is done to the services: drawn from a seed, so that the same seed does the same again."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random


class Kind(StrEnum):
    """Sorts of faults."""

    KILL = "kill"
    """SIGKILL."""
    STOP = "stop"
    """SIGSTOP, and SIGCONT later."""
    CUT = "cut"
    """All connections of a link are broken off, and new ones refused for a time."""
    STALL = "stall"
    """A link passes no bytes on for a time; its connections stay."""
    FULL = "full"
    """The disk takes no byte more for a time: a limit on the size of the writer's files."""
    GONE = "gone"
    """The output folder gets another name, so that the writer finds none."""
    BURST = "burst"
    """Frames are sent as fast as they are taken."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long faults last, seconds."""

    stop_s: tuple[float, float] = (1.0, 30.0)
    cut_s: tuple[float, float] = (0.1, 20.0)
    full_s: tuple[float, float] = (0.5, 10.0)


SHORT = Limits(stop_s=(0.3, 3.0), cut_s=(0.1, 3.0), full_s=(0.3, 2.0))
LONG = Limits()

WEIGHTS = {Kind.KILL: 9, Kind.STOP: 5, Kind.CUT: 6, Kind.STALL: 2, Kind.FULL: 3, Kind.GONE: 1, Kind.BURST: 2}
"""How often each sort is drawn."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One event of a schedule."""

    kind: Kind
    target: str
    """Name of the service or link."""
    at: float
    """When, as a share of the duration of the scan."""
    lasts_s: float = 0.0

    def __str__(self) -> str:
        lasts = f" {self.lasts_s:.1f} s" if self.lasts_s else ""
        return f"{self.kind} {self.target}{lasts} at {self.at:.0%}".replace("  ", " ")


def draw(random: Random, count: int, limits: Limits, processes: Sequence[str], links: Sequence[str]) -> list[Fault]:
    """`count` faults of one scan in their order."""
    return sorted((_one(random, limits, processes, links) for _ in range(count)), key=lambda fault: fault.at)


def _one(random: Random, limits: Limits, processes: Sequence[str], links: Sequence[str]) -> Fault:
    kind = random.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
    at = random.uniform(0.02, 1.0)
    match kind:
        case Kind.KILL:
            return Fault(kind, random.choice([name for name in processes if name != "parent"]), at)
        case Kind.STOP:
            return Fault(kind, random.choice(processes), at, random.uniform(*limits.stop_s))
        case Kind.CUT | Kind.STALL:
            return Fault(kind, random.choice(links), at, random.uniform(*limits.cut_s))
        case Kind.FULL:
            return Fault(kind, "write", at, random.uniform(*limits.full_s))
        case Kind.GONE:
            return Fault(kind, "write", at)
        case _:
            return Fault(kind, "frames", at)


LOSING = {(Kind.KILL, "receive"), (Kind.CUT, "frames"), (Kind.CUT, "positions")}
"""Faults that take messages with them which nobody but their sender had; all others must cost nothing."""


def may_lose(faults: Sequence[Fault]) -> bool:
    """Whether messages may be lost, as long as a number says so."""
    found = {(fault.kind, fault.target) for fault in faults}
    # frames wait in the memory of the writer while the disk refuses, and it alone can read a file that was removed
    only_with_it = {(Kind.FULL, "write"), (Kind.GONE, "write")} & found
    return bool(found & LOSING) or bool(only_with_it and (Kind.KILL, "write") in found)
