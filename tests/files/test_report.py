"""What the reconstruction learnt, in the growing file and in the result: the same, typed, at the same places."""

import re
from dataclasses import fields
from typing import Any

import h5py
import numpy as np
import pytest

from streamptycho import __version__
from streamptycho.display.ledger import Ledger, Missing
from streamptycho.errors import FormatError, GrammarError
from streamptycho.files.report import FIELDS, Report, read_report
from streamptycho.files.result import read_result, write_result
from streamptycho.files.scan import open_scan
from streamptycho.files.writer import CxiWriter
from tests.files.factories import (
    LIVE,
    STARTED_NS,
    TRANSLATION,
    assessment,
    end,
    estimates,
    outcome,
    pixels,
    positions,
    raw,
    snapshot,
    start,
)
from tests.files.test_live import ROOT, python, told

BOTH = pytest.mark.parametrize("name", ["scan.cxi", "scan.result.h5"])
LEDGER = Ledger(received=60, used=50, waiting=3, dropped={"corrupt": 5, "outside": 2})
FULL = {"estimates": estimates(), "assessment": assessment(), "ledger": LEDGER, "written": 2, "config_json": '{"a": "µ"}'}
FULL |= {"remarks": ("frames wait for positions: look at detector.positions", "µm")}


def save(path, **parts):
    """A scan of two frames that came to these parts, in a growing file or as a result."""
    whole = outcome(snapshot(3, final=True), **parts)
    if path.suffix == ".h5":
        write_result(path, whole)
        return path
    with CxiWriter(path, start(), config_json=whole.config_json) as writer:
        writer.append(raw(pixels(2), [0, 1]))
        writer.positions(positions([0, 1]))
        writer.finish(whole)
    return path


def report_of(path) -> Report:
    if path.suffix == ".h5":
        return read_result(path).report
    with open_scan(path) as scan:
        return scan.report


def same(one, two) -> bool:
    """Whether two messages say the same; as messages they would be equal only to themselves."""
    pairs = [(getattr(one, field.name), getattr(two, field.name)) for field in fields(one)]
    return all(np.array_equal(a, b) if isinstance(b, np.ndarray) else a == b for a, b in pairs)


def everything(path):
    """Every name in the file with what does not change: links, types, attributes."""
    found = {}

    def note(group):
        for name in group:
            link = group.get(name, getlink=True)
            where = f"{group.name}/{name}"
            if isinstance(link, h5py.SoftLink):
                found[where] = link.path
                continue
            item = group[name]
            found[where] = getattr(item, "dtype", None), sorted((key, str(value)) for key, value in item.attrs.items())
            if isinstance(item, h5py.Group):
                note(item)

    with h5py.File(path, "r", swmr=True) as file:
        note(file)
    return found


