"""Stream V2 by objects written down by hand: DECTRIS, Jungfraujoch, simulators, and accidents."""

import random
import tracemalloc
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamptycho.dialects.dectris.v2 import DectrisV2
from streamptycho.dialects.door import Interpreter
from streamptycho.errors import CodecError, ConfigError, GrammarError, ProtocolError
from streamptycho.messages.facts import Began, Ended, Fact, Frames, Learned
from streamptycho.messages.payload import Encoding
from streamptycho.messages.reasons import EndReason
from tests.dialects.by_hand import (
    SHAPE,
    TYPED,
    UNIQUE,
    Indefinite,
    Tag,
    bslz4,
    cbor,
    compressed,
    counts,
    described,
    known,
    v2_array,
    v2_end,
    v2_image,
    v2_start,
)

ARMED_NS = 1_714_990_272_500_000_000
"""10:11:12.5 UTC; the series begins a second later."""


def told(*objects: bytes, dialect: DectrisV2 | None = None) -> list[Fact]:
    """What follows from objects, each in a message of its own."""
    dialect = DectrisV2() if dialect is None else dialect
    return [fact for data in objects for fact in dialect.feed([data], 0.0)]


def frames(facts: Sequence[Fact]) -> dict[int, Frames]:
    return {int(fact.number[0]): fact for fact in facts if isinstance(fact, Frames)}


def kinds(facts: Sequence[Fact]) -> list[str]:
    return [type(fact).__name__ for fact in facts]


def pixels(facts: Sequence[Fact], number: int = 0) -> np.ndarray:
    return frames(facts)[number].payload.decode()


# what a detector sends


@pytest.mark.parametrize("prefix", [True, False])
def test_a_series(prefix):
    images = [v2_image(i, prefix=prefix) for i in range(300)]
    facts = told(v2_start(prefix=prefix), *images, v2_end())
    assert kinds(facts)[:2] == ["Began", "Frames"]
    began, ended = facts[0], facts[-1]
    assert (began.run, began.in_middle) == (UNIQUE, False)
    assert (ended.run, ended.reason, ended.count) == (UNIQUE, EndReason.COMPLETE, None)
    parts = began.parts
    assert parts.wavelength_m == pytest.approx(1.5498e-10)
    assert (parts.distance_m, parts.pitch_m, parts.frame_shape) == (2.5, (8.0e-5, 7.5e-5), SHAPE)
    assert (parts.dtype, parts.expected, parts.saturation) == (np.uint16, 6, 50000)
    assert (parts.beam_center_px, parts.started_ns) == ((7.25, 12.5), ARMED_NS)
    assert parts.doubts == ()
    assert {"sample": "star", "threshold_energy": 4000.0, "series_id": 5}.items() <= parts.metadata.items()
    assert "type" not in parts.metadata
    assert list(frames(facts)) == list(range(300))
    for i, frame in frames(facts).items():
        assert (frame.run, frame.payload.encoding) == (UNIQUE, Encoding.BSLZ4)
        assert frame.timestamp_ns.tolist() == [ARMED_NS + 1_009_900_000 + 10_000_000 * i]
        np.testing.assert_array_equal(frame.payload.decode(), counts(SHAPE, "<u2", i), strict=True)


@pytest.mark.parametrize("dtype", TYPED)
@pytest.mark.parametrize("method", ["raw", "bslz4", "lz4"])
def test_typed_arrays(dtype, method):
    sent = counts((67, 129), dtype, 3)
    facts = told(v2_start(channels=["a"], image_size_x=129, image_size_y=67), v2_image(3, {"a": v2_array(sent, method)}))
    kept = {"i1": "int16", "f2": "float32", "f8": "float32", "u8": "uint16"}.get(sent.dtype.str[1:], sent.dtype.name)
    np.testing.assert_array_equal(pixels(facts, 3), counts((67, 129), "u1", 3).astype(kept), strict=True)


