"""Stream V1 by messages written down by hand: what detectors, simulators and accidents send."""

import json
import random
import tracemalloc
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamptycho.dialects.dectris.v1 import SILENCE_S, DectrisV1
from streamptycho.dialects.door import Interpreter
from streamptycho.errors import CodecError, ConfigError, GrammarError, ProtocolError
from streamptycho.messages.facts import Began, Ended, Fact, Frames, Learned
from streamptycho.messages.payload import Encoding
from streamptycho.messages.reasons import EndReason
from tests.dialects.by_hand import (
    CONFIG,
    SHAPE,
    bslz4,
    bslz4_blocks,
    counts,
    described,
    hdf5_lz4,
    known,
    lz4_block,
    text,
    v1_end,
    v1_header,
    v1_image,
)


def told(*messages: Sequence[bytes], dialect: DectrisV1 | None = None, silence: bool = True) -> list[Fact]:
    """What follows from messages and, at last, from silence."""
    dialect = DectrisV1() if dialect is None else dialect
    facts = [fact for parts in messages for fact in dialect.feed(parts, 10.0)]
    return [*facts, *dialect.tick(10.0 + SILENCE_S)] if silence else facts


def frames(facts: Sequence[Fact]) -> dict[int, Frames]:
    return {int(fact.number[0]): fact for fact in facts if isinstance(fact, Frames)}


def kinds(facts: Sequence[Fact]) -> list[str]:
    return [type(fact).__name__ for fact in facts]


def doubts(**config) -> str:
    return " | ".join(known(told(v1_header(**config))).doubts)


# what a detector sends


def test_a_series_with_all_details():
    facts = told(v1_header(detail="all"), *(v1_image(i) for i in range(6)), v1_end())
    assert kinds(facts) == ["Began", *["Frames"] * 6, "Ended"]
    began, ended = facts[0], facts[-1]
    assert (began.run, began.in_middle) == ("5", False)
    assert (ended.run, ended.reason, ended.count) == ("5", EndReason.COMPLETE, None)
    parts = began.parts
    assert parts.wavelength_m == pytest.approx(1.5498e-10)
    assert (parts.distance_m, parts.pitch_m, parts.frame_shape) == (2.5, (8.0e-5, 7.5e-5), SHAPE)
    assert (parts.dtype, parts.expected, parts.saturation) == (np.uint16, 6, 50000)
    assert parts.beam_center_px == (7.25, 12.5)
    assert parts.started_ns == 1_714_990_272_500_000_000  # 10:11:12.5 UTC
    expected = np.ones(SHAPE, bool)
    expected[[0, 1, 15], [0, 2, 23]] = False
    np.testing.assert_array_equal(parts.valid, expected)
    assert parts.metadata["pixel_mask"] == "gap 1, dead 1, noisy 1, virtual 1"
    assert parts.metadata["detector_number"] == "E-01-0100"
    assert parts.metadata["auto_summation"] is True
    assert parts.doubts == ()
    for i, frame in frames(facts).items():
        assert (frame.run, frame.payload.encoding) == ("5", Encoding.BSLZ4)
        np.testing.assert_array_equal(frame.payload.decode(), counts(SHAPE, "<u2", i), strict=True)


def test_a_start_without_details():
    facts = told(v1_header(detail="none"), v1_image(), v1_end())
    assert kinds(facts) == ["Began", "Learned", "Frames", "Ended"]
    parts = known(facts)
    assert (parts.frame_shape, parts.dtype, parts.saturation, parts.expected) == (SHAPE, np.uint16, 65534, None)
    assert parts.wavelength_m is None
    assert parts.doubts == ()


def test_a_start_is_told_before_the_first_image_or_after_a_moment():
    dialect = DectrisV1()
    assert told(v1_header(), dialect=dialect, silence=False) == []
    assert list(dialect.tick(10.0 + SILENCE_S / 2)) == []
    assert kinds(dialect.tick(10.0 + SILENCE_S)) == ["Began"]
    assert kinds(told(v1_header(), v1_image(), silence=False)) == ["Began", "Frames"]


