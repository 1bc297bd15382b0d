"""What may be wrong with a scan, how it is told, and what to do about it. The order is that of gravity.

Thresholds lie between what right scans of several kinds and seeds show and what each fault does; `docs/quality.md` has
both.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from streamptycho.assess.curl import AS_IS, MIRRORED, TRANSPOSED, TURNED, Curls
from streamptycho.assess.evidence import Evidence, Standing
from streamptycho.assess.signs import Signs
from streamptycho.geometry import Orientation
from streamptycho.reasons import DropReason
from streamptycho.solve.engine import EngineState
from streamptycho.solve.trust import Trust

FEWEST_FRAMES = 24
"""Frames before anything is found."""
ENOUGH_FRAMES = 60
"""Frames before maps of the scan are judged."""
BEAM_LOST = 0.1
"""Counts of the newest frames, relative to all, below which the beam is gone."""
DARK_FRAMES = 0.03
BLANK = 1.15
"""Spread of the patterns about their mean, in units of counting noise, up to which the sample shows nothing."""
CONTRAST = 2.2
"""The same from which a failed prediction is the probe's fault: of weak patterns a right one predicts little more."""
SATURATED_FRAMES = 0.2
NOISE_SHARE = 0.2
"""Fourier error from counting noise alone above which there are too few photons."""
LEAST_OVERLAP = 0.35
"""Part of the beam's diameter that neighbouring positions share; the literature asks for 0.6."""
OVERLAP_TO_JUDGE = 0.4
"""Overlap from which neighbours must have something in common."""
CURL_FREE = 0.3
"""Mean square curl, relative to that of unrelated slopes, up to which the centres of mass are slopes of something."""
CLEARLY_LESS = 0.4
LESS = 0.6
"""Ratio of two curls that counts as a clear difference, and as one where the probe has been found wrong as well."""
CERTAIN = 1.8
LIKELY = 1.2
"""Standard errors of such a difference, and where the probe has been found wrong as well."""
INCOHERENT = 0.85
"""Incoherence of every map from which neighbours have nothing in common."""
NO_ORDER = 0.6
"""Curl under every assumption from which nothing fits."""
FLUX_JITTER = 0.12
WANDER = 0.05
"""Way of the beam on the detector, fraction of the frame's side."""
SURE = 5.0
"""Standard errors by which it must be known."""
OFF_CENTRE = 0.07
"""Distance of the mean centre of mass from the zero frequency, fraction of the frame's side."""
FEWEST_VISITS = 2.0
LEAST_USED = 0.7
"""Updates per frame, of all frames and of those that came last, and part of the frames used, for a picture that keeps up."""
BUSY_FRAMES = 100
"""Frames from which it is judged whether the reconstruction keeps up, whether neighbours have anything in common, and
whether there is a probe at all."""
MISSING = 0.02
"""Fraction of the frames due that are missing."""
SIZEABLE = 50
"""Frames due before a fraction of them is judged."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong."""

    code: str
    sentence: str
    """What is wrong, in plain words, without a full stop."""
    reason: str
    """The figures behind it."""
    remedy: str

    def __str__(self) -> str:
        return f"{self.sentence}: {self.reason}. {self.remedy}"


def findings(evidence: Evidence, standing: Standing, signs: Signs) -> list[Finding]:
    """Everything that is wrong now, gravest first."""
    if standing.frames < FEWEST_FRAMES:
        return []
    found: list[Finding] = []
    for check in _CHECKS:
        finding = check(evidence, standing, signs)
        if finding is not None:
            found.append(finding)
    codes = {finding.code for finding in found}
    return [f for f in found if not any(f.code in _EXPLAINED.get(code, ()) for code in codes)]


_EXPLAINED = {
    "blank": ("photons", "mismatch", "overlap", "orientation", "probe"),
    "hot_pixels": ("centre", "mismatch", "orientation", "overlap", "wander", "probe"),
    "photons": ("probe",),
    "overlap": ("probe", "flux"),
    "orientation": ("mismatch", "probe"),
    "mismatch": ("flux", "probe"),
    "flux": ("probe",),
    "beam": ("flux", "missing", "overlap", "probe", "hot_pixels"),
}
"""Codes that are left out where another one explains them."""


