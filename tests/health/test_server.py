"""What monitors get over HTTP: from a service that runs alone, from the live page, and with keys in between."""

import json
import os
import re
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streamptycho.config import Config, ServiceEndpoints
from streamptycho.errors import ConfigError
from streamptycho.messages.reasons import ServiceState
from streamptycho.wire.endpoint import Endpoint, SocketKind
from streamptycho.wire.keys import write_key_pair
from streamptycho.wire.security import NO_KEYS, SecurityOptions
from streamptycho.wire.sockets import Sender, new_context
from streamptycho_services.health.server import HealthServer
from tests import chain
from tests.chain import PROGRAM, Command, wait_until
from tests.ports import free_address
from tests.statuses import status


def get(port: int, path: str, **headers: str) -> tuple[int, str]:
    """Code and text of an answer."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


class Services:
    """The display sockets of services, and a server that listens to them."""

    def __init__(self, security: SecurityOptions = NO_KEYS, names: tuple[str, ...] = ("receive", "write")) -> None:
        services = ServiceEndpoints(**{f"display_{name}": free_address() for name in names})
        self.config = Config(services=services, security=security)
        self.context = new_context(security)
        self.senders = {
            name: Sender(self.context, self.end(getattr(services, f"display_{name}")), linger_s=0) for name in names
        }
        self.server = HealthServer(self.config, names, 0)

    @staticmethod
    def end(address: str) -> Endpoint:
        return Endpoint(address=address, socket=SocketKind.PUB, bind=True)

    def __enter__(self) -> "Services":
        self.server.__enter__()
        return self

    def __exit__(self, *exc: Any) -> None:
        self.server.__exit__(None, None, None)
        for sender in self.senders.values():
            sender.close()
        self.context.term()

    def say(self, service: str, **values: Any) -> None:
        assert self.senders[service].wait_for_peer(20)
        self.senders[service].send(status(service, **values))

    def ready(self) -> bool:
        return get(self.server.port, "/readyz")[0] == 200


@pytest.fixture
def services() -> Iterator[Services]:
    with Services() as services:
        yield services


class TestServer:
    def test_ready_once_all_are_heard(self, services):
        code, text = get(services.server.port, "/readyz")
        assert (code, json.loads(text)["missing"]) == (503, ["receive", "write"])
        assert get(services.server.port, "/healthz") == (200, '{"ok":true}')
        services.say("receive", state=ServiceState.IDLE, scan_id=None)
        services.say("write", used=3)
        wait_until(services.ready, "both to be heard", 20)

    def test_figures(self, services):
        services.say("receive", used=3, dropped={"late": 1})
        text = wait_until(lambda: 'reason="late"' in (found := get(services.server.port, "/metrics")[1]) and found, "it")
        assert 'streamptycho_frames_received_total{service="receive"} 4.0' in text
        assert 'streamptycho_up{service="write"} 0.0' in text

    def test_nothing_else(self, services):
        assert get(services.server.port, "/")[0] == 404
        assert get(services.server.port, "/status")[0] == 404

    def test_a_foreign_name_for_this_machine_is_not_answered(self, services):
        assert get(services.server.port, "/metrics", Host="evil.org")[0] == 400

    def test_a_public_one_says_so(self, caplog):
        HealthServer(Config(), ["write"], 0, "0.0.0.0")._listener.close()
        assert any("open to everyone who reaches port" in line for line in caplog.messages)

    def test_a_port_that_is_taken_is_named(self, services):
        with pytest.raises(ConfigError, match=f"port {services.server.port} on 127.0.0.1: .*choose another"):
            HealthServer(Config(), ["write"], services.server.port)

    def test_with_keys(self, tmp_path):
        _, secret = write_key_pair(tmp_path, "a")
        with Services(SecurityOptions(secret_key=secret)) as services:
            services.say("receive")
            services.say("write")
            wait_until(services.ready, "both to be heard", 20)


class TestCommand:
    @pytest.mark.slow
    def test_all_together_with_keys_logs_and_a_service_that_dies(self, tmp_path: Path) -> None:
        _, secret = write_key_pair(tmp_path, "a")
        flags = [*chain.address_flags(), f"--set=security.secret_key={secret}"]
        log = tmp_path / "logs" / "run.jsonl"
        output = ["--output", tmp_path, "--json", "--log-file", log, "--metrics-port", 0, "--page-port", 0]
        with Command(PROGRAM, "run", *output, *flags) as run:
            run.wait_while_running(lambda: "health and metrics: " in run.err and "live page: " in run.err, "both addresses")
            own, page = (
                int(re.findall(pattern, run.err)[0])
                for pattern in (r"http://127\.0\.0\.1:(\d+)/metrics", r"live page: http://127\.0\.0\.1:(\d+)/")
            )
            run.wait_while_running(lambda: get(own, "/readyz")[0] == get(page, "/readyz")[0] == 200, "readiness")
            os.kill(run.services()["reconstruct"], signal.SIGKILL)
            again = 'streamptycho_restarts_total{service="reconstruct"} 1.0'
            run.wait_while_running(
                lambda: again in get(own, "/metrics")[1] and again in get(page, "/metrics")[1], "a restart"
            )
            run.process.send_signal(signal.SIGINT)
            assert run.wait() == 0, run.err
        names = {"run.jsonl", *(f"run.{name}.jsonl" for name in ("receive", "reconstruct", "write", "page", "documents"))}
        assert {path.name for path in log.parent.iterdir()} == names
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        assert any(line["service"] == "run" and "reconstruct was ended by SIGKILL" in line["message"] for line in lines)

    @pytest.mark.parametrize("name", ["write", "reconstruct", "receive"])
    def test_a_service_alone_answers_for_itself(self, name: str, tmp_path: Path) -> None:
        config = chain.config(tmp_path)
        settings = [f"--set=services.{key}={value}" for key, value in config.services if isinstance(value, str)]
        with Command(PROGRAM, name, "--metrics-port", 0, f"--set=write.directory={tmp_path}", *settings) as service:
            service.wait_while_running(lambda: "health and metrics: " in service.err, "its address")
            port = int(re.findall(r"http://127\.0\.0\.1:(\d+)/metrics", service.err)[0])
            service.wait_while_running(lambda: get(port, "/healthz")[0] == 200, "health")
            if name == "receive":  # it waits for the writer, which is not there, and says nothing
                assert json.loads(get(port, "/readyz")[1])["missing"] == ["receive"]
            else:
                service.wait_while_running(lambda: get(port, "/readyz")[0] == 200, "readiness")
                assert f'streamptycho_up{{service="{name}"}} 1.0' in get(port, "/metrics")[1]
            service.process.send_signal(signal.SIGINT)
            assert service.wait() == 0, service.err
            assert "Traceback" not in service.err
