"""Documents over sockets, and bluesky's own tools at the other end."""

import asyncio
import importlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import pytest
import zmq

from streamptycho.config import Config, ServiceEndpoints
from streamptycho.documents import PREFIX, Composer, Document, loads, unframe
from streamptycho.errors import ConfigError
from streamptycho.messages.kinds import Message
from streamptycho.messages.reasons import ServiceState
from streamptycho.wire.endpoint import Endpoint, SocketKind
from streamptycho.wire.questions import Replier, ask
from streamptycho.wire.sockets import Receiver, Sender, new_context
from streamptycho_services.documents import LateJoiner, documents, serve
from streamptycho_services.documents.client import past
from streamptycho_services.processes.runtime import Control
from tests.documents.helpers import check, end, last_picture, word
from tests.files.factories import STARTED_NS, snapshot, start
from tests.services.test_runtime import WAIT_S, until

HOST = "127.0.0.1"
LARGE = {"object": np.ones((400, 400), np.complex64), "covered": np.ones((400, 400), np.bool_)}
"""60 such pictures are more than a socket holds."""


class Service:
    """The service in a thread, and a display to feed it."""

    def __init__(self) -> None:
        self.context = new_context()
        self.control = Control(finish=threading.Event(), kill=threading.Event())
        self.display = Sender(self.context, Endpoint(address="inproc://shown", socket=SocketKind.PUB, bind=True), linger_s=0)
        self._receiver = Receiver(self.context, [Endpoint(address="inproc://shown", socket=SocketKind.SUB)])
        out = Endpoint(address=f"tcp://{HOST}:*", socket=SocketKind.PUB, bind=True, queue=20)
        self.publisher = Sender(self.context, out, linger_s=1)
        self._replier = Replier(self.context, f"tcp://{HOST}:*")
        self.composer = Composer()
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        assert self.display.wait_for_peer(WAIT_S)

    def begin(self, *, watched: bool = False) -> None:
        """Begin to serve; `watched`: after a first subscription, so that the first documents are not lost."""
        if watched:
            assert self.publisher.wait_for_peer(WAIT_S)
        self._thread.start()

    @property
    def serving(self) -> bool:
        return self._thread.is_alive()

    def _run(self) -> None:
        try:
            serve(self.composer, self._receiver, self.publisher, self._replier, self.control)
        except BaseException as error:  # noqa: BLE001 - looked at by the test
            self.error = error

    @property
    def address(self) -> str:
        return self.publisher.address

    @property
    def catch_up(self) -> str:
        return self._replier.address

    def say(self, *messages: Message) -> None:
        for message in messages:
            self.display.send(message)

    def say_parts(self, *parts: bytes) -> None:
        self.display.send_parts(parts)

    def finish(self) -> None:
        self.control.finish.set()
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive()
        if self.error is not None:
            raise self.error

    def close(self) -> None:
        self.control.kill.set()
        if self.serving:
            self._thread.join(WAIT_S)
        for end_ in (self.display, self._receiver, self.publisher, self._replier):
            end_.close()
        self.context.term()


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service()
    yield service
    service.close()
    assert service.error is None


def scan(service: Service, first: int = 0, last: int = 4, pause_s: float = 0.55) -> None:
    """Some seconds of a scan; the composer looks at the real clock."""
    for i in range(first, last):
        service.say(word("receive", ServiceState.RECEIVING, used=10 * i))
        service.say(word(used=8 * i, error=0.5 / (i + 1), updates=20 * i), snapshot(i, (40 + i, 50)))
        time.sleep(pause_s)


def last_words(service: Service) -> None:
    service.say(end(), word("receive", ServiceState.DONE, used=40))
    service.say(word(state=ServiceState.DONE, used=30, error=0.05, updates=900), last_picture())


@contextmanager
def dispatching(service: Service, *callbacks: Callable[[str, dict[str, Any]], object]) -> Iterator[Any]:
    """bluesky's own dispatcher in a thread, listening."""
    zmq_callbacks = pytest.importorskip("bluesky.callbacks.zmq", reason="bluesky is not installed")
    dispatcher = zmq_callbacks.RemoteDispatcher(
        service.address.removeprefix("tcp://"), prefix=PREFIX, deserializer=loads, strict=True
    )
    for callback in callbacks:
        dispatcher.subscribe(callback)

    def run() -> None:
        with suppress(asyncio.CancelledError):
            dispatcher.start()

    thread = threading.Thread(target=run)
    thread.start()
    until(lambda: dispatcher._socket is not None)
    if not service.serving:
        service.begin(watched=True)
    try:
        yield dispatcher
    finally:
        dispatcher.loop.call_soon_threadsafe(dispatcher._task.cancel)
        thread.join(WAIT_S)
        assert not thread.is_alive()


