"""A probe from the data alone, and the confidence in it."""

from pathlib import Path

import numpy as np
import pytest

from streamptycho.files.scan import open_scan
from streamptycho.preprocess.frames import FramePreprocessor
from streamptycho.preprocess.options import FrameOptions
from streamptycho.solve.devices.backend import Backend, numpy_backend
from streamptycho.solve.estimates.modes import add_modes
from streamptycho.solve.settings import RuleOptions
from streamptycho.solve.start.search import SEARCH_PIXELS, ProbeSearch, central_rows, defocused_probe
from streamptycho.solve.store import FrameStore
from streamptycho_sim.illumination import IlluminationOptions, probe
from streamptycho_sim.trajectory import Path as ScanPath
from tests.solve.helpers import random_complex, scene, stored


def searched(store: FrameStore, seed: int = 0) -> ProbeSearch:
    search = ProbeSearch(store, RuleOptions(), seed, limit=60)
    for updates in search.run():
        assert updates <= 20
    return search


def twin(store: FrameStore) -> FrameStore:
    """The same frames with the scan turned by 180 degrees: what a beam of the opposite defocus would have given."""
    turned = FrameStore(store.backend, store.shape)
    for row in range(len(store)):
        y, x = (-store.corners[row]).tolist()
        turned.append(store.backend.to_host(store.amplitudes[row]), (y, x))
    return turned


@pytest.mark.parametrize("path", [ScanPath.RASTER, ScanPath.SPIRAL, ScanPath.FERMAT])
def test_defocus_of_simulated_data_is_found(path: ScanPath):
    made = scene(64, 100, path)
    search = searched(stored(made, numpy_backend()))
    true = -made.scan.options.illumination.footprint * 64 / (2 * made.scan.options.illumination.aperture)
    assert search.best is not None
    assert search.best.defocus_px2 == pytest.approx(true, rel=0.35)
    assert search.confident
    assert len(search.best.tested) > 30


def test_sign_of_the_defocus_is_found():
    """Turned by 180 degrees, the conjugate twin is the truth, and its beam has the opposite defocus."""
    made = scene(64, 100)
    store = stored(made, numpy_backend())
    one, two = searched(store), searched(twin(store))
    assert one.best is not None
    assert two.best is not None
    assert one.best.defocus_px2 < 0 < two.best.defocus_px2
    assert two.best.defocus_px2 == pytest.approx(-one.best.defocus_px2, rel=0.35)


@pytest.mark.parametrize("seed", range(3))
def test_nonsense_is_not_trusted(seed: int):
    """Positions shuffled among the frames: some candidate comes first, but none predicts."""
    made = scene(64, 100, seed=seed)
    order = np.random.default_rng(seed).permutation(100)
    store = FrameStore(numpy_backend(), (64, 64))
    for i, k in enumerate(order):
        corner = made.scan.corners[k].tolist()
        store.append(made.amplitudes[i], (corner[0], corner[1]))
    search = searched(store, seed)
    assert search.best is not None
    assert not search.confident


def test_frames_that_do_not_overlap_are_not_trusted():
    made = scene(32, 30)
    store = FrameStore(numpy_backend(), (32, 32))
    for i in range(30):
        store.append(made.amplitudes[i], (100 * i, 0))
    search = searched(store)
    assert search.best is not None
    assert np.isinf(search.best.score)
    assert not search.confident


def test_the_same_seed_finds_the_same_probe():
    store = stored(scene(32, 40), numpy_backend())
    one, two = searched(store, 3), searched(store, 3)
    assert one.best is not None
    assert two.best is not None
    assert one.best.halves[0].probe.tobytes() == two.best.halves[0].probe.tobytes()


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_few_frames_give_something_and_no_confidence(frames: int):
    search = searched(stored(scene(32, 3), numpy_backend(), frames))
    assert search.best is not None
    assert not search.confident
    assert np.isfinite(search.best.halves[0].probe).all()


def test_empty_frames_are_no_trouble():
    store = FrameStore(numpy_backend(), (32, 32))
    for i in range(10):
        store.append(np.full((32, 32), -1 if i % 2 else 0, np.float32), (i, i))
    assert not searched(store).confident


def test_the_star_is_found(shared_data: Path):
    """Between -110 and -200 px^2 works; no other sign does."""
    store = star(shared_data, 100)
    search = searched(store)
    assert search.best is not None
    assert search.best.defocus_px2 == pytest.approx(-150, rel=0.35)
    assert search.confident


def test_the_star_with_shuffled_positions_is_not_trusted(shared_data: Path):
    store = star(shared_data, 60)
    store.corners[:60] = store.corners[np.random.default_rng(0).permutation(60)]
    assert not searched(store).confident


def star(shared_data: Path, frames: int) -> FrameStore:
    """The frames around the middle of the real scan."""
    with open_scan(shared_data / "siemens_star_seed.cxi") as scan:
        yx = scan.yx_m - np.median(scan.yx_m, axis=0)
        start = scan_start(scan)
        made = FramePreprocessor(FrameOptions(), start)
        store = FrameStore(numpy_backend(), made.shape)
        for i in np.sort(np.argsort(np.hypot(*yx.T))[:frames]):
            amplitude = made.add(int(i), scan.frame(int(i)))[-1].amplitude
            corner = np.rint(scan.yx_m[i] / made.pixel_m).astype(int) - 64
            store.append(amplitude, (int(corner[0]), int(corner[1])))
    return store


