"""A dataset that goes on in one file after the other, under names with a running number.

Rows are counted through all members. Where each begins is known from the pattern of a virtual dataset, from the numbers of
DECTRIS files (``image_nr_low``), or, in their order, from the lengths of those before; a member that is missing counts as
long as the others. What contradicts a number that was given is an error, so that no frame has the number of another.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from streamptycho.errors import FormatError
from streamptycho.files.growing.located import Numbered, Piece, names_in
from streamptycho.files.growing.names import ALL_MEMBERS, Members, is_numbered, numbers_in, state_of

if TYPE_CHECKING:
    from streamptycho.files.growing.follower import Follower

_LIST = 20
"""Every so many looks members are listed whatever the time of the folder says, which may be coarse."""
_AWAKE = 8
"""Members that are kept open after their end: their rows may not have been taken yet."""
Make = Callable[[Path, str], "Follower"]


class Series:
    """The members so far.

    Parameters
    ----------
    source : numbered names, and where blocks of rows begin if that is known.
    make : follower of a dataset in a file.
    members : which files belong to it.
    """

    def __init__(self, source: Numbered, make: Make, members: Members = ALL_MEMBERS) -> None:
        self._source, self._make, self._first = source, make, members.first
        self._left_over = members.left_over
        self._members: dict[int, Follower] = {}
        self._starts: dict[int, int] = {}
        """Row with which each begins that can be read."""
        self._lengths: dict[int, int] = {}
        """Rows of those that are over."""
        self._images: dict[int, int] = {}
        """Number of the first image of each that says it, from 1."""
        self._supposed: dict[int, int] = {}
        """Rows that members which are missing are taken to have."""
        self._looks = 0
        self._listed: tuple[tuple[int, int] | None, list[int]] = None, []
        """State of the folder, or file, when members were listed, and their numbers."""
        self.why = ""
        """Why there is no more."""

    @property
    def parts(self) -> "list[tuple[Piece, Follower]]":
        """Members whose rows can be read, in their order."""
        return [(self._source.piece(number, start), self._members[number]) for number, start in sorted(self._starts.items())]

    @property
    def generation(self) -> int:
        """How often members were replaced."""
        return sum(member.generation for member in self._members.values())

    def refresh(self) -> None:
        """Look for members and for rows in them."""
        numbers = self._numbers()
        for number in numbers:
            if number not in self._members:
                self._members[number] = self._make(*self._source.member(number))
        for number, member in self._members.items():
            if number not in self._lengths or number == min(self._members):
                member.refresh()
        if self._source.blocks:
            self._starts = {
                number: self._source.start_of(number) for number, member in self._members.items() if member.length
            }
            self.why = "" if self._starts else self._said(numbers)
        else:
            self._count(numbers)
        self._check()
        for number in sorted(self._lengths)[1:-_AWAKE]:
            self._members[number].rest()

    def close(self) -> None:
        """Close all members."""
        for member in self._members.values():
            member.close()

    def _numbers(self) -> list[int]:
        files = is_numbered(self._source.path.name)
        place = self._source.path.parent if files else self._source.path
        try:
            known = place.stat()
        except OSError:
            return self._listed[1]
        state = known.st_mtime_ns, known.st_size
        if state != self._listed[0] or self._left_over or not self._looks % _LIST:
            found = numbers_in(self._source.path) if files else names_in(place, self._source.dataset)
            found = [number for number in found if state_of(self._source.member(number)[0]) not in self._left_over]
            self._listed = state, sorted({*found, *self._members})
        self._looks += 1
        return self._listed[1]

    def _said(self, numbers: list[int]) -> str:
        """Why there is nothing."""
        if not numbers:
            return f"{self._source.path}: has no {self._source.dataset} yet"
        return self._members[numbers[0]].why or f"{self._members[numbers[0]].path}: has no rows yet"

    def _count(self, numbers: list[int]) -> None:
        """Give each member the row with which it begins, as far as that is sure."""
        there = [number for number in numbers if self._members[number].length]
        self.why = "" if there else self._said(numbers)
        if not there:
            return
        if self._first is None and numbers[0] > 1:
            name = self._members[numbers[0]].path.name
            self.why = (
                f"the first of {self._source} is number {numbers[0]} ({name}): set options.first_file to that of the scan"
            )
            return
        self._first = numbers[0] if self._first is None else self._first
        if numbers[0] < self._first:
            raise FormatError(f"{self._source}: number {numbers[0]} has come after others; set options.first_file to it")
        if self._by_image(there):
            return
        for number in there[:-1]:
            self._length_of(number, there)
        row = 0
        for number in range(self._first, there[-1] + 1):
            if number in there:
                self._starts[number] = row
            if number == there[-1]:
                return
            length = self._length_of(number, there)
            if length is None:
                return
            row += length

    def _by_image(self, there: list[int]) -> bool:
        """DECTRIS files say which images they hold."""
        images = {number: self._members[number].first_image for number in there if number not in self._images}
        self._images |= {number: image for number, image in images.items() if image is not None}
        if len(self._images) < len(there):
            return False
        self._starts = {number: self._images[number] - 1 for number in there}
        self._lengths |= {number: self._members[number].length for number in there[:-_AWAKE]}
        return True

    def _length_of(self, number: int, there: list[int]) -> int | None:
        """Rows of a member after which others have come; None if that is not known yet."""
        if number in self._lengths:
            return self._lengths[number]
        usual = set(self._lengths.values())
        if number not in there:
            if len(usual) != 1:
                self.why = f"{self._source}: number {number} is missing, and how many rows it has is not known"
                return None
            return self._supposed.setdefault(number, next(iter(usual)))
        member = self._members[number]
        writing = member.writing  # before the look: what is closed by then has all its rows
        member.refresh()
        if writing and usual != {member.length}:
            self.why = f"{member.path}: its writer has not closed it, so the numbers of the rows behind it are not known"
            return None
        self._lengths[number] = member.length
        return member.length

    def _check(self) -> None:
        for number, supposed in self._supposed.items():
            if number in self._lengths and self._lengths[number] != supposed:
                path = self._members[number].path
                raise FormatError(f"{path}: came late and has {self._lengths[number]} rows, not {supposed} as the others")
        for number, length in self._lengths.items():
            if self._members[number].length > length:
                raise FormatError(f"{self._members[number].path}: has grown after the next one had begun; close it before")
