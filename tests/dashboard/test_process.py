"""The page as a process: its address, its end, and that its death stops nothing."""

import os
import signal
import socket
import sys
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from streamptycho.config import Config
from streamptycho.errors import ConfigError
from streamptycho_services import cli
from streamptycho_services.dashboard.security import Access
from streamptycho_services.dashboard.server import PageOptions, address_of, open_page, page_work
from streamptycho_services.processes.http import open_socket
from streamptycho_services.processes.supervisor import Supervisor
from tests.chain import Command, wait_until
from tests.dashboard.show import PageThread

ORPHAN = """
import time
from streamptycho.config import Config
from streamptycho_services.dashboard.server import PageOptions, open_page, page_work
from streamptycho_services.processes.child import Child
access, listener = open_page(PageOptions(port=0))
page = Child(page_work(Config(), access, listener))
while not page.heard():
    time.sleep(0.01)
print(page.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def taken() -> Any:
    """A port that somebody has."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield server.getsockname()[1]


def answers(address: str) -> bool:
    with urllib.request.urlopen(f"{address}healthz", timeout=20) as answer:
        return bool(answer.status == 200)


class TestAddress:
    def test_any_free_port(self):
        with open_socket("127.0.0.1", 0) as listener:
            port = listener.getsockname()[1]
            assert address_of(listener, Access("127.0.0.1")) == f"http://127.0.0.1:{port}/"
            assert address_of(listener, Access("127.0.0.1", "secret-token")).endswith("/?token=secret-token")

    def test_a_port_that_is_taken(self, taken):
        with pytest.raises(ConfigError, match=f"port {taken} on 127.0.0.1: .*choose another, or 0"):
            open_socket("127.0.0.1", taken)
        with open_socket("127.0.0.1", taken, move=True) as listener:
            assert listener.getsockname()[1] != taken

    def test_a_host_that_is_none(self):
        with pytest.raises(ConfigError, match=r"host no\.such\.host\.invalid: "):
            open_page(PageOptions(host="no.such.host.invalid", token="correct-horse"))

    def test_a_public_one_names_the_machine(self):
        with open_socket("0.0.0.0", 0) as listener:
            assert address_of(listener, Access("0.0.0.0")).startswith(f"http://{socket.gethostname()}:")

    @pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
    def test_loopback_of_the_other_protocol(self):
        try:
            page = PageThread(Config(), PageOptions(host="::1", port=0))
        except ConfigError as error:
            pytest.skip(str(error))
        assert page.address.startswith("http://[::1]:")
        with page:
            assert answers(page.address)


@contextmanager
def page_process() -> Iterator[tuple[Supervisor, str]]:
    """The page in a process that is watched, and its address."""
    access, listener = open_page(PageOptions(port=0))
    with listener, Supervisor([page_work(Config(), access, listener)], hung_s=30) as services:
        yield services, address_of(listener, access)


class TestProcess:
    def test_serves_and_ends_with_its_context(self):
        with page_process() as (services, address):
            assert answers(address)
            pid = services.pids["page"]
            assert os.getpriority(os.PRIO_PROCESS, pid) > 0, "others go first"
            services.finish()
            assert not Path(f"/proc/{pid}").exists()

    def test_a_viewer_waits_while_it_is_started_again(self, caplog):
        with page_process() as (services, address):
            assert answers(address)
            os.kill(killed := services.pids["page"], signal.SIGKILL)
            with ThreadPoolExecutor(1) as viewer:
                answer = viewer.submit(answers, address)
                while services.pids.get("page", killed) == killed:
                    services.look(serving=False)
                assert answer.result()
        assert caplog.messages == [
            "page was ended by SIGKILL (exit code -9); it is started again in 0.1 s, and all else goes on"
        ]

    def test_does_not_outlive_who_started_it(self):
        with Command([sys.executable], "-c", ORPHAN) as parent:
            parent.wait_while_running(lambda: parent.out.strip(), "the page")
            page = int(parent.out)
            parent.process.send_signal(signal.SIGKILL)
            parent.process.wait()
            wait_until(lambda: not Path(f"/proc/{page}").exists(), "the page to end")


class TestCommand:
    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            (["dashboard", "--host", "0.0.0.0"], "host 0.0.0.0: anyone on the network could look; give a token"),
            (["dashboard", "--token", "short"], "token of 5 characters: give 8 or more"),
            (["dashboard", "--port", "PORT"], "choose another, or 0 for any that is free"),
            (["demo", "--page-host", "0.0.0.0"], "host 0.0.0.0: anyone on the network could look"),
            (["demo", "--page-port", "PORT"], "choose another, or 0 for any that is free"),
            (["run", "--page-token", "short"], "token of 5 characters"),
        ],
    )
    def test_what_cannot_be_served_is_refused(self, arguments, expected, taken, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("sys.argv", ["streamptycho", *(str(taken) if a == "PORT" else a for a in arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert end.value.code == 2
        assert expected in capsys.readouterr().err
