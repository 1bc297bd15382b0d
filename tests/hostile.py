"""Multipart messages that no program should send: malformed, insane, or plainly wrong.

``CORPUS`` lists ``(name, parts)``; :func:`codec.decode` must refuse each with a ProtocolError. ``FIELDS`` says
which field that error names, where only one answer is right. ``CORRUPT_PIXELS`` are frames that only the decompression of
their pixels can tell from good ones.
"""

import copy
import math
import random
import struct
from collections.abc import Callable
from typing import Any

import msgpack
import numpy as np

from streamptycho.messages.geometry import Geometry
from streamptycho.messages.kinds import Message
from streamptycho.messages.live import Action, Command, Preview, Survey
from streamptycho.messages.payload import Payload
from streamptycho.messages.reasons import EndReason, ServiceState, Stream
from streamptycho.messages.results import Assessment, Estimates, Snapshot
from streamptycho.messages.status import ReceiveStatus, ReconstructStatus, WriteStatus
from streamptycho.messages.stream import Frame, Positions, Resume, ScanEnd, ScanStart
from streamptycho.wire.codec import MAX_HEADER_BYTES, MAX_PARTS, WIRE_VERSION, encode
from tests.strategies import bslz4

PIXELS = np.arange(2 * 16 * 24, dtype=np.uint16).reshape(2, 16, 24)
_ONE = Frame(scan_id="s1", index=np.array([7]), timestamp_ns=np.array([70]), payload=Payload.raw(PIXELS[:1]), dark=False)

_LEDGER: dict[str, Any] = {
    "scan_id": "s1",
    "time_ns": 5,
    "started_ns": 1_700_000_000_000_000_000,
    "received": 6,
    "used": 3,
    "waiting": 2,
    "dropped": {"duplicate": 1},
    "rejected": {"late": 4},
    "failure": "the disk is full",
    "restarts": 2,
    "unacknowledged": {"write": 3},
    "unacknowledged_bytes": {"write": 4096},
    "silence_s": {"write": 0.5},
}
"""What the statuses of all services hold."""

