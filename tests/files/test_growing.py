"""Datasets that another process writes, row by row."""

from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest

from streamptycho.errors import FormatError
from streamptycho.files.growing.follower import Follower
from streamptycho.files.growing.located import Piece
from streamptycho.messages.payload import Encoding
from tests.other_writer import Writer, append, begin


@pytest.mark.parametrize(("mode", "libver"), [("swmr", "latest"), ("plain", "earliest")])
def test_rows_are_there_once_they_are_written(
    tmp_path: Path, writer: Writer, followers: list[Follower], mode: str, libver: str
):
    path = tmp_path / "scan.h5"
    frames, y = Follower(path, "/entry/data", frames=True), Follower(path, "/entry/y")
    followers += [frames, y]
    assert not frames.refresh()
    assert str(path) in frames.why
    writer.do(*begin(path, mode, libver))
    assert frames.refresh()
    assert y.refresh()
    assert (frames.length, y.unit) == (0, "um")
    for n in range(1, 5):
        writer.do(*append(mode))
        assert frames.refresh()
        assert y.refresh()
        assert frames.written(0, 6).tolist() == [True] * n + [False] * (6 - n)
        (block,) = frames.blocks(n - 1, n)
        assert block.encoding is Encoding.BSLZ4
        np.testing.assert_array_equal(block.decode(), np.full((8, 6), n))
    np.testing.assert_array_equal(y.rows(1, 4), [1.0, 1.5, 2.0])
    assert frames.writing is (True if mode == "swmr" else None)
    writer.do("file.close()")
    assert frames.refresh()
    assert frames.writing is (False if mode == "swmr" else None)
    assert len(frames.blocks(0, 4)[0]) == 4


def test_a_file_that_its_writer_keeps_to_itself_is_named_and_read_once_closed(
    tmp_path: Path, writer: Writer, followers: list[Follower]
):
    path = tmp_path / "scan.h5"
    writer.do(*begin(path, "plain", "latest"), *append("plain"))
    follower = Follower(path, "/entry/y")
    followers.append(follower)
    assert not follower.refresh()
    assert str(path) in follower.why
    assert "SWMR" in follower.why
    writer.do("file.close()")
    assert follower.refresh()
    assert follower.rows(0, 1) == 0.5


def test_a_dataset_that_comes_later_and_a_file_that_is_replaced(tmp_path: Path, writer: Writer, followers: list[Follower]):
    path, other = tmp_path / "scan.h5", tmp_path / "other.h5"
    follower = Follower(path, "/entry/y")
    followers.append(follower)
    writer.do(f"file = h5py.File({str(path)!r}, 'w', libver='earliest')", "file['a'] = 1; file.flush()")
    assert not follower.refresh()
    assert "no dataset /entry/y yet" in follower.why
    writer.do("y = file.create_dataset('/entry/y', data=np.arange(3.0)); file.flush()")
    assert follower.refresh()
    assert follower.length == 3
    writer.do("file.close()", *begin(other, "swmr", "latest"), *append("swmr"))
    other.replace(path)
    assert follower.refresh()
    assert (follower.length, follower.generation) == (1, 1)
    writer.do("file.close()")
    path.unlink()
    assert follower.refresh(), "what is open can still be read"
    assert follower.rows(0, 1) == 0.5


def test_a_live_key_says_which_rows_of_a_preallocated_dataset_are_written(
    tmp_path: Path, writer: Writer, followers: list[Follower]
):
    path = tmp_path / "scan.h5"
    writer.do(
        f"file = h5py.File({str(path)!r}, 'w', libver='latest')",
        "d = file.create_dataset('d', (2, 3, 8, 6), 'i8', chunks=(1, 1, 8, 6))",
        "k = file.create_dataset('k', (2, 3, 1, 1), 'i4', chunks=(1, 1, 1, 1))",
        "file.swmr_mode = True",
        "d[0, 1] = 5; d[1, 0] = 7; d[1, 1] = 9; d.flush(); k[0, 1] = 1; k[1, 0] = 1; k.flush()",
    )
    follower = Follower(path, "/d", "/k", frames=True)
    followers.append(follower)
    assert follower.refresh()
    assert follower.length == 6
    assert follower.written(0, 6).tolist() == [False, True, False, True, False, False]
    (block,) = follower.blocks(3, 4)
    assert (block.dtype, block.decode()[0, 0]) == (np.dtype("int32"), 7)
    writer.do("k[1, 1] = 1; k.flush(); d[0, 0] = 1 << 40; d.flush(); k[0, 0] = 1; k.flush()")
    assert follower.refresh()
    assert follower.written(2, 6).tolist() == [False, True, True, False]
    with pytest.raises(FormatError, match="beyond int32"):
        follower.blocks(0, 1)
    writer.do("file.close()")


@pytest.mark.parametrize("where", ["beside", "below", "behind a link"])
def test_links_lead_to_files_relative_to_the_one_that_names_them(tmp_path: Path, followers: list[Follower], where: str):
    folder = tmp_path / "data"
    (folder / "raw").mkdir(parents=True)
    name = "raw/part.h5" if where == "below" else "part.h5"
    with h5py.File(folder / name, "w") as part:
        part["/entry/detector/data"] = np.arange(4.0)
    with h5py.File(folder / "master.h5", "w") as master:
        master["/scan/det"] = h5py.ExternalLink(name, "/entry/detector")
        master["/scan/soft"] = h5py.SoftLink("/scan/det/data")
    path = folder / "master.h5"
    if where == "behind a link":
        path = tmp_path / "link.h5"
        path.symlink_to(folder / "master.h5")
    for dataset in ("/scan/det/data", "/scan/soft"):
        follower = Follower(path, dataset)
        followers.append(follower)
        assert follower.refresh(), follower.why
        np.testing.assert_array_equal(follower.rows(1, 3), [1.0, 2.0])


