"""The fuzzer itself, and a short run of it; the long one is ``make fuzz``."""

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest

from streamptycho.errors import CodecError, ProtocolError
from streamptycho.wire.codec import decode
from streamptycho.wire.hello import read_hello
from streamptycho_services.dashboard.viewer import RefusedError, parse
from tests.fuzz.campaign import Plan, State, campaign
from tests.fuzz.mutations import Mutations

IDS = ["a", "b"]
SESSION = 7


def made(seed: int, examples: int = 2) -> Mutations:
    return Mutations(Random(seed), IDS, examples)


def test_the_same_seed_makes_the_same():
    def everything(seed: int) -> list[Any]:
        one = made(seed)
        return [make() for _ in range(50) for make in (one.message, lambda: one.hello(SESSION), one.raw, one.viewer)]

    assert everything(1) == everything(1)
    assert everything(1) != everything(2)


def test_whatever_comes_is_a_message_or_a_refusal():
    one, good, bad = made(3), 0, 0
    for _ in range(3000):
        try:
            decode(one.message())
        except ProtocolError:
            bad += 1
        else:
            good += 1
    assert min(good, bad) > 300


def test_whatever_a_consumer_says_is_a_hello_or_a_refusal():
    one, served = made(4), 0
    for _ in range(3000):
        try:
            hello, _ = read_hello(one.hello(SESSION))
        except CodecError:
            continue
        served += 1
        claims = hello.service == "receive" or hello.taken == 2**62
        assert hello.sender != SESSION or claims, "a consumer that the sender would have to serve"
    assert served > 300


def test_whatever_a_viewer_says_is_understood_or_refused():
    one, understood = made(5), 0
    for _ in range(3000):
        said = one.viewer()
        try:
            parse(said if isinstance(said, str) else None)
        except RefusedError:
            continue
        understood += 1
    assert understood > 300


def test_the_state_is_kept(tmp_path: Path):
    path = tmp_path / "state.json"
    state = State.load(path, 5)
    state.sent, state.findings = 300, ["something"]
    state.save(path)
    assert State.load(path, 0) == state
    assert json.loads(path.read_text())["seed"] == 5


def run(tmp_path: Path, plan: Plan, messages: int) -> State:
    path, said = tmp_path / "state.json", []
    campaign(plan, State(seed=1), messages, path, said.append)
    state = State.load(path, 0)
    assert state.findings == []
    assert state.sent == sum(state.counts.values()) == messages
    return state


def test_a_short_run_of_all_programs(tmp_path: Path):
    state = run(tmp_path, Plan(block=300, session=300, examples=2), 300)
    assert state.scans == 2
    assert state.table().splitlines()[-1].split() == ["findings", "0"]


@pytest.mark.slow
def test_a_longer_one_in_both_forms(tmp_path: Path):
    assert run(tmp_path, Plan(block=2000, session=4000), 8000).scans == 6
