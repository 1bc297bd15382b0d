"""bluesky documents: by hand, in all encodings, with what goes wrong, and from a real RunEngine."""

import os
import pickle
import subprocess
import sys
import time
from collections import OrderedDict
from functools import partial
from pathlib import Path
from typing import Any

import msgpack
import msgpack_numpy
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamptycho.dialects import bluesky_pickle
from streamptycho.dialects.door import Interpreter
from streamptycho.errors import BEGAN_BEFORE, CodecError, ConfigError, ProtocolError
from streamptycho.messages.facts import Began, Ended, Fact, Learned, Place, Samples, StartParts, Stored
from streamptycho.messages.geometry import wavelength_from_ev
from streamptycho.messages.reasons import EndReason
from streamptycho.wire.endpoint import Endpoint, SocketKind
from streamptycho.wire.security import NO_KEYS
from streamptycho.wire.sockets import Inlet, new_context
from streamptycho_sim.formats.bluesky import Scan, as_json, message

HAND = [
    b' start {"uid": "run", "time": 1700000000.5, "scan_id": 7, "plan_name": "grid_scan", "num_points": 4, "sample":'
    b' {"name": "star"}, "hints": {"dimensions": [[["stage_y"], "primary"], [["stage_x"], "primary"]]}}',
    b' descriptor {"uid": "d", "run_start": "run", "name": "primary", "data_keys": {"stage_x": {"dtype": "number",'
    b' "shape": [], "units": "mm"}, "stage_y": {"dtype": "number", "shape": [], "units": "mm"}, "i0": {"dtype": "number",'
    b' "shape": []}}}',
    b' event {"uid": "e1", "descriptor": "d", "seq_num": 1, "data": {"stage_x": 1.0, "stage_y": 2.0, "i0": 3}}',
    b' event {"uid": "e2", "descriptor": "d", "seq_num": 2, "data": {"stage_x": 1.5, "stage_y": null, "i0": 3}}',
    b' event_page {"uid": ["e2"], "descriptor": "d", "seq_num": [2, 3], "data": {"stage_x": [1.6, 2], "stage_y": [2, 3]}}',
    b' stop {"uid": "s", "run_start": "run", "exit_status": "abort", "reason": "beam lost", "num_events": {"primary": 3}}',
]


def facts(messages: list[bytes], **options: Any) -> list[Fact]:
    dialect = Interpreter("bluesky", options)
    return [fact for part in messages for fact in dialect.feed([memoryview(part)], 0.0)]


def learned(found: list[Fact]) -> StartParts:
    parts = StartParts()
    for fact in found:
        if isinstance(fact, Began | Learned):
            parts = fact.parts.over(parts)
    return parts


def samples(found: list[Fact]) -> dict[int, tuple[float, ...]]:
    """Number to the values of the row; the last of a number counts."""
    rows: dict[int, tuple[float, ...]] = {}
    for fact in found:
        if isinstance(fact, Samples):
            assert fact.number is not None
            rows.update(
                zip(fact.number.tolist(), zip(*(c.tolist() for c in fact.columns.values()), strict=True), strict=True)
            )
    return rows


def errors(found: list[Fact]) -> list[str]:
    return [str(fact) for fact in found if isinstance(fact, ProtocolError)]


def test_documents_written_by_hand():
    found = facts(HAND)
    assert isinstance(found[0], Began)
    assert found[0].run == "run"
    parts = learned(found)
    assert (parts.columns, parts.units) == (("stage_y", "stage_x"), {"stage_y": "mm", "stage_x": "mm"})
    assert (parts.expected, parts.started_ns) == (4, 1_700_000_000_500_000_000)
    assert parts.metadata == {"scan_id": 7, "plan_name": "grid_scan", "num_points": 4, "sample": "star"}
    assert samples(found) == {0: (2.0, 1.0), 1: (2.0, 1.6), 2: (3.0, 2.0)}
    assert found[-1] == Ended(run="run", reason=EndReason.ABORTED, count=3, detail="abort: beam lost")
    first_of_two = next(f for f in found if isinstance(f, Samples) and f.number is not None and f.number[0] == 1)
    assert np.isnan(first_of_two.columns["stage_y"]).all()
    assert errors(found) == []


