"""Frames in every encoding, by bytes that were put together by hand."""

import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamptycho.dialects.pixels import Codec, Layout, array, payload, unpack_block
from streamptycho.errors import CodecError
from streamptycho.messages.payload import Encoding
from tests.dialects.by_hand import bslz4, bslz4_blocks, counts, hdf5_lz4, literal_block, lz4_block, run_block

RAW, BSLZ4, LZ4 = Codec.RAW, Codec.BSLZ4, Codec.LZ4
SHAPES = [(16, 24), (64, 128), (67, 129), (1, 3), (100, 82)]
"""Whole groups of eight elements; two whole blocks; a block and a left-over; less than a group; a short last block."""


def layout(pixels: np.ndarray, codec: Codec = RAW, **more) -> Layout:
    return Layout(pixels.shape, pixels.dtype, codec, **more)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", ["u1", "<u2", "<u4", "<i2", "<i4", "<f4"])
def test_what_is_ours_is_held_as_it_came(shape, dtype):
    pixels = counts(shape, dtype)
    raw = memoryview(pixels.tobytes())
    frame = payload(raw, layout(pixels))
    assert frame.encoding is Encoding.RAW
    assert frame.chunks[0].obj is raw.obj
    chunk = memoryview(bslz4(pixels))
    frame = payload(chunk, layout(pixels, BSLZ4))
    assert frame.encoding is Encoding.BSLZ4
    assert frame.chunks[0].obj is chunk.obj
    np.testing.assert_array_equal(frame.decode(), pixels, strict=True)


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape != (1, 3)])
@pytest.mark.parametrize("dtype", ["u1", "<u2", "<u4"])
@pytest.mark.parametrize("header", ["none", "zeros", "no block", "no size"])
def test_a_header_that_is_left_out_is_put_before_the_blocks(shape, dtype, header):
    pixels = counts(shape, dtype)
    first = {"none": b"", "zeros": bytes(12), "no block": struct.pack(">QI", pixels.nbytes, 0)}
    first["no size"] = struct.pack(">QI", 0, 8192)
    frame = payload(memoryview(first[header] + bslz4_blocks(pixels)), layout(pixels, BSLZ4))
    assert frame.encoding is Encoding.BSLZ4
    assert bytes(frame.chunks[0]) == bslz4(pixels)
    np.testing.assert_array_equal(frame.decode(), pixels, strict=True)


def test_other_blocks_are_kept():
    pixels = counts((100, 82), "<u2")
    for block in (16, 1024, 16384, 65536):
        chunk = bslz4(pixels, block)
        frame = payload(memoryview(chunk), layout(pixels, BSLZ4))
        assert bytes(frame.chunks[0]) == chunk
        np.testing.assert_array_equal(frame.decode(), pixels)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("dtype", "codec"),
    [*((dtype, LZ4) for dtype in ("u1", "<u2", "<i2")), *((dtype, how) for dtype in (">u2", ">u4", ">f4") for how in Codec)],
)
def test_the_rest_is_decoded(shape, dtype, codec):
    pixels = counts(shape, dtype)
    encode = {RAW: lambda a: a.tobytes(), BSLZ4: bslz4, LZ4: lambda a: lz4_block(a.tobytes())}[codec]
    frame = payload(memoryview(encode(pixels)), layout(pixels, codec))
    assert frame.encoding is Encoding.RAW
    np.testing.assert_array_equal(frame.decode(), pixels.astype(pixels.dtype.newbyteorder("<")), strict=True)


@pytest.mark.parametrize("block", [7, 1000, 4096, 1 << 20])
def test_lz4_may_be_framed_as_in_hdf5(block):
    pixels = counts((100, 82), "<u2")
    frame = payload(memoryview(hdf5_lz4(pixels, block)), layout(pixels, LZ4))
    np.testing.assert_array_equal(frame.decode(), pixels, strict=True)


def test_a_bare_block_as_long_as_the_frame_is_no_stored_one():
    literals, tail = bytes(range(1, 60)), bytes(range(100, 110))
    # token, length and literals; a match of five at distance 1; token and literals
    block = bytes([0xF1, len(literals) - 15]) + literals + bytes([1, 0]) + literal_block(tail)
    data = literals + literals[-1:] * 5 + tail
    assert len(block) == len(data)
    pixels = np.frombuffer(data, "u1").reshape(1, -1)
    np.testing.assert_array_equal(payload(memoryview(block), layout(pixels, LZ4)).decode(), pixels)


@pytest.mark.parametrize("n", [21, 25, 30, 300, 70_000])
def test_blocks_in_plain_python(n):
    assert unpack_block(memoryview(run_block(9, n)), n) == bytes([9]) * n
    data = bytes(i % 251 for i in range(n))
    assert unpack_block(memoryview(literal_block(data)), n) == data
    with pytest.raises(CodecError, match="do not decompress"):
        unpack_block(memoryview(literal_block(data)), n - 1)


