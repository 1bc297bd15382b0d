"""Changed messages for every dialect, from parts to pixels: ``python -m tests.fuzz.dialects --minutes 10``.

Each runs for its share of the time in a process of its own with limited memory: none may raise, hang, call a bug its own
("failed with"), give out what is no fact, or ask for more memory than there is. Unchanged, each gives frames or samples.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, get_args

import msgpack
import numpy as np

from streamptycho.dialects.door import Interpreter
from streamptycho.errors import CodecError, ProtocolError
from streamptycho.messages.facts import Fact, ForeignFact, Frames
from streamptycho.messages.kinds import Message
from streamptycho.messages.reasons import Stream
from streamptycho.messages.stream import Frame
from streamptycho_sim.formats import panda, panda_json
from streamptycho_sim.formats.bluesky import Scan, as_json, message
from streamptycho_sim.formats.dectris_v1 import DectrisV1, DectrisV1Options
from streamptycho_sim.formats.dectris_v2 import DectrisV2, DectrisV2Options
from streamptycho_sim.formats.table import Encoder, Ours
from streamptycho_sim.scan import SimulatedScan, SyntheticOptions
from tests.test_codec import mutate

Parts = list[bytes]
MEMORY = 2 << 30
_SCAN = SimulatedScan(SyntheticOptions(frames=6, shape=32))
_FACTS = (*get_args(Message), *get_args(ForeignFact), ProtocolError)
_COLUMNS = {"sy": np.arange(5.0), "sx": np.linspace(-1, 1, 5)}


def _encoded(encoder: Encoder) -> list[Parts]:
    return [[bytes(part) for part in parts] for item in _SCAN.items() for parts in encoder.messages(item)]


def _documents(serialise: Callable[[dict[str, Any]], bytes]) -> list[Parts]:
    scan = Scan(columns=_COLUMNS)
    documents = [*scan.steps(0), *scan.steps(3), *scan.flight(Path("/f.h5"), {"sy": "/y", "sx": "/x"})]
    return [[message(document, b"", serialise)] for document in documents]


def _capture(process: str, transport: str) -> list[Parts]:
    fields = [panda.Field("INENC1.VAL"), panda.Field("INENC2.VAL", "Value")]
    rows = panda.rows_of(fields, np.arange(40.0).reshape(20, 2))
    whole = [panda.header(fields, process, transport), panda.blocks(fields, process, transport, rows), panda.end(20)]
    return [[b"OK\n"], *([part] for part in whole)]


def _lines(of: Callable[[int], str]) -> list[Parts]:
    return [[of(i).encode()] for i in range(10)]


def sound() -> dict[str, tuple[str, dict[str, Any], list[Parts]]]:
    """By name of the case: format, options, and messages as a sender sends them."""
    cases: dict[str, tuple[str, dict[str, Any], list[Parts]]] = {
        "streamptycho": ("streamptycho", {}, _encoded(Ours(Stream.FRAMES)))
    }
    for compression in ("bslz4", "lz4", "none"):
        cases[f"dectris-v1 {compression}"] = (
            "dectris-v1",
            {},
            _encoded(DectrisV1(DectrisV1Options(compression=compression))),
        )
        cases[f"dectris-v2 {compression}"] = (
            "dectris-v2",
            {},
            _encoded(DectrisV2(DectrisV2Options(compression=compression))),
        )
    for name, serialise in {
        "json": as_json,
        "msgpack": lambda doc: msgpack.packb(doc, default=lambda a: a.tolist()),
    }.items():
        cases[f"bluesky {name}"] = ("bluesky", {}, _documents(serialise))
    for process, transport in (("scaled", "framed"), ("raw", "framed"), ("scaled", "ascii")):
        cases[f"panda {process} {transport}"] = (
            "panda",
            {"process": process} if process != "scaled" else {},
            _capture(process, transport),
        )
    columns = {"Y.Mean": np.arange(40.0), "X.Mean": np.arange(40.0)}
    cases["panda-json"] = ("panda-json", {}, [[part] for part in panda_json.hxn(columns, 7)])
    cases["panda-json-maxiv"] = ("panda-json-maxiv", {}, [[part] for part in panda_json.maxiv(columns, 7)])
    cases["table-csv"] = ("table-csv", {}, [[b"index,x,y\n"], *_lines(lambda i: f"{i},{i}.5,-{i}\n")])
    cases["table-json"] = ("table-json", {}, _lines(lambda i: json.dumps({"index": i, "x": i + 0.5, "y": -i})))
    return cases


def taken(facts: Iterable[Fact], count: Counter[str]) -> None:
    """Count the facts, and decode the pixels among them."""
    for fact in facts:
        assert isinstance(fact, _FACTS), fact
        count[type(fact).__name__] += 1
        assert not (isinstance(fact, ProtocolError) and "failed with" in str(fact)), fact
        if isinstance(fact, Frames | Frame):
            for i in range(len(fact)):
                try:
                    pixels = fact.payload.decode(i)
                except CodecError:
                    count["not decoded"] += 1
                else:
                    assert pixels.shape == fact.payload.shape


def run(name: str, seconds: float, seed: int) -> Counter[str]:
    """Feed one case for so long."""
    format, options, messages = sound()[name]
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    rng, count, until_s = random.Random(f"{name} {seed}"), Counter[str](), time.monotonic() + seconds
    clean = Counter[str]()
    whole = Interpreter(format, options)
    for parts in messages:
        taken(whole.feed(parts, 0.0), clean)
    assert clean["Frames"] + clean["Frame"] + clean["Samples"] + clean["Stored"] > 0, (name, clean)
    now_s = 0.0
    while time.monotonic() < until_s:
        dialect = Interpreter(format, options)
        for _ in range(rng.randrange(1, 20)):
            parts = rng.choice(messages)
            dull = rng.random() < 0.4
            now_s += rng.choice([0.0, 0.001, 1.0])
            taken(dialect.feed(parts if dull else mutate(rng, parts), now_s), count)
            count["messages"] += 1
            if rng.random() < 0.1:
                taken(dialect.tick(now_s), count)
    return count


def main() -> int:
    """Run all; the exit code says whether any has failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="for all together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", metavar="CASE", help="one of them, in this process")
    asked = parser.parse_args()
    if asked.only is not None:
        print(json.dumps(run(asked.only, asked.minutes * 60, asked.seed)))
        return 0
    cases, failed = list(sound()), 0
    for name in cases:
        each = ["--minutes", str(asked.minutes / len(cases)), "--seed", str(asked.seed), "--only", name]
        done = subprocess.run(
            [sys.executable, "-m", "tests.fuzz.dialects", *each],
            capture_output=True,
            text=True,
            check=False,
            timeout=600 + 120 * asked.minutes,
        )
        failed += done.returncode != 0
        print(f"{name:20} {done.stdout.strip() or done.stderr[-3000:]}", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
