"""Costs and live quality on this machine's CPU. Run by `make bench`; BENCH="--help" tells what can be left out.

Every comparison is taken in one run, interleaved, as CPU time unless it says wall. The last line of standard output is one
JSON object with the figures.
"""

import argparse
import json
import time
from typing import Any

import numpy as np

from streamptycho.solve.devices.backend import cpu_backend
from streamptycho.solve.settings import RuleOptions
from streamptycho.solve.solver import Solver
from streamptycho.solve.store import FrameStore
from tests.bench import ingest, memory, rates
from tests.bench.live import PLAIN, FullPasses, run_live
from tests.bench.peers.drive import REQUIREMENTS, Peer, PeerError
from tests.bench.scans import BenchScan, load

Figures = dict[str, Any]


def rate_table(n: int | None, budget: int, repeats: int, frames: int) -> Figures:
    """Our update beside two bare transforms, for each installed library."""
    print(f"\nCPU time per update in one thread, us; {budget} updates per arriving frame")
    print("library  px  modes  two FFTs  update alone       whole rule         wall")
    figures: Figures = {}
    for library in rates.libraries():
        for side, modes in rates.CASES if n is None else ((n, 1), (n, 2)):
            scan = load(n=side, frames=frames, modes=modes)
            r = rates.measure(scan, library, budget, repeats, min(frames, 100))
            print(
                f"{library:7} {side:4} {modes:4} {r.two_ffts:10.1f} {r.bare:9.1f} = {r.bare_over:4.2f} x"
                f" {r.rule:9.1f} = {r.over:4.2f} x {r.wall:9.1f}",
                flush=True,
            )
            tag = "" if (side, modes) == (rates.CASES[0] if n is None else (n, 1)) else f"_{side}_{modes}"
            tag += "" if library == "rocket" else f"_{library}"
            figures |= {f"update_over_two_ffts{tag}": r.over, f"update_alone_over_two_ffts{tag}": r.bare_over}
    return figures


def thread_table(scan: BenchScan, repeats: int, orders: int) -> Figures:
    """Two threads beside one."""
    pair = rates.compare_threads(scan, 5, repeats, orders)
    print(f"\ntwo threads: {pair.speedup:.2f} x the throughput of one, whole rule")
    for one, two in pair.errors:
        print(f"  E after 5 passes: {one:.4f} with one, {two:.4f} with two")
    return {"two_core_speedup": pair.speedup, "two_core_error_ratio": pair.error_ratio}


class Ours:
    """Passes of plain ePIE and of the default rule over the peers' frames, one thread."""

    def __init__(self, scan: BenchScan, frames: int, rule: RuleOptions) -> None:
        backend = cpu_backend()
        self.scan, self.frames, self.times = scan, frames, []
        _, ny, nx = scan.amplitudes.shape
        store = FrameStore(backend, (ny, nx), frames)
        self.solver = Solver(backend, store, scan.probe, rule, poor_probe=True)
        for row, (y, x) in enumerate(scan.corners[:frames].tolist()):
            self.solver.admit(store.append(scan.amplitudes[row], (y, x)))
        self.random = np.random.default_rng(0)

    def run_pass(self) -> None:
        """One pass over all frames."""
        wall, cpu = time.perf_counter(), time.process_time()
        self.solver.sweep(self.random.permutation(self.frames))
        self.times.append((time.process_time() - cpu, time.perf_counter() - wall))


def peer_table(scan: BenchScan, names: list[str], frames: int, passes: int) -> Figures:
    """Everybody on the same frames from the same start, a pass each in turn."""
    ours = {"streamptycho": Ours(scan, frames, RuleOptions()), "streamptycho ePIE": Ours(scan, frames, PLAIN)}
    peers: dict[str, Peer] = {}
    failed: dict[str, str] = {}
    for name in names:
        try:
            peers[name] = Peer(name, scan, frames)
        except PeerError as error:
            failed[name] = str(error)
    for _ in range(passes):
        for own in ours.values():
            own.run_pass()
        for name in list(peers):
            try:
                peers[name].run_pass()
            except PeerError as error:
                failed[name] = str(error)
                peers.pop(name).close()
    print(
        f"\n{frames} frames of {scan.amplitudes.shape[1]} px, {passes} passes, one thread each: ms per frame, CPU and wall"
    )
    figures: Figures = {}
    cost = {}
    for name, own in ours.items():
        cpu, wall = np.median(own.times, axis=0) / frames * 1e3
        cost[name] = cpu
        print(f"{name:18} {cpu:8.3f} {wall:8.3f}  E {scan.judged(own.solver, frames):.4f}")
    for name, peer in peers.items():
        outcome = peer.finish()
        cpu, wall = outcome.cpu_s / frames * 1e3, outcome.wall_s / frames * 1e3
        ratio = float(cost["streamptycho"] / cpu)
        figures[f"update_over_{name}"] = ratio
        print(f"{name:18} {cpu:8.3f} {wall:8.3f}  E {outcome.error:.4f}  ours {ratio:.2f} x")
    for name, reason in failed.items():
        figures[f"update_over_{name}"] = None
        print(f"{name:18} {reason}", flush=True)
    return figures


