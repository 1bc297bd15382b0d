"""A window with all panels, for the beamline's own screen."""

import os
import sys
import time
from collections.abc import Callable

# before bluesky-widgets, so that matplotlib takes the same Qt
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QApplication, QMainWindow, QSplitter, QTabWidget, QWidget

from bluesky_widgets.qt.figures import QtFigure  # isort: skip

from streamptycho.errors import ConfigError
from streamptycho_services.view.figures import headline
from streamptycho_services.view.painting import Board
from streamptycho_services.view.source import DocumentSource

EVERY_S = 0.5
STALE_S = 10.0
"""Silence after which the status line says so."""


class Window(QMainWindow):
    """Object above, probe and progress below; data in a tab; the line at the bottom tells how old the picture is."""

    def __init__(self, source: DocumentSource, every_s: float = EVERY_S) -> None:
        super().__init__()
        self._source = source
        self._board = Board(QtFigure)
        self.failure: BaseException | None = None
        """What ended the window before its time."""
        self.setWindowTitle("streamptycho")
        self.setCentralWidget(self._tabs())
        self.resize(1400, 950)
        self.statusBar().showMessage(f"waiting for documents from {source.where.documents}")
        self._timer = QTimer(self)
        self._timer.timeout.connect(self._tick)
        self._timer.start(round(every_s * 1000))

    def _tabs(self) -> QTabWidget:
        for painting in self._board.paintings:
            painting.figure.canvas.setMinimumSize(240, 160)
            painting.view.layout().setContentsMargins(0, 0, 0, 0)
        *reconstructed, measured = (painting.view for painting in self._board.paintings)
        tabs = QTabWidget()
        tabs.addTab(self._split(reconstructed), "Reconstruction")
        tabs.addTab(measured, measured.model.short_title)
        tabs.currentChanged.connect(lambda _: self._tick())
        return tabs

    @staticmethod
    def _split(views: list[QWidget]) -> QSplitter:
        """Borders between the figures can be dragged."""
        below, whole = QSplitter(Qt.Orientation.Horizontal), QSplitter(Qt.Orientation.Vertical)
        for view, place, share in zip(views, (whole, below, below), (11, 2, 3), strict=True):
            place.addWidget(view)
            place.setStretchFactor(place.count() - 1, share)
        whole.addWidget(below)
        whole.setStretchFactor(1, 8)
        return whole

    def flush(self) -> None:
        """Draw what is new."""
        self._source.check()
        while (state := self._source.model.flush()) is not None:
            self._board.update(state)
            self.setWindowTitle(f"streamptycho: {headline(state)[0]}")
        for painting in self._board.due(seen=lambda painting: painting.view.isVisible()):
            painting.figure.canvas.draw_idle()
        self.statusBar().showMessage(self._health())

    def _tick(self) -> None:
        """Called by the timer, in which Qt would print an error and go on."""
        try:
            self.flush()
        except BaseException as error:  # noqa: BLE001 - raised by show_window
            self.failure = error
            self._timer.stop()
            QApplication.quit()

    def _health(self) -> str:
        silent_s = time.monotonic() - self._source.last_heard_s
        if self._source.heard == 0:
            return f"waiting for documents from {self._source.where.documents}"
        words = f"last news {silent_s:.0f} s ago" if silent_s < STALE_S else f"STALE: nothing new for {silent_s:.0f} s"
        refused = f", {self._source.refused} messages refused" if self._source.refused else ""
        return f"{words}, {self._source.heard} documents from {self._source.where.documents}{refused}"


def show_window(source: DocumentSource, ended: Callable[[], bool]) -> None:
    """Show the window until it is closed or `ended`. Raises :class:`ConfigError` if there is no screen."""
    if sys.platform == "linux" and not any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
    ):
        raise ConfigError("no screen (neither DISPLAY nor WAYLAND_DISPLAY is set); write pictures with --headless DIR")
    application = QApplication.instance() or QApplication(["streamptycho"])
    window = Window(source)
    window.show()
    watch = QTimer()  # also lets Python see signals while Qt waits for events
    watch.timeout.connect(lambda: application.quit() if ended() else None)
    watch.start(200)
    application.exec()
    watch.stop()
    window.close()
    if window.failure is not None:
        raise window.failure
