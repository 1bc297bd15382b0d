"""Which run of which sender belongs to which scan."""

import string
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from streamptycho.compose.options import Role, ScanOptions
from streamptycho.messages.checks import MAX_SCAN_ID, Scalar
from streamptycho.messages.facts import Began, Ended, Frames, Samples, StartParts
from streamptycho.messages.stream import Frame, Positions, ScanEnd


@dataclass(eq=False)
class Run:
    """One sender's run, from its first fact on."""

    role: Role
    key: str
    """The sender's own name for it."""
    since_s: float
    parts: StartParts = field(default_factory=StartParts)
    in_middle: bool = False
    ours: bool = False
    """Its sender speaks our own dialect; the key is the scan id."""
    ended: Ended | None = None
    ended_s: float | None = None
    last_s: float = 0.0
    """When its last fact came."""
    taken: int = 0
    """Frames facts and the like so far."""
    scan: Any = None
    """The scan that it belongs to."""
    held: deque[Any] = field(default_factory=deque)
    """Facts that wait for a scan."""
    held_rows: int = 0
    held_bytes: int = 0

    @property
    def said(self) -> str:
        """Its name for people."""
        return f"run {self.key!r}" if self.key else "a run without a name"

    def begins_anew(self, fact: Began) -> bool:
        """Whether `fact` of this name begins another run, or tells of this one again."""
        mine, theirs = self.parts.started_ns, fact.parts.started_ns
        if fact.in_middle or (mine is not None and mine == theirs):
            return False
        different = mine is not None and theirs is not None
        return different or self.ended is not None or self.taken > 0

    def precedes(self, message: Positions | ScanEnd, scans: Sequence[Any]) -> bool:
        """Whether `message`, in our own dialect, is of another run of the id: all of this one has come, or its scan is over
        and one of that id waits for its own.
        """
        waits = any(s.scan_id == self.key and self.role not in s.runs and not s.closed for s in scans)
        if waits and self.scan is not None and self.scan.closed:
            return True
        if isinstance(message, ScanEnd) or self.ended is None or self.ended.count is None:
            return False
        if self.scan is None:
            return self.held_rows >= self.ended.count
        return bool(self.scan.closed or self.scan.placing.count >= self.ended.count)

    def is_of_another(self, end: ScanEnd) -> bool:
        """Whether an end in our own dialect is of another run of the id: only a start in that dialect can tell."""
        frames = self.scan.runs.get(Role.FRAMES) if self.scan is not None else None
        if frames is None or not frames.ours or self.scan.start is None:
            return False
        start = self.scan.start
        return bool(start.scan_id == end.scan_id and not end.run.may_be(start.run))

    def hold(self, fact: Any) -> None:
        """Keep a fact until there is a scan."""
        self.held.append(fact)
        self.held_rows += rows_of(fact)
        self.held_bytes += bytes_of(fact)

    def let_go(self) -> Any:
        """The oldest fact that waits."""
        fact = self.held.popleft()
        self.held_rows -= rows_of(fact)
        self.held_bytes -= bytes_of(fact)
        return fact


def rows_of(fact: Any) -> int:
    """What a fact counts against the limit of rows that wait."""
    return len(fact) if isinstance(fact, Samples | Positions) else 0


def bytes_of(fact: Any) -> int:
    """What a fact counts against the limit of frames that wait."""
    return fact.payload.nbytes + 1024 if isinstance(fact, Frames | Frame) else 0