def quality_table(seeds: list[int], budgets: list[int], frames: int, n: int) -> Figures:
    """Errors while the frames arrive and at the last one, over those of plain ePIE in full passes."""
    print("\nlive error / at the last frame; plain ePIE in full passes, the default rule, ratio")
    figures: Figures = {}
    for budget in budgets:
        ratios = []
        for path in ("raster", "spiral"):
            rows = []
            for seed in seeds:
                scan = load(path, seed, n=n, frames=frames)
                plain, own = run_live(scan, budget, PLAIN, FullPasses()), run_live(scan, budget)
                p_live, p_last = plain.live, plain.last
                rows.append((p_live, p_last, own.live, own.last))
                live, last = own.live / p_live, own.last / p_last
                print(
                    f"{path:7} seed {seed} b = {budget}: {p_live:.3f} / {p_last:.3f}   {own.live:.3f} / {own.last:.3f}"
                    f"   {live:.2f} / {last:.2f}",
                    flush=True,
                )
            means = np.mean(rows, axis=0)
            ratios.append((means[2] / means[0], means[3] / means[1]))
            figures |= {
                f"live_error_ratio_{budget}_{path}": ratios[-1][0],
                f"last_error_ratio_{budget}_{path}": ratios[-1][1],
            }
        live, last = np.mean(ratios, axis=0)
        figures |= {f"live_error_ratio_{budget}": float(live), f"last_error_ratio_{budget}": float(last)}
        print(f"b = {budget}: mean ratio {live:.2f} live, {last:.2f} at the last frame")
    return figures


def arguments(given: list[str] | None) -> argparse.Namespace:
    """What to measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="*", default=["rates", "threads", "peers", "quality", "memory", "ingest"])
    parser.add_argument("--peers", nargs="*", default=list(REQUIREMENTS), choices=list(REQUIREMENTS))
    parser.add_argument("--n", type=int, help="side of the frames, for a quick look; 128, and 256 in one table, by default")
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--peer-frames", type=int, default=200, help="frames that the peers get")
    parser.add_argument("--passes", type=int, default=5, help="passes of the peers")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--budgets", type=int, nargs="*", default=[4, 8], help="updates per frame in the quality table")
    parser.add_argument("--budget", type=int, default=4, help="updates per frame in the table of rates")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--ingest-frames", type=int, default=6000, help="frames of each scan that is written")
    parser.add_argument(
        "--orders", type=int, default=3, help="orders of the frames in which one and two threads are compared"
    )
    return parser.parse_args(given)


def main(given: list[str] | None = None) -> Figures:
    """Measure what is asked for; the figures are also the last line of standard output."""
    a = arguments(given)
    n = a.n or 128
    figures: Figures = dict.fromkeys(
        ["update_over_two_ffts", "update_over_ptylab", "two_core_speedup", "two_core_error_ratio", "peak_memory_ratio"]
        + [f"{when}_error_ratio_{budget}" for budget in a.budgets for when in ("live", "last")]
    )
    if "rates" in a.parts:
        figures |= rate_table(a.n, a.budget, a.repeats, min(a.frames, 400))
    if "threads" in a.parts:
        figures |= thread_table(load(n=n, frames=a.frames), 5 * a.repeats, a.orders)
    if "peers" in a.parts:
        figures |= peer_table(load(n=n, frames=a.frames), a.peers, min(a.peer_frames, a.frames), a.passes)
    if "memory" in a.parts:
        figures["peak_memory_ratio"] = memory.ratio(load(n=n, frames=a.frames))
        print(f"\npeak of resident memory: {figures['peak_memory_ratio']:.2f} x amplitudes, object and probe")
    if "ingest" in a.parts:
        figures |= ingest.table(a.ingest_frames, ingest.CASES, 3)
    if "quality" in a.parts:
        figures |= quality_table(a.seeds, a.budgets, a.frames, n)
    print(json.dumps(figures))
    return figures


if __name__ == "__main__":
    main()