def test_columns_first_and_leading_ones():
    sent = counts(SHAPE, "<u2")
    columns = Tag(1040, [[16, 24], Tag(69, sent.tobytes(order="F"))])
    assert (pixels(told(v2_start(), v2_image(0, {"threshold_1": columns}))) == sent).all()
    one = Tag(40, [[1, 16, 24], Tag(69, sent.tobytes())])
    assert (pixels(told(v2_start(), v2_image(0, {"threshold_1": one}))) == sent).all()
    clamped = Tag(40, [[16, 24], Tag(68, counts(SHAPE, "u1").tobytes())])
    assert (pixels(told(v2_start(), v2_image(0, {"threshold_1": clamped}))) == sent).all()


def test_an_array_that_leaves_to_the_start_what_it_is():
    sent = counts(SHAPE, "<u2")
    for value in (
        sent.tobytes(),
        Tag(69, sent.tobytes()),
        Tag(40, [[16, 24], sent.tobytes()]),
        Tag(56500, ["bslz4", 2, bslz4(sent)]),
        bslz4(sent),
    ):
        for data in (value, {"threshold_1": value}):
            facts = told(v2_start(), v2_image(0, data))
            np.testing.assert_array_equal(pixels(facts), sent, strict=True)


def test_an_array_that_says_too_little_without_a_start():
    for value in (counts(SHAPE, "<u2").tobytes(), Tag(69, b""), Tag(40, [[16, 24], b""])):
        (error,) = told(v2_image(0, value))
        assert "without its sizes and type" in str(error)


def test_bitshuffle_with_elements_of_another_size():
    sent = counts(SHAPE, "<u4")
    array = Tag(40, [[16, 24], Tag(70, Tag(56500, ["bslz4", 1, bslz4(sent.view("u1"))]))])
    facts = told(v2_start(), v2_image(0, {"threshold_1": array}))
    np.testing.assert_array_equal(pixels(facts), sent, strict=True)


@pytest.mark.parametrize("method", ["raw", "bslz4", "lz4"])
def test_the_mask_of_the_channel(method):
    mask = np.zeros(SHAPE, "<u4")
    mask[2, 3], mask[4, 5] = 1, 2 | 256
    other = np.ones(SHAPE, "<u4")
    for masks in ({"b": v2_array(other, method), "a": v2_array(mask, method)}, {"all": v2_array(mask, method)}):
        parts = known(
            told(v2_start(channels=["a", "b"], pixel_mask=masks, flatfield={"a": v2_array(np.ones(SHAPE, "<f4"), method)}))
        )
        np.testing.assert_array_equal(parts.valid, mask == 0)
        assert parts.metadata["pixel_mask"] == "gap 1, dead 1, by the user 1"


# several channels


def channels(number: int = 0) -> bytes:
    low, high = counts(SHAPE, "<u2", number), counts(SHAPE, "<u2", number + 50)
    return v2_image(number, {"threshold_1": v2_array(low), "threshold_2": v2_array(high)})


@pytest.mark.parametrize(("option", "offset"), [("", 0), ("threshold_1", 0), ("threshold_2", 50)])
@pytest.mark.parametrize("order", [["threshold_1", "threshold_2"], None])
def test_one_channel_is_used(option, offset, order):
    facts = told(v2_start(channels=order), *(channels(i) for i in range(3)), dialect=DectrisV2(option))
    for i in range(3):
        np.testing.assert_array_equal(pixels(facts, i), counts(SHAPE, "<u2", i + offset))
    doubts = known(facts).doubts
    assert len(doubts) == (order is not None and not option)
    assert all(
        doubt.startswith("of the channels threshold_1, threshold_2 the first is used, threshold_1") for doubt in doubts
    )


def test_the_first_channel_is_that_which_the_start_names_first():
    facts = told(v2_start(channels=["threshold_2", "threshold_1"]), channels())
    np.testing.assert_array_equal(pixels(facts), counts(SHAPE, "<u2", 50))


def test_a_channel_that_is_not_there_is_refused_with_those_that_are():
    facts = told(v2_start(channels=["threshold_1", "threshold_2"]), channels(), channels(1), dialect=DectrisV2("difference"))
    assert kinds(facts) == ["GrammarError", "Began", "CodecError", "CodecError"]
    text = "has no channel 'difference'; it has threshold_1, threshold_2: correct options.channel"
    assert [text in str(fact) for fact in facts] == [True, False, True, True]
    assert [fact.frames for fact in facts if isinstance(fact, CodecError)] == [1, 1]
    with pytest.raises(ConfigError, match=r"options\.channel = 2: write the name of a channel as text"):
        DectrisV2(2)
    with pytest.raises(ConfigError, match=r"options\.chanel: the dialect dectris-v2 has no such option; it has channel"):
        Interpreter("dectris-v2", {"chanel": "a"})


