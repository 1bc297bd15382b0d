"""What there is to be put into another file: a scan, its picture, or both."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from streamptycho.errors import FormatError, ScanError
from streamptycho.files.durable.disk import LIBVER, abandon, part_of
from streamptycho.files.items import SMALL
from streamptycho.files.naming import RESULT, beside
from streamptycho.files.options import ReadOptions
from streamptycho.files.result import Result, is_result, read_result
from streamptycho.files.scan import RecordedScan, open_scan
from streamptycho.files.storage import put_tiles

_FAR_M = 1e-9
"""Positions as sent and as configured that differ by more than one shift have been turned or stretched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """A scan, a result, or both; at least one is there."""

    path: Path
    scan: RecordedScan | None
    result: Result | None

    @property
    def title(self) -> str:
        """Name of the scan."""
        return (self.result and self.result.report.title) or (self.scan and self.scan.scan_id) or self.path.stem

    @property
    def need_scan(self) -> RecordedScan:
        """The scan. Raises FormatError where there is none."""
        if self.scan is None:
            raise FormatError(f"{self.path}: a result, and the frames are not beside it; name the scan's own file")
        return self.scan

    @property
    def need_result(self) -> Result:
        """The picture. Raises FormatError where there is none."""
        if self.result is None:
            raise FormatError(f"{self.path}: has no picture; reconstruct it first: streamptycho reconstruct-file")
        return self.result

    @property
    def rows(self) -> NDArray[np.int64]:
        """(n,) frames that have a position, rising."""
        scan = self.need_scan
        return scan.index[np.isfinite(scan.yx_m[scan.index]).all(axis=1)]

    @property
    def xyz_m(self) -> NDArray[np.float64]:
        """(n, 3) their positions x, y, z as recorded, metres."""
        yx_m = self.need_scan.yx_m[self.rows]
        return np.column_stack([yx_m[:, 1], yx_m[:, 0], np.zeros(len(yx_m))])

    @property
    def center_yx_m(self) -> tuple[float, float] | None:
        """Middle of the picture in the coordinates of the recorded positions; None where these were turned or stretched."""
        result = self.need_result
        shift_m = np.zeros(2)
        estimates = result.report.estimates
        if self.scan is not None and estimates is not None:
            known = estimates.index < len(self.scan.yx_m)
            shifts_m = estimates.recorded_yx_m[known] - self.scan.yx_m[estimates.index[known]]
            shifts_m = shifts_m[np.isfinite(shifts_m).all(axis=1)]
            if not len(shifts_m) or np.ptp(shifts_m, axis=0).max() > _FAR_M:
                return None
            shift_m = np.median(shifts_m, axis=0)
        middle = np.asarray(result.origin_m) + np.multiply(result.pixel_m, np.subtract(result.object.shape, 1)) / 2
        y, x = (middle - shift_m).tolist()
        return y, x


@contextmanager
def material(path: Path, options: ReadOptions | None = None) -> Iterator[Material]:
    """What is in `path`, and in the file of the same scan beside it. Raises FormatError for what cannot be read."""
    with ExitStack() as stack:
        if is_result(path):
            frames = path.with_name(path.name.removesuffix(RESULT) + ".cxi")
            whole = path.name.endswith(RESULT) and frames.is_file()
            scan = stack.enter_context(open_scan(frames, options)) if whole else None
            yield Material(path=path, scan=scan, result=read_result(path))
            return
        scan, result = stack.enter_context(open_scan(path, options)), beside(path, RESULT)
        yield Material(path=path, scan=scan, result=read_result(result) if result.is_file() else None)


def write_whole(path: Path, fill: Callable[[h5py.File], None]) -> None:
    """Write an HDF5 file, which gets its name when it is whole. Raises ScanError naming the path if the disk refuses."""
    partial = part_of(path)
    file: Any = None
    try:
        partial.unlink(missing_ok=True)
        file = h5py.File(partial, "x", libver=LIBVER)
        fill(file)
        file.flush()
        file.close()
        partial.replace(path)
    except (OSError, RuntimeError) as error:
        if file:
            abandon(file)
        raise ScanError(f"{path}: cannot be written ({error}); free disk space or write elsewhere") from error
    finally:
        partial.unlink(missing_ok=True)


def link_frames(file: h5py.File, path: str, there: Material, target: Path) -> bool:
    """Put the frames that have a position at `path` without copying them: by name, relative to the folder of `target`.

    False, with nothing done, where they are not stored as one plain stack.
    """
    scan, rows = there.need_scan, there.rows
    if scan.stored_at is None:
        return False
    source, name, count = scan.stored_at
    relative = os.path.relpath(source, target.parent)
    if np.array_equal(rows, np.arange(count)):
        file[path] = h5py.ExternalLink(relative, name)
        return True
    shape = scan.geometry.frame_shape
    layout, stack = h5py.VirtualLayout((len(rows), *shape), scan.dtype), (count, *shape)
    origin = h5py.VirtualSource(relative, name, stack, scan.dtype)
    for run in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(rows) != 1) + 1):
        if run.size:
            layout[run[0] : run[-1] + 1] = origin[rows[run[0]] : rows[run[-1]] + 1]
    file.create_virtual_dataset(path, layout)
    return True


def copy_frames(file: h5py.File, path: str, there: Material) -> Any:
    """The same by copying them one at a time, deflated: any program with HDF5 reads them."""
    scan, rows = there.need_scan, there.rows
    shape = scan.geometry.frame_shape
    dataset = file.create_dataset(path, (len(rows), *shape), scan.dtype, chunks=(1, *shape), **SMALL)
    for k, row in enumerate(rows):
        put_tiles(dataset, scan.frame(int(row)), k)
    return dataset
