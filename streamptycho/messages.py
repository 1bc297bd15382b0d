"""What travels between the parts of streamptycho, and the invariants of each message.

Stream grammar, per scan id::

    ScanStart  (Frame | Positions)*  ScanEnd(frames)  ScanEnd(positions)

in which frames and positions may come on separate sockets, in any order and interleaving, with gaps and duplicates.
Conventions: SI units; suffixes ``_m``, ``_ns``, ``_ev``, ``_px``; axis order (y, x); times are integer nanoseconds since
the Unix epoch; masks are True where valid; arrays are C-contiguous and read-only. A message that exists is valid: each
checks itself when it is built and raises :class:`~streamptycho.errors.GrammarError` naming the field. Messages that hold
arrays are equal only to themselves.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from streamptycho.errors import GrammarError
from streamptycho.feed import Assessment, Command, Preview, Survey
from streamptycho.geometry import Geometry
from streamptycho.invariants import Scalar, check_counts, check_index, check_metadata, check_scan_id, seal
from streamptycho.payload import PIXEL_DTYPES, Payload
from streamptycho.reasons import EndReason, ServiceState, Stream

MAX_FRAME_PIXELS = 1 << 26
"""Pixels of one frame: a start message sizes arrays and files."""
MAX_PLANNED = 1_000_000
"""Positions that a start message may announce."""


def check_plan(yx_m: NDArray[np.float64]) -> None:
    """Raises :class:`GrammarError` unless (n, 2) positions are a plan that can be shown."""
    if not (yx_m.ndim == 2 and yx_m.shape[1] == 2 and 1 <= len(yx_m) <= MAX_PLANNED):
        raise GrammarError("start.planned_yx_m", f"shape {yx_m.shape} is not (n, 2) with n from 1 to {MAX_PLANNED}")
    if not np.isfinite(yx_m).all():
        raise GrammarError("start.planned_yx_m", "has values that are not finite; leave the array out where not known")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScanStart:
    """First message of a scan: everything that must be known before the first frame."""

    scan_id: str
    geometry: Geometry
    dtype: np.dtype
    """Pixel type of every frame."""
    started_ns: int
    """Beginning of the scan. Tells two runs of the same scan id apart; 0, for not known, does not."""
    expected: int | None = None
    """Number of frames planned, where known."""
    valid: NDArray[np.bool_] | None = None
    """(ny, nx) bool, True = valid; None = all valid."""
    dark: NDArray[np.float32] | None = None
    """(ny, nx) float32, counts of a frame without beam."""
    probe: NDArray[np.complex64] | None = None
    """(modes, n, n) complex64, a recorded or earlier probe to start from; beam centre at [n//2, n//2]."""
    saturation: int | None = None
    """Counts at and above which a pixel has saturated."""
    beam_center_px: tuple[float, float] | None = None
    """(y, x) of the direct beam on the detector, pixels."""
    metadata: dict[str, Scalar] = field(default_factory=dict)
    planned_yx_m: NDArray[np.float64] | None = None
    """(n, 2) float64 metres, where the frames of index 0 to n - 1 are to be taken; shown, and used for nothing else."""

    def __post_init__(self) -> None:
        check_scan_id(self.scan_id)
        shape = self.geometry.frame_shape
        if shape[0] * shape[1] > MAX_FRAME_PIXELS:
            raise GrammarError("start.geometry", f"frames of {shape} have more than {MAX_FRAME_PIXELS} pixels")
        if self.dtype.name not in PIXEL_DTYPES:
            raise GrammarError("start.dtype", f"{self.dtype.name!r} is not one of {', '.join(PIXEL_DTYPES)}")
        object.__setattr__(self, "dtype", self.dtype.newbyteorder("<"))  # as payloads have it
        check_counts(self, "start", "started_ns", "expected", "saturation")
        if self.beam_center_px is not None and not np.isfinite(self.beam_center_px).all():
            raise GrammarError("start.beam_center_px", f"{self.beam_center_px} is not finite; leave it out where unknown")
        check_metadata(self.metadata)
        seal(self, "start", valid=np.bool_, dark=np.float32, probe=np.complex64, planned_yx_m=np.float64)
        if self.planned_yx_m is not None:
            check_plan(self.planned_yx_m)
        for name, array in (("valid", self.valid), ("dark", self.dark)):
            if array is not None and array.shape != shape:
                raise GrammarError(f"start.{name}", f"shape {array.shape} differs from the frame's {shape}")
        if self.dark is not None and not np.isfinite(self.dark).all():
            raise GrammarError("start.dark", "has values that are not finite")
        if self.probe is not None:
            if self.probe.ndim != 3 or self.probe.size == 0:
                raise GrammarError("start.probe", f"shape {self.probe.shape} is not (modes, ny, nx)")
            if not np.isfinite(self.probe).all():
                raise GrammarError("start.probe", "has values that are not finite")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frame:
    """A block of one or more diffraction patterns of one scan."""

    scan_id: str
    index: NDArray[np.int64]
    """(n,) position of each frame in the scan, from 0: the key of the join and the row in the file."""
    timestamp_ns: NDArray[np.int64]
    """(n,) end of exposure; 0 where the detector has no clock."""
    payload: Payload
    dark: bool = False
    """An exposure without beam, taken before the scan; its index counts separately."""

    def __post_init__(self) -> None:
        check_scan_id(self.scan_id)
        n = len(self.payload)
        if n < 1:
            raise GrammarError("frame.payload", "the block is empty")
        seal(self, "frame", index=np.int64, timestamp_ns=np.int64)
        check_index("frame.index", self.index, n)
        if self.timestamp_ns.shape != (n,):
            raise GrammarError("frame.timestamp_ns", f"shape {self.timestamp_ns.shape} does not match {n} frames")

    def __len__(self) -> int:
        return len(self.payload)

    def select(self, rows: Sequence[int]) -> "Frame":
        """The given rows (rising) of the block as a block of their own; shares the bytes."""
        payload = self.payload
        return Frame(
            scan_id=self.scan_id,
            index=self.index[list(rows)],
            timestamp_ns=self.timestamp_ns[list(rows)],
            payload=Payload(
                chunks=tuple(payload.chunks[i] for i in rows),
                encoding=payload.encoding,
                dtype=payload.dtype,
                shape=payload.shape,
            ),
            dark=self.dark,
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Positions:
    """A block of scan positions: where the probe was on the sample."""

    scan_id: str
    index: NDArray[np.int64]
    """(n,) frame indices, strictly rising."""
    yx_m: NDArray[np.float64]
    """(n, 2) metres, (y, x); finite."""

    def __post_init__(self) -> None:
        check_scan_id(self.scan_id)
        seal(self, "positions", index=np.int64, yx_m=np.float64)
        n = self.index.size
        if n < 1:
            raise GrammarError("positions.index", "the block is empty")
        check_index("positions.index", self.index, n)
        if self.yx_m.shape != (n, 2):
            raise GrammarError("positions.yx_m", f"shape {self.yx_m.shape} does not match {n} indices")
        if not np.isfinite(self.yx_m).all():
            raise GrammarError("positions.yx_m", "has values that are not finite; leave unknown positions out")

    def __len__(self) -> int:
        return len(self.index)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanEnd:
    """Last message of a stream of a scan."""

    scan_id: str
    stream: Stream
    count: int
    """Frames or positions that were sent, so that a loss can be told from an end."""
    reason: EndReason = EndReason.COMPLETE
    started_ns: int = 0
    """That of the start message; 0 where the sender does not say."""

    def __post_init__(self) -> None:
        check_scan_id(self.scan_id)
        check_counts(self, "end", "count", "started_ns")

    @property
    def complete(self) -> bool:
        """True if the source itself declared the scan finished."""
        return self.reason is EndReason.COMPLETE


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScanPoint:
    """One frame with its position: what the reconstruction is made of."""

    frame: Frame
    """A block of exactly one frame."""
    yx_m: tuple[float, float]

    def __post_init__(self) -> None:
        if len(self.frame) != 1:
            raise GrammarError("point.frame", f"a scan point has one frame, not {len(self.frame)}")
        if not np.isfinite(self.yx_m).all():
            raise GrammarError("point.yx_m", f"{self.yx_m} is not finite")

    @property
    def scan_id(self) -> str:
        """Scan of the frame."""
        return self.frame.scan_id

    @property
    def index(self) -> int:
        """Index of the frame in its scan."""
        return int(self.frame.index[0])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Snapshot:
    """The state of the reconstruction at one moment: host copies that never alias the engine's arrays."""

    scan_id: str
    started_ns: int
    """That of the start message: a snapshot belongs to one run of a scan id."""
    sequence: int
    """Rises by one with each snapshot of a scan."""
    final: bool
    """No further snapshot of this scan will come."""
    time_ns: int
    frames_used: int
    updates: int
    """Frame updates so far; updates / frames_used is the mean number of visits."""
    error: float
    """Fourier error sum (|model| - sqrt(I))^2 / sum I over the latest visit of each frame; NaN before the first."""
    error_history: NDArray[np.float32]
    """(k,) Fourier error after each pass (as many updates as there are frames)."""
    algorithm: str
    object: NDArray[np.complex64]
    """(ny, nx) complex64, transmission."""
    covered: NDArray[np.bool_]
    """(ny, nx) bool, True where the probe has been."""
    probe: NDArray[np.complex64]
    """(modes, n, n) complex64, beam at the centre, strongest mode first; sum |probe|^2 in detector counts."""
    origin_m: tuple[float, float]
    """(y, x) of the centre of pixel [0, 0] in the coordinates of the positions, metres."""
    pixel_m: tuple[float, float]
    """(y, x) pixel size of object and probe, metres."""
    newest_ns: int = 0
    """Time stamp of the newest frame in it; 0 where the detector has no clock."""

    def __post_init__(self) -> None:
        check_scan_id(self.scan_id)
        check_counts(self, "snapshot", "started_ns", "sequence", "time_ns", "frames_used", "updates", "newest_ns")
        seal(self, "snapshot", error_history=np.float32, object=np.complex64, covered=np.bool_, probe=np.complex64)
        if self.error_history.ndim != 1:
            raise GrammarError("snapshot.error_history", f"shape {self.error_history.shape} is not (k,)")
        if self.object.ndim != 2 or self.object.size == 0:
            raise GrammarError("snapshot.object", f"shape {self.object.shape} is not (ny, nx)")
        if self.covered.shape != self.object.shape:
            raise GrammarError("snapshot.covered", f"{self.covered.shape} differs from the object's {self.object.shape}")
        if self.probe.ndim != 3 or self.probe.size == 0:
            raise GrammarError("snapshot.probe", f"shape {self.probe.shape} is not (modes, ny, nx)")
        if not np.isfinite(self.origin_m).all():
            raise GrammarError("snapshot.origin_m", f"{self.origin_m} is not finite")
        if not (np.isfinite(self.pixel_m).all() and min(self.pixel_m) > 0):
            raise GrammarError("snapshot.pixel_m", f"{self.pixel_m} is not a pair of positive numbers")


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Health of one service, published about once per second and at every change of state.

    The counts are in frames and always obey ``received = used + waiting + sum(dropped)``, as that service sees them.
    """

    service: str
    scan_id: str | None
    state: ServiceState
    time_ns: int
    started_ns: int = 0
    """That of the start message; 0 without a scan."""
    received: int = 0
    used: int = 0
    """Passed on (receive), reconstructed from (reconstruct), written (write)."""
    waiting: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    """Reason to number of frames."""
    figures: dict[str, float] = field(default_factory=dict)
    """Further numbers, named with their unit: ``rate_hz``, ``lag_s``, ``error``..."""
    notes: dict[str, str] = field(default_factory=dict)
    """Facts worth showing: the file being written, how the probe was found..."""

    def __post_init__(self) -> None:
        if self.scan_id is not None:
            check_scan_id(self.scan_id)
        check_counts(self, "status", "time_ns", "started_ns", "received", "used", "waiting")
        if min(self.dropped.values(), default=0) < 0:
            raise GrammarError("status.dropped", f"{min(self.dropped.values())} is negative")
        if self.received != self.used + self.waiting + sum(self.dropped.values()):
            raise GrammarError(
                "status.received",
                f"{self.received} != {self.used} used + {self.waiting} waiting + {sum(self.dropped.values())} dropped",
            )


def same_run(started_ns: int, start: ScanStart) -> bool:
    """Whether a message that says `started_ns` can belong to the run that `start` began: 0 is any."""
    return started_ns in (0, start.started_ns)


Message: TypeAlias = (
    ScanStart | Frame | Positions | ScanEnd | ScanPoint | Snapshot | Status | Survey | Preview | Assessment | Command
)
