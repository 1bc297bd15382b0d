"""Numbers on a link: whatever happens to connections and consumers, each message arrives once and in order."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from streamptycho.wire.window import Arrival, Arrivals, Window


def test_messages_are_numbered_and_kept_until_they_are_safe():
    window = Window[str](100, 10)
    assert [window.put(text, 10) for text in "abc"] == [1, 2, 3]
    assert (len(window), window.size_bytes, window.last, window.safe) == (3, 30, 3, 0)
    assert window.pending == (1, "a")
    window.sent()
    assert window.pending == (2, "b")
    assert list(window.acknowledge(2)) == ["a", "b"]
    assert (len(window), window.size_bytes, window.last, window.safe) == (1, 10, 3, 2)
    assert window.pending == (3, "c")
    assert list(window.acknowledge(1)) == []


def test_a_rewind_goes_back_to_what_was_taken_but_not_behind_what_is_safe():
    window = Window[str](100, 10)
    for text in "abcd":
        window.put(text, 1)
        window.sent()
    assert window.pending is None
    assert list(window.acknowledge(1)) == ["a"]
    window.rewind(2)
    assert window.pending == (3, "c")
    window.rewind(0)
    assert window.pending == (2, "b")


def test_room_is_bounded_in_bytes_and_in_messages():
    window = Window[int](100, 4)
    assert window.has_room(1000), "one that is too large for any window would never leave"
    window.put(0, 60)
    assert window.has_room(40)
    assert not window.has_room(41)
    assert not window.has_room(1, share=0.5)
    for _ in range(3):
        window.put(0, 1)
    assert not window.has_room(1)
    assert list(window.acknowledge(4)) == [0] * 4
    assert window.size_bytes == 0
    assert window.has_room(1000)


def test_what_was_never_sent_cannot_be_safe():
    window = Window[int](100, 4)
    window.put(0, 1)
    with pytest.raises(ValueError, match="2 acknowledged, but only 1"):
        window.acknowledge(2)
    assert len(window) == 1


def test_a_consumer_tells_the_next_from_others():
    arrivals = Arrivals()
    found = [arrivals.arrive(number) for number in (1, 1, 3, 2, 3, 1)]
    assert found == [Arrival.NEXT, Arrival.REPEATED, Arrival.AHEAD, Arrival.NEXT, Arrival.NEXT, Arrival.REPEATED]
    assert (arrivals.taken, arrivals.settled) == (3, 0)
    arrivals.settle()
    assert arrivals.settled == 3
    assert Arrivals(7).arrive(8) is Arrival.NEXT


class Link(RuleBasedStateMachine):
    """A sender, a consumer, and a line between them that may break at any moment; hellos may arrive late or not at all."""

    def __init__(self) -> None:
        super().__init__()
        self.window = Window[int](10**6, 50)
        self.count = 0
        self.line: list[tuple[int, int]] = []
        self.hellos: list[tuple[int, int]] = []
        self.arrivals = Arrivals()
        self.consumed: list[int] = []
        """What the present consumer has taken."""
        self.safe: list[int] = []
        """What will survive the consumer, in the order in which it came to be safe."""

    @rule()
    def put(self):
        if self.window.has_room(1):
            self.count += 1
            assert self.window.put(self.count, 1) == self.count

    @rule(most=st.integers(1, 5))
    def pump(self, most: int):
        while most and (pending := self.window.pending) is not None:
            self.line.append(pending)
            self.window.sent()
            most -= 1

    @rule(most=st.integers(1, 5))
    def deliver(self, most: int):
        for number, message in self.line[:most]:
            if self.arrivals.arrive(number) is Arrival.NEXT:
                self.consumed.append(message)
        del self.line[:most]

    @rule()
    def commit(self):
        self.safe += self.consumed[len(self.consumed) - (self.arrivals.taken - self.arrivals.settled) :]
        self.arrivals.settle()

    @rule()
    def say_hello(self):
        self.hellos.append((self.arrivals.taken, self.arrivals.settled))

    @precondition(lambda self: self.hellos)
    @rule()
    def hear_hello(self):
        _, settled = self.hellos.pop(0)
        list(self.window.acknowledge(settled))

    @rule(arrived=st.integers(0, 5))
    def lose_the_connection(self, arrived: int):
        """Some of what was on the line arrives nevertheless; a hello of before may be the first on the new connection."""
        del self.line[arrived:]
        first = self.hellos[0] if self.hellos else (self.arrivals.taken, self.arrivals.settled)
        list(self.window.acknowledge(first[1]))
        self.window.rewind(first[0])

    @precondition(lambda self: self.line)
    @rule(at=st.integers(0, 10))
    def lose_one_message(self, at: int):
        """Not a thing that happens on TCP; the consumer notices, and asks again."""
        del self.line[at % len(self.line)]
        self.ask_again()

    @rule()
    def ask_again(self):
        self.window.rewind(self.arrivals.taken)

    @rule(heard=st.integers(0, 5))
    def restart_the_consumer(self, heard: int):
        """It knows nothing of the former one, some of whose hellos arrive; what those did not call safe comes again."""
        for _, settled in self.hellos[:heard]:
            list(self.window.acknowledge(settled))
        self.hellos.clear()
        self.line.clear()
        self.arrivals = Arrivals(self.window.safe)
        self.consumed = []
        self.window.rewind(0)

    @invariant()
    def each_consumer_gets_a_run_without_gap_or_repeat(self):
        if self.consumed:
            assert self.consumed == list(range(self.consumed[0], self.consumed[-1] + 1))

    @invariant()
    def what_is_not_safe_is_kept(self):
        assert self.window.safe + len(self.window) == self.count
        assert set(range(1, self.window.safe + 1)) <= set(self.safe)

    def teardown(self):
        """Once nothing fails any more, all arrives."""
        self.line.clear()
        self.window.rewind(self.arrivals.taken)
        while (pending := self.window.pending) is not None:
            self.line.append(pending)
            self.window.sent()
        self.deliver(len(self.line))
        self.commit()
        assert set(self.safe) == set(range(1, self.count + 1))
        assert self.arrivals.taken == self.count


TestLink = Link.TestCase
TestLink.settings = settings(max_examples=200, stateful_step_count=40)
