"""Every message survives the wire, and nothing else gets through."""

import gc
import hashlib
import random
import tracemalloc
from dataclasses import MISSING, dataclass, field, fields, replace
from typing import Annotated, ClassVar

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from streamptycho.errors import CodecError, ProtocolError
from streamptycho.messages.kinds import KINDS, Message
from streamptycho.messages.marks import Wire
from streamptycho.messages.payload import Encoding, Payload
from streamptycho.messages.reasons import Stream
from streamptycho.messages.status import ReceiveStatus
from streamptycho.messages.stream import Frame, Positions
from streamptycho.wire.codec import MAX_HEADER_BYTES, MAX_PARTS, WIRE_VERSION, decode, encode
from streamptycho.wire.forms import form_of
from tests.hostile import CORPUS, CORRUPT_PIXELS, FIELDS, GOOD, OPTIONAL, OPTIONAL_ARRAYS, PIXELS, header_of, parts_of
from tests.strategies import BY_KIND, arrays_of, bslz4, messages, same

# The bytes of the messages in hostile.GOOD. They may change only together with WIRE_VERSION, or with a field that is added.
GOLDEN_VERSION = 1
GOLDEN_FRAME_ALONE = "50cffc783a373ccf6f7b71f8865df28edb66c28c5cdeb25c76f9cd3544039bfc"
"""Of a frame without its positions."""
GOLDEN_END = (
    "84a17601a46b696e64a3656e64a66669656c647385a77363616e5f6964a27331a673747265616da66672616d6573"
    "a5636f756e7464a6726561736f6ea8636f6d706c657465aa737461727465645f6e73cf17979cfe362a0000a66172"
    "7261797390"
)
GOLDEN = {
    "start": "b372b74eaf5b7cd6cc50296a0dbd0429576896cbc58125fe8cd846ff852a95a6",
    "frame": "bf31cb3caf124dfabce219699ecf83ca3c1d1ae255b5c5a7743c6a073fbae45e",
    "positions": "6300d6f644e331774cabe4aadb7b59b3aa4a03885a04365adcac53896e10d601",
    "end": "24135e1049bc892c9eebd1b60c9a22b7d9a58a94cde752e2583cdffdf82aacf5",
    "snapshot": "0c5e2dd78871f2700ce6f26a48754e5e7a397e99551ba8a858953726e069648b",
    "receive_status": "70f9939fbc1d382afe07cdb1ec5f598f3b52a96558a7d3856a86c19537a7b3a0",
    "reconstruct_status": "71fe3ac20eb77bd65c4dec2db3416aabf51f0a519b5756b79f1fd0d81d9f014e",
    "write_status": "c50eb0d3980f0626e69d9a4ffdc5987ea63b5f0e0776cae6fb2990edc7612d76",
    "survey": "212266cc0aae0a3758e258315400ac1a9342bd2791094912e5e8b85fa7f10c78",
    "preview": "c5c92013f906d78f47ab0c90213ef37789a8ebb5113e5c8f7d72169063b94a11",
    "assessment": "24770a9c92b8f8e06cb35ebcbb1754552875b3c328bd0d4dea78a2e25bb68166",
    "estimates": "e7e12ca8577029a5e4ebe81d7f5cdd8bcbb5f9f758a380179d117b95c8904f64",
    "command": "dfa89ddbb4f387938392b75ff3d6f5f2114633736906c2cd967337c014bfd0aa",
    "resume": "0be1c983645a38aa113ff5d0f3b53f642efb7b6cc8dde047fbbf84cad35ee9c4",
}


def wire(message: Message) -> list[bytes]:
    """What arrives at the other end of a socket."""
    return [bytes(part) for part in encode(message)]


def decoded_or_refused(parts: list[bytes]) -> Message | ProtocolError:
    """Anything but a message or a ProtocolError escapes and fails the test."""
    try:
        return decode(parts)
    except ProtocolError as error:
        return error


@pytest.mark.parametrize("kind", BY_KIND)
@given(data=st.data())
def test_round_trip(kind: str, data: st.DataObject):
    message = data.draw(BY_KIND[kind])
    parts = wire(message)
    assert msgpack.unpackb(parts[0])["kind"] == kind
    again = decode(parts)
    assert same(again, message)
    for array in arrays_of(again).values():
        assert not array.flags.writeable
        assert array.dtype.isnative
    assert wire(again) == parts


