"""Pictures in the growing file: one row per snapshot while the scan runs, the final image at its end.

Snapshots are appended and never overwritten, so that no reader meets half of one. The count is written last.
"""

from typing import Any

import h5py
import numpy as np

from streamptycho.files.dialect import LIVE
from streamptycho.files.layout import IMAGE, TILE
from streamptycho.messages import Snapshot


class SnapshotLog:
    """The snapshots group of one file, within a budget of bytes."""

    def __init__(self, file: h5py.File, max_bytes: int) -> None:
        self._file = file
        self._group = file[f"{LIVE}/snapshots"]
        self._max_bytes = max_bytes
        self._bytes = 0
        self._count = 0
        self._skipped = 0
        self.last_sequence = -1
        """Sequence number of the latest snapshot in the file."""

    def append(self, snapshot: Snapshot) -> bool:
        """Append a snapshot; False if the budget is spent and it is not the final one.

        The canvas may change its size: ``shape`` has the true one of each row, the rest of the row is zero.
        """
        size = _stored_bytes(snapshot)
        if self._bytes + size > self._max_bytes and not snapshot.final:
            self._skipped += 1
            self._set("snapshots_skipped", self._skipped)
            return False
        row = self._count
        self._put("object", row, snapshot.object)
        self._put("covered", row, snapshot.covered.astype(np.uint8))
        self._put("probe", row, snapshot.probe)
        for name in ("frames_used", "updates", "time_ns", "sequence", "error", "origin_m", "pixel_m"):
            self._put(name, row, np.asarray(getattr(snapshot, name)))
        self._put("shape", row, np.array(snapshot.object.shape))
        self._put("probe_shape", row, np.array(snapshot.probe.shape))
        self._bytes += size
        self._count += 1
        self.last_sequence = snapshot.sequence
        self._set("snapshots", self._count)
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

    def _put(self, name: str, row: int, values: Any) -> None:
        dataset = self._group[name]
        dataset.resize((row + 1, *np.maximum(dataset.shape[1:], values.shape)))
        dataset[(row, *(slice(n) for n in values.shape))] = values
        dataset.flush()

    def _set(self, name: str, value: int) -> None:
        counter = self._file[f"{LIVE}/counters/{name}"]
        counter[()] = value
        counter.flush()


def _stored_bytes(snapshot: Snapshot) -> int:
    """Bytes that a snapshot takes in the file: whole tiles of complex64 and uint8, and the probe's whole tiles."""
    ny, nx = (-(-n // TILE) * TILE for n in snapshot.object.shape)
    modes, py, px = snapshot.probe.shape
    half = TILE // 2
    tiles = modes * -(-py // half) * -(-px // half)
    return int(9 * ny * nx + 8 * half * half * tiles)
