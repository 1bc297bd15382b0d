"""Documents to bytes and back."""

import contextlib
import json
import pickle
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from streamptycho.documents import PREFIX, dumps, frame, loads, unframe
from streamptycho.documents.wire import _DTYPES, ARRAY_CODE
from streamptycho.errors import CodecError
from streamptycho.messages.checks import MAX_METADATA_BYTES
from streamptycho.wire.codec import decode, encode
from tests.documents.helpers import Told, plain, whole_scan
from tests.files.factories import start as scan_start

SCALARS = (
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats(allow_nan=False) | st.text(max_size=20)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner, max_size=5),
    max_leaves=20,
)
ARRAYS = npst.arrays(
    st.sampled_from(_DTYPES).map(np.dtype), npst.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=5)
)


@given(st.dictionaries(st.text(max_size=8), VALUES, max_size=5))
def test_plain_values_come_back(doc):
    assert loads(dumps(doc)) == doc


@given(ARRAYS)
def test_arrays_come_back(array):
    again = loads(dumps({"a": array, "b": [array]}))
    for out in (again["a"], again["b"][0]):
        assert out.dtype == array.dtype
        assert out.shape == array.shape
        assert out.tobytes() == array.tobytes()
        assert out.flags.writeable
        assert out.flags.aligned


def test_arrays_of_any_layout():
    array = np.arange(24, dtype=">f4").reshape(2, 3, 4)[:, ::-1].T
    again = loads(dumps({"a": array}))["a"]
    assert again.dtype.str == "<f4"
    np.testing.assert_array_equal(again, array)


def test_numpy_scalars_become_numbers():
    again = loads(dumps({"a": np.float32(0.5), "b": np.int64(3), "c": np.array(2.5), "d": np.bool_(True)}))
    assert again == {"a": 0.5, "b": 3, "c": 2.5, "d": True}
    assert type(again["d"]) is bool


def test_the_bytes_are_those_of_the_documentation():
    array = np.array([[1, 2, 3]], np.uint16)
    expected = b"\x03<u2\x02" + struct.pack("<II", 1, 3) + struct.pack("<HHH", 1, 2, 3)
    assert msgpack.unpackb(dumps({"a": array}))["a"] == msgpack.ExtType(ARRAY_CODE, expected)
    assert frame("event", {"a": 1}) == b"streamptycho event \x81\xa1a\x01"
    text = (Path(__file__).parents[2] / "docs" / "documents.md").read_text()
    assert f"extension type {ARRAY_CODE}" in text
    assert all(f"`{name}`".replace("|", "\\|") in text for name in _DTYPES)


@pytest.mark.parametrize(
    "value",
    [np.array(["a"]), np.array([None]), np.zeros((1,) * 5), np.array([1], np.float16), object(), {1, 2}, 1 << 64, lambda: 0],
)
def test_what_cannot_be_sent(value):
    with pytest.raises(CodecError, match="cannot be sent"):
        dumps({"a": value})


@pytest.mark.parametrize("name", ["start", "descriptor", "event", "event_page", "stop"])
def test_messages_come_back(name):
    assert unframe(frame(name, {"a": " b ", "c": [1]})) == (name, {"a": " b ", "c": [1]})


@pytest.mark.parametrize(
    "message",
    [b"", b" ", b"  ", PREFIX, PREFIX + b" event", PREFIX + b"x event \x80", b"other event \x80", PREFIX + b" \xff \x80",
     PREFIX + b" resource \x80", PREFIX + b" start "],
)  # fmt: skip
def test_messages_that_are_none(message):
    with pytest.raises(CodecError):
        unframe(message)


def ext(data: bytes, code: int = ARRAY_CODE) -> bytes:
    return msgpack.packb({"a": msgpack.ExtType(code, data)})


