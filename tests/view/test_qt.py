"""The window, on Qt's offscreen platform: what it paints is grabbed and looked at."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.view.helpers import Run, diffraction, maps, marked_object, probe, progress, quality
from tests.view.served import Service, service, wait_until

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
pytest.importorskip("bluesky_widgets", reason="needs streamptycho[view]")
# exc_type: qtpy without any Qt, and Qt without the system's libraries, say so in other ways
pytest.importorskip("PySide6.QtWidgets", reason="needs PySide6-Essentials and its system libraries", exc_type=ImportError)

from qtpy.QtWidgets import QApplication

from streamptycho.errors import ConfigError
from streamptycho_services.view import qt
from streamptycho_services.view.model import ReconModel
from streamptycho_services.view.source import DocumentSource

YELLOW = (253, 231, 37)

pytestmark = [
    # bluesky-widgets 0.0.18 asks matplotlib for its old way to make room
    pytest.mark.filterwarnings("ignore:The set_tight_layout function:PendingDeprecationWarning"),
    # matplotlib 3.11 asks PySide6 6.12 for an attribute that is deprecated there
    pytest.mark.filterwarnings("ignore:.*AA_UseHighDpiPixmaps:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def application() -> QApplication:
    return QApplication.instance() or QApplication(["test"])


@pytest.fixture
def served() -> Iterator[Service]:
    with service() as served:
        yield served


@pytest.fixture
def window(application: QApplication, served: Service) -> Iterator[qt.Window]:
    with DocumentSource(ReconModel(), served.where) as source:
        window = qt.Window(source)
        window.show()
        served.wait_for_viewer()
        wait_until(lambda: source.catch_ups == 1, "an answer")
        yield window
        window.close()
        window.deleteLater()
        application.processEvents()


def pump(met: Callable[[], bool], what: str) -> None:
    """Let Qt work until it is so."""

    def worked() -> bool:
        QApplication.processEvents()
        return met()

    wait_until(worked, what)


def grabbed(window: qt.Window, path: Path) -> NDArray[np.uint8]:
    """(ny, nx, 3) uint8, what the window shows."""
    assert window.grab().save(str(path))
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def yellow(window: qt.Window, path: Path) -> NDArray[np.bool_]:
    return abs(grabbed(window, path).astype(int) - YELLOW).max(axis=-1) < 12


def test_the_window_shows_the_mark(window: qt.Window, served: Service, tmp_path: Path):
    assert "waiting for documents" in window.statusBar().currentMessage()
    run = Run(served.tell)
    run.event("object", marked_object())
    run.event("probe", probe())
    run.event("progress", progress())
    run.event("quality", quality(verdict="All is well."))
    pump(lambda: window.windowTitle() == "streamptycho: star: All is well.", "the verdict")
    view = window._board.paintings[0].view
    pump(lambda: view.axes_list[0].get_xlim()[0] > 3.5, "the extent")
    pump(lambda: yellow(window, tmp_path / "w.png").sum() > 200, "the mark, painted")
    box = view.axes_list[0].get_window_extent()
    canvas = view.figure.canvas
    corner = canvas.mapTo(window, canvas.rect().topLeft())
    rows, columns = np.nonzero(yellow(window, tmp_path / "w.png")[:, : round(corner.x() + box.x1)])
    ratio = canvas.device_pixel_ratio
    top = corner.y() + (canvas.height() - box.y1 / ratio)
    assert rows.min() == pytest.approx(top, abs=4)
    assert columns.min() == pytest.approx(corner.x() + box.x0 / ratio, abs=4)
    assert rows.max() - rows.min() == pytest.approx(box.height / ratio * 8 / 40, abs=4)
    assert window.failure is None
    assert "last news" in window.statusBar().currentMessage()


def test_a_zoom_survives_the_next_picture(window: qt.Window, served: Service):
    run = Run(served.tell)
    run.event("object", marked_object())
    view = window._board.paintings[0].view
    pump(lambda: view.axes_list[0].get_xlim()[0] > 3.5, "the first picture")
    view.axes_list[0].set_xlim(4.0, 4.5)
    view.axes_list[0].set_ylim(-0.4, -0.6)
    run.event("object", marked_object((70, 90), object_frames_used=77))
    pump(lambda: "77 of 100" in view.axes_list[0].get_title(), "the second picture")
    assert view.axes_list[0].get_xlim() == (4.0, 4.5)
    assert view.axes_list[0].get_ylim() == (-0.4, -0.6)


def test_data_are_drawn_when_their_tab_is_looked_at(window: qt.Window, served: Service, tmp_path: Path):
    run = Run(served.tell)
    run.event("diffraction", diffraction())
    run.event("maps", maps())
    run.event("progress", progress())
    drawn = []
    view = window._board.paintings[3].view
    view.figure.canvas.mpl_connect("draw_event", drawn.append)
    axes = view.axes_list
    pump(lambda: axes[2].get_xlim()[0] > 2.9, "the maps")
    assert not view.isVisible()
    assert not drawn, "nobody looks"
    tabs = window.centralWidget()
    assert [tabs.tabText(number) for number in range(tabs.count())] == ["Reconstruction", "Data"]
    tabs.setCurrentIndex(1)
    pump(lambda: bool(drawn), "a drawing")
    assert all(frame.axison for frame in axes)
    orange = abs(grabbed(window, tmp_path / "w.png").astype(int) - (255, 127, 14)).max(axis=-1) < 12
    assert orange.sum() > 40
    assert window.failure is None


def test_silence_is_told(window: qt.Window, served: Service, monkeypatch: pytest.MonkeyPatch):
    Run(served.tell).event("progress", progress())
    monkeypatch.setattr(qt, "STALE_S", 0.7)
    pump(lambda: "STALE: nothing new" in window.statusBar().currentMessage(), "that nothing comes")


def test_it_ends_when_asked(application: QApplication, served: Service):
    with DocumentSource(ReconModel(), served.where) as source:
        begun_s = time.monotonic()
        qt.show_window(source, lambda: time.monotonic() - begun_s > 1)
    assert not [widget for widget in application.topLevelWidgets() if widget.isVisible()]


def test_an_error_ends_it(application: QApplication, served: Service, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(DocumentSource, "check", lambda _: (_ for _ in ()).throw(ConfigError("broken on purpose")))

    def show(source: DocumentSource) -> None:
        for _ in range(5):  # Qt may still have to tell the windows of the tests before to close
            qt.show_window(source, lambda: False)

    with DocumentSource(ReconModel(), served.where) as source, pytest.raises(ConfigError, match="broken on purpose"):
        show(source)


def test_no_screen_is_told(served: Service, monkeypatch: pytest.MonkeyPatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    source = DocumentSource(ReconModel(), served.where)
    with pytest.raises(ConfigError, match="--headless DIR"):
        qt.show_window(source, lambda: True)
    assert threading.active_count() < 10
