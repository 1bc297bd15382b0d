"""A receiver of foreign senders: their facts become a scan, and what is to be known of that reaches everyone."""

import json
import logging
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np

from streamptycho.compose.composer import Composer
from streamptycho.compose.options import Role, ScanOptions
from streamptycho.display.known import Facts, Known
from streamptycho.errors import CodecError
from streamptycho.files.report import read_report
from streamptycho.join.options import MatchOptions
from streamptycho.messages.facts import Began, Ended, Fact, Frames, Remark, Samples, StartParts
from streamptycho.messages.kinds import Message
from streamptycho.messages.payload import Encoding, Payload
from streamptycho.messages.reasons import ServiceState, Stream
from streamptycho.messages.status import ReceiveStatus, ReconstructStatus
from streamptycho.messages.stream import ScanStart
from streamptycho.pipeline.options import WriteOptions
from streamptycho.pipeline.receive import MAX_REMARK, MAX_REMARKS, ReceiveStage
from streamptycho.pipeline.stage import Port
from streamptycho.pipeline.write import WriteStage
from streamptycho_services.commands.inspect_file import inspect_file
from streamptycho_services.commands.progress import _line
from streamptycho_services.commands.summary import summarise
from tests.scans import Clock, end, frame, points_in, positions, start

SHAPE = (4, 6)
PARTS = StartParts(wavelength_m=1e-10, distance_m=2.0, pitch_m=(75e-6, 75e-6), frame_shape=SHAPE, dtype=np.dtype("u2"))


def frames(*numbers: int) -> Frames:
    pixels = [np.full(SHAPE, number, "<u2").tobytes() for number in numbers]
    payload = Payload(chunks=tuple(map(memoryview, pixels)), encoding=Encoding.RAW, dtype=np.dtype("<u2"), shape=SHAPE)
    return Frames(run="7", number=np.array(numbers), timestamp_ns=np.zeros(len(numbers), np.int64), payload=payload)


def samples(count: int) -> Samples:
    rows = np.arange(count, dtype=float)
    return Samples(run="a", first=0, columns={"y": rows, "x": 2 * rows})


FRAMES = (Began(run="7", parts=PARTS), frames(0, 1), frames(2, 3), Ended(run="7", count=4))
PLACES = (Began(run="a", parts=StartParts(columns=("y", "x"), units={"y": "um", "x": "um"})), samples(4), Ended(run="a"))


class Hearing:
    """Receiver, writer and a viewer."""

    def __init__(self, directory: Path, foreign: set[Role], **options: object) -> None:
        self.clock = Clock()
        composer = Composer(ScanOptions(**options), foreign, self.clock.ns)
        self.receive = ReceiveStage(MatchOptions(), self.clock, self.clock.ns, composer=composer)
        self.write = WriteStage(WriteOptions(directory=directory, picture=False), clock=self.clock, wall_ns=self.clock.ns)
        self.written: list[Message] = []
        self.points: list[int] = []
        self.runs: dict[str, Known] = {}

    def hear(self, role: Role, *facts: Fact) -> None:
        for fact in facts:
            self._pass_on(self.receive.hear(role, fact))

    def wait(self, seconds: float) -> None:
        self.clock.now += seconds
        self._pass_on(self.receive.idle())
        for status in self.receive.statuses():
            self._show(status)

    def end(self) -> None:
        self._pass_on(self.receive.finish())
        for known in self.runs.values():
            run = known.run.fields
            over = ReconstructStatus(**run, state=ServiceState.DONE, time_ns=1, no_picture=True)
            for _, message in self.write.handle(over):
                self._show(message)
        self.clock.now += 1
        for _, message in [*self.write.idle(), *self.write.finish()]:
            self._show(message)

    @property
    def facts(self) -> Facts:
        (known,) = self.runs.values()
        return known.facts()

    def _pass_on(self, outputs) -> None:
        for port, message in outputs:
            if port is Port.WRITER:
                self.written.append(message)
                for _, answer in self.write.handle(message):
                    self._show(answer)
            if port is Port.ENGINE:
                self.points += [p.index for p in points_in([message])]
            if port is Port.DISPLAY:
                self._show(message)

    def _show(self, message: Message) -> None:
        scan_id = getattr(message, "scan_id", None)
        if isinstance(message, ScanStart):
            self.runs[scan_id] = Known(message.run)
        if scan_id is not None:
            self.runs[scan_id].take(message)


def test_foreign_frames_and_rows_become_a_scan_with_a_file(tmp_path):
    run = Hearing(tmp_path, {Role.FRAMES, Role.POSITIONS})
    run.hear(Role.FRAMES, *FRAMES[:2])
    run.hear(Role.POSITIONS, *PLACES)
    run.hear(Role.FRAMES, *FRAMES[2:])
    run.wait(5)
    run.end()
    assert sorted(run.points) == [0, 1, 2, 3]
    (path,) = (path for path in tmp_path.glob("*.cxi") if ".strict" not in path.name)
    with h5py.File(path) as file:
        assert file["/entry_1/data_1/data"][:, 0, 0].tolist() == [0, 1, 2, 3]
        assert read_report(file).complete
    assert (run.facts.complete, run.facts.ledger.received) == (True, 4)


def test_our_own_messages_are_passed_on_as_they_are(tmp_path):
    run = Hearing(tmp_path, set())
    sent = [start(), frame([0, 1]), positions([0, 1])]
    for role, message in zip((Role.FRAMES, Role.FRAMES, Role.POSITIONS), sent, strict=True):
        run.hear(role, message)
    assert [message for message in run.written if not isinstance(message, ReceiveStatus)] == sent


