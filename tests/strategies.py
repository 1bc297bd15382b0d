"""Hypothesis strategies for everything that travels on the wire, and what it means that two messages are the same."""

import math
from dataclasses import fields, is_dataclass
from typing import Any

import h5py
import hdf5plugin
import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from streamptycho.messages.geometry import Geometry
from streamptycho.messages.kinds import Message
from streamptycho.messages.live import LARGEST_VALUE, Action, Command, PointState, Preview, Survey
from streamptycho.messages.payload import PIXEL_DTYPES, Encoding, Payload
from streamptycho.messages.reasons import EndReason, ServiceState, Stream
from streamptycho.messages.results import Assessment, Estimates, Snapshot
from streamptycho.messages.status import ReceiveStatus, ReconstructStatus, WriteStatus
from streamptycho.messages.stream import Frame, Positions, Resume, ScanEnd, ScanStart

INT64_MAX = 2**63 - 1


def compress(pixels: np.ndarray, block_elements: int = 0) -> bytes:
    """One (ny, nx) frame as the HDF5 bitshuffle filter stores it: the same bytes that a DECTRIS detector sends."""
    with h5py.File("chunk.h5", "w", driver="core", backing_store=False) as file:
        codec = hdf5plugin.Bitshuffle(nelems=block_elements, cname="lz4")
        dataset = file.create_dataset("frame", data=pixels[None], chunks=(1, *pixels.shape), **codec)
        return bytes(dataset.id.read_direct_chunk((0, 0, 0))[1])


def bslz4(frames: np.ndarray, block_elements: int = 0) -> Payload:
    """(n, ny, nx) as a compressed payload."""
    return Payload(
        chunks=tuple(memoryview(compress(frame, block_elements)) for frame in frames),
        encoding=Encoding.BSLZ4,
        dtype=frames.dtype,
        shape=frames.shape[1:],
    )


def same(a: Any, b: Any) -> bool:
    """Equality of messages and of what they hold: arrays by type, shape and bytes, NaN equal to NaN."""
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if is_dataclass(a):
        return all(same(getattr(a, item.name), getattr(b, item.name)) for item in fields(a))
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, float):
        return a == b or (math.isnan(a) and math.isnan(b))
    return bool(a == b)


def arrays_of(message: Message) -> dict[str, np.ndarray]:
    """Every array that a message holds."""
    values = {item.name: getattr(message, item.name) for item in fields(message)}
    return {name: value for name, value in values.items() if isinstance(value, np.ndarray)}


counts = st.integers(0, INT64_MAX)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
finite = st.floats(-1e6, 1e6)
positive = st.floats(1e-12, 1e6)
names = st.text(st.sampled_from("abcXYZ0189-_ .:µé漢"), min_size=1, max_size=30).filter(lambda name: name[0] != ".")
scalars = texts | st.integers(-(2**63), INT64_MAX) | st.floats() | st.booleans()
pixel_dtypes = st.sampled_from(PIXEL_DTYPES).map(np.dtype)
sizes = st.integers(1, 12)


def _pair(values: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, Any]]:
    return st.tuples(values, values)


def _array(dtype: Any, shape: Any, elements: Any = None) -> st.SearchStrategy[np.ndarray]:
    return hnp.arrays(np.dtype(dtype), shape, elements=elements)


_finite32 = st.floats(-1e6, 1e6, width=32)
_complex64 = st.complex_numbers(max_magnitude=1e6, allow_nan=False, allow_infinity=False, width=64)

geometries = st.builds(
    Geometry,
    wavelength_m=positive,
    distance_m=positive,
    pitch_m=_pair(positive),
    frame_shape=_pair(sizes),
)


@st.composite
def starts(draw: st.DrawFn) -> ScanStart:
    geometry = draw(geometries)
    probe_shape = (draw(st.integers(1, 3)), draw(sizes), draw(sizes))
    return ScanStart(
        scan_id=draw(names),
        geometry=geometry,
        dtype=draw(pixel_dtypes),
        started_ns=draw(counts),
        expected=draw(st.none() | counts),
        valid=draw(st.none() | _array(bool, geometry.frame_shape)),
        dark=draw(st.none() | _array(np.float32, geometry.frame_shape, _finite32)),
        probe=draw(st.none() | _array(np.complex64, probe_shape, _complex64)),
        saturation=draw(st.none() | counts),
        beam_center_px=draw(st.none() | _pair(finite)),
        metadata=draw(st.dictionaries(texts, scalars, max_size=4)),
        planned_yx_m=draw(st.none() | _array(np.float64, (draw(sizes), 2), finite)),
        repeated=draw(st.booleans()),
    )


@st.composite
def indices(draw: st.DrawFn, n: int) -> np.ndarray:
    return np.array(sorted(draw(st.sets(counts, min_size=n, max_size=n))), np.int64)


