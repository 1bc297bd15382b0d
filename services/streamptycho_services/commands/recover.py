"""Growing files whose writer died, made readable for every program."""

import sys
from collections.abc import Iterable
from pathlib import Path

from streamptycho.errors import FormatError
from streamptycho.files.recover import recover


def recover_files(paths: Iterable[Path]) -> bool:
    """One line for each file; False if one of them is none of ours, is being written, or cannot be read at all."""
    good = True
    for path in paths:
        try:
            found = recover(path)
        except FormatError as error:
            print(f"error: {error}", file=sys.stderr)
            good = False
        else:
            print(f"{path}: {'recovered' if found.changed else 'whole'}, {found.frames} frames")
    return good
