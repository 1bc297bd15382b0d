"""HDF5 and disks that refuse to take more.

HDF5 keeps trying to write what it has in memory whenever anything of a file is closed; where the disk goes on refusing, it
ends in a segmentation fault, and with it the process. Hence :func:`build` and :func:`abandon`.

What is not finished bears the name ``.NAME.PID.part``: a name without a dot has all of its content from the first moment.
"""

import contextlib
import errno
import fcntl
import logging
import os
import re
import shutil
import struct
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from uuid import uuid4

import h5py

from streamptycho.errors import FormatError

log = logging.getLogger(__name__)

SLOW_S = 2.0
"""A write that takes so long is told of."""
LIBVER = ("v110", "v110")
"""Newest format that HDF5 1.10 to 2.0 all read; the oldest that can be read while it is written."""
_PART = re.compile(r"\..+\.(\d+)\.part")
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
_BYTE = 1 << 62
"""That which a writer locks."""
_LOCK = "hhqqi"
"""struct flock."""


def build(path: Path, fill: Callable[[h5py.File], None]) -> None:
    """Create the file `path` with what `fill` puts into it: all of it, or no file and an OSError.

    It is made in memory and written in one go. Raises FileExistsError rather than overwrite.
    """
    with h5py.File(f"in-memory-{uuid4()}", "w", driver="core", backing_store=False, libver=LIBVER) as file:
        fill(file)
        file.flush()
        image = file.id.get_file_image()
    with path.open("x+b") as out:
        try:
            show(out.fileno())
            out.write(image)
            out.flush()
            os.fsync(out.fileno())
        except OSError:
            path.unlink()
            raise


def part_of(path: Path) -> Path:
    """The name of `path` while it is not finished."""
    return path.with_name(f".{path.name}.{os.getpid()}.part")


@contextmanager
def claimed(path: Path) -> Iterator[Path]:
    """What the block makes under the name it is given gets the name `path` when the block ends.

    Raises FileExistsError rather than overwrite. If the block fails nothing is left.
    """
    if path.exists():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    partial = part_of(path)
    partial.unlink(missing_ok=True)  # of an earlier process of our number
    try:
        yield partial
        _name(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _name(partial: Path, path: Path) -> None:
    try:
        path.hardlink_to(partial)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # a disk without hard links: the name is taken first, empty for an instant
        path.open("xb").close()
        partial.replace(path)
    with contextlib.suppress(OSError):  # after a loss of power the name is there; not every file system offers that
        descriptor = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove_leftovers(directory: Path) -> list[Path]:
    """Remove and return the unfinished files whose process is gone; to be called before this one makes any."""
    removed = []
    for path in directory.iterdir():
        match = _PART.fullmatch(path.name)
        if match is None or _lives(int(match[1])):
            continue
        # a process of that number on another host, or in another container, would hold it
        with contextlib.suppress(FormatError), locked(path):
            path.unlink()
            removed.append(path)
    return removed


def _lives(pid: int) -> bool:
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # somebody else's, and alive
    return True


def hold(file: h5py.File) -> None:
    """Show :func:`locked` that this process is writing the file, until it closes it or dies; readers see nothing of it.

    HDF5's own lock does not say so: it gives it back once others may read the file, and those take it too. Where the file
    system has no locks nothing is shown; :func:`locked` refuses there.
    """
    show(file.id.get_vfd_handle())


def show(descriptor: int) -> None:
    """The same for an open descriptor; a lock that it holds alone becomes a shared one."""
    with contextlib.suppress(OSError):
        _lock(descriptor, fcntl.F_RDLCK)


def _lock(descriptor: int, kind: int) -> None:
    """A lock of an open file, not of a process, on a byte far behind its end. Raises OSError where others have it."""
    fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, struct.pack(_LOCK, kind, os.SEEK_SET, _BYTE, 1, 0))


