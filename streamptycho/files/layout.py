"""The layout of the file that grows with the scan: every group, dataset, link and attribute, created before the first frame.

Once single-writer-multiple-reader mode is on, readers see no new object, and a new attribute crashes the writer. So nothing
may be created after :func:`create`; there are no variable-length strings in datasets, and what comes at the end (image, end
time, reason) has its place from the beginning. CXI layout with energy in eV and mask 1 = valid; what standard readers expect
elsewhere is a soft link.
"""

import json
from datetime import UTC, datetime
from typing import Any

import h5py
import numpy as np

from streamptycho.files.bslz4 import filter_options
from streamptycho.files.dialect import DETECTOR, LIVE, LIVE_KEY
from streamptycho.files.options import WriterOptions
from streamptycho.geometry import JOULE_PER_EV
from streamptycho.messages import ScanStart
from streamptycho.reasons import DropReason

ENTRY = "/entry_1"
INSTRUMENT = f"{ENTRY}/instrument_1"
IMAGE = f"{ENTRY}/image_1"
TRANSLATION = f"{ENTRY}/sample_1/geometry_1/translation"
DROP_REASONS = (*(reason.value for reason in DropReason), "other")
"""Reasons that have a counter of their own in the file; any further reason counts as ``other``."""
TEXT = 64
"""Bytes of the short texts that are filled in at the end."""
ROW_CHUNK = 1024
TILE = 256
"""Side of the square pieces in which pictures are stored."""


def create(file: h5py.File, start: ScanStart, config_json: str, options: WriterOptions) -> None:
    """Create everything, empty where it will grow."""
    for path, kind in (
        (ENTRY, "NXentry"), (f"{ENTRY}/data_1", "NXdata"), (INSTRUMENT, "NXinstrument"), (DETECTOR, "NXdetector"),
        (f"{INSTRUMENT}/source_1", "NXsource"), (f"{INSTRUMENT}/beam_1", "NXbeam"), (f"{ENTRY}/sample_1", "NXsample"),
        (f"{ENTRY}/sample_1/geometry_1", "NXgeometry"), (f"{ENTRY}/sample_1/transformations", "NXtransformations"),
        (IMAGE, "NXdata"), (LIVE, "NXcollection"), (f"{LIVE}/snapshots", "NXcollection"),
        (f"{LIVE}/counters", "NXcollection"),
    ):  # fmt: skip
        file.create_group(path).attrs["NX_class"] = kind
    file.attrs["default"] = "entry_1"
    file[ENTRY].attrs["default"] = "data_1"
    file["cxi_version"] = 160
    file["number_of_entries"] = 1
    put_text(file, f"{ENTRY}/title", start.scan_id)
    put_text(file, f"{ENTRY}/start_time", datetime.fromtimestamp(start.started_ns / 1e9, UTC).isoformat())
    put_text(file, f"{ENTRY}/end_time", "", TEXT)
    put_text(file, f"{INSTRUMENT}/name", "unknown")
    _source(file, start.geometry.energy_ev, start.geometry.wavelength_m)
    _detector(file, start, options)
    _scan(file)
    _illumination(file, start)
    _image(file)
    _records(file, start, config_json)


def put_text(file: h5py.File, path: str, value: str, size: int = 0) -> None:
    """Scalar text of fixed length: `size` bytes or as long as `value` is."""
    raw = value.encode()
    kind = h5py.string_dtype("utf-8", max(size, len(raw), 1))
    file.create_dataset(path, data=np.array(raw, kind), dtype=kind)


def _number(file: h5py.File, path: str, value: Any, units: str | None = None) -> Any:
    dataset = file.create_dataset(path, data=value)
    if units:
        dataset.attrs["units"] = units
    return dataset


