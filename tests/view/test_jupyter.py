"""The widget of a notebook, without a browser: what is sent to it is looked at."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.view.helpers import Run, maps, marked_object, progress
from tests.view.served import Service, service, wait_until

for package in ("bluesky_widgets", "matplotlib", "ipympl", "ipywidgets"):
    pytest.importorskip(package, reason="needs streamptycho[jupyter]")

from streamptycho_services.view import jupyter  # noqa: E402 - after the packages that it needs

NOTEBOOK = Path(__file__).parents[2] / "docs" / "examples" / "live_view.ipynb"
pytestmark = pytest.mark.filterwarnings("ignore:Passing unrecognized arguments to super:DeprecationWarning")  # ipympl 0.10
YELLOW = (253, 231, 37)


@pytest.fixture
def served() -> Iterator[Service]:
    with service() as served:
        yield served


def follow(served: Service, run: Any) -> jupyter.LiveView:
    """The widget after `run` has been received and shown, stopped."""

    async def followed() -> jupyter.LiveView:
        live = jupyter.show(served.where.documents, served.where.catch_up)
        try:
            for _ in range(200):
                await asyncio.sleep(0.1)
                if live.state is not None and live.state.last("updates") == 420:
                    return live
        finally:
            live.stop()
        raise AssertionError("the widget did not show the run")

    return asyncio.run(followed())


def test_the_widget_follows_by_itself(served: Service):
    run = Run(served.keep)
    run.event("object", marked_object())
    run.event("maps", maps())
    run.event("progress", progress())
    live = follow(served, run)
    painting = live._board.paintings[0]
    assert painting.view in live.children
    pixels = np.asarray(painting.figure.canvas.buffer_rgba())[..., :3].astype(int)
    assert (abs(pixels - YELLOW).max(axis=-1) < 12).sum() > 200, "the mark is drawn"
    assert pixels.shape[:2] == (560, 1200)
    assert painting.figure.axes[0].get_title() == "Phase (rad), 42 of 100 frames"
    assert live._health.value == "7 documents, 0 messages refused"
    assert [p.layout.name for p in live._board.paintings] == ["object", "probe", "progress", "data"]
    assert live._board.paintings[3].view.axes_list[1].get_title() == "Coverage: 192 points, newest orange"


def test_one_flush_draws_each_figure_once(served: Service):
    live = jupyter.LiveView(jupyter.DocumentSource(jupyter.ReconModel(), served.where))
    drawn = []
    for painting in live._board.paintings:
        painting.figure.canvas.mpl_connect("draw_event", lambda event: drawn.append(event.canvas))
    model = live._source.model
    run = Run(model)
    run.event("object", marked_object())
    run.event("progress", progress())
    live.flush()
    drawn.clear()
    run.event("object", marked_object(object_frames_used=43))
    wait_until(live.flush, "the time between two drawings to pass")
    assert len(drawn) == 1
    assert drawn[0]._current_image_mode == "full", "a browser may have dropped what was before"
    assert not live.flush()


def test_what_goes_wrong_is_shown_and_raised(served: Service, monkeypatch: pytest.MonkeyPatch):
    live = jupyter.LiveView(jupyter.DocumentSource(jupyter.ReconModel(), served.where))
    monkeypatch.setattr(jupyter.DocumentSource, "check", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        asyncio.run(live._follow(0.1))
    assert live._health.value.startswith("stopped: ")
    live.stop()


def test_the_notebook_has_no_outputs_and_its_code_runs_here(served: Service):
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells if cell["cell_type"] == "code")
    run = Run(served.keep)
    run.event("object", marked_object())
    run.event("progress", progress())

    async def executed() -> dict[str, Any]:
        names: dict[str, Any] = {}
        here = f'"{served.where.documents}", "{served.where.catch_up}"'
        assert '"tcp://127.0.0.1:5568"' in code[0]
        exec(code[0].replace('"tcp://127.0.0.1:5568"', here), names)
        try:
            while names["live"].state is None or "error" not in names["live"].state.series:
                await asyncio.sleep(0.1)
            exec(code[1], names)
        finally:
            exec(code[2], names)
        return names

    names = asyncio.run(asyncio.wait_for(executed(), 30))
    assert names["phase_rad"].size == 40 * 50
