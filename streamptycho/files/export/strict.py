"""CXI 1.6 to the letter, for readers who take it so: ptychodus (scan and product), cdtools, PyNX but for its axes.

Joules; a mask of bits with 0 = good; ``image_1`` is the probe and ``image_2`` the object; frames are a link to the file
that has them. Only frames that have a position are in it, so that rows of both agree.
"""

import json
from datetime import UTC, datetime
from pathlib import Path

import h5py
import numpy as np

from streamptycho.errors import FormatError
from streamptycho.files.export.material import Material, copy_frames, link_frames, material, write_whole
from streamptycho.files.items import ENTRY, SMALL, link, make_group, make_image, make_plot, put, sign
from streamptycho.files.naming import STRICT, beside
from streamptycho.files.paths import DETECTOR, TRANSLATION
from streamptycho.files.result import Result
from streamptycho.files.source import SOURCE, describe_source
from streamptycho.messages.geometry import Geometry

INSTRUMENT, SAMPLE, PTYCHODUS = f"{ENTRY}/instrument_1", f"{ENTRY}/sample_1", f"{ENTRY}/ptychodus"
_GROUPS = {
    INSTRUMENT: "NXinstrument", SOURCE: "NXsource", f"{INSTRUMENT}/beam_1": "NXbeam", DETECTOR: "NXdetector",
    f"{DETECTOR}/transformations": "NXtransformations",
    SAMPLE: "NXsample", f"{SAMPLE}/geometry_1": "NXgeometry", PTYCHODUS: "NXcollection",
}  # fmt: skip


def write_strict(path: Path, there: Material) -> None:
    """Write the strict view of a scan, with the picture where there is one; an earlier one is replaced.

    Raises FormatError where the scan lacks what CXI needs, ScanError if the disk refuses.
    """
    write_whole(path, lambda file: _fill(file, there, path))


def write_view(path: Path) -> str | None:
    """Write the strict view of a finished scan beside it; why there is none where it lacks what CXI needs."""
    try:
        with material(path) as there:
            write_strict(beside(path, STRICT), there)
    except FormatError as error:
        return str(error)
    return None


def _fill(file: h5py.File, there: Material, path: Path) -> None:
    scan = there.need_scan
    title = there.title.encode("ascii", "backslashreplace").decode()  # cdtools takes no other letters
    sign(file, title, "data_1")
    for name, kind in _GROUPS.items():
        make_group(file, name, kind)
    put(file, f"{ENTRY}/definition", "NXcxi_ptycho")
    put(file, f"{ENTRY}/start_time", scan.began or datetime.now(UTC).isoformat())
    put(file, f"{INSTRUMENT}/name", "unknown")
    put(file, f"{SAMPLE}/name", title)
    describe_source(file, scan.geometry, joules=True)
    put(file, f"{DETECTOR}/transformations/vector", [0.0, 0.0, 1.0])  # along the beam
    _detector(file, there)
    if not link_frames(file, f"{DETECTOR}/data", there, path):
        copy_frames(file, f"{DETECTOR}/data", there)
    put(file, TRANSLATION, there.xyz_m, "m", long_name="translation")
    make_plot(file, f"{ENTRY}/data_1", "data", (".", ".", "."))
    link(file, f"{ENTRY}/data_1", data=f"{DETECTOR}/data", translation=TRANSLATION)
    link(file, DETECTOR, data_1=f"{DETECTOR}/data", translation=TRANSLATION)
    if scan.probe is not None:
        put(file, f"{INSTRUMENT}/illumination_1/probe", scan.probe, storage=SMALL)
        link(file, SOURCE, illumination=f"{INSTRUMENT}/illumination_1/probe")
    put(file, f"{PTYCHODUS}/probe_position_indexes", np.arange(len(there.rows)))
    if there.result is not None:
        _images(file, there.result)
        _product(file, there)


def _detector(file: h5py.File, there: Material) -> None:
    scan = there.need_scan
    geometry: Geometry = scan.geometry
    pitch_y, pitch_x = geometry.pitch_m
    put(file, f"{DETECTOR}/distance", geometry.distance_m, "m")
    put(file, f"{DETECTOR}/x_pixel_size", pitch_x, "m")
    put(file, f"{DETECTOR}/y_pixel_size", pitch_y, "m")
    put(file, f"{DETECTOR}/basis_vectors", [[0.0, -pitch_y, 0.0], [-pitch_x, 0.0, 0.0]], "m")
    ny, nx = geometry.frame_shape
    center_y, center_x = scan.beam_center_px or (ny / 2, nx / 2)
    put(file, f"{DETECTOR}/corner_position", [center_x * pitch_x, center_y * pitch_y, geometry.distance_m], "m")
    mask = np.zeros((ny, nx), np.uint32) if scan.valid is None else (~scan.valid).astype(np.uint32)
    put(file, f"{DETECTOR}/mask", mask, storage=SMALL, polarity="0=good,1=masked")
    link(file, DETECTOR, pixel_mask=f"{DETECTOR}/mask")
    if scan.dark is not None:
        put(file, f"{DETECTOR}/data_dark", scan.dark, "counts", SMALL)
    if scan.saturation is not None:
        put(file, f"{DETECTOR}/saturation_value", scan.saturation)


def _images(file: h5py.File, result: Result) -> None:
    """The probe, then the object, as ptychodus writes a product."""
    parts = (
        ("image_1", result.probe, "intensity", (np.abs(result.probe) ** 2).sum(axis=0), "intensity of the probe", "counts"),
        ("image_2", result.object, "phase", np.angle(result.object), "phase of the object", "rad"),
    )
    for name, picture, signal, shown, label, units in parts:
        image = f"{ENTRY}/{name}"
        make_image(file, image, signal, ("y", "x"))
        put(file, f"{image}/data", picture, storage=SMALL)
        put(file, f"{image}/{signal}", shown.astype(np.float32), units, SMALL, long_name=label)
        shape = picture.shape[-2:]
        for axis, n, pixel, origin in zip("yx", shape, result.pixel_m, result.origin_m, strict=True):
            first = origin if name == "image_2" else -pixel * (n // 2)
            put(file, f"{image}/{axis}", first + pixel * np.arange(n), "m", long_name=axis)
        height, width = np.multiply(shape, result.pixel_m).tolist()
        put(file, f"{image}/image_size", [width, height, 0.0], "m")
        link(file, image, source_1=SOURCE, detector_1=DETECTOR)


def _product(file: h5py.File, there: Material) -> None:
    """What ptychodus keeps of a product where CXI has no place."""
    result = there.need_result
    said: dict[str, float | None] = dict.fromkeys(("probe_photon_count",), float((np.abs(result.probe) ** 2).sum()))
    for kind in ("probe", "object"):
        said |= {f"{kind}_pixel_width_m": result.pixel_m[1], f"{kind}_pixel_height_m": result.pixel_m[0]}
    if (center := there.center_yx_m) is not None:
        said |= {"object_center_x_m": center[1], "object_center_y_m": center[0]}
    for name, value in said.items():
        put(file, f"{PTYCHODUS}/{name}", value)
    errors = result.error_per_iteration
    if errors.size:
        put(file, f"{PTYCHODUS}/loss_epochs", np.arange(1, errors.size + 1))
        put(file, f"{PTYCHODUS}/loss_values", errors.astype(np.float64))
    assessment = result.report.assessment
    if assessment is not None:
        words = {"verdict": assessment.verdict, "findings": assessment.findings}
        put(file, f"{ENTRY}/experiment_description", json.dumps(words))
