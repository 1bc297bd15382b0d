"""What unit names mean, in files and in what senders say. Pint knows the names; this module knows how people spell them."""

import re
from functools import cache, lru_cache
from typing import Any, Literal, TypeAlias

from streamptycho.messages.geometry import JOULE_PER_EV

Quantity: TypeAlias = Literal["length", "energy", "angle"]
_BASE: dict[Quantity, tuple[str, float]] = {
    "length": ("meter", 1.0),
    "energy": ("joule", 1 / JOULE_PER_EV),
    "angle": ("radian", 1.0),
}
"""Pint's base unit, and what it is worth in ours: metres, electronvolts, radians."""
_USUAL: dict[Quantity, dict[str, float]] = {
    "length": {"m": 1.0, "mm": 1e-3, "um": 1e-6, "nm": 1e-9, "pm": 1e-12},
    "energy": {"eV": 1.0, "keV": 1e3, "J": 1 / JOULE_PER_EV},
    "angle": {"rad": 1.0},
}
"""For these Pint need not be loaded, which takes half a second in the middle of a scan."""
LENGTHS, ENERGIES = tuple(_USUAL["length"]), tuple(_USUAL["energy"])
"""Units that settings offer."""
_MAX = 40
_EV = {"ev": "eV", "kev": "keV", "gev": "GeV"}
"""Not ``mev``: it may be a million electronvolts, or a thousandth."""
_SHORT = {"a": "angstrom"}
"""What Pint takes for the are or the ampere."""


@lru_cache(maxsize=256)
def worth(unit: str, quantity: Quantity) -> float | None:
    """Metres, electronvolts or radians per `unit`; None if that is no unit of this quantity, or may be two.

    Capitals do not matter where they make no difference, nor do brackets and spaces: ``KeV``, ``[mm]``, ``Micrometers``.
    """
    name = unit.strip().strip("[]()").replace(" ", "")
    if name in _USUAL[quantity]:
        return _USUAL[quantity][name]
    # letters only: Pint would evaluate anything else, and units come from files and networks of others
    if len(name) > _MAX or not re.fullmatch(r"[^\W\d_]+", name):
        return None
    spellings = [name, _EV.get(name.lower(), name), name[0].lower() + name[1:], name.lower(), _SHORT.get(name.lower(), name)]
    base, scale = _BASE[quantity]
    for spelling in dict.fromkeys(spellings):
        value = _in_base(spelling, base)
        if value is not None:
            return value * scale
    return None


def metres(unit: str) -> float | None:
    """Metres per `unit`; None if it is not known as a length."""
    return worth(unit, "length")


def electronvolts(unit: str) -> float | None:
    """Electronvolts per `unit`; None if it is not known as an energy."""
    return worth(unit, "energy")


def radians(unit: str) -> float | None:
    """Radians per `unit`; None if it is not known as an angle."""
    return worth(unit, "angle")


def _in_base(name: str, base: str) -> float | None:
    import pint

    try:
        factor: float = _registry().Quantity(1.0, name).to(base).magnitude
    except (pint.UndefinedUnitError, pint.DimensionalityError, pint.OffsetUnitCalculusError):
        return None
    return factor


@cache
def _registry() -> Any:
    import pint

    return pint.UnitRegistry()
