"""One scan on its way into its file: what is still expected for it, and what is done while the disk refuses.

A disk that is full or gone costs nothing at first: frames wait, and once a second the file is taken up or begun anew.
"""

import dataclasses
import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from streamptycho.display.known import Known
from streamptycho.display.ledger import Ledger, Missing, combine, missing
from streamptycho.display.logbook import save_picture
from streamptycho.errors import FormatError, GrammarError, ScanError
from streamptycho.files.durable.disk import free_bytes, watched
from streamptycho.files.durable.mend import make_readable, unfinished_run
from streamptycho.files.durable.note import put_note, remove_note
from streamptycho.files.export.strict import write_view
from streamptycho.files.naming import RESULT, beside, latest_path, unique_path
from streamptycho.files.outcome import Outcome
from streamptycho.files.result import write_result
from streamptycho.files.writer import CxiWriter
from streamptycho.messages.kinds import Message
from streamptycho.messages.reasons import DropReason, EndReason
from streamptycho.messages.results import Snapshot
from streamptycho.messages.stream import Frame, Positions, Resume, ScanEnd, ScanStart
from streamptycho.pipeline.options import WriteOptions

log = logging.getLogger(__name__)

RETRY_S = 1.0
"""Time between two attempts on a disk that refuses."""
_ROOM_BYTES = 4 << 20
"""Free space, beside that for frames, without which no attempt is made: it would only be used up."""
LINE_S = 60.0
"""A disk that refuses now and then is told of so often."""
_NAMES = 10
"""How many names are tried where others take them at the same moment."""
_TELLING = 20
"""Frames in the file from which the size of the whole can be foreseen."""


