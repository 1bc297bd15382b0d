"""One sentence for the scientist, steady enough to be read."""

import numpy as np

from streamptycho.assess.evidence import Evidence, Standing
from streamptycho.assess.finding import FEWEST_FRAMES, Finding
from streamptycho.assess.rings import RingCorrelation
from streamptycho.messages.geometry import in_unit
from streamptycho.solve.engine import EngineState
from streamptycho.solve.start.trust import Trust

APPEARS = 2
"""Assessments in a row that must find something before it is reported."""
DISAPPEARS = 3
"""Assessments in a row that must not, before it is cleared."""
FALLING = 0.04
"""Part by which the Fourier error falls over three passes while it still converges."""


NOT_PREDICTED = "half of the frames do not predict the other half"
"""Why a picture is not trusted that no finding explains."""


class Steady:
    """Findings that do not flicker: reported from the second time in a row, until absent three times in a row."""

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}
        self._absent: dict[str, int] = {}
        self._reported: dict[str, Finding] = {}

    def __call__(self, found: list[Finding], *, final: bool = False) -> list[Finding]:
        """What to report, gravest first, after another assessment has `found` this; all of it if that is the final one."""
        now = {finding.code: finding for finding in found}
        if final:
            self._reported = now
            return found
        self._seen = {code: self._seen.get(code, 0) + 1 for code in now}
        self._absent = {code: self._absent.get(code, 0) + 1 for code in self._reported if code not in now}
        shown = [code for code in now if code in self._reported or self._seen[code] >= APPEARS]
        kept = [code for code, times in self._absent.items() if times < DISAPPEARS]
        self._reported = {code: (self._reported | now)[code] for code in shown + kept}
        return list(self._reported.values())


def trusted(found: list[Finding], standing: Standing) -> bool:
    """False if the picture itself is wrong: prediction has failed, or a finding says so."""
    return standing.trust is not Trust.FAILED and not any(finding.spoils_picture for finding in found)


def verdict(
    found: list[Finding],
    evidence: Evidence,
    standing: Standing,
    curve: RingCorrelation | None,
    resolution_m: float,
    *,
    final: bool = False,
) -> str:
    """The gravest finding, or how far the picture has come; at the end first of all whether it can be trusted."""
    over = final or standing.state is EngineState.DONE
    if over and not trusted(found, standing):
        cause = next((finding for finding in found if finding.spoils_picture), None)
        why = cause.sentence[0].lower() + cause.sentence[1:] if cause is not None else NOT_PREDICTED
        return f"Not to be trusted: {why}{_more(len(found) - (cause is not None))}."
    if found:
        return f"{found[0].sentence}{_more(len(found) - 1)}."
    count = f"{len(evidence)} of {evidence.expected} frames" if evidence.expected else f"{len(evidence)} frames"
    if standing.state is EngineState.DONE:
        return f"Finished: {count}, {_detail(curve, resolution_m)}."
    if standing.frames < FEWEST_FRAMES or not standing.updates:
        return f"Gathering: {count}."
    if standing.trust is Trust.FAILED:
        return f"Converging: {count}, a probe that explains them is being looked for."
    if not np.isfinite(resolution_m) or standing.trust is not Trust.CONFIDENT:
        return f"Converging: {count}, Fourier error {standing.error:.3f}, {_detail(curve, resolution_m)}."
    errors = standing.error_history
    improving = " and improving" if len(errors) >= 3 and errors[-1] < (1 - FALLING) * errors[-3] else ""
    return f"Good{improving}: {count}, {_detail(curve, resolution_m)}."


def _more(count: int) -> str:
    return f", and {count} more finding{'s' if count > 1 else ''}" if count else ""


def _detail(curve: RingCorrelation | None, resolution_m: float) -> str:
    if curve is None:
        return "resolution not known yet"
    if not np.isfinite(resolution_m):
        return "nothing resolved that both halves of the frames agree on"
    limit = " (as fine as the pixels)" if curve.resolution_px < 2.1 else ""
    return f"resolution about {length(resolution_m)}{limit}"


def length(value_m: float) -> str:
    """A length in the unit that fits, with two significant digits."""
    number, unit = in_unit(value_m)
    return f"{number:.{0 if number >= 9.95 else 1}f} {unit}" if number > 0.99 else f"{number:.2g} {unit}"
