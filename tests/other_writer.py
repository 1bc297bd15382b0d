"""Another process that writes HDF5 files as it is told."""

import subprocess
import sys
from pathlib import Path

WRITER = """
import sys
import h5py, hdf5plugin, numpy as np
file = None
for line in sys.stdin:
    exec(line)
    print("done", flush=True)
"""


class Writer:
    """Another process that does as it is told, line by line."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", WRITER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def do(self, *lines: str) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        for line in lines:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
            assert self.process.stdout.readline() == "done\n", line

    def end(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(60)
        self.process.stdout.close()


def begin(path: Path, mode: str, libver: str) -> list[str]:
    swmr = ["file.swmr_mode = True"] if mode == "swmr" else []
    return [
        f"file = h5py.File({str(path)!r}, 'w', libver={libver!r})",
        "d = file.create_dataset('/entry/data', (0, 8, 6), 'u2', chunks=(1, 8, 6), maxshape=(None, 8, 6),"
        " **hdf5plugin.Bitshuffle(nelems=0, cname='lz4'))",
        "y = file.create_dataset('/entry/y', (0,), 'f8', chunks=(16,), maxshape=(None,)); y.attrs['units'] = 'um'",
        "file.flush()",
        *swmr,
    ]


def append(mode: str) -> list[str]:
    flush = "d.flush(); y.flush()" if mode == "swmr" else "file.flush()"
    return ["n = len(d) + 1; d.resize(n, 0); y.resize(n, 0)", "d[n - 1] = n; y[n - 1] = n / 2", flush]
