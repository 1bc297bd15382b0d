"""The log has one warning for each scan and reason of whatever is dropped, and no flood."""

import logging

import pytest

from streamptycho.join.rejected import Rejected
from streamptycho.messages.reasons import DropReason
from streamptycho.pipeline.notices import _DROPPED, REJECTED, WARN_S, Notices
from tests.scans import Clock
from tests.statuses import status


@pytest.fixture
def told(caplog):
    """The lines since the last call."""
    caplog.set_level(logging.WARNING)

    def lines() -> list[str]:
        found = [record.getMessage() for record in caplog.records]
        caplog.clear()
        return found

    return lines


def test_each_reason_once_for_each_run(told):
    notices = Notices(Clock())
    for n in (1, 2, 3):
        notices.of(status(dropped={"corrupt": n, "duplicate": 0}))
    (line,) = told()
    assert line == "scan s: frames are dropped as corrupt, 1 so far: their bytes do not decode; they are not in the file"
    notices.of(status(dropped={"corrupt": 3, "duplicate": 1}))
    assert ["duplicate" in line for line in told()] == [True]
    notices.of(status(dropped={"corrupt": 1}, started_ns=7))
    notices.of(status(dropped={"corrupt": 1}, scan_id="t"))
    assert len(told()) == 2
    notices.of(status(scan_id=None))
    assert told() == []


def test_a_reason_of_another_version_is_told_too(told):
    Notices(Clock()).of(status(dropped={"meteor": 2}))
    assert told() == ["scan s: frames are dropped as meteor, 2 so far: not known to this version"]


def test_a_flood_of_messages_makes_no_flood_of_lines(told):
    clock, rejected = Clock(), Rejected()
    notices = Notices(clock)
    for n in range(1000):
        rejected.add("no_start", f"scan-{n}")
        notices.rejected(rejected)
    assert told() == ["1 rejected as no_start, the last of scan scan-0: no start message came before them"]
    clock.now += WARN_S
    notices.rejected(rejected)
    assert told() == ["999 rejected as no_start, the last of scan scan-999: no start message came before them"]
    clock.now += WARN_S
    notices.rejected(rejected)
    assert told() == [], "nothing new"


def test_every_reason_has_words():
    assert _DROPPED.keys() == set(DropReason)
    assert all(words and not words.endswith(".") for words in (_DROPPED | REJECTED).values())


def test_what_is_remembered_is_bounded(told):
    notices = Notices(Clock())
    for n in range(1500):
        notices.of(status(dropped={"empty": 1}, scan_id=f"s{n}"))
    assert len(told()) == 1500
    assert len(notices._told) == 1000
