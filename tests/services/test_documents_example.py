"""The plan of docs/documents.md, run as it stands by bluesky's RunEngine."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.documents.helpers import Told, assessment, whole_scan, word
from tests.files.factories import start

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "documents.md").read_text(encoding="utf-8")


@pytest.fixture
def example() -> dict[str, Any]:
    pytest.importorskip("bluesky", reason="bluesky is not installed")
    found = re.search(r"<!-- example: good enough -->\n```python\n(.*?)\n```", TEXT, re.DOTALL)
    assert found is not None
    names: dict[str, Any] = {}
    exec(found.group(1), names)
    return names


def tell(callback: Any, told: Told) -> None:
    for name, doc in told.documents:
        callback(name, doc)
    told.documents.clear()


def test_both_goals_count_and_what_is_not_known_reaches_none(example):
    good, told = example["GoodEnough"](error=0.1, resolution_m=3e-8), Told()
    told.say(start(), word(used=10, error=0.5))
    told.say(word(used=10, error=0.05), after_s=1)
    tell(good, told)
    assert not good.reached.is_set(), "no resolution is known"
    told.say(assessment(figures={"resolution_m": 2e-8}), after_s=1)
    tell(good, told)
    assert good.reached.is_set()
    told.say(start(scan_id="next"))
    tell(good, told)
    assert not good.reached.is_set(), "another scan begins"


def test_the_plan_ends_early(example):
    plan_stubs = pytest.importorskip("bluesky.plan_stubs")
    engine = pytest.importorskip("bluesky.run_engine").RunEngine()
    good, visited = example["GoodEnough"](error=0.1, resolution_m=3e-8), []

    def visit(point: int) -> Any:
        visited.append(point)
        if point == 3:
            told = Told()
            whole_scan(told)
            tell(good, told)
        yield from plan_stubs.null()

    engine(example["until_good_enough"](range(10), visit, good))
    assert visited == [0, 1, 2, 3]
    engine.loop.call_soon_threadsafe(engine.loop.stop)
    engine._th.join()
    engine.loop.close()
