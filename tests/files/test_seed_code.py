"""The code with which people load such files, as it is printed in the description of the formats, on what we write."""

import shutil

import h5py
import numpy as np
import pytest

from streamptycho.files.result import write_result
from streamptycho.files.writer import CxiWriter
from tests.files.bare import bare
from tests.files.factories import DISTANCE_M, ENERGY_EV, PITCH_M, outcome, pixels, positions, raw, snapshot, start

LOADING = """
import h5py
import numpy as np

# Load CXI format
with h5py.File('scan_ptycho.cxi', 'r') as f:
    # Diffraction patterns
    patterns = f['/entry_1/data_1/data'][:]
    print(f"Patterns: {patterns.shape}")  # (Npos, Ny, Nx)

    # Scan positions (meters → micrometers)
    positions = f['/entry_1/sample_1/geometry_1/translation'][:] * 1e6
    pos_x = positions[:, 0]
    pos_y = positions[:, 1]

    # Detector parameters
    distance = f['/entry_1/instrument_1/detector_1/distance'][()]
    pixel_size = f['/entry_1/instrument_1/detector_1/x_pixel_size'][()]
    energy_eV = f['/entry_1/instrument_1/source_1/energy'][()]

    # Wavelength
    wavelength = 12398.4 / energy_eV * 1e-10  # eV → meters

    # Pixel size in reconstruction
    N = patterns.shape[-1]
    dx_recon = wavelength * distance / (N * pixel_size)
    print(f"Reconstruction pixel size: {dx_recon*1e9:.1f} nm")

# Load reconstructed image
with h5py.File('reconstruction.cxi', 'r') as f:
    phase = f['/entry_1/image_1/data_phase'][:]
    amplitude = f['/entry_1/image_1/data_amplitude'][:]

    # Complex object
    obj = amplitude * np.exp(1j * phase)

np.savez('loaded.npz', **{name: globals()[name] for name in
    'patterns pos_x pos_y distance pixel_size energy_eV wavelength dx_recon obj'.split()})
"""
FRAMES = 6
FINAL = snapshot(4, final=True, pixel_m=(28e-9, 28e-9))
PROBE = snapshot(1, modes=1).probe
START = start(probe=PROBE)


def finished(folder):
    """A scan with its result."""
    path, result = folder / "scan.cxi", folder / "scan.result.h5"
    whole = outcome(FINAL, start=START)
    with CxiWriter(path, START) as writer:
        writer.append(raw(pixels(FRAMES), list(range(FRAMES))))
        writer.positions(positions(list(range(FRAMES))))
        writer.finish(whole)
    write_result(result, whole)
    return path, result


@pytest.mark.parametrize("picture", [0, 1], ids=["growing", "result"])
def test_it_runs_and_gives_what_was_written(tmp_path, picture):
    files = finished(tmp_path)
    shutil.copy(files[0], tmp_path / "scan_ptycho.cxi")
    shutil.copy(files[picture], tmp_path / "reconstruction.cxi")
    said = bare(LOADING, tmp_path)
    pixel_m = 12398.4 / ENERGY_EV * 1e-10 * DISTANCE_M / (24 * 2 * PITCH_M)
    assert said == f"Patterns: (6, 16, 24)\nReconstruction pixel size: {pixel_m * 1e9:.1f} nm\n"
    with np.load(tmp_path / "loaded.npz") as found:
        assert np.array_equal(found["patterns"], pixels(FRAMES))
        yx_m = positions(list(range(FRAMES))).yx_m
        assert np.allclose(np.stack([found["pos_y"], found["pos_x"]], 1), yx_m * 1e6, rtol=0, atol=1e-9)
        assert found["energy_eV"] == pytest.approx(ENERGY_EV)
        assert found["distance"] == DISTANCE_M
        assert found["pixel_size"] == 2 * PITCH_M
        assert np.allclose(found["obj"], FINAL.object, rtol=1e-5)


@pytest.mark.parametrize("kind", [0, 1], ids=["growing", "result"])
def test_all_names_of_the_description_are_there(tmp_path, kind):
    with h5py.File(finished(tmp_path)[kind]) as file:
        image = file["/entry_1/image_1"]
        for name, part in (("real", FINAL.object.real), ("imag", FINAL.object.imag), ("phase", np.angle(FINAL.object)),
                           ("amplitude", np.abs(FINAL.object))):  # fmt: skip
            assert isinstance(image.get(f"data_{name}", getlink=True), h5py.HardLink)
            assert image[f"data_{name}"].dtype == np.float32
            assert np.array_equal(image[f"data_{name}"][()], part), name
        assert np.array_equal(file["/object/complex"][()], FINAL.object)
        assert np.array_equal(file["/object/phase"][()], np.angle(FINAL.object))
        assert np.array_equal(file["/object/amplitude"][()], np.abs(FINAL.object))
        assert file["/object/pixel_size"][()] == 28e-9
        assert np.array_equal(file["/probe/complex"][()], FINAL.probe[0])
        assert np.array_equal(file["/probe/modes"][()], FINAL.probe)
        assert np.array_equal(file["/metrics/error_per_iteration"][()], FINAL.error_history)
        assert file["/metrics/algorithm"][()] == b"ePIE"
        assert file["/metrics/n_iterations"][()] == len(FINAL.error_history)
        assert np.array_equal(file["/entry_1/instrument_1/illumination_1/probe"][()], PROBE[0])
        assert file["/entry_1/instrument_1/source_1/energy"][()] == pytest.approx(ENERGY_EV)


@pytest.mark.parametrize("kind", [0, 1], ids=["growing", "result"])
def test_what_people_plot_has_units_and_names(tmp_path, kind):
    plotted = ("object/phase", "object/amplitude", "object/y", "object/x", "probe/intensity", "probe/y", "probe/x",
               "metrics/error_per_iteration", "metrics/iteration")  # fmt: skip
    plotted += () if kind else ("entry_1/data_1/data", "entry_1/data_1/x", "entry_1/data_1/y", "entry_1/data_1/translation")
    with h5py.File(finished(tmp_path)[kind]) as file:
        assert {name for name in plotted if not file[name].attrs.get("long_name")} == set()
        assert {name for name in plotted if not file[name].attrs.get("units")} == {"metrics/iteration"}
        assert file["/object/phase"].attrs["units"] == "rad"
        assert file["/entry_1/process_1/version"][()].decode() == file.attrs["creator_version"]