@BOTH
class TestRoundTrip:
    def test_all_parts(self, tmp_path, name):
        report = report_of(save(tmp_path / name, **FULL))
        assert same(report.estimates, estimates())
        assert same(report.assessment, assessment())
        assert report.ledger == LEDGER
        assert (report.title, report.program, report.config) == ("scan", f"streamptycho {__version__}", {"a": "µ"})
        assert (report.end_reason, report.complete, report.written) == ("complete", True, 2)

    def test_no_part_is_none(self, tmp_path, name):
        report = report_of(save(tmp_path / name))
        assert (report.estimates, report.assessment, report.ledger) == (None, None, None)

    @pytest.mark.parametrize("absent", ["refined_yx_m", "flux", "background"])
    def test_what_was_not_estimated_is_none(self, tmp_path, name, absent):
        known = estimates(**{absent: None})
        found = report_of(save(tmp_path / name, estimates=known)).estimates
        assert getattr(found, absent) is None
        assert same(found, known)

    def test_before_there_is_a_curve_or_a_finding(self, tmp_path, name):
        empty = np.zeros(0, np.float32)
        early = assessment(
            findings={}, figures={}, frequency_per_m=empty, ring_correlation=empty, criterion="", trusted=True
        )
        assert same(report_of(save(tmp_path / name, assessment=early)).assessment, early)

    @pytest.mark.parametrize("unexplained", [float("inf"), float("nan")])
    def test_a_probe_that_could_not_be_judged(self, tmp_path, name, unexplained):
        found = report_of(save(tmp_path / name, estimates=estimates(unexplained=unexplained))).estimates
        assert np.array_equal(found.unexplained, unexplained, equal_nan=True)

    @pytest.mark.parametrize("lack", [Missing(frames=7, positions=0, gaps=2), Missing(), Missing(frames=0)])
    def test_what_is_missing(self, tmp_path, name, lack):
        assert report_of(save(tmp_path / name, missing=lack)).missing == lack

    def test_reasons_without_a_counter_add_up(self, tmp_path, name):
        report = report_of(save(tmp_path / name, ledger=Ledger(received=6, dropped={"meteor": 2, "other": 4})))
        assert report.ledger == Ledger(received=6, dropped={"other": 6})

    def test_an_early_end(self, tmp_path, name):
        report = report_of(save(tmp_path / name, end=None, **FULL))
        assert (report.end_reason, report.complete) == (None, False)
        assert report.assessment.verdict == assessment().verdict
        assert report.remarks == FULL["remarks"]

    def test_places_units_and_program(self, tmp_path, name):
        """The lines that a stranger writes."""
        known = estimates()
        with h5py.File(save(tmp_path / name, **FULL)) as file:
            positions = file["/entry_1/streamptycho/estimates/positions"]
            assert np.array_equal(positions["x"][()], known.refined_yx_m[:, 1])
            assert np.array_equal(positions["recorded_y"][()], known.recorded_yx_m[:, 0])
            assert np.array_equal(positions["index"][()], known.index)
            assert np.allclose(positions["shift"][()], np.hypot(*(known.refined_yx_m - known.recorded_yx_m).T))
            judged = file["/entry_1/streamptycho/assessment"]
            assert judged["verdict"][()].decode() == assessment().verdict
            assert judged["findings/sentence"][1].decode() == assessment().findings["overlap"]
            assert judged["resolution"][()] == 31e-9
            assert judged["trusted"][()] == 0
            assert dict(file.attrs)["creator_version"] == file["/entry_1/process_1/version"][()].decode() == __version__
            for field in FIELDS:
                assert file[f"{LIVE}/{field.path}"].attrs.get("units", "") == field.units, field.path
            assert {field.units for field in FIELDS if "position" in field.path or "resolution" in field.path} == {"", "m"}

    def test_what_viewers_plot(self, tmp_path, name):
        seen = {}

        def check(name, item):
            if item.attrs.get("NX_class") == "NXdata" and "streamptycho" in name:
                signal = item[item.attrs["signal"]]
                axes = [item[axis] for axis in item.attrs.get("axes", [])]
                assert all(axis.shape == signal.shape for axis in axes)
                seen[name.rpartition("/")[2]] = [axis.name.rpartition("/")[2] for axis in axes]

        with h5py.File(save(tmp_path / name, **FULL)) as file:
            file.visititems(check)
        curves = {"positions": ["x", "y"], "flux": ["index"], "background": [], "ring_correlation": ["frequency"]}
        assert seen == curves