def test_same_tells_messages_apart():
    """The equality on which the round trip rests."""
    start = GOOD["start"]
    assert same(start, replace(start))
    assert not same(start, replace(start, expected=101))
    assert not same(start, replace(start, expected=None))
    assert not same(start, replace(start, dark=np.full((16, 24), 1e-30, np.float32)))
    assert not same(start, replace(start, geometry=replace(start.geometry, distance_m=2.1)))
    assert not same(GOOD["frame"], replace(GOOD["frame"], payload=Payload.raw(PIXELS + 1)))
    assert not same(GOOD["frame"], replace(GOOD["frame"], payload=bslz4(PIXELS)))
    assert not same(GOOD["receive_status"], replace(GOOD["receive_status"], rate_hz=10.0))


def test_good_messages_have_every_kind_and_field():
    assert GOOD.keys() == BY_KIND.keys() == GOLDEN.keys()
    for kind in GOOD:
        assert decode(parts_of(kind)) is not None


@pytest.mark.parametrize("kind", GOLDEN)
def test_bytes_on_the_wire_do_not_change(kind: str):
    assert WIRE_VERSION == GOLDEN_VERSION, "a new version: write its bytes down here"
    parts = wire(GOOD[kind])
    assert hashlib.sha256(b"|".join(parts)).hexdigest() == GOLDEN[kind]


def test_positions_of_frames_cost_no_bytes_where_there_are_none():
    alone, positions = GOOD["frame"].apart()
    assert hashlib.sha256(b"|".join(wire(alone))).hexdigest() == GOLDEN_FRAME_ALONE
    assert positions.yx_m.tolist() == GOOD["frame"].taken_yx_m.tolist()


@pytest.mark.parametrize(
    "value",
    [
        [[0, 1]],
        [[0, 1], [2, 3], [4, 5]],
        [[0, 1], [2]],
        [[0, 1], [2, 3, 4]],
        [[0, 1], 2],
        [["0", 1], [2, 3]],
        [[True, 1]] * 2,
    ],
)
def test_positions_of_frames_are_as_many_pairs(value: list):
    header = header_of("frame")
    header["fields"]["taken_yx_m"] = value
    error = decoded_or_refused([msgpack.packb(header), *parts_of("frame")[1:]])
    assert isinstance(error, ProtocolError)
    assert error.field.startswith("frame.taken_yx_m")
    assert error.frames == 2, "the frames are counted as lost"


def test_golden_end_by_the_byte():
    assert wire(GOOD["end"]) == [bytes.fromhex(GOLDEN_END)]
    assert same(decode([bytes.fromhex(GOLDEN_END)]), GOOD["end"])


@given(messages)
def test_decoding_copies_nothing(message: Message):
    parts = wire(message)
    again = decode(parts)
    memory = [np.frombuffer(part, np.uint8) for part in parts[1:] if part]
    if isinstance(again, Frame):
        views = [np.frombuffer(chunk, np.uint8) for chunk in again.payload.chunks]
    else:
        views = [array for array in arrays_of(again).values() if array.size]
    assert len(views) == len(memory)
    for view, part in zip(views, memory, strict=True):
        assert np.shares_memory(view, part)
        with pytest.raises(ValueError, match="WRITEABLE"):
            view.flags.writeable = True


def test_encoding_copies_nothing_and_gives_no_way_to_write():
    for kind in ("frame", "positions", "snapshot", "start"):
        message = GOOD[kind]
        parts = encode(message)[1:]
        held = message.payload.chunks if isinstance(message, Frame) else arrays_of(message).values()
        for part, array in zip(parts, held, strict=True):
            assert np.shares_memory(np.frombuffer(part, np.uint8), np.frombuffer(array, np.uint8))
            assert memoryview(part).readonly


def test_parts_may_be_writable_memory_that_stays_out_of_reach():
    parts = [memoryview(bytearray(part)) for part in parts_of("frame")]
    frame = decode(parts)
    assert isinstance(frame, Frame)
    assert all(chunk.readonly for chunk in frame.payload.chunks)
    assert not frame.payload.decode().flags.writeable
    block = decode([memoryview(bytearray(part)) for part in parts_of("positions")])
    assert isinstance(block, Positions)
    assert not block.yx_m.flags.writeable


@pytest.mark.parametrize("kind", OPTIONAL)
def test_optional_fields_may_be_missing_or_nil(kind: str):
    for change in (lambda table, key: table.pop(key), lambda table, key: table.update({key: None})):
        header = header_of(kind)
        for key in OPTIONAL[kind]:
            change(header["fields"], key)
        message = decode([msgpack.packb(header), *parts_of(kind)[1:]])
        for item in fields(message):
            if item.name in OPTIONAL[kind]:
                default = item.default if item.default_factory is MISSING else item.default_factory()
                assert same(getattr(message, item.name), default), item.name


