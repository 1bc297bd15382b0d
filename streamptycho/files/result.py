"""The file with the reconstruction: plain datasets under /object, /probe and /metrics, and links where CXI readers look.

Written whole under another name and then renamed, so that no reader meets half a result.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from streamptycho.errors import FormatError, ScanError
from streamptycho.files.disk import build, part_of
from streamptycho.files.items import ENTRY, link, make_group, make_image, make_plot, put, sign
from streamptycho.files.outcome import Outcome
from streamptycho.files.paths import LIVE, find, text
from streamptycho.files.recorded.containers import open_file
from streamptycho.files.report import FIGURES, Report, read_report, write
from streamptycho.messages.results import Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A reconstruction as read from a file."""

    object: NDArray[np.complex64]
    """(ny, nx) complex64, transmission."""
    probe: NDArray[np.complex64]
    """(modes, n, n) complex64."""
    pixel_m: tuple[float, float]
    """(y, x), metres."""
    origin_m: tuple[float, float]
    """(y, x) of the centre of pixel [0, 0] in the coordinates of the positions, metres; (0, 0) where the file has none."""
    error_per_iteration: NDArray[np.float32]
    """(k,) Fourier error after each pass."""
    algorithm: str
    covered: NDArray[np.bool_] | None
    """(ny, nx) bool, True where the probe has been; None where the file does not say."""
    report: Report
    """How the scan went, what was estimated beside object and probe, and how far the picture can be trusted."""


def write_result(path: Path, outcome: Outcome) -> None:
    """Write the picture of `outcome` and all that is known of it, in place of an earlier result of that name.

    Raises ValueError where there is no picture, ScanError naming the path if the disk refuses.
    """
    if outcome.snapshot is None:
        raise ValueError("outcome.snapshot: None; a result needs a picture")
    snapshot = outcome.snapshot
    path = Path(path)
    partial = part_of(path)
    try:
        try:
            build(partial, lambda file: _fill(file, outcome, snapshot))
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise ScanError(f"{path}: the result cannot be written ({error}); free disk space or write elsewhere") from error


def _fill(file: h5py.File, outcome: Outcome, snapshot: Snapshot) -> None:
    sign(file, outcome.start.scan_id, "object")
    _object(file, snapshot)
    _probe(file, snapshot)
    _metrics(file, snapshot)
    _images(file, snapshot)
    _origin(file, outcome, snapshot)
    write(file, outcome)
    if outcome.estimates is not None:
        link(file, "", positions=f"{LIVE}/estimates/positions")


def read_result(path: Path) -> Result:
    """Read a file written by :func:`write_result`, or one with the same /object, /probe and /metrics."""
    try:
        with h5py.File(path, "r") as file:
            probe = np.asarray(_need(file, "/probe/modes", "/probe/complex")[()], np.complex64)
            pixel = np.broadcast_to(np.asarray(_need(file, "/object/pixel_size")[()], np.float64), (2,))
            return Result(
                object=np.asarray(_need(file, "/object/complex")[()], np.complex64),
                probe=probe[None] if probe.ndim == 2 else probe,
                pixel_m=(float(pixel[0]), float(pixel[1])),
                origin_m=(_first(file, "/object/y"), _first(file, "/object/x")),
                error_per_iteration=np.asarray(_need(file, "/metrics/error_per_iteration")[()], np.float32),
                algorithm=text(_need(file, "/metrics/algorithm")[()]),
                covered=None if (covered := find(file, ("/object/covered",))) is None else covered[()] != 0,
                report=read_report(file),
            )
    except OSError as error:
        raise FormatError(f"{path}: not a readable result file ({error})") from error


def is_result(path: Path) -> bool:
    """True for a file that :func:`read_result` reads, False for any other that is HDF5; else FormatError."""
    with open_file(path) as file:
        return find(file, ("/object/complex",)) is not None


def _first(file: h5py.File, path: str) -> float:
    """First value of a coordinate axis, 0 where the file has none."""
    return float(file[path][0]) if path in file else 0.0


