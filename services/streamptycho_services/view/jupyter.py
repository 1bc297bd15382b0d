"""The panels in a notebook: ``live = show("tcp://HOST:5568")`` and ``live`` in one cell."""

import asyncio

from streamptycho_services.view import need

need("jupyter")

from bluesky_widgets.jupyter.figures import JupyterFigure  # noqa: E402
from ipywidgets import Label, VBox  # noqa: E402

from streamptycho_services.view.model import ReconModel, State  # noqa: E402
from streamptycho_services.view.painting import Board  # noqa: E402
from streamptycho_services.view.source import DocumentSource, addresses  # noqa: E402

EVERY_S = 0.5


class LiveView(VBox):
    """A widget that follows the reconstruction until :meth:`stop`; the kernel stays free for other cells."""

    def __init__(self, source: DocumentSource) -> None:
        self._source = source
        self._board = Board(JupyterFigure)
        self._task: asyncio.Task[None] | None = None
        self.state: State | None = None
        """What is shown, as arrays and numbers."""
        self._health = Label(f"waiting for documents from {source.where.documents}")
        for painting in self._board.paintings:
            canvas = painting.figure.canvas
            canvas.header_visible = False  # it would say "Figure 0"
            painting.figure.set_size_inches(painting.layout.size_in)
            canvas.manager.resize(*canvas.get_width_height())  # the browser's part of it
        super().__init__([*(painting.view for painting in self._board.paintings), self._health])

    def start(self, every_s: float = EVERY_S) -> None:
        """Begin to follow; needs the running event loop of a kernel."""
        self._source.__enter__()
        self._task = asyncio.get_running_loop().create_task(self._follow(every_s))

    def flush(self) -> bool:
        """Draw what is new, once per figure; whether anything was."""
        self._source.check()
        while (state := self._source.model.flush()) is not None:
            self.state = state
            self._board.update(state)
            self._health.value = f"{self._source.heard} documents, {self._source.refused} messages refused"
        due = self._board.due()
        for painting in due:
            canvas = painting.figure.canvas
            # else only what has changed is sent, and a browser that drops one picture never gets right again
            canvas._force_full = True  # noqa: SLF001 - there is no other way
            canvas.draw()
        return bool(due)

    def stop(self) -> None:
        """Follow no longer; the last pictures stay."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
            self._source.close()

    async def _follow(self, every_s: float) -> None:
        try:
            while True:
                self.flush()
                await asyncio.sleep(every_s)
        except Exception as error:
            self._health.value = f"stopped: {error}"
            raise


def show(documents: str = "tcp://127.0.0.1:5568", catch_up: str | None = None) -> LiveView:
    """A widget that follows the documents from here on; catch-up is on the next port unless given."""
    view = LiveView(DocumentSource(ReconModel(), addresses(documents, catch_up)))
    view.start()
    return view
