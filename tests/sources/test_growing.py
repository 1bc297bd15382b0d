"""Files that documents name, and scans in files, as facts while they are written."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from streamptycho.compose.options import Role
from streamptycho.dialects.door import Interpreter
from streamptycho.dialects.hdf5 import Hdf5
from streamptycho.errors import ConfigError, ProtocolError
from streamptycho.messages.facts import Began, Ended, Fact, Frames, Learned, Place, Samples, Stored
from streamptycho.messages.payload import Encoding
from streamptycho.messages.reasons import EndReason
from streamptycho.sources.growing import StoredReader
from streamptycho.sources.listener import listen
from streamptycho.sources.options import DetectorEndpoint
from streamptycho.sources.scan_files import ScanFiles
from streamptycho.wire.security import NO_KEYS
from streamptycho.wire.sockets import new_context
from streamptycho_sim.formats.bluesky import Scan, message
from tests.other_writer import Writer, append, begin

PATIENCE_S = 60.0
"""For what takes a fraction of a second, on a machine that is much slower."""


@pytest.fixture
def writer() -> Iterator[Writer]:
    made = Writer()
    yield made
    made.end()


class Heard:
    """What a reader has told."""

    def __init__(self, reader: StoredReader | ScanFiles) -> None:
        self.reader, self.facts = reader, list[Fact]()

    def wait(self, until: Any) -> None:
        """Ask until `until(self)` is true."""
        end_s = time.monotonic() + PATIENCE_S
        while not until(self):
            assert time.monotonic() < end_s, self.facts
            self.facts += self.reader.through(())
            time.sleep(0.005)

    def of(self, kind: Any) -> list[Any]:
        return [fact for fact in self.facts if isinstance(fact, kind)]

    @property
    def rows(self) -> dict[int, tuple[float, ...]]:
        found: dict[int, tuple[float, ...]] = {}
        for fact in self.of(Samples):
            assert fact.number is not None
            found.update(
                zip(fact.number.tolist(), zip(*(c.tolist() for c in fact.columns.values()), strict=True), strict=True)
            )
        return found

    @property
    def numbers(self) -> list[int]:
        """Of the frames, whose first pixel must be one more."""
        found = []
        for fact in self.of(Frames):
            for i, number in enumerate(fact.number.tolist()):
                assert fact.payload.decode(i)[0, 0] == number + 1
                found.append(number)
        return found


def test_positions_of_a_fly_scan_come_while_it_flies(tmp_path: Path, writer: Writer):
    path, n = tmp_path / "panda.h5", 30
    scan = Scan(columns={"sy": np.arange(n) - 4.0, "sx": np.arange(n) / 2 - 3.0})
    writer.do(
        f"file = h5py.File({str(path)!r}, 'w', libver='latest')",
        "y, x = (file.create_dataset(k, (0,), 'f8', chunks=(1024,), maxshape=(None,)) for k in 'yx')",
        "file.swmr_mode = True",
    )
    dialect, heard = Interpreter("bluesky"), Heard(StoredReader())
    for document in scan.flight(path, {"sy": "/y", "sx": "/x"}, per_datum=10):
        heard.facts += heard.reader.through(dialect.feed([message(document)], 0.0))
        if document[0] == "stream_datum" and document[1]["stream_resource"].endswith("sx"):
            rows = document[1]["indices"]["stop"]
            if rows < n:  # before the rows are there: announced is not yet written
                writer.do(f"n = {rows}; y.resize(n, 0); x.resize(n, 0)")
                writer.do("y[:n] = np.arange(n) - 4.0; x[:n] = np.arange(n) / 2 - 3.0; y.flush(); x.flush()")
                heard.wait(lambda told, rows=rows: len(told.rows) == rows)
    assert not heard.of(Ended), "rows that were named are still to come"
    writer.do(
        "n = 30; y.resize(n, 0); x.resize(n, 0); y[:n] = np.arange(n) - 4.0; x[:n] = np.arange(n) / 2 - 3.0; file.close()"
    )
    heard.wait(lambda told: told.of(Ended))
    heard.reader.close()
    assert heard.rows == {i: (i - 4.0, i / 2 - 3.0) for i in range(n)}
    assert heard.of(ProtocolError) == []
    assert heard.facts[-1] == Ended(run=scan.uid, count=n)


def test_rows_that_do_not_come_are_named_after_a_while(tmp_path: Path):
    missing = tmp_path / "never.h5"
    columns = {name: Place(path=str(missing), dataset=f"/{name}", row=0) for name in "yx"}
    facts = [Stored(run="a", first=5, count=3, columns=columns), Ended(run="a"), Ended(run="b")]
    heard = Heard(StoredReader(patience_s=0.2))
    heard.facts += heard.reader.through(facts)
    assert heard.facts == [Ended(run="b")]
    heard.wait(lambda told: told.of(Ended)[1:])
    heard.reader.close()
    (error,) = heard.of(ProtocolError)
    assert "rows 5 to 7 of y, x" in str(error)
    assert str(missing) in str(error)
    assert heard.facts[-1] == Ended(run="a")


def test_zeros_at_the_end_are_doubted_before_they_are_believed(tmp_path: Path, writer: Writer):
    """An areaDetector file has rows before they are flushed; until then they are zeros."""
    path = tmp_path / "lag.h5"
    writer.do(
        f"file = h5py.File({str(path)!r}, 'w', libver='latest')",
        "y, x = (file.create_dataset(k, (6,), 'f8', chunks=(1024,), maxshape=(None,)) for k in 'yx')",
        "file.swmr_mode = True; y[:2] = [0, 1]; x[:2] = [0, 0]; y.flush(); x.flush()",
    )
    columns = {name: Place(path=str(path), dataset=f"/{name}", row=0) for name in "yx"}
    clock = [0.0]
    heard = Heard(StoredReader(clock=lambda: clock[0]))
    heard.facts += heard.reader.through([Stored(run="a", first=0, count=5, columns=columns)])
    heard.wait(lambda told: len(told.rows) == 2)
    writer.do("y[2:4] = [3, 4]; y.flush()")
    heard.wait(lambda told: len(told.rows) == 4)
    clock[0] = 10.0
    heard.wait(lambda told: len(told.rows) == 5)
    heard.wait(lambda told: told.of(Learned))
    heard.reader.close()
    assert heard.rows == {0: (0, 0), 1: (1, 0), 2: (3, 0), 3: (4, 0), 4: (0, 0)}
    assert "row 4" in heard.of(Learned)[0].parts.doubts[0]
    writer.do("file.close()")


def test_frames_that_documents_name_stay_compressed(tmp_path: Path, writer: Writer):
    path = tmp_path / "scan.h5"
    writer.do(*begin(path, "swmr", "latest"), *append("swmr"), *append("swmr"))
    heard = Heard(StoredReader())
    frames = Place(path=str(path), dataset="/entry/data", row=0)
    heard.facts += heard.reader.through([Stored(run="a", first=0, count=3, frames=frames), Ended(run="a", count=3)])
    heard.wait(lambda told: told.numbers == [0, 1])
    writer.do(*append("swmr"))
    heard.wait(lambda told: told.of(Ended))
    heard.reader.close()
    assert heard.numbers == [0, 1, 2]
    assert {fact.payload.encoding for fact in heard.of(Frames)} == {Encoding.BSLZ4}
    writer.do("file.close()")


def opened(address: str, **options: Any) -> Heard:
    return Heard(ScanFiles(address, Hdf5.model_validate(options)))


FRAMES_AND_ROWS = {"frames": "/entry/data", "y": "/entry/y", "x": "/entry/y"}


def test_a_scan_file_is_followed_from_its_beginning_to_its_end_and_then_the_next(tmp_path: Path, writer: Writer):
    path = tmp_path / "scan.h5"
    heard = opened(f"file://{path}", **FRAMES_AND_ROWS, closed_s=0.2)
    writer.do(*begin(path, "swmr", "latest"))
    heard.wait(lambda told: told.of(Began))
    for n in range(1, 4):
        writer.do(*append("swmr"))
        heard.wait(lambda told, n=n: told.numbers == list(range(n)) and len(told.rows) == n)
    assert not heard.of(Ended)
    writer.do("file.close()")
    heard.wait(lambda told: told.of(Ended))
    parts = heard.of(Began)[0].parts
    assert (parts.frame_shape, parts.dtype, parts.columns) == ((8, 6), np.dtype("uint16"), ("y", "x"))
    assert parts.units == {"y": "um", "x": "um"}
    assert heard.of(Ended) == [Ended(run="scan", count=3)]
    assert heard.rows == {0: (0.5, 0.5), 1: (1.0, 1.0), 2: (1.5, 1.5)}
    heard.facts.clear()
    other = tmp_path / "other.h5"
    writer.do(*begin(other, "swmr", "latest"), *append("swmr"))
    other.replace(path)
    heard.wait(lambda told: told.numbers == [0])
    writer.do("file.close()")
    heard.wait(lambda told: told.of(Ended))
    heard.reader.close()
    assert heard.of(ProtocolError) == []


def test_of_a_pattern_new_files_are_runs_one_after_the_other(tmp_path: Path, writer: Writer):
    with h5py.File(tmp_path / "old.h5", "w", libver="latest") as file:
        file["/entry/data"] = np.ones((1, 8, 6), "u2")
    heard = opened(f"file://{tmp_path}/*.h5", frames="/entry/data", expected=2)
    for name in ("a", "b"):
        writer.do(*begin(tmp_path / f"{name}.h5", "swmr", "latest"), *append("swmr"), *append("swmr"))
        heard.wait(lambda told, name=name: any(fact.run == name for fact in told.of(Ended)))
        writer.do("file.close()")
    heard.reader.close()
    assert [fact.run for fact in heard.of(Began)] == ["a", "b"]
    assert heard.of(Ended) == [Ended(run=name, count=2) for name in "ab"]
    assert heard.numbers == [0, 1, 0, 1]


def test_frames_that_come_out_of_order_wait_for_nothing(tmp_path: Path, writer: Writer):
    path = tmp_path / "scan.h5"
    writer.do(
        f"file = h5py.File({str(path)!r}, 'w', libver='latest')",
        "d = file.create_dataset('d', (5, 8, 6), 'u2', chunks=(1, 8, 6))",
        "k = file.create_dataset('k', (5,), 'u8', chunks=(5,))",
        "file.swmr_mode = True; d[3] = 4; d[1] = 2; d.flush(); k[3] = 17; k[1] = 18; k.flush()",
    )
    heard = opened(f"file://{path}", frames="/d", live_key="/k", closed_s=0.1)
    heard.wait(lambda told: sorted(told.numbers) == [1, 3])
    writer.do("d[0] = 1; d.flush(); k[0] = 19; file.close()")
    heard.wait(lambda told: told.of(Ended))
    heard.reader.close()
    assert sorted(heard.numbers) == [0, 1, 3]
    assert heard.of(Ended) == [Ended(run="scan", count=3)]


def test_a_file_whose_writer_has_died_times_out(tmp_path: Path, writer: Writer):
    path = tmp_path / "scan.h5"
    writer.do(*begin(path, "swmr", "latest"), *append("swmr"))
    writer.process.kill()
    heard = opened(f"file://{path}", frames="/entry/data", closed_s=0.1, silence_s=0.5)
    heard.wait(lambda told: told.of(Ended))
    heard.reader.close()
    assert heard.numbers == [0]
    (end,) = heard.of(Ended)
    assert (end.reason, end.count) == (EndReason.TIMEOUT, 1)
    assert "silence_s" in end.detail


def test_a_file_without_the_dataset_is_told_of_once(tmp_path: Path):
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file["other"] = 1
    heard = opened(f"file://{tmp_path}/scan.h5", frames="/d", silence_s=0.1)
    heard.wait(lambda told: told.facts)
    time.sleep(0.3)
    heard.reader.close()
    (error,) = [*heard.facts, *heard.reader.through(())]
    assert "no dataset /d" in str(error)


def test_a_dataset_that_cannot_be_read_ends_in_an_error(tmp_path: Path):
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file["d"] = np.zeros((2, 8, 6))
    heard = opened(f"file://{tmp_path}/scan.h5", frames="/d")
    heard.wait(lambda told: told.of(ProtocolError))
    time.sleep(0.3)
    heard.reader.close()
    heard.facts += heard.reader.through(())
    (error,) = heard.of(ProtocolError)
    assert "float64" in str(error)


@pytest.mark.parametrize(
    ("address", "options", "words"),
    [
        ("tcp://a:1", {"frames": "/d"}, "file address"),
        ("file://relative.h5", {"frames": "/d"}, "file address"),
    ],
)
def test_an_address_must_be_a_file(address: str, options: dict[str, Any], words: str):
    with pytest.raises(ConfigError, match=words):
        opened(address, **options)


@pytest.mark.parametrize("options", [{}, {"y": "/y"}, {"frames": "/d", "expected": 0}, {"frames": "/d", "silence": 3}])
def test_wrong_options_are_named(options: dict[str, Any]):
    with pytest.raises(ConfigError, match="options"):
        Interpreter("hdf5", options)


def test_the_listener_hears_files_as_it_hears_sockets(tmp_path: Path, writer: Writer):
    writer.do(*begin(tmp_path / "scan.h5", "swmr", "latest"), *append("swmr"), *append("swmr"), "file.close()")
    options = {"frames": "/entry/data", "expected": 2}
    endpoint = DetectorEndpoint(address=f"file://{tmp_path}/scan.h5", format="hdf5", options=options)
    found = list[Fact]()
    with new_context(NO_KEYS) as context, listen(context, {Role.FRAMES: endpoint}) as listener:
        end_s = time.monotonic() + PATIENCE_S
        while not any(isinstance(fact, Ended) for fact in found):
            assert time.monotonic() < end_s, found
            heard = listener.receive(0.05)
            found += [] if heard is None else [heard.fact]
    assert [type(fact) for fact in found] == [Began, Frames, Ended]


def test_listening_needs_no_hdf5():
    code = "import sys, streamptycho.sources.listener; sys.exit('h5py' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
