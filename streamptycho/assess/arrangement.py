"""Findings about where the frames were taken: overlap, orientation, scale and numbering of the positions."""

import math
from collections.abc import Iterator

import numpy as np

from streamptycho.assess.curl import AS_IS, MIRRORED, TRANSPOSED, TURNED, Curls
from streamptycho.assess.evidence import Evidence, Standing
from streamptycho.assess.finding import BUSY_FRAMES, ENOUGH_FRAMES, FEWEST_FRAMES, NOISE_SHARE, Finding
from streamptycho.assess.readings import SCALES
from streamptycho.assess.signs import Signs
from streamptycho.messages.geometry import Orientation
from streamptycho.messages.reasons import DropReason
from streamptycho.solve.extent import canvas_pixels
from streamptycho.solve.start.trust import CONFIDENT, HOPELESS, Trust

SCALE = "the unit of the positions, energy, distance and detector pixel"
"""What sets how far apart positions are in object pixels."""
LEAST_OVERLAP = 0.35
"""Part of the beam's diameter that neighbouring positions share; the literature asks for 0.6."""
MOST_OVERLAP = 0.97
"""Overlap from which the unit of the positions is wrong if the frames do not fit them: scans stay below 0.95."""
OVERLAP_TO_JUDGE = 0.4
"""Overlap from which neighbours must have something in common."""
CURL_FREE = 0.3
"""Mean square curl, relative to that of unrelated slopes, up to which the centres of mass are slopes of something."""
CLEARLY_LESS = 0.4
LESS = 0.6
"""Ratio of two curls, or of what two readings leave unexplained, that counts as a clear difference, and as one where the
probe has been found wrong as well."""
CERTAIN = 1.8
LIKELY = 1.2
"""Standard errors of such a difference, and where the probe has been found wrong as well."""
INCOHERENT = 0.85
"""Incoherence of every map from which neighbours have nothing in common."""
NO_ORDER = 0.6
"""Curl under every assumption from which nothing fits."""


def beam_px(standing: Standing, signs: Signs) -> float:
    """Diameter of the beam on the sample: of the probe where that is trusted, else as the patterns say."""
    if standing.probe is not None and standing.trust is Trust.CONFIDENT:
        share = (np.abs(standing.probe.astype(np.complex128)) ** 2).sum(0)  # fourth powers need the range
        return float(np.sqrt(4 / np.pi * share.sum() ** 2 / max(float((share**2).sum()), 1e-30)))
    return signs.patterns.beam_px if signs.patterns is not None else float("nan")


def overlap(standing: Standing, signs: Signs) -> float:
    """Part of the beam's diameter that neighbours share; NaN while it is not known."""
    return 1 - signs.step_px / beam_px(standing, signs)


def too_large(evidence: Evidence, standing: Standing, _signs: Signs) -> Iterator[Finding]:
    """Frames of which not even one fits into the largest object."""
    outside, needed = evidence.dropped.get(DropReason.OUTSIDE, 0), math.ceil(canvas_pixels(evidence.shape))
    if outside and needed > standing.max_object_pixels:
        ny, nx = evidence.shape
        yield Finding(
            "frame_size", "The frames are too large for the object",
            f"{outside} frames of {ny} x {nx} came, and one alone needs an object of {needed} pixels, with room to grow; "
            f"engine.max_object_pixels allows {standing.max_object_pixels}",
            "Take the bright part of the frames with preprocess.crop, sum pixels with preprocess.binning, or raise "
            "engine.max_object_pixels.",
            spoils_picture=True,
        )  # fmt: skip


def too_far_apart(evidence: Evidence, standing: Standing, signs: Signs) -> Iterator[Finding]:
    """Neighbouring positions share too little of the beam."""
    outside = evidence.dropped.get(DropReason.OUTSIDE, 0)
    if outside > max(standing.frames, FEWEST_FRAMES):
        yield Finding(
            "overlap", "The positions lie too far apart",
            f"{outside} frames lie outside the largest object that engine.max_object_pixels allows",
            f"Check {SCALE}.",
            spoils_picture=True,
        )  # fmt: skip
        return
    value = overlap(standing, signs)
    if not value < LEAST_OVERLAP or standing.frames < (FEWEST_FRAMES if evidence.ended else ENOUGH_FRAMES):
        return
    yield Finding(
        "overlap", "The positions lie too far apart",
        f"steps of {signs.step_px:.0f} px under a beam of {beam_px(standing, signs):.0f} px leave an overlap of "
        f"{max(value, 0):.0%}",
        "Scan in smaller steps, 60 % to 75 % of overlap are usual, or widen the beam; check the unit of the positions.",
        spoils_picture=standing.trust is not Trust.CONFIDENT,
    )  # fmt: skip


def wrong_scale(_evidence: Evidence, standing: Standing, signs: Signs) -> Iterator[Finding]:
    """Positions that are too small or too large for the beam."""
    reading = _better_reading(standing)
    if reading in SCALES:
        reason = f"{_prediction(standing)} with positions {SCALES[reading]:g} times as large"
    elif standing.trust is Trust.FAILED and overlap(standing, signs) > MOST_OVERLAP:
        reason = f"the frames differ, but steps are {signs.step_px:.2g} px under a beam of {beam_px(standing, signs):.0f} px"
    else:
        return
    yield Finding(
        "scale", "The positions most likely have the wrong scale", reason, f"Check {SCALE}.", spoils_picture=True
    )  # fmt: skip


