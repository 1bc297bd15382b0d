"""Settings of the stages that are not those of their parts."""

from pathlib import Path

from pydantic import Field

from streamptycho.files.options import WriterOptions
from streamptycho.options import Options


class ReconstructOptions(Options):
    """How the reconstruction shares its time."""

    snapshot_s: float = Field(0.4, gt=0)
    """Time between two snapshots for the file."""
    display_s: float = Field(0.2, gt=0)
    """The same for the eye; not longer than that for the file."""
    slice_s: float = Field(0.02, gt=0)
    """Time computed between two looks at the stream."""
    max_scans: int = Field(3, ge=1)
    """Scans in work at once: the newest and earlier ones still being polished; beyond it the oldest ends as it is."""
    survey_s: float = Field(0.5, gt=0)
    """Time between two blocks of scan points for the eye."""
    preview_s: float = Field(0.25, gt=0)
    """Time between two diffraction patterns for the eye."""
    assess_s: float = Field(1.5, gt=0)
    """Time between two assessments of the picture: figures, findings and verdict."""
    allow_control: bool = False
    """Whether viewers may pause, stop and reset the reconstruction, through `services.control`. Whoever reaches that address
    may then."""


class WriteOptions(WriterOptions):
    """What is written, and where."""

    directory: Path = Path()
    """Files are named after their scan; nothing is ever overwritten."""
    picture: bool = True
    """Keep a PNG of the newest object phase beside the file."""
    picture_s: float = Field(0.5, gt=0)
    """Time between two refreshes of the picture."""
    flush_s: float = Field(0.1, gt=0)
    """Time after which what has been received is in the file for others to read."""
    result_timeout_s: float = Field(120.0, gt=0)
    """How long a finished scan waits for a word from the reconstruction before the file is closed without it."""
