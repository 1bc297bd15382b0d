"""Sending: deadlines, order, the first message, the last message, and giving up."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from streamptycho.errors import ConfigError, ScanError
from streamptycho.messages.reasons import EndReason, Stream
from streamptycho.messages.stream import Frame, Positions, ScanEnd, ScanStart
from streamptycho.wire.endpoint import Endpoint, SocketKind
from streamptycho.wire.sockets import Receiver, new_context
from streamptycho_sim.faults import FaultOptions, inject, interleave
from streamptycho_sim.forward import DetectorOptions
from streamptycho_sim.publisher import Clock, OutletOptions, Pacer, Progress, PublishOptions, publish
from streamptycho_sim.stream import Item
from streamptycho_sim.tally import Tally
from tests.ports import free_address
from tests.sim.helpers import collecting, plain_items, small


class FakeTime:
    """Time that passes only by sleeping, or on request."""

    def __init__(self) -> None:
        self.t = 100.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.slept.append(seconds)
        self.t += seconds

    @property
    def clock(self) -> Clock:
        return Clock(now=lambda: self.t, sleep=self.sleep, wall_ns=lambda: round(self.t * 1e9))


def never() -> bool:
    return False


def tick(n: int, hold_s: float = 0.0) -> Item:
    return Item(stream=Stream.FRAMES, message=ScanEnd(scan_id="s", stream=Stream.FRAMES, count=0), tick=n, hold_s=hold_s)


@pytest.fixture
def context() -> Iterator[Any]:
    with new_context() as context:
        yield context


def endpoints(
    kind: str = "inproc", frames: str = "push", positions: str = "pub", bind: bool = True
) -> tuple[Endpoint, Endpoint]:
    addresses = ("inproc://frames", "inproc://positions") if kind == "inproc" else (free_address(), free_address())
    return (
        Endpoint(address=addresses[0], socket=SocketKind(frames), bind=bind),
        Endpoint(address=addresses[1], socket=SocketKind(positions), bind=bind),
    )


def test_frames_are_due_at_multiples_of_the_period() -> None:
    fake = FakeTime()
    pacer = Pacer(10.0, fake.clock)
    times = []
    for n in range(1, 6):
        pacer.wait(tick(n), never)
        times.append(fake.t - 100)
    np.testing.assert_allclose(times, [0.1, 0.2, 0.3, 0.4, 0.5])


def test_a_late_frame_does_not_shift_the_next_ones() -> None:
    fake = FakeTime()
    pacer = Pacer(10.0, fake.clock)
    late, times = [], []
    for n in range(1, 9):
        if n == 3:
            fake.t += 0.25  # frame 3 took long to make
        late.append(pacer.wait(tick(n), never))
        times.append(fake.t - 100)
    np.testing.assert_allclose(times, [0.1, 0.2, 0.45, 0.45, 0.5, 0.6, 0.7, 0.8], atol=1e-9)
    np.testing.assert_allclose(late, [0, 0, 0.15, 0.05, 0, 0, 0, 0], atol=1e-9)


def test_sleeping_too_long_does_not_add_up() -> None:
    fake = FakeTime()
    clock = Clock(now=lambda: fake.t, sleep=lambda s: fake.sleep(s + 0.003), wall_ns=time.time_ns)
    pacer = Pacer(100.0, clock)
    for n in range(1, 1001):
        pacer.wait(tick(n), never)
    assert fake.t - 100 == pytest.approx(10.0, abs=0.004)


def test_without_a_rate_nothing_waits() -> None:
    fake = FakeTime()
    pacer = Pacer(None, fake.clock)
    assert [pacer.wait(tick(n), never) for n in range(100)] == [0.0] * 100
    assert fake.slept == []


@pytest.mark.parametrize("rate", [None, 10.0])
def test_a_pause_moves_everything_after_it(rate: float | None) -> None:
    fake = FakeTime()
    pacer = Pacer(rate, fake.clock)
    pacer.wait(tick(1), never)
    before = fake.t
    pacer.wait(tick(2, hold_s=3.0), never)
    assert fake.t - before == pytest.approx(3.0 + (0.1 if rate else 0))
    pacer.wait(tick(3), never)
    assert fake.t - before == pytest.approx(3.0 + (0.2 if rate else 0))


def test_stop_ends_a_long_wait() -> None:
    fake = FakeTime()
    Pacer(0.001, fake.clock).wait(tick(1), lambda: fake.t > 101)
    assert fake.t < 101.2


@pytest.mark.parametrize("kind", ["inproc", "tcp"])
@pytest.mark.parametrize("bind", [True, False])
@pytest.mark.parametrize(("frames", "positions"), [("push", "pub"), ("push", "push"), ("pub", "pub")])
def test_everything_arrives_in_order(context: Any, kind: str, bind: bool, frames: str, positions: str) -> None:
    ends = endpoints(kind, frames, positions, bind)
    scan = small()
    with collecting(context, *ends) as collector:
        tally = publish(scan.items(), *ends, PublishOptions(peer_timeout_s=5), context=context)
    assert collector.frame_index == collector.position_index == list(range(20))
    assert not collector.errors
    start = collector.of(ScanStart)
    assert [s.scan_id for s in start] == ["synthetic"]
    assert {(e.stream, e.count, e.reason) for e in collector.of(ScanEnd)} == {
        (Stream.FRAMES, 20, EndReason.COMPLETE),
        (Stream.POSITIONS, 20, EndReason.COMPLETE),
    }
    for frame in collector.of(Frame):
        np.testing.assert_array_equal(frame.payload.decode(), scan.frame(int(frame.index[0])))
    rows = collector.of(Positions)
    np.testing.assert_array_equal(np.concatenate([row.yx_m for row in rows]), scan.yx_m)
    assert tally.as_dict()["scans"]["synthetic"]["matched"] == 20
    assert not tally.stopped


def test_start_comes_before_any_frame_on_its_socket(context: Any) -> None:
    ends = endpoints()
    with collecting(context, *ends) as collector:
        publish(small(detector=DetectorOptions(dark_counts=1)).items(), *ends, PublishOptions(), context=context)
    on_frames = [m for m in collector.got if isinstance(m, ScanStart | Frame)]
    assert isinstance(on_frames[0], ScanStart)
    assert sum(isinstance(m, Frame) and m.dark for m in on_frames) == 10


@pytest.mark.parametrize("attempt", range(5))
def test_first_position_is_not_lost_to_a_slow_subscriber(context: Any, attempt: int) -> None:
    """PUB drops messages without a subscriber, so the publisher must wait for the subscription itself."""
    frames, positions = endpoints("tcp")
    done: list[Tally] = []

    def run() -> None:
        done.append(publish(plain_items(5), frames, positions, PublishOptions(peer_timeout_s=10), context=context))

    thread = threading.Thread(target=run)
    thread.start()
    with Receiver(context, [Endpoint(address=frames.address, socket=SocketKind.PULL)]) as early:
        time.sleep(0.03 * attempt)  # frames are taken already, positions not yet
        assert not done
        with Receiver(context, [Endpoint(address=positions.address, socket=SocketKind.SUB)]) as late:
            rows = []
            while not (rows and isinstance(rows[-1], ScanEnd)):
                message = late.receive(5.0)
                assert message is not None, "positions stopped coming"
                rows.append(message)
            thread.join()
            assert early.receive(1.0) is not None
    assert np.concatenate([row.index for row in rows[:-1]]).tolist() == list(range(5))


def test_blocks_arrive_as_blocks(context: Any) -> None:
    ends = endpoints()
    options = PublishOptions(frames_per_message=6, positions_per_message=20)
    with collecting(context, *ends) as collector:
        tally = publish(small().items(), *ends, options, context=context)
    assert [len(frame) for frame in collector.of(Frame)] == [6, 6, 6, 2]
    assert [len(row) for row in collector.of(Positions)] == [20]
    assert tally.messages == 1 + 4 + 1 + 2


@pytest.mark.parametrize(("rate", "block"), [(None, 16), (1.0, 1), (10.0, 1), (100.0, 5), (1000.0, 50)])
def test_positions_come_about_twenty_times_a_second(rate: float | None, block: int) -> None:
    assert PublishOptions(rate_hz=rate).position_block == block
    assert PublishOptions(rate_hz=rate, positions_per_message=3).position_block == 3


def test_pace_is_kept_in_real_time(context: Any) -> None:
    ends = endpoints()
    with collecting(context, *ends):
        tally = publish(plain_items(40), *ends, PublishOptions(rate_hz=200), context=context)
    assert 0.19 <= tally.seconds < 1.0


def test_positions_go_out_about_when_their_frames_do(context: Any) -> None:
    ends = endpoints()
    fake = FakeTime()
    with collecting(context, *ends) as collector:
        publish(plain_items(30), *ends, PublishOptions(rate_hz=60), context=context, clock=fake.clock)
    order = [int(m.index[-1]) for m in collector.got if isinstance(m, Positions)]
    assert order == list(range(2, 30, 3))
    assert fake.t - 100 == pytest.approx(0.5)


def test_frames_carry_the_time_they_were_sent(context: Any) -> None:
    ends = endpoints()
    fake = FakeTime()
    with collecting(context, *ends) as collector:
        publish(plain_items(10), *ends, PublishOptions(rate_hz=10, frames_per_message=2), context=context, clock=fake.clock)
    stamps = [int(t) for frame in collector.of(Frame) for t in frame.timestamp_ns]
    np.testing.assert_allclose(np.array(stamps) / 1e9 - 100, [0.2, 0.2, 0.4, 0.4, 0.6, 0.6, 0.8, 0.8, 1.0, 1.0], atol=1e-6)


def test_lateness_is_reported(context: Any) -> None:
    ends = endpoints()
    fake = FakeTime()

    def slow() -> Iterator[Item]:
        for item in plain_items(5):
            fake.t += 0.5
            yield item

    with collecting(context, *ends):
        tally = publish(slow(), *ends, PublishOptions(rate_hz=10), context=context, clock=fake.clock)
    assert tally.late_s > 3


@pytest.mark.parametrize("missing", ["frames", "positions"])
def test_nobody_there_is_an_error_that_says_where(context: Any, missing: str) -> None:
    frames, positions = endpoints("tcp")
    there, kind = (frames, SocketKind.PULL) if missing == "positions" else (positions, SocketKind.SUB)
    with (
        Receiver(context, [Endpoint(address=there.address, socket=kind)]),
        pytest.raises(ConfigError, match=rf"nobody took {missing} at tcp://.* start the receiver"),
    ):
        publish(plain_items(3), frames, positions, PublishOptions(peer_timeout_s=0.3), context=context)


def test_an_address_in_use_is_refused(context: Any) -> None:
    frames, positions = endpoints("tcp")
    with (
        Receiver(context, [Endpoint(address=frames.address, socket=SocketKind.PULL, bind=True)]),
        pytest.raises(ConfigError, match="cannot bind"),
    ):
        publish(plain_items(3), frames, positions, PublishOptions(), context=context)


def test_stop_while_nobody_is_there_sends_nothing(context: Any) -> None:
    tally = publish(plain_items(3), *endpoints("tcp"), PublishOptions(), context=context, stop=lambda: True)
    assert tally.stopped
    assert tally.messages == 0


def test_stop_tells_the_receivers(context: Any) -> None:
    ends = endpoints()
    tally = Tally()
    with collecting(context, *ends) as collector:
        publish(small().items(), *ends, PublishOptions(), context=context, stop=lambda: tally.exposures >= 7, tally=tally)
    assert tally.stopped
    assert collector.frame_index == list(range(7))
    ended = {end.stream: end for end in collector.of(ScanEnd)}
    assert set(ended) == {Stream.FRAMES, Stream.POSITIONS}
    assert {end.reason for end in ended.values()} == {EndReason.ABORTED}
    assert ended[Stream.FRAMES].count == 7
    assert ended[Stream.POSITIONS].count == len(collector.position_index)


def test_stop_aborts_every_scan_that_is_open(context: Any) -> None:
    ends = endpoints()
    tally = Tally()

    def enough() -> bool:
        return len(tally.of("second").frames) >= 10

    items = interleave(small(frames=8).items(), small(frames=40, scan_id="second").items(), 4)
    with collecting(context, *ends, scans=2) as collector:
        publish(items, *ends, PublishOptions(), context=context, stop=enough, tally=tally)
    reasons = {(end.scan_id, end.stream): end.reason for end in collector.of(ScanEnd)}
    assert reasons[("synthetic", Stream.FRAMES)] is EndReason.COMPLETE
    assert reasons[("second", Stream.FRAMES)] is EndReason.ABORTED
    assert reasons[("second", Stream.POSITIONS)] is EndReason.ABORTED


def test_a_receiver_that_takes_nothing_is_given_up(context: Any) -> None:
    """A PULL that never reads lets the queues fill; the publisher waits, then says so."""
    frames = Endpoint(address="inproc://frames", socket=SocketKind.PUSH, bind=True, queue=2)
    positions = Endpoint(address="inproc://positions", socket=SocketKind.PUB, bind=True)
    stuck = [
        Endpoint(address=frames.address, socket=SocketKind.PULL, queue=2),
        Endpoint(address=positions.address, socket=SocketKind.SUB),
    ]
    with Receiver(context, stuck), pytest.raises(ScanError, match=r"took nothing for 0\.3 s"):
        publish(plain_items(100), frames, positions, PublishOptions(send_timeout_s=0.3), context=context)


def test_stop_is_heard_while_a_receiver_takes_nothing(context: Any) -> None:
    frames = Endpoint(address="inproc://frames", socket=SocketKind.PUSH, bind=True, queue=2)
    positions = Endpoint(address="inproc://positions", socket=SocketKind.PUB, bind=True)
    stuck = [
        Endpoint(address=frames.address, socket=SocketKind.PULL, queue=2),
        Endpoint(address=positions.address, socket=SocketKind.SUB),
    ]
    stop = threading.Event()
    timer = threading.Timer(0.3, stop.set)
    timer.start()
    with Receiver(context, stuck):
        tally = publish(plain_items(100), frames, positions, PublishOptions(), context=context, stop=stop.is_set)
    timer.join()
    assert tally.stopped
    assert tally.exposures < 100


def test_a_slow_receiver_gets_everything_all_the_same(context: Any) -> None:
    frames = Endpoint(address="inproc://frames", socket=SocketKind.PUSH, bind=True, queue=2)
    positions = Endpoint(address="inproc://positions", socket=SocketKind.PUSH, bind=True, queue=2)
    with collecting(context, frames, positions) as collector:
        publish(plain_items(300), frames, positions, PublishOptions(), context=context)
    assert collector.frame_index == collector.position_index == list(range(300))


@pytest.mark.parametrize("size", [1, 4])
def test_positions_go_with_their_frames_over_one_socket(context: Any, size: int) -> None:
    """Where the two are not beside each other, each goes by itself."""
    frames, positions = endpoints()
    options = PublishOptions(positions_with_frames=True, frames_per_message=size, positions_per_message=1)
    tally, scan = Tally(), small()
    items = list(inject(scan.items(), FaultOptions(drop_frames=0.1, drop_positions=0.2), tally))
    with collecting(context, frames, positions) as collector:
        publish(items, frames, positions, options, context=context, tally=tally)
    got: dict[int, tuple[float, float]] = {}
    for frame in collector.of(Frame):
        alone, known = frame.apart()
        assert alone.taken_yx_m is None
        if known is not None:
            got |= dict(zip(known.index.tolist(), map(tuple, known.yx_m.tolist()), strict=True))
    assert set(got) == tally.of("synthetic").frames & tally.of("synthetic").positions
    assert len(got) > 10
    got |= {int(row.index[0]): tuple(row.yx_m[0].tolist()) for row in collector.of(Positions)}
    assert got == {i: tuple(scan.yx_m[i].tolist()) for i in tally.of("synthetic").positions}
    assert {end.stream for end in collector.of(ScanEnd)} == {Stream.FRAMES, Stream.POSITIONS}


def test_faults_arrive_as_the_tally_says(context: Any) -> None:
    ends = endpoints(positions="push")
    tally = Tally()
    options = FaultOptions(
        drop_frames=0.1,
        corrupt_frames=0.1,
        duplicate_frames=0.1,
        drop_positions=0.1,
        garbage=0.1,
        shuffle=5,
        delay_positions=3,
    )
    with collecting(context, *ends) as collector:
        publish(inject(small(frames=200).items(), options, tally), *ends, PublishOptions(), context=context, tally=tally)
    scan = tally.of("synthetic")
    assert set(collector.frame_index) == scan.frames
    assert len(collector.frame_index) == len(scan.frames) + scan.duplicate_frames
    assert set(collector.position_index) == scan.positions
    assert sum(error.frames for error in collector.errors) == len(scan.corrupted)
    assert len(collector.errors) == len(scan.corrupted) + tally.garbage
    assert len(scan.frames) + len(scan.corrupted) + len(scan.dropped_frames) == 200
    assert min(len(scan.corrupted), len(scan.dropped_frames), scan.duplicate_frames, tally.garbage) > 5


def test_progress_is_shown_now_and_then_and_at_the_end(context: Any) -> None:
    ends = endpoints()
    shown: list[Progress] = []
    fake = FakeTime()
    with collecting(context, *ends):
        publish(small().items(), *ends, PublishOptions(rate_hz=10), context=context, progress=shown.append, clock=fake.clock)
    assert 5 <= len(shown) <= 12
    assert shown[-1].frames == shown[-1].expected == 20
    assert shown[-1].scan_id == "synthetic"
    assert [p.frames for p in shown] == sorted(p.frames for p in shown)


def test_tally_counts_bytes_and_messages(context: Any) -> None:
    ends = endpoints()
    with collecting(context, *ends) as collector:
        tally = publish(plain_items(10), *ends, PublishOptions(positions_per_message=1), context=context)
    assert tally.messages == len(collector.got) == 22
    assert 10 * 128 < tally.sent_bytes < 10 * 1000


def test_outlets() -> None:
    frames, positions = OutletOptions().endpoints()
    assert (frames.socket, frames.bind, positions.socket, positions.bind) == (SocketKind.PUSH, True, SocketKind.PUB, True)
    frames, positions = OutletOptions(connect=True, frames_socket="pub", queue=5).endpoints()
    assert (frames.socket, frames.bind, frames.queue, positions.bind) == (SocketKind.PUB, False, 5, False)


@pytest.mark.parametrize(
    "wrong", [{"rate_hz": 0}, {"frames_per_message": 0}, {"frames_per_message": 5000}, {"encoding": "zip"}]
)
def test_impossible_options_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        PublishOptions(**wrong)
