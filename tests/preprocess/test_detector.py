"""Bad pixels, centre and background from the first frames: everything broken is found, nothing sound is taken for broken."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from streamptycho.files.scan import open_scan
from streamptycho.preprocess.detector import (
    ENOUGH_FRAMES,
    RunningStatistics,
    background_outside,
    centre_of_mass,
    good_pixels,
)
from streamptycho_sim.forward import DetectorOptions
from streamptycho_sim.illumination import IlluminationOptions
from streamptycho_sim.scan import SimulatedScan, SyntheticOptions
from streamptycho_sim.trajectory import Path as ScanPath
from streamptycho_sim.trajectory import TrajectoryOptions
from tests.preprocess.helpers import blob, prepare, preprocessor, start

ALL = np.ones((32, 32), np.bool_)


def learnt(frames: list[NDArray[Any]], valid: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
    """True where the detector is judged sound."""
    valid = np.ones(frames[0].shape, np.bool_) if valid is None else valid
    statistics = RunningStatistics(frames[0].shape)
    for frame in frames:
        statistics.add(frame.astype(np.float32), valid)
    return good_pixels(statistics, valid)


def bad(frames: list[NDArray[Any]], valid: NDArray[np.bool_] | None = None) -> list[list[int]]:
    return np.argwhere(~learnt(frames, valid)).tolist()


def lit(count: int = 16, level: float = 100, seed: int = 0) -> list[NDArray[np.uint16]]:
    rng = np.random.default_rng(seed)
    return [rng.poisson(level, (32, 32)).astype(np.uint16) for _ in range(count)]


def spoilt(frames: list[NDArray[np.uint16]], where: Any, value: int) -> list[NDArray[np.uint16]]:
    for frame in frames:
        frame[where] = value
    return frames


def simulated(shape: int = 64, frames: int = 16, seed: int = 0, **detector: Any) -> SimulatedScan:
    return SimulatedScan(SyntheticOptions(shape=shape, frames=frames, seed=seed, detector=DetectorOptions(**detector)))


# hot


PLACES = [(5, 5), (0, 0), (31, 31), (0, 17), (12, 0), (31, 3)]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("level", [0, 1, 100])
def test_hot_pixel_is_found_anywhere(place: tuple[int, int], level: float):
    assert bad(spoilt(lit(level=level), place, 60000)) == [list(place)]


@pytest.mark.parametrize("other", [(0, 1), (1, 0), (1, 1)])
@pytest.mark.parametrize("place", [(5, 5), (0, 0), (0, 17)])
def test_two_hot_neighbours_are_found(place: tuple[int, int], other: tuple[int, int]):
    pair = [place, (place[0] + other[0], place[1] + other[1])]
    frames = lit()
    for pixel in pair:
        spoilt(frames, pixel, 60000)
    assert bad(frames) == sorted(map(list, pair))


def test_hot_pixel_beside_masked_ones():
    valid = ALL.copy()
    valid[:, 10:13] = False
    frames = spoilt(lit(), np.s_[:, 10:13], 65535)
    spoilt(frames, (7, 13), 60000)
    assert bad(frames, valid) == sorted([[y, x] for y in range(32) for x in range(10, 13)] + [[7, 13]])


def test_a_hot_pixel_on_a_noisy_detector():
    rng = np.random.default_rng(0)
    frames = [rng.normal(0, 10, (32, 32)).astype(np.float32) for _ in range(16)]
    for frame in frames:
        frame[9, 9] += 200
    assert bad(frames) == [[9, 9]]


def test_one_bright_frame_is_not_hot():
    frames = lit(level=0)
    frames[3][5, 5] = 60000
    assert learnt(frames).all()


def test_few_counts_are_not_hot():
    frames = spoilt(lit(level=0), (5, 5), 4)
    assert (5, 5) not in map(tuple, bad(frames))


def test_a_steep_narrow_beam_is_not_hot():
    rng = np.random.default_rng(0)
    frames = [rng.poisson(blob((32, 32), (15.6, 16.3), 0.8, 50000)).astype(np.uint16) for _ in range(16)]
    assert learnt(frames).all()


# dead


SHAPES = {
    "pixel": np.s_[9, 9],
    "corner": np.s_[0, 0],
    "pair": np.s_[9, 9:11],
    "cluster": np.s_[9:13, 20:25],
    "row": np.s_[17, :],
    "gap": np.s_[:, 15:18],
    "corner block": np.s_[26:, 26:],
}


@pytest.mark.parametrize("name", SHAPES)
def test_silent_regions_amid_light_are_dead(name: str):
    expected = np.zeros((32, 32), np.bool_)
    expected[SHAPES[name]] = True
    np.testing.assert_array_equal(~learnt(spoilt(lit(), SHAPES[name], 0)), expected)


def test_all_of_them_at_once():
    expected = np.zeros((32, 32), np.bool_)
    frames = lit()
    for name in ("corner", "cluster", "row", "corner block"):
        expected[SHAPES[name]] = True
        spoilt(frames, SHAPES[name], 0)
    spoilt(frames, (3, 20), 50000)
    expected[3, 20] = True
    np.testing.assert_array_equal(~learnt(frames), expected)


def test_hot_pixel_amid_the_dead_does_not_light_them():
    frames = spoilt(lit(level=0), (9, 9), 60000)
    assert bad(frames) == [[9, 9]]


@pytest.mark.parametrize("value", [-1, -2, 0])
def test_gaps_marked_by_negative_values_are_dead(value: int):
    frames = [frame.astype(np.int32) for frame in lit()]
    spoilt(frames, SHAPES["gap"], value)
    assert (~learnt(frames)).sum() == 32 * 3


def test_dead_pixel_stays_dead_after_the_dark():
    """Zero minus the dark is negative, but it never changes."""
    dark = np.full((32, 32), 5.25, np.float32)
    made = preprocessor(start(dark=dark))
    for key, frame in enumerate(spoilt(lit(), (9, 9), 0)):
        amplitude = prepare(made, frame, key)
    assert np.argwhere(amplitude < 0).tolist() == [[9, 9]]


def test_noise_about_zero_is_not_dead():
    rng = np.random.default_rng(0)
    frames = [rng.normal(0.5, 10, (32, 32)).astype(np.float32) for _ in range(16)]
    assert learnt(frames).all()
    assert learnt(frames[:ENOUGH_FRAMES]).mean() > 0.98


def test_darkness_is_not_death():
    frames = [blob((32, 32), (16, 16), 3.0, 2000) for _ in range(16)]
    assert learnt(frames).all()
    assert learnt([np.zeros((32, 32), np.uint16)] * 16).all()


@pytest.mark.parametrize("corner", [(10, 10), (0, 12), (20, 0), (0, 0)])
def test_the_darkness_around_a_beam_with_sharp_edges_is_not_death(corner: tuple[int, int]):
    frames = spoilt(lit(level=0), np.s_[corner[0] : corner[0] + 12, corner[1] : corner[1] + 12], 1000)
    assert learnt(frames).all()
    assert bad(spoilt(frames, (corner[0] + 5, corner[1] + 5), 0)) == [[corner[0] + 5, corner[1] + 5]]


def test_a_cross_of_gaps_is_not_taken_for_the_darkness_around():
    frames = spoilt(spoilt(lit(), np.s_[14:17, :], 0), np.s_[:, 20:22], 0)
    assert (~learnt(frames)).sum() == 3 * 32 + 2 * 29


def test_faint_light_is_no_proof():
    frames = lit(level=0.5)
    assert learnt(frames).all()


def test_nothing_is_judged_from_too_few_frames():
    frames = spoilt(lit(ENOUGH_FRAMES), (9, 9), 0)
    assert learnt(frames[:-1]).all()
    assert bad(frames) == [[9, 9]]


# simulated and real


PHOTONS = [1e3, 1e4, 1e5, 1e6]


@pytest.mark.parametrize("photons", PHOTONS)
@pytest.mark.parametrize("count", [4, 8, 16, 64])
def test_a_sound_detector_is_found_sound(photons: float, count: int):
    for seed in range(3):
        for shape in (32, 64):
            scan = simulated(shape, count, seed, photons=photons, dtype="uint32")
            assert learnt(list(scan.counts())).all()


@pytest.mark.parametrize("illumination", [{"modes": 3}, {"footprint": 0.1}, {"footprint": 0.6}, {"aperture": 0.05}])
@pytest.mark.parametrize("noise", [True, False])
def test_other_beams_do_not_look_like_defects(illumination: dict[str, Any], noise: bool):
    options = SyntheticOptions(
        shape=64,
        frames=16,
        illumination=IlluminationOptions(**illumination),
        trajectory=TrajectoryOptions(path=ScanPath.SPIRAL),
        detector=DetectorOptions(noise=noise, dtype="uint32"),
    )
    assert learnt(list(SimulatedScan(options).counts())).all()


@pytest.mark.parametrize("photons", [1e5, 1e6])
def test_dark_noise_does_not_look_like_defects(photons: float):
    scan = simulated(photons=photons, dark_counts=20, dark_frames=8)
    made = preprocessor(scan.start(0))
    for i in range(8):
        made.add_dark(scan.detector.dark(i))
    for key, counts in enumerate(scan.counts()):
        amplitude = prepare(made, counts, key)
    assert (amplitude >= 0).all()


@pytest.mark.parametrize("seed", range(4))
def test_hidden_defects_are_found(seed: int):
    """All hot pixels, the whole beamstop and the dead pixels with enough light around them; and nothing else."""
    scan = simulated(seed=seed, hot_pixels=15, dead_pixels=30, beamstop_px=4, mask_defects=False, mask_beamstop=False)
    frames = list(scan.counts())
    detector = scan.detector
    found = ~learnt(frames)
    mean = scan.intensity(0, 16).mean(0)
    around = np.array([mean[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].min() for y, x in np.argwhere(detector.dead)])
    dead = np.zeros(found.shape, np.bool_)
    dead[tuple(np.argwhere(detector.dead)[around > 10].T)] = True
    assert dead.sum() > 2
    assert found[detector.hot].all()
    assert found[detector.shadow].all()
    assert found[dead].all()
    assert not found[~(detector.hot | detector.dead | detector.shadow)].any()


def test_the_real_star_is_sound(shared_data: Path):
    with open_scan(shared_data / "siemens_star_seed.cxi") as scan:
        for first in (0, 100, 250, 400):
            frames = [scan.frame(i) for i in range(first, first + 32)]
            for count in (4, 8, 16, 32):
                assert learnt(frames[:count]).all(), (first, count)


def test_defects_put_into_the_real_star_are_found(shared_data: Path):
    with open_scan(shared_data / "siemens_star_seed.cxi") as scan:
        frames = [scan.frame(i).copy() for i in range(16)]
    spoilt(frames, np.s_[60:69, 60:69], 0)
    spoilt(frames, (20, 100), 5000)
    spoilt(frames, (50, 64), 0)
    expected = sorted([[y, x] for y in range(60, 69) for x in range(60, 69)] + [[20, 100], [50, 64]])
    assert bad(frames) == expected


# centre


@pytest.mark.parametrize("center", [(16, 16), (9.25, 20.5), (3, 28)])
def test_centre_of_mass(center: tuple[float, float]):
    found = centre_of_mass(blob((32, 32), center, 1.5, 60000).astype(float), ALL)
    assert found == pytest.approx(center, abs=0.1)


def test_centre_of_mass_heeds_the_mask_and_not_the_background():
    counts = blob((32, 32), (9, 20), 2.0, 1e4) + 50.0
    counts[30, 2] = 1e9
    counts[1, 1] = np.nan
    valid = ALL.copy()
    valid[30, 2] = valid[1, 1] = False
    assert centre_of_mass(counts, valid) == pytest.approx((9, 20), abs=0.1)


@pytest.mark.parametrize("level", [0, -5])
def test_centre_of_nothing_is_unknown(level: float):
    assert centre_of_mass(np.full((32, 32), float(level)), ALL) is None
    assert centre_of_mass(np.full((32, 32), 5.0), ~ALL) is None


# background


@pytest.mark.parametrize("level", [0.0, 3.0, 50.0])
def test_background_is_the_level_beyond_the_light(level: float):
    mean = blob((64, 64), (30, 33), 5.0, 8000) + level
    assert background_outside(mean, np.ones(mean.shape, np.bool_), (30, 33)) == pytest.approx(level, abs=1)


def test_background_of_special_cases():
    flat = np.full((32, 32), 7.0)
    assert background_outside(flat, ALL, (16, 16)) == 7
    assert background_outside(flat, ~ALL, (16, 16)) == 0
    ring = ALL.copy()
    ring[4:-4, 4:-4] = False
    assert background_outside(flat, ring, (16, 16)) == 7


def test_background_ignores_what_is_masked():
    mean = blob((64, 64), (32, 32), 5.0, 8000) + 3.0
    valid = np.ones(mean.shape, np.bool_)
    valid[:, 50:] = False
    mean[:, 50:] = 1e6
    assert background_outside(mean, valid, (32, 32)) == pytest.approx(3, abs=1)


def test_statistics_leave_invalid_values_out():
    statistics = RunningStatistics((1, 3))
    valid = np.array([[True, False, True]])
    statistics.add(np.array([[2, np.nan, 0]], np.float32), valid)
    statistics.add(np.array([[4, 9, 0]], np.float32), ~valid | valid)
    assert statistics.count == 2
    assert statistics.mean.tolist() == [[3, 9, 0]]
    assert statistics.deviation.tolist() == [[1, 0, 0]]
    assert statistics.silent.tolist() == [[False, False, True]]