def _beam(_evidence: Evidence, _standing: Standing, signs: Signs) -> Finding | None:
    if signs.beam_now < BEAM_LOST:
        return Finding(
            "beam", "The beam is gone",
            f"the newest frames have {signs.beam_now:.1%} of the usual {signs.photons:.3g} counts",
            "Check shutter, ring current and beamline; stop the scan and repeat what was taken without beam.",
        )  # fmt: skip
    if signs.dark_frames > DARK_FRAMES:
        return Finding(
            "beam", "The beam was away for a part of the scan",
            f"{signs.dark_frames:.0%} of the frames have less than a tenth of the usual {signs.photons:.3g} counts",
            "Repeat the scan, or leave these frames out; see whether shutter and detector are in step.",
        )  # fmt: skip
    return None


def _blank(_evidence: Evidence, _standing: Standing, signs: Signs) -> Finding | None:
    look = signs.patterns
    if look is None or not look.difference < BLANK or look.noise_share > NOISE_SHARE:
        return None
    return Finding(
        "blank", "The sample shows no contrast",
        f"the patterns differ from their mean by {look.difference:.2f} times counting noise, 1 is nothing",
        "Check whether the beam meets the sample, and whether the stage moves.",
    )  # fmt: skip


def _saturation(_evidence: Evidence, _standing: Standing, signs: Signs) -> Finding | None:
    if signs.saturated_frames > SATURATED_FRAMES:
        return Finding(
            "saturation", "The detector saturates",
            f"{signs.saturated_frames:.0%} of the frames have saturated pixels, {signs.saturated_px:.1f} in the mean",
            "Attenuate the beam or shorten the exposure; the pixels are masked, and what they held is lost.",
        )  # fmt: skip
    if signs.patterns is not None and signs.patterns.ceiling > SATURATED_FRAMES:
        return Finding(
            "saturation", "The detector seems to saturate",
            f"{signs.patterns.ceiling:.0%} of the patterns have several pixels at one and the same largest value",
            "Set preprocess.saturation to that value so that these pixels are masked; attenuate the beam.",
        )  # fmt: skip
    return None


def _hot_pixels(_evidence: Evidence, _standing: Standing, signs: Signs) -> Finding | None:
    if signs.patterns is None or not signs.patterns.hot:
        return None
    return Finding(
        "hot_pixels", "Hot pixels are not masked",
        f"{signs.patterns.hot} pixels are ten times brighter than the pixels around them",
        "Switch preprocess.detect_bad_pixels on, or give a mask with preprocess.mask_file.",
    )  # fmt: skip


def _photons(_evidence: Evidence, _standing: Standing, signs: Signs) -> Finding | None:
    look = signs.patterns
    if look is None or not look.noise_share > NOISE_SHARE or signs.saturated_frames > SATURATED_FRAMES:
        return None
    return Finding(
        "photons", "There are too few photons in a frame",
        f"{signs.photons:.3g} counts, of which noise alone makes a Fourier error of {look.noise_share:.2f}",
        "Expose longer, open the slits, or take a coarser picture: preprocess.crop to the bright part.",
    )  # fmt: skip


def beam_px(standing: Standing, signs: Signs) -> float:
    """Diameter of the beam on the sample: of the probe where that is trusted, else as the patterns say."""
    if standing.probe is not None and standing.trust is Trust.CONFIDENT:
        share = (np.abs(standing.probe) ** 2).sum(0)
        return float(np.sqrt(4 / np.pi * share.sum() ** 2 / max(float((share**2).sum()), 1e-30)))
    return signs.patterns.beam_px if signs.patterns is not None else float("nan")


def overlap(standing: Standing, signs: Signs) -> float:
    """Part of the beam's diameter that neighbours share; NaN while it is not known."""
    return 1 - signs.step_px / beam_px(standing, signs)


