"""The door for detectors: foreign messages become ours, and no dialect can do harm to what follows."""

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from streamptycho.config import Config, load
from streamptycho.dialects import door
from streamptycho.dialects.door import Interpreter, OurDialect, known, make
from streamptycho.errors import CodecError, ConfigError, GrammarError, ProtocolError
from streamptycho.messages.facts import Fact
from streamptycho.messages.stream import Frame, Positions, ScanEnd, ScanStart
from streamptycho.sources.listener import Listener, listen
from streamptycho.sources.options import DetectorEndpoint
from streamptycho.wire.curve import Context
from streamptycho.wire.endpoint import Endpoint, SocketKind
from streamptycho.wire.sockets import Sender, new_context
from tests.hostile import GOOD, parts_of
from tests.scans import only
from tests.strategies import same

EXAMPLE = Path(__file__).resolve().parents[1] / "docs" / "examples" / "dialect_example"
PULL, PUSH = SocketKind.PULL, SocketKind.PUSH
WAIT_S = 10.0


def announce(site: Path, points: dict[str, str], package: str = "some-dialects") -> None:
    """What an installer leaves of a package: its entry points."""
    info = site / f"{package.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n", encoding="utf-8")
    lines = "".join(f"{name} = {value}\n" for name, value in points.items())
    (info / "entry_points.txt").write_text(f"[{door.GROUP}]\n{lines}", encoding="utf-8")


def inlet(name: str, dialect: str = "streamptycho") -> DetectorEndpoint:
    return DetectorEndpoint(address=f"inproc://{name}", socket=PULL, bind=True, format=dialect)


def sender(context: Context, name: str) -> Sender:
    return Sender(context, Endpoint(address=f"inproc://{name}", socket=PUSH))


def facts_of(listener: Listener, count: int = 1) -> list[Fact | None]:
    """The next facts, None for each that does not come."""
    heard = [listener.receive(WAIT_S) for _ in range(count)]
    return [None if one is None else one.fact for one in heard]


