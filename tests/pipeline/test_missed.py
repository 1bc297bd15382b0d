"""A reconstruction that begins anew in mid-scan, or has missed points, takes them from the writer's growing file."""

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamptycho.errors import FormatError
from streamptycho.files.scan import RecordedScan, open_scan
from streamptycho.files.snapshots import rounded
from streamptycho.files.writer import CxiWriter
from streamptycho.messages.payload import Payload
from streamptycho.messages.reasons import EndReason, ServiceState
from streamptycho.messages.results import Snapshot
from streamptycho.messages.status import ReceiveStatus, WriteStatus
from streamptycho.messages.stream import Frame, Positions, ScanStart
from streamptycho.pipeline import missed, orphans
from streamptycho.pipeline.stage import Port
from streamptycho_sim.forward import DetectorOptions
from streamptycho_sim.scan import ProbeStart
from tests.pipeline.test_reconstruct_stage import Run, over
from tests.sim.helpers import small

FRAMES = 200
SCAN = small(frames=FRAMES, probe_start=ProbeStart.TRUE, detector=DetectorOptions(photons=1e5))
START: ScanStart = dataclasses.replace(SCAN.start(1), scan_id="s", expected=None)
COUNTS = list(SCAN.counts())


def run_of(**options: Any) -> Run:
    return Run(engine={"slice_updates": 50, "max_object_pixels": 1 << 18}, **options)


def block(index: int) -> Frame:
    payload = Payload.raw(COUNTS[index][None])
    return Frame(scan_id="s", index=np.array([index]), timestamp_ns=np.array([10**9]), payload=payload)


def points(indices: Iterable[int]) -> list[Frame]:
    return [block(i).taken(SCAN.yx_m[i : i + 1]) for i in indices]


def passed_on(count: int) -> ReceiveStatus:
    return ReceiveStatus(**START.run.fields, state=ServiceState.DONE, time_ns=5, received=count, used=count, unique=count)


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[CxiWriter]:
    with CxiWriter(tmp_path / "s.cxi", START) as open_writer:
        yield open_writer


def put(writer: CxiWriter, indices: range, snapshot: Snapshot | None = None) -> WriteStatus:
    for i in indices:
        writer.append(block(i))
    writer.positions(Positions(scan_id="s", index=np.array(indices), yx_m=SCAN.yx_m[indices.start : indices.stop]))
    if snapshot is not None:
        writer.snapshot(snapshot)
    writer.flush()
    fields: dict[str, Any] = {"state": ServiceState.RECEIVING, "time_ns": 5, "file": str(writer.path)}
    return WriteStatus(**START.run.fields, **fields)


def killed_at(count: int) -> tuple[Run, Snapshot]:
    """A reconstruction that has taken so many frames, and its latest picture."""
    run = run_of()(START, *points(range(count))).idle(150)
    return run, run.to(Port.RESULTS, Snapshot)[-1]


def test_the_picture_is_back_at_once(writer: CxiWriter) -> None:
    _, before = killed_at(150)
    told = put(writer, range(150), before)
    run = run_of()(dataclasses.replace(START, repeated=True), told)
    run.idle(1)
    scan = run.stage.scans["s"]
    while scan.missed.reading:
        run.idle()
    assert scan.received == 150
    assert scan.engine.error < 1.3 * before.error
    run.idle(20)
    first = run.to(Port.DISPLAY, Snapshot)[0]
    assert first.error < 1.3 * before.error
    assert first.sequence > before.sequence
    assert first.frames_used >= 0.9 * before.frames_used
    common = before.covered & _at(first, before, first.covered)
    assert common.sum() > 0.9 * before.covered.sum()
    assert _agreement(_at(first, before, first.object)[common], before.object[common]) > 0.99
    assert "before the restart" in scan.engine.probe_note
    run(*points(range(150, FRAMES)), passed_on(FRAMES), over(count=FRAMES)).until_done()
    last = run.last_status()
    assert (last.received, last.used, last.dropped) == (FRAMES, FRAMES, {})


def test_points_that_come_twice_count_once(writer: CxiWriter) -> None:
    told = put(writer, range(100))
    run = run_of()(dataclasses.replace(START, repeated=True), *points(range(95, 105)))
    assert run.stage.scans["s"].received == 0, "they wait for what is in the file"
    run(told).idle(60)(*points(range(90, FRAMES)), passed_on(FRAMES), over(count=FRAMES)).until_done()
    last = run.last_status()
    assert (last.received, last.used, last.dropped) == (FRAMES, FRAMES, {})


def test_what_was_lost_on_the_way_is_taken_from_the_file_at_the_end(writer: CxiWriter) -> None:
    run = run_of(step=0.001)(START, *points(range(60)), put(writer, range(80)))
    run(passed_on(100), over(count=100))
    for _ in range(40):
        run.idle()
    assert run.stage.scans["s"].end is None, "twenty are not in the file yet"
    put(writer, range(80, 100))
    run.until_done()
    last = run.last_status()
    assert (last.received, last.used, last.dropped) == (100, 100, {})


