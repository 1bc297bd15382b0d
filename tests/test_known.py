"""What is known of a scan: one fold for terminal, page, documents and writer, whose figures agree."""

import json
import math

import pytest

from streamptycho.display.known import MAX_RECONSTRUCTIONS, Known
from streamptycho.display.ledger import Ledger
from streamptycho.display.scans import Scans
from streamptycho.documents import Composer
from streamptycho.messages.kinds import Message
from streamptycho.messages.reasons import EndReason, ServiceState, Stream
from streamptycho.messages.results import Assessment
from streamptycho.messages.run import RunId
from streamptycho.messages.stream import ScanEnd
from streamptycho_services.commands.progress import _line
from streamptycho_services.commands.summary import summarise
from streamptycho_services.dashboard.hub import _curve
from streamptycho_services.dashboard.state import State
from tests.files.factories import snapshot, start
from tests.services.test_watch import Told
from tests.statuses import status

RUN = RunId("s", 5)


def known(*messages: Message) -> Known:
    all_of_it = Known(RUN)
    for message in messages:
        all_of_it.take(message)
    return all_of_it


def engine(service: str = "reconstruct", **values):
    return status(service, values.pop("state", ServiceState.RECONSTRUCTING), started_ns=5, **values)


def shot(sequence: int = 1, **changes):
    return snapshot(sequence, scan_id="s", started_ns=5, **changes)


def assessed(**changes) -> Assessment:
    return Assessment(**({**RUN.fields, "time_ns": 1, "verdict": "Good: 30 frames."} | changes))


class TestFigures:
    def test_of_the_newer_of_status_and_picture(self):
        said, picture = (
            engine(error=0.3, updates=30, used=3, time_ns=10),
            shot(error=0.2, updates=50, frames_used=5, time_ns=20),
        )
        for messages in ((said, picture), (picture, said)):
            facts = known(*messages).facts()
            assert (facts.error, facts.updates, facts.ledger.used) == (0.2, 50, 5)
        facts = known(picture, engine(error=0.1, updates=60, used=6, time_ns=21)).facts()
        assert (facts.error, facts.updates, facts.ledger.used) == (0.1, 60, 6)

    def test_a_newer_picture_keeps_the_balance(self):
        received = status(used=10, waiting=2, dropped={"duplicate": 1}, started_ns=5)
        both = known(received, engine(used=4, waiting=3), shot(frames_used=9, time_ns=20))
        assert both.ledger == Ledger(received=13, used=9, waiting=3, dropped={"duplicate": 1})
        assert known(shot(frames_used=9)).ledger == Ledger(received=9, used=9)

    def test_those_of_the_assessment_are_in_step_and_finite(self):
        figures = {"error": 0.5, "resolution_m": 2e-8, "curl": math.inf, "overlap": 0.6}
        facts = known(engine(error=0.3, time_ns=9), assessed(figures=figures)).facts()
        assert facts.figures == {"error": 0.3, "resolution_m": 2e-8, "overlap": 0.6}
        assert facts.resolution_m == 2e-8

    def test_nothing_is_known_at_first(self):
        facts = known().facts()
        assert (facts.state, facts.error, facts.expected, facts.eta_s, facts.verdict, facts.trusted) == (None,) * 6
        assert facts.ledger == Ledger()
        json.dumps(facts.as_dict(), allow_nan=False)

    def test_no_rate_and_nothing_to_wait_for_at_the_end(self):
        going = {"rate_hz": 50.0, "expected": 100, "used": 40, "started_ns": 5}
        facts = known(status(**going)).facts()
        assert (facts.rate_hz, facts.eta_s, facts.missing) == (50.0, pytest.approx(1.2), None)
        facts = known(status(state=ServiceState.DONE, unique=39, **going)).facts()
        assert (facts.rate_hz, facts.eta_s, facts.missing) == (0.0, None, 61)

    def test_why_it_ended(self):
        end = ScanEnd(stream=Stream.SCAN, count=3, reason=EndReason.ABORTED, **RUN.fields)
        assert known(start(scan_id="s", started_ns=5), end).facts().end is EndReason.ABORTED
        assert known(status("write", end=EndReason.TIMEOUT)).facts().end is EndReason.TIMEOUT
        whole = ScanEnd(stream=Stream.SCAN, count=3, **RUN.fields)
        closed = status("write", ServiceState.DONE, end=EndReason.INCOMPLETE)
        assert known(whole, closed).facts().end is EndReason.INCOMPLETE, "the writer has the last word"
        failed = status("write", ServiceState.DONE, failure="disk full")
        assert known(whole, failed).facts().end is EndReason.INCOMPLETE

    def test_a_picture_that_cannot_be_trusted_is_not_just_done(self):
        done = engine(state=ServiceState.DONE)
        assert known(done).facts().standing == "done"
        assert known(done, assessed(trusted=True)).facts().standing == "done"
        incomplete = status("write", ServiceState.DONE, end=EndReason.INCOMPLETE)
        assert known(done, incomplete).facts().standing == "done, incomplete"
        assert known(done, incomplete, assessed(trusted=False)).facts().standing == "done, incomplete, picture not trusted"
        facts = known(done, assessed(trusted=False, final=True)).facts()
        assert (facts.standing, facts.judged) == ("done, picture not trusted", True)
        assert known(engine(), assessed(trusted=False)).facts().standing == "reconstructing"


