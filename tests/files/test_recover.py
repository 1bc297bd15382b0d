"""Files of writers that were killed: readable by plain h5py after `recover` and after `h5clear -s`, and taken up again."""

import errno
import fcntl
import os
import random
import shutil
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from streamptycho.errors import FormatError, ScanError
from streamptycho.files.bslz4 import compress
from streamptycho.files.durable.disk import abandon, build, claimed, remove_leftovers, show
from streamptycho.files.durable.mend import DARKS, FRAMES, POSITIONS, make_even, make_readable, unfinished_run
from streamptycho.files.durable.superblock import Superblock, lookup3
from streamptycho.files.recover import recover, state_of
from streamptycho.files.result import read_result, write_result
from streamptycho.files.scan import open_scan
from streamptycho.files.snapshots import rounded
from streamptycho.files.writer import CxiWriter
from streamptycho.messages.reasons import EndReason
from streamptycho.messages.run import RunId
from tests.files.factories import LIVE, LIVE_KEY, STARTED_NS, frame, outcome, pixels, positions, raw, single, snapshot, start
from tests.files.processes import WRITE_UNTIL_KILLED, python

KILLS = [pytest.param(seed, marks=() if seed < 3 else pytest.mark.slow) for seed in range(20)]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "scan.cxi"


def block_of(path: Path) -> Superblock:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return Superblock.read(descriptor, str(path))
    finally:
        os.close(descriptor)


def put_block(path: Path, **changes: int) -> None:
    descriptor = os.open(path, os.O_RDWR)
    replace(Superblock.read(descriptor, str(path)), **changes).write(descriptor)
    os.close(descriptor)


def killed(path: Path, seed: int = 0) -> int:
    """Let a writer be killed at some moment; the number of frames it had flushed for certain."""
    rng = random.Random(seed)
    process = python(WRITE_UNTIL_KILLED, path)
    flushed, enough = 0, rng.choice([10, 60, 200, 700])
    while flushed < enough:
        flushed = int(process.stdout.readline())
    time.sleep(rng.uniform(0, 0.02))  # anywhere within what it does
    process.kill()
    out, _ = process.communicate(timeout=60)
    assert process.returncode == -9
    return max([flushed, *map(int, out.split())])


def check(path: Path, flushed: int) -> int:
    """Compare all of a file, opened plainly, with what was written; the number of its frames."""
    frames = pixels(64)
    with h5py.File(path, "r") as file:
        rows = np.flatnonzero(file[LIVE_KEY][()])
        assert rows.tolist() == list(range(len(rows)))
        assert len(rows) >= flushed
        data = file[FRAMES[0]][: len(rows)]
        assert all(np.array_equal(data[i], frames[i % 64]) for i in rows)
        assert file[f"{LIVE}/timestamp_ns"][: len(rows)].tolist() == [1000 * i + 7 for i in rows]
        xyz = file[POSITIONS[0]][()]
        assert np.array_equal(xyz[:flushed, 1::-1], positions(list(range(flushed))).yx_m)
        assert np.array_equal(file[POSITIONS[1]][: len(rows)], xyz[: len(rows), 0], equal_nan=True)
        for k in range(int(file[f"{LIVE}/counters/snapshots"][()])):
            ny, nx = file[f"{LIVE}/snapshots/shape"][k]
            assert (ny, nx) in ([(40, 50)] if k == 0 else [(40, 50), (0, 0)])
            assert np.array_equal(file[f"{LIVE}/snapshots/object"][k, :ny, :nx], rounded(snapshot(k + 1).object)[:ny, :nx])
        assert file[f"{LIVE}/complete"][()] == 0
        return len(rows)


