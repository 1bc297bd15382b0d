"""What unit names mean, in files and in what senders say."""

from streamptycho.messages.geometry import JOULE_PER_EV

LENGTH_UNITS = {
    "m": 1.0, "meter": 1.0, "metre": 1.0, "meters": 1.0, "metres": 1.0, "mm": 1e-3, "millimeter": 1e-3, "millimetre": 1e-3,
    "um": 1e-6, "µm": 1e-6, "μm": 1e-6, "micron": 1e-6, "microns": 1e-6, "micrometer": 1e-6, "micrometre": 1e-6,
    "nm": 1e-9, "nanometer": 1e-9, "nanometre": 1e-9, "angstrom": 1e-10, "å": 1e-10, "a": 1e-10, "pm": 1e-12,
}  # fmt: skip
"""Metres per unit, by lower-case name."""
ENERGY_UNITS = {
    "ev": 1.0, "electronvolt": 1.0, "kev": 1e3, "mev": 1e6, "gev": 1e9,
    "j": 1 / JOULE_PER_EV, "joule": 1 / JOULE_PER_EV, "joules": 1 / JOULE_PER_EV,
}  # fmt: skip
"""Electronvolts per unit, by lower-case name."""
