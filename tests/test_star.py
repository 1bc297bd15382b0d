"""A real scan, replayed from each of its three dialects through the whole chain in separate processes."""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from streamptycho.files.scan import open_scan
from streamptycho.messages.stream import Frame, Positions, ScanStart
from streamptycho_services.cli import NOT_WHOLE
from streamptycho_sim.faults import FaultOptions, inject
from streamptycho_sim.replay import ReplayOptions, replay
from streamptycho_sim.tally import ScanTally, Tally
from tests.chain import PROGRAM, Command, assert_adds_up, assert_frames, facts, pixels_of

SEED, STANDARD, APS = FILES = ("siemens_star_seed.cxi", "siemens_star_standard.cxi", "siemens_star_aps.h5")
FRAMES = 516
FAULTS = FaultOptions(drop_frames=0.05, drop_positions=0.05, duplicate_frames=0.02, shuffle=200, delay_positions=100)


def detail_correlation(result: Path, data: Path, tools: ModuleType) -> float:
    reference, support = tools.load(str(data / "siemens_star_reference.npz"))
    picture, _ = tools.load(str(result))
    return tools.compare(picture, reference, support)["detail_correlation"]


def demo(file: Path, output: Path, *arguments: object, rate: float = 100, code: int = 0) -> dict[str, Any]:
    """The report of a replay; the command must end with `code` and without complaint."""
    with Command(PROGRAM, "demo", "--json", "--replay", file, "--rate", rate, "--output", output, *arguments) as command:
        assert command.wait(120) == code, command.err
        assert "WARNING" not in command.err
        for line in command.progress():
            if "received" in line:  # the others are of the log
                assert_adds_up(line)
        return command.report()


def recorded(file: Path) -> dict[int, np.ndarray]:
    with open_scan(file) as scan:
        return pixels_of(replay(scan, ReplayOptions(), "star"))["star"]


def check_live(path: Path) -> None:
    """Snapshots come at least twice per second, from the first 20 frames on until the last frame is in."""
    found = facts(path)
    first, last = found["timestamp_ns"][19], found["timestamp_ns"].max()
    shown = found["time_ns"][found["time_ns"] <= last]
    assert (shown[0] - first) / 1e9 <= 1.5, "the first picture came late"
    gaps_s = np.diff(np.append(shown, last)) / 1e9
    assert len(shown) >= 5
    assert np.median(gaps_s) <= 0.5
    assert gaps_s.max() <= 1.5
    assert found["frames_used"][0] < FRAMES == found["frames_used"][-1]


@pytest.mark.slow
def test_replay_of_the_star(shared_data: Path, shared_tools: ModuleType, tmp_path: Path) -> None:
    report = demo(shared_data / SEED, tmp_path, "--set", "engine.polish_passes=15", rate=300)
    assert report["frames"] == {"received": FRAMES, "used": FRAMES, "waiting": 0, "dropped": {}}
    assert report["phase_correlation"] is None
    assert detail_correlation(report["result"], shared_data, shared_tools) >= 0.98
    assert_frames(Path(report["cxi"]), recorded(shared_data / SEED))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "probe", "least"),
    [(SEED, "file", 0.98), (SEED, "auto", 0.97), (STANDARD, "auto", 0.97), (APS, "auto", 0.97)],
)
def test_replay_at_the_speed_of_the_detector(
    shared_data: Path, shared_tools: ModuleType, tmp_path: Path, name: str, probe: str, least: float
) -> None:
    report = demo(shared_data / name, tmp_path, "--probe", probe)
    assert report["frames"] == {"received": FRAMES, "used": FRAMES, "waiting": 0, "dropped": {}}
    for key in ("result", "cxi"):
        assert detail_correlation(report[key], shared_data, shared_tools) >= least
    assert_frames(Path(report["cxi"]), recorded(shared_data / name))
    check_live(Path(report["cxi"]))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "probe"), [(SEED, "file"), (STANDARD, "auto")])
def test_replay_with_faults(shared_data: Path, shared_tools: ModuleType, tmp_path: Path, name: str, probe: str) -> None:
    flags: list[object] = ["--tally", tmp_path / "tally.json"]
    for option in FAULTS.model_fields_set:
        flags += [f"--{option.replace('_', '-')}", getattr(FAULTS, option)]
    report = demo(shared_data / name, tmp_path, "--probe", probe, "--", *flags, code=NOT_WHOLE)
    sent = would_send(shared_data / name)
    tally = json.loads((tmp_path / "tally.json").read_text())["scans"][Path(name).stem]
    assert tally == sent.as_dict()
    assert report["frames"] == {
        "received": tally["frames"] + tally["duplicate_frames"],
        "used": tally["matched"],
        "waiting": 0,
        "dropped": {"no_position": tally["frames"] - tally["matched"], "duplicate": tally["duplicate_frames"]},
    }
    assert_adds_up(report["frames"])
    pixels = recorded(shared_data / name)
    assert_frames(Path(report["cxi"]), {index: pixels[index] for index in sent.frames})
    assert detail_correlation(report["result"], shared_data, shared_tools) >= 0.93


def would_send(file: Path) -> ScanTally:
    tally = Tally()
    with open_scan(file) as scan:
        for item in inject(replay(scan, ReplayOptions(), "star"), FAULTS, tally):
            tally.sent(item.message, ())
    return tally.of("star")


def test_the_dialects_give_the_same_stream(shared_data: Path) -> None:
    starts, places, frames = [], [], []
    for name in FILES:
        with open_scan(shared_data / name) as scan:
            messages = [item.message for item in replay(scan, ReplayOptions(), "star")]
        starts.append(next(m for m in messages if isinstance(m, ScanStart)))
        places.append({int(m.index[0]): m.yx_m[0] for m in messages if isinstance(m, Positions)})
        frames.append({int(m.index[0]): m.payload.decode() for m in messages if isinstance(m, Frame)})
    first = starts[0]
    for start, where, pixels in zip(starts[1:], places[1:], frames[1:], strict=True):
        assert start.geometry.energy_ev == pytest.approx(first.geometry.energy_ev, rel=1e-9)
        assert start.geometry.distance_m == pytest.approx(first.geometry.distance_m, rel=1e-12)
        assert start.geometry.pitch_m == pytest.approx(first.geometry.pitch_m, rel=1e-12)
        assert start.geometry.frame_shape == first.geometry.frame_shape
        assert (start.dtype, start.expected) == (first.dtype, first.expected) == (np.dtype(np.uint16), FRAMES)
        np.testing.assert_array_equal(valid(start), valid(first))
        assert set(where) == set(places[0]) == set(range(FRAMES))
        for index, yx_m in where.items():
            np.testing.assert_allclose(yx_m, places[0][index], rtol=0, atol=1e-9)
            np.testing.assert_array_equal(pixels[index], frames[0][index])


def valid(start: ScanStart) -> np.ndarray:
    return np.ones(start.geometry.frame_shape) if start.valid is None else start.valid
