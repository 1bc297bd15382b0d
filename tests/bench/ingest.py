"""Frames into a file through the real processes, over tcp: ``python -m tests.bench.ingest``.

The services receive, write and reconstruct while a sender pushes as fast as they take, or so many frames per second
(``--pace-hz 2500 --frames 150000`` for a minute); every frame must be in the file. For each: processor time per frame,
beside the same time of a bare loop in the same run: PyZMQ's PULL that drops what it gets, and h5py's direct chunk writes.
All threads of the processes count, from when the first frames of the scan are in the file until all are: the file of a scan
is made once, a third of a second, however long the scan is.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import zmq

from streamptycho.files.durable.mend import COUNT
from streamptycho.messages.geometry import Geometry
from streamptycho.messages.payload import Payload
from streamptycho.messages.reasons import Stream
from streamptycho.messages.stream import Frame, Positions, ScanEnd, ScanStart
from streamptycho.wire.codec import Part
from streamptycho.wire.sockets import Sender, new_context
from streamptycho_services.processes.watch import Watcher
from streamptycho_sim.formats.table import FramesFormat, frames_encoder
from streamptycho_sim.stream import Item
from tests import chain
from tests.bench.writer import payload_of
from tests.ports import free_address

_TICKS = os.sysconf("SC_CLK_TCK")
_RAW, _BSLZ4 = "raw", "bslz4"
_FIELD = 40
"""Side of the field that is scanned, positions."""
_FIRST = 500
"""Frames that are written before the others are sent."""
CASES: list[tuple[int, str, FramesFormat]] = [
    (256, _BSLZ4, "streamptycho"),
    (256, _RAW, "streamptycho"),
    (512, _BSLZ4, "streamptycho"),
    (256, _BSLZ4, "dectris-v1"),
    (512, _BSLZ4, "dectris-v1"),
    (256, _BSLZ4, "dectris-v2"),
    (512, _BSLZ4, "dectris-v2"),
]
"""Side of the frames in pixels, how they travel, and in which format of messages; positions come in ours."""
_BARE_PULL = """
import resource, sys, zmq
socket = zmq.Context().socket(zmq.PULL)
socket.connect(sys.argv[1])
began = None
for i in range(int(sys.argv[2])):
    socket.recv_multipart(copy=False)
    began = began or resource.getrusage(resource.RUSAGE_SELF)
ended = resource.getrusage(resource.RUSAGE_SELF)
print(ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime)
"""
_BARE_FILE = """
import resource, sys, h5py, numpy, hdf5plugin
path, frames, side, size, options = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
chunk = bytes(size)
with h5py.File(path, "w", libver="v110") as file:
    storage = dict(hdf5plugin.Bitshuffle(nelems=0, cname="lz4")) if options == "bslz4" else {}
    data = file.create_dataset("data", (0, side, side), "u2", chunks=(1, side, side), maxshape=(None, side, side), **storage)
    file.swmr_mode = True
    began = resource.getrusage(resource.RUSAGE_SELF)
    for i in range(frames):
        if i % 32 == 0:
            data.flush()
            data.resize(min(frames, i + 32), 0)
        data.id.write_direct_chunk((i, 0, 0), chunk)
    data.flush()
ended = resource.getrusage(resource.RUSAGE_SELF)
print(ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime)
"""


def cpu_s(process: int) -> float:
    """Processor time of a process and all its threads so far."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def payloads(side: int, encoding: str) -> list[Payload]:
    """Some patterns, one to a payload."""
    packed = payload_of(side, "uint16")
    singles = [Payload(chunks=(c,), encoding=packed.encoding, dtype=packed.dtype, shape=packed.shape) for c in packed.chunks]
    return singles if encoding == _BSLZ4 else [Payload.raw(single.decode(0)[None]) for single in singles]


def bare_pull(frames: list[list[Any]], count: int) -> float:
    """Processor time in microseconds per message of a loop that receives and drops."""
    address = free_address()
    with zmq.Context() as context, context.socket(zmq.PUSH) as socket:
        socket.bind(address)
        program = [sys.executable, "-c", _BARE_PULL, address, str(count)]
        with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
            for i in range(count):
                socket.send_multipart(frames[i % len(frames)], copy=False)
            out, _ = process.communicate(120)
    return float(out) * 1e6 / count


def bare_file(side: int, size: int, count: int, encoding: str) -> float:
    """The same of a loop of direct chunk writes, flushed every 32."""
    with tempfile.TemporaryDirectory() as folder:
        program = [sys.executable, "-c", _BARE_FILE, f"{folder}/bare.h5", *map(str, (count, side, size)), encoding]
        return float(subprocess.run(program, capture_output=True, text=True, check=True).stdout) * 1e6 / count


def messages_of(start: ScanStart, blocks: list[Payload], count: int, format: FramesFormat) -> list[list[Part]]:
    """Parts of the start, of each of `count` frames and of their end; equal pixels are held once."""
    frames = (_frame(i, blocks[i % len(blocks)]) for i in range(count))
    encoder, pixels = frames_encoder(format), dict[bytes, bytes]()
    told = []
    for message in (start, *frames, _end(Stream.FRAMES, count)):
        for parts in encoder.messages(Item(stream=Stream.FRAMES, message=message)):
            told.append([pixels.setdefault(part, part) for part in map(bytes, parts)])
    return told


