"""The loop around a stage, over real sockets within this process."""

import io
import json
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import msgpack
import numpy as np
import pytest

from streamptycho.errors import ProtocolError
from streamptycho.join.options import MatchOptions
from streamptycho.messages.kinds import Message
from streamptycho.messages.reasons import ServiceState
from streamptycho.messages.status import AnyStatus, ReceiveStatus, ReconstructStatus, Status
from streamptycho.messages.stream import Frame, Positions, ScanEnd, ScanStart
from streamptycho.pipeline.receive import ReceiveStage
from streamptycho.pipeline.stage import Output, Port
from streamptycho.wire import outlink
from streamptycho.wire.codec import MAX_HEADER_BYTES, encode
from streamptycho.wire.endpoint import Endpoint, SocketKind
from streamptycho.wire.inlink import InLink
from streamptycho.wire.outlink import OutLink
from streamptycho.wire.sockets import Receiver, Sender, new_context
from streamptycho_services.processes import runtime
from streamptycho_services.processes.logs import JsonFormatter
from streamptycho_services.processes.runtime import Control, serve
from tests.hostile import GOOD
from tests.scans import end, ends, frame, only, place, points_in, positions, start

WAIT_S = 20.0


def until(condition: Callable[[], object], wait_s: float = WAIT_S) -> None:
    deadline = time.monotonic() + wait_s
    while not condition():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.005)


class Recorder:
    """A stage that notes what it is asked."""

    busy = False
    settled = True
    status_ports: tuple[Port, ...] = ()

    def __init__(self, handle_s: float = 0.0) -> None:
        self.handle_s = handle_s
        self.handled: list[Message | ProtocolError] = []
        self.log: list[str] = []
        self.reply: Callable[[Any], Iterable[Output]] = lambda message: ()

    def handle(self, message: Message | ProtocolError) -> Iterable[Output]:
        time.sleep(self.handle_s)
        self.handled.append(message)
        self.log.append("handle")
        return self.reply(message)

    def idle(self) -> Iterable[Output]:
        self.log.append("idle")
        return ()

    def finish(self) -> Iterable[Output]:
        self.log.append("finish")
        return ()

    def unsent(self, port: Port, message: Message) -> None:
        self.log.append(f"unsent {port}")

    def statuses(self) -> list[AnyStatus]:
        return [ReceiveStatus(service="test", scan_id=None, state=ServiceState.IDLE, time_ns=1)]


class Bench:
    """A service in a thread and the far ends of all its sockets."""

    def __init__(self, queue: int = 1000) -> None:
        self.context = new_context()
        self.queue = queue
        self.control = Control(finish=threading.Event(), kill=threading.Event())
        self.error: BaseException | None = None
        self.receiver = self.inlet("in", SocketKind.PULL, bind=True)
        self.outlets = {
            Port.WRITER: self.link("writer"),
            Port.ENGINE: self.link("engine", needs_peer=True),
            Port.DISPLAY: self.outlet("display", SocketKind.PUB, bind=True),
        }
        self.source = self.outlet("in", SocketKind.PUSH)
        self.far = {
            Port.WRITER: self.far_end("writer"),
            Port.ENGINE: self.far_end("engine"),
            Port.DISPLAY: self.inlet("display", SocketKind.SUB, queue=1000),
        }
        assert self.outlets[Port.DISPLAY].wait_for_peer(WAIT_S)
        self.thread: threading.Thread | None = None

    def link(self, name: str, **options: Any) -> OutLink:
        options = {"max_bytes": 1 << 26, "max_messages": self.queue, "linger_s": 0} | options
        return OutLink(self.context, f"inproc://{name}", "test", **options)

    def far_end(self, name: str) -> Receiver:
        return Receiver(self.context, [], links=[InLink(self.context, f"inproc://{name}", "test")])

    def inlet(self, name: str, kind: SocketKind, *, bind: bool = False, queue: int | None = None) -> Receiver:
        queue = self.queue if queue is None else queue
        endpoint = Endpoint(address=f"inproc://{name}", socket=kind, bind=bind, queue=queue)
        return Receiver(self.context, [endpoint], names=[name])

    def outlet(self, name: str, kind: SocketKind, *, bind: bool = False) -> Sender:
        endpoint = Endpoint(address=f"inproc://{name}", socket=kind, bind=bind, queue=self.queue)
        return Sender(self.context, endpoint, linger_s=0)

    def send(self, *messages: Message) -> None:
        for message in messages:
            assert self.source.send(message, wait_s=WAIT_S)

    def run(self, stage: Any, **more: Any) -> None:
        def target() -> None:
            try:
                serve(stage, self.receiver, self.outlets, self.control, **more)
            except BaseException as error:  # noqa: BLE001 - looked at by the test
                self.error = error

        self.thread = threading.Thread(target=target, name="service")
        self.thread.start()

    def stop(self) -> None:
        """Ask for an orderly end and wait for it."""
        self.control.finish.set()
        assert self.thread is not None
        self.thread.join(WAIT_S)
        assert not self.thread.is_alive()

    def read(self, port: Port, wait_s: float = 0.2) -> list[Any]:
        got = list(iter(lambda: self.far[port].receive(wait_s), None))
        self.far[port].acknowledge()
        return got

    def close(self) -> None:
        self.control.kill.set()
        if self.thread is not None:
            self.thread.join(WAIT_S)
        for socket in (self.receiver, self.source, *self.outlets.values(), *self.far.values()):
            socket.close()
        self.context.term()


