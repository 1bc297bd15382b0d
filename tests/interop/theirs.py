"""What other people's programs find in our files; runs in their environments, and prints JSON.

``python theirs.py PROGRAM FILE``: one function a program, which uses what that program has for users and nothing of ours.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np


def silx(path: Path) -> dict[str, Any]:
    import hdf5plugin  # noqa: F401
    import silx.io
    from silx.io.nxdata import get_default

    with silx.io.open(str(path)) as file:
        found = get_default(file)
        signal = found.signal
        return {"valid": found.is_valid, "signal": signal.name, "shape": list(signal.shape), "axes": found.axes_names}


def nexusformat(path: Path) -> dict[str, Any]:
    from nexusformat.nexus import nxload

    found = nxload(str(path)).plottable_data
    return {"plot": found.nxpath, "signal": found.nxsignal.nxname, "shape": list(found.nxsignal.shape)}


def nexusformat_validates(path: Path) -> dict[str, Any]:
    """Its validator takes the definition that the entry names."""
    from nexusformat.nexus.validate import validate_application

    warnings, errors = validate_application(str(path), path="/entry_1")
    return {"warnings": warnings, "errors": errors}


def _array(values: Any) -> dict[str, Any]:
    values = np.asarray(values)
    total = values.sum()
    return {"shape": list(values.shape), "sum": [float(abs(values).sum()), float(total.real), float(total.imag)]}


def _product(found: Any) -> dict[str, Any]:
    places, geometry = found.probe_positions, found.object_.get_geometry()
    return {
        "energy_ev": found.metadata.photon_energy_eV,
        "distance_m": found.metadata.detector_distance_m,
        "probe": _array(found.probes.get_array()),
        "object": _array(found.object_.get_array()),
        "x_m": places.get_coordinates_x_m().tolist(),
        "y_m": places.get_coordinates_y_m().tolist(),
        "pixel_m": [geometry.pixel_height_m, geometry.pixel_width_m],
        "center_m": [geometry.center_y_m, geometry.center_x_m],
    }


def ptychodus_diffraction(path: Path) -> dict[str, Any]:
    from ptychodus.plugins.cxi_file import CXIDiffractionFileReader

    found = CXIDiffractionFileReader().read(path)
    about, bad = found.get_metadata(), found.get_bad_pixels()
    pixel = about.detector_pixel_geometry
    return {
        "energy_ev": about.photon_energy_eV,
        "distance_m": about.detector_distance_m,
        "pitch_m": [pixel.height_m, pixel.width_m],
        "bad": int(bad.sum()),
        "frames": _array(np.concatenate([part.get_patterns() for part in found])),
    }


def ptychodus_product(path: Path) -> dict[str, Any]:
    from ptychodus.plugins.cxi_file import CXIProductFileIO
    from ptychodus.plugins.h5_product_file import H5ProductFileIO

    return _product((CXIProductFileIO() if path.suffix == ".cxi" else H5ProductFileIO()).read(path))


def ptychodus_writes(path: Path) -> dict[str, Any]:
    """Its own CXI writer, from what it has read of our strict view."""
    from ptychodus.plugins.cxi_file import CXIDiffractionFileReader, CXIDiffractionFileWriter

    CXIDiffractionFileWriter().write(path.with_name("theirs.cxi"), CXIDiffractionFileReader().read(path))
    return {}


def ptychodus_aps(path: Path) -> dict[str, Any]:
    from ptychodus.plugins.aps09id_cssi_position_file import CSSIPositionFileReader
    from ptychodus.plugins.fold_slice.position_file import FoldSlicePositionFileReader

    found = [reader().read(path) for reader in (CSSIPositionFileReader, FoldSlicePositionFileReader)]
    x_m, y_m = ([getattr(one, f"get_coordinates_{axis}_m")().tolist() for one in found] for axis in "xy")
    return {"x_m": x_m, "y_m": y_m}


def cdtools(path: Path) -> dict[str, Any]:
    import hdf5plugin  # noqa: F401
    from cdtools.datasets import Ptycho2DDataset

    found = Ptycho2DDataset.from_cxi(str(path))
    return {
        "wavelength_m": float(found.wavelength),
        "distance_m": float(found.detector_geometry["distance"]),
        "good": int(found.mask.sum()),
        "frames": _array(found.patterns.numpy()),
        "xyz_m": found.translations.numpy().tolist(),
    }


def cdtools_writes(path: Path) -> dict[str, Any]:
    """Its own writer, from what it has read of our strict view."""
    import hdf5plugin  # noqa: F401
    from cdtools.datasets import Ptycho2DDataset

    Ptycho2DDataset.from_cxi(str(path)).to_cxi(str(path.with_name("theirs.cxi")))
    return {}


def ptylab(path: Path) -> dict[str, Any]:
    from PtyLab.ExperimentalData.ExperimentalData import ExperimentalData

    found = ExperimentalData(path, operationMode="CPM")
    return {
        "frames": _array(found.ptychogram),
        "wavelength_m": float(found.wavelength),
        "distance_m": float(found.zo),
        "pitch_m": float(found.dxd),
        "yx_m": np.asarray(found.encoder).tolist(),
    }


if __name__ == "__main__":
    print("\n" + json.dumps(globals()[sys.argv[1]](Path(sys.argv[2]))))
