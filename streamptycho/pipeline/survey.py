"""What frames say by themselves, before anything is reconstructed: kept per scan point, sent in blocks for display only."""

from collections import OrderedDict
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from streamptycho.messages.live import PointState, Survey
from streamptycho.messages.run import RunId
from streamptycho.solve.equations.modulus import frequencies

BLOCK_POINTS = 2000
"""Points of one message; once others are measured, up to a quarter of them are points set aside."""
MOST_ASIDE = 20_000
"""Points that are shown although their frames are not reconstructed; further ones are not shown."""
MOST_PLANNED = MOST_ASIDE // 2
"""Those of a plan, which must leave room for frames that are lost or refused."""
LEARNT = 64
"""Frames that the bright field is learnt from."""
FEWEST_LEARNT = 4
MOST_BYTES = 32 << 20
"""Memory that these frames may take."""
BRIGHT = 0.05
"""Pixels as bright as this, in units of the brightest of the mean pattern, belong to the bright field."""
BRIGHTEST = 0.999
"""Quantile that stands for the brightest pixel: single ones may be hot."""


POINT = np.dtype(
    [
        ("index", np.int64),
        ("yx_m", np.float64, 2),
        ("counts", np.float32),
        ("dark_field", np.float32),
        ("centre_px", np.float32, 2),
        ("saturated", np.int64),
        ("timestamp_ns", np.int64),
    ]
)
"""Frame index; position, transformed as configured; sum over valid pixels, and the part outside the bright field; centre of
mass from the zero frequency; pixels masked in this frame only; end of exposure, 0 without a clock."""
_UNSENT = 255
"""Stands for the state of a point that has not been sent."""


class Aside:
    """Points whose frames are not reconstructed, at most `MOST_ASIDE`; the one sent longest ago comes next."""

    def __init__(self) -> None:
        self._line: OrderedDict[int, tuple[tuple[float, float], PointState]] = OrderedDict()
        self.news = 0
        """Points not sent yet; those of a plan do not count, they are not urgent."""

    def __len__(self) -> int:
        return len(self._line)

    def add(self, index: int, yx_m: tuple[float, float], state: PointState) -> None:
        """Note a point, or its new state."""
        if index in self._line or len(self._line) < MOST_ASIDE:
            self._line[index] = (yx_m, state)
            self._line.move_to_end(index, last=False)
            self.news += state is not PointState.PLANNED

    def drop(self, index: int) -> None:
        """Its frame is reconstructed after all."""
        self._line.pop(index, None)

    def next(self, room: int) -> tuple[NDArray[np.void], NDArray[np.uint8]]:
        """At most `room` points, as `POINT`, with their states; they come last from then on."""
        indices = list(islice(self._line, room))
        block, states = np.zeros(len(indices), POINT), np.zeros(len(indices), np.uint8)
        for row, index in enumerate(indices):
            block["index"][row] = index
            block["yx_m"][row], states[row] = self._line[index]
            self._line.move_to_end(index)
        self.news = max(0, min(self.news, len(self._line)) - len(indices))
        return block, states


