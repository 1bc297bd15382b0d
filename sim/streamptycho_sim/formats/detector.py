"""What the publishers of DECTRIS formats share: frames as bytes in the encodings that detectors have."""

import struct
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from streamptycho.files.bslz4 import compress, compress_lz4
from streamptycho.messages.payload import Encoding, Payload
from streamptycho.messages.stream import ScanStart
from streamptycho.wire.codec import Part

Compression = Literal["bslz4", "lz4", "none"]
_FRAMED = struct.Struct(">QII")


def encoded(payload: Payload, compression: Compression) -> list[Part]:
    """Bytes of each frame, as bslz4 with its header, as LZ4 framed as in HDF5, or raw."""
    if compression == "none":
        return [payload.decode(i).tobytes() for i in range(len(payload))]
    if compression == "bslz4":
        return list((payload if payload.encoding is Encoding.BSLZ4 else compress(_pixels(payload))).chunks)
    return list(compress_lz4(_pixels(payload), payload.frame_bytes))


def bare_lz4(framed: Part) -> bytes:
    """The only block of what :func:`encoded` gives as LZ4, without what HDF5 puts before it."""
    total, _, size = _FRAMED.unpack_from(framed)
    block = bytes(framed[_FRAMED.size :])
    if size < total:
        return block
    # stored as it is: literals alone, in a block of its own right
    rest = total - 15
    long = b"\xf0" + b"\xff" * (rest // 255) + bytes([rest % 255]) if rest >= 0 else bytes([total << 4])
    return long + block


def mask(start: ScanStart) -> NDArray[np.uint32]:
    """(ny, nx) pixel mask of NeXus bits: pixels that are not valid are dead."""
    valid = np.ones(start.geometry.frame_shape, np.bool_) if start.valid is None else start.valid
    return np.where(valid, 0, 2).astype("<u4")


def _pixels(payload: Payload) -> NDArray[np.generic]:
    return np.stack([payload.decode(i) for i in range(len(payload))])