def check_pictures(path: Path) -> None:
    """The newest snapshot of a file that was recovered is in its image, its result and its picture."""
    result = path.with_name(path.stem + ".result.h5")
    with h5py.File(path, "r") as file:
        count = int(file[f"{LIVE}/counters/snapshots"][()])
        assert {len(rows) for rows in file[f"{LIVE}/snapshots"].values()} == {count}
        assert file[f"{LIVE}/end_reason"][()] == b"aborted"
        assert file["/entry_1/end_time"][()].startswith(b"20")
        image = file["/entry_1/image_1/data"][()]
        with_picture = np.flatnonzero(file[f"{LIVE}/snapshots/shape"][()].all(axis=1))
    assert result.exists() == path.with_suffix(".png").exists() == (count > 0)
    if count:
        newest = snapshot(int(with_picture[-1]) + 1)  # as the writer of the test numbers them
        found = read_result(result)
        assert np.array_equal(image, rounded(newest.object))
        assert np.array_equal(found.object, rounded(newest.object))
        assert np.array_equal(found.probe, rounded(newest.probe))
        assert (found.report.end_reason, found.report.complete) == ("aborted", False)


@pytest.mark.parametrize("seed", KILLS)
def test_every_flushed_row_of_a_killed_writer_is_there_and_none_is_altered(path, seed):
    flushed = killed(path, seed)
    with pytest.raises(OSError, match="already open for write"):
        h5py.File(path, "r")
    cleared, mended = path.with_name("cleared.cxi"), path.with_name("mended.cxi")
    for copy in (cleared, mended):
        shutil.copy(path, copy)
    put_block(cleared, flags=0)  # all that h5clear -s has to do
    seen = check(cleared, flushed)
    recovered = recover(mended)
    frames = check(mended, flushed)
    assert (recovered.frames, recovered.changed, recovered.end) == (frames, True, EndReason.ABORTED)
    check_pictures(mended)
    again = recover(mended)
    assert again == replace(recovered, changed=False, cut=0, made=())
    assert frames >= seen, "keys may have come into reach"
    with h5py.File(mended, "r") as file:
        assert len({len(file[name]) for name in (*FRAMES, *POSITIONS)}) == 1
        assert file[f"{LIVE}/counters/n_frames"][()] == frames
    with CxiWriter.resume(path, start()) as writer:
        assert writer.committed == frames
        assert writer.taken.frames.tolist() == [True] * frames
        again = writer.append(raw(pixels(64)[:1], [0]))
        assert (again.again, again.written) == (1, 0)
        new = frame(single(compress(pixels(64)), frames % 64), [frames])
        assert writer.append(new).written == 1
        writer.positions(positions(list(range(frames + 1))))
    assert check(path, frames + 1) == frames + 1


def test_h5clear_is_enough(path):
    if shutil.which("h5clear") is None:
        pytest.skip("h5clear is not installed: package hdf5-tools")
    flushed = killed(path)
    subprocess.run(["h5clear", "-s", path], check=True)
    check(path, flushed)


def test_a_writer_that_is_killed_while_it_begins_leaves_no_name_without_content(tmp_path):
    body = """
    print("ready", flush=True)
    for i in range(100_000):
        CxiWriter(path / f"{i}.cxi", start()).close()
    """
    for seed in range(4):
        folder = tmp_path / str(seed)
        folder.mkdir()
        process = python(body, folder)
        assert process.stdout.readline() == "ready\n"
        while not any(folder.glob("*.cxi")):
            time.sleep(0.001)
        time.sleep(random.Random(seed).uniform(0, 0.1))
        process.kill()
        process.communicate(timeout=60)
        remove_leftovers(folder)
        for file in folder.iterdir():
            assert file.suffix == ".cxi", "a file that is not finished"
            recover(file)
            with open_scan(file) as scan:
                assert len(scan) == 0


# what is recovered, and what is not


def died(path: Path, *blocks, **options) -> Path:
    writer = CxiWriter(path, start(), **options)
    for block in blocks:
        writer.append(block)
    writer.flush()
    abandon(writer._file)
    return path


def test_a_whole_file_is_left_as_it_is(path):
    with CxiWriter(path, start()) as writer:
        writer.append(raw(pixels(3), [0, 1, 2]))
        writer.finish(outcome(snapshot(1)))
    before = path.read_bytes()
    found = recover(path)
    assert (found.frames, found.changed, found.end) == (3, False, EndReason.COMPLETE)
    assert path.read_bytes() == before
    assert sorted(file.name for file in found.made) == ["scan.png", "scan.result.h5"], "the writer died before it made them"
    for file in found.made:
        file.write_bytes(b"mine")
    assert recover(path).made == ()
    assert [file.read_bytes() for file in found.made] == [b"mine"] * 2


