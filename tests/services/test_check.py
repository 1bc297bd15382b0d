"""What ``check`` says about a stream: its rate above all."""

import socket
import threading
import time
import tomllib
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from streamptycho.compose.options import Role
from streamptycho.config import Config, load
from streamptycho.dialects.door import Interpreter
from streamptycho.messages.facts import Began, Learned, Remark, StartParts
from streamptycho.messages.kinds import Message
from streamptycho.messages.reasons import ServiceState
from streamptycho.messages.status import ReceiveStatus
from streamptycho.sources.recognise import Misread, recognise
from streamptycho.wire.codec import encode
from streamptycho.wire.endpoint import Endpoint, SocketKind
from streamptycho.wire.sockets import Sender, new_context
from streamptycho_services.commands.check import _Running, check_streams
from streamptycho_services.commands.heard import Found
from streamptycho_services.processes.folder import displays, say_what_is_heard, socket_folder, with_ipc
from streamptycho_sim.formats.panda_json import hxn
from tests.ports import free_address
from tests.scans import broken_frame, frame, positions, start

WAIT_S = 20.0


class Stream:
    """Sends frames and positions at a steady rate, the first one after `delay_s`."""

    def __init__(self, rate_hz: float, seconds: float, make: Any, *, delay_s: float = 0.0) -> None:
        self.endpoints = {name: {"address": free_address(), "socket": "pull"} for name in ("frames", "positions")}
        self._rate_hz, self._delay_s, self._make = rate_hz, delay_s, make
        self._number = round(rate_hz * seconds)
        self._thread = threading.Thread(target=self._work, name="stream")

    def __enter__(self) -> "Stream":
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._thread.join(60)
        assert not self._thread.is_alive()

    def _work(self) -> None:
        with new_context() as context:
            endpoints = [Endpoint(address=e["address"], socket=SocketKind.PUSH, bind=True) for e in self.endpoints.values()]
            with Sender(context, endpoints[0], linger_s=0) as frames, Sender(context, endpoints[1], linger_s=0) as places:
                assert frames.wait_for_peer(10)
                assert places.wait_for_peer(10)
                time.sleep(self._delay_s)
                frames.send(start(), wait_s=1)
                began = time.monotonic()
                for i in range(self._number):
                    time.sleep(max(0.0, began + i / self._rate_hz - time.monotonic()))
                    messages: tuple[Message, Message] = self._make(i)
                    if not (frames.send(messages[0], wait_s=1) and places.send(messages[1], wait_s=1)):
                        return  # nobody listens any more

    def check(self, seconds: float) -> dict[str, Any]:
        config = load(None, {f"detector.{name}": endpoint for name, endpoint in self.endpoints.items()})
        return check_streams(config, seconds, take=True)


@pytest.mark.parametrize(("rate_hz", "delay_s"), [(400, 0.0), (50, 1.0)])
def test_rates_are_those_of_the_streams(rate_hz: float, delay_s: float) -> None:
    with Stream(rate_hz, 3, lambda i: (frame(i), positions(i)), delay_s=delay_s) as stream:
        report = stream.check(2)
    assert report["ok"]
    assert report["frames"]["per_second"]["Frame"] == pytest.approx(rate_hz, rel=0.5)
    assert report["positions"]["per_second"]["Positions"] == pytest.approx(rate_hz, rel=0.5)
    assert report["frames"]["per_second"]["ScanStart"] is None, "one message has no rate"


def test_blocks_count_with_all_their_frames() -> None:
    def blocks(i: int) -> tuple[Message, Message]:
        return frame(range(10 * i, 10 * i + 10)), positions(range(10 * i, 10 * i + 10))

    with Stream(20, 3, blocks) as stream:
        report = stream.check(2)
    assert report["frames"]["per_second"]["Frame"] == pytest.approx(200, rel=0.5)
    assert report["positions"]["per_second"]["Positions"] == pytest.approx(200, rel=0.5)


def test_pixels_that_do_not_decode_are_reported() -> None:
    with Stream(20, 1.5, lambda i: (broken_frame(i), positions(i))) as stream:
        report = stream.check(1)
    assert report["frames"]["errors"]
    assert "max_counts" not in report["frames"]
    assert np.isfinite(report["frames"]["per_second"]["Frame"])


def peer(kind: SocketKind) -> Endpoint:
    return Endpoint(address=free_address(), socket=kind, bind=True)


def test_a_pushed_stream_is_not_touched_unless_told_to():
    push, pub, shown = peer(SocketKind.PUSH), peer(SocketKind.PUB), free_address()
    config = load(
        None,
        {
            "detector.frames.address": push.address,
            "detector.positions.address": pub.address,
            "services.display_receive": shown,
        },
    )
    with new_context() as context, Sender(context, push, linger_s=0) as frames, Sender(context, pub):
        found = check_streams(config, 0.5)
        assert not frames.wait_for_peer(0), "nobody has connected"
    assert not found["ok"]
    assert found["frames"]["state"] == "not looked at"
    assert "--take" in found["frames"]["remedy"]
    assert found["positions"]["state"] == "silent"


