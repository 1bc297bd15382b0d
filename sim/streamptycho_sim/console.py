"""Progress of a publisher on stderr: a bar on a terminal, else a line every `LINE_S` seconds."""

import sys
import time
from types import TracebackType
from typing import Self

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from streamptycho_sim.publisher import Progress

LINE_S = 2.0


class Reporter:
    """Shows :class:`Progress`; use as a context manager and call it."""

    def __init__(self, *, terminal: bool | None = None) -> None:
        self._bar: Bar | None = None
        self._shown = float("-inf")
        if sys.stderr.isatty() if terminal is None else terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self._bar = Bar(*columns, TextColumn("{task.fields[rate]}"), console=Console(stderr=True))

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, progress: Progress) -> None:
        """Show the latest state."""
        if self._bar is not None:
            task = self._bar.task_ids[0] if self._bar.task_ids else self._bar.add_task("", rate="")
            self._bar.update(
                task,
                description=progress.scan_id,
                completed=progress.frames,
                total=progress.expected,
                rate=_rate(progress),
            )
            return
        now = time.monotonic()
        if now - self._shown >= LINE_S or progress.frames == progress.expected:
            self._shown = now
            total = "" if progress.expected is None else f" of {progress.expected}"
            typer.echo(f"{progress.scan_id}: {progress.frames}{total} frames, {_rate(progress)}", err=True)


def _rate(progress: Progress) -> str:
    rate = progress.frames / progress.seconds if progress.seconds > 0 else 0.0
    return f"{rate:.0f} frames/s" + (f", up to {progress.late_s:.1f} s late" if progress.late_s > 0.5 else "")
