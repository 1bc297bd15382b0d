"""Positions of one scan from the samples that it gets, with what people should know of them."""

from collections.abc import Callable, Iterator
from dataclasses import replace

from streamptycho.compose.options import ScanOptions
from streamptycho.compose.rows import Placed, RowTable
from streamptycho.errors import GrammarError, ProtocolError
from streamptycho.messages.facts import Samples, StartParts
from streamptycho.messages.geometry import in_unit
from streamptycho.messages.stream import Positions

_MOST_ROW = 1 << 53
"""Sample rows and frame numbers beyond it are not believed."""


class Placing:
    """Makes positions of samples."""

    def __init__(self, options: ScanOptions, say: Callable[[str, str], object]) -> None:
        self.rows = RowTable(options)
        self._options = options
        self._say = say
        self._ours = 0
        self._readable: object = None

    @property
    def count(self) -> int:
        """Positions of different index so far."""
        return self.rows.placed.count

    def take(self, fact: Samples | Positions, parts: StartParts, scan_id: str) -> list[Positions | ProtocolError] | None:
        """The positions that are complete with `fact`; None while its columns cannot be read, which is said."""
        if isinstance(fact, Positions):
            self.rows.placed.add_all(fact.index)
            return [replace(fact, scan_id=scan_id)]
        problem = self.rows.problem(list(fact.columns), parts)
        if problem is not None:
            self._say("columns", f"{problem}. No position is used until then")
            return None
        if fact.first + len(fact) > _MOST_ROW:
            text = f"sample row {fact.first} is beyond {_MOST_ROW}"
            return [GrammarError("samples.first", text, scan_id=scan_id, reason="unplaced")]
        return list(self._messages(self.rows.take(fact), scan_id))

    def flush(self, scan_id: str) -> Iterator[Positions | ProtocolError]:
        """What can be made of incomplete samples: no more come."""
        yield from self._messages(self.rows.flush(), scan_id)

    def _messages(self, placed: Placed, scan_id: str) -> Iterator[Positions | ProtocolError]:
        index, yx_m = placed
        left_out = self.rows.left_out
        if left_out["nan"]:
            self._say("nan", "sample rows without finite values are left out: their frames have no position")
        if left_out["repeated"]:
            self._say("repeated", "positions of the same frame come again; the first that was used counts")
        if left_out["partial"]:
            text = (
                f"some frames have the mean of fewer than scan.samples_per_frame = {self._options.samples_per_frame} samples"
            )
            self._say("partial", text)
        if len(index):
            try:
                yield Positions(scan_id=scan_id, index=index, yx_m=yx_m)
            except ProtocolError as error:
                yield GrammarError(error.field, error.detail, scan_id=scan_id, reason="unplaced")

    def counts(self, frames: int) -> bool:
        """Whether the positions tell that `frames` are all; not if that depends on a setting, which may be wrong."""
        if not self.rows.grouped:
            return True
        each = self._options.samples_per_frame
        text = f"{frames} frames came, and scan.samples_per_frame = {each} samples for each; nobody says how many frames"
        self._say("samples_per_frame", f"{text} there are, so some may be lost if that setting is wrong: set scan.expected")
        return False

    def compare(self, frames: int | None, rows: int | None, come: int, *, whole: bool) -> None:
        """At the end: say where `frames`, of which `come` have come, and sample `rows` do not agree. None: not announced.

        `whole` : both sides say that nothing was cut short; otherwise they need not agree.
        """
        if not (whole and self._tell_ratio(come if frames is None else frames, rows)):
            known = whole and frames is not None and rows is not None
            self._tell(self.rows.announced(rows) - (frames or 0) if known else 0)

    def _tell_ratio(self, frames: int, rows: int | None) -> bool:
        """Say so if `rows` samples, None for those that have come, are another whole number for each frame."""
        each = self._options.samples_per_frame
        came = self.rows.distinct if rows is None else max(rows - self._options.first_sample, 0)
        if self.rows.named or not frames or not came or came % frames or came == each * frames:
            return False
        text = f"{came} samples came for {frames} frames, {came // frames} for each, and scan.samples_per_frame is {each}"
        self._say("samples_per_frame", f"{text}, so frames have wrong positions: set it to {came // frames}")
        return True

    def _tell(self, more: int) -> None:
        """How far positions move within a frame, and by how many there are more of them than frames."""
        if self.rows.spread_m > 0:
            value, unit = in_unit(self.rows.spread_m)
            text = f"positions move by {value:.3g} {unit} (rms) within a frame, which blurs the picture by as much"
            self._say("spread", text)
        if more > 0:
            first = self._options.first_sample + more * self._options.samples_per_frame
            remedy = f"if the first of them belong to no frame, set scan.first_sample = {first}"
            self._say("offset", f"there are {more} more positions than frames, so all may be shifted by as many: {remedy}")
        elif more < 0:
            remedy = f"if the first frames were taken before the first sample, set scan.first_frame = {-more}"
            if self._options.samples_per_frame > 1:
                remedy += f"; or scan.samples_per_frame = {self._options.samples_per_frame} is too large"
            self._say("offset", f"there are {-more} more frames than positions, so all may be shifted by as many: {remedy}")
