"""Disks that refuse in earnest: a limit on the size of files, as a quota is, and a full disk."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
import os, resource, sys
from pathlib import Path
import numpy as np
from tests.pipeline.writing import Run, final, over
from tests.scans import frame, positions, start

how, disk = sys.argv[1], Path(sys.argv[2])
SHAPE = (64, 64)
pixels = np.random.default_rng(0).integers(0, 60_000, (50, *SHAPE)).astype(np.uint16)
unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)


def refuse():
    if how == "limit":
        resource.setrlimit(resource.RLIMIT_FSIZE, (scan_file.stat().st_size + 100_000, unlimited[1]))
    else:
        ballast = os.open(disk / "ballast", os.O_WRONLY | os.O_CREAT)
        try:
            while True:
                os.write(ballast, bytes(4096))
        except OSError:
            os.close(ballast)


def give():
    if how == "limit":
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    else:
        (disk / "ballast").unlink()


def send(first, last):
    for i in range(first, last):
        run(frame(i, pixels=pixels[[i % 50]]), positions(i))


def said():
    (status,) = (status for status in run.stage.statuses() if status.scan_id)
    assert status.received == status.used + status.waiting + sum(status.dropped.values())
    return status


run = Run(disk / "out")
scan_file = disk / "out" / "s.cxi"
run(start(shape=SHAPE))
send(0, 100)
run.wait()
assert said().used == 100
refuse()
send(100, 900)
status = said()
assert status.received == 900
assert 100 <= status.used < 900, status
assert not status.dropped, status
print(status.trouble)
give()
run.wait().wait()
status = said()
assert (status.used, status.waiting, status.trouble) == (900, 0, None), status
send(900, 1000)
run(over(count=1000), final()).wait()
(status,) = run.out
assert (status.failure, status.end.value, status.used) == (None, "complete", 1000), status
file = run.read()
assert file["key"] == [1] * 1000
assert all(np.array_equal(one, pixels[i % 50]) for i, one in enumerate(file["frames"]))
assert Path(status.result).is_file()
print("complete")
"""


@pytest.mark.parametrize(("how", "reason"), [("limit", "File too large"), ("full", "No space left on device")])
def test_a_scan_goes_on_after_the_disk_has_refused(how, reason, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    command = [sys.executable, "-W", "error", "-c", PROGRAM, how, str(disk)]
    if how != "limit":
        prepare = f"mount -t tmpfs -o size=16m tmpfs {disk}"
        # a mount of its own name space, gone with the process
        inside = ["unshare", "-rm", "sh", "-c"]
        if not shutil.which("unshare") or subprocess.run([*inside, prepare], capture_output=True).returncode:
            pytest.skip("no right to mount a small disk here")
        command = [*inside, prepare + ' && exec "$@"', "sh", *command]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert process.returncode == 0, process.stderr
    trouble, last = process.stdout.splitlines()
    assert reason in trouble
    assert last == "complete"