def test_what_the_file_does_not_bring_is_counted_as_lost(writer: CxiWriter) -> None:
    run = run_of(step=0.05)(START, *points(range(60)), put(writer, range(80)), passed_on(100), over(count=100)).until_done()
    last = run.last_status()
    assert (last.received, last.used, last.dropped) == (100, 80, {"lost": 20})


def test_a_file_that_nobody_names_is_not_waited_for_long(caplog: pytest.LogCaptureFixture) -> None:
    run = run_of()(START, *points(range(60)), passed_on(100), over(count=100))
    assert run.stage.scans["s"].end is None, "the writer says twice a second where it is"
    run.clock.now += missed.NAMED_S
    run.until_done()
    assert run.last_status().dropped == {"lost": 40}
    assert "scan s: 40 frames are not in the picture: the writer has not said where the file is" in caplog.text


def test_a_file_that_is_named_at_the_end_is_read(writer: CxiWriter) -> None:
    run = run_of(step=0.001)(START, *points(range(60)), passed_on(100), over(count=100)).idle(20)
    run(put(writer, range(100))).until_done()
    assert (run.last_status().used, run.last_status().dropped) == (100, {})


def test_what_comes_into_the_file_while_it_is_read_is_waited_for(writer: CxiWriter) -> None:
    """However long reading takes."""
    run = run_of(step=0.001)(START, *points(range(20)), put(writer, range(60)), passed_on(100), over(count=100))
    while run.stage.scans["s"].received < 60:
        run.clock.now += 1
        run.idle()
    run.clock.now += missed.WAIT_S - 2
    put(writer, range(60, 100))
    run.until_done()
    assert (run.last_status().used, run.last_status().dropped) == (100, {})


def test_no_more_is_read_at_the_end_than_is_missing(writer: CxiWriter) -> None:
    """The file also has what the receiver had to drop, and counts."""
    run = run_of()(START, *points(range(60)), put(writer, range(100)), passed_on(70), over(count=100)).until_done()
    last = run.last_status()
    assert (last.received, last.used, last.dropped) == (70, 70, {})


def test_a_file_of_another_run_is_not_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with CxiWriter(tmp_path / "s.cxi", dataclasses.replace(START, started_ns=99)) as other:
        told = put(other, range(100))
        run = run_of(step=0.05)(START, *points(range(60)), told, passed_on(100), over(count=100)).until_done()
    assert (run.last_status().used, run.last_status().dropped) == (60, {"lost": 40})
    assert "s.cxi here is of another run" in caplog.text


def test_a_scan_that_is_closed_while_it_reads_says_what_it_lacks(writer: CxiWriter) -> None:
    run = run_of()(START, *points(range(60)), put(writer, range(80)), passed_on(100), over(count=100))
    run.finish()
    last = run.last_status()
    assert (last.received, last.used + last.waiting, last.dropped) == (100, 60, {"lost": 40})


def test_an_interrupted_scan_does_not_wait(writer: CxiWriter) -> None:
    told = put(writer, range(60))
    run = run_of()(START, *points(range(50)), told, passed_on(100), over(reason=EndReason.INTERRUPTED, count=100))
    assert not run.stage.scans
    assert run.last_status().dropped == {"lost": 50}