# messages glued, and images alike


OBJECTS = [
    v2_start(channels=["threshold_1", "threshold_2"], number_of_images=10),
    *(channels(i) for i in range(3)),
    v2_image(3, {"threshold_1": v2_array(counts(SHAPE, "<u2", 3), "lz4")}),
    v2_image(4, prefix=False),
    v2_image(5, user_data={"position": 1.5}),
    v2_image(6),
    v2_image(7, {"threshold_1": Tag(40, [[16, 24], Tag(69, b"short")])}),
    v2_image(8),
    v2_end(),
    v2_image(9),
    v2_start(series_unique_id="B", series_id=6),
    v2_image(0, series_unique_id="B", series_id=6),
    v2_end(series_unique_id="B", series_id=6),
]
TOLD = [described(fact) for fact in told(*OBJECTS)]


def test_the_stream_of_the_next_test():
    assert [fact[0] for fact in TOLD] == [
        "Began",
        *[UNIQUE] * 7,
        "CodecError",
        UNIQUE,
        "Ended",
        "GrammarError",
        "Began",
        "B",
        "Ended",
    ]


@given(st.lists(st.integers(0, len(OBJECTS)), max_size=10), st.booleans())
def test_facts_do_not_depend_on_how_objects_are_put_into_parts(cuts, views):
    edges = sorted({0, len(OBJECTS), *cuts})
    parts = [b"".join(OBJECTS[a:b]) for a, b in pairwise(edges)]
    dialect = DectrisV2()
    facts = [fact for part in parts for fact in dialect.feed([memoryview(part) if views else part], 0.0)]
    assert [described(fact) for fact in facts] == TOLD
    assert [described(fact) for fact in DectrisV2().feed(parts, 0.0)] == TOLD


@given(
    st.lists(
        st.tuples(
            st.integers(0, 2**63 - 1),
            st.integers(0, 2**63 - 1),
            st.sampled_from(["", "x", {"a": 1}]),
            st.sampled_from(["raw", "bslz4", "lz4"]),
        ),
        max_size=8,
    )
)
def test_images_alike_are_read_as_in_full(images):
    data = [
        v2_image(
            number, {"threshold_1": v2_array(counts(SHAPE, "<u2", i), method)}, stop_time=[stop, 50_000_000], user_data=user
        )
        for i, (number, stop, user, method) in enumerate(images)
    ]
    in_full = DectrisV2()
    facts: list[Fact] = []
    for image in [v2_start(), *data]:
        in_full._last = None
        facts += in_full.feed([image], 0.0)
    assert [described(fact) for fact in told(v2_start(), *data)] == [described(fact) for fact in facts]


def test_images_that_differ_too_much_are_no_longer_compared():
    dialect = DectrisV2()
    told(v2_start(), *(v2_image(i, user_data=i) for i in range(20)), dialect=dialect)
    assert dialect._last is None
    told(v2_start(series_unique_id="B"), v2_image(0, series_unique_id="B"), dialect=dialect)
    assert dialect._last is not None


# others that speak it


def test_jungfraujoch():
    start = Indefinite(
        [("type", "start"), ("series_id", 9), ("image_size_x", 24), ("image_size_y", 16), ("detector_distance", 0.2)]
    )
    image = Indefinite(
        [("type", "image"), ("image_number", 4), ("file_number", 2), ("data", compressed(counts(SHAPE, "<u2"), "bslz4"))]
    )
    facts = told(
        cbor(Tag(55799, Indefinite([*start, ("image_dtype", "uint16")]))), cbor(image), cbor({"type": "calibration"})
    )
    assert kinds(facts) == ["Began", "Frames"]
    assert (facts[0].run, facts[0].parts.distance_m, list(frames(facts))) == ("9", 0.2, [4])
    np.testing.assert_array_equal(pixels(facts, 4), counts(SHAPE, "<u2"))
    plain = cbor(Indefinite([*image[:-1], ("data", bslz4(counts(SHAPE, "<u2")))]))
    facts = told(cbor(Indefinite([*start, ("image_dtype", "uint16")])), plain, cbor({"type": "end", "series_id": 9}))
    assert kinds(facts) == ["Began", "Frames", "Ended"]


