"""The header of a PandA capture.

Columns are called NAME.CAPTURE, ``INENC1.VAL.Mean``, and are in the units of the header whatever the server sends: it scales
them itself (SCALED), or leaves integers (UNSCALED), or sums of encoder values besides the number of them (RAW).
"""

import re
from dataclasses import dataclass
from xml.etree import ElementTree as ET

import numpy as np

from streamptycho.dialects.values import epoch_ns
from streamptycho.errors import CodecError
from streamptycho.messages.checks import Scalar
from streamptycho.messages.facts import StartParts

MAX_HEADER_BYTES = 64 << 10
MAX_FIELDS = 256
_TYPES = {"double": "<f8", "int32": "<i4", "uint32": "<u4", "int64": "<i8", "uint64": "<u8", "int96": "V12"}
COUNTS = ("PCAP.GATE_DURATION.Value", "PCAP.SAMPLES.Value")
"""Columns that hold the number of encoder values in a mean; the first is what newer servers call it."""
_HIDDEN = "PCAP.SAMPLES.Value"
MEANS = ("Mean", "Average")
_AS_NUMBER = re.compile(r"\d{1,19}")


@dataclass(frozen=True, slots=True)
class Field:
    """A captured field."""

    column: str
    kind: str
    """Its type as the server calls it."""
    capture: str
    scale: float | None = None
    offset: float = 0.0
    units: str = ""


@dataclass(frozen=True, slots=True)
class Header:
    """What a PandA says at the beginning of a capture."""

    run: str
    missed: int
    """Rows that were lost because the connection came late."""
    process: str
    """scaled, unscaled or raw."""
    binary: bool
    fields: tuple[Field, ...]
    row: np.dtype
    """Of a row, if it comes in binary: one entry for each field, f0 ..."""
    parts: StartParts
    left_out: frozenset[str]
    """Columns that cannot be given a meaning."""


def read_header(text: bytes) -> Header:
    """The header that stands in `text`; raises :class:`CodecError` for one that cannot be used."""
    if b"<!" in text or b"<?" in text:
        raise CodecError("panda.header", "declares or includes something, which no PandA does; is this its data port?")
    try:
        root = ET.fromstring(text.decode())
    except (ET.ParseError, ValueError) as error:
        raise CodecError("panda.header", f"not XML ({str(error)[:80]})") from error
    data = root.find("data")
    listed = root.findall("fields/field")
    if data is None or not 1 <= len(listed) <= MAX_FIELDS:
        raise CodecError(
            "panda.header", f"{len(listed)} fields; 1 to {MAX_FIELDS} in an element fields, and one data, are needed"
        )
    process, form = data.get("process", "").lower(), data.get("format", "").lower()
    if process not in ("scaled", "unscaled", "raw"):
        raise CodecError("panda.header.process", f"{process[:40]!r} is not Scaled, Unscaled or Raw")
    if form not in ("framed", "ascii"):
        raise CodecError(
            "panda.header.format", f"{form[:40]!r} cannot be read; set options.transport to 'framed' or 'ascii'"
        )
    fields = [_field(element) for element in listed]
    if process == "raw" and _has_mean(fields) and not any(field.column in COUNTS for field in fields):
        fields.insert(0, Field(_HIDDEN, "uint32", "Value"))  # servers before 2.1 send it without a word
    row = np.dtype([(f"f{i}", _TYPES[field.kind]) for i, field in enumerate(fields)])
    if form == "framed" and _count("sample_bytes", data) != row.itemsize:
        raise CodecError(
            "panda.header.sample_bytes",
            f"{data.get('sample_bytes', '')[:20]} bytes in a row, but its fields have {row.itemsize}; "
            "set options.process to 'scaled'",
        )
    left_out = frozenset(field.column for field in fields if _unclear(field, process))
    missed = _count("missed", data)
    return Header(
        run=(data.get("arm_time") or data.get("start_time") or "")[:64],
        missed=missed,
        process=process,
        binary=form == "framed",
        fields=tuple(fields),
        row=row,
        parts=_parts(data, fields, left_out, missed),
        left_out=left_out,
    )


def _field(element: ET.Element) -> Field:
    name, kind, capture = (element.get(key, "") for key in ("name", "type", "capture"))
    column = f"{name}.{capture}"
    if not name or kind not in _TYPES:
        raise CodecError("panda.header.fields", f"{column[:60]!r} has the type {kind[:20]!r}; known are {', '.join(_TYPES)}")
    if "scale" not in element.attrib:
        return Field(column, kind, capture)
    try:
        scale, offset = float(element.get("scale", "")), float(element.get("offset") or 0)
    except ValueError as error:
        raise CodecError("panda.header.fields", f"scale or offset of {column[:60]!r} is no number") from error
    return Field(column, kind, capture, scale, offset, element.get("units", ""))


def _count(name: str, data: ET.Element) -> int:
    text = data.get(name, "0")
    if not _AS_NUMBER.fullmatch(text) or int(text) >= 1 << 62:
        raise CodecError(f"panda.header.{name}", f"{text[:40]!r} is not a count")
    return int(text)


def _has_mean(fields: list[Field]) -> bool:
    return any(field.capture in MEANS for field in fields)


def _unclear(field: Field, process: str) -> bool:
    # servers differ by a factor of 256 in what an average is in integers
    return field.kind == "int96" or (process == "unscaled" and field.capture in MEANS)


def _parts(data: ET.Element, fields: list[Field], left_out: frozenset[str], missed: int) -> StartParts:
    doubts = []
    if missed:
        doubts.append(f"the connection came late: the first {missed} rows of the PandA are lost; connect before it is armed")
    if left_out:
        doubts.append(
            f"the PandA sends {', '.join(sorted(left_out))[:200]} in a form that has no certain meaning: left out; "
            "set options.process to 'scaled'"
        )
    metadata: dict[str, Scalar] = {}
    for key in ("arm_time", "start_time", "hw_time_offset_ns"):
        if data.get(key):
            metadata[f"panda_{key}"] = data.get(key, "")[:64]
    said = data.get("start_time") or data.get("arm_time") or ""
    started_ns = epoch_ns(said)
    if said and started_ns is None:
        doubts.append(f"the PandA's clock says {said[:64]!r}: no start time is kept; set its clock (NTP)")
    units = {field.column: field.units for field in fields if field.units}
    return StartParts(started_ns=started_ns, units=units, metadata=metadata, doubts=tuple(doubts))
