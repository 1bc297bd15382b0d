"""One sentence for the scientist, steady enough to be read."""

import numpy as np

from streamptycho.assess.evidence import Evidence, Standing
from streamptycho.assess.findings import FEWEST_FRAMES, Finding
from streamptycho.assess.rings import RingCorrelation
from streamptycho.solve.engine import EngineState
from streamptycho.solve.trust import Trust

APPEARS = 2
"""Assessments in a row that must find something before it is told."""
DISAPPEARS = 3
"""Assessments in a row that must not, before it is no longer told."""
FALLING = 0.04
"""Part by which the Fourier error falls over three passes while it still converges."""


class Steady:
    """Findings that do not flicker: told from the second time in a row, until they were absent three times in a row."""

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}
        self._absent: dict[str, int] = {}
        self._told: dict[str, Finding] = {}

    def __call__(self, found: list[Finding], *, final: bool = False) -> list[Finding]:
        """What to tell, gravest first, after another assessment has `found` this; the final one is told as it is."""
        now = {finding.code: finding for finding in found}
        if final:
            self._told = now
            return found
        self._seen = {code: self._seen.get(code, 0) + 1 for code in now}
        for code, finding in now.items():
            self._absent[code] = 0
            if code in self._told or self._seen[code] >= APPEARS:
                self._told[code] = finding
        for code in list(self._told):
            if code not in now:
                self._absent[code] = self._absent.get(code, 0) + 1
                if self._absent[code] >= DISAPPEARS:
                    del self._told[code]
        order = [*now, *(code for code in self._told if code not in now)]
        return [self._told[code] for code in order if code in self._told]


def verdict(
    told: list[Finding], evidence: Evidence, standing: Standing, curve: RingCorrelation | None, resolution_m: float
) -> str:
    """The gravest finding, or how far the picture has come."""
    if told:
        more = len(told) - 1
        return f"{told[0].sentence}" + (f", and {more} more finding{'s' if more > 1 else ''}." if more else ".")
    count = f"{len(evidence)} of {evidence.expected} frames" if evidence.expected else f"{len(evidence)} frames"
    if standing.state is EngineState.DONE:
        finished = "Finished, but the probe is not confirmed" if standing.trust is Trust.FAILED else "Finished"
        return f"{finished}: {count}, {_detail(curve, resolution_m)}."
    if standing.frames < FEWEST_FRAMES or not standing.updates:
        return f"Gathering: {count}."
    if standing.trust is Trust.FAILED:
        return f"Converging: {count}, a probe that explains them is being looked for."
    if not np.isfinite(resolution_m) or standing.trust is not Trust.CONFIDENT:
        return f"Converging: {count}, Fourier error {standing.error:.3f}, {_detail(curve, resolution_m)}."
    falling = " and improving" if _falling(standing.error_history) else ""
    return f"Good{falling}: {count}, {_detail(curve, resolution_m)}."


def _falling(history: tuple[float, ...]) -> bool:
    return len(history) >= 3 and history[-1] < (1 - FALLING) * history[-3]


def _detail(curve: RingCorrelation | None, resolution_m: float) -> str:
    if curve is None:
        return "resolution not known yet"
    if not np.isfinite(resolution_m):
        return "nothing resolved that both halves of the frames agree on"
    limit = " (as fine as the pixels)" if curve.resolution_px < 2.1 else ""
    return f"resolution about {length(resolution_m)}{limit}"


def length(value_m: float) -> str:
    """A length in the unit that fits, with two significant digits."""
    for unit, scale in (("m", 1.0), ("mm", 1e-3), ("um", 1e-6), ("nm", 1e-9), ("pm", 1e-12)):
        if value_m >= 0.9995 * scale:
            number = value_m / scale
            return f"{number:.0f} {unit}" if number >= 9.95 else f"{number:.1f} {unit}"
    return f"{value_m:.2g} m"
