"""Datasets that go on from file to file, under names with a running number."""

from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest

from streamptycho.errors import FormatError
from streamptycho.files.growing.follower import Follower
from streamptycho.files.growing.names import Members, number_in, runs_in, without_number
from streamptycho.messages.payload import Encoding
from tests.other_writer import Writer, append, begin

SHAPE = (8, 6)
BSLZ4 = dict(hdf5plugin.Bitshuffle(nelems=0, cname="lz4"))


def part(path: Path, first: int, count: int, dataset: str = "/entry/data/data", **attributes: int) -> None:
    """A file of `count` frames, whose pixels are one more than their number; the first has number `first`."""
    pixels = np.arange(first + 1, first + count + 1, dtype="u2")[:, None, None] * np.ones((1, *SHAPE), "u2")
    partial = path.with_suffix(".part")
    with h5py.File(partial, "w", libver="latest") as file:
        made = file.create_dataset(dataset, data=pixels, chunks=(1, *SHAPE), maxshape=(None, *SHAPE), **BSLZ4)
        for name, value in attributes.items():
            made.attrs[name] = np.int32(value)
    partial.rename(path)


def numbers(follower: Follower) -> list[int]:
    """Of all rows that can be read; each must hold its own pixels."""
    rows = np.flatnonzero(follower.written(0, follower.length))
    for row in rows.tolist():
        (block,) = follower.blocks(row, row + 1)
        assert block.encoding is Encoding.BSLZ4
        assert block.decode()[0, 0] == row + 1
    return rows.tolist()


def test_numbered_names():
    assert number_in("scan_%06d.h5", "scan_000012.h5") == 12
    assert number_in("scan_%d.h5", "scan_12.h5") == 12
    assert number_in("scan_%06d.h5", "scan_1234567.h5") == 1234567
    for other in ("scan_12.h5", "scan_0000012.h5", "scan_000012.h5.part", "xscan_000012.h5", "scan_00001x.h5"):
        assert number_in("scan_%06d.h5", other) is None
    assert [without_number(stem) for stem in ("scan_%06d", "a%db", "%d")] == ["scan", "ab", "%d"]
    found = [Path(f"/d/{name}") for name in ("b_000002.h5", "a_000001.h5", "b_000001.h5", "a_1.h5", "c.h5")]
    assert runs_in("/d/*_%06d.h5", found) == [Path("/d/b_%06d.h5"), Path("/d/a_%06d.h5")]
    assert runs_in("/d/*.h5", found) == found


@pytest.mark.parametrize("images", [True, False])
def test_data_files_of_a_dectris_master_as_they_come(tmp_path: Path, followers: list[Follower], images: bool):
    """All links are in the master from the beginning; the detector's files are fetched one by one."""
    with h5py.File(tmp_path / "series_7_master.h5", "w", libver="latest") as master:
        for number in range(1, 5):
            master[f"/entry/data/data_{number:06d}"] = h5py.ExternalLink(
                f"series_7_data_{number:06d}.h5", "/entry/data/data"
            )

    def arrives(number: int, count: int = 3) -> None:
        first = 3 * (number - 1)
        attributes = {"image_nr_low": first + 1, "image_nr_high": first + count} if images else {}
        part(tmp_path / f"series_7_data_{number:06d}.h5", first, count, **attributes)

    follower = Follower(tmp_path / "series_7_master.h5", "/entry/data/data_%06d", frames=True)
    followers.append(follower)
    assert not follower.refresh()
    assert "series_7_data_000001.h5" in follower.why
    arrives(1)
    assert follower.refresh()
    assert numbers(follower) == [0, 1, 2]
    arrives(2)
    assert follower.refresh()
    assert numbers(follower) == list(range(6))
    arrives(4, 2)
    assert follower.refresh()
    assert numbers(follower) == [*range(6), 9, 10], "the third is missing, and its rows are"
    arrives(3)
    assert follower.refresh()
    assert numbers(follower) == list(range(11))
    assert follower.writing is None, "another may come"