def _need(file: h5py.File, *paths: str) -> Any:
    dataset = find(file, paths)
    if dataset is None:
        raise FormatError(f"{file.filename}: no {' or '.join(paths)}; this is not a result file")
    return dataset


def _axes(group: Any, origin_m: tuple[float, float], pixel_m: tuple[float, float], shape: tuple[int, ...]) -> None:
    for name, origin, pixel, n in zip("yx", origin_m, pixel_m, shape, strict=True):
        put(group, name, origin + pixel * np.arange(n), "m")


def _object(file: h5py.File, snapshot: Snapshot) -> None:
    group = make_plot(file, "object", "phase", ("y", "x"), ("amplitude",))
    picture = snapshot.object
    group["complex"] = picture
    put(group, "phase", np.angle(picture), "rad")
    group["amplitude"] = np.abs(picture)
    group["covered"] = snapshot.covered.astype(np.uint8)
    # one number where the pixels are square, as most readers expect; (y, x) where they are not
    square = np.isclose(*snapshot.pixel_m, rtol=1e-6)
    put(group, "pixel_size", snapshot.pixel_m[0] if square else snapshot.pixel_m, "m")
    _axes(group, snapshot.origin_m, snapshot.pixel_m, picture.shape)


def _probe(file: h5py.File, snapshot: Snapshot) -> None:
    group = make_plot(file, "probe", "intensity", ("y", "x"))
    group["complex"] = snapshot.probe[0]
    group["modes"] = snapshot.probe
    group["intensity"] = (np.abs(snapshot.probe) ** 2).sum(axis=0)
    (pixel_y, pixel_x), (ny, nx) = snapshot.pixel_m, snapshot.probe.shape[1:]
    _axes(group, (-pixel_y * (ny // 2), -pixel_x * (nx // 2)), snapshot.pixel_m, (ny, nx))


def _metrics(file: h5py.File, snapshot: Snapshot) -> None:
    group = make_plot(file, "metrics", "error_per_iteration", ("iteration",))
    group["error_per_iteration"] = snapshot.error_history
    group["iteration"] = np.arange(1, len(snapshot.error_history) + 1)
    group["n_iterations"] = len(snapshot.error_history)
    group["error"] = snapshot.error
    put(file, "metrics/algorithm", snapshot.algorithm)


def _images(file: h5py.File, snapshot: Snapshot) -> None:
    """The pictures where CXI readers look."""
    link(file, ENTRY, object="/object", probe="/probe", metrics="/metrics")
    for image, source, signal in (("image_1", "/object", "phase"), ("image_2", "/probe", "intensity")):
        path = f"{ENTRY}/{image}"
        make_image(file, path, signal, ("y", "x"))
        link(file, path, data=f"{source}/complex", **{name: f"{source}/{name}" for name in (signal, "y", "x")})
    first, picture = f"{ENTRY}/image_1", snapshot.object
    put(file, f"{first}/data_real", picture.real)
    put(file, f"{first}/data_imag", picture.imag)
    link(file, first, amplitude="/object/amplitude")
    make_plot(file, f"{ENTRY}/data_1", "data", ("y", "x"))
    link(file, f"{ENTRY}/data_1", data="/object/phase", y="/object/y", x="/object/x")


def _origin(file: h5py.File, outcome: Outcome, snapshot: Snapshot) -> None:
    geometry, end = outcome.start.geometry, outcome.end
    instrument = make_group(file, f"{ENTRY}/instrument_1", "NXinstrument")
    put(instrument, "source_1/energy", geometry.energy_ev, "eV")
    put(instrument, "source_1/wavelength", geometry.wavelength_m, "m")
    put(instrument, "detector_1/distance", geometry.distance_m, "m")
    make_group(file, LIVE, "NXcollection")
    put(file, f"{LIVE}/config", outcome.config_json)
    put(file, f"{LIVE}/end_reason", end.reason.value if end else "")
    put(file, f"{LIVE}/complete", np.uint8(bool(end and end.complete)))
    put(file, f"{LIVE}/started_ns", outcome.start.started_ns, "ns")
    for name in FIGURES:
        put(file, f"{LIVE}/{name}", getattr(snapshot, name))