class Joinable(Protocol):
    """What this module knows of a scan."""

    scan_id: str
    since_s: float

    @property
    def runs(self) -> dict[Role, Run]:
        """The runs in it."""
        ...

    @property
    def frames_come(self) -> int:
        """Frames of different index so far."""
        ...

    def positions_of(self, run: Run) -> int:
        """Positions that a run which has ended announces."""
        ...


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a run joins no scan yet."""

    reason: str
    text: str


def partner(run: Run, scans: Sequence[Any], rivals: Collection[Run], options: ScanOptions, now_s: float) -> Any | Refused:
    """The scan that `run` joins, or why it joins none.

    Parameters
    ----------
    scans : those that have no run of this role, as :class:`Joinable`.
    rivals : other runs of the role that wait for a scan.
    """
    if run.ours and options.pairing == "auto":  # two senders that name the scan in our own dialect mean it
        scans = [s for s in scans if s.scan_id == run.key or not any(other.ours for other in s.runs.values())]
    names = ", ".join(repr(scan.scan_id) for scan in scans)
    if not scans:
        return Refused("alone", f"{run.role.value} come under {run.said}, and no scan waits for any")
    if options.pairing == "field":
        value = _value(run, options.pairing_field)
        same = [s for s in scans if value in {_value(r, options.pairing_field) for r in s.runs.values()}]
        if len(same) == 1:
            return same[0]
        what = f"{options.pairing_field} = {value!r}, as {len(same)} of the scans {names}"
        text = f"{run.role.value} come under {run.said} with {what}"
        return Refused("field", f"{text}; correct scan.pairing_field, or what the senders put there")
    if options.pairing in ("auto", "same-id") and run.key:
        same = [s for s in scans if run.key == s.scan_id or run.key in {r.key for r in s.runs.values()}]
        if len(same) == 1:
            return same[0]
    if options.pairing == "same-id":
        text = f"{run.role.value} come under {run.said}, the scans that wait are {names}"
        return Refused("same-id", f"{text}: set scan.pairing = 'open-scan' if they belong together")
    return _in_time(run, scans, rivals, options, now_s)


def _in_time(run: Run, scans: Sequence[Any], rivals: Collection[Run], options: ScanOptions, now_s: float) -> Any | Refused:
    """The scan that goes on at the same time, if there is only one, and only one run for it."""
    near = [s for s in scans if _near(run, s, options.pairing_window_s)]
    beside = [s for s in near if _overlap(run, s)]
    names = ", ".join(repr(scan.scan_id) for scan in beside or near or scans)
    who = f"{run.role.value} come under {run.said}"
    if not near:
        text = f"{who}, which began more than {options.pairing_window_s:g} s before or after {names}"
        return Refused("window", f"{text}: set scan.pairing_window_s if they belong together")
    if not beside:
        # the run may as well be early, for a scan that has not begun
        if len(near) == 1 and not rivals:
            counts = run.ended is not None and near[0].positions_of(run) == near[0].frames_come > 0
            late = options.pairing == "open-scan" and now_s - run.since_s >= options.partner_s
            if counts or late:
                return near[0]
        text = f"{who}, which was not under way at the same time as {names}"
        return Refused("apart", f"{text}: set scan.pairing = 'open-scan' if they belong together")
    others = [
        rival for rival in rivals if any(_near(rival, s, options.pairing_window_s) and _overlap(rival, s) for s in beside)
    ]
    if len(beside) == 1 and not others:
        return beside[0]
    if others:
        both = " and ".join([run.said, *(rival.said for rival in others)])
        text = f"{run.role.value} come under {both}, and scan {names} could be of either"
    else:
        text = f"{who}, and could be of any of the scans {names}"
    return Refused("ambiguous", f"{text}: let the senders give the same name, or set scan.pairing = 'field'")


def _near(run: Run, scan: Joinable, window_s: float) -> bool:
    return run.in_middle or abs(run.since_s - scan.since_s) <= window_s or _resumed(scan)


def _resumed(scan: Joinable) -> bool:
    return all(run.in_middle for run in scan.runs.values())


def _overlap(run: Run, scan: Joinable) -> bool:
    ended = [other.ended_s for other in scan.runs.values() if other.ended_s is not None]
    over_before = len(ended) == len(scan.runs) and max(ended, default=run.since_s) < run.since_s
    return not over_before and (run.ended_s is None or run.ended_s >= scan.since_s)


def _value(run: Run, name: str) -> str:
    return str(run.parts.metadata.get(name, run.key))


_KINDS = {Role.FRAMES: "series", Role.POSITIONS: "run", Role.DOCUMENTS: "scan"}


def nameless(run: Run, template: str) -> str:
    """Why a scan cannot be named by the template; empty if it can."""
    names = [key for _, key, _, _ in string.Formatter().parse(template) if key]
    unknown = [name for name in names if name not in ("run", "started") and name not in run.parts.metadata]
    return (
        f"scan.name: nobody has said {', '.join(unknown)} when the scan began, so it is named otherwise" if unknown else ""
    )


def scan_name(run: Run, started_ns: int, template: str, taken: Collection[str]) -> str:
    """A scan id for a leader's run: readable, fit for a file name, and not among `taken`.

    By the template if the run has a value for each of its names, else as without one.
    """
    started = datetime.fromtimestamp(started_ns // 1_000_000_000, UTC).strftime("%Y%m%d-%H%M%S")
    told = run.parts.metadata
    if template and not nameless(run, template):
        known: dict[str, Scalar] = {**told, "run": run.key, "started": started}
        name = "".join(text + str(known[key] if key else "") for text, key, _, _ in string.Formatter().parse(template))
    else:
        key = str(told.get("scan_id", run.key)) if run.role is Role.DOCUMENTS else run.key
        name = f"{_KINDS[run.role]}-{key or started}" if key.isdecimal() or not key else key
    name = "".join(c if c.isprintable() and c not in "/\\ " else "_" for c in name).lstrip(".")
    name = _short(name, MAX_SCAN_ID - 4) or f"{_KINDS[run.role]}-{started}"
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}-{number}"
    return free


def _short(text: str, size: int) -> str:
    return text.encode(errors="replace")[:size].decode(errors="ignore")