def test_links_that_come_while_the_scan_runs(tmp_path: Path, writer: Writer, followers: list[Follower]):
    follower = Follower(tmp_path / "m.h5", "/entry/data/data_%06d", frames=True)
    followers.append(follower)
    writer.do(f"file = h5py.File({str(tmp_path / 'm.h5')!r}, 'w', libver='earliest'); file.create_group('/entry/data')")
    for number in range(1, 4):
        part(tmp_path / f"d{number}.h5", 2 * (number - 1), 2)
        name = f"/entry/data/data_{number:06d}"
        writer.do(f"file[{name!r}] = h5py.ExternalLink('d{number}.h5', '/entry/data/data'); file.flush()")
        for _ in range(21):  # the time of a file may be coarse
            assert follower.refresh() or number == 1
        assert numbers(follower) == list(range(2 * number))


def test_a_group_of_numbered_datasets_is_not_guessed(tmp_path: Path, followers: list[Follower]):
    part(tmp_path / "m.h5", 0, 1, "/entry/data/data_000001")
    follower = Follower(tmp_path / "m.h5", "/entry/data", frames=True)
    followers.append(follower)
    assert not follower.refresh()
    assert "name /entry/data/data_%06d" in follower.why


def test_numbered_files_that_grow_one_after_the_other(tmp_path: Path, writer: Writer, followers: list[Follower]):
    """Each is written in SWMR mode; they have different lengths."""
    follower = Follower(tmp_path / "scan_%06d.h5", "/entry/data", frames=True)
    y = Follower(tmp_path / "scan_%06d.h5", "/entry/y")
    followers += [follower, y]
    assert not follower.refresh()
    assert "has no /entry/data yet" in follower.why
    done = 0
    for number, count in enumerate((3, 1, 2)):
        writer.do(*begin(tmp_path / f"scan_{number:06d}.h5", "swmr", "latest"), f"first = {done}")
        for _ in range(count):
            done += 1
            writer.do("n = len(d) + 1; d.resize(n, 0); y.resize(n, 0)", "d[n - 1] = first + n; y[n - 1] = first + n - 1")
            writer.do("d.flush(); y.flush()")
            assert follower.refresh()
            assert y.refresh()
            assert numbers(follower) == list(range(done))
            np.testing.assert_array_equal(y.rows(0, done), np.arange(done))
            assert y.unit == "um"
        writer.do("file.close()")
    assert follower.length == 6


def test_rows_behind_a_file_that_is_open_have_no_numbers_yet(tmp_path: Path, writer: Writer, followers: list[Follower]):
    follower = Follower(tmp_path / "scan_%d.h5", "/entry/data", frames=True)
    followers.append(follower)
    writer.do(*begin(tmp_path / "scan_1.h5", "swmr", "latest"), *append("swmr"))
    part(tmp_path / "scan_2.h5", 2, 2, "/entry/data")
    assert follower.refresh()
    assert numbers(follower) == [0]
    assert "scan_1.h5: its writer has not closed it" in follower._parts.why
    writer.do(*append("swmr"), "file.close()")
    assert follower.refresh()
    assert numbers(follower) == [0, 1, 2, 3]


def test_where_the_numbers_begin_is_asked_for(tmp_path: Path, followers: list[Follower]):
    for number in (7, 8):
        part(tmp_path / f"f{number}.h5", 2 * (number - 7), 2)
    asked = Follower(tmp_path / "f%d.h5", "/entry/data/data", frames=True)
    followers.append(asked)
    assert not asked.refresh()
    assert "options.first_file" in asked.why
    asked.close()
    told = Follower(tmp_path / "f%d.h5", "/entry/data/data", frames=True, members=Members(7))
    followers.append(told)
    assert told.refresh()
    assert numbers(told) == [0, 1, 2, 3]


def test_with_the_first_missing_the_others_say_how_long_it_is(tmp_path: Path, followers: list[Follower]):
    follower = Follower(tmp_path / "f%d.h5", "/entry/data/data", frames=True, members=Members(1))
    followers.append(follower)
    part(tmp_path / "f2.h5", 2, 2)
    assert not follower.refresh(), "of one file that may still grow nobody knows it"
    assert "number 1 is missing" in follower.why
    part(tmp_path / "f3.h5", 4, 1)
    assert follower.refresh()
    assert numbers(follower) == [2, 3, 4]


