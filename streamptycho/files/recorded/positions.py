"""Scan positions of a file as (N, 2) metres, (y, x), along the rows and columns of the frames."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamptycho.errors import FormatError
from streamptycho.files.options import ReadOptions
from streamptycho.files.paths import is_own
from streamptycho.files.recorded.basis import DEFAULT, axis_name, basis_axes
from streamptycho.files.recorded.containers import axes_reversed
from streamptycho.files.recorded.found import Found, layout_of, unit_of
from streamptycho.files.recorded.layouts import CXI, PositionPlace
from streamptycho.files.recorded.places import Places
from streamptycho.files.recorded.quantities import position_scale
from streamptycho.messages.units import metres


@dataclass(frozen=True, slots=True)
class Stored:
    """Positions as a file has them."""

    xy: NDArray[np.float64]
    """(N, 2), NaN where unknown."""
    unit: str | None
    standard: str
    """Unit where the file does not say it."""
    path: str
    basis: bool = False
    """Whether the basis vectors of the file turn them."""


def read_positions(found: Found, places: Places, options: ReadOptions, frames: set[int]) -> Stored:
    """Positions as stored; `frames` are the lengths of the axes that may count frames, to tell (3, N) from (N, 3)."""
    if options.positions is not None:
        return _placed(found, places, options, options.positions, frames)
    for place in found.layout.positions:
        columns = [[item for _, item in found.parts(path) if item is not None] for path in place.paths]
        if all(columns):
            return _stored(place, columns, options, frames, own=is_own(found.file), basis=found.layout is CXI)
    tried = " or ".join(" and ".join(place.paths).replace("{entry}", found.entry) for place in found.layout.positions)
    raise FormatError(
        f"{found.file.filename}: no positions"
        + (f" at {tried}" if tried else "")
        + ", and without them there is no picture; "
        "set read.positions = 'FILE::/path', or 'FILE::X,Y' for columns of a text"
    )


def in_metres(found: Found, stored: Stored, options: ReadOptions, field_m: float) -> tuple[NDArray[np.float64], str]:
    """(N, 2) float64 metres (y, x), and how they were understood.

    field_m : field of view lambda z / pixel, to check the unit.
    """
    if options.position_unit is not None:
        scale, why = metres(options.position_unit) or 1.0, f"{options.position_unit}, as set ({stored.path})"
    elif is_own(found.file) and options.positions is None:
        scale, why = 1.0, f"m, as this program writes them ({stored.path})"
    else:
        scale, why = position_scale(stored.xy, stored.unit, stored.standard, field_m, stored.path)
    row, column = basis_axes(found) if stored.basis and options.basis_vectors == "file" else DEFAULT
    yx = np.stack([stored.xy[:, row[0]] * row[1], stored.xy[:, column[0]] * column[1]], axis=1) * scale
    return yx, f"{why}; row = {axis_name(row)}, column = {axis_name(column)}"


def _placed(found: Found, places: Places, options: ReadOptions, place: str, frames: set[int]) -> Stored:
    """Positions where the user says."""
    columns = places.columns(place, "positions")
    if columns is not None:
        return Stored(columns, None, "m", place)
    _, mark, path = place.rpartition("::")
    if not mark and not place.startswith("/"):  # a file alone: where its layout has them
        other = places.file(place, "positions")
        inner = layout_of(other, options.model_copy(update={"entry": None, "frames": "", "positions": None}))
        return read_positions(inner, places, options.model_copy(update={"positions": None}), frames)
    datasets = places.datasets(place, "positions")
    known = [one for one in found.layout.positions if one.paths == tuple(path.split(","))]
    layout = known[0] if known else PositionPlace(tuple(path.split(",")), "m", "xyz")
    return _stored(layout, [[item] for item in datasets], options, frames, own=False, basis=found.layout is CXI)


def _stored(
    place: PositionPlace, columns: list[list[Any]], options: ReadOptions, frames: set[int], *, own: bool, basis: bool
) -> Stored:
    first = columns[0][0]
    path, units = str(first.name), [unit_of(column[0]) for column in columns]
    for column in columns:
        if column[0].dtype.kind not in "fiu":
            raise FormatError(
                f"{column[0].name}: shape {column[0].shape} {column[0].dtype} are no positions; set read.positions"
            )
    if len(columns) == 2:
        x, y = ([np.asarray(item[()], np.float64) for item in column] for column in columns)
        xs, ys = _flat(x), _flat(y)
        if xs.shape != ys.shape or units[0] != units[1]:
            other = f"{columns[1][0].name}: {ys.shape} in {units[1]}"
            raise FormatError(f"{path}: {xs.shape} in {units[0]} does not match {other}; set read.positions")
        return Stored(np.stack([xs, ys], axis=1), units[0], place.unit, path, basis)
    if len(columns) != 1:
        raise FormatError(f"read.positions: {len(columns)} paths; give one of rows x, y, or two, of x and of y")
    rows = np.concatenate([_rows(item, options, frames, own=own) for item in columns[0]])
    xy = rows[:, [place.columns.index("x"), place.columns.index("y")]]
    return Stored(xy, units[0], place.unit, path, basis)


def _flat(columns: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """One number for each frame; the grid of a raster row by row."""
    return np.concatenate([column.reshape(-1) for column in columns])


def _rows(dataset: Any, options: ReadOptions, frames: set[int], *, own: bool) -> NDArray[np.float64]:
    """(N, 2 or 3) of a dataset that may be stored the other way round."""
    path, shape = str(dataset.name), dataset.shape
    if dataset.ndim != 2 or not ({2, 3} & set(shape)):
        raise FormatError(f"{path}: shape {shape} {dataset.dtype} is not (N, 3), (N, 2) or (3, N); set read.positions")
    if axes_reversed(dataset):
        shape = shape[::-1]
    if options.positions_transposed is not None:
        transposed = options.positions_transposed
    elif own:
        transposed = False
    elif shape[1] in (2, 3) and shape[0] in (2, 3):
        if shape[0] == shape[1] or not set(shape) & frames:
            raise FormatError(f"{path}: shape {shape} may be rows or columns of x, y, z; set read.positions_transposed")
        transposed = shape[0] not in frames
    else:
        transposed = shape[0] in (2, 3)
    values = np.asarray(dataset[()], np.float64)
    values = values.T if transposed != axes_reversed(dataset) else values
    if values.shape[1] not in (2, 3):
        raise FormatError(f"{path}: shape {shape} does not fit positions_transposed = {transposed}; set it otherwise")
    return values
