"""Pictures as TIFF, and everything as a NumPy archive."""

import json
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from streamptycho.errors import ScanError
from streamptycho.files.durable.disk import part_of
from streamptycho.files.export.material import Material

_DESCRIPTION, _SOFTWARE, _X_RESOLUTION, _Y_RESOLUTION, _UNIT = 270, 305, 282, 283, 296
_PER_CM, _CM = 3, 1e-2


def tiff_paths(path: Path) -> tuple[Path, Path]:
    """Where :func:`write_tiffs` puts phase and amplitude."""
    stem = path.name.removesuffix(path.suffix)
    return path.with_name(f"{stem}.phase{path.suffix}"), path.with_name(f"{stem}.amplitude{path.suffix}")


def write_tiffs(path: Path, there: Material) -> tuple[Path, Path]:
    """Phase (rad) and amplitude as reconstructed, float32, with pixels per centimetre; where they are."""
    result = there.need_result
    paths = tiff_paths(path)
    for target, values, quantity, units in (
        (paths[0], np.angle(result.object), "phase", "rad"),
        (paths[1], np.abs(result.object), "amplitude", "1"),
    ):
        words: dict[str, Any] = {"scan": there.title, "quantity": quantity, "units": units, "algorithm": result.algorithm}
        words |= {"pixel_size_yx_m": result.pixel_m, "origin_yx_m": result.origin_m}
        tags = TiffImagePlugin.ImageFileDirectory_v2()
        tags[_DESCRIPTION], tags[_SOFTWARE] = json.dumps(words), result.report.program or "streamptycho"
        tags[_Y_RESOLUTION], tags[_X_RESOLUTION] = (_CM / pixel for pixel in result.pixel_m)
        tags[_UNIT] = _PER_CM
        image = Image.fromarray(np.ascontiguousarray(values, np.float32))
        _write(target, partial(_save_tiff, image, tags))
    return paths


def _save_tiff(image: Image.Image, tags: TiffImagePlugin.ImageFileDirectory_v2, path: Path) -> None:
    image.save(path, format="TIFF", tiffinfo=tags, compression="tiff_adobe_deflate")


def write_npz(path: Path, there: Material) -> None:
    """Everything under plain names: frames and instrument as PtyLab calls them, then the picture. One frame is in memory."""
    arrays: dict[str, Any] = {}
    if there.scan is not None:
        scan, geometry = there.scan, there.scan.geometry
        square = np.isclose(*geometry.pitch_m, rtol=1e-6)
        arrays |= {"encoder": there.xyz_m[:, 1::-1], "wavelength": geometry.wavelength_m, "zo": geometry.distance_m}
        arrays |= {"dxd": geometry.pitch_m[0] if square else geometry.pitch_m, "energy_ev": geometry.energy_ev}
        arrays |= {"radiation": geometry.radiation.value, "frame_index": there.rows}
        arrays |= {} if scan.valid is None else {"valid": scan.valid}
        arrays |= {} if scan.dark is None else {"background": scan.dark}
    if there.result is not None:
        result = there.result
        arrays |= {"object": result.object, "probe": result.probe, "object_pixel_yx_m": result.pixel_m}
        arrays |= {"object_origin_yx_m": result.origin_m, "error_per_iteration": result.error_per_iteration}
        arrays |= {} if result.covered is None else {"covered": result.covered}
    _write(path, lambda part: _fill_npz(part, there, arrays))


def _fill_npz(path: Path, there: Material, arrays: dict[str, Any]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, values in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as out:
                npy.write_array(out, np.asarray(values), allow_pickle=False)
        if there.scan is not None:
            _put_frames(archive, there.scan, there.rows)


def _put_frames(archive: zipfile.ZipFile, scan: Any, rows: NDArray[np.int64]) -> None:
    shape = (len(rows), *scan.geometry.frame_shape)
    header = {"descr": npy.dtype_to_descr(scan.dtype), "fortran_order": False, "shape": shape}
    with archive.open("ptychogram.npy", "w", force_zip64=True) as out:
        npy.write_array_header_1_0(out, header)
        for row in rows:
            out.write(np.ascontiguousarray(scan.frame(int(row)), scan.dtype).tobytes())


def _write(path: Path, save: Callable[[Path], None]) -> None:
    """Whole under its name, or a ScanError that names it."""
    unfinished = part_of(path)
    try:
        save(unfinished)
        unfinished.replace(path)
    except OSError as error:
        raise ScanError(f"{path}: cannot be written ({error}); free disk space or write elsewhere") from error
    finally:
        unfinished.unlink(missing_ok=True)