def _overlap(_evidence: Evidence, standing: Standing, signs: Signs) -> Finding | None:
    value = overlap(standing, signs)
    if not value < LEAST_OVERLAP or standing.frames < ENOUGH_FRAMES:
        return None
    return Finding(
        "overlap", "The positions lie too far apart",
        f"steps of {signs.step_px:.0f} px under a beam of {beam_px(standing, signs):.0f} px leave an overlap of "
        f"{max(value, 0):.0%}",
        "Scan in smaller steps, 60 % to 75 % of overlap are usual, or widen the beam; check the unit of the positions.",
    )  # fmt: skip


def _judgeable(standing: Standing, signs: Signs) -> Curls | None:
    """The curls, if the scan is such that they tell something and nothing has proved the picture right."""
    dense = overlap(standing, signs) > OVERLAP_TO_JUDGE
    return signs.curls if dense and standing.frames >= ENOUGH_FRAMES and standing.trust is not Trust.CONFIDENT else None


def _orientation(evidence: Evidence, standing: Standing, signs: Signs) -> Finding | None:
    curls = _judgeable(standing, signs)
    if curls is None or curls.best == AS_IS or curls.certainty[curls.best] < CERTAIN:
        return None
    here, there = float(curls.classes[AS_IS]), float(curls.classes[curls.best])
    clear = there < CURL_FREE and there < CLEARLY_LESS * here
    likely = standing.trust is Trust.FAILED and there < LESS * here
    if not (clear or likely) or curls.lagged < LESS * there:
        return None
    one, other = (f"'{option}'" for option in better_orientations(evidence.orientation, curls.best))
    return Finding(
        "orientation", "The orientation of the detector is likely wrong",
        f"the centres of mass have a curl of {here:.2f} as it is and {there:.2f} with {one}, where 0 is right and 1 is no "
        "relation",
        f"Set preprocess.orientation = {one}, or {other} if the phase then has the wrong sign; now it is "
        f"'{evidence.orientation}'.",
    )  # fmt: skip


_BETTER = {
    MIRRORED: (Orientation.FLIP_Y, Orientation.FLIP_X),
    TRANSPOSED: (Orientation.TRANSPOSE, Orientation.ANTI_TRANSPOSE),
    TURNED: (Orientation.ROTATE_90, Orientation.ROTATE_270),
}


def better_orientations(present: Orientation, kind: int) -> tuple[Orientation, Orientation]:
    """Settings that do to frames as received what `present` and then a mirror, a transposition or a turn do."""
    sample = np.arange(6).reshape(2, 3)
    one, other = (step.apply(present.apply(sample)) for step in _BETTER[kind])
    first, second = (next(o for o in Orientation if np.array_equal(o.apply(sample), wanted)) for wanted in (one, other))
    return first, second


def _mismatch(_evidence: Evidence, standing: Standing, signs: Signs) -> Finding | None:
    curls = _judgeable(standing, signs)
    if curls is None or (signs.patterns is not None and signs.patterns.noise_share > NOISE_SHARE):
        return None
    here = float(curls.classes[AS_IS])
    if _fits_shifted(standing, curls):
        late = "later" if curls.lag > 0 else "earlier"
        return Finding(
            "mismatch", "Positions and frames do not belong together",
            f"each position fits the frame {abs(curls.lag)} {late} better: curl {curls.lagged:.2f} instead of {here:.2f}",
            "Check where the triggers of detector and stage are counted from; one of the two begins with extra frames.",
        )  # fmt: skip
    by_chance = curls.lagged > NO_ORDER or curls.lag_certainty < CERTAIN
    nothing_fits = float(curls.classes.min()) > NO_ORDER and by_chance and standing.frames >= BUSY_FRAMES
    if not (nothing_fits and (signs.incoherence > INCOHERENT).all()):
        return None
    return Finding(
        "mismatch", "Positions and frames do not belong together",
        f"frames from neighbouring positions are no more alike than any two, {signs.incoherence.mean():.2f} where right "
        "scans have 0.3",
        "Check that both streams number the same exposures, and the columns and unit of the positions.",
    )  # fmt: skip