class TestComplete:
    """What is missing, from what receiver and writer say, and that nothing else is called complete."""

    def received(self):
        counts = {"used": 900, "unique": 900, "positions": 1000, "announced": 1000, "missing": 100, "missing_positions": 0}
        return status(state=ServiceState.DONE, **counts)

    def closed(self, used: int, positions: int, end: EndReason | None = EndReason.INCOMPLETE, **more):
        return status("write", ServiceState.DONE, used=used, positions=positions, end=end, **more)

    def test_nothing_is_said_before_the_end(self):
        facts = known(status(used=5, unique=5, expected=100, gaps=2), status("write", used=5)).facts()
        assert (facts.complete, facts.missing, facts.missing_positions, facts.gaps) == (None, None, None, 2)

    def test_what_never_came_and_what_is_not_written(self):
        received = self.received()
        facts = known(received).facts()
        assert (facts.complete, facts.missing, facts.announced) == (None, 100, 1000)
        facts = known(received, status("write", used=3)).facts()
        assert facts.missing == 100, "the others are still on their way"
        facts = known(received, self.closed(890, 997)).facts()
        assert (facts.complete, facts.missing, facts.missing_positions) == (False, 110, 3)
        assert facts.problems[0] == "110 frames and 3 positions missing"
        assert {"complete": False, "missing": 110, "missing_positions": 3}.items() <= facts.as_dict().items()

    def test_complete_is_what_the_writer_calls_so(self):
        received = status(state=ServiceState.DONE, used=9, unique=9, positions=9, missing=0, missing_positions=0)
        facts = known(received, self.closed(9, 9, EndReason.COMPLETE)).facts()
        assert (facts.complete, facts.missing, facts.missing_positions, facts.problems) == (True, 0, 0, [])
        facts = known(received, self.closed(9, 9, EndReason.COMPLETE, failure="no result")).facts()
        assert (facts.complete, facts.problem) == (True, "write: no result"), "all frames are there nevertheless"
        assert known(received, self.closed(9, 9, None, failure="disk full")).facts().complete is False

    def test_of_a_receiver_that_never_ended_what_it_had_and_the_plan_count(self):
        going = {"used": 40, "unique": 40, "positions": 40}
        assert known(status(**going), self.closed(38, 40)).facts().missing == 2
        assert known(status(**going), self.closed(40, 40)).facts().missing is None, "nobody knows"
        assert known(status(**going, expected=100), self.closed(38, 40)).facts().missing == 62
        planned = start(scan_id="s", started_ns=5, expected=100)
        assert known(planned, self.closed(38, 40)).facts().missing == 62


class TestPictures:
    def test_older_ones_and_those_after_the_last_are_left_out(self):
        scan = known(shot(4))
        assert not scan.take(shot(3))
        assert scan.take(shot(5, final=True))
        assert not scan.take(shot(6))
        assert scan.snapshot.sequence == 5

    def test_without_a_beginning_the_next_run_is_shown(self):
        scan = Known(RunId("s"))
        assert scan.take(snapshot(9, scan_id="s", started_ns=0, final=True))
        assert scan.take(snapshot(0, scan_id="s", started_ns=0))
        assert (scan.snapshot.sequence, scan.facts().final) == (0, False)

    def test_why_there_will_be_none(self):
        assert known(engine(failure="no probe")).lead.failure is None, "it may go on"
        assert known(engine(state=ServiceState.DONE, failure="no probe")).lead.failure == "no probe"
        assert known(engine(state=ServiceState.DONE, no_picture=True)).lead.failure == "nothing could be reconstructed"
        assert known(engine(state=ServiceState.DONE)).lead.failure is None


