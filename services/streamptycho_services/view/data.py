"""Panels of what the frames say by themselves: newest pattern, coverage and scanning maps, there before any iteration."""

import matplotlib as mpl
import numpy as np
from bluesky_widgets.models.plot_specs import Figure

from streamptycho_services.view.artists import (
    MICROMETRE_M,
    Layout,
    LiveImage,
    LiveLine,
    Placed,
    extent,
    picture_axes,
    set_title,
    show_covered,
)
from streamptycho_services.view.model import State

NEWEST = 40
"""Points of the scan that are marked."""
MASKED, SATURATED = "#283e5c", "#ff283c"
PATTERN, COVERAGE = "Newest pattern (log10)", "Coverage"
MAPS = {
    "map_sum": "Sum (counts)",
    "map_dark_field": "Dark field (counts)",
    "map_dpc_y": "Phase contrast y (px)",
    "map_dpc_x": "Phase contrast x (px)",
}


class DataPanels:
    """The figure "Data"; :meth:`update` brings it to a state."""

    layout = Layout("data", 3, (12.0, 7.0), 1.9, bars=True, down=(1,))

    def __init__(self) -> None:
        colours = mpl.colormaps["inferno"].with_extremes(bad=MASKED, over=SATURATED)
        self.pattern = LiveImage(colours)
        self.crop = LiveLine(color="white", linewidth=0.8)
        self.centre = LiveLine(color="white", marker="+", markersize=9, linestyle="none")
        self.points = LiveLine(color="tab:blue", marker=".", markersize=2, linestyle="none")
        self.newest = LiveLine(color="tab:orange", marker=".", markersize=4, linestyle="none")
        self.maps = {name: LiveImage("viridis" if "dpc" in name else "gray") for name in MAPS}
        self._pattern_axes = picture_axes(PATTERN, "px")
        self._coverage_axes = picture_axes(COVERAGE)
        axes = {name: picture_axes(title) for name, title in MAPS.items()}
        self.figure = Figure([self._pattern_axes, self._coverage_axes, *axes.values()], title="Data as measured")
        self.figure.short_title = "Data"
        self.artists: list[Placed] = [
            *((self._pattern_axes, artist) for artist in (self.pattern, self.crop, self.centre)),
            *((self._coverage_axes, artist) for artist in (self.points, self.newest)),
            *((axes[name], image) for name, image in self.maps.items()),
        ]

    def clear(self) -> None:
        """A new run: nothing of the last one must be taken for it."""
        for _, artist in self.artists:
            artist.clear()
        set_title(self._pattern_axes, PATTERN)
        set_title(self._coverage_axes, COVERAGE)

    def update(self, state: State) -> None:
        """Show what has changed."""
        if "diffraction" in state.streams:
            self._show_pattern(state)
        if "maps" in state.streams:
            show_covered(state.arrays, "map", self.maps)
            self._show_coverage(state)

    def _show_pattern(self, state: State) -> None:
        arrays, binning = state.arrays, state.last("pattern_binning")
        valid = arrays["pattern_valid"] > 0
        logarithm = np.log10(1 + np.maximum(arrays["pattern_counts"], 0)).astype(np.float32)
        saturated = valid & (arrays["pattern_saturated"] > 0)
        top = max(float(logarithm.max(where=valid & ~saturated & np.isfinite(logarithm), initial=0)), 0.3)
        shown = np.where(saturated, 2 * top, np.where(valid, logarithm, np.nan)).astype(np.float32)
        corner = ((binning - 1) / 2,) * 2
        self.pattern.put(shown, extent(shown.shape, (binning, binning), corner), (0, top))
        y, x = arrays["pattern_centre_px"]
        self.centre.put(np.array([x]), np.array([y]))
        low = arrays["pattern_crop_px"] - 0.5
        high = low + arrays["pattern_crop_shape_px"]
        self.crop.put(
            np.array([low[1], high[1], high[1], low[1], low[1]]), np.array([low[0], low[0], high[0], high[0], low[0]])
        )
        set_title(self._pattern_axes, f"{PATTERN}, frame {state.last('pattern_index'):.0f}")

    def _show_coverage(self, state: State) -> None:
        listed, mapped = int(state.last("points_listed")), state.last("points_mapped")
        y, x = (state.arrays["points_yx_m"][:listed] / MICROMETRE_M).T
        newest = max(1, round(NEWEST * listed / max(mapped, 1)))
        self.points.put(x[:-newest], y[:-newest])
        self.newest.put(x[-newest:], y[-newest:])
        set_title(self._coverage_axes, f"{COVERAGE}: {mapped:.0f} points, newest orange")
