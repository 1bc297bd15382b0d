"""The order of the updates: new frames at once, the newest again, every frame in turn."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from streamptycho.solve.schedule import NEW_SHARE, RECENT, RECENT_SHARE, Schedule, continuity


def raster(rows: int) -> NDArray[np.int64]:
    i = np.arange(rows)
    return 10 * np.stack([i // 40, i % 40], 1)


def fermat(rows: int) -> NDArray[np.int64]:
    i = np.arange(rows)
    radius, angle = 10 * np.sqrt(i), i * np.pi * (3 - np.sqrt(5))
    return np.round(np.stack([radius * np.sin(angle), radius * np.cos(angle)], 1)).astype(np.int64)


class Drawn:
    """A schedule with the visits that a solver would count."""

    def __init__(self, rows: int, corners: NDArray[np.int64] | None = None, seed: int = 0) -> None:
        self.schedule = Schedule(seed)
        self.visits = np.zeros(rows, np.int64)
        self.corners = raster(rows) if corners is None else corners

    def __call__(self, frames: int, count: int, *, live: bool = True) -> NDArray[np.int64]:
        drawn = self.schedule.draw(self.visits[:frames], self.corners[:frames], count, live=live)
        np.add.at(self.visits, drawn, 1)
        return drawn


@settings(max_examples=30)
@given(st.integers(1, 400), st.integers(1, 120), st.booleans(), st.integers(0, 5))
def test_every_row_comes_within_two_passes(rows: int, count: int, live: bool, seed: int):
    draw, waiting = Drawn(rows, seed=seed), np.zeros(rows, int)
    for _ in range(3 * rows // count + 10):
        drawn = draw(rows, count, live=live)
        assert len(drawn) == count
        assert drawn.min() >= 0
        assert drawn.max() < rows
        waiting += count
        waiting[drawn] = 0
        assert waiting.max() <= (4 if live else 2) * rows + 2 * count


def test_a_new_frame_is_used_at_once():
    draw = Drawn(2000)
    for frames in range(12, 2000, 12):
        new = set(range(frames - 12, frames))
        assert new <= set(draw(frames, 48).tolist())


def test_when_frames_come_faster_than_updates_the_newest_are_sampled():
    """Four frames per update: each slice still reaches into the newest, evenly."""
    draw = Drawn(4000)
    for frames in range(200, 4001, 200):
        drawn = draw(frames, 50)
        newest = np.unique(drawn[drawn >= frames - 200])
        assert len(newest) >= NEW_SHARE * 50
        assert newest.max() == frames - 1
        assert np.diff(newest).max() <= 8
    assert (draw.visits == 0).sum() > 2500


def test_what_was_passed_over_is_caught_up_first():
    draw = Drawn(4000)
    for frames in range(200, 4001, 200):
        draw(frames, 50)
    unused = set(np.flatnonzero(draw.visits == 0).tolist())
    draw.schedule.restart()
    caught = [int(row) for _ in range(len(unused) // 50) for row in draw(4000, 50, live=False)]
    assert len(set(caught)) == len(caught)
    assert set(caught) <= unused
    draw(4000, 50, live=False)
    assert draw.visits.all()


def test_a_pause_of_the_stream_catches_up_too():
    draw = Drawn(1000)
    draw(1000, 50)
    for _ in range(2 * 1000 // 20):
        draw(1000, 50)
    assert draw.visits.all()


def test_part_of_a_live_slice_is_recent_where_the_path_is_continuous():
    draw = Drawn(5000)
    draw(5000, 50)
    drawn = [draw(5000, 50) for _ in range(100)]
    recent = np.array([(d >= 5000 - RECENT).sum() for d in drawn])
    assert recent.min() >= 50 * RECENT_SHARE
    walked = 50 - 50 * RECENT_SHARE
    assert recent.mean() == pytest.approx(50 * RECENT_SHARE + walked * RECENT / 5000, abs=2)
    middle = np.concatenate([d[20:30] for d in drawn])
    assert 0.2 < (middle >= 5000 - RECENT).mean() < 0.6  # mixed, not one after the other


def test_on_a_path_that_jumps_all_frames_share_alike():
    draw = Drawn(5000, fermat(5000))
    draw(5000, 50)
    recent = np.array([(draw(5000, 50) >= 5000 - RECENT).sum() for _ in range(100)])
    assert recent.mean() < 3


def test_continuity_of_paths():
    assert continuity(raster(1000)[-RECENT:]) == 1
    assert continuity(fermat(1000)[-RECENT:]) == 0
    mixed = np.random.default_rng(0).permutation(raster(1000))
    assert continuity(mixed[-RECENT:]) < 0.1
    assert continuity(raster(2)) == 1
    assert continuity(np.zeros((RECENT, 2), np.int64)) == 1
    comb = raster(1600)[::4]
    assert 0.5 < continuity(comb[-RECENT:]) <= 1


def test_slices_longer_than_the_recent_frames():
    drawn = Drawn(250)(250, 800)
    assert len(drawn) == 800
    assert set(drawn.tolist()) == set(range(250))


@pytest.mark.parametrize("live", [True, False])
def test_few_rows_or_the_end_are_whole_passes(live: bool):
    rows = RECENT if live else 700
    draw = Drawn(rows)
    if live:
        draw(rows, 2 * rows)  # the first draw takes what is new
        draw.schedule.restart()
    drawn = np.concatenate([draw(rows, 50, live=live) for _ in range(3 * rows // 50)])
    assert set(Counter(drawn.tolist()).values()) == {3}


def test_same_seed_same_order():
    def order(seed: int) -> list[int]:
        draw = Drawn(300, seed=seed)
        return [int(i) for n in (50, 150, 300) for i in draw(n, 60)]

    assert order(1) == order(1) != order(2)