SCAN = Scan(columns={"sy": np.arange(5.0), "sx": np.linspace(-1, 1, 5)})


def _msgpack(doc: dict[str, Any]) -> bytes:
    return msgpack.packb(doc, default=msgpack_numpy.encode)


ENCODINGS = ["json", "msgpack", "pickle2", "pickle3", "pickle4", "pickle5"]


@pytest.mark.parametrize("per_page", [0, 2])
@pytest.mark.parametrize(
    "serialise", [as_json, _msgpack, *(partial(pickle.dumps, protocol=p) for p in (2, 3, 4, 5))], ids=ENCODINGS
)
def test_what_our_publisher_sends_comes_back(serialise: Any, per_page: int):
    messages = [message(doc, b"beamline", serialise) for doc in SCAN.steps(per_page)]
    found = facts(messages, allow_pickle=True, prefix="beamline")
    assert errors(found) == []
    np.testing.assert_array_equal(list(samples(found).values()), np.stack(list(SCAN.columns.values()), axis=1))
    assert found[-1] == Ended(run=SCAN.uid, count=5)
    assert facts(messages, prefix="other") == []


def test_a_pickle_is_refused_unless_it_is_allowed():
    (error,) = errors(facts([message(("start", {"uid": "a"}), serialise=pickle.dumps)]))
    assert "allow_pickle = true" in error
    assert "msgpack" in error


class Bomb:
    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call


def test_a_pickle_that_asks_for_a_program_is_refused_by_its_name(tmp_path: Path):
    mark = tmp_path / "executed"
    for protocol in (2, 3, 4, 5):
        payload = pickle.dumps({"uid": "a", "x": Bomb(os.mkdir, (str(mark),))}, protocol)
        (error,) = errors(facts([b" start " + payload], allow_pickle=True))
        assert "mkdir" in error
        assert "not called" in error
    assert not mark.exists()
    pickle.loads(payload)  # the bomb does work
    assert mark.exists()


@pytest.mark.parametrize(
    ("payload", "names"),
    [
        (pickle.dumps({"a": np.array([{}], object)}), "plain numbers"),
        (pickle.dumps({"a": np.array(["text"])}), "U4"),
        (pickle.dumps({"a": Path("/")}), "Path"),
        (b"\x80\x04}\x8c\x01a\x8c\x08builtins\x8c\x04eval\x93s.", "builtins.eval"),
        (b"\x80\x02cnumpy\n_globals\n.", "numpy._globals"),
        (b"\x80\x04}r\xff\xff\xff\x7f.", "memory"),
        (b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.", "damaged"),
        (b"\x80\x04}\x86.", "damaged"),
        (b"\x80\x04}(\x86.", "damaged"),
        (b"\x80\x04}(K\x01K\x02\x86K\x01u.", "key"),
        (b"\x80\x04}P1\n.", "PERSID"),
        (b"\x80\x04}\x81.", "NEWOBJ"),
    ],
)
def test_pickles_that_are_not_plain_data(payload: bytes, names: str):
    with pytest.raises(CodecError, match=names):
        bluesky_pickle.loads(payload)


def test_a_pickled_array_cannot_claim_more_than_its_bytes():
    payload = pickle.dumps({"a": np.zeros(3)}, 4).replace(b"K\x03\x85", b"J\xff\xff\xff\x7f\x85")
    with pytest.raises(CodecError, match="24 bytes for an array"):
        bluesky_pickle.loads(payload)


def test_a_pickle_that_refers_to_itself_a_thousandfold_takes_no_time():
    nested: Any = ["x"]
    for _ in range(200):
        nested = [nested, nested]
    doc = {"uid": nested, "data": OrderedDict(a=nested)}
    begun = time.perf_counter()
    (error,) = errors(facts([b" start " + pickle.dumps(doc)], allow_pickle=True))
    assert "start.uid: a list" in error
    assert time.perf_counter() - begun < 5


@given(st.integers(0, 5), st.data())
def test_no_mutation_raises_or_is_a_bug(which: int, data: st.DataObject):
    """An Interpreter turns bugs into errors with 'failed with' in them."""
    kinds = [as_json, _msgpack, pickle.dumps]
    documents = [*SCAN.steps(data.draw(st.sampled_from([0, 3]))), *SCAN.flight(Path("/f.h5"), {"sy": "/y", "sx": "/x"})]
    messages = [bytearray(message(doc, b"", kinds[which % 3])) for doc in documents]
    for _ in range(data.draw(st.integers(1, 6))):
        victim = data.draw(st.sampled_from(messages))
        at = data.draw(st.integers(0, len(victim) - 1)) if victim else 0
        how = data.draw(st.sampled_from(["set", "cut", "insert"]))
        if how == "set" and victim:
            victim[at] = data.draw(st.integers(0, 255))
        elif how == "cut":
            del victim[at:]
        else:
            victim[at:at] = data.draw(st.binary(max_size=4))
    data.draw(st.randoms(use_true_random=False)).shuffle(messages)
    found = facts([bytes(part) for part in messages], allow_pickle=True)
    assert [error for error in errors(found) if "failed with" in error] == []


VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["run", "d", "primary"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["start", "stop", "shape", "a"]), inner),
    max_leaves=6,
)