def _source(file: h5py.File, energy_ev: float, wavelength_m: float) -> None:
    source, beam = f"{INSTRUMENT}/source_1", f"{INSTRUMENT}/beam_1"
    energy = _number(file, f"{source}/energy", energy_ev, "eV")
    energy.attrs["note"] = "photon energy in electronvolts; CXI 1.6 has joules here, which are in beam_1/energy"
    _number(file, f"{source}/wavelength", wavelength_m, "m")
    put_text(file, f"{source}/probe", "x-ray")
    put_text(file, f"{source}/type", "Synchrotron X-ray Source")
    _number(file, f"{beam}/energy", energy_ev * JOULE_PER_EV, "J")
    _number(file, f"{beam}/incident_beam_energy", energy_ev * JOULE_PER_EV, "J")
    _number(file, f"{beam}/incident_energy", energy_ev, "eV")
    _number(file, f"{beam}/incident_wavelength", wavelength_m, "m")


def _detector(file: h5py.File, start: ScanStart, options: WriterOptions) -> None:
    geometry = start.geometry
    (ny, nx), (pitch_y, pitch_x) = geometry.frame_shape, geometry.pitch_m
    _number(file, f"{DETECTOR}/distance", geometry.distance_m, "m")
    _number(file, f"{DETECTOR}/x_pixel_size", pitch_x, "m")
    _number(file, f"{DETECTOR}/y_pixel_size", pitch_y, "m")
    center_y, center_x = start.beam_center_px or (ny / 2, nx / 2)
    _number(file, f"{DETECTOR}/corner_position", [center_x * pitch_x, center_y * pitch_y, geometry.distance_m], "m")
    _number(file, f"{DETECTOR}/basis_vectors", [[0.0, -pitch_y, 0.0], [-pitch_x, 0.0, 0.0]], "m")
    _mask(file, "mask", start, np.uint8(1), np.uint8(0)).attrs["polarity"] = "1=valid,0=masked"
    _mask(file, "pixel_mask", start, np.uint32(0), np.uint32(1)).attrs["polarity"] = "0=good,1=masked"
    if start.saturation is not None:
        _number(file, f"{DETECTOR}/saturation_value", start.saturation)
    if start.dark is not None:
        _number(file, f"{DETECTOR}/dark", start.dark)
    for name in ("data", "data_dark"):
        file.create_dataset(
            f"{DETECTOR}/{name}",
            shape=(0, ny, nx),
            maxshape=(None, ny, nx),
            chunks=(1, ny, nx),
            dtype=start.dtype.newbyteorder("<"),
            **filter_options(options.compression),
        )
    file[f"{DETECTOR}/data"].attrs["axes"] = "translation:y:x"
    file[f"{DETECTOR}/data_1"] = h5py.SoftLink(f"{DETECTOR}/data")
    file[f"{ENTRY}/data_1/data"] = h5py.SoftLink(f"{DETECTOR}/data")
    file[f"{ENTRY}/data_1"].attrs["signal"] = "data"


def _mask(file: h5py.File, name: str, start: ScanStart, good: np.generic, bad: np.generic) -> Any:
    """In tiles that are stored only where a pixel is bad: an announced frame without a mask takes no space."""
    shape = start.geometry.frame_shape
    chunks = tuple(min(n, TILE) for n in shape)
    dataset = file.create_dataset(
        f"{DETECTOR}/{name}", shape, good.dtype, chunks=chunks, fillvalue=good, compression="gzip", compression_opts=1
    )
    if start.valid is None:
        return dataset
    for y in range(0, shape[0], chunks[0]):
        for x in range(0, shape[1], chunks[1]):
            tile = np.s_[y : y + chunks[0], x : x + chunks[1]]
            if not start.valid[tile].all():
                dataset[tile] = np.where(start.valid[tile], good, bad)
    return dataset


def _scan(file: h5py.File) -> None:
    _growing(file, TRANSLATION, (3,), np.float64, np.nan, "m")
    for axis in ("x", "y"):
        path = f"{ENTRY}/sample_1/transformations/{axis}"
        _growing(file, path, (), np.float64, np.nan, "m")
        file[f"{ENTRY}/data_1/{axis}"] = h5py.SoftLink(path)
    for group in (f"{ENTRY}/data_1", DETECTOR):
        file[f"{group}/translation"] = h5py.SoftLink(TRANSLATION)
    _growing(file, LIVE_KEY, (), np.int32)
    _growing(file, f"{LIVE}/dark_key", (), np.int32)
    _growing(file, f"{LIVE}/timestamp_ns", (), np.int64, 0, "ns")
    _growing(file, f"{LIVE}/dark_timestamp_ns", (), np.int64, 0, "ns")


