"""What frames say by themselves, before anything is reconstructed: kept per scan point, sent in blocks for the eye."""

import numpy as np
from numpy.typing import NDArray

from streamptycho.feed import Survey
from streamptycho.messages import ScanStart
from streamptycho.solve.epie import frequencies

BLOCK_POINTS = 2000
"""Points of one message."""
LEARNT = 64
"""Frames from which the bright field is learnt."""
FEWEST_LEARNT = 4
MOST_BYTES = 32 << 20
"""Memory that the frames may take from which it is learnt."""
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


class PointLog:
    """Scan points in order of arrival; `shape` (ny, nx) of the frames in work."""

    def __init__(self, shape: tuple[int, int]) -> None:
        from streamptycho.solve.compiled_sums import pattern_sums  # here: whoever only receives or writes needs no compiler

        self._sums = pattern_sums
        self._table = np.zeros(64, POINT)
        self._n = 0
        self._frequencies = frequencies(np, shape)
        self._mean = np.zeros(shape)
        self._outside = np.ones(shape, np.float32)
        """(ny, nx) 1 outside the bright field, 0 inside."""
        self._learnt = max(FEWEST_LEARNT, min(LEARNT, MOST_BYTES // self._outside.nbytes))
        self._early: list[NDArray[np.float32]] = []
        self._sent = 0
        """Points sent once."""
        self._cursor = 0
        """The next one to be sent again."""

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
        row, self._n = self._n, self._n + 1
        if row < self._learnt:
            self._learn(np.square(np.maximum(amplitude, 0)))
        counts, dark_field, *centre_px = self._sums(amplitude, self._outside, *self._frequencies)
        self._table[row] = index, yx_m, counts, dark_field, centre_px, saturated, timestamp_ns

    def _dark_field(self, intensity: NDArray[np.float32]) -> float:
        return float(np.vdot(intensity, self._outside))

    def _learn(self, intensity: NDArray[np.float32]) -> None:
        """The bright field from the mean of the frames so far, at 1, 2, 4... of them; earlier sums are taken again."""
        self._early.append(intensity)
        self._mean += intensity
        count = len(self._early)
        if count & (count - 1) and count != self._learnt:
            return
        self._outside = (self._mean < BRIGHT * np.quantile(self._mean, BRIGHTEST)).astype(np.float32)
        for row, earlier in enumerate(self._early):
            self._table["dark_field"][row] = self._dark_field(earlier)
        self._sent = 0
        if count == self._learnt:
            self._early.clear()

    def survey(self, start: ScanStart, time_ns: int) -> Survey | None:
        """The next block: points not sent yet, and as many others as there is room for, in turn; None without points."""
        if not self._n:
            return None
        first = self._sent
        self._sent = min(self._n, first + BLOCK_POINTS)
        rows = np.arange(first, self._sent)
        again = min(BLOCK_POINTS - len(rows), first)
        rows = np.concatenate([rows, (self._cursor + np.arange(again)) % max(first, 1)])
        self._cursor = (self._cursor + again) % max(first, 1)
        block = self._table[rows]
        block = block[np.argsort(block["index"])]
        arrays = {name: block[name] for name in ("index", "yx_m", "counts", "dark_field", "centre_px")}
        return Survey(scan_id=start.scan_id, started_ns=start.started_ns, time_ns=time_ns, known=self._n, **arrays)

    @property
    def unsent(self) -> bool:
        """True if there are points that no block has held yet."""
        return self._sent < self._n