@st.composite
def stacks(draw: st.DrawFn, n: int | None = None) -> np.ndarray:
    """Pixels, (n, ny, nx)."""
    shape = (draw(st.integers(1, 4)) if n is None else n, draw(sizes), draw(sizes))
    return draw(_array(draw(pixel_dtypes), shape))


@st.composite
def payloads(draw: st.DrawFn, n: int | None = None) -> Payload:
    frames = draw(stacks(n))
    return Payload.raw(frames) if draw(st.booleans()) else bslz4(frames, draw(st.sampled_from([0, 8, 128])))


@st.composite
def frames(draw: st.DrawFn, n: int | None = None) -> Frame:
    payload = draw(payloads(n))
    return Frame(
        scan_id=draw(names),
        index=draw(indices(len(payload))),
        timestamp_ns=draw(_array(np.int64, len(payload))),
        payload=payload,
        dark=draw(st.booleans()),
        taken_yx_m=draw(st.none() | _array(np.float64, (len(payload), 2), st.floats(allow_nan=True))),
    )


@st.composite
def positions(draw: st.DrawFn) -> Positions:
    n = draw(st.integers(1, 8))
    return Positions(scan_id=draw(names), index=draw(indices(n)), yx_m=draw(_array(np.float64, (n, 2), finite)))


ends = st.builds(
    ScanEnd,
    scan_id=names,
    stream=st.sampled_from(Stream),
    count=counts,
    reason=st.sampled_from(EndReason),
    started_ns=counts,
)


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    shape = (draw(sizes), draw(sizes))
    return Snapshot(
        scan_id=draw(names),
        started_ns=draw(counts),
        sequence=draw(counts),
        final=draw(st.booleans()),
        time_ns=draw(counts),
        frames_used=draw(counts),
        updates=draw(counts),
        error=draw(st.floats()),
        error_history=draw(_array(np.float32, draw(st.integers(0, 5)))),
        algorithm=draw(texts),
        object=draw(_array(np.complex64, shape)),
        covered=draw(_array(bool, shape)),
        probe=draw(_array(np.complex64, (draw(st.integers(1, 3)), draw(sizes), draw(sizes)))),
        origin_m=draw(_pair(finite)),
        pixel_m=draw(_pair(positive)),
        newest_ns=draw(counts),
        service=draw(texts),
    )


@st.composite
def ledgers(draw: st.DrawFn) -> dict[str, Any]:
    """What the statuses of all services hold."""
    used, waiting = draw(st.integers(0, 10**9)), draw(st.integers(0, 10**9))
    dropped = draw(st.dictionaries(texts, st.integers(0, 10**9), max_size=3))
    return {
        "service": draw(texts),
        "scan_id": draw(st.none() | names),
        "state": draw(st.sampled_from(ServiceState)),
        "time_ns": draw(counts),
        "started_ns": draw(counts),
        "received": used + waiting + sum(dropped.values()),
        "used": used,
        "waiting": waiting,
        "dropped": dropped,
        "rejected": draw(st.dictionaries(texts, counts, max_size=3)),
        "failure": draw(st.none() | texts),
        "restarts": draw(counts),
        "unacknowledged": draw(st.dictionaries(texts, counts, max_size=2)),
        "unacknowledged_bytes": draw(st.dictionaries(texts, counts, max_size=2)),
        "silence_s": draw(st.dictionaries(texts, st.floats(0, 1e9), max_size=2)),
    }


@st.composite
def receive_statuses(draw: st.DrawFn) -> ReceiveStatus:
    return ReceiveStatus(
        **draw(ledgers()),
        rate_hz=draw(st.floats()),
        unique=draw(counts),
        expected=draw(st.none() | counts),
        positions=draw(counts),
        announced=draw(st.none() | counts),
        announced_positions=draw(st.none() | counts),
        remarks=draw(st.lists(st.text(max_size=20), max_size=3).map(tuple)),
        stream_remarks=draw(st.lists(st.text(max_size=20), max_size=3).map(tuple)),
        connections=draw(st.dictionaries(st.text(max_size=20), st.text(max_size=20), max_size=2)),
        gaps=draw(counts),
        missing=draw(st.none() | counts),
        missing_positions=draw(st.none() | counts),
    )


@st.composite
def reconstruct_statuses(draw: st.DrawFn) -> ReconstructStatus:
    return ReconstructStatus(
        **draw(ledgers()),
        error=draw(st.floats()),
        updates=draw(counts),
        updates_hz=draw(st.floats()),
        passes=draw(counts),
        position_shift_px=draw(st.floats()),
        unexplained=draw(st.floats()),
        lag_s=draw(st.none() | st.floats()),
        device=draw(texts),
        probe=draw(texts),
        trust=draw(texts),
        no_picture=draw(st.booleans()),
    )


