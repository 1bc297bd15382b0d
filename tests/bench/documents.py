"""What bluesky documents cost: ``python -m tests.bench.documents --side 512 --seconds 20``.

A display with an object of `side` squared pixels, a pattern of 512 x 512, a block of scan points and a status at 2.5 Hz is
published here; the service runs in a process of its own, which is measured; a subscriber counts what comes, and a late one
asks for the past.
"""

import argparse
import math
import multiprocessing
import resource
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import zmq

from streamptycho.config import Config, ServiceEndpoints
from streamptycho.messages.reasons import ServiceState
from streamptycho.messages.status import ReconstructStatus
from streamptycho.wire.endpoint import Endpoint, SocketKind
from streamptycho.wire.sockets import Sender, new_context
from streamptycho_services.documents import documents
from streamptycho_services.documents.client import past
from streamptycho_services.processes.runtime import Control
from tests.documents.helpers import preview, survey
from tests.files.factories import STARTED_NS, snapshot, start

PICTURES_HZ = 2.5
BLOCK = 2000
"""Points of one message, as the reconstruction sends them."""


def serve(config: Config, finish: Any, kill: Any, told: Any) -> None:
    """The service, then its seconds of processor time and the largest memory of its process in MiB."""
    begun = time.process_time()
    documents(config, Control(finish=finish, kill=kill))
    told.put((time.process_time() - begun, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


def specimen(side: int) -> np.ndarray:
    y, x = np.ogrid[:side, :side]
    return ((1 - 0.3 * np.cos(y / 9)) * np.exp(1j * np.sin(x / 7) * np.cos(y / 11))).astype(np.complex64)


def measure(side: int, seconds: float, asleep: int, points: int) -> None:
    """Print bytes and documents per second, processor share and memory of the service, and times of catching up."""
    spawn = multiprocessing.get_context("spawn")
    finish, kill, told = spawn.Event(), spawn.Event(), spawn.Queue()
    with tempfile.TemporaryDirectory() as name, new_context() as context:
        names = {key: f"ipc://{name}/{key}" for key in ServiceEndpoints.addresses()}
        config = Config(services=ServiceEndpoints(**names))
        service = spawn.Process(target=serve, args=(config, finish, kill, told), daemon=True)
        receive, reconstruct = (
            Sender(context, Endpoint(address=names[key], socket=SocketKind.PUB, bind=True, queue=20), linger_s=0)
            for key in ("display_receive", "display_reconstruct")
        )
        with receive, reconstruct:
            service.start()
            assert_joined(reconstruct)
            assert_joined(receive)
            counted, stop = [0, 0], threading.Event()
            listener = threading.Thread(target=listen, args=(names["documents"], counted, stop), daemon=True)
            listener.start()
            with sleepers(names["documents"], asleep):
                time.sleep(0.5)
                receive.send(start())
                show(reconstruct, specimen(side), seconds, points)
                times = [timed(lambda: past(names["catch_up"])) for _ in range(9)]
                finish.set()
            cpu_s, memory_mib = told.get(timeout=30)
            service.join()
            stop.set()
            listener.join()
    print(f"object {side} x {side}, {points} points, {seconds:g} s: {counted[0]} documents")
    print(f"sent: {counted[1] / seconds / 2**20:.2f} MiB/s")
    print(f"service: {100 * cpu_s / seconds:.1f} % of a core, {memory_mib:.0f} MiB, {asleep} subscribers asleep")
    print(f"catch-up: median {1e3 * statistics.median(times):.1f} ms, longest {1e3 * max(times):.1f} ms")


@contextmanager
def sleepers(address: str, count: int) -> Iterator[None]:
    """Subscribers that never read."""
    with zmq.Context() as context, ExitStack() as stack:
        for _ in range(count):
            socket = stack.enter_context(context.socket(zmq.SUB))
            socket.linger, socket.rcvhwm = 0, 1
            socket.subscribe(b"")
            socket.connect(address)
        yield


def assert_joined(sender: Sender) -> None:
    """Wait for the service."""
    if not sender.wait_for_peer(60):
        raise TimeoutError("the service does not listen")


def show(sender: Sender, picture: np.ndarray, seconds: float, points: int) -> None:
    """What is shown of a scan for so long; its points go round and round."""
    covered = np.ones(picture.shape, np.bool_)
    probe = np.ones((2, 128, 128), np.complex64)
    columns, block = math.isqrt(points), min(BLOCK, points)
    for i in range(round(seconds * PICTURES_HZ)):
        now_ns = STARTED_NS + i
        sender.send(survey(i * block % (points - block + 1), block, columns=columns, known=points))
        sender.send(preview(i, (512, 512)))
        sender.send(snapshot(i, (4, 4), object=picture, covered=covered, probe=probe, time_ns=now_ns, updates=i))
        sender.send(
            ReconstructStatus(
                scan_id="scan",
                state=ServiceState.RECONSTRUCTING,
                time_ns=now_ns,
                started_ns=STARTED_NS,
                error=1 / (i + 1),
                updates=i,
            )
        )
        time.sleep(1 / PICTURES_HZ)


def listen(address: str, counted: list[int], stop: threading.Event) -> None:
    """Count documents and their bytes."""
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.linger = 0
        socket.subscribe(b"")
        socket.connect(address)
        while not stop.is_set():
            if socket.poll(100):
                counted[1] += len(socket.recv())
                counted[0] += 1


def timed(action: Any) -> float:
    """Seconds that `action` takes."""
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--asleep", type=int, default=0, help="further subscribers that never read")
    parser.add_argument("--points", type=int, default=20_000, help="of the scan")
    arguments = parser.parse_args()
    measure(arguments.side, arguments.seconds, arguments.asleep, arguments.points)
