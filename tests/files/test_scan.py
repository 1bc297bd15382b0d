"""Recorded scans in foreign dialects: what is understood, and what is refused rather than guessed."""

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from streamptycho.errors import FormatError
from streamptycho.files.bslz4 import compress, filter_options
from streamptycho.files.options import MaskMeaning, ReadOptions
from streamptycho.files.recorded.layouts import Dialect
from streamptycho.files.scan import open_scan
from streamptycho.files.writer import CxiWriter
from streamptycho.messages.geometry import JOULE_PER_EV
from streamptycho.messages.payload import Encoding
from streamptycho.messages.stream import Positions
from tests.files.factories import (
    DETECTOR,
    DISTANCE_M,
    ENERGY_EV,
    PITCH_M,
    SHAPE,
    SOURCE,
    TRANSLATION,
    aps,
    cxi_ev,
    cxi_standard,
    geometry,
    pixels,
    raster,
    raw,
    start,
)

DIALECTS = [(cxi_ev, Dialect.SEED_CXI), (cxi_standard, Dialect.STANDARD_CXI), (aps, Dialect.APS)]
MASK = f"{DETECTOR}/mask"
BASIS = f"{DETECTOR}/basis_vectors"


def refused(foreign, path, pattern, **options):
    with pytest.raises(FormatError, match=pattern):
        open_scan(foreign.write(path / "f.h5"), ReadOptions(**options))


@pytest.mark.parametrize(("make", "dialect"), DIALECTS)
def test_each_dialect_gives_the_same_scan(tmp_path, make, dialect):
    with open_scan(make().write(tmp_path / "f.h5")) as scan:
        assert scan.dialect is dialect
        assert scan.geometry.energy_ev == pytest.approx(ENERGY_EV, rel=1e-9)
        assert scan.geometry.distance_m == DISTANCE_M
        assert scan.geometry.pitch_m == (PITCH_M, PITCH_M)
        assert scan.geometry.frame_shape == SHAPE
        assert np.abs(scan.yx_m - raster()[:, ::-1]).max() < 1e-12
        assert scan.index.dtype == np.int64
        assert scan.index.tolist() == list(range(25))
        assert len(scan) == 25
        frames = pixels(25)
        for i in (0, 7, 24):
            assert np.array_equal(scan.frame(i), frames[i])
            assert np.array_equal(scan.payload(i).decode(), frames[i])


@pytest.mark.parametrize(("make", "dialect"), DIALECTS)
def test_the_start_message_carries_all_of_it(tmp_path, make, dialect):
    with open_scan(make().write(tmp_path / "f.h5")) as scan:
        start = scan.start("replay", 5)
    assert (start.scan_id, start.started_ns, start.expected) == ("replay", 5, 25)
    assert start.geometry == scan.geometry
    assert start.dtype == np.dtype("<u2")
    if dialect is Dialect.APS:
        assert start.valid is None
        assert start.beam_center_px is None
        assert start.metadata == {"theta": 30.0}
    else:
        assert np.argwhere(~start.valid).tolist() == [[2, 3]]
    if dialect is Dialect.SEED_CXI:
        assert start.probe.shape == (1, *SHAPE)
        assert start.beam_center_px == pytest.approx((8.0, 12.0))


@pytest.mark.parametrize("name", ["siemens_star_seed.cxi", "siemens_star_standard.cxi", "siemens_star_aps.h5"])
def test_the_real_scan_in_each_dialect(shared_data, name):
    with open_scan(shared_data / name) as scan, open_scan(shared_data / "siemens_star_seed.cxi") as seed:
        assert len(scan) == 516
        assert scan.geometry.frame_shape == (128, 128)
        assert scan.geometry.energy_ev == pytest.approx(8800.0, rel=1e-6)
        assert scan.geometry.distance_m == 1.92
        assert scan.geometry.pitch_m == (75e-6, 75e-6)
        assert np.abs(scan.yx_m - seed.yx_m).max() < 1e-9
        assert scan.valid is None
        assert (scan.probe is not None) == name.endswith("seed.cxi")
        assert np.array_equal(scan.frame(515), seed.frame(515))
        assert scan.payload(3).encoding is Encoding.RAW
        assert scan.metadata["note"].startswith("Real X-ray data")
        dialects = {
            "siemens_star_seed.cxi": "cxi-ev",
            "siemens_star_standard.cxi": "cxi-1.6",
            "siemens_star_aps.h5": "aps-hdf5",
        }
        assert scan.dialect == dialects[name]


