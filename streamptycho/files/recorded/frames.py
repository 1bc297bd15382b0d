"""Stored frames as one stack (N, ny, nx), whatever their order of axes, and however many datasets they are spread over.

Frames are read one at a time, on demand; a chunk that holds many of them is decompressed once.
"""

import posixpath
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from streamptycho.errors import FormatError
from streamptycho.files.bslz4 import chunk_encoding, stored_chunk
from streamptycho.files.options import ReadOptions
from streamptycho.files.recorded.containers import axes_reversed
from streamptycho.messages.payload import Encoding

_MOST_BYTES = 256 << 20
"""Of frames that are read at once, because they lie in one chunk."""
_BLOCK_BYTES = 4 << 20
"""Of frames that are read at once where no chunk says how many belong together."""


def may_count(parts: Sequence[tuple[str, Any | None]]) -> set[int]:
    """Lengths of the axes that may count frames. Raises FormatError if `parts` are no stacks of equal frames."""
    there = [dataset for _, dataset in parts if dataset is not None]
    first = there[0]
    for dataset in there:
        alike = dataset.shape[1:] == first.shape[1:] and dataset.dtype == first.dtype
        if not alike:
            raise FormatError(
                f"{dataset.file.filename}: {dataset.name} is not (frames, ny, nx) as {first.name}: shape {dataset.shape}; "
                "set read.frames"
            )
    return {n for dataset in there if dataset.ndim for n in (dataset.shape[0], dataset.shape[-1])}


class Frames:
    """The frames of a file.

    Parameters
    ----------
    parts : name and dataset of each member of the series, in order; None where the file of a member is not there.
    options : ``axes`` is used.
    counts : what the number of frames may be: the number of positions, in the first place.
    total : frames that were planned, where the file says it: what is missing at the end of a series.
    """

    def __init__(
        self, parts: Sequence[tuple[str, Any | None]], options: ReadOptions, counts: set[int], total: int | None
    ) -> None:
        there = [dataset for _, dataset in parts if dataset is not None]
        first = there[0]
        self.name = str(first.name)
        if first.ndim not in (3, 4):
            raise FormatError(
                f"{first.file.filename}: {self.name} is not (frames, ny, nx): shape {first.shape}; set read.frames"
            )
        self.axes, self.why = _axes(first, options, counts, len(there))
        shape = [first.shape["nyx".index(axis) if first.ndim == 4 else self.axes.index(axis)] for axis in "nyx"]
        shape = list(first.shape[-2:]) if first.ndim == 4 else shape[1:]
        if min(shape) < 1:
            raise FormatError(f"{first.file.filename}: {self.name} has empty frames: shape {first.shape}; set read.frames")
        self.shape: tuple[int, int] = (int(shape[0]), int(shape[1]))
        """(ny, nx) of a frame."""
        self.dtype: np.dtype = first.dtype
        self._parts = [_Part(dataset, self.axes) if dataset is not None else None for _, dataset in parts]
        usual = max(part.count for part in self._parts if part is not None)
        counted = [usual if part is None else part.count for part in self._parts]
        if total is not None and self._parts[-1] is None:
            counted[-1] = min(usual, max(0, total - sum(counted[:-1])))
        self._starts = np.concatenate([[0], np.cumsum(counted)]).astype(np.int64)
        self.lost = [name for name, dataset in parts if dataset is None]
        """Members whose file is not there."""
        self.present = np.concatenate(
            [np.zeros(n, np.bool_) if part is None else part.present for part, n in zip(self._parts, counted, strict=True)]
        )
        """(N,) False where a frame is known to be missing: its source is not there."""
        self.lost += [name for part in self._parts if part is not None for name in part.lost]

    def __len__(self) -> int:
        return len(self.present)

    @property
    def is_bslz4(self) -> bool:
        """Whether each frame is a chunk that can be passed on as stored."""
        return self.axes == "nyx" and all(part is None or part.is_bslz4 for part in self._parts)

    @property
    def stack(self) -> tuple[Path, str, int] | None:
        """File and dataset, and how many frames there are, where all are one stack in a file on disk."""
        part = self._parts[0]
        if len(self._parts) != 1 or part is None or self.axes != "nyx":
            return None
        return part.stack

    def read(self, i: int) -> NDArray[np.generic]:
        """Frame `i`, (ny, nx), in the type in which it is stored. Raises OSError if it cannot be decompressed."""
        part, row = self._at(i)
        return part.read(row)

    def stored(self, i: int) -> memoryview | None:
        """The chunk of frame `i`, where it holds exactly that."""
        part, row = self._at(i)
        return part.stored(row)

    def _at(self, i: int) -> tuple["_Part", int]:
        at = bisect_right(self._starts, i) - 1
        part = self._parts[at]
        if part is None:
            raise IndexError(f"frame {i} is in a file that is not there")
        return part, i - int(self._starts[at])


