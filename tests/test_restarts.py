"""The services while links break off, strangers connect, and processes die: every frame is in the file or counted."""

import os
import random
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zmq

from streamptycho.config import Config
from streamptycho.display.ledger import Ledger
from streamptycho.files.scan import open_scan
from streamptycho.wire.codec import encode
from streamptycho.wire.hello import MarkKind, read_mark
from streamptycho.wire.sockets import new_context
from streamptycho_services.processes.watch import Watcher
from streamptycho_sim.publisher import PublishOptions, publish
from streamptycho_sim.scan import SimulatedScan, SyntheticOptions
from tests import chain
from tests.chain import PROGRAM, Command, assert_frames, assert_positions, facts
from tests.hostile import GOOD
from tests.proxy import Proxy

SCAN = SyntheticOptions(scan_id="scan", frames=600, shape=64)
QUICK: dict[str, Any] = {"engine__polish_passes": 2, "match__settle_s": 0.5}
LINKS = {"writer": "write", "results": "write", "engine": "reconstruct"}
"""Address of each link, and the service that connects to it."""


def port_of(address: str) -> int:
    return int(address.rsplit(":", 1)[1])


def redirected(settings: Config, **addresses: str) -> Config:
    return settings.model_copy(update={"services": settings.services.model_copy(update=addresses)})


def scan_through(settings: Config, others: dict[str, Config], meanwhile: Any) -> tuple[Ledger, Path, SimulatedScan]:
    """One scan through services in threads, while `meanwhile(done)` happens in a thread of its own."""
    scan, done = SimulatedScan(SCAN), threading.Event()
    with (
        new_context() as context,
        Watcher(context, settings.services) as watcher,
        chain.in_threads(settings, context, others) as check,
    ):
        chain.wait_until(lambda: (watcher.poll(0.05), watcher.ready)[1], "services to be ready", chain.LONG_S)
        thread = threading.Thread(target=meanwhile, args=(done,), name="meanwhile")
        thread.start()
        try:
            options = PublishOptions(rate_hz=200.0, peer_timeout_s=chain.LONG_S)
            publish(scan.items(), *chain.outlets(settings.detector), options, context=context)
            done.set()
            chain.wait_written(watcher, "scan", check=check)
        finally:
            done.set()
            thread.join()
        known = watcher.known("scan")
        assert known is not None
        assert known.write is not None
        assert known.write.file is not None
        return known.ledger, Path(known.write.file), scan


def assert_whole(ledger: Ledger, path: Path, scan: SimulatedScan) -> None:
    assert ledger == Ledger(received=600, used=600, waiting=0, dropped={})
    assert_frames(path, dict(enumerate(scan.counts())))
    assert_positions(path, scan.yx_m, set(range(600)))
    assert (facts(path)["complete"], facts(path)["dropped"]) == (1, {})


def test_links_that_break_off_and_stall_cost_nothing(tmp_path: Path) -> None:
    settings, rng = chain.config(tmp_path, **QUICK), random.Random(1)
    with ExitStack() as stack:
        proxies = {name: stack.enter_context(Proxy(port_of(getattr(settings.services, name)))) for name in LINKS}
        others = {
            service: redirected(settings, **{name: proxies[name].address for name in LINKS if LINKS[name] == service})
            for service in LINKS.values()
        }
        broken = dict.fromkeys(LINKS, 0)

        def break_off(done: threading.Event) -> None:
            while not done.wait(0.15):
                connected = [name for name in LINKS if proxies[name].connections]
                if not connected:
                    continue
                name = min(connected, key=broken.__getitem__)  # each in turn, and cut off the first time
                proxy, before = proxies[name], broken[name]
                broken[name] += 1
                if before and rng.random() < 0.5:
                    proxy.stall()
                    done.wait(0.3)
                    proxy.go_on()
                else:
                    proxy.cut(refuse=rng.random() < 0.5, reset=rng.random() < 0.5)
                    done.wait(0.2)
                    proxy.accept()

        assert_whole(*scan_through(settings, others, break_off))
        assert min(broken.values()) > 0
        assert all(proxy.connections >= 2 for proxy in proxies.values())


