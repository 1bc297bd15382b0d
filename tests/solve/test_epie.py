"""The update against the equations, written out slowly in double precision."""

import numpy as np
import pytest

from streamptycho.solve.devices.backend import Backend
from streamptycho.solve.equations.modulus import far_field, near_field
from streamptycho.solve.equations.pie import update
from streamptycho.solve.frames import Frame, Step
from tests.solve.helpers import random_complex

SHAPES = [(32, 32), (24, 40), (15, 21)]


def reference(probe, window, amplitude, step, flux=1.0, background=0.0):
    """One update as in the literature (ePIE 2009, rPIE 2017, modes 2013), complex128; new probe, new window, misfit.

    The unitary transform is written as two matrix products, so that no library's convention is taken for granted.
    """
    P, O, A = probe.astype(np.complex128), window.astype(np.complex128), amplitude.astype(np.float64) / flux  # noqa: E741
    ny, nx = O.shape
    Fy, Fx = (np.exp(-2j * np.pi * np.outer(np.arange(n), np.arange(n)) / n) / np.sqrt(n) for n in (ny, nx))
    psi = [p * O for p in P]
    Psi = [Fy @ w @ Fx.T for w in psi]
    s = np.sqrt(sum(abs(w) ** 2 for w in Psi) + background)
    valid = A >= 0
    factor = np.where(valid, np.divide(A, s, out=np.ones_like(s), where=s > 0), 1)
    d = [Fy.conj().T @ (w * factor) @ Fx.conj() - v for w, v in zip(Psi, psi, strict=True)]
    P2, O2 = sum(abs(p) ** 2 for p in P), abs(O) ** 2
    gO, gP = step.gamma_object, step.gamma_probe
    new_O = O + step.alpha * sum(p.conj() * c for p, c in zip(P, d, strict=True)) / ((1 - gO) * P2 + gO * P2.max())
    new_P = np.array([p + step.beta * O.conj() * c / ((1 - gP) * O2 + gP * O2.max()) for p, c in zip(P, d, strict=True)])
    return new_P, new_O, float((np.where(valid, s - A, 0) ** 2).sum())


def problem(shape, modes, masked, seed=0):
    rng = np.random.default_rng(seed)
    probe = random_complex(rng, modes, *shape) * 10
    window = random_complex(rng, *shape)
    amplitude = rng.uniform(0, 30, shape).astype(np.float32)
    amplitude[rng.random(shape) < 0.05] = 0
    if masked:
        amplitude[rng.random(shape) < 0.2] = -1
    return probe, window, amplitude


def updated(backend: Backend, probe, window, amplitude, step):
    """New probe, new window and misfit, on the host; the window is a view into a larger object, as in the engine."""
    canvas = backend.xp.zeros((window.shape[0] + 6, window.shape[1] + 9), np.complex64)
    view = canvas[2 : 2 + window.shape[0], 5 : 5 + window.shape[1]]
    view[...] = backend.to_device(window)
    new = backend.to_device(probe.copy())
    misfit = update(backend, new, view, Frame(backend.to_device(amplitude)), step).misfit
    outside = abs(canvas).sum() - abs(view).sum()
    assert float(outside) == pytest.approx(0, abs=1e-3 * float(abs(view).sum()))
    return backend.to_host(new), backend.to_host(view), float(misfit)


def close(a, b, tolerance=1e-5):
    return np.linalg.norm(a - b) <= tolerance * np.linalg.norm(b)


@pytest.mark.parametrize("shape", SHAPES)
def test_transforms_are_adjoint_inverse_and_unitary(backend: Backend, shape: tuple[int, int]):
    rng = np.random.default_rng(0)
    a, b = random_complex(rng, 2, *shape), random_complex(rng, 2, *shape)
    forward = backend.to_host(far_field(backend, backend.to_device(a.copy())))
    backward = backend.to_host(near_field(backend, backend.to_device(b.copy())))
    assert np.vdot(b, forward) == pytest.approx(np.vdot(backward, a), rel=1e-4)
    assert np.linalg.norm(forward) == pytest.approx(np.linalg.norm(a), rel=1e-5)
    again = backend.to_host(near_field(backend, backend.to_device(forward.copy())))
    np.testing.assert_allclose(again, a, atol=1e-5)
    assert forward.dtype == backward.dtype == np.complex64


def test_zero_frequency_comes_first(backend: Backend):
    flat = backend.to_host(far_field(backend, backend.xp.ones((1, 8, 8), np.complex64)))
    assert flat[0, 0, 0] == pytest.approx(8)
    assert abs(flat).sum() == pytest.approx(8, abs=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("modes", [1, 3])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    "step",
    [Step(1, 1, 1, 1), Step(1, 0.1, 0.2, 1), Step(0.5, 1, 0.2, 0.2), Step(0.7, 0.3, 1, 0.5), Step(1, 0, 0.2, 1)],
    ids=str,
)
def test_update_follows_the_equations(backend: Backend, shape, modes: int, masked: bool, step: Step):
    given = problem(shape, modes, masked)
    probe, window, misfit = updated(backend, *given, step)
    expected_probe, expected_window, expected_misfit = reference(*given, step)
    assert close(probe - given[0], expected_probe - given[0]) or step.beta == 0
    assert close(window - given[1], expected_window - given[1])
    assert close(probe, expected_probe)
    assert misfit == pytest.approx(expected_misfit, rel=1e-5)
    assert step.beta > 0 or np.array_equal(probe, given[0])


