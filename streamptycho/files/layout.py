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

from streamptycho.display.ledger import Ledger, Missing
from streamptycho.files import pictures, report
from streamptycho.files.items import ENTRY, SMALL, TEXT, TILE, grow, link, make_group, make_plot, put, sign, texts
from streamptycho.files.options import WriterOptions
from streamptycho.files.paths import DETECTOR, LIVE, LIVE_KEY, TRANSLATION
from streamptycho.files.source import describe_source
from streamptycho.files.storage import storage_of
from streamptycho.messages.stream import ScanStart

_FILTERS = (
    "frames that the detector sent as bitshuffle-LZ4 are stored as they came (HDF5 filter 32008): to read them in Python "
    "`import hdf5plugin` first; `streamptycho convert FILE COPY.cxi` makes a copy that needs nothing"
)
INSTRUMENT = f"{ENTRY}/instrument_1"
SAMPLE = f"{ENTRY}/sample_1"


def create(file: h5py.File, start: ScanStart, config_json: str, options: WriterOptions) -> None:
    """Create everything, empty where it will grow."""
    sign(file, start.scan_id, "data_1")
    for path, kind in (
        (INSTRUMENT, "NXinstrument"), (DETECTOR, "NXdetector"), (f"{INSTRUMENT}/source_1", "NXsource"),
        (f"{INSTRUMENT}/beam_1", "NXbeam"), (f"{DETECTOR}/transformations", "NXtransformations"),
        (SAMPLE, "NXsample"), (f"{SAMPLE}/geometry_1", "NXgeometry"),
        (f"{SAMPLE}/transformations", "NXtransformations"), (LIVE, "NXcollection"), (f"{LIVE}/snapshots", "NXcollection"),
        (f"{LIVE}/counters", "NXcollection"),
    ):  # fmt: skip
        make_group(file, path, kind)
    began = datetime.fromtimestamp(start.started_ns / 1e9, UTC) if start.started_ns else datetime.now(UTC)
    put(file, f"{ENTRY}/start_time", began.isoformat(), meaning="" if start.started_ns else "when the file was begun")
    put(file, f"{ENTRY}/end_time", texts(TEXT))
    put(file, f"{ENTRY}/definition", "NXcxi_ptycho")
    put(file, f"{INSTRUMENT}/name", "unknown")
    describe_source(file, start.geometry)
    put(file, f"{DETECTOR}/transformations/vector", [0.0, 0.0, 1.0])  # along the beam
    _detector(file, start, options)
    _scan(file)
    illumination(file, start)
    pictures.create(file)
    _records(file, start, config_json)
    report.create(file)


