"""Small scans for the file tests: messages to write, and foreign files in each dialect."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from streamptycho.files.outcome import Outcome
from streamptycho.messages.geometry import HC_EV_M, JOULE_PER_EV, Geometry
from streamptycho.messages.payload import Encoding, Payload
from streamptycho.messages.reasons import EndReason, Stream
from streamptycho.messages.results import Assessment, Estimates, Snapshot
from streamptycho.messages.stream import Frame, Positions, ScanEnd, ScanStart

DETECTOR = "/entry_1/instrument_1/detector_1"
SOURCE = "/entry_1/instrument_1/source_1"
TRANSLATION = "/entry_1/sample_1/geometry_1/translation"
LIVE = "/entry_1/streamptycho"
LIVE_KEY = "/entry_1/data_1/live_key"
SHAPE = (16, 24)
ENERGY_EV = 8800.0
PITCH_M = 75e-6
DISTANCE_M = 1.92
FIELD_M = HC_EV_M / ENERGY_EV * DISTANCE_M / PITCH_M
STARTED_NS = 1_700_000_000_000_000_000


def geometry(shape: tuple[int, int] = SHAPE) -> Geometry:
    return Geometry(
        wavelength_m=HC_EV_M / ENERGY_EV, distance_m=DISTANCE_M, pitch_m=(PITCH_M, 2 * PITCH_M), frame_shape=shape
    )


def start(**changes: Any) -> ScanStart:
    values: dict[str, Any] = {
        "scan_id": "scan",
        "geometry": geometry(),
        "dtype": np.dtype("uint16"),
        "started_ns": STARTED_NS,
    }
    return ScanStart(**(values | changes))


def pixels(n: int, shape: tuple[int, int] = SHAPE, dtype: str = "uint16", seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).poisson(30, (n, *shape)).astype(dtype)


def frame(payload: Payload, index: list[int], *, dark: bool = False, scan_id: str = "scan") -> Frame:
    rows = np.array(index, np.int64)
    return Frame(scan_id=scan_id, index=rows, timestamp_ns=rows * 1000 + 7, payload=payload, dark=dark)


def raw(array: np.ndarray, index: list[int], **more: Any) -> Frame:
    return frame(Payload.raw(array), index, **more)


def single(payload: Payload, i: int) -> Payload:
    return Payload(chunks=payload.chunks[i : i + 1], encoding=payload.encoding, dtype=payload.dtype, shape=payload.shape)


def broken(payload: Payload, i: int) -> Payload:
    """The same block with the compressed bytes of frame `i` made useless behind an intact header."""
    chunks = list(payload.chunks)
    chunks[i] = memoryview(bytes(chunks[i][:12]) + b"\xff" * (chunks[i].nbytes - 12))
    return Payload(chunks=tuple(chunks), encoding=Encoding.BSLZ4, dtype=payload.dtype, shape=payload.shape)


def positions(index: list[int], scan_id: str = "scan") -> Positions:
    rows = np.array(index, np.int64)
    return Positions(scan_id=scan_id, index=rows, yx_m=np.stack([rows * 1e-7 + 1e-6, -rows * 2e-7], axis=1))


def snapshot(sequence: int = 0, shape: tuple[int, int] = (40, 50), modes: int = 2, **changes: Any) -> Snapshot:
    rng = np.random.default_rng(sequence)
    picture = (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)
    values: dict[str, Any] = {
        "scan_id": "scan",
        "started_ns": STARTED_NS,
        "sequence": sequence,
        "final": False,
        "time_ns": STARTED_NS + sequence,
        "frames_used": 10 * sequence,
        "updates": 25 * sequence,
        "error": 0.5 / (sequence + 1),
        "error_history": np.linspace(0.5, 0.1, sequence + 3, dtype=np.float32),
        "algorithm": "ePIE",
        "object": picture,
        "covered": rng.random(shape) > 0.5,
        "probe": (rng.normal(size=(modes, 16, 24)) * (1 + 1j)).astype(np.complex64),
        "origin_m": (1e-6 * sequence, -2e-6),
        "pixel_m": (28e-9, 14e-9),
    }
    return Snapshot(**(values | changes))


def end(reason: EndReason = EndReason.COMPLETE, count: int = 0) -> ScanEnd:
    return ScanEnd(scan_id="scan", stream=Stream.SCAN, count=count, reason=reason)


def estimates(n: int = 25, **changes: Any) -> Estimates:
    """Of frames 1, 3, 5, ...: not every frame of a scan is reconstructed."""
    rng = np.random.default_rng(7)
    index = 2 * np.arange(n) + 1
    recorded_yx_m = np.stack([index * 1e-7, index * -2e-7], axis=1)
    values: dict[str, Any] = {
        "scan_id": "scan",
        "started_ns": STARTED_NS,
        "time_ns": STARTED_NS + 123_456_789,
        "index": index,
        "recorded_yx_m": recorded_yx_m,
        "refined_yx_m": recorded_yx_m + rng.normal(0, 5e-9, (n, 2)),
        "flux": rng.normal(1, 0.1, n).astype(np.float32),
        "background": rng.random((16, 24)).astype(np.float32),
        "mode_powers": (0.75, 0.25),
        "trust": "confident",
        "unexplained": 0.125,
        "probe_origin": "found in the data (µ)",
    }
    return Estimates(**(values | changes))


def assessment(**changes: Any) -> Assessment:
    values: dict[str, Any] = {
        "scan_id": "scan",
        "started_ns": STARTED_NS,
        "time_ns": STARTED_NS + 987_654_321,
        "verdict": "Positions contradict the patterns, and 1 more finding.",
        "findings": {"orientation": "Positions contradict the patterns; set it", "overlap": "beams of 2 µm overlap by 20 %"},
        "figures": {"resolution_m": 31e-9, "photons_per_frame": 1.5e6, "covered_m2": 4e-12},
        "frequency_per_m": np.linspace(0, 1.7e7, 30, dtype=np.float32),
        "ring_correlation": np.linspace(1, 0, 30, dtype=np.float32),
        "criterion": "half-bit",
        "trusted": False,
        "final": True,
    }
    return Assessment(**(values | changes))


def outcome(picture: Snapshot | None = None, **changes: Any) -> Outcome:
    """That of a scan which ended well."""
    return Outcome(**({"start": start(), "snapshot": picture, "end": end()} | changes))


def raster(n: int = 25, step_m: float = 0.1 * FIELD_M) -> np.ndarray:
    """(n, 2) x, y of a raster, metres; x is not y."""
    side = int(np.ceil(np.sqrt(n)))
    k = np.arange(n)
    return np.stack([k % side * step_m, k // side * 1.1 * step_m], axis=1)


@dataclass
class Foreign:
    """Datasets and attributes of a file that somebody else wrote; change what a test is about, then `write`."""

    items: dict[str, Any]
    attrs: dict[tuple[str, str], Any] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)

    def write(self, path: Path) -> Path:
        with h5py.File(path, "w") as file:
            for name, value in self.items.items():
                file[name] = value
            for (name, attribute), value in self.attrs.items():
                file[name].attrs[attribute] = value
            for name, target in self.links.items():
                file[name] = h5py.SoftLink(target)
        return path


def frames_and_xyz(n: int = 25) -> tuple[np.ndarray, np.ndarray]:
    return pixels(n), np.concatenate([raster(n), np.zeros((n, 1))], axis=1)


def cxi_ev(n: int = 25) -> Foreign:
    """CXI with electronvolts and mask 1 = valid, bare of units."""
    frames, xyz = frames_and_xyz(n)
    mask = np.ones(SHAPE, np.uint8)
    mask[2, 3] = 0
    return Foreign(
        {
            "/entry_1/data_1/data": frames,
            f"{SOURCE}/energy": ENERGY_EV,
            f"{SOURCE}/wavelength": HC_EV_M / ENERGY_EV,
            f"{DETECTOR}/distance": DISTANCE_M,
            f"{DETECTOR}/x_pixel_size": PITCH_M,
            f"{DETECTOR}/y_pixel_size": PITCH_M,
            f"{DETECTOR}/corner_position": [12 * PITCH_M, 8 * PITCH_M, DISTANCE_M],
            f"{DETECTOR}/mask": mask,
            TRANSLATION: xyz,
            "/entry_1/instrument_1/illumination_1/probe": np.full(SHAPE, 1 + 2j, np.complex64),
        }
    )


def cxi_standard(n: int = 25) -> Foreign:
    """CXI 1.6: joules, bit field, soft links, default basis vectors in the (3, 2) form."""
    frames, xyz = frames_and_xyz(n)
    mask = np.zeros(SHAPE, np.uint32)
    mask[2, 3] = 0x80
    mask[5, 6] = 0x1000
    return Foreign(
        {
            "cxi_version": 160,
            f"{DETECTOR}/data": frames,
            f"{SOURCE}/energy": ENERGY_EV * JOULE_PER_EV,
            f"{DETECTOR}/distance": DISTANCE_M,
            f"{DETECTOR}/x_pixel_size": PITCH_M,
            f"{DETECTOR}/y_pixel_size": PITCH_M,
            f"{DETECTOR}/basis_vectors": np.array([[0, -PITCH_M], [-PITCH_M, 0], [0, 0]]),
            f"{DETECTOR}/mask": mask,
            TRANSLATION: xyz,
        },
        links={"/entry_1/data_1/data": f"{DETECTOR}/data", f"{DETECTOR}/translation": TRANSLATION},
    )


def aps(n: int = 25) -> Foreign:
    """/exchange with micrometres and kiloelectronvolts."""
    frames, xyz = frames_and_xyz(n)
    return Foreign(
        {
            "/exchange/data": frames,
            "/exchange/positions_x": xyz[:, 0] * 1e6,
            "/exchange/positions_y": xyz[:, 1] * 1e6,
            "/exchange/theta": np.array([30.0]),
            "/instrument/source/energy": ENERGY_EV / 1e3,
            "/instrument/detector/distance": DISTANCE_M,
            "/instrument/detector/pixel_size": PITCH_M,
        }
    )
