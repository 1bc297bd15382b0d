"""The bench's own parts on a small scale: that what it reports is what it measured. No time is judged."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from streamptycho.solve.devices.backend import cpu_backend
from streamptycho.solve.settings import RuleOptions
from streamptycho.solve.solver import Solver
from streamptycho.solve.store import FrameStore
from tests.bench import cpu, live, memory, quality, rates, scans, writer
from tests.bench.peers import drive

PEER = """
import sys
sys.path.insert(0, {here!r})
import common, numpy as np

class Peer:
    def __init__(self, scan):
        self.scan, self.passes = scan, 0
    def run(self, passes):
        self.passes += passes
        if self.passes > {stamina}:
            raise RuntimeError("worn out")
    def result(self):
        return np.full((self.scan.side, self.scan.side), 1j * self.passes), self.scan.corners[0]

common.main(Peer)
"""

MAKER = """
import numpy as np

def build(n, frames, path, modes, seed):
    made = np.zeros((frames, n, n), np.uint16)
    made[:, n // 2, n // 2] = 9
    return {"frames": made, "corners": np.zeros((frames, 2), int), "object": made[0], "probe_guess": made[:1]}

class LiveError:
    def __init__(self, scan):
        pass
"""


@pytest.fixture
def scan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> scans.BenchScan:
    monkeypatch.setattr(scans, "SHARED", tmp_path / "none")  # the simulator, so that the test is the same everywhere
    return scans.load("raster", n=48, frames=120)


def test_the_error_knows_the_truth(scan: scans.BenchScan):
    made = live.run_live(scan, 2, live.PLAIN, live.FullPasses(), passes=3)
    assert list(made.moments) == ["50", "75", "100", "+1", "+3"]
    assert 0 < made.moments["+3"] < made.moments["+1"] < made.last < 1
    assert made.last == made.moments["100"]
    assert made.cpu_us > 0
    assert live.run_live(scan, 2).live > 0


def test_a_picture_is_judged_where_it_lies(scan: scans.BenchScan):
    solver = Solver(cpu_backend(), FrameStore(cpu_backend(), (48, 48), 1), scan.probe, live.PLAIN, poor_probe=True)
    solver.canvas.ensure((5, 7), (48, 48))
    solver.canvas.object[:] = np.random.default_rng(0).random(solver.canvas.shape)
    shown: list[np.ndarray] = []
    scans.BenchScan(
        scan.amplitudes, scan.corners, scan.probe, scans.judge_of(lambda obj, _: shown.append(obj) or 0.0, (60, 60))
    ).judged(solver)
    (y, x), (h, w) = solver.canvas.origin, solver.canvas.shape
    for row, column in np.ndindex(60, 60):
        inside = 0 <= row - y < h and 0 <= column - x < w
        assert shown[0][row, column] == (solver.canvas.object[row - y, column - x] if inside else 1)


def test_every_frame_arrives_and_the_budget_is_kept(scan: scans.BenchScan):
    asked: list[tuple[int, int]] = []

    class Watched(live.FullPasses):
        def draw(self, visits, corners, count, *, live):
            asked.append((len(visits), count))
            return super().draw(visits, corners, count, live=live)

    odd = scans.BenchScan(scan.amplitudes[:115], scan.corners[:115], scan.probe, lambda *given: given[-1])
    made = live.run_live(odd, 0.25, live.PLAIN, Watched())
    assert asked[-1][0] == 115
    assert sum(count for _, count in asked) == 115 // 4
    assert (made.moments["50"], made.moments["75"], made.last) == (50, 80, 115)
    assert live.run_live(odd, 0).live == np.mean([50, 60, 70, 80, 90, 100, 115]), "each moment once"


def test_a_stored_scan_is_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "benchmark_scan.py").write_text(MAKER)
    monkeypatch.setattr(scans, "SHARED", tmp_path)
    monkeypatch.setattr(scans, "STORE", tmp_path / "scans")
    first, again = scans.load(n=16, frames=3), scans.load(n=16, frames=3)
    assert [file.name for file in (tmp_path / "scans").iterdir()] == ["raster0_16_3_1.npz"]
    assert np.array_equal(first.amplitudes, again.amplitudes)
    assert first.amplitudes[0, 0, 0] == 3, "zero frequency first"
    with pytest.raises(SystemExit, match="star"):
        scans.load("star")


def test_full_passes_use_every_frame_equally():
    passes = live.FullPasses()
    drawn = np.concatenate([passes.draw(np.zeros(20, int), np.zeros((20, 2), int), 15, live=True) for _ in range(4)])
    assert np.bincount(drawn).tolist() == [3] * 20


def test_other_schedules_draw_from_what_they_say():
    visits, corners = np.zeros(300, int), np.zeros((300, 2), int)
    window = quality.Window(20)
    assert np.bincount(window.draw(visits, corners, 40, live=True))[280:].tolist() == [2] * 20
    assert sorted(window.draw(visits, corners, 300, live=False)) == list(range(300))
    halves = quality.Halves()
    drawn = np.concatenate([halves.draw(visits, corners, 60, live=True) for _ in range(10)])
    counts = np.bincount(drawn, minlength=300)
    assert counts[:200].tolist() == [1] * 200
    assert counts[200:].sum() == 400


def test_the_quality_table_compares_with_plain_epie(
    scan: scans.BenchScan, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(quality, "load", lambda _path, _seed: scan)
    ours = "**streamptycho**"
    quality.main(["--budgets", "1", "--seeds", "1", "--paths", "raster", "--rules", quality.BASE, ours])
    equal, timed = capsys.readouterr().out.split("raster, ")[1:]
    lines = [[cell.strip() for cell in line.strip("| ").split("|")] for line in equal.splitlines() if line.startswith("| ")]
    rows = {name: cells for name, *cells in lines}
    run = live.run_live(scan, 1, passes=quality.PASSES)
    assert rows[ours][:6] == [f"{value:.3f}" for value in quality.columns(run)]
    assert rows[quality.BASE][6] == "1.00, 1.00"
    assert "the time of 1 updates" in timed


def test_two_transforms_leave_the_field_as_it_was_but_for_the_scale():
    field = rates.aligned((2, 16, 24))
    field.imag[:] = np.random.default_rng(0).normal(size=field.shape)
    before = field.copy()
    rates.transforms(field, np.zeros(3, np.int64), 1)
    before.real[0, 0, 0] = 0
    assert abs(field.ravel()[1:] / (16 * 24) - before.ravel()[1:]).max() < 1e-5


def test_a_stream_begins_again(scan: scans.BenchScan):
    stream = rates.Stream(scan, RuleOptions(), 2, 1, "rocket")
    cpu_s, wall_s = stream.advance(160)
    assert len(stream.store) == 40
    assert stream.solver.updates == 80
    assert cpu_s > 0
    assert wall_s > 0


@pytest.mark.slow
def test_the_figures_are_named_and_come_last(scan: scans.BenchScan, capsys: pytest.CaptureFixture[str]):
    parts = ["--parts", "rates", "threads", "quality"]
    small = {"n": 48, "frames": 120, "seeds": 0, "budgets": 1, "repeats": 1, "orders": 1}
    figures = cpu.main(parts + [word for name, value in small.items() for word in (f"--{name}", str(value))])
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last == json.loads(json.dumps(figures))
    assert figures["update_over_two_ffts"] > 1
    assert figures["live_error_ratio_1"] > 0
    assert figures["last_error_ratio_1"] == pytest.approx(
        (figures["last_error_ratio_1_raster"] + figures["last_error_ratio_1_spiral"]) / 2
    )
    assert figures["update_over_ptylab"] is None, "it was not asked for"


@pytest.mark.slow
def test_memory_is_that_of_the_run(scan: scans.BenchScan):
    assert 0.9 < memory.ratio(scan) < 50  # frames of 32 pixels weigh nothing beside the buffers of a run


def test_passes_of_a_peer_are_counted_and_judged(scan: scans.BenchScan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(drive, "HERE", tmp_path)
    monkeypatch.setattr(drive, "environment", lambda name: sys.executable)
    (tmp_path / "with_fake.py").write_text(PEER.format(here=str(Path(drive.__file__).parent), stamina=2))
    peer = drive.Peer("fake", scan, 60)
    for _ in range(2):
        peer.run_pass()
    outcome = peer.finish()
    assert outcome.passes == 2
    assert 0 < outcome.error < 10
    tired = drive.Peer("fake", scan, 60)
    for _ in range(2):
        tired.run_pass()
    with pytest.raises(drive.PeerError, match="worn out"):
        tired.run_pass()
    tired.close()


def test_a_peer_that_is_not_there_is_in_the_table(
    scan: scans.BenchScan, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def absent(name: str) -> Path:
        raise drive.PeerError(f"not installed: no {name}")

    monkeypatch.setattr(drive, "environment", absent)
    figures = cpu.peer_table(scan, ["ptylab"], 20, 1)
    assert figures == {"update_over_ptylab": None}
    assert "no ptylab" in capsys.readouterr().out


def test_our_passes_are_those_of_the_solver(scan: scans.BenchScan):
    own = cpu.Ours(scan, 40, live.PLAIN)
    own.run_pass()
    store = FrameStore(cpu_backend(), (48, 48), 40)
    solver = Solver(cpu_backend(), store, scan.probe, live.PLAIN, poor_probe=True)
    for row, (y, x) in enumerate(scan.corners[:40].tolist()):
        solver.admit(store.append(scan.amplitudes[row], (y, x)))
    solver.sweep(np.random.default_rng(0).permutation(40))
    assert np.array_equal(own.solver.canvas.object, solver.canvas.object)
    assert len(own.times) == 1


def test_the_memory_of_the_writer_is_looked_at_as_often_as_asked():
    assert len(writer.memory(16, 80, looks=4)) == 4


def test_the_writer_is_measured_beside_a_bare_loop():
    for mode, loops in (("direct", ["bare", "checked", "writer", "stage"]), ("raw", ["bare", "writer", "stage"])):
        spent = writer.measure(16, "uint16", 40, 1, mode)
        assert list(spent) == loops
        assert min(spent.values()) > 0
