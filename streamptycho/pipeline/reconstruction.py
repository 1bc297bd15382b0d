"""One scan being reconstructed: its preprocessing, its engine, and where its frames went."""

import dataclasses
import math
import time
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from streamptycho.assess.assessor import Assessor
from streamptycho.assess.evidence import Evidence
from streamptycho.errors import ScanError
from streamptycho.messages.live import Action, Command, Preview, Survey, largest_of_blocks
from streamptycho.messages.reasons import DropReason, EndReason, ServiceKind, ServiceState
from streamptycho.messages.results import Assessment, Estimates, Snapshot
from streamptycho.messages.run import RunId
from streamptycho.messages.status import ReconstructStatus
from streamptycho.messages.stream import Frame, ScanEnd, ScanStart
from streamptycho.pipeline.intake import Intake
from streamptycho.pipeline.missed import Missed
from streamptycho.pipeline.points import ScanPoint
from streamptycho.pipeline.stage import Rate
from streamptycho.preprocess.frames import FramePreprocessor
from streamptycho.preprocess.options import FrameOptions, PositionOptions
from streamptycho.preprocess.positions import PositionTransform
from streamptycho.solve.devices.backend import Backend
from streamptycho.solve.earlier import Earlier
from streamptycho.solve.engine import EngineState, RollingEngine
from streamptycho.solve.picture import Picture
from streamptycho.solve.settings import EngineOptions

_RESERVE_BYTES = 1 << 30
"""Memory taken before the first frame for as many as the scan has announced; beyond it the store grows with the frames."""

_SMALLEST_PIXEL_M, _LARGEST_PIXEL_M = 1e-15, 1.0

PreviousProbe: TypeAlias = dict[tuple[object, ...], NDArray[np.complex64]]
"""The probe (modes, ny, nx) of the latest scan that ended with a trusted one, by the circumstances it was made in."""
MOST_OWED_S = 30.0
"""Longest time that the end of a scan waits for what its last assessment still needs."""

PREVIEW_SIDE = 512
"""Pixels of a previewed pattern along its longer side, at most."""


