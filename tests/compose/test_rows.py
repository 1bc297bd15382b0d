"""Sample rows and frame numbers: which row belongs to which frame."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamptycho.compose.intervals import Intervals
from streamptycho.messages.facts import Learned, Samples, StartParts
from streamptycho.messages.reasons import EndReason
from tests.compose.helpers import FRAMES, KNOWN, POSITIONS, Chain, began, ended, frames, samples

BEGUN = (FRAMES, began()), (FRAMES, frames([0])), (POSITIONS, began("abc"))


class TestColumns:
    def test_that_nobody_names_are_asked_for_and_the_rows_wait(self):
        options = KNOWN | {"columns": None}
        chain = Chain(**options)(*BEGUN, (POSITIONS, samples(0, 3)))
        assert chain.places == {}
        assert "set scan.columns" in chain.said["columns"]
        assert "x, y" in chain.said["columns"]
        chain((POSITIONS, Learned(run="abc", parts=StartParts(columns=("y", "x")))))
        assert chain.places == {i: (pytest.approx(i), pytest.approx(10 * i)) for i in range(3)}

    def test_that_are_not_there_are_named(self):
        chain = Chain(**KNOWN | {"columns": ("y", "INENC1")})(*BEGUN, (POSITIONS, samples(0, 3)))
        assert "'INENC1'" in chain.said["columns"]
        assert "there are x, y" in chain.said["columns"]

    @pytest.mark.parametrize(
        ("setting", "said", "metres"),
        [(None, "mm", 1e-3), ("nm", "mm", 1e-9), (None, "µm", 1e-6), (None, "", None), (None, "deg", None)],
    )
    def test_units_are_never_guessed(self, setting: str | None, said: str, metres: float | None):
        options = KNOWN | {"unit": setting}
        parts = StartParts(units={"y": said, "x": said})
        chain = Chain(**options)(*BEGUN, (POSITIONS, Learned(run="abc", parts=parts)), (POSITIONS, samples(0, 3)))
        if metres is None:
            assert chain.places == {}
            assert "set scan.unit" in chain.said["columns"]
        else:
            assert chain.places[2] == (pytest.approx(2e6 * metres), pytest.approx(20e6 * metres))

    def test_rows_that_are_never_understood_are_counted_in_the_end(self):
        chain = Chain(**KNOWN | {"unit": None})(*BEGUN, (POSITIONS, samples(0, 3)), (FRAMES, ended("12", 1))).wait(61)
        assert chain.closed == [("series-12", EndReason.INCOMPLETE, 1)]
        assert chain.refused == {"unplaced": 1}

    def test_more_rows_than_may_wait_are_counted(self):
        options = KNOWN | {"unit": None, "max_held_rows": 10}
        chain = Chain(**options)(*BEGUN, *((POSITIONS, samples(4 * i, 4)) for i in range(5)))
        assert chain.refused == {"unplaced": 3}

    def test_positions_of_another_role_are_not_used_unless_set(self):
        facts = (FRAMES, began()), (FRAMES, frames([0])), (FRAMES, samples(0, 2, "12"))
        chain = Chain(**KNOWN)(*facts)
        assert chain.places == {}
        assert "scan.positions_from = 'frames'" in chain.said["positions_from"]
        assert len(Chain(positions_from="frames", **KNOWN)(*facts).places) == 2


class TestRows:
    def test_the_mean_of_several_samples(self):
        chain = Chain(samples_per_frame=4, first_sample=2, **KNOWN)(*BEGUN)
        chain((POSITIONS, samples(0, 3)), (POSITIONS, samples(3, 9)), (POSITIONS, ended("abc", 12)))
        places = {i: (pytest.approx(y), pytest.approx(10 * y)) for i, y in enumerate((3.5, 7.5, 10.5))}
        assert chain.places == places  # of the last frame half of the samples have come

    def test_the_spread_is_told(self):
        chain = Chain(samples_per_frame=2, **KNOWN)(*BEGUN, (POSITIONS, samples(0, 2)), (FRAMES, ended("12", 1)))
        chain((POSITIONS, ended("abc", 2)))
        assert "5.02 um" in chain.said["spread"]

    def test_rows_without_values_cost_their_frames_alone(self):
        fact = samples(0, 5)
        fact.columns["y"][2] = np.nan
        chain = Chain(**KNOWN)(*BEGUN, (POSITIONS, fact))
        assert sorted(chain.places) == [0, 1, 3, 4]
        assert "nan" in chain.said

    def test_a_lost_block_costs_its_frames_alone(self):
        chain = Chain(samples_per_frame=4, **KNOWN)(*BEGUN)
        chain((POSITIONS, samples(0, 5)), (POSITIONS, samples(7, 9)), (POSITIONS, ended("abc", 16)))
        # of frame 1, rows 4 and 7 have come: half of them
        assert {i: place[0] for i, place in chain.places.items()} == {
            0: pytest.approx(1.5), 1: pytest.approx(5.5), 2: pytest.approx(9.5), 3: pytest.approx(13.5)
        }  # fmt: skip
        assert "partial" in chain.said

    def test_numbers_that_samples_bring_count(self):
        fact = Samples(
            run="abc", first=0, columns={"y": np.array([1.0, 2, 3]), "x": np.zeros(3)}, number=np.array([5, 2, 5])
        )
        chain = Chain(first_number=1, **KNOWN)(*BEGUN, (POSITIONS, fact))
        assert {i: place[0] for i, place in chain.places.items()} == {1: pytest.approx(2), 4: pytest.approx(3)}

    @pytest.mark.parametrize(("rows", "text"), [(11, "scan.first_sample = 1"), (9, "scan.first_frame = 1")])
    def test_counts_that_do_not_agree_are_told_with_the_setting(self, rows: int, text: str):
        chain = Chain(**KNOWN)(*BEGUN, (FRAMES, frames(range(1, 10))), (POSITIONS, samples(0, rows)))
        chain((FRAMES, ended("12", 10)), (POSITIONS, ended("abc", rows)))
        assert text in chain.said["offset"]
        assert chain.closed == [("series-12", EndReason.INCOMPLETE if rows < 10 else EndReason.COMPLETE, 10)]

    def test_a_row_number_beyond_belief_is_refused(self):
        chain = Chain(**KNOWN)(*BEGUN, (POSITIONS, samples(1 << 60, 3)))
        assert chain.refused == {"unplaced": 1}

    @settings(deadline=None)
    @given(st.integers(1, 5), st.integers(0, 4), st.lists(st.integers(1, 7), min_size=1, max_size=12), st.randoms())
    def test_any_order_of_blocks_gives_the_same_positions(self, each: int, first: int, sizes: list[int], draw):
        edges = np.cumsum([0, *sizes])
        blocks = [samples(int(a), int(b - a)) for a, b in itertools.pairwise(edges)]
        draw.shuffle(blocks)
        blocks += [draw.choice(blocks)]
        chain = Chain(samples_per_frame=each, first_sample=first, **KNOWN)(*BEGUN, *((POSITIONS, block) for block in blocks))
        rows = np.arange(first, edges[-1])
        expected = {
            int(i): rows[rows // 1 - first >= 0][(rows - first) // each == i].mean() for i in range(len(rows) // each)
        }
        assert {i: place[0] for i, place in chain.places.items()} == {
            i: pytest.approx(y, abs=1e-9) for i, y in expected.items()
        }


class TestNumbers:
    def test_from_one_where_set(self):
        chain = Chain(first_frame=1, **KNOWN)((FRAMES, began()), (FRAMES, frames([1, 2])), (FRAMES, frames([0, 3])))
        assert chain.indices == [0, 1, 2]
        assert chain.refused == {"bad_index": 1}
        assert "scan.first_frame" in chain.said["number"]

    def test_from_one_is_told_and_not_guessed(self):
        chain = Chain(**KNOWN)((FRAMES, began()), (FRAMES, frames([1, 2])))
        assert chain.indices == [1, 2]
        assert "scan.first_frame = 1" in chain.said["first_frame"]

    def test_from_whatever_comes_first(self):
        chain = Chain(first_frame="first", **KNOWN)((FRAMES, began()), (FRAMES, frames([700, 701])))
        assert chain.indices == [0, 1]
        assert chain.start.metadata["frames.first"] == 700

    def test_anew_with_each_line_where_the_plan_proves_it(self):
        lines = [(FRAMES, frames(range(5))) for _ in range(4)]
        chain = Chain(**KNOWN)((FRAMES, began(expected=20)), *lines)
        assert chain.indices == list(range(20))
        assert "lines of 5" in chain.said["lines"]

    @pytest.mark.parametrize("expected", [None, 5, 21])
    def test_anew_without_proof_is_a_repetition_and_told(self, expected: int | None):
        chain = Chain(**KNOWN)((FRAMES, began(expected=expected)), (FRAMES, frames(range(5))), (FRAMES, frames(range(5))))
        assert chain.indices == [*range(5), *range(5)]
        assert "scan.line_length" in chain.said["restart"]
        assert chain.scans["series-12"].dropped["duplicate"] == 5

    def test_exposures_that_have_come_are_no_line(self):
        again = [(FRAMES, frames(range(5), time_ns=7))] * 2
        chain = Chain(**KNOWN)((FRAMES, began(expected=20)), *again)
        assert chain.scans["series-12"].dropped["duplicate"] == 5

    def test_lines_with_losses_where_their_length_is_set(self):
        blocks = [[0, 1, 2], [1, 4], [0, 3, 9], [2], [1, 2]]
        chain = Chain(line_length=5, **KNOWN)((FRAMES, began()))
        chain(*((FRAMES, frames(numbers, time_ns=time)) for time, numbers in enumerate(blocks, 1)))
        assert chain.indices == [0, 1, 2, 6, 9, 10, 13, 17, 16, 17]
        assert chain.refused == {"bad_index": 1}

    def test_numbers_in_disorder_within_a_message(self):
        chain = Chain(**KNOWN)((FRAMES, began()), (FRAMES, frames([3, 1, 2])))
        assert chain.indices == [3, 1, 2]

    @pytest.mark.parametrize("number", [-1, -(1 << 63), (1 << 63) - 1])
    def test_numbers_beyond_belief_are_counted(self, number: int):
        chain = Chain(**KNOWN)((FRAMES, began()), (FRAMES, frames([0])), (FRAMES, frames([number])))
        scan = chain.scans["series-12"]
        assert scan.dropped["bad_index"] == 1
        assert scan.received == 2


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 9)), max_size=30))
def test_intervals_are_a_set(spans: list[tuple[int, int]]):
    intervals, numbers = Intervals(), set()
    for start, size in spans:
        fresh = {n for a, b in intervals.add(start, start + size) for n in range(a, b)}
        assert fresh == set(range(start, start + size)) - numbers
        numbers |= set(range(start, start + size))
        assert all((number in intervals) is (number in numbers) for number in range(-1, 75))
        assert (intervals.count, intervals.stop) == (len(numbers), max(numbers, default=-1) + 1)
