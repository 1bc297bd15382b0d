"""Growing files whose writer died, made readable for every program."""

import sys
from collections.abc import Iterable
from pathlib import Path

from streamptycho.errors import FormatError, ScanError
from streamptycho.files.recover import Recovered, recover


def recover_files(paths: Iterable[Path]) -> bool:
    """One line for each file; False if one of them is none of ours, is being written, or cannot be read at all."""
    good = True
    for path in paths:
        try:
            found = recover(path)
        except (FormatError, ScanError) as error:
            print(f"error: {error}", file=sys.stderr)
            good = False
        else:
            print(f"{path}: {_words(found)}")
    return good


def _words(found: Recovered) -> str:
    words = [
        f"{'recovered' if found.changed else 'whole'} ({found.end})",
        f"{found.frames} frames",
        f"{found.positions} positions",
        f"{found.snapshots} snapshots",
    ]
    if found.cut:
        words.append(f"{found.cut} rows cut that were not committed")
    words += (f"made {path.name}" for path in found.made)
    return ", ".join(words)
