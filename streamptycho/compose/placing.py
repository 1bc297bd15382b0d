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

    def tell(self, more: int) -> None:
        """At the end: how far positions move within a frame, and by how many there are more of them than frames."""
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
