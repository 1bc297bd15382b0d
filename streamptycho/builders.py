"""Messages from the fields and arrays of a received header."""

import logging
from collections.abc import Callable
from typing import Any, TypeAlias

from streamptycho.errors import CodecError, GrammarError
from streamptycho.feed import Action, Assessment, Command, Preview, Survey
from streamptycho.fields import FieldReader
from streamptycho.geometry import Geometry
from streamptycho.messages import Frame, Message, Positions, ScanEnd, ScanPoint, ScanStart, Snapshot, Status, check_plan
from streamptycho.payload import Encoding, Payload
from streamptycho.reasons import EndReason, ServiceState, Stream

log = logging.getLogger(__name__)

Arrays: TypeAlias = dict[str, Any]


def _start(read: FieldReader, arrays: Arrays) -> ScanStart:
    table = FieldReader("start.geometry", read("geometry", dict))
    try:
        geometry = Geometry(
            wavelength_m=table("wavelength_m", float),
            distance_m=table("distance_m", float),
            pitch_m=table.pair("pitch_m", float),
            frame_shape=table.pair("frame_shape", int),
        )
    except ValueError as error:
        raise CodecError("start.geometry", str(error)) from error
    return ScanStart(
        scan_id=read("scan_id", str),
        geometry=geometry,
        dtype=read.dtype("dtype"),
        started_ns=read("started_ns", int),
        expected=read.optional("expected", int),
        valid=arrays.get("valid"),
        dark=arrays.get("dark"),
        probe=arrays.get("probe"),
        saturation=read.optional("saturation", int),
        beam_center_px=None if read.optional("beam_center_px", list) is None else read.pair("beam_center_px", float),
        metadata=read.table("metadata", str, float, bool),
        planned_yx_m=_plan(arrays.get("planned_yx_m")),
    )


def _plan(planned_yx_m: Any) -> Any:
    """As sent, if it can be shown: it is for the eye, and no frames shall be lost for it."""
    if planned_yx_m is None:
        return None
    try:
        check_plan(planned_yx_m)
    except GrammarError as error:
        log.warning("the plan of a scan is not shown: %s", error)
        return None
    return planned_yx_m


def _frame(read: FieldReader, parts: Arrays) -> Frame:
    payload = Payload(
        chunks=parts["chunks"],
        encoding=read.choice("encoding", Encoding),
        dtype=read.dtype("dtype"),
        shape=read.pair("shape", int),
    )
    return Frame(
        scan_id=read("scan_id", str),
        index=read.integers("index"),
        timestamp_ns=read.integers("timestamp_ns"),
        payload=payload,
        dark=read("dark", bool),
    )


def _point(read: FieldReader, parts: Arrays) -> ScanPoint:
    return ScanPoint(frame=_frame(read, parts), yx_m=read.pair("yx_m", float))


def _positions(read: FieldReader, arrays: Arrays) -> Positions:
    return Positions(scan_id=read("scan_id", str), index=arrays["index"], yx_m=arrays["yx_m"])


def _end(read: FieldReader, _: Arrays) -> ScanEnd:
    return ScanEnd(
        scan_id=read("scan_id", str),
        stream=read.choice("stream", Stream),
        count=read("count", int),
        reason=read.choice("reason", EndReason),
        started_ns=read.optional("started_ns", int) or 0,
    )


def _snapshot(read: FieldReader, arrays: Arrays) -> Snapshot:
    return Snapshot(
        scan_id=read("scan_id", str),
        started_ns=read("started_ns", int),
        sequence=read("sequence", int),
        final=read("final", bool),
        time_ns=read("time_ns", int),
        frames_used=read("frames_used", int),
        updates=read("updates", int),
        error=read("error", float),
        algorithm=read("algorithm", str),
        origin_m=read.pair("origin_m", float),
        pixel_m=read.pair("pixel_m", float),
        newest_ns=read.optional("newest_ns", int) or 0,
        **arrays,
    )


def _status(read: FieldReader, _: Arrays) -> Status:
    return Status(
        service=read("service", str),
        scan_id=read.optional("scan_id", str),
        state=read.choice("state", ServiceState),
        time_ns=read("time_ns", int),
        started_ns=read("started_ns", int),
        received=read("received", int),
        used=read("used", int),
        waiting=read("waiting", int),
        dropped=read.table("dropped", int),
        figures=read.table("figures", float),
        notes=read.table("notes", str),
    )


def _survey(read: FieldReader, arrays: Arrays) -> Survey:
    return Survey(
        scan_id=read("scan_id", str),
        started_ns=read("started_ns", int),
        time_ns=read("time_ns", int),
        known=read("known", int),
        **arrays,
    )


def _preview(read: FieldReader, arrays: Arrays) -> Preview:
    return Preview(
        scan_id=read("scan_id", str),
        started_ns=read("started_ns", int),
        time_ns=read("time_ns", int),
        index=read("index", int),
        binning=read("binning", int),
        centre_px=read.pair("centre_px", float),
        crop_px=read.pair("crop_px", int),
        crop_shape_px=read.pair("crop_shape_px", int),
        **arrays,
    )


def _assessment(read: FieldReader, arrays: Arrays) -> Assessment:
    return Assessment(
        scan_id=read("scan_id", str),
        started_ns=read("started_ns", int),
        time_ns=read("time_ns", int),
        verdict=read("verdict", str),
        findings=read.table("findings", str),
        figures=read.table("figures", float),
        **arrays,
    )


def _command(read: FieldReader, _: Arrays) -> Command:
    return Command(
        action=read.choice("action", Action),
        scan_id=read("scan_id", str),
        started_ns=read.optional("started_ns", int) or 0,
        value=read("value", int),
    )


BUILDERS: dict[type, Callable[[FieldReader, Arrays], Message]] = {
    ScanStart: _start,
    Frame: _frame,
    Positions: _positions,
    ScanEnd: _end,
    ScanPoint: _point,
    Snapshot: _snapshot,
    Status: _status,
    Survey: _survey,
    Preview: _preview,
    Assessment: _assessment,
    Command: _command,
}
