"""Rows of a PandA as JSON: messages as they were seen, with losses, repeats and nonsense."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamptycho.dialects.door import Interpreter
from streamptycho.dialects.panda.messages import PandaJson
from streamptycho.errors import ConfigError, ProtocolError
from streamptycho.messages.facts import Began, Ended, Fact, Samples
from streamptycho.messages.reasons import EndReason
from streamptycho_sim.formats import panda_json as sim
from tests.dialects.hearing import told

HXN = [
    b'{"msg_type": "start", "arm_time": "2025-02-28T18:44:22.905865051Z", "start_time": "2025-02-28T18:44:22.905908989Z",'
    b' "hw_time_offset_ns": null}',
    b'{"msg_type": "data", "frame_number": 0, "datasets": {'
    b'"/INENC2.VAL.Value": {"dtype": "float64", "size": 3, "starting_sample_number": 0, "data": [1.5, "2.5", NaN]},'
    b'"/INENC3.VAL.Value": {"dtype": "float64", "size": 3, "starting_sample_number": 0, "data": [-1, null, -3]}}}',
    b'{"msg_type": "data", "frame_number": 1, "datasets": {'
    b'"/INENC2.VAL.Value": {"dtype": "float64", "size": 1, "starting_sample_number": 3, "data": [4]},'
    b'"/INENC3.VAL.Value": {"dtype": "float64", "size": 1, "starting_sample_number": 3, "data": [-4]}}}',
    b'{"msg_type": "stop", "emitted_frames": 2}',
]
MAXIV = [
    b'{"version": 1, "message_type": "series-start", "message_id": 1, "arm_time": "2024-10-07T08:49:10.627Z"}',
    b'{"version": 1, "message_type": "data", "message_id": 2, "frame_number": 0, "INENC3.VAL.Mean": [1, 2], "mono": [3, 4]}',
    b'{"version": 1, "message_type": "data", "message_id": 3, "frame_number": 1, "INENC3.VAL.Mean": [5, 6], "mono": [7, 8]}',
    b'{"version": 1, "message_type": "series-end", "message_id": 4}',
]


def column(facts: list[Fact], name: str) -> dict[int, float]:
    return {
        i: value
        for fact in facts
        if isinstance(fact, Samples)
        for i, value in enumerate(np.nan_to_num(fact.columns[name], nan=-99.0).tolist(), fact.first)
    }


def only(kind: type, facts: list[Fact]) -> list[Any]:
    return [fact for fact in facts if isinstance(fact, kind)]


def test_hxn():
    facts = told(PandaJson(), *HXN)
    assert [type(fact) for fact in facts] == [Began, Samples, Samples, Ended]
    began, _, _, end = facts
    assert (began.run, began.in_middle) == ("2025-02-28T18:44:22.905865051Z", False)
    assert began.parts.started_ns == 1_740_768_262_905_908_989
    assert set(began.parts.metadata) == {"panda_arm_time", "panda_start_time"}
    assert column(facts, "INENC2.VAL.Value") == {0: 1.5, 1: 2.5, 2: -99.0, 3: 4.0}
    assert column(facts, "INENC3.VAL.Value") == {0: -1.0, 1: -99.0, 2: -3.0, 3: -4.0}
    assert (end.run, end.reason, end.count) == (began.run, EndReason.COMPLETE, 4)


def test_maxiv():
    facts = told(PandaJson(), *MAXIV)
    assert [type(fact) for fact in facts] == [Began, Samples, Samples, Ended]
    assert facts[0].parts.started_ns == 1_728_290_950_627_000_000
    assert column(facts, "INENC3.VAL.Mean") == {0: 1.0, 1: 2.0, 2: 5.0, 3: 6.0}
    assert facts[-1].count == 4


@given(st.sets(st.integers(0, 11), max_size=5))
def test_lost_messages_of_hxn_shift_nothing(lost: set[int]):
    values = np.arange(40.0)
    messages = list(sim.hxn({"A.Value": values, "B.Value": -values}, rows_per_message=4))
    facts = told(PandaJson(), *(message for i, message in enumerate(messages) if i not in lost))
    assert all(i == value for i, value in column(facts, "A.Value").items())
    rows = 40 - 4 * len(lost - {0, 11})
    assert len(column(facts, "A.Value")) == rows
    for end in only(Ended, facts):
        assert (end.reason is EndReason.COMPLETE) is (rows == 40)
        assert end.count in ((40,) if 10 not in lost else (None,))


@pytest.mark.parametrize("numbers_rows", [False, True])
@pytest.mark.parametrize("size", [1, 4])
@given(st.sets(st.integers(0, 11), max_size=5))
def test_lost_messages_of_maxiv_shift_nothing(numbers_rows: bool, size: int, lost: set[int]):
    values = np.arange(10.0 * size)
    messages = list(sim.maxiv({"A.Mean": values}, size, numbers_rows=numbers_rows))
    facts = told(PandaJson(), *(message for i, message in enumerate(messages) if i not in lost))
    assert all(i == value for i, value in column(facts, "A.Mean").items())
    if not lost:
        assert len(column(facts, "A.Mean")) == len(values)
        assert facts[-1].count == len(values)
        return
    if size == 1:
        assert len(column(facts, "A.Mean")) == 10 - len(lost - {0, 11})
    for end in only(Ended, facts):
        if lost - {0, 11} and 0 not in lost:
            assert (end.reason, end.count) == (EndReason.INCOMPLETE, None)
    for error in only(ProtocolError, facts):
        assert "set options.frame_number to 'rows'" in str(error)
    chosen = told(
        PandaJson("rows" if numbers_rows else "messages"), *(message for i, message in enumerate(messages) if i not in lost)
    )
    assert all(i == value for i, value in column(chosen, "A.Mean").items())
    if numbers_rows:
        assert len(column(chosen, "A.Mean")) == size * (10 - len(lost - {0, 11}))


def test_a_capture_seen_in_its_middle_and_one_without_an_end():
    facts = told(PandaJson(), *HXN[2:], *HXN[:2], *HXN)
    began, samples, end = facts[:3]
    assert (began.in_middle, samples.first) == (True, 3)
    assert (end.reason, end.count, end.detail[:4]) == (EndReason.INCOMPLETE, 4, "1 of")
    assert [end.detail for end in only(Ended, facts)][1] == "another start came before its end"
    (error,) = told(PandaJson(), HXN[-1])
    assert "start the receiver earlier" in str(error)


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (b"", "panda-json"),
        (b"{", "panda-json"),
        (b"[" * 100_000, "panda-json"),
        (b"[1]", "panda-json"),
        (b"{}", "panda-json.msg_type"),
        (b'{"msg_type": ["data"]}', "panda-json.msg_type"),
        (b'{"msg_type": "data"}', "panda-json.datasets"),
        (b'{"msg_type": "data", "datasets": {}}', "panda-json.datasets"),
        (b'{"msg_type": "data", "datasets": {"/A": 1}}', "panda-json.datasets['/A']"),
        (b'{"msg_type": "data", "datasets": {"/A": {"data": []}}}', "panda-json.datasets['/A'].starting_sample_number"),
        (
            b'{"msg_type": "data", "datasets": {"A": {"starting_sample_number": -1}}}',
            "panda-json.datasets['A'].starting_sample_number",
        ),
        (HXN[1].replace(b'": 0, "data": [1.5', b'": 7, "data": [1.5'), "panda-json.datasets"),
        (HXN[1].replace(b"NaN", b"[2]"), "panda-json.datasets['/INENC2.VAL.Value'].data"),
        (HXN[1].replace(b"NaN", b'"far"'), "panda-json.datasets['/INENC2.VAL.Value'].data"),
        (HXN[1].replace(b"NaN", b"9" * 400), "panda-json.datasets['/INENC2.VAL.Value'].data"),
        (HXN[1].replace(b", NaN", b""), "panda-json.data"),
        (MAXIV[1].replace(b'"frame_number": 0', b'"frame_number": true'), "panda-json.frame_number"),
        (MAXIV[1].replace(b"[1, 2]", b"[1, 2, 3]"), "panda-json.data"),
        (MAXIV[1].replace(b"[1, 2]", b'["x"]'), "panda-json['INENC3.VAL.Mean']"),
    ],
)
def test_it_is_named_and_the_next_capture_is_read(message: bytes, field: str):
    dialect = PandaJson()
    facts = told(dialect, message)
    assert [error.field for error in only(ProtocolError, facts)] == [field]
    assert len(str(only(ProtocolError, facts)[0])) < 300
    assert not only(Samples, facts)
    assert len(column(told(dialect, *HXN), "INENC2.VAL.Value")) == 4


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["start", "data", "stop"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@given(st.lists(st.tuples(st.sampled_from([*HXN, *MAXIV]), st.text(min_size=1, max_size=3), json_values), max_size=8))
def test_anything_in_any_field_raises_nothing_else(changes: list[tuple[bytes, str, Any]]):
    dialect = PandaJson()
    for message, key, value in changes:
        changed = json.loads(message)
        names = list(changed)
        changed[names[hash(key) % len(names)]] = value
        told(dialect, json.dumps(changed).encode(), json.dumps(value).encode(), message[: len(message) // 2])


def test_both_formats_are_one_and_options_are_refused():
    for name in ("panda-json", "panda-json-maxiv"):
        assert [type(fact) for fact in Interpreter(name).feed([HXN[0]], 0.0)] == [Began]
    with pytest.raises(ConfigError, match=r"options\.frame_number: 'both' is not one of auto, rows, messages"):
        Interpreter("panda-json", {"frame_number": "both"})
