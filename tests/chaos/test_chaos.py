"""The real services over tcp under kills, stops, cuts and full disks: nothing is lost without a word."""

import random

import pytest

from tests.chaos.campaign import Plan, campaign
from tests.chaos.faults import SHORT, Kind, draw


def survive(plan: Plan, events: int, first: int) -> None:
    tally = campaign(plan, events, first, print, keep=False)
    assert not tally.failed, (tally.findings, tally.table())
    assert tally.accepted == tally.in_files + tally.lost > 0
    assert tally.faults.total() == events


@pytest.mark.parametrize("form", [0, 1], ids=["apart", "run"])
def test_a_few_faults(form):
    survive(Plan(0, SHORT, frames=100, scans=2, faults=2), events=4, first=form)


@pytest.mark.slow
def test_many_faults():
    survive(Plan(0, SHORT, frames=200, scans=4, faults=4), events=24, first=2)  # make chaos has the long ones


def test_the_same_seed_draws_the_same_faults():
    processes, links = ("write", "receive", "parent"), ("frames", "writer")
    drawn = [draw(random.Random(5), 200, SHORT, processes, links) for _ in range(2)]
    assert drawn[0] == drawn[1]
    assert {fault.kind for fault in drawn[0]} == set(Kind)
    assert not [fault for fault in drawn[0] if fault.kind is Kind.KILL and fault.target == "parent"]
