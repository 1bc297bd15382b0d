"""Settings of the update rule; :mod:`solver` says what they do."""

import math
from typing import Literal, Self

from pydantic import Field

from streamptycho.options import Options


class RuleOptions(Options):
    """Strength of the updates."""

    algorithm: Literal["streaming", "rpie", "epie"] = "streaming"
    """The whole rule below (streaming), or plain rPIE (`gamma_object` and `object_step` throughout) or ePIE (the same with
    gamma 1): constant object step, no momentum, no correction and no fill. The probe step falls as set in each case."""
    gamma_object: float = Field(0.2, gt=0, le=1)
    """Regularisation of the object's weight for fresh frames; 1 is plain ePIE throughout."""
    gamma_probe: float = Field(1.0, gt=0, le=1)
    """The same for the probe."""
    object_step: float = Field(1.0, gt=0, le=1)
    """Object step for fresh frames."""
    settled_object_step: float = Field(0.5, gt=0, le=1)
    """Object step for frames visited very often."""
    probe_step: float = Field(1.0, ge=0, le=1)
    """Probe step at the start, from a probe that was guessed; 0 keeps the probe."""
    given_probe_step: float = Field(0.7, ge=0, le=1)
    """The same from a probe that came with the scan: the beam may have drifted since. `probe_step` limits it."""
    settled_probe_step: float = Field(0.1, ge=0, le=1)
    """Probe step at the end."""
    probe_memory: float = Field(1000, gt=0)
    """Updates over which the probe step falls to a half."""
    anneal_visits: float = Field(32, gt=0)
    """Visits of a frame over which the rule turns to plain ePIE."""
    momentum: bool = True
    """Momentum of the smooth part of the object."""
    correction: bool = True
    """Correction of the smooth phase from the patterns' centres of mass."""
    correction_visits: float = Field(6, gt=0)
    """Visits of a frame after which its part in the correction is halved. It then falls with their square: residuals that no
    object explains must not wind up."""
    warm_fill: bool = True
    """Continue the known object smoothly into newly covered area."""

    def resolved(self) -> Self:
        """What the chosen algorithm makes of the other settings."""
        if self.algorithm == "streaming":
            return self
        plain = {"momentum": False, "correction": False, "warm_fill": False, "anneal_visits": math.inf}
        gamma = 1.0 if self.algorithm == "epie" else self.gamma_object
        return self.model_copy(update=plain | {"gamma_object": gamma})

    @property
    def name(self) -> str:
        """The algorithm in the field's words."""
        if self.algorithm != "streaming":
            return {"rpie": "rPIE", "epie": "ePIE"}[self.algorithm]
        aids = {"momentum": self.momentum, "centre-of-mass correction": self.correction}
        base = "ePIE" if self.gamma_object == 1 else "ePIE annealed from rPIE"
        return " with ".join([base, *filter(None, [" and ".join(aid for aid, on in aids.items() if on)])])
