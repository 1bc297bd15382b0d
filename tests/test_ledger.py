"""The balance over services holds for any two statuses, however old each of them is."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from streamptycho.display.ledger import Ledger, combine, not_written
from streamptycho.messages.reasons import ServiceState
from streamptycho.messages.status import AnyStatus
from tests import statuses

reasons = st.dictionaries(st.sampled_from(["duplicate", "corrupt", "no_position"]), st.integers(0, 20))


def status(used: int = 0, waiting: int = 0, dropped: dict[str, int] | None = None, service: str = "receive") -> AnyStatus:
    return statuses.status(service, used=used, waiting=waiting, dropped=dropped or {})


some = st.none() | st.builds(status, st.integers(0, 50), st.integers(0, 50), reasons)


def balanced(ledger: Ledger) -> bool:
    return ledger.received == ledger.used + ledger.waiting + sum(ledger.dropped.values())


@given(some, some)
def test_the_balance_holds(receive, reconstruct):
    ledger = combine(receive, reconstruct)
    assert balanced(ledger)
    assert ledger.waiting >= 0
    assert ledger.used == (reconstruct.used if reconstruct else 0)
    assert ledger.received >= max((s.received for s in (receive, reconstruct) if s), default=0)
    for reason in ("duplicate", "corrupt", "no_position"):
        assert ledger.dropped.get(reason, 0) == sum(s.dropped.get(reason, 0) for s in (receive, reconstruct) if s)


@given(st.data())
def test_no_count_falls_while_frames_move_on(data):
    """A scan of any course; each service's word reaches us late, by any amount."""
    words: list[list[AnyStatus]] = [[status()], [status(service="reconstruct")]]
    waiting = matched = lost = taken = used = failed = 0
    for _ in range(data.draw(st.integers(1, 25))):
        step = data.draw(st.sampled_from(["arrive", "match", "lose", "take", "use", "fail"]))
        waiting += step == "arrive"
        if step in ("match", "lose") and waiting:
            waiting -= 1
            matched += step == "match"
            lost += step == "lose"
        taken += step == "take" and taken < matched
        if step in ("use", "fail") and used + failed < taken:
            used += step == "use"
            failed += step == "fail"
        words[0].append(status(matched, waiting, {"no_position": lost}))
        words[1].append(status(used, taken - used - failed, {"empty": failed}, "reconstruct"))
    seen = [0, 0]
    before = combine(words[0][0], words[1][0])
    while seen != [len(words[0]) - 1] * 2:
        late = data.draw(st.sampled_from([k for k in (0, 1) if seen[k] < len(words[k]) - 1]))
        seen[late] += 1
        now = combine(words[0][seen[0]], words[1][seen[1]])
        assert balanced(now)
        assert now.received >= before.received
        assert now.used >= before.used
        assert all(now.dropped[reason] >= n for reason, n in before.dropped.items())
        assert now.received <= words[0][-1].received, "no frame is counted that never came"
        before = now
    assert (before.received, before.used) == (words[0][-1].received, used)


def test_what_the_engine_has_not_seen_waits():
    ledger = combine(status(used=10, waiting=2, dropped={"duplicate": 1}), status(used=4, waiting=3, service="reconstruct"))
    assert ledger == Ledger(received=13, used=4, waiting=8, dropped={"duplicate": 1})


def test_an_old_word_of_the_receiver_is_brought_up_to_the_engine():
    ledger = combine(status(used=5, waiting=5), status(used=8, service="reconstruct"))
    assert ledger == Ledger(received=10, used=8, waiting=2, dropped={})
    ledger = combine(status(used=5, dropped={"duplicate": 1}), status(used=8, service="reconstruct"))
    assert ledger == Ledger(received=9, used=8, waiting=0, dropped={"duplicate": 1})


def test_without_an_engine_all_that_is_not_dropped_waits():
    assert combine(status(used=5, waiting=2, dropped={"duplicate": 1}), None) == Ledger(8, 0, 7, {"duplicate": 1})
    assert combine(None, None) == Ledger()


def test_what_is_not_written_is_told():
    assert not_written(None) is None
    assert not_written(status(used=5, waiting=2, service="write")) is None
    lost = status(used=5, waiting=2, dropped={"corrupt": 1, "bad_index": 2, "failed": 0}, service="write")
    assert not_written(lost) == "3 of 10 frames not written (2 bad_index, 1 corrupt)"
    failed = replace(lost, failure="disk full")
    assert not_written(failed) == "3 of 10 frames not written (2 bad_index, 1 corrupt); disk full"
    assert not_written(replace(status(service="write"), failure="disk full")) == "disk full"


def test_as_plain_numbers():
    ledger = Ledger(received=3, used=1, waiting=1, dropped={"corrupt": 1})
    plain = ledger.as_dict()
    assert plain == {"received": 3, "used": 1, "waiting": 1, "dropped": {"corrupt": 1}}
    plain["dropped"]["corrupt"] = 5
    assert ledger.dropped == {"corrupt": 1}


def test_what_the_receiver_had_to_drop_and_the_file_has_given_is_counted_once():
    receive = replace(status(40, 0, {"engine_full": 60}), state=ServiceState.DONE)
    assert combine(receive, status(100, service="reconstruct")) == Ledger(100, 100, 0, {})
    assert combine(receive, status(70, service="reconstruct")) == Ledger(100, 70, 0, {"engine_full": 30})
    assert combine(receive, status(40, service="reconstruct")) == Ledger(100, 40, 0, {"engine_full": 60})
