"""The frames of a reconstruction, one row per frame in order of arrival."""

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from streamptycho.solve.devices.backend import Array, Backend
from streamptycho.solve.equations.modulus import centre_of_mass, frequencies

MASKED = -1.0
FIRST_ROWS = 64
"""Rows to begin with where no number of frames is announced."""
MOST_ROWS = 1 << 20
"""Rows to begin with at most, whatever is announced."""
RESERVE = 0.75
"""Address space for amplitudes, fraction of the machine's memory."""


class FrameStore:
    """Amplitudes on the device, window corners on the host.

    On a CPU the address space for as many frames as the memory may hold is taken at once and memory only with each frame, so
    that nothing is ever copied; elsewhere, or where the system refuses, the amplitudes grow by doubling.

    Attributes
    ----------
    amplitudes : (capacity, ny, nx) float32, zero frequency at [0, 0], `MASKED` where not measured; `len(self)` rows count.
    corners : (capacity, 2) int64, absolute object pixel of each window's first row and column.
    flux : (capacity,) float32 on the device, amplitude of each frame relative to the usual one.
    power : (capacity,) float64, sum of the counts over valid pixels.
    centres : (capacity, 2) float32 on the device, centre of mass of the counts, signed frequency samples (y, x).
    """

    def __init__(self, backend: Backend, shape: tuple[int, int], expected: int | None = None) -> None:
        self.backend = backend
        self.shape = shape
        capacity = max(FIRST_ROWS, min(expected or 0, MOST_ROWS))
        self._reserve: Array = _reserved(backend, (capacity, *shape))
        self.amplitudes: Array = self._reserve[:capacity]
        self.corners = np.zeros((capacity, 2), np.int64)
        self.power = np.zeros(capacity)
        self.centres: Array = backend.xp.zeros((capacity, 2), np.float32)
        self.flux: Array = backend.xp.ones(capacity, np.float32)
        self._frequencies = frequencies(np, shape)
        self._n = 0
        self._n_when_allocated = 0

    def __len__(self) -> int:
        return self._n

    def append(self, amplitude: NDArray[np.float32], corner: tuple[int, int]) -> int:
        """Add a frame; returns its row."""
        if self._n == len(self.corners):
            self._double()
        row = self._n
        self.corners[row] = corner
        self._n += 1
        # the first row of new memory waits until what may have used that memory before has ended
        self._put(row, amplitude, fresh=row != self._n_when_allocated)
        return row

    def replace(self, row: int, amplitude: NDArray[np.float32]) -> None:
        """Exchange the amplitudes of a row, e.g. when the calibration of the detector has become better."""
        self._put(row, amplitude, fresh=False)

    def _put(self, row: int, amplitude: NDArray[np.float32], *, fresh: bool) -> None:
        if amplitude.shape != self.shape:
            raise ValueError(f"amplitude: shape {amplitude.shape} differs from the engine's {self.shape}")
        self.backend.upload(self.amplitudes[row], amplitude, fresh=fresh)
        counts = np.square(np.maximum(amplitude, 0))
        self.power[row] = float(counts.sum(dtype=np.float64))
        self.backend.upload(self.centres[row], centre_of_mass(np, counts, self._frequencies), fresh=fresh)

    def _double(self) -> None:
        n = len(self.corners)
        self._n_when_allocated = n
        if 2 * n > len(self._reserve):
            reserve = _reserved(self.backend, (2 * n, *self.shape))
            reserve[:n] = self._reserve[:n]
            self._reserve = reserve
        self.amplitudes = self._reserve[: 2 * n]
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


def _reserved(backend: Backend, shape: tuple[int, ...]) -> Array:
    """Uninitialised float32 of this shape, or of more rows where these cost nothing until they are written."""
    rows, row_bytes = shape[0], 4 * int(np.prod(shape[1:]))
    if backend.xp is np:
        rows = max(rows, int(RESERVE * _lazy_memory() / row_bytes))
    while rows > shape[0]:
        try:
            return np.empty((rows, *shape[1:]), np.float32)
        except MemoryError:  # limits on address space
            rows //= 2
    return backend.xp.empty(shape, np.float32)


def _lazy_memory() -> int:
    """Bytes of the machine's memory if the system provides memory as it is written, else 0."""
    if not hasattr(os, "sysconf"):
        return 0
    policy = Path("/proc/sys/vm/overcommit_memory")
    if policy.exists() and policy.read_text().strip() == "2":
        return 0  # Linux promises no more than it has
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
