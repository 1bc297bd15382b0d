"""Units that are in doubt."""

import numpy as np
import pytest

from streamptycho.errors import FormatError
from streamptycho.files.recorded.quantities import Reading, energy_ev, length_m, median_step, parse_number, position_scale
from streamptycho.messages.geometry import HC_EV_M, JOULE_PER_EV, Radiation
from tests.files.factories import FIELD_M, raster

CXI, APS = ("J", "eV"), ("keV",)


@pytest.mark.parametrize(
    ("value", "unit", "units", "expected", "found"),
    [
        (8800.0, None, CXI, 8800.0, "eV"),
        (8800.0 * JOULE_PER_EV, None, CXI, 8800.0, "J"),
        (8.8, None, APS, 8800.0, "keV"),
        (8.8, "keV", CXI, 8800.0, "keV"),
        (8800.0, "EV", APS, 8800.0, "EV"),
        (30.0, None, CXI, 30.0, "eV"),
        (300e3, None, CXI, 300e3, "eV"),
        (1.96, "eV", CXI, 1.96, "eV"),
    ],
)
def test_energy_is_recognised(value, unit, units, expected, found):
    energy = energy_ev(Reading("/e", value, unit), units, None)
    assert energy.ev == pytest.approx(expected, rel=1e-12)
    assert energy.unit == found
    assert energy.radiation is None
    assert f"{value:.12g}" in energy.why


@pytest.mark.parametrize("value", [8800.0, 0.0088])
def test_a_reading_that_is_not_of_the_standard_unit_is_not_taken(value):
    with pytest.raises(FormatError, match=r"/e: .*no energy.* in keV.*set read.energy_ev"):
        energy_ev(Reading("/e", value), APS, None)


@pytest.mark.parametrize(("energy_kev", "value"), [(0.1, 100.0), (100.0, 100.0), (8.8, 8800.0)])
def test_the_wavelength_decides_before_the_standard_unit(energy_kev, value):
    energy = energy_ev(Reading("/e", value), APS, HC_EV_M / (energy_kev * 1e3))
    assert energy.ev == pytest.approx(energy_kev * 1e3)
    assert energy.radiation is Radiation.PHOTONS
    assert "wavelength agreement" in energy.why


@pytest.mark.parametrize("value", [300.0, 300e3, 300e3 * JOULE_PER_EV])
def test_the_wavelength_tells_electrons_from_photons(value):
    energy = energy_ev(Reading("/e", value), CXI, 1.96875e-12)
    assert energy.ev == pytest.approx(300e3)
    assert energy.radiation is Radiation.ELECTRONS


def test_without_a_wavelength_the_standard_of_the_path_decides():
    energy = energy_ev(Reading("/e", 100.0), APS, None)
    assert (energy.ev, energy.unit) == (100e3, "keV")
    assert "standard unit of the path" in energy.why


@pytest.mark.parametrize(("off", "fits"), [(1.019, True), (0.981, True), (1.03, False), (0.97, False)])
def test_energy_and_wavelength_may_differ_by_two_percent(off, fits):
    reading, wavelength = Reading("/e", 8800.0), off * HC_EV_M / 8800.0
    if fits:
        assert energy_ev(reading, CXI, wavelength).ev == 8800.0
    else:
        with pytest.raises(FormatError, match=r"/e: .*8800.*wavelength.*set read.energy_ev"):
            energy_ev(reading, CXI, wavelength)


@pytest.mark.parametrize(
    ("value", "unit"),
    [(8000.0, "J"), (8.0, None), (5e5, None), (0.0, None), (-8800.0, None), (float("nan"), None), (8.8, "GeV")],
)
def test_an_implausible_energy_is_refused_whatever_the_attribute_says(value, unit):
    with pytest.raises(FormatError, match=r"/e: .*no energy.*set read.energy_ev"):
        energy_ev(Reading("/e", value, unit), CXI, None)


def test_an_attribute_that_the_wavelength_contradicts_is_refused():
    with pytest.raises(FormatError, match="wavelength"):
        energy_ev(Reading("/e", 100.0, "keV"), APS, HC_EV_M / 100.0)


