"""Sweeps shared by threads, and the transforms of other libraries."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from streamptycho.errors import BackendError
from streamptycho.solve.compiled import sweeper, transforms
from streamptycho.solve.compiled import threads as helping
from streamptycho.solve.compiled.sweeper import Sweeper, strips
from streamptycho.solve.compiled.transforms import aligned
from streamptycho.solve.devices.backend import choose_backend, cpu_backend
from streamptycho.solve.devices.cores import AUTOMATIC, _quota, usable_threads
from streamptycho.solve.frames import Frames, Model, Outcome, Steps
from streamptycho.solve.settings import RuleOptions
from streamptycho.solve.solver import Solver
from tests.solve.helpers import Scene, random_complex, scene, stored


@pytest.fixture
def worth_sharing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small sweeps are shared too."""
    monkeypatch.setattr(sweeper, "WORTH_SHARING", 1)


def solver_for(made: Scene, threads: int, modes: int = 1, **rule: float) -> Solver:
    backend = cpu_backend(threads)
    store = stored(made, backend)
    solver = Solver(backend, store, made.guess[:modes], RuleOptions(**rule), poor_probe=True)
    for row in range(len(store)):
        solver.admit(row)
    return solver


@pytest.mark.usefixtures("worth_sharing")
@pytest.mark.parametrize("modes", [1, 2])
def test_threads_reconstruct_as_well_as_one(modes: int):
    made = scene(64, 80, modes=modes)
    errors = []
    for threads in (1, 2, 3):
        solver, random = solver_for(made, threads, modes), np.random.default_rng(0)
        for _ in range(8):
            solver.sweep(random.permutation(80))
        assert np.isfinite(solver.canvas.object).all()
        errors.append(solver.error())
    assert errors[1] == pytest.approx(errors[0], rel=0.15)
    assert errors[2] == pytest.approx(errors[0], rel=0.15)


@pytest.mark.usefixtures("worth_sharing")
def test_every_frame_is_used_once():
    """With steps of nothing the misfits and figures are those of one thread, whoever computed them."""
    rng = np.random.default_rng(0)
    probe, obj = random_complex(rng, 2, 24, 36), random_complex(rng, 90, 90)
    amplitudes = rng.uniform(0, 3, (40, 24, 36)).astype(np.float32)
    corners, rows = rng.integers(0, 50, (40, 2)), rng.permutation(40)
    steps = np.tile(np.array([1e-12, 0, 1, 1], np.float32), (40, 1))
    found = []
    for threads in (1, 4):
        misfit, figures = np.full(40, np.nan, np.float32), np.full((40, 4), np.nan, np.float32)
        ones, none = np.ones(40, np.float32), np.zeros((0, 0), np.float32)
        before = probe.copy()
        frames = Frames(amplitudes, ones, none, rows, corners)
        Sweeper(threads)(Model(obj.copy(), probe), frames, Steps(steps), Outcome(misfit, figures))
        assert np.array_equal(probe, before)
        found.append((misfit, figures))
    np.testing.assert_allclose(found[1][0], found[0][0], rtol=1e-6)
    np.testing.assert_allclose(found[1][1], found[0][1], rtol=1e-5, atol=1e-4)


@pytest.mark.usefixtures("worth_sharing")
def test_the_shared_probe_takes_all_changes_of_all_threads():
    """On a flat object under full, equal frames the probe goes where one thread takes it."""
    made = scene(64, 80)
    one, many = (solver_for(made, threads, momentum=False) for threads in (1, 4))
    for solver in (one, many):
        for _ in range(4):
            solver.sweep(np.arange(80))
    moved = np.linalg.norm(one.probe - made.guess)
    assert np.linalg.norm(many.probe - made.guess) == pytest.approx(moved, rel=0.2)


