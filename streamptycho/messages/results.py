"""What a reconstruction makes of a scan: pictures, how far they can be trusted, and what was estimated beside them."""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray

from streamptycho.errors import GrammarError
from streamptycho.messages.checks import Count, Index, Point, ScanId
from streamptycho.messages.marks import Wire
from streamptycho.messages.reasons import ServiceKind
from streamptycho.messages.run import OfRun


def _no_floats() -> NDArray[np.float32]:
    return np.zeros(0, np.float32)


def _positive(name: str, values: tuple[float, ...]) -> None:
    if min(values) <= 0:
        raise GrammarError(name, f"{values} has a number that is not positive")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Snapshot(OfRun):
    """The state of the reconstruction at one moment: host copies that never alias the engine's arrays."""

    kind: ClassVar[str] = "snapshot"
    scan_id: ScanId
    started_ns: Count
    """That of the start message: a snapshot belongs to one run of a scan id."""
    sequence: Count
    """Rises by one with each snapshot of a scan."""
    final: bool
    """No further snapshot of this scan will come."""
    time_ns: Count
    frames_used: Count
    updates: Count
    """Frame updates so far; updates / frames_used is the mean number of visits."""
    error: float
    """Fourier error sum (|model| - sqrt(I))^2 / sum I over the latest visit of each frame; NaN before the first."""
    error_history: Annotated[NDArray[np.float32], "k"]
    """(k,) Fourier error after each pass (as many updates as there are frames)."""
    algorithm: str
    object: Annotated[NDArray[np.complex64], "rows columns"]
    """(ny, nx) complex64, transmission."""
    covered: Annotated[NDArray[np.bool_], "rows columns"]
    """(ny, nx) bool, True where the probe has been."""
    probe: Annotated[NDArray[np.complex64], "modes y x"]
    """(modes, n, n) complex64, beam at the centre, strongest mode first; sum |probe|^2 in detector counts."""
    origin_m: Point
    """(y, x) of the centre of pixel [0, 0] in the coordinates of the positions, metres."""
    pixel_m: Annotated[Point, _positive]
    """(y, x) pixel size of object and probe, metres."""
    newest_ns: Count = 0
    """Time stamp of the newest frame in it; 0 where the detector has no clock."""
    service: str = ServiceKind.RECONSTRUCT.value
    """Which reconstruction it comes from."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Assessment(OfRun):
    """How far the picture can be trusted, in words and figures."""

    kind: ClassVar[str] = "assessment"
    scan_id: ScanId
    started_ns: Count
    time_ns: Count
    verdict: str
    """One sentence for the scientist."""
    findings: Annotated[dict[str, str], Wire.REQUIRED] = field(default_factory=dict)
    """What is wrong, gravest first: code (``overlap``, ``orientation``...) to a sentence with reason and remedy."""
    figures: Annotated[dict[str, float], Wire.REQUIRED] = field(default_factory=dict)
    """Numbers behind it, named with their unit: ``resolution_m``, ``covered_fraction``, ``photons_per_frame``..."""
    frequency_per_m: Annotated[NDArray[np.float32], "k", Wire.REQUIRED] = field(default_factory=_no_floats)
    """(k,) spatial frequencies of the ring correlation; empty before there is one."""
    ring_correlation: Annotated[NDArray[np.float32], "k", Wire.REQUIRED] = field(default_factory=_no_floats)
    """(k,) Fourier ring correlation of two half-data objects."""
    criterion: str = ""
    """The threshold that the resolution is read off at; empty before there is a ring correlation."""
    trusted: bool = False
    """True if nothing says that the picture is wrong: the probe is confirmed, or could not be judged, and no finding
    contradicts the picture."""
    final: bool = False
    """The last one of its scan."""
    service: str = ServiceKind.RECONSTRUCT.value


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Estimates(OfRun):
    """What was estimated beside object and probe, once, at the end of a reconstruction."""

    kind: ClassVar[str] = "estimates"
    scan_id: ScanId
    started_ns: Count
    time_ns: Count
    index: Index
    """(n,) indices of the frames in the reconstruction, strictly rising."""
    recorded_yx_m: Annotated[NDArray[np.float64], "indices yx"]
    """(n, 2) positions as sent and transformed as configured, in the coordinates of `Snapshot.origin_m`."""
    refined_yx_m: Annotated[NDArray[np.float64], "indices yx"] | None = None
    """(n, 2) where the frames were found to stand, same coordinates; None where positions were not refined."""
    flux: Annotated[NDArray[np.float32], "indices"] | None = None
    """(n,) intensity of each frame relative to the usual one; None where not estimated."""
    background: Annotated[NDArray[np.float32], "rows columns"] | None = None
    """(ny, nx) incoherent intensity per pixel of the frames as reconstructed, counts, zero frequency at [ny // 2, nx // 2];
    None where not estimated."""
    mode_powers: tuple[float, ...] = (1.0,)
    """Share of the probe's power in each mode, strongest first."""
    trust: str = ""
    """What prediction says about the probe: ``confident``, ``uncertain`` or ``failed``."""
    unexplained: float = float("nan")
    """The figure behind the trust: 0 all is predicted, 1 no more than by the mean pattern; NaN or inf: not judged."""
    probe_origin: str = ""
    """Where the probe comes from."""
    service: str = ServiceKind.RECONSTRUCT.value
