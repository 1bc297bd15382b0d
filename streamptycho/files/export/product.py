"""A picture as ptychodus keeps it in its own HDF5 file, with the positions at which the beam was found to stand."""

from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from streamptycho.errors import FormatError
from streamptycho.files.export.material import Material, write_whole
from streamptycho.files.items import SMALL


def write_product(path: Path, there: Material) -> None:
    """Write the product; positions are in the coordinates of the picture. Raises FormatError where any of it is missing."""
    index, yx_m = _positions(there)
    write_whole(path, lambda file: _fill(file, there, index, yx_m))


def _positions(there: Material) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(n,) frames and (n, 2) positions (y, x), metres, in the coordinates of the picture: refined where they are."""
    estimates = there.need_result.report.estimates
    if estimates is None:
        raise FormatError(f"{there.path}: keeps no positions with its picture; reconstruct it anew")
    refined = estimates.refined_yx_m
    return estimates.index, estimates.recorded_yx_m if refined is None else refined


def _fill(file: h5py.File, there: Material, index: NDArray[np.int64], yx_m: NDArray[np.float64]) -> None:
    result = there.need_result
    geometry = there.need_scan.geometry
    pixel_y, pixel_x = result.pixel_m
    middle_y, middle_x = np.asarray(result.origin_m) + np.multiply(result.pixel_m, np.subtract(result.object.shape, 1)) / 2
    assessment = result.report.assessment
    file.attrs.update(
        name=there.title,
        comments=assessment.verdict if assessment is not None else "",
        detector_object_distance_m=geometry.distance_m,
        photon_energy_eV=geometry.energy_ev,
        probe_photon_count=float((np.abs(result.probe) ** 2).sum()),
        far_field=True,
    )
    picture = file.create_dataset("object", data=result.object[None], **SMALL)
    picture.attrs.update(pixel_width_m=pixel_x, pixel_height_m=pixel_y, center_x_m=middle_x, center_y_m=middle_y)
    probe = file.create_dataset("probe", data=result.probe[None], **SMALL)
    probe.attrs.update(pixel_width_m=pixel_x, pixel_height_m=pixel_y)
    file["probe_position_indexes"] = index
    file["probe_position_x_m"], file["probe_position_y_m"] = yx_m[:, 1], yx_m[:, 0]
    file["loss_epochs"] = np.arange(1, len(result.error_per_iteration) + 1)
    file["loss_values"] = result.error_per_iteration.astype(np.float64)
