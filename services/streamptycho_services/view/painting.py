"""What must be done to bluesky-widgets' views (0.0.18, any front end) so that live pictures come out right.

Its views stack axes in one column, crop pictures of fixed limits, put a legend's box over pictures and warn about it, and
some draw after each change of each artist. :class:`Painting` mends that from outside through what is public.
"""

import functools
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from streamptycho_services.view.artists import Layout
from streamptycho_services.view.figures import ReconFigures
from streamptycho_services.view.model import State

ARRANGE_AGAIN_S = 10.0
"""Tick labels grow while a scan runs."""


class Painting:
    """One view of one figure, set right.

    Keep it: bluesky-widgets refers to its views weakly, and one that nobody keeps stops following its figure.
    """

    def __init__(self, view: Any, layout: Layout) -> None:
        self.view = view
        self.layout = layout
        self.figure = view.figure
        self._arranged_s = -math.inf
        self._looks: tuple[float, ...] = ()
        self._empty: dict[Any, Any] = {}
        """Axes to what they say while they have nothing to show."""
        self.figure.suptitle(view.model.title).set_parse_math(False)  # a "$" in a scan's name begins no formula
        self.figure.set_layout_engine("constrained")
        grid = self.figure.add_gridspec(-(-len(view.axes_list) // layout.columns), layout.columns)
        for axes, cell in zip(view.axes_list, grid, strict=False):
            axes.set_subplotspec(cell)
        for view_axes in view.axes.values():
            axes = view_axes.axes
            axes.set_adjustable("box")  # "datalim" would crop a picture
            axes.tick_params(labelsize="small")
            axes.legend = functools.partial(_legend, axes, axes.legend)  # the view calls it after each change
            view_axes.draw_idle = lambda: None  # one drawing per flush, by the front end
        self.figure.canvas.mpl_connect("resize_event", lambda _: self._resized())

    def dress(self) -> None:
        """Finish when the artists are there: colour bars, and row 0 at the top whatever the user's matplotlibrc says."""
        for axes in list(self.view.axes_list):
            for picture in axes.images:
                picture.origin = "upper"
                if self.layout.bars:
                    self.figure.colorbar(picture, ax=axes, shrink=0.9).ax.tick_params(labelsize="small")
            if axes.lines:
                axes.locator_params(nbins=4)
            self._empty[axes] = axes.text(
                0.5, 0.5, "none yet", transform=axes.transAxes, ha="center", va="center", color="gray"
            )
        for number in self.layout.down:
            self.view.axes_list[number].invert_yaxis()

    def arrange(self) -> None:
        """Get ready to be drawn: make room for titles, labels and colour bars.

        That costs as much as a drawing, so it is done when sizes have changed and every `ARRANGE_AGAIN_S` seconds.
        """
        for axes in self.view.axes_list:
            axes.title.set_fontsize("medium")  # a new title has forgotten it
            self._show_frame(axes)
        for number in self.layout.log:
            _decades(self.view.axes_list[number])
        framed = (axes.axison for axes in self.view.axes_list)
        looks = (self.view.model.title.count("\n"), *framed, *(_aspect(axes) for axes in self.view.axes_list))
        if looks != self._looks or time.monotonic() - self._arranged_s > ARRANGE_AGAIN_S:
            self.figure.set_layout_engine("constrained")
            self.figure.get_layout_engine().execute(self.figure)
            self.figure.set_layout_engine("none")
            self._arranged_s, self._looks = time.monotonic(), looks

    def _show_frame(self, axes: Any) -> None:
        """An empty frame with numbers at it would look like data."""
        known = _has_data(axes)
        axes.set_axis_on() if known else axes.set_axis_off()
        self._empty[axes].set_visible(not known)
        for picture in axes.images:
            if picture.colorbar is not None:
                picture.colorbar.ax.set_visible(known)
        if axes.get_legend() is not None:
            axes.get_legend().set_visible(known)

    def _resized(self) -> None:
        self._arranged_s = -math.inf


class Board:
    """The views of all figures in one front end: what changed, and what is to be drawn."""

    def __init__(self, make_view: Callable[[Any], Any]) -> None:
        self.figures = ReconFigures()
        pairs = zip(self.figures.figures, self.figures.layouts, strict=True)
        self.paintings = [Painting(make_view(spec), layout) for spec, layout in pairs]
        self.figures.populate()
        for painting in self.paintings:
            painting.dress()
        self._waiting: set[str] = set()
        self._drawn_s: dict[str, float] = {}

    def update(self, state: State) -> None:
        """Bring the figures to `state`."""
        self._waiting |= self.figures.update(state)

    def want_all(self) -> None:
        """Let all figures be drawn again."""
        self._waiting.update(painting.layout.name for painting in self.paintings)

    def due(self, *, all_of_them: bool = False, seen: Callable[[Painting], bool] = lambda _: True) -> list[Painting]:
        """Views to be drawn now, arranged: those that changed, are `seen` and were not drawn within their time."""
        now_s = time.monotonic()
        due = []
        for painting in self.paintings:
            name = painting.layout.name
            rested = now_s - self._drawn_s.get(name, -math.inf) >= painting.layout.rest_s
            if name in self._waiting and (rested or all_of_them) and seen(painting):
                self._waiting.discard(name)
                self._drawn_s[name] = now_s
                painting.arrange()
                due.append(painting)
        return due


def _legend(axes: Any, make: Callable[..., Any], **_: Any) -> None:
    """A legend where there are names to put in; pictures and single curves need none, and matplotlib would warn."""
    if axes.get_legend_handles_labels()[1]:
        make(loc="best", frameon=False, fontsize="small")


def _decades(axes: Any) -> None:
    """A logarithmic y axis from decade to decade; a linear one while there is nothing above 0, which could not be drawn."""
    values = np.concatenate([np.asarray(line.get_ydata(), float) for line in axes.lines])
    above = values[values > 0]
    if not above.size:
        axes.set_yscale("linear")
        return
    axes.set_yscale("log", nonpositive="mask")
    if axes.get_autoscaley_on():  # not where somebody has zoomed
        low, high = math.floor(math.log10(above.min())), math.ceil(math.log10(above.max()))
        axes.set_ylim(10.0**low, 10.0 ** max(high, low + 1), auto=True)


def _has_data(axes: Any) -> bool:
    pictures = (np.ma.count(picture.get_array()) for picture in axes.images)
    curves = (np.isfinite(np.asarray(line.get_ydata(), float)).any() for line in axes.lines)
    return any(pictures) or any(curves)


def _aspect(axes: Any) -> float:
    """Height over width of the picture in the axes, to a twentieth; 0 if there is none."""
    if not axes.images:
        return 0.0
    left, right, bottom, top = axes.images[0].get_extent()
    return float(round(20 * abs((top - bottom) / (right - left)))) / 20