@pytest.mark.parametrize("modes", [1, 3])
def test_flux_and_background_belong_to_the_model(backend: Backend, modes: int):
    given = problem((24, 40), modes, masked=True)
    step, flux = Step(0.7, 0.3, 0.4, 0.5), 1.3
    background = np.random.default_rng(3).uniform(0, 50, (24, 40)).astype(np.float32)
    new, view = backend.to_device(given[0].copy()), backend.to_device(given[1].copy())
    frame = Frame(backend.to_device(given[2]), flux, backend.to_device(background))
    seen = update(backend, new, view, frame, step)
    probe, window, expected = reference(*given, step, flux, background)
    assert close(backend.to_host(new), probe)
    assert close(backend.to_host(view), window)
    assert float(seen.misfit) == pytest.approx(expected, rel=1e-5)
    wave = np.fft.fft2(given[0] * given[1], norm="ortho")
    model, valid = np.sqrt((abs(wave) ** 2).sum(0) + background), given[2] >= 0
    sums = backend.to_host(seen.figures(backend.xp))[2:]
    np.testing.assert_allclose(sums, [(given[2] * model)[valid].sum(), (model**2)[valid].sum()], rtol=1e-4)


@pytest.mark.parametrize("modes", [1, 3])
def test_many_updates_in_a_row(backend: Backend, modes: int):
    step = Step(1, 0.5, 0.2, 0.5)
    probe, window, _ = problem((24, 40), modes, masked=True)
    new, view = backend.to_device(probe.copy()), backend.to_device(window.copy())
    for seed in range(5):
        amplitude = problem((24, 40), modes, True, seed)[2]
        misfit = update(backend, new, view, Frame(backend.to_device(amplitude)), step).misfit
        probe, window, expected = reference(probe, window, amplitude, step)
        assert float(misfit) == pytest.approx(expected, rel=1e-4)
    assert close(backend.to_host(new), probe, 1e-4)
    assert close(backend.to_host(view), window, 1e-4)


@pytest.mark.parametrize("modes", [1, 3])
def test_masked_pixels_leave_the_model_free(backend: Backend, modes: int):
    """Whatever a masked pixel holds, the update is the same; if all are masked, nothing changes."""
    probe, window, amplitude = problem((32, 32), modes, masked=True)
    step = Step(1, 1, 0.2, 1)
    one = updated(backend, probe, window, amplitude, step)
    two = updated(backend, probe, window, np.where(amplitude < 0, -1e4, amplitude).astype(np.float32), step)
    np.testing.assert_array_equal(one[0], two[0])
    np.testing.assert_array_equal(one[1], two[1])
    assert one[2] == two[2]
    none = updated(backend, probe, window, np.full((32, 32), -1, np.float32), step)
    np.testing.assert_allclose(none[0], probe, rtol=1e-6)
    np.testing.assert_allclose(none[1], window, rtol=1e-6)
    assert none[2] == 0


@pytest.mark.parametrize("modes", [1, 3])
@pytest.mark.parametrize("gamma", [0.2, 1.0])
def test_the_truth_is_a_fixed_point(backend: Backend, modes: int, gamma: float):
    probe, window, _ = problem((32, 32), modes, masked=False)
    far = np.fft.fft2((probe * window).astype(np.complex128), norm="ortho")
    amplitude = np.sqrt((abs(far) ** 2).sum(0)).astype(np.float32)
    new_probe, new_window, misfit = updated(backend, probe, window, amplitude, Step(1, 1, gamma, gamma))
    assert close(new_probe, probe)
    assert close(new_window, window)
    assert misfit < 1e-9 * (amplitude**2).sum()


def test_a_full_step_of_the_object_alone_brings_the_misfit_down(backend: Backend):
    probe, window, amplitude = problem((32, 32), 1, masked=False)
    before = updated(backend, probe, window, amplitude, Step(1, 0, 1, 1))
    after = updated(backend, probe, before[1], amplitude, Step(1, 0, 1, 1))
    assert after[2] < before[2]


def test_darkness_everywhere_is_no_trouble(backend: Backend):
    probe, window, _ = problem((32, 32), 2, masked=False)
    window[:16] = 0
    probe[:, :, :5] = 0
    new_probe, new_window, misfit = updated(backend, probe, window, np.zeros((32, 32), np.float32), Step(1, 1, 0.2, 0.2))
    assert np.isfinite(new_probe).all()
    assert np.isfinite(new_window).all()
    assert misfit > 0
