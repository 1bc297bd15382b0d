"""Pictures into a directory, for a machine without a screen, a web server or a wiki."""

import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bluesky_widgets.headless.figures import HeadlessFigure

from streamptycho.errors import ConfigError
from streamptycho.options import Closing
from streamptycho_services.view.model import ReconModel, State
from streamptycho_services.view.painting import Board, Painting
from streamptycho_services.view.source import DocumentSource

DPI = 100


class PngWriter(Closing):
    """Writes ``object.png``, ``probe.png``, ``progress.png``, ``data.png``; when a scan ends also ``SCAN-object.png``..."""

    def __init__(self, model: ReconModel, directory: Path) -> None:
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"{directory}: cannot be created ({error.strerror}); choose another --headless") from error
        self._model = model
        self._directory = directory
        self._board = Board(HeadlessFigure)
        for painting in self._board.paintings:
            painting.figure.set_size_inches(painting.layout.size_in)
        self.written = 0

    def close(self) -> None:
        """Release the figures; files stay."""
        for painting in self._board.paintings:
            painting.view.close_figure()

    def flush(self) -> bool:
        """Write the pictures that have changed; whether any had."""
        any_new = False
        while (state := self._model.flush()) is not None:
            any_new = True
            self._board.update(state)
            if state.stop is not None:
                self._board.want_all()  # each is kept under the scan's name
            for painting in self._board.due(all_of_them=True):
                self._write(painting, state)
        self.written += any_new
        return any_new

    def _write(self, painting: Painting, state: State) -> None:
        """A file is replaced in one step, so that nobody reads half of it."""
        name = painting.layout.name
        partial = self._directory / f"{name}.partial"
        painting.view.export(partial, format="png", dpi=DPI)
        kept = self._directory / f"{_safe_name(state)}-{name}.png"
        if state.newest and state.stop is not None:
            shutil.copyfile(partial, kept)
        partial.replace(self._directory / f"{name}.png" if state.newest else kept)


def _safe_name(state: State) -> str:
    name: Any = state.start.get("scan_name") or state.start["uid"]
    return re.sub(r"[^\w.+-]", "_", str(name)).lstrip(".")[:100] or "scan"


def write_pictures(source: DocumentSource, directory: Path, every_s: float, ended: Callable[[], bool]) -> None:
    """Write every `every_s` seconds if anything is new, and at the end."""
    with PngWriter(source.model, directory) as writer:
        while not ended():
            begun_s = time.monotonic()
            source.check()
            writer.flush()
            while time.monotonic() - begun_s < every_s and not ended():
                time.sleep(0.05)
        writer.flush()
