"""Pixels, raw and compressed: what goes in comes out, and nothing else does."""

import random
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamptycho.errors import CodecError
from streamptycho.messages.payload import BSLZ4_HEADER, MAX_LZ4_RATIO, PIXEL_DTYPES, Encoding, Payload
from tests.strategies import bslz4, compress, stacks

RNG = np.random.default_rng(0)
SPECKLE = RNG.poisson(RNG.exponential(3.0, (1, 48, 64))).astype(np.uint16)


def chunk_payload(chunk: bytes, like: np.ndarray) -> Payload:
    return Payload(chunks=(memoryview(chunk),), encoding=Encoding.BSLZ4, dtype=like.dtype, shape=like.shape[-2:])


@given(stacks(), st.sampled_from([0, 8, 64, 1024]))
def test_pixels_survive(frames: np.ndarray, block: int):
    for payload in (Payload.raw(frames), bslz4(frames, block)):
        assert len(payload) == len(frames)
        assert payload.shape == frames.shape[1:]
        assert payload.frame_bytes == frames[0].nbytes
        assert payload.nbytes == sum(len(chunk) for chunk in payload.chunks)
        for i, frame in enumerate(frames):
            pixels = payload.decode(i)
            assert pixels.dtype == frame.dtype
            assert pixels.tobytes() == frame.tobytes()
            assert pixels.shape == frame.shape
            assert not pixels.flags.writeable


@pytest.mark.parametrize("dtype", PIXEL_DTYPES)
def test_frames_of_many_blocks_survive(dtype: str):
    frame = RNG.poisson(2.0, (1, 150, 170)).astype(dtype)
    assert len(compress(frame[0])) < frame.nbytes
    assert np.array_equal(bslz4(frame).decode(), frame[0])


def test_one_frame_is_a_stack_of_one():
    payload = Payload.raw(SPECKLE[0])
    assert len(payload) == 1
    assert np.array_equal(payload.decode(), SPECKLE[0])


def test_raw_shares_memory_and_cannot_be_written_through():
    payload = Payload.raw(SPECKLE)
    assert np.shares_memory(payload.decode(), SPECKLE)
    assert payload.chunks[0].readonly
    with pytest.raises(ValueError, match="read-only"):
        payload.decode()[0, 0] = 1


@pytest.mark.parametrize("encoding", Encoding)
def test_pixels_of_writable_chunks_are_read_only(encoding: Encoding):
    chunk = SPECKLE.tobytes() if encoding is Encoding.RAW else compress(SPECKLE[0])
    payload = Payload(
        chunks=(memoryview(bytearray(chunk)),), encoding=encoding, dtype=SPECKLE.dtype, shape=SPECKLE.shape[1:]
    )
    assert not payload.decode().flags.writeable


def test_decompressed_pixels_cannot_be_made_writable():
    with pytest.raises(ValueError, match="WRITEABLE"):
        bslz4(SPECKLE).decode().flags.writeable = True


def test_raw_copies_what_is_not_contiguous():
    assert np.array_equal(Payload.raw(SPECKLE[:, ::2, ::-1]).decode(), SPECKLE[0, ::2, ::-1])
    assert np.array_equal(Payload.raw(SPECKLE.transpose(0, 2, 1)).decode(), SPECKLE[0].T)


def test_raw_turns_big_endian_round():
    payload = Payload.raw(SPECKLE.astype(">u2"))
    assert payload.dtype == np.dtype("<u2")
    assert np.array_equal(payload.decode(), SPECKLE[0])


def test_big_endian_chunks_are_refused():
    with pytest.raises(CodecError, match="little-endian") as caught:
        Payload(chunks=(memoryview(bytes(8)),), encoding=Encoding.RAW, dtype=np.dtype(">u2"), shape=(2, 2))
    assert caught.value.field == "frame.dtype"


@pytest.mark.parametrize("dtype", ["float64", "int64", "uint64", "bool", "complex64", "V8", "S4", "M8[ns]", "O", "u2,u2"])
def test_other_types_are_refused(dtype: str):
    with pytest.raises(CodecError) as caught:
        Payload(chunks=(), encoding=Encoding.RAW, dtype=np.dtype(dtype), shape=(2, 2))
    assert caught.value.field == "frame.dtype"


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (-4, 4), (-4, -4), (0, 0)])
def test_empty_and_negative_shapes_are_refused(shape: tuple[int, int]):
    with pytest.raises(CodecError) as caught:
        Payload(chunks=(), encoding=Encoding.RAW, dtype=np.dtype("u2"), shape=shape)
    assert caught.value.field == "frame.shape"


@pytest.mark.parametrize("size", [0, 1, 47 * 64 * 2, 48 * 64 * 2 - 1, 48 * 64 * 2 + 1, 48 * 64 * 4])
def test_raw_chunk_of_another_size_is_refused(size: int):
    with pytest.raises(CodecError, match=f"{size} bytes") as caught:
        Payload(chunks=(memoryview(bytes(size)),), encoding=Encoding.RAW, dtype=np.dtype("u2"), shape=(48, 64))
    assert caught.value.field == "frame.payload"