def test_a_start_without_a_unique_id():
    ids = {"series_unique_id": None}
    facts = told(v2_start(**ids), v2_image(**ids), v2_image(1), v2_end(series_unique_id=None))
    assert kinds(facts) == ["Began", "Frames", "Frames", "Ended"]
    assert {fact.run for fact in facts} == {"5"}
    facts = told(v2_start(), v2_image(**ids), v2_image(1, series_id=None), v2_end(series_unique_id=None))
    assert {fact.run for fact in facts} == {UNIQUE}


def test_times():
    assert told(v2_start(), v2_image(series_date=None))[-1].timestamp_ns.tolist() == [ARMED_NS + 9_900_000]
    for changes in (
        {"stop_time": None},
        {"stop_time": [1, 0]},
        {"stop_time": [-1, 5]},
        {"stop_time": [1, 2, 3]},
        {"stop_time": "1"},
    ):
        assert told(v2_start(), v2_image(**changes))[-1].timestamp_ns.tolist() == [0]
    for date in ("2024-05-06T12:11:13", Tag(0, "yesterday"), 17):
        facts = told(v2_start(arm_date=None), v2_image(series_date=date))
        assert facts[-1].timestamp_ns.tolist() == [0]
    absolute = [1_714_990_273 * 50_000_000, 50_000_000]
    assert told(v2_start(), v2_image(stop_time=absolute))[-1].timestamp_ns.tolist() == [1_714_990_273_000_000_000]
    assert told(v2_start(), v2_image(stop_time=Tag(30, [1, 2])))[-1].timestamp_ns.tolist() == [ARMED_NS + 1_500_000_000]
    assert told(v2_start(), v2_image(stop_time=0.5))[-1].timestamp_ns.tolist() == [ARMED_NS + 1_500_000_000]
    assert told(v2_start(arm_date=Tag(1, 1_714_990_272)))[0].parts.started_ns == 1_714_990_272_000_000_000


# accidents


def test_an_image_without_a_start_begins_in_the_middle():
    facts = told(channels(7), channels(8), v2_end())
    assert kinds(facts) == ["Began", "Learned", "Frames", "Frames", "Ended"]
    assert (facts[0].run, facts[0].in_middle) == (UNIQUE, True)
    assert "the first is used" in facts[0].parts.doubts[0]


def test_a_new_series_and_images_of_the_old_one():
    other = {"series_unique_id": "B", "series_id": 6}
    facts = told(v2_start(), v2_image(), v2_start(**other), v2_image(1), v2_image(**other), v2_end())
    assert kinds(facts) == ["Began", "Frames", "Ended", "Began", "GrammarError", "Frames"]
    assert (facts[2].run, facts[2].reason) == (UNIQUE, EndReason.SUPERSEDED)
    assert (facts[4].frames, f"an image of '{UNIQUE}', which has ended" in str(facts[4])) == (1, True)


def test_a_start_that_is_repeated():
    facts = told(v2_start(), v2_start(), v2_image(0), v2_start(detector_translation=[0, 0, 3]), v2_image(1))
    assert kinds(facts) == ["Began", "Learned", "Frames", "Learned", "Frames"]
    assert known(facts).distance_m == 3.0
    facts = told(v2_start(), v2_image(0), v2_start(), v2_image(0))
    assert kinds(facts) == ["Began", "Frames", "Ended", "Began", "Frames"]


