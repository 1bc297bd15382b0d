"""Files of writers that died: made readable by every program, and taken up again.

What such a writer has flushed is consistent at every moment; only the first bytes of the file still say that it is open.
A file that a living process writes is never touched.
"""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np

from streamptycho import __version__
from streamptycho.errors import FormatError
from streamptycho.files.disk import LIBVER, abandon, hold, locked, show
from streamptycho.files.items import ENTRY, update
from streamptycho.files.layout import SAMPLE
from streamptycho.files.naming import existing_paths
from streamptycho.files.paths import DETECTOR, LIVE, LIVE_KEY, TRANSLATION, find, is_own, text
from streamptycho.files.recorded.containers import open_file
from streamptycho.files.report import COUNTERS
from streamptycho.files.scan import open_scan
from streamptycho.files.superblock import End, Superblock
from streamptycho.messages.reasons import EndReason
from streamptycho.messages.run import RunId
from streamptycho.messages.stream import ScanStart

log = logging.getLogger(__name__)

FRAMES = (f"{DETECTOR}/data", LIVE_KEY, f"{LIVE}/timestamp_ns")
DARKS = (f"{DETECTOR}/data_dark", f"{LIVE}/dark_key", f"{LIVE}/dark_timestamp_ns")
POSITIONS = (TRANSLATION, f"{SAMPLE}/transformations/x", f"{SAMPLE}/transformations/y")
COUNT = f"{COUNTERS}/n_frames"
END_REASON = f"{LIVE}/end_reason"


@dataclass(frozen=True, slots=True)
class Recovered:
    """What is in a file that was recovered."""

    frames: int
    """Rows that hold a frame."""
    changed: bool
    """False if the file was whole before."""


def recover(path: Path) -> Recovered:
    """Make a growing file readable by every program after its writer died; all that it had flushed is kept.

    Raises FormatError naming the reason for a file that another process has open, that is none of this program's growing
    files, or that cannot be read even so; such a file stays as it is.
    """
    path = Path(path)
    try:
        with locked(path) as descriptor:
            mended = _mend(path, descriptor)
            with _opened(path, "r") as file:
                frames, even = _frames(file), _is_even(file)
            if not even:
                with _growing(path) as file:
                    frames = _make_even(file)
                    End(file).close()
            os.fsync(descriptor)
    except OSError as error:
        raise FormatError(f"{path}: cannot be recovered ({error}); free the disk, or copy the file and try there") from error
    return Recovered(frames, mended or not even)


def unfinished_run(path: Path) -> RunId | None:
    """The run that a growing file without an end is of, whether it is being written or not; None for any other file."""
    run, reason = _run_and_end(path)
    return None if reason else run


def _run_and_end(path: Path) -> tuple[RunId | None, str]:
    """The run of a growing file and the reason of its end; None for any other file."""
    try:
        with open_file(path) as file:
            if find(file, (LIVE_KEY,)) is None or not is_own(file):
                return None, ""
            run = RunId(text(file[f"{ENTRY}/title"][()]), int(file[f"{LIVE}/started_ns"][()]))
            return run, text(file[END_REASON][()])
    except FormatError:
        return None, ""


@dataclass(frozen=True, slots=True)
class Finished:
    """The growing file of a scan that is over."""

    path: Path
    frames: int
    positions: int
    end: EndReason


def find_finished(directory: Path, run: RunId) -> Finished | None:
    """The file of a run that was finished, by whichever process; None if there is none, or the run has no beginning."""
    for path in existing_paths(directory, run.scan_id) if run.started_ns else ():
        found, reason = _run_and_end(path)
        if found == run and reason:
            with open_file(path) as file:
                places = int(np.isfinite(file[TRANSLATION][()]).all(axis=1).sum())
                return Finished(path, _frames(file), places, EndReason(reason))
    return None


def abandoned(directory: Path, within_s: float) -> Iterator[ScanStart]:
    """The starts of unfinished scans, oldest first, whose files were written in the last `within_s` and are not any more.

    The plan of positions is not in a file.
    """
    since_s = time.time() - within_s
    written = sorted((path.stat().st_mtime, path) for path in directory.glob("*.cxi"))
    for path in (path for time_s, path in written if time_s >= since_s):
        run = unfinished_run(path)
        if run is None or not run.started_ns:
            continue
        try:
            with locked(path):
                pass
            with open_scan(path) as scan:
                start = replace(scan.start(run.scan_id, run.started_ns), expected=scan.planned)
        except FormatError as error:
            log.warning("an unfinished scan is not gone on with: %s", error)
            continue
        yield start