def _better_reading(standing: Standing) -> int:
    """The reading of the positions that predicts clearly better than the one in use; AS_IS if there is none."""
    readings = standing.readings
    if np.isnan(readings).any() or standing.trust is Trust.CONFIDENT:
        return AS_IS
    best = int(np.argmin(readings))
    limit = HOPELESS if readings[AS_IS] > HOPELESS else CONFIDENT
    return best if readings[best] < min(limit, LESS * readings[AS_IS]) else AS_IS


def _prediction(standing: Standing) -> str:
    readings = standing.readings
    return f"{unexplained(readings[AS_IS])} as it is, and {readings.min():.2f}"


def unexplained(share: float) -> str:
    """A figure of :func:`trust.unexplained` in words."""
    part = f"{share:.2f}" if np.isfinite(share) else "all"
    return f"half of the frames leave {part} of what distinguishes the other half unexplained"


def _judgeable(standing: Standing, signs: Signs) -> Curls | None:
    """The curls, if the scan is such that they tell something and nothing has proved the picture right."""
    dense = overlap(standing, signs) > OVERLAP_TO_JUDGE
    return signs.curls if dense and standing.frames >= ENOUGH_FRAMES and standing.trust is not Trust.CONFIDENT else None


def wrong_orientation(evidence: Evidence, standing: Standing, signs: Signs) -> Iterator[Finding]:
    """Mirrored, swapped or turned axes."""
    reading, curls = _better_reading(standing), _judgeable(standing, signs)
    if reading in _BETTER:
        kind, reason = reading, f"{_prediction(standing)} with positions {_HOW[reading]}"
    elif curls is not None and _curl_vanishes(standing, curls):
        kind = curls.best
        reason = (
            f"the centres of mass have a curl of {curls.classes[AS_IS]:.2f} as it is and {curls.classes[kind]:.2f} if "
            f"{_HOW[kind]}, where 0 is right and 1 is no relation"
        )
    else:
        return
    one, other = (f"'{option}'" for option in better_orientations(evidence.orientation, kind))
    yield Finding(
        "orientation", _WHAT[kind],
        reason,
        f"Set preprocess.orientation = {one}, or {other} if the phase then has the wrong sign; now it is "
        f"'{evidence.orientation}'. If the positions are at fault, change {_POSITIONS[kind]} instead.",
        spoils_picture=True,
    )  # fmt: skip


def _curl_vanishes(standing: Standing, curls: Curls) -> bool:
    """True if another orientation of the frames makes the curl vanish, and another numbering does not."""
    if curls.best == AS_IS or curls.certainty[curls.best] < CERTAIN:
        return False
    here, there = float(curls.classes[AS_IS]), float(curls.classes[curls.best])
    clear = there < CURL_FREE and there < CLEARLY_LESS * here
    likely = standing.trust is Trust.FAILED and there < LESS * here
    return (clear or likely) and curls.lagged >= LESS * there


_HOW = {MIRRORED: "mirrored", TRANSPOSED: "swapped", TURNED: "turned by a quarter"}
_WHAT = {
    MIRRORED: "One axis of the positions or of the detector is most likely mirrored",
    TRANSPOSED: "The axes y and x of the positions or of the detector are most likely swapped",
    TURNED: "The positions or the detector are most likely turned by a quarter",
}
_POSITIONS = {
    MIRRORED: "positions.flip_y or positions.flip_x",
    TRANSPOSED: "positions.swap",
    TURNED: "positions.swap and positions.flip_y",
}

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


def wrong_numbering(_evidence: Evidence, standing: Standing, signs: Signs) -> Iterator[Finding]:
    """Positions that belong to other frames."""
    curls = _judgeable(standing, signs)
    if curls is None or (signs.patterns is not None and signs.patterns.noise_share > NOISE_SHARE):
        return
    here = float(curls.classes[AS_IS])
    if _fits_shifted(standing, curls):
        late = "later" if curls.lag > 0 else "earlier"
        yield Finding(
            "mismatch", "Positions and frames do not belong together",
            f"each position fits the frame {abs(curls.lag)} {late} better: curl {curls.lagged:.2f} instead of {here:.2f}",
            "Check where the triggers of detector and stage are counted from; one of the two begins with extra frames.",
            spoils_picture=True,
        )  # fmt: skip
        return
    by_chance = curls.lagged > NO_ORDER or curls.lag_certainty < CERTAIN
    nothing_fits = float(curls.classes.min()) > NO_ORDER and by_chance and standing.frames >= BUSY_FRAMES
    if not (nothing_fits and (signs.incoherence > INCOHERENT).all()):
        return
    yield Finding(
        "mismatch", "Positions and frames do not belong together",
        f"frames from neighbouring positions are no more alike than any two, {signs.incoherence.mean():.2f} where right "
        "scans have 0.3",
        "Check that both streams number the same exposures, and the columns and unit of the positions.",
        spoils_picture=True,
    )  # fmt: skip


def _fits_shifted(standing: Standing, curls: Curls) -> bool:
    """True if another numbering of the frames makes the curl vanish."""
    here = float(curls.classes[AS_IS])
    clear = curls.lagged < here / 2 and curls.lag_certainty > CERTAIN
    likely = standing.trust is Trust.FAILED and curls.lagged < LESS * here and curls.lag_certainty > LIKELY
    return curls.lagged < CURL_FREE and (clear or likely)
