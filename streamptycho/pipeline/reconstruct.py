"""Reconstruct: from scan points to snapshots."""

import dataclasses
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from streamptycho.display.pace import Pace
from streamptycho.errors import CodecError, ConfigError, DeviceError, ProtocolError, ScanError
from streamptycho.messages.kinds import Message
from streamptycho.messages.live import Command, PointState
from streamptycho.messages.reasons import DropReason, ServiceKind, ServiceState, Stream
from streamptycho.messages.run import RunId
from streamptycho.messages.status import ReceiveStatus, ReconstructStatus, WriteStatus
from streamptycho.messages.stream import Frame, Positions, ScanEnd, ScanStart
from streamptycho.pipeline.options import ReconstructOptions
from streamptycho.pipeline.orphans import Orphans
from streamptycho.pipeline.points import unfit
from streamptycho.pipeline.reconstruction import PreviousProbe, Reconstruction
from streamptycho.pipeline.stage import Newest, Output, Port, Stage
from streamptycho.preprocess.options import FrameOptions, PositionOptions
from streamptycho.solve.devices.backend import of_device
from streamptycho.solve.engine import EngineState
from streamptycho.solve.settings import EngineOptions
from streamptycho.solve.start.trust import Trust
from streamptycho.solve.warm_up import ready_backend

log = logging.getLogger(__name__)

_STATES = {
    EngineState.EMPTY: ServiceState.RECEIVING,
    EngineState.SEARCHING: ServiceState.SEARCHING,
    EngineState.LIVE: ServiceState.RECONSTRUCTING,
    EngineState.POLISHING: ServiceState.POLISHING,
    EngineState.DONE: ServiceState.POLISHING,
}
"""An open scan is done when it is closed."""
_REMEMBERED = 100


class Paces:
    """When the messages about one scan are due; what costs time takes a small share of it."""

    def __init__(self, options: ReconstructOptions, clock: Callable[[], float]) -> None:
        self.shown = Pace(min(options.display_s, options.snapshot_s), clock, share=0.05)
        """Snapshots for the display."""
        self.kept = Pace(options.snapshot_s, clock)
        """Those of them for the file."""
        self.survey = Pace(options.survey_s, clock)
        self.preview = Pace(options.preview_s, clock, share=0.05)
        self.assessment = Pace(options.assess_s, clock, share=0.025)