@pytest.mark.parametrize("case", ["grows", "lower", "late"])
def test_what_contradicts_the_numbers_that_were_given_is_an_error(
    tmp_path: Path, writer: Writer, followers: list[Follower], case: str
):
    follower = Follower(tmp_path / "f%d.h5", "/entry/data", frames=True)
    followers.append(follower)
    writer.do(*begin(tmp_path / "f1.h5", "plain", "earliest"), *append("plain"), *append("plain"))
    for number in (2, 4):
        part(tmp_path / f"f{number}.h5", 2 * (number - 1), 2, "/entry/data")
    assert follower.refresh()
    assert numbers(follower) == [0, 1, 2, 3, 6, 7]
    if case == "grows":
        writer.do("d.resize(3, 0); d[2] = 3; file.flush()")
    elif case == "lower":
        part(tmp_path / "f0.h5", 0, 2, "/entry/data")
    else:
        part(tmp_path / "f3.h5", 4, 1, "/entry/data")
    words = {
        "grows": "f1.h5: has grown",
        "lower": "number 0 has come after",
        "late": "f3.h5: came late and has 1 rows, not 2",
    }

    def look() -> None:
        for _ in range(21):
            follower.refresh()

    with pytest.raises(FormatError, match=words[case]):
        look()


def test_files_in_the_place_of_those_before_begin_anew(tmp_path: Path, followers: list[Follower]):
    follower = Follower(tmp_path / "f%d.h5", "/entry/data/data", frames=True)
    followers.append(follower)
    part(tmp_path / "f1.h5", 0, 2)
    part(tmp_path / "f2.h5", 2, 2)
    assert follower.refresh()
    (tmp_path / "f2.h5").unlink()
    part(tmp_path / "f1.h5", 0, 1)
    assert not follower.refresh()
    assert follower.generation == 1
    assert follower.refresh()
    assert numbers(follower) == [0]


def test_a_long_series_keeps_few_files_open(tmp_path: Path, followers: list[Follower]):
    follower = Follower(tmp_path / "f%03d.h5", "/entry/data/data", frames=True)
    followers.append(follower)
    for number in range(60):
        part(tmp_path / f"f{number:03d}.h5", 2 * number, 2)
    before = len(list(Path("/proc/self/fd").iterdir()))
    assert follower.refresh()
    assert follower.refresh()
    assert len(list(Path("/proc/self/fd").iterdir())) < before + 40
    assert numbers(follower) == list(range(120)), "those that rest are opened again"


def printf(path: Path, name: str, block: int, stride: int) -> None:
    """A virtual dataset without end, each block of which is a file: odin-data's and areaDetector's way."""
    unlimited = h5py.h5s.UNLIMITED
    space = h5py.h5s.create_simple((0, *SHAPE), (unlimited, *SHAPE))
    space.select_hyperslab((1, 0, 0), (unlimited, 1, 1), (stride, 1, 1), (block, *SHAPE))
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_virtual(space, name.encode(), b"/data", h5py.h5s.create_simple((block, *SHAPE)))
    with h5py.File(path, "w", libver="latest") as file:
        shape = h5py.h5s.create_simple((0, *SHAPE), (unlimited, *SHAPE))
        h5py.h5d.create(file.id, b"data", h5py.h5t.STD_U16LE, shape, creation).close()


def test_a_virtual_dataset_with_a_pattern_takes_each_file_for_its_block(tmp_path: Path, followers: list[Follower]):
    printf(tmp_path / "vds.h5", "part_%b.h5", 2, 3)
    follower = Follower(tmp_path / "vds.h5", "/data", frames=True)
    followers.append(follower)
    assert not follower.refresh()
    part(tmp_path / "part_0.h5", 1, 2, "/data")
    assert follower.refresh()
    assert numbers(follower) == [1, 2]
    part(tmp_path / "part_2.h5", 7, 2, "/data")
    assert follower.refresh()
    assert numbers(follower) == [1, 2, 7, 8], "a file that is not there is no frames, not dark ones"
    part(tmp_path / "part_1.h5", 4, 2, "/data")
    assert follower.refresh()
    assert numbers(follower) == [1, 2, 4, 5, 7, 8]
    assert follower.writing is None
