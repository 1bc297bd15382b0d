"""What came out of a run, in the words of the command line's contract."""

from pathlib import Path
from typing import Any

import numpy as np

from streamptycho.files import Result, read_result
from streamptycho.messages import Status
from streamptycho.quality import compare
from streamptycho_services.watch import Watcher


def summarise(watcher: Watcher, truth: Path | None) -> dict[str, Any]:
    """Files, ledger and agreement with the truth of the last scan written; all scans in ``scans`` if there were several."""
    scans = [_scan(watcher, scan_id, truth) for scan_id in watcher.written()]
    if not scans:
        empty = {"received": 0, "used": 0, "waiting": 0, "dropped": {}}
        return {"cxi": None, "result": None, "picture": None, "frames": empty, "phase_correlation": None}
    return scans[-1] if len(scans) == 1 else {**scans[-1], "scans": scans}


def _scan(watcher: Watcher, scan_id: str, truth: Path | None) -> dict[str, Any]:
    status = watcher.status("write", scan_id)
    notes = status.notes if isinstance(status, Status) else {}
    result = notes.get("result")
    return {
        "cxi": notes.get("file"),
        "result": result,
        "picture": notes.get("picture"),
        "frames": watcher.ledger(scan_id).as_dict(),
        "phase_correlation": correlation_with_truth(read_result(Path(result)), truth) if result and truth else None,
    }


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
