"""How a scan went and what the reconstruction learnt from it: the same places in the growing file and in the result.

:data:`ESTIMATES` and :data:`ASSESSMENT` name each dataset once. The growing file has all of them from the beginning, empty;
the result has those that are known. Empty and absent mean the same: not estimated, or not assessed.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from streamptycho.display.ledger import Ledger, Missing
from streamptycho.errors import FormatError, GrammarError
from streamptycho.files.fields import SENTENCE, Field, create_fields, fill_fields, known, numbers, write_fields
from streamptycho.files.items import ENTRY, TEXT, link, make_group, make_plot, put, texts
from streamptycho.files.outcome import Outcome
from streamptycho.files.paths import LIVE, find, text
from streamptycho.messages.reasons import DropReason
from streamptycho.messages.results import Assessment, Estimates
from streamptycho.messages.run import RunId

DROP_REASONS = (*(reason.value for reason in DropReason), "other")
"""Reasons that have a counter of their own in the growing file; any further reason counts as ``other``."""
FIGURES: dict[str, int | float] = {"frames_used": 0, "updates": 0, "time_ns": 0, "sequence": 0}
"""Numbers of a snapshot, in each row of the growing file and in the result, and what they are before they are known."""
COUNTERS = f"{LIVE}/counters"
_REFINED = "where the beam was found to stand, in the coordinates of the object's origin"
_SENT = "as sent and transformed as configured, in the coordinates of the object's origin"


def _axis(array: NDArray[Any] | None, axis: int) -> NDArray[Any] | None:
    return None if array is None else array[:, axis]


def _shift(estimates: Estimates) -> NDArray[np.float64] | None:
    refined = estimates.refined_yx_m
    return None if refined is None else np.hypot(*(refined - estimates.recorded_yx_m).T)


ESTIMATES: tuple[Field[Estimates], ...] = (
    Field("estimates/time_ns", np.array(0), "time_ns", "ns"),
    Field("estimates/probe_origin", texts(SENTENCE), "probe_origin"),
    Field("estimates/trust", texts(TEXT), "trust"),
    Field("estimates/unexplained", np.array(np.nan), "unexplained", "1",
          "0 the probe predicts all, 1 no more than the mean pattern does, nan or inf not judged"),
    Field("estimates/mode_powers", numbers(np.float64), "mode_powers", "1",
          "share of the probe's power in each mode, strongest first"),
    Field("estimates/positions/index", numbers(np.int64), "index", "", "index of the frame", "frame"),
    Field("estimates/positions/x", numbers(np.float64), lambda e: _axis(e.refined_yx_m, 1), "m", _REFINED, "x"),
    Field("estimates/positions/y", numbers(np.float64), lambda e: _axis(e.refined_yx_m, 0), "m", _REFINED, "y"),
    Field("estimates/positions/shift", numbers(np.float64), _shift, "m", "from recorded to refined", "shift"),
    Field("estimates/positions/recorded_x", numbers(np.float64), lambda e: e.recorded_yx_m[:, 1], "m", _SENT, "recorded x"),
    Field("estimates/positions/recorded_y", numbers(np.float64), lambda e: e.recorded_yx_m[:, 0], "m", _SENT, "recorded y"),
    Field("estimates/flux/flux", numbers(np.float32), "flux", "1",
          "intensity of each frame relative to the usual one", "flux"),
    Field("estimates/background/counts", numbers(np.float32, 2), "background", "counts",
          "incoherent intensity per pixel of the frames as reconstructed, zero frequency at [ny // 2, nx // 2]",
          "background"),
)  # fmt: skip
ASSESSMENT: tuple[Field[Assessment], ...] = (
    Field("assessment/time_ns", np.array(0), "time_ns", "ns"),
    Field("assessment/verdict", texts(SENTENCE), "verdict"),
    Field("assessment/trusted", np.array(-1, np.int8), "trusted", "", "1 yes, 0 no, -1 not assessed"),
    Field("assessment/findings/code", texts(TEXT, (0,)), lambda a: list(a.findings), "", "gravest first"),
    Field("assessment/findings/sentence", texts(SENTENCE, (0,)), lambda a: list(a.findings.values())),
    Field("assessment/figures/name", texts(TEXT, (0,)), lambda a: list(a.figures), "", "ends with the unit"),
    Field("assessment/figures/value", numbers(np.float64), lambda a: list(a.figures.values())),
    Field("assessment/resolution", np.array(np.nan), lambda a: a.figures.get("resolution_m"), "m"),
    Field("assessment/criterion", texts(SENTENCE), "criterion", "",
          "threshold that the resolution is read off at"),
    Field("assessment/ring_correlation/frequency", numbers(np.float32), "frequency_per_m", "1/m", "", "spatial frequency"),
    Field("assessment/ring_correlation/correlation", numbers(np.float32), "ring_correlation", "1",
          "Fourier ring correlation of objects from two halves of the frames", "Fourier ring correlation"),
)  # fmt: skip
REMARKS: Field[Outcome] = Field("remarks", texts(SENTENCE, (0,)), lambda outcome: list(outcome.remarks), "",
    "what is to be known of how the scan was put together from its streams")  # fmt: skip
FIELDS: tuple[Field[Any], ...] = (*ESTIMATES, *ASSESSMENT, REMARKS)
_PLOTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "estimates/positions": ("shift", ("x", "y")),
    "estimates/flux": ("flux", ("index",)),
    "estimates/background": ("counts", ()),
    "assessment/ring_correlation": ("correlation", ("frequency",)),
}
"""What viewers plot of a group, and over which axes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a file says of its scan and reconstruction; None where it says nothing, as in files of others."""

    title: str | None
    """In files of this project the scan id."""
    program: str | None
    """What wrote the file, with its version."""
    config: dict[str, Any] | None
    """The effective configuration."""
    end_reason: str | None
    complete: bool | None
    """True if the source declared the scan finished, and all of it is in the file."""
    ledger: Ledger | None
    """Where every frame went."""
    written: int | None
    """Frames in the file of the scan."""
    missing: Missing
    """What is not in it."""
    remarks: tuple[str, ...]
    """What is to be known of how the scan was put together."""
    estimates: Estimates | None
    assessment: Assessment | None


def counts(ledger: Ledger) -> dict[str, int]:
    """Counter in the file to its number."""
    found = {"received": ledger.received, "used": ledger.used, "waiting": ledger.waiting}
    found |= {f"dropped/{reason}": 0 for reason in DROP_REASONS}
    for reason, n in ledger.dropped.items():
        found[f"dropped/{reason if reason in DROP_REASONS else 'other'}"] += n
    return found


def lack(missing: Missing) -> dict[str, int]:
    """Counter in the file to its number, -1 where not known."""
    known = {"missing": missing.frames, "missing_positions": missing.positions, "gaps": missing.gaps}
    return {name: -1 if n is None else n for name, n in known.items()}


def create(file: h5py.File) -> None:
    """Every field, empty."""
    create_fields(file, LIVE, FIELDS)
    _make_groups(file)


def fill(file: h5py.File, outcome: Outcome) -> None:
    """What `outcome` says, into fields that :func:`create` made."""
    fill_fields(file, LIVE, _known(outcome))


def write(file: h5py.File, outcome: Outcome) -> None:
    """What `outcome` says and no more; and the counts."""
    write_fields(file, LIVE, _known(outcome))
    _make_groups(file)
    counted = {} if outcome.ledger is None else counts(outcome.ledger)
    counted |= {} if outcome.written is None else {"n_frames": outcome.written}
    counted |= {name: n for name, n in lack(outcome.missing).items() if n >= 0}
    for name, number in counted.items():
        put(file, f"{COUNTERS}/{name}", np.int64(number))


def read_report(file: h5py.File) -> Report:
    """All that `file` says. Raises FormatError naming what contradicts itself."""
    try:
        return _read(file)
    except (GrammarError, ValueError) as error:
        raise FormatError(f"{file.filename}: {error}") from error


def _read(file: h5py.File) -> Report:
    run = RunId(_text(file, f"{ENTRY}/title") or "", _number(file, f"{LIVE}/started_ns") or 0)
    made = [_text(file, f"{ENTRY}/process_1/{name}") for name in ("program", "version")]
    config = _text(file, f"{LIVE}/config")
    counted = {name: _number(file, f"{COUNTERS}/{name}") or 0 for name in counts(Ledger())}
    balance = {name: n for name, n in counted.items() if "/" not in name}
    dropped = {name.removeprefix("dropped/"): n for name, n in counted.items() if n and "/" in name}
    written, complete = _number(file, f"{COUNTERS}/n_frames"), _number(file, f"{LIVE}/complete")
    lacking = (_number(file, f"{COUNTERS}/{name}") for name in lack(Missing()))
    return Report(
        title=run.scan_id or None,
        program=" ".join(filter(None, made)) or None,
        config=None if config is None else json.loads(config),
        end_reason=_text(file, f"{LIVE}/end_reason") or None,
        complete=None if complete is None else bool(complete),
        ledger=Ledger(**balance, dropped=dropped) if balance["received"] else None,
        written=written,
        missing=Missing(*(None if n is None or n < 0 else n for n in lacking)),
        remarks=tuple(_said(file, (REMARKS,))[1].get(REMARKS.path, ())),
        estimates=_read_estimates(file, run),
        assessment=_read_assessment(file, run),
    )


def _known(outcome: Outcome) -> Iterator[tuple[Field[Any], Any]]:
    """Fields of which `outcome` says something."""
    yield from known(ESTIMATES, outcome.estimates)
    yield from known(ASSESSMENT, outcome.assessment)
    yield from known((REMARKS,), outcome)


def _make_groups(file: h5py.File) -> None:
    """Tell viewers what to plot, where there is something."""
    if f"{LIVE}/estimates/flux" in file:
        link(file, f"{LIVE}/estimates/flux", index=f"{LIVE}/estimates/positions/index")
    for name in {str(parent) for field in FIELDS for parent in PurePosixPath(field.path).parents if parent.name}:
        signal, axes = _PLOTS.get(name, ("", ()))
        if signal and f"{LIVE}/{name}/{signal}" in file:
            make_plot(file, f"{LIVE}/{name}", signal, axes)
        elif f"{LIVE}/{name}" in file:
            make_group(file, f"{LIVE}/{name}", "NXcollection")


def _read_estimates(file: h5py.File, run: RunId) -> Estimates | None:
    said, others = _said(file, ESTIMATES)
    recorded, refined = (_yx(others, f"estimates/positions/{kind}") for kind in ("recorded_", ""))
    if "index" not in said or recorded is None:
        return None
    said["mode_powers"] = tuple(map(float, said.get("mode_powers", ())))
    return Estimates(**run.fields, **said, recorded_yx_m=recorded, refined_yx_m=refined)


def _read_assessment(file: h5py.File, run: RunId) -> Assessment | None:
    said, others = _said(file, ASSESSMENT)
    if said.get("trusted", -1) < 0:
        return None
    tables: dict[str, Any] = {
        name: dict(zip(*(others.get(f"assessment/{name}/{part}", ()) for part in parts), strict=True))
        for name, parts in (("findings", ("code", "sentence")), ("figures", ("name", "value")))
    }
    said["trusted"] = bool(said["trusted"])
    return Assessment(**run.fields, **said, **tables, final=True)


def _said(file: h5py.File, fields: tuple[Field[Any], ...]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the file says: by field of the message, and by path where that is not a field."""
    said: dict[str, Any] = {}
    others: dict[str, Any] = {}
    for field in fields:
        found: Any
        path, text_field = f"{LIVE}/{field.path}", field.empty.dtype.kind == "S"
        if not field.empty.ndim:
            found = _text(file, path) if text_field else _number(file, path)
        else:
            found = _array(file, path)
            found = [text(one) for one in found] if text_field and found is not None else found
        if found is not None and isinstance(field.value, str):
            said[field.value] = found
        elif found is not None:
            others[field.path] = found.tolist() if isinstance(found, np.ndarray) else found
    return said, others


def _number(file: h5py.File, path: str) -> Any:
    dataset = find(file, (path,))
    if dataset is None:
        return None
    if dataset.shape != () or dataset.dtype.kind not in "fiu":
        raise ValueError(f"{path}: shape {dataset.shape} {dataset.dtype} is not a number")
    return dataset[()].item()


def _array(file: h5py.File, path: str) -> NDArray[Any] | None:
    dataset = find(file, (path,))
    return None if dataset is None or not dataset.size else dataset[()]


def _yx(found: dict[str, Any], path: str) -> NDArray[np.float64] | None:
    y, x = (found.get(f"{path}{axis}") for axis in "yx")
    return None if y is None or x is None else np.stack([y, x], axis=1)


def _text(file: h5py.File, path: str) -> str | None:
    dataset = find(file, (path,))
    return None if dataset is None else text(dataset[()])
