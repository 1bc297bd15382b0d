"""Each fault does what it says, the same each time, and the tally knows exactly what was done."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from streamptycho.errors import CodecError, ProtocolError
from streamptycho.messages.payload import Encoding
from streamptycho.messages.reasons import Stream
from streamptycho.messages.stream import Frame, Positions, ScanEnd, ScanStart
from streamptycho.wire.codec import Part, decode
from streamptycho.wire.codec import encode as encode_message
from streamptycho_sim import faults as module
from streamptycho_sim.faults import Corruption, EndLoss, FaultOptions, inject, interleave
from streamptycho_sim.forward import DetectorOptions
from streamptycho_sim.stream import Item, Raw, encode, pack
from streamptycho_sim.tally import Tally
from tests.sim.helpers import ends_of, frames_of, plain_items, positions_of, small, through_codec
from tests.strategies import same


def spoilt(count: int = 200, items: list[Item] | None = None, **options: object) -> tuple[list[Item], Tally]:
    """Items after the faults, and the tally as if all of them had been sent."""
    tally = Tally()
    out = list(inject(plain_items(count) if items is None else items, FaultOptions(**options), tally))
    for item in out:
        tally.sent(item.message, parts_of(item))
    return out, tally


def parts_of(item: Item) -> Sequence[Part]:
    return item.message.parts if isinstance(item.message, Raw) else encode_message(item.message)


def corrupted_of(items: list[Item]) -> list[int]:
    return [i.message.index for i in items if isinstance(i.message, Raw) and i.message.index is not None]


def test_no_faults_no_change() -> None:
    items = plain_items(20)
    out = spoilt(items=items)[0]
    assert len(out) == len(items)
    assert all(map(same, out, items))


@pytest.mark.parametrize(
    "options",
    [
        {"drop_frames": 0.3},
        {"drop_positions": 0.3, "duplicate_frames": 0.3},
        {"corrupt_frames": 0.3, "corruption": Corruption.FLIP},
        {"shuffle": 7},
        {"garbage": 0.5},
    ],
    ids=lambda o: next(iter(o)),
)
def test_same_seed_same_faults(options: dict[str, object]) -> None:
    first, second, other = (spoilt(fault_seed=seed, **options)[0] for seed in (3, 3, 4))

    def bytes_of(items: list[Item]) -> list[list[bytes]]:
        return [[bytes(part) for part in parts_of(item)] for item in items]

    assert bytes_of(first) == bytes_of(second)
    assert bytes_of(first) != bytes_of(other)


def test_dropped_frames_are_gone_and_known() -> None:
    items, tally = spoilt(drop_frames=0.25)
    scan = tally.of("s")
    assert 25 < len(scan.dropped_frames) < 75
    assert set(frames_of(items)) == set(range(200)) - scan.dropped_frames == scan.frames
    assert positions_of(items) == list(range(200))


def test_dropped_positions_are_gone_and_known() -> None:
    items, tally = spoilt(drop_positions=0.25)
    scan = tally.of("s")
    assert 25 < len(scan.dropped_positions) < 75
    assert set(positions_of(items)) == set(range(200)) - scan.dropped_positions == scan.positions
    assert frames_of(items) == list(range(200))


def test_everything_can_be_dropped() -> None:
    items, tally = spoilt(drop_frames=1, drop_positions=1)
    assert frames_of(items) == positions_of(items) == []
    assert len(ends_of(items)) == 2
    assert tally.of("s").as_dict()["dropped_frames"] == 200


def test_frames_and_positions_are_lost_independently() -> None:
    scan = spoilt(2000, drop_frames=0.5, drop_positions=0.5)[1].of("s")
    both = len(scan.dropped_frames & scan.dropped_positions)
    assert both == pytest.approx(500, abs=5 * np.sqrt(375))


def test_ends_still_tell_what_was_produced() -> None:
    items, _ = spoilt(drop_frames=0.5, drop_positions=0.5)
    assert [item.message.count for item in items if isinstance(item.message, ScanEnd)] == [200, 200]


def test_duplicates_are_counted() -> None:
    items, tally = spoilt(duplicate_frames=0.2, duplicate_positions=0.1)
    twice = [i for i, n in Counter(frames_of(items)).items() if n == 2]
    assert len(twice) == tally.of("s").duplicate_frames
    assert 20 < len(twice) < 60
    assert len(positions_of(items)) - 200 == tally.of("s").duplicate_positions > 5
    assert max(Counter(frames_of(items)).values()) == 2
    assert tally.of("s").frames == set(range(200))


def test_a_frame_meets_one_fate_only() -> None:
    items, tally = spoilt(1000, drop_frames=0.3, corrupt_frames=0.3, duplicate_frames=0.3)
    scan = tally.of("s")
    twice = {i for i, n in Counter(frames_of(items)).items() if n == 2}
    assert not scan.dropped_frames & scan.corrupted
    assert not twice & (scan.corrupted | scan.dropped_frames)
    assert scan.frames | scan.corrupted | scan.dropped_frames == set(range(1000))
    assert not scan.frames & scan.corrupted


@pytest.mark.parametrize(
    "wrong",
    [
        {"drop_frames": 0.6, "corrupt_frames": 0.6},
        {"drop_positions": 0.6, "duplicate_positions": 0.6},
        {"drop_frames": 1.5},
        {"shuffle": 0},
        {"corruption": "nonsense"},
    ],
)
def test_impossible_faults_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        FaultOptions(**wrong)


def test_truncated_raw_frame_is_refused_with_its_scan() -> None:
    items, tally = spoilt(corrupt_frames=0.3)
    bad = [item for item in items if isinstance(item.message, Raw)]
    assert {item.message.index for item in bad} == tally.of("s").corrupted  # type: ignore[union-attr]
    assert len(bad) > 30
    for item in bad:
        error = through_codec(item)
        assert isinstance(error, CodecError)
        assert (error.field, error.scan_id, error.frames) == ("frame.payload", "s", 1)


@pytest.mark.parametrize("corruption", [Corruption.TRUNCATE, Corruption.SIZE])
def test_spoilt_compressed_frame_does_not_decode(corruption: Corruption) -> None:
    compressed = list(encode(small(frames=60).items(0), Encoding.BSLZ4))
    items, tally = spoilt(items=compressed, corrupt_frames=0.5, corruption=corruption)
    bad = [item for item in items if isinstance(item.message, Raw)]
    assert len(bad) == len(tally.of("synthetic").corrupted) > 15
    for item in bad:
        with pytest.raises(CodecError, match="payload"):
            decode(item.message.parts).payload.decode()  # type: ignore[union-attr]


def test_flipped_bytes_change_the_chunk_but_not_its_size() -> None:
    compressed = list(encode(small(frames=30).items(0), Encoding.BSLZ4))
    whole = {int(i.message.index[0]): bytes(i.message.payload.chunks[0]) for i in compressed if isinstance(i.message, Frame)}
    items, _ = spoilt(items=compressed, corrupt_frames=1, corruption=Corruption.FLIP)
    for item in items:
        if isinstance(item.message, Raw):
            assert item.message.index is not None
            chunk, before = bytes(item.message.parts[1]), whole[item.message.index]
            assert len(chunk) == len(before)
            assert chunk[:12] == before[:12]
            assert 1 <= sum(a != b for a, b in zip(chunk, before, strict=True)) <= 8


def test_flipped_raw_pixels_pass_unnoticed_but_are_counted() -> None:
    items, tally = spoilt(50, corrupt_frames=1, corruption=Corruption.FLIP)
    messages = [through_codec(item) for item in items if isinstance(item.message, Raw)]
    assert len(messages) == len(tally.of("s").corrupted) == 50
    assert all(isinstance(m, Frame) and (m.payload.decode() != m.index[0]).any() for m in messages)


def test_size_of_raw_pixels_means_truncation() -> None:
    items, _ = spoilt(20, corrupt_frames=1, corruption=Corruption.SIZE)
    assert all(isinstance(through_codec(i), CodecError) for i in items if isinstance(i.message, Raw))


def test_spoilt_frames_are_sent_alone() -> None:
    items, tally = spoilt(100, corrupt_frames=0.2)
    packed = list(pack(items, 10, 10))
    assert sorted(frames_of(packed)) == sorted(tally.of("s").frames)
    assert set(corrupted_of(packed)) == tally.of("s").corrupted


@pytest.mark.parametrize("kind", range(len(module._GARBAGE)))
def test_every_kind_of_garbage_is_refused(kind: int) -> None:
    for seed in range(20):
        item = Item(stream=Stream.FRAMES, message=Raw(parts=module._GARBAGE[kind](np.random.default_rng(seed))))
        error = through_codec(item)
        assert isinstance(error, ProtocolError)
        assert error.frames == 0


def test_garbage_is_counted_and_reaches_both_sockets() -> None:
    before = plain_items(200)
    items, tally = spoilt(items=before, garbage=0.3)
    junk = [item for item in items if isinstance(item.message, Raw)]
    assert len(junk) == tally.garbage
    assert 30 < len(junk) < 90
    assert {item.stream for item in junk} == {Stream.FRAMES, Stream.POSITIONS}
    rest = [item for item in items if not isinstance(item.message, Raw)]
    assert len(rest) == len(before)
    assert all(map(same, rest, before))


@pytest.mark.parametrize("window", [2, 5, 16, 1000])
def test_shuffling_keeps_all_within_the_window(window: int) -> None:
    items, _ = spoilt(100, shuffle=window)
    for order in (frames_of(items), positions_of(items)):
        assert sorted(order) == list(range(100))
        assert order != sorted(order)
        assert all(i // window == place // window for place, i in enumerate(order))


def test_shuffling_leaves_start_and_ends_in_place() -> None:
    items, _ = spoilt(items=list(small().items(0)), shuffle=8)
    assert isinstance(items[0].message, ScanStart)
    assert ends_of(items[-2:]) == [Stream.FRAMES, Stream.POSITIONS]


def test_shuffling_keeps_time_running() -> None:
    items, _ = spoilt(100, shuffle=8)
    for stream in (Stream.FRAMES, Stream.POSITIONS):
        ticks = [item.tick for item in items if item.stream is stream]
        assert ticks == sorted(ticks)


def test_spoilt_frames_are_shuffled_too() -> None:
    items, tally = spoilt(100, shuffle=10, corrupt_frames=0.3)
    sent = [item.message for item in items if isinstance(item.message, Raw | Frame)]
    order = [message.index if isinstance(message, Raw) else int(message.index[0]) for message in sent]
    assert sorted(order) == list(range(100))  # type: ignore[type-var]
    assert all(i // 10 == place // 10 for place, i in enumerate(order))  # type: ignore[operator]
    assert corrupted_of(items) != sorted(tally.of("s").corrupted)


@pytest.mark.parametrize("lag", [1, 5, 30])
def test_positions_lag_behind(lag: int) -> None:
    items, _ = spoilt(100, delay_positions=lag)
    assert positions_of(items) == frames_of(items) == list(range(100))
    out = 0
    for item in items:
        if isinstance(item.message, Frame):
            out = int(item.message.index[0])
        if isinstance(item.message, Positions):
            assert out == min(int(item.message.index[0]) + lag, 99)
    assert items[-1].message.stream is Stream.POSITIONS  # type: ignore[union-attr]


def test_a_lag_longer_than_the_scan_comes_after_it() -> None:
    items, _ = spoilt(10, delay_positions=1000)
    assert all(isinstance(item.message, Frame) for item in items[:10])
    assert ends_of(items) == [Stream.FRAMES, Stream.POSITIONS]


def test_delayed_positions_are_due_later() -> None:
    items, _ = spoilt(50, delay_positions=7)
    assert [item.tick for item in items if isinstance(item.message, Positions)] == list(range(8, 58))


@pytest.mark.parametrize(
    ("loss", "left"),
    [
        (EndLoss.NONE, [Stream.FRAMES, Stream.POSITIONS]),
        (EndLoss.FRAMES, [Stream.POSITIONS]),
        (EndLoss.POSITIONS, [Stream.FRAMES]),
        (EndLoss.BOTH, []),
    ],
)
def test_missing_ends(loss: EndLoss, left: list[Stream]) -> None:
    items, tally = spoilt(10, missing_end=loss)
    assert ends_of(items) == left
    assert tally.of("s").ended == set(left)
    assert frames_of(items) == list(range(10))


def test_pause_comes_once_and_before_the_right_frame() -> None:
    items, _ = spoilt(20, pause_after=5, pause_s=2.5)
    held = [item for item in items if item.hold_s]
    assert [int(item.message.index[0]) for item in held] == [5]  # type: ignore[union-attr]
    assert held[0].hold_s == 2.5


def test_pause_after_the_last_frame_never_comes() -> None:
    assert not any(item.hold_s for item in spoilt(20, pause_after=20)[0])


def test_second_scan_begins_before_the_first_has_ended() -> None:
    items = list(interleave(plain_items(20, "a"), plain_items(10, "b"), 8))
    order = [item.message.scan_id for item in items if isinstance(item.message, Frame)]
    assert order[:8] == ["a"] * 8
    assert set(order[8:18]) == {"a", "b"}
    assert Counter(order) == {"a": 20, "b": 10}
    assert Counter(i.message.scan_id for i in items if isinstance(i.message, ScanEnd)) == {"a": 2, "b": 2}


def test_each_of_two_scans_stays_in_order_and_in_time() -> None:
    items = list(interleave(small().items(0), small(scan_id="other").items(0), 8))
    for scan_id in ("synthetic", "other"):
        mine = [item for item in items if item.message.scan_id == scan_id]  # type: ignore[union-attr]
        assert isinstance(mine[0].message, ScanStart)
        assert frames_of(mine) == list(range(20))
    ticks = [item.tick for item in items]
    assert ticks == sorted(ticks)


def test_a_second_scan_after_a_short_first_follows_it() -> None:
    items = list(interleave(plain_items(3, "a"), plain_items(3, "b"), 100))
    assert [m.scan_id for i in items if isinstance(m := i.message, Frame)] == ["a"] * 3 + ["b"] * 3


def test_dark_exposures_are_spared() -> None:
    scan = small(detector=DetectorOptions(dark_counts=1, dark_frames=5))
    items, tally = spoilt(items=list(scan.items(0)), drop_frames=1, garbage=1)
    assert sum(isinstance(item.message, Frame) and item.message.dark for item in items) == 5
    assert tally.of("synthetic").darks == 5
    assert tally.garbage == 0


@given(
    drop=st.floats(0, 0.33),
    corrupt=st.floats(0, 0.33),
    duplicate=st.floats(0, 0.33),
    lost=st.floats(0, 0.5),
    shuffle=st.integers(1, 12),
    lag=st.integers(0, 12),
    seed=st.integers(0, 1000),
    block=st.integers(1, 9),
)
def test_ledger_of_all_faults_together_is_exact(
    drop: float, corrupt: float, duplicate: float, lost: float, shuffle: int, lag: int, seed: int, block: int
) -> None:
    """Whatever the mixture: what a receiver can count is what the tally says."""
    tally = Tally()
    options = FaultOptions(
        drop_frames=drop,
        corrupt_frames=corrupt,
        duplicate_frames=duplicate,
        drop_positions=lost,
        duplicate_positions=lost,
        shuffle=shuffle,
        delay_positions=lag,
        garbage=0.1,
        fault_seed=seed,
    )
    frames: list[int] = []
    positions: list[int] = []
    refused = lost_frames = 0
    for item in pack(inject(plain_items(40), options, tally), block, block):
        tally.sent(item.message, ())
        message = through_codec(item)
        if isinstance(message, ProtocolError):
            refused, lost_frames = refused + 1, lost_frames + message.frames
        elif isinstance(message, Frame):
            frames += message.index.tolist()
        elif isinstance(message, Positions):
            positions += message.index.tolist()
    scan = tally.of("s")
    counts = scan.as_dict()
    assert set(frames) == scan.frames
    assert len(frames) == counts["frames"] + counts["duplicate_frames"]
    assert set(positions) == scan.positions
    assert len(positions) == counts["positions"] + counts["duplicate_positions"]
    assert lost_frames == counts["corrupted_frames"]
    assert refused == counts["corrupted_frames"] + tally.garbage
    assert counts["frames"] + counts["corrupted_frames"] + counts["dropped_frames"] == 40
    assert counts["matched"] == len(set(frames) & set(positions))
    assert scan.count(Stream.FRAMES) == scan.count(Stream.POSITIONS) == 40
