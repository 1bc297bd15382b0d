"""A synthetic scan: specimen, beam, path and detector combined into a message stream with known truth."""

import time
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path as FilePath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from streamptycho.messages.geometry import Geometry, wavelength_from_ev
from streamptycho.messages.payload import Payload
from streamptycho.messages.reasons import Stream
from streamptycho.messages.stream import MAX_PLANNED, ScanStart
from streamptycho.options import Options
from streamptycho_sim import illumination, specimen, trajectory
from streamptycho_sim.forward import Detector, DetectorOptions, diffract, dose
from streamptycho_sim.illumination import IlluminationOptions
from streamptycho_sim.specimen import SpecimenOptions
from streamptycho_sim.stream import Item, ends, exposure, one_frame
from streamptycho_sim.trajectory import TrajectoryOptions

_BLOCK = 8
"""Frames transformed together: enough for an efficient FFT, few enough for the cache."""
_MARGIN_PX = 2
"""Object pixels beyond the outermost window."""


class ProbeStart(StrEnum):
    """Probe in the start message."""

    NONE = "none"
    """None: the reconstruction must find it."""
    GUESS = "guess"
    """The right pupil, 20 % off in defocus, without aberrations."""
    TRUE = "true"
    """The probe itself."""


class SyntheticOptions(Options):
    """A synthetic scan."""

    scan_id: str = Field(default="synthetic", min_length=1, max_length=128)
    """Name of the scan."""
    frames: int = Field(default=1000, ge=1)
    """Number of exposures."""
    shape: int = Field(default=128, ge=16, le=4096)
    """Detector pixels per side, and object pixels of a window."""
    energy_ev: float = Field(default=8800.0, gt=0)
    """Photon energy, electronvolts."""
    distance_m: float = Field(default=1.92, gt=0)
    """Sample to detector, metres."""
    pitch_m: float = Field(default=75e-6, gt=0)
    """Detector pixel, metres."""
    subpixel: bool = False
    """Positions between object pixels; by default on whole pixels, where the truth is exact."""
    probe_start: ProbeStart = ProbeStart.NONE
    """Probe in the start message."""
    seed: int = Field(default=0, ge=0)
    """Fixes specimen, path, defects and noise."""
    specimen: SpecimenOptions = SpecimenOptions()
    illumination: IlluminationOptions = IlluminationOptions()
    trajectory: TrajectoryOptions = TrajectoryOptions()
    detector: DetectorOptions = DetectorOptions()


