"""The file with the reconstruction: plain datasets under /object, /probe and /metrics, and links where CXI readers look.

Written whole under another name and then renamed, so that nobody meets half a result.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from streamptycho.errors import FormatError, ScanError
from streamptycho.files.dialect import find, text
from streamptycho.files.disk import build
from streamptycho.files.layout import put_text
from streamptycho.messages import ScanEnd, ScanStart, Snapshot


@dataclass(frozen=True, slots=True)
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


def write_result(
    path: Path, snapshot: Snapshot, start: ScanStart, *, end: ScanEnd | None = None, config_json: str = "{}"
) -> None:
    """Write `snapshot` as the result of the scan, in place of an earlier result of that name.

    `end` is None while the scan is still running. Raises ScanError naming the path if the disk refuses.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        try:
            build(partial, lambda file: _fill(file, snapshot, start, end, config_json))
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise ScanError(f"{path}: the result cannot be written ({error}); free disk space or write elsewhere") from error


def _fill(file: h5py.File, snapshot: Snapshot, start: ScanStart, end: ScanEnd | None, config_json: str) -> None:
    _object(file, snapshot)
    _probe(file, snapshot)
    _metrics(file, snapshot)
    _entry(file, snapshot, start, end, config_json)


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
            )
    except OSError as error:
        raise FormatError(f"{path}: not a readable result file ({error})") from error


def _first(file: h5py.File, path: str) -> float:
    """First value of a coordinate axis, 0 where the file has none."""
    return float(file[path][0]) if path in file else 0.0


def _need(file: h5py.File, *paths: str) -> Any:
    dataset = find(file, paths)
    if dataset is None:
        raise FormatError(f"{file.filename}: no {' or '.join(paths)}; this is not a result file")
    return dataset


def _plot(file: h5py.File, path: str, signal: str, axes: tuple[str, ...], also: tuple[str, ...] = ()) -> Any:
    group = file.create_group(path)
    group.attrs["NX_class"] = "NXdata"
    group.attrs["signal"] = signal
    group.attrs["axes"] = list(axes)
    if also:
        group.attrs["auxiliary_signals"] = list(also)
    return group


def _object(file: h5py.File, snapshot: Snapshot) -> None:
    group = _plot(file, "object", "phase", ("y", "x"), ("amplitude",))
    picture = snapshot.object
    group["complex"] = picture
    group["phase"] = np.angle(picture)
    group["phase"].attrs["units"] = "rad"
    group["amplitude"] = np.abs(picture)
    group["covered"] = snapshot.covered.astype(np.uint8)
    # one number where the pixels are square, as most readers expect; (y, x) where they are not
    square = np.isclose(*snapshot.pixel_m, rtol=1e-6)
    group["pixel_size"] = snapshot.pixel_m[0] if square else snapshot.pixel_m
    group["pixel_size"].attrs["units"] = "m"
    for name, origin, pixel, n in zip("yx", snapshot.origin_m, snapshot.pixel_m, picture.shape, strict=True):
        group[name] = origin + pixel * np.arange(n)
        group[name].attrs["units"] = "m"


def _probe(file: h5py.File, snapshot: Snapshot) -> None:
    group = _plot(file, "probe", "intensity", ("y", "x"))
    group["complex"] = snapshot.probe[0]
    group["modes"] = snapshot.probe
    group["intensity"] = (np.abs(snapshot.probe) ** 2).sum(axis=0)
    for name, pixel, n in zip("yx", snapshot.pixel_m, snapshot.probe.shape[1:], strict=True):
        group[name] = pixel * (np.arange(n) - n // 2)
        group[name].attrs["units"] = "m"


def _metrics(file: h5py.File, snapshot: Snapshot) -> None:
    group = _plot(file, "metrics", "error_per_iteration", ("iteration",))
    group["error_per_iteration"] = snapshot.error_history
    group["iteration"] = np.arange(1, len(snapshot.error_history) + 1)
    group["n_iterations"] = len(snapshot.error_history)
    group["error"] = snapshot.error
    put_text(file, "metrics/algorithm", snapshot.algorithm)


def _entry(file: h5py.File, snapshot: Snapshot, start: ScanStart, end: ScanEnd | None, config_json: str) -> None:
    file["cxi_version"] = 160
    file["number_of_entries"] = 1
    file.attrs["default"] = "entry_1"
    entry = file.create_group("entry_1")
    entry.attrs["NX_class"] = "NXentry"
    entry.attrs["default"] = "object"
    for name in ("object", "probe", "metrics"):
        entry[name] = h5py.SoftLink(f"/{name}")
    put_text(file, "entry_1/title", start.scan_id)
    image = _plot(file, "entry_1/image_1", "phase", ("y", "x"))
    image["data_real"], image["data_imag"] = snapshot.object.real, snapshot.object.imag
    for name, target in (("data", "complex"), *((same, same) for same in ("phase", "amplitude", "y", "x"))):
        image[name] = h5py.SoftLink(f"/object/{target}")
    second = _plot(file, "entry_1/image_2", "intensity", ("y", "x"))
    for name, target in (("data", "complex"), *((same, same) for same in ("intensity", "y", "x"))):
        second[name] = h5py.SoftLink(f"/probe/{target}")
    for name in ("image_1", "image_2"):
        file[f"entry_1/{name}/is_fft_shifted"] = 0
        put_text(file, f"entry_1/{name}/data_type", "amplitude")
        put_text(file, f"entry_1/{name}/data_space", "real")
    shown = _plot(file, "entry_1/data_1", "data", ("y", "x"))
    for name, target in (("data", "phase"), ("y", "y"), ("x", "x")):
        shown[name] = h5py.SoftLink(f"/object/{target}")
    _origin(file, snapshot, start, end, config_json)


def _origin(file: h5py.File, snapshot: Snapshot, start: ScanStart, end: ScanEnd | None, config_json: str) -> None:
    instrument = file.create_group("entry_1/instrument_1")
    instrument.attrs["NX_class"] = "NXinstrument"
    for path, value, units in (
        ("source_1/energy", start.geometry.energy_ev, "eV"),
        ("source_1/wavelength", start.geometry.wavelength_m, "m"),
        ("detector_1/distance", start.geometry.distance_m, "m"),
    ):
        instrument[path] = value
        instrument[path].attrs["units"] = units
    notes = file.create_group("entry_1/streamptycho")
    notes.attrs["NX_class"] = "NXcollection"
    put_text(file, "entry_1/streamptycho/config", config_json)
    put_text(file, "entry_1/streamptycho/end_reason", end.reason.value if end else "")
    notes["complete"] = np.uint8(bool(end and end.complete))
    for name in ("frames_used", "updates", "sequence", "time_ns"):
        notes[name] = getattr(snapshot, name)
