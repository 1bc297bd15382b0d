"""What the kernels take and give, whatever computes. Arrays are on the device unless said; axis order (y, x)."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from streamptycho.solve.devices.backend import Array


@dataclass(frozen=True, slots=True)
class Model:
    """Object and probe, which together predict every pattern; kernels change them in place."""

    object: Array
    """(H, W) complex64 canvas."""
    probe: Array
    """(modes, ny, nx) complex64."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One diffraction pattern, and what belongs to its model beside object and probe."""

    amplitude: Array
    """(ny, nx) float32, square root of the counts, zero frequency at [0, 0]; negative where masked, which leaves the model
    free there."""
    flux: Array = 1.0
    """Scalar, amplitude relative to the usual frame; the measured amplitude is divided by it."""
    background: Array = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    """(ny, nx) float32 incoherent intensity, zero frequency at [0, 0]; none if empty."""


@dataclass(frozen=True, slots=True)
class Frames:
    """Some rows of a store, and where their windows are."""

    amplitudes: Array
    """(capacity, ny, nx) float32, each as in :class:`Frame`."""
    flux: Array
    """(capacity,) float32."""
    background: Array
    """(ny, nx) float32, or (0, 0) for none."""
    rows: NDArray[np.int64]
    """(k,) on the host, in the order of use; a row may come more than once."""
    corners: NDArray[np.int64]
    """(k, 2) on the host, first row and column of each window on the canvas."""

    def __len__(self) -> int:
        return len(self.rows)

    def frame(self, k: int) -> Frame:
        """The k-th."""
        row = int(self.rows[k])
        return Frame(self.amplitudes[row], self.flux[row], self.background)

    def window(self, k: int) -> tuple[slice, slice]:
        """Slices of the canvas under the k-th."""
        y, x = self.corners[k].tolist()
        ny, nx = self.amplitudes.shape[1:]
        return slice(y, y + ny), slice(x, x + nx)


@dataclass(frozen=True, slots=True)
class Step:
    """Strength of one update."""

    alpha: float
    """Object step, 0 to 1."""
    beta: float
    """Probe step, 0 to 1; 0 leaves the probe alone."""
    gamma_object: float
    """Regularisation of the object's weight, 0 to 1; 1 is ePIE."""
    gamma_probe: float
    """The same for the probe."""
    count_floor: float = 0.0
    """Counts c added to measurement and model alike before they are compared, if there are several modes: the model is
    multiplied by sqrt((A^2 + c) / (|model|^2 + c)). The square root of few counts is smaller in the mean than the root of
    their expectation, which would starve what fills the dark of a pattern, such as weak modes."""


@dataclass(frozen=True, slots=True)
class Steps:
    """Strengths of the updates of k frames."""

    strengths: NDArray[np.float32]
    """(k, 4) on the host: the first four of :class:`Step`."""
    count_floor: float = 0.0

    def step(self, k: int) -> Step:
        """The k-th."""
        alpha, beta, gamma_object, gamma_probe = self.strengths[k].tolist()
        return Step(alpha, beta, gamma_object, gamma_probe, self.count_floor)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a sweep writes about the models it met, before it changed them; sums are over valid pixels."""

    misfit: Array
    """(capacity,) float32: sum of (|model| - A / flux)^2, at the row of each frame."""
    figures: Array
    """(k, 4) float32: centre of mass (y, x) of the model's intensity in signed frequencies, sum of A |model|, sum of
    |model|^2."""