class TestGrowingFile:
    def test_nothing_is_created_after_the_beginning(self, tmp_path):
        with CxiWriter(tmp_path / "scan.cxi", start()) as writer:
            before = everything(writer.path)
            writer.append(raw(pixels(2), [0, 1]))
            writer.positions(positions([0, 1]))
            writer.snapshot(snapshot(1))
            writer.finish(outcome(snapshot(3, final=True), **FULL))
        assert everything(tmp_path / "scan.cxi") == before
        assert {f"{LIVE}/{field.path}" for field in FIELDS} <= before.keys()

    def test_refined_positions_lie_beside_the_recorded_ones(self, tmp_path):
        with h5py.File(save(tmp_path / "scan.cxi", **FULL)) as file:
            beside = file[TRANSLATION].parent["refined_positions"]
            assert np.array_equal(beside["x"][()], estimates().refined_yx_m[:, 1])
            assert np.array_equal(file[TRANSLATION][:, 1], positions([0, 1]).yx_m[:, 0]), "as they were recorded"

    def test_a_scan_that_never_ended_says_nothing(self, tmp_path):
        with CxiWriter(tmp_path / "scan.cxi", start()) as writer:
            writer.counters(LEDGER)
            with open_scan(writer.path) as scan:
                assert (scan.report.estimates, scan.report.assessment) == (None, None)
                assert scan.report.ledger == LEDGER, "also while it is written"
        report = report_of(tmp_path / "scan.cxi")
        assert (report.estimates, report.assessment, report.complete, report.end_reason) == (None, None, False, None)

    def test_a_text_that_is_too_long_says_where_it_was_cut(self, tmp_path):
        long = assessment(verdict="µ" * 2000, findings={"overlap": "short", "c" * 100: "s" * 5000})
        cut = report_of(save(tmp_path / "scan.cxi", assessment=long)).assessment
        assert cut.verdict.endswith("µ [cut, 4000 bytes in all]")
        assert 1020 <= len(cut.verdict.encode()) <= 1024
        assert cut.findings["overlap"] == "short"
        (code,) = cut.findings.keys() - {"overlap"}
        assert code.endswith("c [cut, 100 bytes in all]")
        assert cut.findings[code].endswith("s [cut, 5000 bytes in all]")
        assert same(report_of(save(tmp_path / "r.h5", assessment=long)).assessment, long), "the result has all of it"

    def test_of_another_run(self, tmp_path):
        with CxiWriter(tmp_path / "scan.cxi", start()) as writer:
            with pytest.raises(GrammarError, match=r"outcome\.start: scan@5 is not scan@17"):
                writer.finish(outcome(start=start(started_ns=5)))
            writer.finish(outcome())

    def test_a_reader_from_before_the_end_sees_it(self, tmp_path):
        path = tmp_path / "scan.cxi"
        reader = """
        file = h5py.File(path, "r", swmr=True)
        names = ["findings/sentence", "verdict", "trusted", "ring_correlation/correlation"]
        learnt = [file[f"{LIVE}/assessment/{name}"] for name in names]
        refined = file["/entry_1/sample_1/geometry_1/refined_positions/x"]
        complete = file[f"{LIVE}/complete"]
        print(learnt[0].shape, learnt[1][()], int(learnt[2][()]), refined.shape, flush=True)
        until = time.monotonic() + 50
        while not complete[()] and time.monotonic() < until:
            complete.refresh()
        for dataset in (*learnt, refined):
            dataset.refresh()
        assert np.array_equal(refined[()], estimates().refined_yx_m[:, 1])
        assert np.array_equal(learnt[3][()], assessment().ring_correlation)
        print([one.decode() for one in learnt[0][()]] == list(assessment().findings.values()), int(learnt[2][()]))
        print(learnt[1][()].decode())
        """
        with CxiWriter(path, start()) as writer:
            process = python(reader, path)
            assert process.stdout.readline() == "(0,) b'' -1 (0,)\n"
            writer.append(raw(pixels(1), [0]))
            writer.finish(outcome(snapshot(3), **FULL))
        assert told(process) == f"True 0\n{assessment().verdict}\n"


