"""The count of what is dropped without being a frame of an open scan."""

from collections import Counter

MOST = (1 << 63) - 1
"""Largest number that a status can tell; counts that a sender announces may add up to more."""


class Rejected(Counter[str]):
    """Reason to number of messages; :attr:`latest` has the scan id that the newest of each reason names."""

    def __init__(self) -> None:
        super().__init__()
        self.latest: dict[str, str | None] = {}

    def add(self, reason: str, scan_id: str | None = None, count: int = 1) -> None:
        """Count `count` messages that name `scan_id`; None where they name none."""
        if count:
            self[reason] = min(self[reason] + count, MOST)
            self.latest[reason] = scan_id