def sync(file: h5py.File, *, wanted: bool) -> None:
    """Wait until the disk itself has what was flushed."""
    if wanted:
        os.fdatasync(file.id.get_vfd_handle())


def is_held(path: Path) -> bool:
    """Whether a process shows that it is writing the file. False where the file system has no locks."""
    with path.open("rb") as file, contextlib.suppress(OSError):
        asked = struct.pack(_LOCK, fcntl.F_WRLCK, os.SEEK_SET, _BYTE, 1, 0)
        kind: int = struct.unpack(_LOCK, fcntl.fcntl(file, fcntl.F_OFD_GETLK, asked))[0]
        return kind != fcntl.F_UNLCK
    return False


@contextmanager
def locked(path: Path) -> Iterator[int]:
    """A descriptor of a file that no other process is writing; raises FormatError if one is, or may be."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise FormatError(f"{path}: no such file") from error
    try:
        _lock_alone(descriptor, path)
        yield descriptor
    finally:
        os.close(descriptor)


def _lock_alone(descriptor: int, path: Path) -> None:
    try:
        _lock(descriptor, fcntl.F_WRLCK)
    except (BlockingIOError, PermissionError) as error:
        raise FormatError(f"{path}: another process is writing it; wait for its end, or end it") from error
    except OSError as error:
        raise FormatError(f"{path}: cannot be locked ({error.strerror}); copy it to a local disk and try there") from error


def abandon(file: h5py.File) -> None:
    """Close a file without writing anything more to it.

    The file's descriptor is first put onto memory, which takes the last writes and is thrown away. The file on disk stays
    as the last successful flush left it, as if its writer had been killed at that moment.
    """
    descriptor = file.id.get_vfd_handle()
    if hasattr(os, "memfd_create"):
        sink = os.memfd_create("abandoned")
        os.dup2(sink, descriptor, inheritable=False)
        os.close(sink)
    else:
        with tempfile.TemporaryFile() as elsewhere:
            os.dup2(elsewhere.fileno(), descriptor, inheritable=False)
    file.close()


def copy_open(descriptor: int, path: Path) -> None:
    """Create the file `path` with the content of one that is open, also if that has no name any more."""
    with path.open("xb") as out:
        at = 0
        while piece := os.pread(descriptor, 1 << 24, at):
            out.write(piece)
            at += len(piece)
        out.flush()
        os.fsync(out.fileno())


def why(error: Exception) -> str:
    """What the disk said, without what h5py adds to it."""
    text = " ".join(str(error).split())
    said = re.search(r"error message = '([^']+)'", text)
    return said[1] if said else text


_under_way: dict[object, tuple[Path, float]] = {}
"""What a disk has been asked to do and has not done, and since when."""


@cache
def _watch() -> None:
    """One thread for all of it: there are many flushes, and each would start one."""
    threading.Thread(target=_look_at_disks, name="disk", daemon=True).start()


def _look_at_disks() -> None:
    told: set[object] = set()
    while True:
        time.sleep(SLOW_S / 10)
        now_s, under_way = time.monotonic(), _under_way.copy()
        told &= under_way.keys()
        for one, (path, began_s) in under_way.items():
            if one not in told and now_s - began_s > SLOW_S:
                told.add(one)
                log.error("%s: the disk has not answered for %.0f s; what comes waits for it", path, SLOW_S)


@contextmanager
def watched(path: Path) -> Iterator[None]:
    """Tell in the log of a disk that takes its time while the block runs, and how long it was."""
    _watch()
    mine, began_s = object(), time.monotonic()
    _under_way[mine] = path, began_s
    try:
        yield
    finally:
        del _under_way[mine]
        took_s = time.monotonic() - began_s
        if took_s > SLOW_S:
            log.warning("%s: the disk answered after %.0f s", path, took_s)


def free_bytes(directory: Path) -> int | None:
    """Free space for ordinary users; None where the directory cannot be asked."""
    try:
        return shutil.disk_usage(directory).free
    except OSError:
        return None
