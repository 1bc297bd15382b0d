"""What a scan and its reconstruction came to: all that the files keep of it beside frames and positions."""

from dataclasses import dataclass, field

from streamptycho.display.ledger import Ledger, Missing
from streamptycho.errors import GrammarError
from streamptycho.messages.results import Assessment, Estimates, Snapshot
from streamptycho.messages.stream import ScanEnd, ScanStart


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One run of a scan at its end, or so far. Raises GrammarError naming the part that belongs to another run."""

    start: ScanStart
    snapshot: Snapshot | None
    """The picture; None where nothing was reconstructed."""
    end: ScanEnd | None = None
    """None while the scan is still running."""
    config_json: str = "{}"
    """The effective configuration."""
    estimates: Estimates | None = None
    assessment: Assessment | None = None
    ledger: Ledger | None = None
    """Where every frame went; None where not counted."""
    written: int | None = None
    """Frames in the file of the scan; None where none is written."""
    missing: Missing = field(default_factory=Missing)
    """What is not in it."""
    remarks: tuple[str, ...] = ()
    """What is to be known of how the scan was put together."""

    def __post_init__(self) -> None:
        run = self.start.run
        for name in ("snapshot", "end", "estimates", "assessment"):
            part = getattr(self, name)
            if part is not None and not part.run.may_be(run):
                raise GrammarError(f"outcome.{name}", f"{part.run} is not {run}")