def _fits_shifted(standing: Standing, curls: Curls) -> bool:
    """True if another numbering of the frames makes the curl vanish."""
    here = float(curls.classes[AS_IS])
    clear = curls.lagged < here / 2 and curls.lag_certainty > CERTAIN
    likely = standing.trust is Trust.FAILED and curls.lagged < LESS * here and curls.lag_certainty > LIKELY
    return curls.lagged < CURL_FREE and (clear or likely)


def _flux(_evidence: Evidence, standing: Standing, signs: Signs) -> Finding | None:
    if standing.flux_estimated or not signs.flux_jitter > FLUX_JITTER:
        return None
    return Finding(
        "flux", "The intensity of the beam jumps from frame to frame",
        f"counts of neighbours differ by {signs.flux_jitter:.0%} beyond place and counting noise",
        "Set engine.flux = true, and look for an unsteady shutter, monochromator or exposure time.",
    )  # fmt: skip


def _wander(evidence: Evidence, _standing: Standing, signs: Signs) -> Finding | None:
    if not signs.wander_px > max(WANDER * max(evidence.shape), SURE * signs.wander_error_px):
        return None
    return Finding(
        "wander", "The beam wanders on the detector",
        f"its centre has moved {signs.wander_px:.1f} px during the scan, apart from what the sample does",
        "Let the beam settle, or set preprocess.center_each_frame = true.",
    )  # fmt: skip


def _centre(evidence: Evidence, _standing: Standing, signs: Signs) -> Finding | None:
    y, x = signs.centre_px
    if not np.hypot(y, x) > OFF_CENTRE * max(evidence.shape):
        return None
    return Finding(
        "centre", "The beam centre is off",
        f"the patterns lie {y:+.0f}, {x:+.0f} px (y, x) from the zero frequency",
        "Set preprocess.center to 'mass', or correct the centre that is announced or configured.",
    )  # fmt: skip


def _slow(_evidence: Evidence, standing: Standing, _signs: Signs) -> Finding | None:
    over = standing.state is EngineState.DONE
    behind = over or (standing.state is EngineState.LIVE and standing.pace < FEWEST_VISITS)
    seldom = standing.visits < FEWEST_VISITS or standing.rows_used < LEAST_USED * standing.frames
    if not (behind and seldom and standing.frames >= BUSY_FRAMES):
        return None
    return Finding(
        "slow", "The reconstruction cannot keep up with the frames",
        f"each frame has been used {standing.visits:.1f} times, and {standing.frames - standing.rows_used} not at all",
        "Crop or bin the frames, or use a GPU (engine.backend); the picture gets better once the scan has ended.",
    )  # fmt: skip


def _probe(_evidence: Evidence, standing: Standing, signs: Signs) -> Finding | None:
    look = signs.patterns
    if standing.trust is not Trust.FAILED or standing.frames < BUSY_FRAMES or look is None or look.difference < CONTRAST:
        return None
    told = f"{standing.unexplained:.2f} of what distinguishes them" if np.isfinite(standing.unexplained) else "all of it"
    return Finding(
        "probe", "The picture is most likely wrong: no probe was found that explains the frames",
        f"half of the frames leave {told} unexplained in the other half",
        "Check energy, distance, detector pixel and the unit of the positions; give a probe with the scan if there is one.",
    )  # fmt: skip


def _missing(evidence: Evidence, _standing: Standing, signs: Signs) -> Finding | None:
    stopped = evidence.dropped.get(DropReason.STOPPED, 0)  # as somebody wished
    if signs.due < SIZEABLE or signs.missing - stopped <= MISSING * signs.due:
        return None
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(evidence.dropped.items()) if count)
    return Finding(
        "missing", "Frames are missing from the picture",
        f"{signs.missing} of {signs.due}" + (f"; dropped here: {reasons}" if reasons else ""),
        "The counts of the receiver tell whether frames or positions were lost or the reconstruction could not take them.",
    )  # fmt: skip


_CHECKS: tuple[Callable[[Evidence, Standing, Signs], Finding | None], ...] = (
    _beam, _blank, _saturation, _hot_pixels, _photons, _overlap, _orientation, _mismatch, _flux, _wander, _probe, _centre,
    _slow, _missing,
)  # fmt: skip