class ScanFile:
    """The file of one scan.

    Parameters
    ----------
    room : given a number of bytes, whether so many more may wait in memory for a disk that refuses.
    now_s : the time; ``heard_s`` is by another clock, that of its user.
    """

    def __init__(
        self, start: ScanStart, options: WriteOptions, config_json: str, room: Callable[[int], bool], now_s: float
    ) -> None:
        self.start = start
        self.options = options
        self.config_json = config_json
        self.writer = CxiWriter(None, start, config_json=config_json, options=options)
        self.begun = False
        """The disk has let a file be opened."""
        self.finished = False
        """The growing file is closed; its result may be missing yet."""
        self.trouble: str | None = None
        """Why nothing is written at the moment."""
        self.trouble_s = 0.0
        """Since when."""
        self.known = Known(start.run)
        self.dropped: Counter[str] = Counter()
        self.end: ScanEnd | None = None
        self.last_word_s = now_s
        self.heard_s = 0.0
        """When the receiver last sent something of it."""
        self.forsaken = False
        """The receiver has vanished: nobody tells the reconstruction of the end, and its last picture is not awaited."""
        self.shown = False
        self._room = room
        self._next_try_s = self._next_line_s = now_s
        self._next_picture_s = 0.0
        self._picture_refused = self._told = False
        self._attempt(self._flush, now_s)

    @property
    def path(self) -> Path:
        """The growing file."""
        return self.writer.path

    @property
    def result_path(self) -> Path:
        """That of the reconstruction."""
        return beside(self.path, RESULT)

    @property
    def picture_path(self) -> Path:
        """That of the phase."""
        return self.path.with_suffix(".png")

    def due(self, now_s: float) -> bool:
        """True if the file can be closed once the scan has ended."""
        snapshot, status = self.known.snapshot, self.known.lead.status
        answered = (snapshot is not None and snapshot.final) or (status is not None and status.no_picture)
        return answered or self.forsaken or now_s - self.last_word_s > self.options.result_timeout_s

    def frame(self, frame: Frame, now_s: float) -> None:
        """Take a block. Raises GrammarError for exposures without beam of which one is of no use."""
        if self.trouble is not None and not self._room(frame.payload.nbytes):
            if frame.dark:
                raise GrammarError("frame.dark", f"{len(frame)} exposures have no room in memory (write.hold_bytes)")
            self._drop(DropReason.DISK, len(frame))
            return
        try:
            appended = self.writer.take(frame)
        except GrammarError:
            if frame.dark:
                raise
            self._drop(DropReason.BAD_INDEX, len(frame))
            return
        lost = appended.duplicate + appended.corrupt
        if frame.dark and lost:
            raise GrammarError("frame.dark", f"{lost} exposures repeat an index or do not decode")
        if not frame.dark:
            self._drop(DropReason.DUPLICATE, appended.duplicate)
            self._drop(DropReason.CORRUPT, appended.corrupt)
        self._flush_if_full(now_s)

    def positions(self, positions: Positions, now_s: float) -> None:
        """Take a block."""
        self.writer.place(positions)
        self._flush_if_full(now_s)

    def _flush_if_full(self, now_s: float) -> None:
        if self.writer.full and self.trouble is None:
            self._attempt(self._flush, now_s)

    def _drop(self, reason: DropReason, frames: int) -> None:
        if frames:
            self.dropped[reason.value] += frames

    @property
    def received(self) -> int:
        """Frames, whatever became of them; those that were sent again after an earlier writer's death count once."""
        return self.writer.frames + self.dropped.total()

    @property
    def holdings(self) -> Resume:
        """What has come of it, in the file or in memory."""
        taken = self.writer.taken
        index, yx_m = (taken.index, taken.yx_m) if len(taken.index) else (None, None)
        return Resume(**self.start.run.fields, frames=taken.frames, index=index, yx_m=yx_m)

    @property
    def missing(self) -> Missing:
        """What the file lacks if it is closed now."""
        return missing(self.known.receive, (self.writer.committed, self.writer.placed), self.start.expected)

    @property
    def whole(self) -> bool:
        """True if the file has as many frames and positions as the receiver says at the end."""
        receive, writer = self.known.receive, self.writer
        return (
            receive is not None and receive.done and (receive.unique, receive.positions) == (writer.committed, writer.placed)
        )

    def take(self, message: Message, now_s: float) -> None:
        """Note what another service says of the scan; a newer snapshot is appended, and the picture refreshed."""
        self.last_word_s = now_s
        if not self.known.take(message) or not isinstance(message, Snapshot):
            return
        if self.trouble is None and not self.finished:
            self._attempt(lambda: self.writer.snapshot(message), now_s)
        if self.options.picture and self.trouble is None and (message.final or now_s >= self._next_picture_s):
            self._next_picture_s = now_s + self.options.picture_s
            self._save_picture(message)

    def _save_picture(self, snapshot: Snapshot) -> None:
        try:
            save_picture(self.picture_path, snapshot, self.known.lead.assessment)
            self.shown = True
        except OSError as error:  # a convenience: that it cannot be written costs no data
            if not self._picture_refused:
                text = "%s: the picture cannot be written (%s)"
                log.warning(text, self.picture_path, error, extra=self.start.run.fields)
            self._picture_refused = True

    @property
    def ledger(self) -> Ledger:
        """The count of all services."""
        return combine(self.known.receive, self.known.lead.status)

    # the disk

    @property
    def waiting_bytes(self) -> int:
        """Bytes in memory for a disk that refuses; 0 where none does."""
        return self.writer.waiting_bytes if self.trouble is not None else 0

    def may_try(self, now_s: float) -> bool:
        """True if the disk takes what it is given, or if it is time to see whether it does so again."""
        return self.trouble is None or now_s >= self._next_try_s

    def flush(self, now_s: float) -> None:
        """Make everything so far readable for others, the counts included."""
        self._attempt(self._flush, now_s)

    def close(self, end: ScanEnd, now_s: float) -> bool:
        """Final picture, final counts, result file; the end is complete only if nothing is missing from the file.

        False if the disk refuses.
        """
        self.end = end
        self._attempt(self._close, now_s)
        return self.trouble is None

    def fail(self) -> None:
        """Give up: what has not reached the file by now is not in it, and what has can be read."""
        self._drop(DropReason.DISK, self.writer.discard())
        if self.begun and not self.finished:
            try:
                make_readable(self.path)
                remove_note(self.path)
            except FormatError as error:
                log.warning("scan %s: what is written cannot be read yet: %s", self.start.scan_id, error)
        if self.end is not None and self.end.complete and not self.finished:
            self.end = dataclasses.replace(self.end, reason=EndReason.INCOMPLETE)

    def _attempt(self, work: Callable[[], object], now_s: float) -> None:
        """Do what the disk may refuse; tell that it does, and that it does no longer."""
        try:
            with watched(self.path):
                work()
        except ScanError as error:
            self._refused(str(error), now_s)
        else:
            if self.trouble is not None and self._told:
                after_s = now_s - self.trouble_s
                said = (self.start.scan_id, after_s, self.path)
                log.warning("scan %s is written again after %.0f s, into %s", *said, extra=self.start.run.fields)
            self.trouble = None

    def _refused(self, why: str, now_s: float) -> None:
        if self.trouble is None:
            self.trouble_s, self._told = now_s, now_s >= self._next_line_s
            if self._told:
                self._next_line_s = now_s + LINE_S
                text = "scan %s: %s. Its frames wait in memory (write.hold_bytes)"
                log.error(text, self.start.scan_id, why, extra=self.start.run.fields)
        self.trouble, self._next_try_s = why, now_s + RETRY_S

    def _flush(self) -> None:
        if self.finished:
            return
        if self.writer.failure is not None:
            self._open()
            put_note(self.path)
        self.writer.counters(self.ledger)
        self.writer.flush()

    def _close(self) -> None:
        self._flush()
        end, lead = self.end, self.known.lead
        if end is not None and end.complete and not self.finished and not self.whole:
            self.end = end = dataclasses.replace(end, reason=EndReason.INCOMPLETE)
        outcome = Outcome(
            start=self.start,
            snapshot=lead.snapshot,
            end=end,
            config_json=self.config_json,
            estimates=lead.estimates,
            assessment=lead.assessment,
            ledger=self.ledger,
            written=self.writer.committed,
            missing=self.missing,
            remarks=self.known.receive.remarks if self.known.receive is not None else (),
        )
        if not self.finished:
            self.writer.finish(outcome)
            self.finished = True
            remove_note(self.path)
        if outcome.snapshot is not None:
            write_result(self.result_path, outcome)
            if self.options.picture and outcome.assessment is not None:  # it has come after the last picture
                self._save_picture(outcome.snapshot)
        if self.options.strict and self.writer.placed and (lacking := write_view(self.path)):
            log.warning("scan %s has no strict view: %s", self.start.scan_id, lacking, extra=self.start.run.fields)

    def _open(self) -> None:
        """Take up the file of this run, or begin a new one."""
        directory, scan_id, before = self.options.directory, self.start.scan_id, self.writer.committed
        self._check_room(directory)
        earlier = self.path if self.begun else latest_path(directory, scan_id)
        if earlier is None or not (self.begun or self._is_ours(earlier)) or not self._reopen(earlier):
            self._begin(directory)
            self._drop(DropReason.DISK, before - self.writer.committed)

    def _is_ours(self, path: Path) -> bool:
        return self.start.started_ns != 0 and unfinished_run(path) == self.start.run

    def _reopen(self, path: Path) -> bool:
        """False, with the reason in the log, if it is not there, not free, or cannot be read."""
        scan_id = self.start.scan_id
        try:
            self.writer.reopen(path)
        except FormatError as error:
            log.warning("scan %s goes on in a new file: %s", scan_id, error)
            return False
        if not self.begun:
            log.warning("scan %s goes on in %s, which has %d frames", scan_id, path, self.writer.committed)
        self.begun = True
        return True

    def _check_room(self, directory: Path) -> None:
        if self.trouble is None:
            return
        free, needed = free_bytes(directory), min(self.writer.waiting_bytes, self.options.batch_bytes) + _ROOM_BYTES
        if free is not None and free < needed:
            raise ScanError(self.trouble)

    def _begin(self, directory: Path) -> None:
        """In a folder that was removed too, but not where the one above it is gone: its disk may not be there."""
        try:
            directory.mkdir(exist_ok=True)
        except OSError as error:
            raise ScanError(f"{directory}: cannot be made again ({error.strerror}); make it, or mount its disk") from error
        for left in reversed(range(_NAMES)):
            try:
                self.writer.begin(unique_path(directory, self.start.scan_id))
            except ScanError as error:
                if not left or not isinstance(error.__cause__, FileExistsError):
                    raise
            else:
                self.begun = True
                return

    def shortage(self, free: int | None) -> str | None:
        """Why the planned scan will not fit into `free` bytes of disk; None if it will, or where that is not known."""
        written, expected = self.writer.committed, self.start.expected
        if free is None or expected is None or written < _TELLING or self.end is not None:
            return None
        needed = (expected - self.writer.frames) * self.frame_bytes + self.writer.waiting_bytes
        if needed <= free:
            return None
        return (
            f"{self.options.directory}: {free / 1e9:.3g} GB are free and the scan needs {needed / 1e9:.3g} GB more; "
            "free disk space before it is used up"
        )

    @property
    def frame_bytes(self) -> int:
        """Bytes of the file per frame in it; 0 before there is one."""
        return self.writer.size_bytes // self.writer.committed if self.writer.committed else 0
