"""The bench's own parts on a small scale: that what it reports is what it measured. No time is judged."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from streamptycho.solve.backend import cpu_backend
from streamptycho.solve.solver import RuleOptions, Solver
from streamptycho.solve.store import FrameStore
from tests.bench import cpu, live, memory, rates
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


@pytest.fixture
def scan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> live.BenchScan:
    monkeypatch.setattr(live, "STORE", tmp_path)
    monkeypatch.setattr(live, "TOOL", tmp_path / "none.py")  # the simulator, so that the test is the same everywhere
    return live.load("raster", n=48, frames=120)


def test_the_error_knows_the_truth(scan: live.BenchScan):
    made = live.run_live(scan, 2, live.PLAIN, live.FullPasses(0), passes=3)
    assert 0 < made.later < made.last < 1
    assert made.cpu_us > 0
    ours = live.run_live(scan, 2)
    assert ours.live > 0


def test_full_passes_use_every_frame_equally():
    passes = live.FullPasses(0)
    drawn = np.concatenate([passes.draw(np.zeros(20, int), np.zeros((20, 2), int), 15, live=True) for _ in range(4)])
    assert np.bincount(drawn).tolist() == [3] * 20


def test_two_transforms_leave_the_field_as_it_was_but_for_the_scale():
    field = rates.aligned((2, 16, 24))
    field.imag[:] = np.random.default_rng(0).normal(size=field.shape)
    before = field.copy()
    rates.transforms(field, np.zeros(3, np.int64), 1)
    before.real[0, 0, 0] = 0
    assert abs(field.ravel()[1:] / (16 * 24) - before.ravel()[1:]).max() < 1e-5


def test_a_stream_begins_again(scan: live.BenchScan):
    stream = rates.Stream(scan, RuleOptions(), 2, 1, "rocket")
    cpu_s, wall_s = stream.advance(160)
    assert len(stream.store) == 40
    assert stream.solver.updates == 80
    assert cpu_s > 0
    assert wall_s > 0


def test_the_figures_are_named_and_come_last(scan: live.BenchScan, capsys: pytest.CaptureFixture[str]):
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


def test_memory_is_that_of_the_run(scan: live.BenchScan):
    assert 0.9 < memory.ratio(scan) < 50  # frames of 32 pixels weigh nothing beside the buffers of a run


def test_passes_of_a_peer_are_counted_and_judged(scan: live.BenchScan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
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
    scan: live.BenchScan, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def absent(name: str) -> Path:
        raise drive.PeerError(f"not installed: no {name}")

    monkeypatch.setattr(drive, "environment", absent)
    figures = cpu.peer_table(scan, ["ptylab"], 20, 1)
    assert figures == {"update_over_ptylab": None}
    assert "no ptylab" in capsys.readouterr().out


def test_our_passes_are_those_of_the_solver(scan: live.BenchScan):
    own = cpu.Ours(scan, 40, live.PLAIN)
    own.run_pass()
    store = FrameStore(cpu_backend(), (48, 48), 40)
    solver = Solver(cpu_backend(), store, scan.probe, live.PLAIN, poor_probe=True)
    for row, (y, x) in enumerate(scan.corners[:40].tolist()):
        solver.admit(store.append(scan.amplitudes[row], (y, x)))
    solver.sweep(np.random.default_rng(0).permutation(40))
    assert np.array_equal(own.solver.canvas.object, solver.canvas.object)
    assert len(own.times) == 1