def test_what_was_understood_is_told(tmp_path):
    with open_scan(cxi_ev().write(tmp_path / "f.h5")) as scan:
        told = scan.understood
    assert told["energy"] == "8800 eV, from wavelength agreement (the file says 8800 without units)"
    assert "row = +y, column = +x" in told["positions"]
    assert "1 pixels masked, which hold 0.3% of the light, 1 = valid from the light" in told["mask"]
    assert {"energy", "distance", "pixel_size", "positions", "mask", "dark", "probe", "beam_center", "frames"} == set(told)


class TestEnergy:
    def test_units_attribute(self, tmp_path):
        foreign = cxi_ev()
        foreign.items[f"{SOURCE}/energy"] = 8.8
        foreign.attrs[f"{SOURCE}/energy", "units"] = np.bytes_("keV")
        with open_scan(foreign.write(tmp_path / "f.h5")) as scan:
            assert scan.geometry.energy_ev == pytest.approx(8800)
            assert "units attribute" in scan.understood["energy"]

    def test_contradiction_with_the_wavelength(self, tmp_path):
        foreign = cxi_ev()
        foreign.items[f"{SOURCE}/wavelength"] = 1.6e-10
        refused(foreign, tmp_path, r"source_1/energy: .*wavelength.*set read.energy_ev")
        with open_scan(tmp_path / "f.h5", ReadOptions(energy_ev=9000)) as scan:
            assert scan.geometry.energy_ev == pytest.approx(9000)
            assert "as set" in scan.understood["energy"]

    def test_wavelength_alone(self, tmp_path):
        foreign = cxi_ev()
        del foreign.items[f"{SOURCE}/energy"]
        with open_scan(foreign.write(tmp_path / "f.h5")) as scan:
            assert scan.geometry.energy_ev == pytest.approx(ENERGY_EV)

    def test_wavelength_in_angstrom(self, tmp_path):
        foreign = cxi_ev()
        foreign.items[f"{SOURCE}/wavelength"] *= 1e10
        refused(foreign, tmp_path, r"source_1/wavelength: 1\.408.* without units.*set read.energy_ev")
        foreign.attrs[f"{SOURCE}/wavelength", "units"] = "angstrom"
        with open_scan(foreign.write(tmp_path / "g.h5")) as scan:
            assert scan.geometry.energy_ev == ENERGY_EV

    def test_none(self, tmp_path):
        foreign = cxi_standard()
        del foreign.items[f"{SOURCE}/energy"]
        refused(foreign, tmp_path, "no energy at .*source_1/energy.*set read.energy_ev")
        with open_scan(tmp_path / "f.h5", ReadOptions(energy_ev=8800)) as scan:
            assert scan.dialect is Dialect.STANDARD_CXI

    def test_an_override_without_cxi_version_means_the_ev_dialect(self, tmp_path):
        with open_scan(cxi_ev().write(tmp_path / "f.h5"), ReadOptions(energy_ev=8800)) as scan:
            assert scan.dialect is Dialect.SEED_CXI

    def test_the_energy_of_the_storage_ring_is_passed_over(self, tmp_path):
        foreign = cxi_standard()
        foreign.items[f"{SOURCE}/energy"] = 3.0
        foreign.attrs[f"{SOURCE}/energy", "units"] = "GeV"
        foreign.items["/entry_1/instrument_1/beam_1/incident_beam_energy"] = ENERGY_EV * JOULE_PER_EV
        with open_scan(foreign.write(tmp_path / "f.h5")) as scan:
            assert scan.geometry.energy_ev == pytest.approx(ENERGY_EV)

    def test_two_energies_that_differ(self, tmp_path):
        foreign = cxi_standard()
        foreign.items["/entry_1/instrument_1/beam_1/energy"] = 9000 * JOULE_PER_EV
        refused(foreign, tmp_path, r"beam_1/energy: 9000 eV.*elsewhere 8800 eV.*set read.energy_ev")

    def test_an_energy_for_each_frame(self, tmp_path):
        foreign = cxi_ev()
        foreign.items[f"{SOURCE}/energy"] = np.full(25, 8800.0)
        with open_scan(foreign.write(tmp_path / "f.h5")) as scan:
            assert scan.geometry.energy_ev == pytest.approx(8800)
        foreign.items[f"{SOURCE}/energy"][3] = 8810.0
        refused(foreign, tmp_path, r"source_1/energy: 25 values from 8800 to 8810, but one is needed; set read.energy_ev")

    @pytest.mark.parametrize("said", ["8.8 keV", b"8800 eV", "1.40991543792e-15 J"])
    def test_a_text_with_a_unit(self, tmp_path, said):
        foreign = cxi_standard()
        foreign.items[f"{SOURCE}/energy"] = said
        with open_scan(foreign.write(tmp_path / "f.h5")) as scan:
            assert scan.geometry.energy_ev == pytest.approx(8800)

    def test_a_text_without_a_number(self, tmp_path):
        foreign = cxi_standard()
        foreign.items[f"{SOURCE}/energy"] = "high"
        refused(foreign, tmp_path, r"source_1/energy: 'high' is not a number; set read.energy_ev")

    def test_the_energy_of_the_ring_may_have_no_unit(self, tmp_path):
        foreign = cxi_standard()
        foreign.items[f"{SOURCE}/energy"] = 6.04
        foreign.items["/entry_1/instrument_1/beam_1/incident_beam_energy"] = ENERGY_EV * JOULE_PER_EV
        with open_scan(foreign.write(tmp_path / "f.h5")) as scan:
            assert scan.geometry.energy_ev == pytest.approx(ENERGY_EV)

    def test_an_array_of_one_is(self, tmp_path):
        foreign = cxi_ev()
        foreign.items[f"{SOURCE}/energy"] = np.array([8800.0], np.float32)
        with open_scan(foreign.write(tmp_path / "f.h5")) as scan:
            assert scan.geometry.energy_ev == pytest.approx(8800)


