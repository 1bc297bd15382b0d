"""Options of the bluesky dialect: what runs are asked for, and where quantities stand in their documents."""

import math
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from streamptycho.dialects.bluesky_fields import Document, said
from streamptycho.errors import CodecError, ConfigError
from streamptycho.messages.facts import StartParts
from streamptycho.messages.geometry import wavelength_from_ev
from streamptycho.messages.units import ENERGIES, LENGTHS, electronvolts, metres

_PLAUSIBLE = {"energy": (30.0, 300e3), "distance": (1e-4, 200.0)}
"""Electronvolts and metres."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """Where a quantity of the experiment stands, and its unit if that is set."""

    what: str
    key: str
    unit: str | None

    @classmethod
    def parse(cls, what: str, option: str) -> "Quantity | None":
        """Of an option ``"key"`` or ``"key unit"``."""
        key, _, unit = option.strip().rpartition(" ")
        if not key:
            key, unit = unit, ""
        found = cls(what, key.strip(), unit or None) if key else None
        if found is not None and unit and found.worth(unit) is None:
            usual = ", ".join(ENERGIES if what == "energy" else LENGTHS)
            raise ConfigError(
                f"options.{what}: the unit {unit!r} is not known; write 'name unit', with a unit such as {usual}"
            )
        return found

    def worth(self, unit: str) -> float | None:
        """Electronvolts or metres per `unit`; None if it is not known."""
        return electronvolts(unit) if self.what == "energy" else metres(unit)

    def parts(self, value: Any, unit: Any) -> StartParts:
        """What `value` says; `unit` is what the document says of it, if it does. Nothing that may be wrong by a factor."""
        name = f"{self.what} ({self.key})"
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value := _float(value)):
            return _doubt(f"{name} is {said(value)}, not a number; correct options.{self.what}")
        found = self.worth(unit) if isinstance(unit, str) else None
        asked = self.worth(self.unit) if self.unit else None
        known = found or asked
        if known is None:
            return _doubt(
                f"{name} = {value:.6g} in {said(unit)}: no known unit; set options.{self.what} = '{self.key} unit'"
            )
        if asked and found and asked != found:
            return _doubt(
                f"{name} is in {unit} by its document and in {self.unit} by options.{self.what}; correct one of them"
            )
        amount = value * known
        low, high = _PLAUSIBLE[self.what]
        if not low <= amount <= high:
            return _doubt(
                f"{name} = {value:.6g} {unit if found else self.unit} is not from {low:g} to {high:g}; "
                f"correct options.{self.what}"
            )
        return (
            StartParts(wavelength_m=wavelength_from_ev(amount)) if self.what == "energy" else StartParts(distance_m=amount)
        )

    def in_start(self, doc: Document) -> StartParts | None:
        """What a start document says at the dotted path `key`; None where it has none."""
        value: Any = doc
        for step in [self.key] if self.key in doc else self.key.split("."):
            if type(value) is not dict or step not in value:
                return None
            value = value[step]
        return self.parts(value, None)


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _doubt(words: str) -> StartParts:
    return StartParts(doubts=(words,))


def check_columns(option: str) -> tuple[str, str] | None:
    """(y, x) of an option ``"y,x"``."""
    if not option:
        return None
    found = [name.strip() for name in option.split(",")]
    if len(found) != 2 or not all(found) or found[0] == found[1]:
        raise ConfigError(f"options.columns: {option!r} are not two names; write that of y, a comma, that of x")
    return found[0], found[1]


@dataclass(frozen=True, slots=True)
class PathMap:
    """Where the files of the sender's machine are on this one."""

    theirs: PurePosixPath | None
    ours: PurePosixPath | None

    @classmethod
    def parse(cls, option: str) -> "PathMap":
        """Of an option ``"/theirs=/ours"``."""
        theirs, mark, ours = option.partition("=")
        if not option:
            return cls(None, None)
        if not mark or not theirs.startswith("/") or not ours.startswith("/"):
            raise ConfigError(f"options.path_map: {option!r}; write '/their/folder=/our/folder'")
        return cls(PurePosixPath(theirs), PurePosixPath(ours))

    def local(self, uri: str, field: str) -> str:
        """The path here of the file at `uri`."""
        try:
            split = urlsplit(uri)
        except ValueError as error:
            raise CodecError(field, f"{uri[:100]!r} is no address ({error})") from error
        path = unquote(split.path)
        if split.scheme not in ("file", "") or not path.startswith("/") or "\0" in path:
            raise CodecError(field, f"{uri[:100]!r} is no file on a disk; only file:// is followed")
        found = PurePosixPath(path)
        if ".." in found.parts:
            raise CodecError(field, f"{uri[:100]!r} leads upwards; send the path itself")
        if self.theirs is not None and self.ours is not None and found.is_relative_to(self.theirs):
            found = self.ours / found.relative_to(self.theirs)
        return str(found)
