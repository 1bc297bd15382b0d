"""From the number that a detector gives to a frame to its index in the scan."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from streamptycho.compose.intervals import Intervals
from streamptycho.compose.options import ScanOptions
from streamptycho.messages.facts import Frames

MOST = (1 << 63) - 1
Say = Callable[[str, str], object]
"""Says a reason and a text of the scan."""


class FrameNumbers:
    """The numbering of one run of frames.

    Where numbers begin anew with each line of the scan, the length of a line is set, or inferred: at the first repetition of
    number 0, if exactly the numbers of one line have come, once each, the plan is a multiple of it, and the exposure is not
    one of those that have come.
    """

    def __init__(self, options: ScanOptions, say: Say, *, whole: bool = True) -> None:
        self.come = Intervals()
        """Indices of the frames that have come."""
        self.first: int | None = None if options.first_frame == "first" else options.first_frame
        """Number of frame 0; None before it is known."""
        self._say = say
        self._whole = whole
        self._length = options.line_length
        self._line = 0
        self._last: int | None = None
        self._newest_ns = 0

    def resume(self, seen: NDArray[np.int64], first: int | None) -> None:
        """Go on after the frames of these indices, rising; `first` is the number of frame 0 where it was not set."""
        self._whole = False
        self.come.add_all(seen)
        self.first = first if self.first is None else self.first
        if len(seen) and self._length is not None:
            self._line, self._last = divmod(int(seen[-1]), self._length)

    def index(self, frames: Frames, expected: int | None) -> NDArray[np.int64]:
        """(n,) index of each frame; below 0 for one that cannot have any."""
        if self.first is None:
            self.first = int(frames.number[0])
        if len(frames) == 1:
            return self._place_one(int(frames.number[0]) - self.first, int(frames.timestamp_ns[0]), expected)
        counted = frames.number - self.first
        rising = bool((counted[1:] > counted[:-1]).all())
        blocks = [counted] if rising else np.split(counted, len(counted))  # a line may begin within the message
        at = 0
        found = []
        for block in blocks:
            found.append(self._place(block, int(frames.timestamp_ns[at]), expected))
            at += len(block)
        self._newest_ns = max(self._newest_ns, int(frames.timestamp_ns.max()))
        return np.concatenate(found)

    def _place_one(self, number: int, timestamp_ns: int, expected: int | None) -> NDArray[np.int64]:
        """The same for one frame, in less time."""
        if self._length is not None or number <= (self._last if self._last is not None else 1):
            index = self._place(np.array([min(number, MOST)]), timestamp_ns, expected)
        else:
            self._last = number
            self.come.add(number, number + 1)
            index = np.array([min(number, MOST)])
        self._newest_ns = max(self._newest_ns, timestamp_ns)
        return index

    def _place(self, counted: NDArray[np.int64], timestamp_ns: int, expected: int | None) -> NDArray[np.int64]:
        """Indices of frames whose numbers rise, after a look at whether the first begins a line."""
        first, last = int(counted[0]), self._last
        if last is None and self._whole and first == 1:
            text = (
                "the first frame has number 1: frame 0 is lost, or the detector counts from 1: then set scan.first_frame = 1"
            )
            self._say("first_frame", text)
        if last is not None and first < last:
            if self._length is None and first == 0:
                self._infer(last, timestamp_ns, expected)
            if self._length is not None and self._is_next_line(first, last, timestamp_ns):
                self._line += 1
        self._last = int(counted[-1])
        fits = counted >= 0
        if self._length is not None:
            fits &= counted < self._length
            if self._last >= self._length:
                text = (
                    f"frame number {self._last} does not fit into a line of {self._length} frames; correct scan.line_length"
                )
                self._say("line", text)
        index: NDArray[np.int64] = np.where(fits, counted + self._line * (self._length or 0), -1)
        self.come.add_all(index[fits])
        return index

    def _is_next_line(self, first: int, last: int, timestamp_ns: int) -> bool:
        """Whether a smaller number begins a line and is not late: it is much smaller, or has come, of another exposure."""
        length = self._length or 0
        again = timestamp_ns > self._newest_ns and first + self._line * length in self.come
        return again or 2 * (last - first) >= length

    def _infer(self, last: int, timestamp_ns: int, expected: int | None) -> None:
        """Number 0 has come after number `last`: what this means, said aloud."""
        length = self.come.stop
        if self.come.count == 0 or self.come.add(0, 1):  # it is the first number 0, late
            return
        one_line = self._whole and self.come.count == length == last + 1 and length > 1
        planned = expected is not None and expected > length and expected % length == 0
        new = timestamp_ns == 0 or timestamp_ns > self._newest_ns
        if one_line and planned and new:
            self._length = length
            self._say("lines", f"frame numbers begin anew after {length} of {expected}: taken for lines of {length} frames")
            return
        text = (
            f"frame number 0 has come again after {last} and counts as a duplicate: if the detector counts every line "
            f"anew, set scan.line_length, for example to {last + 1}"
        )
        self._say("restart", text)
