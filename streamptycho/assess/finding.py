"""Something that is wrong with a scan, and what to do about it."""

from dataclasses import dataclass

FEWEST_FRAMES = 24
"""Frames before anything is found."""
ENOUGH_FRAMES = 60
"""Frames before maps of the scan are judged."""
BUSY_FRAMES = 100
"""Frames from which it is judged whether the reconstruction keeps up, whether neighbours have anything in common, and
whether there is a probe at all."""
NOISE_SHARE = 0.2
"""Fourier error from counting noise alone above which there are too few photons."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong."""

    code: str
    sentence: str
    """What is wrong, in plain words, without a full stop."""
    reason: str
    """The figures behind it."""
    remedy: str
    spoils_picture: bool = False
    """The picture itself is wrong, not only poorer than it could be: it is not to be trusted."""

    def __str__(self) -> str:
        return f"{self.sentence}: {self.reason}. {self.remedy}"
