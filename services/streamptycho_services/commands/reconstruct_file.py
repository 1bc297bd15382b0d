"""Reconstruct a recorded scan without the network: what belongs to a terminal, around :mod:`streamptycho.api`."""

import math
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from streamptycho import api
from streamptycho.config import Config
from streamptycho.errors import ConfigError, FormatError
from streamptycho.files.recover import state_of
from streamptycho.files.result import read_result
from streamptycho_services.commands.summary import correlation_with_truth
from streamptycho_services.processes.interrupt import interruptible


def reconstruct_file(
    config: Config,
    path: Path,
    output: Path,
    *,
    passes: int | None,
    seconds: float | None,
    truth: Path | None,
    as_json: bool,
) -> tuple[dict[str, Any], bool]:
    """Reconstruct `path` into `output`; the summary of the command line's contract, and whether Ctrl-C cut it short.

    Raises :class:`ConfigError` before anything is computed if `output` cannot be written or would replace something else.
    """
    _check_output(path, output)
    if (state := state_of(path)) is not None:
        print(f"note: {path}: {state}", file=sys.stderr)
    with api.open_scan(path, config=config) as scan, interruptible() as asked, _bar(as_json) as bar:
        live = api.Live(scan, config=config)
        live.finish(passes=passes, seconds=seconds, progress=_report(bar, asked))
        return _save(live, path, output, truth), asked.is_set()


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


def _report(bar: Progress, asked: threading.Event) -> Callable[[api.Progress], None]:
    """Shows progress on the bar, and ends the reconstruction between two slices once Ctrl-C has asked for it."""
    task = bar.add_task("reading", total=None)

    def report(progress: api.Progress) -> None:
        reading = progress.state == "reading"
        bar.update(task, description=str(progress), completed=progress.frames, total=progress.expected if reading else None)
        if asked.is_set() and not progress.over:
            raise KeyboardInterrupt

    return report


def _save(live: api.Live, path: Path, output: Path, truth: Path | None) -> dict[str, Any]:
    frames = live.frames.as_dict()
    if live.outcome().snapshot is None:
        words = {"verdict": "Nothing could be reconstructed.", "findings": {}, "trusted": False, "resolution_m": None}
        files = {"cxi": str(path), "result": None, "picture": None, "frames": frames}
        return words | files | {"error": None, "probe": None, "phase_correlation": None, "figures": {}}
    result, picture = live.result(), output.with_suffix(".png")
    result.save(output)
    result.save(picture)
    return {
        "verdict": result.verdict,
        "findings": result.findings,
        "trusted": result.trusted,
        "resolution_m": result.resolution_m if math.isfinite(result.resolution_m) else None,
        "cxi": str(path),
        "result": str(output),
        "picture": str(picture),
        "frames": frames,
        "error": result.error,
        "probe": result.estimates.probe_origin if result.estimates is not None else None,
        "phase_correlation": correlation_with_truth(read_result(output), truth) if truth is not None else None,
        "figures": result.figures,
    }


def _bar(as_json: bool) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    return Progress(*columns, disable=as_json or not sys.stderr.isatty(), transient=False)
