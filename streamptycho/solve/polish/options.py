"""The methods of polishing and their settings. They are read by processes that compute nothing: no import that computes."""

from typing import Literal, NamedTuple

from pydantic import Field

from streamptycho.options import Options

Method = Literal["rule", "epie", "rpie", "lsqml", "dm"]


class Entry(NamedTuple):
    """A method of polishing."""

    label: str
    """Its name in the result; empty for the live rule, which simply goes on."""
    refiner: str
    """Module and name of its :class:`Refiner` in this package."""


METHODS: dict[Method, Entry] = {
    "rule": Entry("", "pie.PieRefiner"),
    "epie": Entry("ePIE", "pie.PieRefiner"),
    "rpie": Entry("rPIE", "pie.PieRefiner"),
    "lsqml": Entry("LSQ-ML", "lsqml.LsqmlRefiner"),
    "dm": Entry("DM", "difference_map.DifferenceMapRefiner"),
}
"""Refiners are found by name, so that this table, like the settings, loads nothing that computes."""


class LsqmlOptions(Options):
    """LSQ-ML as a refiner."""

    batch: int = Field(16, ge=2, le=4096)
    """Frames whose gradients are taken together. Alone, a frame would put all that it lacks into the probe."""
    object_floor: float = Field(1.0, gt=0)
    """Regularisation of the object's weight, in units of the probe's largest intensity; below 0.5 real data get noisier."""
    probe_floor: float = Field(0.1, gt=0)
    """The same for the probe's."""
    damping: float = Field(0.8, gt=0, le=1)
    """Part of the best step length that is taken at first."""
    settled_damping: float = Field(0.35, gt=0, le=1)
    """The same at the end, where noise and model errors are all that is left to follow."""
    momentum: float = Field(1.4, ge=0, le=1.4)
    """Momentum of the smooth part of the object at first."""
    memory: float = Field(20, gt=0)
    """Passes over which damping and momentum fall to a half."""


class DifferenceMapOptions(Options):
    """The difference map as a refiner."""

    relaxation: float = Field(0.8, gt=0, le=1)
    """1 is the difference map itself, 1/2 alternating projections."""
    inertia: float = Field(0.01, gt=0, lt=1)
    """Weight of the present object and probe, in units of the best covered pixel's."""
    probe_moves: bool = True
    """False keeps the probe."""
    memory_gib: float = Field(4.0, gt=0)
    """Most memory for exit waves; a scan that needs more is polished by the rule."""


class PolishOptions(Options):
    """The passes after the last frame; part of the engine's table."""

    polish: Method = "rule"
    """How passes after the last frame go on: rule (the live one, annealing on), epie, rpie, lsqml, or dm."""
    lsqml: LsqmlOptions = LsqmlOptions()
    dm: DifferenceMapOptions = DifferenceMapOptions()
    polish_passes: int = Field(40, ge=0)
    """Passes over all frames after the last one, at most. Every frame is used once in any case."""
    polish_tolerance: float = Field(0.003, ge=0)
    """Polishing ends when the Fourier error falls by less than this fraction per pass, over five passes; 0: only after
    `polish_passes`."""
