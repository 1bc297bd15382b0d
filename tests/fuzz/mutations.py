"""What no program should send, made from a seed: bad messages, good ones at wrong moments, hellos, requests, wishes."""

import copy
import json
import struct
from functools import cache
from random import Random
from typing import Any

import msgpack
from hypothesis import HealthCheck, Phase, given, seed, settings

from streamptycho.messages.live import Action
from streamptycho.wire.codec import encode
from streamptycho.wire.hello import LINK_VERSION
from streamptycho_services.dashboard.hub import ITEMS
from tests.fuzz.raw import GREETING, RAW, ready
from tests.hostile import CORPUS, CORRUPT_PIXELS, GOOD
from tests.strategies import BY_KIND

Parts = list[bytes]

DETECTOR_KINDS = ("start", "frame", "positions", "end")
EXAMPLES = 40
"""Valid messages of each kind from the strategies; they take some seconds to find."""
INSANE: tuple[Any, ...] = (
    *(None, True, -1, 0, 1, 2**31, 2**32, 2**53, 2**63 - 1, -(2**63), 2**64 - 1, 9_999_999, 10_000_000, 1e300, -1e-300),
    *(
        float("nan"),
        float("inf"),
        "",
        "x" * 300,
        "../../etc/passwd",
        "\0",
        "é" * 100,
        b"\xff" * 20,
        [],
        [[]],
        [None],
        {},
        {"a": 1},
    ),
    *([0] * 60, [2**63 - 1] * 5, [[1, 2], [3]], msgpack.ExtType(5, b"x"), msgpack.Timestamp(1, 1), {"": {"": {}}}),
)
BOMBS = (
    b"\xdd\xff\xff\xff\xff",
    b"\xdf\xff\xff\xff\xff",
    b"\xdb\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\xdc\x00\x40" * 1000,
    b"\x91" * 10_000,
    b"\x81\xa1a" * 10_000,
    b"\xde\xff\xff" + b"\xa1a\xc0" * 65_535,
)
"""Texts in msgpack that promise much, or nest deeply."""
COMMON_FIELDS = {"index": (0, 1, 2, 3, 50, 199, 9_999_999), "count": (0, 1, 3, 100, 2**62)}
"""Values that are right, for messages that are to get far."""
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "CONNECT", "BREW", "", "G\0T")
PATHS = (
    "/",
    "/ws",
    "/object.png",
    "/status",
    "/metrics",
    "/healthz",
    "/readyz",
    "/static/main.js",
    "/static/../app.py",
    "//",
    "*",
)
HEADERS = (
    "Host",
    "Origin",
    "Cookie",
    "Authorization",
    "Upgrade",
    "Connection",
    "Content-Length",
    "Transfer-Encoding",
    "Expect",
)
HEADERS += ("Sec-WebSocket-Key", "Sec-WebSocket-Version", "Range", "If-Modified-Since", "X-Forwarded-For", "\xff", "A" * 300)
VALUES = (
    "",
    "0",
    "-1",
    "1" * 400,
    "chunked",
    "websocket",
    "Upgrade",
    "13",
    "100-continue",
    "bytes=0-,1-,2-",
    "x" * 9000,
    "\xff\0",
)


@cache
def _valid(examples: int) -> dict[str, list[Parts]]:
    """Valid messages of each kind: the one of the corpus, and so many of the strategies, always the same."""
    return {kind: [_bytes(GOOD[kind]), *_examples(strategy, examples)] for kind, strategy in BY_KIND.items()}


def _examples(strategy: Any, examples: int) -> list[Parts]:
    found: list[Parts] = []
    checks, phases = list(HealthCheck), [Phase.generate]

    @seed(0)
    @settings(max_examples=examples, database=None, deadline=None, phases=phases, suppress_health_check=checks)
    @given(strategy)
    def collect(message: Any) -> None:
        found.append(_bytes(message))

    collect()
    return found


def _bytes(message: Any) -> Parts:
    return [bytes(part) for part in encode(message)]


