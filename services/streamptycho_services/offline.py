"""Reconstruct a recorded scan without the network, with the same preprocessing and engine."""

import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from streamptycho.config import Config
from streamptycho.display import save_phase
from streamptycho.errors import ConfigError, FormatError
from streamptycho.files.result import read_result, write_result
from streamptycho.files.scan import open_scan
from streamptycho.messages import Frame, ScanEnd, ScanPoint, Snapshot
from streamptycho.pipeline.reconstruction import Reconstruction
from streamptycho.reasons import EndReason, Stream
from streamptycho.solve.engine import EngineState
from streamptycho_services.interrupt import interruptible
from streamptycho_services.summary import correlation_with_truth


@dataclass(frozen=True, slots=True)
class Limits:
    """When to stop, besides convergence."""

    passes: int | None = None
    """Passes over all frames."""
    seconds: float | None = None
    """Seconds of computing."""


def reconstruct_file(
    config: Config, path: Path, output: Path, limits: Limits, *, truth: Path | None, as_json: bool
) -> tuple[dict[str, Any], bool]:
    """Reconstruct `path` into `output`; the summary of the command line's contract, and whether Ctrl-C cut it short.

    Raises :class:`ConfigError` before anything is computed if `output` cannot be written or would replace something else.
    """
    _check_output(path, output)
    if limits.passes is not None:
        engine = config.engine.model_copy(update={"polish_passes": limits.passes, "polish_tolerance": 0.0})
        config = config.model_copy(update={"engine": engine})
    with open_scan(path, config.read) as scan, interruptible() as interrupted, _bar(as_json) as bar:
        start = scan.start(scan.scan_id, time.time_ns())
        backend = config.engine.make_backend()
        work = Reconstruction(start, config.preprocess, config.positions, config.engine, backend)
        waiting = 0
        for index in bar.track(scan.index.tolist(), description="reading"):
            y, x = scan.yx_m[index]
            if not (np.isfinite(y) and np.isfinite(x)):
                waiting += 1
                continue
            frame = Frame(
                scan_id=start.scan_id,
                index=np.array([index], np.int64),
                timestamp_ns=np.zeros(1, np.int64),
                payload=scan.payload(index),
            )
            work.add(ScanPoint(frame=frame, yx_m=(float(y), float(x))))
            if interrupted.is_set():
                break
        work.engine.finish()
        reason = EndReason.INTERRUPTED if interrupted.is_set() else EndReason.COMPLETE
        work.end = ScanEnd(scan_id=start.scan_id, stream=Stream.SCAN, count=work.received + waiting, reason=reason)
        for text in _refine(work, limits, interrupted):
            bar.update(bar.task_ids[-1], description=text)
        snapshot = work.snapshot(time.time_ns(), final=True)
        dropped = dict(work.dropped) | ({"no_position": waiting} if waiting else {})
        frames = {
            "received": work.received + waiting,
            "used": work.engine.rows_used,
            "waiting": work.received - work.engine.rows_used - sum(work.dropped.values()),
            "dropped": dropped,
        }
        return _save(snapshot, config, path, output, work, frames, truth), interrupted.is_set()


def _check_output(path: Path, output: Path) -> None:
    """Results may be replaced by newer ones; recordings may not."""
    if output.suffix.lower() == ".png":
        raise ConfigError(f"--output {output}: a PNG of this name is written beside the result; end it with .h5")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output.parent):
            pass
    except OSError as error:
        raise ConfigError(f"--output {output}: cannot be written ({error.strerror}); choose another") from error
    if not output.exists():
        return
    if output.samefile(path):
        raise ConfigError(f"--output {output}: is the recording itself; choose another name")
    try:
        read_result(output)
    except FormatError as error:
        raise ConfigError(f"--output {output}: exists and is not a result; choose another name") from error


def _refine(work: Reconstruction, limits: Limits, interrupted: Any) -> Iterator[str]:
    """Compute until converged, out of time or interrupted; yields what to show."""
    until = time.monotonic() + limits.seconds if limits.seconds is not None else float("inf")
    while work.engine.state is not EngineState.DONE and time.monotonic() < until and not interrupted.is_set():
        work.engine.step(min(0.5, max(until - time.monotonic(), 0.01)))
        passes = len(work.engine.error_history)
        yield f"{work.engine.state}: pass {passes}, error {work.engine.error:.5f}"


def _save(
    snapshot: Snapshot | None,
    config: Config,
    path: Path,
    output: Path,
    work: Reconstruction,
    frames: dict[str, Any],
    truth: Path | None,
) -> dict[str, Any]:
    correlation = None
    picture = output.with_suffix(".png")
    if snapshot is not None:
        write_result(output, snapshot, work.start, end=work.end, config_json=config.model_dump_json())
        save_phase(snapshot, picture)
        if truth is not None:
            correlation = correlation_with_truth(read_result(output), truth)
    return {
        "cxi": str(path),
        "result": str(output) if snapshot is not None else None,
        "picture": str(picture) if snapshot is not None else None,
        "frames": frames,
        "error": snapshot.error if snapshot is not None else None,
        "probe": work.engine.probe_note,
        "phase_correlation": correlation,
    }


def _bar(as_json: bool) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    return Progress(*columns, disable=as_json or not sys.stderr.isatty(), transient=False)