SPOILT = {
    "nothing": (b"\xf6", "message", 0),
    "a list": (b"\x80", "message", 0),
    "no type": (b"\xa0", "message.type", 0),
    "another type": (cbor({"type": "picture"}), "message.type", 0),
    "a type that is a list": (cbor({"type": ["image"]}), "message.type", 0),
    "text": (b"GET / HTTP/1.1\r\n", "message", 0),
    "cut": (v2_image()[:-5], "cbor", 0),
    "no number": (v2_image(image_id=None), "image.image_id", 1),
    "a negative number": (v2_image(image_id=-1), "image.image_id", 1),
    "true as a number": (v2_image(image_id=True), "image.image_id", 1),
    "no data": (v2_image(data={}), "image.data", 1),
    "data that are text": (v2_image(data="x"), "image.data", 1),
    "a channel of text": (v2_image(data={"threshold_1": "x"}), "image.data", 1),
    "another channel": (v2_image(data={"a": v2_array(counts(SHAPE, "<u2"))}), "image.data", 1),
    "zstd": (v2_image(data={"threshold_1": Tag(56500, ["zstd", 0, b""])}), "image.data", 1),
    "elements of 3": (v2_image(data={"threshold_1": Tag(56500, ["bslz4", 3, b""])}), "image.data", 1),
    "compressed nothing": (v2_image(data={"threshold_1": Tag(56500, [])}), "image.data", 1),
    "sizes of text": (v2_image(data={"threshold_1": Tag(40, ["x", b""])}), "image.data", 1),
    "a stack": (v2_image(data={"threshold_1": Tag(40, [[2, 16, 24], Tag(69, b"")])}), "image.data", 1),
    "an unknown tag": (v2_image(data={"threshold_1": Tag(40, [[16, 24], Tag(83, b"")])}), "image.data", 1),
    "a huge frame": (v2_image(data={"threshold_1": Tag(40, [[1 << 40, 24], Tag(69, b"")])}), "frame.shape", 1),
    "few pixels": (v2_image(data={"threshold_1": Tag(40, [[16, 24], Tag(69, b"few")])}), "frame.payload", 1),
    "a long name": (v2_image(series_unique_id="x" * 200), "series_unique_id", 1),
}


@pytest.mark.parametrize("name", SPOILT)
def test_what_cannot_be_read_costs_itself_and_nothing_else(name):
    data, field, lost = SPOILT[name]
    facts = told(v2_start(), v2_image(0), data, v2_image(9), v2_end())
    errors = [fact for fact in facts if isinstance(fact, ProtocolError)]
    assert [(error.field, error.frames) for error in errors] == [(field, lost)]
    assert list(frames(facts)) == [0, 9]
    assert kinds(facts)[-1] == "Ended"


# traps


@pytest.mark.parametrize(
    ("changes", "name", "value", "doubt"),
    [
        ({"incident_wavelength": None}, "wavelength_m", 1.54980248e-10, ""),
        (
            {"incident_energy": 12400.0},
            "wavelength_m",
            None,
            "incident_energy = 12400, incident_wavelength = 1.5498 contradict",
        ),
        ({"incident_energy": 2e5, "incident_wavelength": 0.02508}, "wavelength_m", 2.508e-12, ""),
        ({"detector_translation": [0.0, 0.0, -0.237]}, "distance_m", 0.237, ""),
        ({"detector_translation": [0.0, 0.0, 0.0]}, "distance_m", None, ""),
        ({"detector_translation": [0.0, 0.0, 237.0]}, "distance_m", None, "detector_translation[2] = 237 is no plausible"),
        ({"detector_translation": [1.0]}, "distance_m", None, ""),
        ({"detector_translation": ["a", "b", "c"]}, "distance_m", None, ""),
        ({"detector_translation": [0, 0, float("nan")]}, "distance_m", None, ""),
        ({"image_dtype": None}, "dtype", None, ""),
        ({"image_dtype": "uint32le"}, "dtype", np.uint32, ""),
        ({"image_dtype": "complex"}, "dtype", None, ""),
        ({"image_dtype": "uint8"}, "saturation", 254, "begins again at 0 above 255"),
        ({"saturation_value": None}, "saturation", 65534, ""),
        ({"saturation_value": 3}, "saturation", 65534, "saturation_value = 3 is too low"),
        ({"flatfield_enabled": False}, "dtype", np.uint16, "the detector does not apply its flat field"),
        ({"number_of_images": 0}, "expected", None, ""),
        ({"beam_center_x": -5.0}, "beam_center_px", None, "is off the detector of 24 x 16"),
        ({"pixel_size_x": 75.0}, "pitch_m", None, "pixel_size_x = 75 is no plausible number of m"),
        ({"pixel_mask": {"threshold_1": "x"}}, "valid", None, "the pixel mask cannot be read, and is not used"),
        (
            {"pixel_mask": {"threshold_1": v2_array(np.zeros((24, 16), "<u4"))}},
            "valid",
            None,
            "has 16 x 24 pixels, frames 24 x 16",
        ),
        ({"pixel_mask": {"a": b"", "b": b""}}, "valid", None, ""),
        ({"channels": "threshold_1"}, "dtype", np.uint16, ""),
    ],
)
def test_what_is_announced_is_used_told_or_both(changes, name, value, doubt):
    parts = known(told(v2_start(**changes)))
    assert getattr(parts, name) == (pytest.approx(value, rel=1e-6) if isinstance(value, float) else value)
    text = " | ".join(parts.doubts)
    assert doubt in text
    assert bool(doubt) == bool(parts.doubts), text