@st.composite
def write_statuses(draw: st.DrawFn) -> WriteStatus:
    return WriteStatus(
        **draw(ledgers()),
        file=draw(st.none() | texts),
        result=draw(st.none() | texts),
        picture=draw(st.none() | texts),
        end=draw(st.none() | st.sampled_from(EndReason)),
        positions=draw(counts),
        trouble=draw(st.none() | texts),
        free_bytes=draw(st.none() | counts),
        frame_bytes=draw(counts),
    )


@st.composite
def surveys(draw: st.DrawFn) -> Survey:
    n = draw(st.integers(1, 8))
    return Survey(
        scan_id=draw(names),
        started_ns=draw(counts),
        time_ns=draw(counts),
        known=draw(counts),
        index=draw(indices(n)),
        yx_m=draw(_array(np.float64, (n, 2), finite)),
        counts=draw(_array(np.float32, n, _finite32)),
        dark_field=draw(_array(np.float32, n, _finite32)),
        centre_px=draw(_array(np.float32, (n, 2), _finite32)),
        state=draw(_array(np.uint8, n, st.sampled_from([int(state) for state in PointState]))),
        service=draw(texts),
    )


@st.composite
def previews(draw: st.DrawFn) -> Preview:
    shape = (draw(sizes), draw(sizes))
    return Preview(
        scan_id=draw(names),
        started_ns=draw(counts),
        time_ns=draw(counts),
        index=draw(counts),
        pattern=draw(_array(np.float32, shape)),
        valid=draw(_array(bool, shape)),
        saturated=draw(_array(bool, shape)),
        binning=draw(st.integers(1, 64)),
        centre_px=draw(_pair(finite)),
        crop_px=draw(_pair(st.integers(-1000, 1000))),
        crop_shape_px=draw(_pair(st.integers(1, 1000))),
        service=draw(texts),
    )


@st.composite
def assessments(draw: st.DrawFn) -> Assessment:
    n = draw(st.integers(0, 5))
    return Assessment(
        scan_id=draw(names),
        started_ns=draw(counts),
        time_ns=draw(counts),
        verdict=draw(texts),
        findings=draw(st.dictionaries(texts, texts, max_size=3)),
        figures=draw(st.dictionaries(texts, st.floats(), max_size=3)),
        frequency_per_m=draw(_array(np.float32, n)),
        ring_correlation=draw(_array(np.float32, n)),
        criterion=draw(texts),
        trusted=draw(st.booleans()),
        final=draw(st.booleans()),
        service=draw(texts),
    )


@st.composite
def estimates(draw: st.DrawFn) -> Estimates:
    n = draw(st.integers(1, 8))
    return Estimates(
        scan_id=draw(names),
        started_ns=draw(counts),
        time_ns=draw(counts),
        index=draw(indices(n)),
        recorded_yx_m=draw(_array(np.float64, (n, 2), finite)),
        refined_yx_m=draw(st.none() | _array(np.float64, (n, 2), finite)),
        flux=draw(st.none() | _array(np.float32, n, _finite32)),
        background=draw(st.none() | _array(np.float32, (draw(sizes), draw(sizes)), _finite32)),
        mode_powers=tuple(draw(st.lists(st.floats(0, 1), max_size=16))),
        trust=draw(texts),
        unexplained=draw(st.floats()),
        probe_origin=draw(texts),
        service=draw(texts),
    )


@st.composite
def commands(draw: st.DrawFn) -> Command:
    action = draw(st.sampled_from(Action))
    largest = LARGEST_VALUE.get(action)
    value = 0 if largest is None else draw(st.integers(1, largest))
    return Command(action=action, scan_id=draw(names), started_ns=draw(counts), value=value)


@st.composite
def resumes(draw: st.DrawFn) -> Resume:
    n = draw(st.integers(0, 8))
    return Resume(
        scan_id=draw(names),
        started_ns=draw(counts),
        frames=draw(_array(bool, draw(st.integers(0, 12)))),
        index=draw(indices(n)) if n else None,
        yx_m=draw(_array(np.float64, (n, 2), finite)) if n else None,
    )


BY_KIND: dict[str, st.SearchStrategy[Message]] = {
    "start": starts(),
    "frame": frames(),
    "positions": positions(),
    "end": ends,
    "snapshot": snapshots(),
    "receive_status": receive_statuses(),
    "reconstruct_status": reconstruct_statuses(),
    "write_status": write_statuses(),
    "survey": surveys(),
    "preview": previews(),
    "assessment": assessments(),
    "estimates": estimates(),
    "command": commands(),
    "resume": resumes(),
}
messages: st.SearchStrategy[Message] = st.one_of(*BY_KIND.values())
