"""Work that repeats: not too often, and not too much of the time."""

import itertools

import pytest

from streamptycho.display.pace import Pace


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def turns(pace: Pace, clock: Clock, step_s: float, steps: int, cost_s: float = 0.0) -> list[float]:
    """When the work was done by a loop that looks every `step_s`."""
    done = []
    for _ in range(steps):
        if pace.due:
            with pace.turn():
                done.append(clock.now_s)
                clock.now_s += cost_s
        clock.now_s += step_s
    return done


def test_the_first_turn_is_due_at_once(clock):
    assert Pace(10.0, clock).due


def test_the_period_is_kept_on_average_by_a_loop_that_is_late(clock):
    assert len(turns(Pace(0.5, clock), clock, 0.2, 100)) == pytest.approx(40, abs=1)


def test_a_loop_that_was_away_does_not_catch_up(clock):
    pace = Pace(0.5, clock)
    turns(pace, clock, 0.1, 3)
    clock.now_s += 60
    assert len(turns(pace, clock, 0.01, 40)) == 1


def test_work_takes_its_share_of_the_time_at_most(clock):
    begun_s = clock.now_s
    done = turns(Pace(0.1, clock, share=0.05), clock, 0.01, 2000, cost_s=0.2)
    assert 0.2 * len(done) <= 0.05 * (clock.now_s - begun_s) + 0.2
    assert [round(later - earlier) for earlier, later in itertools.pairwise(done)] == [4] * (len(done) - 1)


def test_the_cost_may_be_read_from_another_clock(clock):
    computed = Clock()
    pace = Pace(1.0, clock, share=0.1, spent=computed)
    with pace.turn():
        clock.now_s += 5  # spent waiting
        computed.now_s += 0.3
    assert pace.due
    with pace.turn():
        computed.now_s += 0.3
    clock.now_s += 2.9
    assert not pace.due
    clock.now_s += 0.2
    assert pace.due


def test_work_that_fails_leaves_the_time_of_the_next_try(clock):
    pace = Pace(0.0, clock)
    pace.wait(10.0)
    with pytest.raises(ZeroDivisionError), pace.turn():
        raise ZeroDivisionError
    assert not pace.due
    clock.now_s += 10
    assert pace.due
    pace.wait(10.0)
    with pace.turn():
        pass
    assert pace.due, "all went well"