def take_up(path: Path, start: ScanStart, *, ours: bool = False) -> h5py.File:
    """Recover the growing file of a scan and open it to go on writing, while others may read it.

    Of a scan without a beginning only a file that is known to be `ours` is taken: that of another run looks the same.
    Raises FormatError as :func:`recover` does, or where it is finished or of another run, and OSError for what the disk
    refuses.
    """
    with locked(path) as descriptor:
        _mend(path, descriptor)
        with _opened(path, "r") as file:
            _check_same(file, start, ours=ours)
        with _growing(path) as file:
            _make_even(file)
        show(descriptor)  # the lock is shared before it is given back, so that nobody comes in between
        hold(file)
    return file


def _check_same(file: h5py.File, start: ScanStart, *, ours: bool) -> None:
    """Raise FormatError unless `file` is an unfinished one of that run, as this version makes it."""
    name, frames, version = file.filename, file[FRAMES[0]], text(file.attrs["creator_version"])
    run = RunId(text(file[f"{ENTRY}/title"][()]), int(file[f"{LIVE}/started_ns"][()]))
    if run != start.run or not (start.started_ns or ours):
        raise FormatError(f"{name}: is of {run}, not of {start.run}")
    if end := text(file[END_REASON][()]):
        raise FormatError(f"{name}: is finished ({end})")
    if version != __version__:
        raise FormatError(f"{name}: is of version {version} of this program, which is {__version__}")
    if (frames.shape[1:], frames.dtype) != (start.geometry.frame_shape, start.dtype):
        raise FormatError(f"{name}: has frames of {frames.shape[1:]} {frames.dtype}, not as the start message says")


def _mend(path: Path, descriptor: int) -> bool:
    """Let the first bytes say that nobody writes the file, and where it ends; False if they did."""
    found = Superblock.read(descriptor, str(path))
    mended = replace(found, flags=0, end=os.fstat(descriptor).st_size)
    if mended != found:
        mended.write(descriptor)
    try:
        with _opened(path, "r") as file:
            lacking = [name for name in (*FRAMES, *DARKS, *POSITIONS, COUNT) if find(file, (name,)) is None]
    except (OSError, RuntimeError) as error:
        os.pwrite(descriptor, found.raw, 0)
        raise FormatError(f"{path}: cannot be read even with its end set right ({error})") from error
    if lacking:
        os.pwrite(descriptor, found.raw, 0)
        raise FormatError(f"{path}: not a growing file of this program, it has no {lacking[0]}")
    return mended != found


def _opened(path: Path, mode: str) -> h5py.File:
    return h5py.File(path, mode, libver=LIBVER, locking=False)  # the lock is ours


@contextmanager
def _growing(path: Path) -> Iterator[h5py.File]:
    """The file in the state in which it grew, in which it also survives the death of this process; left open."""
    file = _opened(path, "r+")
    try:
        file.swmr_mode = True
        End(file).reserve(0)
        yield file
    except BaseException:
        if file:
            abandon(file)
        raise


def _frames(file: h5py.File) -> int:
    return int(np.count_nonzero(file[LIVE_KEY][()] > 0))


def _lengths(file: h5py.File) -> dict[str, int]:
    """What each dataset of rows has to have, by name."""
    return {name: max(len(file[one]) for one in alike) for alike in ((*FRAMES, *POSITIONS), DARKS) for name in alike}


def _is_even(file: h5py.File) -> bool:
    return file[COUNT][()] == _frames(file) and all(len(file[name]) == n for name, n in _lengths(file).items())


def _make_even(file: h5py.File) -> int:
    """Give all datasets the rows that some have, and count the frames: keys may be there that were not within reach."""
    for name, rows in _lengths(file).items():
        if len(file[name]) < rows:
            file[name].resize(rows, axis=0)
            file[name].flush()
    frames = _frames(file)
    update(file[COUNT], frames)
    return frames
