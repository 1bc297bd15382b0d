"""Counts of what was really sent, dropped or corrupted: the other half of an exact ledger test."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from streamptycho.messages.kinds import Message
from streamptycho.messages.reasons import Stream
from streamptycho.messages.stream import Frame, Positions, ScanEnd, ScanStart
from streamptycho.wire.codec import Part
from streamptycho_sim.stream import Raw


@dataclass(slots=True)
class ScanTally:
    """Frames and positions of one scan, by index."""

    frames: set[int] = field(default_factory=set)
    """Frames sent intact at least once."""
    positions: set[int] = field(default_factory=set)
    """Positions sent at least once."""
    dropped_frames: set[int] = field(default_factory=set)
    """Frames not sent, on purpose."""
    dropped_positions: set[int] = field(default_factory=set)
    """Positions not sent, on purpose."""
    corrupted: set[int] = field(default_factory=set)
    """Frames sent with corrupt bytes, and never intact."""
    duplicate_frames: int = 0
    """Further intact copies of frames."""
    duplicate_positions: int = 0
    """Further copies of positions."""
    darks: int = 0
    """Exposures without beam."""
    expected: int | None = None
    """Frames announced."""
    ended: set[Stream] = field(default_factory=set)
    """Streams whose end was sent."""

    def count(self, stream: Stream) -> int:
        """Frames or positions produced so far, lost ones included."""
        if stream is Stream.FRAMES:
            return len(self.frames | self.dropped_frames | self.corrupted)
        return len(self.positions | self.dropped_positions)

    def as_dict(self) -> dict[str, int]:
        """Numbers only; ``matched`` frames were sent intact and with a position."""
        return {
            "frames": len(self.frames),
            "positions": len(self.positions),
            "matched": len(self.frames & self.positions),
            "dropped_frames": len(self.dropped_frames),
            "dropped_positions": len(self.dropped_positions),
            "corrupted_frames": len(self.corrupted),
            "duplicate_frames": self.duplicate_frames,
            "duplicate_positions": self.duplicate_positions,
            "darks": self.darks,
            "ends": len(self.ended),
        }


@dataclass(slots=True)
class Tally:
    """Everything one publisher sent."""

    scans: dict[str, ScanTally] = field(default_factory=dict)
    """Scan id to its tally, in the order of appearance."""
    garbage: int = 0
    """Meaningless messages."""
    messages: int = 0
    """All messages sent."""
    sent_bytes: int = 0
    """Their size."""
    seconds: float = 0.0
    """From the first message to the last."""
    late_s: float = 0.0
    """Worst delay of a message against its deadline; large if frames cannot be made or accepted at the given rate."""
    stopped: bool = False
    """Ended early on request."""

    def of(self, scan_id: str) -> ScanTally:
        """Tally of a scan."""
        return self.scans.setdefault(scan_id, ScanTally())

    @property
    def exposures(self) -> int:
        """Frames sent in any state, darks and duplicates included."""
        return sum(len(s.frames) + s.duplicate_frames + len(s.corrupted) + s.darks for s in self.scans.values())

    def sent(self, message: Message | Raw, parts: Sequence[Part]) -> None:
        """Count a message that was sent."""
        self.messages += 1
        self.sent_bytes += sum(len(part) for part in parts)
        match message:
            case Raw(scan_id=str(scan_id), index=int(index)):
                self.of(scan_id).corrupted.add(index)
            case Raw():
                self.garbage += 1
            case ScanStart():
                self.of(message.scan_id).expected = message.expected
            case Frame(dark=True):
                self.of(message.scan_id).darks += len(message)
            case Frame():
                scan, index_set = self.of(message.scan_id), set(message.index.tolist())
                scan.duplicate_frames += len(index_set & scan.frames)
                scan.frames |= index_set
                if message.taken_yx_m is not None:
                    self._placed(scan, index_set)
            case Positions():
                self._placed(self.of(message.scan_id), set(message.index.tolist()))
            case ScanEnd():
                self.of(message.scan_id).ended.add(message.stream)

    def _placed(self, scan: ScanTally, indices: set[int]) -> None:
        scan.duplicate_positions += len(indices & scan.positions)
        scan.positions |= indices

    def dropped(self, message: Frame | Positions) -> None:
        """Count a message that is dropped."""
        scan = self.of(message.scan_id)
        (scan.dropped_frames if isinstance(message, Frame) else scan.dropped_positions).update(message.index.tolist())

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers for a JSON file."""
        return {
            "scans": {scan_id: scan.as_dict() for scan_id, scan in self.scans.items()},
            "garbage": self.garbage,
            "messages": self.messages,
            "bytes": self.sent_bytes,
            "seconds": self.seconds,
            "late_s": self.late_s,
            "stopped": self.stopped,
        }
