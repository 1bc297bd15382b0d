"""The whole chain: a detector, the services, files. In threads where that is enough, in processes where they matter."""

import dataclasses
import json
import os
import signal
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from streamptycho.config import Config
from streamptycho.display.ledger import Ledger
from streamptycho.files.result import read_result
from streamptycho.files.scan import open_scan
from streamptycho.messages.payload import Encoding
from streamptycho.messages.reasons import Stream
from streamptycho.messages.status import WriteStatus
from streamptycho.messages.stream import Positions
from streamptycho.wire.codec import MAX_PARTS
from streamptycho.wire.endpoint import Endpoint, SocketKind
from streamptycho.wire.outlink import OutLink
from streamptycho.wire.sockets import Sender, new_context
from streamptycho_services.commands.summary import correlation_with_truth
from streamptycho_services.processes.folder import INNER
from streamptycho_services.processes.interrupt import AGAIN_S
from streamptycho_services.processes.services import SERVICES
from streamptycho_services.processes.watch import Watcher
from streamptycho_sim.faults import Corruption, EndLoss, FaultOptions, inject
from streamptycho_sim.forward import DetectorOptions
from streamptycho_sim.publisher import PublishOptions, publish
from streamptycho_sim.scan import SimulatedScan, SyntheticOptions
from streamptycho_sim.stream import Item, encode
from streamptycho_sim.tally import Tally
from tests import chain
from tests.chain import PROGRAM, SIMULATOR, Command, assert_adds_up, assert_frames, assert_positions, facts, wait_until
from tests.fuzz.raw import RAW, throw
from tests.hostile import CORPUS, CORRUPT_PIXELS, GOOD

SCAN = SyntheticOptions(scan_id="scan", frames=300, shape=64)
TINY = SyntheticOptions(scan_id="tiny", frames=60, shape=32)
QUICK = {"engine__polish_passes": 2}
BRIEF = ("--set", "engine.polish_passes=12", "--set", "match.settle_s=0.7")
FAULTS = FaultOptions(
    drop_frames=0.05, drop_positions=0.05, duplicate_frames=0.02, duplicate_positions=0.02, shuffle=200, delay_positions=100
)


def pixels(scan: SimulatedScan, indices: set[int] | None = None) -> dict[int, np.ndarray]:
    """What the simulated detector sees."""
    return {i: frame for i, frame in enumerate(scan.counts()) if indices is None or i in indices}


def send(context: Any, settings: Config, scan: SimulatedScan, faults: FaultOptions, **options: Any) -> Tally:
    tally = Tally()
    made = PublishOptions(**({"rate_hz": 300.0, "peer_timeout_s": 20} | options))
    items = inject(encode(scan.items(), made.encoding), faults, tally)
    return publish(items, *chain.outlets(settings.detector), made, context=context, tally=tally)


def run_in_threads(
    settings: Config, scan: SimulatedScan, faults: FaultOptions, **options: Any
) -> tuple[Tally, Ledger, WriteStatus]:
    """Send one scan through services in threads; what was sent, the final count and the writer's last words."""
    name = scan.options.scan_id
    with (
        new_context() as context,
        Watcher(context, settings.services) as watcher,
        chain.in_threads(settings, context) as check,
    ):
        tally = send(context, settings, scan, faults, **options)
        chain.wait_written(watcher, name, check=check)
        status = watcher.known(name).write
        assert isinstance(status, WriteStatus)
        return tally, watcher.known(name).ledger, status


def inproc(directory: Path, **overrides: Any) -> Config:
    """Everything within one context."""
    made = chain.config(directory, chain.detector_at("inproc://frames", "inproc://positions"), **overrides)
    names = made.services.addresses()
    services = made.services.model_copy(update={name: f"inproc://{name}" for name in names})
    return made.model_copy(update={"services": services})