class TestGeometry:
    def test_overrides(self, tmp_path):
        options = ReadOptions(distance_m=2.5, pixel_size_m=(50e-6, 60e-6))
        with open_scan(cxi_ev().write(tmp_path / "f.h5"), options) as scan:
            assert scan.geometry.distance_m == 2.5
            assert scan.geometry.pitch_m == (50e-6, 60e-6)

    def test_millimetres_by_attribute(self, tmp_path):
        foreign = aps()
        foreign.items["/instrument/detector/distance"] = 1920.0
        refused(foreign, tmp_path, r"detector/distance: 1920 without units.*set read.distance_m")
        foreign.attrs["/instrument/detector/distance", "units"] = "mm"
        with open_scan(foreign.write(tmp_path / "g.h5")) as scan:
            assert scan.geometry.distance_m == pytest.approx(1.92)

    def test_distance_from_the_corner(self, tmp_path):
        foreign = cxi_ev()
        del foreign.items[f"{DETECTOR}/distance"]
        with open_scan(foreign.write(tmp_path / "f.h5")) as scan:
            assert scan.geometry.distance_m == DISTANCE_M
            assert "corner_position" in scan.understood["distance"]

    @pytest.mark.parametrize("make", [cxi_standard, aps])
    def test_no_distance(self, tmp_path, make):
        foreign = make()
        foreign.items = {name: value for name, value in foreign.items.items() if not name.endswith("distance")}
        refused(foreign, tmp_path, "no detector distance at .*; set read.distance_m")

    def test_pixel_size_from_the_basis_vectors(self, tmp_path):
        foreign = cxi_standard()
        del foreign.items[f"{DETECTOR}/x_pixel_size"]
        foreign.items[BASIS] = np.array([[0, -50e-6, 0], [-60e-6, 0, 0]])
        with open_scan(foreign.write(tmp_path / "f.h5")) as scan:
            assert scan.geometry.pitch_m == pytest.approx((50e-6, 60e-6))

    def test_no_pixel_size(self, tmp_path):
        foreign = cxi_ev()
        del foreign.items[f"{DETECTOR}/x_pixel_size"]
        refused(foreign, tmp_path, "no pixel size at .*; set read.pixel_size_m")

    def test_pixel_size_pair(self, tmp_path):
        foreign = aps()
        foreign.items["/instrument/detector/pixel_size"] = np.array([50e-6, 60e-6])
        with open_scan(foreign.write(tmp_path / "f.h5")) as scan:
            assert scan.geometry.pitch_m == (50e-6, 60e-6)

    def test_basis_vectors_that_contradict_the_pixel_size(self, tmp_path):
        foreign = cxi_standard()
        foreign.items[BASIS] = foreign.items[BASIS] * 1.1
        refused(foreign, tmp_path, "basis_vectors: lengths .* contradict the pixel size")
        with open_scan(tmp_path / "f.h5", ReadOptions(basis_vectors="ignore")) as scan:
            assert scan.geometry.pitch_m == (PITCH_M, PITCH_M)

    def test_a_corner_off_the_detector_is_no_beam_centre(self, tmp_path):
        foreign = cxi_ev()
        foreign.items[f"{DETECTOR}/corner_position"] = np.array([0.0, 0.0, DISTANCE_M])
        with open_scan(foreign.write(tmp_path / "f.h5")) as scan:
            assert scan.beam_center_px is None


