"""bluesky 1.15.1: its proxy is started as docs/how-to/bluesky.md says, and listens nowhere else."""

import re
import subprocess

import pytest

from tests.how_to import FOLDER
from tests.peers.simplon import program
from tests.ports import free_address


@pytest.mark.peers
def test_the_command_of_the_page_listens_at_its_addresses_only():
    page = (FOLDER / "bluesky.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^ *(bluesky-0MQ-proxy .*)$", page, re.MULTILINE)
    ours = [free_address(), free_address()]
    words = [ours.pop(0) if word.startswith("tcp://") else word for word in command.split()[1:]]
    assert ours == []
    python = program("bluesky", "python")
    with subprocess.Popen(
        [str(python), "-u", str(python.with_name("bluesky-0MQ-proxy")), *words],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as proxy:
        try:
            assert proxy.stdout is not None
            said = [proxy.stdout.readline(), proxy.stdout.readline()]
        finally:
            proxy.terminate()
    first, second = (word for word in words if word.startswith("tcp://"))
    assert said == ["Connecting...\n", f"Receiving on address {first}; publishing to address {second}.\n"], "no warning"