@pytest.mark.parametrize(
    ("mode", "nimages", "ntrigger", "expected"),
    [
        ("ints", 6, 1, 6),
        ("exts", 2, 3, 6),
        ("ints", 6, None, 6),
        ("inte", 9, 4, 4),
        ("exte", 1, 700, 700),
        (None, 2, 2, 4),
        ("ints", 0, 3, None),
        ("ints", None, 3, None),
        ("ints", 1 << 40, 1 << 40, None),
    ],
)
def test_images_planned(mode, nimages, ntrigger, expected):
    facts = told(v1_header(trigger_mode=mode, nimages=nimages, ntrigger=ntrigger))
    assert known(facts).expected == expected


@pytest.mark.parametrize("detail", ["none", "basic", "all"])
@pytest.mark.parametrize(
    ("appendix", "kept"),
    [
        (b"sample 7", {"header_appendix": "sample 7"}),
        (b'{"filename": "/data/star.h5", "rotate": 90, "list": [1]}', {"filename": "/data/star.h5", "rotate": 90}),
        (b"\xff\x00\xfe" * 3000, None),
        (b'"a text"', {"header_appendix": '"a text"'}),
    ],
)
def test_appendices(detail, appendix, kept):
    images = [[*v1_image(i), b"image appendix"] for i in range(2)]
    facts = told([*v1_header(detail=detail), appendix], *images, v1_end())
    assert [kind for kind in kinds(facts) if kind != "Learned"] == ["Began", "Frames", "Frames", "Ended"]
    metadata = facts[0].parts.metadata
    if kept is None:
        assert 1 < len(metadata["header_appendix"]) <= 4096
        assert "\0" not in metadata["header_appendix"]
    else:
        assert kept.items() <= metadata.items()


def test_times_count_only_from_the_epoch():
    later = {"start_time": 1_714_990_273_000_000_000, "stop_time": 1_714_990_273_009_900_000}
    facts = told(v1_header(), v1_image(0), v1_image(1, times=later), v1_image(2, times={"stop_time": 1e18}))
    assert [int(frame.timestamp_ns[0]) for frame in frames(facts).values()] == [0, later["stop_time"], 0]


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32"])
@pytest.mark.parametrize("how", ["<", ">", "lz4<", "lz4 framed", "lz4>", "12 bytes", "no header", "zeros", "bs>"])
def test_encodings(dtype, how):
    pixels = counts((67, 129), dtype, 3)
    big = pixels.astype(pixels.dtype.newbyteorder(">"))
    bs = f"bs{8 * pixels.itemsize}-lz4"
    encoding, blob = {
        "<": ("<", pixels.tobytes()),
        ">": (">", big.tobytes()),
        "lz4<": ("lz4<", lz4_block(pixels.tobytes())),
        "lz4>": ("lz4>", lz4_block(big.tobytes())),
        "lz4 framed": ("lz4<", hdf5_lz4(pixels)),
        "12 bytes": (bs + "<", bslz4(pixels)),
        "no header": (bs + "<", bslz4_blocks(pixels)),
        "zeros": (bs + "<", bytes(12) + bslz4_blocks(pixels)),
        "bs>": (bs + ">", bslz4(big)),
    }[how]
    facts = told(v1_header(detail="none"), v1_image(3, blob=blob, encoding=encoding, name=dtype, shape=(129, 67)))
    frame = frames(facts)[3]
    kept = how in ("12 bytes", "no header", "zeros") or (how == "bs>" and dtype == "uint8")
    assert frame.payload.encoding is (Encoding.BSLZ4 if kept else Encoding.RAW)
    np.testing.assert_array_equal(frame.payload.decode(), pixels, strict=True)


def test_pixels_that_look_like_a_header():
    blob = b'{"htype' + bytes(SHAPE[0] * SHAPE[1] * 2 - 7)
    facts = told(v1_header(), v1_image(blob=blob, encoding="<"))
    assert bytes(frames(facts)[0].payload.chunks[0]) == blob


