"""What late viewers are given, and how they take it in."""

from typing import Any

import pytest

from streamptycho.documents import Document, Follower, History, frame, read_answer
from streamptycho.documents.history import MAX_EVENTS, QUESTION
from streamptycho.errors import CodecError
from tests.documents.helpers import Told, end, last_picture, preview, survey, whole_scan, word
from tests.files.factories import STARTED_NS, snapshot, start


class Bench:
    """Scans, their history, and viewers that connect at different times."""

    def __init__(self) -> None:
        self.told = Told()
        self.history = History()
        self.viewers: list[Follower] = []
        self.asked = 0
        self.deaf = False
        self._published = 0

    def publish(self) -> None:
        new, self._published = self.told.documents[self._published :], len(self.told.documents)
        for name, doc in new:
            self.history.add(name, doc, frame(name, doc))
            for viewer in self.viewers:
                viewer(name, doc)

    def ask(self) -> list[Document]:
        self.asked += 1
        if self.deaf:
            raise TimeoutError("no answer")
        return read_answer(self.history.answer([QUESTION]))

    def viewer(self) -> list[Document]:
        seen: list[Document] = []
        self.viewers.append(Follower(lambda name, doc: seen.append((name, doc)), self.ask, lambda: self.told.now))
        return seen


def summary(documents: list[Document]) -> list[tuple[str, Any]]:
    return [(name, doc["uid"]) for name, doc in documents]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def some(bench: Bench, first: int, last: int) -> None:
    for i in range(first, last):
        bench.told.say(word(used=i, error=1 / i, updates=10 * i), snapshot(i), after_s=1)
    bench.publish()


def test_who_is_there_from_the_beginning_gets_everything_as_it_is(bench):
    seen = bench.viewer()
    whole_scan(bench.told)
    bench.publish()
    assert summary(seen) == summary(bench.told.documents)
    assert bench.asked == 0


def test_who_comes_late_gets_the_figures_so_far_and_the_newest_picture(bench):
    bench.told.say(start())
    some(bench, 1, 6)
    seen = bench.viewer()
    some(bench, 6, 9)
    bench.told.say(last_picture(), end())
    bench.publish()
    assert bench.asked == 1
    names = [name for name, _ in seen]
    assert (names[0], names[-1]) == ("start", "stop")
    assert "event_page" not in names
    complete = [d for n, d in bench.told.documents if n == "event" and "error" in d["data"]]
    assert [d for n, d in seen if n == "event" and "error" in d["data"]] == complete
    pictures = [d["data"]["object_frames_used"] for n, d in seen if n == "event" and "object_error" in d["data"]]
    assert pictures == [60, 70, 80, 30]
    assert len(set(summary(seen))) == len(seen)


def test_who_comes_late_gets_the_newest_pattern_and_maps(bench):
    bench.told.say(start())
    for i in range(5):
        bench.told.say(preview(i), survey(10 * i, 10), after_s=1)
    bench.publish()
    seen = bench.viewer()
    assert bench.viewers[0].catch_up()
    assert [d["data"]["pattern_index"] for n, d in seen if n == "event" and "pattern_index" in d["data"]] == [4]
    assert [d["data"]["points_mapped"] for n, d in seen if n == "event" and "points_mapped" in d["data"]] == [50]


def test_at_once_if_asked_at_once(bench):
    bench.told.say(start())
    some(bench, 1, 6)
    seen = bench.viewer()
    assert bench.viewers[0].catch_up()
    assert bench.viewers[0].catch_up()
    assert len(set(summary(seen))) == len(seen) > 5
    some(bench, 6, 7)
    assert bench.asked == 2


def test_after_the_end_the_last_run_is_given_whole(bench):
    whole_scan(bench.told)
    whole_scan(bench.told, scan_id="last", started_ns=STARTED_NS + 1)
    bench.publish()
    seen = bench.viewer()
    bench.viewers[0].catch_up()
    assert [doc["scan_name"] for name, doc in seen if name == "start"] == ["last"]
    assert seen[-1][0] == "stop"


def test_open_runs_come_before_finished_ones(bench):
    whole_scan(bench.told)
    for scan_id in ("a", "b"):
        bench.told.say(start(scan_id=scan_id), snapshot(1, scan_id=scan_id))
    bench.publish()
    seen = bench.viewer()
    bench.viewers[0].catch_up()
    assert [doc["scan_name"] for name, doc in seen if name == "start"] == ["a", "b"]


def test_a_descriptor_that_was_lost_is_caught_up_with(bench):
    seen = bench.viewer()
    (viewer,) = bench.viewers
    bench.told.say(start(), snapshot(1))
    bench.told.say(snapshot(2, (90, 90)), after_s=1)
    lost = [doc["uid"] for name, doc in bench.told.documents if name == "descriptor" and doc["name"] == "object"][1]
    for name, doc in bench.told.documents:
        bench.history.add(name, doc, frame(name, doc))
    for name, doc in bench.told.documents:
        if doc["uid"] != lost:
            viewer(name, doc)
    assert bench.asked == 1
    assert lost in [doc["uid"] for name, doc in seen]
    assert sum("object_phase" in doc.get("data", {}) for _, doc in seen) == 2


def test_while_nobody_answers_what_has_no_beginning_is_dropped(bench, caplog):
    bench.told.say(start())
    some(bench, 1, 3)
    seen = bench.viewer()
    bench.deaf = True
    for i in range(3, 8):
        some(bench, i, i + 1)
    assert seen == []
    assert 1 <= bench.asked <= 4, "not with every document"
    assert "cannot catch up: no answer" in caplog.text
    bench.deaf = False
    bench.told.now += 5
    some(bench, 8, 9)
    assert seen[0][0] == "start"
    whole_scan(bench.told, scan_id="next", started_ns=STARTED_NS + 1)
    bench.publish()
    assert [doc["scan_name"] for name, doc in seen if name == "start"] == ["scan", "next"]


def test_a_long_scan_is_thinned(bench):
    bench.told.say(start())
    for i in range(1, 3 * MAX_EVENTS):
        bench.told.say(word(used=i), after_s=0.5)
    bench.publish()
    seen = bench.viewer()
    bench.viewers[0].catch_up()
    used = [doc["data"]["frames_used"] for name, doc in seen if name == "event"]
    assert MAX_EVENTS / 2 <= len(used) <= MAX_EVENTS
    assert used == sorted(used)
    assert (used[0] < 10, used[-1]) == (True, 3 * MAX_EVENTS - 1)
    assert len(b"".join(bench.history.answer([QUESTION]))) < 2 << 20


def test_what_is_kept_does_not_grow_with_the_number_of_scans(bench):
    for i in range(10):
        whole_scan(bench.told, scan_id=f"s{i}", started_ns=STARTED_NS + i)
        bench.publish()
    assert bench.history._open == {}
    assert len(read_answer(bench.history.answer([QUESTION]))) == 14, "a start, a stop, two of each of six streams"


@pytest.mark.parametrize("question", [[], [b""], [b"catch-up 2"], [QUESTION, b""], [b"\xff" * 1000], [QUESTION] * 3])
def test_other_questions(bench, question):
    whole_scan(bench.told)
    bench.publish()
    (answer,) = bench.history.answer(question)
    assert answer == b"error the question is one part, catch-up 1"
    with pytest.raises(CodecError, match="the question is one part"):
        read_answer([answer])


def test_before_anything_has_been():
    assert History().answer([QUESTION]) == [b"ok 1"]
    assert read_answer([b"ok 1"]) == []
    with pytest.raises(CodecError, match="empty"):
        read_answer([])
