"""Replay of recorded scans: the file and nothing but the file."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from streamptycho.files.scan import RecordedScan, open_scan
from streamptycho.messages.payload import Encoding, Payload
from streamptycho.messages.reasons import Stream
from streamptycho.messages.stream import Frame, Positions, ScanEnd, ScanStart
from streamptycho_sim.replay import ReplayOptions, replay
from streamptycho_sim.stream import Item, encode, pack
from tests.sim.helpers import frames_of, positions_of, small, through_codec

FILES = ["siemens_star_seed.cxi", "siemens_star_standard.cxi", "siemens_star_aps.h5"]


@pytest.fixture(params=FILES)
def recorded(request: pytest.FixtureRequest, shared_data: Path) -> Iterator[RecordedScan]:
    path = shared_data / request.param
    if not path.is_file():
        pytest.skip(f"{request.param} is not among the shared data")
    with open_scan(path) as scan:
        yield scan


class Memory:
    """A recorded scan without a file, with a gap in its frames and a position that is not known."""

    def __init__(self) -> None:
        self.scan = small(frames=6)
        self.index = np.array([0, 1, 3, 4, 5])
        self.yx_m = self.scan.yx_m.copy()
        self.yx_m[4] = np.nan

    def payload(self, i: int) -> Payload:
        return Payload.raw(self.scan.frame(i))

    def start(self, scan_id: str, started_ns: int) -> ScanStart:
        return replace(self.scan.start(started_ns), scan_id=scan_id, probe=self.scan.probe)


def messages(items: list[Item], kind: type) -> list:  # type: ignore[type-arg]
    return [item.message for item in items if isinstance(item.message, kind)]


def memory(**options: object) -> list[Item]:
    return list(replay(Memory(), ReplayOptions(**options), "m"))  # type: ignore[arg-type]


def test_every_frame_bit_for_bit(recorded: RecordedScan) -> None:
    frames = messages(list(replay(recorded, ReplayOptions(), "r")), Frame)
    assert len(frames) == len(recorded) == 516
    for frame in frames:
        i = int(frame.index[0])
        pixels = frame.payload.decode()
        assert pixels.dtype == recorded.dtype
        assert pixels.tobytes() == recorded.frame(i).tobytes()


def test_every_position_bit_for_bit(recorded: RecordedScan) -> None:
    rows = messages(list(replay(recorded, ReplayOptions(), "r")), Positions)
    index = np.concatenate([row.index for row in rows])
    np.testing.assert_array_equal(index, recorded.index)
    assert np.concatenate([row.yx_m for row in rows]).tobytes() == recorded.yx_m[index].tobytes()


def test_start_says_what_the_file_says(recorded: RecordedScan) -> None:
    start = messages(list(replay(recorded, ReplayOptions(first=2), "r")), ScanStart)[0]
    assert start.geometry == recorded.geometry
    assert start.dtype == recorded.dtype
    for name in ("valid", "dark", "probe"):
        sent, there = getattr(start, name), getattr(recorded, name)
        assert (sent is None) == (there is None), name
        if there is not None:
            np.testing.assert_array_equal(sent, there)


def test_chunks_are_passed_on_as_stored(recorded: RecordedScan) -> None:
    frames = messages(list(replay(recorded, ReplayOptions(first=20), "r")), Frame)
    for frame in frames:
        stored = recorded.payload(int(frame.index[0]))
        assert frame.payload.encoding is stored.encoding
        assert bytes(frame.payload.chunks[0]) == bytes(stored.chunks[0])


@pytest.mark.parametrize("encoding", list(Encoding))
def test_pixels_survive_encoding_blocks_and_the_wire(recorded: RecordedScan, encoding: Encoding) -> None:
    items = pack(encode(replay(recorded, ReplayOptions(first=50), "r"), encoding), 8, 8)
    received = [message for item in items if isinstance(message := through_codec(item), Frame)]
    assert sum(map(len, received)) == 50
    for frame in received:
        assert frame.payload.encoding is encoding
        for k, i in enumerate(frame.index.tolist()):
            assert frame.payload.decode(k).tobytes() == recorded.frame(i).tobytes()


def test_the_three_dialects_replay_the_same_frames(shared_data: Path) -> None:
    sums = []
    for name in FILES:
        if not (shared_data / name).is_file():
            pytest.skip(f"{name} is not among the shared data")
        with open_scan(shared_data / name) as scan:
            frames = messages(list(replay(scan, ReplayOptions(first=10), "r")), Frame)
            sums.append([int(frame.payload.decode().astype(np.int64).sum()) for frame in frames])
    assert sums[0] == sums[1] == sums[2]


def test_gaps_keep_their_index() -> None:
    items = memory()
    assert frames_of(items) == [0, 1, 3, 4, 5]


def test_unknown_positions_are_not_sent_but_their_frames_are() -> None:
    items = memory()
    assert positions_of(items) == [0, 1, 3, 5]
    ends = {end.stream: end.count for end in messages(items, ScanEnd)}
    assert ends == {Stream.FRAMES: 5, Stream.POSITIONS: 4}


def test_expected_is_what_is_sent() -> None:
    assert messages(memory(), ScanStart)[0].expected == 5
    assert messages(memory(first=2), ScanStart)[0].expected == 2


def test_the_plan_is_told_where_each_frame_of_it_will_come() -> None:
    assert messages(memory(), ScanStart)[0].planned_yx_m is None, "frame 2 was never recorded"
    first = messages(memory(first=2), ScanStart)[0]
    np.testing.assert_array_equal(first.planned_yx_m, Memory().yx_m[:2])


def test_first_frames_only() -> None:
    items = memory(first=3)
    assert frames_of(items) == [0, 1, 3]
    assert {end.count for end in messages(items, ScanEnd)} == {3}


def test_more_frames_than_there_are_is_all_of_them() -> None:
    assert len(frames_of(memory(first=1000))) == 5


def test_probe_can_be_withheld() -> None:
    assert messages(memory(), ScanStart)[0].probe is not None
    assert messages(memory(with_probe=False), ScanStart)[0].probe is None


def test_repeats_are_scans_of_their_own() -> None:
    items = memory(repeat=3)
    assert [start.scan_id for start in messages(items, ScanStart)] == ["m", "m-2", "m-3"]
    assert frames_of(items) == [0, 1, 3, 4, 5] * 3
    ticks = [item.tick for item in items if isinstance(item.message, Frame)]
    assert ticks == list(range(1, 16))


def test_each_repeat_ends_before_the_next_begins() -> None:
    kinds = [type(item.message) for item in memory(repeat=2)]
    second = len(kinds) // 2
    assert kinds[second] is ScanStart
    assert kinds[second - 2 : second] == [ScanEnd, ScanEnd]
