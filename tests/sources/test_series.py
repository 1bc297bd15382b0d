"""Scans in several files: one run, whose frames keep their numbers whatever is missing."""

import time
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from streamptycho.errors import ProtocolError
from streamptycho.messages.facts import Began, Ended, Frames
from streamptycho.messages.reasons import EndReason
from tests.compose.helpers import FRAMES, KNOWN, POSITIONS, Chain, began, ended, samples
from tests.files.test_series import part
from tests.other_writer import Writer, append, begin
from tests.sources.test_growing import Heard, opened

DETECTOR = "/entry/instrument/detector"
DATA = "/entry/data/data_%06d"


@pytest.fixture
def writer() -> Iterator[Writer]:
    made = Writer()
    yield made
    made.end()


def master(path: Path, images: int, each: int = 3) -> None:
    """As a DECTRIS detector's file writer makes it, with links to files that may not be there yet."""
    with h5py.File(path, "w", libver="latest") as file:
        for number in range(1, -(-images // each) + 1):
            name = f"{path.stem.removesuffix('_master')}_data_{number:06d}.h5"
            file[f"/entry/data/data_{number:06d}"] = h5py.ExternalLink(name, "/entry/data/data")
        file[f"{DETECTOR}/detectorSpecific/nimages"] = np.uint32(images)
        file[f"{DETECTOR}/detectorSpecific/ntrigger"] = np.uint32(1)
        file[f"{DETECTOR}/detector_distance"] = np.float32(2.0)


def data(folder: Path, number: int, count: int = 3) -> None:
    part(folder / f"s_data_{number:06d}.h5", 3 * (number - 1), count, image_nr_low=3 * (number - 1) + 1)


def test_a_dectris_master_ends_with_the_images_that_it_announces(tmp_path: Path):
    heard = opened(f"file://{tmp_path}/s_master.h5", frames=DATA, closed_s=0.05)
    master(tmp_path / "s_master.h5", 8)
    for number, count in ((1, 3), (2, 3), (3, 2)):
        data(tmp_path, number, count)
        heard.wait(lambda told, n=3 * (number - 1) + count: told.numbers == list(range(n)))
        assert heard.of(Began)[0].parts.expected == 8
        assert number == 3 or not heard.of(Ended), "a file that is closed does not end the series"
    heard.wait(lambda told: told.of(Ended))
    heard.reader.close()
    assert heard.of(Ended) == [Ended(run="s_master", count=8)]


def test_a_file_that_is_missing_is_missing_frames(tmp_path: Path):
    heard = opened(f"file://{tmp_path}/s_master.h5", frames=DATA, silence_s=0.5)
    master(tmp_path / "s_master.h5", 9)
    for number in (1, 3):
        data(tmp_path, number)
    heard.wait(lambda told: told.of(Ended))
    heard.reader.close()
    assert heard.numbers == [0, 1, 2, 6, 7, 8]
    (end,) = heard.of(Ended)
    assert (end.reason, end.count) == (EndReason.TIMEOUT, 9)
    chain = Chain(**KNOWN)((POSITIONS, began("abc")), *((FRAMES, fact) for fact in heard.facts))
    chain((POSITIONS, samples(0, 9)), (POSITIONS, ended("abc", 9))).wait(70)
    ((scan, reason, frames),) = chain.closed
    assert (scan, reason, frames) == ("s_master", EndReason.TIMEOUT, 6)
    assert chain.scans[scan].missing(reason) == 3
    assert not any(frame.dark for frame in heard.of(Frames))


def test_files_of_the_scan_before_under_the_same_names_are_not_of_the_next(tmp_path: Path):
    for number in range(3):
        part(tmp_path / f"scan_{number}.h5", 2 * number, 2, "/d")
    heard = opened(f"file://{tmp_path}/scan_%d.h5", frames="/d", expected=6, silence_s=0.6)
    heard.wait(lambda told: told.of(Ended))
    heard.facts.clear()
    part(tmp_path / "scan_0.h5", 0, 2, "/d")
    heard.wait(lambda told: told.numbers == [0, 1])
    part(tmp_path / "scan_1.h5", 2, 1, "/d")
    heard.wait(lambda told: told.of(Ended))
    heard.reader.close()
    assert heard.numbers == [0, 1, 2]
    assert (heard.of(Ended)[0].reason, heard.of(Ended)[0].count) == (EndReason.TIMEOUT, 3)


def test_nor_if_that_one_had_not_ended(tmp_path: Path):
    for number in range(3):
        part(tmp_path / f"scan_{number}.h5", 2 * number, 2, "/d")
    heard = opened(f"file://{tmp_path}/scan_%d.h5", frames="/d", silence_s=0.6)
    heard.wait(lambda told: told.numbers == list(range(6)))
    time.sleep(0.02)  # the time of a file is coarse
    part(tmp_path / "scan_0.h5", 0, 2, "/d")
    heard.wait(lambda told: told.numbers == [*range(6), 0, 1])
    heard.wait(lambda told: len(told.of(Ended)) == 2)
    heard.reader.close()
    assert [end.reason for end in heard.of(Ended)] == [EndReason.SUPERSEDED, EndReason.TIMEOUT]
    assert heard.numbers == [*range(6), 0, 1]


def test_rows_that_come_after_the_end_of_a_file_are_said_once(tmp_path: Path, writer: Writer):
    writer.do(*begin(tmp_path / "scan.h5", "swmr", "latest"), *append("swmr"))
    heard = opened(f"file://{tmp_path}/scan.h5", frames="/entry/data", expected=1)
    heard.wait(lambda told: told.of(Ended))
    writer.do(*append("swmr"), *append("swmr"))
    heard.wait(lambda told: told.of(ProtocolError))
    writer.do(*append("swmr"), "file.close()")
    time.sleep(0.2)
    heard.reader.close()
    heard.facts += heard.reader.through(())
    (error,) = heard.of(ProtocolError)
    assert "has gone on with row 1" in str(error)
    assert heard.numbers == [0]


def test_a_file_that_comes_after_the_end_of_its_run_is_said(tmp_path: Path):
    heard = opened(f"file://{tmp_path}/*_%d.h5", frames="/d", expected=2)
    part(tmp_path / "a_0.h5", 0, 2, "/d")
    heard.wait(lambda told: told.of(Ended))
    part(tmp_path / "a_1.h5", 2, 2, "/d")
    heard.wait(lambda told: told.of(ProtocolError))
    heard.reader.close()
    assert heard.numbers == [0, 1]
    assert "after the end of that run" in str(heard.of(ProtocolError)[0])


def test_escapes_in_an_address_are_no_numbers(tmp_path: Path):
    part(tmp_path / "scan д 1_000000.h5", 0, 2, "/d")
    heard = opened(f"file://{tmp_path}/scan%20%d0%b4%201_%06d.h5", frames="/d", expected=2)
    heard.wait(lambda told: told.of(Ended))
    heard.reader.close()
    assert heard.of(Ended) == [Ended(run="scan д 1", count=2)]


def test_numbered_files_are_one_run_and_the_next_name_another(tmp_path: Path, writer: Writer):
    part(tmp_path / "old_000000.h5", 0, 2, "/entry/data")
    heard = opened(f"file://{tmp_path}/*_%06d.h5", frames="/entry/data", y="/entry/y", x="/entry/y", closed_s=0.2)

    def write(name: str, number: int, done: int, heard: Heard) -> None:
        writer.do(*begin(tmp_path / f"{name}_{number:06d}.h5", "swmr", "latest"), *append("swmr"))
        writer.do(f"d[0] = {done + 1}; d.flush()", "file.close()")
        heard.wait(lambda told: told.of(Frames) and told.numbers[-1] == done)

    for name in "ab":
        for number in range(3):
            write(name, number, number, heard)
    heard.wait(lambda told: told.of(Ended))
    heard.reader.close()
    assert [fact.run for fact in heard.of(Began)] == ["a", "b"]
    assert heard.of(Ended) == [Ended(run="a", count=3)], "how many files b has nobody knows"
    assert heard.numbers == [0, 1, 2] * 2


def test_the_end_of_a_series_is_said_or_waited_for(tmp_path: Path):
    for number in range(2):
        part(tmp_path / f"scan_{number}.h5", 2 * number, 2, "/d")
    heard = opened(f"file://{tmp_path}/scan_%d.h5", frames="/d", expected=4, closed_s=0.05)
    heard.wait(lambda told: told.of(Ended))
    heard.reader.close()
    assert heard.of(Ended) == [Ended(run="scan", count=4)]
    heard = opened(f"file://{tmp_path}/scan_%d.h5", frames="/d", closed_s=0.05, silence_s=0.5)
    heard.wait(lambda told: told.of(Ended))
    heard.reader.close()
    (end,) = heard.of(Ended)
    assert (end.reason, end.count) == (EndReason.TIMEOUT, 4)
    assert "options.expected" in end.detail