STRAYS = {"pull": zmq.PULL, "push": zmq.PUSH, "dealer": zmq.DEALER, "req": zmq.REQ, "sub": zmq.SUB}


def test_strangers_at_the_inner_ports_take_nothing_and_do_no_harm(tmp_path: Path) -> None:
    settings, rng = chain.config(tmp_path, **QUICK), random.Random(1)
    junk = [[rng.randbytes(100)], [b""], *([bytes(part) for part in encode(message)] for message in GOOD.values())]
    got: list[bytes] = []

    @contextmanager
    def strangers() -> Iterator[list[zmq.Socket[Any]]]:
        with zmq.Context() as context:
            sockets = []
            for name in LINKS:
                for kind in STRAYS.values():
                    stranger = context.socket(kind)
                    stranger.setsockopt(zmq.LINGER, 0)
                    if kind == zmq.SUB:
                        stranger.setsockopt(zmq.SUBSCRIBE, b"")
                    stranger.connect(getattr(settings.services, name))
                    sockets.append(stranger)
            yield sockets
            for stranger in sockets:
                stranger.close()

    def disturb(done: threading.Event) -> None:
        with strangers() as sockets:
            while not done.wait(0.005):
                for stranger in sockets:
                    with suppress(zmq.ZMQError):  # it cannot send, or has nobody to send to
                        stranger.send_multipart(rng.choice(junk), zmq.NOBLOCK)
                    if stranger.type != zmq.PUSH and stranger.poll(0, zmq.POLLIN):
                        got.append(stranger.recv_multipart()[0])

    assert_whole(*scan_through(settings, {}, disturb))
    assert all(read_mark(mark).kind is not MarkKind.MESSAGE for mark in got)


def in_file(path: Path) -> int:
    """Frames that others can read so far."""
    if not path.exists():
        return 0
    with open_scan(path) as scan:
        return len(scan)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["write", "reconstruct", "receive"])
def test_a_service_is_killed_three_times_in_mid_scan(tmp_path: Path, name: str) -> None:
    """What a dead receiver had taken from the detector and not given on is gone, and counted; all else is in the file."""
    path, flags = tmp_path / "scan.cxi", ["--frames", 900, "--shape", 64, "--scan-id", "scan"]
    brief = ("--set", "engine.polish_passes=12", "--set", "match.settle_s=0.7")
    with Command(PROGRAM, "demo", "--json", "--rate", 150, "--output", tmp_path, *brief, "--", *flags) as demo:
        for least in (50, 250, 450):
            demo.wait_while_running(lambda least=least: in_file(path) >= least, f"{least} frames")
            killed = demo.services()[name]
            os.kill(killed, signal.SIGKILL)
            demo.wait_while_running(lambda killed=killed: demo.services().get(name, killed) != killed, "its successor")
        code, report = demo.wait(), demo.report()
        assert "Traceback" not in demo.err
    assert sorted(file.name for file in tmp_path.glob("*.cxi")) == ["scan.cxi", "scan.strict.cxi"]
    assert report["restarts"][name] == 3
    assert in_file(path) == report["written"] == 900 - report["missing"]
    if name == "receive":
        assert (code, report["complete"]) == (
            (0, True) if not report["missing"] + report["missing_positions"] else (4, False)
        )
        assert report["missing"] < 450, "up to a second's worth may have been in its sockets, each time"
    else:
        assert (code, report["complete"], report["written"]) == (0, True, 900)
    assert report["phase_correlation"] > 0.95


