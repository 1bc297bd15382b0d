"""pandablocks 0.10.4: its client reads the data port of our simulated PandA as it was meant."""

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamptycho_sim.formats.panda import Field, PandaServer, rows_of
from tests.peers.simplon import program

CLIENT = Path(__file__).with_name("pandablocks_client.py")
FIELDS = [Field("INENC1.VAL", scale=1e-3, units="mm"), Field("INENC2.VAL", "Value", scale=2e-3, offset=5.0)]


@pytest.mark.peers
@pytest.mark.parametrize("process", ["scaled", "raw"])
def test_its_client_gets_the_rows_that_our_server_was_given(process: str):
    values = np.stack([np.linspace(0, 1, 9000), 5 + np.linspace(0, 2, 9000)], 1)
    rows = rows_of(FIELDS, values)
    python = program("daq", "python")
    with PandaServer(FIELDS) as server:
        command = [str(python), str(CLIENT), str(server.port), process]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as client:
            try:
                assert client.stdout is not None
                assert json.loads(client.stdout.readline()) == {"ready": True}
                server.arm()
                server.rows(rows)
                server.end()
                out, _ = client.communicate(timeout=60)
            finally:
                client.kill()
    said: list[dict[str, Any]] = [json.loads(line) for line in out.splitlines()]
    start, *blocks, end = said
    assert start == {
        "fields": [["PCAP.SAMPLES", "Value", None], ["INENC1.VAL", "Mean", "mm"], ["INENC2.VAL", "Value", "um"]],
        "missed": 0,
    }
    assert end == {"samples": 9000, "reason": "Ok"}
    columns = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
    for i, name in enumerate(("INENC1.VAL.Mean", "INENC2.VAL.Value")):
        expected = values[:, i] if process == "scaled" else rows.raw[:, i]
        np.testing.assert_allclose(columns[name], expected, atol=1.1e-3 if process == "scaled" else 0)