GOOD: dict[str, Message] = {
    "start": ScanStart(
        scan_id="s1",
        geometry=Geometry(wavelength_m=1.4e-10, distance_m=2.0, pitch_m=(75e-6, 75e-6), frame_shape=(16, 24)),
        dtype=np.dtype(np.uint16),
        started_ns=1_700_000_000_000_000_000,
        expected=100,
        valid=np.ones((16, 24), bool),
        dark=np.zeros((16, 24), np.float32),
        probe=np.ones((2, 16, 16), np.complex64),
        saturation=65535,
        beam_center_px=(8.0, 12.0),
        metadata={"sample": "star", "run": 3, "current_ma": 99.5, "shutter": True},
        planned_yx_m=np.array([[0, 1], [2, 3]]) * 1e-6,
    ),
    "frame": Frame(
        scan_id="s1",
        index=np.array([3, 4]),
        timestamp_ns=np.array([30, 40]),
        payload=Payload.raw(PIXELS),
        dark=False,
        taken_yx_m=np.array([[0, 1], [2, 3]]) * 1e-6,
    ),
    "positions": Positions(scan_id="s1", index=np.array([0, 1, 5]), yx_m=np.array([[0, 1], [2, 3], [4, 5]]) * 1e-6),
    "end": ScanEnd(scan_id="s1", stream=Stream.FRAMES, count=100, started_ns=1_700_000_000_000_000_000),
    "snapshot": Snapshot(
        scan_id="s1",
        started_ns=1_700_000_000_000_000_000,
        sequence=1,
        final=False,
        time_ns=5,
        frames_used=10,
        updates=20,
        error=0.5,
        error_history=np.array([0.9, 0.5], np.float32),
        algorithm="epie",
        object=np.ones((20, 30), np.complex64),
        covered=np.ones((20, 30), bool),
        probe=np.ones((1, 8, 8), np.complex64),
        origin_m=(0.0, 0.0),
        pixel_m=(1e-8, 1e-8),
        newest_ns=4,
        service="reconstruct",
    ),
    "receive_status": ReceiveStatus(
        service="receive",
        **_LEDGER,
        state=ServiceState.RECEIVING,
        rate_hz=10.5,
        unique=5,
        expected=100,
        positions=4,
        announced=8,
        announced_positions=9,
        gaps=1,
        missing=95,
        missing_positions=5,
        remarks=("set scan.pairing", "µ"),
        stream_remarks=("detector.frames: not understood",),
        connections={"frames": "nothing listens there"},
    ),
    "reconstruct_status": ReconstructStatus(
        service="reconstruct",
        **_LEDGER,
        state=ServiceState.RECONSTRUCTING,
        error=0.25,
        updates=30,
        updates_hz=120.5,
        passes=2,
        position_shift_px=0.5,
        unexplained=0.125,
        lag_s=1.5,
        device="CPU, 2 threads",
        probe="found in the data",
        trust="confident",
        no_picture=True,
    ),
    "write_status": WriteStatus(
        service="write",
        **_LEDGER,
        state=ServiceState.DONE,
        file="s1.cxi",
        result="s1_result.cxi",
        picture="s1.png",
        end=EndReason.COMPLETE,
        trouble="no space left on device",
        free_bytes=10**12,
        frame_bytes=26_000,
        positions=4,
    ),
    "survey": Survey(
        scan_id="s1",
        started_ns=1_700_000_000_000_000_000,
        time_ns=5,
        known=7,
        index=np.array([0, 1, 5]),
        yx_m=np.array([[0, 1], [2, 3], [4, 5]]) * 1e-6,
        counts=np.array([1000, 1001, 990], np.float32),
        dark_field=np.array([10, 11, 9], np.float32),
        centre_px=np.array([[0, 0.5], [0.25, 0], [-0.5, 1]], np.float32),
        state=np.array([1, 0, 3], np.uint8),
        service="reconstruct",
    ),
    "preview": Preview(
        scan_id="s1",
        started_ns=1_700_000_000_000_000_000,
        time_ns=5,
        index=5,
        pattern=np.ones((8, 12), np.float32),
        valid=np.ones((8, 12), bool),
        saturated=np.zeros((8, 12), bool),
        binning=2,
        centre_px=(8.0, 12.0),
        crop_px=(0, 4),
        crop_shape_px=(16, 16),
        service="reconstruct",
    ),
    "assessment": Assessment(
        scan_id="s1",
        started_ns=1_700_000_000_000_000_000,
        time_ns=5,
        verdict="The picture can be trusted.",
        findings={"overlap": "Neighbouring frames share too little; use smaller steps."},
        figures={"resolution_m": 2e-8},
        frequency_per_m=np.array([1e6, 2e6], np.float32),
        ring_correlation=np.array([1, 0.5], np.float32),
        criterion="half-bit",
        trusted=True,
        final=True,
        service="reconstruct",
    ),
    "estimates": Estimates(
        scan_id="s1",
        started_ns=1_700_000_000_000_000_000,
        time_ns=5,
        index=np.array([0, 1, 5]),
        recorded_yx_m=np.array([[0, 1], [2, 3], [4, 5]]) * 1e-6,
        refined_yx_m=np.array([[0, 1.5], [2, 3.5], [4, 5.5]]) * 1e-6,
        flux=np.array([1, 0.5, 1.5], np.float32),
        background=np.ones((8, 12), np.float32),
        mode_powers=(0.75, 0.25),
        trust="confident",
        unexplained=0.125,
        probe_origin="found in the data",
        service="reconstruct",
    ),
    "command": Command(action=Action.MODES, scan_id="s1", started_ns=1_700_000_000_000_000_000, value=2),
    "resume": Resume(
        scan_id="s1",
        started_ns=1_700_000_000_000_000_000,
        frames=np.array([True, False, True]),
        index=np.array([0, 1, 5]),
        yx_m=np.array([[0, 1], [2, 3], [4, 5]]) * 1e-6,
    ),
}
"""One good message of each kind, from which the bad ones are made."""

