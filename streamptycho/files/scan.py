"""A recorded scan, whatever its dialect: what a simulator replays and an ``inspect`` command shows.

Frames are read one at a time, on demand. A file that is still being written is readable; what it held when it was opened
counts.
"""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from streamptycho.errors import FormatError
from streamptycho.files import describe
from streamptycho.files.bslz4 import chunk_encoding, stored_chunk
from streamptycho.files.dialect import LIVE, LIVE_KEY, Dialect, Places, dialect_of, find, open_file, places_of
from streamptycho.files.options import ReadOptions
from streamptycho.files.positions import positions_yx
from streamptycho.files.report import Report, read_report
from streamptycho.files.snapshots import latest
from streamptycho.messages.checks import MAX_SCAN_ID
from streamptycho.messages.payload import PIXEL_DTYPES, Encoding, Payload
from streamptycho.messages.results import Snapshot
from streamptycho.messages.run import RunId
from streamptycho.messages.stream import ScanStart
from streamptycho.options import Closing

_ROOM = 16
"""Bytes of a scan id that are left for what is appended to the name of a file."""


def open_scan(path: Path, options: ReadOptions | None = None) -> "RecordedScan":
    """Open a recorded scan and understand all of it but the frames.

    Raises FormatError if anything needed is missing, ambiguous or contradicts itself; the message names the option that
    settles it, by its name in the configuration. Use as a context manager.
    """
    file = open_file(Path(path))
    try:
        return RecordedScan(file, Path(path), options or ReadOptions())
    except OSError as error:
        file.close()
        raise FormatError(f"{path}: cannot be read ({error})") from error
    except BaseException:
        file.close()
        raise


