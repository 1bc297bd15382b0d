"""Figures for Prometheus and readiness, from statuses on a clock of our own."""

import dataclasses
import re
from pathlib import Path
from typing import Any, get_args

import pytest
from prometheus_client.parser import text_string_to_metric_families

from streamptycho.messages.reasons import ServiceState
from streamptycho.messages.status import AnyStatus
from streamptycho_services.health import known
from streamptycho_services.health.known import MAX_SERVICES, SCANS_KEPT, SCANS_SHOWN, SILENCE_S, Health
from streamptycho_services.health.metrics import COUNTED, FIGURES, PREFIX, Of, exposition
from tests.scans import Clock
from tests.statuses import status

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "deploy.md"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def health(clock: Clock) -> Health:
    return Health(COUNTED, clock)


Sample = dict[tuple[str, ...], float]


def samples(health: Health, name: str) -> Sample:
    """Values of one metric by its labels, in the order of their names."""
    families = text_string_to_metric_families(exposition(health).decode())
    found = (sample for family in families for sample in family.samples if sample.name == f"{PREFIX}_{name}")
    return {tuple(sample.labels[label] for label in sorted(sample.labels)): sample.value for sample in found}


def run(number: int, service: str = "receive", **values: Any) -> AnyStatus:
    return status(service, scan_id=f"scan{number}", started_ns=number, **values)


class TestFigures:
    def test_counts_by_service_reason_and_scan(self, health):
        health.take(run(1, used=3, waiting=1, dropped={"duplicate": 2}))
        health.take(run(2, used=5, dropped={"late": 1, "duplicate": 1}))
        health.take(run(2, "write", used=4))
        assert samples(health, "frames_received_total") == {("receive",): 13, ("write",): 4}
        assert samples(health, "frames_dropped_total") == {("duplicate", "receive"): 3, ("late", "receive"): 1}
        assert samples(health, "scan_frames_used") == {
            ("scan1", "receive"): 3,
            ("scan2", "receive"): 5,
            ("scan2", "write"): 4,
        }
        assert samples(health, "scan_frames_waiting")["scan1", "receive"] == 1

    def test_what_is_not_known_is_left_out(self, health):
        health.take(run(1, "reconstruct"))
        health.take(run(1))
        assert samples(health, "scan_fourier_error_ratio") == {}, "NaN before there is one"
        assert samples(health, "scan_lag_seconds") == {}
        assert samples(health, "scan_frames_expected") == {}
        health.take(run(1, "reconstruct", error=0.25, lag_s=1.5))
        health.take(run(1, expected=7))
        assert samples(health, "scan_fourier_error_ratio") == {("scan1", "reconstruct"): 0.25}
        assert samples(health, "scan_lag_seconds") == {("scan1", "reconstruct"): 1.5}
        assert samples(health, "scan_frames_expected") == {("scan1", "receive"): 7}

    def test_refused_messages_belong_to_the_service(self, health):
        health.take(run(1, rejected={"undecodable": 2}))
        health.take(run(2, rejected={"undecodable": 3, "stray": 1}))
        assert samples(health, "messages_rejected_total") == {("undecodable", "receive"): 3, ("stray", "receive"): 1}

    def test_only_the_newest_scans_have_figures_and_the_totals_have_all(self, health):
        for number in range(1, 3 * SCANS_KEPT):
            health.take(run(number, used=10))
        shown = samples(health, "scan_frames_used")
        assert list(shown) == [(f"scan{n}", "receive") for n in range(3 * SCANS_KEPT - SCANS_SHOWN, 3 * SCANS_KEPT)]
        assert samples(health, "frames_used_total") == {("receive",): 10 * (3 * SCANS_KEPT - 1)}

    def test_of_an_id_that_is_used_again_the_newest_run(self, health):
        health.take(status(scan_id="s", started_ns=1, used=3))
        health.take(status(scan_id="s", started_ns=2, used=1))
        assert samples(health, "scan_frames_used") == {("s", "receive"): 1}
        assert samples(health, "frames_used_total") == {("receive",): 4}

    def test_totals_never_fall(self, health):
        health.take(run(1, used=9))
        assert samples(health, "frames_used_total") == {("receive",): 9}
        health.take(run(1, used=5, dropped={"engine_full": 4}))  # the backlog was given up afterwards
        assert samples(health, "frames_used_total") == {("receive",): 9}
        assert samples(health, "scan_frames_used") == {("scan1", "receive"): 5}

    def test_a_service_that_begins_anew_adds_to_what_it_had(self, health):
        health.take(run(1, used=9))
        health.take(run(1, used=2))
        health.take(run(1, used=3))
        assert samples(health, "frames_used_total") == {("receive",): 12}

    def test_names_and_labels_hold_whatever_is_legal(self, health):
        health.take(status(scan_id='a "b" {c} é', used=1))
        assert samples(health, "scan_frames_used") == {('a "b" {c} é', "receive"): 1}

    def test_of_this_process_too(self, health):
        text = exposition(health).decode()
        assert "process_resident_memory_bytes" in text
        assert "process_open_fds" in text

    def test_services_are_bounded_whatever_names_come(self, health):
        for i in range(3 * MAX_SERVICES):
            health.take(status(f"engine{i}", used=1))
        assert len(health.newest()) == MAX_SERVICES


