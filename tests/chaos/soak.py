"""Hours of a beamline in minutes: one scan after the other, a fault now and then, and what the processes need meanwhile."""

import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.campaign import Plan, Round, Tally
from tests.chaos.detector import Patterns, Sent
from tests.chaos.faults import Fault, draw

SAMPLE_S = 1.0
FAULT_S = 60.0
FLAT = 1.03
"""Largest ratio of the last third to the second."""
FIGURES = ("rss_MiB", "fds", "threads")


@dataclass(frozen=True, slots=True)
class Sample:
    """What a process needs at one moment."""

    time_s: float
    pid: int
    needs: tuple[float, ...]
    """As `FIGURES`."""
    under_way: int
    """Scans whose files are not closed: what they need is no growth."""


def sample(pid: int) -> tuple[float, ...]:
    """What a process needs now, from /proc."""
    status = Path(f"/proc/{pid}/status").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    fds = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return int(fields["VmRSS"].split()[0]) / 1024, fds, int(fields["Threads"])


def alike(middle: list[Sample], last: list[Sample]) -> list[tuple[float, float]]:
    """For each figure, two parts compared where as many scans were under way: means of medians, by how often that was so.

    Where that was so for less than half of a part, their medians are compared as they are.
    """
    common = {n: min(_count(middle, n), _count(last, n)) for n in {one.under_way for one in middle}}
    if 2 * sum(common.values()) < min(len(middle), len(last)):
        common = {None: 1}
    found = []
    for i in range(len(FIGURES)):
        sums = [0.0, 0.0]
        for n, weight in common.items():
            for k, part in enumerate((middle, last)):
                if weight:
                    values = [one.needs[i] for one in part if n in (None, one.under_way)]
                    sums[k] += weight * statistics.median(values) / sum(common.values())
        found.append((sums[0], sums[1]))
    return found


def _count(samples: list[Sample], under_way: int) -> int:
    return sum(one.under_way == under_way for one in samples)


class Soak(Round):
    """Scans of 100 to 300 frames without a break."""

    def __init__(self, plan: Plan, number: int, rate_hz: float, shape: int, *, calm: bool) -> None:
        self._place = tempfile.TemporaryDirectory(prefix="soak-")
        super().__init__(plan, number, Tally(), Path(self._place.name))
        self.rate_hz = rate_hz
        self.calm = calm
        self._patterns = [Patterns(300, 0, self.encoding, shape)]
        self._samples: dict[str, list[Sample]] = defaultdict(list)
        self._next_s = 0.0

    def soak(self, seconds: float, say: Callable[[str], None]) -> None:
        """Scans for so long."""
        with self._place, self._services():
            begun = time.monotonic()
            fault_s = begun + FAULT_S
            while time.monotonic() < begun + seconds:
                faults = []
                if time.monotonic() >= fault_s and not self.calm:
                    fault_s += FAULT_S
                    faults = draw(self.random, 1, self.plan.limits, self.rig.processes, self.rig.links)
                self._scan(faults)
                if faults or self._count % 20 == 0:
                    say(f"{self._count} scans; {'; '.join(map(str, faults))}; {self._needs()}")

    def _frames(self) -> int:
        return self.random.randint(100, 300)

    def _rate(self) -> float:
        return self.rate_hz

    def _after(self, scan: Sent) -> None:
        """The next one follows at once."""

    def _turn(self) -> None:
        super()._turn()
        now = time.monotonic()
        if now < self._next_s:
            return
        self._next_s = now + SAMPLE_S
        for name, pid in self.rig.pids().items():
            with suppress(FileNotFoundError, ProcessLookupError, KeyError):  # it has just died
                self._samples[name].append(Sample(now, pid, sample(pid), len(self._open)))

    def _felt(self, scan: Sent) -> list[Fault]:
        """Those of its neighbours too: nobody waits between them until a fault is over."""
        ids = list(self._faults)
        at = ids.index(scan.scan_id)
        return [fault for scan_id in ids[max(at - 3, 0) : at + 2] for fault in self._faults[scan_id]]

    def _close(self, scan: Sent) -> None:
        super()._close(scan)
        for path in self.rig.files(scan.scan_id):
            for file in path.parent.glob(f"{path.stem}.*"):
                file.unlink()
        self.listener.pictures.pop(scan.scan_id, None)

    def _needs(self) -> str:
        return ", ".join(f"{name} {samples[-1].needs[0]:.0f} MiB" for name, samples in self._samples.items() if samples)

    def _thirds(self) -> dict[str, list[tuple[float, float]]]:
        """By process, for each figure: the second and the last third, without the first seconds of a life."""
        found = {}
        for name, samples in self._samples.items():
            begun = {}
            for one in samples:
                begun.setdefault(one.pid, one.time_s)
            grown = [one for one in samples if one.time_s > begun[one.pid] + 30]
            third = len(grown) // 3
            if third:
                found[name] = alike(grown[third : 2 * third], grown[2 * third :])
        return found

    def _piled_up(self) -> tuple[float, float]:
        """Scans under way in the second and in the last third: if they pile up, the rate is beyond what can be sustained."""
        samples = self._samples["write"]
        third = len(samples) // 3
        parts = samples[third : 2 * third], samples[2 * third :]
        middle, last = (statistics.median([one.under_way for one in part] or [0]) for part in parts)
        return middle, last

    @property
    def failed(self) -> bool:
        """True if anything grew, or a scan was not as it must be."""
        grew = any(last > FLAT * middle for figures in self._thirds().values() for middle, last in figures)
        middle, last = self._piled_up()
        return grew or last > middle + 1 or self.tally.failed

    def table(self) -> str:
        """All figures."""
        lines = [self.tally.table(), *self.tally.findings]
        lines.append("scans under way {:g} -> {:g} (second and last third)".format(*self._piled_up()))
        for name, figures in self._thirds().items():
            lives = len({one.pid for one in self._samples[name]})
            parts = (f"{what} {a:.1f} -> {b:.1f} ({b / a - 1:+.1%})" for what, (a, b) in zip(FIGURES, figures, strict=True))
            lines.append(f"{name}: {', '.join(parts)} (second and last third; {lives} processes)")
        return "\n".join(lines)
