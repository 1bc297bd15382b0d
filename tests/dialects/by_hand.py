"""Bytes of foreign formats written down from their descriptions, by nothing of ours that reads or publishes them."""

import json
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamptycho.messages.facts import Fact, Frames, Learned, StartParts

BLOCK_BYTES = 8192


# pixels


def counts(shape: tuple[int, int], dtype: str, number: int = 0) -> NDArray[Any]:
    """Something that is not symmetric and differs from number to number."""
    y, x = np.indices(shape)
    return ((3 * y + 7 * x + 11 * number) % 97).astype(dtype)


def literal_block(data: bytes) -> bytes:
    """An LZ4 block without a match."""
    n = len(data)
    if n < 15:
        return bytes([n << 4]) + data
    return bytes([0xF0, *[255] * ((n - 15) // 255), (n - 15) % 255]) + data


def run_block(value: int, n: int) -> bytes:
    """An LZ4 block of `n` > 20 equal bytes: one byte, a match of it, and the five last as they are."""
    match = n - 6 - 4
    rest = [*[255] * ((match - 15) // 255), (match - 15) % 255] if match >= 15 else []
    return bytes([0x10 | min(match, 15), value, 1, 0, *rest]) + literal_block(bytes([value]) * 5)


def blocks_of(data: bytes, size: int) -> list[bytes]:
    return [data[i : i + size] for i in range(0, len(data), size)]


def lz4_block(data: bytes) -> bytes:
    return run_block(data[0], len(data)) if len(data) > 20 and len(set(data)) == 1 else literal_block(data)


def bitshuffle(pixels: NDArray[Any]) -> bytes:
    """One block: first the lowest bit of all elements, eight in a byte, then the next bit."""
    elements = np.frombuffer(pixels.tobytes(), f"<u{pixels.itemsize}")  # bytes in their order, whatever they mean
    bits = [np.packbits(((elements >> bit) & 1).astype(np.uint8), bitorder="little") for bit in range(8 * pixels.itemsize)]
    return b"".join(plane.tobytes() for plane in bits)


def bslz4_blocks(pixels: NDArray[Any], block_bytes: int = BLOCK_BYTES) -> bytes:
    """What follows the header of 12 bytes."""
    flat = pixels.ravel()
    whole = flat.size // 8 * 8
    step = block_bytes // flat.itemsize
    packed = [lz4_block(bitshuffle(flat[i : min(i + step, whole)])) for i in range(0, whole, step)]
    return b"".join(struct.pack(">I", len(block)) + block for block in packed) + flat[whole:].tobytes()


def bslz4(pixels: NDArray[Any], block_bytes: int = BLOCK_BYTES) -> bytes:
    return struct.pack(">QI", pixels.nbytes, block_bytes) + bslz4_blocks(pixels, block_bytes)


def hdf5_lz4(pixels: NDArray[Any], block_bytes: int = 1000) -> bytes:
    """LZ4 as in HDF5: of the blocks, every second is stored as it is."""
    blocks = blocks_of(pixels.tobytes(), block_bytes)
    packed = [block if i % 2 else lz4_block(block) for i, block in enumerate(blocks)]
    return struct.pack(">QI", pixels.nbytes, block_bytes) + b"".join(struct.pack(">I", len(b)) + b for b in packed)


# JSON: Stream V1

CONFIG: dict[str, Any] = {
    "nimages": 2,
    "ntrigger": 3,
    "trigger_mode": "exts",
    "x_pixels_in_detector": 24,
    "y_pixels_in_detector": 16,
    "bit_depth_image": 16,
    "bit_depth_readout": 16,
    "compression": "bslz4",
    "photon_energy": 8000.0,
    "incident_energy": 8000.0,
    "wavelength": 1.5498,
    "detector_distance": 2.5,
    "x_pixel_size": 7.5e-5,
    "y_pixel_size": 8.0e-5,
    "beam_center_x": 12.5,
    "beam_center_y": 7.25,
    "count_time": 0.0099,
    "frame_time": 0.01,
    "countrate_correction_count_cutoff": 50000,
    "pixel_mask_applied": 1,
    "flatfield_correction_applied": 1,
    "description": "Dectris EIGER2 Si 500K",
    "detector_number": "E-01-0100",
    "data_collection_date": "2024-05-06T12:11:12.5+02:00",
    "auto_summation": True,
}
SHAPE = (16, 24)
"""(ny, nx) of the frames that it announces."""


def text(value: Any) -> bytes:
    return json.dumps(value).encode()


def v1_header(series: int = 5, detail: str = "basic", **config: Any) -> list[bytes]:
    """A start: without tables, and with a configuration unless `detail` is none. None takes a key away."""
    parts = [text({"header_detail": detail, "series": series, "htype": "dheader-1.0"})]
    if detail != "none":
        parts.append(text({key: value for key, value in (CONFIG | config).items() if value is not None}))
    if detail == "all":
        mask = np.zeros(SHAPE, "<u4")
        mask[0, 0], mask[1, 2], mask[15, 23] = 1, 2 | 16, 1 << 31
        parts += [text({"htype": "dflatfield-1.0", "shape": [24, 16], "type": "float32"}), np.ones(SHAPE, "<f4").tobytes()]
        parts += [text({"htype": "dpixelmask-1.0", "shape": [24, 16], "type": "uint32"}), mask.tobytes()]
        parts += [
            text({"htype": "dcountrate_table-1.0", "shape": [2, 9], "type": "float32"}),
            np.zeros((9, 2), "<f4").tobytes(),
        ]
    return parts


def v1_image(
    number: int = 0,
    series: int = 5,
    blob: bytes | None = None,
    encoding: str = "bs16-lz4<",
    *,
    name: str = "uint16",
    shape: Sequence[int] = (24, 16),
    times: dict[str, Any] | None = None,
) -> list[bytes]:
    """An image; by default compressed as detectors do it."""
    blob = bslz4(counts((shape[1], shape[0]), name, number)) if blob is None else blob
    first = {"htype": "dimage-1.0", "series": series, "frame": number, "hash": "fc67f000d08fe6b380ea9434b8362d22"}
    second = {"htype": "dimage_d-1.0", "shape": list(shape), "type": name, "encoding": encoding, "size": len(blob)}
    clock = {"htype": "dconfig-1.0", "start_time": 1000 * number, "stop_time": 1000 * number + 990, "real_time": 990}
    return [text(first), text(second), blob, text(clock | (times or {}))]


def v1_end(series: int = 5) -> list[bytes]:
    return [text({"htype": "dseries_end-1.0", "series": series})]


# CBOR: Stream V2


class Tag:
    def __init__(self, number: int, value: Any) -> None:
        self.number, self.value = number, value


class Indefinite(list):
    """A list or, of pairs of a key and a value, a map whose length is not announced."""


def head(major: int, n: int) -> bytes:
    if n < 24:
        return bytes([major << 5 | n])
    size = next(size for size in (1, 2, 4, 8) if n < 1 << 8 * size)
    return bytes([major << 5 | {1: 24, 2: 25, 4: 26, 8: 27}[size]]) + n.to_bytes(size, "big")


def cbor(value: Any) -> bytes:
    match value:
        case None | False | True:
            return {None: b"\xf6", False: b"\xf4", True: b"\xf5"}[value]
        case int():
            return head(0, value) if value >= 0 else head(1, -1 - value)
        case float():
            return b"\xfb" + struct.pack(">d", value)
        case str():
            return head(3, len(value.encode())) + value.encode()
        case bytes():
            return head(2, len(value)) + value
        case Tag():
            return head(6, value.number) + cbor(value.value)
        case dict():
            return head(5, len(value)) + b"".join(cbor(key) + cbor(entry) for key, entry in value.items())
        case Indefinite():
            if value and isinstance(value[0], tuple):
                return b"\xbf" + b"".join(cbor(key) + cbor(entry) for key, entry in value) + b"\xff"
            return b"\x9f" + b"".join(map(cbor, value)) + b"\xff"
        case list():
            return head(4, len(value)) + b"".join(map(cbor, value))
    raise TypeError(type(value))


TYPED = {"|u1": 64, ">u2": 65, ">u4": 66, ">u8": 67, "<u2": 69, "<u4": 70, "<u8": 71, "|i1": 72, ">i2": 73, ">i4": 74} | {
    "<i2": 77, "<i4": 78, ">f2": 80, ">f4": 81, ">f8": 82, "<f2": 84, "<f4": 85, "<f8": 86
}  # fmt: skip


def compressed(pixels: NDArray[Any], method: str) -> Any:
    """The bytes of an array, under tag 56500 unless `method` is raw."""
    if method == "bslz4":
        return Tag(56500, ["bslz4", pixels.itemsize, bslz4(pixels)])
    return Tag(56500, ["lz4", 0, hdf5_lz4(pixels)]) if method == "lz4" else pixels.tobytes()


def v2_array(pixels: NDArray[Any], method: str = "bslz4") -> Tag:
    return Tag(40, [list(pixels.shape), Tag(TYPED[pixels.dtype.str], compressed(pixels, method))])


UNIQUE = "01HX5Y8Z0000000000000000AB"
START: dict[str, Any] = {
    "type": "start",
    "arm_date": Tag(0, "2024-05-06T12:11:12.5+02:00"),
    "beam_center_x": 12.5,
    "beam_center_y": 7.25,
    "channels": ["threshold_1"],
    "count_time": 0.0099,
    "countrate_correction_enabled": True,
    "countrate_correction_lookup_table": Tag(70, bytes(4 * 512)),
    "detector_description": "EIGER2 Si 500K",
    "detector_serial_number": "E-01-0100",
    "detector_translation": [0.0, 0.0, 2.5],
    "flatfield_enabled": True,
    "frame_time": 0.01,
    "goniometer": {"omega": {"increment": 0.0, "start": 0.0}},
    "image_dtype": "uint16",
    "image_size_x": 24,
    "image_size_y": 16,
    "incident_energy": 8000.0,
    "incident_wavelength": 1.5498,
    "number_of_images": 6,
    "pixel_size_x": 7.5e-5,
    "pixel_size_y": 8.0e-5,
    "saturation_value": 50000,
    "series_id": 5,
    "series_unique_id": UNIQUE,
    "threshold_energy": {"threshold_1": 4000.0},
    "user_data": {"sample": "star", "position": [1, 2]},
}


def v2_start(prefix: bool = True, **changes: Any) -> bytes:
    """A start; None takes a key away."""
    message = {key: value for key, value in (START | changes).items() if value is not None}
    return cbor(Tag(55799, message) if prefix else message)


def v2_image(number: int = 0, data: Any = None, *, prefix: bool = True, **changes: Any) -> bytes:
    message = {
        "type": "image",
        "series_id": 5,
        "series_unique_id": UNIQUE,
        "image_id": number,
        "real_time": [495_000, 50_000_000],
        "series_date": Tag(0, "2024-05-06T12:11:13.5+02:00"),
        "start_time": [500_000 * number, 50_000_000],
        "stop_time": [500_000 * number + 495_000, 50_000_000],
        "user_data": "",
        "data": {"threshold_1": v2_array(counts(SHAPE, "<u2", number))} if data is None else data,
    }
    message = {key: value for key, value in (message | changes).items() if value is not None}
    return cbor(Tag(55799, message) if prefix else message)


def v2_end(**changes: Any) -> bytes:
    return cbor(Tag(55799, {"type": "end", "series_id": 5, "series_unique_id": UNIQUE} | changes))


# facts


def described(fact: Fact) -> Any:
    """A fact in terms that can be compared."""
    if isinstance(fact, Frames):
        pixels = [fact.payload.decode(i) for i in range(len(fact))]
        return fact.run, fact.number.tolist(), fact.timestamp_ns.tolist(), [(p.dtype.str, p.tolist()) for p in pixels]
    parts = getattr(fact, "parts", None)
    said = {name: getattr(fact, name) for name in getattr(fact, "__slots__", ()) if name != "parts"}
    if isinstance(parts, StartParts):
        values = {name: getattr(parts, name) for name in StartParts.__slots__}
        said |= {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in values.items()}
    return type(fact).__name__, str(fact) if isinstance(fact, Exception) else said


def known(facts: Sequence[Fact]) -> StartParts:
    """All that the facts say of the start of the latest run."""
    parts = StartParts()
    for fact in facts:
        if isinstance(fact, Learned):
            parts = fact.parts.over(parts)
        elif hasattr(fact, "parts"):
            parts = fact.parts
    return parts
