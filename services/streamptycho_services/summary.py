"""What came out of a run, in the words of the command line's contract."""

from pathlib import Path
from typing import Any

import numpy as np

from streamptycho.files.result import Result, read_result
from streamptycho.ledger import Ledger
from streamptycho.messages import Status
from streamptycho.quality import compare
from streamptycho_services.watch import Watcher


def summarise(watcher: Watcher, truth: Path | None) -> dict[str, Any]:
    """Files, ledger and agreement with the truth of the last scan written; all scans in ``scans`` if there were several.

    ``written`` is the number of frames in the file, ``write_problem`` says what is not in it, ``problem`` what went wrong in
    any service. Only the scan that the truth belongs to is compared with it.
    """
    scans = [_scan(watcher, scan_id, truth) for scan_id in watcher.written()]
    if not scans:
        return _facts(None, Ledger())
    return scans[-1] if len(scans) == 1 else {**scans[-1], "scans": scans}


def _scan(watcher: Watcher, scan_id: str, truth: Path | None) -> dict[str, Any]:
    status = watcher.status("write", scan_id)
    result = status.notes.get("result") if status is not None else None
    correlation = None
    if result is not None and truth is not None and truth_of(truth) == scan_id:
        correlation = correlation_with_truth(read_result(Path(result)), truth)
    facts = _facts(status, watcher.ledger(scan_id), correlation)
    return facts | {"write_problem": watcher.write_problem(scan_id), "problem": watcher.problem(scan_id)}


def _facts(status: Status | None, ledger: Ledger, correlation: float | None = None) -> dict[str, Any]:
    notes = status.notes if status is not None else {}
    return {
        "cxi": notes.get("file"),
        "result": notes.get("result"),
        "picture": notes.get("picture"),
        "frames": ledger.as_dict(),
        "written": status.used if status is not None else 0,
        "write_problem": None,
        "problem": None,
        "phase_correlation": correlation,
    }


def problems(summary: dict[str, Any]) -> list[str]:
    """The problems of all scans of a summary."""
    return [scan["problem"] for scan in summary.get("scans", [summary]) if scan["problem"]]


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
