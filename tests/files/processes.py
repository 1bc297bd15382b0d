"""Python processes that write files, and may be killed."""

import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[2]
IMPORTS = """
import signal, sys, time
from pathlib import Path
import h5py
import numpy as np
from streamptycho.errors import ScanError
from streamptycho.files.writer import CxiWriter
from streamptycho.files.bslz4 import compress
from streamptycho.files.scan import open_scan
from streamptycho.files.result import write_result
from streamptycho.files.snapshots import rounded
from tests.files.factories import *
path = Path(sys.argv[1])
"""


def python(body: str, path: Path, *more: str) -> subprocess.Popen[str]:
    """Run `body` with the names of IMPORTS."""
    code = IMPORTS + textwrap.dedent(body)
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code, str(path), *more],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def told(process: subprocess.Popen[str]) -> str:
    """Everything it prints, once it has ended well."""
    out, error = process.communicate(timeout=60)
    assert process.returncode == 0, error
    return out


WRITE_UNTIL_KILLED = """
frames = pixels(64)
payload = compress(frames)
writer = CxiWriter(path, start())
i = 0
while True:
    writer.append(raw(frames[[i % 64]], [i]) if i % 7 == 3 else frame(single(payload, i % 64), [i]))
    writer.positions(positions([i]))
    i += 1
    if i % 10 == 0:
        writer.flush()
        print(i, flush=True)
    if i % 50 == 0:
        writer.snapshot(snapshot(i // 50))
"""
"""Writes frame `i` of ``pixels(64)`` into row `i`, without end; says how many rows have been flushed."""