class ReconstructStage(Stage[ReconstructStatus]):
    """Refines the newest scan, polishes earlier ones in a share of the time, and publishes pictures."""

    status_kind = ReconstructStatus
    status_ports = (Port.RESULTS,)

    def __init__(
        self,
        options: ReconstructOptions,
        frames: FrameOptions,
        positions: PositionOptions,
        engine: EngineOptions,
        clock: Callable[[], float] = time.monotonic,
        wall_ns: Callable[[], int] = time.time_ns,
        *,
        name: str = ServiceKind.RECONSTRUCT,
    ) -> None:
        super().__init__(name, clock, wall_ns)
        self.options = options
        self._tables = (frames, positions, engine)
        self.backend = ready_backend(engine)
        self.scans: dict[str, Reconstruction] = {}
        self._paces: dict[RunId, Paces] = {}
        self.failed: Newest[ReconstructStatus] = Newest()
        """Scans that cannot be reconstructed."""
        self._orphans = Orphans(clock)
        self._over: deque[RunId] = deque(maxlen=_REMEMBERED)
        """Scans that were closed here."""
        self._previous: PreviousProbe = {}
        self._turn = 0

    @property
    def busy(self) -> bool:
        """True if an engine has something to refine."""
        return any(scan.working or scan.missed.at_hand or scan.owes_assessment for scan in self.scans.values())

    def handle(self, message: Message | ProtocolError) -> Iterable[Output]:
        """Take a scan point, or the start or end of a scan."""
        with self._on_device():
            if isinstance(message, ProtocolError):
                self._notices.refused(message)
                self.rejected.add("undecodable", message.scan_id)
            elif isinstance(message, ScanStart):
                yield from self._begin(message)
            elif (scan := self.scans.get(message.scan_id or "")) is None:
                yield from self._without_scan(message)
            else:
                yield from self._within_memory(scan, self._take(scan, message))

    @contextmanager
    def _on_device(self) -> Iterator[None]:
        """Raises :class:`DeviceError` if the device fails: this process can use it no more, and a new one goes on."""
        try:
            yield
        except Exception as error:
            if not of_device(error):
                raise
            text = f"{self.backend.device} has failed: {error}; if it does so again, set engine.backend to 'cpu'"
            raise DeviceError(text) from error

    def _within_memory(self, scan: Reconstruction, outputs: Iterator[Output]) -> Iterator[Output]:
        """Outputs of a scan; one for which the memory is not enough is given up, and all else goes on."""
        try:
            yield from outputs
        except MemoryError as error:
            yield from self._give_up(scan, error)

    def _give_up(self, scan: Reconstruction, error: MemoryError) -> Iterator[Output]:
        run = scan.run
        self.scans.pop(run.scan_id, None)
        self._paces.pop(run, None)
        self._over.append(run)
        text = f"out of memory on {self.backend.device} ({error}): crop or bin the frames, or take fewer engine.modes"
        log.error("scan %s: %s; its frames are in the file", run.scan_id, text, extra=run.fields)
        status, dropped = self._failed(run, ScanError(text)), dict(scan.dropped)
        received = max(scan.received, scan.told)
        dropped[DropReason.FAILED.value] = received - sum(dropped.values())
        self.failed[run.scan_id] = status = dataclasses.replace(status, received=received, dropped=dropped)
        self._last_words.add(status)
        yield Port.DISPLAY, status
        if scan.ending is not None:
            yield from self._no_picture(status)

    def _take(self, scan: Reconstruction, message: Message) -> Iterator[Output]:
        match message:
            case Frame() if (refusal := unfit(message, scan.start)) is not None:
                self._notices.refused(refusal)
                self.rejected.add("unfit", message.scan_id)
            case Frame(dark=True):
                self._add_dark(scan, message)
            case Frame():
                scan.take(message)
            case Positions():  # no frames have come for them: they are shown
                scan.set_aside(message.index, message.yx_m, PointState.LOST)
            case ReceiveStatus(done=True) if message.run is not None and message.run.may_be(scan.run):
                scan.told = message.used
            case WriteStatus() if message.file is not None and message.run == scan.run:
                scan.missed.found(Path(message.file))
            case WriteStatus():
                pass
            case ScanEnd():
                scan.finish(message)
                yield from self._end_if_finished(scan)
            case Command() if not self.options.allow_control:
                self.rejected.add("unexpected_kind", message.scan_id)
            case Command() if message.run.may_be(scan.run):
                scan.obey(message)
            case Command() | ReceiveStatus(done=True):
                self.rejected.add("stray", message.scan_id)
            case _:
                self.rejected.add("unexpected_kind", message.scan_id)

    def _add_dark(self, scan: Reconstruction, frame: Frame) -> None:
        for i in range(len(frame)):
            try:
                scan.preprocess.add_dark(frame.payload.decode(i))
            except CodecError as error:
                self._notices.refused(error)
                self.rejected.add("undecodable", frame.scan_id)

    def _begin(self, start: ScanStart) -> Iterator[Output]:
        earlier = self.scans.get(start.scan_id)
        if start.repeated and (start.run in self._over or (earlier is not None and earlier.run == start.run)):
            return  # the receiver has begun anew, not this service
        if earlier is not None:
            yield from self._close(earlier)
        while len(self.scans) >= self.options.max_scans:
            yield from self._close(next(iter(self.scans.values())))
        self.failed.pop(start.scan_id, None)
        self._orphans.had(start.run)
        for scan in self.scans.values():
            self._remember_probe(scan)
        try:
            self.scans[start.scan_id] = Reconstruction(
                start, *self._tables, self.backend, self._clock, previous=self._previous, name=self.name
            )
            self._paces[start.run] = Paces(self.options, self._clock)
            if start.repeated:  # snapshots of the process before have numbers of their own, below these
                self.scans[start.scan_id].sequence = self._wall_ns() // 1_000_000
        except (ConfigError, ScanError) as error:
            self.failed[start.scan_id] = status = self._failed(start.run, error)
            self._last_words.add(status)
            yield Port.DISPLAY, status

    def _remember_probe(self, scan: Reconstruction) -> None:
        """Keep the probe of `scan` if prediction confirms it; a doubtful one does not displace a good one."""
        picture = scan.engine.picture() if scan.engine.trust is Trust.CONFIDENT else None
        if picture is not None:
            self._previous.clear()
            self._previous[scan.circumstances] = picture.probe

    def _without_scan(self, message: Message) -> Iterator[Output]:
        """Points of a scan that failed are counted; its end tells the writer that no picture will come."""
        failed = self.failed.get(message.scan_id or "")
        if isinstance(message, WriteStatus):
            yield from self._adopt(message)
        elif failed is None:
            self.rejected.add("no_start", message.scan_id)
        elif isinstance(message, Frame) and not message.dark:
            n = failed.dropped.get(DropReason.FAILED.value, 0) + len(message)
            received, dropped = failed.received + len(message), failed.dropped | {DropReason.FAILED.value: n}
            self.failed[message.scan_id] = dataclasses.replace(failed, received=received, dropped=dropped)
        elif isinstance(message, ReceiveStatus) and message.scan_id and message.done:
            lost = max(message.used - failed.received, 0)
            dropped = failed.dropped | ({DropReason.LOST.value: lost} if lost else {})
            self.failed[message.scan_id] = dataclasses.replace(failed, received=failed.received + lost, dropped=dropped)
        elif isinstance(message, ScanEnd):
            yield from self._no_picture(dataclasses.replace(failed, time_ns=self._wall_ns()))

    def _adopt(self, status: WriteStatus) -> Iterator[Output]:
        """Make the picture of a scan that is over and has lost who was making it."""
        start = self._orphans.start(status)
        if start is None or status.end is None:
            return
        yield from self._begin(start)
        scan = self.scans.get(start.scan_id)
        if scan is None:
            yield from self._no_picture(self.failed[start.scan_id])
        else:
            yield from self._take(scan, status)
            scan.finish(ScanEnd(**start.run.fields, stream=Stream.SCAN, count=status.used, reason=status.end))

    def _no_picture(self, status: ReconstructStatus) -> Iterator[Output]:
        status = dataclasses.replace(status, no_picture=True)
        self._last_words.add(status)
        yield from _both(status)

    def idle(self) -> Iterable[Output]:
        """Compute for a slice; three of four slices belong to the newest scan, the fourth to earlier ones in turn."""
        turn = self._whose_turn()
        with self._on_device():
            for scan in list(self.scans.values()):
                yield from self._within_memory(scan, self._tend(scan, compute=scan is turn))

    def _whose_turn(self) -> Reconstruction | None:
        working = [scan for scan in self.scans.values() if scan.working]
        if not working:
            return None
        self._turn += 1
        older = self._turn % 4 == 0 and len(working) > 1
        return working[self._turn // 4 % (len(working) - 1)] if older else working[-1]

    def _tend(self, scan: Reconstruction, *, compute: bool) -> Iterator[Output]:
        if compute:
            scan.engine.step(self.options.slice_s, self._clock)
            scan.assessor.step(scan.engine)
        scan.catch_up(self.options.slice_s)
        yield from self._describe_if_due(scan)
        yield from self._show_if_due(scan)
        yield from self._end_if_finished(scan)

    def _describe_if_due(self, scan: Reconstruction) -> Iterator[Output]:
        """What frames say by themselves, and how good the picture is."""
        paces = self._paces[scan.run]
        due = ((paces.survey, scan.survey), (paces.preview, scan.preview), (paces.assessment, scan.assessment))
        for pace, make in due if scan.assessable else due[:2]:
            if pace.due:
                with pace.turn():
                    message = make(self._wall_ns())
                if message is not None:
                    yield Port.DISPLAY, message

    def _show_if_due(self, scan: Reconstruction) -> Iterator[Output]:
        pace = self._paces[scan.run]
        nothing = not scan.engine.updates and scan.engine.state is not EngineState.SEARCHING
        if not pace.shown.due or scan.finished or nothing or scan.missed.reading:
            return
        with pace.shown.turn():
            snapshot = scan.snapshot(self._wall_ns(), final=False)
        if snapshot is None:
            return
        yield Port.DISPLAY, snapshot
        if pace.kept.due:
            with pace.kept.turn():
                yield Port.RESULTS, snapshot

    def _end_if_finished(self, scan: Reconstruction) -> Iterator[Output]:
        if not scan.finished:
            return
        if scan.owes_assessment:  # one slice at each call: other scans and their frames are not kept waiting
            scan.assessor.pay(scan.engine)
        if not scan.owes_assessment:
            yield from self._close(scan)

    def _close(self, scan: Reconstruction) -> Iterator[Output]:
        """The final messages, if the memory is enough for them."""
        yield from self._within_memory(scan, self._last_messages(scan))

    def _last_messages(self, scan: Reconstruction) -> Iterator[Output]:
        """The snapshot comes last, so that the file which closes with it has all the others."""
        del self.scans[scan.run.scan_id], self._paces[scan.run]
        self._over.append(scan.run)
        scan.count_unread()
        while (survey := scan.survey(self._wall_ns())) is not None:
            yield Port.DISPLAY, survey
            if not scan.points.unsent:
                break
        self._remember_probe(scan)
        if (assessment := scan.assessment(self._wall_ns(), final=True)) is not None:
            yield from _both(assessment)
        status = scan.status(ServiceState.DONE, self._wall_ns())
        snapshot = scan.snapshot(self._wall_ns(), final=True)
        if snapshot is None:
            yield from self._no_picture(status)
            return
        if (estimates := scan.estimates(self._wall_ns())) is not None:
            yield from _both(estimates)
        self._last_words.add(status)
        yield from _both(status)
        yield from _both(snapshot)

    def finish(self) -> Iterable[Output]:
        """Publish every scan as it stands."""
        with self._on_device():
            for scan in list(self.scans.values()):
                yield from self._close(scan)

    def _open(self) -> dict[str, ReconstructStatus]:
        with self._on_device():
            return {scan_id: scan.status(_state(scan), self._wall_ns()) for scan_id, scan in self.scans.items()}

    def _idle(self) -> ReconstructStatus:
        return dataclasses.replace(super()._idle(), device=self.backend.device)


def _both(message: Message) -> Iterator[Output]:
    """To display and writer; the display first, as the writer may have to be waited for."""
    yield Port.DISPLAY, message
    yield Port.RESULTS, message


def _state(scan: Reconstruction) -> ServiceState:
    waits = scan.paused or (scan.stopped and scan.engine.state is EngineState.DONE)
    return ServiceState.PAUSED if waits else _STATES[scan.engine.state]