# messages split and glued

STREAM = [
    [*v1_header(detail="all"), b'{"filename": "a.h5"}'],
    *([*v1_image(i), b"appendix"] for i in range(2)),
    v1_image(2)[:3],
    [*v1_image(7, blob=b"spoilt")],
    v1_end(),
    v1_header(6, detail="none"),
    v1_image(0, 6, blob=lz4_block(counts(SHAPE, "<u2").tobytes()), encoding="lz4<"),
    v1_image(1, 5),
    v1_image(1, 6),
    [b"\x00\x01garbage", b"more"],
    v1_image(2, 6)[:2],
    v1_end(6),
]
FLAT = [part for parts in STREAM for part in parts]
TOLD = [described(fact) for fact in told(*STREAM)]


def test_the_stream_of_the_next_tests():
    assert [fact[0] for fact in TOLD] == [
        *["Began", "5", "5", "5", "CodecError", "Ended"],
        *["Began", "Learned", "6", "GrammarError", "6", "CodecError", "CodecError", "Ended"],
    ]


@given(st.lists(st.integers(0, len(FLAT)), max_size=30), st.booleans())
def test_facts_do_not_depend_on_how_parts_are_put_into_messages(cuts, views):
    edges = sorted({0, len(FLAT), *cuts})
    messages = [[memoryview(part) if views else part for part in FLAT[a:b]] for a, b in pairwise(edges)]
    assert [described(fact) for fact in told(*messages)] == TOLD


# accidents


def test_an_image_without_a_start_begins_in_the_middle():
    facts = told(v1_image(40, 7), v1_image(41, 7), v1_end(7))
    assert kinds(facts) == ["Began", "Learned", "Frames", "Frames", "Ended"]
    assert (facts[0].run, facts[0].in_middle) == ("7", True)
    assert list(frames(facts)) == [40, 41]


def test_a_new_series_ends_the_one_that_is_open():
    facts = told(v1_header(5), v1_image(0, 5), v1_header(6), v1_image(0, 6))
    assert kinds(facts) == ["Began", "Frames", "Ended", "Began", "Frames"]
    assert (facts[2].run, facts[2].reason) == ("5", EndReason.SUPERSEDED)
    facts = told(v1_header(5), v1_image(0, 5), v1_image(8, 6))
    assert [fact.in_middle for fact in facts if isinstance(fact, Began)] == [False, True]


def test_images_of_an_old_series_are_told_and_left_out():
    facts = told(v1_header(5), v1_image(0, 5), v1_end(5), v1_image(1, 5), v1_header(6), v1_image(2, 5), v1_image(0, 6))
    assert kinds(facts) == ["Began", "Frames", "Ended", "GrammarError", "Began", "GrammarError", "Frames"]
    assert "an image of '5', which has ended" in str(facts[3])
    assert [fact.frames for fact in facts if isinstance(fact, GrammarError)] == [1, 1]
    facts = told(v1_header(6), v1_image(9, 5), v1_image(0, 6), v1_end(6))
    assert kinds(facts) == ["Began", "GrammarError", "Frames", "Ended"]
    assert "older than 6, which is open" in str(facts[1])


def test_a_detector_that_was_started_anew_counts_from_one_again():
    facts = told(v1_header(57), v1_image(0, 57), v1_end(57), v1_header(1), v1_image(9, 57), v1_image(0, 1), v1_end(1))
    assert kinds(facts) == ["Began", "Frames", "Ended", "Began", "GrammarError", "Frames", "Ended"]
    assert kinds(told(v1_image(0, 57), v1_end(57), v1_image(5, 1)))[-3:] == ["Began", "Learned", "Frames"]


def test_a_series_number_that_comes_again_after_its_end():
    one = [v1_header(1), v1_image(0, 1), v1_end(1)]
    assert kinds(told(*one, *one)) == ["Began", "Frames", "Ended"] * 2


