"""What a file says of its scan beside the frames, looked for until it is known what a picture needs."""

from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path

from streamptycho.dialects.nexus import parts_of
from streamptycho.files.growing.names import first_of
from streamptycho.files.growing.nexus import look
from streamptycho.messages.facts import StartParts

_AGAIN_S, _FOR_S = 0.5, 30.0
"""Time between two looks, and from the first to the last: a writer adds what it knows when it has got round to it."""
_NEEDED = ("wavelength_m", "distance_m", "pitch_m")


class Described:
    """One file.

    Parameters
    ----------
    frames : path of its dataset of frames.
    """

    def __init__(self, path: Path, frames: str) -> None:
        self._path, self._frames = path, frames
        self._first_s: float | None = None
        self._next_s = 0.0
        self.parts = StartParts()
        """What is known so far."""

    def look(self, shape: tuple[int, int], now_s: float) -> StartParts | None:
        """What is known, if that is more than before; `shape` is that of a frame."""
        self._first_s = now_s if self._first_s is None else self._first_s
        known = all(getattr(self.parts, name) is not None for name in _NEEDED)
        if known or now_s < self._next_s or now_s - self._first_s > _FOR_S:
            return None
        self._next_s = now_s + _AGAIN_S
        before = _summary(self.parts)
        with suppress(OSError):  # as long as it is written
            path = first_of(self._path) or self._path
            self.parts = parts_of(look(path, self._frames), shape).over(replace(self.parts, doubts=()))
        return self.parts if _summary(self.parts) != before else None


def _summary(parts: StartParts) -> list[object]:
    """What tells two of them apart: of arrays that they are there."""
    values = [getattr(parts, part.name) for part in fields(parts)]
    return [value if not hasattr(value, "shape") else True for value in values]