def _illumination(file: h5py.File, start: ScanStart) -> None:
    if start.probe is None:
        return
    path = f"{INSTRUMENT}/illumination_1/probe"
    _number(file, path, start.probe)
    file[f"{INSTRUMENT}/source_1/illumination"] = h5py.SoftLink(path)
    file[f"{DETECTOR}/probe"] = h5py.SoftLink(path)


def _image(file: h5py.File) -> None:
    kinds = {"data": np.complex64, "covered": np.uint8}
    for name in ("data", "data_real", "data_imag", "phase", "amplitude", "covered"):
        file.create_dataset(
            f"{IMAGE}/{name}", (0, 0), maxshape=(None, None), chunks=(TILE, TILE), dtype=kinds.get(name, np.float32)
        )
    file[f"{IMAGE}/phase"].attrs["units"] = "rad"
    file[IMAGE].attrs["signal"] = "phase"
    for name in ("pixel_size", "origin"):
        _number(file, f"{IMAGE}/{name}", np.full(2, np.nan), "m").attrs["order"] = "y,x"
    _number(file, f"{IMAGE}/image_size", np.full(3, np.nan), "m").attrs["order"] = "x,y,z"
    _number(file, f"{IMAGE}/is_fft_shifted", 0)
    put_text(file, f"{IMAGE}/data_type", "amplitude")
    put_text(file, f"{IMAGE}/data_space", "real")


def _records(file: h5py.File, start: ScanStart, config_json: str) -> None:
    put_text(file, f"{LIVE}/config", config_json)
    put_text(file, f"{LIVE}/metadata", json.dumps(start.metadata))
    put_text(file, f"{LIVE}/end_reason", "", TEXT)
    _number(file, f"{LIVE}/complete", np.uint8(0))
    _number(file, f"{LIVE}/expected", -1 if start.expected is None else start.expected)
    _number(file, f"{LIVE}/beam_center_px", start.beam_center_px or (np.nan, np.nan))
    counters = f"{LIVE}/counters"
    names = ("n_frames", "received", "used", "waiting", "snapshots", "snapshots_skipped")
    for name in names + tuple(f"dropped/{reason}" for reason in DROP_REASONS):
        _number(file, f"{counters}/{name}", np.int64(0))
    snapshots = f"{LIVE}/snapshots"
    file.create_dataset(f"{snapshots}/object", (0, 0, 0), maxshape=(None,) * 3, chunks=(1, TILE, TILE), dtype=np.complex64)
    file.create_dataset(f"{snapshots}/covered", (0, 0, 0), maxshape=(None,) * 3, chunks=(1, TILE, TILE), dtype=np.uint8)
    file.create_dataset(
        f"{snapshots}/probe", (0, 0, 0, 0), maxshape=(None,) * 4, chunks=(1, 1, TILE // 2, TILE // 2), dtype=np.complex64
    )
    for name in ("frames_used", "updates", "time_ns", "sequence"):
        _growing(file, f"{snapshots}/{name}", (), np.int64)
    _growing(file, f"{snapshots}/error", (), np.float64, np.nan)
    _growing(file, f"{snapshots}/shape", (2,), np.int64)
    _growing(file, f"{snapshots}/probe_shape", (3,), np.int64)
    _growing(file, f"{snapshots}/origin_m", (2,), np.float64, np.nan, "m")
    _growing(file, f"{snapshots}/pixel_m", (2,), np.float64, np.nan, "m")


def _growing(
    file: h5py.File, path: str, row: tuple[int, ...], dtype: Any, fill: float = 0, units: str | None = None
) -> None:
    dataset = file.create_dataset(
        path, (0, *row), maxshape=(None, *row), chunks=(ROW_CHUNK, *row), dtype=dtype, fillvalue=fill
    )
    if units:
        dataset.attrs["units"] = units
