"""Pictures in the growing file: one row per snapshot while the scan runs, the final image at its end.

Snapshots are appended and never overwritten, so that no reader meets half of one. The count is written last.
"""

from collections.abc import Sequence
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from streamptycho.files.items import TILE, update
from streamptycho.files.paths import LIVE
from streamptycho.files.report import COUNTERS
from streamptycho.files.storage import put_tiles
from streamptycho.messages.results import Snapshot
from streamptycho.messages.run import RunId

PICTURES = ("object", "covered", "probe")
"""Fields of a snapshot of which a row may be without."""
_BESIDE = 4
"""As long as the frames have so many times more bytes, both uncompressed, every snapshot has its picture."""


class SnapshotLog:
    """The snapshots group of one file, within a budget of bytes.

    Every snapshot has a row with its figures. Its pictures are in the row, to 8 binary digits behind the first, if it is the
    final one, if there have been twice as many updates as in the last that are, or as long as pictures are small beside the
    frames. Else, and while the engine has no picture, ``shape`` is 0 in that row.
    """

    def __init__(self, file: h5py.File, max_bytes: int) -> None:
        self._group, self._counters = file[f"{LIVE}/snapshots"], file[COUNTERS]
        self._max_bytes = max_bytes
        self._count, self._skipped = (int(self._counters[name][()]) for name in ("snapshots", "snapshots_skipped"))
        sizes = [self._group[name][: self._count].tolist() for name in ("shape", "probe_shape")]
        self._bytes = sum(map(stored_bytes, *sizes))
        drawn = _with_picture(self._group, self._count)
        self._updates = int(self._group["updates"][drawn[-1]]) if drawn.size else 0
        self.last_sequence = int(self._group["sequence"][self._count - 1]) if self._count else -1
        """Sequence number of the latest snapshot in the file."""

    def append(self, snapshot: Snapshot, frame_bytes: int) -> bool:
        """Append a snapshot; False if the budget is spent and it is not the final one.

        The canvas may change its size: ``shape`` has the true one of each row, the rest of the row is zero.

        frame_bytes : of the frames in the file, uncompressed.
        """
        size = stored_bytes(snapshot.object.shape, snapshot.probe.shape)
        small = (self._bytes + size) * _BESIDE <= frame_bytes
        wanted = snapshot.final or small or snapshot.updates >= 2 * self._updates
        drawn = wanted and snapshot.updates > 0 and bool(snapshot.covered.any())
        if drawn and self._bytes + size > self._max_bytes and not snapshot.final:
            self._skipped += 1
            update(self._counters["snapshots_skipped"], self._skipped)
            return False
        shapes = {"shape": snapshot.object.shape, "probe_shape": snapshot.probe.shape}
        for name, dataset in self._group.items():  # all but the shapes hold the snapshot's fields of these names
            over = self._count < len(dataset)  # a row of a writer that died before it had counted it
            if name in PICTURES:
                values = getattr(snapshot, name) if drawn else np.zeros((0,) * (dataset.ndim - 1), dataset.dtype)
                dataset.resize((self._count + 1, *np.maximum(dataset.shape[1:], values.shape)))
                whole = np.zeros(dataset.shape[1:], dataset.dtype) if over else values
                if over:
                    whole[tuple(slice(n) for n in values.shape)] = values
                put_tiles(dataset, rounded(whole), self._count, over=over)
            else:
                shape = shapes.get(name)
                dataset.resize(self._count + 1, axis=0)
                dataset[self._count] = getattr(snapshot, name) if shape is None else shape if drawn else 0
            dataset.flush()
        if drawn:
            self._bytes += size
            self._updates = snapshot.updates
        self._count += 1
        self.last_sequence = snapshot.sequence
        update(self._counters["snapshots"], self._count)
        return True


def rounded(values: NDArray[Any]) -> NDArray[Any]:
    """Complex numbers to 8 binary digits behind the first: half of their bytes are zero, and compress."""
    if values.dtype.kind != "c":
        return values
    bits = np.ascontiguousarray(values).view(np.uint32) + np.uint32(1 << 14)
    return np.asarray((bits & np.uint32(0xFFFF8000)).view(np.complex64))


def _with_picture(group: h5py.Group, rows: int) -> NDArray[np.intp]:
    """Those of the first rows that have a picture."""
    return np.flatnonzero(group["shape"][:rows].all(axis=1))


def stored_bytes(shape: Sequence[int], probe_shape: Sequence[int]) -> int:
    """Bytes that a snapshot takes in the file: whole tiles of complex64 and uint8, and the probe's whole tiles."""
    ny, nx = (-(-n // TILE) * TILE for n in shape)
    modes, py, px = probe_shape
    half = TILE // 2
    tiles = modes * -(-py // half) * -(-px // half)
    return int(9 * ny * nx + 8 * half * half * tiles)


def latest(file: h5py.File, run: RunId) -> Snapshot | None:
    """The latest picture in a growing file; None before the first."""
    group = file[f"{LIVE}/snapshots"]
    drawn = _with_picture(group, int(file[f"{COUNTERS}/snapshots"][()]))
    if not drawn.size:
        return None
    row = int(drawn[-1])
    said: dict[str, Any] = {name: dataset[row] for name, dataset in group.items() if name not in PICTURES}
    shape, probe_shape = (tuple(slice(n) for n in said.pop(name)) for name in ("shape", "probe_shape"))
    fields: dict[str, Any] = {name: tuple(value.tolist()) if value.ndim else value.item() for name, value in said.items()}
    return Snapshot(
        **run.fields,
        **fields,
        final=False,
        error_history=np.zeros(0, np.float32),
        algorithm="",
        object=group["object"][(row, *shape)],
        covered=group["covered"][(row, *shape)] > 0,
        probe=group["probe"][(row, *probe_shape)],
    )
