"""Where every frame went: received = used + waiting + dropped(reason), across services, at any time; and what is missing."""

from collections import Counter
from dataclasses import dataclass, field

from streamptycho.messages.status import ReceiveStatus, ReconstructStatus, WriteStatus


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


@dataclass(frozen=True, slots=True)
class Missing:
    """What of a scan is not where it should be: None where not known, which ends with the scan."""

    frames: int | None = None
    """Planned, announced or skipped ones that never came, and those that came and are not in the file."""
    positions: int | None = None
    gaps: int | None = None
    """Indices below the largest one for which no frame came; they are among the frames."""

    def __bool__(self) -> bool:
        return bool(self.frames or self.positions)

    def __str__(self) -> str:
        parts = [f"{n} {name}{'s' * (n > 1)}" for name, n in (("frame", self.frames), ("position", self.positions)) if n]
        return f"{' and '.join(parts)} missing" if parts else ""


def missing(receive: ReceiveStatus | None, kept: tuple[int, int] | None, expected: int | None = None) -> Missing:
    """What is missing, by the newest status of the receiver.

    Parameters
    ----------
    kept : frames and positions in the closed file; None while it is open, when only the receiver's losses count.
    expected : frames planned: of a receiver that has not said that it is done they count, beside what it had.
    """
    gaps = receive.gaps if receive is not None else None
    if kept is None and not (receive is not None and receive.done):
        return Missing(gaps=gaps)
    frames = positions = 0
    never: int | None = None
    never_positions: int | None = None
    if receive is not None:
        frames, never = receive.unique, receive.missing
        positions, never_positions = receive.positions, receive.missing_positions
    if never is None and expected is not None:
        never = max(expected - max(frames, kept[0] if kept is not None else 0), 0)
    if kept is None:
        return Missing(never, never_positions, gaps)
    return Missing(_sum(never, frames - kept[0]), _sum(never_positions, positions - kept[1]), gaps)


def _sum(never_came: int | None, not_written: int) -> int | None:
    """Both together; what is not written is missing also where it is not known what never came."""
    return None if never_came is None and not_written <= 0 else (never_came or 0) + max(not_written, 0)


def not_written(write: WriteStatus | None) -> str | None:
    """What the writer has not put into the file, in words; None if it says that all is there."""
    if write is None:
        return None
    lost = write.received - write.used - write.waiting
    reasons = ", ".join(f"{n} {reason}" for reason, n in sorted(write.dropped.items()) if n)
    parts = [f"{lost} of {write.received} frames not written ({reasons})"] if lost else []
    parts += [text for text in (write.failure, write.trouble) if text]
    return "; ".join(parts) or None


def combine(receive: ReceiveStatus | None, reconstruct: ReconstructStatus | None, used: int | None = None) -> Ledger:
    """One ledger from the newest statuses of both services, and the frames `used` in a picture that is newer than both.

    What the receiver has taken in and the engine has not yet used or dropped is waiting. If the engine's status is the newer
    one, the receiver's count is brought up to it.
    """
    dropped: Counter[str] = Counter()
    for status in (receive, reconstruct):
        if status is not None:
            dropped.update(status.dropped)
    found = 0
    if receive is not None and reconstruct is not None and receive.done:
        # of what the receiver had to drop, a reconstruction that was started again has found some in the file
        found = min(dropped["engine_full"], max(reconstruct.received - receive.used, 0))
        dropped -= Counter({"engine_full": found})
    lost_before = sum(receive.dropped.values()) - found if receive else 0
    taken = reconstruct.received if reconstruct else 0
    if used is None:
        used = reconstruct.used if reconstruct else 0
    received = max(receive.received if receive else 0, taken + lost_before, used + dropped.total())
    return Ledger(received=received, used=used, waiting=received - used - dropped.total(), dropped=dict(dropped))
