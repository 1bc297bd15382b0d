"""A scan that is being put together: what it waits for, and the messages that it makes."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from streamptycho.compose.identity import Run
from streamptycho.compose.numbers import FrameNumbers
from streamptycho.compose.options import Role, ScanOptions
from streamptycho.compose.placing import Placing
from streamptycho.compose.start import FIRST_FRAME, Known, ask_for, build, gather
from streamptycho.errors import GrammarError, ProtocolError
from streamptycho.messages.facts import Frames, Samples, StartParts
from streamptycho.messages.kinds import Message
from streamptycho.messages.reasons import EndReason, Stream
from streamptycho.messages.stream import Frame, Positions, ScanEnd, ScanStart

Composed = Message | ProtocolError
Say = Callable[[str, str, str], object]


class Scan:
    """One scan with the runs that are in it.

    Frames wait for the start, and the start for the first frame and for what a picture needs, until the deadline. A frame
    that was taken leaves as one frame message or in an error.
    """

    def __init__(
        self,
        leader: Run,
        scan_id: str,
        started_ns: int,
        options: ScanOptions,
        say: Say,
        *,
        start: ScanStart | None = None,
    ) -> None:
        self.scan_id = scan_id
        self.started_ns = started_ns
        self.since_s = leader.since_s
        self.runs: dict[Role, Run] = {}
        self.start = start
        self._resumed = start is not None
        self.sent: set[Stream] = set()
        """Streams that have ended."""
        self._counts: dict[Stream, int] = {}
        self.closed = False
        """It takes nothing more."""
        self.documents = False
        """Documents may still come and tell more."""
        self.leader = leader
        self._options = options
        self._tell = say
        self.numbers = FrameNumbers(options, self._say, whole=not leader.in_middle)
        self.placing = Placing(options, self._say)
        self._held: list[Frames] = []
        self._held_samples: list[Samples | Positions] = []
        self.held_bytes = self.held_rows = 0
        self.first_s: float | None = None
        """When the first frame came, or the end without one."""
        self.brings_positions = False
        """Its frames have their positions with them."""
        self._hurry = False
        self.attach(leader)

    def _say(self, reason: str, text: str) -> None:
        self._tell(self.scan_id, reason, text)

    @property
    def frames_come(self) -> int:
        """Frames of different index so far."""
        return self.numbers.come.count

    def positions_of(self, run: Run) -> int:
        """Positions that a run which has ended announces, as far as can be told."""
        count = run.ended.count if run.ended is not None else None
        if count is None:
            count = run.held_rows
        return count if run.ours else self.placing.rows.announced(count)

    def attach(self, run: Run) -> None:
        """Let a run join."""
        self.runs[run.role] = run
        run.scan = self
        if run.role is Role.FRAMES and run.in_middle and self.start is None:
            text = f"{run.said} was met in its middle: what came before is not in the file"
            self._say("middle", text)

    def hurry(self) -> None:
        """Wait for nothing more before the start."""
        self._hurry = True

    def take(self, run: Run, fact: Any, now_s: float) -> Iterator[Composed]:
        """A fact of a run in this scan, other than its beginning and end."""
        if isinstance(fact, ScanStart | Frame | ScanEnd):
            yield from self._ours(fact, now_s)
        elif isinstance(fact, Frames):
            self.first_s = now_s if self.first_s is None else self.first_s
            if self.start is None:
                self._held.append(fact)
                self.held_bytes += fact.payload.nbytes + 1024
            else:
                yield from self._frames(fact)
        elif isinstance(fact, Samples | Positions):
            if run.role is not self._options.positions_from:
                text = (
                    f"{run.role.value} bring positions too, which are not used; set scan.positions_from = "
                    f"'{run.role.value}' if they are the right ones"
                )
                self._say("positions_from", text)
                return
            self._held_samples.append(fact)
            self.held_rows += len(fact)
        yield from self.advance(now_s)

    def advance(self, now_s: float) -> Iterator[Composed]:
        """What can be made now of what has come."""
        if self.closed:
            return
        if self.start is None:
            yield from self._start_if_due(now_s)
        if self.start is None:
            yield from self._forget_samples()
            return
        if self._held_samples:
            yield from self._place()
            yield from self._forget_samples()
        yield from self._end_if_due(now_s)

    def close(self) -> Iterator[Composed]:
        """Take nothing more; samples that could not be read are counted."""
        self.closed = True
        waiting, self._held_samples, self.held_rows = self._held_samples, [], 0
        for _ in waiting:
            text = "samples of the scan could not be read before its end"
            yield GrammarError("scan.columns", text, scan_id=self.scan_id, reason="unplaced")

    # the start

    def _start_if_due(self, now_s: float) -> Iterator[Composed]:
        frames = self.runs.get(Role.FRAMES)
        if frames is None or frames.ours:
            return
        if self.first_s is None:
            if frames.ended is None:
                return
            self.first_s = now_s
        known = gather(self._options, self.runs)
        late = self._hurry or now_s - self.first_s >= self._options.start_deadline_s
        waiting = known.missing(fallback=not self.documents or Role.DOCUMENTS in self.runs)
        if waiting and not late:
            return
        like = self._like(frames.parts)
        if like.frame_shape is None or like.dtype is None:
            yield self._without_frames(frames)
            return
        self.started_ns = known.values.get("started_ns", self.started_ns)
        if known.missing():
            text = f"{ask_for(known.missing())}. The file is written without; no picture is made"
            self._say("geometry", text)
            known.doubts.append(text)
        yield from self._begin(known, like)

    def _begin(self, known: Known, like: StartParts) -> Iterator[Composed]:
        if self._held and self.numbers.first is None:
            self.numbers.first = int(self._held[0].number[0])
        if self._options.first_frame == "first" and self.numbers.first is not None:
            known.metadata = {**known.metadata, FIRST_FRAME: self.numbers.first}
        held, self._held, self.held_bytes = self._held, [], 0
        try:
            start = build(known, self.runs, self.scan_id, self.started_ns, like)
        except (GrammarError, ValueError) as error:
            self.closed = True
            self._say("start", f"no start can be made: {error}")
            for frames in [len(fact) for fact in held] or [0]:
                yield GrammarError("scan.start", str(error), scan_id=self.scan_id, frames=frames, reason="failed")
            return
        for number, doubt in enumerate(known.doubts):
            self._say(f"doubt {number}", doubt)
        self.start = start
        yield start
        for fact in held:
            yield from self._frames(fact)

    def _like(self, parts: StartParts) -> StartParts:
        """Shape and type of the frames: those of the first, else as announced."""
        if self._held:
            payload = self._held[0].payload
            return StartParts(frame_shape=payload.shape, dtype=payload.dtype)
        return parts

    def _without_frames(self, frames: Run) -> ProtocolError:
        """A run that has ended before a frame came, of which nothing is known that could be written."""
        self.closed = True
        count = (frames.ended.count if frames.ended is not None else None) or 0
        text = f"{frames.said} has ended, {count} frames are announced, and none has come: no file is written"
        self._say("empty", text)
        return GrammarError("scan.frames", text, scan_id=self.scan_id, reason="unrecorded")

    # frames and positions

    def _frames(self, fact: Frames) -> Iterator[Composed]:
        start = self.start
        if start is None:
            return
        self._look_at(fact.payload.shape, fact.payload.dtype, start)
        index = fact.number if fact.dark else self.numbers.index(fact, start.expected)
        if len(index) == 1 and index[0] >= 0:
            yield self._frame(fact, index, [0])
            return
        fits = np.flatnonzero(index >= 0).tolist()
        lost = len(index) - len(fits)
        if lost:
            text = f"frame numbers from {int(fact.number[0])} on: {lost} lie before frame 0, or beyond their line"
            self._say("number", f"{text}; correct scan.first_frame or scan.line_length")
            yield GrammarError("scan.first_frame", text, scan_id=self.scan_id, frames=lost, reason="bad_index")
        rising = len(fits) == 1 or bool((np.diff(index[fits]) > 0).all())
        for rows in [fits] if rising and fits else [[row] for row in fits]:
            yield self._frame(fact, index, rows)

    def _frame(self, fact: Frames, index: Any, rows: list[int]) -> Composed:
        payload, times = fact.payload, fact.timestamp_ns
        if len(rows) < len(fact):
            payload = replace(payload, chunks=tuple(payload.chunks[row] for row in rows))
            index, times = index[rows], times[rows]
        try:
            return Frame(scan_id=self.scan_id, index=index, timestamp_ns=times, dark=fact.dark, payload=payload)
        except ProtocolError as error:
            return GrammarError(error.field, error.detail, scan_id=self.scan_id, frames=len(rows), reason="corrupt")

    def _look_at(self, shape: tuple[int, int], dtype: np.dtype, start: ScanStart) -> None:
        if dtype != start.dtype or shape != start.geometry.frame_shape:
            told = f"{start.dtype.name} of {start.geometry.frame_shape} pixels"
            text = f"frames are {dtype.name} of {shape} pixels, the start said {told}: they are counted and not written"
            self._say("wrong_shape", text)

    def _place(self) -> Iterator[Composed]:
        run = self.runs[self._options.positions_from]
        parts = run.parts
        for role in (Role.DOCUMENTS, Role.FRAMES):
            if role in self.runs:
                parts = parts.over(self.runs[role].parts)
        waiting, self._held_samples, self.held_rows = self._held_samples, [], 0
        for number, fact in enumerate(waiting):
            made = self.placing.take(fact, parts, self.scan_id)
            if made is None:  # until their columns or units are known
                self._held_samples = waiting[number:]
                self.held_rows = sum(map(len, self._held_samples))
                return
            yield from made

    def _forget_samples(self) -> Iterator[Composed]:
        while self.held_rows > self._options.max_held_rows and self._held_samples:
            fact = self._held_samples.pop(0)
            self.held_rows -= len(fact)
            text = "more sample rows wait than scan.max_held_rows; the oldest are not used"
            self._say("max_held_rows", text)
            yield GrammarError("scan.max_held_rows", text, scan_id=self.scan_id, reason="unplaced")

    # our own messages

    def _ours(self, message: ScanStart | Frame | ScanEnd, now_s: float) -> Iterator[Composed]:
        """Messages of a sender that speaks our own dialect: passed on as they are."""
        if isinstance(message, ScanStart):
            self.start, self.scan_id, self.started_ns = message, message.scan_id, message.started_ns
        elif isinstance(message, Frame):
            self.first_s = now_s if self.first_s is None else self.first_s
            if self.start is None:
                self._say("no_start", "frames come without a start message: their scan began before, and none is recorded")
            else:
                self._look_at(message.payload.shape, message.payload.dtype, self.start)
            self.brings_positions |= message.taken_yx_m is not None
            if not message.dark:
                self.numbers.come.add_all(message.index)
        else:
            self.sent.add(message.stream)
        yield message

    # the end

    def _end_if_due(self, now_s: float) -> Iterator[Composed]:
        frames, positions = self.runs.get(Role.FRAMES), self.runs.get(self._options.positions_from)
        start = self.start
        if start is None:
            return
        expected = start.expected
        all_frames = expected is not None and self.frames_come >= expected
        placed = self.placing.count
        if frames is not None and not frames.ours and Stream.FRAMES not in self.sent:
            over = frames.ended
            if over is not None:
                # what came before a run was met in its middle only its sender can count
                sure = over.count is not None or self._resumed or not frames.in_middle
                count = over.count if over.count is not None else self.frames_come
                yield self._end(Stream.FRAMES, count, over.reason, sure=sure)
            elif expected is not None and all_frames and placed >= expected:
                yield self._end(Stream.FRAMES, expected, EndReason.COMPLETE)
            elif self.leader is not frames and self.leader.ended is not None and self._silent(frames, now_s):
                planned = expected or frames.parts.expected  # which may have been said after the start
                sure = (
                    planned is None
                    and self.positions_of(self.leader) == self.frames_come
                    and self.placing.counts(self.frames_come)
                )
                yield self._end(Stream.FRAMES, self.frames_come, self.leader.ended.reason, sure=sure)
        if positions is not None and Stream.POSITIONS not in self.sent and not self._held_samples:
            yield from self._end_positions(positions, now_s)
        told = self._counts.get(Stream.FRAMES, self.frames_come)
        if self.frames_come > told:
            text = f"{self.frames_come - told} frames came beyond the {told} that were announced; they are in the file"
            self._say("beyond", f"{text}: correct that number at its sender, or set scan.expected")
        if Stream.FRAMES in self.sent and Stream.POSITIONS in self.sent:
            self._compare()

    def _silent(self, run: Run, now_s: float) -> bool:
        return now_s - run.last_s >= self._options.partner_s

    def _end_positions(self, run: Run, now_s: float) -> Iterator[Composed]:
        if run.ended is not None:
            yield from self.placing.flush(self.scan_id)
            count = run.ended.count if run.ours else self.placing.rows.announced(run.ended.count)
            yield self._end(Stream.POSITIONS, self.placing.count if count is None else count, run.ended.reason)
        elif Stream.FRAMES in self.sent and self.placing.count >= self.frames_come > 0:
            if self.start is not None and self.start.expected == self.frames_come:
                yield self._end(Stream.POSITIONS, self.placing.count, EndReason.COMPLETE)
        elif self._silent(run, now_s):
            yield from self.placing.flush(self.scan_id)

    def _end(self, stream: Stream, count: int, reason: EndReason, *, sure: bool = True) -> ScanEnd:
        self.sent.add(stream)
        self._counts[stream] = count
        frames, positions = (self._counts.get(side) for side in (Stream.FRAMES, Stream.POSITIONS))
        lacking = frames is not None and positions is not None and positions < frames
        if reason is EndReason.COMPLETE and (lacking or not sure):
            reason = EndReason.INCOMPLETE
        return ScanEnd(scan_id=self.scan_id, started_ns=self.started_ns, stream=stream, count=count, reason=reason)

    def _compare(self) -> None:
        """At the end: do the counts of both sides agree? Where they do not, the offset between them is not sure."""
        run, frames = self.runs.get(self._options.positions_from), self.runs.get(Role.FRAMES)
        if run is None or frames is None or run.ours or run.ended is None:
            return
        planned = self.start.expected if self.start is not None else None
        ended = frames.ended
        count = ended.count if ended is not None and ended.count is not None else planned
        whole = {run.ended.reason, EndReason.COMPLETE if ended is None else ended.reason} == {EndReason.COMPLETE}
        self.placing.compare(count, run.ended.count, self.frames_come, whole=whole)
