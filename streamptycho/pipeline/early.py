"""Last words of a reconstruction on scans whose start has not come yet: a writer that was held up may lag by whole scans."""

from collections import deque
from typing import TypeAlias

from streamptycho.messages.kinds import Message
from streamptycho.messages.results import Assessment, Estimates, Snapshot
from streamptycho.messages.run import RunId
from streamptycho.messages.status import ReconstructStatus

MOST = 4
"""Scans of which they are kept; each may have a large picture."""

LastWord: TypeAlias = Snapshot | Assessment | Estimates | ReconstructStatus


class Early:
    """Keeps them until their scan begins. Pure."""

    def __init__(self) -> None:
        self._kept: dict[RunId, dict[str, LastWord]] = {}
        self._begun: deque[RunId] = deque(maxlen=1000)

    def keep(self, message: Message) -> int | None:
        """Keep a last word on a scan that has not begun; None if it is none, else how many were given up for it."""
        if not isinstance(message, LastWord) or not _is_last(message) or message.run is None or not message.run.started_ns:
            return None
        if message.run in self._begun:
            return None
        self._kept.setdefault(message.run, {})[message.kind] = message
        given_up = 0
        while len(self._kept) > MOST:
            given_up += len(self._kept.pop(next(iter(self._kept))))
        return given_up

    def begin(self, run: RunId) -> list[LastWord]:
        """What was kept of a scan, which begins now."""
        self._begun.append(run)
        return list(self._kept.pop(run, {}).values())


def _is_last(message: LastWord) -> bool:
    match message:
        case Estimates():
            return True
        case ReconstructStatus():
            return message.done
    return message.final