@pytest.mark.parametrize("by_run", [False, True])
def test_what_a_running_receiver_sees_is_told(by_run):
    """The one at the address that is configured, or that of a ``run`` of this user, wherever it has its sockets."""
    pub, shown = peer(SocketKind.PUB), Endpoint(address=free_address(), socket=SocketKind.PUB, bind=True)
    flags = {"detector.positions.address": pub.address, "services.display_receive": shown.address}
    config = load(None, flags | {"detector.frames.address": free_address()})
    with socket_folder() as folder:
        if by_run:
            say_what_is_heard(config, folder.path)
            shown = shown.model_copy(update={"address": with_ipc(config, folder.path).services.display_receive})
        check_beside(config, pub, shown)
        assert displays(config) == [shown.address] * by_run
        assert displays(load(None, {"detector.frames.address": free_address()})) == []


def test_a_doubt_that_is_told_again_is_one():
    found = Found()
    for fact in (Began(run="a", parts=StartParts(doubts=("b",))), Learned(run="a", parts=StartParts(doubts=("b", "c")))):
        found.take(fact, 0.0)
    assert found.report()["doubts"] == ["b", "c"]


def check_beside(config: Config, pub: Endpoint, shown: Endpoint) -> None:
    status = ReceiveStatus(scan_id="s", started_ns=1, state=ServiceState.RECEIVING, time_ns=1, received=5, waiting=5, gaps=2)
    with new_context() as context, Sender(context, pub) as places, Sender(context, shown) as display:

        def say() -> None:
            assert display.wait_for_peer(WAIT_S)
            assert places.wait_for_peer(WAIT_S)
            for i in range(5):
                display.send(start())
                display.send(status)
                places.send(positions(2 * i))
                time.sleep(0.1)

        thread = threading.Thread(target=say)
        thread.start()
        found = check_streams(config, 3)
        thread.join()
    assert found["ok"], found
    assert found["frames"]["seen"] == "by the running receiver: 5 so far"
    assert (found["receiver"]["scan_id"], found["receiver"]["gaps"]) == ("s", 2)
    assert found["receiver"]["announced"]["distance_m"] == start().geometry.distance_m
    assert found["positions"]["gaps"] > 0


def test_a_format_that_is_not_the_configured_one_is_recognised():
    """Rows of a PandA as JSON, where our own format is configured."""
    pub, shown = peer(SocketKind.PUB), free_address()
    config = load(None, {"detector.positions.address": pub.address, "services.display_receive": shown})
    messages = list(hxn({"Y.Mean": np.arange(90.0), "X.Mean": np.arange(90.0)}))
    with new_context() as context, Sender(context, pub) as sender:

        def say() -> None:
            assert sender.wait_for_peer(WAIT_S)
            for message in messages:
                sender.send_parts([message])

        thread = threading.Thread(target=say)
        thread.start()
        found = check_streams(config, 3)
        thread.join()
    assert found["positions"]["state"] == "undecodable"
    assert found["positions"]["recognised"] == "panda-json"
    lines = "\n".join(found["configuration"])
    assert load(None, None).detector.positions.format == "streamptycho"
    used = Config.model_validate(tomllib.loads(lines)).detector.positions
    assert (used.format, used.address, used.socket) == ("panda-json", pub.address, SocketKind.SUB)


@pytest.mark.parametrize(
    ("says", "remedy"),
    [
        (b"\xff\0\0\0\0\0\0\0\x01\x7f", "but what answers is no PandA data port (8889): it speaks ZeroMQ"),
        (b"", "but what is there does not answer: it is no PandA data port (8889)"),
        (b"\0\x01\x02", "where a header should be; is this the data port of a PandA, 8889?"),
        (b"OK\n", "is a PandA armed?"),
    ],
)
def test_what_answers_where_a_panda_should_is_told(says: bytes, remedy: str):
    with socket.create_server(("127.0.0.1", 0)) as server, ExitStack() as stack:
        server.settimeout(WAIT_S)
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"

        def answer() -> None:
            for _ in range(1 if says else 2):  # silence makes `check` look a second time
                peer, _address = server.accept()
                stack.enter_context(peer).sendall(says)

        thread = threading.Thread(target=answer)
        thread.start()
        config = load(
            None,
            {
                "detector.positions.address": address,
                "detector.positions.format": "panda",
                "services.display_receive": free_address(),
            },
        )
        found = check_streams(config, 0.7)["positions"]
        thread.join(WAIT_S)
    assert remedy in found["remedy"], found
    assert says.startswith(b"OK") or address in found["remedy"]


def test_a_zeromq_socket_is_no_panda():
    pub = peer(SocketKind.PUB)
    flags = {"detector.positions.address": pub.address, "detector.positions.format": "panda"}
    config = load(None, flags | {"services.display_receive": free_address()})
    with new_context() as context, Sender(context, pub):
        found = check_streams(config, 1)["positions"]
    assert found["state"] == "undecodable"
    assert "it speaks ZeroMQ: is format = 'panda-json' meant?" in found["remedy"]


