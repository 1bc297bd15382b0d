"""The last status of scans that have just ended, said again: a display may miss a message."""

from collections.abc import Callable, Container

from streamptycho.messages import Status

REPEAT_S = 5.0
"""How long the last status of a scan is repeated."""


class LastWords:
    """Last status of each scan of the last seconds, by scan id."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._said: dict[str, tuple[float, Status]] = {}

    def add(self, status: Status) -> None:
        """Remember the last status of a scan."""
        if status.scan_id is not None:
            self._said.pop(status.scan_id, None)
            self._said[status.scan_id] = (self._clock(), status)

    def again(self, open_ids: Container[str]) -> list[Status]:
        """What is still repeated, oldest first; nothing about an id that is in use again."""
        since = self._clock() - REPEAT_S
        self._said = {scan_id: said for scan_id, said in self._said.items() if said[0] >= since}
        return [status for scan_id, (_, status) in self._said.items() if scan_id not in open_ids]