@given(st.data())
def test_no_value_in_any_field_is_a_bug(data: st.DataObject):
    scan = Scan(columns=SCAN.columns, uid="run")
    documents = [*scan.steps(2), *scan.flight(Path("/f.h5"), {"sy": "/y", "sx": "/x"})]
    _, doc = data.draw(st.sampled_from(documents))
    target: Any = doc
    while isinstance(target, dict) and target:
        key = data.draw(st.sampled_from(sorted(target)))
        if not isinstance(target[key], dict) or data.draw(st.booleans()):
            target[key] = data.draw(VALUE)
            break
        target = target[key]
    found = facts([message(document, b"", as_json) for document in documents], frames="sy", energy="a.b eV")
    assert [error for error in errors(found) if "failed with" in error] == []


def test_a_fly_scan_names_rows_once_all_columns_have_them():
    found = facts([message(doc) for doc in SCAN.flight(Path("/data/a b.h5"), {"sy": "/y", "sx": "/x"}, per_datum=3)])
    assert errors(found) == []
    stored = [fact for fact in found if isinstance(fact, Stored)]
    assert [(fact.first, fact.count) for fact in stored] == [(0, 3), (3, 2)]
    assert stored[1].columns["sx"] == Place(path="/data/a b.h5", dataset="/x", row=3)


def _datum(key: str, at: int, first: int, count: int) -> dict[str, Any]:
    spans = {"indices": {"start": at, "stop": at + count}, "seq_nums": {"start": first + 1, "stop": first + 1 + count}}
    return {"stream_resource": f"{SCAN.uid}-{key}", "descriptor": f"{SCAN.uid}-primary", **spans}


def test_rows_of_one_column_alone_are_told():
    head = [
        message(doc)
        for doc in SCAN.flight(Path("/f.h5"), {"sy": "/y", "sx": "/x"})
        if doc[0] not in ("stream_datum", "stop")
    ]
    tail = [("stream_datum", _datum(*of)) for of in (("sy", 0, 0, 4), ("sx", 10, 2, 5), ("sy", 20, 6, 2))]
    found = facts([*head, *map(message, [*tail, SCAN.stop()])])
    stored = [
        (fact.first, fact.count, fact.columns["sy"].row, fact.columns["sx"].row)
        for fact in found
        if isinstance(fact, Stored)
    ]
    assert stored == [(2, 2, 2, 10), (6, 1, 20, 14)]
    assert len(errors(found)) == 3
    assert "rows 0 to 1 of sy" in errors(found)[0]
    assert "rows 4 to 5 of sx" in errors(found)[1]
    assert "rows 7 to 7 of sy" in errors(found)[2]


