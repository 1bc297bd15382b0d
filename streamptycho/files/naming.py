"""Names of output files: never a path out of the directory, never an existing file."""

import re
from itertools import chain, count
from pathlib import Path

MAX_STEM_BYTES = 180
"""Leaves room for a number and a suffix within the 255 bytes that file systems allow."""

SUFFIXES = (".cxi", ".result.h5", ".png")
"""What is written of one scan, all under the same name."""


def safe_stem(scan_id: str) -> str:
    """File name for a scan id that a peer chose: letters, digits, ``-``, ``_`` and ``.``, and no leading dot."""
    stem = re.sub(r"[^\w.-]+", "_", scan_id).lstrip(".")
    stem = stem.encode()[:MAX_STEM_BYTES].decode(errors="ignore")
    return stem or "scan"


def unique_path(directory: Path, scan_id: str) -> Path:
    """First of ``<scan_id>.cxi``, ``<scan_id>-2.cxi``, ... beside which none of the files of a scan exists.

    The file is not created: whoever opens it must do so exclusively, as :class:`~streamptycho.files.CxiWriter` does.
    """
    stem = safe_stem(scan_id)
    names = chain([stem], (f"{stem}-{n}" for n in count(2)))
    free = next(name for name in names if not any((directory / (name + suffix)).exists() for suffix in SUFFIXES))
    return directory / f"{free}.cxi"