class PointLog:
    """Scan points in order of arrival; `shape` (ny, nx) of the reconstructed frames, `aside` the points set aside."""

    def __init__(self, shape: tuple[int, int], aside: Aside | None = None) -> None:
        from streamptycho.solve.compiled.sums import pattern_sums  # here: importing the stage loads no compiler

        self._sums = pattern_sums
        self._table = np.zeros(64, POINT)
        self._n = 0
        self._frequencies = frequencies(np, shape)
        self._mean = np.zeros(shape)
        self._outside = np.ones(shape, np.float32)
        """(ny, nx) 1 outside the bright field, 0 inside."""
        self._outside_turned = np.ascontiguousarray(self._outside.T)
        self._learnt = max(FEWEST_LEARNT, min(LEARNT, MOST_BYTES // self._outside.nbytes))
        self._early: list[NDArray[np.float32]] = []
        self._sent = np.full(len(self._table), _UNSENT, np.uint8)
        """State of each point as it was sent last."""
        self._cursor = 0
        """The next one to be sent again."""
        self.aside = Aside() if aside is None else aside
        self.unsent = False
        """True if the last block had no room for everything new."""

    def __len__(self) -> int:
        return self._n

    @property
    def table(self) -> NDArray[np.void]:
        """(n,) of `POINT`."""
        return self._table[: self._n]

    def add(
        self, index: int, yx_m: tuple[float, float], amplitude: NDArray[np.float32], saturated: int, timestamp_ns: int
    ) -> None:
        """Note a frame; `amplitude` (ny, nx) as the engine takes it."""
        if self._n == len(self._table):
            self._table = np.concatenate([self._table, np.zeros_like(self._table)])
            self._sent = np.concatenate([self._sent, np.full_like(self._sent, _UNSENT)])
        self.aside.drop(index)
        row, self._n = self._n, self._n + 1
        if row < self._learnt:
            self._learn(np.square(np.maximum(amplitude, 0)))
        self._table[row] = index, yx_m, *self._figures(amplitude), saturated, timestamp_ns

    def _figures(self, amplitude: NDArray[np.float32]) -> tuple[float, float, tuple[float, float]]:
        """Counts, those outside the bright field, centre of mass; row by row as the memory lies, also of a turned frame."""
        y_px, x_px = self._frequencies
        if amplitude.flags.c_contiguous:
            counts, dark_field, y, x = self._sums(amplitude, self._outside, y_px, x_px)
        else:
            counts, dark_field, x, y = self._sums(np.ascontiguousarray(amplitude.T), self._outside_turned, x_px, y_px)
        return counts, dark_field, (y, x)

    def _learn(self, intensity: NDArray[np.float32]) -> None:
        """The bright field from the mean of the frames so far, at 1, 2, 4... of them; earlier sums are taken again."""
        self._early.append(intensity)
        self._mean += intensity
        count = len(self._early)
        if count & (count - 1) and count != self._learnt:
            return
        self._outside = (self._mean < BRIGHT * np.quantile(self._mean, BRIGHTEST)).astype(np.float32)
        self._outside_turned = np.ascontiguousarray(self._outside.T)
        for row, earlier in enumerate(self._early):
            self._table["dark_field"][row] = float(np.vdot(earlier, self._outside))
        self._sent[:] = _UNSENT
        if count == self._learnt:
            self._early.clear()

    def survey(self, service: str, run: RunId, time_ns: int, used: NDArray[np.bool_]) -> Survey | None:
        """The next block: points whose state is new, then others in turn while there is room; None without points.

        `used` (n,) is true for the points, in order of arrival, that shape the picture.
        """
        states = np.where(used, PointState.USED, PointState.WAITING).astype(np.uint8)
        news = self._news(states)
        room = BLOCK_POINTS // 4 if self._n else BLOCK_POINTS
        aside, why = self.aside.next(max(room, min(self.aside.news, BLOCK_POINTS - len(news))))
        rows = self._next(news, BLOCK_POINTS - len(aside))
        if not len(rows) + len(aside):
            return None
        self._sent[rows] = states[rows]
        block = np.concatenate([self._table[rows], aside])
        state = np.concatenate([states[rows], why])
        order = np.argsort(block["index"])
        arrays = {name: block[name][order] for name in ("index", "yx_m", "counts", "dark_field", "centre_px")}
        return Survey(service=service, **run.fields, time_ns=time_ns, known=self._n, state=state[order], **arrays)

    def _news(self, states: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Rows never sent, oldest first, then those whose state has changed, newest first."""
        sent = self._sent[: self._n]
        changed = np.flatnonzero((sent != states) & (sent != _UNSENT))[::-1]
        return np.concatenate([np.flatnonzero(sent == _UNSENT), changed])

    def _next(self, news: NDArray[np.int64], room: int) -> NDArray[np.int64]:
        """Rows: `news`, then all in turn."""
        rows = news[:room]
        self.unsent = len(news) > len(rows) or self.aside.news > 0
        again = min(room - len(rows), self._n)
        turn = (self._cursor + np.arange(again)) % max(self._n, 1)
        self._cursor = (self._cursor + again) % max(self._n, 1)
        return np.union1d(rows, turn)
