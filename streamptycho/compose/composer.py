"""Scans from what several senders say: facts in, our own messages out. Pure: the time is passed.

One endpoint leads (`scan.leader`): each of its runs becomes a scan, which the runs of the others join. Every frame of a
fact ends in exactly one frame message or in an error that counts it.

Usage::

    composer = Composer(ScanOptions(), foreign={Role.FRAMES})
    for message in composer.take(Role.FRAMES, fact, now_s):   # also of composer.tick(now_s), now and then
        stage.handle(message)                                 # ScanStart, Frame, Positions, ScanEnd or ProtocolError
    for finding in composer.fresh():
        log.warning("%s", finding)
"""

import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, TypeAlias, cast, get_args

import numpy as np

from streamptycho.compose.findings import Finding, Findings
from streamptycho.compose.identity import Refused, Run, bytes_of, nameless, partner, scan_name
from streamptycho.compose.late import Late
from streamptycho.compose.options import Role, ScanOptions
from streamptycho.compose.runs import Runs
from streamptycho.compose.scan import Scan
from streamptycho.compose.start import FIRST_FRAME, RUN_KEY, parts_of
from streamptycho.compose.watch import Watch
from streamptycho.errors import GrammarError, ProtocolError
from streamptycho.messages.facts import Began, Ended, Fact, ForeignFact, Learned, StartParts, Stored
from streamptycho.messages.kinds import Message
from streamptycho.messages.reasons import Stream
from streamptycho.messages.run import RunId
from streamptycho.messages.stream import Frame, Positions, Resume, ScanEnd, ScanStart

Composed: TypeAlias = Message | ProtocolError
_FOREIGN = get_args(ForeignFact)
_OURS = (Frame, Positions, ScanStart, ScanEnd)
_MOST_SCANS = 32
"""Scans that are put together at once; beyond it the oldest takes nothing more."""
_SILENT_S = 600.0
"""Silence after which a run that has joined no scan is given up."""


