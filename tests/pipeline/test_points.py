"""What frames say by themselves, and the blocks in which it is sent."""

import time
from collections.abc import Callable

import numpy as np
import pytest

from streamptycho.messages.live import PointState, Survey
from streamptycho.pipeline import survey as points
from streamptycho.pipeline.survey import MOST_ASIDE, PointLog
from streamptycho.solve.equations.modulus import centre_of_mass, frequencies
from tests.scans import start

START = start()


def filled(count: int, shape: tuple[int, int] = (16, 16)) -> PointLog:
    log = PointLog(shape)
    rng = np.random.default_rng(0)
    for i in rng.permutation(count).tolist():
        log.add(i, (1e-6 * i, -1e-6 * i), np.ones(shape, np.float32), 0, 10 + i)
    return log


def block_of(log: PointLog, used: int = 0) -> Survey:
    """The next block, when the first `used` frames shape the picture."""
    block = log.survey("reconstruct", START.run, 5, np.arange(len(log)) < used)
    assert block is not None
    return block


def states(*blocks: Survey) -> dict[int, int]:
    """What is known after some blocks."""
    return {i: s for block in blocks for i, s in zip(block.index.tolist(), block.state.tolist(), strict=True)}


def test_figures_of_a_frame():
    log = PointLog((16, 16))
    amplitude = np.zeros((16, 16), np.float32)
    amplitude[:2, :2] = 10
    amplitude[5, 0] = 2
    amplitude[8, 8] = -1
    log.add(3, (1e-6, 2e-6), amplitude, 7, 99)
    (row,) = log.table
    assert (row["index"], row["saturated"], row["timestamp_ns"]) == (3, 7, 99)
    assert row["yx_m"].tolist() == [1e-6, 2e-6]
    assert row["counts"] == pytest.approx(404)
    assert row["dark_field"] == pytest.approx(4)
    np.testing.assert_allclose(row["centre_px"], [(200 + 5 * 4) / 404, 200 / 404], rtol=1e-5)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("shape", [(16, 16), (15, 33), (128, 128)])
def test_figures_are_those_of_the_plain_sums(shape: tuple[int, int], turned: bool):
    random = np.random.default_rng(0)
    log = PointLog(shape)
    amplitudes = np.sqrt(random.poisson(50 * random.random((20, *shape)) ** 4)).astype(np.float32)
    amplitudes[:, :, 3] = -1
    amplitudes[7] = 0
    amplitudes[8] *= 30_000
    for i, amplitude in enumerate(amplitudes):
        log.add(i, (0, 0), np.asfortranarray(amplitude) if turned else amplitude, 0, 0)
    counts = np.maximum(amplitudes, 0).astype(float) ** 2
    np.testing.assert_allclose(log.table["counts"], counts.sum((1, 2)), rtol=1e-6)
    centres = [centre_of_mass(np, pattern, frequencies(np, shape)) for pattern in counts]
    np.testing.assert_allclose(log.table["centre_px"], centres, atol=1e-4)
    np.testing.assert_allclose(log.table["dark_field"], (counts * log._outside).sum((1, 2)), rtol=1e-6)
    assert 0 < log._outside.mean() < 1


def test_a_point_costs_about_as_much_as_a_look_at_its_frame():
    log, amplitude = PointLog((256, 256)), np.ones((256, 256), np.float32)
    for i in range(100):
        log.add(i, (0, 0), amplitude, 0, 0)

    def least_s(work: Callable[[], object]) -> float:
        spent_s = []
        for _ in range(100):
            begun_s = time.thread_time()
            work()
            spent_s.append(time.thread_time() - begun_s)
        return min(spent_s)

    square = np.empty_like(amplitude)
    assert least_s(lambda: log.add(0, (0, 0), amplitude, 0, 0)) < 4 * least_s(lambda: np.square(amplitude, out=square))


def test_the_bright_field_is_that_of_the_mean():
    """A first frame that says little is judged again when more is known."""
    log = PointLog((16, 16))
    wide, narrow = np.zeros((2, 16, 16), np.float32)
    narrow[0, 0], wide[:4, :4] = 10, 10
    log.add(0, (0, 0), narrow, 0, 0)
    log.add(1, (0, 0), wide, 0, 0)
    assert log.table["dark_field"].tolist() == [0, 0]
    odd = wide.copy()
    odd[8, 8] = 5
    for i in range(2, 8):
        log.add(i, (0, 0), wide, 0, 0)
    log.add(8, (0, 0), odd, 0, 0)
    assert log.table["dark_field"][8] == pytest.approx(25)


