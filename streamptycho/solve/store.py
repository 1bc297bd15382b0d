"""The frames of a reconstruction: preallocated, grown by doubling, one row per frame in order of arrival."""

import numpy as np
from numpy.typing import NDArray

from streamptycho.solve.backend import Array, Backend
from streamptycho.solve.epie import centre_of_mass, frequencies

MASKED = -1.0
"""Amplitude that marks a pixel as not measured."""


class FrameStore:
    """Amplitudes on the device, window corners on the host.

    Attributes
    ----------
    amplitudes : (capacity, ny, nx) float32, zero frequency at [0, 0], `MASKED` where not measured;
        the first `len(self)` count.
    corners : (capacity, 2) int64, absolute object pixel of each window's first row and column.
    flux : (capacity,) float32 on the device, amplitude of each frame relative to the usual one.
    power : (capacity,) float64, sum of the counts over valid pixels.
    centres : (capacity, 2) float32 on the device, centre of mass of the counts, signed frequency samples (y, x).
    """

    def __init__(self, backend: Backend, shape: tuple[int, int], expected: int | None = None) -> None:
        self.backend = backend
        self.shape = shape
        capacity = max(64, min(expected or 0, 1 << 20))
        self.amplitudes: Array = backend.xp.empty((capacity, *shape), np.float32)
        self.corners = np.zeros((capacity, 2), np.int64)
        self.power = np.zeros(capacity)
        self.centres: Array = backend.xp.zeros((capacity, 2), np.float32)
        self.flux: Array = backend.xp.ones(capacity, np.float32)
        self._frequencies = frequencies(np, shape)
        self._n = 0

    def __len__(self) -> int:
        return self._n

    def append(self, amplitude: NDArray[np.float32], corner: tuple[int, int]) -> int:
        """Add a frame; returns its row."""
        if self._n == len(self.corners):
            self._double()
        row = self._n
        self.corners[row] = corner
        self._n += 1
        self.replace(row, amplitude)
        return row

    def replace(self, row: int, amplitude: NDArray[np.float32]) -> None:
        """Exchange the amplitudes of a row, e.g. when the calibration of the detector has become better."""
        if amplitude.shape != self.shape:
            raise ValueError(f"amplitude: shape {amplitude.shape} differs from the engine's {self.shape}")
        self.amplitudes[row] = self.backend.to_device(amplitude)
        counts = np.square(np.maximum(amplitude, 0))
        self.power[row] = float(counts.sum(dtype=np.float64))
        self.centres[row] = self.backend.to_device(centre_of_mass(np, counts, self._frequencies))

    def _double(self) -> None:
        n = len(self.corners)
        amplitudes = self.backend.xp.empty((2 * n, *self.shape), np.float32)
        amplitudes[:n] = self.amplitudes
        self.amplitudes = amplitudes
        self.centres = self.backend.xp.concatenate([self.centres, self.backend.xp.zeros((n, 2), np.float32)])
        self.flux = self.backend.xp.concatenate([self.flux, self.backend.xp.ones(n, np.float32)])
        self.corners = np.concatenate([self.corners, np.zeros((n, 2), np.int64)])
        self.power = np.concatenate([self.power, np.zeros(n)])

    def mean_intensity(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Mean counts over `rows` of what is valid, zero frequency at [0, 0]; (ny, nx), 0 where never valid."""
        total = np.zeros(self.shape)
        seen = np.zeros(self.shape)
        for row in rows:
            amplitude = self.backend.to_host(self.amplitudes[row])
            total += np.maximum(amplitude, 0) ** 2
            seen += amplitude >= 0
        return total / np.maximum(seen, 1)