class Mutations:
    """Makes one thing after another; the same `random` makes the same ones.

    Attributes
    ----------
    ids : scan ids that messages name, none of a scan that must come out right.
    """

    def __init__(self, random: Random, ids: list[str], examples: int = EXAMPLES) -> None:
        self.random = random
        self.ids = ids
        self._valid = _valid(examples)
        self._corpus = [parts for _, parts in CORPUS + CORRUPT_PIXELS if parts]

    def message(self, kinds: tuple[str, ...] = tuple(GOOD)) -> Parts:
        """A message for a socket: mostly a bad one, sometimes a good one at the wrong moment."""
        random = self.random
        if random.random() < 0.2:
            return random.choice(self._corpus)
        parts = self._named(self._base(random.choice(kinds)))
        for _ in range(random.choice((0, 1, 1, 1, 2, 3))):
            parts = random.choice((_flip, _flip, _cut, _splice, _shuffle, _edit, _edit, _edit, _bomb))(random, parts)
        return parts or [b""]

    def _base(self, kind: str) -> Parts:
        # a scan costs a file: starts are rarer than the rest
        if kind == "start" and self.random.random() < 0.9:
            kind = "frame"
        return list(self._valid[kind][0] if self.random.random() < 0.6 else self.random.choice(self._valid[kind]))

    def _named(self, parts: Parts) -> Parts:
        """The message, about one of our scans."""
        random = self.random
        header = msgpack.unpackb(parts[0])
        fields = header["fields"]
        fields["scan_id"] = random.choice(self.ids)
        if "started_ns" in fields:
            fields["started_ns"] = random.choice((0, 1, 2, 1_700_000_000_000_000_000))
        for name, values in COMMON_FIELDS.items():
            if isinstance(fields.get(name), int):
                fields[name] = random.choice(values)
            elif isinstance(fields.get(name), list) and random.random() < 0.7:
                first = random.choice(values)
                fields[name] = [first + i for i in range(len(fields[name]))]
        return [msgpack.packb(header), *parts[1:]]

    def command(self) -> Parts:
        """A message for the address of commands."""
        return self.message(("command",))

    def hello(self, session: int) -> Parts:
        """What a consumer of a link might say of itself; `session` is the sender's, 0 where it is not known.

        Only hellos that the sender must refuse name it: a good one is no fault, but a successor of the consumer.
        """
        random = self.random
        said: dict[str, Any] = {
            "link": LINK_VERSION,
            "service": random.choice(("write", "reconstruct", "receive", "", "x" * 200)),
            "session": random.choice((1, 2, 2**63 - 1, random.randrange(1, 2**63))),
            "beat": random.choice((0, 1, 10**6, 2**63 - 1)),
            "sender": random.choice((0, 0, 1, 2**63 - 1)),
            "taken": random.choice((0, 1, 10**9)),
            "settled": 0,
            "introduced": random.random() < 0.5,
            "again": random.random() < 0.5,
            "resume": [],
        }
        parts: Parts = []
        if session and random.random() < 0.5:
            said["sender"] = session
            said.update(random.choice(_NEVER_SERVED))
            return [msgpack.packb(said)]
        match random.randrange(6):
            case 0:
                del said[random.choice(list(said))]
            case 1 | 2:
                said[random.choice(list(said))] = random.choice(INSANE)
            case 3:
                said["resume"] = [random.choice((0, 1, 2, -1, 2**40, "1"))] * random.randrange(300)
                parts = self.message(("start", "resume", "receive_status"))[: random.randrange(4)]
            case 4:
                return random.choice((_flip, _cut, _splice, _bomb))(random, [msgpack.packb(said)])
        return [_pack(said), *parts]

    def raw(self) -> bytes:
        """Bytes for a connection without ZeroMQ on our side."""
        random = self.random
        match random.randrange(4):
            case 0:
                return random.choice(RAW)
            case 1:
                return random.randbytes(random.choice((1, 9, 64, 1000)))
        kind = random.choice(
            (b"PUSH", b"PULL", b"PUB", b"SUB", b"XSUB", b"DEALER", b"ROUTER", b"REQ", b"PAIR", b"STREAM", b"")
        )
        data = GREETING + ready(kind) + b"".join(_framed(random, self.message()))
        return _flipped(random, data) if random.random() < 0.7 else data[: random.randrange(1, len(data))]

    def http(self, token: str) -> bytes:
        """A request, or what was one."""
        random = self.random
        query = random.choice(
            ("", "", "?scan=" + "x" * random.randrange(200), f"?token={token}", "?%ff%00", "?" + "a&" * 500)
        )
        if random.random() < 0.02:  # the page looks at no token for a while after ten wrong ones
            query = f"?token=wrong-{random.random()}"
        lines = [
            f"{random.choice(METHODS)} {random.choice(PATHS)}{query} HTTP/{random.choice(('1.1', '1.0', '2', '9.9', ''))}"
        ]
        lines += ["Host: 127.0.0.1"] * (random.random() < 0.8)
        lines += [f"{random.choice(HEADERS)}: {random.choice(VALUES)}" for _ in range(random.choice((0, 1, 2, 200)))]
        data = "\r\n".join([*lines, "", ""]).encode("latin-1") + random.randbytes(random.choice((0, 0, 10, 10_000)))
        return _flipped(random, data) if random.random() < 0.3 else data

    def viewer(self) -> str | bytes:
        """What a viewer of the page might say."""
        random = self.random
        command = {"action": random.choice([*Action, ""]), "scan_id": random.choice(self.ids), "started_ns": "0", "value": 2}
        said: dict[str, Any] = {
            "want": random.sample([*ITEMS, "hello"], 3),
            "show": {"scan": random.choice((None, self.ids[0], "x")), "moment": random.choice((None, 0, -1, 2**70))},
            "quality": random.choice(("raw", "jpeg")),
            "command": command,
        }
        said = {name: said[name] for name in random.sample(list(said), random.randrange(5))}
        match random.randrange(8):
            case 0:
                return random.randbytes(random.choice((0, 1, 100, 5000)))
            case 1:
                return random.choice(
                    ("", "[", "[" * 4000, "1e999", "nul", '"' + "x" * 5000 + '"', '{"want":' * 400, "\ud7ff")
                )
            case 2 | 3:
                said[random.choice(("want", "show", "quality", "command", "other"))] = _jsonable(random.choice(INSANE))
            case 4:
                command[random.choice(list(command))] = _jsonable(random.choice(INSANE))
        return json.dumps(said)


