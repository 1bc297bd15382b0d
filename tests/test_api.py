"""The entrance for notebooks and scripts: results, errors, interrupts, and the page and notebook that show it."""

import contextlib
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

import streamptycho as sp
from streamptycho import api
from streamptycho.assess.assessor import Assessor
from streamptycho.config import load
from streamptycho.errors import ConfigError, FormatError, InputError, ScanError
from streamptycho.files.result import read_result
from streamptycho.interactive.progress import Line
from streamptycho_services.commands.summary import correlation_with_truth
from streamptycho_sim.scan import SimulatedScan, SyntheticOptions
from tests.chain import PROGRAM, Command
from tests.files.recordings import write_scan

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "notebook.md").read_text(encoding="utf-8")
NOTEBOOK = ROOT / "docs" / "examples" / "reconstruct.ipynb"
SMALL = SyntheticOptions(scan_id="small", frames=80, shape=48)
GEOMETRY: dict[str, Any] = {"energy_ev": SMALL.energy_ev, "distance_m": SMALL.distance_m, "pitch_m": SMALL.pitch_m}
STEADY: dict[str, Any] = {"threads": 1, "progress": False}


@pytest.fixture(scope="module")
def simulated() -> SimulatedScan:
    return SimulatedScan(SMALL)


@pytest.fixture(scope="module")
def frames(simulated: SimulatedScan) -> np.ndarray:
    return np.stack([simulated.frame(i) for i in range(len(simulated))])