@pytest.mark.slow
def test_a_writer_that_is_killed_while_it_waits_for_the_picture_still_gets_it(tmp_path: Path) -> None:
    path, flags = tmp_path / "scan.cxi", ["--frames", 400, "--shape", 64, "--scan-id", "scan"]
    with Command(PROGRAM, "demo", "--json", "--rate", 150, "--output", tmp_path, "--", *flags) as demo:
        demo.wait_while_running(lambda: in_file(path) >= 200, "half of the frames")
        services = demo.services()
        os.kill(services["reconstruct"], signal.SIGSTOP)
        demo.wait_while_running(lambda: in_file(path) == 400, "all frames")
        demo.wait_while_running(lambda: any(line.get("end") for line in demo.progress()), "the end")
        os.kill(services["write"], signal.SIGKILL)
        demo.wait_while_running(lambda: demo.services().get("write", services["write"]) != services["write"], "a new writer")
        os.kill(services["reconstruct"], signal.SIGCONT)
        assert demo.wait() == 0, demo.err
        report = demo.report()
    assert (report["written"], report["complete"], report["result"]) == (400, True, str(tmp_path / "scan.result.h5"))


@pytest.mark.slow
def test_the_whole_program_is_killed_and_the_next_goes_on_with_frames_positions_and_picture(tmp_path: Path) -> None:
    """What the dead receiver had in its sockets is gone, and counted; the rest of the scan comes to the new one."""
    path, flags = tmp_path / "scan.cxi", chain.address_flags()
    run = (PROGRAM, "run", "--json", *flags, "--output", tmp_path, "--set", "engine.polish_passes=4")
    scan = ("--frames", 900, "--shape", 64, "--scan-id", "scan", "--rate-hz", 60, "--peer-timeout-s", 60)
    snapshots = f"{chain.LIVE}/snapshots"
    with Command(chain.SIMULATOR, "synthetic", *chain.at(flags), *scan) as simulator:
        with Command(*run) as first:
            first.wait_while_running(lambda: in_file(path) >= 250 and pictures_in(path) >= 3, "frames and pictures")
            os.killpg(first.process.pid, signal.SIGKILL)
            first.process.wait()
        with open_scan(path) as left:
            index, yx_m = left.index, left.yx_m
            before = {int(i): left.frame(int(i)) for i in index}
        pictures = pictures_in(path)
        with Command(*run) as second:
            second.wait_while_running(lambda: ended(path), "the end of the scan")
            os.kill(second.process.pid, signal.SIGINT)
            second.wait()
            report = second.report()
            assert f"which has {len(index)} frames" in second.err
        assert simulator.wait() == 0
    assert sorted(file.name for file in tmp_path.iterdir()) == [
            "scan.cxi", "scan.png", "scan.result.h5", "scan.strict.cxi",
        ]  # fmt: skip
    lost = {reason: n for reason, n in report["frames"]["dropped"].items() if reason != "no_position"}
    assert (report["written"], report["written"] == 900, lost) == (900 - report["missing"], report["complete"], {})
    assert report["missing"] < 90, "a second and a half of them may have been in its sockets"
    assert report["frames"]["used"] >= 900 - report["missing"] - report["missing_positions"]
    assert report["trusted"]
    with open_scan(path) as whole:
        assert all(np.array_equal(whole.frame(i), counts) for i, counts in before.items())
        assert np.array_equal(whole.yx_m[index], yx_m[index], equal_nan=True)
    with h5py.File(path, "r") as file:
        sequence, used, error = (file[f"{snapshots}/{name}"][()] for name in ("sequence", "frames_used", "error"))
    assert (np.diff(sequence) > 0).all()
    assert used[pictures] >= 0.9 * used[pictures - 1], "it goes on where it was"
    assert error[pictures] < 2 * error[pictures - 1]


def pictures_in(path: Path) -> int:
    """Pictures that others can read so far."""
    with h5py.File(path, "r", swmr=True) as file:
        return int(file[f"{chain.LIVE}/counters/snapshots"][()])


def ended(path: Path) -> bool:
    """Whether its writer has told the end."""
    with h5py.File(path, "r", swmr=True) as file:
        return bool(file[f"{chain.LIVE}/end_reason"][()])
