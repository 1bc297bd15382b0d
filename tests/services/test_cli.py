"""The command ``streamptycho``: help, exit codes, messages, and what each command reports."""

import json
import os
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

import streamptycho
from streamptycho.errors import ConfigError
from streamptycho.files.durable.disk import abandon
from streamptycho.files.result import read_result
from streamptycho.files.scan import open_scan
from streamptycho.files.writer import CxiWriter
from streamptycho.messages.stream import Positions
from streamptycho.wire.endpoint import Endpoint, SocketKind
from streamptycho.wire.questions import Replier
from streamptycho.wire.sockets import Sender, new_context
from streamptycho_services import cli
from streamptycho_services.documents.client import past
from streamptycho_sim.scan import SimulatedScan, SyntheticOptions
from tests import chain
from tests.chain import PROGRAM, SIMULATOR, Command, assert_adds_up, assert_frames, at, facts, handles_signals, wait_until
from tests.files import factories
from tests.files.recordings import write_scan
from tests.ports import free_address

SMALL = SyntheticOptions(scan_id="small", frames=80, shape=48)
COMMANDS = [
    "dashboard",
    "demo",
    "run",
    "receive",
    "reconstruct",
    "write",
    "replay",
    "simulate",
    "reconstruct-file",
    "inspect",
    "recover",
    "convert",
    "verify",
    "check",
    "view",
    "documents",
    "keys",
    "units",
]
STAR = {
    "siemens_star_seed.cxi": "cxi-ev",
    "siemens_star_standard.cxi": "cxi-1.6",
    "siemens_star_aps.h5": "aps-hdf5",
}


