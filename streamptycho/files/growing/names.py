"""Names with a running number, as ``scan_%06d.h5``: which of them there are."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import translate
from pathlib import Path

_NUMBER = re.compile(r"%(?:0(\d+))?[db]")
_MOST_DIGITS = 9


State = tuple[int, int, int]
"""What tells a file from another of its name: inode, time of its last change in ns, size."""


@dataclass(frozen=True, slots=True)
class Members:
    """Which numbered files belong to a series."""

    first: int | None = None
    """Number of the first; default 0 or 1, whichever there is."""
    left_over: frozenset[State] = frozenset()
    """Those of a series before, whose names are used again."""


ALL_MEMBERS = Members()


def state_of(path: Path) -> State | None:
    """State of a file; None if it is not there."""
    try:
        known = path.stat()
    except OSError:
        return None
    return known.st_ino, known.st_mtime_ns, known.st_size


def states_in(path: Path) -> frozenset[State]:
    """Those of the files that there are of a numbered path; none for a path without a number."""
    there = (state_of(path.with_name(named(path.name, number))) for number in numbers_in(path))
    return frozenset(state for state in there if state is not None)


def is_numbered(name: str) -> bool:
    """Whether a name holds a place for a running number: ``%d``, ``%06d`` or, in virtual datasets, ``%b``."""
    return _NUMBER.search(name) is not None


def named(name: str, number: int) -> str:
    """The name of the member of that number."""
    return _NUMBER.sub(lambda found: f"{number:0{int(found[1] or 1)}d}", name)


def pattern_of(name: str) -> "re.Pattern[str]":
    """What the names of members match, with the number as the group ``number``."""
    found = _NUMBER.search(name)
    if found is None:
        return re.compile(re.escape(name))
    digits = f"\\d{{{found[1] or 1},{_MOST_DIGITS}}}"
    return re.compile(f"{re.escape(name[: found.start()])}(?P<number>{digits}){re.escape(name[found.end() :])}")


def number_in(name: str, of: str) -> int | None:
    """The number of the member `of` which `name` is the numbered name; None if it is none."""
    found = pattern_of(name).fullmatch(of)
    number = None if found is None else int(found["number"])
    return number if number is not None and named(name, number) == of else None


def numbers_in(path: Path) -> list[int]:
    """Numbers of the files that there are of a path whose last part is numbered, rising."""
    if not is_numbered(path.name):
        return []
    try:
        there = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return []
    return sorted(number for name in there if (number := number_in(path.name, name)) is not None)


def without_number(stem: str) -> str:
    """The name of all members together: without number, and without what set it apart."""
    return _NUMBER.sub("", stem).rstrip("_-.") or stem


def first_of(path: Path) -> Path | None:
    """The first member there is; of a path without a number the path itself, if it is there."""
    if not is_numbered(path.name):
        return path if path.exists() else None
    numbers = numbers_in(path)
    return path.with_name(named(path.name, numbers[0])) if numbers else None


def any_number(pattern: str) -> str:
    """A pattern of file names, with any number in the place of the running one."""
    return _NUMBER.sub("[0-9]*", pattern)


def runs_in(pattern: str, paths: Iterable[Path]) -> list[Path]:
    """Paths of the runs that files which match a pattern of file names belong to, in their order, each once.

    A file is a run, if the pattern has no running number; else the run is the path with the number left open.
    """
    name = Path(pattern).name
    found = _NUMBER.search(name)
    if found is None:
        return list(paths)
    digits = f"(\\d{{{found[1] or 1},{_MOST_DIGITS}}})"
    whole = re.compile(translate(name.replace(found[0], "\0")).replace("\0", digits))
    runs: dict[Path, None] = {}
    for path in paths:
        match = whole.match(path.name)
        if match is not None:
            runs[path.with_name(f"{path.name[: match.start(1)]}{found[0]}{path.name[match.end(1) :]}")] = None
    return list(runs)
