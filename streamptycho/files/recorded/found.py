"""Which layout a file has, and what is at the places of that layout."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

from streamptycho.errors import FormatError
from streamptycho.files.options import ReadOptions
from streamptycho.files.paths import dataset_at, text
from streamptycho.files.recorded.layouts import LAYOUTS, Layout, Place
from streamptycho.files.recorded.quantities import Reading, parse_number, same

_REGIMES = ("propagation", "propagator", "regime")
"""Parts of names of what says how far the detector is."""
_DEEPEST = 12
_NO = ("", "0", "false", "no", "none")


@dataclass(frozen=True, slots=True)
class Found:
    """A file, the layout that it has, and the entry of it that is read."""

    file: h5py.File
    layout: Layout
    entry: str = "entry_1"

    def find(self, *paths: str) -> Any | None:
        """First of the datasets that exists; links that lead nowhere count as absent."""
        for path in paths:
            for _, item in self.parts(path):
                if item is not None:
                    return item
        return None

    def parts(self, path: str) -> list[tuple[str, Any | None]]:
        """Names and datasets of a path; a ``*`` in it stands for the numbers of a series, in their order.

        A link that leads nowhere has no dataset; what is no dataset is left out.
        """
        path = path.replace("{entry}", self.entry)
        before, mark, after = path.partition("*")
        if not mark:
            return [(path, dataset_at(self.file, path))]
        folder, _, prefix = before.rpartition("/")
        group = self.file.get(folder or "/")
        names = [name for name in group or () if re.fullmatch(re.escape(prefix) + r"\d+", name)]
        names.sort(key=lambda name: int(name.removeprefix(prefix)))
        return [(path, dataset_at(self.file, path)) for path in (f"{folder}/{name}{after}" for name in names)]

    def readings(self, places: Iterable[Place]) -> Iterator[tuple[Place, Any]]:
        """Places that the file has, each with its dataset, or with the value of its attribute."""
        for place in places:
            path, mark, name = place.path.partition("@")
            if not mark:
                if (dataset := self.find(path)) is not None:
                    yield place, dataset
            elif name in self.file[path].attrs:
                yield place, self.file[path].attrs[name]

    def text(self, *paths: str) -> str:
        """The texts at these places, in lower case."""
        return " ".join(text(dataset[()]).lower() for path in paths if (dataset := self.find(path)) is not None)


def layout_of(file: h5py.File, options: ReadOptions) -> Found:
    """Layout of a file. Raises FormatError that says what the file has instead, or asks which of several entries it is."""
    entries = [name for name in sorted(file) if file.get(name, getclass=True) is h5py.Group]
    if options.entry is not None:
        if options.entry not in entries:
            raise FormatError(
                f"{file.filename}: has no entry {options.entry!r}; set read.entry to one of {', '.join(entries)}"
            )
        entries = [options.entry]
    for layout in LAYOUTS:
        by_entry = any("{entry}" in path for path in layout.frames)
        found = [Found(file, layout, entry) for entry in (entries if by_entry else [""])]
        found = [one for one in found if one.find(*layout.frames) is not None]
        if len(found) > 1:
            names = ", ".join(one.entry for one in found)
            raise FormatError(f"{file.filename}: {names} have frames each; set read.entry to the one that is meant")
        if found:
            return found[0]
    if options.frames is not None:
        candidates = [Found(file, layout, entry) for layout in LAYOUTS for entry in entries or [""]]
        return max(candidates, key=_content)
    raise FormatError(f"{file.filename}: {_instead(file)}")


def _content(found: Found) -> int:
    """How much of a layout a file has besides frames."""
    layout = found.layout
    places = (*layout.energy, *layout.wavelength, *layout.distance, *layout.pixel_x, *layout.object_pixel)
    rows = [path for place in layout.positions for path in place.paths]
    return sum(1 for _ in found.readings(places)) + sum(found.find(path) is not None for path in (*rows, *layout.mask))


def _instead(file: h5py.File) -> str:
    """What a file without frames has."""
    lost = [missing for path in _links(file) if (missing := missing_file(file, path))]
    if lost:
        return f"its frames should be in {lost[0]}, which is not there; bring it, or correct the link"
    if any(path in file for path in ("/object", "/content/obj", "/entry_1/image_1")):
        return "holds a result and no frames; a result is shown by `inspect` and compared, not reconstructed"
    large = sorted(_stacks(file))[:8]
    top = ", ".join(sorted(file)[:12]) or "nothing"
    there = f"stacks of pictures are at {', '.join(large)}" if large else "no dataset has three axes"
    return f"no frames where a known layout has them. At the top there is {top}; {there}; set read.frames = 'FILE::/path'"


def refuse_near_field(found: Found) -> None:
    """Raise FormatError if the file itself says that its patterns are not of the far field."""
    for path, item in _walk(found.file):
        if (place := _says_near_field(path, item)) is not None:
            raise FormatError(
                f"{found.file.filename}: {place} says near field, and only patterns of the far field are reconstructed"
            )


def _walk(group: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Paths and items below a group, without those of other files: ``visititems`` of h5py 3.16 garbles names at times."""
    for name in group:
        if isinstance(group.get(name, getlink=True), h5py.HardLink) and path.count("/") < _DEEPEST:
            item = group[name]
            yield f"{path}/{name}", item
            if isinstance(item, h5py.Group):
                yield from _walk(item, f"{path}/{name}")