@contextmanager
def bench(**options: Any) -> Iterator[Bench]:
    made = Bench(**options)
    try:
        yield made
    finally:
        made.close()
    assert made.error is None, made.error


def test_messages_are_handled_and_health_is_published():
    with bench() as b:
        stage = Recorder()
        b.run(stage)
        b.send(start(), frame(0))
        until(lambda: len(stage.handled) == 2)
        status = b.far[Port.DISPLAY].receive(WAIT_S)
        assert (status.service, status.scan_id) == ("test", None)
        b.stop()
        assert stage.log[-1] == "finish"
        assert stage.log.count("finish") == 1
        assert not b.read(Port.WRITER, 0.05), "a status without scan is for displays only"


def test_a_status_says_how_often_its_service_was_started_again():
    with bench() as b:
        b.control = Control(finish=threading.Event(), kill=threading.Event(), restarts=3)
        b.run(Recorder())
        assert b.far[Port.DISPLAY].receive(WAIT_S).restarts == 3
        b.stop()


def test_a_status_says_what_is_kept_for_another_service():
    with bench() as b:
        b.outlets.pop(Port.ENGINE).close()
        stage = Recorder()
        stage.reply = lambda message: [(Port.WRITER, message)]
        b.run(stage)
        b.send(start("a"), start("b"), frame(0))
        kept = []

        def three_are() -> bool:
            status = b.far[Port.DISPLAY].receive(WAIT_S)
            kept.append((status.unacknowledged, status.unacknowledged_bytes["test"]))
            return status.unacknowledged == {"test": 3}

        until(three_are)
        assert kept[-1][1] > frame(0).payload.nbytes
        b.control.kill.set()


def test_a_status_says_how_long_others_have_been_silent_and_how_many_strangers_came():
    with bench() as b:
        b.outlets.pop(Port.ENGINE).close()
        b.outlets[Port.WRITER].rejected.update({"hello.link": 2, "hello": 1})
        b.run(Recorder())
        status = b.far[Port.DISPLAY].receive(WAIT_S)
        assert ("in" in status.silence_s, status.rejected) == (False, {"stranger": 3}), "nothing has come yet"
        b.send(frame(0))
        sent_s = time.monotonic()

        def tells(name: str, least_s: float) -> bool:
            return b.far[Port.DISPLAY].receive(WAIT_S).silence_s.get(name, -1.0) >= least_s

        until(lambda: tells("in", 1.0))
        assert time.monotonic() - sent_s >= 1.0
        b.send(frame(1))
        until(lambda: not tells("in", 1.0))
        until(lambda: b.far[Port.WRITER].receive(0.1) or tells("test", 0.0))
        b.stop()


def test_a_status_of_the_receiver_says_how_it_stands_with_its_senders(monkeypatch):
    standing = {"frames": "no connection to tcp://a:1: nothing listens there"}
    monkeypatch.setattr(Receiver, "standings", standing)
    with bench() as b:
        b.run(Recorder())
        assert b.far[Port.DISPLAY].receive(WAIT_S).connections == standing
        b.stop()


def test_what_is_logged_while_a_message_is_handled_is_about_its_scan():
    said = logging.StreamHandler(io.StringIO())
    said.setFormatter(JsonFormatter("test"))
    logger = logging.getLogger("tests.runtime")
    logger.addHandler(said)

    class Talker(Recorder):
        def handle(self, message: Message | ProtocolError) -> Iterable[Output]:
            yield from super().handle(message)
            logger.warning("handled, while what is sent is asked for")

        def idle(self) -> Iterable[Output]:
            if len(self.handled) == 2:
                logger.warning("idle")
                self.handled.append(self.handled[0])
            return super().idle()

    with bench() as b:
        stage = Talker()
        b.run(stage)
        b.send(start(scan_id="one"), frame(0, scan_id="two"))
        until(lambda: len(stage.handled) == 3)
        b.stop()
    logger.removeHandler(said)
    lines = [json.loads(line) for line in said.stream.getvalue().splitlines()]
    assert [line.get("scan_id") for line in lines] == ["one", "two", None]


