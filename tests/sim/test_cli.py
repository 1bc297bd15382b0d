"""The command: flags, files, exit codes, and the functions behind it."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from streamptycho.errors import ConfigError, FormatError
from streamptycho.messages.payload import Encoding
from streamptycho.messages.reasons import EndReason
from streamptycho.messages.stream import Frame, ScanEnd, ScanStart
from streamptycho.options import Options
from streamptycho.wire.sockets import new_context
from streamptycho_sim.cli import app, run_replay, run_synthetic
from streamptycho_sim.console import Reporter
from streamptycho_sim.faults import EndLoss, FaultOptions
from streamptycho_sim.flags import with_tables
from streamptycho_sim.publisher import OutletOptions, Progress, PublishOptions
from streamptycho_sim.replay import ReplayOptions
from streamptycho_sim.scan import SyntheticOptions
from tests.files.factories import cxi_ev
from tests.ports import free_address
from tests.sim.helpers import Collector, collecting

SCAN = SyntheticOptions(frames=12, shape=32)
INPROC = OutletOptions(frames_address="inproc://frames", positions_address="inproc://positions")


@pytest.fixture
def context() -> Iterator[Any]:
    with new_context() as context:
        yield context


def plain(text: str) -> str:
    """Without colours and line breaks."""
    return re.sub(r"\s+", " ", re.sub(r"\x1b\[[0-9;]*m", "", text))


def never() -> bool:
    return False


def synthetic(context: Any, **changes: Any) -> tuple[Collector, Any]:
    arguments = {
        "options": SCAN,
        "publish_options": PublishOptions(peer_timeout_s=5),
        "faults": FaultOptions(),
        "output_truth": None,
    } | changes
    scans = 2 if arguments["faults"].second_after else 1
    with collecting(context, *INPROC.endpoints(), scans=scans) as collector:
        tally = run_synthetic(**arguments, context=context, stop=never, outlets=INPROC)
    return collector, tally


def test_synthetic_run_sends_the_scan(context: Any) -> None:
    collector, tally = synthetic(context)
    assert collector.frame_index == collector.position_index == list(range(12))
    assert tally.of("synthetic").as_dict()["matched"] == 12


def test_truth_is_written_and_belongs_to_the_frames(context: Any, tmp_path: Path) -> None:
    collector, _ = synthetic(context, output_truth=tmp_path / "truth.npz")
    with np.load(tmp_path / "truth.npz") as truth:
        start = collector.of(ScanStart)[0]
        np.testing.assert_allclose(truth["pixel_m"], start.geometry.object_pixel_m((32, 32)))
        rows = np.concatenate([row.yx_m for row in collector.got if hasattr(row, "yx_m")])
        np.testing.assert_array_equal(truth["yx_m"], rows)


def test_truth_that_cannot_be_written_is_told_before_anything_is_sent(context: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be written"):
        run_synthetic(SCAN, PublishOptions(), FaultOptions(), tmp_path / "no" / "truth.npz", context, never, outlets=INPROC)


def test_rendering_first_sends_the_same(context: Any) -> None:
    now, _ = synthetic(context)
    with new_context() as other:
        before, _ = synthetic(other, render_first=True)
    for a, b in zip(now.of(Frame), before.of(Frame), strict=True):
        np.testing.assert_array_equal(a.payload.decode(), b.payload.decode())


@pytest.mark.parametrize("encoding", [None, Encoding.RAW, Encoding.BSLZ4])
def test_encoding(context: Any, encoding: Encoding | None) -> None:
    collector, _ = synthetic(context, publish_options=PublishOptions(encoding=encoding, frames_per_message=4))
    frames = collector.of(Frame)
    assert {frame.payload.encoding for frame in frames} == {encoding or Encoding.RAW}
    assert [len(frame) for frame in frames] == [4, 4, 4]


def test_second_scan_overlaps_and_ends_on_its_own(context: Any) -> None:
    collector, tally = synthetic(context, faults=FaultOptions(second_after=5))
    assert [start.scan_id for start in collector.of(ScanStart)] == ["synthetic", "synthetic-2"]
    order = [frame.scan_id for frame in collector.of(Frame)]
    assert order[:5] == ["synthetic"] * 5
    assert order[5:8] != ["synthetic"] * 3
    assert set(tally.scans) == {"synthetic", "synthetic-2"}
    a, b = ([f.payload.decode() for f in collector.of(Frame) if f.scan_id == s] for s in tally.scans)
    assert (a[0] != b[0]).any()


def test_only_the_first_of_two_scans_loses_its_end(context: Any) -> None:
    faults = FaultOptions(second_after=5, missing_end=EndLoss.BOTH)
    with collecting(context, *INPROC.endpoints()) as collector:
        run_synthetic(SCAN, PublishOptions(), faults, None, context, never, outlets=INPROC)
    assert {end.scan_id for end in collector.of(ScanEnd)} == {"synthetic-2"}


@pytest.fixture
def star(shared_data: Path) -> Path:
    path = shared_data / "siemens_star_seed.cxi"
    if not path.is_file():
        pytest.skip("siemens_star_seed.cxi is not among the shared data")
    return path


def test_replay_run_sends_the_file(context: Any, star: Path) -> None:
    with collecting(context, *INPROC.endpoints()) as collector:
        tally = run_replay(star, ReplayOptions(first=40), PublishOptions(), FaultOptions(), context, never, outlets=INPROC)
    assert collector.frame_index == collector.position_index == list(range(40))
    assert set(tally.scans) == {"siemens_star_seed"}


def test_replay_twice_under_another_name(context: Any, star: Path) -> None:
    options = ReplayOptions(first=5, repeat=2, scan_id="again", with_probe=False)
    with collecting(context, *INPROC.endpoints(), scans=2) as collector:
        run_replay(star, options, PublishOptions(), FaultOptions(), context, never, outlets=INPROC)
    starts = collector.of(ScanStart)
    assert [start.scan_id for start in starts] == ["again", "again-2"]
    assert all(start.probe is None for start in starts)
    assert collector.frame_index == list(range(5)) * 2


def test_replay_interrupted_by_a_second(context: Any, star: Path) -> None:
    options, faults = ReplayOptions(first=8, scan_id="a"), FaultOptions(second_after=3)
    with collecting(context, *INPROC.endpoints(), scans=2) as collector:
        tally = run_replay(star, options, PublishOptions(), faults, context, never, outlets=INPROC)
    assert set(tally.scans) == {"a", "a-second"}
    assert len(collector.frame_index) == 16


def test_replay_of_something_else(context: Any, tmp_path: Path) -> None:
    junk = tmp_path / "junk.cxi"
    junk.write_bytes(b"nothing of the kind")
    with pytest.raises(FormatError, match=r"junk\.cxi"):
        run_replay(junk, ReplayOptions(), PublishOptions(), FaultOptions(), context, never)


runner = CliRunner()


@pytest.mark.parametrize("command", ["synthetic", "replay"])
def test_help_documents_every_flag(command: str) -> None:
    result = runner.invoke(app, [command, "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    text = plain(result.output)
    assert "Examples:" in text
    for flag in ("--rate-hz", "--encoding", "--drop-frames", "--tally", "--frames-address"):
        assert flag in text
    assert "Frames per second; by default as fast as they are made and taken." in text


def test_no_command_shows_the_commands() -> None:
    result = runner.invoke(app, [])
    assert "synthetic" in result.output
    assert "replay" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["synthetic", "--frames", "0"], "--frames: Input should be greater than or equal to 1"),
        (["synthetic", "--modes", "9", "--overlap", "1"], "--modes"),
        (["synthetic", "--drop-frames", "0.7", "--corrupt-frames", "0.7"], "a frame meets one fate only"),
        (["synthetic", "--frames-address", "nonsense"], "cannot bind nonsense"),
        (["replay", "missing.cxi"], "missing.cxi"),
    ],
)
def test_wrong_use_is_one_line_and_code_2(arguments: list[str], message: str) -> None:
    result = runner.invoke(app, arguments)
    assert result.exit_code == 2
    assert message in plain(result.output)
    assert "Traceback" not in result.output


@pytest.mark.parametrize("arguments", [["synthetic", "--path", "circle"], ["synthetic", "--nonsense"], ["replay"]])
def test_unknown_flags_and_values_are_code_2(arguments: list[str]) -> None:
    assert runner.invoke(app, arguments).exit_code == 2


def test_nobody_there_is_code_2() -> None:
    addresses = ["--frames-address", free_address(), "--positions-address", free_address()]
    result = runner.invoke(app, ["synthetic", "--frames", "2", "--shape", "32", "--peer-timeout-s", "0.2", *addresses])
    assert result.exit_code == 2
    assert "start the receiver" in plain(result.output)


def tcp() -> OutletOptions:
    return OutletOptions(frames_address=free_address(), positions_address=free_address())


def flags_of(outlets: OutletOptions) -> list[str]:
    return ["--frames-address", outlets.frames_address, "--positions-address", outlets.positions_address]


def test_command_sends_and_writes_its_tally(context: Any, tmp_path: Path) -> None:
    outlets, file = tcp(), tmp_path / "tally.json"
    arguments = ["synthetic", "--frames", "50", "--shape", "32", "--path", "spiral", "--drop-frames", "0.2", "--no-noise"]
    with collecting(context, *outlets.endpoints()) as collector:
        result = runner.invoke(app, [*arguments, *flags_of(outlets), "--tally", str(file), "--scan-id", "cli"])
    assert result.exit_code == 0, result.output
    assert "sent cli" in plain(result.output)
    counts = json.loads(file.read_text())["scans"]["cli"]
    assert counts["frames"] == len(collector.frame_index)
    assert counts["frames"] + counts["dropped_frames"] == 50
    assert counts["dropped_frames"] > 0
    assert collector.of(ScanStart)[0].metadata["path"] == "spiral"


def test_tally_that_cannot_be_written_is_code_2(context: Any, tmp_path: Path) -> None:
    outlets = tcp()
    arguments = ["synthetic", "--frames", "2", "--shape", "32", "--tally", str(tmp_path / "no" / "tally.json")]
    with collecting(context, *outlets.endpoints()):
        result = runner.invoke(app, [*arguments, *flags_of(outlets)])
    assert result.exit_code == 2
    assert "cannot be written" in plain(result.output)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interruption_tells_the_receivers_and_is_code_130(context: Any, number: signal.Signals) -> None:
    outlets = tcp()
    command = [sys.executable, "-m", "streamptycho_sim", "synthetic", "--shape", "32", "--rate-hz", "50", *flags_of(outlets)]
    with collecting(context, *outlets.endpoints(), timeout_s=20) as collector:
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | {"COLUMNS": "200"})
        until = time.monotonic() + 20
        while not collector.frame_index and time.monotonic() < until:
            time.sleep(0.05)
        process.send_signal(number)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 130, errors
    assert {end.reason for end in collector.of(ScanEnd)} == {EndReason.ABORTED}
    assert 0 < len(collector.frame_index) < 1000
    assert "Traceback" not in errors


def progress(frames: int, **changes: Any) -> Progress:
    return Progress(**({"scan_id": "s", "frames": frames, "expected": 100, "seconds": 2.0, "late_s": 0.0} | changes))


def test_plain_progress_is_a_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    with Reporter(terminal=False) as show:
        for frames in range(101):
            show(progress(frames))
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == ["s: 0 of 100 frames, 0 frames/s", "s: 100 of 100 frames, 50 frames/s"]


def test_plain_progress_tells_lateness(capsys: pytest.CaptureFixture[str]) -> None:
    with Reporter(terminal=False) as show:
        show(progress(3, expected=None, seconds=0.0, late_s=2.25))
    assert capsys.readouterr().err == "s: 3 frames, 0 frames/s, up to 2.2 s late\n"


def test_terminal_progress_is_a_bar(capsys: pytest.CaptureFixture[str]) -> None:
    with Reporter(terminal=True) as show:
        show(progress(1))
        show(progress(100))
    out, err = capsys.readouterr()
    assert out == ""
    assert "100/100" in plain(err)


class Inner(Options):
    depth: int = 3
    """How deep."""


class Outer(Options):
    name: str = "x"
    """What it is called."""
    limit: float | None = None
    """How far."""
    inner: Inner = Inner()
    """Further in."""


def test_flags_become_tables() -> None:
    got: list[tuple[Any, ...]] = []
    small = typer.Typer()

    @small.command()
    @with_tables(outer=Outer)
    def run(times: int, *, outer: Outer) -> None:
        """Do."""
        got.append((times, outer))

    assert CliRunner().invoke(small, ["4"]).exit_code == 0
    assert CliRunner().invoke(small, ["5", "--depth", "9", "--limit", "2.5", "--name", "y"]).exit_code == 0
    assert got == [(4, Outer()), (5, Outer(name="y", limit=2.5, inner=Inner(depth=9)))]
    text = plain(CliRunner().invoke(small, ["--help"]).output)
    assert "How deep." in text
    assert "What it is called." in text


def test_run_functions_can_be_stopped_from_another_thread(context: Any) -> None:
    stop = threading.Event()
    with collecting(context, *INPROC.endpoints()) as collector:
        timer = threading.Timer(0.3, stop.set)
        timer.start()
        tally = run_synthetic(SCAN, PublishOptions(rate_hz=2), FaultOptions(), None, context, stop.is_set, outlets=INPROC)
        timer.join()
    assert tally.stopped
    assert {end.reason for end in collector.of(ScanEnd)} == {EndReason.ABORTED}


def test_replay_of_a_file_with_a_long_name(context: Any, tmp_path: Path) -> None:
    path = cxi_ev().write(tmp_path / f"{'x' * 140}.h5")
    with collecting(context, *INPROC.endpoints(), scans=2) as collector:
        run_replay(path, ReplayOptions(), PublishOptions(), FaultOptions(second_after=3), context, never, outlets=INPROC)
    names = {scan_id for message in collector.of(ScanStart) if (scan_id := message.scan_id)}
    assert names == {"x" * 112, "x" * 112 + "-second"}


@pytest.mark.parametrize("name", ["µ" * 120, ".hidden"])
def test_a_scan_id_that_cannot_be_used_is_one_line(context: Any, tmp_path: Path, name: str) -> None:
    path = cxi_ev().write(tmp_path / "f.h5")
    outlets = OutletOptions(frames_address=free_address(), positions_address=free_address())
    flags = ["--frames-address", outlets.frames_address, "--positions-address", outlets.positions_address]
    with collecting(context, *outlets.endpoints(), timeout_s=0.1):
        result = CliRunner().invoke(app, ["replay", str(path), "--scan-id", name, *flags])
    assert result.exit_code == 2
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert re.fullmatch(r"error: scan_id: .*\n", result.output)


def test_what_a_file_does_not_say_is_asked_for_and_taken_as_a_flag(context: Any, tmp_path: Path) -> None:
    foreign = cxi_ev()
    foreign.items = {key: value for key, value in foreign.items.items() if "source_1" not in key}
    path = foreign.write(tmp_path / "f.h5")
    result = CliRunner().invoke(app, ["replay", str(path)])
    assert result.exit_code == 2
    assert "set --energy-ev" in plain(result.output)
    addresses = [free_address(), free_address()]
    flags = ["--frames-address", addresses[0], "--positions-address", addresses[1], "--energy-ev", "7000"]
    outlets = OutletOptions(frames_address=addresses[0], positions_address=addresses[1])
    with collecting(context, *outlets.endpoints()) as collector:
        result = CliRunner().invoke(app, ["replay", str(path), *flags, "--pixel-size-m", "1e-5", "2e-5"])
    assert result.exit_code == 0, result.output
    (sent,) = collector.of(ScanStart)
    assert sent.geometry.energy_ev == pytest.approx(7000)
    assert sent.geometry.pitch_m == (1e-5, 2e-5)