def _says_near_field(path: str, item: Any) -> str | None:
    words = [(path, item)] if isinstance(item, h5py.Dataset) and item.size == 1 and item.dtype.kind in "SOUbiu" else []
    words += [(f"{path}@{attribute}", value) for attribute, value in item.attrs.items()]
    for place, value in words:
        key = re.sub(r"[\W_]", "", place.rpartition("/")[2]).lower()
        if "nearfield" in key or any(about in key for about in _REGIMES):
            said = re.sub(r"[\W_]", "", text(value[()] if isinstance(value, h5py.Dataset) else value)).lower()
            if "nearfield" in said or "fresnel" in said or ("nearfield" in key and said not in _NO):
                return place
    return None


def _stacks(file: h5py.File) -> list[str]:
    found = ((path, item) for path, item in _walk(file) if isinstance(item, h5py.Dataset))
    return [f"{path} {item.shape}" for path, item in found if item.ndim == 3 and item.dtype.kind in "iufb"]


def _links(file: h5py.File) -> Iterator[str]:
    for name in file:
        for layout in LAYOUTS:
            for path in layout.frames:
                for part, dataset in Found(file, layout, name).parts(path):
                    if dataset is None and file.get(part, getlink=True) is not None:
                        yield part


def missing_file(file: h5py.File, path: str) -> str | None:
    """Name of the file behind an external link that leads nowhere, with the path in it; None for anything else."""
    if file.get(path) is not None:
        return None
    link = file.get(path, getlink=True)
    if isinstance(link, h5py.ExternalLink):
        return f"{link.filename}::{link.path}"
    return f"{link.path}" if isinstance(link, h5py.SoftLink) else None


def unit_of(dataset: Any) -> str | None:
    """The ``units`` attribute as text, None if absent or empty."""
    attributes = getattr(dataset, "attrs", {})
    return next(
        (said for name in ("units", "unit") if name in attributes and (said := text(attributes[name]).strip())), None
    )


def reading(place: Place, found: Any, option: str, axis: int = 0) -> Reading:
    """The number of a place, see :func:`number`. Raises FormatError that names ``read.OPTION``."""
    try:
        return number(found, axis, place.path)
    except FormatError as error:
        raise FormatError(f"{error}; set read.{option}") from error


def number(found: Any, axis: int = 0, path: str = "") -> Reading:
    """A number of a dataset, or of the value of an attribute at `path`: a scalar, element `axis` of a pair, one value for
    each frame if all are equal, or a text with a unit. Raises FormatError for anything else.
    """
    name = str(getattr(found, "name", path))
    value = np.asarray(found[()] if isinstance(found, h5py.Dataset) else found)
    unit = unit_of(found)
    if value.dtype.kind in "SOU" and value.size == 1:
        parsed = parse_number(text(value))
        if parsed is None:
            raise FormatError(f"{name}: {text(value)!r:.60} is not a number")
        return Reading(name, parsed[0], unit or parsed[1])
    if value.dtype.kind not in "fiu" or not value.size:
        raise FormatError(f"{name}: shape {value.shape} {value.dtype} is not a number")
    values = value.reshape(-1).astype(np.float64)
    if len(values) > 2 and not same(values):
        said = f"{len(values)} values from {values.min():.9g} to {values.max():.9g}"
        raise FormatError(f"{name}: {said}, but one is needed")
    return Reading(name, float(values[axis if len(values) == 2 else 0]), unit)