STATUSES = ("receive_status", "reconstruct_status", "write_status")
_HEALTH = {"service", "scan_id", "rejected", "failure", "restarts", "unacknowledged", "unacknowledged_bytes", "silence_s"}
OPTIONAL = {
    "start": {"expected", "saturation", "beam_center_px", "repeated"},
    "frame": {"taken_yx_m"},
    "end": {"started_ns"},
    "snapshot": {"newest_ns", "service"},
    "assessment": {"criterion", "trusted", "final", "service"},
    "estimates": {"mode_powers", "trust", "unexplained", "probe_origin", "service"},
    "receive_status": _HEALTH
    | {"rate_hz", "unique", "expected", "positions", "announced", "announced_positions", "gaps", "missing"}
    | {"missing_positions", "remarks", "stream_remarks", "connections"},
    "reconstruct_status": _HEALTH
    | {"error", "updates", "updates_hz", "passes", "position_shift_px", "unexplained", "lag_s", "device", "probe", "trust"}
    | {"no_picture"},
    "write_status": _HEALTH | {"file", "result", "picture", "end", "positions", "trouble", "free_bytes", "frame_bytes"},
    "survey": {"service"},
    "preview": {"service"},
    "command": {"started_ns"},
}
"""Fields that may be nil or missing."""
OPTIONAL_ARRAYS = {
    "start": {"valid", "dark", "probe", "planned_yx_m"},
    "estimates": {"refined_yx_m", "flux", "background"},
    "resume": {"index", "yx_m"},
}
"""Arrays that may be missing."""

CORPUS: list[tuple[str, list[bytes]]] = []
FIELDS: dict[str, str] = {}
_NAMES: set[str] = set()
CORRUPT_PIXELS: list[tuple[str, list[bytes]]] = []


def parts_of(kind: str) -> list[bytes]:
    return [bytes(part) for part in encode(GOOD[kind])]


def header_of(kind: str) -> dict[str, Any]:
    return msgpack.unpackb(parts_of(kind)[0])


def _add(name: str, parts: list[bytes], field: str | None = None) -> None:
    if name not in _NAMES:  # two groups may make the same message
        CORPUS.append((name, parts))
        _NAMES.add(name)
    if field is not None:
        FIELDS[name] = field


def _edit(name: str, kind: str, change: Callable[[dict[str, Any]], Any], field: str | None = None) -> None:
    """A good message of which only the header is changed."""
    header = copy.deepcopy(header_of(kind))
    change(header)
    _add(f"{kind}: {name}", [msgpack.packb(header), *parts_of(kind)[1:]], field)


def _set(kind: str, key: str, value: Any, field: str | None = None) -> None:
    text = repr(value)[:30]
    _edit(f"{key} = {text}", kind, lambda header: header["fields"].update({key: value}), field or f"{kind}.{key}")


