"""The file while others read it, and what is left of it when its writer dies or the disk is full."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from streamptycho.errors import FormatError
from streamptycho.files.bslz4 import compress
from streamptycho.files.recorded.layouts import Dialect
from streamptycho.files.scan import open_scan
from streamptycho.files.writer import CxiWriter
from tests.files.factories import (
    DETECTOR,
    LIVE_KEY,
    TRANSLATION,
    frame,
    outcome,
    pixels,
    positions,
    raw,
    single,
    snapshot,
    start,
)
from tests.files.processes import IMPORTS, ROOT, python, told


@pytest.fixture
def path(tmp_path):
    return tmp_path / "scan.cxi"


def test_another_process_follows_the_scan(path):
    """A reader polls while frames, positions and snapshots come in; all that it may use is right, at every moment."""
    reader = """
    file = h5py.File(path, "r", swmr=True)
    data, key, xyz = file["/entry_1/data_1/data"], file[LIVE_KEY], file[TRANSLATION]
    counter, count = file[f"{LIVE}/counters/n_frames"], file[f"{LIVE}/counters/snapshots"]
    complete, frames, seen = file[f"{LIVE}/complete"], pixels(200), []
    print("ready", file["/entry_1/instrument_1/source_1/energy"].attrs["units"], flush=True)
    until = time.monotonic() + 50
    while time.monotonic() < until:
        complete.refresh()
        done = complete[()]
        counter.refresh()
        n = int(counter[()])
        key.refresh()
        rows = np.flatnonzero(key[()])
        for dataset in (data, xyz, count):
            dataset.refresh()
        assert len(rows) >= n, (len(rows), n)
        for row in rows[-5:]:
            assert np.array_equal(data[row], frames[row]), row
            assert xyz[row, 0] == positions([int(row)]).yx_m[0, 1]
        k = int(count[()])
        if 0 < k <= 5:
            pictures = file[f"{LIVE}/snapshots/object"]
            pictures.refresh()
            shape = file[f"{LIVE}/snapshots/shape"]
            shape.refresh()
            ny, nx = shape[k - 1]
            assert (ny, nx) in [(0, 0), (40 + 30 * k, 50)]
            assert np.array_equal(pictures[k - 1, :ny, :nx], rounded(snapshot(k - 1, (40 + 30 * k, 50)).object)[:ny, :nx])
        seen.append(len(rows))
        if done:
            break
    image = file["/entry_1/image_1/data"]
    image.refresh()
    reason = file[f"{LIVE}/end_reason"]
    reason.refresh()
    print(seen[-1], len(set(seen)), image.shape, reason[()].decode())
    """
    frames = pixels(200)
    payload = compress(frames)
    with CxiWriter(path, start()) as writer:
        process = python(reader, path)
        assert process.stdout.readline() == "ready eV\n"
        for i in range(200):
            one = frame(single(payload, i), [i])
            writer.positions(positions([i]))
            writer.append(one if i % 2 else raw(frames[[i]], [i]))
            if i % 8 == 7:
                writer.flush()
                time.sleep(0.01)
            if i % 40 == 39:
                k = i // 40
                writer.snapshot(snapshot(k, (40 + 30 * (k + 1), 50)))
        writer.finish(outcome(snapshot(9)))
    rows, steps, *rest = told(process).split(maxsplit=2)
    assert rows == "200"
    assert int(steps) > 3
    assert rest == ["(40, 50) complete\n"]


def test_a_scan_is_readable_while_it_is_written(path):
    frames = pixels(5)
    with CxiWriter(path, start()) as writer:
        writer.append(raw(frames[:3], [0, 1, 3]))
        writer.positions(positions([0, 1, 4]))
        writer.flush()
        process = python(
            """
            with open_scan(path) as scan:
                print(scan.dialect, scan.index.tolist(), np.isfinite(scan.yx_m[:, 0]).tolist(), scan.frame(3).sum())
            """,
            path,
        )
        out = told(process)
        with open_scan(path) as scan:
            assert scan.dialect is Dialect.STREAMPTYCHO
            assert scan.index.tolist() == [0, 1, 3]
            assert np.array_equal(scan.payload(3).decode(), frames[2])
    assert out == f"streamptycho [0, 1, 3] [True, True, False, False, True] {frames[2].sum()}\n"


@pytest.mark.parametrize("count", [1, 2])
def test_the_last_frame_is_readable_in_the_same_process(path, count):
    with CxiWriter(path, start()) as writer:
        for i in range(count):
            writer.append(raw(pixels(1, seed=i), [i]))
            writer.flush()
        with h5py.File(path, "r", swmr=True) as file:
            assert np.array_equal(file["/entry_1/data_1/data"][count - 1], pixels(1, seed=count - 1)[0])


def test_an_empty_scan_is_readable_from_the_first_moment(path):
    with CxiWriter(path, start()), open_scan(path) as scan:
        assert len(scan) == 0
        assert scan.yx_m.shape == (0, 2)


def test_plain_opening_is_refused_while_it_is_written(path):
    with CxiWriter(path, start()):
        process = python(
            """
            try:
                h5py.File(path, "r")
            except OSError as error:
                print(error)
            """,
            path,
        )
        assert "file is already open for write" in told(process)
    with h5py.File(path, "r") as file:
        assert LIVE_KEY in file


FILL_THE_DISK = """
path = path / "scan.cxi"
frames, acknowledged = pixels(64), 0
try:
    if sys.argv[2] == "result":
        write_result(path, outcome(snapshot(1)))
    writer = CxiWriter(path, start())