class TestPositions:
    X, Y = raster().T

    @pytest.mark.parametrize(
        ("vectors", "row", "column"),
        [
            ([[0, -1, 0], [-1, 0, 0]], Y, X),
            ([[0, 1, 0], [-1, 0, 0]], -Y, X),
            ([[0, -1, 0], [1, 0, 0]], Y, -X),
            ([[0, 1, 0], [1, 0, 0]], -Y, -X),
            ([[-1, 0, 0], [0, -1, 0]], X, Y),
            ([[1, 0, 0], [0, -1, 0]], -X, Y),
            ([[1, 0, 0], [0, 1, 0]], -X, -Y),
        ],
    )
    @pytest.mark.parametrize("form", ["(2, 3)", "(3, 2)"])
    def test_basis_vectors_rotate_and_flip(self, tmp_path, vectors, row, column, form):
        foreign = cxi_standard()
        basis = np.array(vectors) * PITCH_M
        foreign.items[BASIS] = basis if form == "(2, 3)" else basis.T
        with open_scan(foreign.write(tmp_path / "f.h5")) as scan:
            assert np.allclose(scan.yx_m, np.stack([row, column], axis=1), atol=1e-15)

    def test_directions_of_unit_length(self, tmp_path):
        foreign = cxi_standard()
        foreign.items[BASIS] = np.array([[0, 1.0, 0], [-1.0, 0, 0]])
        with open_scan(foreign.write(tmp_path / "f.h5")) as scan:
            assert np.allclose(scan.yx_m[:, 0], -self.Y)

    @pytest.mark.parametrize(
        ("vectors", "pattern"),
        [
            ([[0, -PITCH_M, 0.1 * PITCH_M], [-PITCH_M, 0, 0]], "does not lie along"),
            ([[0, 0, PITCH_M], [-PITCH_M, 0, 0]], "does not lie along"),
            ([[-PITCH_M, 0, 0], [-PITCH_M, 0, 0]], "along the same axis"),
            ([[0, 0, 0], [-PITCH_M, 0, 0]], "is not two vectors"),
            ([[0, np.nan, 0], [-PITCH_M, 0, 0]], "is not two vectors"),
            ([[0, -PITCH_M], [-PITCH_M, 0]], "is not two vectors"),
        ],
    )
    def test_basis_vectors_that_fit_no_axis(self, tmp_path, vectors, pattern):
        foreign = cxi_standard()
        foreign.items[BASIS] = np.array(vectors)
        refused(foreign, tmp_path, f"{pattern}.*basis_vectors = 'ignore'")
        with open_scan(tmp_path / "f.h5", ReadOptions(basis_vectors="ignore")) as scan:
            assert np.allclose(scan.yx_m, raster()[:, ::-1])

    @pytest.mark.parametrize("path", ["/entry_1/data_1/translation", f"{DETECTOR}/translation"])
    def test_other_places(self, tmp_path, path):
        foreign = cxi_ev()
        foreign.items[path] = foreign.items.pop(TRANSLATION)
        with open_scan(foreign.write(tmp_path / "f.h5")) as scan:
            assert np.allclose(scan.yx_m, raster()[:, ::-1])

    @pytest.mark.parametrize(
        "change", [lambda xyz: xyz.T, lambda xyz: xyz[:, :2], lambda xyz: xyz[:, :2].T], ids=["(3, N)", "(N, 2)", "(2, N)"]
    )
    def test_other_shapes(self, tmp_path, change):
        foreign = cxi_ev()
        foreign.items[TRANSLATION] = change(foreign.items[TRANSLATION])
        with open_scan(foreign.write(tmp_path / "f.h5")) as scan:
            assert np.allclose(scan.yx_m, raster()[:, ::-1])

    def test_three_by_three_is_asked_about(self, tmp_path):
        foreign = cxi_ev(3)
        refused(foreign, tmp_path, r"shape \(3, 3\) may be rows or columns.*set read.positions_transposed")
        with open_scan(tmp_path / "f.h5", ReadOptions(positions_transposed=False)) as scan:
            assert np.allclose(scan.yx_m, raster(3)[:, ::-1])
        with open_scan(tmp_path / "f.h5", ReadOptions(positions_transposed=True)) as scan:
            assert np.allclose(scan.yx_m, foreign.items[TRANSLATION][:2].T[:, ::-1])

    def test_two_positions_are_told_by_the_number_of_frames(self, tmp_path):
        with open_scan(cxi_ev(2).write(tmp_path / "f.h5")) as scan:
            assert np.allclose(scan.yx_m, raster(2)[:, ::-1])

    def test_transposed_against_the_shape(self, tmp_path):
        refused(cxi_ev(), tmp_path, "does not fit positions_transposed = True", positions_transposed=True)

    @pytest.mark.parametrize("shape", [(25,), (25, 4), (25, 3, 1)])
    def test_shapes_that_are_no_positions(self, tmp_path, shape):
        foreign = cxi_ev()
        foreign.items[TRANSLATION] = np.zeros(shape)
        refused(foreign, tmp_path, r"translation: shape .* is not \(N, 3\)")

    def test_units_attribute_and_override(self, tmp_path):
        foreign = cxi_ev()
        foreign.items[TRANSLATION] = foreign.items[TRANSLATION] * 1e9
        foreign.attrs[TRANSLATION, "units"] = "nm"
        with open_scan(foreign.write(tmp_path / "f.h5")) as scan:
            assert np.allclose(scan.yx_m, raster()[:, ::-1])
        with open_scan(tmp_path / "f.h5", ReadOptions(position_unit="um")) as scan:
            assert np.allclose(scan.yx_m, raster()[:, ::-1] * 1e3)

    def test_micrometres_without_units_at_a_path_of_metres(self, tmp_path):
        foreign = cxi_ev()
        foreign.items[TRANSLATION] = foreign.items[TRANSLATION] * 1e6
        refused(foreign, tmp_path, "translation: in m .*in um they would fit; set read.position_unit")
        with open_scan(tmp_path / "f.h5", ReadOptions(position_unit="um")) as scan:
            assert np.allclose(scan.yx_m, raster()[:, ::-1])

    def test_micrometres_labelled_metres(self, tmp_path):
        foreign = cxi_ev()
        foreign.items[TRANSLATION] = foreign.items[TRANSLATION] * 1e6
        foreign.attrs[TRANSLATION, "units"] = "m"
        refused(foreign, tmp_path, "translation: in m .*near field.*in um they would fit; set read.position_unit")

    def test_aps_in_metres(self, tmp_path):
        foreign = aps()
        for axis in "xy":
            foreign.items[f"/exchange/positions_{axis}"] *= 1e-6
        refused(foreign, tmp_path, "positions_x: in um .*in m they would fit; set read.position_unit")

    def test_aps_axes_in_different_units(self, tmp_path):
        foreign = aps()
        foreign.attrs["/exchange/positions_x", "units"] = "um"
        refused(foreign, tmp_path, "in um does not match .*positions_y.* in None")

    def test_aps_of_two_dimensions(self, tmp_path):
        foreign = aps()
        foreign.items["/exchange/positions_x"] = np.zeros((5, 4))
        refused(foreign, tmp_path, r"positions_x: \(20,\) in None does not match .*positions_y: \(25,\)")

    @pytest.mark.parametrize(("make", "path"), [(cxi_ev, TRANSLATION), (aps, "/exchange/positions_y")])
    def test_none(self, tmp_path, make, path):
        foreign = make()
        del foreign.items[path]
        refused(foreign, tmp_path, f"no positions at .*{path}")

    def test_another_number_of_positions_than_frames(self, tmp_path):
        foreign = cxi_ev()
        foreign.items[TRANSLATION] = foreign.items[TRANSLATION][:20]
        refused(foreign, tmp_path, "25 frames but 20 positions; set read.truncate")
        with open_scan(tmp_path / "f.h5", ReadOptions(truncate=True)) as scan:
            assert len(scan) == len(scan.yx_m) == 20
            with pytest.raises(IndexError, match="no frame 20"):
                scan.frame(20)


