"""Keys: who may connect, who is refused, and what the logs of both sides say about it."""

import logging
import shutil
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import zmq
from typer.testing import CliRunner
from zmq.auth import load_certificate

from streamptycho.config import load
from streamptycho.errors import ConfigError
from streamptycho.wire import curve, keys
from streamptycho.wire.curve import Refusals, Tries, new_context
from streamptycho.wire.endpoint import Endpoint, SocketKind
from streamptycho.wire.inlink import InLink
from streamptycho.wire.keys import load_keys, write_key_pair
from streamptycho.wire.outlink import OutLink
from streamptycho.wire.questions import Replier, ask
from streamptycho.wire.security import NO_KEYS, SecurityOptions, leaves_the_machine
from streamptycho.wire.sockets import Receiver, Sender
from streamptycho.wire.watch import Watch
from streamptycho_services import cli
from tests.chain import wait_until
from tests.hostile import GOOD
from tests.ports import free_address
from tests.strategies import same

HERE = "tcp://127.0.0.1:*"


class Ring:
    """Two key pairs, and a directory of allowed keys."""

    def __init__(self, directory: Path) -> None:
        self.public, self.secret = write_key_pair(directory, "server")
        self.other_public, self.other_secret = write_key_pair(directory, "other")
        self.allowed = directory / "allowed"
        self.allowed.mkdir()
        self.server = SecurityOptions(secret_key=self.secret, allowed_keys=self.allowed)

    def client(self, **more: Any) -> SecurityOptions:
        """The other pair, which knows the server."""
        return SecurityOptions(**({"secret_key": self.other_secret, "server_key": self.public} | more))

    def allow(self) -> None:
        shutil.copy(self.other_public, self.allowed)


