"""Compression and stored chunks."""

import h5py
import hdf5plugin
import numpy as np
import pytest

from streamptycho.files.bslz4 import chunk_encoding, compress, filter_options, stored_chunk
from streamptycho.payload import BSLZ4_HEADER, PIXEL_DTYPES, Encoding
from tests.files.factories import pixels


@pytest.mark.parametrize("dtype", PIXEL_DTYPES)
@pytest.mark.parametrize("shape", [(16, 24), (7, 5), (1, 1), (128, 128)])
def test_compressed_frames_decode_to_the_same_bits(dtype, shape):
    frames = pixels(3, shape, dtype)
    payload = compress(frames)
    assert (len(payload), payload.encoding, payload.shape) == (3, Encoding.BSLZ4, shape)
    for i, frame in enumerate(frames):
        assert payload.decode(i).tobytes() == frame.tobytes()


def test_it_compresses():
    payload = compress(pixels(4, (128, 128)))
    assert payload.nbytes < 0.6 * 4 * 128 * 128 * 2


def test_the_header_is_that_of_the_detector():
    frames = pixels(2)
    for chunk in compress(frames).chunks:
        total, block = BSLZ4_HEADER.unpack_from(chunk)
        assert total == frames[0].nbytes
        assert block % (8 * 2) == 0


def test_a_single_frame_and_foreign_byte_order():
    frame = pixels(1)[0]
    payload = compress(frame.astype(">u2"))
    assert len(payload) == 1
    assert payload.dtype == np.dtype("<u2")
    assert np.array_equal(payload.decode(), frame)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (filter_options("bslz4"), Encoding.BSLZ4),
        (filter_options("none"), Encoding.RAW),
        (dict(hdf5plugin.Bitshuffle(cname="zstd")), None),
        (dict(hdf5plugin.Bitshuffle(cname="none")), None),
        ({"compression": "gzip"}, None),
        ({"shuffle": True, **filter_options("bslz4")}, None),
    ],
)
def test_only_plain_bslz4_chunks_are_recognised(tmp_path, options, expected):
    with h5py.File(tmp_path / "f.h5", "w") as file:
        dataset = file.create_dataset("d", data=pixels(2), chunks=(1, 16, 24), **options)
        assert chunk_encoding(dataset) is expected


@pytest.mark.parametrize("layout", [{"chunks": (2, 16, 24)}, {"chunks": (1, 8, 24)}, {"chunks": None}])
def test_chunks_of_other_shapes_are_not(tmp_path, layout):
    with h5py.File(tmp_path / "f.h5", "w") as file:
        assert chunk_encoding(file.create_dataset("d", data=pixels(2), **layout)) is None


def test_big_endian_chunks_are_not(tmp_path):
    with h5py.File(tmp_path / "f.h5", "w") as file:
        dataset = file.create_dataset("d", data=pixels(2).astype(">u2"), chunks=(1, 16, 24), **filter_options("bslz4"))
        assert chunk_encoding(dataset) is None


def test_chunks_that_are_missing_or_bypassed_the_filter_give_none(tmp_path):
    frames = pixels(3)
    with h5py.File(tmp_path / "f.h5", "w") as file:
        dataset = file.create_dataset("d", (3, 16, 24), "u2", chunks=(1, 16, 24), **filter_options("bslz4"))
        dataset[1] = frames[1]
        dataset.id.write_direct_chunk((2, 0, 0), frames[2].tobytes(), filter_mask=1)
        file.flush()
        assert stored_chunk(dataset, 0) is None
        assert stored_chunk(dataset, 1) == compress(frames[1]).chunks[0]
        assert stored_chunk(dataset, 2) is None