def test_a_flood_does_not_starve_the_stages_own_work():
    with bench() as b:
        stage = Recorder(handle_s=0.001)
        b.send(*(frame(i) for i in range(600)))
        b.run(stage)
        until(lambda: len(stage.handled) == 600)
        last = max(i for i, entry in enumerate(stage.log) if entry == "handle")
        during = stage.log[:last]
        assert during.count("idle") >= 600 * 0.001 / runtime.DRAIN_S / 3
        runs = "".join(entry[0] for entry in during).split("i")
        assert max(map(len, runs)) <= 25, "so many fit between two slices of its own work"
        assert [m.index[0] for m in stage.handled] == list(range(600))


def test_messages_get_as_long_as_the_stages_own_work():
    with bench() as b:
        stage = Recorder(handle_s=0.002)
        idle = stage.idle
        stage.idle = lambda: time.sleep(0.1) or idle()
        b.send(*(frame(i) for i in range(200)))
        b.run(stage)
        until(lambda: len(stage.handled) == 200)
        runs = "".join(entry[0] for entry in stage.log).split("i")
        assert 2 * runtime.DRAIN_S / 0.002 < max(map(len, runs)) <= 0.13 / 0.002


def test_statuses_go_on_during_a_flood():
    with bench() as b, Reader(b.far[Port.DISPLAY]) as display:
        b.send(*(frame(i) for i in range(900)))
        stage = Recorder(handle_s=0.0015)
        b.run(stage)
        until(lambda: len(display.of(Status)) >= 2)
        assert len(stage.handled) < 900
        b.stop()


def test_a_busy_stage_does_not_wait_for_messages():
    with bench() as b:
        stage = Recorder()
        stage.busy = True
        b.run(stage)
        until(lambda: stage.log.count("idle") > 200, wait_s=200 * runtime.POLL_S / 2)


def test_an_orderly_end_takes_in_what_is_under_way():
    with bench() as b:
        stage = Recorder(handle_s=0.002)
        b.send(*(frame(i) for i in range(100)))
        b.control.finish.set()
        b.run(stage)
        b.stop()
        assert len(stage.handled) == 100
        assert stage.log[-1] == "finish"


def test_an_orderly_end_does_not_last_for_ever():
    with bench() as b:
        stage = Recorder(handle_s=0.02)
        b.send(*(frame(i) for i in range(500)))
        b.control.finish.set()
        b.run(stage, drain_at_end_s=0.3)
        b.stop()
        assert 1 < len(stage.handled) < 100
        assert stage.log[-1] == "finish"


def test_kill_stops_at_once_without_an_end():
    with bench() as b:
        stage = Recorder(handle_s=0.02)
        b.send(*(frame(i) for i in range(500)))
        b.run(stage)
        until(lambda: stage.handled)
        b.control.kill.set()
        b.thread.join(2)
        assert not b.thread.is_alive()
        assert len(stage.handled) < 500
        assert "finish" not in stage.log


def test_bad_bytes_reach_the_stage_as_values():
    with bench() as b:
        stage = Recorder()
        b.run(stage)
        assert b.source.send_parts([b"noise"], wait_s=WAIT_S)
        b.send(frame(0))
        until(lambda: len(stage.handled) == 2)
        assert isinstance(stage.handled[0], ProtocolError)
        assert isinstance(stage.handled[1], Frame)


@pytest.mark.expects_errors
@pytest.mark.parametrize("port", [Port.WRITER, Port.ENGINE, Port.DISPLAY])
def test_a_message_that_cannot_be_encoded_is_counted_and_dropped(port):
    failure = "x" * MAX_HEADER_BYTES
    large = ReceiveStatus(service="test", scan_id="s", state=ServiceState.IDLE, time_ns=1, failure=failure)
    with bench() as b, Reader(b.far[port]) as reader:
        stage = Recorder()
        stage.reply = lambda message: [(port, large), (port, start())] if isinstance(message, Frame) else []
        if port is Port.ENGINE:  # which takes nothing before somebody is there
            assert b.outlets[port].wait_for_peer(WAIT_S)
        b.run(stage)
        b.send(frame(0), frame(1))
        until(lambda: len(stage.handled) == 4)
        refused = only(ProtocolError, stage.handled)
        assert [error.field for error in refused] == ["header", "header"]
        b.stop()
        until(lambda: len(reader.of(ScanStart)) == 2)
        assert f"unsent {port}" not in stage.log