class TestResult:
    def test_what_is_not_known_is_not_there(self, tmp_path):
        with h5py.File(save(tmp_path / "r.h5", estimates=estimates(flux=None, refined_yx_m=None))) as file:
            found = file[f"{LIVE}/estimates"]
            assert {"flux", "positions/x", "positions/shift"} & {
                *found,
                *(f"positions/{n}" for n in found["positions"]),
            } == set()
            assert found["positions"].attrs["NX_class"] == "NXcollection"
            assert "assessment" not in file[LIVE]
            assert "counters" not in file[LIVE]

    def test_positions_have_a_short_name(self, tmp_path):
        with h5py.File(save(tmp_path / "r.h5", **FULL)) as file:
            assert np.array_equal(file["/positions/y"][()], estimates().refined_yx_m[:, 0])
        with h5py.File(save(tmp_path / "bare.h5")) as file:
            assert "positions" not in file

    def test_of_an_earlier_version_or_of_others(self, tmp_path):
        path = save(tmp_path / "r.h5", **FULL)
        with h5py.File(path, "r+") as file:
            for name in ("assessment", "estimates", "counters", "started_ns"):
                del file[f"{LIVE}/{name}"]
            del file["/entry_1/process_1"]
        report = read_result(path).report
        assert (report.title, report.end_reason, report.complete) == ("scan", "complete", True)
        assert (report.program, report.estimates, report.assessment, report.ledger) == (None,) * 4
        with h5py.File(path, "r+") as file:
            del file["/entry_1"], file["/object/covered"]
        result = read_result(path)
        assert {getattr(result.report, field.name) for field in fields(Report)} == {None, Missing(), ()}
        assert result.covered is None

    def test_where_the_probe_has_been(self, tmp_path):
        assert np.array_equal(read_result(save(tmp_path / "r.h5")).covered, snapshot(3).covered)

    def test_needs_a_picture(self, tmp_path):
        with pytest.raises(ValueError, match=r"outcome\.snapshot: None"):
            write_result(tmp_path / "r.h5", outcome(None))
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        ("path", "value", "reason"),
        [
            ("estimates/flux/flux", np.ones(3), r"estimates\.flux: shape \(3,\) does not match 25 indices"),
            ("estimates/positions/x", np.ones(3), "must have the same shape"),
            ("assessment/figures/value", [1.0], "shorter"),
            ("assessment/trusted", "yes", "assessment/trusted: shape .* is not a number"),
            ("config", b"{", "Expecting property name"),
        ],
    )
    def test_that_contradicts_itself(self, tmp_path, path, value, reason):
        save(tmp_path / "r.h5", **FULL)
        with h5py.File(tmp_path / "r.h5", "r+") as file:
            del file[f"{LIVE}/{path}"]
            file[f"{LIVE}/{path}"] = value
            with pytest.raises(FormatError, match=rf"r\.h5: .*{reason}"):
                read_report(file)


class TestOutcome:
    @pytest.mark.parametrize(
        "part",
        [
            {"picture": snapshot(scan_id="other")},
            {"picture": snapshot(started_ns=STARTED_NS + 1)},
            {"estimates": estimates(started_ns=STARTED_NS + 1)},
            {"assessment": assessment(scan_id="other")},
        ],
    )
    def test_of_several_runs(self, part):
        name = next(iter(part)).replace("picture", "snapshot")
        with pytest.raises(GrammarError, match=rf"outcome\.{name}: .* is not scan@{STARTED_NS}"):
            outcome(**part)

    def test_parts_that_do_not_know_their_beginning(self):
        assert outcome(snapshot(started_ns=0), end=end(), assessment=assessment(started_ns=0)).snapshot is not None


def test_the_document_names_every_place():
    text = (ROOT / "docs" / "files.md").read_text()
    rows = " ".join(line for line in text.splitlines() if line.startswith("|"))
    words = set(re.findall(r"[a-z_]+", " ".join(re.findall(r"`([^`]+)`", rows))))
    assert {word for field in FIELDS for word in field.path.split("/")} - {"time_ns"} <= words


def test_the_example_of_the_document(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "scan.result.h5", **FULL)
    # the first example is for tests/files/test_note.py
    _, example = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "files.md").read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(example, names)
    assert capsys.readouterr().out == f"{assessment().verdict}\n"
    assert names["shift_m"].shape == (25, 2)