def plain(text: str) -> str:
    """Without colours, boxes and line breaks."""
    return re.sub(r"[\s│]+", " ", re.sub(r"\x1b\[[0-9;]*m", "", text))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small scan in a file of our own, with its truth beside it."""
    path = tmp_path_factory.mktemp("recorded") / "small.cxi"
    scan = SimulatedScan(SMALL)
    scan.save_truth(path.with_name("truth.npz"))
    return write_scan(path, (item.message for item in scan.items(0)))


def outcome(*arguments: object, code: int = 0) -> tuple[str, str]:
    """Standard output and error of a command that ends by itself."""
    with Command(PROGRAM, *arguments) as command:
        assert command.wait() == code, command.err
        assert "Traceback" not in command.err
        return command.out, command.err


def here(*arguments: object) -> str:
    """Standard output of a command in this process, which spares its start."""
    result = CliRunner().invoke(cli.app, list(map(str, arguments)))
    assert result.exit_code == 0, result.output
    return result.stdout


class TestHelp:
    @pytest.mark.parametrize("command", COMMANDS)
    def test_of_every_command_shows_an_example(self, command: str) -> None:
        result = CliRunner().invoke(cli.app, [command, "--help"], env={"COLUMNS": "200", "TERM": "dumb"})
        assert result.exit_code == 0
        text = plain(result.output)
        examples = text.partition("Example")[2]
        assert f"streamptycho {command}" in examples, text

    def test_lists_all_commands(self) -> None:
        result = CliRunner().invoke(cli.app, ["--help"], env={"COLUMNS": "200", "TERM": "dumb"})
        assert result.exit_code == 0
        names = {command.name or command.callback.__name__ for command in cli.app.registered_commands}  # type: ignore[union-attr]
        assert names == set(COMMANDS)
        for name in COMMANDS:
            assert f" {name} " in plain(result.output)

    def test_without_a_command_is_help(self) -> None:
        result = CliRunner().invoke(cli.app, [], env={"COLUMNS": "200", "TERM": "dumb"})
        assert result.exit_code == 2
        assert "streamptycho demo" in plain(result.output)

    def test_examples_of_the_simulators_flags_exist(self) -> None:
        """What is passed on is checked by the simulator only; the examples must not be wrong."""
        for command, flags in (
            ("simulate", "--frames 2 --path spiral --rate-hz 200"),
            ("replay", "missing.cxi --rate-hz 100"),
        ):
            nowhere = ["--frames-address", free_address(), "--positions-address", free_address(), "--peer-timeout-s", "0.1"]
            _, err = outcome(command, *flags.split(), *nowhere, code=2)
            assert "nobody took" in err or "missing.cxi" in err

    def test_on_a_terminal_with_few_characters(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PYTHONIOENCODING", "latin-1")
        out, _ = outcome("demo", "--help")
        assert "Usage" in out

    def test_version(self) -> None:
        out, _ = outcome("--version")
        assert out.strip() == streamptycho.__version__


class TestWrongInput:
    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            (["demo", "--set", "engine.mode=2"], "engine.mode: unknown key; did you mean 'modes'?"),
            (["run", "--set", "nonsense"], "--set nonsense: write it as key=value"),
            (["run", "--set", "engine.modes=many"], "engine.modes: 'many'"),
            (["run", "--probe", "perhaps"], "engine.probe: 'perhaps'"),
            (["run", "-c", "missing.toml"], "missing.toml: cannot be read"),
            (["check", "-c", "bad.toml"], "bad.toml: not valid TOML"),
            (["receive", "-c", "unknown.toml"], "unknown.toml: detector.frame: unknown key; did you mean 'frames'?"),
            (["inspect", "missing.cxi"], "missing.cxi: no such file"),
            (["inspect", "bad.cxi"], "bad.cxi: not a readable HDF5 file"),
            (["reconstruct-file", "bad.cxi", "-o", "result.h5"], "bad.cxi: not a readable HDF5 file"),
            (["reconstruct-file", "bad.cxi", "-o", "result.h5", "--set", "engine.backend=abacus"], "engine.backend"),
            (["reconstruct-file", "bad.cxi"], "--output"),
            (["reconstruct-file", "bad.cxi", "-o", "result.h5", "--passes", "0"], "--passes"),
            (["launch"], "launch"),
            (["inspect", "--colour"], "--colour"),
            (["recover", "missing.cxi"], "missing.cxi: no such file"),
            (["recover", "bad.cxi"], "bad.cxi: 8 bytes are no HDF5 file; nothing can be recovered from it"),
            (["recover"], "Missing argument 'files'"),
        ],
    )
    def test_is_one_message_and_exit_code_2(
        self, arguments: list[str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
    ) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("COLUMNS", "200")
        monkeypatch.setenv("TERM", "dumb")
        Path("bad.toml").write_text("engine = [")
        Path("unknown.toml").write_text("[detector.frame]\naddress = 'tcp://127.0.0.1:1'\n")
        Path("bad.cxi").write_bytes(b"not HDF5")
        monkeypatch.setattr("sys.argv", ["streamptycho", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert end.value.code == 2
        captured = capsys.readouterr()
        assert expected in plain(captured.err)
        assert captured.out == ""

    def test_in_a_process_is_no_traceback_either(self, tmp_path: Path) -> None:
        out, err = outcome("inspect", tmp_path / "missing.cxi", code=2)
        assert out == ""
        assert err.strip() == f"error: {tmp_path}/missing.cxi: no such file"

    def test_an_address_in_use(self, tmp_path: Path) -> None:
        address = free_address()
        with new_context() as context, Sender(context, Endpoint(address=address, socket=SocketKind.PUSH, bind=True)):
            _, err = outcome("reconstruct", "--set", f"services.results={address}", code=2)
        assert f"cannot bind {address}" in err

    def test_no_such_device(self, recorded: Path, tmp_path: Path) -> None:
        try:
            import cupy  # noqa: F401
        except ImportError:
            _, err = outcome("reconstruct-file", recorded, "-o", tmp_path / "r.h5", "--set", "engine.backend=cupy", code=1)
            assert err.startswith("error: ")
        else:
            pytest.skip("CuPy is installed here")


class TestReconstructFile:
    KEYS = ("cxi", "result", "picture", "frames", "phase_correlation")

    def test_contract(self, recorded: Path, tmp_path: Path) -> None:
        result, truth = tmp_path / "out" / "result.h5", recorded.with_name("truth.npz")
        out = here("reconstruct-file", recorded, "-o", result, "--passes", 12, "--json", "--truth", truth)
        report = json.loads(out)
        assert set(self.KEYS) <= set(report)
        assert out.count("\n") == 1
        assert (report["cxi"], report["result"]) == (str(recorded), str(result))
        assert report["frames"] == {"received": 80, "used": 80, "waiting": 0, "dropped": {}}
        assert report["phase_correlation"] >= 0.9
        assert len(read_result(result).error_per_iteration) >= 12
        assert Path(report["picture"]).read_bytes().startswith(b"\x89PNG")

    def test_a_file_whose_writer_died_is_read_and_named(self, recorded: Path, tmp_path: Path) -> None:
        path = shutil.copy(recorded, tmp_path / "dead.cxi")
        with h5py.File(path, "r+") as file:
            file["/entry_1/streamptycho/end_reason"][()] = b""
        command = ["reconstruct-file", path, "-o", tmp_path / "result.h5", "--passes", 1, "--json"]
        result = CliRunner().invoke(cli.app, [*map(str, command)])
        assert json.loads(result.stdout)["frames"]["used"] == 80
        assert result.stderr.startswith(f"note: {path}: its writer died, or was never told to finish it.")
        assert f"`streamptycho recover {path}`" in result.stderr

    def test_a_picture_that_is_not_to_be_trusted_has_a_code_of_its_own(self, recorded: Path, tmp_path: Path) -> None:
        command = ["reconstruct-file", recorded, "-o", tmp_path / "result.h5", "--passes", 8, "--set", "positions.swap=true"]
        result = CliRunner().invoke(cli.app, [*map(str, command), "--json"])
        assert result.exit_code == cli.NOT_USABLE == 3
        report = json.loads(result.stdout)
        assert not report["trusted"]
        assert report["verdict"].startswith("Not to be trusted: ")
        assert "orientation" in report["findings"]
        assert read_result(tmp_path / "result.h5").object.any()

    def test_people_read_verdict_and_findings_first(self, recorded: Path, tmp_path: Path) -> None:
        lines = here("reconstruct-file", recorded, "-o", tmp_path / "result.h5", "--passes", 12).splitlines()
        assert lines[0].startswith("verdict: Finished: 80 of 80 frames, resolution about")
        assert lines[1] == "trusted: True"

    def test_same_seed_and_passes_give_the_same_bytes(self, recorded: Path, tmp_path: Path) -> None:
        results = []
        for name, seed in (("a", 0), ("b", 0), ("c", 1)):
            path = tmp_path / f"{name}.h5"
            here("reconstruct-file", recorded, "-o", path, "--passes", 3, "--set", f"engine.seed={seed}")
            results.append(read_result(path))
        a, b, c = results
        assert a.object.tobytes() == b.object.tobytes()
        assert a.probe.tobytes() == b.probe.tobytes()
        assert a.object.tobytes() != c.object.tobytes()

    def test_seconds_limit_the_time(self, recorded: Path, tmp_path: Path) -> None:
        settings = ["--set", "engine.polish_passes=1000000", "--set", "engine.polish_tolerance=0"]
        path = tmp_path / "result.h5"
        out = here("reconstruct-file", recorded, "-o", path, "--seconds", 1.5, "--json", *settings)
        assert json.loads(out)["frames"]["used"] == 80
        assert np.isfinite(read_result(path).error_per_iteration).all()

    def test_interrupted_keeps_what_there_is(self, recorded: Path, tmp_path: Path) -> None:
        path = tmp_path / "result.h5"
        settings = ["--set", "engine.polish_tolerance=0"]
        with Command(PROGRAM, "reconstruct-file", recorded, "-o", path, "--passes", 10**6, *settings, "--json") as command:
            wait_until(lambda: handles_signals(command.process.pid), "the command to listen to Ctrl-C")
            command.process.send_signal(signal.SIGINT)
            assert command.wait() == 130, command.err
            assert "Traceback" not in command.err
            report = command.report()
        assert_adds_up(report["frames"])

    def test_frames_without_position_are_counted(self, tmp_path: Path) -> None:
        scan = SimulatedScan(SMALL)
        path = tmp_path / "gaps.cxi"
        messages = (item.message for item in scan.items(0))
        write_scan(path, (m for m in messages if not isinstance(m, Positions) or m.index[0] >= 7))
        out = here("reconstruct-file", path, "-o", tmp_path / "result.h5", "--passes", 1, "--json")
        assert json.loads(out)["frames"] == {"received": 80, "used": 73, "waiting": 0, "dropped": {"no_position": 7}}


class TestInspect:
    def test_own_file_and_picture(self, recorded: Path, tmp_path: Path) -> None:
        picture = tmp_path / "scan.png"
        out, _ = outcome("inspect", recorded, "--picture", picture, "--json")
        found = json.loads(out)
        scan = SimulatedScan(SMALL)
        assert found["dialect"] == "streamptycho"
        assert (found["frames"], found["frames_with_position"], found["frame_shape"]) == (80, 80, [48, 48])
        assert found["energy_ev"] == pytest.approx(8800)
        assert found["object_pixel_m"] == pytest.approx(list(scan.pixel_m))
        assert found["scan_extent_yx_m"] == pytest.approx(np.ptp(scan.yx_m, axis=0).tolist())
        assert 0 < found["median_step_m"] < max(found["scan_extent_yx_m"])
        assert found["picture"] == str(picture)
        assert picture.read_bytes().startswith(b"\x89PNG")

    @pytest.mark.parametrize(("name", "dialect"), STAR.items())
    def test_the_star(self, shared_data: Path, name: str, dialect: str) -> None:
        result = CliRunner().invoke(cli.app, ["inspect", str(shared_data / name), "--json"])
        assert result.exit_code == 0
        found = json.loads(result.stdout)
        assert (found["dialect"], found["frames"], found["frame_shape"]) == (dialect, 516, [128, 128])
        assert found["energy_ev"] == pytest.approx(8800)
        assert found["distance_m"] == pytest.approx(1.92)
        assert found["object_pixel_m"] == pytest.approx([28.18e-9] * 2, rel=1e-3)
        assert found["probe_modes"] == (1 if dialect == "cxi-ev" else 0)
        assert set(found["understood"]) >= {"positions", "mask", "probe", "frames"}

    def test_for_people(self, recorded: Path) -> None:
        result = CliRunner().invoke(cli.app, ["inspect", str(recorded)])
        assert "dialect: streamptycho\n" in result.stdout
        assert "understood:\n  " in result.stdout


class TestConvert:
    def test_writes_the_kind_that_the_name_says_and_tells_what(self, recorded: Path, tmp_path: Path) -> None:
        target = tmp_path / "new.strict.cxi"
        result = CliRunner().invoke(cli.app, ["convert", str(recorded), str(target)])
        assert (result.exit_code, result.output) == (0, f"{target}\n")
        with h5py.File(target) as file, open_scan(recorded) as scan:
            assert file["/entry_1/instrument_1/source_1/energy"][()] < 1e-12
            assert len(file["/entry_1/data_1/data"]) == len(scan)

    def test_takes_settings_of_the_reader(self, recorded: Path, tmp_path: Path) -> None:
        target = tmp_path / "new.h5"
        command = ["convert", str(recorded), str(target), "--set", "read.distance_m=1.5"]
        assert CliRunner().invoke(cli.app, command).exit_code == 0
        with h5py.File(target) as file:
            assert file["/instrument/detector/distance"][()] == 1.5

    def test_overwrites_nothing(self, recorded: Path) -> None:
        before = recorded.read_bytes()
        with pytest.raises(ConfigError, match="not overwritten"):
            CliRunner().invoke(cli.app, ["convert", str(recorded), str(recorded)], catch_exceptions=False)
        assert recorded.read_bytes() == before


def test_verify_names_each_program(recorded: Path) -> None:
    result = CliRunner().invoke(cli.app, ["verify", str(recorded), "--json"])
    found = json.loads(result.stdout)
    assert result.exit_code == 0
    assert list(found) == ["streamptycho", "h5py", "ptychodus", "cdtools", "PyNX", "silx and NeXus viewers"]
    assert found["streamptycho"] == []
    assert "as joules" in found["ptychodus"][0]
    people = CliRunner().invoke(cli.app, ["verify", str(recorded)]).output
    assert people.startswith("streamptycho: nothing\n")


def test_recover_goes_on_after_a_file_that_is_none(tmp_path: Path) -> None:
    for name in ("a", "b"):
        writer = CxiWriter(tmp_path / f"{name}.cxi", factories.start())
        writer.append(factories.raw(factories.pixels(3), [0, 1, 2]))
        writer.flush()
        if name == "a":
            writer.snapshot(factories.snapshot(1))
            abandon(writer._file)
        else:
            writer.close()
    (tmp_path / "none.cxi").write_bytes(b"")
    result = CliRunner().invoke(cli.app, ["recover", *(str(tmp_path / f"{name}.cxi") for name in ("a", "none", "b"))])
    assert result.exit_code == 2
    counts = "recovered (aborted), 3 frames, 0 positions, {} snapshots"
    made = ", made a.result.h5, made a.png"
    assert result.stdout == f"{tmp_path}/a.cxi: {counts.format(1)}{made}\n{tmp_path}/b.cxi: {counts.format(0)}\n"
    assert result.stderr.startswith(f"error: {tmp_path}/none.cxi: 0 bytes")


@pytest.fixture
def addresses() -> list[str]:
    """Flags that put both detector streams, and what others listen to, at free ports."""
    return chain.address_flags()


def catch_up(flags: list[str]) -> str:
    """Where these flags put the past of bluesky's documents."""
    (address,) = (flag.partition("=")[2].strip("'") for flag in flags if flag.startswith("services.catch_up"))
    return address


