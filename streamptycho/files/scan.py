"""A recorded scan, whatever its dialect: what a simulator replays and an ``inspect`` command shows.

Frames are read one at a time, on demand. A file that is still being written is readable; what it held when it was opened
counts.
"""

from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from streamptycho.errors import FormatError
from streamptycho.files.options import ReadOptions
from streamptycho.files.paths import LIVE, LIVE_KEY, find, is_own, text
from streamptycho.files.recorded import describe
from streamptycho.files.recorded.beam import Beam, read_geometry, unit_is_joule
from streamptycho.files.recorded.containers import open_file
from streamptycho.files.recorded.found import Found, layout_of, refuse_near_field
from streamptycho.files.recorded.frames import Frames, may_count
from streamptycho.files.recorded.layouts import CXI, Dialect
from streamptycho.files.recorded.pixels import LOOK, look
from streamptycho.files.recorded.places import Places
from streamptycho.files.recorded.positions import Stored, in_metres, read_positions
from streamptycho.files.recorded.quantities import median_step
from streamptycho.files.report import Report, read_report
from streamptycho.files.snapshots import latest
from streamptycho.messages.checks import MAX_SCAN_ID
from streamptycho.messages.geometry import Radiation, in_unit
from streamptycho.messages.payload import Encoding, Payload
from streamptycho.messages.results import Snapshot
from streamptycho.messages.run import RunId
from streamptycho.messages.stream import ScanStart
from streamptycho.options import Closing

_ROOM = 16
"""Bytes of a scan id that are left for what is appended to the name of a file."""
_LOOK_WITHIN = 64
"""First frames among which those are that are looked at."""
_FINE_M = 2e-9
"""Steps that only electrons resolve."""


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
        self._file, self._places = file, Places(file)
        self.path = path
        try:
            self._understand(layout_of(file, options), options)
        except BaseException:
            self._places.close()
            raise

    def _understand(self, found: Found, options: ReadOptions) -> None:
        own = is_own(found.file)
        if not own:
            refuse_near_field(found)
        parts = (
            [(str(d.name), d) for d in self._places.datasets(options.frames, "frames")] if options.frames else _frames(found)
        )
        stored = read_positions(found, self._places, options, may_count(parts))
        self._frames = Frames(parts, options, set() if own else {len(stored.xy)}, _planned(found))
        sample = [] if own else _sample(self._frames)
        self._pixels = look(sample, self._frames.dtype, options, amplitudes=found.layout.amplitudes)
        self.dtype: np.dtype = self._pixels.dtype
        """Pixel type, little-endian."""
        shape = self._frames.shape
        self.geometry, beam, self.understood = read_geometry(found, options, shape)
        """``understood``: what was read from the file and why it was taken so, for people."""
        self.dialect = _dialect(found, beam.unit)
        field_m = self.geometry.wavelength_m * self.geometry.distance_m / min(self.geometry.pitch_m)
        yx_m, self.understood["positions"] = in_metres(found, stored, options, field_m)
        _check_radiation(beam, yx_m, stored)
        self.index, self.yx_m = self._rows(yx_m, options)
        """(n,) int64 frames present, rising; (N, 2) float64 metres (y, x), one row per frame index, NaN where unknown."""
        valid, self.understood["mask"] = describe.read_mask(found, self._places, options, self._pixels, shape, beam.unit)
        self.valid = None if valid is None else self._pixels.placed(valid)
        """(ny, nx) bool, True = valid; None = nothing masked."""
        dark, self.understood["dark"] = describe.read_dark(found, shape)
        self.dark = None if dark is None else self._pixels.placed(dark)
        """(ny, nx) float32 counts, or None."""
        self.probe, self.understood["probe"] = describe.read_probe(found, self._places, options)
        """(modes, n, n) complex64, or None."""
        self.saturation = describe.read_saturation(self._file)
        self.beam_center_px, self.understood["beam_center"] = describe.read_beam_center(found, options, self.geometry)
        if self._pixels.shifted:
            self.beam_center_px = None
        self.metadata = describe.read_metadata(self._file)
        self._stored = (
            self._frames.is_bslz4 and self._pixels.as_stored and self.dtype == self._frames.dtype.newbyteorder("<")
        )
        how = "passed on as stored where that is bslz4" if self._stored else "decompressed when read"
        size = f"{len(self)} of {shape[0]} x {shape[1]} {self.dtype.name}"
        why = f"; {self._frames.why}" if self._frames.why else ""
        self.understood["frames"] = f"{size}, {how} ({self._frames.name}){why}"
        self.understood |= self._pixels.notes
        if self._frames.lost:
            lost = int((~self._frames.present).sum())
            self.understood["missing"] = f"{lost} frames are missing: not there is {', '.join(self._frames.lost[:8])}"

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
    def began(self) -> str | None:
        """Beginning of the scan, ISO 8601; None where the file does not say it."""
        said = find(self._file, ("/entry_1/start_time",))
        return None if said is None else text(said[()]) or None

    @property
    def started_ns(self) -> int:
        """The same in nanoseconds since 1970, which tells two runs of one name apart; 0 where it is not known."""
        said = find(self._file, (f"{LIVE}/started_ns",))
        return 0 if said is None else int(said[()])

    @property
    def timestamp_ns(self) -> NDArray[np.int64]:
        """(N,) end of each exposure, nanoseconds since 1970; 0 where it is not known."""
        said, times = find(self._file, (f"{LIVE}/timestamp_ns",)), np.zeros(len(self.yx_m), np.int64)
        if said is not None:
            times[: len(said)] = said[()]
        return times

    @property
    def stored_at(self) -> tuple[Path, str, int] | None:
        """File, dataset and number of the frames, where they are one stack that is stored as :meth:`frame` gives it."""
        return self._frames.stack if self._pixels.as_stored and self.dtype == self._frames.dtype else None

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
        """Counts of frame `i`, (ny, nx), little-endian. Raises FormatError if they cannot be decompressed."""
        self._check(i)
        try:
            stored = self._frames.read(i)
        except OSError as error:
            raise FormatError(f"{self.path}: frame {i} cannot be read ({error})") from error
        return self._pixels.counts(stored, f"{self.path}: frame {i}")

    def payload(self, i: int) -> Payload:
        """Frame `i` as a block of one: the stored chunk itself where it is bslz4, otherwise raw pixels."""
        self._check(i)
        chunk = self._frames.stored(i) if self._stored else None
        if chunk is None:
            return Payload.raw(np.ascontiguousarray(self.frame(i)))
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
        self._places.close()
        self._file.close()

    def _rows(self, yx_m: NDArray[np.float64], options: ReadOptions) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        frames, key = len(self._frames), find(self._file, (LIVE_KEY,))
        if is_own(self._file) and key is not None:
            index = np.flatnonzero(key[:frames] > 0).astype(np.int64)
            missing = max(0, frames - len(yx_m))
            return index, np.concatenate([yx_m, np.full((missing, 2), np.nan)])
        if len(yx_m) != frames and not options.truncate:
            raise FormatError(
                f"{self.path}: {frames} frames but {len(yx_m)} positions; set read.truncate to use the first that both have"
            )
        common = min(frames, len(yx_m))
        return np.flatnonzero(self._frames.present[:common]).astype(np.int64), yx_m[:common]

    def _check(self, i: int) -> None:
        at = int(np.searchsorted(self.index, i))
        if at == len(self.index) or self.index[at] != i:
            raise IndexError(f"{self.path}: no frame {i}")


