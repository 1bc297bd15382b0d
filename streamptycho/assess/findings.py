"""Everything that is wrong with a scan, gravest first.

Thresholds lie between what right scans of several kinds and seeds show and what each fault does; `docs/quality.md` has
both.
"""

from collections.abc import Iterator

from streamptycho.assess import arrangement, recording
from streamptycho.assess.evidence import Evidence, Standing
from streamptycho.assess.finding import BUSY_FRAMES, FEWEST_FRAMES, Finding
from streamptycho.assess.signs import Signs
from streamptycho.messages.reasons import DropReason
from streamptycho.solve.engine import EngineState
from streamptycho.solve.start.trust import Trust

CONTRAST = 2.2
"""Spread of the patterns about their mean, in units of counting noise, from which a failed prediction is the probe's fault:
of weak patterns a right one predicts little more."""
FEWEST_VISITS = 2.0
LEAST_USED = 0.7
"""Updates per frame, of all frames and of those that came last, and part of the frames used, for a picture that keeps up."""
MISSING = 0.02
"""Fraction of the frames due that are missing."""
SIZEABLE = 50
"""Frames due before a fraction of them is judged."""


def findings(evidence: Evidence, standing: Standing, signs: Signs) -> list[Finding]:
    """Everything that is wrong now, gravest first."""
    checks = _CHECKS if standing.frames >= FEWEST_FRAMES else (arrangement.too_large, arrangement.too_far_apart)
    found = {finding.code: finding for check in checks for finding in check(evidence, standing, signs)}
    explained = {code for other in found for code in _EXPLAINED.get(other, ())}
    return sorted((f for f in found.values() if f.code not in explained), key=lambda f: _ORDER.index(f.code))


_ORDER = (
    "frame_size", "beam", "blank", "saturation", "hot_pixels", "photons", "overlap", "orientation", "scale", "mismatch",
    "flux", "wander", "probe", "centre", "slow", "missing",
)  # fmt: skip
"""All codes, gravest first."""
_EXPLAINED = {
    "blank": ("photons", "mismatch", "overlap", "orientation", "probe"),
    "hot_pixels": ("centre", "mismatch", "orientation", "overlap", "wander", "probe"),
    "photons": ("probe",),
    "overlap": ("probe", "flux", "scale"),
    "orientation": ("mismatch", "scale", "probe"),
    "scale": ("mismatch", "probe"),
    "mismatch": ("flux", "probe"),
    "flux": ("probe",),
    "beam": ("flux", "missing", "overlap", "probe", "hot_pixels"),
}
"""Codes that are left out where another one explains them."""


def _reconstruction(evidence: Evidence, standing: Standing, signs: Signs) -> Iterator[Finding]:
    """No probe that explains the frames, a reconstruction that cannot keep up, and frames that are missing from it."""
    look, fewest = signs.patterns, FEWEST_FRAMES if evidence.ended else BUSY_FRAMES
    contrast = look is not None and not look.difference < CONTRAST
    if standing.trust is Trust.FAILED and standing.frames >= fewest and contrast:
        yield Finding(
            "probe", "The picture is most likely wrong: no probe was found that explains the frames",
            arrangement.unexplained(standing.unexplained),
            "Check energy, distance, detector pixel and the unit of the positions; give a probe with the scan if there is "
            "one.",
            spoils_picture=True,
        )  # fmt: skip
    over = standing.state is EngineState.DONE
    behind = over or (standing.state is EngineState.LIVE and standing.pace < FEWEST_VISITS)
    seldom = standing.visits < FEWEST_VISITS or standing.rows_used < LEAST_USED * standing.frames
    if behind and seldom and standing.frames >= BUSY_FRAMES:
        yield Finding(
            "slow", "The reconstruction cannot keep up with the frames",
            f"each frame has been used {standing.visits:.1f} times, and {standing.frames - standing.rows_used} not at all",
            "Crop or bin the frames, or use a GPU (engine.backend); the picture gets better once the scan has ended.",
        )  # fmt: skip
    stopped = evidence.dropped.get(DropReason.STOPPED, 0)  # as somebody wished
    if signs.due >= SIZEABLE and signs.missing - stopped > MISSING * signs.due:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(evidence.dropped.items()) if count)
        yield Finding(
            "missing", "Frames are missing from the picture",
            f"{signs.missing} of {signs.due}" + (f"; dropped here: {reasons}" if reasons else ""),
            "The counts of the receiver tell whether frames or positions were lost or the reconstruction could not take "
            "them.",
        )  # fmt: skip


_CHECKS = (
    recording.beam, recording.detector, recording.dose, arrangement.too_large, arrangement.too_far_apart,
    arrangement.wrong_orientation, arrangement.wrong_scale, arrangement.wrong_numbering, _reconstruction,
)  # fmt: skip