class RecordedScan(Closing):
    """One scan of a file.

    Rows are frame indices: ``yx_m[k]`` is the position of frame `k`, and ``index`` lists the frames that are there.

    ::

        with open_scan(path) as scan:
            for i in scan.index:
                send(scan.payload(i), scan.yx_m[i])
    """

    def __init__(self, file: h5py.File, path: Path, options: ReadOptions) -> None:
        self._file = file
        self.path = path
        places = places_of(file)
        self._frames = _frames(file, places)
        self.dtype: np.dtype = self._frames.dtype.newbyteorder("<")
        """Pixel type, little-endian."""
        shape = (int(self._frames.shape[1]), int(self._frames.shape[2]))
        self.geometry, unit, self.understood = describe.read_geometry(file, places, options, shape)
        """``understood``: what was read from the file and why it was taken so, for people."""
        self.dialect = dialect_of(file, places, unit)
        pitch = min(self.geometry.pitch_m)
        field_m = self.geometry.wavelength_m * self.geometry.distance_m / pitch
        yx_m, self.understood["positions"] = positions_yx(file, places, options, field_m, len(self._frames))
        self.index, self.yx_m = self._rows(yx_m, options)
        """(n,) int64 frames present, rising; (N, 2) float64 metres (y, x), one row per frame index, NaN where unknown."""
        self.valid, self.understood["mask"] = describe.read_mask(file, places, options, shape)
        """(ny, nx) bool, True = valid; None = nothing masked."""
        self.dark, self.understood["dark"] = describe.read_dark(file, places, shape)
        """(ny, nx) float32 counts, or None."""
        self.probe, self.understood["probe"] = describe.read_probe(file, places, options)
        """(modes, n, n) complex64, or None."""
        self.saturation = describe.read_saturation(file)
        self.beam_center_px, self.understood["beam_center"] = describe.read_beam_center(file, places, options, self.geometry)
        self.metadata = describe.read_metadata(file)
        self._stored = chunk_encoding(self._frames) is Encoding.BSLZ4
        how = "bslz4, passed on as stored" if self._stored else "decompressed when read"
        size = f"{len(self)} of {shape[0]} x {shape[1]} {self.dtype.name}"
        self.understood["frames"] = f"{size}, {how} ({self._frames.name})"

    def __len__(self) -> int:
        return len(self.index)

    @property
    def scan_id(self) -> str:
        """A scan id after the name of the file, cut where that is too long and free of what a scan id may not have."""
        name = "".join(c if c.isprintable() and c != "\\" else "_" for c in self.path.stem).lstrip(".")
        return name.encode(errors="replace")[: MAX_SCAN_ID - _ROOM].decode(errors="ignore") or "scan"

    @property
    def report(self) -> Report:
        """How the scan went and what was learnt from it, as far as the file says so by now."""
        return read_report(self._file)

    @property
    def planned(self) -> int | None:
        """Frames that the start message announced, which our own growing file knows; None where it said nothing."""
        expected = find(self._file, (f"{LIVE}/expected",))
        return int(expected[()]) if expected is not None and expected[()] >= 0 else None

    def latest(self, run: RunId) -> Snapshot | None:
        """The latest picture of `run` in our own growing file; None where there is none, or the file is of another run."""
        return latest(self._file, run) if self.is_of(run) else None

    def is_of(self, run: RunId) -> bool:
        """Whether this is our own growing file of `run`."""
        started = find(self._file, (f"{LIVE}/started_ns",))
        return started is not None and int(started[()]) == run.started_ns

    def frame(self, i: int) -> NDArray[np.generic]:
        """Pixels of frame `i`, (ny, nx), little-endian. Raises FormatError if they cannot be decompressed."""
        self._check(i)
        try:
            pixels: NDArray[np.generic] = self._frames[i]
        except OSError as error:
            raise FormatError(f"{self.path}: frame {i} cannot be read ({error})") from error
        return pixels.astype(self.dtype, copy=False)

    def payload(self, i: int) -> Payload:
        """Frame `i` as a block of one: the stored chunk itself where it is bslz4, otherwise raw pixels."""
        self._check(i)
        chunk = stored_chunk(self._frames, i) if self._stored else None
        if chunk is None:
            return Payload.raw(self.frame(i))
        return Payload(chunks=(chunk,), encoding=Encoding.BSLZ4, dtype=self.dtype, shape=self.geometry.frame_shape)

    def start(self, scan_id: str, started_ns: int) -> ScanStart:
        """The message that opens a replay of this scan."""
        return ScanStart(
            scan_id=scan_id,
            geometry=self.geometry,
            dtype=self.dtype,
            started_ns=started_ns,
            expected=len(self),
            valid=self.valid,
            dark=self.dark,
            probe=self.probe,
            saturation=self.saturation,
            beam_center_px=self.beam_center_px,
            metadata=dict(self.metadata),
        )

    def close(self) -> None:
        """Close the file; nothing can be read afterwards."""
        self._file.close()

    def _rows(self, yx_m: NDArray[np.float64], options: ReadOptions) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        frames, key = len(self._frames), find(self._file, (LIVE_KEY,))
        if self.dialect is Dialect.STREAMPTYCHO and key is not None:
            index = np.flatnonzero(key[:frames] > 0).astype(np.int64)
            missing = max(0, frames - len(yx_m))
            return index, np.concatenate([yx_m, np.full((missing, 2), np.nan)])
        if len(yx_m) != frames and not options.truncate:
            raise FormatError(
                f"{self.path}: {frames} frames but {len(yx_m)} positions; set read.truncate to use the first that both have"
            )
        common = min(frames, len(yx_m))
        return np.arange(common, dtype=np.int64), yx_m[:common]

    def _check(self, i: int) -> None:
        at = int(np.searchsorted(self.index, i))
        if at == len(self.index) or self.index[at] != i:
            raise IndexError(f"{self.path}: no frame {i}")


def _frames(file: h5py.File, places: Places) -> Any:
    dataset = find(file, places.frames)
    if dataset is None or dataset.ndim != 3 or min(dataset.shape[1:]) < 1:
        raise FormatError(f"{file.filename}: {places.frames[0]} is not (frames, ny, nx)")
    if dataset.dtype.name not in PIXEL_DTYPES:
        raise FormatError(f"{dataset.name}: type {dataset.dtype.name} is not one of {', '.join(PIXEL_DTYPES)}; convert it")
    return dataset
