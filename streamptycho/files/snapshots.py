"""Pictures in the growing file: one row per snapshot while the scan runs, the final image at its end.

Snapshots are appended and never overwritten, so that no reader meets half of one. The count is written last.
"""

from collections.abc import Sequence
from typing import Any

import h5py
import numpy as np

from streamptycho.files.items import TILE, update
from streamptycho.files.layout import IMAGE
from streamptycho.files.paths import LIVE
from streamptycho.files.report import COUNTERS
from streamptycho.messages.results import Snapshot
from streamptycho.messages.run import RunId


class SnapshotLog:
    """The snapshots group of one file, within a budget of bytes."""

    def __init__(self, file: h5py.File, max_bytes: int) -> None:
        self._file = file
        self._group, self._counters = file[f"{LIVE}/snapshots"], file[COUNTERS]
        self._max_bytes = max_bytes
        self._count, self._skipped = (int(self._counters[name][()]) for name in ("snapshots", "snapshots_skipped"))
        sizes = (self._group[name][: self._count].tolist() for name in ("shape", "probe_shape"))
        self._bytes = sum(map(stored_bytes, *sizes))
        self.last_sequence = int(self._group["sequence"][self._count - 1]) if self._count else -1
        """Sequence number of the latest snapshot in the file."""

    def append(self, snapshot: Snapshot) -> bool:
        """Append a snapshot; False if the budget is spent and it is not the final one.

        The canvas may change its size: ``shape`` has the true one of each row, the rest of the row is zero.
        """
        size = stored_bytes(snapshot.object.shape, snapshot.probe.shape)
        if self._bytes + size > self._max_bytes and not snapshot.final:
            self._skipped += 1
            update(self._counters["snapshots_skipped"], self._skipped)
            return False
        shapes = {"shape": snapshot.object.shape, "probe_shape": snapshot.probe.shape}
        for name, dataset in self._group.items():  # the others hold the snapshot's fields of these names
            values = np.asarray(shapes.get(name) or getattr(snapshot, name), dataset.dtype)
            if self._count < len(dataset):  # a row of a writer that died before it had counted it
                dataset[self._count] = 0
            dataset.resize((self._count + 1, *np.maximum(dataset.shape[1:], values.shape)))
            dataset[(self._count, *(slice(n) for n in values.shape))] = values
            dataset.flush()
        self._bytes += size
        self._count += 1
        self.last_sequence = snapshot.sequence
        update(self._counters["snapshots"], self._count)
        return True

    def fill_image(self, snapshot: Snapshot) -> None:
        """Put the object of `snapshot` into image_1."""
        picture = snapshot.object
        parts = {
            "data": picture,
            "data_real": picture.real,
            "data_imag": picture.imag,
            "phase": np.angle(picture),
            "amplitude": np.abs(picture),
            "covered": snapshot.covered.astype(np.uint8),
        }
        for name, values in parts.items():
            dataset = self._file[f"{IMAGE}/{name}"]
            dataset.resize(picture.shape)
            dataset[...] = values
        self._file[f"{IMAGE}/pixel_size"][...] = snapshot.pixel_m
        height, width = np.multiply(snapshot.pixel_m, picture.shape)
        self._file[f"{IMAGE}/image_size"][...] = (width, height, 0.0)
        self._file[f"{IMAGE}/origin"][...] = snapshot.origin_m


def stored_bytes(shape: Sequence[int], probe_shape: Sequence[int]) -> int:
    """Bytes that a snapshot takes in the file: whole tiles of complex64 and uint8, and the probe's whole tiles."""
    ny, nx = (-(-n // TILE) * TILE for n in shape)
    modes, py, px = probe_shape
    half = TILE // 2
    tiles = modes * -(-py // half) * -(-px // half)
    return int(9 * ny * nx + 8 * half * half * tiles)


def latest(file: h5py.File, run: RunId) -> Snapshot | None:
    """The latest picture in a growing file; None before the first."""
    rows = int(file[f"{COUNTERS}/snapshots"][()])
    if not rows:
        return None
    group = file[f"{LIVE}/snapshots"]
    said: dict[str, Any] = {
        name: dataset[rows - 1] for name, dataset in group.items() if name not in ("object", "covered", "probe")
    }
    shape, probe_shape = (tuple(slice(n) for n in said.pop(name)) for name in ("shape", "probe_shape"))
    fields: dict[str, Any] = {name: tuple(value.tolist()) if value.ndim else value.item() for name, value in said.items()}
    return Snapshot(
        **run.fields,
        **fields,
        final=False,
        error_history=np.zeros(0, np.float32),
        algorithm="",
        object=group["object"][(rows - 1, *shape)],
        covered=group["covered"][(rows - 1, *shape)] > 0,
        probe=group["probe"][(rows - 1, *probe_shape)],
    )
