"""Items: joining into blocks, encoding and chaining change nothing but the packaging."""

from dataclasses import replace

import numpy as np
import pytest

from streamptycho.messages.payload import Encoding, Payload
from streamptycho.messages.reasons import Stream
from streamptycho.messages.stream import Frame, Positions, ScanEnd
from streamptycho_sim.forward import DetectorOptions
from streamptycho_sim.scan import one_frame
from streamptycho_sim.stream import Item, Raw, chain, encode, is_exposure, pack
from tests.sim.helpers import ends_of, frames_of, plain_items, positions_of, small


def frame_item(index: int, tick: int = 0, scan_id: str = "s", **changes: object) -> Item:
    payload = Payload.raw(np.full((8, 8), index, np.uint16))
    return Item(stream=Stream.FRAMES, message=one_frame(scan_id, index, payload, **changes), tick=tick)


def blocks_of(items: list[Item], kind: type) -> list[list[int]]:
    return [item.message.index.tolist() for item in items if isinstance(item.message, kind)]


def test_blocks_of_one_are_left_alone() -> None:
    items = plain_items(5)
    assert list(pack(items, 1, 1)) == items


@pytest.mark.parametrize(("frames", "positions"), [(2, 3), (4, 1), (1, 7), (100, 100)])
def test_packing_keeps_everything_in_order(frames: int, positions: int) -> None:
    packed = list(pack(plain_items(20), frames, positions))
    assert frames_of(packed) == positions_of(packed) == list(range(20))
    assert ends_of(packed) == [Stream.FRAMES, Stream.POSITIONS]


def test_blocks_have_the_asked_size() -> None:
    packed = list(pack(plain_items(10), 4, 3))
    assert blocks_of(packed, Frame) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert blocks_of(packed, Positions) == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]


def test_pixels_and_places_survive_packing() -> None:
    packed = list(pack(plain_items(10), 4, 3))
    for item in packed:
        if isinstance(item.message, Frame):
            for k, i in enumerate(item.message.index):
                assert (item.message.payload.decode(k) == i).all()
        if isinstance(item.message, Positions):
            np.testing.assert_array_equal(item.message.yx_m[:, 0], item.message.index)


def test_a_block_is_due_with_its_last_member() -> None:
    packed = list(pack(plain_items(8), 4, 8))
    assert [item.tick for item in packed if isinstance(item.message, Frame)] == [4, 8]
    assert [item.tick for item in packed if isinstance(item.message, Positions)] == [8]


def test_a_block_ends_where_the_index_does_not_rise() -> None:
    items = [frame_item(i) for i in (0, 1, 1, 5, 3, 4)]
    assert blocks_of(list(pack(items, 10, 10)), Frame) == [[0, 1], [1, 5], [3, 4]]


def test_a_block_holds_one_scan_only() -> None:
    items = [frame_item(0), frame_item(1), frame_item(2, scan_id="other")]
    assert blocks_of(list(pack(items, 10, 10)), Frame) == [[0, 1], [2]]


def test_darks_and_frames_are_kept_apart() -> None:
    items = [frame_item(0, dark=True), frame_item(1, dark=True), frame_item(2), frame_item(3)]
    assert blocks_of(list(pack(items, 10, 10)), Frame) == [[0, 1], [2, 3]]


def test_encodings_are_kept_apart() -> None:
    plain = [frame_item(i) for i in range(4)]
    mixed = plain[:2] + list(encode(plain[2:], Encoding.BSLZ4))
    assert blocks_of(list(pack(mixed, 10, 10)), Frame) == [[0, 1], [2, 3]]


def test_raw_bytes_end_a_block_on_their_socket_only() -> None:
    items = plain_items(4)[:-2]
    items.insert(4, Item(stream=Stream.FRAMES, message=Raw(parts=(b"x",))))
    packed = list(pack(items, 10, 10))
    assert blocks_of(packed, Frame) == [[0, 1], [2, 3]]
    assert blocks_of(packed, Positions) == [[0, 1, 2, 3]]


