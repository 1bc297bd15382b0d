"""Writers that are killed at random instants: ``python -m tests.chaos.writers --kills 300 --seed 0``.

Raw frames, frames through the filter and stored chunks in turn, in files of two sizes; some writers finish before they are
killed, some recoveries are killed as well. Judged is what every program sees after `recover`: whether the file opens plainly
(in h5py, and in each ``--h5dump``), whether a frame, position or picture that had been acknowledged is missing or altered,
and whether there is a result where there was a picture. Exit code 1 if anything of that is not so.
"""

import argparse
import multiprocessing
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from streamptycho.files.bslz4 import compress
from streamptycho.files.durable.mend import FRAMES, POSITIONS
from streamptycho.files.options import WriterOptions
from streamptycho.files.recover import Recovered, recover
from streamptycho.files.result import read_result, write_result
from streamptycho.files.snapshots import rounded
from streamptycho.files.writer import CxiWriter
from streamptycho.messages.results import Snapshot
from tests.files.factories import (
    LIVE,
    LIVE_KEY,
    SHAPE,
    frame,
    geometry,
    outcome,
    pixels,
    positions,
    raw,
    single,
    snapshot,
    start,
)

MODES = ("raw", "filter", "direct")
_DIFFERENT = 16
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["streamptycho.files.recover", "streamptycho.files.writer", "tests.files.factories"])


@dataclass(frozen=True)
class Round:
    """One writer, as drawn."""

    mode: str
    shape: tuple[int, int]
    frames: int
    batch: int
    every: int
    """Frames between two pictures."""
    delay_s: float
    """From the first acknowledgement to the kill."""
    again_s: float | None
    """From the beginning of a first recovery to its kill, if there is one."""

    @classmethod
    def draw(cls, seed: int, number: int) -> "Round":
        rng = random.Random(f"{seed} {number}")
        return cls(
            mode=MODES[number % 3],
            shape=rng.choice([SHAPE, (128, 128)]),
            frames=rng.choice([60, 100_000, 100_000, 100_000]),
            batch=rng.choice([1, 8, 32]),
            every=rng.choice([10, 50, 1000]),
            delay_s=rng.uniform(0, 0.5),
            again_s=rng.uniform(0, 0.15) if rng.random() < 0.4 else None,
        )


@dataclass
class Tally:
    """What has come of all rounds."""

    writers: int = 0
    recoveries: int = 0
    """Killed, both."""
    frames: int = 0
    acknowledged: int = 0
    pictures: int = 0
    cut: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)

    def table(self) -> str:
        """For people."""
        times = np.array(self.seconds) * 1e3
        return "\n".join(
            [
                f"{self.writers} writers and {self.recoveries} recoveries killed; files: {dict(self.ends)}",
                f"{self.acknowledged} frames acknowledged, {self.frames} in the files, {self.cut} rows cut",
                f"{self.pictures} files with a picture, each with its result",
                f"time to recover: median {np.median(times):.0f} ms, 95 % {np.percentile(times, 95):.0f} ms, "
                f"longest {times.max():.0f} ms",
                f"{len(self.findings)} findings",
            ]
        )


def _write(path: Path, drawn: Round, said: Connection) -> None:
    """In a process of its own: write, and say how much of it is in the file for certain: frames, then pictures."""
    frames, done, pictures = pixels(_DIFFERENT, drawn.shape), 0, 0
    payload, options = compress(frames), WriterOptions(compression="none" if drawn.mode == "raw" else "bslz4")
    begin = start(geometry=geometry(drawn.shape))
    writer = CxiWriter(path, begin, options=options)
    for i in range(drawn.frames):
        k = i % _DIFFERENT
        writer.append(frame(single(payload, k), [i]) if drawn.mode == "direct" else raw(frames[[k]], [i]))
        writer.positions(positions([i]))
        if i % drawn.batch == drawn.batch - 1:
            writer.flush()
            done = i + 1
            said.send((done, pictures))
        if i % drawn.every == drawn.every - 1:
            writer.snapshot(_picture(pictures + 1))
            pictures += 1
            said.send((done, pictures))
    end = outcome(replace(_picture(pictures + 1), final=True), start=begin)
    writer.finish(end)
    write_result(path.with_name(path.stem + ".result.h5"), end)
    said.send((drawn.frames, pictures + 1))
    time.sleep(60)


def _picture(k: int) -> Snapshot:
    return snapshot(k, (40 + k % 5 * 60, 50 + k % 3 * 250))


