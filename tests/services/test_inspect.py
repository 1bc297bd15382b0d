"""`streamptycho inspect` of files that hold a reconstruction: facts for programs, lines with units for people."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from streamptycho.config import Config
from streamptycho.display.ledger import Ledger, Missing
from streamptycho.files.durable.disk import abandon
from streamptycho.files.result import write_result
from streamptycho.files.writer import CxiWriter
from streamptycho.messages.reasons import EndReason
from streamptycho_services import cli
from tests.files.factories import assessment, end, estimates, outcome, pixels, positions, raw, snapshot, start

CHANGED = Config().model_dump_json().replace('"backend":"auto"', '"backend":"numpy"', 1)
FULL = outcome(
    snapshot(3, final=True),
    estimates=estimates(),
    assessment=assessment(),
    ledger=Ledger(received=60, used=50, waiting=3, dropped={"corrupt": 7}),
    written=53,
    config_json=CHANGED,
)
KINDS = pytest.mark.parametrize("kind", ["scan.cxi", "scan.result.h5"])


def saved(path: Path, whole=FULL) -> Path:
    if path.suffix == ".h5":
        write_result(path, whole)
        return path
    with CxiWriter(path, start(), config_json=whole.config_json) as writer:
        writer.append(raw(pixels(4), [0, 1, 2, 3]))
        writer.positions(positions([0, 1, 2, 3]))
        writer.finish(whole)
    return path


def inspect(*arguments: object) -> str:
    result = CliRunner().invoke(cli.app, ["inspect", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.stdout


@KINDS
def test_what_was_learnt_for_programs(tmp_path, kind):
    found = json.loads(inspect(saved(tmp_path / kind), "--json"), parse_constant=pytest.fail)
    assert found["verdict"] == assessment().verdict
    assert found["trusted"] is False
    assert found["findings"] == assessment().findings
    assert found["figures"] == assessment().figures
    assert found["resolution_m"] == 31e-9
    assert found["ring_correlation"] == pytest.approx(assessment().ring_correlation.tolist())
    assert found["frequency_per_m"] == pytest.approx(assessment().frequency_per_m.tolist())
    assert found["frame_counts"] == {"received": 60, "used": 50, "waiting": 3, "dropped": {"corrupt": 7}}
    known = estimates()
    assert found["estimates"]["frames"] == 25
    assert found["estimates"]["mode_powers"] == [0.75, 0.25]
    shift_m = np.hypot(*(known.refined_yx_m - known.recorded_yx_m).T)
    assert found["estimates"]["position_shift_rms_m"] == pytest.approx(np.sqrt(np.mean(shift_m**2)))
    assert found["estimates"]["flux_to"] == pytest.approx(known.flux.max())
    assert found["estimates"]["background_counts_per_frame"] == pytest.approx(known.background.sum(), rel=1e-5)
    assert found["config"] == json.loads(CHANGED)


@KINDS
def test_what_was_learnt_for_people(tmp_path, kind):
    lines = inspect(saved(tmp_path / kind)).splitlines()
    for line in (
        f"verdict: {assessment().verdict}",
        "trusted: no",
        "  orientation: Positions contradict the patterns; set it",
        "resolution: 31 nm",
        "criterion: half-bit",
        "  covered: 4e-12 m^2",
        "ring correlation: 30 values, shown by --json",
        "    corrupt: 7",
        "  trust: confident",
        "  probe origin: found in the data (µ)",
        "  mode powers: 0.75, 0.25",
        "end reason: complete",
        "setting engine.backend: numpy",
    ):
        assert line in lines, line
    assert [line for line in lines if line.startswith("setting ")] == ["setting engine.backend: numpy"]
    (rms,) = (line for line in lines if line.startswith("  position shift rms: "))
    assert rms.endswith(" nm")


def test_a_file_whose_writer_died(tmp_path):
    path = tmp_path / "scan.cxi"
    with CxiWriter(path, start()) as writer:
        writer.append(raw(pixels(2), [0, 1]))
        writer.positions(positions([0, 1]))
        writer.flush()
        assert "state: it is being written" in inspect(path)
        abandon(writer._file)
        assert "state: its writer died, or was never told to finish it. To go on with its scan start" in inspect(path)
        assert f"`streamptycho recover {path}`" in json.loads(inspect(path, "--json"))["state"]
        writer.reopen()
        writer.finish(FULL)
    assert "state:" not in inspect(path)


def test_a_result(tmp_path):
    picture = tmp_path / "phase.png"
    found = json.loads(inspect(saved(tmp_path / "r.h5"), "--json", "--picture", picture))
    assert (found["dialect"], found["object_shape"], found["probe_shape"]) == ("result", [40, 50], [2, 16, 24])
    assert (found["object_pixel_m"], found["frames_written"], found["passes"]) == ([28e-9, 14e-9], 53, 6)
    assert found["error"] == pytest.approx(0.1)
    with Image.open(picture) as image:
        assert image.size == (50, 40)
    assert "object pixel: 28 nm, 14 nm" in inspect(tmp_path / "r.h5").splitlines()


@KINDS
def test_what_is_missing(tmp_path, kind):
    lack = Missing(frames=40, positions=3, gaps=2)
    short = replace(FULL, end=end(EndReason.INCOMPLETE), missing=lack)
    found = json.loads(inspect(saved(tmp_path / kind, short), "--json"))
    assert (found["complete"], found["end_reason"]) == (False, "incomplete")
    assert (found["missing_frames"], found["missing_positions"], found["index_gaps"]) == (40, 3, 2)
    lines = inspect(tmp_path / kind).splitlines()
    assert {"complete: no", "end reason: incomplete", "missing frames: 40", "missing positions: 3"} <= set(lines)


@KINDS
def test_nothing_is_made_up(tmp_path, kind):
    whole = outcome(snapshot(0, error_history=np.zeros(0, np.float32)), end=None)
    found = json.loads(inspect(saved(tmp_path / kind, whole), "--json"))
    assert {
        "verdict",
        "trusted",
        "findings",
        "resolution_m",
        "estimates",
        "frame_counts",
        "end_reason",
        "missing_frames",
    } & found.keys() == set()
    assert found["complete"] is False


@KINDS
def test_numbers_that_json_cannot_hold_are_null(tmp_path, kind):
    whole = outcome(
        snapshot(1, error_history=np.array([np.nan])),
        estimates=estimates(unexplained=float("inf"), refined_yx_m=None, flux=None, background=None),
        assessment=assessment(findings={}, figures={"visits": float("nan")}, ring_correlation=np.full(30, np.nan)),
    )
    found = json.loads(inspect(saved(tmp_path / kind, whole), "--json"), parse_constant=pytest.fail)
    assert (found["figures"], found["estimates"]["unexplained"]) == ({"visits": None}, None)
    assert {"position_shift_rms_m", "flux_to", "background_counts_per_frame"} & found["estimates"].keys() == set()
    lines = inspect(tmp_path / kind).splitlines()
    assert "findings: none" in lines
    assert "  unexplained: not known" in lines
