"""HDF5 and disks that refuse to take more.

HDF5 keeps trying to write what it has in memory whenever anything of a file is closed; where the disk goes on refusing, it
ends in a segmentation fault, and with it the process. Hence :func:`build` and :func:`abandon`.
"""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import h5py

LIBVER = ("v110", "v110")
"""Newest format that HDF5 1.10 to 2.0 all read; the oldest that can be read while it is written."""


def build(path: Path, fill: Callable[[h5py.File], None]) -> None:
    """Create the file `path` with what `fill` puts into it: all of it, or no file and an OSError.

    It is made in memory and written in one go. Raises FileExistsError rather than overwrite.
    """
    with h5py.File(f"in-memory-{uuid4()}", "w", driver="core", backing_store=False, libver=LIBVER) as file:
        fill(file)
        file.flush()
        image = file.id.get_file_image()
    with path.open("xb") as out:
        try:
            out.write(image)
            out.flush()
            os.fsync(out.fileno())
        except OSError:
            path.unlink()
            raise


@contextmanager
def claimed(path: Path) -> Iterator[Path]:
    """Reserve the name `path`; what the block makes under the name it is given gets that name when the block ends.

    Raises FileExistsError rather than overwrite. If the block fails nothing is left.
    """
    path.open("xb").close()
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield partial
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        path.unlink()
        raise


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
