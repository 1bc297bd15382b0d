"""Detectors of others that are told what to do by DECTRIS' REST interface."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest

PEERS = Path(__file__).resolve().parents[2] / ".peers"
"""Environments of other people's programs; ``make peers`` builds them."""
READY_S = 60.0


def program(environment: str, name: str) -> Path:
    """A program of a peer; skips the test if it is not installed."""
    path = PEERS / environment / "bin" / name
    if not path.is_file():
        pytest.skip(f"{name} is not installed: make peers")
    return path


class Simplon:
    """The REST interface of a simulated detector at this address."""

    def __init__(self, address: str, version: str) -> None:
        self._address, self._version = address, version

    def put(self, module: str, what: str, value: Any = None, timeout_s: float = 120.0) -> Any:
        """Set ``config/...`` of a module, or carry out one of its commands."""
        url = f"{self._address}/{module}/api/{self._version}/{what}"
        body = None if value is None else json.dumps({"value": value}).encode()
        asked = urllib.request.Request(url, body, {"Content-Type": "application/json"}, method="PUT")
        with urllib.request.urlopen(asked, timeout=timeout_s) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def command(self, name: str) -> Any:
        """Carry out a command of the detector."""
        return self.put("detector", f"command/{name}")


@contextmanager
def detector(command: list[str], rest: str, version: str, folder: Path) -> Iterator[Simplon]:
    """A simulated detector, once its REST interface answers."""
    with (folder / "detector.log").open("w+") as log, Popen(command, cwd=folder, stdout=log, stderr=log) as process:
        try:
            until_s = time.monotonic() + READY_S
            while not _answers(f"{rest}/detector/api/{version}/config/nimages"):
                said = (folder / "detector.log").read_text()[-2000:]
                assert process.poll() is None, said
                assert time.monotonic() < until_s, said
                time.sleep(0.1)
            yield Simplon(rest, version)
        finally:
            process.terminate()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
