"""The data port of a PandA: bytes written down by hand, cut and spoilt in every way; then a server over TCP."""

import socket
import struct
import time
import tracemalloc
from collections.abc import Callable, Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamptycho.compose.options import Role
from streamptycho.dialects.door import Interpreter
from streamptycho.dialects.panda.port import HOLD_S, REJOIN_S, Panda
from streamptycho.errors import ConfigError, ProtocolError
from streamptycho.messages.facts import Began, Ended, Fact, Learned, Samples
from streamptycho.messages.reasons import EndReason
from streamptycho.sources.listener import listen
from streamptycho.sources.options import DetectorEndpoint
from streamptycho.wire.sockets import new_context
from streamptycho_sim.formats import panda as sim

ARMED = "2024-03-05T20:27:12.607841574Z"
ARMED_NS = 1_709_670_432_607_841_574
WAIT_S = 20.0


def header(
    fields: str,
    process: str = "Scaled",
    form: str = 'format="Framed" sample_bytes="{}"',
    size: int = 20,
    *,
    missed: int | str = 0,
    armed: str = ARMED,
) -> bytes:
    data = f'<data arm_time="{armed}" missed="{missed}" process="{process}" {form.format(size)} />'
    return f"<header>\n{data}\n<fields>\n{fields}</fields>\n</header>\n\n".encode()


COUNT = '<field name="PCAP.SAMPLES" type="uint32" capture="Value" />\n'
SCALED = COUNT + (
    '<field name="INENC1.VAL" type="double" capture="Mean" scale="0.001" offset="5" units="um" />\n'
    '<field name="INENC2.VAL" type="double" capture="Value" scale="0.001" offset="0" units="n&quot;m" />\n'
)
RAW = SCALED.replace('"double" capture="Mean"', '"int64" capture="Mean"').replace('"double"', '"int32"')
ROWS = [(125, 1.5, -2.0), (125, 1.75, -2.5), (0, 9.0, -3.0)]
"""Of SCALED; the last has no encoder value, and so no mean."""


def block(*rows: tuple, form: str = "<Idd") -> bytes:
    body = b"".join(struct.pack(form, *row) for row in rows)
    return b"BIN " + struct.pack("<I", 8 + len(body)) + body


RUN = header(SCALED) + block(*ROWS[:2]) + block(ROWS[2]) + b"END 3 Ok\n"


def told(dialect: Panda, *pieces: bytes, now_s: float = 0.0) -> list[Fact]:
    return [fact for piece in pieces for fact in dialect.feed([memoryview(piece)], now_s)]


def table(facts: Iterable[Fact], run: str = ARMED) -> dict[str, list[float]]:
    """All rows in their places, with 0 where none has come; NaN is -1."""
    found: dict[str, dict[int, float]] = {}
    for fact in facts:
        if isinstance(fact, Samples) and fact.run == run:
            for name, column in fact.columns.items():
                assert column.dtype == np.float64
                for i, value in enumerate(np.nan_to_num(column, nan=-1.0).tolist(), fact.first):
                    assert i not in found.setdefault(name, {}), "a row was told twice"
                    found[name][i] = value
    return {name: [rows.get(i, 0.0) for i in range(max(rows) + 1)] for name, rows in found.items()}


def only(kind: type, facts: Iterable[Fact]) -> list:
    return [fact for fact in facts if isinstance(fact, kind)]


EXPECTED = {
    "PCAP.SAMPLES.Value": [125.0, 125.0, 0.0],
    "INENC1.VAL.Mean": [1.5, 1.75, -1.0],
    "INENC2.VAL.Value": [-2.0, -2.5, -3.0],
}


