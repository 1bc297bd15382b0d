"""A scan to be reconstructed: what is known before the first frame, positions, and frames on demand."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamptycho.display.ledger import Missing
from streamptycho.errors import GrammarError, InputError
from streamptycho.files.recorded.quantities import MIN_STEP, median_step
from streamptycho.files.report import Report
from streamptycho.files.scan import RecordedScan
from streamptycho.messages.geometry import Geometry, wavelength_from_ev
from streamptycho.messages.payload import NEAREST_DTYPES, PIXEL_DTYPES, Payload
from streamptycho.messages.stream import ScanStart
from streamptycho.options import Closing

_UNITS = {"mm": 1e-3, "um": 1e-6, "nm": 1e-9}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Scan(Closing):
    """A scan; its representation says what was understood of it, with units.

    Iterating gives the indices of its frames. The file of a scan stays open until :meth:`close`, or to the end of a ``with``
    block.
    """

    start: ScanStart
    """Geometry, pixel type, mask, dark frame, probe."""
    index: NDArray[np.int64]
    """(n,) indices of the frames that are there, rising."""
    yx_m: NDArray[np.float64]
    """(N, 2) metres, where the beam was for each frame index; NaN where unknown."""
    source: "RecordedScan | Arrays"
    understood: Mapping[str, str] = field(default_factory=dict)
    """What was read from a file and why it was taken so."""
    report: Report | None = None
    """How the scan went, as far as its file says so."""

    @property
    def missing(self) -> Missing | None:
        """What is missing, where the file says that the scan is not complete."""
        return self.report.missing if self.report is not None and self.report.complete is False else None

    def __len__(self) -> int:
        return len(self.index)

    def __iter__(self) -> Iterator[int]:
        return iter(self.index.tolist())

    @property
    def geometry(self) -> Geometry:
        """Wavelength, distance, detector pixel and frame shape."""
        return self.start.geometry

    @property
    def pixel_m(self) -> tuple[float, float]:
        """Object pixel (y, x) for whole frames, metres."""
        return self.geometry.object_pixel_m(self.geometry.frame_shape)

    def frame(self, i: int) -> NDArray[np.generic]:
        """Counts of frame `i`, (ny, nx), as the detector delivered them."""
        return self.source.frame(i)

    def close(self) -> None:
        """Close the file; no frame can be read afterwards."""
        self.source.close()

    def __repr__(self) -> str:
        start, geometry = self.start, self.geometry
        ny, nx = geometry.frame_shape
        placed = self.yx_m[np.isfinite(self.yx_m).all(1)]
        extent = np.ptp(placed, axis=0) * 1e6 if len(placed) else (0.0, 0.0)
        masked = 0 if start.valid is None else int((~start.valid).sum())
        lack = "" if self.missing is None else f"; the scan is not complete{': ' * bool(self.missing)}{self.missing}"
        lines = {
            "frames": f"{len(self)} of {ny} x {nx} {start.dtype.name}, {len(placed)} with a position{lack}",
            "energy": f"{geometry.energy_ev:.6g} eV (wavelength {geometry.wavelength_m * 1e12:.4g} pm)",
            "distance": f"{geometry.distance_m:.6g} m",
            "detector": f"{_pair(geometry.pitch_m, 1e-6)} um pixels, {masked} masked",
            "object": f"{_pair(self.pixel_m, 1e-9)} nm pixels (y, x)",
            "positions": f"{_pair(extent, 1)} um (y, x), {median_step(placed) * 1e6:.3g} um apart",
            "probe": "none, found in the data" if start.probe is None else f"recorded, modes: {len(start.probe)}",
        }
        reasons = [f"  {name}: {why}" for name, why in self.understood.items()]
        text = [f"Scan {start.scan_id!r}", *(f"  {name:<10}{line}" for name, line in lines.items())]
        return "\n".join(text + (["  as read:", *(f"  {reason}" for reason in reasons)] if reasons else []))


def _pair(values: Any, unit: float) -> str:
    y, x = (f"{value / unit:.4g}" for value in values)
    return f"{y} x {x}"


class Arrays:
    """Frames of an array (n, ny, nx), which may also be memory-mapped or an HDF5 dataset: one frame is read at a time."""

    def __init__(self, frames: Any) -> None:
        self._frames = frames

    def frame(self, i: int) -> NDArray[np.generic]:
        """Pixels of frame `i`, in a type that a detector may have."""
        return pixels(self._frames[i], f"frames[{i}]")

    def payload(self, i: int) -> Payload:
        """The same as the reconstruction takes it."""
        return Payload.raw(self.frame(i))

    def close(self) -> None:
        """Nothing is open."""


def scan_from_arrays(
    frames: Any,
    positions_yx_m: ArrayLike,
    *,
    distance_m: float,
    pitch_m: float | tuple[float, float],
    energy_ev: float | None = None,
    wavelength_m: float | None = None,
    mask: ArrayLike | None = None,
    dark: ArrayLike | None = None,
    probe: ArrayLike | None = None,
    scan_id: str = "arrays",
) -> Scan:
    """A scan of plain arrays.

    Parameters
    ----------
    frames : (n, ny, nx) counts in detector order; a memory map or an HDF5 dataset is read frame by frame.
    positions_yx_m : (n, 2) metres, columns y and x, where the beam was; row of the frame = +y, column = +x.
    distance_m, pitch_m : sample to detector; detector pixel, one number or (y, x).
    energy_ev, wavelength_m : one of the two.
    mask : (ny, nx) True where valid.
    dark : (ny, nx) counts of a frame without beam.
    probe : (modes, n, n) or (n, n) complex to start from; without one it is found in the data.

    Raises InputError naming the argument, its value and what would be right.
    """
    given = checked(
        distance_m=distance_m, pitch_m=pitch_m, energy_ev=energy_ev, wavelength_m=wavelength_m, mask=mask, dark=dark,
        probe=probe, scan_id=scan_id,
    )  # fmt: skip
    stack = frames if hasattr(frames, "shape") and hasattr(frames, "dtype") else np.asarray(frames)
    if len(stack.shape) != 3 or not all(stack.shape):
        raise InputError(f"frames: shape {tuple(stack.shape)} is not (n, ny, nx); stack the frames along the first axis")
    yx_m = np.array(positions_yx_m, np.float64)
    if yx_m.shape != (stack.shape[0], 2):
        raise InputError(
            f"positions_yx_m: shape {yx_m.shape} does not fit {stack.shape[0]} frames; "
            f"give ({stack.shape[0]}, 2), columns y and x"
        )
    source = Arrays(stack)
    start = start_of(source.frame(0), given | {"expected": stack.shape[0]})
    check_steps(yx_m, start.geometry)
    return Scan(start=start, index=np.arange(stack.shape[0]), yx_m=yx_m, source=source)


def checked(**given: Any) -> dict[str, Any]:
    """The arguments that are not None. Refuses a geometry that is not complete, or says a thing twice."""
    given = {name: value for name, value in given.items() if value is not None}
    missing = [name for name in ("distance_m", "pitch_m") if name not in given]
    if missing:
        raise InputError(f"{' and '.join(missing)}: not given; both are metres")
    if ("energy_ev" in given) == ("wavelength_m" in given):
        raise InputError("energy_ev, wavelength_m: give one of the two")
    return given


def start_of(frame: NDArray[np.generic], given: Mapping[str, Any]) -> ScanStart:
    """What is known of a scan before its first `frame` is taken in; `given` as of :func:`checked`."""
    energy_ev, mask, dark, probe = (given.get(name) for name in ("energy_ev", "mask", "dark", "probe"))
    try:
        pitch_y_m, pitch_x_m = np.broadcast_to(np.asarray(given["pitch_m"], np.float64), 2).tolist()
        geometry = Geometry(
            wavelength_m=wavelength_from_ev(energy_ev) if energy_ev else float(given.get("wavelength_m", 0)),
            distance_m=float(given["distance_m"]),
            pitch_m=(pitch_y_m, pitch_x_m),
            frame_shape=(int(frame.shape[0]), int(frame.shape[1])),
        )
        if geometry.unknown:
            raise InputError(f"{', '.join(geometry.unknown)}: nan is not a positive number")
        return ScanStart(
            scan_id=given.get("scan_id", "arrays"),
            geometry=geometry,
            dtype=frame.dtype,
            started_ns=time.time_ns(),
            expected=given.get("expected"),
            valid=None if mask is None else np.asarray(mask).astype(np.bool_),
            dark=None if dark is None else np.asarray(dark, np.float32),
            probe=None if probe is None else as_probe(probe),
        )
    except GrammarError as error:
        name = error.field.removeprefix("start.").replace("valid", "mask")
        raise InputError(f"{name}: {error.detail}") from error
    except ValueError as error:
        raise InputError(str(error)) from error


def as_probe(probe: ArrayLike) -> NDArray[np.complex64]:
    """(modes, ny, nx) of one mode or several."""
    array = np.asarray(probe, np.complex64)
    return array[None] if array.ndim == 2 else array


def pixels(frame: ArrayLike, name: str) -> NDArray[np.generic]:
    """`frame` (ny, nx) in a pixel type that a detector may have; counts are not changed."""
    array: NDArray[np.generic] = np.asarray(frame)
    if array.ndim != 2:
        raise InputError(f"{name}: shape {array.shape} is not (ny, nx)")
    if array.dtype.name in PIXEL_DTYPES:
        return array
    wanted = NEAREST_DTYPES.get(array.dtype.name)
    if wanted is None:
        raise InputError(f"{name}: type {array.dtype.name}; give real counts as one of {', '.join(PIXEL_DTYPES)}")
    converted = array.astype(wanted)
    if array.dtype.kind in "iu" and (converted != array).any():
        raise InputError(f"{name}: counts of {array.dtype.name} up to {array.max()} do not fit {wanted}; mask or clip them")
    return converted


def check_steps(yx_m: NDArray[np.float64], geometry: Geometry) -> None:
    """Refuse positions (n, 2) whose neighbours are so far apart, or so close, that they cannot be metres."""
    step_m = median_step(yx_m)
    field_m = geometry.wavelength_m * geometry.distance_m / min(geometry.pitch_m)
    if not np.isfinite(step_m) or MIN_STEP * field_m / 5 <= step_m <= 5 * field_m:
        return
    likely = [
        f"multiply them by {scale:g} if they are {unit}"
        for unit, scale in _UNITS.items()
        if MIN_STEP <= step_m * scale / field_m <= 1
    ]
    raise InputError(
        f"positions_yx_m: neighbours are {step_m:.3g} m apart, but one frame sees {field_m:.3g} m of the object "
        f"({geometry.energy_ev:.4g} eV, {geometry.distance_m:.4g} m, pixels of {min(geometry.pitch_m):.3g} m); "
        "positions are metres: " + (likely[0] if likely else "check their unit, and energy, distance and pixel")
    )