def test_a_pause_ends_all_blocks() -> None:
    items = plain_items(4)[:-2]
    items[4] = replace(items[4], hold_s=1.0)
    packed = list(pack(items, 10, 10))
    assert blocks_of(packed, Frame) == [[0, 1], [2, 3]]
    assert blocks_of(packed, Positions) == [[0, 1], [2, 3]]
    assert [item.hold_s for item in packed].count(1.0) == 1


def test_existing_blocks_are_not_split_and_fill_up() -> None:
    block = list(pack([frame_item(0), frame_item(1), frame_item(2)], 3, 1))
    assert blocks_of(list(pack([*block, frame_item(3), frame_item(4)], 4, 1)), Frame) == [[0, 1, 2, 3], [4]]
    assert blocks_of(list(pack([*block, frame_item(3)], 2, 1)), Frame) == [[0, 1, 2], [3]]


def test_packing_is_lazy() -> None:
    def endless():  # type: ignore[no-untyped-def]
        i = 0
        while True:
            yield frame_item(i)
            i += 1

    packed = pack(endless(), 4, 4)
    assert next(packed).message.index.tolist() == [0, 1, 2, 3]  # type: ignore[union-attr]


def test_no_encoding_means_no_change() -> None:
    items = plain_items(3)
    assert list(encode(items, None)) == items


def test_compressed_frames_decode_to_the_same_pixels() -> None:
    scan = small(frames=40)
    encoded = list(encode(scan.items(0), Encoding.BSLZ4))
    frames = [item.message for item in encoded if isinstance(item.message, Frame)]
    assert len(frames) == 40
    for i, frame in enumerate(frames):
        assert frame.payload.encoding is Encoding.BSLZ4
        np.testing.assert_array_equal(frame.payload.decode(), scan.frame(i))


def test_encoding_keeps_order_and_ticks() -> None:
    items = list(small(frames=70).items(0))
    encoded = list(encode(items, Encoding.BSLZ4))
    assert [(i.stream, i.tick, type(i.message)) for i in items] == [(i.stream, i.tick, type(i.message)) for i in encoded]


def test_decompressing_gives_back_the_raw_frames() -> None:
    items = list(small(frames=5).items(0))
    there_and_back = list(encode(encode(items, Encoding.BSLZ4), Encoding.RAW))
    for before, after in zip(items, there_and_back, strict=True):
        if isinstance(before.message, Frame):
            assert isinstance(after.message, Frame)
            assert after.message.payload.encoding is Encoding.RAW
            np.testing.assert_array_equal(after.message.payload.decode(), before.message.payload.decode())


def test_compressed_frames_are_not_compressed_again() -> None:
    once = list(encode(plain_items(4), Encoding.BSLZ4))
    assert list(encode(once, Encoding.BSLZ4)) == once


def test_blocks_can_be_encoded() -> None:
    packed = list(pack(plain_items(10), 4, 1))
    encoded = list(encode(packed, Encoding.BSLZ4))
    assert blocks_of(encoded, Frame) == blocks_of(packed, Frame)
    block = encoded[[isinstance(i.message, Frame) for i in encoded].index(True)].message
    assert isinstance(block, Frame)
    for k in range(4):
        assert (block.payload.decode(k) == k).all()


def test_chained_scans_follow_in_time() -> None:
    chained = list(chain([plain_items(3, "a"), plain_items(2, "b")]))
    assert [item.message.scan_id for item in chained if isinstance(item.message, ScanEnd)] == ["a", "a", "b", "b"]
    assert [item.tick for item in chained if isinstance(item.message, Frame)] == [1, 2, 3, 4, 5]


def test_only_frames_with_beam_are_exposures() -> None:
    items = list(small(frames=2, detector=DetectorOptions(dark_counts=1, dark_frames=3)).items())
    assert sum(map(is_exposure, items)) == 2