@pytest.mark.parametrize("kind", OPTIONAL_ARRAYS)
def test_optional_arrays_may_be_missing(kind: str):
    header, parts = header_of(kind), parts_of(kind)[1:]
    kept = [i for i, (name, _, _) in enumerate(header["arrays"]) if name not in OPTIONAL_ARRAYS[kind]]
    header["arrays"] = [header["arrays"][i] for i in kept]
    message = decode([msgpack.packb(header), *(parts[i] for i in kept)])
    assert [getattr(message, name) for name in OPTIONAL_ARRAYS[kind]] == [None] * len(OPTIONAL_ARRAYS[kind])


def test_a_plan_that_cannot_be_shown_costs_no_scan(caplog):
    parts = parts_of("start")
    parts[-1] = np.full((2, 2), np.nan).tobytes()
    start = decode(parts)
    assert start.planned_yx_m is None
    assert start.valid is not None
    assert "start.planned_yx_m: has values that are not finite" in caplog.text


@pytest.mark.parametrize("kind", GOOD)
def test_unknown_fields_are_ignored(kind: str):
    header = header_of(kind)
    header["trace"] = "abc"
    header["fields"]["colour"] = {"a": [1, 2]}
    assert same(decode([msgpack.packb(header), *parts_of(kind)[1:]]), GOOD[kind])


@pytest.mark.parametrize("kind", GOOD)
def test_integers_stand_for_floats(kind: str):
    header = header_of(kind)
    table = header["fields"].get("geometry", header["fields"])
    changed = [key for key, value in table.items() if isinstance(value, float)]
    table.update(dict.fromkeys(changed, 1))
    message = decode([msgpack.packb(header), *parts_of(kind)[1:]])
    for key in changed:
        value = getattr(getattr(message, "geometry", message), key)
        assert type(value) is float
        assert value == 1


def test_numpy_scalars_and_broken_file_names_can_be_sent():
    status = replace(GOOD["receive_status"], received=np.int64(6), rate_hz=np.float32(0.5), failure="a\udcffb")
    again = decode(wire(status))
    assert isinstance(again, ReceiveStatus)
    assert (again.received, again.rate_hz, again.failure) == (6, 0.5, "a?b")
    assessment = replace(GOOD["assessment"], figures={"error": np.float32(0.5)}, findings={"file": "a\udcffb"})
    again = decode(wire(assessment))
    assert (again.figures, again.findings) == ({"error": 0.5}, {"file": "a?b"})


def test_largest_block_of_frames_goes_through():
    n = MAX_PARTS - 1
    block = Frame(
        scan_id="s1",
        index=np.arange(n) + (2**63 - 1 - n),
        timestamp_ns=np.full(n, 2**63 - 1),
        payload=Payload.raw(np.zeros((n, 2, 2), np.uint8)),
    )
    assert same(decode(wire(block)), block)
    more = replace(
        block,
        index=np.arange(n + 1),
        timestamp_ns=np.zeros(n + 1, np.int64),
        payload=Payload.raw(np.zeros((n + 1, 2, 2), np.uint8)),
    )
    with pytest.raises(CodecError) as caught:
        encode(more)
    assert caught.value.field == "message"


def test_largest_header_goes_through():
    spare = MAX_HEADER_BYTES - len(encode(replace(GOOD["write_status"], file="x" * 100_000))[0])
    status = replace(GOOD["write_status"], file="x" * (100_000 + spare))
    assert len(encode(status)[0]) == MAX_HEADER_BYTES
    assert same(decode(wire(status)), status)
    with pytest.raises(CodecError) as caught:
        encode(replace(status, file="x" * (100_001 + spare)))
    assert caught.value.field == "header"


def test_hostile_messages_are_refused_by_name():
    assert len(CORPUS) > 1000
    wrong: list[str] = []
    for name, parts in CORPUS:
        result = decoded_or_refused(parts)
        if not isinstance(result, ProtocolError):
            wrong.append(f"{name}: accepted")
        elif not result.field or result.field != FIELDS.get(name, result.field):
            wrong.append(f"{name}: {result.field} instead of {FIELDS[name]}")
        elif len(str(result)) > 300:
            wrong.append(f"{name}: a text of {len(str(result))} characters")
    assert wrong == []