def test_a_subscriber_gets_valid_runs_in_order(service):
    seen: list[Document] = []
    with listening(service.address) as following:
        service.begin(watched=True)
        service.say(start())
        scan(service)
        last_words(service)
        while not seen or seen[-1][0] != "stop":
            seen.append(unframe(following()))
    check(seen)
    assert seen[0][0] == "start"
    assert [doc["data"]["object_final"] for _, doc in seen if "object_final" in doc.get("data", {})][-1] == 1


@contextmanager
def listening(address: str) -> Iterator[Callable[[], bytes]]:
    """A bare subscriber: gives the next message."""
    with zmq.Context() as context, context.socket(zmq.SUB) as subscriber:
        subscriber.linger = 0
        subscriber.subscribe(b"")
        subscriber.connect(address)

        def following() -> bytes:
            assert subscriber.poll(int(WAIT_S * 1000)), "no document came"
            return subscriber.recv()

        yield following


class TestBluesky:
    def test_its_dispatcher_gets_a_whole_run(self, service):
        seen: list[Document] = []
        with dispatching(service, lambda name, doc: seen.append((name, doc))):
            service.say(start(metadata={"sample": "star"}))
            scan(service)
            last_words(service)
            until(lambda: seen and seen[-1][0] == "stop")
        check(seen)
        names = [name for name, _ in seen]
        assert names[0] == "start"
        assert seen[0][1]["sample"] == "star"
        assert names.index("descriptor") < names.index("event")
        assert names.count("start") == names.count("stop") == 1
        assert sum("error" in doc.get("data", {}) for _, doc in seen) >= 4

    def test_who_comes_late_catches_up(self, service):
        service.begin()
        service.say(start())
        scan(service)
        seen: list[Document] = []
        follow = LateJoiner(lambda name, doc: seen.append((name, doc)), service.catch_up)
        with dispatching(service, follow):
            assert follow.catch_up()
            before = len(seen)
            assert seen[0][0] == "start"
            assert sum("error" in doc.get("data", {}) for _, doc in seen) >= 3, "the curve from its beginning"
            assert sum("object_phase" in doc.get("data", {}) for _, doc in seen) == 1
            scan(service, 4, 6)
            last_words(service)
            until(lambda: seen[-1][0] == "stop")
        assert len(seen) > before + 3
        assert len({doc["uid"] for _, doc in seen}) == len(seen)
        progress = [doc for _, doc in seen if "error" in doc.get("data", {})]
        assert [doc["seq_num"] for doc in progress] == list(range(1, len(progress) + 1))

    def test_a_table_shows_the_error(self, service):
        callbacks = pytest.importorskip("bluesky.callbacks", reason="bluesky is not installed")
        lines: list[str] = []
        fields = ["frames_used", "error", "resolution_m"]
        table = callbacks.LiveTable(fields, stream_name="progress", out=lines.append)
        with dispatching(service, table):
            service.say(start())
            scan(service)
            last_words(service)
            until(lambda: any("scan num: 1" in line for line in lines))
        text = "\n".join(lines)
        assert all(field in text for field in fields)
        assert "0.05000" in text
        assert "failed to format" not in text

    def test_a_plan_may_stop_when_the_picture_is_good_enough(self, service):
        reached = threading.Event()

        def good_enough(name: str, doc: dict[str, Any]) -> None:
            if name == "event" and doc["data"].get("error", 1.0) < 0.2:
                reached.set()

        with dispatching(service, good_enough):
            service.say(start())
            scan(service, 0, 1)
            assert not reached.is_set()
            scan(service, 1, 4)
            assert reached.wait(WAIT_S)