class _Part:
    """One dataset, whose frames are read in blocks of those that lie in one chunk."""

    def __init__(self, dataset: Any, axes: str) -> None:
        self._dataset, self._axes = dataset, axes
        self._grid = dataset.shape[:2] if dataset.ndim == 4 else None
        self.count = int(np.prod(self._grid)) if self._grid else int(dataset.shape[axes.index("n")])
        self.is_bslz4 = dataset.ndim == 3 and chunk_encoding(dataset) is Encoding.BSLZ4
        self.present, self.lost = _sources(dataset, self.count)
        bytes_each = max(1, dataset.dtype.itemsize * int(np.prod(dataset.shape)) // max(1, self.count))
        chunks = dataset.chunks
        rows = chunks[axes.index("n")] if chunks and self._grid is None else max(1, _BLOCK_BYTES // bytes_each)
        self._rows = max(1, min(rows, _MOST_BYTES // bytes_each)) if axes != "nyx" or (chunks and rows > 1) else 1
        self._block: tuple[int, NDArray[np.generic]] | None = None

    def read(self, row: int) -> NDArray[np.generic]:
        if self._grid is not None:
            pixels: NDArray[np.generic] = self._dataset[np.unravel_index(row, self._grid)]
            return pixels
        if self._rows == 1:
            (single,) = self._ordered(row, row + 1)
            return np.asarray(single)
        first = row - row % self._rows
        if self._block is None or self._block[0] != first:
            self._block = None  # its memory is needed for the next
            self._block = (first, self._ordered(first, min(first + self._rows, self.count)))
        return np.asarray(self._block[1][row - first])

    def stored(self, row: int) -> memoryview | None:
        return stored_chunk(self._dataset, row)

    @property
    def stack(self) -> tuple[Path, str, int] | None:
        dataset = self._dataset
        path = Path(dataset.file.filename)
        if dataset.ndim != 3 or dataset.file.driver == "core":
            return None
        name = str(dataset.name)
        while isinstance(link := dataset.file.get(name, getlink=True), h5py.SoftLink):
            name = posixpath.join(posixpath.dirname(name), link.path)
        return path, name, self.count

    def _ordered(self, first: int, end: int) -> NDArray[np.generic]:
        where = tuple(slice(first, end) if axis == "n" else slice(None) for axis in self._axes)
        block: NDArray[np.generic] = self._dataset[where]
        return block.transpose([self._axes.index(axis) for axis in "nyx"])


def _axes(dataset: Any, options: ReadOptions, counts: set[int], members: int) -> tuple[str, str]:
    """Order of the stored axes, and why."""
    matlab = axes_reversed(dataset)
    usual, other = ("nxy", "xyn") if matlab else ("nyx", "yxn")
    if dataset.ndim == 4:
        return "nyx", "a raster of frames, row by row"
    if options.axes is not None:
        return options.axes, "as set"
    first, middle, last = dataset.shape
    why = "axes as MATLAB stores them" if matlab else ""
    if members > 1 or not counts or first in counts:
        return usual, why
    if last in counts:
        said = f"the last axis matches the {last} positions, so frames are stored as {', '.join(other)}"
        return other, f"{said} (read.axes)"
    if first == middle != last:
        raise FormatError(
            f"{dataset.name}: shape {dataset.shape} may be frames of {first} x {middle} along the last axis, and none of "
            f"its axes matches the {max(counts)} positions; set read.axes to nyx or yxn"
        )
    return usual, why


def _sources(dataset: Any, count: int) -> tuple[NDArray[np.bool_], list[str]]:
    """(N,) which frames of a dataset are really there, and what the others are behind: HDF5 would read those as zeros."""
    present, lost = np.ones(count, np.bool_), []
    folder = Path(dataset.file.filename).parent
    for name, *_ in dataset.external or ():
        if not (folder / name).is_file():
            raise FormatError(f"{dataset.file.filename}: the frames are in {name}, which is not there; bring it")
    if dataset.is_virtual:
        for source in dataset.virtual_sources():
            if source.file_name != "." and "%" not in source.file_name and not (folder / source.file_name).is_file():
                low, high = source.vspace.get_select_bounds()
                present[low[0] : min(high[0], count - 1) + 1] = False
                lost.append(source.file_name)
    return present, lost
