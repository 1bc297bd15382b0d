"""Names of output files: never a path out of the directory, never an existing file."""

import re
from itertools import count
from pathlib import Path

MAX_STEM_BYTES = 180
"""Leaves room for a number and a suffix within the 255 bytes that file systems allow."""


def safe_stem(scan_id: str) -> str:
    """File name for a scan id that a peer chose: letters, digits, ``-``, ``_`` and ``.``, and no leading dot."""
    stem = re.sub(r"[^\w.-]+", "_", scan_id).lstrip(".")
    stem = stem.encode()[:MAX_STEM_BYTES].decode(errors="ignore")
    return stem or "scan"


def unique_path(directory: Path, scan_id: str, suffix: str = ".cxi") -> Path:
    """First of ``<scan_id><suffix>``, ``<scan_id>-2<suffix>``, ... that does not exist in `directory`.

    The file is not created: whoever opens it must do so exclusively, as :class:`~streamptycho.files.CxiWriter` does.
    """
    stem = safe_stem(scan_id)
    first = directory / f"{stem}{suffix}"
    if not first.exists():
        return first
    return next(path for n in count(2) if not (path := directory / f"{stem}-{n}{suffix}").exists())