@pytest.mark.usefixtures("worth_sharing")
def test_what_goes_wrong_in_a_helping_thread_is_raised(monkeypatch: pytest.MonkeyPatch):
    def fail(*arguments: object) -> None:
        if arguments[-1] != 0:
            raise RuntimeError("no")

    monkeypatch.setattr(sweeper.share, "share", fail)
    solver = solver_for(scene(32, 20), 2)
    monkeypatch.setattr(helping.Future, "cancel", lambda future: False)  # as if every helper had begun
    with pytest.raises(RuntimeError, match="no"):
        solver.sweep(np.arange(20))


def test_one_thread_is_reproducible():
    made = scene(32, 40)
    objects = []
    for _ in range(2):
        solver = solver_for(made, 1)
        solver.sweep(np.arange(40))
        objects.append(solver.canvas.object)
    assert np.array_equal(*objects)


def test_strips_keep_threads_apart_and_the_order_of_each():
    rng = np.random.default_rng(0)
    corners = np.stack([rng.integers(0, 30, 51), rng.integers(0, 400, 51)], 1)
    order, starts = strips(corners, 3)
    assert sorted(order.tolist()) == list(range(51))
    assert np.diff(starts).tolist() == [17, 17, 17]
    parts = [order[a:b] for a, b in pairwise(starts)]
    for part in parts:
        assert (np.diff(part) > 0).all()
    for low, high in pairwise(parts):
        assert corners[low, 1].max() <= corners[high, 1].min()


def test_threads_of_this_machine(tmp_path: Path):
    assert 1 <= usable_threads() <= AUTOMATIC
    assert choose_backend("cpu", threads="auto").threads == usable_threads()
    for text, expected in (("max 100000", AUTOMATIC), ("150000 100000", 1), ("300000 100000", 3)):
        (tmp_path / "cpu.max").write_text(text)
        assert _quota(tmp_path / "cpu.max") == expected
    assert _quota(tmp_path / "none") == AUTOMATIC


def test_a_library_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(transforms.LIBRARIES, "absent", ("no-such-distribution", "libnone"))
    with pytest.raises(BackendError, match=r"absent is not installed.*streamptycho\[absent\]"):
        transforms.plans_for("absent", (1, 8, 8))
    monkeypatch.setitem(transforms.LIBRARIES, "empty", ("numpy", "libnone"))
    with pytest.raises(BackendError, match="numpy brings no libnone"):
        transforms.plans_for("empty", (1, 8, 8))


@pytest.mark.parametrize("library", list(transforms.LIBRARIES))
@pytest.mark.parametrize("shape", [(1, 32, 32), (2, 24, 36)])
def test_foreign_transforms_update_like_our_own(library: str, shape: tuple[int, int, int]):
    try:
        transforms.plans_for(library, shape)
    except BackendError as error:
        pytest.skip(str(error))
    rng = np.random.default_rng(0)
    start, canvas = random_complex(rng, *shape), random_complex(rng, 60, 60)
    amplitudes = rng.uniform(0, 3, (6, *shape[1:])).astype(np.float32)
    corners, rows = rng.integers(0, 20, (9, 2)), rng.integers(0, 6, 9)
    steps = np.tile(np.array([0.8, 0.3, 0.2, 1], np.float32), (9, 1))
    out = []
    for name in ("rocket", library):
        obj, probe = canvas.copy(), start.copy()
        misfit, figures = np.zeros(6, np.float32), np.zeros((9, 4), np.float32)
        ones, none = np.ones(6, np.float32), np.zeros((0, 0), np.float32)
        frames = Frames(amplitudes, ones, none, rows, corners)
        Sweeper(1, name)(Model(obj, probe), frames, Steps(steps), Outcome(misfit, figures))
        out.append((obj, probe))
    for ours, theirs in zip(*out, strict=True):
        assert np.linalg.norm(theirs - ours) < 2e-5 * np.linalg.norm(ours)


def test_scratch_is_aligned():
    for shape in ((1, 3, 5), (2, 24, 36)):
        array = aligned(shape)
        assert array.shape == shape
        assert array.ctypes.data % transforms.ALIGNMENT == 0
        assert array.flags.c_contiguous
