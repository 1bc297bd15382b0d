"""How far a reconstruction has come, as a line of text or as a value for a callback."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TextIO, TypeAlias

_EVERY_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One moment of a reconstruction."""

    state: str
    """``reading``, ``searching`` (for a probe), ``polishing``, ``assessing``, ``done`` or ``interrupted``."""
    frames: int
    """Frames taken in so far."""
    expected: int | None
    """Frames of the scan, where known."""
    passes: int
    """Passes over all frames."""
    error: float
    """Fourier error; NaN before the first pass."""

    @property
    def over(self) -> bool:
        """True for the last one."""
        return self.state in ("done", "interrupted")

    def __str__(self) -> str:
        if self.state == "reading":
            return f"reading: {self.frames}{f' of {self.expected}' if self.expected else ''} frames"
        return f"{self.state}: {self.frames} frames, pass {self.passes}, error {self.error:.5f}"


Report: TypeAlias = Callable[[Progress], None]


class Line:
    """Writes progress over and over on one line, which terminals and notebooks both show."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._next_s, self._width = 0.0, 0

    def __call__(self, progress: Progress) -> None:
        """Show `progress` if the last one has been seen long enough, or if it is the end."""
        now = time.monotonic()
        if now < self._next_s and not progress.over:
            return
        self._next_s = now + _EVERY_S
        text = str(progress)
        self._stream.write(f"\r{text.ljust(self._width)}" + ("\n" if progress.over else ""))
        self._stream.flush()
        self._width = len(text)


def report_to(progress: bool | Report) -> Report:
    """The callback itself; for True a line of text where somebody can see it, on a terminal or in a notebook."""
    if callable(progress):
        return progress
    if progress and (sys.stdout.isatty() or "ipykernel" in sys.modules):
        return Line(sys.stdout)
    return lambda _: None