def test_a_closed_file_ends_with_its_last_byte(path):
    with CxiWriter(path, start()) as writer:
        writer.append(raw(pixels(3), [0, 1, 2]))
        writer.flush()
        assert block_of(path).end > 1 << 20, "ahead of what is written"
        writer.close()
    assert block_of(path).end == path.stat().st_size < 1 << 20
    assert block_of(path).flags == 0


def test_a_file_whose_flags_were_cleared_while_its_end_was_old(path):
    """As earlier versions left files that `h5clear -s` was used on."""
    died(path, raw(pixels(30), list(range(30))))
    put_block(path, flags=0, end=40_000)
    found = recover(path)
    assert (found.frames, found.changed) == (30, True)
    with h5py.File(path, "r") as file:
        assert np.array_equal(file[FRAMES[0]][()], pixels(30))


def test_rows_that_some_have_and_others_have_not_yet_got(path):
    died(path, raw(pixels(3), [0, 1, 2]))
    put_block(path, flags=0)
    with h5py.File(path, "r+", libver=("v110", "v110")) as file:
        file[FRAMES[0]].resize(9, axis=0)
        file[f"{LIVE}/counters/n_frames"][()] = 1
        file[DARKS[1]].resize(2, axis=0)
    make_readable(path)
    with h5py.File(path, "r") as file:
        assert {len(file[name]) for name in (*FRAMES, *POSITIONS)} == {9}
        assert {len(file[name]) for name in DARKS} == {2}
        assert np.isnan(file[POSITIONS[0]][8]).all()
        assert file[f"{LIVE}/counters/n_frames"][()] == 3
    assert unfinished_run(path) is not None, "it can be gone on with"
    found = recover(path)
    assert (found.frames, found.cut, found.changed) == (3, 6, True)
    with h5py.File(path, "r") as file:
        assert {len(file[name]) for name in (*FRAMES, *POSITIONS)} == {3}
        assert {len(file[name]) for name in DARKS} == {0}
        assert np.array_equal(file[FRAMES[0]][()], pixels(3))
    assert unfinished_run(path) is None


def test_positions_that_came_before_their_frames_are_not_cut(path):
    writer = CxiWriter(path, start())
    writer.append(raw(pixels(1), [2]))
    writer.positions(positions([0, 6]))
    writer.flush()
    abandon(writer._file)
    found = recover(path)
    assert (found.frames, found.positions, found.snapshots, found.cut) == (1, 2, 0, 0)
    with h5py.File(path, "r") as file:
        assert {len(file[name]) for name in (*FRAMES, *POSITIONS)} == {7}


def test_what_is_to_be_known_of_a_file_without_an_end(path):
    with CxiWriter(path, start()) as writer:
        writer.append(raw(pixels(1), [0]))
        writer.flush()
        assert "being written" in state_of(path)
        abandon(writer._file)
        assert f"`streamptycho recover {path}`" in state_of(path)
        writer.reopen()
        writer.finish(outcome(snapshot(1)))
    assert state_of(path) is None
    write_result(path.with_suffix(".h5"), outcome(snapshot(1)))
    assert state_of(path.with_suffix(".h5")) is None


RECOVER = """
from streamptycho.files.recover import recover
print("ready", flush=True)
recover(path)
"""


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_a_recovery_that_is_killed_can_be_done_again(path, seed):
    flushed, rng = killed(path, seed), random.Random(seed)
    for _ in range(4):
        process = python(RECOVER, path)
        assert process.stdout.readline() == "ready\n"
        time.sleep(rng.uniform(0, 0.05))
        process.kill()
        process.communicate(timeout=60)
    recover(path)
    check(path, flushed)
    check_pictures(path)


