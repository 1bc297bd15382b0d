"""A finished scan of ours in the programs of others, and files of theirs in our reader; ``make interop`` builds them."""

import json
import subprocess
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from streamptycho.files.export.convert import convert
from streamptycho.files.recorded.layouts import Dialect
from streamptycho.files.scan import open_scan
from streamptycho.files.writer import CxiWriter
from streamptycho.messages.geometry import HC_EV_M
from tests.files.factories import DISTANCE_M, ENERGY_EV, PITCH_M, SHAPE, pixels, raw, start
from tests.files.test_export import FINAL, FRAMES, YX_M, recorded, valid

THEIRS = Path(__file__).with_name("theirs.py")
PEERS = Path(__file__).resolve().parents[2] / ".peers"
ENVIRONMENTS = {"cdtools": "interop-cdtools", "ptylab": "interop-ptylab"}
pytestmark = pytest.mark.peers


def found_by(program: str, path: Path) -> dict[str, Any]:
    """What a program finds in a file; skips where it is not installed."""
    python = PEERS / ENVIRONMENTS.get(program.partition("_")[0], "interop") / "bin" / "python"
    if not python.is_file():
        pytest.skip(f"{program} is not installed: make interop")
    process = subprocess.run(
        [python, str(THEIRS), program, str(path)], capture_output=True, text=True, timeout=300, check=False, cwd=path.parent
    )
    assert process.returncode == 0, process.stderr
    said: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return said


def about(values: np.ndarray) -> dict[str, Any]:
    """A stack as `theirs` tells of it."""
    return {
        "shape": list(values.shape),
        "sum": pytest.approx([float(abs(values).sum()), float(values.sum().real), float(values.sum().imag)], rel=1e-4),
    }


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    path = recorded(tmp_path)
    convert(path, tmp_path / "scan.strict.cxi")
    return path


@pytest.mark.parametrize(
    ("name", "plot", "signal"),
    [
        ("scan.cxi", "/entry_1/data_1", "data"),
        ("scan.strict.cxi", "/entry_1/data_1", "data"),
        ("scan.result.h5", "/entry_1/object", "phase"),
    ],
)
def test_default_plots(scan, name, plot, signal):
    shape = list(FINAL.object.shape) if signal == "phase" else [FRAMES, *SHAPE]
    said = found_by("silx", scan.with_name(name))
    assert (said["valid"], said["signal"], said["shape"]) == (True, f"{plot}/{signal}", shape)
    assert said["axes"] == (["y", "x"] if signal == "phase" else [None] * 3)
    assert found_by("nexusformat", scan.with_name(name)) == {"plot": plot, "signal": signal, "shape": shape}


@pytest.mark.parametrize("name", ["scan.cxi", "scan.strict.cxi"])
def test_nexus_validates(scan, name):
    """Two warnings are of the definition itself: it wants numbers where base classes have the words of the source."""
    assert found_by("nexusformat_validates", scan.with_name(name)) == {"warnings": 2, "errors": 0}


def test_silx_plots_a_file_that_grows(tmp_path):
    with CxiWriter(tmp_path / "scan.cxi", start()) as writer:
        writer.append(raw(pixels(5), list(range(5))))
        writer.flush()
        said = found_by("silx", tmp_path / "scan.cxi")
    assert (said["valid"], said["signal"], said["shape"]) == (True, "/entry_1/data_1/data", [5, *SHAPE])


def test_ptychodus_opens_the_strict_view_as_diffraction(scan):
    said = found_by("ptychodus_diffraction", scan.with_name("scan.strict.cxi"))
    assert said["energy_ev"] == pytest.approx(ENERGY_EV, rel=1e-6)
    assert said["distance_m"] == DISTANCE_M
    assert said["pitch_m"] == [PITCH_M, 2 * PITCH_M]
    assert said["bad"] == int((~valid()).sum())
    assert said["frames"] == about(pixels(FRAMES).astype(np.float64))


