"""Counting end to end: whatever is lost on any edge, the file is right, or it says how much is missing."""

import logging
from pathlib import Path
from tempfile import TemporaryDirectory

import h5py
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from streamptycho.display.known import Facts, Known
from streamptycho.join.options import MatchOptions
from streamptycho.messages.kinds import Message
from streamptycho.messages.reasons import EndReason, ServiceState, Stream
from streamptycho.messages.run import RunId
from streamptycho.messages.status import ReconstructStatus
from streamptycho.messages.stream import Frame, Positions, ScanEnd, ScanStart
from streamptycho.pipeline.options import WriteOptions
from streamptycho.pipeline.receive import ReceiveStage
from streamptycho.pipeline.stage import Port
from streamptycho.pipeline.write import WriteStage
from tests.files.factories import LIVE, LIVE_KEY, TRANSLATION
from tests.scans import Clock, broken_frame, end, frame, positions, start

NO_PICTURE = ReconstructStatus(scan_id="s", started_ns=1, state=ServiceState.DONE, time_ns=1, no_picture=True)


class Chain:
    """Receiver and writer with an edge between them that may lose messages, and a display that sees all."""

    def __init__(self, directory: Path, **options: float) -> None:
        self.directory = directory
        self.clock = Clock()
        self.receive = ReceiveStage(MatchOptions(**options), self.clock, self.clock.ns)
        self.write = WriteStage(WriteOptions(directory=directory, picture=False), clock=self.clock, wall_ns=self.clock.ns)
        self.known = Known(RunId("s", 1))
        self.lost: set[int] = set()
        """Numbers of the messages to the writer that are lost on the way."""
        self._sent = 0

    def __call__(self, *messages: Message) -> "Chain":
        for message in messages:
            self._pass_on(self.receive.handle(message))
        return self

    def close(self) -> tuple[Facts, dict[str, int | str]]:
        """Let the scan run out; what the display knows and what the file says at the end."""
        self.clock.now += 61
        self._pass_on(self.receive.idle())
        self._show(self.write.handle(NO_PICTURE))
        self.clock.now += 1
        self._show(self.write.idle())
        self._show(self.write.finish())
        with h5py.File(self.directory / "s.cxi") as file:
            names = ("n_frames", "missing", "missing_positions", "gaps")
            counters = {name: int(file[f"{LIVE}/counters/{name}"][()]) for name in names}
            said = {"reason": file[f"{LIVE}/end_reason"][()].decode(), "complete": int(file[f"{LIVE}/complete"][()])}
            held = {
                "frames": int(file[LIVE_KEY][()].sum()),
                "positions": int(np.isfinite(file[TRANSLATION][()]).all(1).sum()),
            }
        return self.known.facts(), counters | said | held

    def _pass_on(self, outputs) -> None:
        for port, message in outputs:
            if port is Port.DISPLAY:
                self.known.take(message)
            elif port is Port.WRITER:
                self._sent += 1
                if self._sent not in self.lost or isinstance(message, ScanStart):
                    self._show(self.write.handle(message))
                    self.clock.now += 0.2

    def _show(self, outputs) -> None:
        for _, message in outputs:
            self.known.take(message)