def test_a_start_that_is_repeated():
    facts = told(v1_header(), v1_header(), v1_image(0), v1_image(1))
    assert kinds(facts) == ["Began", "Learned", "Frames", "Frames"]
    facts = told(v1_header(), v1_image(0), v1_header(detector_distance=3.0), v1_image(1))
    assert kinds(facts) == ["Began", "Frames", "Learned", "Frames"]
    assert known(facts).distance_m == 3.0
    # the next run of a sender without ends, under the same number
    facts = told(v1_header(), v1_image(0), v1_image(1), v1_header(detector_distance=3.0), v1_image(0), v1_image(1))
    assert kinds(facts) == ["Began", "Frames", "Frames", "Ended", "Began", "Frames", "Frames"]
    assert (facts[3].reason, facts[4].in_middle, facts[4].parts.distance_m) == (EndReason.SUPERSEDED, False, 3.0)


def test_images_beyond_those_announced_are_told_once():
    facts = told(v1_header(), *(v1_image(i) for i in range(9)))
    assert list(frames(facts)) == list(range(9))
    assert [doubt for doubt in known(facts).doubts if "beyond" in doubt] == [
        "image 6 is beyond the 6 announced; correct that at the detector or give scan.expected"
    ]


def test_no_end_is_told_that_does_not_come():
    dialect = DectrisV1()
    told(v1_header(), v1_image(0), dialect=dialect)
    assert list(dialect.tick(1e6)) == []
    assert kinds(told(v1_end(9))) == ["GrammarError"]


SPOILT = {
    "no pixels": (lambda: v1_image()[:2], "dimage", 1),
    "nothing behind the header": (lambda: v1_image()[:1], "dimage", 1),
    "no header": (lambda: v1_image()[1:], "dimage_d", 1),
    "no series": (lambda: [text({"htype": "dimage-1.0", "frame": 1}), *v1_image()[1:]], "dimage.series", 1),
    "a negative number": (
        lambda: [text({"htype": "dimage-1.0", "series": 5, "frame": -1}), *v1_image()[1:]],
        "dimage.frame",
        1,
    ),
    "a number that is true": (
        lambda: [text({"htype": "dimage-1.0", "series": 5, "frame": True}), *v1_image()[1:]],
        "dimage.frame",
        1,
    ),
    "complex pixels": (lambda: v1_image(name="complex64"), "dimage_d.type", 1),
    "zstd": (lambda: v1_image(encoding="bs16-zstd<"), "dimage_d.encoding", 1),
    "elements of another size": (lambda: v1_image(encoding="bs32-lz4<"), "dimage_d.encoding", 1),
    "three bytes": (lambda: v1_image(blob=b"abc", encoding="<"), "frame.payload", 1),
    "no bytes": (lambda: v1_image(blob=b""), "frame.payload", 1),
    "64 bits": (lambda: v1_image(blob=b"\1" * (8 * 16 * 24), encoding="<", name="uint64"), "frame.dtype", 1),
    "three axes": (
        lambda: [*v1_image()[:1], text({"htype": "dimage_d-1.0", "shape": [24, 16, 1]}), b""],
        "dimage_d.shape",
        1,
    ),
    "a huge frame": (lambda: v1_image(shape=(1 << 20, 1 << 20), blob=b"x"), "frame.shape", 1),
    "an unknown part": (lambda: [text({"htype": "dfoo-1.0"})], "htype", 0),
    "a list for a kind": (lambda: [text({"htype": ["dimage-1.0"]})], "htype", 0),
    "a web browser": (lambda: [b"an appendix, perhaps", b"GET / HTTP/1.1"], "message", 0),
    "an end of nothing": (lambda: [text({"htype": "dseries_end-1.0"})], "dseries_end.series", 0),
}


@pytest.mark.parametrize("name", SPOILT)
def test_what_cannot_be_read_costs_itself_and_nothing_else(name):
    parts, field, lost = SPOILT[name]
    facts = told(v1_header(detail="none"), v1_image(0), parts(), v1_image(9), v1_end())
    errors = [fact for fact in facts if isinstance(fact, ProtocolError)]
    assert [(error.field, error.frames) for error in errors] == [(field, lost)]
    assert [number for number in frames(facts) if number] == [9]
    assert kinds(facts)[-1] == "Ended"


