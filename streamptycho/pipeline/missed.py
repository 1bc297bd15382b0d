"""What a reconstruction has missed, from the file of the scan while that grows.

A reconstruction that is restarted in mid-scan has lost its picture and the points that its former process had taken; one
whose link was cut may lack a few; and what the receiver could not hold until its position came, it leaves to the file. The
writer has them all: points are read from its file by index, until the counts agree.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from streamptycho.errors import FormatError
from streamptycho.files.scan import RecordedScan, open_scan
from streamptycho.join.indices import IndexSet
from streamptycho.join.open_scan import held_bytes
from streamptycho.messages.results import Snapshot
from streamptycho.messages.run import RunId
from streamptycho.messages.stream import Frame
from streamptycho.pipeline.points import ScanPoint, points_of

log = logging.getLogger(__name__)

WAIT_S = 10.0
"""How long the file is awaited, and then the next of what is missing in it: the writer may have begun anew as well."""
NAMED_S = 2.0
"""How long, at the end, the writer is awaited to say where the file is: it does so twice a second."""
LOOK_S = 0.25
"""Time between two looks into the file; what it held when it was opened counts."""
HELD_BYTES = 64 << 20
"""Memory for points that come while the file is awaited; it has those beyond."""


class Missed:
    """Reads from the writer's file what its scan still needs.

    `resumed`: the scan was under way before this process; until its file has been opened, or awaited for `WAIT_S`, points
    that come are held, so that the picture in the file comes first.
    """

    def __init__(self, run: RunId, clock: Callable[[], float], *, resumed: bool) -> None:
        self._run, self._clock = run, clock
        self._path: Path | None = None
        self._until_s = clock() + WAIT_S if resumed else np.inf
        self._next_look_s = clock()
        self._points: Iterator[ScanPoint] | None = None
        self._held: deque[Frame] = deque()
        self._held_bytes = 0
        self._unreadable: set[int] = set()
        self._reason = ""
        """Why the file could not be opened at the last look."""
        self.holding = resumed
        self.picture: Snapshot | None = None
        """The latest in the file when it was first opened; only for a scan that is resumed."""
        self.dark: NDArray[np.float32] | None = None
        """(ny, nx) counts of the exposures without beam in it."""

    def found(self, path: Path) -> None:
        """The writer says where the file is."""
        if self._path is None and not self.holding and not np.isinf(self._until_s):
            self._until_s = self._clock() + WAIT_S
        self._path = path

    def hold(self, frame: Frame) -> None:
        """Keep points for later; beyond `HELD_BYTES` the file has them."""
        size = held_bytes(frame)
        if self._held_bytes + size <= HELD_BYTES:
            self._held.append(frame)
            self._held_bytes += size

    def expected(self) -> bool:
        """True if the file may still bring what is missing; asked when everything else has come."""
        if np.isinf(self._until_s):
            self._until_s = self._clock() + (NAMED_S if self._path is None else WAIT_S)
        return self._clock() < self._until_s

    def give_up(self, points: int) -> None:
        """Say why what is still missing has not come from the file."""
        if points:
            words = "scan %s: %d frames are not in the picture: %s"
            log.warning(words, self._run.scan_id, points, self._reason or "they are not in its file", extra=self._run.fields)

    def enough(self) -> None:
        """Nothing more is needed."""
        self._points = None
        self._held.clear()

    @property
    def reading(self) -> bool:
        """True while the file is awaited, or points are at hand."""
        return self.holding or self.at_hand

    @property
    def at_hand(self) -> bool:
        """True if :meth:`next` may have a point."""
        return self._points is not None or (bool(self._held) and not self.holding)

    def look(self, seen: IndexSet) -> bool:
        """Open the file if that is due, for points that are not `seen`; True if the scan is resumed from now on."""
        if self._points is not None or self._clock() < self._next_look_s:
            return False
        self._next_look_s = self._clock() + LOOK_S
        scan = self._open()
        if scan is not None:
            self._points = self._unseen(scan, seen)
        if not self.holding or (scan is None and self._clock() < self._until_s):
            return False
        self.holding, self._until_s = False, np.inf
        if scan is not None:
            self.dark = scan.dark
            try:
                self.picture = scan.latest(self._run)
            except OSError as error:
                log.warning(
                    "scan %s: the picture begins anew, that in the file cannot be read: %s", self._run.scan_id, error
                )
        return True

    def next(self) -> ScanPoint | None:
        """A point of the file as it was at the last look, then a held one; None if there is none at hand."""
        while self.at_hand:
            if self._points is None:
                self._points = points_of(self._held.popleft())
            point = next(self._points, None)
            if point is not None:
                if not self.holding and not np.isinf(self._until_s):
                    self._until_s = self._clock() + WAIT_S  # for those that are not in it yet
                return point
            self._points = None
        return None

    def _open(self) -> RecordedScan | None:
        try:
            if self._path is None:
                self._reason = "the writer has not said where the file is"
            else:
                scan = open_scan(self._path)
                if scan.is_of(self._run):
                    self._reason = ""
                    return scan
                scan.close()
                self._reason = f"{self._path} here is of another run"
        except FormatError as error:
            self._reason = str(error)
        if self.holding and self._clock() >= self._until_s:
            words = "scan %s: the picture begins anew, without the frames so far: %s"
            log.warning(words, self._run.scan_id, self._reason)
        return None

    def _unseen(self, scan: RecordedScan, seen: IndexSet) -> Iterator[ScanPoint]:
        """Points (frame and position) of the file that are not `seen` when their turn comes; closes the file at the end."""
        with closing(scan):
            for index in scan.index[np.isfinite(scan.yx_m[scan.index]).all(axis=1)].tolist():
                if index in seen or index in self._unreadable:
                    continue
                try:
                    payload = scan.payload(index)
                except (FormatError, OSError) as error:  # it stays missing, and is counted at the end
                    self._unreadable.add(index)
                    log.warning("scan %s: frame %d cannot be read from the file: %s", self._run.scan_id, index, error)
                    continue
                y_m, x_m = scan.yx_m[index].tolist()
                yield ScanPoint(index, 0, (y_m, x_m), payload)