def _recover(path: Path, said: Connection) -> None:
    said.send(None)
    recover(path)


def _killed(target: Callable[..., None], path: Path, delay_s: float, *more: object) -> tuple[Any, bool]:
    """Run `target` and kill it so long after its first word; its last word, and whether it still lived."""
    mine, theirs = _processes.Pipe(duplex=False)
    process = _processes.Process(target=target, args=(path, *more, theirs))
    process.start()
    theirs.close()
    last = mine.recv()
    time.sleep(delay_s)
    process.kill()
    process.join()
    while True:
        try:
            last = mine.recv()
        except EOFError:
            return last, process.exitcode == -signal.SIGKILL


def fight(drawn: Round, path: Path, tally: Tally, dumps: list[str]) -> None:
    """One round; what is wrong goes into the findings of `tally`."""
    (done, pictures), _ = _killed(_write, path, drawn.delay_s, drawn)
    tally.writers += 1
    if drawn.again_s is not None:
        tally.recoveries += _killed(_recover, path, drawn.again_s)[1]
    began = time.perf_counter()
    found = recover(path)
    tally.seconds.append(time.perf_counter() - began)
    wrong = [*_judge(path, drawn, found, done, pictures)]
    if recover(path).changed:
        wrong.append("is changed by a second recovery")
    for dump in dumps:
        for what in ([], ["-d", LIVE_KEY]):
            call = subprocess.run([dump, *(what or ["-H"]), path], capture_output=True, text=True)
            if call.returncode:
                wrong.append(f"{dump}: {call.stderr.strip()[:200]}")
    tally.frames += found.frames
    tally.acknowledged += done
    tally.pictures += found.snapshots > 0
    tally.cut += found.cut
    tally.ends[found.end.value] += 1
    tally.findings += (f"{drawn}: {words}" for words in wrong)


def _judge(path: Path, drawn: Round, found: Recovered, done: int, pictures: int) -> Iterator[str]:
    frames = pixels(_DIFFERENT, drawn.shape)
    with h5py.File(path, "r") as file:
        rows = np.flatnonzero(file[LIVE_KEY][()])
        if rows.tolist() != list(range(found.frames)) or found.frames < done:
            yield f"{done} frames acknowledged, rows {rows.tolist()[-3:]} of {found.frames}"
        for first in range(0, len(rows), 512):
            part = rows[first : first + 512]
            if not np.array_equal(file[FRAMES[0]][part[0] : part[-1] + 1], frames[part % _DIFFERENT]):
                yield f"a frame from {part[0]} on is altered"
        if done and not np.array_equal(file[POSITIONS[0]][()][:done, 1::-1], positions(list(range(done))).yx_m):
            yield "a position is altered"
        if found.snapshots < pictures:
            yield f"{pictures} pictures acknowledged, {found.snapshots} there"
        kept = np.flatnonzero(file[f"{LIVE}/snapshots/shape"][: found.snapshots].all(axis=1)) + 1
        for k in map(int, kept):
            shown = rounded(_picture(k).object)
            if not np.array_equal(file[f"{LIVE}/snapshots/object"][k - 1][tuple(map(slice, shown.shape))], shown):
                yield f"picture {k} is altered"
    if found.snapshots:
        result = read_result(path.with_name(path.stem + ".result.h5"))
        if not np.array_equal(rounded(result.object), rounded(_picture(int(kept[-1])).object)):
            yield "the result is not the newest picture"


def campaign(
    kills: int, seed: int, dumps: list[str], keep: Path | None = None, say: Callable[[str], object] = print
) -> Tally:
    """So many writers, killed; says what is wrong, and after every hundredth how it stands."""
    tally = Tally()
    for number in range(kills):
        with tempfile.TemporaryDirectory() as folder:
            path = (keep or Path(folder)) / f"{number}.cxi"
            before = len(tally.findings)
            fight(Round.draw(seed, number), path, tally, dumps)
        for finding in tally.findings[before:]:
            say(finding)
        if number % 100 == 99 and number + 1 < kills:
            say(tally.table())
    return tally


def main() -> int:
    """The program."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.writers", description=__doc__)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--h5dump", action="append", default=[], help="a program that must be able to read what is left")
    parser.add_argument("--keep", type=Path, help="leave the files there")
    asked = parser.parse_args()
    tally = campaign(asked.kills, asked.seed, asked.h5dump, asked.keep)
    print(tally.table())
    return int(bool(tally.findings))


if __name__ == "__main__":
    sys.exit(main())
