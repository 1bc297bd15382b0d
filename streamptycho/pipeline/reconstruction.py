"""One scan in work: its preprocessing, its engine, and where its frames went."""

import time
from collections import Counter
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from streamptycho.assess import Assessor, Evidence
from streamptycho.errors import CodecError, ScanError
from streamptycho.feed import Action, Assessment, Command, PointState, Preview, Survey, largest_of_blocks
from streamptycho.messages import Positions, ScanEnd, ScanPoint, ScanStart, Snapshot, Status
from streamptycho.pipeline.points import MOST_PLANNED, PointLog
from streamptycho.pipeline.receive import Rate
from streamptycho.preprocess.frames import FramePreprocessor, Prepared
from streamptycho.preprocess.options import FrameOptions, PositionOptions
from streamptycho.preprocess.positions import PositionTransform
from streamptycho.reasons import DropReason, EndReason, ServiceState
from streamptycho.solve.backend import Backend
from streamptycho.solve.engine import FARTHEST_PX, EngineState, RollingEngine
from streamptycho.solve.settings import EngineOptions
from streamptycho.solve.trust import Trust

_RESERVE_BYTES = 1 << 30
"""Memory taken before the first frame for as many as the scan has announced; beyond it the store grows with the frames."""

_SMALLEST_PIXEL_M, _LARGEST_PIXEL_M = 1e-15, 1.0

PREVIEW_SIDE = 512
"""Pixels of a previewed pattern along its longer side, at most."""

MAX_OUTLIERS = 3
"""First positions that are given up if more that follow lie too far from them: a stage still on its way."""


class PreviousProbe:
    """The probe of the latest scan that ended with a trusted one, for the next scan of the same geometry."""

    def __init__(self) -> None:
        self._probe: NDArray[np.complex64] | None = None
        self._made: tuple[object, ...] = ()

    def remember(self, scan: "Reconstruction") -> None:
        """Keep the probe of `scan` if prediction confirms it; a doubtful one does not displace a good one."""
        picture = scan.engine.picture() if scan.engine.trust is Trust.CONFIDENT else None
        if picture is not None:
            self._probe, self._made = picture.probe, _circumstances(scan)

    def fitting(self, scan: "Reconstruction") -> NDArray[np.complex64] | None:
        """(modes, ny, nx) for `scan`, or None if it was taken with other frames, energy or distance."""
        return self._probe if self._probe is not None and self._made == _circumstances(scan) else None


def _circumstances(scan: "Reconstruction") -> tuple[object, ...]:
    """What makes probes of two scans comparable: the frames in work, the wavelength and the object pixel."""
    lengths = (scan.start.geometry.wavelength_m, *scan.preprocess.pixel_m)
    return (scan.preprocess.shape, *(f"{length:.3g}" for length in lengths))