def ingest(side: int, encoding: str, count: int, format: FramesFormat, pace_hz: float) -> dict[str, float]:
    """Frames per second, and microseconds of processor time per frame of receiver and writer, and of the bare loops."""
    blocks = payloads(side, encoding)
    geometry = Geometry(wavelength_m=1e-10, distance_m=2.0, pitch_m=(75e-6, 75e-6), frame_shape=(side, side))
    start = ScanStart(scan_id="ingest", geometry=geometry, dtype=np.dtype("uint16"), started_ns=1, expected=count)
    begin, *messages, finish = messages_of(start, blocks, count, format)
    # over the same field again and again: a larger one costs the engine, and is not what is measured
    yx_m = np.stack(np.divmod(np.arange(count) % _FIELD**2, _FIELD), axis=1) * 0.1e-6
    with tempfile.TemporaryDirectory() as folder:
        # the live passes go on all the time; nothing is to be waited for after the end
        detector = chain.detector_at()
        detector = detector.model_copy(update={"frames": detector.frames.model_copy(update={"format": format})})
        settings = {"engine__threads": 1, "engine__polish_passes": 0, "write__picture": False}
        config = chain.config(Path(folder), detector, scan__pairing="open-scan", **settings)
        with chain.in_processes(config) as services, new_context() as context, Watcher(context, config.services) as watcher:
            frames, positions = chain.outlets(config.detector)
            with Sender(context, frames) as push, Sender(context, positions) as publish:
                chain.wait_until(lambda: (watcher.poll(0.05), watcher.ready)[1], "services to be ready", 300)
                assert push.wait_for_peer(60) and publish.wait_for_peer(60)  # noqa: PT018 - both, in this order
                push.send_parts(begin, wait_s=60)
                _send(push, publish, range(_FIRST), messages, yx_m, pace_hz)
                chain.wait_until(lambda: list(Path(folder).glob("*.cxi")), "a file")
                (path,) = Path(folder).glob("*.cxi")
                with h5py.File(path, "r", swmr=True) as file:
                    chain.wait_until(lambda: _written(file) == _FIRST, "the first frames to be written")
                    before, began = {name: cpu_s(p) for name, p in services.pids.items()}, time.monotonic()
                    rest = range(_FIRST, count)
                    sender = threading.Thread(target=_send, args=(push, publish, rest, messages, yx_m, pace_hz))
                    sender.start()
                    chain.wait_until(lambda: _written(file) == count, "the frames to be written", 300 + count / pace_hz)
                    took_s = time.monotonic() - began
                    spent = {name: (cpu_s(p) - before[name]) * 1e6 / (count - _FIRST) for name, p in services.pids.items()}
                sender.join()
                push.send_parts(finish, wait_s=60)
                publish.send(_end(Stream.POSITIONS, count), wait_s=60)
                chain.wait_written(watcher, path.stem, timeout_s=900)
        found = chain.facts(path)
        assert (found["n_frames"], found["complete"]) == (count, 1)
        assert found["used"] + found["dropped"].get("engine_full", 0) == count, "frames found no positions"
    size = blocks[0].chunks[0].nbytes
    return {
        "rate_hz": (count - _FIRST) / took_s,
        "receive_us": spent["receive"],
        "write_us": spent["write"],
        "bare_pull_us": bare_pull(messages[:64], count),
        "bare_file_us": bare_file(side, size, count, encoding),
    }


def _frame(index: int, payload: Payload) -> Frame:
    return Frame(scan_id="ingest", index=np.array([index]), timestamp_ns=np.zeros(1, np.int64), payload=payload)


def _end(stream: Stream, count: int) -> ScanEnd:
    return ScanEnd(scan_id="ingest", started_ns=1, stream=stream, count=count)


def _send(
    push: Sender, publish: Sender, indices: range, messages: list[list[Part]], yx_m: np.ndarray, pace_hz: float
) -> None:
    began = time.monotonic()
    for i in indices:
        if i % 100 == 0:
            time.sleep(max(began + (i - indices.start) / pace_hz - time.monotonic(), 0))
            rows = np.arange(i, min(i + 100, len(yx_m)))
            publish.send(Positions(scan_id="ingest", index=rows, yx_m=yx_m[rows]))
        assert push.send_parts(messages[i], wait_s=60)


def _written(file: h5py.File) -> int:
    count = file[COUNT]
    count.refresh()
    return int(count[()])


def table(count: int, cases: list[tuple[int, str, FramesFormat]], repeats: int, pace_hz: float = np.inf) -> dict[str, float]:
    """Print medians of some runs of each case."""
    print("\nframes into a file over tcp; CPU us per frame, beside bare loops in the same run")
    print("px   encoding  format        frames/s  receive  bare PULL    write  bare file  both over both")
    figures = {}
    for side, encoding, format in cases:
        runs = [ingest(side, encoding, count, format, pace_hz) for _ in range(repeats)]
        r = {name: float(np.median([run[name] for run in runs])) for name in runs[0]}
        over = (r["receive_us"] + r["write_us"]) / (2 * r["bare_pull_us"] + r["bare_file_us"])
        print(
            f"{side:4} {encoding:9} {format:12} {r['rate_hz']:9.0f} {r['receive_us']:8.0f} {r['bare_pull_us']:10.0f}"
            f" {r['write_us']:8.0f} {r['bare_file_us']:10.0f} {over:13.1f} x",
            flush=True,
        )
        case = f"ingest_{side}_{encoding}_{format}"
        figures |= {f"{case}_{name}": value for name, value in r.items()} | {f"{case}_over_bare": over}
    return figures


def main(given: list[str] | None = None) -> None:
    """Measure; the figures are also the last line of standard output."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=6000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--pace-hz", type=float, default=np.inf, help="frames per second that are sent; as fast as they are taken"
    )
    parser.add_argument("--only", nargs="*", default=[], help="cases, such as 512-bslz4-dectris-v1; all")
    a = parser.parse_args(given)
    cases = [case for case in CASES if not a.only or "-".join(map(str, case)) in a.only]
    print(json.dumps(table(a.frames, cases, a.repeats, a.pace_hz)))


if __name__ == "__main__":
    main()
