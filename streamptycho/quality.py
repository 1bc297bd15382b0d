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
    y, x = np.ogrid[: obj.shape[0], : obj.shape[1]]
    slope_y = np.angle((obj[1:] * obj[:-1].conj()).sum())
    slope_x = np.angle((obj[:, 1:] * obj[:, :-1].conj()).sum())
    obj = obj * np.exp(-1j * (slope_y * y + slope_x * x))
    return np.where(covered, obj, obj.sum() / max(covered.sum(), 1))


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
    y, x = int(whole[0]), int(whole[1])
    y0, y1 = max(y, 0), min(y + obj.shape[0], shape[0])
    x0, x1 = max(x, 0), min(x + obj.shape[1], shape[1])
    if y1 > y0 and x1 > x0:
        a[y0:y1, x0:x1] = obj[y0 - y : y1 - y, x0 - x : x1 - x]
        known[y0:y1, x0:x1] = covered[y0 - y : y1 - y, x0 - x : x1 - x]
    return a, known


def _without_ramp(a: Complex, b: Complex, known: NDArray[np.bool_]) -> Complex:
    """`a` times the phase ramp that brings it closest to `b`: the peak of the spectrum of a b*, refined by neighbours."""
    product = np.where(known, a * b.conj(), 0)
    peak = np.unravel_index(np.argmax(abs(np.fft.fft2(product))), product.shape)
    y, x = np.ogrid[: a.shape[0], : a.shape[1]]
    ramp = np.exp(-2j * np.pi * (y * np.fft.fftfreq(a.shape[0])[peak[0]] + x * np.fft.fftfreq(a.shape[1])[peak[1]]))
    product = product * ramp
    fine_y = np.angle((product[1:] * product[:-1].conj()).sum())
    fine_x = np.angle((product[:, 1:] * product[:, :-1].conj()).sum())
    flat: Complex = a * ramp * np.exp(-1j * (fine_y * y + fine_x * x))
    return flat


def _misplacement(a: Complex, b: Complex, known: NDArray[np.bool_]) -> tuple[float, float]:
    """(y, x) by which `a` must move onto `b`: the peak of their cross-correlation, on a twentieth of a pixel."""
    ky, kx = np.fft.fftfreq(a.shape[0]), np.fft.fftfreq(a.shape[1])
    fa, fb = (np.fft.fft2(np.where(known, z - z[known].mean(), 0)) for z in (a, b))
    cross = fb * fa.conj()
    whole = np.arange(-MAX_SHIFT_PX, MAX_SHIFT_PX + 1.0)
    y, x = _best(cross, ky, kx, whole, whole)
    fine = np.arange(-20, 21) / 20
    return _best(cross, ky, kx, y + fine, x + fine)


def _best(
    cross: Complex,
    ky: NDArray[np.floating],
    kx: NDArray[np.floating],
    ys: NDArray[np.floating],
    xs: NDArray[np.floating],
) -> tuple[float, float]:
    """Shift among `ys` x `xs` with the highest correlation."""
    grid = abs(np.exp(2j * np.pi * np.outer(ys, ky)) @ cross @ np.exp(2j * np.pi * np.outer(kx, xs)))
    i, j = np.unravel_index(np.argmax(grid), grid.shape)
    return float(ys[i]), float(xs[j])
