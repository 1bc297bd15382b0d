"""What people should know of how a scan was put together: said once for each scan and reason."""

from collections import OrderedDict
from dataclasses import dataclass

_KEPT = 500
"""Findings that are remembered; the oldest goes."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One statement about one scan."""

    scan: str
    """Scan id or, of a run that has joined none, the sender's name for it."""
    reason: str
    """A word for the sort of statement."""
    text: str
    """What was found, the likely cause, and the setting that answers."""

    def __str__(self) -> str:
        return f"{self.scan}: {self.text}"


class Findings:
    """The statements so far."""

    def __init__(self) -> None:
        self._said: OrderedDict[tuple[str, str], Finding] = OrderedDict()
        self._fresh: list[Finding] = []

    def say(self, scan: str, reason: str, text: str) -> bool:
        """Say something of a scan; False if something was said before for this reason."""
        if (scan, reason) in self._said:
            return False
        finding = self._said[scan, reason] = Finding(scan, reason, text)
        self._fresh = [*self._fresh[-_KEPT:], finding]
        while len(self._said) > _KEPT:
            self._said.popitem(last=False)
        return True

    def forget(self, scan: str) -> None:
        """Say everything of a scan id again: another run of it begins."""
        for key in [key for key in self._said if key[0] == scan]:
            del self._said[key]

    @property
    def all(self) -> tuple[Finding, ...]:
        """All that are remembered, oldest first."""
        return tuple(self._said.values())

    def fresh(self) -> list[Finding]:
        """Those since the last call."""
        fresh, self._fresh = self._fresh, []
        return fresh
