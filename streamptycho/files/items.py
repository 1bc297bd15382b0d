"""What files are made of: numbers with units, texts of fixed length, groups that NeXus viewers know how to plot."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from streamptycho import __version__

ENTRY = "/entry_1"
TEXT = 64
"""Bytes of a short text that is filled in at the end of the growing file."""
ROW_CHUNK = 1024
TILE = 256
"""Side of the square pieces in which pictures are stored."""
SMALL: Mapping[str, Any] = {"compression": "gzip", "compression_opts": 1, "shuffle": True}
"""How pictures are stored: any program with HDF5 can read it."""


def put(
    file: h5py.File, path: str, value: Any, units: str = "", storage: Mapping[str, Any] | None = None, **attributes: str
) -> Any:
    """A dataset of `value`, text of fixed length included, with its unit; attributes that are empty are left out.

    storage : as for ``create_dataset``.
    """
    if isinstance(value, str):
        value = np.array(value.encode(), h5py.string_dtype("utf-8", len(value.encode()) or 1))
    dataset = file.create_dataset(path, data=value, **(storage or {}))
    dataset.attrs.update({name: words for name, words in {"units": units, **attributes}.items() if words})
    return dataset


def grow(file: h5py.File, path: str, shape: tuple[int, ...], dtype: Any, units: str = "", **more: Any) -> Any:
    """An empty dataset which grows along the axes of length 0; `more` as for ``create_dataset``."""
    more = {"chunks": tuple(n or ROW_CHUNK for n in shape), "maxshape": tuple(n or None for n in shape)} | more
    dataset = file.create_dataset(path, shape, dtype, **more)
    if units:
        dataset.attrs["units"] = units
    return dataset


def texts(size: int, shape: tuple[int, ...] = ()) -> NDArray[Any]:
    """Empty texts with room for `size` bytes each."""
    return np.zeros(shape, h5py.string_dtype("utf-8", size))


def update(dataset: h5py.Dataset, value: Any) -> None:
    """Set a number of the growing file, at once for readers."""
    dataset.id.write(h5py.h5s.ALL, h5py.h5s.ALL, np.array(value, dataset.dtype))
    dataset.flush()


def fixed(value: str, size: int) -> bytes:
    """UTF-8 of at most `size` bytes. A longer text is cut, ends between characters, and says how long it was."""
    raw = value.encode()
    if len(raw) <= size:
        return raw
    mark = f" [cut, {len(raw)} bytes in all]".encode()
    return raw[: size - len(mark)].decode(errors="ignore").encode() + mark


def make_group(file: h5py.File, path: str, kind: str) -> Any:
    """The group of that NeXus class."""
    made = file.require_group(path)
    made.attrs["NX_class"] = kind
    return made


def make_plot(file: h5py.File, path: str, signal: str, axes: tuple[str, ...] = (), also: tuple[str, ...] = ()) -> Any:
    """A group that viewers plot: the dataset `signal` over `axes`, and `also` over the same."""
    made = make_group(file, path, "NXdata")
    made.attrs["signal"] = signal
    if axes:
        made.attrs["axes"] = list(axes)
    if also:
        made.attrs["auxiliary_signals"] = list(also)
    return made


def make_image(file: h5py.File, path: str, signal: str, axes: tuple[str, ...], also: tuple[str, ...] = ()) -> None:
    """The group of a complex picture in real space, as CXI has it."""
    make_plot(file, path, signal, axes, also)
    put(file, f"{path}/is_fft_shifted", 0)
    put(file, f"{path}/data_type", "amplitude")
    put(file, f"{path}/data_space", "real")


def link(file: h5py.File, path: str, **names: str) -> None:
    """Soft links below `path`, name to target."""
    for name, target in names.items():
        file[f"{path}/{name}"] = h5py.SoftLink(target)


def sign(file: h5py.File, title: str, default: str) -> None:
    """The root of a CXI file of one entry, whose group `default` viewers plot, and the program that writes it."""
    file.attrs.update(NX_class="NXroot", default="entry_1", creator="streamptycho", creator_version=__version__)
    file["cxi_version"] = 160
    file["number_of_entries"] = 1
    make_group(file, ENTRY, "NXentry").attrs["default"] = default
    put(file, f"{ENTRY}/title", title)
    process = make_group(file, f"{ENTRY}/process_1", "NXprocess").name
    for name, value in (("program", "streamptycho"), ("version", __version__), ("date", datetime.now(UTC).isoformat())):
        put(file, f"{process}/{name}", value)