def test_a_start_that_cannot_be_read_is_told():
    facts = told([v1_header()[0], b"{'wavelength': 1}"], v1_image())
    assert kinds(facts) == ["CodecError", "Began", "Learned", "Frames"]
    assert "a configuration of 17 bytes is not a JSON object" in str(facts[0])
    facts = told([*v1_header(detail="all")[:3]], v1_image())
    assert kinds(facts) == ["CodecError", "Began", "Frames"]
    assert "a table without data" in str(facts[0])


def test_errors_say_whose_image_it_was():
    facts = told(v1_header(), v1_image(blob=b"abc", encoding="<"), v1_image()[:2], v1_end())
    assert [(error.scan_id, error.frames) for error in facts if isinstance(error, CodecError)] == [("5", 1)] * 2


# traps


@pytest.mark.parametrize(
    ("config", "name", "value", "doubt"),
    [
        ({}, "wavelength_m", 1.5498e-10, ""),
        ({"wavelength": None}, "wavelength_m", 1.54980248e-10, ""),
        ({"wavelength": 0}, "wavelength_m", 1.54980248e-10, ""),
        ({"wavelength": float("nan")}, "wavelength_m", 1.54980248e-10, ""),
        ({"photon_energy": None, "incident_energy": None}, "wavelength_m", 1.5498e-10, ""),
        ({"photon_energy": 8040}, "wavelength_m", 1.5498e-10, ""),
        (
            {"photon_energy": 12400.0},
            "wavelength_m",
            None,
            "photon_energy = 12400, incident_energy = 8000, wavelength = 1.5498",
        ),
        ({"wavelength": None, "photon_energy": 12400.0}, "wavelength_m", None, "contradict each other"),
        ({"wavelength": 1.5498e-10}, "wavelength_m", 1.54980248e-10, "wavelength = 1.5498e-10 is no plausible number of Å"),
        ({"wavelength": None, "photon_energy": 8.0}, "wavelength_m", 1.54980248e-10, "photon_energy = 8 is no plausible"),
        # 200 keV electrons: by both, by the energy alone, and as if they were photons
        ({"wavelength": 0.02508, "photon_energy": None, "incident_energy": 2e5}, "wavelength_m", 2.508e-12, ""),
        (
            {"wavelength": None, "photon_energy": None, "incident_energy": 2e5, "description": "Dectris ARINA Si"},
            "wavelength_m",
            None,
            "may be of photons or electrons; correct them at the detector or give scan.energy_ev or scan.wavelength_m",
        ),
        ({"detector_distance": 0}, "distance_m", None, ""),
        ({"detector_distance": "2.5"}, "distance_m", None, ""),
        ({"detector_distance": float("inf")}, "distance_m", None, ""),
        ({"detector_distance": 10**400}, "distance_m", None, ""),
        ({"detector_distance": 2500.0}, "distance_m", None, "detector_distance = 2500 is no plausible number of m"),
        ({"detector_distance": -2.5}, "distance_m", None, "give scan.distance_m"),
        ({"x_pixel_size": 75.0}, "pitch_m", None, "x_pixel_size = 75 is no plausible number of m"),
        ({"x_pixel_size": 0.075, "y_pixel_size": 0.075}, "pitch_m", None, "give scan.pitch_m"),
        ({"y_pixel_size": None}, "pitch_m", None, ""),
        ({"beam_center_x": 0}, "beam_center_px", None, ""),
        ({"beam_center_x": 24.0, "beam_center_y": 0.5}, "beam_center_px", (0.5, 24.0), ""),
        (
            {"beam_center_x": 24.5},
            "beam_center_px",
            None,
            "beam_center_x, beam_center_y = 24.5, 7.25 is off the detector of 24 x 16",
        ),
        ({"beam_center_y": -1}, "beam_center_px", None, "give scan.beam_center_px"),
        ({"countrate_correction_count_cutoff": None}, "saturation", 65534, ""),
        ({"countrate_correction_count_cutoff": 0}, "saturation", 65534, ""),
        ({"countrate_correction_count_cutoff": 1 << 31}, "saturation", 65534, ""),
        ({"countrate_correction_count_cutoff": 1}, "saturation", 65534, "= 1 is too low"),
        ({"countrate_correction_count_cutoff": None, "bit_depth_image": 32}, "saturation", 4294967294, ""),
        (
            {"countrate_correction_count_cutoff": 9999999, "bit_depth_image": 8},
            "saturation",
            254,
            "begins again at 0 above 255",
        ),
        ({"flatfield_correction_applied": False}, "dtype", np.uint16, "the detector does not apply its flat field"),
        ({"flatfield_correction_applied": 0}, "dtype", np.uint16, "the detector does not apply its flat field"),
        ({"x_pixels_in_detector": 1 << 40}, "frame_shape", None, "are more than 67108864 pixels"),
        ({"x_pixels_in_detector": 0}, "frame_shape", None, ""),
        ({"bit_depth_image": 12}, "dtype", None, ""),
        ({"data_collection_date": "2024-05-06T12:11:12"}, "started_ns", None, ""),
        ({"data_collection_date": "2024-13-06T12:11:12Z"}, "started_ns", None, ""),
        ({"data_collection_date": "1970-01-01T00:00:00Z"}, "started_ns", None, ""),
    ],
)
def test_what_is_announced_is_used_told_or_both(config, name, value, doubt):
    parts = known(told(v1_header(**config)))
    found = getattr(parts, name)
    assert found == (pytest.approx(value, rel=1e-6) if isinstance(value, float) else value)
    text = " | ".join(parts.doubts)
    assert doubt in text
    assert bool(doubt) == bool(parts.doubts), text


