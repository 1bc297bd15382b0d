"""The file with the reconstruction: plain datasets under /object, /probe and /metrics, and links where CXI readers look.

Written whole under another name and then renamed, so that no reader meets half a result.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from streamptycho.errors import FormatError, ScanError
from streamptycho.files import pictures
from streamptycho.files.durable.disk import build, part_of
from streamptycho.files.items import ENTRY, link, make_group, make_plot, put, sign
from streamptycho.files.layout import INSTRUMENT, illumination
from streamptycho.files.outcome import Outcome
from streamptycho.files.paths import DETECTOR, LIVE, LIVE_KEY, find, text
from streamptycho.files.recorded.containers import open_file
from streamptycho.files.report import FIGURES, Report, read_report, write
from streamptycho.files.source import describe_source
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
    started_ns: int = 0
    """Beginning of the scan; 0 where the file does not say it."""
    figures: Mapping[str, int | float] = field(default_factory=dict)
    """What the file says of :data:`~streamptycho.files.report.FIGURES` and ``error``."""

    def snapshot(self, scan_id: str) -> Snapshot:
        """The picture as the message that it was."""
        said: dict[str, Any] = {**FIGURES, "error": math.nan, **self.figures}
        return Snapshot(
            scan_id=scan_id,
            started_ns=self.started_ns,
            final=True,
            error_history=self.error_per_iteration,
            algorithm=self.algorithm,
            object=self.object,
            covered=np.ones(self.object.shape, np.bool_) if self.covered is None else self.covered,
            probe=self.probe,
            origin_m=self.origin_m,
            pixel_m=self.pixel_m,
            **said,
        )


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
    pictures.write(file, snapshot)
    make_plot(file, f"{ENTRY}/data_1", "data", ("y", "x"))
    link(file, f"{ENTRY}/data_1", data="/object/phase", y="/object/y", x="/object/x")
    _origin(file, outcome, snapshot)
    write(file, outcome)
    if outcome.estimates is not None:
        link(file, "", positions=f"{LIVE}/estimates/positions")


def read_result(path: Path) -> Result:
    """Read a file written by :func:`write_result`, a growing file of a finished scan, or one with the same names."""
    try:
        with h5py.File(path, "r") as file:
            probe = np.asarray(_need(file, "/probe/modes", "/probe/complex")[()], np.complex64)
            pixel_size = _need(file, f"{pictures.IMAGE}/pixel_size", "/object/pixel_size")
            pixel = np.broadcast_to(np.asarray(pixel_size[()], np.float64), (2,))
            picture = np.asarray(_need(file, "/object/complex")[()], np.complex64)
            if not picture.size:
                raise FormatError(f"{path}: has no picture: the scan has not ended, or nothing was reconstructed")
            return Result(
                object=picture,
                probe=probe[None] if probe.ndim == 2 else probe,
                pixel_m=(float(pixel[0]), float(pixel[1])),
                origin_m=(_first(file, "/object/y"), _first(file, "/object/x")),
                error_per_iteration=np.asarray(_need(file, "/metrics/error_per_iteration")[()], np.float32),
                algorithm=text(_need(file, "/metrics/algorithm")[()]),
                covered=None if (covered := find(file, ("/object/covered",))) is None else covered[()] != 0,
                report=read_report(file),
                started_ns=0 if (began := find(file, (f"{LIVE}/started_ns",))) is None else int(began[()]),
                figures=_figures(file),
            )
    except OSError as error:
        raise FormatError(f"{path}: not a readable result file ({error})") from error


def is_result(path: Path) -> bool:
    """True for a result, False for other HDF5 files, a growing one with its picture included; else FormatError."""
    with open_file(path) as file:
        return find(file, ("/object/complex",)) is not None and find(file, (LIVE_KEY,)) is None


def _figures(file: h5py.File) -> dict[str, int | float]:
    """Of the result; of a growing file those of its last snapshot."""
    found: dict[str, int | float] = {}
    for name in (*FIGURES, "error"):
        said = find(file, (f"{LIVE}/{name}", f"/metrics/{name}", f"{LIVE}/snapshots/{name}"))
        if said is not None and said.size:
            found[name] = np.asarray(said[()]).reshape(-1)[-1].item()
    return found


def _first(file: h5py.File, path: str) -> float:
    """First value of a coordinate axis, 0 where the file has none."""
    return float(file[path][0]) if path in file else 0.0


def _need(file: h5py.File, *paths: str) -> Any:
    dataset = find(file, paths)
    if dataset is None:
        raise FormatError(f"{file.filename}: no {' or '.join(paths)}; this is not a result file")
    return dataset


def _origin(file: h5py.File, outcome: Outcome, snapshot: Snapshot) -> None:
    geometry, end = outcome.start.geometry, outcome.end
    for path, kind in (
        ("", "NXinstrument"),
        ("/source_1", "NXsource"),
        ("/beam_1", "NXbeam"),
        ("/detector_1", "NXdetector"),
    ):
        make_group(file, f"{INSTRUMENT}{path}", kind)
    describe_source(file, geometry)
    illumination(file, outcome.start)
    if not math.isnan(geometry.distance_m):
        put(file, f"{DETECTOR}/distance", geometry.distance_m, "m")
    make_group(file, LIVE, "NXcollection")
    put(file, f"{LIVE}/config", outcome.config_json)
    put(file, f"{LIVE}/end_reason", end.reason.value if end else "")
    put(file, f"{LIVE}/complete", np.uint8(bool(end and end.complete)))
    put(file, f"{LIVE}/started_ns", outcome.start.started_ns, "ns")
    for name in FIGURES:
        put(file, f"{LIVE}/{name}", getattr(snapshot, name))