_NEVER_SERVED: tuple[dict[str, Any], ...] = (
    {"taken": 2**62},
    {"taken": 5, "settled": 6},
    {"beat": -1},
    {"service": "receive"},
    {"link": 2},
    {"resume": [1]},
    {"introduced": 1},
    {"session": "1"},
)
"""Changes after which any hello must be refused."""


def _flipped(random: Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 8))):
        if changed:
            changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _flip(random: Random, parts: Parts) -> Parts:
    i = 0 if random.random() < 0.7 else random.randrange(len(parts))
    return [*parts[:i], _flipped(random, parts[i]), *parts[i + 1 :]]


def _cut(random: Random, parts: Parts) -> Parts:
    i = random.randrange(len(parts))
    return [*parts[:i], parts[i][: random.randrange(len(parts[i]) + 1)], *parts[i + 1 :]]


def _splice(random: Random, parts: Parts) -> Parts:
    i = random.randrange(len(parts))
    at = random.randrange(len(parts[i]) + 1)
    data = parts[i][:at] + random.randbytes(random.choice((1, 4, 100))) + parts[i][at:]
    return [*parts[:i], data, *parts[i + 1 :]]


def _shuffle(random: Random, parts: Parts) -> Parts:
    match random.randrange(5):
        case 0:
            return random.sample(parts, len(parts))
        case 1:
            return [part for part in parts if random.random() < 0.7] or [b""]
        case 2:
            return [*parts, random.choice(parts)]
        case 3:
            return [*parts, *[b""] * random.choice((1, 100, 4097))]
    return parts[1:] or [b""]


def _edit(random: Random, parts: Parts) -> Parts:
    """Another value somewhere in the header."""
    try:
        header = msgpack.unpackb(parts[0], strict_map_key=False)
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException):  # it was changed before
        return _flip(random, parts)
    header = copy.deepcopy(header)
    inner: Any = header
    while isinstance(inner, dict | list) and inner:
        key = random.choice(list(inner)) if isinstance(inner, dict) else random.randrange(len(inner))
        if not isinstance(inner[key], dict | list) or not inner[key] or random.random() < 0.15:
            inner[key] = random.choice(INSANE)
            break
        inner = inner[key]
    return [_pack(header), *parts[1:]]


def _bomb(random: Random, parts: Parts) -> Parts:
    return [random.choice(BOMBS), *parts[1:]]


def _pack(value: Any) -> bytes:
    return bytes(msgpack.packb(value, unicode_errors="surrogatepass"))


def _jsonable(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _framed(random: Random, parts: Parts) -> list[bytes]:
    """The frames of ZMTP; sizes are sometimes lies."""
    frames = []
    for i, part in enumerate(parts[:20]):
        size = len(part) if random.random() < 0.9 else random.choice((0, 2**31, 2**63 - 1, 2**64 - 1))
        frames.append(bytes([2 | (i + 1 < len(parts))]) + struct.pack(">Q", size) + part)
    return frames