def test_nothing_is_recognised_in_noise():
    noise = [[bytes([i * j % 251 for j in range(1, 200)])] for i in range(1, 20)]
    assert recognise(noise, connection=False) == []
    assert recognise(noise, connection=True) == []
    assert recognise([], connection=False) == []


def test_our_own_format_is_recognised():
    messages = [encode(message) for message in (start(), frame(0), positions(0), frame(1))]
    assert recognise(messages, connection=False) == ["streamptycho"]


def test_a_stream_is_not_blamed_for_what_is_wrong_with_another():
    """A sender of both streams that waits until both are taken: each sentence is about its own."""
    push, shown = peer(SocketKind.PUSH), free_address()
    flags = {"detector.frames.address": push.address, "services.display_receive": shown}
    absent = free_address()
    config = load(None, flags | {"detector.positions.address": absent})
    with new_context() as context, Sender(context, push, linger_s=0):
        found = check_streams(config, 0.5, take=True)
    assert "no TCP connection" in found["positions"]["remedy"]
    assert "waits" not in found["positions"]["remedy"]
    assert "may also wait until somebody takes detector.positions" in found["frames"]["remedy"]


def test_a_published_stream_waits_for_a_pushed_one_that_is_left_out():
    pub = peer(SocketKind.PUB)
    flags = {"detector.positions.address": pub.address, "services.display_receive": free_address()}
    config = load(None, flags | {"detector.frames.address": free_address()})
    with new_context() as context, Sender(context, pub):
        found = check_streams(config, 0.5)
    assert "may also wait until somebody takes detector.frames" in found["positions"]["remedy"]


def test_what_a_running_receiver_hears_without_a_scan_is_told_apart_from_silence():
    status = ReceiveStatus(scan_id=None, started_ns=0, state=ServiceState.IDLE, time_ns=1, silence_s={"frames": 2.0})
    running = _Running()
    for heard in (replace(status, silence_s={}), status):
        running.hear(Said([heard]))
    assert running.stream(Role.FRAMES)["seen"].startswith("by the running receiver: the latest 2 s ago, and no scan")
    assert running.stream(Role.POSITIONS)["seen"] == "the running receiver has heard nothing from it"


class Said:
    """A receiver of these messages."""

    def __init__(self, messages: list[Message]) -> None:
        self._messages = messages

    def receive(self, timeout_s: float) -> Message | None:
        return self._messages.pop(0) if self._messages else None


MID_RUN = (
    b' event {"uid": "e", "descriptor": "d", "seq_num": 7, "data": {"y": 1.0}}',
    b' stop {"uid": "s", "run_start": "run", "exit_status": "success", "num_events": {"primary": 9}}',
)


@pytest.mark.parametrize("said", [MID_RUN, MID_RUN[:1] * 3, MID_RUN[1:]])
@pytest.mark.parametrize("format", ["bluesky", "table-csv"])
def test_bluesky_is_recognised_in_the_middle_of_a_run(said: tuple[bytes, ...], format: str):
    pub = peer(SocketKind.PUB)
    flags = {"detector.positions.address": pub.address, "detector.positions.format": format}
    config = load(None, flags | {"services.display_receive": free_address()})
    with new_context() as context, Sender(context, pub) as sender:

        def say() -> None:
            assert sender.wait_for_peer(WAIT_S)
            for message in said:
                sender.send_parts([message])

        thread = threading.Thread(target=say)
        thread.start()
        found = check_streams(config, 1)["positions"]
        thread.join()
    if format == "bluesky":
        assert found["state"] == "began before"
        assert found["remedy"] == "this is bluesky, of a run that began before: look again while the next one begins"
    else:
        assert found["recognised"] == "bluesky"
        assert found["remedy"].startswith("this is bluesky, configured is table-csv")


def test_a_stream_in_the_middle_of_a_run_is_not_called_misread():
    misread, dialect = Misread("bluesky"), Interpreter("bluesky")
    facts = [fact for _ in range(10) for fact in misread.hear([MID_RUN[0]], dialect.feed([MID_RUN[0]], 0.0))]
    assert not any(isinstance(fact, Remark) for fact in facts)
    assert misread.over


def test_a_socket_that_does_not_fit_is_told():
    pub = peer(SocketKind.PUB)
    flags = {"detector.positions.address": pub.address, "detector.positions.socket": "pull"}
    config = load(None, flags | {"services.display_receive": free_address()})
    with new_context() as context, Sender(context, pub):
        found = check_streams(config, 1, take=True)["positions"]
    words = "what answers there breaks off; if it speaks ZeroMQ, set socket = 'sub'"
    assert found["remedy"] == f"no connection to {pub.address}: {words}"


def test_large_tables_before_the_first_fact_are_not_called_misread():
    """A start of Stream V1 is told when what follows has come; its mask may have a hundred megabytes."""
    misread = Misread("dectris-v1")
    for _ in range(4):
        assert list(misread.hear([bytes(1 << 26)], iter(()))) == []
    assert not misread.over
