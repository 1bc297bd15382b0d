"""Scans under faults, each followed by one without: what was sent, what came of it, and what the services needed."""

import math
import shutil
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from streamptycho.messages.payload import Encoding
from streamptycho.wire.endpoint import SocketKind
from streamptycho.wire.sockets import new_context
from tests.chaos.detector import Detector, Patterns, Sent
from tests.chaos.faults import Fault, Kind, Limits, draw, may_lose
from tests.chaos.judge import HARD, SWALLOWED, Verdict, judge
from tests.chaos.listener import Listener
from tests.chaos.rig import SERVICES, Apart, Rig, Together

BACK_S = 3.0
"""How long a service may take from its death to its first word."""
END_S = 60.0
"""How long after its last message a scan without faults may take to end."""
LATEST_S = 120.0
"""The same for one with faults, while others follow it."""
STEP_S = 0.004


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is done."""

    seed: int
    limits: Limits
    frames: int = 300
    rates_hz: tuple[float, ...] = (200.0, 350.0, 500.0)
    scans: int = 3
    """With faults, in each round."""
    faults: int = 3
    """In each of them, on average."""


@dataclass
class Tally:
    """The figures of all rounds."""

    faults: Counter[str] = field(default_factory=Counter)
    scans: int = 0
    accepted: int = 0
    in_files: int = 0
    lost: int = 0
    back_s: list[tuple[str, float]] = field(default_factory=list)
    pictures_s: list[float] = field(default_factory=list)
    """From the kill of a reconstruction until its picture was as good as before."""
    ends_s: list[float] = field(default_factory=list)
    """From the last message of a scan to its closed file."""
    findings: list[str] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        """True if there is a finding that must not be."""
        return any(_sort(finding) in HARD for finding in self.findings)

    def table(self) -> str:
        """All figures."""
        sorts = Counter(_sort(finding) for finding in self.findings)
        lines = [("events", f"{self.faults.total()} ({', '.join(f'{n} {kind}' for kind, n in self.faults.most_common())})")]
        lines += [("scans", str(self.scans)), ("frames taken from the sender", str(self.accepted))]
        lines += [("in a file, bit for bit", str(self.in_files)), ("lost", str(self.lost))]
        lines += [(sort, str(sorts[sort])) for sort in dict.fromkeys((*HARD, *sorts))]
        for name in sorted({name for name, _ in self.back_s}):
            lines.append((f"{name} back after", _spread([s for other, s in self.back_s if other == name], "s")))
        if self.pictures_s:
            lines.append(("picture back after", _spread(self.pictures_s, "s")))
        if self.ends_s:
            lines.append(("file closed after", _spread(self.ends_s, "s")))
        width = max(len(name) for name, _ in lines)
        return "\n".join(f"{name:{width}}  {value}" for name, value in lines)


def _sort(finding: str) -> str:
    return finding.partition(": ")[2].partition(":")[0]


def _spread(values: list[float], unit: str) -> str:
    return f"{statistics.median(values):.2f} {unit} (median of {len(values)}), {max(values):.2f} {unit} at most"


class Round:
    """One start of the services, and the scans that they see."""

    def __init__(self, plan: Plan, number: int, tally: Tally, folder: Path) -> None:
        self.plan, self.number, self.tally = plan, number, tally
        self.random = Random(f"{plan.seed}/{number}")
        self.encoding = (Encoding.RAW, Encoding.BSLZ4)[number // 2 % 2]
        positions = (SocketKind.SUB, SocketKind.PULL)[number // 4 % 2]
        self.rig: Rig = (Apart, Together)[number % 2](folder, positions)
        self._patterns = [Patterns(plan.frames, seed, self.encoding) for seed in range(2)]
        self._faults: dict[str, list[Fault]] = {}
        self._kills: list[tuple[str, int]] = []
        """Scan id and time of kills of the reconstruction."""
        self._open: list[Sent] = []
        self._before: dict[str, int] = {}
        """Unrecorded frames when each scan began."""
        self._count = 0

    def __str__(self) -> str:
        form = "run" if isinstance(self.rig, Together) else "apart"
        return f"round {self.number}: {form}, {self.encoding}, positions {self.rig.positions_kind}"

    def run(self, most: int, say: Callable[[str], None], until_s: float) -> None:
        """Scans with at most `most` faults, none begun after `until_s`."""
        done = 0
        with self._services():
            for _ in range(self.plan.scans):
                count = min(self.random.randint(1, 2 * self.plan.faults - 1), most - done)
                if count < 1 or time.monotonic() >= until_s:
                    break
                faults = draw(self.random, count, self.plan.limits, self.rig.processes, self.rig.links)
                done += count
                self._scan(faults)
                say(f"{self}, {done} events: {'; '.join(map(str, faults))}")
                self._rest()
                self._scan([])

    @contextmanager
    def _services(self) -> Iterator[None]:
        """While all runs that is needed; at the end all scans are waited for."""
        rig, context = self.rig, new_context()
        try:
            with rig, Listener(context, rig.watched()) as self.listener:
                ends = rig.endpoints
                self.detector = Detector(context, ends["frames"], ends["positions"], rig.positions_kind)
                try:
                    self._wait(
                        lambda: self.listener.ready and self.detector.wait_for_peers(0.0), 90, "the services to begin"
                    )
                    yield
                    self._wait(lambda: not self._open, LATEST_S, "all scans to end")
                finally:
                    self.detector.close()
            for line in rig.died:
                self._find("died", line)
            if "Traceback" in rig.logs():
                self._find("died", "a traceback is in the log")
        finally:
            context.destroy(linger=0)
        self.tally.back_s += self.listener.back_s

    def _frames(self) -> int:
        return self.plan.frames

    def _rate(self) -> float:
        return self.random.choice(self.plan.rates_hz)

    def _scan(self, faults: list[Fault]) -> None:
        self._count += 1
        scan_id = f"c{self.number}-{self._count}"
        scan = Sent(
            scan_id,
            self._patterns[self._count % len(self._patterns)],
            self._frames(),
            self._rate(),
            planned=self.random.random() < 0.7,
        )
        self._faults[scan_id], self._before[scan_id] = faults, self.listener.unrecorded
        self._open.append(scan)
        self.detector.begin(scan)
        begun, waiting = time.monotonic(), list(faults)
        while self.detector.busy or waiting:
            while waiting and time.monotonic() >= begun + waiting[0].at * scan.seconds:
                self._apply(scan, waiting.pop(0))
            self._turn()
        self._after(scan)

    def _after(self, scan: Sent) -> None:
        if not self._faults[scan.scan_id]:
            self._wait(lambda: scan not in self._open, END_S, f"the end of {scan.scan_id}")

    def _apply(self, scan: Sent, fault: Fault) -> None:
        self.tally.faults[fault.kind.value] += 1
        if fault.kind is Kind.BURST:
            self.detector.burst()
            return
        delay_s = self.rig.apply(fault)
        if delay_s is None:
            self.listener.forgive()
            return
        if fault.target in SERVICES:
            self.listener.killed(fault.target, delay_s)
        if fault.target == "reconstruct":
            self._kills.append((scan.scan_id, time.time_ns()))

    def _rest(self) -> None:
        """Until no fault is under way and every service has said something since."""
        self._wait(lambda: self.rig.at_peace, 60, "every service to have a process")
        now_ns = time.time_ns()
        self._wait(
            lambda: min(self.listener.heard_ns.get(name, 0) for name in SERVICES) > now_ns and not self.detector.busy,
            60,
            "every service to speak",
        )

    def _turn(self) -> None:
        self.detector.turn()
        self.rig.look()
        self.listener.poll(STEP_S)
        for scan in self._open[:]:
            known = self.listener.known(scan.scan_id)
            written = known is not None and known.written
            unrecorded = not written and self._unrecorded(scan) >= scan.count
            if (written or unrecorded) and not (self.detector.busy and scan is self._open[-1]):
                self._open.remove(scan)
                for later in self._open if unrecorded else ():  # these frames were not theirs
                    self._before[later.scan_id] += scan.count
                self.tally.ends_s.append(max(time.monotonic() - scan.ended_s, 0.0))
                self._close(scan)

    def _wait(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        until = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > until:
                scans = bool(self._open)
                for scan in [scan for scan in self._open if self._swallowed(scan)]:
                    self._open.remove(scan)
                    self._find(SWALLOWED, f"{self._state(scan)}; {len(scan.frames)} frames")
                if not self._open and scans:
                    return
                states = "; ".join(filter(None, (self._state(scan) for scan in self._open)))
                self._find("never ended", f"waited {seconds:g} s in vain for {what}: {states}")
                self._open.clear()
                return
            self._turn()

    def _swallowed(self, scan: Sent) -> bool:
        """Whether a receiver was killed that may have had all of a scan in its sockets, and no writer has heard of it."""
        known = self.listener.known(scan.scan_id)
        killed = any(fault.kind is Kind.KILL and fault.target == "receive" for fault in self._felt(scan))
        return killed and (known is None or known.write is None) and not list(self.rig.files(scan.scan_id))

    def _unrecorded(self, scan: Sent) -> int:
        return self.listener.unrecorded - self._before[scan.scan_id]

    def _state(self, scan: Sent) -> str:
        known = self.listener.known(scan.scan_id)
        if known is None:
            return f"{scan.scan_id} is not known to anybody"
        statuses = (known.receive, known.lead.status, known.write)
        return f"{scan.scan_id}: " + ", ".join(
            f"{one.service} {one.state} {one.received}/{one.used}/{one.waiting}/{one.dropped}" for one in statuses if one
        )

    def _felt(self, scan: Sent) -> list[Fault]:
        """Faults that may have met a scan."""
        return self._faults[scan.scan_id]

    def _close(self, scan: Sent) -> None:
        faults, listener, tally = self._felt(scan), self.listener, self.tally
        known = listener.known(scan.scan_id)
        killed = {fault.target for fault in faults if fault.kind is Kind.KILL}
        paths, facts = list(self.rig.files(scan.scan_id)), known.facts() if known is not None else None
        moved = any(fault.kind is Kind.GONE for fault in faults)
        died = {"writer_died": "write" in killed, "receiver_died": "receive" in killed}
        verdict = judge(scan, paths, facts, self._unrecorded(scan), moved=moved, **died)
        tally.scans += 1
        tally.accepted += len(scan.frames)
        tally.in_files += verdict.frames
        tally.lost += verdict.lost
        if verdict.lost and not may_lose(faults):
            verdict.findings.append(f"needless loss: {verdict.lost} frames")
        if not faults and not (verdict.complete and verdict.frames == scan.count):
            verdict.findings.append(f"imperfect: {verdict.frames} of {scan.count}, {facts and facts.end}")
        self._pictures(scan, verdict)
        for finding in verdict.findings:
            sort, _, rest = finding.partition(": ")
            self._find(sort, f"{rest} [{scan.scan_id}, {scan.rate_hz:g}/s; {'; '.join(map(str, faults)) or 'no event'}]")

    def _pictures(self, scan: Sent, verdict: Verdict) -> None:
        for scan_id, killed_ns in [kill for kill in self._kills if kill[0] == scan.scan_id]:
            back_s = self.listener.picture_back(scan_id, killed_ns)
            if back_s is not None and math.isfinite(back_s):
                self.tally.pictures_s.append(back_s)
            elif back_s is not None:
                verdict.findings.append("worse picture: it was never again as good")

    def _find(self, sort: str, text: str) -> None:
        self.tally.findings.append(f"round {self.number}: {sort}: {text}")
        print(self.tally.findings[-1], file=sys.stderr, flush=True)


def campaign(
    plan: Plan, events: int, first: int, say: Callable[[str], None], *, keep: bool, seconds: float = math.inf
) -> Tally:
    """Rounds from number `first` on until there were so many events, or for so long."""
    tally, number, until_s = Tally(), first, time.monotonic() + seconds
    while tally.faults.total() < events and time.monotonic() < until_s:
        place, before = Path(tempfile.mkdtemp(prefix="chaos-")), len(tally.findings)
        try:
            Round(plan, number, tally, place).run(events - tally.faults.total(), say, until_s)
        finally:
            if not keep:
                shutil.rmtree(place, ignore_errors=True)
        late = [back for back in tally.back_s if back[1] > BACK_S]
        say(f"round {number} is over: {len(tally.findings) - before} findings, {len(late)} late so far; {place}")
        number += 1
    return tally
