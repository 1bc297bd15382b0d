"""A scan in the simple HDF5 layout of APS beamlines, with the names that ptychodus and PtyLab look for."""

from pathlib import Path

import h5py
import numpy as np

from streamptycho.files.export.material import Material, copy_frames, write_whole
from streamptycho.files.items import SMALL, make_plot, put


def write_aps(path: Path, there: Material) -> None:
    """Write frames, positions (micrometres) and instrument (metres, keV). Raises FormatError where there is no scan."""
    write_whole(path, lambda file: _fill(file, there))


def _fill(file: h5py.File, there: Material) -> None:
    scan, xyz_m = there.need_scan, there.xyz_m
    geometry = scan.geometry
    file.attrs["default"] = "exchange"
    make_plot(file, "exchange", "data", (".", ".", "."))
    copy_frames(file, "exchange/data", there).attrs["units"] = "counts"
    put(file, "exchange/positions_x", xyz_m[:, 0] * 1e6, "um", long_name="x")
    put(file, "exchange/positions_y", xyz_m[:, 1] * 1e6, "um", long_name="y")
    put(file, "exchange/motor_pos", xyz_m[:, :2] * 1e3, "mm")
    detector, square = "instrument/detector", np.isclose(*geometry.pitch_m, rtol=1e-6)
    put(file, f"{detector}/distance", geometry.distance_m, "m")
    if square:
        put(file, f"{detector}/pixel_size", geometry.pitch_m[0], "m")
    put(file, f"{detector}/y_pixel_size", geometry.pitch_m[0], "m")
    put(file, f"{detector}/x_pixel_size", geometry.pitch_m[1], "m")
    if scan.valid is not None:
        put(file, f"{detector}/mask", scan.valid.astype(np.uint8), "", SMALL, polarity="1=valid,0=masked")
    if scan.dark is not None:
        put(file, "exchange/data_dark", scan.dark, "counts", SMALL)
    put(file, "instrument/source/energy", geometry.energy_ev / 1e3, "keV")
    put(file, "instrument/source/wavelength", geometry.wavelength_m, "m")
    put(file, "instrument/source/probe", geometry.radiation.value.removesuffix("s"))
    theta = scan.metadata.get("theta")
    if isinstance(theta, int | float):
        put(file, "exchange/theta", np.array([theta]), "deg")
    # names of fold_slice and PtychoShelves
    file["dp"] = file["exchange/data"]
    put(file, "ppX", xyz_m[:, 0], "m")
    put(file, "ppY", xyz_m[:, 1], "m")
    put(file, "lambda", geometry.wavelength_m, "m")
    put(file, "dx", geometry.object_pixel_m(geometry.frame_shape)[1], "m")
    # names of PtyLab
    file["ptychogram"] = file["exchange/data"]
    put(file, "encoder", xyz_m[:, 1::-1], "m")
    file["wavelength"], file["zo"] = file["lambda"], file[f"{detector}/distance"]
    put(file, "dxd", geometry.pitch_m[1], "m")