HOSTILE = {
    "nothing": b"",
    "no map": msgpack.packb([1]),
    "a number": b"\x01",
    "a rest": b"\x80\x80",
    "cut off": msgpack.packb({"a": "text"})[:-1],
    "bytes": msgpack.packb({"a": b"raw"}),
    "keys": msgpack.packb({1: 2}),
    "keys inside": msgpack.packb({"a": [{b"k": 2}]}),
    "a time": msgpack.packb({"a": msgpack.Timestamp(1)}),
    "another type": ext(b"\x01", 5),
    "not UTF-8": b"\x81\xa1a\xa1\xff",
    "a pickle": b"cos\nsystem\n(S'true'\ntR.",
    "a list too long": b"\x81\xa1a\xdd\xff\xff\xff\xff",
    "lists in lists": b"\x81\xa1a" + b"\xdd\x00\x00\x0f\xff" * 100_000,
    "maps in maps": b"\x81\xa1a" * 100_000,
    "large maps in large maps": b"\x81\xa1a" + b"\xdf\x00\x00\x7f\xff\xa1a" * 100_000,
    "a map too large": b"\x81\xa1a\xdf\x00\x00\x80\x01" + b"\xc0" * 0x10002,
    "too deep": msgpack.packb({"a": [[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]}),
    "an array of nothing": ext(b""),
    "no axes": ext(b"\x03<f4\x00" + b"\0" * 4),
    "too many axes": ext(b"\x03<f4\x05" + struct.pack("<5I", *[1] * 5) + b"\0" * 4),
    "objects": ext(b"\x03|O8\x01" + struct.pack("<I", 1) + b"\0" * 8),
    "no text": ext(b"\x03\xff\xff\xff\x01"),
    "too large": ext(b"\x03<f4\x04" + struct.pack("<4I", *[0xFFFFFFFF] * 4)),
    "too large, but empty": ext(b"\x03<f4\x04" + struct.pack("<4I", *[0xFFFFFFFF] * 3, 0)),
    "too few": ext(b"\x03<f4\x01" + struct.pack("<I", 2) + b"\0" * 4),
    "too many": ext(b"\x03<f4\x01" + struct.pack("<I", 2) + b"\0" * 12),
    "a shape cut off": ext(b"\x03<f4\x04\0"),
    "truth of 2": ext(b"\x03|b1\x01" + struct.pack("<I", 1) + b"\x02"),
}


@pytest.mark.parametrize("payload", HOSTILE.values(), ids=HOSTILE)
def test_hostile_payloads(payload):
    tracemalloc.start()
    try:
        with pytest.raises(CodecError):
            loads(payload)
        assert tracemalloc.get_traced_memory()[1] < 10 * len(payload) + (64 << 20)
    finally:
        tracemalloc.stop()


@given(st.binary(max_size=200))
def test_any_bytes(payload):
    for read in (loads, lambda bytes_: unframe(PREFIX + b" event " + bytes_)):
        with contextlib.suppress(CodecError):
            read(payload)


@given(st.data())
def test_documents_with_wrong_bytes(data):
    payload = bytearray(dumps({"a": np.arange(6, dtype=np.float32), "b": {"c": ["text", 1.5, None]}}))
    for _ in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    try:
        doc: dict[str, Any] = loads(bytes(payload))
    except CodecError:
        return
    json.dumps(doc, default=plain)


def test_a_payload_that_is_too_long(monkeypatch):
    monkeypatch.setattr("streamptycho.documents.wire.MAX_PAYLOAD_BYTES", 10)
    with pytest.raises(CodecError, match="11 bytes"):
        loads(b"\0" * 11)


def test_a_scan_comes_back():
    told = Told()
    whole_scan(told)
    for name, doc in told.documents:
        again, content = unframe(frame(name, doc))
        assert again == name
        assert json.dumps(content, default=plain) == json.dumps(doc, default=plain)


def test_all_the_metadata_that_a_scan_may_have_comes_back():
    """Most entries in few bytes: names of two letters, values of one byte."""
    letters = [chr(code) for code in range(32, 127) if chr(code) not in "./"]
    names = [a + b for a in letters for b in letters] + [chr(code) for code in range(128, 0x800)]
    metadata: dict[str, Any] = dict.fromkeys(names, 1)
    metadata["text"] = "x" * (MAX_METADATA_BYTES - len(msgpack.packb(metadata | {"text": "x" * 1000})) + 1000)
    assert len(msgpack.packb(metadata)) == MAX_METADATA_BYTES
    start = decode([bytes(part) for part in encode(scan_start(metadata=metadata))])
    told = Told()
    told.say(start)
    (doc,) = told.of("start")
    assert len(doc["scan_metadata"]) == len(metadata) > 10_000
    assert unframe(frame("start", doc)) == ("start", doc)


PATCHED = """
import sys
import msgpack, msgpack_numpy
msgpack_numpy.patch()
import numpy as np
from streamptycho.documents import dumps, loads
from streamptycho.errors import CodecError
payload = bytes.fromhex(sys.argv[1])
assert loads(dumps({"a": np.arange(3)}))["a"].tolist() == [0, 1, 2]
try:
    loads(payload)
except CodecError as error:
    print("refused:", error)
msgpack.unpackb(payload)
"""


def test_a_process_in_which_msgpack_unpickles():
    """`msgpack_numpy.patch()`, which acquisition programs call, unpickles arrays of objects."""
    pytest.importorskip("msgpack_numpy", reason="msgpack-numpy is not installed")
    call = pickle.dumps(Shouting())
    table = {b"nd": True, b"kind": b"O", b"type": "|O", b"shape": [1], b"data": call}
    payload = msgpack.packb({"a": table})
    command = [sys.executable, "-c", PATCHED, payload.hex()]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert done.stdout.splitlines() == ["refused: document: a key is a bytes, not text", "unpickled"]


class Shouting:
    """Prints when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("unpickled",)
