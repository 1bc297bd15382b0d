"""Scan positions of a file as (N, 2) metres, (y, x), along the rows and columns of the frames.

CXI stores the motion of the *sample*; the probe moves the other way, and rows and columns follow ``basis_vectors``. With
the default vectors both signs cancel: row = +y, column = +x. Others along the axes rotate or flip; tilted ones are refused.
"""

from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from streamptycho.errors import FormatError
from streamptycho.files.dialect import APS, DETECTOR, TRANSLATION, Places, find, is_own, unit_of
from streamptycho.files.options import ReadOptions
from streamptycho.files.quantities import position_scale
from streamptycho.messages.units import LENGTH_UNITS

_PLACES = (TRANSLATION, "/entry_1/data_1/translation", f"{DETECTOR}/translation")
APS_X, APS_Y = "/exchange/positions_x", "/exchange/positions_y"
BASIS = f"{DETECTOR}/basis_vectors"
_TILT = 1e-3
_PITCH_TOLERANCE = 0.01

Axis = tuple[int, float]
"""Which stored coordinate (0 = x, 1 = y) and the factor +1 or -1."""


def positions_yx(
    file: h5py.File, places: Places, options: ReadOptions, field_m: float, frames: int
) -> tuple[NDArray[np.float64], str]:
    """Positions (N, 2) float64 metres, NaN where unknown, and how they were understood.

    field_m : field of view lambda z / pixel, to check the unit.
    frames : number of frames, to tell (3, N) from (N, 3).
    """
    xy, unit, path = _aps_xy(file) if places is APS else _cxi_xy(file, options, frames)
    if options.position_unit is not None:
        scale, why = LENGTH_UNITS[options.position_unit], f"{options.position_unit}, as set ({path})"
    elif is_own(file):
        scale, why = 1.0, f"m, as this program writes them ({path})"
    else:
        scale, why = position_scale(xy, unit, places.position_unit, field_m, path)
    if places is APS or options.basis_vectors == "ignore":
        return np.ascontiguousarray(xy[:, ::-1]) * scale, f"{why}; row = +y, column = +x"
    row, column = basis_axes(file)
    yx = np.stack([xy[:, row[0]] * row[1], xy[:, column[0]] * column[1]], axis=1) * scale
    return yx, f"{why}; row = {_name(row)}, column = {_name(column)}"


def basis_axes(file: h5py.File) -> tuple[Axis, Axis]:
    """Stored coordinate and sign that rows and columns follow. Raises FormatError if they follow none exactly."""
    vectors = basis_vectors(file)
    if vectors is None:
        return (1, 1.0), (0, 1.0)
    axes: list[Axis] = []
    for vector in vectors:
        main = int(np.argmax(np.abs(vector)))
        rest = np.delete(vector, main)
        if main == 2 or np.abs(rest).max() > _TILT * abs(vector[main]):
            raise FormatError(
                f"{BASIS}: {vector.tolist()} does not lie along the sample's x or y; set read.basis_vectors = 'ignore' "
                "to take row = +y, column = +x"
            )
        # the probe moves against the stored motion of the sample
        axes.append((main, -float(np.sign(vector[main]))))
    if axes[0][0] == axes[1][0]:
        raise FormatError(f"{BASIS}: rows and columns lie along the same axis; set read.basis_vectors = 'ignore'")
    return axes[0], axes[1]


def basis_vectors(file: h5py.File) -> NDArray[np.float64] | None:
    """(2, 3) vectors along which the row and the column index rise, from either of the forms in use; None if absent."""
    dataset = find(file, (BASIS,))
    if dataset is None:
        return None
    vectors = np.asarray(dataset[()], np.float64)
    if vectors.shape == (3, 2):
        vectors = vectors.T
    if vectors.shape != (2, 3) or not np.isfinite(vectors).all() or not np.abs(vectors).sum(axis=1).all():
        raise FormatError(f"{BASIS}: shape {vectors.shape} is not two vectors of x, y, z; set read.basis_vectors = 'ignore'")
    return vectors


def check_pitch(vectors: NDArray[np.float64], pitch_m: tuple[float, float]) -> None:
    """Raise FormatError if the vectors' lengths are neither 1 nor the pixel size (y, x), metres."""
    lengths = np.linalg.norm(vectors, axis=1)
    if np.allclose(lengths, 1, rtol=_PITCH_TOLERANCE):
        return
    if not np.allclose(lengths, pitch_m, rtol=_PITCH_TOLERANCE):
        raise FormatError(
            f"{BASIS}: lengths {lengths.tolist()} m contradict the pixel size {list(pitch_m)} m; set read.pixel_size_m and "
            "read.basis_vectors = 'ignore'"
        )


def _cxi_xy(file: h5py.File, options: ReadOptions, frames: int) -> tuple[NDArray[np.float64], str | None, str]:
    dataset = find(file, _PLACES)
    if dataset is None:
        raise FormatError(f"{file.filename}: no positions at {' or '.join(_PLACES)}; without them there is no picture")
    path, shape = str(dataset.name), dataset.shape
    if dataset.ndim != 2 or dataset.dtype.kind not in "fiu" or not ({2, 3} & set(shape)):
        raise FormatError(f"{path}: shape {shape} {dataset.dtype} is not (N, 3), (N, 2) or (3, N)")
    if options.positions_transposed is not None:
        transposed = options.positions_transposed
    elif is_own(file):
        transposed = False
    elif shape[1] in (2, 3) and shape[0] in (2, 3):
        if shape[0] == shape[1] or frames not in shape:
            raise FormatError(f"{path}: shape {shape} may be rows or columns of x, y, z; set read.positions_transposed")
        transposed = shape[0] != frames
    else:
        transposed = shape[0] in (2, 3)
    values = np.asarray(dataset[()], np.float64)
    values = values.T if transposed else values
    if values.shape[1] not in (2, 3):
        raise FormatError(f"{path}: shape {shape} does not fit positions_transposed = {transposed}")
    return values[:, :2], unit_of(dataset), path


def _aps_xy(file: h5py.File) -> tuple[NDArray[np.float64], str | None, str]:
    datasets: list[Any] = [find(file, (path,)) for path in (APS_X, APS_Y)]
    for path, dataset in zip((APS_X, APS_Y), datasets, strict=True):
        if dataset is None:
            raise FormatError(f"{file.filename}: no positions at {path}; without them there is no picture")
        if dataset.ndim != 1 or dataset.dtype.kind not in "fiu":
            raise FormatError(f"{path}: shape {dataset.shape} {dataset.dtype} is not one number per frame")
    units = [unit_of(dataset) for dataset in datasets]
    if datasets[0].shape != datasets[1].shape or units[0] != units[1]:
        raise FormatError(
            f"{APS_X}: {datasets[0].shape} in {units[0]} does not match {APS_Y}: {datasets[1].shape} in {units[1]}"
        )
    return np.stack([np.asarray(d[()], np.float64) for d in datasets], axis=1), units[0], APS_X


def _name(axis: Axis) -> str:
    return f"{'+' if axis[1] > 0 else '-'}{'xy'[axis[0]]}"