def test_hostile_messages_allocate_little():
    decoded_or_refused(parts_of("start"))  # what is made once is not counted
    wrong: list[str] = []
    tracemalloc.start()
    for name, parts in CORPUS:
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        decoded_or_refused(parts)
        peak = tracemalloc.get_traced_memory()[1] - before
        if peak > 1_000_000:
            wrong.append(f"{name}: {peak} bytes")
    tracemalloc.stop()
    assert wrong == []


@pytest.mark.parametrize(("name", "parts"), CORRUPT_PIXELS, ids=[name for name, _ in CORRUPT_PIXELS])
def test_corrupt_pixels_are_found_when_they_are_decompressed(name: str, parts: list[bytes]):
    frame = decode(parts)
    assert isinstance(frame, Frame)
    with pytest.raises(CodecError) as caught:
        frame.payload.decode()
    assert caught.value.field == "frame.payload"


def test_loss_is_told_with_the_scan_it_belongs_to():
    header, *pixels = parts_of("frame")
    with pytest.raises(ProtocolError) as caught:
        decode([header, pixels[0], b"short"])
    assert (caught.value.scan_id, caught.value.frames) == ("s1", 2)
    table = header_of("end")
    table["fields"]["count"] = -1
    with pytest.raises(ProtocolError) as caught:
        decode([msgpack.packb(table)])
    assert (caught.value.scan_id, caught.value.frames) == ("s1", 0)
    with pytest.raises(ProtocolError) as caught:
        decode([b"\xc1"])
    assert (caught.value.scan_id, caught.value.frames) == (None, 0)


@pytest.mark.parametrize("scan_id", ["x" * 100_000, 7, None, ["s1"], ""])
def test_no_loss_is_told_for_a_scan_id_that_is_none(scan_id: object):
    header = header_of("frame")
    header["fields"]["scan_id"] = scan_id
    with pytest.raises(ProtocolError) as caught:
        decode([msgpack.packb(header), *parts_of("frame")[1:]])
    assert not caught.value.scan_id
    assert caught.value.frames == 2


@pytest.mark.parametrize(
    ("kind", "change", "text"),
    [
        ("start", {"expected": "many"}, "start.expected: must be a valid integer, not 'many'"),
        ("start", {"started_ns": None}, "start.started_ns: missing"),
        ("start", {"beam_center_px": [1.0]}, "start.beam_center_px: 1 values instead of 2"),
        ("start", {"metadata": {"a": [1]}}, "start.metadata: entry 'a' must be one of str, int, float, bool, not list"),
        ("frame", {"index": [3, 4.5]}, "frame.index: must be a list of 64-bit integers, not list"),
        ("frame", {"shape": [16, True]}, "frame.shape[1]: must be a valid integer, not True"),
        (
            "frame",
            {"dtype": "float64"},
            "frame.dtype: must be 'uint8', 'uint16', 'uint32', 'int16', 'int32' or 'float32', not 'float64'",
        ),
        (
            "end",
            {"reason": "x" * 10**6},
            "end.reason: must be 'complete', 'incomplete', 'aborted', 'superseded', 'timeout' or 'interrupted', not 'xxx",
        ),
        ("write_status", {"dropped": {"late": 1.0}}, "write_status.dropped: entry 'late' must be a valid integer, not 1.0"),
    ],
)
def test_a_refusal_names_field_value_and_what_would_be_right(kind: str, change: dict[str, object], text: str):
    header = header_of(kind)
    header["fields"].update(change)
    with pytest.raises(CodecError) as caught:
        decode([msgpack.packb(header), *parts_of(kind)[1:]])
    assert str(caught.value).startswith(text)


def test_a_table_of_very_many_wrong_entries_is_refused_at_the_first():
    header = header_of("write_status")
    header["fields"]["dropped"] = {f"{i:x}": None for i in range(140_000)}
    parts = [msgpack.packb(header)]
    decoded_or_refused(parts)
    peaks = []
    for _ in range(3):  # once without what the collector has yet to free
        gc.collect()
        tracemalloc.start()
        unpacked = msgpack.unpackb(parts[0])
        needed = tracemalloc.get_traced_memory()[1]
        del unpacked
        tracemalloc.reset_peak()
        refused = decoded_or_refused(parts)
        peaks.append(tracemalloc.get_traced_memory()[1] / needed)
        tracemalloc.stop()
    assert isinstance(refused, CodecError)
    assert refused.field == "write_status.dropped"
    assert min(peaks) < 1.5, peaks