def test_a_capture_by_the_byte():
    dialect = Panda()
    assert dialect.greeting == b"XML FRAMED SCALED\n"
    facts = told(dialect, b"OK\n", RUN)
    began, samples, doubt, end = facts
    assert isinstance(began, Began)
    assert (began.run, began.in_middle) == (ARMED, False)
    assert began.parts.started_ns == ARMED_NS
    assert began.parts.units == {"INENC1.VAL.Mean": "um", "INENC2.VAL.Value": 'n"m'}
    assert began.parts.metadata == {"panda_arm_time": ARMED}
    assert began.parts.doubts == ()
    assert isinstance(samples, Samples)
    assert table(facts) == EXPECTED
    assert isinstance(doubt, Learned)
    assert "1 of the rows 0 to 2 have no mean" in doubt.parts.doubts[0]
    assert isinstance(end, Ended)
    assert (end.run, end.reason, end.count, end.detail) == (ARMED, EndReason.COMPLETE, 3, "")


def test_several_captures_on_one_connection():
    second = RUN.replace(ARMED.encode(), b"2024-03-05T21:00:00Z")
    facts = told(Panda(), b"OK\n" + RUN + second + RUN)
    assert [fact.run for fact in only(Began, facts)] == [ARMED, "2024-03-05T21:00:00Z", ARMED]
    assert table(facts, "2024-03-05T21:00:00Z") == EXPECTED
    assert [fact.count for fact in only(Ended, facts)] == [3, 3, 3]


