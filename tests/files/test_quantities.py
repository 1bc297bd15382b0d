"""Units that are in doubt."""

import numpy as np
import pytest

from streamptycho.errors import FormatError
from streamptycho.files.quantities import Reading, length_m, median_step, photon_energy_ev, position_scale
from streamptycho.messages.geometry import HC_EV_M, JOULE_PER_EV
from tests.files.factories import FIELD_M, raster

CXI, APS = ("J", "eV"), ("keV", "eV")


@pytest.mark.parametrize(
    ("value", "unit", "units", "expected", "found"),
    [
        (8800.0, None, CXI, 8800.0, "eV"),
        (8800.0 * JOULE_PER_EV, None, CXI, 8800.0, "J"),
        (8.8, None, APS, 8800.0, "keV"),
        (8800.0, None, APS, 8800.0, "eV"),
        (8.8, "keV", CXI, 8800.0, "keV"),
        (8800.0, "EV", APS, 8800.0, "EV"),
        (30.0, None, CXI, 30.0, "eV"),
        (300e3, None, CXI, 300e3, "eV"),
    ],
)
def test_energy_is_recognised(value, unit, units, expected, found):
    energy, how, note = photon_energy_ev(Reading("/e", value, unit), units, None)
    assert energy == pytest.approx(expected, rel=1e-12)
    assert how == found
    assert repr(value) in note


@pytest.mark.parametrize(("energy_kev", "value"), [(0.1, 100.0), (100.0, 100.0)])
def test_the_wavelength_decides_where_ev_and_kev_are_both_plausible(energy_kev, value):
    energy, _, note = photon_energy_ev(Reading("/e", value), APS, HC_EV_M / (energy_kev * 1e3))
    assert energy == pytest.approx(energy_kev * 1e3)
    assert "wavelength agreement" in note


def test_without_a_wavelength_the_standard_of_the_path_decides():
    energy, unit, note = photon_energy_ev(Reading("/e", 100.0), APS, None)
    assert (energy, unit) == (100e3, "keV")
    assert "standard unit of the path" in note


@pytest.mark.parametrize(("off", "fits"), [(1.019, True), (0.981, True), (1.03, False), (0.97, False)])
def test_energy_and_wavelength_may_differ_by_two_percent(off, fits):
    reading, wavelength = Reading("/e", 8800.0), off * HC_EV_M / 8800.0
    if fits:
        assert photon_energy_ev(reading, CXI, wavelength)[0] == 8800.0
    else:
        with pytest.raises(FormatError, match=r"/e: .*8800.*wavelength.*set read.energy_ev"):
            photon_energy_ev(reading, CXI, wavelength)


@pytest.mark.parametrize(
    ("value", "unit"),
    [(8000.0, "J"), (8.0, None), (5e5, None), (0.0, None), (-8800.0, None), (float("nan"), None), (8.8, "GeV")],
)
def test_an_implausible_energy_is_refused_whatever_the_attribute_says(value, unit):
    with pytest.raises(FormatError, match=r"/e: .*no photon energy.*set read.energy_ev"):
        photon_energy_ev(Reading("/e", value, unit), CXI, None)


def test_an_attribute_that_the_wavelength_contradicts_is_refused():
    with pytest.raises(FormatError, match="wavelength"):
        photon_energy_ev(Reading("/e", 100.0, "keV"), APS, HC_EV_M / 100.0)


def test_unknown_energy_units_are_refused():
    with pytest.raises(FormatError, match=r"'furlong' are not understood; set read.energy_ev"):
        photon_energy_ev(Reading("/e", 8800.0, "furlong"), CXI, None)


@pytest.mark.parametrize(
    ("value", "unit", "metres"), [(1.92, None, 1.92), (1920.0, "mm", 1.92), (1.92, "m", 1.92), (1.92e6, " um", 1.92)]
)
def test_lengths(value, unit, metres):
    found, note = length_m(Reading("/d", value, unit), 1e-3, 200.0, "distance_m")
    assert found == pytest.approx(metres)
    assert "/d" in note


@pytest.mark.parametrize("value", [1920.0, 0.0, -1.0, float("nan"), float("inf")])
def test_an_implausible_length_is_refused_rather_than_rescaled(value):
    with pytest.raises(FormatError, match=r"/d: .*set read.distance_m"):
        length_m(Reading("/d", value), 1e-3, 200.0, "distance_m")


@pytest.mark.parametrize("unit", ["m", "mm", "um", "nm"])
@pytest.mark.parametrize("step", [50e-9, 200e-9, 500e-9])
def test_the_step_tells_units_apart(unit, step):
    factor = {"m": 1.0, "mm": 1e3, "um": 1e6, "nm": 1e9}[unit]
    scale, note = position_scale(raster(step_m=step) * factor, None, "m", FIELD_M, "/p")
    assert scale * factor == pytest.approx(1)
    assert "step between neighbours" in note


def test_an_attribute_that_the_step_contradicts_is_refused():
    with pytest.raises(FormatError, match=r"/p: units 'm'.*'um' would fit; set read.position_unit"):
        position_scale(raster() * 1e6, "m", "m", FIELD_M, "/p")


def test_an_attribute_is_believed_where_no_unit_would_fit_better():
    scale, note = position_scale(raster(step_m=2 * FIELD_M), "m", "m", FIELD_M, "/p")
    assert scale == 1
    assert "units 'm'" in note


def test_a_step_that_fits_no_unit_is_refused():
    with pytest.raises(FormatError, match=r"in none of m, mm, um, nm; set read.position_unit"):
        position_scale(raster(step_m=2e-3 * FIELD_M * 0.9), None, "m", FIELD_M, "/p")


@pytest.mark.parametrize("xy", [np.zeros((9, 2)), raster(3), np.full((9, 2), np.nan)])
def test_few_distinct_positions_leave_the_standard_unit(xy):
    scale, note = position_scale(xy, None, "um", FIELD_M, "/p")
    assert scale == 1e-6
    assert "too few positions" in note


def test_median_step_ignores_repeats_and_unknown_positions():
    xy = np.concatenate([raster(step_m=3.0)] * 2 + [np.full((4, 2), np.nan)])
    assert median_step(xy) == pytest.approx(3.0)


def test_median_step_of_many_positions_is_sampled():
    assert median_step(raster(40_000, 2.0)) == pytest.approx(2.0)