class TestRuns:
    def test_in_the_order_of_their_beginnings(self):
        scans = Scans(Known)
        for run in (RunId("b", 20), RunId("unknown"), RunId("a", 10), RunId("b", 30)):
            scans.add(run)
        assert [str(scan.run) for scan in scans] == ["a@10", "b@20", "unknown@0", "b@30"]
        assert scans.newest.run == RunId("b", 30)

    def test_a_message_without_a_beginning_belongs_to_the_newest_of_its_id(self):
        scans = Scans(Known)
        for began in (9, 5):
            scans.add(RunId("s", began))
        scans.add(RunId("other", 99))
        assert scans.find(RunId("s")).run.started_ns == 9
        assert scans.find(RunId("s", 5)).run.started_ns == 5
        assert scans.find(RunId("s", 7)) is None
        scans.keep_newest(1)
        assert [scan.run for scan in scans] == [RunId("other", 99)]


def two_reconstructions() -> list[Message]:
    """Of one scan by turns, the second always better and later."""
    messages: list[Message] = [start(scan_id="s", started_ns=5), status(used=30, started_ns=5, time_ns=1)]
    for i in range(1, 6):
        first, second = 1000 * i, 1000 * i + 500
        messages += [
            engine("second", error=0.01, used=30, updates=1, time_ns=second),
            engine(error=0.5 / i, used=3 * i, updates=10 * i, time_ns=first),
            shot(50 * i, service="second", error=0.01, frames_used=30, time_ns=second),
            shot(i, error=0.5 / i, frames_used=3 * i, updates=10 * i, time_ns=first + 1),
            assessed(service="second", verdict="The second one's.", time_ns=second),
            assessed(time_ns=first),
        ]
    return messages


class TestTwoReconstructions:
    """Another name is all that a second one needs; what is shown does not flip between them."""

    def test_the_terminal_shows_one(self):
        watcher = Told()
        errors, lines = [], []
        for message in two_reconstructions():
            watcher.take(message)
            if watcher.known("s") is not None and "reconstruct" in watcher.known("s").reconstructions:
                errors.append(watcher.known("s").facts().error)
                lines.append(_line(watcher.known("s").facts()))
        assert errors == sorted(errors, reverse=True)
        assert errors[-1] == 0.1
        assert not any("The second one's" in line for line in lines)
        assert "Good: 30 frames." in lines[-1]
        assert watcher.known("s").reconstructions["second"].status.error == 0.01
        watcher.take(status("write", ServiceState.DONE, started_ns=5))
        assert summarise(watcher, None)["verdict"] == "Good: 30 frames."

    def test_the_page_shows_one(self):
        state = State(lambda picture, key: {"phase": picture.service.encode()}, lambda: 0.0)
        shown = []
        for message in two_reconstructions():
            scan = state.take(message)
            if scan is not None:
                state.keep(scan)
            if state.newest is not None and "reconstruct" in state.newest.reconstructions and state.newest.snapshot:
                shown.append((state.newest.snapshot.service, state.newest.snapshot.sequence))
                assert json.loads(_curve(state.newest))["newest"] == state.report(None)["facts"]["error"]
        assert shown == sorted(shown, key=lambda pair: pair[1])
        assert {service for service, _ in shown} == {"reconstruct"}
        assert [moment.images["phase"] for moment in state.newest.history.moments][-1] == b"reconstruct"
        assert state.report(None)["facts"]["used"] == 15
        assert set(state.heard) == {"receive", "reconstruct", "second"}

    def test_the_documents_show_one(self):
        now_s = 0.0
        composer = Composer(lambda: now_s, lambda: 0.0, validate=True)
        documents = []
        for message in two_reconstructions():
            composer.take(message)
            now_s += 1.0
            documents += composer.due()
        streams = {doc["uid"]: doc["name"] for name, doc in documents if name == "descriptor"}
        events = [(streams[doc["descriptor"]], doc["data"]) for name, doc in documents if name == "event"]
        frames = [data["object_frames_used"] for stream, data in events if stream == "object"]
        assert frames[-5:] == [3, 6, 9, 12, 15]
        verdicts = [data["verdict"] for stream, data in events if stream == "quality"]
        assert verdicts[-5:] == ["Good: 30 frames."] * 5
        assert [data["error"] for stream, data in events if stream == "progress"][-1] == 0.1

    def test_the_end_of_the_other_ends_nothing(self):
        scan = known(engine(), engine("second", state=ServiceState.DONE, failure="out of memory"))
        assert (scan.finished, scan.lead.failure) == (False, None)
        assert scan.facts().problem == "second: out of memory"

    def test_any_name_will_do_alone(self):
        scan = known(engine("polisher", error=0.2), shot(service="polisher", error=0.1, time_ns=9))
        assert (scan.facts().error, scan.state) == (0.1, ServiceState.RECONSTRUCTING)

    def test_names_without_end_are_bounded(self):
        scan = known(*(engine(f"r{i}") for i in range(100)))
        assert len(scan.reconstructions) == MAX_RECONSTRUCTIONS
