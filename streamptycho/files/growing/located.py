"""Where a dataset really is: behind links to other files, and in the sources of virtual datasets.

HDF5 would follow both, but with the access of the file that it comes from, and what a virtual dataset's source does not have
yet it gives as zeros. So every file is opened by itself, by its name relative to the file that names it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from streamptycho.errors import FormatError
from streamptycho.files.growing.names import named, number_in
from streamptycho.messages.payload import PIXEL_DTYPES

_MOST_LINKS = 16
_MOST_SOURCES = 4096
FITTING = {"bool": "uint8", "int8": "int16", "int64": "int32", "uint64": "uint32", "float16": "float32"}
"""Pixel types that frames may have instead; values that do not fit are refused."""


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A dataset behind a link to another file."""

    path: Path
    dataset: str


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows of a virtual dataset that one source has: ``start + stride * i + j`` for i < count, j < block."""

    path: Path
    dataset: str
    start: int = 0
    stride: int = 1
    block: int = 1
    count: int | None = None
    """None: as many as there are."""
    source_start: int = 0
    source_stride: int = 1
    source_block: int = 1

    def source_rows(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """(n,) the row of the source that is each of these rows of the virtual dataset, -1 if it is another source's."""
        turn, within = np.divmod(rows - self.start, self.stride)
        ours = (rows >= self.start) & (within < self.block)
        if self.count is not None:
            ours &= turn < self.count
        turn, within = np.divmod(turn * self.block + within, self.source_block)
        return np.where(ours, self.source_start + turn * self.source_stride + within, -1)

    def rows(self, source_rows: int) -> int:
        """Length that the virtual dataset has if the source has so many rows."""
        turns, within = divmod(max(source_rows - self.source_start, 0), self.source_stride)
        have = turns * self.source_block + min(within, self.source_block)
        if self.count is not None:
            have = min(have, self.count * self.block)
        if not have:
            return 0
        turn, within = divmod(have - 1, self.block)
        return self.start + turn * self.stride + within + 1


@dataclass(frozen=True, slots=True)
class Numbered:
    """Sources with a running number in their names; `blocks`, where the number says which rows they are."""

    path: Path
    dataset: str
    blocks: bool = False
    piece_0: Piece | None = None
    """Of number 0, where the number says the rows."""
    apart: int = 0
    """Rows from one to the next."""

    def member(self, number: int) -> tuple[Path, str]:
        """File and dataset of the member of that number."""
        return self.path.with_name(named(self.path.name, number)), named(self.dataset, number)

    def start_of(self, number: int) -> int:
        """Its first row, where the number says it."""
        return number * self.apart + (self.piece_0.start if self.piece_0 is not None else 0)

    def piece(self, number: int, start: int) -> Piece:
        """Its rows, of which the first is `start`."""
        path, dataset = self.member(number)
        if self.piece_0 is None:
            return Piece(path=path, dataset=dataset, start=start)
        return replace(self.piece_0, path=path, dataset=dataset, start=start)

    def __str__(self) -> str:
        return f"{self.path} {self.dataset}"


def check(data: Any, path: Path, dataset: str, *, frames: bool) -> None:
    """Raises FormatError if a dataset can never be read as numbers, or as frames."""
    axes = 3 if frames else 1
    if data.ndim < axes or data.dtype.kind not in "iufb":
        what = "frames (rows, y, x)" if frames else "numbers"
        raise FormatError(f"{path}: {dataset}: {data.shape} {data.dtype} are no {what}; name another dataset")
    if frames and FITTING.get(data.dtype.name, data.dtype.name) not in PIXEL_DTYPES:
        raise FormatError(f"{path}: {dataset}: pixels are {data.dtype}, not {', '.join(PIXEL_DTYPES)}")


def relative(name: str, to: Path) -> Path:
    """The file that `to` calls `name`: beside it, or beside what a link at `to` leads to."""
    beside = to.parent / name
    return beside if beside.exists() or Path(name).is_absolute() else to.resolve().parent / name


def open_now(path: Path) -> h5py.File:
    """The file as it is now: by another driver than its rows are read by, HDF5 does not give what it has kept of it.

    A file in SWMR mode that driver cannot open; nothing is added to it.
    """
    try:
        return h5py.File(path, "r", driver="stdio", locking=False)
    except OSError:
        return h5py.File(path, "r", swmr=True, libver="latest", locking=False)


