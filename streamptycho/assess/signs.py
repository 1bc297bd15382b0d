"""Figures that the frames give by themselves, taken together: what findings are drawn from."""

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from streamptycho.assess.curl import Curls, curls
from streamptycho.assess.evidence import Evidence
from streamptycho.assess.in_time import change_in_time
from streamptycho.assess.neighbours import Neighbours
from streamptycho.assess.patterns import Patterns

DARK = 0.1
"""Frames with less than this fraction of the usual counts were taken without beam."""
NEWEST = 12
"""Frames whose median stands for the present beam."""
FEWEST_PAIRS = 100
"""Pairs of neighbours from which a change with time is judged."""
RECENT = 64
"""A gap in the index is one if none of so many frames that came last fills it or lies before it."""


@dataclass(frozen=True, slots=True, eq=False)
class Signs:
    """Of one moment; None or NaN where not known yet."""

    patterns: Patterns | None
    photons: float
    """Median counts of a frame."""
    dark_frames: float
    """Part of the frames without beam."""
    beam_now: float
    """Median counts of the newest frames, in units of that of all."""
    saturated_frames: float
    """Part of the frames with saturated pixels."""
    saturated_px: float
    """Saturated pixels of a frame, mean."""
    centre_px: NDArray[np.float64]
    """(2,) mean centre of mass from the zero frequency (y, x)."""
    missing: int
    """Frames that will not come any more."""
    due: int
    """Frames that should have come by then."""
    step_px: float = float("nan")
    """Distance of positions."""
    incoherence: NDArray[np.float64] = field(default_factory=lambda: np.full(4, np.nan))
    """(4,) of counts, dark field, and centre of mass y and x, see :meth:`Neighbours.incoherence`."""
    flux_jitter: float = float("nan")
    """Spread of the counts from frame to frame that is neither place nor counting noise, relative."""
    wander_px: float = float("nan")
    """Way of the centre of mass with time, apart from what differs with place, detector pixels."""
    wander_error_px: float = float("nan")
    """Its standard error."""
    curls: Curls | None = None


def signs_of(evidence: Evidence, patterns: Patterns | None, *, shifts: bool = True) -> Signs:
    """Examine the newest points; other numberings of the frames are tried only if `shifts`."""
    newest = evidence.newest
    counts, saturated = evidence.counts[newest].astype(np.float64), evidence.saturated[newest]
    usual = float(np.median(counts)) if len(counts) else float("nan")
    lit = counts > DARK * usual
    centre_px = evidence.centre_px[newest][lit].astype(np.float64)
    missing, due = gaps(evidence)
    empty = evidence.dropped.get("empty", 0)
    signs = Signs(
        patterns=patterns,
        photons=usual,
        dark_frames=float((~lit).sum() + empty) / max(len(counts) + empty, 1),
        beam_now=float(np.median(counts[-NEWEST:])) / usual if len(counts) >= 2 * NEWEST else float("nan"),
        saturated_frames=float((saturated > 0).mean()) if len(counts) else 0.0,
        saturated_px=float(saturated.mean()) if len(counts) else 0.0,
        centre_px=centre_px.mean(0) if len(centre_px) else np.full(2, np.nan),
        missing=missing,
        due=due,
    )
    near = Neighbours.find(evidence.yx_px[lit])
    if near is None:
        return signs
    counts, index = counts[lit], evidence.index[newest][lit]
    relative = evidence.dark_field[newest][lit] / counts
    wander_px, wander_error_px = _wander(near, index, centre_px)
    # slopes per object pixel along y; pixels need not be square
    unit = evidence.pixel_m[0] / np.array(evidence.pixel_m) / np.array(evidence.shape) * evidence.shape[0]
    return replace(
        signs,
        step_px=near.step,
        incoherence=np.array([near.incoherence(values) for values in (counts, relative, *centre_px.T)]),
        flux_jitter=_jitter(near, counts),
        wander_px=wander_px,
        wander_error_px=wander_error_px,
        curls=curls(near, index, centre_px * unit, shifts=shifts),
    )


def gaps(evidence: Evidence) -> tuple[int, int]:
    """Frames that are missing for good, and frames of which that can be said."""
    index = evidence.index
    if not len(index):
        return 0, 0
    planned = evidence.expected if evidence.complete else None
    all_due = max(int(index.max()) + 1, planned or 0)
    due = all_due if evidence.ended else int(index[-RECENT:].min())
    return due - int((index < due).sum()), due


def _jitter(near: Neighbours, counts: NDArray[np.float64]) -> float:
    off = near.residuals(np.log(counts))
    noise = float((1 / counts).mean())
    return float(np.sqrt(max((1.4826 * np.median(np.abs(off - np.median(off)))) ** 2 - noise, 0)))


def _wander(near: Neighbours, index: NDArray[np.int64], centre_px: NDArray[np.float64]) -> tuple[float, float]:
    """Way of the centre, and its standard error."""
    first, second = near.pairs(index)
    if len(first) < FEWEST_PAIRS:
        return float("nan"), float("nan")
    way, error = change_in_time(first, second, index.astype(np.float64), centre_px)
    return float(np.hypot(*np.ptp(way, axis=0))), float(np.hypot(*error))
