"""What the panels are made of: bluesky-widgets' Image and Line with what they show, and where it lies."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from bluesky_widgets.models.plot_specs import Axes, Image, Line
from numpy.typing import NDArray

from streamptycho.display.phase import contrast, covered_part

MICROMETRE_M = 1e-6
_NOTHING = np.full((2, 2), np.nan, np.float32)
_NO_CURVE = np.zeros(0)


class LiveImage:
    """An Image, its colours (a name or a map of matplotlib's) and where it lies."""

    def __init__(self, colour_map: Any) -> None:
        self._array = _NOTHING
        self._colour_map = colour_map
        # a label with an underscore stays out of legends
        self.spec = Image(lambda: {"array": self._array}, label="_picture")

    def put(self, array: NDArray[np.float32], extent: tuple[float, ...], limits: tuple[float, float]) -> None:
        """Show (ny, nx) `array` over `extent` (left, right, bottom, top), colours between `limits`; NaN is left white.

        The style is sent each time: a view that opened after the last picture does not have it.
        """
        self._array = array
        self.spec.events.new_data()
        style = {"extent": extent, "clim": limits, "cmap": self._colour_map, "interpolation": "nearest"}
        self.spec.style.update(style)

    def clear(self) -> None:
        """Show nothing."""
        self.put(_NOTHING, (0, 1, 1, 0), (0, 1))


class LiveLine:
    """A Line and its points."""

    def __init__(self, label: str = "_curve", **style: Any) -> None:
        self._points = (_NO_CURVE, _NO_CURVE)
        self.spec = Line(lambda: {"x": self._points[0], "y": self._points[1]}, label=label, style=style)

    def put(self, x: NDArray[Any], y: NDArray[Any]) -> None:
        """Show the curve through (n,) `x` and (n,) `y`; what is not finite is a gap."""
        self._points = (x, np.where(np.isfinite(y), y, np.nan))
        self.spec.events.new_data()

    def clear(self) -> None:
        """Show nothing."""
        self.put(_NO_CURVE, _NO_CURVE)


Placed = tuple[Axes, LiveImage | LiveLine]


@dataclass(frozen=True, slots=True)
class Layout:
    """What bluesky-widgets' models cannot say about a figure, for :mod:`painting`."""

    name: str
    columns: int
    size_in: tuple[float, float]
    rest_s: float
    """Least time between two drawings."""
    bars: bool = False
    log: tuple[int, ...] = ()
    down: tuple[int, ...] = ()
    """Axes without a picture whose y axis grows downwards."""


def picture_axes(title: str, unit: str = "um") -> Axes:
    """Axes for a picture."""
    return Axes(title=title, x_label=f"x ({unit})", y_label=f"y ({unit})", aspect="equal")


def set_title(axes: Axes, text: str) -> None:
    """Change the title if it is another one: each change costs a drawing in some views."""
    if axes.title != text:
        axes.title = text


def show_covered(arrays: Mapping[str, NDArray[Any]], kind: str, images: Mapping[str, LiveImage]) -> None:
    """Bring `images`, by field, to the covered part of the fields that begin with `kind`; nothing changes without any."""
    covered = arrays[f"{kind}_covered"] > 0
    if not covered.any():
        return
    part = covered_part(covered)
    pixel_m = arrays[f"{kind}_pixel_m"]
    corner_m = arrays[f"{kind}_origin_m"] + (part[0].start, part[1].start) * pixel_m
    where = extent_um(covered[part].shape, pixel_m, corner_m)
    for name, image in images.items():
        shown = np.where(covered[part], arrays[name][part], np.nan).astype(np.float32)
        image.put(shown, where, contrast(shown))


def extent(shape: Sequence[int], pixel: Any, origin: Any) -> tuple[float, float, float, float]:
    """Left, right, bottom, top of a picture of `shape` (ny, nx); the centre of pixel [0, 0] is at `origin` (y, x)."""
    (dy, dx), (y, x) = (np.asarray(pair, np.float64) for pair in (pixel, origin))
    return float(x - dx / 2), float(x + (shape[1] - 0.5) * dx), float(y + (shape[0] - 0.5) * dy), float(y - dy / 2)


def extent_um(shape: Sequence[int], pixel_m: Any, origin_m: Any) -> tuple[float, float, float, float]:
    """The same of metres in micrometres."""
    return extent(shape, np.asarray(pixel_m) / MICROMETRE_M, np.asarray(origin_m) / MICROMETRE_M)