class TestWidgets:
    @pytest.fixture
    def lines(self) -> Iterator[Any]:
        pytest.importorskip("bluesky_widgets", reason="bluesky-widgets is not installed")
        pytest.importorskip("matplotlib", reason="matplotlib is not installed").use("Agg")
        # threads of dask would outlive the test
        with importlib.import_module("dask").config.set(scheduler="synchronous"):
            yield importlib.import_module("bluesky_widgets.models.auto_plot_builders").AutoLines

    @pytest.mark.filterwarnings("ignore:No artists with labels found:UserWarning")  # of bluesky-widgets
    def test_stock_lines_plot_the_error(self, service, lines, tmp_path):
        streaming = importlib.import_module("bluesky_widgets.utils.streaming")
        headless = importlib.import_module("bluesky_widgets.headless.figures")
        model = lines()
        view = headless.HeadlessFigures(model.figures)
        into_runs = streaming.stream_documents_into_runs(model.add_run)
        seen: list[Document] = []
        with dispatching(service, into_runs, lambda name, doc: seen.append((name, doc))):
            service.say(start())
            scan(service)
            last_words(service)
            until(lambda: seen and seen[-1][0] == "stop")
        (figure,) = model.figures
        (axes,) = figure.axes
        assert (axes.title, axes.x_label) == ("error", "updates")
        (line,) = axes.artists
        drawn = line.update()
        told = [doc["data"] for _, doc in seen if "error" in doc.get("data", {})]
        assert list(drawn["y"]) == [data["error"] for data in told]
        assert list(drawn["x"]) == [data["updates"] for data in told]
        (path,) = view.export_all(tmp_path)
        assert (tmp_path / path).stat().st_size > 1000
        view.close_figures()


class TestCatchUp:
    @pytest.fixture(autouse=True)
    def _serving(self, service: Service) -> None:
        service.begin()

    def test_is_whole(self, service):
        service.say(start())
        scan(service)
        until(lambda: len(past(service.catch_up)) >= 7)
        got = past(service.catch_up)
        assert [name for name, _ in got].count("event_page") == 1
        check([(name, doc) for name, doc in got if name in ("start", "descriptor")])

    def test_garbage_is_answered_or_dropped(self, service):
        service.say(start(), snapshot(1))
        until(lambda: len(past(service.catch_up)) > 1)
        for question in (b"", b"\xff" * 1000, b"catch-up 2", b"catch-up 1\0"):
            assert ask(service.catch_up, question, WAIT_S) == [b"error the question is one part, catch-up 1"]
        with pytest.raises(TimeoutError, match=r"no answer from tcp://127\.0\.0\.1"):
            ask(service.catch_up, b"x" * 2000, 0.5)
        host, _, port = service.catch_up.removeprefix("tcp://").partition(":")
        for junk in (b"GET / HTTP/1.0\r\n\r\n", b"\xff" + b"\0" * 8 + b"\x01\x7f" + b"\xff" * 100_000, b""):
            with socket.create_connection((host, int(port)), timeout=5) as stray:
                stray.sendall(junk)
                assert len(past(service.catch_up)) > 1

    def test_questions_without_an_envelope_and_without_patience(self, service):
        service.say(start(), snapshot(1))
        until(lambda: len(past(service.catch_up)) > 1)
        with zmq.Context() as context:
            dealer = context.socket(zmq.DEALER)
            dealer.linger = 0
            dealer.connect(service.catch_up)
            for i in range(300):
                dealer.send_multipart([b"catch-up 1"] if i % 3 else [b"", b"catch-up 1"])
                dealer.send_multipart([b"", b"a", b"b", b"c"])
            assert len(past(service.catch_up, WAIT_S)) > 1
            dealer.close()

    def test_nobody_there(self):
        with pytest.raises(TimeoutError, match="is streamptycho running there"):
            past("tcp://127.0.0.1:1", 0.2)


def test_what_is_refused_does_not_stop_it(service, caplog):
    service.begin()
    service.say_parts(b"garbage")
    service.say(start(), snapshot(1))
    until(lambda: len(past(service.catch_up)) > 1)
    assert "a message was refused" in caplog.text


def test_at_the_end_open_runs_are_stopped(service):
    with listening(service.address) as following:
        service.begin(watched=True)
        service.say(start(), snapshot(1))
        until(lambda: len(past(service.catch_up)) > 1)
        service.finish()
        names = []
        while not names or names[-1] != "stop":
            name, doc = unframe(following())
            names.append(name)
        assert (doc["exit_status"], doc["reason"]) == ("abort", "the documents service was stopped")


def test_a_viewer_that_does_not_read_holds_nobody_up(service):
    with listening(service.address):
        service.begin(watched=True)
        service.say(start())
        for i in range(60):
            service.say(last_picture(scan_id=f"s{i}", started_ns=STARTED_NS + i, **LARGE))
        until(lambda: service.composer._runs == 61)
        assert [doc["scan_name"] for name, doc in past(service.catch_up) if name == "start"] == ["scan"]


def test_its_address_may_be_taken():
    with new_context() as context:
        taken = Sender(context, Endpoint(address=f"tcp://{HOST}:*", socket=SocketKind.PUB, bind=True), linger_s=0)
        config = Config(services=ServiceEndpoints(documents=taken.address))
        with pytest.raises(ConfigError, match="choose another address"):
            documents(config, Control(finish=threading.Event(), kill=threading.Event()))
        taken.close()
