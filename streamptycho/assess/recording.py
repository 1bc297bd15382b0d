"""Findings about the recording: beam, detector and dose, from what the frames say by themselves."""

from collections.abc import Iterator

import numpy as np

from streamptycho.assess.evidence import Evidence, Standing
from streamptycho.assess.finding import NOISE_SHARE, Finding
from streamptycho.assess.signs import Signs

BEAM_LOST = 0.1
"""Counts of the newest frames, relative to all, below which the beam is gone."""
DARK_FRAMES = 0.03
BLANK = 1.15
"""Spread of the patterns about their mean, in units of counting noise, up to which the sample shows nothing."""
SATURATED_FRAMES = 0.2
FLUX_JITTER = 0.12
WANDER = 0.05
"""Way of the beam on the detector, fraction of the frame's side."""
SURE = 5.0
"""Standard errors by which it must be known."""
OFF_CENTRE = 0.07
"""Distance of the mean centre of mass from the zero frequency, fraction of the frame's side."""


def beam(evidence: Evidence, standing: Standing, signs: Signs) -> Iterator[Finding]:
    """A beam that is away, jumps, moves on the detector or lies beside its centre."""
    if signs.beam_now < BEAM_LOST:
        yield Finding(
            "beam", "The beam is gone",
            f"the newest frames have {signs.beam_now:.1%} of the usual {signs.photons:.3g} counts",
            "Check shutter, ring current and beamline; stop the scan and repeat what was taken without beam.",
        )  # fmt: skip
    elif signs.dark_frames > DARK_FRAMES:
        yield Finding(
            "beam", "The beam was away for a part of the scan",
            f"{signs.dark_frames:.0%} of the frames have less than a tenth of the usual {signs.photons:.3g} counts",
            "Repeat the scan, or leave these frames out; see whether shutter and detector are in step.",
        )  # fmt: skip
    if signs.flux_jitter > FLUX_JITTER and not standing.flux_estimated:
        yield Finding(
            "flux", "The intensity of the beam jumps from frame to frame",
            f"counts of neighbours differ by {signs.flux_jitter:.0%} beyond place and counting noise",
            "Set engine.flux = true, and look for an unsteady shutter, monochromator or exposure time.",
        )  # fmt: skip
    if signs.wander_px > max(WANDER * max(evidence.shape), SURE * signs.wander_error_px):
        yield Finding(
            "wander", "The beam wanders on the detector",
            f"its centre has moved {signs.wander_px:.1f} px during the scan, apart from what the sample does",
            "Let the beam settle, or set preprocess.center_each_frame = true.",
        )  # fmt: skip
    y, x = signs.centre_px
    if np.hypot(y, x) > OFF_CENTRE * max(evidence.shape):
        yield Finding(
            "centre", "The beam centre is off",
            f"the patterns lie {y:+.0f}, {x:+.0f} px (y, x) from the zero frequency",
            "Set preprocess.center to 'mass', or correct the centre that is announced or configured.",
        )  # fmt: skip


def detector(_evidence: Evidence, _standing: Standing, signs: Signs) -> Iterator[Finding]:
    """Pixels at or beyond what the detector counts, and single ones that are always bright."""
    look = signs.patterns
    if signs.saturated_frames > SATURATED_FRAMES:
        yield Finding(
            "saturation", "The detector saturates",
            f"{signs.saturated_frames:.0%} of the frames have saturated pixels, {signs.saturated_px:.1f} in the mean",
            "Attenuate the beam or shorten the exposure; the pixels are masked, and what they held is lost.",
        )  # fmt: skip
    elif look is not None and look.ceiling > SATURATED_FRAMES:
        yield Finding(
            "saturation", "The detector seems to saturate",
            f"{look.ceiling:.0%} of the patterns have several pixels at one and the same largest value",
            "Set preprocess.saturation to that value so that these pixels are masked; attenuate the beam.",
        )  # fmt: skip
    if look is not None and look.hot:
        yield Finding(
            "hot_pixels", "Hot pixels are not masked",
            f"{look.hot} pixels are ten times brighter than the pixels around them",
            "Switch preprocess.detect_bad_pixels on, or give a mask with preprocess.mask_file.",
        )  # fmt: skip


def dose(_evidence: Evidence, _standing: Standing, signs: Signs) -> Iterator[Finding]:
    """Counting noise that covers the patterns, or that is all there is in them."""
    look = signs.patterns
    if look is None:
        return
    if look.difference < BLANK and not look.noise_share > NOISE_SHARE:
        yield Finding(
            "blank", "The sample shows no contrast",
            f"the patterns differ from their mean by {look.difference:.2f} times counting noise, 1 is nothing",
            "Check whether the beam meets the sample, and whether the stage moves.",
            spoils_picture=True,
        )  # fmt: skip
    if look.noise_share > NOISE_SHARE and not signs.saturated_frames > SATURATED_FRAMES:
        yield Finding(
            "photons", "There are too few photons in a frame",
            f"{signs.photons:.3g} counts, of which noise alone makes a Fourier error of {look.noise_share:.2f}",
            "Expose longer, open the slits, or take a coarser picture: preprocess.crop to the bright part.",
        )  # fmt: skip
