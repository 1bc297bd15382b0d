"""A scan, from whatever file, in our own layout, with all frames readable without a plugin."""

from pathlib import Path

import numpy as np

from streamptycho.files.export.material import Material
from streamptycho.files.options import WriterOptions
from streamptycho.files.outcome import Outcome
from streamptycho.files.storage import DEFLATED_BYTES
from streamptycho.files.writer import CxiWriter
from streamptycho.messages.payload import Payload
from streamptycho.messages.reasons import EndReason, Stream
from streamptycho.messages.stream import Frame, Positions, ScanEnd


def write_plain(path: Path, there: Material) -> None:
    """Write what a finished scan leaves, with the picture where there is one. Raises FormatError where there is no scan."""
    scan, result = there.need_scan, there.result
    report = scan.report if result is None else result.report
    start = scan.start(there.title, scan.started_ns if result is None else result.started_ns)
    known = np.flatnonzero(np.isfinite(scan.yx_m).all(axis=1))
    reason = EndReason(scan.report.end_reason or EndReason.COMPLETE)
    # a commit deflates so much: each holds no more, and none of the frames is stored as it is
    options = WriterOptions(compression="plain", batch_bytes=DEFLATED_BYTES)
    with CxiWriter(path, start, options=options) as writer:
        for i in scan.index:
            pixels = np.ascontiguousarray(scan.frame(int(i)), scan.dtype)
            index = np.array([i], np.int64)
            writer.append(
                Frame(scan_id=there.title, index=index, timestamp_ns=scan.timestamp_ns[index], payload=Payload.raw(pixels))
            )
        if len(known):
            writer.positions(Positions(scan_id=there.title, index=known, yx_m=scan.yx_m[known]))
        writer.finish(
            Outcome(
                start=start,
                snapshot=None if result is None else result.snapshot(there.title),
                end=ScanEnd(scan_id=there.title, stream=Stream.SCAN, count=len(scan), reason=reason),
                estimates=report.estimates,
                assessment=report.assessment,
                ledger=report.ledger,
                written=len(scan),
                missing=report.missing,
                remarks=report.remarks,
            )
        )
