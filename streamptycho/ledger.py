"""Where every frame went: received = used + waiting + dropped(reason), across services, at any time."""

from collections import Counter
from dataclasses import dataclass, field

from streamptycho.messages import Status


@dataclass(frozen=True, slots=True)
class Ledger:
    """Frames of one scan, by what became of them."""

    received: int = 0
    """Arrived at the receiver, duplicates and unusable ones included."""
    used: int = 0
    """Part of the reconstruction."""
    waiting: int = 0
    """On their way: held for a position, in a queue, or with the engine but not yet used."""
    dropped: dict[str, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, object]:
        """Plain numbers for JSON."""
        return {"received": self.received, "used": self.used, "waiting": self.waiting, "dropped": dict(self.dropped)}


def not_written(write: Status | None) -> str | None:
    """What the writer has not put into the file, in words; None if it says that all is there."""
    if write is None:
        return None
    lost = write.received - write.used - write.waiting
    parts = [f"{lost} of {write.received} frames not written ({_reasons(write.dropped)})"] if lost else []
    parts += [write.notes["error"]] if "error" in write.notes else []
    return "; ".join(parts) or None


def _reasons(dropped: dict[str, int]) -> str:
    return ", ".join(f"{n} {reason}" for reason, n in sorted(dropped.items()) if n)


def combine(receive: Status | None, reconstruct: Status | None) -> Ledger:
    """One ledger from the latest word of both services.

    What the receiver has taken in and the engine has not yet used or dropped is waiting. If the engine's word is the newer
    one, the receiver's count is brought up to it.
    """
    dropped: Counter[str] = Counter()
    for status in (receive, reconstruct):
        if status is not None:
            dropped.update(status.dropped)
    lost_before = sum(receive.dropped.values()) if receive else 0
    taken = reconstruct.received if reconstruct else 0
    received = max(receive.received if receive else 0, taken + lost_before)
    used = reconstruct.used if reconstruct else 0
    return Ledger(received=received, used=used, waiting=received - used - dropped.total(), dropped=dict(dropped))
