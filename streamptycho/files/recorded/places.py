"""Places that users name: ``/path`` in the scan's file, ``FILE::/path`` in another, ``FILE::X,Y`` in a text of columns."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from streamptycho.errors import FormatError
from streamptycho.files.recorded.containers import open_file

_TEXTS = (".csv", ".txt", ".dat", ".tsv")


class Places:
    """Opens what settings name, and closes it with the scan. Files are looked for beside the scan's file, then here."""

    def __init__(self, file: h5py.File) -> None:
        self._own = file
        self._files: dict[Path, h5py.File] = {}

    def file(self, name: str, option: str) -> h5py.File:
        """The file of that name. Raises FormatError that names ``read.OPTION``."""
        path = self._path(name, option)
        if path not in self._files:
            self._files[path] = open_file(path)
        return self._files[path]

    def datasets(self, place: str, option: str) -> list[Any]:
        """The dataset at a place, or those of ``/path,/path``. Raises FormatError that names ``read.OPTION``."""
        name, mark, paths = place.rpartition("::")
        file = self.file(name, option) if mark and name else self._own
        return [self._dataset(file, path.strip(), option) for path in paths.split(",")]

    def columns(self, place: str, option: str) -> NDArray[np.float64] | None:
        """(N, 2) x and y as they stand in a text; None if the place is not in one.

        In a text with a header line the two names are those of x and y; in one without they name its columns in order,
        ``index,y,x`` for example.
        """
        name, _, names = place.partition("::")
        if Path(name).suffix.lower() not in _TEXTS:
            return None
        path = self._path(name, option)
        rows = _rows(path)
        head, wanted = rows[0], [one.strip() for one in names.split(",")] if names else []
        titled = _numbers(head) is None
        if titled:
            rows = rows[1:]
            wanted = wanted or [one for one in head if one.lower() in ("x", "y")]
        elif not wanted:
            wanted = ["x", "y"]
        at = [head.index(one) if one in head else -1 for one in wanted] if titled else _named(wanted, len(head))
        if len(at) != 2 or min(at) < 0 or at[0] == at[1]:
            there = f"its columns are {', '.join(head)}" if titled else f"it has {len(head)} columns without a header"
            how = (
                "set read.{0} = '{1}::X,Y', the columns of x and y"
                if titled
                else "set read.{0} = '{1}::x,y', a name for each column in order"
            )
            raise FormatError(f"{path}: {there}; {how.format(option, name)}")
        values = [_numbers([row[i] for i in at]) for row in rows if len(row) > max(at)]
        if len(values) != len(rows) or None in values:
            bad = next(k for k, row in enumerate(rows) if len(row) <= max(at) or _numbers([row[i] for i in at]) is None)
            raise FormatError(f"{path}: row {bad + 1 + titled} is not two numbers; correct it")
        return np.array(values, np.float64).reshape(-1, 2)

    def close(self) -> None:
        """Close what was opened."""
        for file in self._files.values():
            file.close()

    def _path(self, name: str, option: str) -> Path:
        candidates = [Path(self._own.filename).parent / name, Path(name)]
        for path in candidates:
            if path.is_file():
                return path.resolve()
        raise FormatError(f"read.{option}: no file {name!r} beside {self._own.filename} nor here; correct the name")

    @staticmethod
    def _dataset(file: h5py.File, path: str, option: str) -> Any:
        item = file.get(path) if path else None
        if not isinstance(item, h5py.Dataset):
            raise FormatError(f"read.{option}: {file.filename} has no dataset {path!r}; correct the path")
        return item


def _rows(path: Path) -> list[list[str]]:
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    lines = [line for line in text.splitlines() if line.strip()]
    comments = [line for line in lines if line.lstrip().startswith("#")]
    lines = [line for line in lines if not line.lstrip().startswith("#")]
    if not lines:
        raise FormatError(f"{path}: has no rows")
    mark = next((one for one in ",;\t" if one in lines[0]), None)

    def split(text: str) -> list[str]:
        fields = next(csv.reader(io.StringIO(text), delimiter=mark)) if mark else text.split()
        return [one.strip() for one in fields]

    rows = [split(line) for line in lines]
    titles = split(comments[-1].lstrip("# ")) if comments else []
    # a header may be a comment, as NumPy writes it
    return [titles, *rows] if len(titles) == len(rows[0]) and _numbers(titles) is None and _numbers(rows[0]) else rows


def _named(names: Sequence[str], columns: int) -> list[int]:
    """Where x and y are among columns that the user has named."""
    lower = [name.lower() for name in names]
    if len(names) != columns or lower.count("x") != 1 or lower.count("y") != 1:
        return []
    return [lower.index("x"), lower.index("y")]


def _numbers(fields: Sequence[str]) -> list[float] | None:
    try:
        return [float(one) for one in fields]
    except ValueError:
        return None
