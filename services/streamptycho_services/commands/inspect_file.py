"""What is in a recorded scan or in a result: units as understood, what the reconstruction learnt, and a picture."""

import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from streamptycho.config import Config
from streamptycho.display.phase import displayed_phase, to_gray
from streamptycho.files.options import ReadOptions
from streamptycho.files.recorded.quantities import median_step
from streamptycho.files.recover import state_of
from streamptycho.files.report import Report
from streamptycho.files.result import Result, is_result, read_result
from streamptycho.files.scan import RecordedScan, open_scan
from streamptycho.messages.geometry import in_unit
from streamptycho.messages.results import Assessment, Estimates

MEAN_FRAMES = 200
SIDE = 420
_UNITS = {"_per_m": "1/m", "_per_s": "1/s", "_m2": "m^2", "_m": "m", "_ev": "eV", "_px": "px", "_s": "s"}
_LONG = 8
"""People get no list of more numbers than this."""


def inspect_file(path: Path, picture: Path | None, options: ReadOptions | None = None) -> dict[str, Any]:
    """Facts about the scan or the result in `path`, for JSON; writes a PNG if `picture` is given."""
    if is_result(path):
        result = read_result(path)
        return _result_facts(path, result) | _save(partial(_draw_result, result), picture)
    with open_scan(path, options) as scan:
        placed = scan.yx_m[np.isfinite(scan.yx_m).all(1)]
        facts = _scan_facts(scan, placed) | _report_facts(scan.report)
        if (state := state_of(path)) is not None:
            facts["state"] = state
        return facts | _save(partial(_draw_scan, scan, placed), picture if len(scan) else None)


def _save(draw: Callable[[], Image.Image], picture: Path | None) -> dict[str, str]:
    if picture is None:
        return {}
    draw().save(picture)
    return {"picture": str(picture)}


def readable(facts: dict[str, Any], indent: str = "") -> Iterator[str]:
    """The facts for people: a line each, numbers with the unit that their name ends with, settings that are not default."""
    for key, value in facts.items():
        if key == "config":
            changed = _flat(value).items() - _flat(Config().model_dump(mode="json")).items()
            yield from (f"setting {name}: {setting}" for name, setting in sorted(changed))
            continue
        suffix = next((end for end in _UNITS if key.endswith(end)), "")
        name = key.removesuffix(suffix).replace("_", " ")
        if isinstance(value, dict):
            yield f"{indent}{name}:{'' if value else ' none'}"
            yield from readable(value, indent + "  ")
        elif isinstance(value, list):
            shown = ", ".join(_shown(one, _UNITS.get(suffix, "")) for one in value)
            yield f"{indent}{name}: {shown if len(value) <= _LONG else f'{len(value)} values, shown by --json'}"
        else:
            yield f"{indent}{name}: {_shown(value, _UNITS.get(suffix, ''))}"


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in settings.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: str(value)}
    return flat


def _shown(value: Any, unit: str) -> str:
    if value is None:
        return "not known"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, int | float):
        return str(value)
    if unit != "m" or not 0 < abs(value) < 1:
        return f"{value:.6g} {unit}".rstrip()
    return "{:.4g} {}".format(*in_unit(value))


def _scan_facts(scan: RecordedScan, placed: NDArray[np.float64]) -> dict[str, Any]:
    geometry = scan.geometry
    return {
        "file": str(scan.path),
        "dialect": str(scan.dialect),
        "frames": len(scan),
        "frames_with_position": len(placed),
        "frame_shape": list(geometry.frame_shape),
        "pixel_type": str(scan.dtype),
        "energy_ev": round(geometry.energy_ev, 3),
        "distance_m": geometry.distance_m,
        "detector_pixel_m": list(geometry.pitch_m),
        "object_pixel_m": list(geometry.object_pixel_m(geometry.frame_shape)),
        "scan_extent_yx_m": np.ptp(placed, axis=0).tolist() if len(placed) else [0.0, 0.0],
        "median_step_m": _number(median_step(placed)),
        "masked_pixels": int((~scan.valid).sum()) if scan.valid is not None else 0,
        "probe_modes": int(scan.probe.shape[0]) if scan.probe is not None else 0,
        "understood": dict(scan.understood),
    }


