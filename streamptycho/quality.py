"""How close a reconstruction is to a known object, free of what ptychography cannot know.

A ptychographic object is determined up to a shift (shared with the probe), a constant phase, a linear phase ramp and a
scale. They are removed before anything is compared.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Complex = NDArray[np.complex128]

MAX_SHIFT_PX = 12
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
    a, known_a, b, known_b = _common(obj, covered, origin_px, truth, support, truth_origin_px)
    both = known_a & known_b
    if both.sum() < MIN_PIXELS:
        return None
    ys, xs = np.flatnonzero(both.any(1)), np.flatnonzero(both.any(0))
    box = (slice(ys[0], ys[-1] + 1), slice(xs[0], xs[-1] + 1))
    a, b, both = a[box], b[box], both[box]
    for _ in range(4):
        a = _without_ramp(a, b, both)
        a, moved = _shifted(a, b, both)
        a = a * (np.vdot(a[both], b[both]) / np.vdot(a[both], a[both]).real)
        if moved < 0.05:
            break
    mean = np.angle(b[both].mean())
    pa, pb = (np.angle(z[both] * np.exp(-1j * mean)) for z in (a, b))
    return Agreement(
        phase_correlation=float(np.corrcoef(pa, pb)[0, 1]),
        error=float(np.linalg.norm((a - b)[both]) / np.linalg.norm(b[both])),
        pixels=int(both.sum()),
    )


def _common(
    obj: NDArray[np.complexfloating],
    covered: NDArray[np.bool_],
    origin: tuple[float, float],
    truth: NDArray[np.complexfloating],
    support: NDArray[np.bool_],
    truth_origin: tuple[float, float],
) -> tuple[Complex, NDArray[np.bool_], Complex, NDArray[np.bool_]]:
    """The object laid on the truth's grid, to whole pixels."""
    a = np.zeros(truth.shape, np.complex128)
    known = np.zeros(truth.shape, np.bool_)
    y, x = (round(o - t) for o, t in zip(origin, truth_origin, strict=True))
    y0, y1 = max(y, 0), min(y + obj.shape[0], truth.shape[0])
    x0, x1 = max(x, 0), min(x + obj.shape[1], truth.shape[1])
    if y1 > y0 and x1 > x0:
        a[y0:y1, x0:x1] = obj[y0 - y : y1 - y, x0 - x : x1 - x]
        known[y0:y1, x0:x1] = covered[y0 - y : y1 - y, x0 - x : x1 - x]
    return a, known, truth.astype(np.complex128), support


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


def _shifted(a: Complex, b: Complex, known: NDArray[np.bool_]) -> tuple[Complex, float]:
    """`a` shifted onto `b` by the peak of their cross-correlation on a twentieth of a pixel, and how far it moved."""
    ky, kx = np.fft.fftfreq(a.shape[0]), np.fft.fftfreq(a.shape[1])
    fa, fb = (np.fft.fft2(np.where(known, z - z[known].mean(), 0)) for z in (a, b))
    cross = fb * fa.conj()
    whole = np.arange(-MAX_SHIFT_PX, MAX_SHIFT_PX + 1.0)
    y, x = _best(cross, ky, kx, whole, whole)
    y, x = _best(cross, ky, kx, y + np.arange(-1, 1.01, 0.05), x + np.arange(-1, 1.01, 0.05))
    moved: Complex = np.fft.ifft2(np.fft.fft2(a) * np.exp(-2j * np.pi * (ky[:, None] * y + kx[None] * x)))
    return moved, float(np.hypot(y, x))


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
