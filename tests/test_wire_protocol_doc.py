"""docs/wire-protocol.md says what the codec does: its examples decode, its tables list every field."""

import json
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import msgpack
import numpy as np
import pytest
import zmq

from streamptycho.messages.checks import MAX_SCAN_ID
from streamptycho.messages.geometry import Geometry, Radiation
from streamptycho.messages.kinds import Message
from streamptycho.messages.live import Action
from streamptycho.messages.payload import MAX_LZ4_RATIO, PIXEL_DTYPES, Encoding, Payload
from streamptycho.messages.reasons import DropReason, EndReason, ServiceState, Stream
from streamptycho.messages.stream import Frame, Positions, ScanEnd, ScanStart
from streamptycho.wire import codec
from streamptycho.wire.codec import MAX_HEADER_BYTES, MAX_PARTS, WIRE_VERSION, decode, encode
from streamptycho.wire.forms import form_of
from tests.hostile import GOOD, OPTIONAL, OPTIONAL_ARRAYS, STATUSES, header_of
from tests.strategies import bslz4, same

TEXT = (Path(__file__).resolve().parents[1] / "docs" / "wire-protocol.md").read_text(encoding="utf-8")
PIXELS = np.arange(8, dtype=np.uint16).reshape(2, 4)
INDEX, TIME = np.array([7]), np.array([1_777_000_000_000_000_000])
EXAMPLES: dict[str, Message] = {
    "raw frame": Frame(scan_id="scan_42", index=INDEX, timestamp_ns=TIME, payload=Payload.raw(PIXELS)),
    "bslz4 frame": Frame(scan_id="scan_42", index=INDEX, timestamp_ns=TIME, payload=bslz4(PIXELS[None])),
    "positions": Positions(scan_id="scan_42", index=INDEX, yx_m=np.array([[1e-6, -2e-6]])),
    "end": ScanEnd(scan_id="scan_42", stream=Stream.FRAMES, count=8),
}


def example(name: str) -> str:
    """The fenced block under the comment that names it."""
    found = re.search(rf"<!-- example: {re.escape(name)} -->\n```\w*\n(.*?)\n```", TEXT, re.DOTALL)
    assert found is not None, name
    return found.group(1)


def section(kind: str) -> str:
    found = re.search(rf"^### {kind}\n(.*?)(?=^##)", TEXT, re.DOTALL | re.MULTILINE)
    assert found is not None, kind
    return found.group(1)


def rows(text: str) -> dict[str, list[str]]:
    """Table rows by the name in their first cell."""
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| `")]
    return {row[0].strip("`"): row[1:] for row in cells}


def table_of(kind: str) -> dict[str, list[str]]:
    """The fields and arrays of a kind; what the statuses have in common stands in a section of its own."""
    common = rows(section("status")) if kind in STATUSES else {}
    own = rows(section(kind))
    assert not common.keys() & own.keys()
    return common | own


@pytest.mark.parametrize("name", EXAMPLES)
def test_bytes_decode_to_what_the_text_says(name: str):
    parts = [bytes.fromhex(part) for part in example(name).split("\n\n")]
    message = decode(parts)
    assert same(message, EXAMPLES[name])
    assert [bytes(part) for part in encode(EXAMPLES[name])] == parts
    if isinstance(message, Frame):
        assert np.array_equal(message.payload.decode(), PIXELS)


def test_header_is_shown_as_it_is():
    header = bytes.fromhex(example("raw frame").split("\n\n")[0])
    assert json.loads(example("raw frame as JSON")) == msgpack.unpackb(header)


@pytest.mark.parametrize("kind", GOOD)
def test_every_field_and_array_is_in_the_tables(kind: str):
    listed = table_of(kind)
    header = header_of(kind)
    expected = {name: "array" for name, _, _ in header["arrays"]} | dict.fromkeys(header["fields"], "field")
    if kind == "start":
        expected |= {f"geometry.{item.name}": "field" for item in fields(Geometry)}
    assert listed.keys() == expected.keys()
    optional = OPTIONAL.get(kind, set()) | OPTIONAL_ARRAYS.get(kind, set()) | {"geometry.radiation"}
    for name, cells in listed.items():
        assert cells[2] == ("no" if name in optional else "yes"), name
        if expected[name] == "array":
            assert cells[0] == form_of(kind).arrays[name].name


