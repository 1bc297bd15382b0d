"""The order in which a commit reaches the file, and those who follow it: nothing is told before it is there."""

import os
import time

import h5py
import numpy as np
import pytest

from streamptycho.files import writer as writer_module
from streamptycho.files.bslz4 import compress
from streamptycho.files.durable.mend import COUNT, FRAMES, POSITIONS
from streamptycho.files.items import update
from streamptycho.files.options import WriterOptions
from streamptycho.files.writer import CxiWriter
from tests.files.factories import frame, outcome, pixels, positions, raw, single, snapshot, start
from tests.files.processes import python, told


@pytest.fixture
def path(tmp_path):
    return tmp_path / "scan.cxi"


def test_keys_and_counter_are_flushed_after_all_that_they_tell_of(path, monkeypatch):
    flushed, flush = [], h5py.Dataset.flush

    def record(dataset):
        flush(dataset)
        flushed.append(dataset.name)

    with CxiWriter(path, start()) as writer:
        monkeypatch.setattr(h5py.Dataset, "flush", record)
        for index in ([0, 1], [5]):
            writer.append(raw(pixels(len(index)), index))
            writer.positions(positions([*index, index[-1] + 3]))
            flushed.clear()
            writer.flush()
            payload, (key, count) = {FRAMES[0], FRAMES[2], *POSITIONS}, map(flushed.index, (FRAMES[1], COUNT))
            assert payload <= set(flushed[:key]), "those that are only longer, too"
            assert key < count
        writer.positions(positions([40]))
        flushed.clear()
        writer.flush()
        assert {*FRAMES, *POSITIONS} <= set(flushed)


def test_frames_count_as_committed_only_when_the_counter_is_in_the_file(path, monkeypatch):
    seen = []

    def look(dataset, value):
        if dataset.name == COUNT:
            seen.append((writer.settled, writer.committed, value))
        update(dataset, value)

    with CxiWriter(path, start()) as writer:
        monkeypatch.setattr(writer_module, "update", look)
        writer.append(raw(pixels(2), [0, 1]))
        writer.flush()
        assert (writer.settled, writer.committed) == (True, 2)
    assert seen[0] == (False, 0, 2)


FOLLOW = """
file = h5py.File(path, "r", swmr=True)
frames, counter, snapshots = pixels(64), file[f"{LIVE}/counters/n_frames"], file[f"{LIVE}/counters/snapshots"]
data, key, times, xyz = file["/entry_1/data_1/data"], file[LIVE_KEY], file[f"{LIVE}/timestamp_ns"], file[TRANSLATION]
group, complete = file[f"{LIVE}/snapshots"], file[f"{LIVE}/complete"]
checked, pictures, looks = np.zeros(0, bool), 0, 0
print("ready", flush=True)
while True:
    began = time.monotonic()
    complete.refresh()
    done = complete[()]
    counter.refresh()
    n = int(counter[()])
    key.refresh()
    rows = np.flatnonzero(key[()])
    assert len(rows) >= n, (len(rows), n)
    for dataset in (data, times, xyz):
        dataset.refresh()
        assert len(dataset) > rows[-1] if len(rows) else True, (dataset.name, len(dataset), rows[-1])
    checked = np.concatenate([checked, np.zeros(len(key) - len(checked), bool)])
    for row in rows[~checked[rows]]:
        assert np.array_equal(data[row], frames[row % 64]), row
        assert times[row] == 1000 * row + 7, row
        assert xyz[row, 0] == positions([int(row)]).yx_m[0, 1], row
        checked[row] = True
    snapshots.refresh()
    k = int(snapshots[()])
    if k > pictures:
        for dataset in group.values():
            dataset.refresh()
        shown = snapshot(k, (40 + k % 7 * 60, 50 + k % 3 * 250))
        ny, nx = group["shape"][k - 1]
        if ny:  # else its picture is left out
            assert (ny, nx) == shown.object.shape, k
            assert np.array_equal(group["object"][k - 1, :ny, :nx], rounded(shown.object)), k
            assert np.array_equal(group["covered"][k - 1, :ny, :nx], shown.covered), k
            modes, py, px = group["probe_shape"][k - 1]
            assert np.array_equal(group["probe"][k - 1, :modes, :py, :px], rounded(shown.probe)), k
        for name in ("sequence", "frames_used", "updates", "time_ns"):
            assert group[name][k - 1] == getattr(shown, name), (k, name)
        pictures = k
    looks += 1
    if done:
        break
    time.sleep(max(0, 0.02 - (time.monotonic() - began)))
print(int(checked.sum()), pictures, looks)
"""
"""Looks 50 times a second, and compares all that it may use with what was written."""


@pytest.mark.slow
@pytest.mark.parametrize("compression", ["bslz4", "none"])
def test_followers_meet_no_counter_ahead_of_its_data_and_no_torn_snapshot(path, compression):
    rng, frames = np.random.default_rng(0), pixels(64)
    payload, order = compress(frames), np.arange(10_000)
    for first in range(0, len(order), 20):  # some come late
        rng.shuffle(order[first : first + 20])
    options = WriterOptions(compression=compression)
    with CxiWriter(path, start(), options=options) as writer:
        followers = [python(FOLLOW, path) for _ in range(2)]
        assert [follower.stdout.readline() for follower in followers] == ["ready\n"] * 2
        for n, i in enumerate(order.tolist(), 1):
            writer.positions(positions([i]))
            writer.append(raw(frames[[i % 64]], [i]) if n % 3 else frame(single(payload, i % 64), [i]))
            if n % 15 == 0:
                writer.flush()
                time.sleep(0.01)
            if n % 125 == 0:
                k = n // 125
                writer.snapshot(snapshot(k, (40 + k % 7 * 60, 50 + k % 3 * 250)))
        writer.finish(outcome())
    for follower in followers:
        checked, pictures, looks = map(int, told(follower).split())
        assert (checked, pictures) == (10_000, 80)
        assert looks > 20


def test_what_is_committed_is_on_the_disk_itself_where_that_is_wanted(path, monkeypatch):
    """Twice at each commit: what the keys tell of before the keys."""
    synced, keys = [], []

    def record(descriptor):
        synced.append(os.fstat(descriptor).st_ino)
        with h5py.File(path, "r", swmr=True) as file:
            keys.append(int(file[FRAMES[1]][()].sum()))

    monkeypatch.setattr(os, "fdatasync", record)
    for name, sync in (("one.cxi", False), ("two.cxi", True)):
        path = path.with_name(name)
        with CxiWriter(path, start(), options=WriterOptions(sync=sync)) as writer:
            writer.append(raw(pixels(2), [0, 1]))
            writer.flush()
            assert synced == [path.stat().st_ino] * 2 * sync
            assert keys == [0, 2][: 2 * sync]
