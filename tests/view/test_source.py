"""Documents over sockets: late, repeated, lost and foreign ones."""

import pickle
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from streamptycho.documents import dumps, frame
from streamptycho.errors import ConfigError
from streamptycho_services.view.model import ReconModel, State
from streamptycho_services.view.source import ASK_S, Addresses, DocumentSource, addresses
from tests.ports import free_address
from tests.view.helpers import BEGUN_S, Run, marked_object, progress
from tests.view.served import Service, service, wait_until


@pytest.fixture
def served() -> Iterator[Service]:
    with service() as served:
        yield served


class Viewer(DocumentSource):
    """A source with the newest state of its model."""

    def __init__(self, where: Addresses) -> None:
        super().__init__(ReconModel(), where)
        self.state: State | None = None

    def shows(self, key: str, value: float) -> bool:
        self.check()
        self.state = self.model.flush() or self.state
        return self.state is not None and self.state.last(key) == value


def test_documents_arrive(served: Service):
    with Viewer(served.where) as viewer:
        wait_until(lambda: viewer.catch_ups > 0, "an answer, though nothing has been yet")
        served.wait_for_viewer()
        run = Run(served.tell)
        run.event("object", marked_object())
        run.event("progress", progress(error=0.25))
        wait_until(lambda: viewer.shows("error", 0.25), "the error")
        np.testing.assert_array_equal(viewer.state.arrays["object_phase"], marked_object()["object_phase"])
        assert viewer.refused == 0
        assert viewer.heard == 5


def test_a_late_viewer_has_the_whole_curve(served: Service):
    run = Run(served.keep)
    run.event("object", marked_object())
    for i in range(5):
        run.event("progress", progress(updates=i))
    with Viewer(served.where) as viewer:
        wait_until(lambda: viewer.shows("updates", 4), "what has been")
        served.wait_for_viewer()
        run._take = served.tell
        run.event("progress", progress(updates=5))
        wait_until(lambda: viewer.shows("updates", 5), "what comes then")
        np.testing.assert_array_equal(viewer.state.series["updates"][1], range(6))
        assert viewer.refused == 0


def test_a_missed_descriptor_is_asked_for(served: Service):
    with Viewer(served.where) as viewer:
        wait_until(lambda: viewer.catch_ups == 1, "an answer")
        served.wait_for_viewer()
        run = Run(served.tell)
        run._take = lost_descriptors(served)
        run.event("progress", progress(updates=1))
        wait_until(lambda: viewer.shows("updates", 1), "what was told under a descriptor that was lost")
        assert viewer.catch_ups == 2


def lost_descriptors(served: Service) -> Any:
    def tell(name: str, document: dict[str, Any]) -> None:
        (served.keep if name == "descriptor" else served.tell)(name, document)

    return tell


def test_a_missed_start_is_asked_for(served: Service):
    with Viewer(served.where) as viewer:
        wait_until(lambda: viewer.catch_ups == 1, "an answer")
        served.wait_for_viewer()
        run = Run(served.keep)
        run._take = served.tell
        run.event("progress", progress(updates=1))
        wait_until(lambda: viewer.shows("updates", 1), "a run whose start was lost")


def test_two_scans_in_a_row(served: Service):
    with Viewer(served.where) as viewer:
        wait_until(lambda: viewer.catch_ups == 1, "an answer")
        served.wait_for_viewer()
        for number in (1, 2):
            run = Run(served.tell, f"scan-{number}", BEGUN_S + number)
            run.event("progress", progress(updates=number))
            wait_until(lambda number=number: viewer.shows("updates", number), f"scan {number}")
            assert viewer.state.start["scan_name"] == f"scan-{number}"
            assert len(viewer.state.series["updates"][1]) == 1
            run.stop()
        assert viewer.catch_ups == 1


def test_the_service_may_come_later():
    where = Addresses(free_address(), free_address())
    with Viewer(where) as viewer:
        time.sleep(1.5 * ASK_S)
        assert viewer.heard == viewer.catch_ups == viewer.refused == 0
        with Service(where) as served:
            Run(served.keep).event("progress", progress(updates=1))
            wait_until(lambda: viewer.shows("updates", 1), "what has been, once somebody is there")


