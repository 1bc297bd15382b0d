"""What each program of others would stumble on in a file, found by looking where it looks."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from streamptycho.errors import FormatError
from streamptycho.files.bslz4 import INSTEAD
from streamptycho.files.options import ReadOptions
from streamptycho.files.paths import DETECTOR, TRANSLATION, dataset_at, find, text
from streamptycho.files.recorded.containers import open_file
from streamptycho.files.recorded.masks import HAS_SIGNAL
from streamptycho.files.result import is_result, read_result
from streamptycho.files.scan import open_scan

_ENTRY = "/entry_1"
_FRAMES = (f"{_ENTRY}/data_1/data", f"{DETECTOR}/data", "/exchange/data", "/dp")
_ENERGY, _WAVELENGTH = f"{_ENTRY}/instrument_1/source_1/energy", f"{_ENTRY}/instrument_1/source_1/wavelength"
_STRICT = "give it the strict view, NAME.strict.cxi, which `streamptycho convert FILE NAME.strict.cxi` writes"
_JOULES = (1e-19, 1e-12)
"""Energies of photons and electrons in joules."""
_CHUNKS = 2000
"""Of so many at most is seen how they are stored."""
OURS = "streamptycho"


def verify(path: Path, options: ReadOptions | None = None) -> dict[str, list[str]]:
    """Program to the sentences on what it would stumble on; a program that finds nothing has none.

    Raises FormatError where the file is not there or not readable as HDF5.
    """
    path = Path(path)
    found: dict[str, list[str]] = {OURS: _ours(path, options)}
    with open_file(path) as file:
        for name, looks in _LOOKS.items():
            found[name] = [sentence for look in looks for sentence in look(file)]
    return found


def _ours(path: Path, options: ReadOptions | None) -> list[str]:
    try:
        if is_result(path):
            read_result(path)
            return []
        with open_scan(path, options) as scan:
            lost = [scan.understood["missing"]] if "missing" in scan.understood else []
            unplaced = int((~np.isfinite(scan.yx_m[scan.index]).all(axis=1)).sum())
            return lost + ([f"{unplaced} frames have no position"] if unplaced else [])
    except FormatError as error:
        return [str(error)]


def _plain_opening(file: h5py.File) -> Iterator[str]:
    with Path(file.filename).open("rb") as raw:
        head = raw.read(12)
    if head[8:9] in (b"\x02", b"\x03") and head[11:12] != b"\x00":
        yield "is being written, or its writer died: open it with swmr=True, or `streamptycho recover` it"
    if head[8:9] > b"\x03":
        yield f"superblock {head[8]} is newer than HDF5 1.14 reads: write it with libver=('v110', 'v110')"


def _plugin(file: h5py.File) -> Iterator[str]:
    frames = find(file, _FRAMES)
    if frames is None or frames.chunks is None:
        return
    properties = frames.id.get_create_plist()
    filters = [properties.get_filter(k)[0] for k in range(properties.get_nfilters())]
    foreign = [(k, number) for k, number in enumerate(filters) if number > h5py.h5z.FILTER_SCALEOFFSET]
    if not foreign:
        return
    count = min(frames.id.get_num_chunks(), _CHUNKS)
    masks = [frames.id.get_chunk_info(k).filter_mask for k in range(count)] if filters[:-1] == INSTEAD else [0]
    numbers = {number for mask in masks for k, number in foreign if not mask >> k & 1}
    if numbers:
        names = ", ".join(map(str, sorted(numbers)))
        yield f"frames need HDF5 filter {names}: `import hdf5plugin` before reading, or `streamptycho convert` them"


def _joules(file: h5py.File) -> Iterator[str]:
    energy = _number(file, _ENERGY)
    if _ENTRY not in file:
        yield "reads CXI, and this is none; convert it into NAME.strict.cxi"
    elif energy is None:
        yield f"no photon energy at {_ENERGY}"
    elif not _JOULES[0] < energy < _JOULES[1]:
        unit = file[_ENERGY].attrs.get("units", "no unit")
        yield f"reads {_ENERGY} = {energy:.6g} ({text(unit)}) as joules; {_STRICT}"


def _joules_or_wavelength(file: h5py.File) -> Iterator[str]:
    if _number(file, _WAVELENGTH) is None:
        yield from _joules(file)


def _zero_is_good(file: h5py.File) -> Iterator[str]:
    mask = find(file, (f"{DETECTOR}/mask",))
    if mask is None or mask.dtype.kind not in "biu" or not mask.size:
        return
    good = int(np.count_nonzero((mask[()].astype(np.int64) & ~HAS_SIGNAL) == 0))
    if 2 * good < mask.size:
        yield f"keeps {good} of {mask.size} pixels, those with 0 in {DETECTOR}/mask; {_STRICT}"


def _probe_first(file: h5py.File) -> Iterator[str]:
    first, second = (find(file, (f"{_ENTRY}/image_{k}/data",)) for k in (1, 2))
    if first is None or second is None:
        return
    if first.size and max(first.shape[-2:]) > max(second.shape[-2:]):
        yield f"takes {_ENTRY}/image_1, which is the object, for the probe; {_STRICT}, or convert it into NAME.product.h5"


def _rows_agree(file: h5py.File) -> Iterator[str]:
    frames, places = find(file, _FRAMES), find(file, (TRANSLATION,))
    if frames is None or places is None or places.ndim != 2 or places.shape[1] < 2:
        return
    if len(frames) != len(places):
        yield f"{len(frames)} frames and {len(places)} positions"
    unknown = int((~np.isfinite(places[:, :2]).all(axis=1)).sum())
    if unknown:
        yield f"{unknown} positions are nan, of frames without one; {_STRICT}"


def _three_rows(file: h5py.File) -> Iterator[str]:
    places = find(file, (TRANSLATION,))
    if places is not None and places.shape[:1] != (3,):
        yield f"wants {TRANSLATION} as (3, N), and it is {places.shape}"
    if _ENTRY in file and find(file, (f"{_ENTRY}/instrument_1/name",)) is None:
        yield f"needs {_ENTRY}/instrument_1/name"


def _there(file: h5py.File) -> Iterator[str]:
    for path in _FRAMES:
        link = file.get(path, getlink=True)
        if isinstance(link, h5py.ExternalLink) and find(file, (path,)) is None:
            yield f"{path} is in {link.filename}, which is not there; bring it"


def _default_plot(file: h5py.File) -> Iterator[str]:
    group: Any = file
    for _ in range(8):
        name = group.attrs.get("default")
        if name is None:
            break
        if text(name) not in group:
            yield f"{group.name}: default plot {text(name)!r} is not there"
            return
        group = group[text(name)]
    signal = text(group.attrs["signal"]) if "signal" in group.attrs else None
    if signal is None:
        yield "no default plot: no chain of attributes `default` leads to a group with a `signal`"
    elif (plotted := dataset_at(group, signal)) is None:
        yield f"{group.name}: signal {signal!r} is not there"
    elif len(np.atleast_1d(group.attrs.get("axes", []))) not in (0, plotted.ndim):
        yield f"{group.name}: `axes` does not name as many as {signal} has"


def _number(file: h5py.File, path: str) -> float | None:
    dataset = find(file, (path,))
    return float(dataset[()]) if dataset is not None and dataset.shape == () and dataset.dtype.kind in "fiu" else None


_Look = Callable[[h5py.File], Iterator[str]]
_LOOKS: dict[str, tuple[_Look, ...]] = {
    "h5py": (_plain_opening, _plugin, _there),
    "ptychodus": (_plain_opening, _there, _joules, _zero_is_good, _probe_first, _rows_agree),
    "cdtools": (_plain_opening, _there, _plugin, _joules_or_wavelength, _zero_is_good, _rows_agree),
    "PyNX": (_plain_opening, _there, _plugin, _joules, _zero_is_good, _three_rows),
    "silx and NeXus viewers": (_default_plot,),
}
