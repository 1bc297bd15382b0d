"""Follows one dataset of an HDF5 file that another process writes.

The file may not exist yet, lack the dataset for a while, or be replaced; it may be written in SWMR mode, or be flushed now
and then. Files are opened without locks: a lock would keep their writer out, and many network disks have none. Where
HDF5_USE_FILE_LOCKING is set, that decides instead.

A row counts as written once its chunk is in the file and, where there is a live key, once that is not 0 there. Without a
key, a row that has the fill value may not have been written yet: whoever asks has to decide, see :attr:`Follower.fill`.
"""

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from streamptycho.errors import FormatError
from streamptycho.files.bslz4 import chunk_encoding, stored_chunk
from streamptycho.files.growing.located import FITTING, Elsewhere, Numbered, Piece, check, hint, locate, pieces_of
from streamptycho.files.growing.names import ALL_MEMBERS, Members, is_numbered
from streamptycho.files.growing.parts import Parts
from streamptycho.messages.payload import PIXEL_DTYPES, Payload
from streamptycho.options import Closing

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_CACHE_BYTES = 64 << 20
"""Of chunks with several rows, so that each is decompressed once."""
_DEEPEST = 8
"""Files that lead to one another."""


class Follower(Closing):
    """One dataset, or numbers and frames behind links and in the sources of a virtual dataset.

    Parameters
    ----------
    path : file; need not exist. Its name may hold ``%06d`` for a running number: the rows go on from file to file.
    dataset : path in it; its name may hold such a number as well.
    live_key : path in it of a dataset that is not 0 where a row has been written.
    frames : the last two axes are those of a frame; else a row is a number. All other axes count rows, the last fastest.
    members : which files belong to a numbered name.
    """

    def __init__(
        self,
        path: Path,
        dataset: str,
        live_key: str | None = None,
        *,
        frames: bool = False,
        depth: int = 0,
        members: Members = ALL_MEMBERS,
    ) -> None:
        if depth > _DEEPEST:
            raise FormatError(f"{path}: more than {_DEEPEST} files lead to one another; name the last of them")
        self.path, self.dataset = path, dataset
        self.length = 0
        """Rows that it has, written or not."""
        self.generation = 0
        """How often the file was replaced."""
        self.why = f"{path}: has not been looked at"
        """Why :meth:`refresh` was False."""
        self._frames, self._depth = frames, depth
        self._members = members
        self._numbered = is_numbered(path.name) or is_numbered(dataset)
        self._key = Follower(path, live_key, depth=depth + 1, members=members) if live_key else None
        self._descriptor: int | None = None
        self._size = 0
        self._file: Any = None
        self._data: Any = None
        self._parts: Parts | None = None

    def refresh(self) -> bool:
        """Look again; False if there is nothing to read at the moment. Raises FormatError for what can never be read."""
        try:
            with self._reading():
                found = self._look()
        except OSError as error:
            self._drop()
            self.why = str(error)
            return False
        return found

    @property
    def writing(self) -> bool | None:
        """Whether a writer has the file open, or died with it; None where the file does not tell."""
        if self._parts is not None:
            return self._parts.writing
        head = os.pread(self._descriptor, 12, 0) if self._descriptor is not None else b""
        return bool(head[11]) if head[:8] == _SIGNATURE and head[8:9] == b"\x03" else None

    @property
    def unit(self) -> str | None:
        """Attribute ``units`` of the dataset."""
        if self._parts is not None:
            return self._parts.first.unit
        found = self._data.attrs.get("units", self._data.attrs.get("unit")) if self._data is not None else None
        return found.decode(errors="replace") if isinstance(found, bytes) else found if isinstance(found, str) else None

    @property
    def first_image(self) -> int | None:
        """Attribute ``image_nr_low`` of a DECTRIS file: the number of the image in its first row, from 1."""
        if self._parts is not None:
            return self._parts.first.first_image
        found = self._data.attrs.get("image_nr_low") if self._data is not None else None
        return int(found) if isinstance(found, np.integer) and found > 0 else None

    @property
    def fill(self) -> float:
        """What a row holds that was never written."""
        if self._parts is not None:
            return self._parts.first.fill
        return float(self._data.fillvalue)

    @property
    def frame_shape(self) -> tuple[int, int]:
        """(ny, nx) of a frame, pixels."""
        if self._parts is not None:
            return self._parts.first.frame_shape
        return self._data.shape[-2], self._data.shape[-1]

    @property
    def frame_dtype(self) -> np.dtype:
        """Pixel type that frames are given in, little-endian."""
        if self._parts is not None:
            return self._parts.first.frame_dtype
        name = self._data.dtype.name
        fitting: np.dtype = np.dtype(FITTING.get(name, name)).newbyteorder("<")
        return fitting

    def written(self, first: int, stop: int) -> NDArray[np.bool_]:
        """(stop - first,) bool, True where a row can be read; rows beyond `length` cannot."""
        done = np.zeros(stop - first, np.bool_)
        with self._reading():
            if self._parts is not None:
                for at, part, source_first, count in self._parts.runs(first, min(stop, self.length)):
                    done[at : at + count] = part.written(source_first, source_first + count)
                return done & self._live(first, stop)
            end = max(min(stop, self.length), first)
            done[: end - first] = self._live(first, end)
            rows = np.flatnonzero(done)
            done[rows] = self._stored(first + rows)
        return done

    def rows(self, first: int, stop: int) -> NDArray[np.float64]:
        """(stop - first,) float64, the numbers in these rows, as they are."""
        with self._reading():
            if self._parts is None:
                return self._read(first, stop).reshape(-1).astype(np.float64)
            found = np.full(stop - first, np.nan)
            for at, part, source_first, count in self._parts.runs(first, stop):
                found[at : at + count] = part.rows(source_first, source_first + count)
            return found

    def blocks(self, first: int, stop: int) -> list[Payload]:
        """The frames in these rows, in their order; as they are stored where that is bslz4 with one frame a chunk."""
        with self._reading():
            if self._parts is None:
                return [self._payload(first, stop)]
            runs = list(self._parts.runs(first, stop))
            if sum(count for *_, count in runs) != stop - first:
                raise OSError(f"{self.path}: {self.dataset}: rows {first} to {stop - 1} are not all in its sources")
            return [block for _, part, source, count in runs for block in part.blocks(source, source + count)]

    def rest(self) -> None:
        """Close the files until rows are read again."""
        length = self.length
        self._drop()
        self.length = length

    def close(self) -> None:
        """Close all files."""
        self._drop()
        if self._key is not None:
            self._key.close()

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """What h5py makes of half-written files as one kind of error, which names the file; any of them may pass."""
        try:
            self._wake()
            yield
        except OSError as error:
            if str(self.path) in str(error):
                raise
            raise OSError(f"{self.path}: {error}") from error
        except (RuntimeError, KeyError, ValueError) as error:
            raise OSError(f"{self.path}: {self.dataset}: {error}") from error

    def _wake(self) -> None:
        """Open again what has rested."""
        if self._file is None and self._parts is None and self.length and not self._look():
            raise OSError(f"{self.path}: {self.why}")

    def _look(self) -> bool:
        if self._replaced():
            self._drop()
            self.generation += 1
        if self._data is None and self._parts is None and not self._open():
            return False
        if self._key is not None and not self._key.refresh():
            self.why = self._key.why
            return False
        if self._parts is not None:
            before = self._parts.generation
            found = self._parts.refresh()
            if self._parts.generation != before:
                self.generation += 1
                self._drop()
                return False
            self.length, self.why = self._parts.length, self._parts.why
            return found
        self._data.refresh()
        self.length = int(np.prod(self._leading))
        return True

    def _replaced(self) -> bool:
        """Whether there is another file of this name, or the file has begun anew."""
        if self._descriptor is None:
            return False
        here = os.fstat(self._descriptor)
        try:
            there = self.path.stat()
        except OSError:  # removed: what is open can still be read
            return False
        shrunk, self._size = there.st_size < self._size, there.st_size
        return (here.st_dev, here.st_ino) != (there.st_dev, there.st_ino) or shrunk

    def _open(self) -> bool:
        self._drop()
        if self._numbered:
            self._follow([Numbered(self.path, self.dataset)])
            return True
        descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)  # of a pipe, too, nothing is waited for
        self._descriptor = descriptor
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise FormatError(f"{self.path}: is no regular file; name an HDF5 file")
        self._size = os.fstat(descriptor).st_size
        self._file = h5py.File(
            self.path, "r", swmr=True, libver="latest", locking=False, rdcc_nbytes=_CACHE_BYTES if self._frames else None
        )
        found = locate(self._file, self.path, self.dataset)
        if found is None:
            self.why = f"{self.path}: has no dataset {self.dataset} yet{hint(self._file, self.dataset)}"
            self._file.close()  # anew next time: a group that is kept does not show what has come into it
            self._file = None
            self._forget_descriptor()
            return False
        if isinstance(found, Elsewhere):
            self._follow([Piece(found.path, found.dataset)])
        elif found.is_virtual:
            self._follow(pieces_of(found, self.path))
        else:
            check(found, self.path, self.dataset, frames=self._frames)
            self._data = found
        return True

    def _follow(self, sources: Sequence[Piece | Numbered]) -> None:
        def make(path: Path, dataset: str) -> Follower:
            return Follower(path, dataset, frames=self._frames, depth=self._depth + 1)

        self._parts = Parts(sources, make, self._members)
        if self._file is not None:
            self._file.close()
            self._file = None

    @property
    def _leading(self) -> tuple[int, ...]:
        """Axes that count rows."""
        shape: tuple[int, ...] = self._data.shape
        if self._frames:
            return shape[:-2]
        while len(shape) > 1 and shape[-1] == 1:
            shape = shape[:-1]
        return shape

    def _stored(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether the chunks of these rows are in the file."""
        chunks, leading = self._data.chunks, self._leading
        done = np.ones(len(rows), np.bool_)
        if chunks is None:
            return done
        rest = (0,) * (self._data.ndim - len(leading))
        known: dict[tuple[int, ...], bool] = {}
        for at, row in enumerate(rows):
            place = np.unravel_index(row, leading)
            corner = (*(int(i) // chunk * chunk for i, chunk in zip(place, chunks, strict=False)), *rest)
            if corner not in known:
                known[corner] = self._data.id.get_chunk_info_by_coord(corner).byte_offset is not None
            done[at] = known[corner]
        return done

    def _live(self, first: int, stop: int) -> NDArray[np.bool_]:
        """Whether the live key says that these rows have been written."""
        if self._key is None:
            return np.ones(stop - first, np.bool_)
        live = np.zeros(stop - first, np.bool_)
        end = max(min(stop, self._key.length), first)
        live[: end - first] = self._key.written(first, end) & (self._key.rows(first, end) != 0)
        return live

    def _read(self, first: int, stop: int) -> NDArray[Any]:
        """(stop - first, ...) rows as they are stored."""
        leading, rest = self._leading, self._data.shape[len(self._leading) :]
        inner = int(np.prod(leading[1:]))
        begin = first // inner
        block = self._data[begin : -(-stop // inner)].reshape(-1, *rest)
        rows: NDArray[Any] = block[first - begin * inner : stop - begin * inner]
        if len(rows) != stop - first:
            raise OSError(f"{self.path}: {self.dataset}: rows {first} to {stop - 1} are not all there")
        return rows

    def _payload(self, first: int, stop: int) -> Payload:
        encoding = chunk_encoding(self._data) if self._data.ndim == 3 and self._data.dtype.name in PIXEL_DTYPES else None
        if encoding is not None:
            chunks = [stored_chunk(self._data, row) for row in range(first, stop)]
            whole = tuple(chunk for chunk in chunks if chunk is not None)
            if len(whole) == len(chunks):
                return Payload(chunks=whole, encoding=encoding, dtype=self.frame_dtype, shape=self.frame_shape)
        pixels = self._read(first, stop)
        fitting = pixels.astype(self.frame_dtype, copy=False)
        if pixels.dtype.name in ("int64", "uint64") and not np.array_equal(pixels, fitting):
            raise FormatError(
                f"{self.path}: {self.dataset}: rows {first} to {stop - 1} hold {pixels.dtype} beyond {fitting.dtype};"
                " write counts of 32 bits"
            )
        return Payload.raw(fitting)

    def _forget_descriptor(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor = None

    def _drop(self) -> None:
        """Close what is open here; the live key looks after itself."""
        if self._parts is not None:
            self._parts.close()
        self._parts, self._data, self.length = None, None, 0
        if self._file is not None:
            self._file.close()
        self._file = None
        self._forget_descriptor()