def test_blocks_hold_every_point_and_then_all_in_turn(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(points, "BLOCK_POINTS", 100)
    log = filled(350)
    blocks = [block_of(log) for _ in range(4)]
    assert [len(block.index) for block in blocks] == [100, 100, 100, 100]
    assert not log.unsent
    assert set(np.concatenate([block.index for block in blocks]).tolist()) == set(range(350))
    again = [block_of(log) for _ in range(4)]
    assert set(np.concatenate([block.index for block in again]).tolist()) == set(range(350))
    for block in blocks + again:
        assert block.known == 350
        np.testing.assert_allclose(block.yx_m, 1e-6 * np.stack([block.index, -block.index], axis=1))


def test_new_points_go_first(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(points, "BLOCK_POINTS", 100)
    log = filled(80)
    block_of(log)
    log.add(1000, (0, 0), np.ones((16, 16), np.float32), 0, 0)
    block = block_of(log)
    assert 1000 in block.index
    assert len(block.index) == 81


def test_without_points_there_is_nothing_to_send():
    assert PointLog((16, 16)).survey("reconstruct", START.run, 5, np.zeros(0, np.bool_)) is None


def test_points_that_are_used_now_are_told_next_the_newest_first(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(points, "BLOCK_POINTS", 100)
    log = PointLog((16, 16))
    for i in range(350):
        log.add(i, (0, 0), np.ones((16, 16), np.float32), 0, 0)
    told = states(*(block_of(log) for _ in range(4)))
    assert set(told.values()) == {PointState.WAITING}
    log.add(350, (0, 0), np.ones((16, 16), np.float32), 0, 0)
    block = block_of(log, used=340)
    assert states(block) == {350: PointState.WAITING} | dict.fromkeys(range(241, 340), PointState.USED)
    assert log.unsent
    told |= states(*(block_of(log, used=340) for _ in range(3)))
    assert not log.unsent
    assert told | states(block) == {i: PointState.USED if i < 340 else PointState.WAITING for i in range(351)}


def test_points_aside_are_told_among_the_others_until_their_frames_come(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(points, "BLOCK_POINTS", 8)
    log = filled(20)
    for index in range(100, 105):
        log.aside.add(index, (2e-6, 3e-6), PointState.LOST)
    first = block_of(log)
    assert (len(first.index), sum(first.state == PointState.LOST)) == (8, 2), "a quarter"
    assert first.known == 20
    assert first.yx_m[first.index >= 100].tolist() == [[2e-6, 3e-6]] * 2
    assert first.counts[first.index >= 100].tolist() == [0, 0]
    told = states(first, block_of(log), block_of(log), block_of(log))
    assert {i for i, s in told.items() if s == PointState.LOST} == set(range(100, 105))
    assert not log.unsent
    log.add(102, (0, 0), np.ones((16, 16), np.float32), 0, 0)
    told = states(*(block_of(log, used=21) for _ in range(9)))
    assert told[102] == PointState.USED
    assert told[101] == PointState.LOST


def test_points_aside_alone():
    log = PointLog((16, 16))
    log.aside.add(3, (1e-6, 2e-6), PointState.REFUSED)
    block = block_of(log)
    assert (states(block), block.known) == ({3: PointState.REFUSED}, 0)


def test_points_aside_are_bounded():
    log = PointLog((16, 16))
    for index in range(MOST_ASIDE + 10):
        log.aside.add(index, (0, 0), PointState.LOST)
    log.aside.add(0, (0, 0), PointState.REFUSED)
    told = states(block_of(log))
    assert len(told) == points.BLOCK_POINTS
    assert told[0] == PointState.REFUSED, "the newest news first"
    while log.unsent:
        told |= states(block_of(log))
    assert len(told) == MOST_ASIDE


def test_memory_grows_with_the_points_only():
    log = filled(3000)
    assert len(log) == 3000
    assert not log._early
    assert log._table.nbytes <= 2 * 4096 * points.POINT.itemsize


def test_large_frames_take_little_memory(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(points, "MOST_BYTES", 6 * 4 * 16 * 16)
    log = PointLog((16, 16))
    most = 0
    for i in range(100):
        log.add(i, (0, 0), np.ones((16, 16), np.float32), 0, 0)
        most = max(most, len(log._early))
    assert most == 5
    assert not log._early