@pytest.mark.parametrize(
    ("sent", "kept"), [("i1", "int16"), ("<f8", "float32"), (">f8", "float32"), ("<f2", "float32"), (">f2", "float32")]
)
def test_types_that_are_not_ours_become_the_next_that_is(sent, kept):
    pixels = counts((16, 24), "u1").astype(sent)
    frame = payload(memoryview(pixels.tobytes()), layout(pixels))
    np.testing.assert_array_equal(frame.decode(), pixels.astype(kept), strict=True)


def test_pixels_of_64_bits_are_kept_where_they_fit_what_was_announced():
    for dtype in ("<u8", ">u8", "<i8"):
        pixels = counts((16, 24), dtype)
        pixels[3, 4] = 65535
        chunk = memoryview(bslz4(pixels, 8192))
        frame = payload(chunk, layout(pixels, BSLZ4), np.dtype("<u2"))
        np.testing.assert_array_equal(frame.decode(), pixels.astype("<u2"), strict=True)
        for announced in (None, np.dtype("<f4"), np.dtype("<u8")):
            with pytest.raises(CodecError, match="64 pixels cannot be kept; let the sender store at most uint32"):
                payload(chunk, layout(pixels, BSLZ4), announced)
        pixels[3, 4] = 65536
        with pytest.raises(CodecError, match="of up to 65536 do not fit the announced uint16"):
            payload(memoryview(pixels.tobytes()), layout(pixels), np.dtype("<u2"))


def test_an_element_of_another_size_than_the_pixel():
    pixels = counts((16, 24), "<u4")
    frame = payload(memoryview(bslz4(pixels.view("u1"))), layout(pixels, BSLZ4, element=1))
    np.testing.assert_array_equal(frame.decode(), pixels, strict=True)


def test_columns_first():
    pixels = counts((16, 24), "<u2")
    frame = payload(memoryview(np.asfortranarray(pixels).tobytes(order="F")), layout(pixels, column_major=True))
    np.testing.assert_array_equal(frame.decode(), pixels, strict=True)


BAD = {
    "cut": (RAW, lambda p: p.tobytes()[:-1]),
    "too long": (RAW, lambda p: p.tobytes() + b"\0"),
    "no bytes": (BSLZ4, lambda p: b""),
    "another size": (BSLZ4, lambda p: struct.pack(">QI", p.nbytes + 2, 8192) + bslz4_blocks(p)),
    "a block of 12 bytes": (BSLZ4, lambda p: struct.pack(">QI", p.nbytes, 12) + bslz4_blocks(p)),
    "lz4 of nothing": (LZ4, lambda p: b""),
    "lz4 cut": (LZ4, lambda p: lz4_block(p.tobytes())[:-1]),
    "lz4 of another size": (LZ4, lambda p: lz4_block(p.tobytes() + b"\0")),
    "framed, cut": (LZ4, lambda p: hdf5_lz4(p)[:-1]),
    "framed, another size": (LZ4, lambda p: struct.pack(">QI", 1 << 40, 1000) + hdf5_lz4(p)[12:]),
    "framed, block 0": (LZ4, lambda p: struct.pack(">QI", p.nbytes, 0) + hdf5_lz4(p)[12:]),
    "zeros": (LZ4, lambda p: bytes(100)),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("order", "<>")
def test_what_is_no_such_frame_is_refused(name, order):
    codec, spoil = BAD[name]
    pixels = counts((40, 41), f"{order}u2")
    with pytest.raises(CodecError, match=r"frame\.payload"):
        payload(memoryview(spoil(pixels)), layout(pixels, codec)).decode()


def test_a_frame_that_no_detector_has_is_refused():
    for shape in ((0, 4), (4, 0), (1 << 40, 1 << 40), (1 << 14, 1 << 13)):
        with pytest.raises(CodecError, match="pixels"):
            Layout(shape, np.dtype("<u2"))


@given(st.binary(max_size=200), st.sampled_from(list(Codec)), st.sampled_from(["u1", "<u2", ">u2", "<u4", "<u8", "<f8"]))
def test_no_bytes_do_harm(chunk, codec, dtype):
    how = Layout((9, 11), np.dtype(dtype), codec)
    for decode in (lambda: payload(memoryview(chunk), how, np.dtype("<u4")).decode(), lambda: array(memoryview(chunk), how)):
        try:
            assert decode().shape == (9, 11)
        except CodecError:
            continue


def test_nothing_is_allocated_for_a_size_that_the_bytes_say():
    small = Layout((9, 11), np.dtype(">u4"), BSLZ4)
    big = Layout((8000, 8000), np.dtype(">u4"), LZ4)  # could be, but not in so few bytes
    tracemalloc.start()
    try:
        for total in (1 << 30, 1 << 40, (1 << 64) - 1):
            for how in (small, Layout(small.shape, small.dtype, LZ4)):
                with pytest.raises(CodecError):
                    array(memoryview(struct.pack(">QI", total, 8192) + bytes(100)), how)
        for chunk in (struct.pack(">QI", big.nbytes, 8192) + bytes(100), b"\x1f" + bytes(100)):
            with pytest.raises(CodecError, match=r"cannot hold|do not decompress"):
                array(memoryview(chunk), big)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
