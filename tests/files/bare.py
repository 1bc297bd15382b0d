"""Programs of people who have h5py and NumPy and nothing of ours."""

import os
import subprocess
import sys
from pathlib import Path


def bare(code: str, folder: Path = Path()) -> str:
    """What `code` prints in a process of its own, in `folder`, where HDF5 finds no plugin."""
    environment = {**os.environ, "HDF5_PLUGIN_PATH": "/nonexistent"}
    process = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert process.returncode == 0, process.stderr
    return process.stdout
