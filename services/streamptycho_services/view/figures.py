"""Panels of a reconstruction as bluesky-widgets' Figure, Axes, Image and Line; which front end shows them does not matter.

Pictures have row 0 at the top, as everywhere in streamptycho: y grows downwards, x to the right.
"""

import math
import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np
from bluesky_widgets.models.plot_specs import Axes, Figure, FigureList
from numpy.typing import NDArray

from streamptycho_services.view.artists import (
    MICROMETRE_M,
    Layout,
    LiveImage,
    LiveLine,
    Placed,
    extent_um,
    picture_axes,
    set_title,
    show_covered,
)
from streamptycho_services.view.data import DataPanels
from streamptycho_services.view.model import State

FAINT = 0.1
"""Below this part of its largest amplitude a probe's phase is noise and is left white."""
TITLE_COLUMNS = 110
_SHOWN_IN = {
    "object": "object",
    "probe": "probe",
    "progress": "progress",
    "quality": "progress",
    "diffraction": "data",
    "maps": "data",
}


class ReconFigures:
    """The figures, to be shown by any views; :meth:`update` brings them to a state."""

    def __init__(self) -> None:
        self.phase, self.amplitude = LiveImage("viridis"), LiveImage("gray")
        self.probe_amplitude, self.probe_phase = LiveImage("magma"), LiveImage("twilight")
        self.error, self.resolution, self.lag, self.ring = (LiveLine(marker=".", markersize=3) for _ in range(4))
        self.used, self.received = LiveLine("in the picture"), LiveLine("received", linestyle="--")
        self.dropped = LiveLine("dropped", color="tab:red")
        self.rate, self.updates = LiveLine("detector, frames/s"), LiveLine("updates/s", linestyle="--")
        self._placed: list[Placed] = []
        """All artists but those of the data."""
        self._phase_axes = self._picture("Phase (rad)", self.phase)
        self._amplitude_axes = self._picture("Amplitude", self.amplitude)
        self._probe_axes = self._picture("Probe amplitude", self.probe_amplitude)
        self._probe_phase_axes = self._picture("Phase, first mode (rad)", self.probe_phase)
        self._object = Figure([self._phase_axes, self._amplitude_axes], title="waiting for a scan", short_title="Object")
        self._probe = Figure([self._probe_axes, self._probe_phase_axes], title="Probe")
        self._progress = Figure(
            [
                self._curve("Fourier error", self.error),
                self._curve("Frames", self.used, self.received, self.dropped),
                self._curve("Rates", self.rate, self.updates),
                self._curve("Resolution (nm)", self.resolution),
                self._curve("Ring correlation", self.ring, x_label="1/um", y_limits=(-0.1, 1.05)),
                self._curve("Lag (s)", self.lag),
            ],
            title="Progress over seconds since the scan began",
            short_title="Progress",
        )
        self._data = DataPanels()
        self.figures = FigureList([self._object, self._probe, self._progress, self._data.figure])
        self.layouts = (
            Layout("object", 2, (12.0, 5.6), 0.4, bars=True),
            Layout("probe", 2, (9.0, 4.2), 0.9, bars=True),
            Layout("progress", 3, (12.0, 5.6), 0.9, log=(0, 2)),
            self._data.layout,
        )

    def populate(self) -> None:
        """Put the artists in, once, after the views are made: some views draw with each artist that they find or get."""
        for axes, artist in (*self._placed, *self._data.artists):
            axes.artists.append(artist.spec)

    def update(self, state: State) -> set[str]:
        """Bring all that has changed to the figures; names of those that have."""
        changed = {_SHOWN_IN[stream] for stream in state.streams if stream in _SHOWN_IN}
        if state.begun:
            self._clear()
            changed.update(_SHOWN_IN.values())
        if "object" in state.streams:
            show_covered(state.arrays, "object", {"object_phase": self.phase, "object_amplitude": self.amplitude})
        if "probe" in state.streams:
            self._show_probe(state.arrays)
        if "progress" in state.streams:
            self._show_progress(state)
        if "quality" in state.streams:
            self.ring.put(state.arrays["frequency_per_m"] * MICROMETRE_M, state.arrays["ring_correlation"])
        self._data.update(state)
        if self._set_titles(state):
            changed.add("object")
        return changed

    def _picture(self, title: str, image: LiveImage) -> Axes:
        axes = picture_axes(title)
        self._placed.append((axes, image))
        return axes

    def _curve(self, title: str, *lines: LiveLine, **more: Any) -> Axes:
        axes = Axes(title=title, **more)
        self._placed.extend((axes, line) for line in lines)
        return axes

    def _clear(self) -> None:
        """A new run: nothing of the last one must be taken for it."""
        for _, artist in self._placed:
            artist.clear()
        set_title(self._probe_axes, "Probe amplitude")
        self._data.clear()

    def _show_probe(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        amplitude, pixel_m = arrays["probe_amplitude"], arrays["probe_pixel_m"]
        largest = max(float(amplitude.max()), 1e-30)
        modes = tiled(amplitude)
        corner_m = -(np.array(amplitude.shape[1:]) // 2) * pixel_m  # the beam's centre is at 0
        self.probe_amplitude.put(modes, extent_um(modes.shape, pixel_m, corner_m), (0, largest))
        bright = amplitude[0] >= FAINT * amplitude[0].max()
        phase = np.where(bright, arrays["probe_phase"][0], np.nan).astype(np.float32)
        self.probe_phase.put(phase, extent_um(phase.shape, pixel_m, corner_m), (-math.pi, math.pi))
        shares = ", ".join(f"{share:.0%}" for share in arrays["probe_power"][:8])
        many = len(amplitude) > 1
        set_title(self._probe_axes, f"Amplitude of {len(amplitude)} modes: {shares}" if many else "Probe amplitude")

    def _show_progress(self, state: State) -> None:
        begun_s = float(state.start["time"])
        curves = {
            "error": self.error,
            "resolution_m": self.resolution,
            "lag_s": self.lag,
            "frames_used": self.used,
            "frames_received": self.received,
            "frames_dropped": self.dropped,
            "rate_hz": self.rate,
            "updates_hz": self.updates,
        }
        unknown, scale = {"error": 1.0, "resolution_m": 1.0, "lag_s": -1.0}, {"resolution_m": 1e9}
        for key in curves.keys() & state.series.keys():
            times, values = state.series[key]
            curves[key].put(times - begun_s, np.where(values != unknown.get(key), values * scale.get(key, 1.0), np.nan))

    def _set_titles(self, state: State) -> bool:
        """Whether that of the object figure has changed."""
        used, expected = state.last("object_frames_used"), int(state.start.get("frames_expected", 0))
        final = "final, " if state.last("object_final") > 0 else ""
        frames = f", {final}{used:.0f}{f' of {expected}' if expected else ''} frames" if not math.isnan(used) else ""
        set_title(self._phase_axes, f"Phase (rad){frames}")
        error = state.last("object_error")
        set_title(self._amplitude_axes, f"Amplitude, error {error:.4f}" if error < 1 else "Amplitude")
        title = "\n".join(headline(state))
        if title == self._object.title:
            return False
        self._object.title = title
        return True


def headline(state: State) -> list[str]:
    """Name of the scan with the verdict on it, then what is wrong; lines of at most `TITLE_COLUMNS` letters."""
    name = state.start.get("scan_name") or f"run {state.start['uid'][:8]}"
    said = state.words.get("verdict") or state.words.get("state") or "begins"
    if state.stop is not None and state.stop["exit_status"] != "success":
        said = f"{state.stop['exit_status']}: {state.stop.get('reason') or 'no reason given'}"
    lines = textwrap.wrap(f"{name}: {said}", TITLE_COLUMNS)[:2]
    for line in state.words.get("explanation", "").splitlines()[:2]:
        lines.append(textwrap.shorten(line, TITLE_COLUMNS, placeholder=" ..."))
    return lines


def tiled(modes: NDArray[np.float32]) -> NDArray[np.float32]:
    """(modes, n, m) side by side in rows of about as many as there are rows; NaN where there is none."""
    count, ny, nx = modes.shape
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    padded = np.full((rows * columns, ny, nx), np.nan, np.float32)
    padded[:count] = modes
    return padded.reshape(rows, columns, ny, nx).swapaxes(1, 2).reshape(rows * ny, columns * nx)