class Composer:
    """Makes scans of the facts of several endpoints.

    Parameters
    ----------
    options : how runs are paired, rows are counted, and what senders leave out.
    foreign : roles whose endpoint is not in our own dialect. While there is none, messages are passed on as they are, and
        only looked at for what people should be told.
    wall_ns : clock for the beginning of a run whose sender has none, ns since the Unix epoch.
    """

    def __init__(
        self, options: ScanOptions, foreign: Collection[Role] = (), wall_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self._options = options
        self._foreign = set(foreign)
        self._wall_ns = wall_ns
        self._findings = Findings()
        self._late = Late(self._findings)
        self._runs = {role: Runs(role) for role in Role}
        self._scans: list[Scan] = []
        self.watch = Watch(self._findings, options.partner_s)
        """Its `refusals` tell of which endpoints nothing is understood."""

    def take(self, role: Role, fact: Fact, now_s: float) -> Iterable[Composed]:
        """What follows from a fact of the endpoint of this role; `now_s` is a monotonic clock, seconds.

        Errors are passed on. Consume the result before the next call.
        """
        if isinstance(fact, ProtocolError):
            self.watch.refused(role, fact, self._scans[-1].scan_id if self._scans else None)
            return (fact,)
        self.watch.refusals.understood(role)
        if isinstance(fact, _OURS):
            if self._plain:
                self.watch.note(fact, now_s)
                return (fact,)
            return self._take_ours(role, fact, now_s)
        if isinstance(fact, _FOREIGN):
            self._foreign.add(role)
            return self._take_foreign(role, fact, now_s)
        return (cast("Composed", fact),)

    def tick(self, now_s: float) -> Iterable[Composed]:
        """What follows from nothing having come: deadlines, ends that are due. Call it a few times per second."""
        if self._plain:
            self.watch.tick(now_s)
            return
        for scan in list(self._scans):
            yield from scan.advance(now_s)
            self._look_for_partner(scan, now_s)
        yield from self._settle(now_s)
        yield from self._give_up(now_s)
        self._late.tick(now_s)
        self._scans = [scan for scan in self._scans if not scan.closed]

    def finish(self, now_s: float) -> Iterable[Composed]:
        """What is still held, at the end of the receiver: frames go out, whatever else of their scan is not known."""
        for run in list(self._runs[Role.FRAMES].waiting):
            yield from self._open(run, now_s)
        for scan in list(self._scans):
            scan.hurry()
            yield from scan.advance(now_s)
            yield from scan.close()
        yield from self._give_up(math.inf)
        self._late.tick(math.inf)
        self._scans = []

    def closed(self, run: RunId) -> Iterable[Composed]:
        """The join has closed a run of a scan: what comes of it from now on is too late."""
        self.watch.closed(run)
        for scan in [scan for scan in self._scans if scan.start is not None and scan.start.run == run]:
            self._scans.remove(scan)
            yield from scan.close()

    def resume(self, messages: Iterable[Message]) -> None:
        """Know the scans that the writer holds open from a receiver before this one, so that their runs go on in them.

        `messages` as :meth:`ReceiveStage.resume` gets them: starts, each with its :class:`Resume`. Call it before the first
        fact.
        """
        start = None
        for message in messages:
            if isinstance(message, ScanStart):
                start = message
            elif isinstance(message, Resume) and start is not None and message.run == start.run:
                self.watch.resume(start)
                self._resume(start, message)

    def findings(self) -> tuple[Finding, ...]:
        """What people should know, each once for a scan and reason, oldest first."""
        return self._findings.all

    def fresh(self) -> list[Finding]:
        """Findings since the last call, for the log."""
        return self._findings.fresh()

    @property
    def _plain(self) -> bool:
        return not self._foreign and self._options.pairing in ("auto", "same-id")

    def _resume(self, start: ScanStart, held: Resume) -> None:
        keys = {role: start.metadata.get(f"{RUN_KEY}{role.value}") for role in Role}
        runs = [Run(role=role, key=str(key), since_s=-math.inf) for role, key in keys.items() if key is not None]
        runs = runs or [Run(role=Role.FRAMES, key=start.scan_id, since_s=-math.inf, ours=True)]
        leader = next((run for run in runs if run.role is self._options.leader), runs[0])
        scan = Scan(leader, start.scan_id, start.started_ns, self._options, self._findings.say, start=start)
        for run in runs:
            run.in_middle, run.taken = True, 1
            scan.attach(run)
            self._runs[run.role].add(run)
        first = start.metadata.get(FIRST_FRAME)
        scan.numbers.resume(np.flatnonzero(held.frames), first if isinstance(first, int) else None)
        if held.index is not None:
            scan.placing.rows.placed.add_all(held.index)
        self._scans.append(scan)

    # runs

    def _take_foreign(self, role: Role, fact: ForeignFact, now_s: float) -> Iterator[Composed]:
        runs = self._runs[role]
        if isinstance(fact, Stored):
            text = f"rows in a file, from {role.value}: its source has to read them"
            yield GrammarError("stored", text, reason="unplaced")
            return
        if isinstance(fact, Began):
            yield from self._began(role, fact, now_s)
            return
        run = runs.of(fact.run)
        if run is None:
            yield from self._began(role, Began(run=fact.run, in_middle=True), now_s)
            run = runs.of(fact.run)
        if run is None:
            return
        run.last_s = now_s
        if isinstance(fact, Learned):
            run.parts = fact.parts.over(run.parts)
        elif isinstance(fact, Ended):
            run.ended, run.ended_s = (fact, now_s) if run.ended is None else (run.ended, run.ended_s)
        else:
            yield from self._give(run, fact, now_s)
            return
        if run.scan is not None:
            yield from run.scan.advance(now_s)
        yield from self._settle(now_s)

    def _take_ours(self, role: Role, message: Any, now_s: float) -> Iterator[Composed]:
        """A message in our own dialect beside a sender that does not speak it: its scan id names its run."""
        start = message if isinstance(message, ScanStart) else None
        if start is None:
            end = isinstance(message, ScanEnd)
            placed = isinstance(message, Positions) or (end and message.stream is Stream.POSITIONS)
            role = Role.POSITIONS if placed else Role.FRAMES
        elif Role.FRAMES not in self._foreign:  # whichever stream brings it
            role = Role.FRAMES
        run = self._runs[role].of(message.scan_id)
        anew = run is None or (role is Role.POSITIONS and start is None and run.precedes(message, self._scans))
        if start is not None or anew:
            parts = StartParts() if start is None else parts_of(start)
            began = Began(run=message.scan_id, parts=parts, in_middle=isinstance(message, Frame))
            yield from self._began(role, began, now_s, ours=True)
            run = self._runs[role].of(message.scan_id)
        if run is None or (start is not None and role is not Role.FRAMES):
            return
        run.last_s = now_s
        if isinstance(message, ScanEnd):
            if run.is_of_another(message):
                yield message  # the join counts it
                return
            run.ended = Ended(run=message.scan_id, reason=message.reason, count=message.count)
            run.ended_s = now_s
            if role is Role.POSITIONS:
                if run.scan is not None:
                    yield from run.scan.advance(now_s)
                yield from self._settle(now_s)
                return
        yield from self._give(run, message, now_s)

    def _began(self, role: Role, fact: Began, now_s: float, *, ours: bool = False) -> Iterator[Composed]:
        """A run has begun, or is told of again."""
        runs = self._runs[role]
        known = runs.of(fact.run)
        if known is not None and not known.begins_anew(fact):
            known.parts, known.last_s = fact.parts.over(known.parts), now_s
            if known.scan is not None:
                yield from known.scan.advance(now_s)
            return
        run = Run(role=role, key=fact.run, since_s=now_s, parts=fact.parts, in_middle=fact.in_middle, last_s=now_s)
        run.ours = ours
        gone = runs.add(run)
        if gone is not None:
            yield from self._drop(gone)
        if role is self._options.leader:
            lacking = [scan for scan in self._scans if role not in scan.runs and not scan.closed]
            found = partner(run, lacking, (), self._options, now_s) if lacking else None
            if isinstance(found, Scan):
                yield from self._join(run, found, now_s)
            else:
                yield from self._open(run, now_s)
        yield from self._settle(now_s)

    def _give(self, run: Run, fact: Any, now_s: float) -> Iterator[Composed]:
        """Frames, positions, or anything of our own dialect."""
        run.taken += 1
        scan = run.scan
        if scan is None:
            run.hold(fact)
            yield from self._bound(run, now_s)
        elif scan.closed:
            yield self._late.take(run, scan, fact, now_s)
        else:
            yield from scan.take(run, fact, now_s)
            if scan.held_bytes:
                yield from self._bound(run, now_s)

    def _bound(self, run: Run, now_s: float) -> Iterator[Composed]:
        """Hold no more than is allowed: frames go out without waiting any longer, samples are dropped."""
        while run.scan is None and run.held_rows > self._options.max_held_rows:
            run.let_go()
            text = f"{run.role.value} of {run.said} wait for a scan, more than scan.max_held_rows; the oldest are not used"
            self._findings.say(run.said, "max_held_rows", text)
            yield GrammarError("scan.max_held_rows", text, reason="unpaired")
        waiting = list(self._runs[Role.FRAMES].waiting)
        held = sum(scan.held_bytes for scan in self._scans) + sum(other.held_bytes for other in waiting)
        if held <= self._options.max_held_bytes:
            return
        for other in waiting:
            yield from self._open(other, now_s)
        for scan in [scan for scan in self._scans if scan.held_bytes]:
            scan.hurry()
            yield from scan.advance(now_s)

    # scans

    def _open(self, run: Run, now_s: float) -> Iterator[Composed]:
        """A scan of its own for a run."""
        started_ns = run.parts.started_ns or self._wall_ns()
        taken = {scan.scan_id for scan in self._scans}
        scan_id = run.key if run.ours else scan_name(run, started_ns, self._options.name, taken)
        self._findings.forget(scan_id)
        scan = Scan(run, scan_id, started_ns, self._options, self._findings.say)
        scan.documents = Role.DOCUMENTS in self._foreign and run.role is not Role.DOCUMENTS
        if not run.ours and (doubt := nameless(run, self._options.name)):
            self._findings.say(scan_id, "name", doubt)
        self._scans.append(scan)
        while len(self._scans) > _MOST_SCANS:
            oldest = self._scans.pop(0)
            oldest.hurry()
            yield from oldest.advance(now_s)
            yield from oldest.close()
        yield from self._join(run, scan, now_s)

    def _join(self, run: Run, scan: Scan, now_s: float) -> Iterator[Composed]:
        scan.attach(run)
        self._runs[run.role].waiting.pop(run, None)
        while run.held:
            yield from scan.take(run, run.let_go(), now_s)
        yield from scan.advance(now_s)

    def _settle(self, now_s: float) -> Iterator[Composed]:
        """Let runs join that can; say of the others why they cannot."""
        for runs in self._runs.values():
            for run in list(runs.waiting):
                lacking = [scan for scan in self._scans if run.role not in scan.runs and not scan.closed]
                rivals = [other for other in runs.waiting if other is not run]
                found = partner(run, lacking, rivals, self._options, now_s)
                if not isinstance(found, Refused):
                    yield from self._join(run, found, now_s)
                elif now_s - run.since_s >= self._options.partner_s and (run.taken or run.ended):
                    self._findings.say(run.said, found.reason, found.text)
                late = now_s - run.since_s >= self._options.start_deadline_s
                if late and run.scan is None and run.role is Role.FRAMES and run.held:
                    yield from self._open(run, now_s)

    def _look_for_partner(self, scan: Scan, now_s: float) -> None:
        first_s, role = scan.first_s, self._options.positions_from
        if first_s is None or role in scan.runs or scan.brings_positions or now_s - first_s < self._options.partner_s:
            return
        others = [run.said for run in self._runs[role].waiting]
        text = f"no positions come for it: {self.watch.refusals.because_of(role)}"
        if others:
            mine = " and ".join(run.said for run in scan.runs.values())
            text = f"positions come under {', '.join(others)}, frames under {mine}: join them by scan.pairing = 'open-scan'"
        self._findings.say(scan.scan_id, "alone", text)

    def _give_up(self, now_s: float) -> Iterator[Composed]:
        """Runs that will join no scan any more."""
        for runs in self._runs.values():
            for run in list(runs.waiting):
                over = (
                    run.ended_s is not None
                    and now_s - run.ended_s > self._options.pairing_window_s + self._options.partner_s
                )
                if run.role is not Role.FRAMES and (over or now_s - run.last_s > _SILENT_S):
                    yield from self._drop(run)

    def _drop(self, run: Run) -> Iterator[Composed]:
        """Give a run up that has joined no scan; each fact that waited is counted."""
        waited, run.held_bytes, run.held_rows = list(run.held), 0, 0
        run.held.clear()
        self._runs[run.role].remove(run)
        text = f"{run.role.value} of {run.said} have joined no scan"
        for fact in waited:
            frames = len(fact) if bytes_of(fact) else 0
            yield GrammarError("scan.pairing", text, frames=frames, reason="unpaired")