@pytest.mark.parametrize("name", ["scan.strict.cxi", "scan.product.h5"])
def test_ptychodus_opens_products(scan, name):
    path = scan.with_name(name)
    if name.endswith(".h5"):
        convert(scan, path)
    said = found_by("ptychodus_product", path)
    shift = 0.0 if name.endswith(".cxi") else 1.01e-6  # a product has the refined positions
    assert said["energy_ev"] == pytest.approx(ENERGY_EV, rel=1e-6)
    assert said["distance_m"] == DISTANCE_M
    assert np.allclose(np.stack([said["y_m"], said["x_m"]], 1), YX_M + shift, rtol=0, atol=1e-9)
    assert said["object"] == about(FINAL.object[None])
    assert said["probe"] == about(FINAL.probe[None])
    assert said["pixel_m"] == pytest.approx(FINAL.pixel_m)
    origin = 1e-6 if name.endswith(".cxi") else 0.0  # the test's positions are sent 1 um beside those of the picture
    middle = np.array(FINAL.origin_m) - origin + np.array(FINAL.pixel_m) * (np.array(FINAL.object.shape) - 1) / 2
    assert said["center_m"] == pytest.approx(middle.tolist())


def test_ptychodus_reads_the_positions_of_the_aps_file(scan):
    convert(scan, scan.with_name("aps.h5"))
    said = found_by("ptychodus_aps", scan.with_name("aps.h5"))
    for x_m, y_m in zip(said["x_m"], said["y_m"], strict=True):
        assert np.allclose(np.stack([y_m, x_m], 1), YX_M, rtol=0, atol=1e-9)


def test_cdtools_opens_the_strict_view(scan):
    said = found_by("cdtools", scan.with_name("scan.strict.cxi"))
    assert said["wavelength_m"] == pytest.approx(HC_EV_M / ENERGY_EV, rel=1e-5)
    assert said["distance_m"] == pytest.approx(DISTANCE_M, rel=1e-6)
    assert said["good"] == int(valid().sum())
    assert said["frames"] == about(pixels(FRAMES).astype(np.float64))
    assert np.allclose(-np.array(said["xyz_m"])[:, 1::-1], YX_M, rtol=0, atol=1e-9), "it has the probe's motion"


def test_ptylab_opens_the_aps_file(scan):
    convert(scan, scan.with_name("aps.h5"))
    said = found_by("ptylab", scan.with_name("aps.h5"))
    assert said["wavelength_m"] == pytest.approx(HC_EV_M / ENERGY_EV, rel=1e-6)
    assert said["distance_m"] == pytest.approx(DISTANCE_M)
    assert said["pitch_m"] == pytest.approx(2 * PITCH_M)
    assert np.allclose(said["yx_m"], YX_M, rtol=0, atol=1e-9)
    assert said["frames"] == about(pixels(FRAMES).astype(np.float64))


@pytest.mark.parametrize("program", ["ptychodus_writes", "cdtools_writes"])
def test_what_they_write_is_read(scan, program):
    found_by(program, scan.with_name("scan.strict.cxi"))
    theirs = scan.with_name("theirs.cxi")
    if program == "ptychodus_writes":  # its diffraction files have no positions
        with h5py.File(theirs, "r+") as file:
            file["/entry_1/sample_1/geometry_1/translation"] = np.column_stack([YX_M[:, ::-1], np.zeros(FRAMES)])
    with open_scan(theirs) as found:
        assert found.dialect is Dialect.STANDARD_CXI
        assert found.geometry.energy_ev == pytest.approx(ENERGY_EV, rel=1e-5)
        assert np.array_equal(found.frame(3), pixels(FRAMES)[3])
        assert np.array_equal(found.valid, valid())
        sign = 1 if np.allclose(found.yx_m, YX_M, rtol=0, atol=1e-9) else -1
        assert np.allclose(sign * found.yx_m, YX_M, rtol=0, atol=1e-9)


def test_the_star(shared_data, tmp_path):
    """The recorded scan through our layout into the strict view."""
    path = tmp_path / "star.cxi"
    convert(shared_data / "siemens_star_seed.cxi", path)
    convert(path, tmp_path / "star.strict.cxi")
    with open_scan(path) as scan:
        yx_m = scan.yx_m
    said = found_by("ptychodus_diffraction", tmp_path / "star.strict.cxi")
    assert said["energy_ev"] == pytest.approx(8800, rel=1e-6)
    assert said["bad"] == 0
    said = found_by("cdtools", tmp_path / "star.strict.cxi")
    assert said["good"] == 128 * 128
    assert np.allclose(-np.array(said["xyz_m"])[:, 1::-1], yx_m, rtol=0, atol=1e-9)
