"""CBOR by the examples of RFC 8949 and by bytes that mean harm; objects alike, and those that only look so."""

import math
import struct
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamptycho.dialects.dectris.cbor import MAX_DEPTH, MAX_ITEMS, Alike, read
from streamptycho.errors import CodecError
from tests.dialects.by_hand import Indefinite, Tag, cbor, head

RFC_8949 = {
    "00": 0, "17": 23, "1818": 24, "1903e8": 1000, "1a000f4240": 1000000, "1bffffffffffffffff": 18446744073709551615,
    "20": -1, "3863": -100, "3903e7": -1000, "3bffffffffffffffff": -18446744073709551616, "f90000": 0.0, "f93c00": 1.0,
    "f97bff": 65504.0, "fa47c35000": 100000.0, "fb7e37e43c8800759c": 1.0e300, "f9c400": -4.0, "f97c00": math.inf,
    "f4": False, "f5": True, "f6": None, "f7": None, "f0": None, "f8ff": None, "60": "", "6449455446": "IETF",
    "62c3bc": "\u00fc", "80": [], "83010203": [1, 2, 3], "8301820203820405": [1, [2, 3], [4, 5]], "a0": {},
    "a26161016162820203": {"a": 1, "b": [2, 3]}, "9fff": [], "9f018202039f0405ffff": [1, [2, 3], [4, 5]],
    "bf61610161629f0203ffff": {"a": 1, "b": [2, 3]}, "826161bf61626163ff": ["a", {"b": "c"}],
    "7f657374726561646d696e67ff": "streaming", "c11a514b67b0": (1, 1363896240), "d9d9f700": (55799, 0),
}  # fmt: skip


@pytest.mark.parametrize("text", RFC_8949)
def test_examples_of_the_standard(text):
    data = bytes.fromhex(text)
    for buffer in (data, memoryview(data)):
        value, end = read(buffer)
        assert (value, end) == (RFC_8949[text], len(data))
        assert read(b"\x00" + data + b"\x00", 1) == (value, 1 + len(data))
    for cut in range(len(data)):
        with pytest.raises(CodecError, match=r"cbor: the object at byte 0 is cut off"):
            read(data[:cut])


def test_byte_strings_are_views():
    data = bytes.fromhex("4401020304")
    value, end = read(data)
    assert (bytes(value), end, value.obj is data) == (b"\1\2\3\4", 5, True)
    value, end = read(bytes.fromhex("5f42010243030405ff"))
    assert (bytes(value), end) == (b"\1\2\3\4\5", 9)


BAD = {
    "1c": "begins nothing",
    "3d00": "begins nothing",
    "5e": "begins nothing",
    "fc": "begins nothing",
    "1f": "begins nothing",
    "df00": "begins nothing",
    "ff": "begins nothing",
    "81ff": "begins nothing",
    "bf6161ff": "a text for every value",
    "a10100": "the key of a map is a int",
    "a1410000": "the key of a map is a memoryview",
    "bf0100ff": "a text for every value",
    "5f6161ff": "a string in pieces",
    "7f4161ff": "a string in pieces",
    "61ff": "not UTF-8",
    "5b7fffffffffffffff": "cut off",
    "9bffffffffffffffff": "more than",
    "bbffffffffffffffff": "more than",
    "99ffff": "more than",
    "991000": "cut off",
    "81" * (MAX_DEPTH + 1) + "00": "nested more than",
    "c1" * (MAX_DEPTH + 1) + "00": "nested more than",
    "9f" * 5000: "nested more than",
    "9f" + "00" * (MAX_ITEMS + 1) + "ff": "more than",
    "82" + ("99" + f"{MAX_ITEMS // 2:04x}" + "00" * (MAX_ITEMS // 2)) * 2: "more than",
}


@pytest.mark.parametrize("text", BAD)
def test_what_is_no_object_or_too_large_is_refused(text):
    with pytest.raises(CodecError, match=BAD[text]):
        read(bytes.fromhex(text))


def test_no_number_in_the_bytes_allocates():
    tracemalloc.start()
    try:
        for first in (0x5B, 0x7B, 0x9B, 0xBB):
            for n in (1 << 20, 1 << 40, (1 << 64) - 1):
                with pytest.raises(CodecError):
                    read(bytes([first]) + struct.pack(">Q", n) + bytes(50))
        assert tracemalloc.get_traced_memory()[1] < 1 << 16
    finally:
        tracemalloc.stop()


@given(st.binary(max_size=60))
def test_no_bytes_do_harm(data):
    try:
        value, end = read(data)
    except CodecError:
        return
    assert 0 < end <= len(data)
    try:
        alike = Alike.of(data, 0, end, 0, {("a",): True, (0,): False})
        assert alike is not None
        found = alike.match(data, 0)
    except RecursionError:  # never: depth is bounded
        pytest.fail(f"{value!r}")
    assert found is not None
    assert found[2] == end


# objects alike

VARYING = {("number",): True, ("time", 0): True, ("count",): False}


def image(number: int, blob: bytes, name: str = "a", time: tuple[int, int] = (1, 2), more: object = None) -> bytes:
    message = {"type": "image", "number": number, "time": list(time), "name": name, "more": more, "count": number}
    return cbor(Tag(55799, message | {"data": {"x": Tag(40, [[4, 4], Tag(64, blob)])}, "id": 7}))


def like(data: bytes, at: int = 0) -> Alike:
    end = read(data, at)[1]
    alike = Alike.of(data, at, end, 100, VARYING)
    assert alike is not None
    return alike


@given(
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**64 - 1),
    st.binary(min_size=64, max_size=400),
    st.binary(max_size=5),
    st.binary(max_size=5),
)
def test_what_varies_is_read_as_in_full(number, time, blob, before, behind):
    alike = like(image(3, bytes(100)))
    data = before + image(number, blob, time=(time, 2)) + behind
    found = alike.match(memoryview(data), len(before))
    assert found is not None
    numbers, strings, end = found
    assert dict(zip(alike.names, numbers, strict=True)) == {("number",): number, ("time", 0): time}
    assert [(path[:2], bytes(string)) for path, string in zip(alike.strings, strings, strict=True)] == [
        (("data", "x"), blob)
    ]
    assert end == len(data) - len(behind)


@pytest.mark.parametrize(
    "other",
    [
        image(4, bytes(100), name="b"),
        image(4, bytes(100), time=(5, 3)),
        image(4, bytes(100), more=1),
        image(-4, bytes(100)),
        image(4, bytes(100))[3:],
        image(4, bytes(100))[:-1],
        image(4, bytes(100))[:-3],
        image(4, bytes(100)).replace(b"number", b"NUMBER"),
        b"",
    ],
)
def test_other_objects_are_not_alike(other):
    assert like(image(3, bytes(100))).match(other, 0) is None


def test_a_string_that_ends_behind_the_bytes_is_not_alike():
    data = image(4, bytes(100)).replace(head(2, 100), head(2, 2**63 + 100))
    assert like(image(3, bytes(100))).match(data, 0) is None


def test_lists_and_maps_without_a_length():
    message = Indefinite([("number", 5), ("time", Indefinite([7, 8])), ("data", bytes(100)), ("nothing", Indefinite([]))])
    data = cbor(message)
    numbers, strings, end = like(b"\0" + data, 1).match(data.replace(b"number\x05", b"number\x18\x63"), 0)
    assert (numbers, [bytes(string) for string in strings], end) == ([99, 7], [bytes(100)], len(data) + 1)


def test_long_objects_are_not_tried():
    data = cbor({"number": 1, "text": "x" * 5000})
    assert Alike.of(data, 0, len(data), 0, VARYING) is None