def test_the_service_may_be_started_again():
    where = Addresses(free_address(), free_address())
    with Viewer(where) as viewer:
        for number in (1, 2):
            with Service(where) as served:
                served.wait_for_viewer()
                run = Run(served.tell, f"scan-{number}", BEGUN_S + number)
                run.event("progress", progress(updates=number))
                wait_until(lambda number=number: viewer.shows("updates", number), f"scan {number}")


class Bomb:
    """Shows itself if anybody unpickles it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("something was unpickled",))


def hostile() -> list[tuple[bytes, ...]]:
    start = {"uid": "u", "time": 1.0}
    event = {"uid": "u", "time": 1.0, "data": {}, "timestamps": {}, "seq_num": 1, "descriptor": "d"}
    page = {**event, "time": [1.0], "uid": ["a", "b"], "seq_num": [1]}
    return [
        (b"",),
        (b"", b""),
        (b"streamptycho",),
        (b"streamptycho start",),
        (b"streamptycho start ",),
        (b"other start " + dumps(start),),
        (b"streamptycho nonsense " + dumps(start),),
        (b"streamptycho __init__ " + dumps(start),),
        (b"streamptycho start " + pickle.dumps(Bomb()),),
        (frame("start", start), b"and more"),
        (frame("start", {"uid": 3, "time": 1.0}),),
        (frame("start", {**start, "frames_expected": "all"}),),
        (frame("descriptor", start),),
        (frame("event", {**event, "seq_num": "one"}),),
        (frame("event", {**event, "descriptor": [1, 2]}),),
        (frame("event_page", page),),
        (frame("event_page", {**page, "uid": ["a"], "data": {"x": 3}}),),
        (frame("stop", {"uid": "u", "time": 1.0, "run_start": "r"}),),
        (b"\xff" * 1000,),
        tuple(b"x" for _ in range(100)),
    ]


@pytest.mark.parametrize("place", range(len(hostile())))
def test_garbage_is_counted_and_ignored(served: Service, place: int):
    parts = hostile()[place]
    with Viewer(served.where) as viewer:
        wait_until(lambda: viewer.catch_ups == 1, "an answer")
        served.wait_for_viewer()
        served.send(*parts)
        run = Run(served.tell)
        run.event("progress", progress(updates=7))
        wait_until(lambda: viewer.shows("updates", 7), "the run after the garbage")
        assert viewer.refused == 1


def test_an_answer_that_is_none_is_counted_and_asked_for_again(served: Service):
    served.first_part = b"error no such question"
    Run(served.keep).event("progress", progress(updates=1))
    with Viewer(served.where) as viewer:
        wait_until(lambda: viewer.refused == 1, "the first answer")
        assert viewer.catch_ups == 0
        served.first_part = b"ok 1"
        wait_until(lambda: viewer.shows("updates", 1), "the second answer")


def test_an_event_of_no_use_is_counted(served: Service):
    with Viewer(served.where) as viewer:
        wait_until(lambda: viewer.catch_ups == 1, "an answer")
        served.wait_for_viewer()
        run = Run(served.tell)
        run.event("object", marked_object(object_pixel_m=np.array([-1.0, 1.0])))
        run.event("progress", progress(updates=7))
        wait_until(lambda: viewer.shows("updates", 7), "the event after it")
        assert viewer.refused == 1
        assert "object_phase" not in viewer.state.arrays


def test_an_error_in_the_thread_comes_out():
    viewer = Viewer(Addresses("nonsense://1", "tcp://127.0.0.1:1"))
    with viewer:
        viewer._thread.join()
    with pytest.raises(ConfigError, match="nonsense://1"):
        viewer.check()


def test_the_second_address_follows_from_the_first():
    assert addresses("tcp://host:5568", None) == Addresses("tcp://host:5568", "tcp://host:5569")
    assert addresses("tcp://[::1]:70", None).catch_up == "tcp://[::1]:71"
    assert addresses("ipc:///tmp/d", "ipc:///tmp/c") == Addresses("ipc:///tmp/d", "ipc:///tmp/c")
    for unclear in ("ipc:///tmp/d", "tcp://host", "tcp://host:65535", "tcp://host:*", ""):
        with pytest.raises(ConfigError, match="--catch-up"):
            addresses(unclear, None)