class TestCheck:
    def test_good_streams(self, addresses: list[str]) -> None:
        flags = [*at(addresses), "--frames", 30, "--shape", 32, "--rate-hz", 30, "--scan-id", "seen"]
        with Command(SIMULATOR, "synthetic", *flags) as simulator:
            out, _ = outcome("check", "--take", "--seconds", 10, "--json", *addresses)
            simulator.process.poll()
        report = json.loads(out)
        assert report["ok"] is True
        frames, positions = report["frames"], report["positions"]
        assert (frames["state"], positions["state"]) == ("ok", "ok")
        assert (frames["scan_id"], frames["shape"], frames["type"]) == ("seen", [32, 32], "uint16")
        assert frames["received"]["Frame"] > 0
        assert frames["max_counts"] > 0
        assert len(positions["newest_yx_m"]) == 2

    def test_nobody_there(self, addresses: list[str]) -> None:
        out, _ = outcome("check", "--take", "--seconds", 0.5, "--json", *addresses, code=3)
        report = json.loads(out)
        assert report["ok"] is False
        for name in ("frames", "positions"):
            assert report[name]["state"] == "silent"
            assert "no TCP connection to 127.0.0.1" in report[name]["remedy"]

    def test_somebody_who_says_nothing(self, addresses: list[str]) -> None:
        frames, positions = (re.findall(r"address='([^']+)'", flag)[0] for flag in addresses if "address" in flag)
        with (
            new_context() as context,
            Sender(context, Endpoint(address=frames, socket=SocketKind.PUSH, bind=True)),
            Sender(context, Endpoint(address=positions, socket=SocketKind.PUB, bind=True)),
        ):
            out, _ = outcome("check", "--take", "--seconds", 0.5, *addresses, code=3)
        assert "ok: False" in out
        assert "'state': 'silent'" in out or "state: silent" in out
        assert "accepts connections but sent nothing" in out

    def test_another_language(self, addresses: list[str]) -> None:
        frames, _ = (re.findall(r"address='([^']+)'", flag)[0] for flag in addresses if "address" in flag)
        with (
            new_context() as context,
            Sender(context, Endpoint(address=frames, socket=SocketKind.PUSH, bind=True)) as sender,
            Command(PROGRAM, "check", "--take", "--seconds", 1, "--json", *addresses) as check,
        ):
            assert sender.wait_for_peer(chain.LONG_S)
            for _ in range(3):
                assert sender.send_parts([b'{"htype": "dimage-1.0"}', b"pixels"], wait_s=5)
            assert check.wait() == 3
            report = check.report()
        assert report["frames"]["state"] == "undecodable"
        assert sum(report["frames"]["errors"].values()) == 3
        assert "wire-protocol" in report["frames"]["remedy"]


