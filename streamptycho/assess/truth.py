"""How close a reconstruction is to a known object, free of what ptychography cannot know.

A ptychographic object is determined up to a shift (shared with the probe), a constant phase, a linear phase ramp and a
scale. They are removed before anything is compared.
"""

from dataclasses import dataclass

import numpy as np
import scipy.ndimage
from numpy.typing import NDArray

Complex = NDArray[np.complex128]

MAX_SHIFT_PX = 12
"""Farthest that one round looks for a better place, pixels."""
ROUNDS = 6
MIN_PIXELS = 500


@dataclass(frozen=True, slots=True)
class Agreement:
    """Outcome of :func:`compare`."""

    phase_correlation: float
    """Pearson correlation of the phases, -1 to 1."""
    error: float
    """|| aligned - truth || / || truth ||."""
    pixels: int
    """Pixels compared."""


def compare(
    obj: NDArray[np.complexfloating],
    covered: NDArray[np.bool_],
    origin_px: tuple[float, float],
    truth: NDArray[np.complexfloating],
    support: NDArray[np.bool_],
    truth_origin_px: tuple[float, float],
) -> Agreement | None:
    """Compare an object with the truth on the same grid.

    Parameters
    ----------
    obj, covered : (ny, nx) reconstruction, and True where it means something.
    truth, support : (my, mx) the same for the truth.
    origin_px, truth_origin_px : (y, x) of their first pixels in common object pixels.

    Returns
    -------
    None if fewer than `MIN_PIXELS` pixels are known of both.
    """
    flat = _flattened(obj.astype(np.complex128), covered)
    b = truth.astype(np.complex128)
    at = np.subtract(origin_px, truth_origin_px).astype(np.float64)
    for _ in range(ROUNDS):
        a, known = _laid(flat, covered, at, truth.shape)
        both = known & support
        if both.sum() < MIN_PIXELS:
            return None
        a = _without_ramp(a, b, both)
        moved = _misplacement(a, b, both)
        if np.hypot(*moved) < 0.03:
            break
        at += moved
    power = np.vdot(a[both], a[both]).real
    a = a * (np.vdot(a[both], b[both]) / power) if power > 0 else a
    mean = np.angle(b[both].mean())
    pa, pb = (np.angle(z[both] * np.exp(-1j * mean)) for z in (a, b))
    return Agreement(
        phase_correlation=float(np.corrcoef(pa, pb)[0, 1]) if min(np.ptp(pa), np.ptp(pb)) > 1e-9 else 0.0,
        error=float(np.linalg.norm((a - b)[both]) / np.linalg.norm(b[both])),
        pixels=int(both.sum()),
    )


def _flattened(obj: Complex, covered: NDArray[np.bool_]) -> Complex:
    """`obj` without its phase ramp, and its mean where it is not covered: fit to be shifted by a Fourier transform."""
    obj = np.where(covered, obj, 0)
    obj = obj * _ramp(obj.shape, *_slopes(obj))
    return np.where(covered, obj, obj.sum() / max(covered.sum(), 1))


def _slopes(field: Complex) -> tuple[float, float]:
    """(y, x) mean phase difference of neighbours."""
    down, right = (field[1:] * field[:-1].conj()).sum(), (field[:, 1:] * field[:, :-1].conj()).sum()
    return float(np.angle(down)), float(np.angle(right))


def _ramp(shape: tuple[int, ...], slope_y: float, slope_x: float) -> Complex:
    """What removes these slopes."""
    y, x = np.ogrid[: shape[0], : shape[1]]
    return np.asarray(np.exp(-1j * (slope_y * y + slope_x * x)))


def _laid(
    obj: Complex, covered: NDArray[np.bool_], at: NDArray[np.float64], shape: tuple[int, int]
) -> tuple[Complex, NDArray[np.bool_]]:
    """The object with its first pixel `at` (y, x) of a grid of `shape`, and where it is known."""
    whole = np.rint(at).astype(int)
    dy, dx = at - whole
    if np.hypot(dy, dx) > 1e-6:
        ky, kx = np.fft.fftfreq(obj.shape[0])[:, None], np.fft.fftfreq(obj.shape[1])[None]
        obj = np.fft.ifft2(np.fft.fft2(obj) * np.exp(-2j * np.pi * (ky * dy + kx * dx)))
        covered = scipy.ndimage.binary_erosion(covered, iterations=2)
    a = np.zeros(shape, np.complex128)
    known = np.zeros(shape, np.bool_)
    y, x = (np.arange(n) + first for n, first in zip(obj.shape, whole, strict=True))
    inside = np.ix_((y >= 0) & (y < shape[0]), (x >= 0) & (x < shape[1]))
    place = np.ix_(y[inside[0].ravel()], x[inside[1].ravel()])
    a[place], known[place] = obj[inside], covered[inside]
    return a, known


def _without_ramp(a: Complex, b: Complex, known: NDArray[np.bool_]) -> Complex:
    """`a` times the phase ramp that brings it closest to `b`: the peak of the spectrum of a b*, refined by neighbours."""
    product = np.where(known, a * b.conj(), 0)
    peak = np.unravel_index(np.argmax(abs(np.fft.fft2(product))), product.shape)
    ramp = _ramp(a.shape, *(2 * np.pi * np.fft.fftfreq(n)[at] for n, at in zip(a.shape, peak, strict=True)))
    return a * ramp * _ramp(a.shape, *_slopes(product * ramp))


def _misplacement(a: Complex, b: Complex, known: NDArray[np.bool_]) -> tuple[float, float]:
    """(y, x) by which `a` must move onto `b`: the peak of their cross-correlation, on a twentieth of a pixel."""
    fa, fb = (np.fft.fft2(np.where(known, z - z[known].mean(), 0)) for z in (a, b))
    cross = fb * fa.conj()
    whole = np.arange(-MAX_SHIFT_PX, MAX_SHIFT_PX + 1.0)
    y, x = _best(cross, whole, whole)
    fine = np.arange(-20, 21) / 20
    return _best(cross, y + fine, x + fine)


def _best(cross: Complex, ys: NDArray[np.floating], xs: NDArray[np.floating]) -> tuple[float, float]:
    """Shift among `ys` x `xs` with the highest correlation."""
    ky, kx = (np.fft.fftfreq(n) for n in cross.shape)
    grid = abs(np.exp(2j * np.pi * np.outer(ys, ky)) @ cross @ np.exp(2j * np.pi * np.outer(kx, xs)))
    i, j = np.unravel_index(np.argmax(grid), grid.shape)
    return float(ys[i]), float(xs[j])
