"""The exit codes of a service's process."""

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from streamptycho.config import Config, ServiceEndpoints
from streamptycho.errors import BackendError, ConfigError, GrammarError, ScanError
from streamptycho_services import local


@pytest.mark.expects_errors
@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BackendError("no such device"), 1),
        (ConfigError("no such key"), 2),
        (ScanError("disk full"), 2),
        (GrammarError("frame.index", "-1"), 2),
    ],
)
def test_an_error_of_the_tree_ends_a_service_with_its_code(error: Exception, code: int, monkeypatch: Any) -> None:
    def service(*_: object) -> None:
        raise error

    monkeypatch.setitem(local.SERVICES, "receive", service)
    monkeypatch.setattr(local.signal, "signal", lambda *_: None)
    monkeypatch.setattr(local, "configure_logging", lambda *_, **__: None)
    with pytest.raises(SystemExit) as ended:
        local._child("receive", Config(), threading.Event(), threading.Event(), False)
    assert ended.value.code == code


def test_addresses_that_others_look_for_stay():
    config = Config(services=ServiceEndpoints(documents="tcp://127.0.0.1:7001", writer="tcp://127.0.0.1:7002"))
    services = local.with_ipc(config, Path("/d")).services
    assert services.documents == "tcp://127.0.0.1:7001"
    assert services.catch_up == ServiceEndpoints().catch_up
    assert services.writer == "ipc:///d/writer"


@pytest.mark.parametrize("module", ["streamptycho.config", "streamptycho_services.local", "streamptycho.pipeline.receive"])
def test_a_process_imports_what_it_runs(module: str) -> None:
    """What computes, draws and writes takes seconds to import in each of five processes."""
    heavy = {"scipy", "numba", "h5py", "PIL", "starlette"}
    said = subprocess.run(
        [sys.executable, "-c", f"import sys, {module}; print(*sorted({heavy} & set(sys.modules)))"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert said.stdout.split() == []
