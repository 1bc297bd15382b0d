"""Names of output files: never a path out of the directory, never an existing file."""

import os
import re
from collections.abc import Iterator
from itertools import chain, count, takewhile
from pathlib import Path

MAX_STEM_BYTES = 180
"""Leaves room for a number and a suffix within the 255 bytes that file systems allow."""

RESULT, STRICT, PICTURE = ".result.h5", ".strict.cxi", ".png"
"""Beside a growing file: its result, its strict view, and the picture for people."""
SUFFIXES = (".cxi", RESULT, STRICT, PICTURE)
"""What is written of one scan, all under the same name."""


def safe_stem(scan_id: str) -> str:
    """File name for a scan id that a peer chose: letters, digits, ``-``, ``_`` and ``.``, and no leading dot."""
    stem = re.sub(r"[^\w.-]+", "_", scan_id).lstrip(".")
    stem = stem.encode()[:MAX_STEM_BYTES].decode(errors="ignore")
    try:
        os.fsencode(stem)
    except UnicodeEncodeError:  # names on this system have a small alphabet
        stem = re.sub(r"[^\x00-\x7f]", "_", stem)
    return stem or "scan"


NOTE = ".growing.txt"
"""What to do with a file that others cannot open plainly: beside it while that is so."""


def beside(path: Path, suffix: str) -> Path:
    """The file of that suffix that belongs to the growing file `path`."""
    return path.with_name(path.stem + suffix)


def _names(directory: Path, scan_id: str) -> Iterator[Path]:
    stem = safe_stem(scan_id)
    names = chain([stem], (f"{stem}-{n}" for n in count(2)))
    return (directory / f"{name}.cxi" for name in names)


def _is_free(path: Path) -> bool:
    return not any(beside(path, suffix).exists() for suffix in SUFFIXES)


def existing_paths(directory: Path, scan_id: str) -> list[Path]:
    """The growing files of a scan id, by their number, the newest first."""
    taken = takewhile(lambda path: not _is_free(path), _names(directory, scan_id))
    return [path for path in reversed(list(taken)) if path.exists()]


def latest_path(directory: Path, scan_id: str) -> Path | None:
    """The newest of them; None where there is none."""
    return next(iter(existing_paths(directory, scan_id)), None)


def unique_path(directory: Path, scan_id: str) -> Path:
    """First of ``<scan_id>.cxi``, ``<scan_id>-2.cxi``, ... beside which none of the files of a scan exists.

    The file is not created: its writer must open it exclusively, as :class:`~streamptycho.files.writer.CxiWriter` does.
    """
    return next(path for path in _names(directory, scan_id) if _is_free(path))
