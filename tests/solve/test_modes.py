"""Probe modes: found by contest, and their powers."""

import numpy as np
import pytest

from streamptycho.solve.devices.backend import cpu_backend
from streamptycho.solve.estimates.modes import ModeGrowth, add_modes, mode_powers, trial_modes
from streamptycho.solve.settings import RuleOptions
from streamptycho.solve.solver import Solver
from tests.solve.helpers import Scene, engine_for, polish, random_complex, scene, stored

BACKEND = cpu_backend()


def test_powers_are_the_eigenvalues():
    rng = np.random.default_rng(0)
    orthogonal = np.linalg.qr(rng.normal(size=(256, 3)) + 1j * rng.normal(size=(256, 3)))[0].T.reshape(3, 16, 16)
    modes = orthogonal * np.sqrt([0.7, 0.2, 0.1])[:, None, None]
    turned = np.tensordot(np.linalg.qr(random_complex(rng, 3, 3))[0], modes, 1)
    for probe in (modes, turned, 40 * turned, turned[::-1]):
        np.testing.assert_allclose(mode_powers(probe.astype(np.complex64)), [0.7, 0.2, 0.1], rtol=1e-4)
    assert mode_powers(np.zeros((2, 4, 4), np.complex64)).tolist() == [0, 0]


def test_trial_modes_are_orthonormal_and_new():
    rng = np.random.default_rng(0)
    probe = random_complex(rng, 2, 16, 20)
    flat = np.concatenate([probe.reshape(2, -1), trial_modes(probe).reshape(-1, 320)])
    gram = flat.conj() @ flat.T
    np.testing.assert_allclose(gram[2:, 2:], np.eye(len(flat) - 2), atol=1e-6)
    np.testing.assert_allclose(gram[2:, :2], 0, atol=1e-4)


def test_a_contest_adds_one_more_than_asked_and_gives_up_the_weakest():
    made = scene(32, 40)
    store = stored(made, BACKEND)
    solver = Solver(BACKEND, store, made.guess[:1], RuleOptions(), poor_probe=False)
    for row in range(40):
        solver.admit(row)
    growth = ModeGrowth(2, 0)
    sizes = []
    for _ in range(60):
        solver.sweep(np.arange(40))
        if growth.grow(solver):
            sizes.append(len(solver.probe))
    assert sizes == [3, 2]
    assert growth.complete
    flat = solver.probe.reshape(2, -1)
    assert (abs(flat) ** 2).sum() == pytest.approx((abs(made.guess[:1]) ** 2).sum(), rel=0.2)


def test_one_mode_stays_alone_and_given_modes_stay():
    made = scene(32, 40)
    store = stored(made, BACKEND)
    for modes, given in ((1, made.guess[:1]), (3, add_modes(made.guess[:1], 3))):
        solver = Solver(BACKEND, store, given, RuleOptions(), poor_probe=False)
        for row in range(40):
            solver.admit(row)
        growth = ModeGrowth(modes, 0)
        for _ in range(30):
            solver.sweep(np.arange(40))
            assert not growth.grow(solver)
        assert growth.complete


@pytest.mark.parametrize("along", [0, 1], ids=["y", "x"])
def test_motion_during_the_exposure_is_taken_up_by_modes(along: int):
    """A fly scan: each pattern is a sum over the way; the modes find its direction and the picture gets better."""
    made = scene(64, 120, photons=1e6)
    blurred = fly_scan(made, along, way_px=5)
    results = {}
    for modes in (1, 2):
        engine = engine_for(blurred, BACKEND, made.guess[:1], modes=modes, polish_passes=60, polish_tolerance=0)
        blurred.add_to(engine)
        polish(engine)
        results[modes] = blurred.judge(engine).error, engine.error
        powers = engine.mode_powers
    assert results[2][1] < 0.7 * results[1][1]
    assert results[2][0] < results[1][0]
    assert powers[1] > 0.03
    second = engine.picture().probe[1]
    dipoles = [abs(np.vdot(gradient, second)) for gradient in np.gradient(engine.picture().probe[0])]
    assert dipoles[along] > 2 * dipoles[1 - along]


def fly_scan(made: Scene, along: int, way_px: int) -> Scene:
    """Frames exposed while the sample moves by `way_px`, without noise."""
    probe, obj, n = made.scan.probe[0], made.scan.obj, made.scan.options.shape
    amplitudes = []
    for y, x in made.scan.corners.tolist():
        total = np.zeros((n, n))
        for step in range(way_px):
            shift = step - way_px // 2
            y0 = int(np.clip(y + (shift if along == 0 else 0), 0, obj.shape[0] - n))
            x0 = int(np.clip(x + (shift if along == 1 else 0), 0, obj.shape[1] - n))
            total += abs(np.fft.fft2(probe * obj[y0 : y0 + n, x0 : x0 + n], norm="ortho")) ** 2
        amplitudes.append(np.sqrt(total / way_px))
    return Scene(made.scan, np.array(amplitudes, np.float32), made.yx_px)