def test_what_comes_is_taken_where_something_else_was_announced():
    facts = told(v2_start(image_dtype="uint32", saturation_value=None), v2_image())
    assert kinds(facts) == ["Began", "Learned", "Frames"]
    parts = known(facts)
    assert (parts.dtype, parts.saturation) == (np.uint16, 65534)
    assert parts.doubts == ("uint32 pixels are announced, uint16 come; these are taken",)


@pytest.mark.parametrize(
    ("user", "kept"),
    [
        ({"a": 1, "b": [2]}, {"a": 1}),
        ('{"a": 1}', {"a": 1}),
        ("sample 7", {"user_data": "sample 7"}),
        (7, {"user_data": 7}),
        ("[" * 100_000, {}),
    ],
)
def test_user_data(user, kept):
    metadata = known(told(v2_start(user_data=user))).metadata
    assert kept.items() <= metadata.items()
    assert len(str(metadata.get("user_data", ""))) <= 4096


# harm


def changed(count: int) -> int:
    """Feed so many objects with random changes; returns how many facts followed."""
    random_ = random.Random(count)
    sound = [
        v2_start(pixel_mask={"threshold_1": v2_array(np.zeros(SHAPE, "<u4"), "lz4")}),
        *(v2_image(i) for i in range(3)),
        v2_end(),
    ]
    dialect, facts = DectrisV2(), 0
    for _ in range(count):
        data = bytearray(random_.choice(sound))
        for _ in range(random_.randint(0, 3)):
            at = random_.randrange(len(data) or 1)
            match random_.randrange(4):
                case 0 if data:
                    data[at] = random_.randrange(256)
                case 1:
                    data[at : at + random_.randrange(9)] = random_.randbytes(random_.randrange(9))
                case 2:
                    data = data[: len(data) - random_.randrange(40)]
                case 3:
                    data += data[at:]
        for fact in dialect.feed([bytes(data)], 0.0):
            assert isinstance(fact, Began | Learned | Frames | Ended | ProtocolError)
            facts += 1
    return facts


@pytest.mark.parametrize("count", [2000, pytest.param(20_000, marks=pytest.mark.slow)])
def test_random_changes_raise_nothing(count):
    assert changed(count) > count // 2


def test_random_changes_allocate_little():
    tracemalloc.start()
    try:
        assert changed(300) > 150
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()


@settings(max_examples=200)
@given(st.lists(st.one_of(st.binary(max_size=60), st.sampled_from(OBJECTS)), max_size=10))
def test_any_parts(parts):
    dialect = DectrisV2()
    assert all(isinstance(fact, Began | Learned | Frames | Ended | ProtocolError) for fact in dialect.feed(parts, 0.0))
    other = {"series_unique_id": "C", "series_id": 99}
    assert list(frames(told(v2_start(**other), v2_image(**other), dialect=dialect))) == [0]
    assert list(dialect.tick(1e6)) == []


def test_stream_v1_is_refused_with_its_name():
    header, pixels = b'{"htype": "dimage-1.0", "series": 1, "frame": 0}', bytes(32)
    first, *_ = DectrisV2().feed([header, pixels], 0.0)
    assert isinstance(first, CodecError)
    assert "format = 'dectris-v1'" in str(first)


def test_a_long_row_of_small_objects_costs_one_error():
    for byte in (b"\xa0", b"\x00", b"\xf6", b"\x80"):
        assert kinds(told(byte * 100_000)) == ["CodecError"]
    assert kinds(told(v2_start(), v2_end() * 2)) == ["Began", "Ended"]
    assert isinstance(told(v2_end())[0], GrammarError)