class Reconstruction(Intake):
    """One scan being reconstructed: its engine, what viewers may command, and the messages about it."""

    def __init__(
        self,
        start: ScanStart,
        frames: FrameOptions,
        positions: PositionOptions,
        engine: EngineOptions,
        backend: Backend,
        clock: Callable[[], float] = time.monotonic,
        *,
        previous: PreviousProbe | None = None,
        name: str = ServiceKind.RECONSTRUCT,
    ) -> None:
        self.name = name
        self.start = start
        if start.geometry.unknown:
            unknown = ", ".join(start.geometry.unknown)
            raise ScanError(f"{unknown}: not known, and no picture can be made without; the frames are in the file")
        preprocess = FramePreprocessor(frames, start)
        if not all(_SMALLEST_PIXEL_M <= pixel_m <= _LARGEST_PIXEL_M for pixel_m in preprocess.pixel_m):
            raise ScanError(f"object pixel of {preprocess.pixel_m} m: wavelength, distance or pitch are not in metres")
        self.end: ScanEnd | None = None
        self.missed = Missed(start.run, clock, resumed=start.repeated)
        self.told = 0
        """Points that the receiver says are for this: passed on, or left to the file."""
        self.paused = self.stopped = False
        self.sequence = 0
        self.assessor = Assessor(clock, engine.seed, preprocess.pixel_m)
        self._clock = clock
        self.ending: ScanEnd | None = None
        """Set once the receiver has nothing more to say."""
        self._no_later_s = math.inf
        """When the last assessment is made with what there is."""
        self._previous = previous if previous is not None else {}
        self._backend = backend
        self._rate = Rate(clock)
        super().__init__(preprocess, PositionTransform(positions, preprocess.pixel_m), engine)
        if start.planned_yx_m is not None:
            self.plan(start.planned_yx_m)

    def _make_engine(self, options: EngineOptions) -> RollingEngine:
        shape = self.preprocess.shape
        probe, origin = self._probe_to_start_from(options.probe)
        expected = min(self.start.expected or 0, _RESERVE_BYTES // (4 * shape[0] * shape[1]))
        try:
            return RollingEngine(options, self._backend, shape, probe, expected, origin)
        except MemoryError as error:
            raise ScanError(f"frames of {shape} are too large for the memory ({error}); crop or bin them") from error

    def _probe_to_start_from(self, wanted: str) -> tuple[NDArray[np.complex64] | None, str]:
        """The probe of the scan or of an earlier one, and where it comes from; None to find one in the data."""
        recorded = self.start.probe if wanted != "auto" else None
        earlier = self._previous.get(self.circumstances)
        if earlier is not None and (wanted == "previous" or (wanted == "file" and recorded is None)):
            return earlier, "from the previous scan"
        return (None if recorded is None else self.preprocess.fit_probe(recorded)), "recorded with the scan"

    @property
    def circumstances(self) -> tuple[object, ...]:
        """What makes probes of two scans comparable: the reconstructed frames, the wavelength and the object pixel."""
        lengths = (self.start.geometry.wavelength_m, *self.preprocess.pixel_m)
        return (self.preprocess.shape, *(f"{length:.3g}" for length in lengths))

    @property
    def run(self) -> RunId:
        """Which run of which scan."""
        return self.start.run

    def take(self, frame: Frame) -> None:
        """Prepare frames with their positions and give them to the engine; one that came before is passed over."""
        if self.missed.holding:
            self.missed.hold(frame)
        else:
            super().take(frame)

    def add(self, point: ScanPoint) -> None:
        """Take a single frame."""
        if not self._seen.add(point.index):
            return
        if self.end is not None:
            if self.dropped[DropReason.LOST.value]:  # it was not lost after all
                self._count_lost(-1)
            self.refuse(point, DropReason.LATE)
        elif self.stopped:
            self.refuse(point, DropReason.STOPPED)
        else:
            super().add(point)

    def finish(self, end: ScanEnd) -> None:
        """No more points will come from the receiver; those it has passed on that are not here, the file may have."""
        self.ending = end
        self._end_if_all_is_here()

    def catch_up(self, seconds: float) -> None:
        """Take in what the receiver has passed on to nobody, or to a process that is gone, as far as the file has it."""
        ending = self.ending is not None and self.end is None
        if not (self.missed.reading or ending):
            return
        if self.missed.look(self._seen):
            self._resume()
        until_s = self._clock() + seconds
        while (point := self.missed.next()) is not None:
            self.add(point)
            if ending and self.received >= self.told > 0:  # the file also has what was dropped and is counted elsewhere
                self.missed.enough()
            if self._clock() >= until_s:
                break
        if ending:
            self._end_if_all_is_here()

    def _resume(self) -> None:
        if self.missed.dark is not None and self.start.dark is None:
            self.preprocess.add_dark(self.missed.dark)
        picture = self.missed.picture
        if picture is not None and picture.frames_used:
            origin = [round(at / pixel) for at, pixel in zip(picture.origin_m, self.preprocess.pixel_m, strict=True)]
            put = Picture(picture.object, picture.covered, picture.probe, (origin[0], origin[1]))
            self.engine.resume(Earlier(put, max(picture.updates // picture.frames_used, 1), picture.error))

    def _end_if_all_is_here(self) -> None:
        end = self.ending
        whole = self.received >= self.told or (end is not None and end.reason is EndReason.INTERRUPTED)
        if self.missed.reading or not (whole or not self.missed.expected()):
            return
        self.end = end
        self.count_unread()
        self.engine.finish()

    def count_unread(self) -> None:
        """What the receiver says is for this reconstruction, and has not come, is lost to the picture."""
        lost = max(self.told - self.received, 0)
        self.missed.give_up(lost)
        self._count_lost(lost)

    def _count_lost(self, points: int) -> None:
        self.received += points
        self.dropped[DropReason.LOST.value] += points

    @property
    def finished(self) -> bool:
        """True if nothing is left to do."""
        return self.end is not None and (self.end.reason is EndReason.INTERRUPTED or self.engine.state is EngineState.DONE)

    def obey(self, command: Command) -> None:
        """Do what a viewer asks for."""
        match command.action:
            case Action.PAUSE:
                self.paused = True
            case Action.RESUME:
                self.paused = False
            case Action.STOP:
                self.stopped, self.paused = True, False
                self.engine.stop()
                self.assessor.hurried = True
            case Action.RESET_PROBE:
                self.engine.reset_probe()
            case Action.RESET_OBJECT:
                self.engine.reset_object()
            case Action.MODES:
                self.engine.set_modes(command.value)
            case Action.PASSES:
                self.engine.set_passes(command.value)

    @property
    def working(self) -> bool:
        """True if the engine has something to refine and may; with few of its frames back it would only fit those."""
        return not (self.paused or self.missed.reading) and self.engine.state not in (EngineState.EMPTY, EngineState.DONE)

    @property
    def owes_assessment(self) -> bool:
        """True if all is done but what the last assessment still needs."""
        if not self.finished or self.end is None or self.end.reason is EndReason.INTERRUPTED:
            return False
        self._no_later_s = min(self._no_later_s, self._clock() + MOST_OWED_S)
        return self._clock() < self._no_later_s and self.assessor.owed(self.engine)

    @property
    def assessable(self) -> bool:
        """True if there are frames, or if there is something to be said about their absence."""
        return len(self.points) > 0 or self.dropped[DropReason.OUTSIDE.value] > 0

    def assessment(self, time_ns: int, *, final: bool = False) -> Assessment | None:
        """Figures, findings and verdict of this moment; None before the first frame."""
        if not self.assessable:
            return None
        found = self.assessor.assess(self._evidence(), self.engine, self.run, time_ns, final=final)
        return dataclasses.replace(found, service=self.name)

    def _evidence(self) -> Evidence:
        return Evidence.of(
            self.points.table,
            shape=self.preprocess.shape,
            pixel_m=self.preprocess.pixel_m,
            orientation=self.preprocess.options.orientation,
            expected=self.start.expected,
            dropped=self.dropped,
            ended=self.end is not None,
            complete=self.end is not None and self.end.as_planned,
        )

    def survey(self, time_ns: int) -> Survey | None:
        """The next block of scan points; None before the first."""
        return self.points.survey(self.name, self.run, time_ns, self.engine.used)

    def preview(self, time_ns: int) -> Preview | None:
        """The newest pattern, if one has come since the last call."""
        if self.newest is None:
            return None
        (index, raw), self.newest = self.newest, None
        counts, valid, saturated = self.preprocess.oriented(raw)
        if counts.dtype.kind == "f":
            counts = np.nan_to_num(counts)
        binning = -(-max(counts.shape) // PREVIEW_SIDE)
        shape, corner = self.preprocess.crop_shape, self.preprocess.corner
        return Preview(
            service=self.name,
            **self.run.fields,
            time_ns=time_ns,
            index=index,
            pattern=largest_of_blocks(counts, binning).astype(np.float32),
            valid=largest_of_blocks(valid, binning),
            saturated=largest_of_blocks(saturated, binning),
            binning=binning,
            centre_px=(float(corner[0] + shape[0] // 2), float(corner[1] + shape[1] // 2)),
            crop_px=corner,
            crop_shape_px=shape,
        )

    def snapshot(self, time_ns: int, *, final: bool) -> Snapshot | None:
        """The present picture; None while there is none."""
        picture = self.engine.picture()
        if picture is None:
            return None
        pixel_m = self.preprocess.pixel_m
        self.sequence += 1
        return Snapshot(
            service=self.name,
            **self.run.fields,
            sequence=self.sequence - 1,
            final=final,
            time_ns=time_ns,
            frames_used=self.engine.rows_used,
            updates=self.engine.updates,
            error=self.engine.error,
            error_history=np.array(self.engine.error_history, np.float32),
            algorithm=self.engine.algorithm,
            object=picture.object,
            covered=picture.covered,
            probe=picture.probe,
            origin_m=(picture.origin_px[0] * pixel_m[0], picture.origin_px[1] * pixel_m[1]),
            pixel_m=pixel_m,
            newest_ns=int(self.points.table["timestamp_ns"].max(where=self.engine.used, initial=0)),
        )

    def estimates(self, time_ns: int) -> Estimates | None:
        """What was estimated beside object and probe; None while there is no reconstruction."""
        engine, table = self.engine, self.points.table
        if engine.solver is None:
            return None
        order = np.argsort(table["index"])
        recorded, flux = table["yx_m"][order], engine.flux
        offsets = engine.positions.offsets_px[order] * self.preprocess.pixel_m
        return Estimates(
            service=self.name,
            **self.run.fields,
            time_ns=time_ns,
            index=table["index"][order],
            recorded_yx_m=recorded,
            refined_yx_m=recorded + offsets if engine.options.positions.refine != "off" else None,
            flux=flux[order] if flux is not None else None,
            background=engine.background,
            mode_powers=tuple(engine.mode_powers.tolist()),
            trust=engine.trust.value,
            unexplained=engine.unexplained,
            probe_origin=engine.probe_origin,
        )

    def status(self, state: ServiceState, time_ns: int) -> ReconstructStatus:
        """Where every frame went, and how the reconstruction stands."""
        engine, newest_ns = self.engine, self.newest_ns
        return ReconstructStatus(
            service=self.name,
            **self.run.fields,
            state=state,
            time_ns=time_ns,
            received=self.received,
            used=engine.rows_used,
            waiting=self.received - engine.rows_used - sum(self.dropped.values()),
            dropped={reason: n for reason, n in self.dropped.items() if n},
            error=engine.error,
            updates=engine.updates,
            updates_hz=max(self._rate(engine.updates), 0.0),
            passes=len(engine.error_history),
            position_shift_px=engine.positions.summary.shift_px,
            unexplained=engine.unexplained if np.isfinite(engine.unexplained) else math.nan,
            lag_s=max(0.0, (time_ns - newest_ns) / 1e9) if newest_ns and self.end is None else None,
            device=self._backend.device,
            probe=engine.probe_note,
            trust=engine.trust.value,
        )
