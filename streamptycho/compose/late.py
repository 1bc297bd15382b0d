"""What comes after the end of its scan: counted at once, and said once, with how much it was."""

import math
from dataclasses import dataclass
from typing import Any

from streamptycho.compose.findings import Findings
from streamptycho.compose.identity import Run
from streamptycho.errors import GrammarError
from streamptycho.messages.facts import Frames
from streamptycho.messages.stream import Frame

_QUIET_S, _LONGEST_S = 2.0, 10.0
"""Silence after which no more is expected, and time after which what has come so far is said whatever comes."""


@dataclass(slots=True)
class _Count:
    """What has come late of one run."""

    said: str
    planned: int | None
    since_s: float
    last_s: float
    count: int = 0


class Late:
    """Counts frames and positions of runs whose scan is over."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._counts: dict[tuple[str, str], _Count] = {}

    def take(self, run: Run, scan: Any, fact: Any, now_s: float) -> GrammarError:
        """The error that counts a fact of `run`, whose `scan` is closed."""
        planned = scan.start.expected if scan.start is not None else None
        key = scan.scan_id, run.role.value
        late = self._counts.setdefault(key, _Count(run.said, planned, now_s, now_s))
        late.last_s, late.count = now_s, late.count + (len(fact) if hasattr(fact, "__len__") else 0)
        frames = len(fact) if isinstance(fact, Frames | Frame) else 0
        text = f"{run.role.value} of {run.said} come after the end of scan {scan.scan_id}"
        return GrammarError("scan.late", text, scan_id=scan.scan_id, frames=frames, reason="stray")

    def tick(self, now_s: float) -> None:
        """Say what has come, once no more does; `now_s` infinite: now."""
        for (scan_id, role), late in list(self._counts.items()):
            if now_s - late.last_s < _QUIET_S and now_s - late.since_s < _LONGEST_S and not math.isinf(now_s):
                continue
            del self._counts[scan_id, role]
            told = late.planned is not None and role == "frames"
            after = f"the {late.planned} that were announced, with which its scan ended" if told else "the end of its scan"
            remedy = "; correct that number at its sender, or set scan.expected" if told else ""
            text = f"{late.count} {role} of {late.said} came after {after}: they are counted and in no file{remedy}"
            self._findings.say(scan_id, f"late {role}", text)