def test_a_file_that_a_living_writer_has_is_not_touched(path):
    body = """
    with CxiWriter(path, start()) as writer:
        writer.append(raw(pixels(1), [0]))
        writer.flush()
        print("ready", flush=True)
        sys.stdin.readline()
        writer.append(raw(pixels(2)[1:], [1]))
    """
    process = python(body, path)
    assert process.stdout.readline() == "ready\n"
    before = path.read_bytes()
    for attempt in (lambda: recover(path), lambda: CxiWriter.resume(path, start())):
        with pytest.raises(FormatError, match="another process is writing it"):
            attempt()
    assert path.read_bytes() == before
    process.communicate("go on\n", timeout=60)
    with h5py.File(path, "r") as file:
        assert file[LIVE_KEY][()].tolist() == [1, 1]


def test_a_reader_does_not_keep_it_from_being_taken_up(path):
    died(path, raw(pixels(1), [0]))
    process = python(
        """
        with h5py.File(path, "r", swmr=True):
            print("ready", flush=True)
            sys.stdin.readline()
        """,
        path,
    )
    assert process.stdout.readline() == "ready\n"
    with CxiWriter.resume(path, start()) as writer:
        assert writer.committed == 1
    process.communicate("go on\n", timeout=60)
    assert process.returncode == 0


def foreign(path: Path) -> None:
    with h5py.File(path, "w", libver=("v110", "v110")) as file:
        file["a"] = 1


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.write_bytes(b""), "0 bytes are no HDF5 file"),
        (lambda path: path.write_bytes(bytes(1000)), "no HDF5 file as this program writes it"),
        (lambda path: h5py.File(path, "w").close(), "no HDF5 file as this program writes it"),
        (foreign, "not a growing file of this program, it has no /entry_1/instrument_1/detector_1/data"),
        (lambda path: write_result(path, outcome(snapshot(1))), "not a growing file of this program"),
    ],
    ids=["absent", "empty", "bytes", "old", "foreign", "result"],
)
def test_files_that_are_none_of_ours_stay_as_they_are(path, make, reason):
    make(path)
    before = path.read_bytes() if path.exists() else None
    with pytest.raises(FormatError, match=reason):
        recover(path)
    assert (path.read_bytes() if path.exists() else None) == before
    assert unfinished_run(path) is None


def test_a_file_that_is_cut_in_two_stays_as_it_is(path):
    died(path, raw(pixels(30), list(range(30))))
    os.truncate(path, 9000)
    before = path.read_bytes()
    with pytest.raises(FormatError, match=r"cannot be read even with its end set right|not a growing file"):
        recover(path)
    assert path.read_bytes() == before


def test_without_locks_nobody_knows_and_nothing_is_touched(path, monkeypatch):
    def refuse(descriptor, command, lock):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    died(path, raw(pixels(1), [0]))
    before = path.read_bytes()
    with pytest.raises(FormatError, match="copy it to a local disk"):
        recover(path)
    assert path.read_bytes() == before


def test_the_checksum_is_that_of_hdf5(path):
    foreign(path)
    raw_bytes = path.read_bytes()[:48]
    assert int.from_bytes(raw_bytes[44:], "little") == lookup3(raw_bytes[:44])
    assert lookup3(b"Four score and seven years ago") == 0x17770551


# going on


def test_all_that_an_earlier_writer_had_is_known(path):
    writer = CxiWriter(path, start())
    writer.append(raw(pixels(2), [0, 3]))
    writer.append(raw(pixels(1), [2], dark=True))
    writer.positions(positions([1, 3, 7]))
    writer.snapshot(snapshot(4, (300, 60)))
    writer.flush()
    abandon(writer._file)
    assert unfinished_run(path) == RunId("scan", STARTED_NS)
    with CxiWriter.resume(path, start()) as writer:
        taken = writer.taken
        assert taken.frames.tolist() == [True, False, False, True]
        assert taken.index.tolist() == [1, 3, 7]
        assert np.array_equal(taken.yx_m, positions([1, 3, 7]).yx_m)
        assert writer.positions(positions([1, 2])) == 1
        assert writer.append(raw(pixels(1), [2], dark=True)).again == 1
        assert writer.append(raw(pixels(3)[2:], [1])).written == 1
        writer.finish(outcome(snapshot(9)))
    assert unfinished_run(path) is None
    with h5py.File(path, "r") as file:
        assert file[LIVE_KEY][()].tolist() == [1, 1, 0, 1, 0, 0, 0, 0]
        assert file[f"{LIVE}/snapshots/sequence"][()].tolist() == [4, 9]
        assert np.array_equal(file[f"{LIVE}/snapshots/object"][0, :300, :60], rounded(snapshot(4, (300, 60)).object))
        assert not file[f"{LIVE}/snapshots/object"][1, 40:].any()
        assert np.flatnonzero(np.isfinite(file[POSITIONS[0]][:, 0])).tolist() == [1, 2, 3, 7]
        assert file[f"{LIVE}/complete"][()] == 1