@pytest.mark.expects_errors
def test_a_status_that_cannot_be_encoded_stops_nothing():
    large = ReceiveStatus(scan_id=None, state=ServiceState.IDLE, time_ns=1, failure="x" * MAX_HEADER_BYTES)
    with bench() as b:
        stage = Recorder()
        stage.statuses = lambda: [large]
        b.run(stage)
        until(lambda: only(ProtocolError, stage.handled))
        b.send(frame(0))
        until(lambda: only(Frame, stage.handled))
        b.stop()


def test_a_start_with_too_much_metadata_ends_nothing(caplog):
    """Numbers of 32 bits grow when they are sent on: what was accepted could then not be."""
    parts = [bytes(part) for part in encode(start("large"))]
    header = msgpack.unpackb(parts[0])
    header["fields"]["metadata"] = {f"{i:05}": 0.5 for i in range(80_000)}
    parts[0] = msgpack.packb(header, use_single_float=True)
    assert len(parts[0]) < MAX_HEADER_BYTES
    with bench() as b, caplog.at_level(logging.WARNING), Reader(b.far[Port.WRITER]) as writer:
        b.run(receive_stage())
        assert b.source.send_parts(parts, wait_s=WAIT_S)
        b.send(*scan(3))
        until(lambda: writer.of(ScanEnd))
        assert [message.scan_id for message in writer.of(ScanStart)] == ["s"]
        assert "start.metadata" in caplog.text
        b.stop()


class BugError(Exception):
    pass


@pytest.mark.parametrize("where", ["handle", "idle", "statuses", "finish"])
def test_a_bug_is_not_hidden(where):
    def broken(*args: object) -> Any:
        raise BugError(where)

    with bench() as b:
        stage = Recorder()
        setattr(stage, where, broken)
        b.send(frame(0))
        if where == "finish":
            b.control.finish.set()
        with pytest.raises(BugError, match=where):
            serve(stage, b.receiver, b.outlets, b.control)


# the receive stage: nothing is lost towards the writer, nothing waits for the engine


def scan(n: int, scan_id: str = "s") -> list[Message]:
    return [start(scan_id), positions(range(n), scan_id), *(frame(i, scan_id) for i in range(n)), *ends(n, scan_id)]


class Reader:
    """Receives the messages of a port, slowly on request."""

    def __init__(self, receiver: Receiver, delay: Callable[[int], float] = lambda n: 0.0) -> None:
        self.got: list[Any] = []
        self._receiver = receiver
        self._delay = delay
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="reader")
        self._thread.start()

    def _work(self) -> None:
        while not self._stop.is_set():
            message = self._receiver.receive(0.05)
            self._receiver.acknowledge()
            if message is not None:
                self.got.append(message)
                time.sleep(self._delay(len(self.got)))

    def of(self, kind: type) -> list[Any]:
        return only(kind, list(self.got))

    @property
    def indices(self) -> list[int]:
        """Those of all frames, which come in blocks."""
        return [index for block in self.of(Frame) for index in block.index.tolist()]

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()


def receive_stage(**options: float) -> ReceiveStage:
    return ReceiveStage(MatchOptions(**options))


def test_a_slow_writer_loses_nothing_while_statuses_go_on():
    n = 60
    with (
        bench(queue=4) as b,
        Reader(b.far[Port.WRITER], lambda k: 1.3 if k in (20, 40) else 0.002) as writer,
        Reader(b.far[Port.ENGINE]) as engine,
        Reader(b.far[Port.DISPLAY]) as display,
    ):
        b.run(receive_stage())
        b.send(*scan(n))
        until(lambda: writer.of(ScanEnd) and engine.of(ScanEnd))
        b.stop()
        assert writer.indices == list(range(n))
        assert sum(len(p) for p in writer.of(Positions)) == n
        assert len(display.of(Status)) >= 3
        final = [s for s in display.of(Status) if s.state is ServiceState.DONE][-1]
        assert (final.received, final.used + final.dropped.get("engine_full", 0)) == (n, n)
        assert len(points_in(engine.got)) == final.used


