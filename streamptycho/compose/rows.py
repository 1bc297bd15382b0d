"""From sample rows to positions of frames."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamptycho.compose.intervals import Intervals
from streamptycho.compose.options import ScanOptions
from streamptycho.messages.facts import Samples, StartParts
from streamptycho.messages.units import metres

_MOST_PENDING = 10_000
"""Frames whose samples are not complete, at most: beyond it the oldest is closed."""

Placed = tuple[NDArray[np.int64], NDArray[np.float64]]
"""Indices (n,), strictly rising, and (y, x) in metres (n, 2)."""


@dataclass(slots=True)
class _Group:
    """Samples of one frame so far."""

    rows: int
    finite: int
    total: NDArray[np.float64]
    squares: NDArray[np.float64]


class RowTable:
    """The samples of one run: from rows to positions."""

    def __init__(self, options: ScanOptions) -> None:
        self._options = options
        self._names = ("", "")
        self._scale = (1.0, 1.0)
        self._rows = Intervals()
        self._origin: NDArray[np.float64] | None = None
        self._groups: dict[int, _Group] = {}
        self._named = Intervals()
        self._variance, self._spread_frames = 0.0, 0
        self.placed = Intervals()
        """Indices of the positions so far."""
        self.come = 0
        """Rows so far, with repetitions."""
        self.left_out: dict[str, int] = dict.fromkeys(("nan", "before", "repeated", "partial"), 0)
        """Rows without finite values; rows before frame 0; frame numbers that came again; frames that have the mean of fewer
        samples than there should be."""

    def problem(self, columns: list[str], parts: StartParts) -> str | None:
        """Why rows with these columns cannot be read, and what to set; None if they can."""
        options = self._options
        names = options.columns or parts.columns
        there = ", ".join(sorted(columns)[:40])
        if names is None:
            return f"which columns hold y and x is not known; set scan.columns = [y, x]; there are {there}"
        lacking = [name for name in names if name not in columns]
        if lacking:
            return f"there is no column {lacking[0]!r}; set scan.columns = [y, x]; there are {there}"
        scales = []
        for name in names:
            said = parts.units.get(name, "").strip()
            unit = options.unit or said
            scale = metres(unit)
            if scale is None:
                what = f"the unit {said[:40]!r} of column {name!r} is no length" if said else f"column {name!r} has no unit"
                return f"{what}; set scan.unit, to m, mm, um, nm or pm"
            scales.append(scale)
        self._names, self._scale = (names[0], names[1]), (scales[0], scales[1])
        return None

    def take(self, samples: Samples) -> Placed:
        """Positions that are complete with these rows, whose columns have no :meth:`problem`."""
        yx = np.stack([samples.columns[name] * scale for name, scale in zip(self._names, self._scale, strict=True)], 1)
        self.come += len(samples)
        if samples.number is not None:
            return self._by_number(samples.number - self._options.first_number, yx)
        row = samples.first - self._options.first_sample
        self.left_out["before"] += min(max(-row, 0), len(samples))
        found: list[Placed] = []
        for start, stop in self._rows.add(max(row, 0), row + len(samples)):
            found.append(self._means(start, yx[start - row : stop - row]))
        return self._merged(found)

    def flush(self) -> Placed:
        """Frames of which at least half of the samples have come: nothing more comes."""
        found = []
        for index, group in sorted(self._groups.items()):
            if 2 * group.rows >= self._options.samples_per_frame:
                found.append(self._finish(index, group))
        self._groups.clear()
        return self._merged(found)

    def announced(self, rows: int | None) -> int:
        """Positions that are to be expected of `rows` sample rows; without them, those that have come."""
        if rows is None:
            return self.placed.count
        if self.named:
            return self._named.count + max(rows - self.come, 0)
        whole, rest = divmod(max(rows - self._options.first_sample, 0), self._options.samples_per_frame)
        return whole + (2 * rest >= self._options.samples_per_frame)

    @property
    def named(self) -> bool:
        """Whether samples come with the numbers of their frames."""
        return self._named.count > 0

    @property
    def distinct(self) -> int:
        """Rows so far that belong to frames, without repetitions."""
        return self._rows.count

    @property
    def grouped(self) -> bool:
        """Whether a setting alone says which samples are those of one frame."""
        return self._options.samples_per_frame > 1 and not self.named

    @property
    def spread_m(self) -> float:
        """Root mean square distance of the samples of a frame from their mean, metres; 0 with one sample each."""
        return math.sqrt(self._variance / self._spread_frames) if self._spread_frames else 0.0

    def _by_number(self, index: NDArray[np.int64], yx: NDArray[np.float64]) -> Placed:
        self.left_out["before"] += int((index < 0).sum())
        keep = (index >= 0) & np.isfinite(yx).all(1)
        self.left_out["nan"] += int((index >= 0).sum() - keep.sum())
        self._named.add_all(np.unique(index[index >= 0]))
        index, yx = index[keep][::-1], yx[keep][::-1]
        unique, last = np.unique(index, return_index=True)  # the last of a number counts
        fresh = self.placed.add_all(unique)
        self.left_out["repeated"] += len(unique) - int(fresh.sum())
        return unique[fresh], yx[last][fresh]

    def _means(self, row: int, yx: NDArray[np.float64]) -> Placed:
        """Of new rows from `row` on, without a gap."""
        finite = np.asarray(np.isfinite(yx).all(axis=1))
        self.left_out["nan"] += len(finite) - int(finite.sum())
        each = self._options.samples_per_frame
        if each == 1:
            index = np.flatnonzero(finite) + row
            fresh = self.placed.add_all(index)
            return index[fresh], yx[finite][fresh]
        if self._origin is None and finite.any():
            self._origin = yx[finite][0]  # the variance of small differences of large numbers
        yx = np.where(finite[:, None], yx - (0.0 if self._origin is None else self._origin), 0.0)
        index = np.arange(row, row + len(yx)) // each
        at = np.flatnonzero(np.diff(index, prepend=-1))
        rows = np.diff(at, append=len(yx))
        sums, squares, finites = (np.add.reduceat(values, at) for values in (yx, yx**2, finite.astype(np.int64)))
        whole = (rows == each) & (finites == each)
        means = sums[whole] / each
        self._variance += float(np.maximum(squares[whole] / each - means**2, 0).sum())
        self._spread_frames += int(whole.sum())
        fresh = self.placed.add_all(index[at][whole])
        found = [(index[at][whole][fresh], means[fresh] + self._origin)] if fresh.any() else []
        for i in np.flatnonzero(~whole).tolist():
            found += self._gather(int(index[at[i]]), _Group(int(rows[i]), int(finites[i]), sums[i], squares[i]))
        return self._merged(found)

    def _gather(self, index: int, more: _Group) -> list[Placed]:
        """Samples of a frame that is not complete; its position if it is now."""
        group = self._groups.get(index)
        if group is None:
            group = self._groups[index] = more
        else:
            group.rows, group.finite = group.rows + more.rows, group.finite + more.finite
            group.total, group.squares = group.total + more.total, group.squares + more.squares
        if group.rows >= self._options.samples_per_frame:
            return [self._finish(index, self._groups.pop(index))]
        if len(self._groups) > _MOST_PENDING:
            oldest = next(iter(self._groups))
            return [self._finish(oldest, self._groups.pop(oldest))]
        return []

    def _finish(self, index: int, group: _Group) -> Placed:
        if not group.finite or self._origin is None or not self.placed.add(index, index + 1):
            return np.zeros(0, np.int64), np.zeros((0, 2))
        self.left_out["partial"] += group.finite < self._options.samples_per_frame
        mean = group.total / group.finite
        self._variance += float(np.maximum(group.squares / group.finite - mean**2, 0).sum())
        self._spread_frames += 1
        return np.array([index]), (mean + self._origin)[None]

    @staticmethod
    def _merged(found: list[Placed]) -> Placed:
        index = np.concatenate([np.zeros(0, np.int64), *(index for index, _ in found)])
        yx = np.concatenate([np.zeros((0, 2)), *(yx for _, yx in found)])
        order = np.argsort(index, kind="stable")
        return index[order], yx[order]
