"""What a display and a summary make of what the services say."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamptycho.config import ServiceEndpoints
from streamptycho.files.result import write_result
from streamptycho.messages import Message, Status
from streamptycho.reasons import ServiceState
from streamptycho.transport import Endpoint, Sender, SocketKind, new_context
from streamptycho_services import cli, demo, summary
from streamptycho_services.progress import Progress, gather
from streamptycho_services.summary import problems, summarise
from streamptycho_services.watch import Watcher
from streamptycho_sim.scan import SimulatedScan, SyntheticOptions
from tests.files.factories import snapshot
from tests.scans import start

SMALL = SyntheticOptions(scan_id="simulated", frames=4, shape=32)


def word(service: str, scan_id: str | None = "s", state: ServiceState = ServiceState.DONE, **values: Any) -> Status:
    used, dropped = values.pop("used", 0), values.pop("dropped", {})
    received = used + sum(dropped.values())
    return Status(
        service=service, scan_id=scan_id, state=state, time_ns=1, received=received, used=used, dropped=dropped, **values
    )


class Told(Watcher):
    """A watcher that is told without sockets."""

    def __init__(self, *statuses: Status) -> None:
        self.statuses, self.snapshots, self.scans, self._runs = {}, {}, [], {}
        for status in statuses:
            self._take(status)


def test_the_newest_run_of_an_id_counts():
    watcher = Told(word("write", started_ns=5), word("reconstruct", started_ns=5, used=3))
    assert watcher.written() == ["s"]
    watcher._take(word("receive", state=ServiceState.RECEIVING, started_ns=6))
    assert watcher.status("reconstruct", "s") is None
    assert watcher.written() == []
    watcher._take(word("write", started_ns=5))
    assert watcher.written() == [], "what the first run says again does not close the second"
    watcher._take(word("write", started_ns=6))
    assert watcher.written() == ["s"]
    assert watcher.scans == ["s"]


def test_pictures_of_an_earlier_run_are_left_out():
    services = ServiceEndpoints(**{name: f"inproc://{name}" for name in ServiceEndpoints.model_fields})
    address = Endpoint(address=services.display_reconstruct, socket=SocketKind.PUB, bind=True)
    with new_context() as context, Sender(context, address) as sender, Watcher(context, services) as watcher:
        assert sender.wait_for_peer(5)
        newest: Message = snapshot(1, scan_id="s", started_ns=6)
        for message in (snapshot(0, scan_id="s", started_ns=5), newest, snapshot(2, scan_id="s", started_ns=5)):
            sender.send(message)
        while watcher.poll(1):
            pass
        assert watcher.snapshots["s"].started_ns == 6


class TestProblems:
    def test_any_service_may_have_one(self):
        watcher = Told(
            word("receive"), word("reconstruct", notes={"error": "no probe"}), word("write", notes={"error": "disk full"})
        )
        assert watcher.problem("s") == "reconstruct: no probe; write: disk full"
        assert gather(watcher, "s")["problem"] == watcher.problem("s")
        report = summarise(watcher, None)
        assert (report["problem"], report["write_problem"]) == (watcher.problem("s"), "disk full")
        assert problems(report) == [watcher.problem("s")]

    def test_of_any_of_several_scans(self):
        watcher = Told(word("write", "a", notes={"error": "disk full"}), word("write", "b"))
        assert problems(summarise(watcher, None)) == ["write: disk full"]
        assert problems(summarise(Told(), None)) == []

    def test_frames_that_are_not_written_are_told(self, capsys):
        watcher = Told(word("receive", used=10), word("write", used=7, dropped={"bad_index": 3}))
        report = summarise(watcher, None)
        assert (report["written"], report["problem"]) == (7, None)
        assert report["write_problem"] == "3 of 10 frames not written (3 bad_index)"
        assert report["frames"] == {"received": 10, "used": 0, "waiting": 10, "dropped": {}}
        Progress().show(watcher)
        assert "3 of 10 frames not written" in capsys.readouterr().err

    @pytest.mark.parametrize(("said", "code"), [([], 0), (["write: disk full"], 1)])
    def test_a_demonstration_with_one_fails(self, said, code, monkeypatch, tmp_path):
        outcome = demo.Outcome(summarise(Told(), None), interrupted=False, problems=said)
        monkeypatch.setattr(demo, "run_demo", lambda *args, **more: outcome)
        monkeypatch.setattr("sys.argv", ["streamptycho", "demo", "--output", str(tmp_path)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert end.value.code == code


class TestProgress:
    def lines(self, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
        return [json.loads(line) for line in capsys.readouterr().err.splitlines()]

    def test_a_scan_that_is_finished_is_told_once(self, capsys):
        progress = Progress(as_json=True)
        watcher = Told(word("receive", state=ServiceState.RECEIVING, used=1))
        for _ in range(2):
            progress.show(watcher, force=True)
        assert len(self.lines(capsys)) == 2, "a scan that goes on is told again and again"
        watcher._take(word("write", used=1))
        for _ in range(3):
            progress.show(watcher, force=True)
        assert len(self.lines(capsys)) == 1
        watcher._take(word("reconstruct", used=1))
        for _ in range(3):
            progress.show(watcher, force=True)
        (line,) = self.lines(capsys)
        assert (line["state"], line["written"]) == ("done", 1)

    def test_the_next_scan_does_not_bring_it_back(self, capsys):
        progress = Progress(as_json=True)
        watcher = Told(word("write", "a"))
        progress.show(watcher, force=True)
        watcher._take(word("receive", "b", state=ServiceState.RECEIVING))
        progress.show(watcher, force=True)
        assert [line["scan"] for line in self.lines(capsys)] == ["a", "b"]


class TestTruth:
    @pytest.fixture
    def truth(self, tmp_path: Path) -> Path:
        SimulatedScan(SMALL).save_truth(tmp_path / "truth.npz")
        return tmp_path / "truth.npz"

    @pytest.fixture
    def watcher(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Told:
        monkeypatch.setattr(summary, "correlation_with_truth", lambda result, truth: 0.5)
        write_result(tmp_path / "r.h5", replace(snapshot(), started_ns=1), start(), config_json="{}")
        notes = {"result": str(tmp_path / "r.h5")}
        return Told(word("write", "simulated", notes=notes), word("write", "simulated-2", notes=notes))

    def test_belongs_to_one_scan(self, truth, watcher):
        report = summarise(watcher, truth)
        assert [scan["phase_correlation"] for scan in report["scans"]] == [0.5, None]
        assert report["phase_correlation"] is None

    def test_that_does_not_say_to_which_is_not_used(self, truth, watcher):
        with np.load(truth) as known:
            rest = {name: known[name] for name in known if name != "scan_id"}
        np.savez(truth, **rest)
        assert summarise(watcher, truth)["scans"][0]["phase_correlation"] is None

    def test_that_was_not_written(self, tmp_path, watcher):
        assert summarise(watcher, tmp_path / "none.npz")["phase_correlation"] is None


def test_services_are_ready_when_each_has_said_something():
    idle = [word(service, None, ServiceState.IDLE) for service in ("receive", "reconstruct", "write")]
    assert not Told().ready
    assert not Told(*idle[:2]).ready
    assert Told(*idle).ready