def test_an_end_that_announces_more_than_came(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        facts, file = Chain(tmp_path)(start(), frame(range(900)), positions(range(900)), *announced(1000, 900)).close()
    assert (file["complete"], file["reason"], file["missing"]) == (0, "incomplete", 100)
    assert (facts.complete, facts.end, facts.missing) == (False, EndReason.INCOMPLETE, 100)
    assert facts.problems == ["100 frames missing"]
    told = [record.getMessage() for record in caplog.records]
    assert sum("100 of the frames" in line for line in told) == 1
    assert sum("s.cxi: incomplete; 100 frames missing" in line for line in told) == 1


def announced(frames: int, places: int) -> list[Message]:
    return [end(frames, Stream.FRAMES), end(places, Stream.POSITIONS)]


def test_a_plan_that_was_not_carried_out(tmp_path):
    sent = frame(range(900)), positions(range(900)), *announced(900, 900)
    facts, file = Chain(tmp_path)(start(expected=1000), *sent).close()
    assert (file["complete"], file["reason"], file["missing"], facts.missing) == (0, "incomplete", 100, 100)


def test_a_frame_that_only_the_writer_finds_corrupt(tmp_path, caplog):
    """The receiver does not decompress: it counts the frame as come."""
    chain = Chain(tmp_path)(start(), frame([0, 1]), broken_frame(2), positions([0, 1, 2]))
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            chain.write.statuses()
        facts, file = chain(*announced(3, 3)).close()
    assert (file["complete"], file["missing"], file["frames"], facts.missing) == (0, 1, 2, 1)
    assert facts.problems == ["1 frame missing", "1 of 3 frames not written (1 corrupt)"]
    assert sum("dropped as corrupt" in record.getMessage() for record in caplog.records) == 1


def test_positions_that_were_announced_and_did_not_come(tmp_path):
    facts, file = Chain(tmp_path)(start(), frame(range(10)), positions(range(7)), *announced(10, 10)).close()
    assert (file["complete"], file["missing"], file["missing_positions"]) == (0, 0, 3)
    assert (facts.complete, facts.missing_positions, facts.ledger.dropped) == (False, 3, {"no_position": 3})


def test_frames_for_which_no_position_was_sent_are_all_there(tmp_path):
    facts, file = Chain(tmp_path)(start(), frame(range(10)), positions(range(7)), *announced(10, 7)).close()
    assert (file["complete"], file["missing"], file["missing_positions"]) == (1, 0, 0)
    assert (facts.complete, facts.ledger.dropped) == (True, {"no_position": 3})


def test_frames_that_never_reach_the_writer(tmp_path):
    chain = Chain(tmp_path)
    chain.lost = {3, 5}  # the start is the first
    facts, file = chain(start(), *(frame(i) for i in range(8)), positions(range(8)), *announced(8, 8)).close()
    assert (file["complete"], file["reason"], file["missing"], file["frames"]) == (0, "incomplete", 2, 6)
    assert (facts.missing, facts.written, facts.complete) == (2, 6, False)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_nothing_is_lost_in_silence(data):
    """Losses before the receiver and between receiver and writer, of any messages, in any order of frames and positions."""
    count = data.draw(st.integers(1, 8))
    sent: list[Message] = [frame(i) for i in range(count)] + [positions(i) for i in range(count)]
    come = [m for m in data.draw(st.permutations(sent)) if not data.draw(st.booleans() if count > 4 else st.just(False))]
    with TemporaryDirectory() as directory:
        chain = Chain(Path(directory))
        chain.lost = data.draw(st.sets(st.integers(2, 2 * count + 8), max_size=3))
        facts, file = chain(start(), *come, *announced(count, count)).close()
    whole = (file["frames"], file["positions"]) == (count, count)
    assert whole or not file["complete"], "what is called complete is complete"
    assert file["complete"] == (file["reason"] == "complete")
    assert facts.complete == bool(file["complete"])
    assert (facts.missing, facts.missing_positions) == (count - file["frames"], count - file["positions"])
    if file["missing"] >= 0:
        assert (file["missing"], file["missing_positions"]) == (facts.missing, facts.missing_positions)
    else:
        assert not file["complete"], "the writer has not heard the receiver's last word"
    assert file["n_frames"] == file["frames"] == facts.written
    ledger = facts.ledger
    assert ledger.received == ledger.used + ledger.waiting + sum(ledger.dropped.values())
    arrived = [m for m in come if isinstance(m, Frame)], [m for m in come if isinstance(m, Positions)]
    assert (ledger.received, facts.positions) == tuple(map(len, arrived))


def test_the_end_is_the_last_that_the_writer_hears_of_a_scan():
    """Its count is the receiver's, and the status with what is missing has come before."""
    stage = ReceiveStage(MatchOptions(), Clock(), Clock().ns)
    out = []
    for message in (start(), frame([0, 1]), positions([0, 1]), *announced(2, 2)):
        out += [m for port, m in stage.handle(message) if port is Port.WRITER]
    status, last = out[-2:]
    assert isinstance(last, ScanEnd)
    assert (last.count, status.unique, status.missing, status.missing_positions) == (2, 2, 0, 0)