@pytest.fixture
def ring(tmp_path: Path) -> Ring:
    return Ring(tmp_path)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Says sooner what goes on for too long."""
    monkeypatch.setattr(curve, "PATIENCE_S", 0.2)
    monkeypatch.setattr(curve, "HANDSHAKE_S", 1.0)
    monkeypatch.setattr(curve, "RENEW_S", 0.1)


def said(caplog: pytest.LogCaptureFixture, *parts: str) -> list[str]:
    return [line for line in caplog.messages if all(part in line for part in parts)]


def meet(
    binding: SecurityOptions,
    connecting: SecurityOptions,
    until: Callable[[Sender, Receiver], object],
    **more: Any,
) -> None:
    """A receiver that binds, and a sender that connects, until a condition holds."""
    with new_context(binding) as there, new_context(connecting) as here:
        end = Endpoint(address=HERE, socket=SocketKind.PULL, bind=True, **more.pop("end", {}))
        with Receiver(there, [end]) as receiver:
            start = Endpoint(address=receiver.addresses[0], socket=SocketKind.PUSH, **more)
            with Sender(here, start, linger_s=0) as sender:
                wait_until(lambda: until(sender, receiver), "what this test is about", 20)


def passes(sender: Sender, receiver: Receiver) -> bool:
    """Whether a message gets through."""
    return sender.send(GOOD["end"], wait_s=0.2) and same(receiver.receive(5), GOOD["end"])


class TestPeers:
    def test_one_pair_for_all_is_enough(self, ring, caplog):
        own = SecurityOptions(secret_key=ring.secret)
        meet(own, own, passes)
        assert caplog.messages == []

    def test_another_key_that_is_allowed(self, ring, caplog):
        ring.allow()
        meet(ring.server, ring.client(), passes)
        assert caplog.messages == []

    def test_the_server_may_send(self, ring):
        ring.allow()
        with new_context(ring.server) as there, new_context(ring.client()) as here:
            binds = Endpoint(address=HERE, socket=SocketKind.PUB, bind=True)
            with Sender(there, binds, linger_s=0) as sender:
                listens = Endpoint(address=sender.address, socket=SocketKind.SUB)
                with Receiver(here, [listens]) as receiver:
                    assert sender.wait_for_peer(20)
                    assert sender.send(GOOD["end"])
                    assert same(receiver.receive(20), GOOD["end"])

    def test_links_between_services(self, ring):
        """A consumer gets what it is sent, one without a key nothing."""
        ring.allow()
        with (
            new_context(ring.server) as there,
            new_context(ring.client()) as here,
            new_context() as nowhere,
            OutLink(there, HERE, "write", max_bytes=1 << 20) as out,
        ):
            assert out.send(GOOD["end"])
            with Receiver(nowhere, [], links=[InLink(nowhere, out.address, "write")]) as stranger:
                for _ in range(10):
                    assert stranger.receive(0.02) is None
                    out.turn()
                assert out.silence_s is None
            with Receiver(here, [], links=[InLink(here, out.address, "write")]) as receiver:
                got = wait_until(lambda: (out.turn(), receiver.receive(0.02))[1], "the message", 20)
                assert same(got, GOOD["end"])

    def test_questions_and_answers(self, ring):
        with new_context(ring.server) as there, Replier(there, HERE) as replier:
            answers: list[bool] = []

            def reply() -> bool:
                answers.append(replier.answer(lambda parts: [b"yes", *parts]))
                return answers[-1]

            thread = threading.Thread(target=lambda: wait_until(reply, "a question", 20))
            thread.start()
            own = SecurityOptions(secret_key=ring.secret)
            assert ask(replier.address, b"really?", 20, own) == [b"yes", b"really?"]
            thread.join()

    def test_one_that_is_not_allowed_is_named_and_comes_in_once_it_is(self, ring, quick, caplog):
        def refused_then_allowed(sender: Sender, receiver: Receiver) -> bool:
            if not said(caplog, "no connection to"):
                assert not sender.send(GOOD["end"], wait_s=0.05)
                return False
            ring.allow()
            return passes(sender, receiver)

        meet(ring.server, ring.client(), refused_then_allowed)
        public, _ = load_certificate(ring.other_public)
        (line,) = said(caplog, "127.0.0.1 is refused at")
        assert f"its key {public.decode()} is not allowed" in line
        (line,) = said(caplog, "no connection to tcp://127.0.0.1:")
        assert "or it does not allow ours: its log says which" in line

    def test_one_that_expects_another_server(self, ring, quick, caplog):
        ring.allow()
        refused = ("is refused at", "its server key is not ours: set its security.server_key to our public key")
        unconnected = ("no connection to", "its key is not the one in security.server_key")
        meet(ring.server, ring.client(server_key=None), lambda *_: said(caplog, *refused) and said(caplog, *unconnected))

    def test_one_that_has_a_wrong_key_for_this_address(self, ring, quick, caplog):
        ring.allow()
        wrong = ring.other_public
        unconnected = ("no connection to", f"its key is not the one in server_key of this address ({wrong})")
        meet(ring.server, ring.client(), lambda *_: said(caplog, *unconnected), server_key=wrong)

    def test_one_without_a_key(self, ring, quick, caplog):
        def told(sender: Sender, receiver: Receiver) -> bool:
            assert not sender.send(GOOD["end"], wait_s=0.05)
            # each end may be the first to notice, and then knows no more than that the other one has gone: it tries again
            noticed = said(
                caplog, "127.0.0.1 is refused at ", "it has no key: set its security.secret_key and security.server"
            )
            return bool(
                noticed and said(caplog, "no connection to", "it takes only peers with a key: set security.secret_key")
            )

        meet(ring.server, NO_KEYS, told)
        assert len(said(caplog, "is refused")) <= 4, "each address and reason once, however often it tries"

    def test_one_that_breaks_off(self, ring, caplog):
        with new_context(ring.server) as context:
            end = Endpoint(address=HERE, socket=SocketKind.PULL, bind=True)
            with Receiver(context, [end]) as receiver:
                port = int(receiver.addresses[0].rpartition(":")[2])
                socket.create_connection(("127.0.0.1", port)).close()
                wait_until(lambda: said(caplog, "is refused at", "it broke off"), "the stranger to be named", 20)

    def test_a_server_without_keys(self, ring, quick, caplog):
        meet(NO_KEYS, ring.client(), lambda *_: said(caplog, "no connection to", "it uses no keys"))

    def test_an_end_that_is_told_to_do_without(self, ring, caplog):
        meet(ring.server, NO_KEYS, passes, end={"curve": False})
        meet(NO_KEYS, ring.client(), passes, curve=False)
        assert caplog.messages == []

    def test_a_detector_with_a_key_of_its_own(self, ring, tmp_path):
        ring.allow()
        meet(ring.server, ring.client(server_key=ring.other_public), passes, server_key=ring.public)
        with pytest.raises(ConfigError, match=r"server_key of tcp://127.0.0.1:.*none\.key: cannot be read"):
            meet(ring.server, ring.client(), passes, server_key=tmp_path / "none.key")

    def test_what_does_not_speak_zeromq_is_named(self, ring, caplog):
        with new_context(ring.server) as context:
            end = Endpoint(address=HERE, socket=SocketKind.PULL, bind=True)
            with Receiver(context, [end]) as receiver:
                port = int(receiver.addresses[0].rpartition(":")[2])
                with socket.create_connection(("127.0.0.1", port)) as stranger:
                    stranger.sendall(b"\xff" + b"\0" * 8 + b"\x7f\x03\x00CURVE" + b"\0" * 47 + b"\x04\x03\x05HELLO")
                    wait_until(lambda: said(caplog, "is refused"), "the stranger to be named", 20)

    def test_a_peer_that_comes_back_with_a_key_is_met_again(self, ring, quick, caplog):
        """libzmq gives a connection up for good when only one end has keys."""
        address = free_address()
        end = Endpoint(address=address, socket=SocketKind.PULL, bind=True)
        ring.allow()
        with (
            new_context(ring.client()) as here,
            Sender(here, Endpoint(address=address, socket=SocketKind.PUSH), linger_s=0) as sender,
        ):
            with new_context() as before, Receiver(before, [end]):
                wait_until(lambda: sender.wait_for_peer(0.1) or said(caplog, "it uses no keys"), "the refusal", 20)
            with new_context(ring.server) as after, Receiver(after, [end]) as receiver:
                wait_until(lambda: passes(sender, receiver), "the connection", 20)


class TestOpen:
    def test_to_a_network_without_keys_is_said_once(self, ring, caplog):
        # of an address that cannot be bound here, so that nothing is really opened to a network
        end = Endpoint(address="tcp://192.0.2.1:5555", socket=SocketKind.PULL, bind=True)
        with new_context() as context:
            for _ in range(2):
                with pytest.raises(ConfigError, match="cannot bind"):
                    Receiver(context, [end])
        assert len(said(caplog, "tcp://192.0.2.1:5555 is open to everyone", "set security.secret_key")) == 1
        caplog.clear()
        with new_context(ring.server) as context, pytest.raises(ConfigError, match="cannot bind"):
            Receiver(context, [end])
        assert caplog.messages == []

    @pytest.mark.parametrize(
        ("address", "expected"),
        [("tcp://127.0.0.1:1", False), ("tcp://localhost:1", False), ("tcp://[::1]:1", False), ("ipc:///tmp/x", False),
         ("inproc://x", False), ("tcp://*:1", True), ("tcp://0.0.0.0:1", True), ("tcp://daq-pc:1", True),
         ("tcp://10.0.0.1:1", True)],
    )  # fmt: skip
    def test_which_addresses_are(self, address, expected):
        assert leaves_the_machine(address) is expected


class TestFiles:
    def test_a_pair_is_readable_by_its_owner_and_by_others_programs(self, tmp_path):
        public, secret = write_key_pair(tmp_path / "keys", "beamline")
        assert (public.name, secret.name) == ("beamline.key", "beamline.key_secret")
        assert secret.stat().st_mode & 0o777 == 0o600
        assert load_certificate(public) == (load_certificate(secret)[0], None)
        assert zmq.curve_public(load_certificate(secret)[1]) == load_certificate(public)[0]

    def test_nothing_is_overwritten(self, tmp_path):
        write_key_pair(tmp_path, "a")
        before = (tmp_path / "a.key_secret").read_bytes()
        with pytest.raises(ConfigError, match=r"a\.key_secret: cannot be written .*File exists"):
            write_key_pair(tmp_path, "a")
        assert (tmp_path / "a.key_secret").read_bytes() == before

    def test_the_command_says_how_to_use_them(self, tmp_path):
        result = CliRunner().invoke(cli.app, ["keys", str(tmp_path / "keys"), "--name", "beamline"])
        assert result.exit_code == 0, result.output
        setting = result.stdout.split("--set ")[1].strip()
        key, _, value = setting.partition("=")
        assert load_keys(load(None, {key: value}).security) is not None

    @pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o640, True), (0o604, True), (0o400, False)])
    def test_a_secret_that_others_can_read_is_warned_of(self, ring, mode, warned, caplog):
        ring.secret.chmod(mode)
        assert load_keys(ring.server) is not None
        assert bool(said(caplog, str(ring.secret), "can be read by other users; run chmod 600")) is warned

    def test_no_secret_is_printed(self, ring):
        assert load_certificate(ring.secret)[1].decode() not in repr(load_keys(ring.server))

    def test_no_keys_at_all(self):
        assert load_keys(NO_KEYS) is None

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"secret_key": "none"}, "security.secret_key = .*none: cannot be read .*streamptycho keys DIR"),
            ({"secret_key": "empty"}, "security.secret_key = .*empty: holds no CURVE key"),
            ({"secret_key": "bad"}, "security.secret_key = .*bad: holds no CURVE key"),
            ({"secret_key": "server.key"}, "server.key: holds no secret key; give the file NAME.key_secret"),
            ({"secret_key": "server.key_secret", "server_key": "none"}, "security.server_key = .*none: cannot be read"),
            (
                {"secret_key": "server.key_secret", "allowed_keys": "none"},
                "security.allowed_keys = .*none: no such directory",
            ),
            ({"server_key": "server.key"}, "security.secret_key: needed where other keys are given"),
        ],
    )
    def test_what_cannot_be_used_is_named(self, options, message, ring, tmp_path):
        (tmp_path / "empty").touch()
        (tmp_path / "bad").write_text('curve\n    public-key = "short"\n')
        with pytest.raises(ConfigError, match=message):
            new_context(SecurityOptions(**{name: tmp_path / file for name, file in options.items()}))

    def test_a_bad_file_among_the_allowed_keys_is_named_once_and_the_others_count(self, ring, caplog):
        ring.allow()
        (ring.allowed / "bad.key").write_text("nothing")
        complaints: set[str] = set()
        for _ in range(3):
            assert keys.public_keys(ring.allowed, complaints) == {load_certificate(ring.other_public)[0]}
        assert len(said(caplog, "bad.key: holds no CURVE key")) == 1


class TestMemory:
    def test_so_many_peers_are_named_and_no_more(self, caplog, monkeypatch):
        monkeypatch.setattr(curve, "MAX_NAMED", 3)
        with new_context() as context:
            guard = context.watched()
            for i in range(10):
                guard.name_once(f"192.0.2.{i}", HERE, "why")
                guard.name_once(f"192.0.2.{i}", HERE, "why")
        assert len(said(caplog, "is refused at")) == 3
        assert len(said(caplog, "further ones are not named")) == 1

    def test_threads_that_open_the_first_sockets_together_share_one_guard(self, monkeypatch):
        class Slow(curve.Guard):
            def __init__(self, *arguments: Any) -> None:
                time.sleep(0.1)
                super().__init__(*arguments)

        monkeypatch.setattr(curve, "Guard", Slow)
        with new_context() as context, ThreadPoolExecutor(8) as threads:
            assert len({id(guard) for guard in threads.map(lambda _: context.watched(), range(8))}) == 1

    def test_of_a_socket_that_is_closed_nothing_is_kept(self):
        with new_context() as context:
            guard = context.watched()
            for _ in range(3):
                Receiver(context, [Endpoint(address="tcp://127.0.0.1:9", socket=SocketKind.PULL)]).close()
            wait_until(lambda: guard._new.empty() and not guard._watched, "their monitors to be closed")

    def test_a_failure_is_that_of_the_connection_that_ends_next(self):
        named: list[str] = []
        refusals = Refusals(HERE, lambda peer, address, reason: named.append(reason))
        refusals.hear(zmq.EVENT_ACCEPTED, -1)
        refusals.hear(zmq.EVENT_DISCONNECTED, -1)
        assert named == [], "an orderly end is no refusal"
        refusals.hear(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL, 0)
        refusals.hear(zmq.EVENT_DISCONNECTED, -1)
        assert named == ["it does not speak ZeroMQ with CURVE"]

    def test_one_failure_of_a_peer_that_ends_is_not_told(self, caplog):
        watch = Watch(None, Endpoint(address=HERE, socket=SocketKind.SUB))
        tries = Tries(watch, curve=True, key="security.server_key")
        tries.hear(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL, 0)
        tries.tick(1e9)
        assert caplog.messages == []
        tries.hear(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL, 0)
        tries.tick(1e9)
        tries.tick(2e9)
        assert len(caplog.messages) == 1
        tries.hear(zmq.EVENT_HANDSHAKE_SUCCEEDED, 0)
        tries.tick(3e9)
        assert len(caplog.messages) == 1


def test_a_context_ends_though_its_sockets_still_refuse(ring, caplog):
    caplog.set_level(logging.CRITICAL)
    with new_context() as here:
        there = new_context(ring.server)
        receiver = Receiver(there, [Endpoint(address=HERE, socket=SocketKind.PULL, bind=True)])
        sender = Sender(here, Endpoint(address=receiver.addresses[0], socket=SocketKind.PUSH), linger_s=0)
        sender.wait_for_peer(0.1)
        receiver.close()
        there.term()
        sender.close()
    assert there.closed