@pytest.fixture(scope="module")
def file(simulated: SimulatedScan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("api") / "scan.cxi"
    simulated.save_truth(path.with_name("truth.npz"))
    write_scan(path, [item.message for item in simulated.items(0)])
    return path


@pytest.fixture(scope="module")
def result(file: Path) -> sp.Result:
    """Of the whole file, in twelve passes."""
    with sp.open_scan(file) as scan:
        return sp.reconstruct(scan, passes=12, **STEADY)


def arrays(stack: np.ndarray, simulated: SimulatedScan, /, **changes: Any) -> sp.Scan:
    return sp.scan_from_arrays(**({"frames": stack, "positions_yx_m": simulated.yx_m, **GEOMETRY} | changes))


class TestTop:
    def test_importing_it_and_the_configuration_stays_light(self) -> None:
        code = (
            "import sys, streamptycho as sp; assert not {'numpy', 'pydantic'} & set(sys.modules); "
            "import streamptycho.config; assert not {'numba', 'h5py', 'scipy', 'PIL'} & set(sys.modules); "
            "assert 'streamptycho.api' not in sys.modules and 'Live' in dir(sp) and sp.Live.__name__ == 'Live'"
        )
        subprocess.run([sys.executable, "-c", code], check=True)

    def test_has_every_name_of_the_api_and_no_other(self) -> None:
        assert sp.__all__ == api.__all__
        for name in api.__all__:
            assert getattr(sp, name) is getattr(api, name)
        with pytest.raises(AttributeError, match="no attribute 'reconstuct'"):
            sp.reconstuct  # noqa: B018


class TestScan:
    def test_of_a_file_says_what_was_understood(self, file: Path, simulated: SimulatedScan, frames: np.ndarray) -> None:
        with sp.open_scan(file) as scan:
            text = repr(scan)
            assert "80 of 48 x 48 uint16, 80 with a position" in text
            assert "8800 eV (wavelength 140.9 pm)" in text
            assert "75 x 75 um pixels" in text
            assert f"{simulated.pixel_m[0] * 1e9:.4g} nm" in text
            assert scan.pixel_m == pytest.approx(simulated.pixel_m)
            np.testing.assert_array_equal(scan.frame(3), frames[3])
            np.testing.assert_allclose(scan.yx_m, simulated.yx_m)
            assert list(scan) == list(range(80))

    def test_is_read_as_set_by_keyword(self, file: Path) -> None:
        with sp.open_scan(file, energy_ev=9000) as scan:
            assert scan.geometry.energy_ev == pytest.approx(9000)
        with pytest.raises(ConfigError, match=r"read\.energy: unknown key; did you mean 'energy_ev'"):
            sp.open_scan(file, energy=9000)
        with pytest.raises(FormatError, match="no such file"):
            sp.open_scan(file.with_name("other.cxi"))

    def test_of_arrays_is_that_of_the_file(self, result: sp.Result, frames: np.ndarray, simulated: SimulatedScan) -> None:
        mine = sp.reconstruct(arrays(frames, simulated, pitch_m=(75e-6, 75e-6)), passes=12, **STEADY)
        assert mine.object.tobytes() == result.object.tobytes()
        assert mine.probe.tobytes() == result.probe.tobytes()

    @pytest.mark.parametrize(
        ("dtype", "wanted"), [("float64", "float32"), ("int64", "int32"), ("uint64", "uint32"), (">u2", "uint16")]
    )
    def test_takes_the_types_of_numpy(self, frames: np.ndarray, simulated: SimulatedScan, dtype: str, wanted: str) -> None:
        scan = arrays(frames.astype(dtype), simulated)
        assert scan.start.dtype == np.dtype(wanted)
        np.testing.assert_array_equal(scan.frame(5), frames[5])
        np.testing.assert_array_equal(scan.source.payload(5).decode(), frames[5])

    @pytest.mark.parametrize(
        ("changes", "expected"),
        [
            ({"energy_ev": None}, "energy_ev, wavelength_m: give one of the two"),
            ({"wavelength_m": 1e-10}, "energy_ev, wavelength_m: give one of the two"),
            ({"distance_m": -1.0}, "distance_m: -1.0 is not a positive number"),
            ({"mask": np.ones((3, 3))}, r"mask: shape \(3, 3\) does not match 48 rows"),
            ({"dark": np.full((48, 48), np.nan)}, "dark: has values that are not finite"),
            ({"probe": np.ones(48)}, r"probe: shape \(48,\) is not \(modes, y, x\)"),
            ({"frames": np.ones((80, 48))}, r"frames: shape \(80, 48\) is not \(n, ny, nx\)"),
            ({"frames": np.ones((80, 4, 4), complex)}, r"frames\[0\]: type complex128; give real counts"),
            ({"frames": np.full((80, 4, 4), 1 << 40)}, r"frames\[0\]: counts of int64 up to 1099511627776 do not fit int32"),
            (
                {"positions_yx_m": np.zeros((80, 3))},
                r"shape \(80, 3\) does not fit 80 frames; give \(80, 2\), columns y and x",
            ),
            ({"energy_ev": 8.8}, "one frame sees .* m of the object .8.8 eV, .* check their unit, and energy"),
        ],
    )
    def test_that_cannot_be_right_is_refused(
        self, frames: np.ndarray, simulated: SimulatedScan, changes: dict[str, Any], expected: str
    ) -> None:
        with pytest.raises(InputError, match=expected):
            arrays(frames, simulated, **changes)

    @pytest.mark.parametrize(("factor", "unit"), [(1e3, "mm"), (1e6, "um"), (1e9, "nm")])
    def test_in_another_unit_is_refused_with_the_factor(
        self, frames: np.ndarray, simulated: SimulatedScan, factor: float, unit: str
    ) -> None:
        with pytest.raises(ValueError, match=rf"multiply them by {1 / factor:g} if they are {unit}$"):
            arrays(frames, simulated, positions_yx_m=simulated.yx_m * factor)


class TestReconstruct:
    def test_result_is_the_truth(self, result: sp.Result, file: Path, tmp_path: Path) -> None:
        result.save(tmp_path / "result.h5")
        written = read_result(tmp_path / "result.h5")
        assert correlation_with_truth(written, file.with_name("truth.npz")) >= 0.9  # type: ignore[operator]
        np.testing.assert_array_equal(written.object, result.object)
        assert written.pixel_m == pytest.approx(result.pixel_m)

    def test_result_says_how_good_it_is(self, result: sp.Result, simulated: SimulatedScan) -> None:
        assert result.trusted
        assert (result.finished, result.interrupted) == (True, False)
        assert result.verdict.startswith("Finished: 80 of 80 frames, resolution about")
        assert result.findings == {}
        assert 2 * result.pixel_m[0] <= result.resolution_m < 20 * result.pixel_m[0]
        assert len(result.error_history) >= 12
        assert result.error == pytest.approx(result.error_history[-1], rel=0.1)
        assert result.frames.as_dict() == {"received": 80, "used": 80, "waiting": 0, "dropped": {}}
        assert "trusted" in repr(result)
        assert np.isnan(result.phase_rad[~result.covered]).all()
        assert result.probe.shape == (1, 48, 48)

    def test_positions_are_recorded_and_refined(
        self, result: sp.Result, frames: np.ndarray, simulated: SimulatedScan
    ) -> None:
        assert result.positions.index.tolist() == list(range(80))
        np.testing.assert_allclose(result.positions.recorded_yx_m, simulated.yx_m, atol=1e-12)
        assert result.positions.refined_yx_m is None
        wrong = simulated.yx_m + np.random.default_rng(0).normal(0, 1.5, (80, 2)) * simulated.pixel_m
        scan = arrays(frames, simulated, positions_yx_m=wrong)
        found = sp.reconstruct(scan, passes=30, positions={"refine": "on"}, **STEADY).positions
        assert found.refined_yx_m is not None

        def off(yx_m: np.ndarray) -> float:
            difference = (yx_m - simulated.yx_m) / simulated.pixel_m
            return float((difference - difference.mean(0)).std())

        assert off(found.refined_yx_m) < 0.7 * off(found.recorded_yx_m)

    def test_frames_are_taken_in_detector_order(
        self, frames: np.ndarray, simulated: SimulatedScan, result: sp.Result
    ) -> None:
        scan = arrays(np.ascontiguousarray(frames[:, :, ::-1]), simulated)
        mine = sp.reconstruct(scan, passes=12, preprocess={"orientation": "flip-x", "center": (24, 24)}, **STEADY)
        there = sp.reconstruct(arrays(frames, simulated), passes=12, preprocess={"center": (24, 24)}, **STEADY)
        assert mine.object.tobytes() == there.object.tobytes()

    @pytest.mark.parametrize(
        ("settings", "expected"),
        [
            ({"mode": 2}, r"engine\.mode: unknown key; did you mean 'modes'"),
            ({"modes": "many"}, r"engine\.modes: 'many'"),
            ({"positions": {"refined": "on"}}, r"engine\.positions\.refined: unknown key; did you mean 'refine'"),
            ({"preprocess": {"orient": 1}}, r"preprocess\.orient: unknown key; did you mean 'orientation'"),
            (
                {"orientation": "flip-x"},
                r"orientation: is a key of \[preprocess\]; write preprocess={'orientation': 'flip-x'}",
            ),
            ({"position_unit": "um"}, r"position_unit: is a key of \[read\]; write open_scan\(path, position_unit='um'\)"),
            ({"rules": {"momentum": False}}, r"engine\.rules: unknown key; did you mean 'rule'"),
            ({"config": "missing.toml"}, r"missing\.toml: cannot be read"),
        ],
    )
    def test_wrong_settings_are_named(
        self, frames: np.ndarray, simulated: SimulatedScan, settings: dict[str, Any], expected: str
    ) -> None:
        with pytest.raises(ConfigError, match=expected):
            sp.reconstruct(arrays(frames, simulated), **settings)

    def test_settings_lie_over_the_file(self, frames: np.ndarray, simulated: SimulatedScan, tmp_path: Path) -> None:
        path = tmp_path / "beamline.toml"
        path.write_text("[engine]\nmodes = 2\nseed = 3\n[positions]\nflip_y = true\n")
        rule = {"rule": {"momentum": False}, "positions": {"swap": True, "refine": "auto"}}
        for config in (path, load(path)):
            live = sp.Live(arrays(frames, simulated), config=config, seed=4, **rule)
            live.add(0, frames[0], simulated.yx_m[0])
            used = json.loads(live.outcome().config_json)
            assert (used["engine"]["modes"], used["engine"]["seed"], used["engine"]["rule"]["momentum"]) == (2, 4, False)
            assert (used["positions"]["flip_y"], used["positions"]["swap"]) == (True, True)
            assert used["engine"]["positions"]["refine"] == "auto"

    def test_starts_from_a_probe_that_is_given(self, frames: np.ndarray, simulated: SimulatedScan) -> None:
        given = sp.reconstruct(arrays(frames, simulated), passes=3, probe=simulated.probe[0], **STEADY)
        assert given.estimates is not None
        assert given.estimates.probe_origin == "recorded with the scan"
        found = sp.reconstruct(arrays(frames, simulated, probe=simulated.probe), passes=3, probe="auto", **STEADY)
        assert found.estimates is not None
        assert found.estimates.probe_origin.startswith("from the data")

    def test_without_a_picture_says_where_the_frames_went(self, frames: np.ndarray, simulated: SimulatedScan) -> None:
        with pytest.raises(ScanError, match=r"arrays: no picture of 80 frames \(80 empty\)"):
            sp.reconstruct(arrays(np.zeros_like(frames), simulated), **STEADY)

    def test_progress_is_reported(self, frames: np.ndarray, simulated: SimulatedScan) -> None:
        seen: list[sp.Progress] = []
        sp.reconstruct(arrays(frames, simulated), passes=3, progress=seen.append, threads=1)
        assert seen[0].state == "reading"
        assert (seen[-1].state, seen[-1].frames, seen[-1].expected, seen[-1].over) == ("done", 80, 80, True)
        assert seen[-1].error < 0.1
        assert str(seen[0]).startswith("reading: ")
        assert [progress.over for progress in seen].count(True) == 1

    def test_progress_is_one_line(self) -> None:
        stream = io.StringIO()
        line = Line(stream)
        for state in ("reading", "reading", "polishing", "done"):
            line(sp.Progress(state=state, frames=3, expected=4, passes=2, error=0.5))
        first, last = stream.getvalue().split("\r")[1:]
        assert first == "reading: 3 of 4 frames"
        assert last == "done: 3 frames, pass 2, error 0.50000\n"


class TestInterrupt:
    def test_gives_what_there_is_and_can_be_gone_on_from(self, frames: np.ndarray, simulated: SimulatedScan) -> None:
        def stop(progress: sp.Progress) -> None:
            if progress.passes >= 2 and not progress.over:
                raise KeyboardInterrupt

        live = sp.Live(arrays(frames, simulated), threads=1)
        live.finish(passes=10**6, progress=stop)
        result = live.result()
        assert (result.finished, result.interrupted) == (False, True)
        assert "unfinished" in repr(result)
        assert result.frames.used == 80
        live.finish(passes=len(result.error_history) + 5, progress=False)
        assert (live.result().finished, live.result().interrupted) == (True, False)
        assert len(live.result().error_history) > len(result.error_history)

    def test_while_reading_leaves_the_rest_for_later(self, frames: np.ndarray, simulated: SimulatedScan) -> None:
        def stop(progress: sp.Progress) -> None:
            if progress.state == "reading":
                raise KeyboardInterrupt

        live = sp.Live(arrays(frames, simulated), threads=1)
        live.finish(passes=3, progress=stop)
        assert 0 < live.frames.received < 80
        with pytest.raises(ScanError, match="no picture of"):
            live.result()
        live.finish(passes=3, progress=False)
        assert live.result().frames.as_dict() == {"received": 80, "used": 80, "waiting": 0, "dropped": {}}


def test_the_limit_of_time_holds_for_the_assessment_too(
    frames: np.ndarray, simulated: SimulatedScan, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = sp.Live(arrays(frames, simulated), threads=1)
    live.finish(passes=1, progress=False)
    monkeypatch.setattr(Assessor, "owed", lambda *_: True)
    live.finish(passes=1, seconds=0.5, progress=False)
    assert live.result().finished


class TestLive:
    def test_forms_its_picture_while_frames_come(self, frames: np.ndarray, simulated: SimulatedScan, tmp_path: Path) -> None:
        simulated.save_truth(tmp_path / "truth.npz")
        live = sp.Live(**GEOMETRY, expected=80, threads=1)
        for i in range(80):
            live.add(i, frames[i], simulated.yx_m[i])
            live.step(0.01)
            if i == 50:
                early = live.result()
        assert not early.finished
        assert early.frames.received == 51
        live.finish(passes=8, progress=False)
        late = live.result()
        assert late.finished
        assert late.trusted
        assert late.object.shape[0] > early.object.shape[0]
        assert late.error == live.error < 0.002  # which a processor with time for 200 passes reaches after 50 frames
        late.save(tmp_path / "late.h5")
        written = read_result(tmp_path / "late.h5")
        assert correlation_with_truth(written, tmp_path / "truth.npz") >= 0.9  # type: ignore[operator]

    def test_counts_what_cannot_be_used(self, frames: np.ndarray, simulated: SimulatedScan) -> None:
        live = sp.Live(arrays(frames, simulated), threads=1)
        for i in (5, 3, 5, 3):
            live.add(i, frames[i], simulated.yx_m[i])
        live.add(4, frames[4], (np.nan, 0.0))
        live.finish(passes=2, progress=False)
        expected = {"received": 82, "used": 79, "waiting": 0, "dropped": {"duplicate": 2, "no_position": 1}}
        assert live.result().frames.as_dict() == expected

    def test_frames_that_cannot_be_right_are_named(self, frames: np.ndarray, simulated: SimulatedScan) -> None:
        live = sp.Live(**GEOMETRY)
        with pytest.raises(ScanError, match="no frame has been added"):
            live.result()
        live.add(0, frames[0], simulated.yx_m[0])
        for index, frame, yx_m, expected in [
            (1, frames[1][:40], (0, 0), r"frame 1: shape \(40, 48\) differs from \(48, 48\) of the scan"),
            (1, frames[1].astype(np.float32), (0, 0), "frame 1: type float32 does not fit uint16 of the scan"),
            (1, frames[:2], (0, 0), r"frame 1: shape \(2, 48, 48\) is not \(ny, nx\)"),
            (1, frames[1], (0, 0, 0), r"frame 1: position \(0, 0, 0\) is not \(y, x\), metres"),
            (-1, frames[1], (0, 0), "frame -1: the index counts from 0"),
        ]:
            with pytest.raises(InputError, match=expected):
                live.add(index, frame, yx_m)
        live.add(1, frames[1], simulated.yx_m[1])
        assert live.frames.received == 2

    def test_positions_in_micrometres_are_refused(self, frames: np.ndarray, simulated: SimulatedScan) -> None:
        live = sp.Live(**GEOMETRY)
        with pytest.raises(InputError, match=r"lie further apart than the largest object .* multiply them by 1e-6"):  # noqa: PT012
            for i in range(80):
                live.add(i, frames[i], simulated.yx_m[i] * 1e6)

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            ({"energy_ev": 8800}, "distance_m and pitch_m: not given; both are metres"),
            ({"distance_m": 1.0, "pitch_m": 1e-5}, "energy_ev, wavelength_m: give one of the two"),
        ],
    )
    def test_needs_a_geometry(self, arguments: dict[str, Any], expected: str) -> None:
        with pytest.raises(InputError, match=expected):
            sp.Live(**arguments)

    def test_takes_none_beside_a_scan(self, frames: np.ndarray, simulated: SimulatedScan) -> None:
        with pytest.raises(InputError, match="energy_ev: known from the scan; leave them out"):
            sp.Live(arrays(frames, simulated), energy_ev=8800)


