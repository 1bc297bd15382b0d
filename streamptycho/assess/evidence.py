"""What quality is judged by: the frames' own figures, and the state of the reconstruction."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from streamptycho.geometry import Orientation
from streamptycho.solve.engine import EngineState
from streamptycho.solve.trust import Trust

if TYPE_CHECKING:
    from streamptycho.solve.engine import RollingEngine

POINTS = ("index", "yx_m", "counts", "dark_field", "centre_px", "saturated")
"""The arrays of :class:`Evidence`, which a table of points has under the same names."""
MOST_POINTS = 20_000
"""Points that are looked at, the newest ones: the cost of an assessment is bounded."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evidence:
    """Points of a scan in order of arrival, and how the scan was meant to be."""

    index: NDArray[np.int64]
    """(k,) frame indices, none twice."""
    yx_m: NDArray[np.float64]
    """(k, 2) where the beam was (y, x), as configured."""
    counts: NDArray[np.float32]
    """(k,) sum over valid pixels."""
    dark_field: NDArray[np.float32]
    """(k,) part of it outside the bright field."""
    centre_px: NDArray[np.float32]
    """(k, 2) centre of mass from the zero frequency (y, x), pixels of the frames in work."""
    saturated: NDArray[np.int64]
    """(k,) pixels masked in this frame only."""
    shape: tuple[int, int]
    """(ny, nx) of the frames in work."""
    pixel_m: tuple[float, float]
    """(y, x) object pixel."""
    orientation: Orientation = Orientation.AS_IS
    """As configured for this scan."""
    expected: int | None = None
    """Number of frames planned."""
    dropped: Mapping[str, int] = field(default_factory=dict)
    """Reason to number of points."""
    ended: bool = False
    """No more points will come."""
    complete: bool = False
    """It ended as planned."""

    @classmethod
    def of(cls, table: NDArray[np.void], **scan: Any) -> Self:
        """That of a table of points with these names; `scan` is the rest."""
        points: dict[str, Any] = {name: table[name] for name in POINTS}
        return cls(**points, **scan)

    def __len__(self) -> int:
        return len(self.index)

    @property
    def newest(self) -> slice:
        """The points that are looked at."""
        return slice(max(0, len(self) - MOST_POINTS), None)

    @property
    def yx_px(self) -> NDArray[np.float64]:
        """(k, 2) positions of the newest points in object pixels."""
        return np.asarray(self.yx_m[self.newest] / np.array(self.pixel_m), np.float64)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Standing:
    """How a reconstruction stands."""

    state: EngineState
    frames: int
    """Frames that the engine holds."""
    rows_used: int
    updates: int
    error: float
    error_history: tuple[float, ...]
    """The latest passes, at most eight."""
    trust: Trust
    unexplained: float
    flux_estimated: bool
    """The intensity of each frame is part of the model."""
    position_shift_px: float
    position_drift_px: float
    positions_refined: bool
    mode_powers: NDArray[np.float64]
    probe: NDArray[np.complex64] | None
    """(modes, ny, nx), None before there is one."""
    pace: float = float("nan")
    """Updates per frame that came since the assessment before; NaN where none came, or the picture began again."""

    @classmethod
    def of(cls, engine: "RollingEngine", pace: float = float("nan")) -> Self:
        """That of an engine."""
        summary = engine.position_summary
        solver = engine.solver
        return cls(
            state=engine.state,
            frames=len(engine.store),
            rows_used=engine.rows_used,
            updates=engine.updates,
            error=engine.error,
            error_history=tuple(engine.error_history[-8:]),
            trust=engine.trust,
            unexplained=engine.unexplained,
            flux_estimated=engine.options.flux,
            position_shift_px=summary.shift_px,
            position_drift_px=summary.drift_px,
            positions_refined=engine.options.positions.refine != "off",
            mode_powers=engine.mode_powers,
            probe=None if solver is None else engine.backend.to_host(solver.probe),
            pace=pace,
        )

    @property
    def visits(self) -> float:
        """Updates per frame."""
        return self.updates / max(self.frames, 1)
