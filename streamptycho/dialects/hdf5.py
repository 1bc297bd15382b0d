"""What is read from HDF5 files that are being written, and how their end is known.

:mod:`streamptycho.sources.scan_files` reads them.
"""

from collections.abc import Iterable, Sequence
from typing import Self

from pydantic import Field, model_validator

from streamptycho.messages.facts import Fact
from streamptycho.options import Options
from streamptycho.wire.codec import Part


class Hdf5(Options):
    """The options of the format ``hdf5``. As a dialect it has nothing to say: there are no messages."""

    frames: str = ""
    """Path of the dataset of frames, (rows, y, x); with ``%06d`` in it for a running number, those of all numbers."""
    y: str = ""
    """Path of that of the positions along y, a number each row."""
    x: str = ""
    """Path of that along x."""
    live_key: str = ""
    """Path of a dataset that is not 0 where a frame has been written."""
    unit: str = ""
    """Unit of the positions; default: the attribute ``units`` of the dataset."""
    first_file: int | None = Field(None, ge=0)
    """The first running number, where names have one; default: 0 or 1, whichever there is."""
    expected: int | None = Field(None, ge=1)
    """Rows after which the run ends."""
    closed_s: float = Field(2.0, ge=0)
    """Time without a new row after which a file ends that its writer has closed, or after which another has been begun."""
    silence_s: float = Field(60.0, gt=0)
    """Time without a new row after which any file ends, as one that timed out."""

    @model_validator(mode="after")
    def _names_something(self) -> Self:
        if bool(self.y) is not bool(self.x):
            raise ValueError("y and x go together; name both datasets or neither")
        if not self.frames and not self.y:
            raise ValueError("frames, or y and x, must name datasets, such as /entry/data/data")
        return self

    def feed(self, parts: Sequence[Part], now_s: float) -> Iterable[Fact]:
        """Nothing."""
        return ()

    def tick(self, now_s: float) -> Iterable[Fact]:
        """Nothing."""
        return ()