def test_several_exposures_for_each_event_are_as_many_rows():
    keys = {name: {"dtype": "array", "shape": [10], "external": "STREAM:"} for name in ("sy", "sx")}
    frames = {"det": {"dtype": "array", "shape": [10, 64, 32], "external": "STREAM:"}}
    descriptor = {"uid": f"{SCAN.uid}-primary", "run_start": SCAN.uid, "name": "primary", "data_keys": keys | frames}
    resources = [
        {
            "uid": f"{SCAN.uid}-{k}",
            "run_start": SCAN.uid,
            "data_key": k,
            "uri": "file:///f.h5",
            "parameters": {"dataset": f"/{k}"},
        }
        for k in ("sy", "sx", "det")
    ]
    documents = [SCAN.start(), ("descriptor", descriptor), *(("stream_resource", resource) for resource in resources)]
    documents += [("stream_datum", _datum(key, 2, 1, 3)) for key in ("sy", "sx", "det")]
    found = facts([message(doc) for doc in [*documents, SCAN.stop()]], frames="det")
    assert errors(found) == []
    columns, pictures = (fact for fact in found if isinstance(fact, Stored))
    assert (columns.first, columns.count, columns.columns["sy"].row) == (10, 30, 20)
    assert pictures == Stored(run=SCAN.uid, first=10, count=30, frames=Place(path="/f.h5", dataset="/det", row=20))
    assert found[-1] == Ended(run=SCAN.uid, count=50)


def test_energy_and_distance_from_where_they_are_named():
    scan = Scan(columns=SCAN.columns, extra={"detector": {"distance": 2.5}})
    documents = [scan.start(), *scan.baseline({"mono": (6.2, "keV"), "odd": (6.2, "furlong")}), scan.stop()]
    messages = [message(doc) for doc in documents]
    parts = learned(facts(messages, energy="mono", distance="detector.distance m"))
    assert parts.wavelength_m == pytest.approx(wavelength_from_ev(6200))
    assert parts.distance_m == 2.5
    for option, words in (("odd", "no known unit"), ("mono eV", "correct"), ("detector.distance", "no known unit")):
        parts = learned(facts(messages, energy=option))
        assert parts.wavelength_m is None
        assert words in parts.doubts[0]


def test_what_may_be_flipped_is_not_guessed():
    slow_fast = Scan(columns={"samx": np.arange(3.0), "samz": np.arange(3.0)})
    parts = learned(facts([message(doc) for doc in slow_fast.steps()]))
    assert parts.columns is None
    assert "set options.columns = 'y,x'" in parts.doubts[0]
    found = facts([message(doc) for doc in slow_fast.steps()], columns="samz,samx")
    assert learned(found).columns == ("samz", "samx")
    assert learned(facts([message(doc) for doc in slow_fast.steps()], columns="a,samx")).doubts
    x_first = Scan(columns={"ssx_rb": np.arange(3.0), "ssy_rb": np.arange(3.0)})
    assert learned(facts([message(doc) for doc in x_first.steps()])).columns == ("ssy_rb", "ssx_rb")


def test_a_run_that_is_heard_from_its_middle():
    found = facts(HAND[1:], columns="stage_y,stage_x")
    assert isinstance(found[0], Began)
    assert found[0].in_middle
    assert samples(found)[0] == (2.0, 1.0)
    for first in (2, 4, 5):  # an event, a page, the end
        (missed, *_) = (fact for fact in facts(HAND[first:]) if isinstance(fact, ProtocolError))
        assert missed.reason == BEGAN_BEFORE
        assert missed.detail.startswith("documents of a run that began before")
    assert facts(HAND[-1:])[-1] == Ended(run="run", reason=EndReason.ABORTED, count=3, detail="abort: beam lost")
    unknown = [HAND[0], HAND[2]]
    assert "what describes these values was missed" in errors(facts(unknown))[0], "its beginning was seen"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"columns": "y"}, "columns"),
        ({"columns": 3}, "quotes"),
        ({"energy": "e parsec"}, "parsec"),
        ({"allow_pickle": "yes"}, "allow_pickle"),
        ({"path_map": "/a"}, "path_map"),
        ({"colums": "y,x"}, "no such option"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], words: str):
    with pytest.raises(ConfigError, match=words):
        Interpreter("bluesky", options)