class TestPicture:
    def test_shows_in_its_colour_whether_it_can_be_trusted(self, result: sp.Result) -> None:
        from dataclasses import replace

        image = Image.open(io.BytesIO(result._repr_png_()))
        assert min(image.size) > 400
        doubtful = replace(
            result, outcome=replace(result.outcome, assessment=replace(result.assessment, trusted=False))
        ).picture()
        good, bad = (110, 200, 130), (240, 170, 60)
        assert has(image, good)
        assert not has(image, bad)
        assert has(doubtful, bad)
        assert not has(doubtful, good)

    def test_can_be_saved_alone(self, result: sp.Result, tmp_path: Path) -> None:
        result.save(tmp_path / "result.png")
        with Image.open(tmp_path / "result.png") as image:
            assert image.size == result.picture().size
        for name in ("nowhere/result.png", "nowhere/result.h5"):
            with pytest.raises(ScanError, match=f"{name}: the .* cannot be written"):
                result.save(tmp_path / name)


def has(image: Image.Image, colour: tuple[int, int, int]) -> bool:
    return bool((np.asarray(image) == colour).all(-1).any())


def example(name: str) -> str:
    found = re.search(rf"<!-- {re.escape(name)} -->\n```\w*\n(.*?)\n```", PAGE, re.DOTALL)
    assert found is not None, name
    return found.group(1)