class TestMask:
    def test_polarity_attribute(self, tmp_path):
        foreign = cxi_ev()
        foreign.items[MASK] = 1 - foreign.items[MASK]
        foreign.attrs[MASK, "polarity"] = np.bytes_("0=good,1=masked")
        with open_scan(foreign.write(tmp_path / "f.h5")) as scan:
            assert np.argwhere(~scan.valid).tolist() == [[2, 3]]

    def test_setting(self, tmp_path):
        path = cxi_ev().write(tmp_path / "f.h5")
        with open_scan(path, ReadOptions(mask=MaskMeaning.ZERO_IS_GOOD)) as scan:
            assert scan.valid.sum() == 1
        with open_scan(path, ReadOptions(mask="ignore")) as scan:
            assert scan.valid is None

    def test_another_shape(self, tmp_path):
        foreign = cxi_ev()
        foreign.items[MASK] = np.ones((24, 16), np.uint8)
        refused(foreign, tmp_path, r"mask: shape \(24, 16\) differs from the frame's \(16, 24\)")
        with open_scan(tmp_path / "f.h5", ReadOptions(mask="ignore")) as scan:
            assert scan.valid is None


class TestProbeAndDark:
    PROBE = "/entry_1/instrument_1/illumination_1/probe"

    def test_modes(self, tmp_path):
        foreign = cxi_ev()
        foreign.items[self.PROBE] = np.ones((3, 8, 8), np.complex128)
        with open_scan(foreign.write(tmp_path / "f.h5")) as scan:
            assert scan.probe.shape == (3, 8, 8)
            assert scan.probe.dtype == np.complex64

    @pytest.mark.parametrize(
        ("probe", "pattern"),
        [
            (np.ones((2, 1, 8, 8), np.complex64), "is no probe"),
            (np.ones((8, 8), np.int32), "is no probe"),
            (np.full((8, 8), np.nan, np.complex64), "not finite"),
        ],
    )
    def test_what_is_no_probe(self, tmp_path, probe, pattern):
        foreign = cxi_ev()
        foreign.items[self.PROBE] = probe
        refused(foreign, tmp_path, f"{pattern}.*set read.probe = false")
        with open_scan(tmp_path / "f.h5", ReadOptions(probe=False)) as scan:
            assert scan.probe is None

    @pytest.mark.parametrize(
        "dark", [np.full(SHAPE, 3, np.uint16), np.stack([np.full(SHAPE, n, np.uint16) for n in (2, 4)])]
    )
    def test_dark_is_the_mean_of_its_exposures(self, tmp_path, dark):
        foreign = cxi_ev()
        foreign.items[f"{DETECTOR}/data_dark"] = dark
        with open_scan(foreign.write(tmp_path / "f.h5")) as scan:
            assert scan.dark.dtype == np.float32
            assert (scan.dark == 3).all()
            assert (scan.start("a", 0).dark == 3).all()


