"""Settings of the join."""

from pydantic import Field

from streamptycho.options import Options


class MatchOptions(Options):
    """Bounds of the join."""

    max_waiting_bytes: int = Field(512 << 20, gt=0)
    """Frames held for their position, bytes, of all scans together; beyond it the oldest is let go, and the reconstruction
    takes it from the file once its position is known."""
    max_backlog_bytes: int = Field(256 << 20, gt=0)
    """Frames held for a busy engine, bytes; frames beyond it are not used for the picture (they are in the file). After the
    end of the frames the reconstruction takes those beyond it from the file."""
    max_waiting_positions: int = Field(1_000_000, gt=0)
    """Positions held for their frame; beyond it the oldest is let go (it is in the file)."""
    max_index: int = Field(10_000_000, gt=0)
    """Frame indices must be below this."""
    max_open_scans: int = Field(8, ge=1)
    """Scans that may run at once; beyond it the oldest is closed as superseded. The same number is kept for a reconstruction
    that accepts nothing."""
    settle_s: float = Field(2.0, ge=0)
    """After the end of the frames, or the start of the next scan: how long the stream must be silent before the scan is
    closed although something is missing. A frame overdue by this long is reported lost."""
    positions_grace_s: float = Field(60.0, ge=0)
    """Silence after which a scan is closed whose frames have ended and whose positions have not, while frames wait for some.
    Once positions of a later scan have come, `settle_s` is enough."""
    timeout_s: float = Field(60.0, gt=0)
    """Silence after which a scan without end message is closed as timed out."""