def test_what_comes_is_taken_where_something_else_was_announced():
    image = v1_image(name="uint32", encoding="bs32-lz4<", shape=(24, 17))
    facts = told(v1_header(countrate_correction_count_cutoff=None), image)
    assert kinds(facts) == ["Began", "Learned", "Frames"]
    parts = known(facts)
    assert (parts.dtype, parts.frame_shape, parts.saturation) == (np.uint32, (17, 24), 4294967294)
    assert parts.doubts == (
        "uint16 pixels are announced, uint32 come; these are taken",
        "frames of (16, 24) pixels (y, x) are announced, (17, 24) come; these are taken",
    )
    facts = told(v1_header(detail="none"), v1_image(name="uint8", encoding="bs8-lz4<"))
    assert "begins again at 0 above 255" in known(facts).doubts[0]


@pytest.mark.parametrize(
    ("shape", "name", "blob", "doubt"),
    [
        ([16, 24], "uint32", bytes(4 * 16 * 24), "has 16 x 24 pixels, frames 24 x 16"),
        ([24, 16], "uint32", b"word", "cannot be read, and is not used: 4 bytes"),
        ([24, 16], "float32", bytes(4 * 16 * 24), "has no bits"),
        ([24, 16], "uint32", b"\1" * (4 * 16 * 24), "leaves no pixel"),
        ("24", "uint32", b"word", "cannot be read"),
        ([24, 16], "string", b"word", "cannot be read"),
    ],
)
def test_a_mask_that_cannot_be_is_left_out(shape, name, blob, doubt):
    mask = [text({"htype": "dpixelmask-1.0", "shape": shape, "type": name}), blob]
    parts = known(told([*v1_header(), *mask], v1_image()))
    assert parts.valid is None
    assert [doubt in said for said in parts.doubts] == [True]


def test_parts_of_a_start_that_come_late():
    first, config, *rest = v1_header(detail="all")
    dialect = DectrisV1()
    facts = [*told([first], dialect=dialect), *told([config], rest, v1_image(), v1_end(), dialect=dialect)]
    assert kinds(facts) == ["Began", "Learned", "Learned", "Frames", "Ended"]
    parts = known(facts)
    assert (parts.distance_m, parts.saturation, parts.valid.sum()) == (2.5, 50000, 16 * 24 - 3)


