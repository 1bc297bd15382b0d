"""The series of one detector: at most one is open, and images of all others are refused.

Serves senders that number their series, that may leave out the end of one or the start of the next, and that repeat numbers.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from streamptycho.dialects.dectris.quantities import saturation
from streamptycho.errors import GrammarError, ProtocolError
from streamptycho.messages.facts import Began, Ended, ForeignFact, Frames, Learned, StartParts
from streamptycho.messages.payload import Payload
from streamptycho.messages.reasons import EndReason

_REMEMBERED = 256
"""Series that are over and known to be."""
_NOTHING = StartParts()
_NO_TIME = np.zeros(1, np.int64)
_NO_TIME.setflags(write=False)


@dataclass(slots=True)
class Series:
    """The open series."""

    key: str
    order: int | None
    """Its number. They rise, but for a detector that was started anew; None where the sender does not number them."""
    parts: StartParts
    cutoff: int | None = None
    """Counts from which the detector itself says that a pixel has saturated."""
    highest: int = -1
    """Highest number of an image so far."""
    again: "Series | None" = None
    """A start of the same series that came after images: the same once more, or the next run under the same name."""


class Detector:
    """Follows the series of a detector and makes facts of its images.

    Every method returns an iterable to be consumed before the next call.
    """

    def __init__(self, field: str) -> None:
        self._field = field
        self.open: Series | None = None
        self._over: OrderedDict[str, None] = OrderedDict()

    def begin(self, series: Series) -> Iterable[ForeignFact]:
        """A start has come."""
        series.parts = _complete(series.parts, series.cutoff)
        current = self.open
        if current is None or current.key != series.key:
            yield from self._switch(series)
        elif current.highest < 0:
            yield from self.learn(series.key, series.parts, series.cutoff)
        else:
            current.again = series

    def learn(self, key: str, parts: StartParts, cutoff: int | None = None) -> Iterable[ForeignFact]:
        """More about a series has come; of no use if it is not open."""
        current = self.open
        if current is not None and current.key == key:
            parts = _complete(parts, cutoff)
            current.parts, current.cutoff = parts.over(current.parts), cutoff or current.cutoff
            yield Learned(run=key, parts=parts)

    def image(
        self, key: str, order: int | None, number: int, stamp_ns: int, payload: Payload, parts: StartParts = _NOTHING
    ) -> Iterable[ForeignFact]:
        """Image `number` of a series has come; `parts` is what it says of a series that has not begun.

        Raises :class:`GrammarError` if its series is over.
        """
        current = self.open
        facts: list[ForeignFact] = []
        if current is None or current.key != key:
            self._refuse_old(key, order)
            current = Series(key, order, parts)
            facts.extend(self._switch(current, in_middle=True))
        elif current.again is not None:
            again = current.again
            if number <= current.highest:
                facts.extend(self._switch(again))
                current = again
            else:
                current.again = None
                facts.extend(self.learn(current.key, again.parts, again.cutoff))
        if current.highest < 0:
            facts.extend(_seen(current, payload))
        expected = current.parts.expected
        if expected is not None and number >= expected > current.highest:
            doubt = f"image {number} is beyond the {expected} announced; correct that at the detector or give scan.expected"
            facts.extend(self.learn(current.key, StartParts(doubts=(doubt,))))
        current.highest = max(current.highest, number)
        stamp = np.array((stamp_ns,), np.int64) if stamp_ns else _NO_TIME
        facts.append(Frames(run=current.key, number=np.array((number,), np.int64), timestamp_ns=stamp, payload=payload))
        return facts

    def end(self, key: str) -> Iterable[ForeignFact | ProtocolError]:
        """The end of a series has come."""
        if self.open is not None and self.open.key == key:
            yield from self._close(EndReason.COMPLETE, "")
        elif key not in self._over:
            yield GrammarError(self._field, f"{key!r:.60} has ended but not begun: its start was not received")

    def _switch(self, series: Series, *, in_middle: bool = False) -> Iterator[ForeignFact]:
        if self.open is not None:
            yield from self._close(EndReason.SUPERSEDED, f"{self._field} {series.key} began")
        self._over.pop(series.key, None)
        self.open = series
        yield Began(run=series.key, parts=series.parts, in_middle=in_middle)

    def _close(self, reason: EndReason, detail: str) -> Iterator[ForeignFact]:
        if self.open is not None:
            key, self.open = self.open.key, None
            self._over[key] = None
            while len(self._over) > _REMEMBERED:
                self._over.popitem(last=False)
            yield Ended(run=key, reason=reason, detail=detail)

    def _refuse_old(self, key: str, order: int | None) -> None:
        """Images may still come after the end of an aborted series, and after the start of the next one."""
        late = key in self._over
        newest = None if self.open is None else self.open.order
        if late or (newest is not None and order is not None and order < newest):
            what = "has ended" if late else f"is older than {newest}, which is open"
            raise GrammarError(self._field, f"an image of {key!r:.60}, which {what}; it is not used", frames=1)


def _complete(parts: StartParts, cutoff: int | None) -> StartParts:
    """What follows from the announced type of pixels."""
    return StartParts(saturation=saturation(parts.dtype, cutoff), doubts=_rolls_over(parts.dtype)).over(parts)


def _seen(series: Series, payload: Payload) -> Iterator[ForeignFact]:
    """What the first image shows, where it was not announced."""
    parts = series.parts
    doubts = [] if parts.dtype == payload.dtype else list(_rolls_over(payload.dtype))
    if parts.dtype is not None and parts.dtype != payload.dtype:
        doubts.append(f"{parts.dtype.name} pixels are announced, {payload.dtype.name} come; these are taken")
    if parts.frame_shape is not None and parts.frame_shape != payload.shape:
        doubts.append(f"frames of {parts.frame_shape} pixels (y, x) are announced, {payload.shape} come; these are taken")
    if (parts.dtype, parts.frame_shape) == (payload.dtype, payload.shape):
        return
    highest = saturation(payload.dtype, series.cutoff)
    seen = StartParts(dtype=payload.dtype, frame_shape=payload.shape, saturation=highest, doubts=tuple(doubts))
    series.parts = seen.over(parts)
    yield Learned(run=series.key, parts=seen)


def _rolls_over(dtype: np.dtype | None) -> tuple[str, ...]:
    if dtype != np.uint8:
        return ()
    text = "uint8 pixels: an 8-bit readout begins again at 0 above 255 counts, which nothing shows"
    return (f"{text}; stay below, or let the detector count with 16 bits",)
