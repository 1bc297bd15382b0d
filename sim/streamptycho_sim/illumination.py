"""The probe: a beam focused by a round lens, out of focus, partially coherent on request.

Source of the aberrations: the wave leaves a soft round pupil with the phase pi D k^2 (defocus D in px^2, k in cycles per
pixel), so that the ray of frequency k lands at D k: the footprint is 2 D times the pupil radius. Coma and astigmatism break
the symmetry; otherwise the conjugate twin of a picture would be indistinguishable from it.
"""

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import fft

from streamptycho.options import Options

MODE_POWERS = (0.80, 0.12, 0.08)
"""Relative power of the coherent modes; as many as are used are scaled to sum to 1."""
SOFTNESS = 0.006
"""Width of the pupil's edge, cycles per pixel."""


class IlluminationOptions(Options):
    """Shape and coherence of the beam on the sample."""

    footprint: float = Field(default=0.31, gt=0.05, lt=0.8)
    """Diameter of the beam on the sample as a fraction of the reconstructed window."""
    aperture: float = Field(default=0.18, gt=0.02, lt=0.45)
    """Radius of the pupil, cycles per object pixel: the bright disc on the detector has this radius times its width."""
    coma_rad: float = 0.5
    """Coma at the edge of the pupil, radians."""
    astigmatism_rad: float = 0.35
    """Astigmatism at the edge of the pupil, radians."""
    modes: int = Field(default=1, ge=1, le=len(MODE_POWERS))
    """Coherent modes: 1 is a fully coherent beam."""


def footprint_px(options: IlluminationOptions, n: int) -> float:
    """Diameter of the beam, object pixels, for a window of `n` pixels."""
    return options.footprint * n


def probe(options: IlluminationOptions, n: int, photons: float) -> NDArray[np.complex64]:
    """Modes of the beam, (modes, n, n) complex64, centred on [n//2, n//2], strongest first, mutually orthogonal.

    sum |probe|^2 = `photons`: with the unitary transform, the counts of a frame without a specimen.
    """
    defocus = footprint_px(options, n) / (2 * options.aperture)
    field = _focused(n, options.aperture, defocus, options.coma_rad, options.astigmatism_rad)
    modes = _modes(field, options.modes)
    return np.asarray(modes * np.sqrt(photons / (abs(modes) ** 2).sum()), np.complex64)


def guess(options: IlluminationOptions, n: int, photons: float, defocus_error: float = 0.2) -> NDArray[np.complex64]:
    """A typical start at a beamline: the right pupil, defocus wrong by a fraction, no aberrations."""
    footprint = options.footprint * (1 - defocus_error)
    return probe(options.model_copy(update={"footprint": footprint, "coma_rad": 0.0, "astigmatism_rad": 0.0}), n, photons)


def _focused(n: int, aperture: float, defocus: float, coma: float, astigmatism: float) -> NDArray[np.complex128]:
    """Field (n, n) of the aberrated beam, any scale."""
    k = fft.fftfreq(n)
    ky, kx = k[:, None], k[None, :]
    radius = np.hypot(ky, kx)
    rho, theta = radius / aperture, np.arctan2(ky, kx)
    pupil = 1 / (1 + np.exp((radius - aperture) / SOFTNESS))
    phase = np.pi * defocus * radius**2 + coma * rho**3 * np.cos(theta) + astigmatism * rho**2 * np.cos(2 * theta)
    field: NDArray[np.complex128] = fft.fftshift(fft.ifft2(pupil * np.exp(-1j * phase)))
    return field


def _modes(beam: NDArray[np.complex128], count: int) -> NDArray[np.complex128]:
    """Modes of a blurred source: the beam, and the beam times y and x, made orthogonal, with `MODE_POWERS`."""
    n = len(beam)
    offset = np.arange(n) - n // 2
    modes: list[NDArray[np.complex128]] = []
    for field in (beam, beam * offset[:, None], beam * offset[None, :])[:count]:
        for other in modes:
            field = field - other * np.vdot(other, field)
        modes.append(field / np.linalg.norm(field))
    powers = np.array(MODE_POWERS[:count])
    return np.asarray(np.array(modes) * np.sqrt(powers / powers.sum())[:, None, None])