def frames_in(path: Path) -> int:
    """Frames in a growing file so far."""
    with open_scan(path) as scan:
        return len(scan)


def answers(address: str) -> bool:
    try:
        return past(address, 0.2) == []
    except TimeoutError:
        return False


class TestRun:
    @pytest.mark.slow
    def test_serves_scans_until_interrupted(self, addresses: list[str], tmp_path: Path) -> None:
        quick = ["--set", "engine.polish_passes=2"]
        with Command(PROGRAM, "run", "--json", "--output", tmp_path, *addresses, *quick) as services:
            for seed in (0, 1):
                flags = [*at(addresses), "--frames", 60, "--shape", 32, "--rate-hz", 200, "--scan-id", f"scan{seed}"]
                with Command(PROGRAM, "simulate", *flags, "--seed", seed) as simulator:
                    assert simulator.wait() == 0, simulator.err
                result = tmp_path / f"scan{seed}.result.h5"
                services.wait_while_running(result.exists, f"the result of scan {seed}")
            names = {doc["scan_name"] for name, doc in past(catch_up(addresses)) if name == "start"}
            assert "scan1" in names, "bluesky has heard of it"
            os.killpg(services.process.pid, signal.SIGINT)
            assert services.wait() == 0, services.err
            assert "Traceback" not in services.err
            progress, summary = services.progress(), json.loads(services.out)
        assert [Path(scan["cxi"]).name for scan in summary["scans"]] == ["scan0.cxi", "scan1.cxi"]
        assert all(scan["judged"] and scan["verdict"] for scan in summary["scans"])
        for seed in (0, 1):
            path = tmp_path / f"scan{seed}.cxi"
            scan = SimulatedScan(SyntheticOptions(frames=60, shape=32, seed=seed))
            assert_frames(path, dict(enumerate(scan.counts())))
            assert (facts(path)["complete"], facts(path)["used"]) == (1, 60)
        assert {line["scan"] for line in progress} == {"scan0", "scan1"}
        for line in progress:
            assert_adds_up(line)

    @pytest.mark.slow
    def test_goes_on_without_documents_if_their_address_is_taken(self, addresses: list[str], tmp_path: Path) -> None:
        with (
            new_context() as context,
            Replier(context, catch_up(addresses)),
            Command(PROGRAM, "run", "--json", "--output", tmp_path, *addresses) as services,
        ):
            services.wait_while_running(lambda: "no bluesky documents are sent" in services.err, "the warning")
            services.wait_while_running(lambda: len(services.services()) == 4, "page and services")
            services.process.send_signal(signal.SIGINT)
            assert services.wait() == 1, services.err
            said = f"no bluesky documents are sent: services.catch_up: cannot bind {catch_up(addresses)}"
            assert said in services.err.rpartition("finishing")[0], "at once"
            assert said in services.err.rpartition("error: ")[2], "and at the end"
            assert json.loads(services.out)["failures"][0].startswith(said)
            assert "Traceback" not in services.err

    def test_documents_alone(self, addresses: list[str]) -> None:
        with Command(PROGRAM, "documents", *addresses) as service:
            service.wait_while_running(lambda: answers(catch_up(addresses)), "an answer")
            service.process.send_signal(signal.SIGINT)
            assert service.wait() == 0, service.err
            assert service.err == "finishing; again to stop at once\n"
        with new_context() as context, Replier(context, catch_up(addresses)):
            _, err = outcome("documents", *addresses, code=2)
        assert f"error: services.catch_up: cannot bind {catch_up(addresses)}" in err

    @pytest.mark.slow
    def test_interrupted_in_a_scan_closes_its_file(self, addresses: list[str], tmp_path: Path) -> None:
        flags = [*at(addresses), "--frames", 100_000, "--shape", 32, "--rate-hz", 100, "--scan-id", "long"]
        with (
            Command(PROGRAM, "run", "--output", tmp_path, *addresses) as services,
            Command(SIMULATOR, "synthetic", *flags) as simulator,
        ):
            services.wait_while_running((tmp_path / "long.png").exists, "the first picture")
            # the first picture may come after six frames
            services.wait_while_running(lambda: frames_in(tmp_path / "long.cxi") >= 20, "twenty frames in the file")
            services.process.send_signal(signal.SIGINT)
            assert services.wait() == 0, services.err
            simulator.process.poll()
        found = facts(tmp_path / "long.cxi")
        assert (found["complete"], found["end_reason"]) == (0, "interrupted")
        assert found["n_frames"] >= 20
        assert read_result(tmp_path / "long.result.h5").object.shape == found["picture_shape"]

    @pytest.mark.slow
    def test_a_service_that_refuses_to_start(self, addresses: list[str], tmp_path: Path) -> None:
        """An address that only ZeroMQ knows to be none."""
        nowhere = ["--set", "detector.positions={address='tcp://no-such-card:5555', socket='sub', bind=true}"]
        with Command(PROGRAM, "run", "--output", tmp_path, *addresses, *nowhere) as services:
            assert services.wait() == 2
            assert "cannot bind tcp://no-such-card:5555: " in services.err
            assert "error: receive cannot run with this configuration; its message is above" in services.err
            assert "started again" not in services.err
            assert "Traceback" not in services.err

    def test_a_demonstration_that_has_no_place(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("in the way")
        _, err = outcome("demo", "--output", tmp_path / "file", code=2)
        where = f"write.directory: {tmp_path / 'file'}"
        assert err.strip() == f"error: {where} cannot be written to (File exists); choose another --output"