def test_a_snapshot_that_was_not_counted_leaves_no_trace(path):
    died(path, raw(pixels(1), [0]))
    put_block(path, flags=0)
    with h5py.File(path, "r+", libver=("v110", "v110")) as file:
        group = file[f"{LIVE}/snapshots"]
        group["object"].resize((1, 300, 300))
        group["object"][0] = 7
        group["sequence"].resize((1,))
    with CxiWriter.resume(path, start()) as writer:
        writer.snapshot(snapshot(1))
    with h5py.File(path, "r") as file:
        picture = file[f"{LIVE}/snapshots/object"]
        assert np.array_equal(picture[0, :40, :50], rounded(snapshot(1).object))
        assert not picture[0, 40:].any()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"scan_id": "other"}, "is of scan@1700000000000000000, not of other@"),
        ({"started_ns": 5}, "not of scan@5"),
        ({"dtype": np.dtype("uint32")}, "has frames of"),
    ],
)
def test_the_file_of_another_run_is_not_taken_up(path, changes, reason):
    died(path, raw(pixels(1), [0]))
    with pytest.raises(FormatError, match=reason):
        CxiWriter.resume(path, start(**changes))


def test_a_finished_file_is_not_taken_up(path):
    CxiWriter(path, start()).finish(outcome())
    with pytest.raises(FormatError, match=r"is finished \(complete\)"):
        CxiWriter.resume(path, start())


def test_a_file_of_another_version_is_not_taken_up(path, monkeypatch):
    died(path, raw(pixels(1), [0]))
    monkeypatch.setattr("streamptycho.files.durable.mend.__version__", "9.9")
    with pytest.raises(FormatError, match=r"this program, which is 9\.9"):
        CxiWriter.resume(path, start())


# names


def test_where_there_are_no_hard_links(path, monkeypatch):
    def refuse(self, target):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    CxiWriter(path, start()).close()
    assert [file.name for file in path.parent.iterdir()] == ["scan.cxi"]
    with pytest.raises(ScanError, match="exists and is not overwritten"):
        CxiWriter(path, start())


def test_a_name_that_somebody_takes_meanwhile_is_not_overwritten(path):
    def take() -> None:
        with claimed(path) as partial:
            partial.write_bytes(b"ours")
            path.write_bytes(b"theirs")

    with pytest.raises(FileExistsError):
        take()
    assert path.read_bytes() == b"theirs"
    assert list(path.parent.iterdir()) == [path]


def test_what_a_process_of_that_number_elsewhere_is_writing_stays(tmp_path):
    partial = tmp_path / f".a.cxi.{os.getpid()}.part"
    build(partial, lambda file: None)
    with partial.open("rb") as held:
        show(held.fileno())
        assert remove_leftovers(tmp_path) == []
    assert remove_leftovers(tmp_path) == [partial]
    assert not partial.exists()


def test_columns_of_positions_become_those_of_their_rows(path):
    with CxiWriter(path, start()) as writer:
        writer.append(raw(pixels(3), [0, 1, 2]))
        writer.positions(positions([0, 1, 2]))
    with h5py.File(path, "r+") as file:
        file[POSITIONS[1]][1:] = np.nan
        make_even(file)
        for axis, column in enumerate(POSITIONS[1:]):
            assert np.array_equal(file[column][()], file[POSITIONS[0]][:, axis])
