"""What a display and a summary make of what the services say."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamptycho.config import ServiceEndpoints
from streamptycho.files.outcome import Outcome
from streamptycho.files.result import write_result
from streamptycho.messages.kinds import Message
from streamptycho.messages.reasons import EndReason, ServiceState
from streamptycho.messages.status import AnyStatus
from streamptycho.sources.options import DetectorEndpoints
from streamptycho.wire.endpoint import Endpoint, SocketKind
from streamptycho.wire.sockets import Sender, new_context
from streamptycho_services import cli
from streamptycho_services.commands import demo, run, summary
from streamptycho_services.commands.progress import Progress
from streamptycho_services.commands.summary import problems, shortfalls, summarise
from streamptycho_services.processes.watch import Watcher
from streamptycho_sim.scan import SimulatedScan, SyntheticOptions
from tests.files.factories import snapshot
from tests.scans import start
from tests.statuses import status

SMALL = SyntheticOptions(scan_id="simulated", frames=4, shape=32)


def word(service: str, scan_id: str | None = "s", state: ServiceState = ServiceState.DONE, **values: Any) -> AnyStatus:
    return status(service, state, scan_id=scan_id, **values)


class Told(Watcher):
    """A watcher without sockets."""

    def __init__(self, *statuses: AnyStatus) -> None:
        self._forget()
        for said in statuses:
            self.take(said)


def test_the_newest_run_of_an_id_counts():
    watcher = Told(word("write", started_ns=5), word("reconstruct", started_ns=5, used=3))
    assert watcher.written() == ["s"]
    watcher.take(word("receive", state=ServiceState.RECEIVING, started_ns=6))
    assert watcher.known("s").lead.status is None
    assert watcher.written() == []
    watcher.take(word("write", started_ns=5))
    assert watcher.written() == [], "what the first run says again does not close the second"
    watcher.take(word("write", started_ns=6))
    assert watcher.written() == ["s"]
    assert watcher.scans == ["s"]


def test_an_earlier_run_of_a_name_counts_in_the_summary():
    """The second scan of a name is complete, the first lacked a frame."""
    first = over(9, missing=1, started_ns=5), word("write", started_ns=5, used=9)
    second = over(10, started_ns=6), word("write", started_ns=6, used=10)
    made = summarise(Told(*first, *second), None)
    assert [scan["missing"] for scan in made["scans"]] == [1, 0]
    assert shortfalls(made)


def test_pictures_of_an_earlier_run_are_left_out():
    services = ServiceEndpoints(**{name: f"inproc://{name}" for name in ServiceEndpoints.addresses()})
    address = Endpoint(address=services.display_reconstruct, socket=SocketKind.PUB, bind=True)
    with new_context() as context, Sender(context, address) as sender, Watcher(context, services) as watcher:
        assert sender.wait_for_peer(5)
        newest: Message = snapshot(1, scan_id="s", started_ns=6)
        for message in (snapshot(0, scan_id="s", started_ns=5), newest, snapshot(2, scan_id="s", started_ns=5)):
            sender.send(message)
        while watcher.poll(1):
            pass
        assert watcher.known("s").snapshot.started_ns == 6


def over(unique: int, missing: int = 0, missing_positions: int = 0, scan_id: str = "s", **values: Any) -> AnyStatus:
    """The receiver's last word."""
    counts = {"used": unique, "unique": unique, "positions": unique}
    return word("receive", scan_id, missing=missing, missing_positions=missing_positions, **counts, **values)


def closed(written: int, end: EndReason = EndReason.COMPLETE, scan_id: str = "s", **values: Any) -> AnyStatus:
    return word("write", scan_id, used=written, positions=written, end=end, **values)


