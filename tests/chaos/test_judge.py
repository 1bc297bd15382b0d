"""The judge of the chaos test finds what must not be."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamptycho.display.known import Known
from streamptycho.display.ledger import Missing
from streamptycho.files.durable.disk import abandon
from streamptycho.files.outcome import Outcome
from streamptycho.files.writer import CxiWriter
from streamptycho.messages.payload import Encoding, Payload
from streamptycho.messages.reasons import EndReason, Stream
from streamptycho.messages.run import RunId
from streamptycho.messages.stream import Frame, Positions, ScanEnd
from tests.chaos.detector import Patterns, Sent
from tests.chaos.judge import SWALLOWED, Verdict, judge
from tests.chaos.soak import Sample, alike

COUNT = 6
PATTERNS = Patterns(COUNT, 0, Encoding.RAW, 16)


@pytest.fixture
def scan() -> Sent:
    """All of it was sent."""
    sent = Sent("c", PATTERNS, COUNT, rate_hz=100, planned=True)
    sent.frames.update((i, 1000 + i) for i in range(COUNT))
    sent.positions.update(range(COUNT))
    return sent


def write(path: Path, scan: Sent, *, lacking: int | None = None, **changes: Any) -> CxiWriter:
    """A file of it without frame `lacking`, not closed."""
    writer = CxiWriter(path, scan.start())
    for i in range(COUNT):
        if i != lacking:
            frame = Frame(scan_id="c", index=np.array([i]), timestamp_ns=np.array([1000 + i]), payload=PATTERNS.payloads[i])
            writer.append(dataclasses.replace(frame, **(changes if i == 2 else {})))
    writer.positions(Positions(scan_id="c", index=np.arange(COUNT), yx_m=PATTERNS.scan.yx_m))
    writer.flush()
    return writer


def finish(writer: CxiWriter, scan: Sent, reason: EndReason, missing: int) -> None:
    over = ScanEnd(**scan.start().run.fields, stream=Stream.SCAN, count=COUNT, reason=reason)
    writer.finish(Outcome(start=scan.start(), snapshot=None, end=over, missing=Missing(missing, 0, missing)))


def judged(path: Path, scan: Sent, *, writer_died: bool = False) -> Verdict:
    return judge(scan, [path], None, 0, writer_died=writer_died)


def sorts(verdict: Verdict) -> list[str]:
    return [finding.partition(":")[0] for finding in verdict.findings]


def test_a_perfect_file_is_perfect(tmp_path, scan):
    finish(write(tmp_path / "c.cxi", scan), scan, EndReason.COMPLETE, 0)
    verdict = judged(tmp_path / "c.cxi", scan)
    assert (verdict.findings, verdict.frames, verdict.lost, verdict.complete) == ([], COUNT, 0, True)


def test_a_loss_that_is_said_is_none_in_silence(tmp_path, scan):
    finish(write(tmp_path / "c.cxi", scan, lacking=3), scan, EndReason.INCOMPLETE, 1)
    verdict = judged(tmp_path / "c.cxi", scan)
    assert (verdict.findings, verdict.lost, verdict.said) == ([], 1, 1)


def test_a_silent_loss_and_a_false_complete(tmp_path, scan):
    finish(write(tmp_path / "c.cxi", scan, lacking=3), scan, EndReason.COMPLETE, 0)
    assert sorts(judged(tmp_path / "c.cxi", scan)) == ["silent loss", "false complete"]


@pytest.mark.parametrize(
    "changes",
    [{"payload": Payload.raw(PATTERNS.counts[:1])}, {"timestamp_ns": np.array([7])}],
    ids=["pixels of another frame", "another time"],
)
def test_a_row_that_is_not_as_it_was_sent(tmp_path, scan, changes):
    finish(write(tmp_path / "c.cxi", scan, **changes), scan, EndReason.COMPLETE, 0)
    assert "altered row" in sorts(judged(tmp_path / "c.cxi", scan))


def test_a_file_that_was_left_open_is_recovered_only_if_its_writer_was_killed(tmp_path, scan):
    abandon(write(tmp_path / "c.cxi", scan)._file)
    assert sorts(judged(tmp_path / "c.cxi", scan)) == ["does not open", "silent loss"]
    verdict = judged(tmp_path / "c.cxi", scan, writer_died=True)
    assert (verdict.findings, verdict.frames, verdict.complete) == ([], COUNT, False)


def test_too_much_is_said(tmp_path, scan):
    finish(write(tmp_path / "c.cxi", scan), scan, EndReason.INCOMPLETE, 2)
    assert sorts(judged(tmp_path / "c.cxi", scan)) == ["too much said"]


def test_a_scan_whose_start_was_lost_is_in_a_number(scan):
    assert sorts(judge(scan, [], None, 0, writer_died=True)) == ["silent loss"]
    verdict = judge(scan, [], None, COUNT, writer_died=True)
    assert (verdict.findings, verdict.said) == ([], COUNT)


def samples(*rss: tuple[float, int]) -> list[Sample]:
    return [Sample(float(i), 1, (one, 10.0, 3.0), under_way) for i, (one, under_way) in enumerate(rss)]


def test_what_scans_under_way_need_is_no_growth():
    middle, last = samples((100, 1), (100, 1), (150, 2)), samples((101, 1), (151, 2), (151, 2))
    assert alike(middle, last)[0] == pytest.approx((125, 126))


def test_growth_shows_however_many_scans_are_under_way():
    middle, last = samples((100, 1), (100, 1), (150, 2)), samples((110, 1), (160, 2), (160, 2))
    assert alike(middle, last)[0] == pytest.approx((125, 135))
    assert alike(middle, samples((110, 3), (160, 3), (110, 3)))[0] == pytest.approx((100, 110)), "as they are"


@pytest.mark.parametrize("reason", [EndReason.TIMEOUT, EndReason.SUPERSEDED])
def test_what_a_killed_receiver_has_swallowed_with_the_end_message_is_told_apart(tmp_path, scan, reason):
    finish(write(tmp_path / "c.cxi", scan, lacking=3), scan, reason, 0)
    known = Known(RunId("c", scan.started_ns))
    known.take(ScanEnd(**scan.start().run.fields, stream=Stream.SCAN, count=COUNT - 1, reason=reason))
    unplanned = dataclasses.replace(scan, planned=False)

    def sorts_of(sent: Sent, *, receiver_died: bool) -> list[str]:
        paths = [tmp_path / "c.cxi"]
        return sorts(judge(sent, paths, known.facts(), 0, writer_died=False, receiver_died=receiver_died))

    assert sorts_of(unplanned, receiver_died=True) == [SWALLOWED]
    assert sorts_of(unplanned, receiver_died=False) == sorts_of(scan, receiver_died=True) == ["silent loss"]
