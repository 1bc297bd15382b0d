"""The growing file of a scan that does not go on, made whole after its writer died.

All is done in an order in which it can be broken off, and done again.
"""

import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import h5py
import numpy as np

from streamptycho.display.logbook import save_picture
from streamptycho.errors import FormatError
from streamptycho.files import pictures
from streamptycho.files.durable.disk import is_held
from streamptycho.files.durable.mend import (
    DARKS,
    END_REASON,
    FRAMES,
    POSITIONS,
    count_frames,
    count_positions,
    growing,
    make_even,
    mend,
    opened,
    run_of,
    to_mend,
    unfinished_run,
)
from streamptycho.files.durable.note import remove_note
from streamptycho.files.durable.superblock import End
from streamptycho.files.items import ENTRY, TEXT, fixed
from streamptycho.files.naming import PICTURE, RESULT, beside
from streamptycho.files.outcome import Outcome
from streamptycho.files.paths import LIVE, LIVE_KEY, TRANSLATION, text
from streamptycho.files.report import COUNTERS, read_report
from streamptycho.files.result import write_result
from streamptycho.files.scan import open_scan
from streamptycho.files.snapshots import latest, stored_bytes
from streamptycho.messages.reasons import EndReason, Stream
from streamptycho.messages.stream import ScanEnd


@dataclass(frozen=True, slots=True)
class Recovered:
    """What was found in a file, and what was done about it."""

    frames: int
    """Rows that hold a frame."""
    positions: int
    snapshots: int
    cut: int
    """Rows that a commit had begun and not finished; nobody had been told of them."""
    end: EndReason
    changed: bool
    """False if the file was whole before."""
    made: tuple[Path, ...] = ()
    """Files that were missing beside it and have been made of its newest snapshot."""


def recover(path: Path) -> Recovered:
    """Make a growing file whole after its writer died, for a scan that does not go on; all that was committed is kept.

    What was not committed is cut, ``image_1`` gets the newest snapshot, the end is ``aborted``; where there is no result and
    no picture beside the file, these are made as well. A file that has an end is not changed, except that it may be opened.

    Raises FormatError naming the reason for a file that another process has open, that is none of this program's growing
    files, or that cannot be read even so; such a file stays as it is.
    """
    path = Path(path)
    with to_mend(path) as descriptor:
        written_s = os.fstat(descriptor).st_mtime
        changed, cut = mend(path, descriptor), 0
        with opened(path, "r") as file:
            ended = bool(text(file[END_REASON][()]))
        if not ended:
            with growing(path) as file:
                cut = _cut(file)
                make_even(file)
                _abort(file, written_s)
                End(file).close()
        os.fsync(descriptor)
        remove_note(path)
        made = _complete(path)
    with opened(path, "r") as file:
        counts = count_frames(file), count_positions(file), int(file[f"{COUNTERS}/snapshots"][()])
        return Recovered(*counts, cut, EndReason(text(file[END_REASON][()])), changed or not ended, made)


def _cut(file: h5py.File) -> int:
    """Take away the rows behind the last frame and position, and pictures that were not counted; the number of rows."""
    count = int(file[f"{COUNTERS}/snapshots"][()])
    for dataset in file[f"{LIVE}/snapshots"].values():
        if len(dataset) > count:
            dataset.resize(count, axis=0)
    before = len(file[FRAMES[0]])
    placed = np.isfinite(file[TRANSLATION][()]).all(axis=1)
    for alike, used in (((*FRAMES, *POSITIONS), (file[LIVE_KEY][()] > 0, placed)), (DARKS, (file[DARKS[1]][()] > 0,))):
        rows = max((int(np.flatnonzero(one)[-1]) + 1 if one.any() else 0) for one in used)
        for name in alike:
            if len(file[name]) > rows:
                file[name].resize(rows, axis=0)
    file.flush()
    return max(0, before - len(file[FRAMES[0]]))


def _abort(file: h5py.File, written_s: float) -> None:
    """Fill in the picture there is, and the end. The reason comes last: with it, all is there."""
    snapshot = latest(file, run_of(file))
    if snapshot is not None:
        End(file).reserve(3 * stored_bytes(snapshot.object.shape, snapshot.probe.shape))
        pictures.fill(file, snapshot)
    if not text(file[f"{ENTRY}/end_time"][()]):
        file[f"{ENTRY}/end_time"][()] = fixed(datetime.fromtimestamp(written_s, UTC).isoformat(), TEXT)
    file.flush()
    End(file).reserve(0)
    file[END_REASON][()] = fixed(EndReason.ABORTED.value, TEXT)


def _complete(path: Path) -> tuple[Path, ...]:
    """Make the result and the picture that are not beside a file with snapshots."""
    result, picture = (beside(path, suffix) for suffix in (RESULT, PICTURE))
    if result.exists() and picture.exists():
        return ()
    with opened(path, "r") as file:
        snapshot, reason = latest(file, run_of(file)), EndReason(text(file[END_REASON][()]))
        assessment = read_report(file).assessment
    if snapshot is None:
        return ()
    made = []
    if not result.exists():
        try:
            with open_scan(path) as scan:
                start, report = scan.start(snapshot.scan_id, snapshot.started_ns), scan.report
        except FormatError as error:
            raise FormatError(f"{path}: is whole again, but no result can be made of it ({error})") from error
        outcome = Outcome(
            start=start,
            snapshot=snapshot,
            end=ScanEnd(**start.run.fields, stream=Stream.SCAN, count=report.written or 0, reason=reason),
            config_json=json.dumps(report.config or {}),
            estimates=report.estimates,
            assessment=report.assessment,
            ledger=report.ledger,
            written=report.written,
            missing=report.missing,
            remarks=report.remarks,
        )
        write_result(result, outcome)
        made.append(result)
    if not picture.exists():
        save_picture(picture, snapshot, assessment)
        made.append(picture)
    return tuple(made)


def state_of(path: Path) -> str | None:
    """What is to be known before others read a growing file that has no end; None for every other file."""
    if unfinished_run(path) is None:
        return None
    if is_held(path):
        return "it is being written; what it held a moment ago counts"
    return (
        "its writer died, or was never told to finish it. To go on with its scan start the services again; "
        f"else `streamptycho recover {path}` makes it readable for every program and writes the last picture"
    )