@given(st.data())
def test_boundaries_mean_nothing(data: st.DataObject):
    stream = b"OK\n" + RUN + header(SCALED, form='format="ASCII"') + b" 125 1 2\n 125 3 4\nEND 2 Disarmed\n"
    cuts = sorted(data.draw(st.sets(st.integers(1, len(stream) - 1), max_size=12)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    facts = told(Panda(), *pieces)
    first, second = only(Ended, facts)
    at = facts.index(first)
    assert table(facts[:at]) == EXPECTED
    assert table(facts[at:])["INENC1.VAL.Mean"] == [1.0, 3.0]
    assert (first.count, second.count, second.detail) == (3, 2, "Disarmed")
    assert not only(ProtocolError, facts)


def test_byte_by_byte():
    facts = told(Panda(), *(bytes([byte]) for byte in b"OK\n" + RUN))
    assert table(facts) == EXPECTED
    assert [type(fact) for fact in facts if not isinstance(fact, Samples)] == [Began, Learned, Ended]


def test_text_rows():
    text = header(SCALED, form='format="ASCII"') + b" 125 1.5 -2\n 125 1.75 -2.5\n 0 -nan -3\nEND 3 Ok\n"
    dialect = Panda(transport="ascii")
    assert dialect.greeting == b"XML ASCII SCALED\n"
    assert table(told(dialect, b"OK\n" + text)) == EXPECTED


def test_a_text_row_that_cannot_be_read_keeps_its_number():
    text = header(SCALED, form='format="ASCII"') + b" 1 1 1\n 1 x 2\n 1 2\n 1 3 3\nEND 4 Ok\n"
    facts = told(Panda(), b"OK\n" + text)
    assert table(facts)["INENC2.VAL.Value"] == [1.0, -1.0, -1.0, 3.0]
    (error,) = only(ProtocolError, facts)
    assert str(error).startswith("panda.row: 2 of 4 are not 3 numbers, as b' 1 x 2'")


@pytest.mark.parametrize("hidden", [False, True])
def test_raw_sums_are_divided_by_their_number(hidden: bool):
    """Servers before 2.1 send the number without announcing it."""
    rows = [(4, -3000, 4 * 7000), (2, 500, 2 * -8000), (0, 0, 0)]
    fields = RAW.replace(COUNT, "") if hidden else RAW
    fields = fields.splitlines()
    fields = (
        "\n".join([*([] if hidden else [fields[0]]), fields[-1], fields[-2]]) + "\n"
    )  # int32 before int64, as a server has it
    dialect = Panda(process="raw")
    assert dialect.greeting == b"XML FRAMED RAW\n"
    stream = header(fields, "Raw", size=16) + block(*rows, form="<Iiq") + b"END 3 Ok\n"
    facts = told(dialect, b"OK\n" + stream)
    assert table(facts)["INENC1.VAL.Mean"] == pytest.approx([5 + 7.0, 5 - 8.0, -1.0])
    assert table(facts)["INENC2.VAL.Value"] == pytest.approx([-3.0, 0.5, 0.0])
    assert only(Began, facts)[0].parts.units["INENC1.VAL.Mean"] == "um"


def test_integers_without_a_certain_meaning_are_left_out_and_told():
    fields = RAW.replace("int64", "int32")
    facts = told(Panda(process="unscaled"), b"OK\n" + header(fields, "Unscaled", size=12) + block((4, 7, 8), form="<Iii"))
    assert table(facts) == {"PCAP.SAMPLES.Value": [4.0], "INENC2.VAL.Value": [0.008]}
    (doubt,) = only(Began, facts)[0].parts.doubts
    assert "INENC1.VAL.Mean" in doubt
    assert "set options.process to 'scaled'" in doubt
    squares = RAW + '<field name="INENC1.VAL" type="int96" capture="StdDev" scale="1" offset="0" units="" />\n'
    body = block((4, 4000, 8, 1, 2, 3), form="<IqiIII")
    facts = told(Panda(process="raw"), b"OK\n" + header(squares, "Raw", size=28) + body + b"END 1 Ok\n")
    assert table(facts) == {"PCAP.SAMPLES.Value": [4.0], "INENC1.VAL.Mean": [6.0], "INENC2.VAL.Value": [0.008]}


@pytest.mark.parametrize("reason", ["Data overrun", "Framing error", "DMA data error"])
def test_the_last_block_of_a_failed_raw_capture_is_left_out(reason: str):
    stream = header(RAW, "Raw", size=16) + block((1, 1, 1), (1, 2, 2), form="<Iqi") + block((7, 7, 7), form="<Iqi")
    facts = told(Panda(process="raw"), b"OK\n" + stream, f"END 3 {reason}\n".encode())
    assert table(facts)["INENC2.VAL.Value"] == [0.001, 0.002]
    end = facts[-1]
    assert (end.reason, end.count) == (EndReason.INCOMPLETE, 3)
    assert end.detail == f"{reason}; the last block, of 1 rows, may be spoilt and is left out"
    assert not only(ProtocolError, facts)
    scaled = told(Panda(), b"OK\n" + header(SCALED) + block(*ROWS) + f"END 3 {reason}\n".encode())
    assert len(table(scaled)["INENC2.VAL.Value"]) == 3, "what the server converts is not spoilt"
    assert scaled[-1].detail == reason


def test_a_raw_block_is_not_held_for_long():
    dialect = Panda(process="raw")
    facts = told(dialect, b"OK\n" + header(RAW, "Raw", size=16) + block((1, 1, 1), form="<Iqi"), now_s=5.0)
    assert not only(Samples, facts)
    assert not list(dialect.tick(5.0 + 0.9 * HOLD_S))
    (late,) = dialect.tick(5.0 + HOLD_S)
    assert (late.first, len(late)) == (0, 1)
    facts = told(dialect, block((1, 2, 2), form="<Iqi") + b"END 2 Disarmed\n", now_s=7.0)
    assert [(fact.first, len(fact)) for fact in only(Samples, facts)] == [(1, 1)]
    assert facts[-1].reason is EndReason.COMPLETE


def test_rows_of_a_late_connection_have_their_numbers():
    facts = told(Panda(), b"OK\n" + header(SCALED, missed=100) + block(*ROWS) + b"END 3 Ok\n")
    began, samples = facts[:2]
    assert began.in_middle
    assert "the first 100 rows of the PandA are lost" in began.parts.doubts[0]
    assert samples.first == 100
    assert facts[-1].count == 103, "what was missed is missing"


def test_a_count_that_does_not_agree_is_told():
    (error,) = only(ProtocolError, told(Panda(), b"OK\n" + RUN.replace(b"END 3", b"END 4")))
    assert str(error).startswith("panda.END: 4 rows, but 3 have come")


# connections that break


def test_a_capture_goes_on_on_a_new_connection_without_repeats():
    dialect = Panda()
    begun = told(dialect, b"OK\n" + header(SCALED) + block(*ROWS[:2]) + block(ROWS[2])[:11])
    assert not list(dialect.restarted(10.0))
    facts = told(dialect, b"OK\n" + header(SCALED, missed=1) + block(*ROWS[1:], (125, 8.0, 8.0)) + b"END 3 Ok\n", now_s=10.5)
    assert not only(Began, facts)
    assert not only(ProtocolError, facts)
    assert table([*begun, *facts])["INENC2.VAL.Value"] == [-2.0, -2.5, -3.0, 8.0]
    assert facts[-1].count == 4
    assert not list(dialect.tick(10.0 + 2 * REJOIN_S))


def test_rows_that_were_lost_while_there_was_no_connection_are_told():
    dialect = Panda()
    told(dialect, b"OK\n" + header(SCALED) + block(*ROWS))
    list(dialect.restarted(10.0))
    learned, samples = told(dialect, b"OK\n" + header(SCALED, missed=7) + block(ROWS[0]))
    assert learned.parts.doubts == ("rows 3 to 6 were lost while there was no connection",)
    assert samples.first == 7


@pytest.mark.parametrize("transport", ["framed", "ascii"])
def test_another_capture_on_a_new_connection_ends_the_old_one(transport: str):
    dialect = Panda(transport=transport)
    told(dialect, b"OK\n" + header(SCALED) + block(*ROWS))
    list(dialect.restarted(10.0))
    ended, began = told(dialect, b"OK\n" + header(SCALED, armed="2024-03-05T21:00:00Z"))
    assert (ended.run, ended.reason, ended.count) == (ARMED, EndReason.INCOMPLETE, None)
    assert ended.detail == "the connection broke before its end"
    assert began.run == "2024-03-05T21:00:00Z"


def test_a_capture_that_ended_while_there_was_no_connection():
    dialect = Panda()
    told(dialect, b"OK\n" + header(SCALED) + block(*ROWS))
    list(dialect.restarted(10.0))
    told(dialect, b"OK\n", now_s=10.1)
    assert not list(dialect.tick(10.0 + 0.9 * REJOIN_S))
    (ended,) = dialect.tick(10.0 + REJOIN_S)
    assert (ended.run, ended.reason) == (ARMED, EndReason.INCOMPLETE)
    assert not list(dialect.tick(100.0))


def test_a_server_without_a_clock():
    facts = told(Panda(), b"OK\n" + header(SCALED, armed="1970-01-01T00:01:05.000Z") + b"END 0 Ok\n")
    assert facts[0].parts.started_ns is None
    assert "clock says '1970-01-01T00:01:05.000Z'" in facts[0].parts.doubts[0]
    facts = told(Panda(), b"OK\n" + RUN.replace(f'arm_time="{ARMED}"'.encode(), b""))
    assert (facts[0].run, facts[0].parts.started_ns, facts[0].parts.doubts) == ("", None, ())


# what no PandA sends


@pytest.mark.parametrize(
    ("stream", "field"),
    [
        (b"ERR Invalid data capture option\n", "panda"),
        (b"SSH-2.0-OpenSSH\n", "panda"),
        (b"x" * 70_000, "panda"),
        (header(SCALED, size=24), "panda.header.sample_bytes"),
        (header(SCALED, size="9" * 50), "panda.header.sample_bytes"),
        (header(SCALED, missed=-1), "panda.header.missed"),
        (header(SCALED, missed="9" * 19), "panda.header.missed"),
        (header(SCALED, "Cooked"), "panda.header.process"),
        (header(SCALED, form='format="Base64" sample_bytes="20"'), "panda.header.format"),
        (header(SCALED.replace("0.001", "one")), "panda.header.fields"),
        (header(SCALED.replace("uint32", "float")), "panda.header.fields"),
        (header(""), "panda.header"),
        (header(COUNT * 300, size=1200), "panda.header"),
        (b'<header>\n<!DOCTYPE a [<!ENTITY b "cc">]>\n</header>\n\n', "panda.header"),
        (b'<header>\n<?xml version="1.0" encoding="utf-7"?>\n</header>\n\n', "panda.header"),
        (b"<header>\n" + b"<a>" * 20_000 + b"\n</header>\n\n", "panda.header"),
        (b"<header>\n\xff\xfe</header>\n\n", "panda.header"),
        (b"<header>\n" + b" " * 70_000, "panda.header"),
        (header(SCALED) + b"BIN \x07\x00\x00\x00", "panda.BIN"),
        (header(SCALED) + b"BIN \xff\xff\xff\xff", "panda.BIN"),
        (header(SCALED) + b"BIN \x0b\x00\x00\x00", "panda.BIN"),
        (header(SCALED) + b"END many Ok\n", "panda"),
        (header(SCALED) + b"END 1\n", "panda"),
        (header(SCALED, form='format="ASCII"') + b" 1 2 3 " * 20_000, "panda"),
    ],
)
def test_it_is_named_and_the_next_capture_is_read(stream: bytes, field: str):
    dialect = Panda()
    facts = told(dialect, b"OK\n" + stream)
    errors = only(ProtocolError, facts)
    assert [error.field for error in errors] == [field]
    assert len(str(errors[0])) < 300
    assert [fact.reason for fact in only(Ended, facts)] == [EndReason.INCOMPLETE] * len(only(Began, facts))
    again = told(dialect, b"any\n" + RUN)
    assert table(again) == EXPECTED
    assert not only(ProtocolError, again), "told once, not for each piece"


@given(st.data())
def test_spoilt_streams_raise_nothing(data: st.DataObject):
    """What comes is told as facts in order: a run begins before its rows, and ends once."""
    stream = bytearray(b"OK\n" + RUN + header(SCALED, form='format="ASCII"') + b" 1 1 1\nEND 1 Ok\n" + RUN)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(stream) - 1))
        match data.draw(st.sampled_from(["flip", "cut", "repeat", "insert"])):
            case "flip":
                stream[at] = data.draw(st.integers(0, 255))
            case "cut":
                del stream[at : at + data.draw(st.integers(1, 60))]
            case "repeat":
                stream[at:at] = stream[at : at + data.draw(st.integers(1, 60))]
            case "insert":
                stream[at:at] = data.draw(st.binary(max_size=20))
        stream = stream or bytearray(b"x")
    dialect = Panda(process=data.draw(st.sampled_from(["scaled", "raw"])))
    middle = data.draw(st.integers(0, len(stream)))
    facts = told(dialect, bytes(stream[:middle]))
    if data.draw(st.booleans()):
        facts += list(dialect.restarted(1.0))
    facts += told(dialect, bytes(stream[middle:])) + list(dialect.tick(2.0)) + list(dialect.tick(50.0))
    running = None
    for fact in facts:
        match fact:
            case Began():
                assert running is None
                running = fact.run
            case Samples() | Learned():
                assert fact.run == running
            case Ended():
                assert fact.run == running
                running = None