@pytest.mark.parametrize("path", [None, "absent.cxi"])
def test_where_the_file_cannot_be_read_the_picture_begins_anew(
    path: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = run_of(step=0.05)(dataclasses.replace(START, repeated=True), *points(range(100, 150)))
    if path is not None:
        run(WriteStatus(**START.run.fields, state=ServiceState.RECEIVING, time_ns=5, file=str(tmp_path / path)))
    run(passed_on(150), over(count=150)).idle(int(missed.WAIT_S / 0.05) + 5).until_done()
    last = run.last_status()
    assert (last.received, last.used, last.dropped) == (150, 50, {"lost": 100})
    assert "scan s: the picture begins anew, without the frames so far" in caplog.text
    assert caplog.text.count("begins anew") == 1


def test_a_repeated_start_leaves_a_scan_that_runs_alone() -> None:
    run = run_of()(START, *points(range(60))).idle(5)
    scan = run.stage.scans["s"]
    run(dataclasses.replace(START, repeated=True), *points(range(50, 70)))
    assert run.stage.scans["s"] is scan
    assert scan.received == 70
    run(dataclasses.replace(START, repeated=True, started_ns=2))
    assert run.stage.scans["s"] is not scan


def test_a_frame_that_cannot_be_read_is_counted_and_ends_nothing(
    writer: CxiWriter, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    whole = RecordedScan.payload

    def payload(scan: RecordedScan, i: int) -> Payload:
        if i == 7:
            raise FormatError("frame 7 is spoilt")
        return whole(scan, i)

    monkeypatch.setattr(RecordedScan, "payload", payload)
    run = run_of(step=0.05)(dataclasses.replace(START, repeated=True), put(writer, range(60)))
    run(passed_on(60), over(count=60)).until_done()
    last = run.last_status()
    assert (last.received, last.used, last.dropped) == (60, 59, {"lost": 1})
    assert caplog.text.count("frame 7 cannot be read from the file: frame 7 is spoilt") == 1


def test_a_picture_that_cannot_be_read_is_made_anew(
    writer: CxiWriter, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def latest(*_: object) -> None:
        raise OSError("a chunk is spoilt")

    monkeypatch.setattr(RecordedScan, "latest", latest)
    run = run_of()(dataclasses.replace(START, repeated=True), put(writer, range(60)))
    run(passed_on(60), over(count=60)).until_done()
    assert run.last_status().used == 60
    assert "the picture begins anew, that in the file cannot be read: a chunk is spoilt" in caplog.text


def test_held_points_are_bounded(writer: CxiWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(missed, "HELD_BYTES", 20_000)
    run = run_of()(dataclasses.replace(START, repeated=True), *points(range(100)))
    scan = run.stage.scans["s"]
    assert 0 < len(scan.missed._held) < 100
    told = put(writer, range(100))
    run(told, passed_on(100), over(count=100)).until_done()
    assert run.last_status().used == 100


def test_a_file_of_another_run_gives_no_picture(writer: CxiWriter) -> None:
    _, before = killed_at(100)
    put(writer, range(100), before)
    with open_scan(writer.path) as scan:
        assert scan.latest(dataclasses.replace(START.run, started_ns=7)) is None
        latest = scan.latest(START.run)
    assert latest is not None
    np.testing.assert_array_equal(latest.object, rounded(before.object))
    np.testing.assert_array_equal(latest.covered, before.covered)
    np.testing.assert_array_equal(latest.probe, rounded(before.probe))
    for name in ("sequence", "frames_used", "updates", "time_ns", "error", "origin_m", "pixel_m"):
        assert getattr(latest, name) == getattr(before, name)


def _at(source: Snapshot, frame: Snapshot, values: np.ndarray) -> np.ndarray:
    """`values` of `source` on the pixels of `frame`."""
    offset = np.rint(np.subtract(frame.origin_m, source.origin_m) / frame.pixel_m).astype(int)
    out = np.zeros(frame.object.shape, values.dtype)
    ys, xs = (np.arange(n) + o for n, o in zip(frame.object.shape, offset, strict=True))
    inside = np.ix_((ys >= 0) & (ys < values.shape[0]), (xs >= 0) & (xs < values.shape[1]))
    out[inside] = values[np.ix_(ys[(ys >= 0) & (ys < values.shape[0])], xs[(xs >= 0) & (xs < values.shape[1])])]
    return out


def _agreement(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    return float(abs(np.vdot(a, b)) / np.sqrt(np.vdot(a, a).real * np.vdot(b, b).real))


class TestOrphans:
    """Scans that were over when the reconstruction died, before their picture was finished."""

    def waiting(self, told: WriteStatus, **changes: Any) -> WriteStatus:
        return dataclasses.replace(told, **({"end": EndReason.COMPLETE, "received": FRAMES, "used": FRAMES} | changes))

    def test_the_picture_is_finished_from_the_file(self, writer: CxiWriter) -> None:
        _, before = killed_at(150)
        told = self.waiting(put(writer, range(FRAMES), before))
        run = run_of()(told)
        assert run.stage.scans == {}, "what the receiver still has to say comes first"
        run.clock.now += orphans.PATIENCE_S
        run(told).until_done()
        assert run.last_status().used == FRAMES
        last = run.to(Port.RESULTS, Snapshot)[-1]
        assert last.final
        assert last.error < 1.3 * before.error

    @pytest.mark.parametrize("changes", [{"end": None}, {"state": ServiceState.DONE}, {"file": None}])
    def test_others_are_none(self, writer: CxiWriter, changes: dict[str, Any]) -> None:
        told = dataclasses.replace(self.waiting(put(writer, range(FRAMES))), **changes)
        run = run_of()
        for _ in range(2):
            run(told)
            run.clock.now += orphans.PATIENCE_S
        assert run.stage.scans == {}

    def test_one_that_this_process_has_finished_is_not_taken_up(self, writer: CxiWriter) -> None:
        told = self.waiting(put(writer, range(FRAMES)))
        run = run_of()(START, *points(range(FRAMES)), passed_on(FRAMES), over(count=FRAMES)).until_done()
        for _ in range(2):
            run(told)
            run.clock.now += orphans.PATIENCE_S
        assert run.stage.scans == {}

    def test_a_file_that_cannot_be_read_is_said(self, writer: CxiWriter, caplog: pytest.LogCaptureFixture) -> None:
        told = self.waiting(put(writer, range(3)), file="/nowhere/s.cxi")
        run = run_of()(told)
        run.clock.now += orphans.PATIENCE_S
        run(told, told)
        assert run.stage.scans == {}
        assert caplog.messages == ["scan s: its picture is not finished: /nowhere/s.cxi: no such file"]