@pytest.mark.parametrize(
    ("kind", "name", "values"),
    [
        ("end", "stream", Stream),
        ("end", "reason", EndReason),
        *((kind, "state", ServiceState) for kind in STATUSES),
        *((kind, "dropped", DropReason) for kind in STATUSES),
        ("command", "action", Action),
        ("frame", "encoding", Encoding),
        ("frame", "dtype", PIXEL_DTYPES),
        ("start", "geometry.radiation", Radiation),
    ],
)
def test_every_choice_is_listed(kind: str, name: str, values: list[str]):
    assert set(re.findall(r"`(\w+)`", table_of(kind)[name][-1])) == {str(value) for value in values}


def test_numbers_are_those_of_the_code():
    assert f"This page describes wire version **{WIRE_VERSION}**" in TEXT
    assert MAX_HEADER_BYTES == 1 << 20
    assert "| header | 1 MiB |" in TEXT
    assert f"| parts of a message | {MAX_PARTS}:" in TEXT
    assert f"| lists in the header | {codec._SHORT_LIST} entries" in TEXT
    assert f"more than {MAX_LZ4_RATIO} times its compressed size" in TEXT
    assert f"1 to {MAX_SCAN_ID} bytes of printable UTF-8" in TEXT
    kinds = re.search(r"\| `kind` \| str \| (.*) \|", TEXT)
    assert kinds is not None
    assert set(re.findall(r"`(\w+)`", kinds.group(1))) == GOOD.keys()


def test_nothing_is_lost_when_the_sender_ends_with_its_last_message():
    """As a script of its own, to a receiver that takes nothing before that has ended."""
    with zmq.Context() as context, context.socket(zmq.PULL) as pull:
        port = pull.bind_to_random_port("tcp://127.0.0.1")
        script = f"{example('sender')}\nsend('tcp://127.0.0.1:{port}')"
        subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
        messages = []
        while len(messages) < 12 and pull.poll(5000):
            messages.append(decode(pull.recv_multipart()))
    assert len(messages) == 12


def test_sender_is_short_and_is_understood():
    source = example("sender")
    assert len([line for line in source.splitlines() if line.strip()]) <= 25
    names: dict[str, object] = {}
    exec(compile(source, "sender", "exec"), names)

    with zmq.Context() as context, context.socket(zmq.PULL) as pull:
        port = pull.bind_to_random_port("tcp://127.0.0.1")
        names["send"](f"tcp://127.0.0.1:{port}")
        messages = []
        while len(messages) < 12:
            assert pull.poll(5000), f"only {len(messages)} messages came"
            messages.append(decode(pull.recv_multipart()))

    start, positions, *frames, end_frames, end_positions = messages
    assert isinstance(start, ScanStart)
    assert start.geometry.frame_shape == (128, 128)
    assert isinstance(positions, Positions)
    assert positions.index.tolist() == list(range(8))
    sent = np.random.default_rng(0).poisson(3, (8, 128, 128))
    for i, frame in enumerate(frames):
        assert isinstance(frame, Frame)
        assert frame.index.tolist() == [i]
        assert np.array_equal(frame.payload.decode(), sent[i])
    assert [(end.stream, end.count, end.complete) for end in (end_frames, end_positions)] == [
        (Stream.FRAMES, 8, True),
        (Stream.POSITIONS, 8, True),
    ]


def test_glossary_is_in_order_and_without_repeats():
    text = (Path(__file__).resolve().parents[1] / "docs" / "glossary.md").read_text(encoding="utf-8")
    terms = re.findall(r"^\*\*(.+?)\*\*", text, re.MULTILINE)
    assert len(terms) > 40
    assert terms == sorted(set(terms), key=str.lower)
