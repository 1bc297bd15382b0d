"""A dialect is pure: its tests need no socket and no clock."""

import json

import numpy as np
import pytest
from json_blob import SILENCE_S, JsonBlob

from streamptycho.errors import CodecError
from streamptycho.messages.reasons import EndReason
from streamptycho.messages.stream import Frame, ScanEnd, ScanStart

START = {"type": "start", "series": 7, "shape": [4, 6], "dtype": "uint16", "time_ns": 5, "images": 2}
START |= {"wavelength_m": 1.4e-10, "distance_m": 2.0, "pitch_m": [75e-6, 75e-6]}
PIXELS = np.arange(24, dtype="<u2").reshape(4, 6)


def said(header: dict, *parts: bytes) -> list[bytes]:
    return [json.dumps(header).encode(), *parts]


def image(number: int) -> list[bytes]:
    return said({"type": "image", "series": 7, "number": number, "time_ns": 6 + number}, PIXELS.tobytes())


def test_a_series():
    dialect = JsonBlob()
    facts = [*dialect.feed(said(START), 0), *dialect.feed(image(0), 1), *dialect.feed(image(1), 2)]
    facts += dialect.feed(said({"type": "end", "series": 7, "images": 2}), 3)
    start, first, second, end = facts
    assert isinstance(start, ScanStart)
    assert (start.scan_id, start.geometry.frame_shape, start.expected) == ("series-7", (4, 6), 2)
    for number, frame in enumerate([first, second]):
        assert isinstance(frame, Frame)
        assert frame.index.tolist() == [number]
        assert np.array_equal(frame.payload.decode(), PIXELS)
    assert isinstance(end, ScanEnd)
    assert (end.run, end.count, end.complete) == (start.run, 2, True)
    assert list(dialect.tick(1000)) == []


def test_silence_ends_a_series():
    dialect = JsonBlob()
    list(dialect.feed(said(START), 0))
    list(dialect.feed(image(0), 1))
    assert list(dialect.tick(SILENCE_S)) == []
    (end,) = dialect.tick(2 + SILENCE_S)
    assert isinstance(end, ScanEnd)
    assert (end.count, end.reason) == (1, EndReason.ABORTED)
    assert list(dialect.tick(1000)) == []


WRONG = [
    [b"\xff"],
    [b"[]"],
    [b"{}"],
    said({"type": "stop"}),
    said({**START, "shape": 5}),
    said({**START, "dtype": "f3"}),
    image(0),
]


@pytest.mark.parametrize("parts", WRONG)
def test_what_is_wrong_is_named(parts: list[bytes]):
    with pytest.raises(CodecError, match="json-blob"):
        list(JsonBlob().feed(parts, 0))


def test_pixels_that_are_too_few():
    dialect = JsonBlob()
    list(dialect.feed(said(START), 0))
    header, pixels = image(0)
    with pytest.raises(CodecError, match="47 bytes, but 4 x 6 uint16 are 48"):
        list(dialect.feed([header, pixels[:-1]], 1))
    assert isinstance(next(iter(dialect.feed(image(0), 2))), Frame)
