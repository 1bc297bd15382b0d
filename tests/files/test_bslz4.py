"""Compression and stored chunks."""

from dataclasses import replace

import h5py
import hdf5plugin
import numpy as np
import pytest

from streamptycho.files import bslz4 as module
from streamptycho.files.bslz4 import chunk_encoding, compress, decodes, filter_options, load_walk, stored_chunk, walk
from streamptycho.messages.payload import BSLZ4_HEADER, PIXEL_DTYPES, Encoding, Payload
from tests.files.factories import pixels
from tests.strategies import bslz4


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


# what can be decompressed


def scenes() -> list[Payload]:
    """Frames with long runs and without, in whole blocks and with a rest, in blocks of several sizes."""
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:64, :64] - 32
    pattern = 3000 / (1 + np.hypot(y, x) ** 2)
    made = [bslz4(rng.poisson(pattern, (2, 64, 64)).astype(dtype)) for dtype in ("uint8", "uint16", "uint32", "int32")]
    made += [bslz4(rng.integers(0, 256, (1, 33, 31)).astype("uint8")), bslz4(np.zeros((1, 7, 5), "float32"))]
    made += [bslz4(rng.poisson(0.01, (1, 200, 90)).astype("uint16"), elements) for elements in (0, 8, 512, 8192)]
    return [*made, compress(rng.poisson(pattern, (1, 64, 64)).astype("uint16"))]


def arguments(payload: Payload) -> tuple[int, int, int]:
    total, block = BSLZ4_HEADER.unpack_from(payload.chunks[0])
    return total, block, 8 * payload.dtype.itemsize


@pytest.mark.parametrize("payload", [pytest.param(payload, id=str(i)) for i, payload in enumerate(scenes())])
def test_what_encoders_make_passes_without_being_decompressed(payload):
    for i, chunk in enumerate(payload.chunks):
        pixels = np.frombuffer(chunk, np.uint8)
        assert load_walk()(pixels, *arguments(payload))
        assert walk(pixels, *arguments(payload)), "as it stands here"
        assert decodes(payload, i)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 30))])
def test_what_passes_every_decoder_decompresses(seed):
    rng = np.random.default_rng(seed)
    compiled, passed = load_walk(), 0
    with h5py.File(f"m{seed}", "w", driver="core", backing_store=False) as file:
        for at, payload in enumerate(scenes()):
            dataset = file.create_dataset(
                str(at), (1, *payload.shape), payload.dtype, chunks=(1, *payload.shape), **filter_options("bslz4")
            )
            for _ in range(400):
                chunk = mutated(payload.chunks[0], rng)
                if not compiled(np.frombuffer(chunk, np.uint8), *arguments(payload)):
                    continue
                passed += 1
                replace(payload, chunks=(memoryview(chunk),)).decode(0)
                dataset.id.write_direct_chunk((0, 0, 0), chunk)
                assert dataset[0].shape == payload.shape
    assert passed > 50, "changed pixels are no broken bytes"


def mutated(chunk: memoryview, rng: np.random.Generator) -> bytes:
    """Behind the header some bytes changed, or the end cut off, doubled or filled up."""
    made = bytearray(chunk)
    for _ in range(rng.integers(1, 4)):
        made[rng.integers(12, len(made))] = rng.choice([0, 1, 15, 16, 127, 240, 255, rng.integers(256)])
    kind, cut = rng.integers(12), int(rng.integers(12, len(made) + 1))
    return bytes(
        made[:cut] if kind == 0 else made[:cut] + made[12:] if kind == 1 else made + bytes(3) if kind == 2 else made
    )


def test_what_does_not_convince_is_decompressed(monkeypatch):
    monkeypatch.setattr(module, "load_walk", lambda: lambda *arguments: False)
    good = bslz4(np.ones((1, 16, 16), "uint16"))
    assert decodes(good, 0)
    assert not decodes(replace(good, chunks=(memoryview(bytes(good.chunks[0])[:-1]),)), 0)
    assert decodes(Payload.raw(np.ones((16, 16), "uint16")), 0)
