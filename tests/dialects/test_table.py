"""Positions as lines of numbers or as JSON, from senders of all habits."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamptycho.dialects.door import Interpreter
from streamptycho.dialects.table.fields import TableCsv, TableJson
from streamptycho.errors import ConfigError, ProtocolError
from streamptycho.messages.facts import Began, Ended, Fact, Learned, Samples
from streamptycho.messages.reasons import EndReason
from tests.dialects.hearing import told


def only(kind: type, facts: list[Fact]) -> list[Any]:
    return [fact for fact in facts if isinstance(fact, kind)]


def places(facts: list[Fact], run: str = "", y: str = "y", x: str = "x") -> list[tuple[int, float, float]]:
    """(number, y, x) of all rows; NaN is -99."""
    rows = []
    for fact in facts:
        if isinstance(fact, Samples) and fact.run == run:
            assert set(fact.columns) == {y, x}
            numbers = range(fact.first, fact.first + len(fact)) if fact.number is None else fact.number.tolist()
            pairs = np.nan_to_num(np.stack([fact.columns[y], fact.columns[x]], axis=1), nan=-99.0).tolist()
            rows += [(number, *pair) for number, pair in zip(numbers, pairs, strict=True)]
    return rows


PLACES = [(3, -2.0, 1.5), (4, -2.5, 2e-3)]


def test_lines_with_a_header():
    facts = told(TableCsv(), b"index, x [um], y [um]\n3, 1.5, -2\n4,2e-3,-2.5")
    began, samples = facts
    assert isinstance(began, Began)
    assert (began.run, began.in_middle) == ("", False)
    assert began.parts.columns == ("y", "x")
    assert began.parts.units == {"x": "um", "y": "um"}
    assert samples.number.tolist() == [3, 4]
    assert places(facts) == PLACES


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "# index x,y\n# index,x,y\n3,1.5,-2\n# a remark\n4,2e-3,-2.5\n"),
        ({"columns": "index, x, y"}, "3,1.5,-2\r\n\r\n4,2e-3,-2.5\r\n"),
        ({"columns": "y,index,x"}, '"-2","3","1.5"\n-2.5,4,2e-3'),
        ({"columns": "index,x,y", "delimiter": ""}, "  3 1.5\t-2\n4   2e-3 -2.5"),
        ({"columns": "n,x,y,t", "index": "n", "delimiter": ";"}, "3;1.5;-2;never\n4;2e-3;-2.5;\n"),
    ],
)
def test_lines_in_other_shapes(options: dict[str, str], text: str):
    facts = told(TableCsv(**options), text.encode())
    assert not only(ProtocolError, facts)
    assert places(facts) == PLACES


@given(st.data())
def test_boundaries_mean_nothing_in_a_stream(data: st.DataObject):
    text = b"BEGIN scan 7\nindex,x,y\n3,1.5,-2\n4,2e-3,-2.5\nEND 2\n"
    cuts = sorted(data.draw(st.sets(st.integers(1, len(text) - 1), max_size=9)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    facts = told(TableCsv(start="BEGIN", end="END", stream=True), *pieces)
    assert places(facts, "scan 7") == PLACES
    assert [(end.run, end.count, end.reason) for end in only(Ended, facts)] == [("scan 7", 2, EndReason.COMPLETE)]
    assert not only(ProtocolError, facts)


def test_a_line_that_was_begun_on_a_broken_connection_is_lost():
    dialect = TableCsv(columns="index,x,y", stream=True)
    told(dialect, b"3,1.5,-2\n4,2e")
    list(dialect.restarted(1.0))
    assert places(told(dialect, b"5,6,7\n")) == [(5, 7.0, 6.0)]


def test_rows_without_an_index_are_counted_and_keep_their_places():
    facts = told(TableCsv(columns="x,y"), b"1,2\n3\n", b"5,6\n")
    assert places(facts) == [(0, 2.0, 1.0), (1, -99.0, -99.0), (2, 6.0, 5.0)]
    doubts = [doubt for fact in only(Learned, facts) for doubt in fact.parts.doubts]
    assert "name its field in options.index" in doubts[0]
    assert doubts[1].startswith("1 of 2 rows have no position, the first of them number 1")
    assert [str(error) for error in only(ProtocolError, facts)] == [
        "table: 1 of 2 rows have not 2 columns, as '3': not used"
    ]


def test_one_nan_refuses_no_block():
    facts = told(TableCsv(columns="index,x,y"), b"0,1,2\n1,nan,nan\n2,,4\n3,far,6\n4,7,8\n", b"5,nan,1\n")
    assert places(facts) == [(0, 2, 1), (1, -99, -99), (2, 4, -99), (3, 6, -99), (4, 8, 7), (5, 1, -99)]
    assert [str(error) for error in only(ProtocolError, facts)] == ["table.x: 1 of 5 are no numbers, as 'far': left empty"]
    assert len(only(Learned, facts)) == 1, "told once"


def test_an_index_that_is_none_is_left_out_and_told():
    facts = told(TableCsv(columns="index,x,y"), b"1.5,1,2\nnan,1,2\n-1,3,4\n1e30,1,2\n")
    assert places(facts) == [(-1, 4.0, 3.0)]
    assert [error.field for error in only(ProtocolError, facts)] == ["table.index"]


def test_a_column_tells_runs_apart():
    facts = told(TableCsv(columns="run,index,x,y", run="run"), b"a,0,1,2\na,1,3,4\nb,0,5,6\n", b"b,1,7,8\n")
    assert places(facts, "a") == [(0, 2.0, 1.0), (1, 4.0, 3.0)]
    assert places(facts, "b") == [(0, 6.0, 5.0), (1, 8.0, 7.0)]
    assert [(fact.run, fact.reason) for fact in only(Ended, facts)] == [("a", EndReason.COMPLETE)]


def test_starts_and_ends_that_are_missing_are_told():
    facts = told(TableCsv(columns="index,x,y", start="S", end="E"), b"7,1,2\nS two\n0,1,2\nS three\nE\nE\n")
    assert [(fact.run, fact.in_middle) for fact in only(Began, facts)] == [("", True), ("two", False), ("three", False)]
    assert [fact.reason.value for fact in only(Ended, facts)] == ["incomplete", "incomplete", "complete"]
    assert "start the receiver earlier" in str(only(ProtocolError, facts)[0])


@pytest.mark.parametrize(
    ("options", "text", "said"),
    [
        ({}, b"1,2,3\n", "'1,2,3' has come before any header line; send one, or set options.columns = 'index,x,y'"),
        ({"index": "n"}, b"x,y\n1,2\n", "table.index: no column 'n' in 'x, y'; correct options.index"),
        ({"run": "n"}, b"x,y\n1,2\n", "table.run: no column 'n'"),
        ({"stream": True}, b"1" * 70_000, "no end of line in 65536 bytes"),
        ({}, b"1" * (9 << 20), "at most 8388608 are accepted"),
        ({}, b"\xff\x00,\n", "has come before any header line"),
    ],
)
def test_what_cannot_be_lines_is_told_with_a_remedy(options: dict[str, Any], text: bytes, said: str):
    dialect = TableCsv(**options)
    (error,) = told(dialect, text)
    assert said in str(error)
    assert len(str(error)) < 300


def test_what_follows_lines_that_cannot_be_read_is_read():
    facts = told(TableCsv(), b"1,2,3\nindex,x,y\n3,1.5,-2\n4,2e-3,-2.5\n")
    assert len(only(ProtocolError, facts)) == 1
    assert places(facts) == PLACES


# JSON


@pytest.mark.parametrize(
    ("options", "messages"),
    [
        ({}, [{"index": 3, "x": 1.5, "y": -2}, {"index": "4", "x": "2e-3", "y": "-2.5"}]),
        ({}, [{"index": [3, 4], "x": [1.5, 2e-3], "y": [-2, -2.5], "name": "abc"}]),
        ({}, [[{"index": 3, "x": 1.5, "y": -2}, {"index": 4, "x": 2e-3, "y": -2.5}]]),
        ({"x": "pos.x", "y": "pos.y", "index": "n"}, [{"n": [3, 4], "pos": {"x": [1.5, 2e-3], "y": [-2, -2.5]}}]),
    ],
)
def test_json_in_its_shapes(options: dict[str, str], messages: list[Any]):
    facts = told(TableJson(**options), *(json.dumps(message).encode() for message in messages))
    assert not only(ProtocolError, facts)
    assert places(facts, "", options.get("y", "y"), options.get("x", "x")) == PLACES
    assert only(Began, facts)[0].parts.columns == (options.get("y", "y"), options.get("x", "x"))


def test_a_dot_may_belong_to_the_name():
    dialect = TableJson(x="INENC2.VAL", y="INENC1.VAL", index="n")
    facts = told(dialect, b'{"n": [3, 4], "INENC2.VAL": [1.5, 0.002], "INENC1.VAL": [-2, -2.5]}')
    assert places(facts, "", "INENC1.VAL", "INENC2.VAL") == PLACES


def test_json_with_starts_ends_units_and_runs():
    dialect = TableJson(kind="type", start="begin", end="done", run="id", count="sent", unit_field="unit")
    facts = told(
        dialect,
        b'{"type": "begin", "id": 7, "unit": "nm"}',
        b'{"type": "point", "index": [3, 4, 5], "x": [1.5, 0.002, null], "y": [-2, -2.5, NaN], "id": 7}',
        b'{"type": "done", "id": 7, "sent": 3}',
    )
    began, end = only(Began, facts)[0], only(Ended, facts)[0]
    assert (began.run, began.parts.units, began.in_middle) == ("7", {"x": "nm", "y": "nm"}, False)
    assert places(facts, "7") == [*PLACES, (5, -99.0, -99.0)]
    assert (end.run, end.count, end.reason) == ("7", 3, EndReason.COMPLETE)


def test_a_unit_that_comes_with_the_rows_is_learned():
    facts = told(TableJson(unit_field="u"), b'{"index": 0, "x": 1, "y": 2}', b'{"index": 1, "x": 1, "y": 2, "u": "mm"}')
    assert [fact.parts.units for fact in only(Learned, facts)] == [{"x": "mm", "y": "mm"}]


def test_json_lines_of_a_stream():
    text = b'{"index": 3, "x": 1.5, "y": -2}\n{"index": 4, "x": 2e-3, "y": -2.5}\n'
    assert places(told(TableJson(stream=True), *(bytes([byte]) for byte in text))) == PLACES
    facts = told(TableJson(stream=True), b"nonsense\n" + text)
    assert [error.field for error in only(ProtocolError, facts)] == ["table"]
    assert places(facts) == PLACES


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (b"nonsense", "table: not JSON"),
        (b"[" * 100_000, "table: not JSON"),
        (b"3", "table: a int, not an object"),
        (b'{"X": 1, "y": 2}', "table.x: no field 'x'; it has 'X, y': correct options.x or options.kind"),
        (b'{"x": 1}', "table.y: no field 'y'"),
        (b'{"x": [1, 2], "y": 1}', "table: 2 of x and 1 of y; each position needs one of each"),
        (b'{"x": 1, "y": 1, "index": [1, 2]}', "table: 1 of x and 1 of y for 2 indices"),
        (b'{"x": {"a": 1}, "y": 1}', "table.x: has something that is no number"),
        (b'{"x": [[1]], "y": 1}', "table.x: "),
    ],
)
def test_what_cannot_be_json_rows_is_told_with_a_remedy(message: bytes, said: str):
    (error,) = told(TableJson(), message)
    assert str(error).startswith(said)
    assert len(str(error)) < 300


def test_an_empty_block_says_nothing_wrong():
    assert not only(Samples, told(TableJson(), b'{"x": [], "y": []}'))


@given(st.lists(st.binary(max_size=60), max_size=6), st.booleans())
def test_bytes_of_any_kind_raise_nothing_else(messages: list[bytes], stream: bool):
    for dialect in (TableCsv(start="S", stream=stream), TableJson(kind="k", stream=stream)):
        told(dialect, *messages, b"index,x,y\n", *(b"3,1" + message for message in messages))
        list(dialect.tick(1.0))


def test_topics_are_skipped():
    facts = list(TableJson().feed([b"positions", b'{"index": 3, "x": 1.5, "y": -2}'], 0.0))
    assert places(facts) == PLACES[:1]


def test_options_that_cannot_be_are_refused():
    with pytest.raises(ConfigError, match=r"options\.columns: 'index,a,y' has no column 'x'; correct it or options\.x"):
        Interpreter("table-csv", {"columns": "index,a,y"})
    with pytest.raises(ConfigError, match=r"options\.x: 'y' and options\.y: 'y' must be the names of two fields"):
        Interpreter("table-json", {"x": "y"})
    with pytest.raises(ConfigError, match=r"options\.colour: the dialect table-json has no such option; it has x, y, index"):
        Interpreter("table-json", {"colour": "red"})