def exit_code(command: str, summary: dict[str, Any], monkeypatch: pytest.MonkeyPatch, folder: Path) -> object:
    """What the command ends with that has this summary."""
    monkeypatch.setattr(demo, "run_demo", lambda *args, **more: demo.Outcome(summary, interrupted=False))
    monkeypatch.setattr(run, "run_all", lambda *args, **more: summary)
    monkeypatch.setattr("sys.argv", ["streamptycho", command, "--json", "--output", str(folder)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code


class TestProblems:
    def test_any_service_may_have_one(self):
        watcher = Told(word("receive"), word("reconstruct", failure="no probe"), word("write", failure="disk full"))
        assert watcher.known("s").problem == "reconstruct: no probe; write: disk full"
        assert watcher.known("s").facts().problem == watcher.known("s").problem
        report = summarise(watcher, None)
        assert (report["problem"], report["write_problem"]) == (watcher.known("s").problem, "disk full")
        assert problems(report) == [watcher.known("s").problem]

    def test_of_any_of_several_scans(self):
        watcher = Told(word("write", "a", failure="disk full"), word("write", "b"))
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

    @pytest.mark.parametrize(
        ("watcher", "failures", "code"),
        [
            (Told(), [], 0),
            (Told(), ["write died"], 1),
            (Told(over(3), closed(3), word("reconstruct", failure="no probe")), [], 1),
            (Told(over(3, 1), closed(3, EndReason.INCOMPLETE), word("reconstruct", failure="no probe")), [], 4),
        ],
    )
    @pytest.mark.parametrize("command", ["demo", "run"])
    def test_a_command_with_one_fails(self, watcher, failures, code, command, monkeypatch, tmp_path, capsys):
        assert exit_code(command, summarise(watcher, None, failures), monkeypatch, tmp_path) == code
        shown = capsys.readouterr().err
        assert all(text in shown for text in [*failures, *(["no probe"] if watcher.known("s") else [])])


class TestShortfalls:
    """What a summary says is missing, and the exit code that follows."""

    def test_none(self):
        report = summarise(Told(over(10), closed(10)), None)
        assert (report["scan"], report["complete"], report["missing"], report["missing_positions"]) == ("s", True, 0, 0)
        assert shortfalls(report) == []
        assert shortfalls(summarise(Told(), None)) == [], "nothing was sent"

    def test_are_counted_over_all_services(self):
        watcher = Told(over(10, missing=5, missing_positions=2), closed(8, EndReason.INCOMPLETE))
        report = summarise(watcher, None)
        assert (report["complete"], report["missing"], report["missing_positions"]) == (False, 7, 4)
        assert shortfalls(report) == ["scan s is not complete (incomplete): 7 frames and 4 positions missing"]

    def test_of_any_of_several_scans(self):
        watcher = Told(
            over(3, 1, scan_id="a"), closed(3, EndReason.INCOMPLETE, "a"), over(3, scan_id="b"), closed(3, scan_id="b")
        )
        assert shortfalls(summarise(watcher, None)) == ["scan a is not complete (incomplete): 1 frame missing"]

    @pytest.mark.parametrize("end", [EndReason.ABORTED, EndReason.INTERRUPTED])
    def test_stopping_on_purpose_is_none(self, end):
        report = summarise(Told(over(3), closed(3, end)), None)
        assert (report["complete"], shortfalls(report)) == (False, [])
        assert shortfalls(summarise(Told(over(3, 1), closed(3, end)), None)) != []

    def test_what_nobody_knows_is_one(self):
        said = shortfalls(summarise(Told(over(3), closed(3, EndReason.TIMEOUT)), None))
        assert said == ["scan s is not complete (timeout): not known what is missing"]

    def test_a_scan_without_a_closed_file_is_one(self):
        report = summarise(Told(over(3)), None)
        assert (report["complete"], report["cxi"]) == (None, None)
        assert shortfalls(report) == ["scan s is not complete (no end): its file was not closed"]

    @pytest.mark.parametrize("command", ["demo", "run"])
    @pytest.mark.parametrize(("missing", "code"), [(0, 0), (2, 4)])
    def test_exit_code(self, missing, code, command, monkeypatch, tmp_path, capsys):
        end = EndReason.INCOMPLETE if missing else EndReason.COMPLETE
        found = summarise(Told(over(3, missing), closed(3, end)), None)
        assert exit_code(command, found, monkeypatch, tmp_path) == code
        shown = capsys.readouterr()
        assert json.loads(shown.out)["missing"] == missing
        assert ("2 frames missing" in shown.err) == bool(missing)

    def test_a_scan_of_which_no_frame_has_a_position_is_one_however_it_ended(self):
        lost = {"dropped": {"no_position": 5}, "unique": 5, "missing": 0, "missing_positions": 0}
        watcher = Told(word("receive", **lost), word("write", used=5, end=EndReason.INTERRUPTED))
        (line,) = shortfalls(summarise(watcher, None))
        assert "scan s: none of its 5 frames has found a position" in line

    def test_what_is_of_no_scan_is_one(self):
        watcher = Told(over(3, rejected={"no_start": 7, "stray": 2, "undecodable": 1}), closed(3))
        report = summarise(watcher, None)
        assert report["refused"] == {"no_start": 7, "stray": 2, "undecodable": 1}
        assert shortfalls(report) == ["7 messages are in no file (no_start): no start message came before them"]

    def test_whatever_was_refused_is_one_if_nothing_was_recorded(self):
        idle = word("receive", None, rejected={"undecodable": 9, "repeated_start": 1, "stranger": 1})
        report = summarise(Told(idle), None)
        (line,) = shortfalls(report)
        assert "9 messages are in no file (undecodable)" in line
        assert "streamptycho check" in line

    def test_why_it_was_refused_stands_last(self):
        why = "what comes from detector.frames is refused: message: JSON, as in Stream V1; set format = 'dectris-v1'"
        counts = {"undecodable": 9, "unpaired": 2}
        watcher = Told(over(3), closed(3), word("receive", None, rejected=counts, remarks=(why,)))
        report = summarise(watcher, None)
        assert report["refusals"] == [why]
        assert shortfalls(report)[1:] == [why]
        del report["refused"]["unpaired"]
        assert shortfalls(report) == [why], "it may have been frames"
        report["refused"] = {"began_before": 3}
        assert shortfalls(report) == [], "nothing of a run that was seen to begin"
        for i in range(9):
            watcher.take(word("receive", None, remarks=(f"{i}", why)))
        assert list(watcher.refusals) == ["6", "7", "8", why], "the newest"

    def test_what_was_refused_is_counted_over_the_starts_of_the_receiver(self):
        counts = [(0, 2), (0, 5), (0, 3), (1, 1), (1, 4)]  # last words are repeated with older counts
        words = [over(3, rejected={"no_start": n}, restarts=start) for start, n in counts]
        assert summarise(Told(*words, closed(3)), None)["refused"] == {"no_start": 9}

    def test_remarks_of_no_scan_are_kept_once_each(self):
        told = [(), ("frames: a",), ("frames: a", "frames: b"), ()]
        words = [word("receive", None, stream_remarks=remarks) for remarks in told]
        assert summarise(Told(*words), None)["stream_remarks"] == ["frames: a", "frames: b"]

    def test_the_terminal_says_so(self, capsys):
        Progress().show(Told(over(10, 5, announced=15), closed(10, EndReason.INCOMPLETE), word("reconstruct", used=10)))
        line = capsys.readouterr().err
        assert "s: done, incomplete" in line
        assert "10/15 received" in line
        assert "5 frames missing" in line


class TestProgress:
    def lines(self, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
        return [json.loads(line) for line in capsys.readouterr().err.splitlines()]

    def test_a_scan_that_is_finished_is_told_once(self, capsys):
        progress = Progress(as_json=True)
        watcher = Told(word("receive", state=ServiceState.RECEIVING, used=1))
        for _ in range(2):
            progress.show(watcher, force=True)
        assert len(self.lines(capsys)) == 2, "a scan that goes on is told again and again"
        watcher.take(word("write", used=1))
        for _ in range(3):
            progress.show(watcher, force=True)
        assert len(self.lines(capsys)) == 1
        watcher.take(word("reconstruct", used=1))
        for _ in range(3):
            progress.show(watcher, force=True)
        (line,) = self.lines(capsys)
        assert (line["state"], line["written"]) == ("done", 1)

    def test_the_next_scan_does_not_bring_it_back(self, capsys):
        progress = Progress(as_json=True)
        watcher = Told(word("write", "a"))
        progress.show(watcher, force=True)
        watcher.take(word("receive", "b", state=ServiceState.RECEIVING))
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
        result = str(tmp_path / "r.h5")
        write_result(tmp_path / "r.h5", Outcome(start=start(), snapshot=snapshot(scan_id="s", started_ns=1)))
        return Told(word("write", "simulated", result=result), word("write", "simulated-2", result=result))

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


def test_streams_that_have_said_nothing_are_told_of_until_there_is_a_scan():
    quiet = word("receive", None, silence_s={"positions": 0.1})
    (line,) = run.unheard(Told(quiet), DetectorEndpoints())
    assert line.startswith("nothing has come yet from frames at tcp://127.0.0.1:5555")
    standing = "no connection to tcp://127.0.0.1:5555: nothing listens there"
    known = word("receive", None, silence_s={"positions": 0.1}, connections={"frames": standing})
    assert run.unheard(Told(known), DetectorEndpoints()) == [f"nothing has come yet from frames: {standing}\n"]
    assert run.unheard(Told(word("receive", None, silence_s={"positions": 0.1, "frames": 9.0})), DetectorEndpoints()) == []
    assert run.unheard(Told(quiet, over(3)), DetectorEndpoints()) == []
    assert run.unheard(Told(), DetectorEndpoints()) == []
