"""What a stream has carried while it was listened to."""

from collections import Counter
from typing import Any

from streamptycho.errors import BEGAN_BEFORE, CodecError, ProtocolError
from streamptycho.messages.facts import Began, Ended, Fact, Frames, Learned, Remark, Samples, StartParts
from streamptycho.messages.geometry import HC_EV_M
from streamptycho.messages.payload import Payload
from streamptycho.messages.stream import Frame, Positions, ScanEnd, ScanStart

PIXELS_S = 0.1
"""Time between two frames whose pixels are decoded: a fast stream is to be counted, not decompressed."""
MAX_DOUBTS = 20
BEFORE = "began before"


class Found:
    """Counts, rates, gaps and what was announced; of the facts the newest of each."""

    def __init__(self) -> None:
        self.kinds: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.began_before = False
        """Whether there was something of a run whose beginning was missed."""
        self.facts: dict[str, Any] = {}
        self._first: dict[str, tuple[float, int]] = {}
        """By kind: when its first message came, and the frames or positions in it, which came before the span began."""
        self._last_s: dict[str, float] = {}
        self._next_pixels_s = 0.0
        self._numbers: tuple[str, int, int, int] | None = None
        """Scan or run, lowest and highest number of its frames or positions, and how many there were."""

    def take(self, fact: Fact, now_s: float) -> None:
        """Take a fact in, or the error it was refused with."""
        if isinstance(fact, ProtocolError):
            self.errors[str(fact)] += 1
            self.began_before |= fact.reason == BEGAN_BEFORE
            return
        if isinstance(fact, Remark):  # whoever asks is told what it looks like
            return
        number = len(fact) if isinstance(fact, Frame | Positions | Frames | Samples) else 1
        kind = type(fact).__name__
        self.kinds[kind] += number
        self._first.setdefault(kind, (now_s, number))
        self._last_s[kind] = now_s
        match fact:
            case ScanStart():
                self._announce(fact.scan_id, StartParts(**_parts(fact)))
            case Began() | Learned():
                self._announce(fact.run, fact.parts)
            case Frame():
                self._count(fact.scan_id, int(fact.index[0]), int(fact.index[-1]), number)
                self._look(fact.payload, now_s)
            case Frames():
                self._count(fact.run, int(fact.number[0]), int(fact.number[-1]), number)
                self._look(fact.payload, now_s)
            case Positions():
                self._count(fact.scan_id, int(fact.index[0]), int(fact.index[-1]), number)
                self.facts |= {"newest_yx_m": fact.yx_m[-1].tolist()}
            case Samples():
                self._count(fact.run, fact.first, fact.first + number - 1, number)
                self.facts |= {"newest_row": {name: float(column[-1]) for name, column in fact.columns.items()}}
            case ScanEnd() | Ended():
                self.facts |= {"end": str(fact.reason)}

    def _announce(self, scan_id: str, parts: StartParts) -> None:
        """What a start says, once for each of its figures."""
        said = {
            "scan_id": scan_id or None,
            "energy_ev": None if parts.wavelength_m is None else round(HC_EV_M / parts.wavelength_m, 1),
            "distance_m": parts.distance_m,
            "pixel_m": None if parts.pitch_m is None else list(parts.pitch_m),
            "shape": None if parts.frame_shape is None else list(parts.frame_shape),
            "type": None if parts.dtype is None else parts.dtype.name,
            "frames": parts.expected,
            "columns": None if parts.columns is None else list(parts.columns),
            "units": parts.units or None,
        }
        self.facts |= {name: value for name, value in said.items() if value is not None}
        if parts.doubts:
            self.facts["doubts"] = list(dict.fromkeys([*self.facts.get("doubts", ()), *parts.doubts]))[:MAX_DOUBTS]

    def _count(self, scan: str, first: int, last: int, number: int) -> None:
        if self._numbers is None or self._numbers[0] != scan:
            self._numbers = (scan, first, last, number)
        else:
            _, lowest, highest, seen = self._numbers
            self._numbers = (scan, min(lowest, first), max(highest, last), seen + number)
        _, lowest, highest, seen = self._numbers
        self.facts |= {"newest_index": last, "gaps": max(highest - lowest + 1 - seen, 0)}

    def _look(self, payload: Payload, now_s: float) -> None:
        self.facts |= {"shape": list(payload.shape), "type": payload.dtype.name, "encoding": str(payload.encoding)}
        if now_s >= self._next_pixels_s:
            self._next_pixels_s = now_s + PIXELS_S
            try:
                self.facts |= {"max_counts": float(payload.decode().max())}
            except CodecError as error:
                self.errors[str(error)] += 1

    def _rate_hz(self, kind: str) -> float | None:
        """From the first message to the last; None for a single one."""
        (first_s, first_number), last_s = self._first[kind], self._last_s[kind]
        return round((self.kinds[kind] - first_number) / (last_s - first_s), 1) if last_s > first_s else None

    def report(self) -> dict[str, Any]:
        """All of it, with the state of the stream in a word."""
        state = "ok" if self.kinds else "undecodable" if self.errors else "silent"
        if self.began_before and not self.kinds.keys() - {Ended.__name__}:
            state = BEFORE
        rates = {kind: self._rate_hz(kind) for kind in self.kinds}
        report = {"state": state, "received": dict(self.kinds), "per_second": rates, **self.facts}
        return report | ({"errors": dict(self.errors.most_common(5))} if self.errors else {})


def _parts(start: ScanStart) -> dict[str, Any]:
    geometry = start.geometry
    figures = {name: getattr(geometry, name) for name in ("wavelength_m", "distance_m", "pitch_m", "frame_shape")}
    return figures | {"dtype": start.dtype, "expected": start.expected}