class TestFrames:
    @pytest.mark.parametrize("dtype", ["uint8", "int32", "float32", ">u2", ">f4"])
    def test_pixel_types(self, tmp_path, dtype):
        foreign = cxi_ev()
        foreign.items["/entry_1/data_1/data"] = pixels(25).astype(dtype)
        with open_scan(foreign.write(tmp_path / "f.h5")) as scan:
            assert scan.dtype == np.dtype(dtype).newbyteorder("<")
            assert scan.frame(1).dtype == scan.dtype
            assert np.array_equal(scan.payload(1).decode(), pixels(25)[1])

    @pytest.mark.parametrize(
        ("dtype", "kept"),
        [("uint64", "uint32"), ("int64", "int32"), ("float64", "float32"), ("float16", "float32"), ("int8", "int16")],
    )
    def test_types_that_no_detector_sends(self, tmp_path, dtype, kept):
        foreign = cxi_ev()
        foreign.items["/entry_1/data_1/data"] = pixels(25).astype(dtype)
        with open_scan(foreign.write(tmp_path / "f.h5")) as scan:
            assert scan.dtype == np.dtype(kept)
            assert np.array_equal(scan.frame(7), pixels(25)[7])
            assert np.array_equal(scan.payload(7).decode(0), pixels(25)[7])

    def test_counts_that_do_not_fit_are_refused_when_they_come(self, tmp_path):
        foreign = cxi_ev(30)
        frames = pixels(30).astype(np.int64)
        frames[29, 1, 1] = 1 << 40
        foreign.items["/entry_1/data_1/data"] = np.concatenate([frames] * 3)
        foreign.items[TRANSLATION] = np.concatenate([foreign.items[TRANSLATION]] * 3)
        with open_scan(foreign.write(tmp_path / "f.h5")) as scan:
            assert np.array_equal(scan.frame(28), frames[28])
            with pytest.raises(FormatError, match="frame 89: counts of int64 up to 1099511627776 do not fit int32"):
                scan.frame(89)

    def test_complex_numbers_are_no_counts(self, tmp_path):
        foreign = cxi_ev()
        foreign.items["/entry_1/data_1/data"] = pixels(25).astype(np.complex64)
        refused(foreign, tmp_path, "frames of type complex64 are not counts")

    def test_one_picture_is_no_scan(self, tmp_path):
        foreign = cxi_ev()
        foreign.items["/entry_1/data_1/data"] = pixels(1)[0]
        refused(foreign, tmp_path, r"is not \(frames, ny, nx\)")

    def test_a_link_that_leads_nowhere_counts_as_absent(self, tmp_path):
        foreign = cxi_standard()
        foreign.links["/entry_1/data_1/data"] = "/entry_1/nowhere"
        with open_scan(foreign.write(tmp_path / "f.h5")) as scan:
            assert np.array_equal(scan.frame(3), pixels(25)[3])

    def test_stored_bslz4_chunks_are_passed_on(self, tmp_path):
        frames, foreign = pixels(25), cxi_ev()
        del foreign.items["/entry_1/data_1/data"]
        path = foreign.write(tmp_path / "f.h5")
        with h5py.File(path, "r+") as file:
            options = {"chunks": (1, *SHAPE), **filter_options("bslz4")}
            file.create_dataset("/entry_1/data_1/data", data=frames, **options)
        with open_scan(path) as scan:
            payload = scan.payload(np.int64(4))
            assert payload.encoding is Encoding.BSLZ4
            assert bytes(payload.chunks[0]) == bytes(compress(frames[4]).chunks[0])
            assert "passed on as stored" in scan.understood["frames"]

    def test_a_damaged_chunk_breaks_only_its_own_frame(self, tmp_path):
        frames, foreign = pixels(25), cxi_ev()
        del foreign.items["/entry_1/data_1/data"]
        path = foreign.write(tmp_path / "f.h5")
        with h5py.File(path, "r+") as file:
            options = {"chunks": (1, *SHAPE), **filter_options("bslz4")}
            dataset = file.create_dataset("/entry_1/data_1/data", data=frames, **options)
            dataset.id.write_direct_chunk((4, 0, 0), b"\0" * 40)
        with open_scan(path) as scan:
            with pytest.raises(FormatError, match="frame 4 cannot be read"):
                scan.frame(4)
            assert np.array_equal(scan.frame(5), frames[5])

    def test_opening_reads_no_frames(self, tmp_path):
        foreign = cxi_ev()
        del foreign.items["/entry_1/data_1/data"]
        path = foreign.write(tmp_path / "f.h5")
        with h5py.File(path, "r+") as file:
            # 25 frames whose every chunk is garbage: touching one would fail
            options = {"chunks": (1, *SHAPE), **filter_options("bslz4")}
            dataset = file.create_dataset("/entry_1/data_1/data", (25, *SHAPE), "u2", **options)
            for i in range(25):
                dataset.id.write_direct_chunk((i, 0, 0), b"\0" * 40)
        with open_scan(path) as scan:
            assert len(scan) == 25
            with pytest.raises(FormatError, match="cannot be read"):
                scan.frame(0)