def names_in(path: Path, dataset: str) -> list[int]:
    """Numbers of the datasets, or links to some, of a numbered name in a file, rising; none while it cannot be read."""
    folder, _, name = dataset.rpartition("/")
    try:
        with open_now(path) as file:
            group = file.get(folder or "/")
            there = list(group) if isinstance(group, h5py.Group) else []
    except (OSError, RuntimeError, KeyError):
        return []
    return sorted(number for other in there if (number := number_in(name, other)) is not None)


def hint(file: h5py.File, dataset: str) -> str:
    """What to name instead of a group of numbered datasets; empty if it is none."""
    group = file.get(dataset)
    names = sorted(group) if isinstance(group, h5py.Group) else []
    numbered = [name for name in names if number_in("data_%06d", name) is not None]
    return f"; there is {numbered[0]}: name {dataset.rstrip('/')}/data_%06d" if numbered else ""


def locate(file: h5py.File, path: Path, dataset: str) -> Any:
    """The dataset, an :class:`Elsewhere` if it is in another file, or None if it is not there yet."""
    steps = [step for step in dataset.split("/") if step][::-1]
    here, links = file["/"], 0
    while steps:
        step = steps.pop()
        link = here.get(step, getlink=True) if isinstance(here, h5py.Group) else None
        if link is None:
            return None
        if not isinstance(link, h5py.HardLink):
            links += 1
            if links > _MOST_LINKS:
                raise FormatError(f"{path}: {dataset} leads through more than {_MOST_LINKS} links; name the dataset itself")
            steps += [part for part in link.path.split("/") if part][::-1]
            if isinstance(link, h5py.ExternalLink):
                return Elsewhere(relative(link.filename, path), "/".join(["", *steps[::-1]]))
            here = file["/"] if link.path.startswith("/") else here
            continue
        here = here[step]
    return here if isinstance(here, h5py.Dataset) else None


def pieces_of(dataset: h5py.Dataset, path: Path) -> list[Piece | Numbered]:
    """Sources of a virtual dataset. Raises FormatError unless each gives whole rows."""
    sources = dataset.virtual_sources()
    if len(sources) > _MOST_SOURCES:
        raise FormatError(f"{path}: {dataset.name} has {len(sources)} sources; at most {_MOST_SOURCES} are followed")
    return list(_pieces(dataset, path, sources))


def _pieces(dataset: h5py.Dataset, path: Path, sources: list[Any]) -> Iterator[Piece | Numbered]:
    for mapped in sources:
        start, stride, count, block = _first_axis(mapped.vspace, dataset, path)
        source_start, source_stride, source_count, source_block = _first_axis(mapped.src_space, dataset, path)
        numbered = "%b" in mapped.file_name or "%b" in mapped.dset_name
        given = 1 if numbered else count
        if given is not None and source_count is not None and given * block != source_count * source_block:
            raise FormatError(f"{path}: {dataset.name}: {mapped.file_name} has other rows than it is to give")
        piece = Piece(
            path=path if mapped.file_name == "." else relative(mapped.file_name.replace("%%", "%"), path),
            dataset=mapped.dset_name,
            start=start,
            stride=block if numbered else stride,
            block=block,
            count=given,
            source_start=source_start,
            source_stride=source_stride,
            source_block=source_block,
        )
        yield Numbered(piece.path, piece.dataset, blocks=True, piece_0=piece, apart=stride) if numbered else piece


def _first_axis(space: Any, dataset: h5py.Dataset, path: Path) -> tuple[int, int, int | None, int]:
    """Start, stride, count and block of the rows that are selected, all of each row."""
    shape = space.get_simple_extent_dims()
    if space.get_select_type() == h5py.h5s.SEL_ALL:
        return 0, 1, None, 1
    if not space.is_regular_hyperslab():
        raise FormatError(f"{path}: {dataset.name}: its sources are not taken at regular rows; name one of them instead")
    start, stride, count, block = space.get_regular_hyperslab()
    whole = all(s == 0 and c * b == n for s, c, b, n in zip(start[1:], count[1:], block[1:], shape[1:], strict=True))
    if not whole:
        raise FormatError(
            f"{path}: {dataset.name} is put together of tiles, which cannot be followed; name the dataset of one module"
        )
    unlimited = [value in (-1, np.iinfo(np.uint64).max) for value in (count[0], block[0])]
    if unlimited[1]:  # one endless block
        return start[0], 1, None, 1
    return start[0], max(stride[0], block[0]), None if unlimited[0] else count[0], block[0]
