"""Files that hold arrays by name, whatever their container: HDF5 as it is, MATLAB and NumPy archives as HDF5 in memory."""

import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from streamptycho.errors import FormatError

MATLAB = "MATLAB_class"
"""Attribute of what MATLAB has written: the axes of its arrays are stored last first."""
_COMPLEX = {"real", "imag"}


def open_file(path: Path) -> h5py.File:
    """Open for reading, also if another process is writing the file or died doing so."""
    if not path.is_file():
        raise FormatError(f"{path}: no such file")
    with path.open("rb") as file:
        head = file.read(128)
    if head.startswith(b"PK\x03\x04"):
        return _in_memory(path, _npz(path))
    if head.startswith(b"MATLAB 5.0"):
        return _in_memory(path, _mat5(path))
    with suppress(OSError):
        # refused for a file that is being written: tried again below, where the reason is reported
        return h5py.File(path, "r")
    try:
        return h5py.File(path, "r", swmr=True)
    except OSError as error:
        raise FormatError(
            f"{path}: not a readable HDF5 file ({error}); a scan that has just begun becomes readable in a moment, and of "
            "one that was not finished `streamptycho recover` tells more"
        ) from error


def axes_reversed(dataset: Any) -> bool:
    """Whether the axes of a dataset are stored last first, as MATLAB does."""
    return MATLAB in dataset.attrs and dataset.ndim > 1


def complex_of(dataset: Any) -> Any:
    """The values of a dataset, complex where it has pairs named real and imag, as MATLAB stores them."""
    values = dataset[()]
    if values.dtype.names is not None and set(values.dtype.names) == _COMPLEX:
        values = values["real"] + 1j * values["imag"]
    return values.T if axes_reversed(dataset) else values


def _in_memory(path: Path, arrays: Mapping[str, Any]) -> h5py.File:
    """The arrays as datasets of a file that exists in memory only, under the name of `path`."""
    file = h5py.File(str(path), "w", driver="core", backing_store=False)
    for name, value in arrays.items():
        array = np.asarray(value)
        if array.dtype.kind in "iufcb":
            file.create_dataset(name, data=array)
        elif array.dtype.kind in "US" and array.size == 1:
            file[name] = str(array.reshape(-1)[0])
    return file


def _npz(path: Path) -> dict[str, Any]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise FormatError(f"{path}: not a NumPy archive of plain arrays ({error}); save it without objects") from error


def _mat5(path: Path) -> dict[str, Any]:
    import scipy.io

    try:
        found: dict[str, Any] = scipy.io.loadmat(path, struct_as_record=True)
    except (OSError, ValueError, NotImplementedError, TypeError) as error:
        raise FormatError(f"{path}: MATLAB file cannot be read ({error}); save it with -v7.3") from error
    return {name: value for name, value in found.items() if not name.startswith("__")}