class TestOpening:
    def test_absent(self, tmp_path):
        with pytest.raises(FormatError, match=r"absent\.h5: no such file"):
            open_scan(tmp_path / "absent.h5")

    def test_not_hdf5(self, tmp_path):
        (tmp_path / "t.h5").write_text("hello")
        with pytest.raises(FormatError, match="not a readable HDF5 file"):
            open_scan(tmp_path / "t.h5")

    def test_cut_short(self, tmp_path):
        path = cxi_ev().write(tmp_path / "f.h5")
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(FormatError, match=r"f\.h5: "):
            open_scan(path)

    def test_another_layout_is_described(self, tmp_path):
        with h5py.File(tmp_path / "f.h5", "w") as file:
            file["run/camera"] = pixels(3)
            file["notes"] = "star"
        expected = r"At the top there is notes, run; stacks of pictures are at /run/camera \(3, 16, 24\); set read\.frames"
        with pytest.raises(FormatError, match=expected):
            open_scan(tmp_path / "f.h5")

    def test_a_result_is_no_scan(self, tmp_path):
        with h5py.File(tmp_path / "f.h5", "w") as file:
            file["object/complex"] = np.ones((4, 4), np.complex64)
        with pytest.raises(FormatError, match="holds a result and no frames"):
            open_scan(tmp_path / "f.h5")

    def test_a_refused_file_is_closed(self, tmp_path):
        foreign = cxi_ev()
        del foreign.items[TRANSLATION]
        refused(foreign, tmp_path, "no positions")
        with h5py.File(tmp_path / "f.h5", "r+"):
            pass

    def test_plain_root_attributes_become_metadata(self, tmp_path):
        path = cxi_ev().write(tmp_path / "f.h5")
        with h5py.File(path, "r+") as file:
            file.attrs.update({"sample": "star", "temperature": 293.5, "run": 7, "vector": [1, 2, 3], "ok": True})
        with open_scan(path) as scan:
            assert scan.metadata == {"sample": "star", "temperature": 293.5, "run": 7, "ok": True}
            scan.start("a", 1)