def test_an_engine_that_takes_nothing_is_not_waited_for():
    n = 200
    with bench(queue=4) as b, Reader(b.far[Port.WRITER]) as writer, Reader(b.far[Port.DISPLAY]) as display:
        b.run(receive_stage(max_backlog_bytes=1))
        then = time.monotonic()
        b.send(*scan(n))
        until(lambda: writer.of(ScanEnd))
        assert time.monotonic() - then < 5, "the detector does not feel the engine"
        assert writer.indices == list(range(n))
        until(lambda: any(s.state is ServiceState.DONE for s in display.of(Status)))
        final = [s for s in display.of(Status) if s.state is ServiceState.DONE][-1]
        assert final.dropped["engine_full"] >= n - 20
        with Reader(b.far[Port.ENGINE]) as engine:
            until(lambda: engine.of(ScanEnd))
            assert isinstance(engine.got[0], ScanStart)
            assert len(points_in(engine.got)) == final.used
            assert all(p.yx_m == place(p.index) for p in points_in(engine.got))
            b.stop()


def test_the_last_messages_of_a_scan_wait_once_for_a_writer_that_is_gone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(runtime, "PATIENCE_S", 0.5)
    last = [replace(GOOD["assessment"], final=True), GOOD["estimates"], replace(GOOD["snapshot"], final=True)]
    with bench() as b:
        b.outlets[Port.RESULTS] = b.link("results", needs_peer=True)
        stage = Recorder()
        stage.reply = lambda message: [(Port.RESULTS, message) for message in last]
        b.run(stage)
        b.send(start(), frame(0))
        begun_s = time.monotonic()
        until(lambda: stage.log.count("unsent results") == 3)
        assert time.monotonic() - begun_s < 2 * runtime.PATIENCE_S
        until(lambda: stage.log.count("unsent results") == 6)
        b.stop()


def test_without_an_engine_the_scan_is_written_at_full_speed():
    n = 300
    with bench() as b, Reader(b.far[Port.WRITER]) as writer:
        b.far[Port.ENGINE].close()
        b.run(receive_stage(max_backlog_bytes=1))
        then = time.monotonic()
        b.send(*scan(n))
        until(lambda: writer.of(ScanEnd))
        assert time.monotonic() - then < 5
        assert writer.indices == list(range(n))
        final = [s for s in writer.of(Status) if s.state is ServiceState.DONE][-1]
        assert final.dropped == {"engine_full": n}
        b.stop()


def test_interruption_closes_the_scan_for_everyone():
    with bench() as b, Reader(b.far[Port.WRITER]) as writer, Reader(b.far[Port.ENGINE]) as engine:
        b.run(receive_stage())
        b.send(start(), frame(0), positions(0))
        until(lambda: points_in(engine.got))
        b.stop()
        until(lambda: writer.of(ScanEnd) and engine.of(ScanEnd))
        assert writer.of(ScanEnd)[0].reason.value == "interrupted"


@pytest.mark.expects_errors
def test_at_the_end_a_writer_that_is_gone_is_given_up(monkeypatch, caplog):
    monkeypatch.setattr(outlink, "GONE_S", 0.5)
    with bench() as b, caplog.at_level(logging.ERROR):
        b.far[Port.WRITER].close()
        b.run(receive_stage())
        b.send(start())
        time.sleep(0.2)
        b.stop()
        assert "what it has not taken is lost" in caplog.text


def test_a_final_word_waits_for_its_reader():
    stage = Recorder()
    done = ReconstructStatus(scan_id="s", state=ServiceState.DONE, time_ns=1)
    live = ReconstructStatus(scan_id="s", state=ServiceState.POLISHING, time_ns=1)
    stage.reply = lambda message: [(Port.RESULTS, live), (Port.RESULTS, done)]
    with bench() as b:
        b.outlets[Port.RESULTS] = b.link("results", needs_peer=True)
        b.run(stage)
        b.send(end(0, ends(0)[0].stream))
        until(lambda: "unsent results" in stage.log)
        b.far[Port.RESULTS] = b.far_end("results")
        with Reader(b.far[Port.RESULTS]) as results:
            until(lambda: results.got)
            assert results.got[0].state is ServiceState.DONE
            b.stop()
        assert stage.log.count("unsent results") == 1


def test_large_frames_after_small_ones_still_reach_the_writer():
    big = (600, 600)
    with bench() as b, Reader(b.far[Port.WRITER]) as writer, Reader(b.far[Port.ENGINE]):
        b.run(receive_stage())
        b.send(*scan(150))
        pixels = np.zeros((1, *big), np.uint16)
        b.send(start("big", big), positions(range(30), "big"))
        b.send(*(frame(i, "big", pixels=pixels) for i in range(30)), *ends(30, "big"))
        until(lambda: len(writer.of(ScanEnd)) == 2)
        assert len(writer.indices) == 180
        b.stop()
