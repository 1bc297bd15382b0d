"""Settings of the position refinement."""

from typing import Literal

from pydantic import Field

from streamptycho.options import Options


class PositionRefinement(Options):
    """Whether and how far recorded positions are corrected."""

    refine: Literal["auto", "off", "on"] = "off"
    """on: thoroughly; auto: a little, and thoroughly once it is seen that positions are wrong; off: never. While frames
    arrive it begins once the picture has settled."""
    max_shift_px: float | None = Field(None, gt=0)
    """Largest offset from the recorded position, drift included; a fifth of the beam's diameter where not given."""
    share: float = Field(0.2, gt=0, le=1)
    """Refined frames per update while positions seem right."""
    busy_share: float = Field(0.5, gt=0, le=1)
    """Refined frames per update when they are not, while frames arrive; afterwards it is one."""