class TestOwnFiles:
    """What this project has written it reads without a question, however odd the scan."""

    def write(self, path, n=25, yx_m=None, **changes):
        scan = start(**changes)
        with CxiWriter(path, scan) as writer:
            if n:
                writer.append(raw(pixels(n, scan.geometry.frame_shape), list(range(n))))
                rows = np.arange(n)
                yx_m = np.stack([rows * 1e-7, rows * -2e-7], axis=1) if yx_m is None else yx_m
                writer.positions(Positions(scan_id="scan", index=rows, yx_m=yx_m))
        return path

    @pytest.mark.parametrize("n", [0, 1, 2, 3, 4])
    def test_few_frames(self, tmp_path, n):
        with open_scan(self.write(tmp_path / "f.cxi", n)) as scan:
            assert scan.dialect is Dialect.STREAMPTYCHO
            assert scan.index.tolist() == list(range(n))
            assert np.array_equal(scan.yx_m, np.stack([np.arange(n) * 1e-7, np.arange(n) * -2e-7], axis=1))

    @pytest.mark.parametrize("step_m", [1e-15, 1e-3, 10.0])
    def test_steps_that_no_scan_has(self, tmp_path, step_m):
        yx_m = np.random.default_rng(0).random((25, 2)) * step_m
        with open_scan(self.write(tmp_path / "f.cxi", yx_m=yx_m)) as scan:
            assert np.array_equal(scan.yx_m, yx_m)

    @pytest.mark.parametrize(
        "odd", [{"wavelength_m": 633e-9}, {"wavelength_m": 1e-15}, {"distance_m": 1e3}, {"pitch_m": (0.1, 1e-9)}]
    )
    def test_geometries_that_are_not_of_x_rays(self, tmp_path, odd):
        made = replace(geometry(), **odd)
        with open_scan(self.write(tmp_path / "f.cxi", geometry=made)) as scan:
            assert scan.geometry.distance_m == made.distance_m
            assert scan.geometry.pitch_m == made.pitch_m
            assert scan.geometry.wavelength_m == pytest.approx(made.wavelength_m, rel=1e-14)

    @pytest.mark.parametrize("good", [(), (3,), (0, 1, 2)])
    def test_masks_with_few_valid_pixels(self, tmp_path, good):
        valid = np.zeros(SHAPE, np.bool_)
        valid[list(good), 5] = True
        with open_scan(self.write(tmp_path / "f.cxi", valid=valid)) as scan:
            assert np.array_equal(scan.valid, valid)

    def test_what_is_set_wins_all_the_same(self, tmp_path):
        options = ReadOptions(energy_ev=500, distance_m=0.1, pixel_size_m=(1e-5, 2e-5), position_unit="um", mask="ignore")
        with open_scan(self.write(tmp_path / "f.cxi", valid=np.zeros(SHAPE, np.bool_)), options) as scan:
            assert scan.geometry.energy_ev == pytest.approx(500)
            assert (scan.geometry.distance_m, scan.geometry.pitch_m) == (0.1, (1e-5, 2e-5))
            assert scan.yx_m[1].tolist() == pytest.approx([1e-13, -2e-13])
            assert scan.valid is None


NAMES = [
    ("scan_1", "scan_1"),
    ("x" * 140, "x" * 112),
    ("µ" * 100, "µ" * 56),
    ("..scan", "scan"),
    ("a\\b\x07c", "a_b_c"),
    ("\udcff", "_"),
]


@pytest.mark.parametrize(("stem", "scan_id"), NAMES)
def test_a_scan_id_comes_from_any_name_of_a_file(tmp_path, stem, scan_id):
    with open_scan(cxi_ev().write(tmp_path / "f.h5")) as scan:
        scan.path = Path(f"{stem}.h5")
        assert scan.scan_id == scan_id
        assert scan.start(f"{scan.scan_id}-second", 0).scan_id.startswith(scan_id)
