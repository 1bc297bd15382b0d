"""Each step from counts to amplitudes, alone and together."""

import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from streamptycho.errors import ConfigError, ScanError
from streamptycho.messages.geometry import Orientation
from streamptycho.preprocess.options import FrameOptions, PositionOptions
from streamptycho.preprocess.positions import PositionTransform
from streamptycho_sim.forward import diffract
from streamptycho_sim.illumination import IlluminationOptions, probe
from tests.preprocess.helpers import blob, prepare, preprocessor, saved, seen, start

RNG = np.random.default_rng(0)
COUNTS = RNG.poisson(200, (32, 32)).astype(np.uint16)
PLAIN = {"detect_bad_pixels": False, "center": "frame"}


def test_amplitude_is_the_root_of_the_counts_with_zero_frequency_first():
    raw = np.zeros((32, 32), np.uint16)
    raw[16, 16], raw[16, 17] = 400, 9
    made = preprocessor(**PLAIN)
    [prepared] = made.add(7, raw)
    assert prepared.key == 7
    assert prepared.amplitude.dtype == np.float32
    assert prepared.amplitude[0, 0] == 20
    assert prepared.amplitude[0, 1] == 3
    assert prepared.amplitude.sum() == 23


@pytest.mark.parametrize("shape", [(31, 33), (33, 31), (9, 15)])
def test_zero_frequency_comes_first_in_odd_frames_too(shape: tuple[int, int]):
    raw = blob(shape, (shape[0] // 2, shape[1] // 2), 1.0)
    made = preprocessor(start(shape), crop=shape, **PLAIN)
    assert np.unravel_index(made.add(0, raw)[0].amplitude.argmax(), shape) == (0, 0)


# orientation


@pytest.mark.parametrize("orientation", list(Orientation))
def test_frame_and_everything_of_its_shape_are_oriented_alike(orientation: Orientation, tmp_path):
    shape = (24, 32)
    raw = RNG.poisson(300, shape).astype(np.uint16)
    dark = RNG.uniform(0, 20, shape).astype(np.float32)
    valid, mask, pattern = RNG.random(shape) > 0.1, RNG.random(shape) > 0.1, RNG.uniform(0, 30, shape).astype(np.float32)
    oriented_shape = orientation.shape(shape)
    made = preprocessor(
        start(shape, valid=valid, dark=dark),
        orientation=orientation,
        mask_file=saved(tmp_path / "mask.npy", mask),
        background="pattern",
        background_file=saved(tmp_path / "pattern.npy", pattern),
        crop=oriented_shape,
        **PLAIN,
    )
    expected = np.where(valid & mask, np.sqrt(np.maximum(raw - dark - pattern, 0)), -1)
    assert made.frame_shape == made.shape == oriented_shape
    np.testing.assert_allclose(prepare(made, raw), orientation.apply(expected), rtol=1e-6)


@pytest.mark.parametrize("orientation", list(Orientation))
@pytest.mark.parametrize("center", [(9.0, 20.0), (14.0, 11.0)])
def test_announced_beam_centre_follows_the_orientation(orientation: Orientation, center: tuple[float, float]):
    shape = (24, 32)
    raw = blob(shape, center, 1.0)
    made = preprocessor(start(shape, beam_center_px=center), orientation=orientation, crop=(8, 8), detect_bad_pixels=False)
    amplitude = prepare(made, raw)
    assert np.unravel_index(amplitude.argmax(), amplitude.shape) == (4, 4)


@pytest.mark.parametrize("orientation", list(Orientation))
def test_orientation_undoes_how_a_detector_was_mounted(orientation: Orientation):
    truth = RNG.poisson(300, (24, 32)).astype(np.uint16)
    [inverse] = [o for o in Orientation if np.array_equal(orientation.apply(o.apply(truth)), truth)]
    raw = np.ascontiguousarray(inverse.apply(truth))
    made = preprocessor(start(raw.shape), orientation=orientation, crop=(24, 32), **PLAIN)
    np.testing.assert_allclose(prepare(made, raw), np.sqrt(truth), rtol=1e-6)


# dark


def test_given_dark_is_subtracted_and_never_below_zero():
    dark = np.full((32, 32), 190.5, np.float32)
    amplitude = prepare(preprocessor(start(dark=dark), **PLAIN), COUNTS)
    np.testing.assert_allclose(amplitude, np.sqrt(np.maximum(COUNTS - 190.5, 0)), rtol=1e-6)
    assert (amplitude == 0).any()


def test_mean_of_the_dark_exposures_takes_the_place_of_a_given_dark():
    darks = RNG.poisson(50, (5, 32, 32)).astype(np.uint16)
    given = start(dark=np.full((32, 32), 999, np.float32))
    for scan_start in (start(), given):
        made = preprocessor(scan_start, **PLAIN)
        for dark in darks:
            made.add_dark(dark)
        np.testing.assert_allclose(prepare(made, COUNTS), np.sqrt(np.maximum(COUNTS - darks.mean(0), 0)), rtol=1e-4)
    assert (given.dark == 999).all()


def test_dark_can_be_switched_off():
    made = preprocessor(start(dark=np.full((32, 32), 50, np.float32)), dark=False, **PLAIN)
    made.add_dark(COUNTS)
    np.testing.assert_allclose(prepare(made, COUNTS), np.sqrt(COUNTS), rtol=1e-6)


def test_dark_exposures_with_nan_spoil_nothing():
    made = preprocessor(start(dtype="float32"), **PLAIN)
    made.add_dark(np.full((32, 32), np.nan, np.float32))
    np.testing.assert_allclose(prepare(made, COUNTS.astype(np.float32)), np.sqrt(COUNTS), rtol=1e-6)


# masks and values


def test_given_masks_join(tmp_path):
    valid, mask = np.ones((32, 32), np.bool_), np.ones((32, 32), np.uint8)
    valid[3, 4], mask[5, 6] = False, 0
    amplitude = prepare(preprocessor(start(valid=valid), mask_file=saved(tmp_path / "m.npy", mask), **PLAIN), COUNTS)
    assert sorted(map(tuple, np.argwhere(amplitude < 0))) == [(3, 4), (5, 6)]
    assert (amplitude[amplitude < 0] == -1).all()


VALUES = [
    ("uint8", None, True, {253: 253, 254: None, 255: None}),
    ("uint8", None, False, {254: 254, 255: 255}),
    ("uint16", None, True, {65533: 65533, 65534: None, 65535: None}),
    ("uint32", None, True, {65535: 65535, 2**32 - 3: 2**32 - 3, 2**32 - 2: None, 2**32 - 1: None}),
    ("uint16", 1000, True, {999: 999, 1000: None, 1001: None, 65535: None}),
    ("uint16", 1000, False, {999: 999, 65535: None}),
    ("int16", None, True, {32767: 32767, 32766: 32766, 0: 0, -1: None, -5: None}),
    ("int16", None, False, {32767: 32767, -5: 0}),
    ("int32", 1000, True, {999: 999, 1000: None, -1: None, -2: None}),
    ("float32", None, True, {1e6: 1e6, -3.5: 0, np.nan: None, np.inf: None, -np.inf: None}),
    ("float32", None, False, {1e9: 1e9, 1.01e9: None, -1.01e9: None, 3e38: None, -3e38: None}),
    ("float32", 1000, True, {999.5: 999.5, 1000.0: None, np.inf: None}),
]


@pytest.mark.parametrize(("dtype", "saturation", "reserved", "values"), VALUES)
def test_saturated_and_reserved_values_are_masked_not_clipped(dtype, saturation, reserved, values):
    raw = np.full((32, 32), 100, dtype)
    raw[0, : len(values)] = list(values)
    made = preprocessor(start(dtype=dtype, saturation=saturation), reserved_values=reserved, **PLAIN)
    amplitude = prepare(made, raw)
    expected = [-1 if counts is None else np.sqrt(counts) for counts in values.values()]
    np.testing.assert_allclose(amplitude[0, : len(values)], expected, rtol=1e-4)
    np.testing.assert_allclose(amplitude[1:], 10, rtol=1e-6)


def series(dtype: str, n: int = 8) -> np.ndarray:
    """Frames of a dim beam, each another one."""
    return np.random.default_rng(1).poisson(20, (n, 32, 32)).astype(dtype)


@pytest.mark.parametrize(
    ("dtype", "value"), [("uint32", 65535), ("int32", 2**31 - 1), ("int32", -1), ("float32", -1), ("float32", 65535)]
)
def test_pixels_that_always_have_a_reserved_value_are_masked_whatever_the_type(dtype, value):
    frames = series(dtype)
    frames[:, 4] = value
    frames[3, 8, 8] = 65535  # once is a count
    made = preprocessor(start(dtype=dtype), **PLAIN)
    amplitudes = [made.add(k, frame) for k, frame in enumerate(frames)][-1][-1].amplitude
    masked = np.fft.fftshift(amplitudes) < 0
    assert masked[4].all()
    assert masked.sum() == 32


@pytest.mark.parametrize("spread", [1, 10])
def test_negative_counts_that_vary_are_noise(spread):
    noise = np.random.default_rng(2).normal(0, spread, (8, 32, 32))
    frames = (np.random.default_rng(1).poisson(0.5, (8, 32, 32)) + noise).round().astype("int16")
    frames[:, 4] = -1
    made = preprocessor(start(dtype="int16"), **PLAIN)
    prepared = {one.key: one for k, frame in enumerate(frames) for one in made.add(k, frame)}
    for k, frame in enumerate(frames):
        amplitude = np.fft.fftshift(prepared[k].amplitude)
        assert (amplitude[4] < 0).all()
        assert (amplitude[5:] >= 0).all()
        assert prepared[k].saturated == 0
        np.testing.assert_allclose(amplitude[5:], np.sqrt(np.maximum(frame[5:], 0)), rtol=1e-6)


def test_saturation_option_overrides_the_announcement_and_counts_before_the_dark():
    raw = np.full((32, 32), 100, np.uint16)
    raw[0, :3] = 499, 500, 2000
    dark = np.full((32, 32), 90, np.float32)
    amplitude = prepare(preprocessor(start(saturation=2000, dark=dark), saturation=500, **PLAIN), raw)
    np.testing.assert_allclose(amplitude[0, :4], [np.sqrt(409), -1, -1, np.sqrt(10)], rtol=1e-6)


def test_negative_values_of_signed_frames_are_judged_before_the_dark_is_subtracted():
    raw = np.full((32, 32), 100, np.int32)
    raw[0, :3] = -1, -2, 5
    dark = np.full((32, 32), -50, np.float32)
    dark[0, 2] = 50
    amplitude = prepare(preprocessor(start(dtype="int32", dark=dark), **PLAIN), raw)
    np.testing.assert_allclose(amplitude[0, :4], [-1, -1, 0, np.sqrt(150)], rtol=1e-6)


def test_a_dark_that_no_detector_has_spoils_nothing():
    dark = np.full((32, 32), 90, np.float32)
    dark[0, 0] = -3e38
    exposure = np.full((32, 32), 90, np.float32)
    exposure[0, 0] = 3e38
    given, taken = preprocessor(start(dtype="float32", dark=dark), **PLAIN), preprocessor(start(dtype="float32"), **PLAIN)
    taken.add_dark(exposure)
    for made in (given, taken):
        amplitude = prepare(made, np.full((32, 32), 99, np.float32))
        assert amplitude[0, 0] == pytest.approx(np.sqrt(99))
        np.testing.assert_allclose(amplitude[1:], 3)


def test_nan_comes_and_goes_with_its_frame():
    made = preprocessor(start(dtype="float32"))
    for key in range(20):
        raw = COUNTS.astype(np.float32)
        raw[key % 5, 3] = np.nan
        amplitude = prepare(made, raw, key)
        assert np.argwhere(amplitude < 0).tolist() == [[key % 5, 3]]
        assert np.isfinite(amplitude).all()


# centre and crop


def test_default_crop_is_the_largest_square_with_the_beam_in_the_middle():
    raw = blob((40, 64), (18, 37), 2.0)
    made = preprocessor(start((40, 64)))
    amplitude = prepare(made, raw)
    assert made.shape == (40, 40)
    assert made.corner == (0, 37 - 20)
    assert np.unravel_index(amplitude.argmax(), made.shape) == (18, 20)


CENTERS = [
    ("frame", None, (16, 20)),
    ("frame", (5.0, 6.0), (16, 20)),
    ("mass", None, (13, 24)),
    ("mass", (5.0, 6.0), (13, 24)),
    ("auto", None, (13, 24)),
    ("auto", (15.0, 17.0), (15, 17)),
    ((14.0, 19.0), (5.0, 6.0), (14, 19)),
    ((14.4, 18.6), None, (14, 19)),
]


@pytest.mark.parametrize(("option", "announced", "expected"), CENTERS)
def test_where_the_centre_comes_from(option, announced, expected):
    raw = blob((32, 40), (13, 24))
    made = preprocessor(start((32, 40), beam_center_px=announced), center=option, crop=(16, 12))
    amplitude = prepare(made, raw)
    assert made.corner == (expected[0] - 8, expected[1] - 6)
    corner = made.corner
    np.testing.assert_allclose(amplitude, np.sqrt(raw[corner[0] : corner[0] + 16, corner[1] : corner[1] + 12]), rtol=1e-6)


@given(st.integers(8, 24), st.integers(8, 24), st.integers(0, 31), st.integers(0, 39))
def test_crop_has_the_centre_at_its_middle_or_ends_at_the_edge(ny: int, nx: int, cy: int, cx: int):
    made = preprocessor(start((32, 40), beam_center_px=(cy, cx)), crop=(ny, nx), detect_bad_pixels=False)
    prepare(made, np.ones((32, 40), np.uint16))
    for c, corner, n, available in zip((cy, cx), made.corner, (ny, nx), (32, 40), strict=True):
        assert 0 <= corner <= available - n
        assert corner == c - n // 2 or corner in (0, available - n)


@pytest.mark.parametrize("center", [(-100.0, 1e6), (1e6, -1e9)])
def test_centre_far_off_the_detector_is_clamped_where_announced_and_refused_where_set(center):
    made = preprocessor(start((32, 40), beam_center_px=center), crop=16)
    assert prepare(made, np.ones((32, 40), np.uint16)).shape == (16, 16)
    assert made.corner == (0 if center[0] < 0 else 16, 0 if center[1] < 0 else 24)
    with pytest.raises(ConfigError, match=r"preprocess\.center: .* is not on the oriented frame of \(32, 40\)"):
        preprocessor(start((32, 40)), crop=16, center=center)


SHIFTS = [
    {"center": (20.0, 11.0)},
    {"center": "mass"},
    {"center_each_frame": True},
    {"center": "frame", "center_each_frame": True},
]


@pytest.mark.parametrize("options", SHIFTS)
@pytest.mark.parametrize("dark", [None, np.full((32, 32), 7, np.float32)])
def test_an_uncropped_frame_is_shifted_and_masked_where_there_is_no_detector(options, dark):
    raw = blob((32, 32), (20, 11), 2.0) + np.uint16(7)
    made = preprocessor(start(dark=dark), detect_bad_pixels=False, **options)
    amplitude = prepare(made, raw)
    counts = raw - (0 if dark is None else dark)
    expected = np.full((32, 32), -1.0)
    expected[:28, 5:] = np.sqrt(counts[4:, :27])
    np.testing.assert_allclose(amplitude, expected, rtol=1e-6)
    assert np.unravel_index(amplitude.argmax(), (32, 32)) == (16, 16)


@pytest.mark.parametrize("options", [{"center": "auto"}, {"center": "frame"}])
def test_an_uncropped_frame_stays_as_it_is_by_default(options):
    raw = blob((32, 32), (20, 11), 2.0)
    made = preprocessor(start(beam_center_px=(20.0, 11.0)), detect_bad_pixels=False, **options)
    np.testing.assert_allclose(prepare(made, raw), np.sqrt(raw), rtol=1e-6)
    assert made.corner == (0, 0)


def test_binning_masks_the_blocks_that_reach_off_the_detector():
    made = preprocessor(start(), center=(15.0, 16.0), binning=2, detect_bad_pixels=False)
    amplitude = prepare(made, np.full((32, 32), 4, np.uint16))
    assert (amplitude[0] == -1).all()
    np.testing.assert_allclose(amplitude[1:], 4)


def test_a_large_frame_that_is_only_announced_takes_no_memory():
    tracemalloc.start()
    try:
        made = preprocessor(start((8192, 8192), beam_center_px=(5000.2, 3000.0)))
        assert tracemalloc.get_traced_memory()[1] < 1e6
    finally:
        tracemalloc.stop()
    assert made.shape == (8192, 8192)


def test_an_empty_detector_is_cropped_in_the_middle():
    made = preprocessor(start((32, 40)), crop=16)
    for key in range(20):
        assert prepare(made, np.zeros((32, 40), np.uint16), key).max() == 0
    assert made.corner == (8, 12)


def test_each_frame_can_have_its_own_centre():
    made = preprocessor(start((48, 48)), crop=16, center_each_frame=True)
    fixed = preprocessor(start((48, 48)), crop=16)
    for key, center in enumerate([(24, 24), (20, 29), (30, 22), (5, 45)]):
        raw = blob((48, 48), center, 2.0)
        amplitude = prepare(made, raw, key)
        peak = np.unravel_index(amplitude.argmax(), (16, 16))
        assert peak == (8, 8)
        assert (amplitude < 0).any() == (key == 3)  # the last is too close to the edge
        common = np.unravel_index(prepare(fixed, raw, key).argmax(), (16, 16))
        assert (common == (8, 8)) == (key == 0)


def test_an_empty_frame_among_centred_ones_takes_the_common_centre():
    made = preprocessor(start((48, 48)), crop=16, center_each_frame=True, detect_bad_pixels=False)
    prepare(made, blob((48, 48), (20, 29), 2.0), 0)
    assert prepare(made, np.zeros((48, 48), np.uint16), 1).max() == 0


# binning


@pytest.mark.parametrize("binning", [2, 3, 4])
def test_binning_sums_counts_and_masks_blocks(binning: int):
    n = 48
    raw = RNG.poisson(100, (n, n)).astype(np.uint16)
    valid = np.ones((n, n), np.bool_)
    valid[5, 7] = valid[20, 1] = False
    made = preprocessor(start((n, n), valid=valid), binning=binning, crop=(n, n), **PLAIN)
    amplitude = prepare(made, raw)
    assert made.shape == amplitude.shape == (n // binning, n // binning)
    for y, x in itertools.product(range(n // binning), repeat=2):
        block = (slice(binning * y, binning * (y + 1)), slice(binning * x, binning * (x + 1)))
        expected = np.sqrt(raw[block].sum()) if valid[block].all() else -1
        assert amplitude[y, x] == pytest.approx(expected, rel=1e-6)
    assert (amplitude < 0).sum() == 2


def test_binning_of_rubbish_in_floats():
    raw = np.full((32, 32), 9, np.float32)
    raw[0, 0], raw[0, 1], raw[4, 4] = np.inf, -np.inf, np.nan
    amplitude = prepare(preprocessor(start(dtype="float32"), binning=2, **PLAIN), raw)
    assert np.argwhere(amplitude < 0).tolist() == [[0, 0], [2, 2]]
    assert amplitude.max() == 6


def test_default_crop_leaves_an_even_number_of_blocks():
    made = preprocessor(start((100, 90)), binning=4)
    assert made.crop_shape == (88, 88)
    assert made.shape == (22, 22)


# background


def test_background_off_constant_and_pattern(tmp_path):
    pattern = RNG.uniform(0, 60, (32, 32))
    options = {
        0.0: {"background_counts": 30.0},
        30.0: {"background": "constant", "background_counts": 30.0},
        "pattern": {"background": "pattern", "background_file": saved(tmp_path / "b.npy", pattern)},
    }
    for level, chosen in options.items():
        expected = np.sqrt(np.maximum(COUNTS - (pattern if level == "pattern" else level), 0))
        np.testing.assert_allclose(prepare(preprocessor(**PLAIN, **chosen), COUNTS), expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("level", [0.0, 2.0, 20.0])
def test_background_outside_is_found(level: float):
    rng = np.random.default_rng(1)
    light = blob((64, 64), (30, 34), 5.0, 5000).astype(float)
    made = preprocessor(start((64, 64)), background="outside")
    for key in range(16):
        amplitude = prepare(made, rng.poisson(light + level).astype(np.uint16), key)
    off = preprocessor(start((64, 64)))
    for key in range(16):
        without = prepare(off, rng.poisson(light + level).astype(np.uint16), key)
    assert made._level == pytest.approx(level, abs=0.15 * max(level, 1))
    far = np.s_[:8, :8]
    assert level == 0 or (amplitude[far] ** 2).mean() < 0.6 * (without[far] ** 2).mean()


def test_background_is_subtracted_per_detector_pixel_before_binning():
    raw = np.full((32, 32), 30, np.uint16)
    made = preprocessor(background="constant", background_counts=5.0, binning=2, **PLAIN)
    np.testing.assert_allclose(prepare(made, raw), 10, rtol=1e-6)


# learning


def frames(count: int, seed: int = 0) -> list[np.ndarray]:
    """Frames with a wandering beam, a hot and a dead pixel."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        raw = rng.poisson(blob((40, 40), 20 + rng.normal(0, 2, 2), 5.0, 3000) + 1.0).astype(np.uint16)
        raw[30, 9], raw[20, 21] = 60000, 0
        made.append(raw)
    return made


@pytest.mark.parametrize("learn", [1, 3, 4, 16])
def test_earlier_frames_come_again_as_more_is_known(learn: int):
    made = preprocessor(start((40, 40)), crop=24, learn_frames=learn)
    again = {key: [p.key for p in made.add(key, raw)] for key, raw in enumerate(frames(20))}
    for key, keys in again.items():
        count = key + 1
        everything = count <= learn and (count in (1, 2, 4, 8, 16) or count == learn)
        assert keys == (list(range(count)) if everything else [key])


@pytest.mark.parametrize("options", [{}, {"background": "outside"}, {"center": "mass"}, {"center_each_frame": True}])
def test_all_frames_end_up_prepared_alike_whatever_came_after(options):
    """The last preparation of each frame is what a preprocessor that has learnt all would make of it at once."""
    raws = frames(40)
    made = preprocessor(start((40, 40)), crop=24, **options)
    latest = {}
    for key, raw in enumerate(raws):
        latest |= {p.key: p.amplitude for p in made.add(key, raw)}
    for key in reversed(range(40)):
        [again] = made.add(100 + key, raws[key])
        np.testing.assert_array_equal(again.amplitude, latest[key])
    assert latest[0].shape == (24, 24)


def test_what_was_learnt_does_not_change_any_more():
    made = preprocessor(start((40, 40)), crop=24, learn_frames=8, background="outside")
    for key, raw in enumerate(frames(8)):
        made.add(key, raw)
    corner, level, good = made.corner, made._level, made._good.copy()
    for key in range(8, 60):
        made.add(key, np.full((40, 40), 500, np.uint16))
    assert (made.corner, made._level) == (corner, level)
    np.testing.assert_array_equal(made._good, good)
    assert not made._early


def test_two_preprocessors_agree_and_keep_the_raw_frames_as_they_are():
    raws = frames(20)
    copies = [raw.copy() for raw in raws]
    for raw in raws:
        raw.flags.writeable = False
    one, two = (preprocessor(start((40, 40)), crop=24, background="outside") for _ in range(2))
    for key, raw in enumerate(raws):
        for a, b in zip(one.add(key, raw), two.add(key, raw.copy()), strict=True):
            assert a.key == b.key
            np.testing.assert_array_equal(a.amplitude, b.amplitude)
    assert all(np.array_equal(a, b) for a, b in zip(raws, copies, strict=True))


def test_centre_and_background_are_learnt_without_the_bad_pixels():
    made = preprocessor(start((40, 40)), crop=16, center="mass")
    for key, raw in enumerate(frames(16)):
        made.add(key, raw)
    assert made.corner == pytest.approx((12, 12), abs=1)


# pixel size


@settings(max_examples=40)
@given(
    orientation=st.sampled_from(list(Orientation)),
    crop=st.tuples(st.sampled_from([16, 24, 32]), st.sampled_from([16, 24, 32])),
    binning=st.sampled_from([1, 2]),
    pitch=st.tuples(st.floats(1e-5, 1e-4), st.floats(1e-5, 1e-4)),
)
def test_object_pixel_is_wavelength_times_distance_over_width_of_the_crop(orientation, crop, binning, pitch):
    made = preprocessor(start((40, 56), pitch_m=pitch), orientation=orientation, crop=crop, binning=binning)
    pitch_y, pitch_x = orientation.pair(pitch)
    assert made.pixel_m == pytest.approx((1.4e-10 * 2.0 / (crop[0] * pitch_y), 1.4e-10 * 2.0 / (crop[1] * pitch_x)))
    assert made.shape == (crop[0] // binning, crop[1] // binning)


@pytest.mark.parametrize("orientation", list(Orientation))
def test_positions_are_divided_by_the_pixel_of_their_own_axis(orientation: Orientation):
    made = preprocessor(start((40, 56), pitch_m=(1e-5, 3e-5)), orientation=orientation, crop=(16, 32))
    pitch_y, pitch_x = orientation.pair((1e-5, 3e-5))
    y, x = PositionTransform(PositionOptions(), made.pixel_m)((1e-6, 2e-6))
    assert y == pytest.approx(1e-6 / (2.8e-10 / (16 * pitch_y)))
    assert x == pytest.approx(2e-6 / (2.8e-10 / (32 * pitch_x)))


# a recorded probe


def test_a_probe_that_fits_is_left_alone():
    given = RNG.normal(size=(2, 32, 32)).astype(np.complex64)
    assert preprocessor().fit_probe(given) is given


@pytest.mark.parametrize("shape", [(16, 16), (64, 64), (32, 16)])
def test_a_probe_of_another_size_is_refused(shape: tuple[int, int]):
    assert preprocessor(crop=24).fit_probe(np.ones((1, *shape), np.complex64)) is None


def same_up_to_phase(a: np.ndarray, b: np.ndarray) -> float:
    """Relative difference of two complex arrays after the best common factor of modulus one."""
    phase = np.exp(1j * np.angle(np.vdot(a, b)))
    return float(np.linalg.norm(a * phase - b) / np.linalg.norm(b))


@pytest.mark.parametrize("modes", [1, 3])
def test_cropped_probe_is_the_one_simulated_on_the_smaller_grid(modes: int):
    """Cropping frames from 96 to 64 makes object pixels 1.5 times larger: the same beam has 1.5 times fewer of them."""
    full = probe(IlluminationOptions(footprint=0.3, aperture=0.15, modes=modes), 96, 1e5)
    small = probe(IlluminationOptions(footprint=0.3, aperture=0.15 * 1.5, modes=modes), 64, 1e5)
    fitted = preprocessor(start((96, 96)), crop=64).fit_probe(full)
    assert fitted is not None
    assert fitted.dtype == np.complex64
    assert (abs(fitted) ** 2).sum() == pytest.approx(1e5, rel=0.01)
    for mode, expected in zip(fitted, small, strict=True):
        assert same_up_to_phase(mode, expected) < 0.15  # the soft edge of the pupil is sampled differently


@pytest.mark.parametrize(("n", "crop"), [(96, 64), (95, 63), (96, 63), (95, 64)])
@pytest.mark.parametrize("binning", [1, 2])
def test_fitted_probe_predicts_the_cropped_and_binned_frame(n: int, crop: int, binning: int):
    """Behind a flat object the far field of the fitted probe is the frame as prepared."""
    if crop % binning:
        crop -= 1
    full = probe(IlluminationOptions(footprint=0.2, aperture=0.15), n, 1e6)
    wave = np.fft.fftshift(np.fft.fft2(full[0], norm="ortho"))
    made = preprocessor(start((n, n), dtype="float32"), crop=crop, binning=binning, **PLAIN)
    measured = prepare(made, (abs(wave) ** 2).astype(np.float32))
    fitted = made.fit_probe(full)
    assert fitted is not None
    assert fitted.shape[1:] == made.shape
    power = abs(fitted[0]) ** 2
    y, x = np.indices(power.shape)
    assert (power * y).sum() / power.sum() == pytest.approx(power.shape[0] // 2, abs=0.6)
    assert (power * x).sum() / power.sum() == pytest.approx(power.shape[1] // 2, abs=0.6)
    model = abs(np.fft.fftshift(np.fft.fft2(fitted[0], norm="ortho")))
    assert (model**2).sum() == pytest.approx((measured**2).sum(), rel=0.02)
    if binning == 1:
        np.testing.assert_allclose(model, measured, atol=1e-3 * measured.max())


def test_a_probe_whose_pupil_is_off_the_middle_is_cropped_around_it():
    full = probe(IlluminationOptions(footprint=0.2, aperture=0.1), 96, 1e6)
    x = np.arange(96)
    tilted = (full * np.exp(2j * np.pi * 12 * x / 96)).astype(np.complex64)
    made = preprocessor(start((96, 96)), crop=48)
    straight, fitted = made.fit_probe(full), made.fit_probe(tilted)
    assert straight is not None
    assert fitted is not None
    np.testing.assert_allclose(abs(fitted), abs(straight), atol=1e-3 * abs(straight).max())


def test_fitted_probe_explains_simulated_frames_of_a_structured_object():
    """Frames cropped in the far field are frames of the low-pass filtered exit wave: compare with the full simulation."""
    n, crop = 64, 32
    beam = probe(IlluminationOptions(footprint=0.25, aperture=0.1), n, 1e6)
    y, x = np.mgrid[:n, :n]
    smooth = np.exp(0.5j * np.sin(2 * np.pi * y / n) + 0.3j * np.cos(2 * np.pi * x / n)).astype(np.complex64)
    intensity = diffract(smooth, beam, np.array([[0, 0]]))[0]
    made = preprocessor(start((n, n), dtype="float32"), crop=crop, **PLAIN)
    fitted = made.fit_probe(beam)
    assert fitted is not None
    model = abs(np.fft.fft2(fitted[0] * smooth[::2, ::2], norm="ortho"))
    measured = prepare(made, intensity)
    assert np.linalg.norm(seen(model) - measured) < 0.05 * np.linalg.norm(measured)


# options that cannot be


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"crop": 64}, ["preprocess.crop", "64", "32"]),
        ({"crop": (16, 40)}, ["preprocess.crop", "40"]),
        ({"crop": 4}, ["preprocess.crop", "between 8"]),
        ({"crop": 20, "binning": 3}, ["preprocess.crop", "multiples of 3"]),
        ({"binning": 5}, ["preprocess.crop", "binning 5"]),
        ({"background": "pattern"}, ["preprocess.background_file", "must be given"]),
    ],
)
def test_impossible_options_are_named(options, words):
    with pytest.raises(ConfigError) as caught:
        preprocessor(**options)
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize("option", ["mask_file", "background_file"])
def test_files_that_cannot_be_used_are_named(option: str, tmp_path):
    path = tmp_path / "f.npy"
    chosen = {option: path} | ({"background": "pattern"} if option == "background_file" else {})
    for contents in (None, b"", b"not an array", b"\x93NUMPY", b"PK\x03\x04"):
        if contents is not None:
            path.write_bytes(contents)
        with pytest.raises(ConfigError, match=f"preprocess.{option}: .*f.npy"):
            preprocessor(**chosen)
    np.savez(tmp_path / "z.npz", a=np.ones((32, 32)))
    (tmp_path / "z.npz").rename(path)
    with pytest.raises(ConfigError, match=f"preprocess.{option}"):
        preprocessor(**chosen)
    np.save(path, np.array([{}, {}]), allow_pickle=True)
    with pytest.raises(ConfigError, match=f"preprocess.{option}"):
        preprocessor(**chosen)
    saved(path, np.ones((32, 31)))
    with pytest.raises(ScanError, match=rf"preprocess.{option}: shape \(32, 31\).*\(32, 32\)"):
        preprocessor(**chosen)


def test_background_pattern_must_be_finite(tmp_path):
    pattern = np.zeros((32, 32))
    pattern[0, 0] = np.nan
    with pytest.raises(ConfigError, match=r"preprocess.background_file: .*not finite"):
        preprocessor(background="pattern", background_file=saved(tmp_path / "b.npy", pattern))


@pytest.mark.parametrize(
    "options",
    [{"binning": 0}, {"binning": 17}, {"learn_frames": 0}, {"center": "beam"}, {"orientation": "left"}, {"crops": 1}],
)
def test_options_out_of_range(options):
    with pytest.raises(ValidationError, match=next(iter(options))):
        FrameOptions(**options)
