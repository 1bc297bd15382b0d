"""Settings of what refines after the last frame; :mod:`refiners` says what they do."""

from typing import Literal

from pydantic import Field

from streamptycho.options import Options

Method = Literal["rule", "epie", "rpie", "lsqml", "dm"]


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