except ScanError as error:
    print(error)
    print(list(path.parent.iterdir()))
    sys.exit()
try:
    for i in range(100_000):
        writer.append(raw(frames[[i % 64]], [i]))
        writer.positions(positions([i]))
        if i % 20 == 19:
            writer.flush()
            acknowledged = i + 1
            if sys.argv[2] == "snapshots":
                writer.snapshot(snapshot(i // 20))
except ScanError as error:
    print(error)
try:
    writer.append(raw(frames[:1], [i + 1]))
except ScanError as error:
    print(error)
writer.close()
left = path.read_bytes()
del writer
with open_scan(path) as scan:
    assert len(scan) >= acknowledged > 0, (len(scan), acknowledged)
    for i in scan.index:
        assert np.array_equal(scan.frame(i), frames[i % 64]), i
    assert np.array_equal(scan.yx_m[:acknowledged], positions(list(range(acknowledged))).yx_m)
assert path.read_bytes() == left
with CxiWriter(Path(sys.argv[3]), start()) as writer:
    writer.append(raw(frames[:1], [0]))
print("the next scan is written")
"""


def on_a_small_disk(kilobytes: int, what: str, tmp_path: Path) -> list[str]:
    """Lines that FILL_THE_DISK prints on a disk of that size; skips where none can be made."""
    mount, other = tmp_path / "disk", tmp_path / "next.cxi"
    mount.mkdir()
    prepare = f"mount -t tmpfs -o size={kilobytes}k tmpfs {mount}"
    # a mount of its own name space, gone with the process
    if (
        not shutil.which("unshare")
        or subprocess.run(["unshare", "-rm", "sh", "-c", prepare], capture_output=True).returncode
    ):
        pytest.skip("no right to mount a small disk here")
    code = IMPORTS + FILL_THE_DISK
    command = [sys.executable, "-W", "error", "-c", code, str(mount), what, str(other)]
    process = subprocess.run(
        ["unshare", "-rm", "sh", "-c", prepare + ' && exec "$@"', "sh", *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""
    return process.stdout.splitlines()


@pytest.mark.parametrize(("kilobytes", "what"), [(300, "frames"), (2000, "frames"), (3000, "snapshots")])
def test_a_full_disk_ends_the_scan_and_no_more_than_the_scan(kilobytes, what, tmp_path):
    lines = on_a_small_disk(kilobytes, what, tmp_path)
    assert len(lines) == 3
    assert lines[0].startswith(f"{tmp_path}/disk/scan.cxi: cannot take ")
    assert "No space left on device" in lines[0]
    assert lines[0].endswith("free disk space or write elsewhere")
    assert lines[1] == lines[0]
    assert lines[2] == "the next scan is written"


def test_a_disk_without_room_for_an_empty_scan(tmp_path):
    lines = on_a_small_disk(8, "frames", tmp_path)
    assert len(lines) == 2
    assert lines[0].startswith(f"{tmp_path}/disk/scan.cxi: cannot be created (")
    assert lines[1] == "[]"


def test_a_disk_without_room_for_the_result(tmp_path):
    lines = on_a_small_disk(8, "result", tmp_path)
    assert len(lines) == 2
    assert lines[0].startswith(f"{tmp_path}/disk/scan.cxi: the result cannot be written (")
    assert lines[1] == "[]"


def test_a_file_that_is_being_created_says_so(path):
    with h5py.File(path, "x", libver=("v110", "v110")):
        process = python(
            """
            try:
                open_scan(path)
            except Exception as error:
                print(type(error).__name__, error)
            """,
            path,
        )
        out = told(process)
    assert out.startswith(f"FormatError {path}: not a readable HDF5 file")
    assert "readable in a moment" in out


def test_the_data_stay_readable_next_to_a_stranger(path):
    """A reader that keeps the file open does not keep the writer from finishing."""
    writer = CxiWriter(path, start())
    with h5py.File(path, "r", swmr=True) as reader:
        writer.append(raw(pixels(3), [0, 1, 2]))
        writer.finish(outcome(snapshot(1)))
        data, key = reader[f"{DETECTOR}/data"], reader[LIVE_KEY]
        for dataset in (data, key, reader[TRANSLATION]):
            dataset.refresh()
        assert np.array_equal(data[()], pixels(3))
        assert key[()].tolist() == [1, 1, 1]
    with pytest.raises(FormatError, match="no such file"):
        open_scan(path.with_name("other.cxi"))