def _frames(found: Found) -> list[tuple[str, Any | None]]:
    """Name and dataset of each member of the first series of frames that is there."""
    for path in found.layout.frames:
        parts = found.parts(path)
        if any(dataset is not None for _, dataset in parts):
            return parts
    raise FormatError(f"{found.file.filename}: no frames; set read.frames = 'FILE::/path'")


def _planned(found: Found) -> int | None:
    """Frames that a DECTRIS detector was to take."""
    planned = 1
    for name in ("nimages", "ntrigger"):
        dataset = found.find(f"/{{entry}}/instrument/detector/detectorSpecific/{name}")
        if dataset is None or dataset.size != 1 or dataset.dtype.kind not in "iu":
            return None
        planned *= max(1, int(np.asarray(dataset[()]).reshape(-1)[0]))
    return planned


def _sample(frames: Frames) -> list[NDArray[np.generic]]:
    """Some of the first frames that can be read."""
    there = np.flatnonzero(frames.present[: _LOOK_WITHIN * LOOK])[:_LOOK_WITHIN]
    sample = []
    for i in there[np.unique(np.linspace(0, len(there) - 1, min(len(there), LOOK)).astype(int))] if len(there) else ():
        with suppress(OSError):  # it is told when that frame is used
            sample.append(frames.read(int(i)))
    return sample


def _dialect(found: Found, energy_unit: str | None) -> Dialect:
    """Within CXI the unit of the energy tells the two kinds apart, else ``cxi_version``."""
    if is_own(found.file):
        return Dialect.STREAMPTYCHO
    if found.layout is not CXI:
        return found.layout.dialect
    standard = unit_is_joule(energy_unit) if energy_unit is not None else "cxi_version" in found.file
    return Dialect.STANDARD_CXI if standard else Dialect.SEED_CXI


def _check_radiation(beam: Beam, yx_m: NDArray[np.float64], stored: Stored) -> None:
    """Refuse steps that only electrons resolve where nothing says that these are photons."""
    if beam.sure or beam.radiation is not Radiation.PHOTONS:
        return
    step_m = median_step(yx_m)
    if step_m < _FINE_M:
        value, unit = in_unit(step_m)
        raise FormatError(
            f"{stored.path}: steps of {value:.3g} {unit} are those of an electron microscope, and the file does not say "
            "what its energy is of; set read.radiation to photons or electrons"
        )
