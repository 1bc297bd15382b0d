"""A composer before a matcher, with everything that comes out of them."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from streamptycho.compose.composer import Composer
from streamptycho.compose.options import Role, ScanOptions
from streamptycho.errors import ProtocolError
from streamptycho.join.matcher import Matcher
from streamptycho.join.open_scan import Edge, OpenScan
from streamptycho.join.options import MatchOptions
from streamptycho.messages.facts import Began, Ended, Frames, Samples, StartParts
from streamptycho.messages.payload import Payload
from streamptycho.messages.reasons import EndReason, Stream
from streamptycho.messages.stream import Frame, Positions, ScanEnd, ScanStart
from streamptycho.pipeline.points import ScanPoint
from tests.scans import points_in

FRAMES, POSITIONS, DOCUMENTS = Role.FRAMES, Role.POSITIONS, Role.DOCUMENTS
SHAPE = (4, 6)
BEGUN_NS = 1_764_589_581_000_000_000
KNOWN = {"energy_ev": 8000.0, "distance_m": 2.0, "pitch_m": 75e-6, "columns": ("y", "x"), "unit": "um"}
"""Settings with which nothing has to be asked."""


def frames(numbers: int | Sequence[int], run: str = "12", dtype: str = "uint16", time_ns: int = 0, **more: Any) -> Frames:
    """Frames whose pixels are their number."""
    number = np.atleast_1d(np.array(numbers, np.int64))
    pixels = np.broadcast_to((number % 200).astype(dtype)[:, None, None], (len(number), *SHAPE))
    times = np.full(len(number), time_ns, np.int64)
    return Frames(run=run, number=number, timestamp_ns=times, payload=Payload.raw(pixels), **more)


def samples(first: int, n: int, run: str = "abc", **more: Any) -> Samples:
    """Rows of which y is the row number, and x ten times as much."""
    rows = np.arange(first, first + n, dtype=np.float64)
    return Samples(run=run, first=first, columns={"y": rows, "x": 10 * rows}, **more)


def began(run: str = "12", in_middle: bool = False, **parts: Any) -> Began:
    return Began(run=run, parts=StartParts(**parts), in_middle=in_middle)


def ended(run: str = "12", count: int | None = None, reason: EndReason = EndReason.COMPLETE) -> Ended:
    return Ended(run=run, count=count, reason=reason)


class Chain:
    """What a receiver does with facts, with a clock that is moved by hand."""

    def __init__(self, foreign: Sequence[Role] = (FRAMES, POSITIONS), **options: Any) -> None:
        self.now = 1000.0
        self._asked = 0
        self.composer = Composer(ScanOptions(**options), foreign, wall_ns=self._wall_ns)
        self.matcher = Matcher(MatchOptions())
        self.out: list[Any] = []
        self.writer: list[Any] = []
        self.engine: list[Any] = []
        self.scans: dict[str, OpenScan] = {}
        self.ends: list[ScanEnd] = []

    def _wall_ns(self) -> int:
        self._asked += 1
        return BEGUN_NS + int(self.now * 1e9) + self._asked

    def __call__(self, *facts: tuple[Role, Any]) -> "Chain":
        for role, fact in facts:
            self._pass(self.composer.take(role, fact, self.now))
        return self

    def wait(self, seconds: float) -> "Chain":
        self.now += seconds
        self._pass(self.composer.tick(self.now))
        self._route(self.matcher.tick(self.now))
        return self

    def finish(self) -> "Chain":
        self._pass(self.composer.finish(self.now))
        self._route(self.matcher.finish(EndReason.INTERRUPTED))
        return self

    def _pass(self, messages: Any) -> None:
        for message in messages:
            self.out.append(message)
            self._route(self.matcher.handle(message, self.now))

    def _route(self, routed: Any) -> None:
        for edge, message in routed:
            self.scans |= self.matcher.scans
            if edge is not Edge.ENGINE:
                self.writer.append(message)
            if edge is not Edge.WRITER:
                self.engine.append(message)
            if isinstance(message, ScanEnd):
                self.ends.append(message)
                for error in self.composer.closed(message.run):
                    self.out.append(error)
                    list(self.matcher.handle(error, self.now))

    @property
    def points(self) -> list[ScanPoint]:
        return points_in(self.engine)

    def of(self, kind: type) -> list[Any]:
        """Messages of a kind that the composer has made."""
        return [message for message in self.out if isinstance(message, kind)]

    @property
    def start(self) -> ScanStart:
        """The only start."""
        (start,) = self.of(ScanStart)
        return start

    @property
    def indices(self) -> list[int]:
        """Of the frames that the composer has made, in order."""
        return [index for frame in self.of(Frame) if not frame.dark for index in frame.index.tolist()]

    @property
    def places(self) -> dict[int, tuple[float, float]]:
        """Index to position, micrometres."""
        blocks = self.of(Positions)
        return {i: (y * 1e6, x * 1e6) for b in blocks for i, (y, x) in zip(b.index.tolist(), b.yx_m.tolist(), strict=True)}

    @property
    def refused(self) -> Counter[str]:
        """Reason to number of frames, or of errors that cost none."""
        found: Counter[str] = Counter()
        for error in self.of(ProtocolError):
            found[error.reason] += max(error.frames, 1)
        return found

    @property
    def said(self) -> dict[str, str]:
        """Reason to text of what people are told."""
        return {finding.reason: finding.text for finding in self.composer.findings()}

    @property
    def closed(self) -> list[tuple[str, EndReason, int]]:
        """Scans that the matcher has closed: id, reason, frames."""
        return [(end.scan_id, end.reason, end.count) for end in self.ends if end.stream is Stream.SCAN]


def whole(n: int, *, frames_run: str = "12", positions_run: str = "abc", block: int = 5) -> list[tuple[Role, Any]]:
    """The facts of a scan of `n` frames, interleaved."""
    facts: list[tuple[Role, Any]] = [
        (FRAMES, began(frames_run, expected=n)),
        (POSITIONS, began(positions_run)),
    ]
    for first in range(0, n, block):
        rows = min(block, n - first)
        facts += [(FRAMES, frames(range(first, first + rows), frames_run)), (POSITIONS, samples(first, rows, positions_run))]
    return [*facts, (FRAMES, ended(frames_run, n)), (POSITIONS, ended(positions_run, n))]
