"""What became of a scan, from its files, against what was sent and what the services say of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np

from streamptycho.display.known import Facts
from streamptycho.errors import FormatError
from streamptycho.files.durable.mend import make_readable
from streamptycho.files.paths import LIVE
from streamptycho.files.scan import open_scan
from streamptycho.messages.reasons import EndReason
from tests.chaos.detector import Sent

HARD = (
    "silent loss",
    "too much said",
    "false complete",
    "altered row",
    "does not open",
    "never ended",
    "needless loss",
    "imperfect",
    "died",
)
"""Findings that fail the test."""
SWALLOWED = "swallowed"
"""What a receiver that was killed took along in its sockets, which only the sender can count. Fails nothing."""


@dataclass
class Verdict:
    """One scan."""

    scan: Sent
    frames: int = 0
    """Of those that were taken from the sender, in a file."""
    lost: int = 0
    """And in none."""
    lost_positions: int = 0
    said: int | None = None
    """Frames that the services say are missing; None if they say nothing."""
    complete: bool = False
    """Whether anybody says that all is there."""
    findings: list[str] = field(default_factory=list)
    """Each begins with its sort."""


def judge(
    scan: Sent,
    paths: Sequence[Path],
    facts: Facts | None,
    unrecorded: int,
    *,
    writer_died: bool,
    receiver_died: bool = False,
    moved: bool = False,
) -> Verdict:
    """Compare all files of a scan with what was sent; recover those whose writer was killed, or lost sight of them.

    The last of `paths` is where the writer ended. `unrecorded` frames of a scan whose start was lost were counted since it
    began. A receiver that dies takes along what is in its sockets; with the end message in them, and without a plan, nobody
    can count what is missing, and the end says so: `timeout`, or `superseded` where the next scan has begun.
    """
    verdict = Verdict(scan)
    said = [facts.missing if facts is not None else None]
    said_positions = [facts.missing_positions if facts is not None else None]
    verdict.complete = bool(facts is not None and facts.complete)
    frames: set[int] = set()
    positions: set[int] = set()
    for path in paths:
        if not _opens(path):
            if writer_died or path.parent != paths[-1].parent:
                _recover(path, verdict)
            if not _opens(path):
                verdict.findings.append(f"does not open: {path.name}")
                continue
        rows, places = _compare(path, scan, verdict)
        frames |= rows
        positions |= places
        with h5py.File(path, "r") as file:
            if file[f"{LIVE}/end_reason"][()]:
                said.append(int(file[f"{LIVE}/counters/missing"][()]))
                said_positions.append(int(file[f"{LIVE}/counters/missing_positions"][()]))
            verdict.complete |= bool(file[f"{LIVE}/complete"][()])
    verdict.frames = len(frames & scan.frames.keys())
    verdict.lost = len(scan.frames) - verdict.frames
    # where no end says how many there were, positions of lost frames are not known of
    verdict.lost_positions = len((scan.positions & frames) - positions)
    verdict.said = max((number for number in said if number is not None and number >= 0), default=None)
    positions_said = max((number for number in said_positions if number is not None), default=0)
    if unrecorded:
        verdict.said = max(verdict.said or 0, min(unrecorded, verdict.lost))
    without_end = facts is not None and facts.end in (EndReason.TIMEOUT, EndReason.SUPERSEDED)
    unended = receiver_died and not scan.planned and without_end
    if unended and verdict.lost > (verdict.said or 0):
        verdict.findings.append(f"{SWALLOWED}: {verdict.lost} frames with the end message, said {verdict.said}")
    elif verdict.lost > (verdict.said or 0):
        verdict.findings.append(f"silent loss: {verdict.lost} frames, said {verdict.said}")
    if verdict.lost_positions > positions_said:
        verdict.findings.append(f"silent loss: {verdict.lost_positions} positions, said {positions_said}")
    if verdict.complete and (verdict.lost or verdict.lost_positions):
        verdict.findings.append(f"false complete: {verdict.lost} frames, {verdict.lost_positions} positions lost")
    # what lies in a folder that was `moved` away may count as missing
    if verdict.said is not None and verdict.said > verdict.lost and not moved:
        verdict.findings.append(f"too much said: {verdict.said} missing, {verdict.lost} are")
    return verdict


def _opens(path: Path) -> bool:
    try:
        with h5py.File(path, "r"):
            return True
    except OSError:
        return False


def _recover(path: Path, verdict: Verdict) -> None:
    try:
        make_readable(path)
    except FormatError as error:
        verdict.findings.append(f"does not open: {error}")


def _compare(path: Path, scan: Sent, verdict: Verdict) -> tuple[set[int], set[int]]:
    """Indices of the frames and of the positions in a file, all of them as they were sent."""
    counts, yx_m = scan.patterns.counts, scan.patterns.scan.yx_m
    with open_scan(path) as found, h5py.File(path, "r") as file:
        stamps = file[f"{LIVE}/timestamp_ns"][()]
        rows = found.index.tolist()
        places = np.flatnonzero(np.isfinite(found.yx_m).all(axis=1))
        wrong = [i for i in rows if i not in scan.frames or stamps[i] != scan.frames[i]]
        wrong += [i for i in rows if i not in wrong and not np.array_equal(found.frame(i), counts[i])]
        wrong_places = [i for i in places.tolist() if i >= len(yx_m) or not np.array_equal(found.yx_m[i], yx_m[i])]
    if wrong:
        verdict.findings.append(f"altered row: {len(wrong)} of {path.name}, the first {wrong[0]}")
    if wrong_places:
        verdict.findings.append(f"altered row: {len(wrong_places)} positions of {path.name}")
    return set(rows) - set(wrong), set(places.tolist())