def _result_facts(path: Path, result: Result) -> dict[str, Any]:
    history = result.error_per_iteration
    return {
        "file": str(path),
        "dialect": "result",
        "frames_written": result.report.written,
        "object_shape": list(result.object.shape),
        "object_pixel_m": list(result.pixel_m),
        "object_origin_yx_m": list(result.origin_m),
        "probe_shape": list(result.probe.shape),
        "algorithm": result.algorithm,
        "passes": len(history),
        "error": _number(history[-1]) if len(history) else None,
    } | _report_facts(result.report)


def _report_facts(report: Report) -> dict[str, Any]:
    """What the report holds, without what it does not."""
    facts: dict[str, Any] = {"title": report.title, "program": report.program}
    if report.complete is not None:
        lack = report.missing
        facts |= {"complete": report.complete, "end_reason": report.end_reason, "missing_frames": lack.frames}
        facts |= {"missing_positions": lack.positions, "index_gaps": lack.gaps}
    if report.remarks:
        facts["remarks"] = list(report.remarks)
    if report.ledger is not None:
        facts["frame_counts"] = report.ledger.as_dict()
    if report.assessment is not None:
        facts |= _assessment_facts(report.assessment)
    if report.estimates is not None:
        facts["estimates"] = _estimates_facts(report.estimates)
    return {name: value for name, value in (facts | {"config": report.config}).items() if value is not None}


def _assessment_facts(assessment: Assessment) -> dict[str, Any]:
    return {
        "verdict": assessment.verdict,
        "trusted": assessment.trusted,
        "findings": assessment.findings,
        "resolution_m": assessment.figures.get("resolution_m"),
        "criterion": assessment.criterion or None,
        "figures": {name: _number(value) for name, value in assessment.figures.items()},
        "frequency_per_m": assessment.frequency_per_m.tolist(),
        "ring_correlation": [_number(value) for value in assessment.ring_correlation],
    }


def _estimates_facts(estimates: Estimates) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "frames": len(estimates.index),
        "probe_origin": estimates.probe_origin,
        "trust": estimates.trust,
        "unexplained": _number(estimates.unexplained),
        "mode_powers": list(estimates.mode_powers),
    }
    if estimates.refined_yx_m is not None:
        shift_m = np.hypot(*(estimates.refined_yx_m - estimates.recorded_yx_m).T)
        facts |= {
            "position_shift_rms_m": float(np.sqrt((shift_m**2).mean())),
            "position_shift_largest_m": float(shift_m.max()),
        }
    if estimates.flux is not None:
        facts |= {"flux_from": float(estimates.flux.min()), "flux_to": float(estimates.flux.max())}
    if estimates.background is not None:
        facts["background_counts_per_frame"] = float(estimates.background.sum(dtype=np.float64))
    return facts


def _number(value: Any) -> float | None:
    """What JSON can hold."""
    return float(value) if math.isfinite(value) else None


def _draw_result(result: Result) -> Image.Image:
    """Phase of the object as the live page shows it."""
    covered = np.ones(result.object.shape, np.bool_) if result.covered is None else result.covered
    return Image.fromarray(to_gray(displayed_phase(result.object, covered)))


def _draw_scan(scan: RecordedScan, placed: NDArray[np.float64]) -> Image.Image:
    """Mean pattern (log) on the left, positions on the right."""
    rows = np.unique(np.linspace(0, len(scan) - 1, min(len(scan), MEAN_FRAMES)).astype(int))
    mean = np.mean([scan.frame(int(index)).astype(np.float64) for index in scan.index[rows]], axis=0)
    if scan.valid is not None:
        mean = np.where(scan.valid, mean, np.nan)
    pattern = Image.fromarray(to_gray(np.log1p(np.maximum(mean, 0)).astype(np.float32)))
    canvas = Image.new("L", (2 * SIDE + 60, SIDE + 60), 0)
    canvas.paste(pattern.resize((SIDE, SIDE), Image.Resampling.NEAREST), (20, 40))
    draw = ImageDraw.Draw(canvas)
    draw.text((20, 16), f"mean of {len(rows)} patterns, log", fill=255)
    if len(placed):
        low, span = placed.min(0), float(np.ptp(placed, axis=0).max()) or 1.0
        draw.text((SIDE + 40, 16), f"{len(placed)} positions, field {span * 1e6:.2f} um, +y down", fill=255)
        for y, x in (placed - low) / span * (SIDE - 4):
            draw.ellipse((SIDE + 40 + x, 40 + y, SIDE + 42 + x, 42 + y), fill=200)
    return canvas