def scan_start(scan):
    return scan.start("star", 0)


# pieces


def test_defocused_probe(backend: Backend):
    mean = np.zeros((32, 48))
    mean[:5, :6] = 10
    made = defocused_probe(mean, 40.0)
    assert made.shape == (1, 32, 48)
    assert (abs(made) ** 2).sum() == pytest.approx(mean.sum(), rel=1e-5)
    np.testing.assert_allclose(abs(np.fft.fft2(made[0], norm="ortho")) ** 2, mean, atol=1e-3)
    ky, kx = np.fft.fftfreq(32)[2], np.fft.fftfreq(48)[3]
    far = np.fft.fft2(np.fft.ifftshift(made[0]))
    assert np.angle(far[2, 3] / far[0, 0]) == pytest.approx(np.pi * 40 * (ky**2 + kx**2), abs=1e-4)
    sharp = defocused_probe(mean, 0)
    assert np.unravel_index(abs(sharp[0]).argmax(), (32, 48)) == (16, 24)


@pytest.mark.parametrize("modes", range(1, 9))
@pytest.mark.parametrize("given", [1, 2, 3])
def test_added_modes_are_orthogonal_and_keep_the_power(modes: int, given: int):
    start = probe(IlluminationOptions(modes=given), 32, 1e5)
    made = add_modes(start, modes)
    flat = made.reshape(len(made), -1).astype(np.complex128)
    gram = flat @ flat.conj().T
    assert made.dtype == np.complex64
    assert len(made) == modes
    kept = (abs(start[:modes]) ** 2).sum()
    assert np.trace(gram).real == pytest.approx(kept, rel=1e-4)
    assert abs(gram - np.diag(np.diag(gram))).max() < 1e-4 * kept
    added = np.diag(gram).real[given:] / np.trace(gram).real
    extra = max(modes - given, 0)
    np.testing.assert_allclose(added, 0.05 / (1 + 0.05 * extra), rtol=1e-3)
    for mode, first in zip(made, start, strict=False):
        assert abs(np.vdot(mode, first)) == pytest.approx(np.linalg.norm(mode) * np.linalg.norm(first), rel=1e-4)
    smooth = abs(np.diff(made, axis=1)).sum((1, 2)) / abs(made).sum((1, 2))
    assert smooth.max() < 1.2, "a mode is noise"


def test_central_rows_lie_together_in_order_of_arrival():
    store = FrameStore(numpy_backend(), (4, 4))
    rng = np.random.default_rng(0)
    for _ in range(200):
        y, x = rng.integers(-500, 500, 2).tolist()
        store.append(np.ones((4, 4), np.float32), (y, x))
    rows = central_rows(store, 60)
    assert len(rows) == 60
    assert (np.diff(rows) > 0).all()
    distance = np.hypot(*(store.corners[:200] - np.median(store.corners[:200], axis=0)).T)
    assert distance[rows].max() <= np.delete(distance, rows).min()


def test_a_frame_far_away_takes_no_part():
    store = FrameStore(numpy_backend(), (32, 32))
    for y, x in [(90_000, 0), (0, 0), (5, 5), (10, 0), (0, 10), (10, 10)]:
        store.append(np.ones((32, 32), np.float32), (y, x))
    assert central_rows(store, 6).tolist() == [1, 2, 3, 4, 5]


def test_predicted_frames_heed_masks():
    made = scene(32, 40)
    clean = stored(made, numpy_backend())
    masked = FrameStore(numpy_backend(), (32, 32))
    for i in range(40):
        amplitude = made.amplitudes[i].copy()
        amplitude[10:22, 10:22] = -1
        masked.append(amplitude, tuple(made.scan.corners[i].tolist()))
    best = searched(masked).best
    assert best is not None
    assert best.score < 0.5
    assert searched(clean).best is not None


def test_random_frames_do_not_look_like_a_beam():
    rng = np.random.default_rng(0)
    store = FrameStore(numpy_backend(), (32, 32))
    for i in range(40):
        store.append(abs(random_complex(rng, 32, 32)).astype(np.float32) * 10, (3 * (i // 7), 3 * (i % 7)))
    assert not searched(store).confident


def test_frames_that_lie_too_far_apart_for_a_search_take_no_part():
    """Each candidate would have two objects of the whole field."""
    store = FrameStore(numpy_backend(), (32, 32))
    for y, x in [(0, 0), (4, 3), (0, 8), (700, 0), (0, 700), (1500, 1500), (1500, 0)]:
        store.append(np.ones((32, 32), np.float32), (y, x))
    rows = central_rows(store, 7)
    corners = store.corners[rows]
    assert len(rows) >= 3
    assert (np.ptp(corners, axis=0) + 32).prod() <= SEARCH_PIXELS
