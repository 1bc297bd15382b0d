"""Settings of the stages that are not those of their parts."""

from pathlib import Path

from pydantic import Field

from streamptycho.files.options import WriterOptions
from streamptycho.options import LocalPath, Options


class ReconstructOptions(Options):
    """How the reconstruction shares its time."""

    snapshot_s: float = Field(0.4, gt=0)
    """Time between two snapshots for the file."""
    display_s: float = Field(0.2, gt=0)
    """The same for the display; not longer than that for the file."""
    slice_s: float = Field(0.02, gt=0)
    """Time computed before messages are taken again."""
    max_scans: int = Field(3, ge=1)
    """Scans reconstructed at once: the newest and earlier ones still being polished; beyond it the oldest ends as it is."""
    survey_s: float = Field(0.5, gt=0)
    """Time between two blocks of scan points for the display."""
    preview_s: float = Field(0.25, gt=0)
    """Time between two diffraction patterns for the display."""
    assess_s: float = Field(1.5, gt=0)
    """Time between two assessments of the picture: figures, findings and verdict."""
    allow_control: bool = False
    """Whether viewers may pause, stop and reset the reconstruction, through `services.control`: then everybody who reaches
    that address may."""


class WriteOptions(WriterOptions):
    """What is written, and where."""

    directory: LocalPath = Path()
    """Files are named after their scan; nothing is ever overwritten."""
    picture: bool = True
    """Keep a PNG of the newest object phase beside the file."""
    strict: bool = True
    """Write a strict CXI 1.6 view beside each finished scan, ``NAME.strict.cxi``; its frames are a link."""
    picture_s: float = Field(0.5, gt=0)
    """Time between two refreshes of the picture."""
    flush_s: float = Field(0.1, gt=0)
    """Time after which readers find in the file what has been received."""
    result_timeout_s: float = Field(120.0, gt=0)
    """How long a finished scan waits to hear from the reconstruction before the file is closed without it."""
    silence_s: float = Field(300.0, gt=0)
    """Time without a word of the receiver after which a scan whose end was lost is closed; a living receiver speaks twice a
    second."""
    hold_bytes: int = Field(512 << 20, ge=0)
    """Frames that wait in memory while the disk refuses, bytes of all scans together; more are dropped as `disk`."""
    hold_s: float = Field(600.0, ge=0)
    """How long they wait after the end of their scan before they are given up."""