def _detector(file: h5py.File, start: ScanStart, options: WriterOptions) -> None:
    geometry = start.geometry
    (ny, nx), (pitch_y, pitch_x) = geometry.frame_shape, geometry.pitch_m
    unknown = geometry.unknown
    if "distance_m" not in unknown:
        put(file, f"{DETECTOR}/distance", geometry.distance_m, "m")
    if "pitch_m" not in unknown:
        put(file, f"{DETECTOR}/x_pixel_size", pitch_x, "m")
        put(file, f"{DETECTOR}/y_pixel_size", pitch_y, "m")
        put(file, f"{DETECTOR}/basis_vectors", [[0.0, -pitch_y, 0.0], [-pitch_x, 0.0, 0.0]], "m")
    if not {"distance_m", "pitch_m"} & set(unknown):
        center_y, center_x = start.beam_center_px or (ny / 2, nx / 2)
        put(file, f"{DETECTOR}/corner_position", [center_x * pitch_x, center_y * pitch_y, geometry.distance_m], "m")
    _mask(file, "mask", start, np.uint8(1), np.uint8(0)).attrs["polarity"] = "1=valid,0=masked"
    _mask(file, "pixel_mask", start, np.uint32(0), np.uint32(1)).attrs["polarity"] = "0=good,1=masked"
    if start.saturation is not None:
        put(file, f"{DETECTOR}/saturation_value", start.saturation)
    if start.dark is not None:
        put(file, f"{DETECTOR}/dark", start.dark)
    for name in ("data", "data_dark"):
        storage = storage_of(options.compression)
        frames = grow(file, f"{DETECTOR}/{name}", (0, ny, nx), start.dtype, "counts", chunks=(1, ny, nx), **storage)
        if storage:
            frames.attrs["filters"] = _FILTERS
    file[f"{DETECTOR}/data"].attrs.update(axes="translation:y:x", long_name="diffraction patterns")
    # without these a viewer takes the dataset's own `axes`, which are CXI's, for those of the plot
    make_plot(file, f"{ENTRY}/data_1", "data", (".", ".", "."))
    link(file, DETECTOR, data_1=f"{DETECTOR}/data")
    link(file, f"{ENTRY}/data_1", data=f"{DETECTOR}/data")


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
    x, y = f"{SAMPLE}/transformations/x", f"{SAMPLE}/transformations/y"
    for path, row in ((TRANSLATION, (3,)), (x, ()), (y, ())):
        grow(file, path, (0, *row), np.float64, "m", fillvalue=np.nan).attrs["long_name"] = path.rpartition("/")[2]
    link(file, f"{ENTRY}/data_1", x=x, y=y, translation=TRANSLATION)
    link(file, DETECTOR, translation=TRANSLATION)
    link(file, f"{SAMPLE}/geometry_1", refined_positions=f"{LIVE}/estimates/positions")
    for key, times in ((LIVE_KEY, "timestamp_ns"), (f"{LIVE}/dark_key", "dark_timestamp_ns")):
        grow(file, key, (0,), np.int32)
        grow(file, f"{LIVE}/{times}", (0,), np.int64, "ns")


def illumination(file: h5py.File, start: ScanStart) -> None:
    """The probe that was given, where one was; of a single mode a plain picture."""
    if start.probe is None:
        return
    path = f"{INSTRUMENT}/illumination_1/probe"
    put(file, path, start.probe[0] if len(start.probe) == 1 else start.probe, storage=SMALL)
    link(file, f"{INSTRUMENT}/source_1", illumination=path)
    link(file, DETECTOR, probe=path)


def _records(file: h5py.File, start: ScanStart, config_json: str) -> None:
    put(file, f"{LIVE}/config", config_json)
    put(file, f"{LIVE}/metadata", json.dumps(start.metadata))
    put(file, f"{LIVE}/end_reason", texts(TEXT))
    put(file, f"{LIVE}/complete", np.uint8(0))
    put(file, f"{LIVE}/started_ns", start.started_ns, "ns")
    put(file, f"{LIVE}/expected", -1 if start.expected is None else start.expected)
    put(file, f"{LIVE}/beam_center_px", start.beam_center_px or (np.nan, np.nan))
    nothing = (
        dict.fromkeys(("n_frames", "snapshots", "snapshots_skipped"), 0) | report.counts(Ledger()) | report.lack(Missing())
    )
    for name, value in nothing.items():
        put(file, f"{LIVE}/counters/{name}", np.int64(value))
    snapshots = f"{LIVE}/snapshots"
    grow(file, f"{snapshots}/object", (0, 0, 0), np.complex64, chunks=(1, TILE, TILE), **SMALL)
    grow(file, f"{snapshots}/covered", (0, 0, 0), np.uint8, chunks=(1, TILE, TILE), **SMALL)
    grow(file, f"{snapshots}/probe", (0, 0, 0, 0), np.complex64, chunks=(1, 1, TILE // 2, TILE // 2), **SMALL)
    for name, unknown in {**report.FIGURES, "error": np.nan}.items():
        grow(file, f"{snapshots}/{name}", (0,), type(unknown), fillvalue=unknown)
    grow(file, f"{snapshots}/shape", (0, 2), np.int64)
    grow(file, f"{snapshots}/probe_shape", (0, 3), np.int64)
    for name in ("origin_m", "pixel_m"):
        grow(file, f"{snapshots}/{name}", (0, 2), np.float64, "m", fillvalue=np.nan)