def test_the_form_of_a_message_follows_from_its_annotations(monkeypatch: pytest.MonkeyPatch):
    """A field or a kind that is added needs nothing in the codec."""

    @dataclass(frozen=True, kw_only=True)
    class Weather:
        kind: ClassVar[str] = "weather"
        wind: tuple[float, float]
        station: Stream
        cloud: NDArray[np.float32] | None = None
        rain: Annotated[int, Wire.REQUIRED] = 0
        notes: dict[str, str | int] = field(default_factory=dict)

    monkeypatch.setitem(KINDS, "weather", Weather)
    form = form_of("weather")
    assert (form.arrays, form.required) == ({"cloud": np.dtype("<f4")}, [])
    full = Weather(wind=(1.0, 2.0), station=Stream.SCAN, cloud=np.ones((2, 3), np.float32), rain=3, notes={"a": 1, "b": "c"})
    for sent in (full, replace(full, cloud=None)):
        assert same(decode(wire(sent)), sent)
    for missing, field_name in (({"wind": None}, "wind"), ({"rain": None}, "rain"), ({"notes": {"a": True}}, "notes")):
        with pytest.raises(CodecError, match=f"weather.{field_name}"):
            form.read({"wind": [1, 2], "station": "scan", "rain": 1} | missing)
    assert form.build(form.read({"wind": [1, 2], "station": "scan", "rain": 1, "notes": None})).notes == {}


def mutate(rng: random.Random, parts: list[bytes]) -> list[bytes]:
    """`parts` after a few accidents."""
    parts = list(parts)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        i = 0 if rng.random() < 0.7 or not parts else rng.randrange(len(parts))
        part = bytearray(parts[i]) if parts else bytearray()
        at = rng.randrange(len(part) + 1)
        match rng.randrange(8):
            case 0:
                del part[at:]
            case 1:
                part[at:at] = rng.randbytes(rng.randrange(1, 6))
            case 2:
                del part[at : at + rng.randrange(1, 6)]
            case 3 if parts:
                parts.insert(rng.randrange(len(parts) + 1), rng.choice([b"", part, rng.randbytes(20)]))
                continue
            case 4 if len(parts) > 1:
                del parts[i]
                continue
            case 5:
                part[at : at + 1] = rng.choice([b"\xc0", b"\xc3", b"\xcb", b"\xcf", b"\xd3", b"\xdd", b"\xdf", b"\xff"])
            case _ if at < len(part):
                part[at] ^= 1 << rng.randrange(8)
        parts[i : i + 1] = [bytes(part)]
    return parts


@pytest.mark.parametrize("kind", GOOD)
def test_mutations_are_refused_or_valid(kind: str):
    rng = random.Random(kind)
    sources = [parts_of(kind)]
    if kind == "frame":
        sources.append(wire(replace(GOOD["frame"].select([0]), payload=bslz4(PIXELS[:1]))))
    refused = 0
    for _ in range(3000):
        result = decoded_or_refused(mutate(rng, rng.choice(sources)))
        if isinstance(result, ProtocolError):
            refused += 1
            continue
        assert same(decode(wire(result)), result), "a message that was accepted can be sent on"
        if isinstance(result, Frame) and result.payload.encoding is Encoding.RAW:
            assert result.payload.decode(0).shape == result.payload.shape
    assert 0 < refused < 3000


json_like = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=8) | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=200)
@given(st.sampled_from(sorted(GOOD)), st.data())
def test_any_value_in_any_field_is_refused_or_valid(kind: str, data: st.DataObject):
    header = header_of(kind)
    key = data.draw(st.sampled_from(sorted(header["fields"])))
    header["fields"][key] = data.draw(json_like)
    decoded_or_refused([msgpack.packb(header), *parts_of(kind)[1:]])


@settings(max_examples=200)
@given(st.lists(st.binary(max_size=64), max_size=4))
def test_random_bytes_are_refused(parts: list[bytes]):
    assert isinstance(decoded_or_refused(parts), ProtocolError)


def test_every_field_of_every_message_is_sent():
    """A field that is added to a message must reach the wire."""
    for kind, message in GOOD.items():
        header = header_of(kind)
        sent = set(header["fields"]) | {name for name, _, _ in header["arrays"]}
        inner = {"frame", "payload"}
        assert {item.name for item in fields(message)} - inner <= sent, kind
    assert set(KINDS) == set(GOOD)


def test_a_spoilt_block_of_dark_exposures_costs_no_frame_of_the_scan():
    for dark, frames in ((True, 0), (False, 2)):
        parts = wire(replace(GOOD["frame"], dark=dark))
        with pytest.raises(ProtocolError) as caught:
            decode([*parts[:2], parts[2][:-1]])
        assert (caught.value.scan_id, caught.value.frames) == ("s1", frames)
