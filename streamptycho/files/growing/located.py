"""Where a dataset really is: behind links to other files, and in the sources of virtual datasets.

HDF5 would follow both, but with the access of the file that it comes from, and what a virtual dataset's source does not have
yet it gives as zeros. So every file is opened by itself, by its name relative to the file that names it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from streamptycho.errors import FormatError

_MOST_LINKS = 16
_MOST_SOURCES = 4096


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

    def source_row(self, row: int) -> int | None:
        """The row of the source that is this row of the virtual dataset, None if it is another source's."""
        turn, within = divmod(row - self.start, self.stride)
        if row < self.start or within >= self.block or (self.count is not None and turn >= self.count):
            return None
        turn, within = divmod(turn * self.block + within, self.source_block)
        return self.source_start + turn * self.source_stride + within

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


def relative(name: str, to: Path) -> Path:
    """The file that `to` calls `name`: beside it, or beside what a link at `to` leads to."""
    beside = to.parent / name
    return beside if beside.exists() or Path(name).is_absolute() else to.resolve().parent / name


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


def pieces_of(dataset: h5py.Dataset, path: Path) -> list[Piece]:
    """Sources of a virtual dataset. Raises FormatError unless each gives whole rows."""
    sources = dataset.virtual_sources()
    if len(sources) > _MOST_SOURCES:
        raise FormatError(f"{path}: {dataset.name} has {len(sources)} sources; at most {_MOST_SOURCES} are followed")
    return list(_pieces(dataset, path, sources))


def _pieces(dataset: h5py.Dataset, path: Path, sources: list[Any]) -> Iterator[Piece]:
    for mapped in sources:
        if "%" in mapped.file_name.replace("%%", ""):
            raise FormatError(
                f"{path}: {dataset.name} has sources by a pattern, {mapped.file_name}; name one of them instead"
            )
        start, stride, count, block = _first_axis(mapped.vspace, dataset, path)
        source_start, source_stride, source_count, source_block = _first_axis(mapped.src_space, dataset, path)
        if count is not None and source_count is not None and count * block != source_count * source_block:
            raise FormatError(f"{path}: {dataset.name}: {mapped.file_name} has other rows than it is to give")
        yield Piece(
            path=path if mapped.file_name == "." else relative(mapped.file_name, path),
            dataset=mapped.dset_name,
            start=start,
            stride=stride,
            block=block,
            count=count,
            source_start=source_start,
            source_stride=source_stride,
            source_block=source_block,
        )


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