def test_no_memory_for_a_number_that_the_bytes_carry():
    dialect = Panda()
    told(dialect, b"OK\n" + header(SCALED, missed=2**61))
    tracemalloc.start()
    told(dialect, b"BIN " + struct.pack("<I", 8 + 20 * 800_000), block(*ROWS)[8:])
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


@pytest.mark.parametrize(
    "piece",
    [b"END 0 Ok\n" + header(COUNT, size=4), b"<header>\n", b" 1\n", b" \n", b"\n", b"OK\n", b"BIN \x08\0\0\0", b"BIN "],
)
@pytest.mark.parametrize("form", ['format="ASCII"', 'format="Framed" sample_bytes="4"'])
def test_the_time_is_that_of_the_bytes(piece: bytes, form: str):
    """A millionth of what quadratic time would be leaves room for slow machines."""
    stream = piece * (500_000 // len(piece))
    begun = time.process_time()
    dialect = Panda()
    told(dialect, b"OK\n" + header(COUNT, form=form), stream)
    assert time.process_time() - begun < 30


def test_options_are_refused_with_the_choices():
    with pytest.raises(ConfigError, match=r"options\.process: 'cooked' is not one of scaled, unscaled, raw"):
        Panda(process="cooked")
    with pytest.raises(ConfigError, match=r"options\.transport: 'base64' is not one of framed, ascii"):
        Interpreter("panda", {"transport": "base64"})


# the server


def received(connection: socket.socket, dialect: Panda, until: type) -> list[Fact]:
    facts: list[Fact] = []
    while not only(until, facts):
        piece = connection.recv(65536)
        assert piece, "the server has hung up"
        facts += told(dialect, piece)
    return facts


@pytest.mark.parametrize(("process", "transport"), [("scaled", "framed"), ("raw", "framed"), ("scaled", "ascii")])
def test_round_trip_with_a_break(process: str, transport: str):
    fields = [sim.Field("INENC1.VAL"), sim.Field("INENC2.VAL", "Value", 1e-6, 2.0, "mm")]
    values = np.stack([np.linspace(-20, 20, 900), np.linspace(2, 2.03, 900)], axis=1)
    dialect = Panda(process, transport)
    with sim.PandaServer(fields, keep=400) as server:
        with socket.create_connection(("127.0.0.1", server.port), WAIT_S) as connection:
            connection.sendall(dialect.greeting)
            assert server.wait_for_clients(1, WAIT_S)
            server.arm()
            server.rows(sim.rows_of(fields, values[:300]))
            facts = received(connection, dialect, Began)
        server.drop()
        server.rows(sim.rows_of(fields, values[300:400]))
        list(dialect.restarted(1.0))
        with socket.create_connection(("127.0.0.1", server.port), WAIT_S) as connection:
            connection.sendall(dialect.greeting)
            assert server.wait_for_clients(1, WAIT_S)
            server.rows(sim.rows_of(fields, values[400:]))
            server.end()
            facts += received(connection, dialect, Ended)
    assert [type(fact) for fact in facts if not isinstance(fact, Samples)] == [Began, Ended]
    assert facts[-1].count == 900
    rows = table(facts, "2026-11-20T10:00:00.250000000Z")
    assert rows["INENC1.VAL.Mean"] == pytest.approx(values[:, 0].tolist(), abs=0.6e-3)
    assert rows["INENC2.VAL.Value"] == pytest.approx(values[:, 1].tolist(), abs=0.6e-6)
    assert facts[0].parts.units == {"INENC1.VAL.Mean": "um", "INENC2.VAL.Value": "mm"}


def test_a_receiver_takes_up_a_capture_again_by_itself():
    fields = [sim.Field("INENC1.VAL"), sim.Field("INENC2.VAL")]
    rows = sim.rows_of(fields, np.arange(1200.0).reshape(600, 2))
    facts: list[Fact] = []
    with new_context() as context, sim.PandaServer(fields) as server:
        endpoints = {Role.POSITIONS: DetectorEndpoint(address=server.address, format="panda")}
        with listen(context, endpoints) as listener:

            def hear(until: Callable[[], object]) -> None:
                deadline = time.monotonic() + WAIT_S
                while not until():
                    assert time.monotonic() < deadline
                    heard = listener.receive(0.02)
                    facts.extend([] if heard is None else [heard.fact])

            hear(lambda: server.wait_for_clients(1, 0))
            server.arm()
            server.rows(rows[:100])
            hear(lambda: only(Samples, facts))
            server.drop()
            server.rows(rows[100:])
            hear(lambda: server.wait_for_clients(1, 0))
            server.end()
            hear(lambda: only(Ended, facts))
    assert server.greetings == [b"XML FRAMED SCALED\n"] * 2
    assert [type(fact) for fact in facts if not isinstance(fact, Samples)] == [Began, Ended]
    assert table(facts, facts[0].run)["INENC2.VAL.Mean"] == pytest.approx(np.arange(1.0, 1200.0, 2).tolist())


def test_the_server_refuses_what_it_does_not_know():
    with (
        sim.PandaServer([sim.Field("A")]) as server,
        socket.create_connection(("127.0.0.1", server.port), WAIT_S) as connection,
    ):
        connection.sendall(b"XML FRAMED COOKED\n")
        (error,) = received(connection, Panda(), ProtocolError)
    assert "the server refuses 'XML FRAMED SCALED'" in str(error)
    assert server.greetings == [b"XML FRAMED COOKED\n"]
