"""A reconstruction that takes frames one by one and can be looked at between them."""

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from streamptycho.config import Config
from streamptycho.display.ledger import Ledger, Missing
from streamptycho.errors import InputError, ScanError
from streamptycho.files.outcome import Outcome
from streamptycho.interactive.progress import Progress, Report, report_to
from streamptycho.interactive.result import Result
from streamptycho.interactive.scan import Scan, as_probe, check_steps, checked, pixels, start_of
from streamptycho.interactive.settings import configured
from streamptycho.messages.payload import Payload
from streamptycho.messages.reasons import DropReason, EndReason, Stream
from streamptycho.messages.stream import ScanEnd, ScanStart
from streamptycho.pipeline.points import ScanPoint
from streamptycho.pipeline.reconstruction import Reconstruction
from streamptycho.solve.devices.backend import backend_for
from streamptycho.solve.engine import EngineState

SLICE_S = 0.25
"""Seconds computed between two reports of progress."""
_READING_S = 0.1
_FAR_FRAMES = 8
"""Frames refused for their position, if more than are used, that mean another unit."""


class Live:
    """Takes frames as they come, computes when asked to, shows the picture at any time.

    ::

        live = sp.Live(energy_ev=8800, distance_m=1.92, pitch_m=75e-6, modes=2)
        for i, (frame, yx_m) in enumerate(source):
            live.add(i, frame, yx_m)
            live.step(0.02)
        live.finish(passes=20)
        live.result().show()

    Parameters
    ----------
    scan : a scan to take frames from: some may be added in any order, :meth:`finish` adds the others. Without one, the
        geometry of frames from elsewhere:
    distance_m, pitch_m, energy_ev, wavelength_m : the pitch is one number or (y, x); energy or wavelength.
    mask, dark : (ny, nx) True where valid; (ny, nx) counts without beam.
    expected : number of frames planned.
    probe : "file", "previous" or "auto" as ``engine.probe``, or (modes, n, n) or (n, n) complex to start from.
    config : a file, or a configuration as loaded; further settings by keyword, as in :mod:`streamptycho.api`.

    Raises InputError for arguments that cannot be right, ConfigError for settings, BackendError if the device is missing.
    """

    def __init__(
        self,
        scan: Scan | None = None,
        *,
        distance_m: float | None = None,
        pitch_m: float | tuple[float, float] | None = None,
        energy_ev: float | None = None,
        wavelength_m: float | None = None,
        mask: ArrayLike | None = None,
        dark: ArrayLike | None = None,
        expected: int | None = None,
        scan_id: str | None = None,
        probe: ArrayLike | str | None = None,
        config: Config | str | PathLike[str] | None = None,
        **settings: Any,
    ) -> None:
        given: dict[str, Any] = {
            "distance_m": distance_m, "pitch_m": pitch_m, "energy_ev": energy_ev, "wavelength_m": wavelength_m,
            "mask": mask, "dark": dark, "expected": expected, "scan_id": scan_id,
        }  # fmt: skip
        if scan is None:
            self._given = checked(**given)
        elif known := [name for name, value in given.items() if value is not None]:
            raise InputError(f"{', '.join(known)}: known from the scan; leave them out")
        self._scan = scan
        self._probe = None if probe is None or isinstance(probe, str) else as_probe(probe)
        self._config = configured(config, settings | ({"probe": probe} if isinstance(probe, str) else {}))
        self._backend = backend_for(self._config.engine)
        self._work = None if scan is None else self._begun(scan.start)
        self._taken: set[int] = set()
        self._dropped: Counter[str] = Counter()
        """Frames that did not reach the reconstruction."""

    def _begun(self, start: ScanStart) -> Reconstruction:
        if self._probe is not None:
            start = replace(start, probe=self._probe)
        options = self._config
        return Reconstruction(start, options.preprocess, options.positions, options.engine, self._backend)

    # frames

    def add(self, index: int, frame: ArrayLike, yx_m: ArrayLike) -> None:
        """Take a frame in.

        Parameters
        ----------
        index : number of the frame in the scan, from 0; one that came before is counted as a duplicate and left out.
        frame : (ny, nx) counts, in detector order.
        yx_m : (2,) metres (y, x); NaN where unknown: the frame is counted as one without position and left out.

        Raises InputError naming the frame if shape, type or position cannot be right.
        """
        counts = pixels(frame, f"frame {index}")
        if self._work is None:  # the first frame settles shape and pixel type
            self._work = self._begun(start_of(counts, self._given))
        start = self._work.start
        shape, dtype = start.geometry.frame_shape, start.dtype
        if counts.shape != shape:
            raise InputError(
                f"frame {index}: shape {counts.shape} differs from {shape} of the scan; crop by preprocess.crop"
            )
        if not np.can_cast(counts.dtype, dtype):
            raise InputError(f"frame {index}: type {counts.dtype.name} does not fit {dtype.name} of the scan; convert it")
        self._take(index, Payload.raw(counts.astype(dtype, copy=False)), yx_m)

    def _take(self, index: int, payload: Payload, yx_m: ArrayLike) -> None:
        position = np.asarray(yx_m, np.float64)
        if position.shape != (2,):
            raise InputError(f"frame {index}: position {yx_m!r} is not (y, x), metres")
        if index < 0:
            raise InputError(f"frame {index}: the index counts from 0")
        if index in self._taken:
            self._dropped[DropReason.DUPLICATE] += 1
            return
        self._taken.add(index)
        if not np.isfinite(position).all():
            self._dropped[DropReason.NO_POSITION] += 1
            return
        work = self._need()
        work.add(ScanPoint(index, 0, (float(position[0]), float(position[1])), payload))
        far = work.dropped[DropReason.OUTSIDE]
        if far >= _FAR_FRAMES and far > len(work.engine.store):
            raise InputError(
                f"positions: {far} of {work.received} frames lie further apart than the largest object of "
                f"{self._config.engine.max_object_pixels} pixels of {max(work.preprocess.pixel_m):.3g} m; "
                "positions are metres: multiply them by 1e-6 if they are micrometres"
            )

    def _need(self) -> Reconstruction:
        if self._work is None:
            raise ScanError("no frame has been added")
        return self._work

    # computing

    def step(self, seconds: float = SLICE_S) -> int:
        """Compute for about so long; returns the number of frame updates done, 0 when more frames are needed first."""
        work = self._need()
        done = work.engine.step(seconds)
        work.assessor.step(work.engine)
        return done

    def finish(self, *, passes: int | None = None, seconds: float | None = None, progress: bool | Report = True) -> None:
        """Take in what is left of a scan, and compute until the picture is done.

        Parameters
        ----------
        passes : exactly so many passes over all frames; else until the error falls no more (``engine.polish_passes``).
        seconds : end after so long at the latest.
        progress : True for a line of text on a terminal or in a notebook, False for silence, or a function of a
            :class:`Progress`.

        Ctrl-C, or the stop button of a notebook, ends it early and raises nothing: :meth:`result` then gives the picture so
        far, unfinished and ``interrupted``. Calling :meth:`finish` again goes on from there.
        """
        report = report_to(progress)
        reason = EndReason.INTERRUPTED
        try:
            for state in self._carry_out(passes, seconds):
                report(self._progress(state))
            reason = self._whole
        except KeyboardInterrupt:
            if self._work is None:  # there is nothing to keep
                raise
        self._end(reason)
        report(self._progress("interrupted" if reason is EndReason.INTERRUPTED else "done"))

    def _carry_out(self, passes: int | None, seconds: float | None) -> Iterator[str]:
        """All there is to do, in slices; yields what is being done."""
        if self._scan is not None:
            yield from self._read(self._scan)
        work = self._need()
        if self._scan is None:
            check_steps(work.points.table["yx_m"], work.start.geometry)
        engine = work.engine
        if passes is not None:
            engine.set_passes(passes)
        if not engine.finished:
            engine.finish()
        until = time.monotonic() + (float("inf") if seconds is None else seconds)
        while engine.state is not EngineState.DONE and (left := until - time.monotonic()) > 0:
            state = engine.state
            self.step(min(SLICE_S, max(left, 0.01)))
            yield state
        self._end(self._whole)
        while work.owes_assessment and time.monotonic() < until:
            work.assessor.pay(engine)
            yield "assessing"

    def _read(self, scan: Scan) -> Iterator[str]:
        shown_s = 0.0
        self._need().end = None
        for index in scan:
            if index in self._taken:
                continue
            self._take(index, scan.source.payload(index), scan.yx_m[index])
            if time.monotonic() > shown_s + _READING_S:
                shown_s = time.monotonic()
                yield "reading"

    @property
    def _whole(self) -> EndReason:
        """Of all frames there are: what the file says is missing does not come any more."""
        return EndReason.COMPLETE if self._scan is None or self._scan.missing is None else EndReason.INCOMPLETE

    def _end(self, reason: EndReason) -> None:
        work = self._need()
        work.end = ScanEnd(scan_id=work.start.scan_id, stream=Stream.SCAN, count=self.frames.received, reason=reason)

    # what can be seen

    def _progress(self, state: str) -> Progress:
        work = self._need()
        return Progress(
            state=state,
            frames=len(self._taken),
            expected=work.start.expected,
            passes=len(work.engine.error_history),
            error=work.engine.error,
        )

    @property
    def frames(self) -> Ledger:
        """Where every frame went: received, used, waiting, dropped by reason."""
        dropped = Counter(self._dropped)
        received = used = 0
        if self._work is not None:
            dropped += self._work.dropped
            received, used = self._work.received, self._work.engine.rows_used
        received += sum(self._dropped.values())
        waiting = received - used - sum(dropped.values())
        return Ledger(received=received, used=used, waiting=waiting, dropped={str(k): n for k, n in dropped.items()})

    @property
    def error(self) -> float:
        """Fourier error over the latest visit of each frame; NaN before the first."""
        return self._work.engine.error if self._work is not None else float("nan")

    def outcome(self) -> Outcome:
        """Everything so far as messages: what files keep. The picture in it is None while there is none."""
        work = self._need()
        now_ns = time.time_ns()
        config = self._config.model_copy(update={"engine": work.engine.options})
        return Outcome(
            start=work.start,
            snapshot=work.snapshot(now_ns, final=work.finished),
            end=work.end,
            config_json=config.model_dump_json(),
            estimates=work.estimates(now_ns),
            assessment=work.assessment(now_ns, final=True),
            ledger=self.frames,
            missing=(self._scan.missing if self._scan is not None else None) or Missing(),
        )

    def result(self) -> Result:
        """The picture so far and how far it can be trusted. Raises ScanError while there is none."""
        work = self._need()
        return Result(self.outcome(), finished=work.engine.state is EngineState.DONE and work.finished)
