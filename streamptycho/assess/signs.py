"""Figures that the frames give by themselves, taken together: what findings are drawn from."""

from dataclasses import dataclass

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
RECENT = 64
"""A gap in the index is one if none of so many frames that came last fills it or lies before it."""


@dataclass(frozen=True, slots=True, eq=False)
class Signs:
    """Of one moment; what cannot be told yet is None or NaN."""

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
    step_px: float
    """Distance of positions."""
    incoherence: NDArray[np.float64]
    """(4,) of counts, dark field, and centre of mass y and x, see :meth:`Neighbours.incoherence`."""
    flux_jitter: float
    """Spread of the counts from frame to frame that is neither place nor counting noise, relative."""
    wander_px: float
    """Way of the centre of mass with time, apart from what differs with place, detector pixels."""
    curls: Curls | None


def signs_of(evidence: Evidence, patterns: Patterns | None) -> Signs:
    """Look at all points, and at the newest ones in detail."""
    counts = evidence.counts[evidence.newest].astype(np.float64)
    usual = float(np.median(counts)) if len(counts) else float("nan")
    lit = counts > DARK * usual
    saturated = evidence.saturated[evidence.newest]
    missing, due = gaps(evidence)
    empty = evidence.dropped.get("empty", 0)
    nothing = np.full(4, np.nan)
    found = {
        "patterns": patterns,
        "photons": usual,
        "dark_frames": float((~lit).sum() + empty) / max(len(counts) + empty, 1),
        "beam_now": float(np.median(counts[-NEWEST:])) / usual if len(counts) >= 2 * NEWEST else float("nan"),
        "saturated_frames": float((saturated > 0).mean()) if len(saturated) else 0.0,
        "saturated_px": float(saturated.mean()) if len(saturated) else 0.0,
        "missing": missing,
        "due": due,
    }
    points = {name: getattr(evidence, name)[evidence.newest][lit] for name in ("index", "dark_field", "centre_px")}
    counts, yx_px = counts[lit], evidence.yx_px[lit]
    centre_px = points["centre_px"].astype(np.float64)
    found["centre_px"] = centre_px.mean(0) if len(centre_px) else np.full(2, np.nan)
    near = Neighbours.find(yx_px)
    if near is None:
        alone = dict.fromkeys(("step_px", "flux_jitter", "wander_px"), float("nan"))
        return Signs(**found, **alone, incoherence=nothing, curls=None)
    relative = points["dark_field"] / counts
    maps = (counts, relative, centre_px[:, 0], centre_px[:, 1])
    return Signs(
        **found,
        step_px=near.step,
        incoherence=np.array([near.incoherence(values) for values in maps]),
        flux_jitter=_jitter(near, counts),
        wander_px=_wander(near, points["index"], centre_px),
        curls=curls(near, points["index"], _slopes(evidence, centre_px)),
    )


def gaps(evidence: Evidence) -> tuple[int, int]:
    """Frames that are missing for good, and frames of which that can be said."""
    index = evidence.index
    if not len(index):
        return 0, 0
    if evidence.ended:
        due = max(int(index.max()) + 1, evidence.expected or 0)
    else:
        due = int(index[-RECENT:].min())
    return due - int((index < due).sum()), due


def _slopes(evidence: Evidence, centre_px: NDArray[np.float64]) -> NDArray[np.float64]:
    """(k, 2) as slopes per object pixel along y; pixels need not be square."""
    scale = evidence.pixel_m[0] / np.array(evidence.pixel_m) / np.array(evidence.shape)
    slopes: NDArray[np.float64] = centre_px * scale * evidence.shape[0]
    return slopes


def _jitter(near: Neighbours, counts: NDArray[np.float64]) -> float:
    off = near.residuals(np.log(counts))
    noise = float((1 / counts).mean())
    return float(np.sqrt(max((1.4826 * np.median(np.abs(off - np.median(off)))) ** 2 - noise, 0)))


def _wander(near: Neighbours, index: NDArray[np.int64], centre_px: NDArray[np.float64]) -> float:
    first, second = near.pairs(index)
    if len(first) < 100:
        return float("nan")
    way = change_in_time(first, second, index.astype(np.float64), centre_px)
    return float(np.hypot(*np.ptp(way, axis=0)))