def _bytes() -> None:
    rng = random.Random(1)
    for size in (1, 2, 16, 256, 4096, 65536):
        _add(f"{size} random bytes", [rng.randbytes(size)])
        _add(f"{size} random bytes, three parts", [rng.randbytes(size) for _ in range(3)])
    _add("no parts", [], "message")
    _add("an empty part", [b""], "header")
    _add("many empty parts", [b""] * 100, "header")
    _add("too many parts", [parts_of("frame")[0]] + [b""] * MAX_PARTS, "message")
    _add("huge header", [b"\xc0" * (MAX_HEADER_BYTES + 1)], "header")
    _add("text", [b"GET / HTTP/1.1\r\n\r\n"], "header")
    _add("json", [b'{"htype": "dheader-1.0", "series": 1, "header_detail": "all"}'], "header")
    _add("a pickle", [b"\x80\x04\x95\x1d\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94."])
    _add("header is nil", [b"\xc0"], "header")
    _add("header is a list", [msgpack.packb([1, 2])], "header")
    _add("header with bytes behind it", [parts_of("end")[0] + b"\xc0"], "header")
    for kind in GOOD:
        first, *rest = parts_of(kind)
        for cut in (1, len(first) // 2, len(first) - 1):
            _add(f"{kind}: header cut to {cut} bytes", [first[:cut], *rest], "header")
    _add("lists nested in lists", [b"\x91" * 100_000], "header")
    _add("long lists nested in lists", [b"\xdc\x10\x00" * 1000], "header")
    _add("lists as long as they may be nested in lists", [b"\xdc\x00\x40" * 1000], "header")
    _add("maps nested in maps", [b"\x81\xa1a" * 100_000], "header")
    _add("list of 2^32 - 1", [b"\xdd\xff\xff\xff\xff"], "header")
    _add("map of 2^32 - 1", [b"\xdf\xff\xff\xff\xff"], "header")
    _add("text of 2^32 - 1", [b"\xdb\xff\xff\xff\xff"], "header")
    _add("bytes of 2^32 - 1", [b"\xc6\xff\xff\xff\xff"], "header")
    _add("extension of 2^32 - 1", [b"\xc9\xff\xff\xff\xff\x01"], "header")
    _add("extension type", [msgpack.packb(msgpack.ExtType(42, b"code"))], "header")
    _add("impossible time stamp", [b"\xd7\xff" + b"\xff" * 8], "header")
    _add("text that is not UTF-8", [b"\x81\xa1v\xa2\xff\xfe"], "header")
    _add("reserved byte", [b"\xc1"], "header")
    _add("map with a list as key", [b"\x81\x91\x01\x01"], "header")
    _add("map with numbers as keys", [msgpack.packb({1: 2, 3: 4})], "header")
    _add("map with binary keys", [msgpack.packb({b"v": 1, b"kind": b"end"})], "header.v")


def _envelope() -> None:
    for value in (0, 2, -1, 2**64 - 1, True, 1.0, "1", None, [1], {}, b"\x01", msgpack.ExtType(1, b"1"), math.nan):
        _edit(f"v = {value!r}", "end", lambda header, value=value: header.update(v=value), "header.v")
    for value in ("", "END", "scanend", "x" * 10_000, None, 1, ["end"], {"end": 1}, b"end", True):
        _edit(f"kind = {value!r:.30}", "end", lambda header, value=value: header.update(kind=value), "header.kind")
    for value in (None, [], "fields", 1, b"", [["scan_id", "s1"]]):
        _edit(f"fields = {value!r}", "end", lambda header, value=value: header.update(fields=value), "header.fields")
    for value in (None, {}, "arrays", 1, b""):
        _edit(f"arrays = {value!r}", "end", lambda header, value=value: header.update(arrays=value), "header.arrays")
    for key in ("v", "kind", "fields", "arrays"):
        _edit(f"{key} missing", "end", lambda header, key=key: header.pop(key), f"header.{key}")
    for kind in GOOD:
        for other in GOOD.keys() - {kind}:
            # what the statuses have of their own may be missing, and what is not known is ignored
            if not {kind, other} <= set(STATUSES):
                _edit(f"called {other}", kind, lambda header, other=other: header.update(kind=other))


def _fields_of_every_kind() -> None:
    wrong: dict[type, tuple[Any, ...]] = {
        str: (1, None, True, 1.5, [], {}, b"text", msgpack.ExtType(5, b"")),
        int: (True, 1.0, "1", [], {}, b"1", 2**63, 2**64 - 1, -1, msgpack.Timestamp(1, 1)),
        float: (True, "1.0", [], {}, b"", None),
        bool: (1, 0, None, "true", 1.0, []),
        list: (None, 1, "ab", {}, [], [1], [1, 2, 3, 4, 5], [None, None], ["a", "b"], [[1], [2]], [True, True], b"ab"),
        dict: (None, 1, "ab", [], [[1, 2]], b"", True),
    }
    for kind in GOOD:
        optional = OPTIONAL.get(kind, set())
        for key, good in header_of(kind)["fields"].items():
            if key not in optional:
                _edit(f"{key} missing", kind, lambda h, key=key: h["fields"].pop(key), f"{kind}.{key}")
            for value in wrong[type(good)]:
                if value is None and key in optional:
                    continue
                if key == "mode_powers" and value in ([], [1], [1, 2, 3, 4, 5]):
                    continue
                if key in ("remarks", "stream_remarks") and value in ([], ["a", "b"]):
                    continue
                text = f"{key} = {value!r}"
                _edit(text, kind, lambda h, key=key, value=value: h["fields"].update({key: value}))
                if not isinstance(good, list) and not (isinstance(value, int) and value < 0):
                    FIELDS[f"{kind}: {text}"] = f"{kind}.{key}"
    for key, good in header_of("start")["fields"]["geometry"].items():
        _edit(f"geometry.{key} missing", "start", lambda h, key=key: h["fields"]["geometry"].pop(key))
        FIELDS[f"start: geometry.{key} missing"] = f"start.geometry.{key}"
        bad = (math.inf, -math.inf, 0, 0.0, -1, -1.0, True, "1", None, [1.0])
        bad += (math.nan,) if key == "frame_shape" else ()  # a length that is not known
        for value in bad:
            replaced = [value, good[1]] if isinstance(good, list) else value
            _edit(
                f"geometry.{key} = {replaced!r}",
                "start",
                lambda h, key=key, replaced=replaced: h["fields"]["geometry"].update({key: replaced}),
            )


def _values() -> None:
    for kind in GOOD:
        for scan_id in ("", "x" * 129, "漢" * 43, "x" * 100_000, "a\nb", "a\x00b", "a\x1b[2J", "\u202eabc", "\u200b"):
            _set(kind, "scan_id", scan_id, "scan_id")
        for scan_id in ("/etc/passwd", "../up", "..", ".", ".hidden", "a/b", "a\\b", "C:\\x", "~/x"):
            _set(kind, "scan_id", scan_id, "scan_id")

    for value in (-1, -(2**63), 2**63, 2**64 - 1):
        for key in ("expected", "saturation", "started_ns"):
            _set("start", key, value)
        _set("end", "count", value)
        for key in ("sequence", "time_ns", "frames_used", "updates"):
            _set("snapshot", key, value)
        for kind in STATUSES:
            for key in ("received", "used", "waiting", "time_ns", "started_ns"):
                _set(kind, key, value)
        for key in ("unique", "expected", "positions"):
            _set("receive_status", key, value)
        for key in ("updates", "passes"):
            _set("reconstruct_status", key, value)
        for key in ("started_ns", "time_ns"):
            _set("estimates", key, value)
    for shape in ([2**13, 2**13 + 1], [10**6, 10**6], [2**63 - 1, 2**63 - 1]):
        text = f"geometry.frame_shape = {shape!r}"
        _edit(text, "start", lambda h, shape=shape: h["fields"]["geometry"].update(frame_shape=shape), "start.geometry")
    for value in ([math.nan, 1.0], [1.0, math.inf], [1, 2, 3]):
        _set("start", "beam_center_px", value, None if len(value) < 3 else "start.beam_center_px")
        _set("snapshot", "origin_m", value)
        _set("snapshot", "pixel_m", value)
    for value in ([0.0, 1.0], [1.0, -1.0]):
        _set("snapshot", "pixel_m", value)
    for value in ({"a": None}, {"a": [1]}, {"a": {"b": 1}}, {"a": b"x"}, {b"a": 1}, {"a": 2**63}, {"a": 2**64 - 1}):
        _set("start", "metadata", value)
    _set("start", "metadata", {"a": msgpack.Timestamp(1, 1)})
    for kind in STATUSES:
        for value in ({"a": "1"}, {"a": True}, {"a": 1.0}, {b"a": 1}, {"a": None}, {"duplicate": -1}, {"a": -5, "b": 6}):
            _set(kind, "dropped", value)
            _set(kind, "rejected", value)
        for value in ({"a": 2**63}, {"a": 2**64 - 1}, {"a": [1]}, {"a": {}}):
            _set(kind, "dropped", value)
            _set(kind, "rejected", value)
        _set(kind, "received", 7)
        for key in ("received", "used", "waiting"):
            _set(kind, key, 0, f"{kind}.received")
        _set(kind, "dropped", {}, f"{kind}.received")
        _set(kind, "dropped", {"duplicate": 1, "late": 1}, f"{kind}.received")
        for value in ("asleep", "DONE", "done ", ""):
            _set(kind, "state", value)
    for value in ("bored", "COMPLETE", ""):
        _set("write_status", "end", value)
    for value in ({"a": "1"}, {"a": True}, {b"a": 1.0}, {"a": [1.0]}, {"a": None}):
        _set("assessment", "figures", value)
    for value in ({"a": 1}, {"a": None}, {b"a": "b"}, {"a": b"b"}):
        _set("assessment", "findings", value)
    for value, field in (
        ([1.0, None], "[1]"),
        (["1"], "[0]"),
        ([True], "[0]"),
        ([[1.0]], "[0]"),
        ("11", ""),
        ({"a": 1.0}, ""),
    ):
        _set("estimates", "mode_powers", value, f"estimates.mode_powers{field}")
    _set("end", "stream", "detector")
    _set("end", "reason", "bored")
    _set("command", "action", "explode")
    for value in (None, 0, -1, 17, 10**6):
        _set("command", "value", value)
    _set("command", "action", "pause", "command.value")
    for value in (0, -1):
        _set("preview", "binning", value)
    _set("preview", "centre_px", [math.nan, 1.0], "preview.centre_px")

    for kind in ("start", "frame"):
        for dtype in ("O", "object", "V8", "<u2", ">u2", "U4", "S4", "M8[ns]", "float64", "complex64", "bool", "int64"):
            _set(kind, "dtype", dtype, f"{kind}.dtype")
        _set(kind, "dtype", "u2,u2" * 1000, f"{kind}.dtype")
    for encoding in ("", "gzip", "lz4", "RAW", "bslz4\x00"):
        _set("frame", "encoding", encoding, "frame.encoding")
    for shape in ([10**12, 1], [10**6, 10**6], [2**63 - 1, 2**63 - 1], [24, 15]):
        _set("frame", "shape", shape, "frame.payload")
    for shape in ([0, 0], [0, 24], [16, 0], [-16, -24], [-16, 24]):
        _set("frame", "shape", shape, "frame.shape")
    for shape in ([2**63, 1], [16, 2**64 - 1]):
        _set("frame", "shape", shape, f"frame.shape[{0 if shape[0] > 16 else 1}]")
    for shape in ([16], [1, 16, 24], []):
        _set("frame", "shape", shape, "frame.shape")

    for index in ([4, 3], [3, 3], [-1, 0], [-5, -4], [2**63 - 1, -(2**63)], [2**63 - 1, -(2**63) + 1], [3], [3, 4, 5]):
        _set("frame", "index", index, "frame.index")
    for index in ([], [3, 2**63], [3, 2**64 - 1], [3, 4.0], [3, None], [3, "4"], [False, True], [[3, 4]]):
        _set("frame", "index", index, "frame.index")
    for times in ([], [1], [1, 2, 3], [1, 2**63], [1, 2.0], [True, False]):
        _set("frame", "timestamp_ns", times, "frame.timestamp_ns")
    _set("frame", "index", list(range(5000)), "header")


def _arrays() -> None:
    for kind in ("start", "positions", "snapshot", "survey", "preview", "assessment", "estimates"):
        good = header_of(kind)["arrays"]
        for i, (name, dtype, shape) in enumerate(good):
            field = f"{kind}.{name}"

            def put(text: str, entry: Any, field: str, i: int = i, name: str = name, kind: str = kind) -> None:
                _edit(f"array {name}: {text}", kind, lambda h: h["arrays"].__setitem__(i, entry), field)

            for other in ("O", "object", "V8", "u1", ">f8", "float16", "", None, 1, [], {}, ["f4"], b"bool"):
                put(f"dtype {other!r}", [name, other, shape], field)
            for other in (
                [10**12],
                [10**12, 10**12, 10**12],
                [2**64 - 1] * 3,
                [0, 10**19],
                [0, 0],
                [],
                [-1],
                [-1, -1],
                [False],
                [0.0],
                [1.0],
                ["1"],
                [None],
                [[1]],
                [1, 1, 1, 1],
                None,
                5,
                "shape",
                {},
                [*shape, 2],
            ):
                put(f"shape {other!r}", [name, dtype, other], field)
            if len(shape) > 1:
                put("two negative sizes", [name, dtype, [-shape[0], -shape[1], *shape[2:]]], field)
            put("shape [0]", [name, dtype, [0]], field)
            for entry in (
                None,
                [],
                [name],
                [name, dtype],
                [name, dtype, shape, 1],
                name,
                {"name": name},
                [None, dtype, shape],
            ):
                put(f"entry {entry!r}", entry, "header.arrays")
            for other in ("", "x" * 10_000, "scan_id", "__class__"):
                put(f"called {other!r:.20}", [other, dtype, shape], "header.arrays")
                put(f"called {other!r:.20} of no type", [other, None, shape], "header.arrays")

            first, *rest = parts_of(kind)
            _add(f"{kind}: {name} cut", [first, *rest[:i], rest[i][:-1], *rest[i + 1 :]], field)
            _add(f"{kind}: {name} too long", [first, *rest[:i], rest[i] + b"\0", *rest[i + 1 :]], field)
            _add(f"{kind}: {name} empty", [first, *rest[:i], b"", *rest[i + 1 :]], field)
            _add(f"{kind}: {name} announced but not sent", [first, *rest[:i], *rest[i + 1 :]], "header.arrays")

            for other in (
                [0, 10**19],
                [10**19, 0],
                [0, 0],
                [0, 1],
                [0, 2**62, 2**62],
                [-1, 0],
                [0, -1],
                [0.0],
                [False],
                [None],
            ):
                header = header_of(kind)
                header["arrays"][i][2] = other
                parts = [msgpack.packb(header), *rest[:i], b"", *rest[i + 1 :]]
                _add(f"{kind}: {name} empty, shape {other!r}", parts, field)

            header = header_of(kind)
            header["arrays"].append(header["arrays"][i])
            _add(f"{kind}: {name} twice", [msgpack.packb(header), *rest, rest[i]], field)
            if name not in OPTIONAL_ARRAYS.get(kind, set()):
                header = header_of(kind)
                del header["arrays"][i]
                parts = [msgpack.packb(header), *rest[:i], *rest[i + 1 :]]
                _add(f"{kind}: {name} missing", parts, field)

            if dtype == "bool":
                _add(f"{kind}: {name} of bytes 2", [first, *rest[:i], b"\2" * len(rest[i]), *rest[i + 1 :]], field)
            if dtype == "uint8":
                _add(f"{kind}: {name} of unknown states", [first, *rest[:i], b"\5" * len(rest[i]), *rest[i + 1 :]], field)
            exact = dtype in ("bool", "uint8", "int64") or name == "planned_yx_m"  # a plan is left out, and costs no scan
            if kind in ("start", "positions", "survey") and not exact:
                for bad in (b"\xff", np.array(np.inf, "c8" if dtype == "complex64" else dtype).tobytes()):
                    full = (bad * len(rest[i]))[: len(rest[i])]
                    _add(f"{kind}: {name} not finite {bad[:1]!r}", [first, *rest[:i], full, *rest[i + 1 :]], field)
        _add(f"{kind}: arrays not announced", [parts_of(kind)[0], *parts_of(kind)[1:], b"more"], "header.arrays")
        _edit("all arrays announced a thousand times", kind, lambda h: h.update(arrays=h["arrays"] * 1000), "header")

    for kind in ("end", *STATUSES, "command"):
        _add(f"{kind}: parts not announced", [*parts_of(kind), b"\0" * 8], "header.arrays")
        _edit("array announced", kind, lambda h: h.update(arrays=[["index", "int64", [1]]]), "header.arrays")
        header = header_of(kind)
        header["arrays"] = [["index", "int64", [1]]]
        _add(f"{kind}: an array", [msgpack.packb(header), b"\0" * 8], "header.arrays")
    _edit("arrays announced", "frame", lambda h: h.update(arrays=[["index", "int64", [1]]]), "header.arrays")

    def positions(name: str, index: list[int], yx: list[list[float]], field: str) -> None:
        header = header_of("positions")
        arrays = np.array(index, np.int64), np.array(yx, np.float64)
        header["arrays"] = [["index", "int64", arrays[0].shape], ["yx_m", "float64", arrays[1].shape]]
        _add(f"positions: {name}", [msgpack.packb(header), arrays[0].tobytes(), arrays[1].tobytes()], field)

    place = [0.0, 0.0]
    positions("index falls", [2, 1], [place, place], "positions.index")
    positions("index stays", [2, 2], [place, place], "positions.index")
    positions("index negative", [-1, 2], [place, place], "positions.index")
    positions("index wraps", [2**63 - 1, -(2**63)], [place, place], "positions.index")
    positions("more indices than places", [1, 2, 3], [place, place], "positions.yx_m")
    positions("three coordinates", [1, 2], [[0, 0, 0], [1, 1, 1]], "positions.yx_m")
    positions("flat places", [1, 2], [0, 0, 1, 1], "positions.yx_m")
    positions("an index of two axes", [[1], [2]], [place, place], "positions.index")
    positions("nan", [1, 2], [place, [0, math.nan]], "positions.yx_m")
    positions("infinity", [1, 2], [place, [-math.inf, 0]], "positions.yx_m")

    header = header_of("snapshot")
    header["arrays"][2][2] = [30, 20]
    _add("snapshot: covered transposed", [msgpack.packb(header), *parts_of("snapshot")[1:]], "snapshot.covered")
    header = header_of("snapshot")
    header["arrays"][3][2] = [8, 8]
    _add("snapshot: probe of two axes", [msgpack.packb(header), *parts_of("snapshot")[1:]], "snapshot.probe")
    for i, (name, _, shape) in enumerate(header_of("estimates")["arrays"]):
        header, parts = header_of("estimates"), parts_of("estimates")
        header["arrays"][i][2] = [shape[0] - 1, *shape[1:]] if name != "background" else [96]
        parts[1 + i] = (
            parts[1 + i][: len(parts[1 + i]) * (shape[0] - 1) // shape[0]] if name != "background" else parts[1 + i]
        )
        field = "recorded_yx_m" if name == "index" else name
        _add(f"estimates: {name} of another shape", [msgpack.packb(header), *parts[1:]], f"estimates.{field}")
    parts = parts_of("estimates")
    for index in ([5, 1, 0], [1, 1, 5], [-1, 0, 1], [2**63 - 1, -(2**63), 0]):
        changed = [parts[0], np.array(index, np.int64).tobytes(), *parts[2:]]
        _add(f"estimates: index {index}", changed, "estimates.index")
    header = header_of("start")
    header["arrays"][0][2] = [24, 16]
    _add("start: valid transposed", [msgpack.packb(header), *parts_of("start")[1:]], "start.valid")


def _payloads() -> None:
    header, first, second = parts_of("frame")
    _add("frame: no pixels", [header], "frame.payload")
    _add("frame: one of two", [header, first], "frame.index")
    _add("frame: three of two", [header, first, second, first], "frame.index")
    _add("frame: pixels cut", [header, first, second[:-1]], "frame.payload")
    _add("frame: pixels too long", [header, first, second + b"\0"], "frame.payload")
    _add("frame: empty pixels", [header, first, b""], "frame.payload")
    _add("frame: a megabyte of random pixels", [header, first, random.Random(2).randbytes(1 << 20)], "frame.payload")

    compressed = Frame(scan_id="s1", index=np.array([3]), timestamp_ns=np.array([0]), payload=bslz4(PIXELS[:1]))
    header, chunk = (bytes(part) for part in encode(compressed))
    size, block = struct.unpack_from(">QI", chunk)

    def swap(name: str, total: int, block: int, rest: bytes = chunk[12:]) -> None:
        _add(f"bslz4: {name}", [header, struct.pack(">QI", total, block) + rest], "frame.payload")

    swap("size of 10^12", 10**12, block)
    swap("size of 2^64 - 1", 2**64 - 1, block)
    swap("size of 2^63", 2**63, block)
    swap("size 0", 0, block)
    swap("one byte less", size - 1, block)
    swap("one byte more", size + 1, block)
    swap("block 0", size, 0)
    swap("block 1", size, 1)
    swap("block of 2^32 - 1", size, 2**32 - 1)
    swap("block of 2^31", size, 2**31)
    _add("bslz4: twelve zero bytes", [header, b"\0" * 12], "frame.payload")
    _add("bslz4: zero bytes", [header, b"\0" * 1000], "frame.payload")
    for cut in range(12):
        _add(f"bslz4: cut to {cut} bytes", [header, chunk[:cut]], "frame.payload")
    for shape in ([10**6, 10**6], [2**31, 2**31]):
        huge = header_of("frame")
        huge["fields"].update(encoding="bslz4", shape=shape, index=[0], timestamp_ns=[0])
        total = shape[0] * shape[1] * 2
        body = struct.pack(">QI", total, block) + chunk[12:]
        _add(f"bslz4: header and shape agree on {total} bytes", [msgpack.packb(huge), body], "frame.payload")

    for cut in (12, 15, 16, 17, len(chunk) - 1):
        CORRUPT_PIXELS.append((f"bslz4: cut to {cut} bytes", [header, chunk[:cut].ljust(13, b"\0")]))
    for word in (0, 1, 2**31, 2**32 - 1):
        body = chunk[:12] + struct.pack(">I", word) + chunk[16:]
        CORRUPT_PIXELS.append((f"bslz4: first block says {word} bytes", [header, body]))
    CORRUPT_PIXELS.append(("bslz4: random blocks", [header, chunk[:12] + random.Random(3).randbytes(500)]))


_bytes()
_envelope()
_fields_of_every_kind()
_values()
_arrays()
_payloads()
assert WIRE_VERSION == 1, "look at the entries about versions again"
