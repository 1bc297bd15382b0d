"""How it stands with the connection to a sender of whom nothing has come: each case with a peer that behaves so."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress

import pytest
import zmq

from streamptycho.compose.options import Role
from streamptycho.errors import ConfigError
from streamptycho.sources.listener import listen
from streamptycho.sources.options import DetectorEndpoint
from streamptycho.wire.curve import Context
from streamptycho.wire.endpoint import Endpoint, SocketKind
from streamptycho.wire.keys import write_key_pair
from streamptycho.wire.security import SecurityOptions
from streamptycho.wire.sockets import Inlet, Sender, new_context
from streamptycho.wire.watch import Watch
from tests.chain import wait_until
from tests.ports import free_address
from tests.scans import start


def told(address: str, words: str, kind: SocketKind = SocketKind.SUB) -> None:
    """Wait until a socket that connects there says so."""
    with new_context() as context, Inlet(context, Endpoint(address=address, socket=kind)) as inlet:
        wait_until(lambda: inlet.standing == words.format(address), "the words")


def test_nobody_listens():
    told(free_address(), "no connection to {}: nothing listens there")


def test_a_host_that_is_not_known():
    told("tcp://no-such-host.invalid:9999", "no connection to {}: the name of its host is not known")


def test_a_host_that_does_not_answer():
    watch = Watch(None, Endpoint(address="tcp://far:1", socket=SocketKind.PULL))
    assert watch.standing == ""
    watch.hear(zmq.EVENT_CONNECT_DELAYED)
    assert watch.standing == "no connection to tcp://far:1: its host does not answer"


def test_a_sender_that_has_nothing_to_say_and_one_that_has_gone():
    there = Endpoint(address=free_address(), socket=SocketKind.PUB, bind=True)
    here = Endpoint(address=there.address, socket=SocketKind.SUB)
    with new_context() as context, Inlet(context, here) as inlet:
        with Sender(context, there):
            wait_until(lambda: inlet.standing == f"connected to {there.address}, but nothing has come", "a connection")
        wait_until(lambda: inlet.standing == f"no connection to {there.address}: nothing listens there", "its end")


@pytest.mark.parametrize(("theirs", "ours", "right"), [("push", "sub", "pull"), ("pub", "pull", "sub")])
def test_a_socket_that_does_not_fit(theirs: str, ours: str, right: str):
    there = Endpoint(address=free_address(), socket=theirs, bind=True)
    words = f"no connection to {{}}: what answers there breaks off; if it speaks ZeroMQ, set socket = '{right}'"
    with new_context() as context, Sender(context, there, linger_s=0):
        told(there.address, words, SocketKind(ours))


@pytest.mark.parametrize(("wrong", "right"), [("push", "pub"), ("pub", "push")])
def test_a_sender_that_comes_back_with_the_right_socket_is_heard(wrong: str, right: str):
    address, ours = free_address(), {"pub": SocketKind.SUB, "push": SocketKind.PULL}[right]
    with new_context() as context, Inlet(context, Endpoint(address=address, socket=ours)) as inlet:
        with Sender(context, Endpoint(address=address, socket=wrong, bind=True), linger_s=0):
            wait_until(lambda: (inlet.poll(0.05), "breaks off" in inlet.standing)[1], "the words")
        with closing(bound(context, Endpoint(address=address, socket=right, bind=True))) as sender:
            wait_until(lambda: (sender.send(start(), wait_s=0), inlet.poll(0.05))[1] is not None, "a message")


def bound(context: Context, there: Endpoint) -> Sender:
    """A sender at an address that another one has just left: libzmq takes its time."""
    made: list[Sender] = []

    def try_it() -> bool:
        with suppress(ConfigError):
            made.append(Sender(context, there, linger_s=0))
        return bool(made)

    wait_until(try_it, "the address")
    return made[0]


@pytest.fixture
def server() -> Iterator[Callable[[bytes], str]]:
    """Starts a peer that says something and hangs up; that says nothing and stays, if it is to say nothing."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:

        def answer(says: bytes) -> None:
            with suppress(OSError):  # the end of the test
                while says:
                    with listening.accept()[0] as peer:
                        peer.sendall(says)

        def serve(says: bytes) -> str:
            threading.Thread(target=answer, args=(says,), daemon=True).start()
            return f"tcp://127.0.0.1:{listening.getsockname()[1]}"

        yield serve
        listening.shutdown(socket.SHUT_RDWR)


def test_what_speaks_something_else(server):
    words = "no connection to {}: what answers there breaks off; if it speaks ZeroMQ, set socket = 'pull'"
    told(server(b"HTTP/1.0 400 Bad Request\r\n\r\n"), words)


def test_what_does_not_speak(server):
    told(server(b""), "connected to {}, but no ZeroMQ socket answers there")


@pytest.mark.parametrize("keyed", [False, True])
def test_with_keys_who_breaks_off_may_not_accept_ours(keyed: bool):
    for event in (zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL, zmq.EVENT_DISCONNECTED):
        watch = Watch(None, Endpoint(address="tcp://a:1", socket=SocketKind.PULL))
        watch.keyed = keyed
        watch.hear(zmq.EVENT_CONNECTED)
        watch.hear(event)
        assert ("keys" in watch.standing) is keyed


def test_a_peer_that_wants_keys_is_told(tmp_path):
    _, secret = write_key_pair(tmp_path, "server")
    there = Endpoint(address=free_address(), socket=SocketKind.PUB, bind=True)
    with new_context(SecurityOptions(secret_key=secret)) as context, Sender(context, there):
        told(there.address, "no connection to {}: its keys and ours do not fit, the log says why")


def test_a_listener_tells_of_streams_from_which_nothing_has_come():
    there = Endpoint(address=free_address(), socket=SocketKind.PUSH, bind=True)
    ends = {
        Role.FRAMES: DetectorEndpoint(address=there.address, format="dectris-v1"),
        Role.POSITIONS: DetectorEndpoint(address=free_address(), format="panda"),
        Role.DOCUMENTS: DetectorEndpoint(address="inproc://nobody", format="bluesky"),
    }
    with new_context() as context, Sender(context, there, linger_s=0) as sender, listen(context, ends) as listener:

        def standings() -> dict[str, str]:
            listener.receive(0.01)
            return listener.standings

        absent = f"{ends[Role.POSITIONS].address}: no connection (Connection refused)"
        idle = f"connected to {there.address}, but nothing has come"
        wait_until(lambda: standings() == {"frames": idle, "positions": absent}, "both")
        assert sender.send(start())
        wait_until(lambda: standings() == {"positions": absent}, "that something has come")