def configured(name: str) -> Config:
    frames = {"address": "tcp://127.0.0.1:5555", "socket": "pull", "format": name}
    return load(overrides={f"detector.frames.{key}": value for key, value in frames.items()})


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.fixture
def example(site: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The example package as if it were installed."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    announce(site, project["entry-points"][door.GROUP], project["name"])
    monkeypatch.syspath_prepend(str(EXAMPLE))
    return site


def json_blob(**changes: Any) -> list[list[bytes]]:
    start = {"type": "start", "series": 7, "shape": [4, 6], "dtype": "uint16", "time_ns": 5, "images": 2}
    start |= {"wavelength_m": 1.4e-10, "distance_m": 2.0, "pitch_m": [75e-6, 75e-6]} | changes
    images = [{"type": "image", "series": 7, "number": i, "time_ns": 6 + i} for i in range(2)]
    end = {"type": "end", "series": 7, "images": 2}
    blobs = [[], [np.full((4, 6), 1, "<u2").tobytes()], [np.full((4, 6), 2, "<u2").tobytes()], []]
    return [[json.dumps(header).encode(), *blob] for header, blob in zip([start, *images, end], blobs, strict=True)]


# names


def test_ours_is_known_and_the_default():
    assert known()[0] == "streamptycho"
    assert isinstance(make("streamptycho"), OurDialect)
    assert {end.format for end in (Config().detector.frames, Config().detector.positions)} == {"streamptycho"}
    (fact,) = make("streamptycho").feed(parts_of("frame"), 0.0)
    assert same(fact, GOOD["frame"])


def test_an_unknown_format_is_refused_with_setting_value_and_remedy():
    with pytest.raises(ConfigError) as caught:
        configured("jsonblob")
    text = str(caught.value)
    assert "detector.frames.format: 'jsonblob' - no such dialect" in text
    assert f"known are {', '.join(known())}: correct the name or install its package" in text
    with pytest.raises(ConfigError, match=r"format = 'jsonblob': no such dialect; known are .*, panda.*: correct the name"):
        make("jsonblob")


def test_a_package_is_known_but_not_loaded_before_its_name_is_asked_for(site: Path):
    announce(site, {"pigeon": "no_such_module:Pigeon", "streamptycho": "no_such_module:Ours"})
    assert (known()[-1], known().count("streamptycho")) == ("pigeon", 1)
    assert configured("pigeon").detector.frames.format == "pigeon"
    assert isinstance(make("streamptycho"), OurDialect), "nobody takes the place of what is built in"


@pytest.mark.expects_errors
def test_a_package_that_cannot_be_loaded_is_named(site: Path):
    announce(site, {"pigeon": "no_such_module:Pigeon"})
    endpoint = inlet("a", "pigeon")
    with (
        new_context() as context,
        pytest.raises(ConfigError, match=r"'pigeon': no_such_module:Pigeon cannot be loaded \(Module"),
    ):
        listen(context, {"frames": endpoint})


def test_two_packages_with_one_name_are_refused(site: Path):
    for package in ("birds", "post"):
        announce(site, {"pigeon": "no_such_module:Pigeon"}, package)
    with pytest.raises(ConfigError, match="'pigeon': birds and post bring a dialect of this name; uninstall all but one"):
        make("pigeon")


def test_reading_the_configuration_imports_no_zmq_and_our_dialect_no_metadata():
    code = (
        "import sys, streamptycho.config as c; c.load(); before = set(sys.modules);"
        "from streamptycho.dialects.door import make; make('streamptycho');"
        "print('zmq' in before, 'importlib.metadata' in set(sys.modules) - before)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["False", "False"]


# dialects that do what they like


class Puppet:
    """Does what the test says."""

    def __init__(
        self, feed: Callable[..., Iterable[Any]], tick: Callable[[float], Iterable[Any]] = lambda now_s: ()
    ) -> None:
        self.feed, self.tick = feed, tick


@pytest.fixture
def puppet(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Build in a dialect of the test's."""

    def build(feed: Callable[..., Iterable[Any]], tick: Callable[[float], Iterable[Any]] = lambda now_s: ()) -> str:
        module = ModuleType("puppets")
        module.make = lambda: Puppet(feed, tick)
        monkeypatch.setitem(sys.modules, "puppets", module)
        monkeypatch.setitem(door._BUILT_IN, "puppet", "puppets:make")
        return "puppet"

    return build


def test_a_message_may_tell_nothing_or_several_things(puppet):
    told = Interpreter(puppet(lambda parts, now_s: [GOOD["start"], CodecError("a", "b"), GOOD["frame"]][: len(parts)]))
    assert list(told.feed([], 0.0)) == []
    start, error, frame = told.feed([b""] * 3, 0.0)
    assert (start, frame) == (GOOD["start"], GOOD["frame"])
    assert isinstance(error, CodecError)


def spoilt(parts: Sequence[bytes], now_s: float) -> Iterator[Fact]:
    yield GOOD["start"]
    match bytes(parts[0]):
        case b"protocol":
            raise GrammarError("pigeon.feather", "is wet")
        case b"bug":
            raise KeyError("feather")
        case b"other bug":
            raise RuntimeError("no feather" * 1000)
        case b"no fact":
            yield {"feather": 1}
    yield GOOD["end"]


def test_a_dialect_of_a_connection_may_greet_and_hear_of_a_new_one(monkeypatch):
    class Wire(Puppet):
        greeting = b"XML\n"

        def restarted(self, now_s: float) -> Iterable[Fact]:
            return [GOOD["end"]] if now_s == 3.0 else []

    silent = Interpreter("streamptycho")
    assert (silent.greeting, list(silent.restarted(3.0))) == (b"", [])
    monkeypatch.setattr(door, "make", lambda name, options: Wire(lambda parts, now_s: ()))
    told = Interpreter("puppet")
    assert (told.greeting, list(told.restarted(3.0))) == (b"XML\n", [GOOD["end"]])


@pytest.mark.expects_errors
def test_a_dialect_that_fails_costs_the_rest_of_its_message_and_is_reported_once(puppet, caplog):
    told = Interpreter(puppet(spoilt))
    for name, field in [
        ("protocol", "pigeon.feather"),
        *[(bug, "dialect puppet") for bug in ("bug", "other bug", "no fact")],
    ]:
        for _ in range(3):
            first, error = told.feed([name.encode()], 0.0)
            assert first is GOOD["start"]
            assert isinstance(error, ProtocolError)
            assert error.field == field
            assert len(str(error)) < 300
        assert list(told.feed([b"fine"], 0.0)) == [GOOD["start"], GOOD["end"]]
    assert [type(record.exc_info[1]) for record in caplog.records] == [KeyError, RuntimeError, TypeError]
    assert "a dict is no fact" in caplog.text


def test_a_dialect_may_fail_before_it_yields(puppet):
    def feed(parts: Sequence[bytes], now_s: float) -> Iterable[Fact]:
        raise GrammarError("pigeon", "has not come")

    (error,) = Interpreter(puppet(feed)).feed([b""], 0.0)
    assert error.field == "pigeon"


# at the listener


def test_facts_of_a_message_keep_their_order_and_hold_up_no_other_stream(puppet):
    many = [GOOD["frame"]] * 50
    ends = {"frames": inlet("a", puppet(lambda parts, now_s: [GOOD["start"], *many])), "positions": inlet("b")}
    with new_context() as context, listen(context, ends) as listener:
        with sender(context, "a") as foreign, sender(context, "b") as ours:
            assert foreign.send_parts([b"x"], wait_s=WAIT_S)
            assert ours.send(GOOD["end"], wait_s=WAIT_S)
            got = [listener.receive(WAIT_S) for _ in range(52)]
        assert listener.receive(0) is None
    assert [type(heard.fact) for heard in got if heard.role == "frames"] == [ScanStart] + [Frame] * 50
    (place,) = [i for i, heard in enumerate(got) if heard.role == "positions"]
    assert isinstance(got[place].fact, ScanEnd)
    assert place < 3


def test_silence_may_tell_something(puppet):
    times: list[float] = []

    def tick(now_s: float) -> Iterable[Fact]:
        times.append(now_s)
        return [GOOD["end"]] if len(times) == 3 else []

    endpoint = inlet("a", puppet(lambda parts, now_s: (), tick))
    with new_context() as context, listen(context, {"frames": endpoint}) as listener:
        assert [listener.receive(0.05) for _ in range(4)] == [None, None, ("frames", GOOD["end"]), None]
    assert times == sorted(times)
    assert len(times) == 4


def test_messages_that_tell_nothing_do_not_end_the_wait(puppet):
    """The end of a service drains its sockets until nothing comes in time: what follows such a message is not lost."""
    at_end = puppet(lambda parts, now_s: [GOOD["end"]] if bytes(parts[0]) == b"end" else [])
    with new_context() as context:
        endpoint = inlet("a", at_end)
        with (
            listen(context, {"frames": endpoint}) as listener,
            sender(context, "a") as detector,
        ):
            for text in (b"energy", b"shape", b"end", b"more"):
                assert detector.send_parts([text], wait_s=WAIT_S)
            assert facts_of(listener) == [GOOD["end"]]
            assert listener.receive(0.01) is None


@pytest.mark.expects_errors
def test_the_listener_survives_a_dialect_that_always_fails(puppet):
    def fail(*_: Any) -> Iterable[Fact]:
        raise OSError("no")

    endpoint = inlet("a", puppet(fail, fail))
    with new_context() as context, listen(context, {"frames": endpoint}) as listener:
        with sender(context, "a") as detector:
            for _ in range(3):
                assert detector.send_parts([b"x"], wait_s=WAIT_S)
                assert isinstance(facts_of(listener)[0], CodecError)
        assert isinstance(listener.receive(0.05).fact, CodecError), "a tick that fails is not silent either"


# the example


def test_the_example_is_received_beside_our_own_format(example: Path):
    config = configured("json-blob")
    assert (config.detector.frames.format, config.detector.positions.format) == ("json-blob", "streamptycho")
    ends = {"frames": inlet("frames", config.detector.frames.format), "positions": inlet("positions")}
    with (
        new_context() as context,
        listen(context, ends) as listener,
        sender(context, "frames") as detector,
        sender(context, "positions") as scanner,
    ):
        for parts in [*json_blob(), [b"{}"], *json_blob(shape=[4, 7])[:2]]:
            assert detector.send_parts(parts, wait_s=WAIT_S)
        assert scanner.send(GOOD["positions"], wait_s=WAIT_S)
        facts = []
        while len([fact for fact in facts if isinstance(fact, ProtocolError)]) < 2 or not only(Positions, facts):
            facts += facts_of(listener, 1)
    assert [fact for fact in facts if same(fact, GOOD["positions"])]
    frames = only(Frame, facts)  # joined, where they have come together
    start, end, error, _, short = (fact for fact in facts if not isinstance(fact, Frame | Positions))
    assert isinstance(start, ScanStart)
    pixels = [frame.payload.decode(row).tolist() for frame in frames for row in range(len(frame))]
    assert pixels == [[[i] * 6] * 4 for i in (1, 2)]
    assert [index for frame in frames for index in frame.index.tolist()] == [0, 1]
    assert isinstance(end, ScanEnd)
    assert (start.scan_id, end.run, end.count) == ("series-7", start.run, 2)
    assert [problem.field for problem in (error, short)] == ["json-blob", "frame.payload"]


def test_the_page_shows_the_example_as_it_is(example: Path):
    page = (EXAMPLE.parents[1] / "dialects.md").read_text(encoding="utf-8")
    settings, project, *others = (tomllib.loads(text) for text in re.findall(r"```ini\n(.*?)```", page, re.DOTALL))
    assert Config.model_validate(settings).detector.frames.format == "json-blob"
    for built_in in others:
        for endpoint in Config.model_validate(built_in).detector.by_role.values():
            Interpreter(endpoint.format, endpoint.options)
    shown = project["project"]["entry-points"]
    assert shown == tomllib.loads((EXAMPLE / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]


def test_the_tests_of_the_example_pass(example: Path):
    paths = [str(example), str(EXAMPLE), os.environ.get("PYTHONPATH", "")]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_json_blob.py"]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    said = subprocess.run(command, cwd=EXAMPLE, env=environment, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stdout + said.stderr
    assert " passed" in said.stdout
