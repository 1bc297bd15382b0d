"""The small files that people sent in, each with its right reading; they are not part of the project."""

from pathlib import Path

import numpy as np
import pytest

from streamptycho.errors import FormatError
from streamptycho.files.options import ReadOptions
from streamptycho.files.recorded.layouts import Dialect
from streamptycho.files.scan import RecordedScan, open_scan
from streamptycho.messages.geometry import Radiation

STAR_PIXEL_M = 28.18e-9
READ = [
    ("01_mask_66pct_bad_joules.cxi", {}, 60, Dialect.STANDARD_CXI),
    ("03_burst_um_read_as_mm.h5", {}, 60, Dialect.APS),
    ("08_electron_300keV.cxi", {"radiation": "electrons"}, 60, Dialect.STANDARD_CXI),
    ("09_sharp_nsls2_yx0.cxi", {}, 60, Dialect.STANDARD_CXI),
    ("11_matlab_order_yxN.cxi", {}, 60, Dialect.STANDARD_CXI),
    ("12_energy_per_frame.cxi", {}, 60, Dialect.STANDARD_CXI),
    ("14_basis_vectors_per_frame.cxi", {}, 60, Dialect.STANDARD_CXI),
    ("15_units_micrometers.cxi", {}, 60, Dialect.STANDARD_CXI),
    ("16_int64_counts.cxi", {}, 60, Dialect.STANDARD_CXI),
    ("20_master.h5", {"positions": "20_positions.csv"}, 60, Dialect.NEXUS),
    ("21_aps_9id_motor_pos.h5", {}, 60, Dialect.APS),
]
OTHERS = [
    ("22_ptypy_moonflower.ptyd", 39, Dialect.PTYPY, 7200.0),
    ("23_ptylab_SimuData_New.mat", 22, Dialect.PTYLAB, 1.9593),
]
REFUSED = [
    ("04_distance_150_bare_positions_um.h5", "set read.distance_m"),
    ("06_petra_near_field.cxi", "near field"),
    ("07_petra_near_field_step6um_read_as_mm.cxi", "near field"),
    ("08_electron_300keV.cxi", "set read.radiation"),
    ("18_link_to_missing_file.cxi", "gone.h5"),
    ("20_master.h5", "set read.positions"),
    ("24_ptychojl_dp_5.mat", "set read.positions"),
]


def star_yx_m(shared_data: Path) -> np.ndarray:
    with open_scan(shared_data / "siemens_star_seed.cxi") as star:
        return star.yx_m[:60]


def like_the_star(scan: RecordedScan) -> bool:
    return bool(np.allclose(scan.geometry.object_pixel_m((128, 128)), STAR_PIXEL_M, rtol=1e-3))


@pytest.mark.parametrize(("name", "options", "frames", "dialect"), READ)
def test_of_the_star(shared_data, name, options, frames, dialect):
    with (
        open_scan(shared_data / "cases" / name, ReadOptions(**options)) as scan,
        open_scan(shared_data / "siemens_star_seed.cxi") as star,
    ):
        assert (len(scan), scan.dialect) == (frames, dialect)
        assert like_the_star(scan)
        yx_m = scan.yx_m[:, ::-1] if name.startswith("09") else scan.yx_m  # its reconstruction tells that they are swapped
        if not name.startswith("03"):  # four exposures at each place
            assert np.allclose(yx_m, star_yx_m(shared_data), atol=1e-9)
            assert np.array_equal(scan.frame(7), star.frame(7))
        assert scan.geometry.radiation is (Radiation.ELECTRONS if options.get("radiation") else Radiation.PHOTONS)
        if name.startswith("08"):
            assert scan.geometry.wavelength_m == pytest.approx(1.9687e-12, rel=1e-4)
        else:
            assert scan.geometry.energy_ev == pytest.approx(8800, rel=1e-4)
        assert (0 if scan.valid is None else int((~scan.valid).sum())) == (10859 if name.startswith("01") else 0)


@pytest.mark.parametrize(("name", "frames", "dialect", "energy_ev"), OTHERS)
def test_of_other_programs(shared_data, name, frames, dialect, energy_ev):
    with open_scan(shared_data / "cases" / name) as scan:
        assert (len(scan), scan.dialect) == (frames, dialect)
        assert scan.geometry.energy_ev == pytest.approx(energy_ev, rel=1e-4)


@pytest.mark.parametrize(("name", "words"), REFUSED)
def test_refused_in_one_line(shared_data, name, words):
    with pytest.raises(FormatError, match=words) as refused:
        open_scan(shared_data / "cases" / name)
    assert "\n" not in str(refused.value)
