"""What came out of a run, in the words of the command line's contract."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from streamptycho.assess.truth import compare
from streamptycho.display.known import Facts, Known
from streamptycho.display.ledger import Missing
from streamptycho.errors import BEGAN_BEFORE
from streamptycho.files.result import Result, read_result
from streamptycho.messages.reasons import DropReason, EndReason
from streamptycho.messages.run import RunId
from streamptycho.pipeline.notices import REJECTED
from streamptycho_services.processes.watch import Watcher

_ON_PURPOSE = (EndReason.ABORTED, EndReason.INTERRUPTED)
_UNRECORDED = ("no_start", "unrecorded", "unpaired", "unplaced")
"""Why messages were refused that scans lack, be they in the summary or not."""
_HARMLESS = ("stranger", "repeated_start")
_UNREADABLE = "they are not of the format that detector.*.format says; `streamptycho check` names what comes"
_WORDS = REJECTED | {BEGAN_BEFORE: "they are of a run that began before anybody listened"}


def summarise(watcher: Watcher, truth: Path | None, failures: Sequence[str] = ()) -> dict[str, Any]:
    """Verdict, files, ledger and agreement with the truth of the last scan; all in ``scans`` if there are several.

    ``verdict``, ``findings`` (code to sentence), ``trusted`` and ``figures`` are those of the newest assessment; ``judged``
    tells whether it is the final one. ``written`` is the number of frames in the file, ``missing`` and
    ``missing_positions`` what is not in it, None where nobody knows, and ``complete`` whether all agree that nothing is,
    None where no file was closed;
    ``end`` tells why the scan ended, ``remarks`` what is to be known of how it was put together, ``write_problem`` what came
    and could not be written, ``problem`` what went wrong in any service. Only the scan that the truth belongs to is compared
    with it. A scan that has no closed file is among them. ``refused`` counts, by reason, messages of no scan and those that
    no scan could use, ``refusals`` are sentences that tell why, of what came between scans and was not followed by anything
    that could be understood; ``stream_remarks`` is what else concerns no scan; ``failures`` are those of services at the
    end.
    """
    scans = [_scan(known.facts(), truth) for known in watcher.runs]
    last = scans[-1] if scans else _scan(Known(RunId("")).facts(), None)
    refused = {"refused": dict(watcher.refused), "refusals": list(watcher.refusals)}
    of_all = refused | {"stream_remarks": watcher.stream_remarks, "failures": list(failures)}
    return last | ({"scans": scans} if len(scans) > 1 else {}) | of_all


def _scan(facts: Facts, truth: Path | None) -> dict[str, Any]:
    correlation = None
    if facts.result is not None and truth is not None and truth_of(truth) == facts.run.scan_id:
        correlation = correlation_with_truth(read_result(Path(facts.result)), truth)
    return {
        "scan": facts.run.scan_id or None,
        "verdict": facts.verdict,
        "findings": facts.findings,
        "trusted": facts.trusted,
        "judged": facts.judged,
        "cxi": facts.file,
        "result": facts.result,
        "picture": facts.picture,
        "frames": facts.ledger.as_dict(),
        "written": facts.written or 0,
        "complete": facts.complete,
        "missing": facts.missing,
        "missing_positions": facts.missing_positions,
        "end": facts.end,
        "remarks": list(facts.remarks),
        "write_problem": facts.write_problem,
        "problem": facts.problem,
        "phase_correlation": correlation,
        "figures": facts.figures,
    }


def problems(summary: dict[str, Any]) -> list[str]:
    """The problems of all scans of a summary, and of services at the end."""
    return [*(scan["problem"] for scan in summary.get("scans", [summary]) if scan["problem"]), *summary["failures"]]


def shortfalls(summary: dict[str, Any]) -> list[str]:
    """A line for each scan of a summary of which something is missing, or of which nobody knows that nothing is, and for
    what came and is of no scan.

    A scan that was stopped on purpose, by its source or with these services, is not complete and misses nothing.
    """
    lines = []
    for scan in summary.get("scans", [summary]):
        lack = str(Missing(scan["missing"], scan["missing_positions"]))
        if lack or (scan["scan"] and not scan["complete"] and scan["end"] not in _ON_PURPOSE):
            unknown = "its file was not closed" if scan["complete"] is None else "not known what is missing"
            lines.append(f"scan {scan['scan']} is not complete ({scan['end'] or 'no end'}): {lack or unknown}")
        elif unplaced := _unplaced(scan["frames"]):
            lines.append(f"scan {scan['scan']}: none of its {unplaced} frames has found a position; the log says what came")
    for reason, count in summary["refused"].items():
        if reason in _UNRECORDED or (summary["scan"] is None and reason not in _HARMLESS):
            lines.append(f"{count} messages are in no file ({reason}): {_WORDS.get(reason, _UNREADABLE)}")
    return [*lines, *(summary["refusals"] if lines or "undecodable" in summary["refused"] else ())]


def _unplaced(frames: dict[str, Any]) -> int:
    """Frames without a position of a scan of which no other was of use to the reconstruction."""
    without: int = frames["dropped"].get(DropReason.NO_POSITION.value, 0)
    return without if not (frames["used"] or frames["waiting"]) else 0


def truth_of(truth: Path) -> str | None:
    """Id of the scan that a truth of the simulator (.npz) belongs to; None if there is no such file or it does not say."""
    if not truth.is_file():
        return None
    with np.load(truth, allow_pickle=False) as known:
        return str(known["scan_id"]) if "scan_id" in known else None


def correlation_with_truth(result: Result, truth: Path) -> float | None:
    """Phase correlation of a result with the truth that the simulator saved (.npz); None where they do not overlap."""
    with np.load(truth, allow_pickle=False) as known:
        pixel_m = known["pixel_m"]
        agreement = compare(
            result.object,
            abs(result.object) > 0,
            (result.origin_m[0] / pixel_m[0], result.origin_m[1] / pixel_m[1]),
            known["obj"],
            known["support"],
            (known["origin_m"][0] / pixel_m[0], known["origin_m"][1] / pixel_m[1]),
        )
    return round(agreement.phase_correlation, 4) if agreement else None