def test_without_a_scan_the_receiver_says_what_it_refuses_and_why():
    stage = ReceiveStage(MatchOptions(), Clock(), composer=Composer(ScanOptions(), {Role.FRAMES}))
    for text in ("JSON, as in Stream V1", "another"):
        assert list(stage.hear(Role.FRAMES, CodecError("message", text))) == []
    (status,) = stage.statuses()
    assert status.remarks == ("what comes from detector.frames is refused: message: JSON, as in Stream V1",), "the first"
    assert not list(stage.hear(Role.FRAMES, Began(run="7", parts=PARTS, in_middle=True)))
    assert [said.remarks for said in stage.statuses() if said.scan_id is None] == [()], "what comes is understood again"


def test_what_is_to_be_known_reaches_log_status_displays_and_file(tmp_path, caplog, capsys):
    doubt = "the detector says a distance of 0 m: set scan.distance_m"
    began = Began(run="7", parts=PARTS.over(StartParts(doubts=(doubt,))))
    run = Hearing(tmp_path, {Role.FRAMES, Role.POSITIONS})
    with caplog.at_level(logging.WARNING):
        run.hear(Role.FRAMES, began, *FRAMES[1:2])
        run.hear(Role.POSITIONS, *PLACES)
        run.wait(1)
        run.wait(1)
    (said,) = [remark for remark in run.facts.remarks if doubt in remark]
    assert caplog.text.count(doubt) == 1
    assert said in _line(run.facts)
    assert said in json.loads(json.dumps(run.facts.as_dict()))["remarks"]
    run.hear(Role.FRAMES, *FRAMES[2:])
    run.wait(5)
    run.end()
    assert said in run.facts.remarks, "the last word has it too"
    (path,) = (path for path in tmp_path.glob("*.cxi") if ".strict" not in path.name)
    with h5py.File(path) as file:
        assert said in read_report(file).remarks
    assert said in inspect_file(path, None)["remarks"]
    watcher = SimpleNamespace(runs=list(run.runs.values()), refused={}, refusals={}, stream_remarks=[])
    assert said in summarise(watcher, None)["remarks"]


def test_remarks_are_bounded_and_do_not_outlive_their_scan(tmp_path):
    run = Hearing(tmp_path, {Role.FRAMES, Role.POSITIONS})
    doubts = tuple(f"{i} {'!' * 2000}" for i in range(100))
    run.hear(Role.FRAMES, Began(run="7", parts=PARTS.over(StartParts(doubts=doubts))), *FRAMES[1:2])
    run.hear(Role.POSITIONS, *PLACES)
    run.wait(1)
    remarks = run.facts.remarks
    assert 1 <= len(remarks) <= MAX_REMARKS
    assert max(map(len, remarks)) <= MAX_REMARK
    run.hear(Role.FRAMES, *FRAMES[2:])
    run.wait(5)
    assert run.receive._remarks == {}


def test_what_concerns_no_scan_is_told_with_and_without_one_and_not_for_ever(tmp_path, caplog):
    run = Hearing(tmp_path, {Role.FRAMES, Role.POSITIONS})
    with caplog.at_level(logging.WARNING):
        run.hear(Role.FRAMES, Remark("nothing is understood"), Remark("nothing is understood"))
    assert "detector.frames: nothing is understood" in caplog.text
    told = ("detector.frames: nothing is understood",)
    (idle,) = run.receive.statuses()
    assert (idle.scan_id, idle.stream_remarks) == (None, told)
    run.hear(Role.POSITIONS, *PLACES[:2])
    run.hear(Role.FRAMES, *FRAMES[:2])
    (status,) = run.receive.statuses()
    assert (status.scan_id, status.remarks, status.stream_remarks) == ("series-7", (), told)
    run.hear(Role.FRAMES, *FRAMES[2:])
    run.hear(Role.POSITIONS, PLACES[2])
    run.wait(5)
    run.hear(Role.FRAMES, frames(9))
    run.wait(3)
    said = run.receive.statuses()[0].stream_remarks
    assert "series-7: 1 frames of run '7' came after" in said[1]
    run.wait(700)
    assert run.receive.statuses()[0].stream_remarks == ()


def test_frames_that_are_still_held_at_the_end_are_written(tmp_path):
    """The start is not complete: the energy is said nowhere."""
    run = Hearing(tmp_path, {Role.FRAMES, Role.POSITIONS})
    nobody = StartParts(frame_shape=SHAPE, dtype=np.dtype("u2"))
    run.hear(Role.FRAMES, Began(run="7", parts=nobody), *FRAMES[1:3])
    assert run.written == []
    run.end()
    (path,) = (path for path in tmp_path.glob("*.cxi") if ".strict" not in path.name)
    with h5py.File(path) as file:
        assert len(file["/entry_1/data_1/data"]) == 4


def test_a_scan_of_ours_may_end_under_a_foreign_partner(tmp_path):
    run = Hearing(tmp_path, {Role.POSITIONS}, pairing="open-scan")
    run.hear(Role.FRAMES, start(), frame([0, 1]))
    run.hear(Role.POSITIONS, *PLACES)
    run.hear(Role.FRAMES, end(2, Stream.FRAMES))
    run.wait(5)
    assert sorted(run.points) == [0, 1]