class SimulatedScan:
    """One synthetic scan with its truth.

    The position of a frame is that of the middle of the probe, pixel [n//2, n//2], on the object.
    """

    def __init__(self, options: SyntheticOptions) -> None:
        self.options = options
        n, pitch = options.shape, options.pitch_m
        self.geometry = Geometry(
            wavelength_m=wavelength_from_ev(options.energy_ev),
            distance_m=options.distance_m,
            pitch_m=(pitch, pitch),
            frame_shape=(n, n),
        )
        self.pixel_m = self.geometry.object_pixel_m((n, n))
        """(y, x) object pixel, metres."""
        self.probe = illumination.probe(options.illumination, n, options.detector.photons)
        """(modes, n, n) complex64."""
        self.corners, self.shifts = self._windows()
        """(frames, 2) object pixel under the probe's [0, 0]; (frames, 2) remainder in pixels, None if all are whole."""
        ny, nx = (self.corners.max(axis=0) + n + _MARGIN_PX).tolist()
        self.obj = specimen.draw((ny, nx), options.specimen, options.seed)
        """(ny, nx) complex64 transmission."""
        self.origin_m = (-(ny // 2) * self.pixel_m[0], -(nx // 2) * self.pixel_m[1])
        """(y, x) of the centre of object pixel [0, 0] in the coordinates of the positions, metres."""
        centres = self.corners + n // 2 + (0 if self.shifts is None else self.shifts)
        self.yx_m: NDArray[np.float64] = self.origin_m + centres * np.array(self.pixel_m)
        """(frames, 2) metres."""
        self.detector = Detector.make(options.detector, n, options.seed)
        self._rendered: list[NDArray[np.generic]] = []

    def __len__(self) -> int:
        return self.options.frames

    @property
    def support(self) -> NDArray[np.bool_]:
        """(ny, nx) True where the object received more than half of the median dose."""
        photons = dose(self.probe, self.corners, (self.obj.shape[0], self.obj.shape[1]))
        usual = np.median(photons[photons > 0.2 * photons.max()])
        return np.asarray(photons > 0.5 * usual)

    def intensity(self, first: int, stop: int) -> NDArray[np.float32]:
        """Expected photons of frames `first` to `stop` - 1, (k, n, n), without detector defects."""
        rows = slice(first, stop)
        return diffract(self.obj, self.probe, self.corners[rows], None if self.shifts is None else self.shifts[rows])

    def frame(self, i: int) -> NDArray[np.generic]:
        """Counts of frame `i`, (n, n); the same in any order of calls."""
        if i < len(self._rendered):
            return self._rendered[i]
        return self.detector.record(self.intensity(i, i + 1)[0], i)

    def counts(self) -> Iterator[NDArray[np.generic]]:
        """Counts of all frames in order, (n, n) each, simulated in blocks."""
        yield from self._rendered
        yield from self._made(len(self._rendered))

    def render(self, stop: Callable[[], bool] = lambda: False) -> None:
        """Simulate all frames now and keep them, to send them later at any rate."""
        for frame in self._made(len(self._rendered)):
            self._rendered.append(frame)
            if stop():
                return

    def start(self, started_ns: int) -> ScanStart:
        """First message of the scan."""
        options, detector = self.options, self.options.detector
        announce_dark = detector.dark_counts > 0 and detector.dark_frames == 0
        return ScanStart(
            scan_id=options.scan_id,
            geometry=self.geometry,
            dtype=self.detector.dtype,
            started_ns=started_ns,
            expected=len(self),
            valid=self.detector.valid,
            dark=self.detector.mean_dark if announce_dark else None,
            probe=self._probe_start(),
            saturation=detector.saturation,
            beam_center_px=(float(options.shape // 2), float(options.shape // 2)),
            metadata={"source": "simulated", "path": str(options.trajectory.path), "seed": options.seed},
            planned_yx_m=self.yx_m[:MAX_PLANNED],
        )

    def items(self, started_ns: int | None = None) -> Iterator[Item]:
        """The whole stream, one frame and one position at a time; the publisher sets the time stamps."""
        scan_id, n = self.options.scan_id, len(self)
        yield Item(stream=Stream.FRAMES, message=self.start(time.time_ns() if started_ns is None else started_ns))
        darks = self.options.detector.dark_frames if self.options.detector.dark_counts > 0 else 0
        for i in range(darks):
            frame = one_frame(scan_id, i, Payload.raw(self.detector.dark(i)), dark=True)
            yield Item(stream=Stream.FRAMES, message=frame, tick=i + 1)
        for i, counts in enumerate(self.counts()):
            yield from exposure(scan_id, i, Payload.raw(counts), self.yx_m[i], tick=darks + i + 1)
        yield from ends(scan_id, n, n, tick=darks + n)

    def save_truth(self, path: FilePath) -> None:
        """Write scan_id, obj, support, probe, yx_m, pixel_m and origin_m to `path`, which should end in ``.npz``."""
        names = ("obj", "support", "probe", "yx_m", "pixel_m", "origin_m")
        arrays: dict[str, Any] = {name: np.array(getattr(self, name)) for name in names}
        np.savez(path, scan_id=np.array(self.options.scan_id), **arrays)

    def _made(self, first: int) -> Iterator[NDArray[np.generic]]:
        """Counts of all frames from `first` on."""
        for start in range(first, len(self), _BLOCK):
            for k, intensity in enumerate(self.intensity(start, min(start + _BLOCK, len(self)))):
                yield self.detector.record(intensity, start + k)

    def _probe_start(self) -> NDArray[np.complex64] | None:
        options = self.options
        if options.probe_start is ProbeStart.GUESS:
            return illumination.guess(options.illumination, options.shape, options.detector.photons)
        return self.probe if options.probe_start is ProbeStart.TRUE else None

    def _windows(self) -> tuple[NDArray[np.int64], NDArray[np.float64] | None]:
        options = self.options
        footprint_m = illumination.footprint_px(options.illumination, options.shape) * self.pixel_m[0]
        points = trajectory.plan(options.trajectory, options.frames, footprint_m, options.seed) / self.pixel_m
        points += _MARGIN_PX + 1 - np.floor(points.min(axis=0))
        corners = np.rint(points).astype(np.int64)
        return corners, points - corners if options.subpixel else None
