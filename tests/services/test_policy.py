"""When a process is started again, and when it is taken for hung: no process, no clock."""

from itertools import pairwise

from streamptycho_services.processes.policy import BUSY, HEALTHY_S, LONGEST_S, LOOP_DEATHS, Restarts, Silence


def lives(restarts: Restarts, life_s: float, deaths: int, now_s: float = 0.0) -> tuple[list[float], list[int], float]:
    """Delays, the deaths at which it was a loop, and the time after so many lives."""
    delays, loops = [], []
    for n in range(deaths):
        restarts.started(now_s)
        now_s += life_s
        delays.append(restarts.died(now_s))
        if restarts.looping:
            loops.append(n + 1)
        now_s += delays[-1]
    return delays, loops, now_s


class TestRestarts:
    def test_the_delay_doubles_up_to_a_bound(self):
        delays, _, _ = lives(Restarts(), 0.5, 12)
        assert delays[:4] == [0.1, 0.2, 0.4, 0.8]
        assert delays[-3:] == [LONGEST_S] * 3
        assert all(b in (2 * a, LONGEST_S) for a, b in pairwise(delays))

    def test_a_minute_of_health_begins_anew(self):
        restarts = Restarts()
        *_, now_s = lives(restarts, 0.5, 6)
        assert restarts.looping
        delays, loops, _ = lives(restarts, HEALTHY_S, 1, now_s)
        assert (delays, loops) == ([0.1], [])
        assert lives(restarts, HEALTHY_S - 1, 2, now_s + 1000)[0] == [0.2, 0.4], "not a minute"

    def test_five_deaths_in_a_minute_are_a_loop(self):
        assert lives(Restarts(), 0.0, LOOP_DEATHS)[1] == [LOOP_DEATHS]
        assert lives(Restarts(), 20.0, 20)[1] == [], "four in a minute are not"

    def test_a_loop_lasts_until_it_is_healthy(self):
        restarts = Restarts()
        *_, now_s = lives(restarts, 0.0, LOOP_DEATHS)
        assert lives(restarts, 50.0, 3, now_s)[1] == [1, 2, 3]
        restarts.started(1e4)
        assert not restarts.healthy(1e4 + HEALTHY_S - 0.1)
        assert restarts.looping
        assert restarts.healthy(1e4 + HEALTHY_S)
        assert not restarts.looping

    def test_the_first_start_is_none_again(self):
        restarts = Restarts()
        restarts.started(0)
        assert restarts.count == 0
        restarts.died(100)
        assert restarts.count == 0, "it is not started yet"
        restarts.started(101)
        assert restarts.count == 1


def silent(silence: Silence, since_s: float, seconds: int) -> float:
    """Look every second and hear nothing; the time after it."""
    for _ in range(seconds):
        since_s += 1
        silence.look(since_s, heard=False)
    return since_s


class TestSilence:
    def test_is_not_counted_before_the_first_beat(self):
        silence = Silence(10)
        silent(silence, 0, 1000)
        assert not silence.suspicious
        assert not silence.heard

    def test_ends_at_a_beat(self):
        silence = Silence(10)
        silence.look(0, heard=True)
        now_s = silent(silence, 0, 9)
        assert silence.suspicious
        assert not silence.hung(None)
        silence.look(now_s, heard=True)
        assert not silence.suspicious
        silent(silence, now_s, 10)
        assert silence.hung(None)

    def test_counts_only_while_somebody_listens(self):
        """The supervisor was stopped, or the machine slept: the others may have been as well."""
        silence = Silence(10)
        silence.look(0, heard=True)
        silence.look(10_000, heard=False)
        assert silence.silent_s <= 1

    def test_a_process_that_computes_is_waited_for_longer(self):
        computing, idle = Silence(10), Silence(10)
        for silence, share in ((computing, 0.9), (idle, 0.05)):
            silence.look(0, heard=True)
            given_up_s = None
            for now_s in range(1, 200):
                silence.look(now_s, heard=False)
                if silence.suspicious and silence.hung(share * now_s):
                    given_up_s = now_s
                    break
            assert given_up_s == (10 * BUSY if share > 0.5 else 10)