def test_files_are_where_this_machine_has_them():
    messages = [message(doc) for doc in SCAN.flight(Path("/theirs/x/f.h5"), {"sy": "/y", "sx": "/x"})]
    (stored,) = (fact for fact in facts(messages, path_map="/theirs=/ours") if isinstance(fact, Stored))
    assert stored.columns["sy"].path == "/ours/x/f.h5"
    bad = [part.replace(b"file://localhost/theirs/x", b"s3://bucket") for part in messages]
    assert "only file://" in errors(facts(bad))[0]


class Done:
    """A status of a move that is over."""

    done = success = True

    def add_callback(self, call: Any) -> None:
        call(self)

    def exception(self, timeout: float = 0.0) -> None:
        return None


class Motor:
    """As little of a device as a plan needs."""

    parent = None

    def __init__(self, name: str) -> None:
        self.name, self.position = name, 0.0
        self.hints = {"fields": [name]}

    def set(self, position: float) -> Done:
        self.position = float(position)
        return Done()

    def read(self) -> dict[str, Any]:
        return {self.name: {"value": self.position, "timestamp": time.time()}}

    def describe(self) -> dict[str, Any]:
        return {self.name: {"dtype": "number", "shape": [], "source": "sim", "units": "um"}}

    def read_configuration(self) -> dict[str, Any]:
        return {}

    describe_configuration = read_configuration

    def trigger(self) -> Done:
        return Done()


PROXY = """
from bluesky.callbacks.zmq import Proxy
proxy = Proxy("127.0.0.1", "127.0.0.1")
print(proxy.in_port, proxy.out_port, flush=True)
proxy.start()
"""


def heard(inward: str, outward: str, serialise: Any) -> list[Fact]:
    """Facts of a grid scan that a RunEngine publishes to a proxy with these addresses."""
    run_engine, plans = pytest.importorskip("bluesky.run_engine"), pytest.importorskip("bluesky.plans")
    over_zmq = pytest.importorskip("bluesky.callbacks.zmq")
    endpoint = Endpoint(address=outward, socket=SocketKind.SUB)
    with new_context(NO_KEYS) as context, Inlet(context, endpoint, linger_s=0) as inlet:
        publisher = over_zmq.Publisher(inward, prefix=b"sim", serializer=serialise)
        while inlet.poll(0.1) is None:  # until both have found the proxy
            publisher("start", {"uid": "hello"})
        engine = run_engine.RunEngine({"sample": "star"})
        engine.subscribe(publisher)
        y, x = Motor("stage_y"), Motor("stage_x")
        engine(plans.grid_scan([Motor("i0")], y, -1, 1, 3, x, 0, 3, 4, snake_axes=False))
        dialect, found = Interpreter("bluesky", {"allow_pickle": serialise is pickle.dumps}), list[Fact]()
        while not any(isinstance(fact, Ended) for fact in found):
            parts = inlet.poll(60)
            assert parts is not None
            found += dialect.feed(parts, 0.0)
        publisher.close()
    engine.loop.call_soon_threadsafe(engine.loop.stop)
    engine._th.join()
    engine.loop.close()
    return found


@pytest.mark.parametrize("serialise", [_msgpack, pickle.dumps])
def test_a_real_run_engine_through_a_real_proxy(serialise: Any):
    """A grid scan of simulated motors, heard as everybody hears it."""
    pytest.importorskip("bluesky")
    with subprocess.Popen([sys.executable, "-c", PROXY], stdout=subprocess.PIPE, text=True) as proxy:
        try:
            assert proxy.stdout is not None
            found = heard(*proxy.stdout.readline().split(), serialise)
        finally:
            proxy.kill()
    assert errors(found) == []
    parts = learned([fact for fact in found if getattr(fact, "run", "") != "hello"])
    assert (parts.columns, parts.units["stage_x"], parts.expected) == (("stage_y", "stage_x"), "um", 12)
    assert parts.metadata["sample"] == "star"
    expected = {4 * i + j: (i - 1.0, float(j)) for i in range(3) for j in range(4)}
    assert samples(found) == expected
    assert found[-1].count == 12
