"""The evidence of an assessment: the frames' own figures, and the state of the reconstruction."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from streamptycho.assess.readings import NOT_TRIED
from streamptycho.messages.geometry import Orientation
from streamptycho.solve.engine import EngineState, RollingEngine
from streamptycho.solve.start.trust import Trust

MOST_POINTS = 20_000
"""Points that are examined, the newest ones: the cost of an assessment is bounded."""


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
    """(k, 2) centre of mass from the zero frequency (y, x), pixels of the reconstructed frames."""
    saturated: NDArray[np.int64]
    """(k,) pixels masked in this frame only."""
    shape: tuple[int, int]
    """(ny, nx) of the reconstructed frames."""
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
        """That of a table with its arrays under the same names; `scan` is the rest."""
        points: dict[str, Any] = {f.name: table[f.name] for f in fields(cls) if f.name in (table.dtype.names or ())}
        return cls(**points, **scan)

    def __len__(self) -> int:
        return len(self.index)

    @property
    def newest(self) -> slice:
        """The points that are examined."""
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
    max_object_pixels: int
    """Largest object that the settings allow."""
    probe: NDArray[np.complex64] | None
    """(modes, ny, nx), None before there is one."""
    pace: float = float("nan")
    """Updates per frame that came since the assessment before; NaN where none came, or the picture began again."""
    readings: NDArray[np.float64] = field(default_factory=lambda: NOT_TRIED)
    """What each reading of the positions leaves unexplained, see :class:`Readings`; NaN where not tried."""

    @classmethod
    def of(cls, engine: RollingEngine, pace: float = float("nan"), readings: NDArray[np.float64] = NOT_TRIED) -> Self:
        """That of an engine."""
        names = ("state", "rows_used", "updates", "error", "trust", "unexplained", "mode_powers")
        same: dict[str, Any] = {name: getattr(engine, name) for name in names}
        summary, solver = engine.positions.summary, engine.solver
        return cls(
            **same,
            frames=len(engine.store),
            error_history=tuple(engine.error_history[-8:]),
            flux_estimated=engine.options.flux,
            position_shift_px=summary.shift_px,
            position_drift_px=summary.drift_px,
            max_object_pixels=engine.options.max_object_pixels,
            positions_refined=engine.options.positions.refine != "off",
            probe=None if solver is None else engine.backend.to_host(solver.probe),
            pace=pace,
            readings=readings,
        )

    @property
    def visits(self) -> float:
        """Updates per frame."""
        return self.updates / max(self.frames, 1)