def test_header_is_that_of_the_hdf5_filter():
    chunk = compress(SPECKLE[0])
    assert BSLZ4_HEADER.unpack_from(chunk) == (SPECKLE.nbytes, 8192)


@pytest.mark.parametrize(
    ("total", "block"),
    [(total, 8192) for total in (0, 6143, 6145, 10**12, 2**63, 2**64 - 1)]
    + [(6144, block) for block in (0, 8, 8191, 2**31, 2**32 - 16)],
)
def test_header_that_does_not_fit_the_frame_is_refused(total: int, block: int):
    with pytest.raises(CodecError, match="bslz4") as caught:
        chunk_payload(struct.pack(">QI", total, block) + compress(SPECKLE[0])[12:], SPECKLE)
    assert caught.value.field == "frame.payload"


@pytest.mark.parametrize("size", [0, 1, 11])
def test_chunk_without_a_whole_header_is_refused(size: int):
    with pytest.raises(CodecError, match="too short"):
        chunk_payload(compress(SPECKLE[0])[:size], SPECKLE)


def test_twelve_zero_bytes_are_refused():
    with pytest.raises(CodecError):
        chunk_payload(bytes(12), SPECKLE)


@pytest.mark.parametrize("nelems", [0, 8, 1 << 18, 1 << 20])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32"])
def test_no_real_frame_exceeds_the_ratio(dtype: str, nelems: int):
    """An empty frame in one large block is the best that LZ4 can do."""
    dark = np.zeros((1, 1024, 1024), dtype)
    payload = bslz4(dark, nelems)
    assert payload.nbytes * MAX_LZ4_RATIO > dark.nbytes
    assert not payload.decode().any()


@pytest.mark.parametrize("side", [10**5, 10**6, 2**31])
def test_header_and_shape_that_agree_on_a_lie_allocate_nothing(side: int):
    chunk = struct.pack(">QI", side * side * 2, 8192) + bytes(1000)
    tracemalloc.start()
    with pytest.raises(CodecError, match="cannot hold"):
        Payload(chunks=(memoryview(chunk),), encoding=Encoding.BSLZ4, dtype=np.dtype("u2"), shape=(side, side))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000


@pytest.mark.parametrize("returned", [b"", bytes(SPECKLE.nbytes - 1), bytes(SPECKLE.nbytes + 2)], ids=len)
def test_decompressor_is_not_trusted_with_the_size(monkeypatch: pytest.MonkeyPatch, returned: bytes):
    monkeypatch.setattr("streamptycho.messages.payload.decompress", lambda *_, **__: returned)
    with pytest.raises(CodecError, match=f"give {len(returned)} bytes"):
        bslz4(SPECKLE).decode()


def corrupt(rng: random.Random, good: bytes, start: int = 0) -> bytes:
    """`good` with a few accidents from byte `start` on."""
    data = bytearray(good)
    for _ in range(rng.choice([1, 1, 1, 2, 5, 20])):
        at = rng.randrange(start, max(len(data), start + 1))
        match rng.randrange(6):
            case 0:
                data[at : at + 1] = bytes([rng.randrange(256)])
            case 1 if at < len(data):
                data[at] ^= 1 << rng.randrange(8)
            case 2:
                del data[at:]
            case 3:
                del data[at : at + rng.randrange(1, 9)]
            case 4:
                data[at:at] = rng.randbytes(rng.randrange(1, 9))
            case _:
                data[at : at + 4] = rng.choice([b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80\0\0\0"])
    return bytes(data)


@pytest.mark.parametrize("start", [0, 12], ids=["anywhere", "behind-the-header"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_corrupt_chunks_are_refused_or_give_a_frame(dtype: str, start: int):
    frame = SPECKLE.astype(dtype)
    good = compress(frame[0], 512)
    rng = random.Random(f"{dtype} {start}")
    refused: list[str] = []
    decoded = 0
    for _ in range(4000):
        chunk = corrupt(rng, good, start)
        try:
            pixels = chunk_payload(chunk, frame).decode()
        except CodecError as error:
            refused.append(error.field)
        else:
            assert pixels.shape == frame.shape[1:]
            assert pixels.dtype == frame.dtype
            decoded += 1
    assert len(refused) > 1000
    assert set(refused) == {"frame.payload"}
    assert decoded > 0


@settings(max_examples=200)
@given(st.binary(max_size=300), st.sampled_from([64, 128, 8192]))
def test_random_blocks_are_refused_or_give_a_frame(body: bytes, block: int):
    try:
        pixels = chunk_payload(struct.pack(">QI", SPECKLE.nbytes, block) + body, SPECKLE).decode()
    except CodecError:
        return
    assert pixels.shape == SPECKLE.shape[1:]