def test_links_in_a_circle_are_refused(tmp_path: Path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a"], file["b"] = h5py.SoftLink("/b"), h5py.SoftLink("/a")
        file["out"] = h5py.ExternalLink("a.h5", "/out")
    for dataset, words in (("/a", "links"), ("/out", "lead to one another")):
        follower = Follower(tmp_path / "a.h5", dataset)
        with pytest.raises(FormatError, match=words):
            follower.refresh()
        follower.close()


def virtual(path: Path, mapped: Any, shape: tuple[int, ...]) -> None:
    layout = h5py.VirtualLayout(shape, "u2")
    mapped(layout)
    with h5py.File(path, "w", libver="latest") as file:
        file.create_virtual_dataset("data", layout)


def test_a_virtual_dataset_has_only_the_rows_that_its_sources_have(
    tmp_path: Path, writer: Writer, followers: list[Follower]
):
    """As odin writes: frames go to the processes by turns, and the virtual dataset is there from the beginning."""

    def turns(layout: h5py.VirtualLayout) -> None:
        for process in range(2):
            layout[process::2] = h5py.VirtualSource(f"part{process}.h5", "data", (3, 8, 6), "u2")

    virtual(tmp_path / "vds.h5", turns, (6, 8, 6))
    follower = Follower(tmp_path / "vds.h5", "/data", frames=True)
    followers.append(follower)
    assert not follower.refresh()
    assert "part0.h5" in follower.why
    for process in range(2):
        writer.do(
            f"f{process} = h5py.File({str(tmp_path / f'part{process}.h5')!r}, 'w', libver='latest')",
            f"d{process} = f{process}.create_dataset('data', (0, 8, 6), 'u2', chunks=(1, 8, 6), maxshape=(None, 8, 6),"
            " **hdf5plugin.Bitshuffle(nelems=0, cname='lz4'))",
            f"f{process}.swmr_mode = True",
        )
    writer.do("d1.resize(2, 0); d1[0] = 1; d1[1] = 3; d1.flush()")
    assert follower.refresh()
    assert follower.written(0, 6).tolist() == [False, True, False, True, False, False]
    writer.do("d0.resize(2, 0); d0[0] = 100; d0[1] = 2; d0.flush()")
    assert follower.refresh()
    assert follower.written(0, 6).tolist() == [True] * 4 + [False] * 2
    blocks = follower.blocks(0, 4)
    assert {block.encoding for block in blocks} == {Encoding.BSLZ4}
    assert [int(block.decode(i)[0, 0]) for block in blocks for i in range(len(block))] == [100, 1, 2, 3]
    assert follower.writing is True
    writer.do("f0.close(); f1.close()")
    assert follower.refresh()
    assert follower.writing is False


def test_what_cannot_be_followed_is_refused_by_name(tmp_path: Path):
    def tiles(layout: h5py.VirtualLayout) -> None:
        layout[:, :, :3] = h5py.VirtualSource("a.h5", "data", (6, 8, 3), "u2")

    virtual(tmp_path / "vds.h5", tiles, (6, 8, 6))
    with h5py.File(tmp_path / "odd.h5", "w") as file:
        file["text"], file["flat"], file["big"] = "words", np.zeros(3), np.zeros((2, 3, 4))
    for name, dataset, frames, words in (
        ("vds.h5", "/data", True, "tiles"),
        ("odd.h5", "/text", False, "no numbers"),
        ("odd.h5", "/flat", True, "no frames"),
        ("odd.h5", "/big", True, "float64"),
    ):
        follower = Follower(tmp_path / name, dataset, frames=frames)
        with pytest.raises(FormatError, match=words):
            follower.refresh()
        follower.close()
    with pytest.raises(FormatError, match="no regular file"):
        Follower(Path("/dev/null"), "/data").refresh()


def test_rows_of_blocks_and_strides():
    piece = Piece(Path("a"), "d", start=2, stride=5, block=3, count=4, source_start=1, source_stride=6, source_block=2)
    source = piece.source_rows(np.arange(40))
    assert np.flatnonzero(source >= 0).tolist() == [2, 3, 4, 7, 8, 9, 12, 13, 14, 17, 18, 19]
    assert source[source >= 0].tolist() == [1, 2, 7, 8, 13, 14, 19, 20, 25, 26, 31, 32]
    assert [piece.rows(n) for n in (0, 1, 2, 3, 8, 9, 33, 99)] == [0, 0, 3, 4, 5, 8, 20, 20]


def test_frames_in_chunks_of_several_rows_and_in_other_types(tmp_path: Path, followers: list[Follower]):
    pixels = np.arange(5 * 8 * 6).reshape(5, 8, 6)
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file.create_dataset("chunks", data=pixels.astype("u2"), chunks=(2, 8, 6), **hdf5plugin.Blosc())
        file.create_dataset("big", data=pixels.astype(">u4"), chunks=(1, 8, 6))
        file.create_dataset("wide", data=pixels.astype("u8"))
    for name, dtype in (("chunks", "uint16"), ("big", "uint32"), ("wide", "uint32")):
        follower = Follower(tmp_path / "f.h5", f"/{name}", frames=True)
        followers.append(follower)
        assert follower.refresh(), follower.why
        (block,) = follower.blocks(1, 5)
        assert (block.encoding, block.dtype) == (Encoding.RAW, np.dtype(dtype))
        np.testing.assert_array_equal(np.stack([block.decode(i) for i in range(4)]), pixels[1:])