class TestInThreads:
    def test_a_scan_becomes_a_file_and_a_picture(self, tmp_path: Path) -> None:
        scan = SimulatedScan(SCAN)
        tally, ledger, written = run_in_threads(inproc(tmp_path), scan, FaultOptions())

        assert tally.of("scan").as_dict()["matched"] == 300
        assert ledger == Ledger(received=300, used=300, waiting=0, dropped={})
        path = Path(written.file)
        assert_frames(path, pixels(scan))
        assert_positions(path, scan.yx_m, set(range(300)))

        found = facts(path)
        assert (found["complete"], found["end_reason"]) == (1, "complete")
        assert (found["missing"], found["missing_positions"]) == (0, 0)
        assert (found["n_frames"], found["received"], found["used"], found["waiting"], found["dropped"]) == (
            300,
            300,
            300,
            0,
            {},
        )
        assert found["config"]["write"]["directory"] == str(tmp_path)
        assert len(found["frames_used"]) >= 3
        assert found["frames_used"][0] < 300 == found["frames_used"][-1]
        assert (np.diff(found["sequence"]) > 0).all()
        assert (found["shape"][-1] > found["shape"][0]).any(), "the picture did not grow"

        scan.save_truth(tmp_path / "truth.npz")
        result = read_result(Path(written.result))
        assert found["picture_shape"] == result.object.shape == tuple(found["shape"][-1])
        correlation = correlation_with_truth(result, tmp_path / "truth.npz")
        assert correlation is not None
        assert correlation >= 0.95
        assert Path(written.picture).read_bytes().startswith(b"\x89PNG")

    def test_positions_that_come_in_the_headers_of_frames_are_in_the_file(self, tmp_path: Path) -> None:
        scan = SimulatedScan(TINY)
        options = {"positions_with_frames": True, "frames_per_message": 3}
        tally, ledger, written = run_in_threads(inproc(tmp_path, **QUICK), scan, FaultOptions(), **options)
        sent = tally.of(TINY.scan_id)
        assert (len(sent.positions), ledger.used) == (len(sent.frames), len(sent.frames))
        assert_frames(Path(written.file), pixels(scan))
        assert_positions(Path(written.file), scan.yx_m, sent.frames)
        assert facts(Path(written.file))["end_reason"] == "complete"

    @pytest.mark.parametrize(
        ("corruption", "encoding"),
        [(Corruption.TRUNCATE, Encoding.RAW), (Corruption.TRUNCATE, Encoding.BSLZ4), (Corruption.SIZE, Encoding.BSLZ4)],
    )
    def test_spoilt_frames_are_counted_and_left_out(
        self, tmp_path: Path, corruption: Corruption, encoding: Encoding
    ) -> None:
        scan = SimulatedScan(TINY)
        faults = FaultOptions(corrupt_frames=0.2, corruption=corruption, garbage=0.2)
        tally, ledger, written = run_in_threads(
            inproc(tmp_path, match__settle_s=0.5, **QUICK), scan, faults, encoding=encoding
        )
        sent = tally.of("tiny")
        assert sent.corrupted
        assert tally.garbage
        assert ledger.dropped == {"corrupt": len(sent.corrupted)}
        assert (ledger.received, ledger.used, ledger.waiting) == (60, 60 - len(sent.corrupted), 0)
        assert_frames(Path(written.file), pixels(scan, sent.frames))
        found = facts(Path(written.file))
        assert (found["complete"], found["end_reason"], found["missing"]) == (0, "incomplete", len(sent.corrupted))

    @pytest.mark.parametrize(
        ("kind", "receiver_binds"),
        [(SocketKind.SUB, False), (SocketKind.SUB, True), (SocketKind.PULL, True)],
        ids=["pub-sub", "pub-sub, receiver binds", "push-pull, receiver binds"],
    )
    def test_other_sockets(self, tmp_path: Path, kind: SocketKind, receiver_binds: bool) -> None:
        scan = SimulatedScan(TINY)
        settings = chain.config(tmp_path, chain.detector_at(kind=kind, bind=receiver_binds), **QUICK)
        _, ledger, written = run_in_threads(settings, scan, FaultOptions(), frames_per_message=3)
        assert ledger == Ledger(received=60, used=60, waiting=0, dropped={})
        assert_frames(Path(written.file), pixels(scan))

    @pytest.mark.parametrize("loss", [EndLoss.BOTH, EndLoss.FRAMES])
    def test_a_scan_without_end_is_closed_in_time(self, tmp_path: Path, loss: EndLoss) -> None:
        scan = SimulatedScan(TINY)
        settings = inproc(tmp_path, match__timeout_s=0.8, **QUICK)
        _, ledger, written = run_in_threads(settings, scan, FaultOptions(missing_end=loss))
        found = facts(Path(written.file))
        assert (found["complete"], found["end_reason"], found["missing"]) == (0, "timeout", 0)
        assert ledger == Ledger(received=60, used=60, waiting=0, dropped={})
        assert_frames(Path(written.file), pixels(scan))
        assert read_result(Path(written.result)).object.shape == found["picture_shape"]

    def test_frames_let_go_before_their_positions_come_are_taken_from_the_file(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        scan = SimulatedScan(SCAN)
        settings = inproc(tmp_path, match__max_waiting_bytes=100_000, **QUICK)
        tally, ledger, written = run_in_threads(settings, scan, FaultOptions(delay_positions=10 * SCAN.frames))
        assert "frames are dropped as no_position" in caplog.text
        assert ledger == Ledger(received=300, used=300, waiting=0, dropped={})
        assert len(tally.of("scan").positions) == 300
        found = facts(Path(written.file))
        assert (found["complete"], found["used"], found["dropped"], found["frames_used"][-1]) == (1, 300, {}, 300)
        assert_positions(Path(written.file), scan.yx_m, set(range(300)))

    def test_an_end_of_positions_that_is_lost_costs_only_a_moment(self, tmp_path: Path) -> None:
        scan = SimulatedScan(TINY)
        settings = inproc(tmp_path, match__settle_s=0.3, **QUICK)
        _, _, written = run_in_threads(settings, scan, FaultOptions(missing_end=EndLoss.POSITIONS))
        assert facts(Path(written.file))["complete"] == 1

    def test_dark_exposures_reach_the_file_and_are_not_counted(self, tmp_path: Path) -> None:
        detector = DetectorOptions(dark_counts=3.0, dark_frames=4)
        scan = SimulatedScan(TINY.model_copy(update={"detector": detector}))
        _, ledger, written = run_in_threads(inproc(tmp_path, **QUICK), scan, FaultOptions())
        assert ledger == Ledger(received=60, used=60, waiting=0, dropped={})
        with open_scan(Path(written.file)) as again:
            expected = np.mean([scan.detector.dark(i) for i in range(4)], axis=0)
            np.testing.assert_allclose(again.dark, expected, rtol=1e-6)


class TestFaults:
    def test_every_frame_is_accounted_for(self, tmp_path: Path) -> None:
        scan = SimulatedScan(SCAN)
        tally, ledger, written = run_in_threads(inproc(tmp_path), scan, FAULTS)
        sent = tally.of("scan")
        assert sent.dropped_frames
        assert sent.dropped_positions
        assert sent.duplicate_frames
        self.check(ledger.as_dict(), Path(written.file), sent.as_dict())
        assert_frames(Path(written.file), pixels(scan, sent.frames))
        assert_positions(Path(written.file), scan.yx_m, sent.positions)

    @pytest.mark.slow
    def test_in_processes_against_the_simulators_own_tally(self, tmp_path: Path) -> None:
        faults = FAULTS.model_copy(update={"corrupt_frames": 0.02, "garbage": 0.05})
        flags: list[object] = ["--frames", 300, "--shape", 64, "--scan-id", "scan"]
        for name in faults.model_fields_set:
            flags += [f"--{name.replace('_', '-')}", getattr(faults, name)]
        tally_file = tmp_path / "tally.json"
        demo = Command(PROGRAM, "demo", "--json", "--rate", 200, "-o", tmp_path, *BRIEF, "--", *flags, "--tally", tally_file)
        with demo:
            assert demo.wait() == 4, demo.err
            report = demo.report()
            assert f"{report['missing']} frames and {report['missing_positions']} positions missing" in demo.err
        tally = json.loads(tally_file.read_text())
        self.check(report["frames"], Path(report["cxi"]), tally["scans"]["scan"])
        scan = SimulatedScan(SCAN)
        sent = chain.sent(scan, faults)
        assert len(sent.frames) == tally["scans"]["scan"]["frames"]
        assert_frames(Path(report["cxi"]), pixels(scan, sent.frames))
        assert report["phase_correlation"] >= 0.9

    @staticmethod
    def check(ledger: dict[str, Any], path: Path, sent: dict[str, int]) -> None:
        assert_adds_up(ledger)
        dropped = {
            "duplicate": sent["duplicate_frames"],
            "no_position": sent["frames"] - sent["matched"],
            "corrupt": sent["corrupted_frames"],
        }
        dropped = {reason: n for reason, n in dropped.items() if n}
        received = sent["frames"] + sent["duplicate_frames"] + sent["corrupted_frames"]
        assert ledger == {"received": received, "used": sent["matched"], "waiting": 0, "dropped": dropped}
        found = facts(path)
        assert {key: found[key] for key in ledger} == ledger
        lost = sent["dropped_frames"] + sent["corrupted_frames"]
        assert (found["n_frames"], found["missing"]) == (sent["frames"], lost)
        assert found["missing_positions"] == sent["dropped_positions"]
        assert (found["complete"], found["end_reason"]) == (0, "incomplete")


class TestScanAfterScan:
    @pytest.mark.slow
    def test_overlapping_scans_and_then_another_shape(self, tmp_path: Path) -> None:
        """Three files from services that are started once; the second scan begins before the first has ended."""
        settings = chain.config(tmp_path, **QUICK)
        at = ["--frames-address", settings.detector.frames.address]
        at += ["--positions-address", settings.detector.positions.address]
        flags = [*at, "--frames", 120, "--shape", 64, "--rate-hz", 200, "--scan-id", "scan", "--second-after", 40]
        other = [*at, "--frames", 60, "--shape", 48, "--rate-hz", 200, "--scan-id", "other", "--encoding", "bslz4"]
        with (
            new_context() as context,
            Watcher(context, settings.services) as watcher,
            chain.in_processes(settings),
        ):
            for arguments, names in ((flags, ["scan", "scan-2"]), (other, ["other"])):
                with Command(SIMULATOR, "synthetic", *arguments) as simulator:
                    chain.wait_written(watcher, *names)
                    assert simulator.wait() == 0, simulator.err
            written = {name: watcher.known(name).write for name in ("scan", "scan-2", "other")}
            ledgers = {name: watcher.known(name).ledger for name in written}
        options = SCAN.model_copy(update={"frames": 120})
        scans = {
            "scan": SimulatedScan(options),
            "scan-2": SimulatedScan(options.model_copy(update={"seed": 1})),
            "other": SimulatedScan(SyntheticOptions(scan_id="other", frames=60, shape=48)),
        }
        for name, scan in scans.items():
            assert ledgers[name] == Ledger(received=len(scan), used=len(scan), waiting=0, dropped={}), name
            path = Path(written[name].file)
            assert_frames(path, pixels(scan))
            assert_positions(path, scan.yx_m, set(range(len(scan))))
            assert (facts(path)["complete"], facts(path)["end_reason"]) == (1, "complete"), name
            assert read_result(Path(written[name].result)).probe.shape[-1] == scan.options.shape
        stamps = {name: facts(Path(written[name].file))["timestamp_ns"] for name in ("scan", "scan-2")}
        assert stamps["scan-2"][0] < stamps["scan"][-1], "the scans did not overlap"

    def test_a_scan_of_the_same_name_overwrites_nothing(self, tmp_path: Path) -> None:
        settings = inproc(tmp_path, **QUICK)
        first = SimulatedScan(TINY)
        second = SimulatedScan(TINY.model_copy(update={"seed": 5}))
        _, _, written = run_in_threads(settings, first, FaultOptions())
        _, _, again = run_in_threads(settings, second, FaultOptions())
        assert written.file != again.file
        assert_frames(Path(written.file), pixels(first))
        assert_frames(Path(again.file), pixels(second))


class TestDemo:
    """``streamptycho demo``: publisher and services as separate processes."""

    def test_contract(self, tmp_path: Path) -> None:
        flags = ["--frames", 300, "--shape", 64, "--scan-id", "scan"]
        with Command(PROGRAM, "demo", "--json", "--rate", 150, "--output", tmp_path, *BRIEF, "--", *flags) as demo:
            assert demo.wait() == 0, demo.err
            report, progress = demo.report(), demo.progress()
        assert {"cxi", "result", "picture", "frames", "phase_correlation", "written", "write_problem", "problem"} | {
            "verdict",
            "findings",
            "trusted",
            "figures",
            "judged",
            "scan",
            "end",
            "complete",
            "missing",
            "missing_positions",
            "remarks",
            "stream_remarks",
            "restarts",
            "refused",
            "refusals",
            "failures",
        } == set(report)
        assert (report["complete"], report["end"], report["missing"], report["missing_positions"]) == (
            True,
            "complete",
            0,
            0,
        )
        assert report["trusted"]
        assert report["verdict"].startswith("Finished: 300 of 300 frames")
        assert (report["written"], report["write_problem"], report["problem"]) == (300, None, None)
        assert report["frames"] == {"received": 300, "used": 300, "waiting": 0, "dropped": {}}
        assert (report["refused"], report["failures"]) == ({}, [])
        assert report["phase_correlation"] >= 0.95
        assert_frames(Path(report["cxi"]), pixels(SimulatedScan(SCAN)))
        result = read_result(Path(report["result"]))
        assert result.object.shape == facts(Path(report["cxi"]))["picture_shape"]
        assert Path(report["picture"]).read_bytes().startswith(b"\x89PNG")
        assert len({report["cxi"], report["result"], report["picture"]}) == 3
        assert (tmp_path / "truth.npz").is_file()
        for line in progress:
            assert line["scan"] == "scan"
            assert_adds_up(line)
        assert progress[-1]["state"] == "done"

    @pytest.mark.slow
    def test_replay_for_people(self, tmp_path: Path) -> None:
        """A recorded scan, plain text, no page; what it wrote can be replayed as well."""
        scan = SimulatedScan(TINY)
        _, _, written = run_in_threads(inproc(tmp_path / "first", **QUICK), scan, FaultOptions())
        arguments = ["--replay", written.file, "--rate", 0, "--no-page", "--output", tmp_path / "second"]
        with Command(PROGRAM, "demo", *arguments, "--set", "engine.polish_passes=2") as demo:
            assert demo.wait() == 0, demo.err
            lines, err = demo.out.splitlines(), demo.err
        assert f"cxi: {tmp_path / 'second' / 'tiny.cxi'}" in lines
        assert "phase_correlation: None" in lines
        assert "tiny: " in err
        assert "Traceback" not in err
        assert "live page" not in err
        assert_frames(tmp_path / "second" / "tiny.cxi", pixels(scan))

    @pytest.mark.slow
    def test_simulator_that_refuses(self, tmp_path: Path) -> None:
        (tmp_path / "bad.cxi").write_bytes(b"not HDF5")
        with Command(PROGRAM, "demo", "--replay", tmp_path / "bad.cxi", "--output", tmp_path) as demo:
            assert demo.wait() == 1
            assert "simulator ended with exit code 2" in demo.err
            assert "bad.cxi" in demo.err
            assert "Traceback" not in demo.err


def snapshots_so_far(path: Path) -> int:
    """Snapshots that a reader of the growing file finds."""
    if not path.with_suffix(".png").exists():
        return 0  # the picture is there once the file can be read
    with h5py.File(path, "r", swmr=True) as file:
        return int(file[f"{chain.LIVE}/counters/snapshots"][()])


class TestInterrupted:
    FLAGS = ("--json", "--rate", 100, "--", "--frames", 5000, "--shape", 64, "--scan-id", "scan")

    @pytest.fixture
    def running(self, tmp_path: Path) -> Any:
        """A demonstration of a long scan, in the midst of it."""
        with Command(PROGRAM, "demo", "--output", tmp_path, *self.FLAGS) as demo:
            path = tmp_path / "scan.cxi"
            demo.wait_while_running(lambda: snapshots_so_far(path) >= 3, "three snapshots")
            yield demo, path

    @staticmethod
    def check_frames(path: Path) -> int:
        with open_scan(path) as scan:
            indices = scan.index.tolist()
            assert indices == list(range(len(indices)))
            simulated = SimulatedScan(SCAN.model_copy(update={"frames": 5000}))
            for index in indices:
                np.testing.assert_array_equal(scan.frame(index), simulated.frame(index))
        return len(indices)

    @pytest.mark.slow
    @pytest.mark.parametrize("whom", ["process group", "process"])
    def test_once_closes_the_files(self, running: Any, whom: str) -> None:
        """Ctrl-C goes to the whole group; a supervisor signals only the process it knows."""
        demo, path = running
        if whom == "process":
            os.kill(demo.process.pid, signal.SIGTERM)
        else:
            os.killpg(demo.process.pid, signal.SIGINT)
        assert demo.wait() == 130, demo.err
        assert "Traceback" not in demo.err
        report = demo.report()
        assert report["cxi"] == str(path)
        assert_adds_up(report["frames"])
        found = facts(path)
        assert found["complete"] == 0
        assert found["end_reason"] in ("interrupted", "aborted")
        assert found["n_frames"] == self.check_frames(path) >= 20
        assert found["received"] == found["n_frames"] == report["frames"]["received"]
        result = read_result(Path(report["result"]))
        assert result.object.shape == found["picture_shape"]
        assert report["phase_correlation"] is not None
        assert Path(report["picture"]).is_file()

    def test_twice_stops_at_once(self, running: Any) -> None:
        demo, path = running
        os.kill(demo.services()["reconstruct"], signal.SIGSTOP)  # it must not come to its end between the two
        os.killpg(demo.process.pid, signal.SIGINT)
        demo.wait_while_running(lambda: "finishing; again to stop at once" in demo.err, "the answer")
        time.sleep(AGAIN_S)  # sooner it would be the same signal, sent to process and group
        os.killpg(demo.process.pid, signal.SIGINT)
        assert demo.wait() == 130, demo.err
        assert "Traceback" not in demo.err
        assert "does not come to its end" not in demo.err
        assert self.check_frames(path) >= 20

    @pytest.mark.slow
    def test_at_the_very_start(self, tmp_path: Path) -> None:
        with Command(PROGRAM, "demo", "--output", tmp_path / "out", *self.FLAGS) as demo:
            wait_until(lambda: len(demo.services()) == 1 + len(SERVICES), "the page and the services to be started")
            os.killpg(demo.process.pid, signal.SIGINT)
            assert demo.wait() == 130, demo.err
            assert "Traceback" not in demo.err

    @pytest.mark.slow
    @pytest.mark.parametrize("name", SERVICES)
    def test_a_service_that_is_killed(self, running: Any, name: str) -> None:
        demo, path = running
        held = open_scan(path)
        before = len(held)
        held.close()
        killed = demo.services()[name]
        os.kill(killed, signal.SIGKILL)
        demo.wait_while_running(lambda: demo.services().get(name, killed) != killed, "its successor")
        demo.process.send_signal(signal.SIGINT)
        assert demo.wait() == 130, demo.err
        assert f"{name} was ended by SIGKILL (exit code -9); it is started again in 0.1 s" in demo.err
        assert "Traceback" not in demo.err
        assert self.check_frames(path) >= max(before, 20)

    @pytest.mark.slow
    def test_a_live_page_that_is_killed_costs_nothing_else(self, tmp_path: Path) -> None:
        flags = ["--frames", 300, "--shape", 64, "--scan-id", "scan"]
        with Command(PROGRAM, "demo", "--json", "--rate", 150, "--output", tmp_path, *BRIEF, "--", *flags) as demo:
            path = tmp_path / "scan.cxi"
            demo.wait_while_running(lambda: snapshots_so_far(path) >= 1, "a snapshot")
            os.kill(demo.services()["page"], signal.SIGKILL)
            assert demo.wait() == 0, demo.err
            assert "page was ended by SIGKILL (exit code -9); it is started again" in demo.err
            report = demo.report()
            assert (report["written"], report["restarts"]["page"]) == (300, 1)


def toml(settings: Config) -> str:
    """The configuration as a user would write it."""
    lines = []
    for name, end in settings.detector.by_role.items():
        bind = "true" if end.bind else "false"
        lines += [f"[detector.{name}]", f'address = "{end.address}"', f'socket = "{end.socket}"', f"bind = {bind}"]
    lines += ["[services]", *(f'{name} = "{getattr(settings.services, name)}"' for name in settings.services.addresses())]
    lines += ["[engine]", "polish_passes = 2", "[match]", "settle_s = 0.5"]
    return "\n".join(lines)


def flood(address: str, kind: SocketKind, *, bind: bool) -> int:
    """Send the whole corpus and wait until it is gone; the number of messages."""
    bad = [parts for _, parts in CORPUS + CORRUPT_PIXELS if parts]
    with new_context() as context:
        endpoint = Endpoint(address=address, socket=kind, bind=bind, queue=10 * len(bad))
        with Sender(context, endpoint, linger_s=chain.LONG_S) as sender:
            assert sender.wait_for_peer(chain.LONG_S)
            for parts in bad:
                assert sender.send_parts(parts, wait_s=chain.LONG_S)
    return len(bad)


def flood_link(address: str, service: str) -> int:
    """The same in the place of a sender that the service connects to."""
    bad = [parts for _, parts in CORPUS + CORRUPT_PIXELS if parts and len(parts) <= MAX_PARTS]
    with new_context() as context, OutLink(context, address, service, max_bytes=1 << 30) as link:
        for parts in bad:
            link._window.put((parts, None), sum(map(len, parts)))
        assert link.wait_for_peer(chain.LONG_S)
        assert link.drain(chain.LONG_S) == 0
    return len(bad)


def memory_bytes(process: int) -> int:
    """Most memory that a process has ever had."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


class TestHostile:
    @pytest.mark.slow
    def test_garbage_on_every_port(self, tmp_path: Path) -> None:
        """One service after the other is started and pelted, as if on several hosts; then comes a good scan."""
        settings = chain.config(tmp_path / "data", chain.detector_at(bind=True))
        services = settings.services
        file = tmp_path / "config.toml"
        file.write_text(toml(settings))
        with ExitStack() as stack:
            context = stack.enter_context(new_context())
            watcher = stack.enter_context(Watcher(context, services))

            def start(name: str, *more: object) -> Command:
                return stack.enter_context(Command(PROGRAM, name, "-c", file, "--json", *more))

            def counted(service: str, expected: int, *reasons: str) -> None:
                def count() -> float:
                    watcher.poll(0.05)
                    status = watcher.idle.get(service)
                    return sum(status.rejected.get(reason, 0) for reason in reasons or status.rejected) if status else 0

                wait_until(lambda: count() >= expected, f"{service} to count {expected}")
                assert count() == expected

            commands = {"write": start("write", "--output", tmp_path / "data")}
            count = flood_link(services.writer, "write") + flood_link(services.results, "write")
            counted("write", count)

            commands["reconstruct"] = start("reconstruct", "--set", "reconstruct.allow_control=true")
            count = flood_link(services.engine, "reconstruct")
            counted("reconstruct", count, "undecodable", "no_start")

            commands["receive"] = start("receive")
            detector = settings.detector
            count = flood(detector.frames.address, SocketKind.PUSH, bind=False)
            count += flood(detector.positions.address, SocketKind.PUB, bind=False)
            counted("receive", count, "undecodable", "no_start")

            bound = services.model_dump(include=set(INNER))  # by a service that is not started here
            for address in [detector.frames.address, detector.positions.address, *bound.values()]:
                for data in RAW:
                    throw(address, data)

            scan = SimulatedScan(SCAN)
            send(context, settings, scan, FaultOptions())
            chain.wait_written(watcher, "scan")
            status = watcher.known("scan").write
            assert status is not None
            assert watcher.known("scan").ledger == Ledger(received=300, used=300, waiting=0, dropped={})
            assert_frames(Path(status.file), pixels(scan))
            assert_positions(Path(status.file), scan.yx_m, set(range(300)))

            for name, command in commands.items():
                assert command.process.poll() is None, f"{name}: {command.err}"
                assert memory_bytes(command.process.pid) < 600 << 20, name
            for name in reversed(SERVICES):
                commands[name].process.send_signal(signal.SIGINT)
                assert commands[name].wait() == 0, commands[name].err
                assert "Traceback" not in commands[name].err

    def test_nonsense_that_is_well_formed(self, tmp_path: Path) -> None:
        """Messages that any codec would write, with numbers that no beamline has."""
        settings = chain.config(tmp_path, **QUICK, match__settle_s=0.3)
        nonsense = [
            *GOOD.values(),
            *(dataclasses.replace(GOOD["start"], scan_id=f"many-{n}", expected=n) for n in (10**12, 2**63 - 1)),
            dataclasses.replace(GOOD["positions"], scan_id="many-1000000000000", yx_m=np.full((3, 2), 1e300)),
            Positions(scan_id="many-1000000000000", index=np.array([9_999_999]), yx_m=np.zeros((1, 2))),
            Positions(scan_id="many-1000000000000", index=np.array([2**62]), yx_m=np.zeros((1, 2))),
            *(
                dataclasses.replace(GOOD["frame"], scan_id="many-1000000000000", index=np.array([i, i + 1]))
                for i in (0, 9_999_998, 2**62)
            ),
        ]
        for changes in (
            {"wavelength_m": 1e-300},
            {"wavelength_m": 1e300},
            {"distance_m": 1e300, "pitch_m": (1e-300, 1e-300)},
            {"frame_shape": (1, 1)},
            {"frame_shape": (3, 100_000)},
        ):
            geometry = dataclasses.replace(GOOD["start"].geometry, **changes)
            strange = dataclasses.replace(
                GOOD["start"], scan_id=f"strange-{len(nonsense)}", geometry=geometry, valid=None, dark=None
            )
            nonsense.append(strange)
        scan = SimulatedScan(TINY)
        with (
            new_context() as context,
            Watcher(context, settings.services) as watcher,
            chain.in_processes(settings),
        ):
            frames, positions = chain.outlets(settings.detector)
            items = [
                Item(stream=Stream.POSITIONS if isinstance(m, Positions) else Stream.FRAMES, message=m, tick=k)
                for k, m in enumerate(nonsense)
            ]
            items += [dataclasses.replace(item, tick=item.tick + len(items)) for item in scan.items()]
            publish(items, frames, positions, PublishOptions(rate_hz=200, peer_timeout_s=20), context=context)
            chain.wait_written(watcher, "tiny")
            status = watcher.known("tiny").write
            assert status is not None
            assert watcher.known("tiny").ledger == Ledger(received=60, used=60, waiting=0, dropped={})
            assert_frames(Path(status.file), pixels(scan))