def test_metadata_is_bounded_and_can_be_kept():
    config = {f"key {i}": "x" * 1000 for i in range(1000)} | {"big": 1 << 63, "nan": float("nan"), "bad": "\ud800\0"}
    parts = known(told(v1_header(**config)))
    assert len(parts.metadata) == 200
    assert max(len(value) for value in parts.metadata.values() if isinstance(value, str)) == 200
    parts = known(told(v1_header(big=1 << 63, nan=float("nan"), bad="\ud800\0a", nested={"a": 1})))
    assert parts.metadata["bad"] == "?a"
    assert not {"big", "nan", "nested"} & parts.metadata.keys()


# harm


def changed(count: int) -> int:
    """Feed so many messages with random changes; returns how many facts followed."""
    random_ = random.Random(count)
    sound = [v1_header(detail="all"), *(v1_image(i) for i in range(3)), v1_end()]
    dialect, facts = DectrisV1(), 0
    for _ in range(count):
        parts = list(random_.choice(sound))
        for _ in range(random_.randint(1, 3)):
            parts = mutated(parts, random_)
        for fact in dialect.feed(parts, 0.0):
            assert isinstance(fact, Began | Learned | Frames | Ended | ProtocolError)
            facts += 1
    return facts


@pytest.mark.parametrize("count", [2000, pytest.param(20_000, marks=pytest.mark.slow)])
def test_random_changes_raise_nothing(count):
    assert changed(count) > count // 4


def test_random_changes_allocate_little():
    tracemalloc.start()
    try:
        assert changed(300) > 75
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()


def mutated(parts: list[bytes], random_: random.Random) -> list[bytes]:
    """One change: a byte, a number, a cut, a part gone, twice, or elsewhere."""
    i = random_.randrange(len(parts)) if parts else 0
    part = bytearray(parts[i]) if parts else bytearray()
    match random_.randrange(6):
        case 0 if part:
            part[random_.randrange(len(part))] = random_.randrange(256)
        case 1 if part:
            at = random_.randrange(len(part))
            part[at : at + random_.randrange(9)] = random_.choice(
                [b"", b"99999999999999", b"-1", b"\xff" * 8, b"null", b"[[["]
            )
        case 2:
            part = part[: random_.randrange(len(part) + 1)]
        case 3:
            return parts[:i] + parts[i + 1 :]
        case 4:
            return [*parts[:i], parts[i], *parts[i:]] if parts else []
        case 5:
            return random_.sample(parts, len(parts))
    return [*parts[:i], bytes(part), *parts[i + 1 :]]


@settings(max_examples=200)
@given(st.lists(st.one_of(st.binary(max_size=40), st.sampled_from(FLAT)), max_size=12))
def test_any_parts(parts):
    dialect = DectrisV1()
    assert all(isinstance(fact, Began | Learned | Frames | Ended | ProtocolError) for fact in dialect.feed(parts, 0.0))
    told(v1_end(5), v1_end(6), dialect=dialect)
    facts = told(v1_header(99), v1_image(0, 99), dialect=dialect)
    assert list(frames(facts)) == [0]


def test_deep_json_and_long_numbers():
    deep = b'{"htype":"dimage-1.0","series":' + b"[" * 100_000
    long = b'{"htype":"dimage-1.0","series":' + b"9" * 100_000 + b"}"
    for part in (deep, long, b" " * 2_000_000, b"{" * 2_000_000):
        assert kinds(told([part])) == ["CodecError"]


def test_it_is_built_in_and_has_no_options():
    facts = list(Interpreter("dectris-v1").feed([*v1_header(), *v1_image()], 0.0))
    assert kinds(facts) == ["Began", "Frames"] or kinds(facts) == ["Began"]
    with pytest.raises(ConfigError, match=r"options\.channel: the dialect dectris-v1 has no such option; it has none"):
        Interpreter("dectris-v1", {"channel": "a"})
    assert json.loads(v1_header()[1]) == CONFIG
