"""Axes of a CXI detector against those of the sample: along which stored coordinate rows and columns rise, and the sign.

CXI stores the motion of the *sample*; the probe moves the other way, and rows and columns follow ``basis_vectors``. With
the default vectors both signs cancel: row = +y, column = +x. Others along the axes rotate or flip; tilted ones are refused.
"""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from streamptycho.errors import FormatError
from streamptycho.files.recorded.found import Found
from streamptycho.files.recorded.layouts import CXI
from streamptycho.files.recorded.quantities import same

Axis: TypeAlias = tuple[int, float]
"""Which stored coordinate (0 = x, 1 = y) and the factor +1 or -1."""
DEFAULT: tuple[Axis, Axis] = ((1, 1.0), (0, 1.0))
_PATH = "/{entry}/instrument_1/detector_1/basis_vectors"
_TILT = 1e-3
_PITCH_TOLERANCE = 0.01
_IGNORE = "set read.basis_vectors = 'ignore'"


def basis_axes(found: Found) -> tuple[Axis, Axis]:
    """Stored coordinate and sign that rows and columns follow. Raises FormatError if they follow none exactly."""
    vectors = basis_vectors(found)
    if vectors is None:
        return DEFAULT
    axes: list[Axis] = []
    for vector in vectors:
        main = int(np.argmax(np.abs(vector)))
        rest = np.delete(vector, main)
        if main == 2 or np.abs(rest).max() > _TILT * abs(vector[main]):
            raise FormatError(
                f"basis_vectors: {vector.tolist()} does not lie along the sample's x or y; {_IGNORE} to take row = +y, "
                "column = +x"
            )
        # the probe moves against the stored motion of the sample
        axes.append((main, -float(np.sign(vector[main]))))
    if axes[0][0] == axes[1][0]:
        raise FormatError(f"basis_vectors: rows and columns lie along the same axis; {_IGNORE}")
    return axes[0], axes[1]


def basis_vectors(found: Found) -> NDArray[np.float64] | None:
    """(2, 3) vectors along which the row and the column index rise, from any of the forms in use; None if absent."""
    dataset = found.find(_PATH) if found.layout is CXI else None
    if dataset is None:
        return None
    vectors = np.asarray(dataset[()], np.float64)
    if vectors.ndim == 3 and len(vectors):
        if not all(same(column) for column in vectors.reshape(len(vectors), -1).T):
            raise FormatError(f"basis_vectors: differ from frame to frame, and one pair is needed; {_IGNORE}")
        vectors = vectors[0]
    if vectors.shape == (3, 2):
        vectors = vectors.T
    if vectors.shape != (2, 3) or not np.isfinite(vectors).all() or not np.abs(vectors).sum(axis=1).all():
        raise FormatError(f"basis_vectors: shape {vectors.shape} is not two vectors of x, y, z; {_IGNORE}")
    return vectors


def check_pitch(vectors: NDArray[np.float64], pitch_m: tuple[float, float]) -> None:
    """Raise FormatError if the vectors' lengths are neither 1 nor the pixel size (y, x), metres."""
    lengths = np.linalg.norm(vectors, axis=1)
    if np.allclose(lengths, 1, rtol=_PITCH_TOLERANCE) or np.allclose(lengths, pitch_m, rtol=_PITCH_TOLERANCE):
        return
    raise FormatError(
        f"basis_vectors: lengths {lengths.tolist()} m contradict the pixel size {list(pitch_m)} m; set "
        "read.pixel_size_m and read.basis_vectors = 'ignore'"
    )


def axis_name(axis: Axis) -> str:
    """``+x`` and the like."""
    return f"{'+' if axis[1] > 0 else '-'}{'xy'[axis[0]]}"