class Reconstruction:
    """One scan in work."""

    def __init__(
        self,
        start: ScanStart,
        frames: FrameOptions,
        positions: PositionOptions,
        engine: EngineOptions,
        backend: Backend,
        clock: Callable[[], float] = time.monotonic,
        previous: "PreviousProbe | None" = None,
    ) -> None:
        self.start = start
        self._previous = previous
        self.preprocess = FramePreprocessor(frames, start)
        if not all(_SMALLEST_PIXEL_M <= pixel_m <= _LARGEST_PIXEL_M for pixel_m in self.preprocess.pixel_m):
            raise ScanError(f"object pixel of {self.preprocess.pixel_m} m: wavelength, distance or pitch are not in metres")
        self.transform = PositionTransform(positions, self.preprocess.pixel_m)
        self._engine_options = engine
        self._backend = backend
        self.engine = self._new_engine()
        self.received = 0
        self.dropped: Counter[str] = Counter()
        self.end: ScanEnd | None = None
        self.paused = self.stopped = False
        self.sequence = 0
        self.next_snapshot_s = self.next_kept_s = self.next_survey_s = self.next_preview_s = self.next_assessment_s = 0.0
        self.newest_ns = 0
        self.points = PointLog(self.preprocess.shape)
        self.assessor = Assessor(clock, engine.seed)
        self._newest: tuple[int, NDArray[np.generic]] | None = None
        """Index and counts of the frame that came last."""
        self._rows: dict[int, int] = {}
        self._refused = 0
        self._rate = Rate(clock)
        if start.planned_yx_m is not None:
            planned = start.planned_yx_m[:MOST_PLANNED][::-1]  # the last to be set aside is told first
            self._set_aside(np.arange(len(planned))[::-1], planned, PointState.PLANNED)

    def _new_engine(self) -> RollingEngine:
        start, options, shape = self.start, self._engine_options, self.preprocess.shape
        probe, origin = self._probe_to_start_from()
        expected = min(start.expected or 0, _RESERVE_BYTES // (4 * shape[0] * shape[1]))
        try:
            return RollingEngine(options, self._backend, shape, probe, expected, origin)
        except MemoryError as error:
            raise ScanError(f"frames of {shape} are too large for the memory ({error}); crop or bin them") from error

    def _probe_to_start_from(self) -> tuple[NDArray[np.complex64] | None, str]:
        """The probe of the scan or of an earlier one, and where it comes from; None to find one in the data."""
        wanted = self._engine_options.probe
        recorded = self.start.probe if wanted != "auto" else None
        earlier = None
        if wanted == "previous" or (wanted == "file" and recorded is None):
            earlier = self._previous.fitting(self) if self._previous is not None else None
        if earlier is not None:
            return earlier, "from the previous scan"
        return (None if recorded is None else self.preprocess.fit_probe(recorded)), "recorded with the scan"

    def add(self, point: ScanPoint) -> None:
        """Prepare a frame and give it to the engine."""
        self.received += 1
        if self.end is not None:
            self._refuse(point, DropReason.LATE)
            return
        if self.stopped:
            self._refuse(point, DropReason.STOPPED)
            return
        try:
            raw = point.frame.payload.decode()
        except CodecError:
            self._refuse(point, DropReason.CORRUPT)
            return
        self.newest_ns = max(self.newest_ns, int(point.frame.timestamp_ns[0]))
        self._newest = point.index, raw
        for prepared in self.preprocess.add(point.index, raw):
            row = self._rows.get(prepared.key)
            if row is not None:
                self.engine.replace(row, prepared.amplitude)
            elif prepared.key == point.index:
                self._admit(point, prepared)

    def _admit(self, point: ScanPoint, prepared: Prepared) -> None:
        amplitude = prepared.amplitude
        if not (amplitude > 0).any():
            self._refuse(point, DropReason.EMPTY)
            return
        with np.errstate(over="ignore", invalid="ignore"):
            yx_px = self.transform(point.yx_m)
        row = self.engine.add(amplitude, yx_px)
        if row is not None:
            self._rows[point.index] = row
            self._refused = 0
            yx_m = yx_px[0] * self.preprocess.pixel_m[0], yx_px[1] * self.preprocess.pixel_m[1]
            timestamp_ns = int(point.frame.timestamp_ns[0])
            self.points.add(point.index, yx_m, amplitude, prepared.saturated, timestamp_ns)
            return
        self._refuse(point, DropReason.OUTSIDE)
        self._refused += 1
        if self._refused > len(self.engine.store) <= MAX_OUTLIERS:
            self._begin_again()

    def _begin_again(self) -> None:
        """The first positions were the odd ones, not those that follow: go on without them, as viewers have asked for."""
        self.dropped[DropReason.OUTSIDE.value] += len(self.engine.store)
        self._engine_options = self.engine.options
        self.engine = self._new_engine()
        self._rows.clear()
        for first in self.points.table:
            y_m, x_m = first["yx_m"].tolist()
            self.points.aside.add(int(first["index"]), (y_m, x_m), PointState.REFUSED)
        self.points = PointLog(self.preprocess.shape, self.points.aside)
        self._refused = 0

    def _refuse(self, point: ScanPoint, reason: DropReason) -> None:
        self.dropped[reason.value] += 1
        self._set_aside(np.array([point.index]), np.array([point.yx_m]), PointState.REFUSED)

    def note_lost(self, positions: Positions) -> None:
        """No frames have come for these positions: they are shown."""
        self._set_aside(positions.index, positions.yx_m, PointState.LOST)

    def _set_aside(self, indices: NDArray[np.int64], yx: NDArray[np.float64], state: PointState) -> None:
        """Show points (n,) whose frames are not in work; `yx` (n, 2) as sent."""
        with np.errstate(over="ignore", invalid="ignore"):
            yx_px = self.transform.all(yx)
        near = np.abs(yx_px).max(axis=1) < FARTHEST_PX
        yx_m = yx_px[near] * self.preprocess.pixel_m
        for index, (y_m, x_m) in zip(indices[near].tolist(), yx_m.tolist(), strict=True):
            if index not in self._rows:
                self.points.aside.add(index, (y_m, x_m), state)

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
        """True if the engine has something to refine and may."""
        return not self.paused and self.engine.state not in (EngineState.EMPTY, EngineState.DONE)

    @property
    def owes_assessment(self) -> bool:
        """True if all is done but an estimate of the resolution."""
        complete = self.finished and self.end is not None and self.end.reason is not EndReason.INTERRUPTED
        return complete and self.assessor.halves.owed(self.engine)

    def assessment(self, time_ns: int, *, final: bool) -> Assessment:
        """Figures, findings and verdict of this moment."""
        found = self.assessor.assess(self._evidence(), self.engine, final=final)
        return Assessment(
            scan_id=self.start.scan_id,
            started_ns=self.start.started_ns,
            time_ns=time_ns,
            verdict=found.verdict,
            findings={finding.code: str(finding) for finding in found.findings},
            figures=found.figures,
            frequency_per_m=found.frequency_per_m,
            ring_correlation=found.ring_correlation,
        )

    def _evidence(self) -> Evidence:
        return Evidence.of(
            self.points.table,
            shape=self.preprocess.shape,
            pixel_m=self.preprocess.pixel_m,
            orientation=self.preprocess.options.orientation,
            expected=self.start.expected,
            dropped=self.dropped,
            ended=self.end is not None,
            complete=self.end is not None and self.end.complete,
        )

    def survey(self, time_ns: int) -> Survey | None:
        """The next block of scan points; None before the first."""
        return self.points.survey(self.start, time_ns, self.engine.used)

    def preview(self, time_ns: int) -> Preview | None:
        """The newest pattern, if one has come since the last call."""
        if self._newest is None:
            return None
        (index, raw), self._newest = self._newest, None
        sight = self.preprocess.sight(raw)
        binning = -(-max(sight.counts.shape) // PREVIEW_SIDE)
        shape = self.preprocess.crop_shape
        corner = self.preprocess.corner
        return Preview(
            scan_id=self.start.scan_id,
            started_ns=self.start.started_ns,
            time_ns=time_ns,
            index=index,
            pattern=largest_of_blocks(_numbers(sight.counts), binning).astype(np.float32),
            valid=largest_of_blocks(sight.valid, binning),
            saturated=largest_of_blocks(sight.saturated, binning),
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
            scan_id=self.start.scan_id,
            started_ns=self.start.started_ns,
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

    def status(self, state: ServiceState, time_ns: int) -> Status:
        """Where every frame went, and how the reconstruction stands."""
        engine = self.engine
        figures = {
            "error": engine.error,
            "updates": float(engine.updates),
            "updates_hz": max(self._rate(engine.updates), 0.0),
            "passes": float(len(engine.error_history)),
            "position_shift_px": engine.position_summary.shift_px,
        }
        if self.start.expected is not None:
            figures["expected"] = float(self.start.expected)
        if len(engine.mode_powers) > 1:
            figures |= {f"mode_power_{i}": float(power) for i, power in enumerate(engine.mode_powers)}
        if np.isfinite(engine.unexplained):
            figures["unexplained"] = float(engine.unexplained)
        if self.newest_ns and self.end is None:
            figures["lag_s"] = max(0.0, (time_ns - self.newest_ns) / 1e9)
        return Status(
            service="reconstruct",
            scan_id=self.start.scan_id,
            state=state,
            time_ns=time_ns,
            started_ns=self.start.started_ns,
            received=self.received,
            used=engine.rows_used,
            waiting=self.received - engine.rows_used - sum(self.dropped.values()),
            dropped=dict(self.dropped),
            figures=figures,
            notes={"device": self._backend.device, "probe": engine.probe_note, "trust": engine.trust.value},
        )


def _numbers(counts: NDArray[np.generic]) -> NDArray[np.generic]:
    """Counts with 0 for what is no number."""
    return counts if counts.dtype.kind in "iu" else np.nan_to_num(counts)
