"""What every peer's script shares. Imported by scripts that run in the peer's own environment: nothing but NumPy is needed.

``python PEER.py SCAN.npz RESULT.npz``: the first holds `frames` (k, n, n) counts, zero frequency in the middle, `corners`
(k, 2) object pixels and `probe` (modes, n, n). The script sets the peer up, waits for a line ``run PASSES`` on standard
input, answers each with one line of JSON (seconds of wall and CPU time), and writes the object after ``save``.
"""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Scan:
    """The frames every program gets."""

    frames: np.ndarray
    """(k, n, n) float32 counts, zero frequency in the middle."""
    corners: np.ndarray
    """(k, 2) int64 object pixel of each window's first row and column."""
    probe: np.ndarray
    """(modes, n, n) complex64 to start from."""

    @property
    def side(self) -> int:
        return int(self.frames.shape[-1])


def main(peer: Callable[[Scan], Any]) -> None:
    """Serve requests until standard input ends."""
    answer, sys.stdout = sys.stdout, sys.stderr
    stored = np.load(sys.argv[1])
    scan = Scan(stored["frames"].astype(np.float32), stored["corners"].astype(np.int64), stored["probe"])
    work = peer(scan)
    print(json.dumps({"ready": True}), file=answer, flush=True)
    for line in sys.stdin:
        word, *rest = line.split()
        wall, cpu = time.perf_counter(), time.process_time()
        if word == "run":
            work.run(int(rest[0]))
        else:
            obj, offset = work.result()
            np.savez(sys.argv[2], object=obj, offset=offset)
        seconds = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
        print(json.dumps(seconds), file=answer, flush=True)
