"""From scan points to frames of an engine: which are admitted, which are refused, and why."""

from abc import ABC, abstractmethod
from collections import Counter

import numpy as np
from numpy.typing import NDArray

from streamptycho.errors import CodecError
from streamptycho.join.indices import IndexSet
from streamptycho.messages.live import PointState
from streamptycho.messages.reasons import DropReason
from streamptycho.messages.stream import Frame
from streamptycho.pipeline.points import ScanPoint, points_of
from streamptycho.pipeline.survey import MOST_PLANNED, PointLog
from streamptycho.preprocess.frames import FramePreprocessor, Prepared
from streamptycho.preprocess.positions import PositionTransform
from streamptycho.solve.engine import FARTHEST_PX, RollingEngine
from streamptycho.solve.settings import EngineOptions

MAX_OUTLIERS = 3
"""First positions that are given up if more that follow lie too far from them: the stage was still moving to its start."""


class Intake(ABC):
    """Prepares the frames of one scan and gives them to its engine; `options` are those of the first one.

    Attributes
    ----------
    engine : what takes the frames; another one after the scan had to begin again.
    points : the points of the admitted frames in the order of the engine's rows, and those set aside.
    received, dropped : scan points so far, and by reason those that do not contribute.
    newest : index and counts of the frame that came last; None if it has been previewed.
    newest_ns : latest time stamp; 0 without a detector clock.
    """

    def __init__(self, preprocess: FramePreprocessor, transform: PositionTransform, options: EngineOptions) -> None:
        self.preprocess = preprocess
        self.engine = self._make_engine(options)
        self.points = PointLog(preprocess.shape)
        self.received = 0
        self.dropped: Counter[str] = Counter()
        self.newest: tuple[int, NDArray[np.generic]] | None = None
        self.newest_ns = 0
        self._transform = transform
        self._seen = IndexSet()
        self._rows: dict[int, int] = {}
        """Frame index to row of the engine."""
        self._outside = 0
        """Frames refused in a row because of their positions."""

    @abstractmethod
    def _make_engine(self, options: EngineOptions) -> RollingEngine:
        """Also called when the reconstruction begins again without its first frames."""

    def take(self, frame: Frame) -> None:
        """Take the points of a block."""
        points = list(points_of(frame))
        received = self.received + sum(point.index not in self._seen for point in points)
        try:
            for point in points:
                self.add(point)
        except MemoryError:  # the scan is given up: all others of the block fail with it
            self.received = received
            raise

    def add(self, point: ScanPoint) -> None:
        """Prepare a frame and give it to the engine."""
        try:
            raw = point.counts()
        except CodecError:
            self.refuse(point, DropReason.CORRUPT)
            return
        self.received += 1
        self.newest_ns = max(self.newest_ns, point.timestamp_ns)
        self.newest = point.index, raw
        for prepared in self.preprocess.add(point.index, raw):
            row = self._rows.get(prepared.key)
            if row is not None:
                self.engine.replace(row, prepared.amplitude)
            elif prepared.key == point.index:
                self._admit(point, prepared)

    def _admit(self, point: ScanPoint, prepared: Prepared) -> None:
        amplitude = prepared.amplitude
        if not (amplitude > 0).any():
            self._drop(point, DropReason.EMPTY)
            return
        with np.errstate(over="ignore", invalid="ignore"):
            yx_px = self._transform(point.yx_m)
        row = self.engine.add(amplitude, yx_px)
        if row is not None:
            self._rows[point.index] = row
            self._outside = 0
            pixel_m = self.preprocess.pixel_m
            yx_m = yx_px[0] * pixel_m[0], yx_px[1] * pixel_m[1]
            self.points.add(point.index, yx_m, amplitude, prepared.saturated, point.timestamp_ns)
            return
        self._drop(point, DropReason.OUTSIDE)
        self._outside += 1
        if self._outside > len(self.engine.store) <= MAX_OUTLIERS:
            self._begin_again()

    def _begin_again(self) -> None:
        """The first positions were the outliers, not those that follow: go on without them."""
        self.dropped[DropReason.OUTSIDE.value] += len(self.engine.store)
        self.engine = self._make_engine(self.engine.options)  # which viewers may have changed
        self._rows.clear()
        for first in self.points.table:
            y_m, x_m = first["yx_m"].tolist()
            self.points.aside.add(int(first["index"]), (y_m, x_m), PointState.REFUSED)
        self.points = PointLog(self.preprocess.shape, self.points.aside)
        self._outside = 0

    def refuse(self, point: ScanPoint, reason: DropReason) -> None:
        """Count a frame that the engine will not see."""
        self.received += 1
        self._drop(point, reason)

    def _drop(self, point: ScanPoint, reason: DropReason) -> None:
        self.dropped[reason.value] += 1
        self.set_aside(np.array([point.index]), np.array([point.yx_m]), PointState.REFUSED)

    def plan(self, yx: NDArray[np.float64]) -> None:
        """Show where the frames of index 0 to n - 1 are to be taken, (n, 2) as sent."""
        planned = yx[:MOST_PLANNED][::-1]  # the last to be set aside is reported first
        self.set_aside(np.arange(len(planned))[::-1], planned, PointState.PLANNED)

    def set_aside(self, indices: NDArray[np.int64], yx: NDArray[np.float64], state: PointState) -> None:
        """Show points (n,) whose frames are not reconstructed; `yx` (n, 2) as sent."""
        with np.errstate(over="ignore", invalid="ignore"):
            yx_px = self._transform.all(yx)
        near = np.abs(yx_px).max(axis=1) < FARTHEST_PX
        yx_m = yx_px[near] * self.preprocess.pixel_m
        for index, (y_m, x_m) in zip(indices[near].tolist(), yx_m.tolist(), strict=True):
            if index not in self._rows:
                self.points.aside.add(index, (y_m, x_m), state)
