"""Reconstruct: from scan points to snapshots."""

import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from streamptycho.errors import CodecError, ConfigError, ProtocolError, ScanError
from streamptycho.feed import Command
from streamptycho.messages import Frame, Message, Positions, ScanEnd, ScanPoint, ScanStart, Status, same_run
from streamptycho.pipeline.last_words import LastWords
from streamptycho.pipeline.options import ReconstructOptions
from streamptycho.pipeline.reconstruction import PreviousProbe, Reconstruction
from streamptycho.pipeline.stage import Output, Port
from streamptycho.preprocess.options import FrameOptions, PositionOptions
from streamptycho.reasons import DropReason, ServiceState
from streamptycho.solve.engine import EngineState
from streamptycho.solve.kernels import warm_up
from streamptycho.solve.settings import EngineOptions

_STATES = {
    EngineState.EMPTY: ServiceState.RECEIVING,
    EngineState.SEARCHING: ServiceState.SEARCHING,
    EngineState.LIVE: ServiceState.RECONSTRUCTING,
    EngineState.POLISHING: ServiceState.POLISHING,
    EngineState.DONE: ServiceState.DONE,
}


class ReconstructStage:
    """Refines the newest scan, polishes earlier ones in a share of the time, and shows pictures."""

    status_ports: tuple[Port, ...] = (Port.RESULTS,)

    def __init__(
        self,
        options: ReconstructOptions,
        frames: FrameOptions,
        positions: PositionOptions,
        engine: EngineOptions,
        clock: Callable[[], float] = time.monotonic,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.options = options
        self._tables = (frames, positions, engine)
        self.backend = engine.make_backend()
        warm_up(self.backend)
        self.scans: dict[str, Reconstruction] = {}
        self.failed: dict[str, tuple[str, int, int]] = {}
        """Scan id to reason, number of frames and time of start, for scans that cannot be reconstructed."""
        self.rejected: Counter[str] = Counter()
        self._previous = PreviousProbe()
        self._turn = 0
        self._last_words = LastWords(clock)
        self._clock = clock
        self._wall_ns = wall_ns

    @property
    def busy(self) -> bool:
        """True if an engine has something to refine."""
        return any(scan.working or scan.owes_assessment for scan in self.scans.values())

    def handle(self, message: Message | ProtocolError) -> Iterable[Output]:
        """Take a scan point, or the start or end of a scan."""
        if isinstance(message, ScanStart):
            yield from self._begin(message)
            return
        if isinstance(message, ProtocolError):
            self.rejected["undecodable"] += 1
            return
        scan = self.scans.get(getattr(message, "scan_id", None) or "")
        if scan is None:
            yield from self._without_scan(message)
        elif isinstance(message, ScanPoint):
            scan.add(message)
        elif isinstance(message, Frame) and message.dark:
            self._add_dark(scan, message)
        elif isinstance(message, Positions):
            scan.note_lost(message)
        elif isinstance(message, ScanEnd):
            scan.end = message
            scan.engine.finish()
            yield from self._end_if_finished(scan)
        elif isinstance(message, Command) and self.options.allow_control:
            if same_run(message.started_ns, scan.start):
                scan.obey(message)
            else:
                self.rejected["stray"] += 1
        else:
            self.rejected["unexpected_kind"] += 1

    def _add_dark(self, scan: Reconstruction, frame: Frame) -> None:
        for i in range(len(frame)):
            try:
                scan.preprocess.add_dark(frame.payload.decode(i))
            except CodecError:
                self.rejected["undecodable"] += 1

    def _begin(self, start: ScanStart) -> Iterator[Output]:
        if start.scan_id in self.scans:
            yield from self._close(self.scans[start.scan_id])
        while len(self.scans) >= self.options.max_scans:
            yield from self._close(next(iter(self.scans.values())))
        self.failed.pop(start.scan_id, None)
        for scan in self.scans.values():
            self._previous.remember(scan)
        try:
            self.scans[start.scan_id] = Reconstruction(start, *self._tables, self.backend, self._clock, self._previous)
        except (ConfigError, ScanError) as error:
            self.failed[start.scan_id] = (str(error), 0, start.started_ns)
            status = self._failed_status(start.scan_id)
            self._last_words.add(status)
            yield Port.DISPLAY, status

    def _without_scan(self, message: Message) -> Iterator[Output]:
        """Points of a scan that failed are counted; its end tells the writer that no picture will come."""
        scan_id = getattr(message, "scan_id", None)
        if scan_id not in self.failed:
            self.rejected["no_start"] += 1
            return
        reason, count, started_ns = self.failed[scan_id]
        if isinstance(message, ScanPoint):
            self.failed[scan_id] = (reason, count + 1, started_ns)
        elif isinstance(message, ScanEnd):
            yield from self._no_picture(self._failed_status(scan_id))

    def _no_picture(self, status: Status) -> Iterator[Output]:
        status = dataclasses.replace(status, notes=status.notes | {"no_picture": "nothing could be reconstructed"})
        self._last_words.add(status)
        yield Port.RESULTS, status
        yield Port.DISPLAY, status

    def idle(self) -> Iterable[Output]:
        """Compute for a slice; three of four slices belong to the newest scan, the fourth to earlier ones in turn."""
        working = [scan for scan in self.scans.values() if scan.working]
        if working:
            self._turn += 1
            older = self._turn % 4 == 0 and len(working) > 1
            scan = working[self._turn // 4 % (len(working) - 1)] if older else working[-1]
            scan.engine.step(self.options.slice_s, self._clock)
            scan.assessor.step(scan.engine)
        for scan in list(self.scans.values()):
            yield from self._show_points_if_due(scan)
            yield from self._assess_if_due(scan)
            yield from self._show_if_due(scan)
            yield from self._end_if_finished(scan)

    def _show_points_if_due(self, scan: Reconstruction) -> Iterator[Output]:
        """What frames say by themselves."""
        now = self._clock()
        if now >= scan.next_survey_s:
            scan.next_survey_s = now + self.options.survey_s
            if (survey := scan.survey(self._wall_ns())) is not None:
                yield Port.DISPLAY, survey
        if now >= scan.next_preview_s:
            begun = self._clock()
            preview = scan.preview(self._wall_ns())
            scan.next_preview_s = now + max(self.options.preview_s, 20 * (self._clock() - begun))
            if preview is not None:
                yield Port.DISPLAY, preview

    def _assess_if_due(self, scan: Reconstruction) -> Iterator[Output]:
        now = self._clock()
        if now < scan.next_assessment_s or not len(scan.points):
            return
        assessment = scan.assessment(self._wall_ns(), final=False)
        spent = self._clock() - now
        scan.next_assessment_s = now + max(self.options.assess_s, 40 * spent)
        yield Port.DISPLAY, assessment

    def _show_if_due(self, scan: Reconstruction) -> Iterator[Output]:
        now = self._clock()
        if now < scan.next_snapshot_s or scan.finished:
            return
        snapshot = scan.snapshot(self._wall_ns(), final=False)
        if snapshot is None:
            return
        spent = self._clock() - now
        # at most a twentieth of the time
        scan.next_snapshot_s = now + max(min(self.options.display_s, self.options.snapshot_s), 20 * spent)
        yield Port.DISPLAY, snapshot
        if now >= scan.next_kept_s:
            scan.next_kept_s = now + self.options.snapshot_s
            yield Port.RESULTS, snapshot

    def _end_if_finished(self, scan: Reconstruction) -> Iterator[Output]:
        if not scan.finished:
            return
        if scan.owes_assessment:  # one slice at each call: other scans and their frames are not kept waiting
            scan.assessor.halves.pay(scan.engine)
        if scan.owes_assessment:
            return
        yield from self._close(scan)

    def _close(self, scan: Reconstruction) -> Iterator[Output]:
        """The final snapshot, with the final count before it so that the file has it."""
        del self.scans[scan.start.scan_id]
        while (survey := scan.survey(self._wall_ns())) is not None:
            yield Port.DISPLAY, survey
            if not scan.points.unsent:
                break
        self._previous.remember(scan)
        if len(scan.points):
            yield Port.DISPLAY, scan.assessment(self._wall_ns(), final=True)
        status = scan.status(ServiceState.DONE, self._wall_ns())
        snapshot = scan.snapshot(self._wall_ns(), final=True)
        if snapshot is None:
            yield from self._no_picture(status)
            return
        self._last_words.add(status)
        yield Port.RESULTS, status
        yield Port.DISPLAY, status
        yield Port.DISPLAY, snapshot
        yield Port.RESULTS, snapshot

    def unsent(self, port: Port, message: Message) -> None:
        """Pictures that nobody took in time are simply skipped."""

    def finish(self) -> Iterable[Output]:
        """Show every scan as it stands."""
        for scan in list(self.scans.values()):
            yield from self._close(scan)

    def statuses(self) -> list[Status]:
        """One per scan in work, or an idle one; then the last ones of scans that have just ended."""
        now = [scan.status(_state(scan), self._wall_ns()) for scan in self.scans.values()]
        return (now or [self._idle_status()]) + self._last_words.again(self.scans)

    def _idle_status(self) -> Status:
        return Status(
            service="reconstruct",
            scan_id=None,
            state=ServiceState.IDLE,
            time_ns=self._wall_ns(),
            figures={f"rejected_{reason}": float(n) for reason, n in self.rejected.items()},
            notes={"device": self.backend.device},
        )

    def _failed_status(self, scan_id: str) -> Status:
        reason, count, started_ns = self.failed[scan_id]
        return Status(
            service="reconstruct",
            scan_id=scan_id,
            state=ServiceState.DONE,
            time_ns=self._wall_ns(),
            started_ns=started_ns,
            received=count,
            dropped={DropReason.FAILED.value: count} if count else {},
            notes={"error": reason},
        )


def _state(scan: Reconstruction) -> ServiceState:
    """What is being done with an open scan; it is done when it is closed."""
    state = _STATES[scan.engine.state]
    if scan.paused or (scan.stopped and state is ServiceState.DONE):
        return ServiceState.PAUSED
    return ServiceState.POLISHING if state is ServiceState.DONE else state
