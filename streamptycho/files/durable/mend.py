"""Files of writers that died: opened again, for readers and for a writer that goes on.

What such a writer has flushed is consistent at every moment; only the first bytes of the file still say that it is open.
A file that a living process writes is never touched. All is done in an order in which it can be broken off, and done again.
"""

import contextlib
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
from streamptycho.files.durable.disk import LIBVER, abandon, hold, is_held, locked, show
from streamptycho.files.durable.superblock import End, Superblock
from streamptycho.files.items import ENTRY, update
from streamptycho.files.layout import SAMPLE
from streamptycho.files.naming import existing_paths
from streamptycho.files.paths import DETECTOR, LIVE, LIVE_KEY, TRANSLATION, find, is_own, text
from streamptycho.files.recorded.containers import open_file
from streamptycho.files.report import COUNTERS
from streamptycho.files.scan import open_scan
from streamptycho.messages.reasons import EndReason
from streamptycho.messages.run import RunId
from streamptycho.messages.stream import ScanStart

log = logging.getLogger(__name__)

FRAMES = (f"{DETECTOR}/data", LIVE_KEY, f"{LIVE}/timestamp_ns")
DARKS = (f"{DETECTOR}/data_dark", f"{LIVE}/dark_key", f"{LIVE}/dark_timestamp_ns")
POSITIONS = (TRANSLATION, f"{SAMPLE}/transformations/x", f"{SAMPLE}/transformations/y")
COUNT = f"{COUNTERS}/n_frames"
END_REASON = f"{LIVE}/end_reason"


def make_readable(path: Path) -> None:
    """Let every program open a growing file that nobody is writing, and leave it to be gone on with.

    Raises as :func:`~streamptycho.files.recover.recover` does.
    """
    with to_mend(path) as descriptor:
        mend(path, descriptor)
        with opened(path, "r") as file:
            even = _is_even(file)
        if not even:
            with growing(path) as file:
                make_even(file)
                End(file).close()
        os.fsync(descriptor)


@contextmanager
def to_mend(path: Path) -> Iterator[int]:
    """A descriptor of a file that nobody else is writing. Raises FormatError naming the reason where there is none."""
    try:
        with locked(path) as descriptor:
            yield descriptor
    except OSError as error:
        raise FormatError(f"{path}: cannot be recovered ({error}); free the disk, or copy the file and try there") from error


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
            return run_of(file), text(file[END_REASON][()])
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
                return Finished(path, count_frames(file), count_positions(file), EndReason(reason))
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


def left_behind(directory: Path, within_s: float) -> Iterator[Path]:
    """Files that say that a writer has them open, and that nobody has written in the last `within_s` or is writing."""
    since_s = time.time() - within_s
    for path in sorted(directory.glob("*.cxi")):
        with contextlib.suppress(FormatError), path.open("rb") as file:  # of others, and none of our kind
            if path.stat().st_mtime < since_s and Superblock.read(file.fileno(), str(path)).flags and not is_held(path):
                yield path


def take_up(path: Path, start: ScanStart, *, ours: bool = False) -> h5py.File:
    """Recover the growing file of a scan and open it to go on writing, while others may read it.

    Of a scan without a beginning only a file that is known to be `ours` is taken: that of another run looks the same.
    Raises FormatError as :func:`make_readable` does, or where it is finished or of another run, and OSError for what the
    disk refuses.
    """
    with locked(path) as descriptor:
        mend(path, descriptor)
        with opened(path, "r") as file:
            _check_same(file, start, ours=ours)
        with growing(path) as file:
            make_even(file)
        show(descriptor)  # the lock is shared before it is given back, so that nobody comes in between
        hold(file)
    return file


def _check_same(file: h5py.File, start: ScanStart, *, ours: bool) -> None:
    """Raise FormatError unless `file` is an unfinished one of that run, as this version makes it."""
    name, frames, version = file.filename, file[FRAMES[0]], text(file.attrs["creator_version"])
    run = run_of(file)
    if run != start.run or not (start.started_ns or ours):
        raise FormatError(f"{name}: is of {run}, not of {start.run}")
    if end := text(file[END_REASON][()]):
        raise FormatError(f"{name}: is finished ({end})")
    if version != __version__:
        raise FormatError(f"{name}: is of version {version} of this program, which is {__version__}")
    if (frames.shape[1:], frames.dtype) != (start.geometry.frame_shape, start.dtype):
        raise FormatError(f"{name}: has frames of {frames.shape[1:]} {frames.dtype}, not as the start message says")


def mend(path: Path, descriptor: int) -> bool:
    """Let the first bytes say that nobody writes the file, and where it ends; False if they did."""
    found = Superblock.read(descriptor, str(path))
    mended = replace(found, flags=0, end=os.fstat(descriptor).st_size)
    if mended != found:
        mended.write(descriptor)
    try:
        with opened(path, "r") as file:
            lacking = [name for name in (*FRAMES, *DARKS, *POSITIONS, COUNT) if find(file, (name,)) is None]
    except (OSError, RuntimeError) as error:
        os.pwrite(descriptor, found.raw, 0)
        raise FormatError(f"{path}: cannot be read even with its end set right ({error})") from error
    if lacking:
        os.pwrite(descriptor, found.raw, 0)
        raise FormatError(f"{path}: not a growing file of this program, it has no {lacking[0]}")
    return mended != found


def opened(path: Path, mode: str) -> h5py.File:
    """A file that is :func:`locked`, or being made."""
    return h5py.File(path, mode, libver=LIBVER, locking=False)  # the lock is ours


@contextmanager
def growing(path: Path) -> Iterator[h5py.File]:
    """The file in the state in which it grew, in which it also survives the death of this process; left open."""
    file = opened(path, "r+")
    try:
        file.swmr_mode = True
        End(file).reserve(0)
        yield file
    except BaseException:
        if file:
            abandon(file)
        raise


def run_of(file: h5py.File) -> RunId:
    """The run that a growing file is of."""
    return RunId(text(file[f"{ENTRY}/title"][()]), int(file[f"{LIVE}/started_ns"][()]))


def count_frames(file: h5py.File) -> int:
    """Rows that hold a frame."""
    return int(np.count_nonzero(file[LIVE_KEY][()] > 0))


def count_positions(file: h5py.File) -> int:
    """Rows that hold a position."""
    return int(np.isfinite(file[TRANSLATION][()]).all(axis=1).sum())


def _lengths(file: h5py.File) -> dict[str, int]:
    """What each dataset of rows has to have, by name."""
    return {name: max(len(file[one]) for one in alike) for alike in ((*FRAMES, *POSITIONS), DARKS) for name in alike}


def _is_even(file: h5py.File) -> bool:
    return file[COUNT][()] == count_frames(file) and all(len(file[name]) == n for name, n in _lengths(file).items())


def make_even(file: h5py.File) -> None:
    """Give all datasets the rows that some have, and count the frames: keys may be there that were not within reach.

    The columns of the positions are made those of their rows.
    """
    for name, rows in _lengths(file).items():
        if len(file[name]) < rows:
            file[name].resize(rows, axis=0)
            file[name].flush()
    # of positions that nobody was told of, the columns may have come where the rows have not, or the other way round
    xyz, *columns = (file[name] for name in POSITIONS)
    for axis, column in enumerate(columns):
        values = xyz[:, axis]
        if not np.array_equal(column[()], values, equal_nan=True):
            column[...] = values
            column.flush()
    update(file[COUNT], count_frames(file))