class TestPages:
    def test_examples_of_the_page_run(
        self, file: Path, frames: np.ndarray, simulated: SimulatedScan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "scan.cxi").symlink_to(file)
        shown: list[Image.Image] = []
        monkeypatch.setattr(Image.Image, "show", lambda image: shown.append(image))
        results: list[sp.Result] = []
        names: dict[str, Any] = {"load_mine": lambda: (frames, simulated.yx_m)}
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            for part in re.findall(r"<!-- (example: .*?) -->", PAGE):
                exec(compile(example(part), part, "exec"), names)
                results.append(names["result"])
        assert [image.size for image in shown] == [results[0].picture().size]
        np.testing.assert_array_equal(read_result(tmp_path / "result.h5").object, results[0].object)
        assert names["errors"][-1] < 0.1
        assert len(printed.getvalue().splitlines()) == 2
        assert results[-1].trusted

    def test_every_name_of_the_table_exists(self, result: sp.Result) -> None:
        table = PAGE.partition("## What a result holds")[2].partition("##")[0]
        named = {
            name for cells in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", cells)
        }
        public = {name for name in dir(result) if not name.startswith("_")} - {
            "show",
            "save",
            "picture",
            "assessment",
            "algorithm",
        }
        assert named == public

    def test_error_is_as_shown(self, frames: np.ndarray, simulated: SimulatedScan) -> None:
        with pytest.raises(InputError) as caught:
            sp.scan_from_arrays(frames, simulated.yx_m * 1e6, **GEOMETRY)
        shown, real = (re.sub(r"[\d.]+(e-?\d+)? m\b", "N m", text) for text in (example("error"), str(caught.value)))
        assert shown == real

    def test_notebook_is_small_executed_and_runs(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        assert NOTEBOOK.stat().st_size < 300_000
        cells = [cell for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
        assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
        kinds = {output["output_type"] for cell in cells for output in cell["outputs"]}
        assert "error" not in kinds
        assert any("image/png" in output.get("data", {}) for cell in cells for output in cell["outputs"])
        names: dict[str, Any] = {}
        with contextlib.redirect_stdout(io.StringIO()):
            for cell in cells:
                exec(compile("".join(cell["source"]), "notebook", "exec"), names)
        assert names["result"].trusted


@pytest.mark.slow
@pytest.mark.parametrize("name", ["siemens_star_seed.cxi", "siemens_star_standard.cxi", "siemens_star_aps.h5"])
def test_five_lines_make_the_star(shared_data: Path, shared_tools: ModuleType, tmp_path: Path, name: str) -> None:
    scan = sp.open_scan(shared_data / name)
    result = sp.reconstruct(scan, progress=False)
    result.save(tmp_path / "result.h5")
    reference, support = shared_tools.load(str(shared_data / "siemens_star_reference.npz"))
    picture, _ = shared_tools.load(str(tmp_path / "result.h5"))
    assert shared_tools.compare(picture, reference, support)["detail_correlation"] >= 0.99
    assert result.trusted
    assert result.findings == {}
    scan.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "code", "findings"),
    [("siemens_star_aps.h5", 0, set()), ("cases/09_sharp_nsls2_yx0.cxi", 3, {"orientation"})],
)
def test_the_command_says_whether_the_picture_can_be_trusted(
    shared_data: Path, tmp_path: Path, name: str, code: int, findings: set[str]
) -> None:
    with Command(PROGRAM, "reconstruct-file", shared_data / name, "-o", tmp_path / "result.h5", "--json") as command:
        assert command.wait(200) == code, command.err
        report = command.report()
    assert report["trusted"] == (code == 0)
    assert set(report["findings"]) == findings
    assert report["figures"]["error"] == pytest.approx(report["error"])
    if code:
        assert "positions.swap" in report["findings"]["orientation"]
        assert report["verdict"].startswith("Not to be trusted: ")
    else:
        assert report["verdict"].startswith("Finished: 516 of 516 frames")
        assert report["resolution_m"] < 200e-9


def test_a_scan_of_which_some_is_missing_stays_incomplete(simulated: SimulatedScan, tmp_path: Path) -> None:
    path = tmp_path / "scan.cxi"
    write_scan(path, [item.message for item in simulated.items(0)])
    with h5py.File(path, "r+") as file:
        live = file["entry_1/streamptycho"]
        live["complete"][()], live["counters/missing"][()] = 0, 3
    with sp.open_scan(path) as scan:
        assert "the scan is not complete: 3 frames missing" in repr(scan)
        result = sp.reconstruct(scan, passes=2, **STEADY)
    result.save(tmp_path / "result.h5")
    with h5py.File(tmp_path / "result.h5") as file:
        live = file["entry_1/streamptycho"]
        assert (live["complete"][()], live["end_reason"][()], live["counters/missing"][()]) == (0, b"incomplete", 3)
