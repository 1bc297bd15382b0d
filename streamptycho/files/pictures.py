"""Object, probe and errors, at the same places in the growing file and in the result.

The datasets are below ``/object``, ``/probe`` and ``/metrics``; what CXI readers look for below ``/entry_1/image_1`` is the
same under a second name: a hard link, which a reader cannot tell from the first.
"""

from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from streamptycho.files.fields import SENTENCE, Field, create_fields, fill_fields, known, numbers, write_fields
from streamptycho.files.items import ENTRY, link, make_image, make_plot, put, texts
from streamptycho.messages.results import Snapshot

IMAGE = f"{ENTRY}/image_1"
PROBE = f"{ENTRY}/image_2"
_SECOND = {
    IMAGE: {"data": "object/complex", "data_phase": "object/phase", "data_amplitude": "object/amplitude",
            "covered": "object/covered", "y": "object/y", "x": "object/x"},
    PROBE: {"data": "probe/complex", "intensity": "probe/intensity", "y": "probe/y", "x": "probe/x"},
}  # fmt: skip
_PIXEL = "nan where pixels are not square: image_1/pixel_size has both"


def _along(axis: int) -> Any:
    def values(snapshot: Snapshot) -> NDArray[np.float64]:
        pixels = np.arange(snapshot.object.shape[axis], dtype=np.float64)
        return pixels * snapshot.pixel_m[axis] + snapshot.origin_m[axis]

    return values


def _across(axis: int) -> Any:
    def values(snapshot: Snapshot) -> NDArray[np.float64]:
        n: int = snapshot.probe.shape[1 + axis]
        return np.arange(-(n // 2), n - n // 2, dtype=np.float64) * snapshot.pixel_m[axis]

    return values


_FLOAT, _COMPLEX, _AXIS = numbers(np.float32, 2), numbers(np.complex64, 2), numbers(np.float64)
FIELDS: tuple[Field[Snapshot], ...] = (
    Field("object/complex", _COMPLEX, "object", "1", "transmission", "object"),
    Field("object/phase", _FLOAT, lambda s: np.angle(s.object), "rad", "", "phase of the object"),
    Field("object/amplitude", _FLOAT, lambda s: np.abs(s.object), "1", "", "amplitude of the object"),
    Field("object/covered", numbers(np.uint8, 2), "covered", "", "1 where the beam has been"),
    Field("object/y", _AXIS, _along(0), "m", "", "y"),
    Field("object/x", _AXIS, _along(1), "m", "", "x"),
    Field("probe/complex", _COMPLEX, lambda s: s.probe[0], "", "strongest mode", "probe"),
    Field("probe/modes", numbers(np.complex64, 3), "probe", "", "strongest first", "modes of the probe"),
    Field("probe/intensity", _FLOAT, lambda s: (np.abs(s.probe) ** 2).sum(axis=0), "counts", "all modes together",
          "intensity of the probe"),
    Field("probe/y", _AXIS, _across(0), "m", "", "y"),
    Field("probe/x", _AXIS, _across(1), "m", "", "x"),
    Field("metrics/error_per_iteration", numbers(np.float32), "error_history", "1",
          "sum (|model| - sqrt(counts))^2 / sum counts", "Fourier error"),
    Field("metrics/iteration", numbers(np.int64), lambda s: np.arange(1, len(s.error_history) + 1), "", "",
          "pass over all frames"),
    Field("metrics/n_iterations", np.array(0), lambda s: len(s.error_history)),
    Field("metrics/error", np.array(np.nan), "error", "1", "over the latest visit of each frame"),
    Field("metrics/algorithm", texts(SENTENCE), "algorithm"),
    Field(f"{IMAGE[1:]}/data_real", _FLOAT, lambda s: s.object.real, "1", "", "real part of the object"),
    Field(f"{IMAGE[1:]}/data_imag", _FLOAT, lambda s: s.object.imag, "1", "", "imaginary part of the object"),
)  # fmt: skip


def create(file: h5py.File) -> None:
    """All of it, empty: at the end of the scan nothing may be created any more."""
    create_fields(file, "", FIELDS)
    put(file, "object/pixel_size", np.nan, "m", meaning=_PIXEL)
    _sizes(file, np.full(2, np.nan), np.full(2, np.nan), np.full(3, np.nan))
    _make_plots(file)


def fill(file: h5py.File, snapshot: Snapshot) -> None:
    """Put a picture into what :func:`create` made."""
    fill_fields(file, "", known(FIELDS, snapshot))
    file["object/pixel_size"][()] = snapshot.pixel_m[0] if _is_square(snapshot) else np.nan
    file[f"{IMAGE}/pixel_size"][...] = snapshot.pixel_m
    file[f"{IMAGE}/origin"][...] = snapshot.origin_m
    file[f"{IMAGE}/image_size"][...] = _size(snapshot)


def write(file: h5py.File, snapshot: Snapshot) -> None:
    """The picture, in a file that has nothing of it."""
    empty = {field.path: field.empty for field in FIELDS}
    write_fields(file, "", known(FIELDS, snapshot))
    for name in ("error_per_iteration", "iteration"):  # before the first pass, too, readers find them
        if f"metrics/{name}" not in file:
            put(file, f"metrics/{name}", empty[f"metrics/{name}"])
    # one number where the pixels are square, as most readers expect; (y, x) where they are not
    put(file, "object/pixel_size", snapshot.pixel_m[0] if _is_square(snapshot) else snapshot.pixel_m, "m")
    _sizes(file, snapshot.pixel_m, snapshot.origin_m, _size(snapshot))
    _make_plots(file)


def _make_plots(file: h5py.File) -> None:
    """Second names, and what viewers plot."""
    make_plot(file, "object", "phase", ("y", "x"), ("amplitude",))
    make_plot(file, "probe", "intensity", ("y", "x"))
    make_plot(file, "metrics", "error_per_iteration", ("iteration",))
    make_image(file, IMAGE, "data_phase", ("y", "x"), ("data_amplitude",))
    make_image(file, PROBE, "intensity", ("y", "x"))
    for image, names in _SECOND.items():
        for name, target in names.items():
            file[f"{image}/{name}"] = file[target]
    link(file, ENTRY, object="/object", probe="/probe", metrics="/metrics")


def _is_square(snapshot: Snapshot) -> bool:
    return bool(np.isclose(*snapshot.pixel_m, rtol=1e-6))


def _size(snapshot: Snapshot) -> tuple[float, float, float]:
    height, width = np.multiply(snapshot.pixel_m, snapshot.object.shape).tolist()
    return width, height, 0.0


def _sizes(file: h5py.File, pixel_m: Any, origin_m: Any, size_m: Any) -> None:
    put(file, f"{IMAGE}/pixel_size", pixel_m, "m", order="y,x")
    put(file, f"{IMAGE}/origin", origin_m, "m", order="y,x")
    put(file, f"{IMAGE}/image_size", size_m, "m", order="x,y,z")