class TestTable:
    @pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.name)
    def test_each_line_names_a_field_that_exists(self, figure):
        fields = {f.name: f for kind in get_args(AnyStatus) for f in dataclasses.fields(kind)}
        assert figure.field in fields
        a_table = "dict" in str(fields[figure.field].type)
        assert a_table == (figure.by is not None), "only a table needs a label for its keys"

    def test_names_follow_the_conventions(self):
        names = [figure.name for figure in FIGURES]
        assert len(set(names)) == len(names)
        for figure in FIGURES:
            assert re.fullmatch(r"[a-z]+(_[a-z]+)*", figure.name)
            assert not re.search(r"_(total|count|sum|ms|ns|hz|s)$", figure.name), "units in full; _total is added"
            assert figure.text.endswith(".")

    def test_each_metric_is_documented(self, health):
        health.take(run(1))
        text = DOCUMENT.read_text(encoding="utf-8")
        exported = set(re.findall(rf"^# TYPE ({PREFIX}_\w+)", exposition(health).decode(), re.MULTILINE))
        documented = set(re.findall(rf"`({PREFIX}_\w+)`", text))
        assert exported - documented == set()
        assert documented - exported == set()

    def test_every_kind_of_line_is_used_or_gone(self):
        assert {figure.of for figure in FIGURES} == set(Of)


class TestReadiness:
    def words(self, *services: str) -> list[AnyStatus]:
        return [status(service, ServiceState.IDLE, scan_id=None) for service in services]

    def test_all_must_be_heard(self, health, clock):
        assert health.report()["missing"] == ["receive", "reconstruct", "write"]
        for word in self.words("receive", "write"):
            health.take(word)
        assert health.report() == {
            "ready": False, "missing": ["reconstruct"], "failed": {}, "silence_s": {"receive": 0.0, "write": 0.0},
        }  # fmt: skip
        health.take(*self.words("reconstruct"))
        assert health.report()["ready"]
        clock.now += SILENCE_S
        health.take(*self.words("receive"))
        assert health.report()["missing"] == ["reconstruct", "write"]
        assert samples(health, "up") == {("receive",): 1, ("reconstruct",): 0, ("write",): 0}
        assert samples(health, "status_age_seconds")["write",] == SILENCE_S

    def test_one_that_cannot_go_on_is_named_as_long_as_it_says_so(self, health, clock):
        for word in self.words("receive", "reconstruct"):
            health.take(word)
        health.take(run(1, "write", failure="no space left"))
        report = health.report()
        assert (report["ready"], report["failed"]) == (False, {"write": "no space left"})
        assert samples(health, "failed")["write",] == 1
        clock.now += SILENCE_S + 1
        for word in self.words("receive", "reconstruct", "write"):
            health.take(word)
        assert health.report()["ready"]

    def test_a_service_that_runs_alone_answers_for_itself(self, clock):
        health = Health(COUNTED, clock, ["write"])
        health.take(*self.words("write"))
        assert health.report()["ready"]
        assert samples(health, "up") == {("write",): 1}

    def test_other_messages_are_nothing(self, health):
        for nothing in (None, object(), ValueError("no status")):
            health.take(nothing)
        assert health.newest() == {}


def test_a_status_comes_more_often_than_its_absence_is_told():
    from streamptycho_services.processes.runtime import STATUS_S

    assert known.SILENCE_S >= 10 * STATUS_S
