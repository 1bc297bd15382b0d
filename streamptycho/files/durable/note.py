"""A text beside a growing file, for those whom HDF5 refuses it with words that invite them to clear its flags."""

import logging
from pathlib import Path

from streamptycho.files.naming import NOTE, beside

log = logging.getLogger(__name__)

_TEXT = """\
{name} is being written. HDF5 refuses to open it plainly and speaks of h5clear:
do not use that on a file that grows. To read it now, in Python:

    import h5py, hdf5plugin
    file = h5py.File("{name}", "r", swmr=True)
    n = len(file["/entry_1/data_1/live_key"])
    good = file["/entry_1/data_1/live_key"][:n] > 0
    frames = file["/entry_1/data_1/data"]      # rows where `good`; refresh() each to see more

When this text is gone the file is finished and opens everywhere. If it stays,
although no streamptycho runs, the writer died: start it again to go on with the
scan, or make the file whole with

    streamptycho recover {name}
"""


def put_note(path: Path) -> None:
    """Put it beside the growing file `path`. That it cannot be written is logged, and costs no data."""
    note = beside(path, NOTE)
    try:
        note.write_text(_TEXT.format(name=path.name))
    except OSError as error:
        log.info("%s: cannot be written (%s)", note, error)


def remove_note(path: Path) -> None:
    """Remove it: `path` opens plainly. That it cannot be removed is logged."""
    note = beside(path, NOTE)
    try:
        note.unlink(missing_ok=True)
    except OSError as error:
        log.warning("%s: cannot be removed, and is wrong from now on (%s)", note, error)