def test_unknown_energy_units_are_refused():
    with pytest.raises(FormatError, match=r"'furlong' are not understood as an energy; set read.energy_ev"):
        energy_ev(Reading("/e", 8800.0, "furlong"), CXI, None)


@pytest.mark.parametrize(
    ("value", "unit", "metres"), [(1.92, None, 1.92), (1920.0, "mm", 1.92), (1.92, "m", 1.92), (1.92e6, " um", 1.92)]
)
def test_lengths(value, unit, metres):
    found, note = length_m(Reading("/d", value, unit), (1e-3, 200.0), "distance_m")
    assert found == pytest.approx(metres)
    assert "/d" in note


@pytest.mark.parametrize("value", [1920.0, 0.0, -1.0, float("nan"), float("inf")])
def test_an_implausible_length_is_refused_rather_than_rescaled(value):
    with pytest.raises(FormatError, match=r"/d: .*set read.distance_m"):
        length_m(Reading("/d", value), (1e-3, 200.0), "distance_m")


UNITS = {"m": 1.0, "mm": 1e-3, "um": 1e-6, "nm": 1e-9}


@pytest.mark.parametrize("standard", UNITS)
@pytest.mark.parametrize("stored", UNITS)
@pytest.mark.parametrize("step", [50e-9, 200e-9, 500e-9])
def test_the_standard_unit_is_taken_if_it_fits_and_no_other_ever(standard, stored, step):
    xy = raster(step_m=step) / UNITS[stored]
    if stored == standard:
        scale, note = position_scale(xy, None, standard, FIELD_M, "/p")
        assert scale == UNITS[standard]
        assert f"{standard}, the standard unit of the path" in note
    else:
        with pytest.raises(FormatError, match=rf"/p: in {standard} .*in {stored} they would fit; set read.position_unit"):
            position_scale(xy, None, standard, FIELD_M, "/p")


def test_an_attribute_is_believed_with_a_warning():
    scale, note = position_scale(raster() * 1e-3, "m", "m", FIELD_M, "/p")
    assert scale == 1
    assert "believed although" in note


@pytest.mark.parametrize(("unit", "step"), [("m", 0.6 * FIELD_M), (None, 0.6 * FIELD_M), ("m", 1e6 * FIELD_M)])
def test_steps_of_more_than_half_of_the_field_are_near_field(unit, step):
    with pytest.raises(FormatError, match=r"/p: in m .*more than half of the field of view.*near field"):
        position_scale(raster(step_m=step), unit, "m", FIELD_M, "/p")


@pytest.mark.parametrize("exposures", [2, 4, 9])
def test_exposures_at_one_place_are_no_steps(exposures):
    rng = np.random.default_rng(0)
    xy = np.repeat(raster(step_m=0.1 * FIELD_M), exposures, axis=0)
    xy += rng.normal(0, 1.5e-9, xy.shape)
    assert median_step(xy) == pytest.approx(0.1 * FIELD_M, rel=0.1)
    assert position_scale(xy * 1e6, None, "um", FIELD_M, "/p")[0] == 1e-6


def test_a_line_has_steps_too():
    xy = np.stack([np.arange(40) * 0.1 * FIELD_M, np.zeros(40)], axis=1)
    assert median_step(xy) == pytest.approx(0.1 * FIELD_M)


def test_a_fly_scan_has_the_steps_of_its_frames():
    xy = np.stack(np.meshgrid(np.arange(200) * 2e-8, np.arange(10) * 2e-7), axis=-1).reshape(-1, 2)
    assert median_step(xy) == pytest.approx(2e-8)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("8.8 keV", (8.8, "keV")),
        ("8800", (8800.0, None)),
        (" 1.4e-15J ", (1.4e-15, "J")),
        ("keV", None),
        ("8,8 keV", (8.0, ",8 keV")),
    ],
)
def test_numbers_in_texts(text, found):
    assert parse_number(text) == found


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
