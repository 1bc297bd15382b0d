"""What makes the patterns, as files say it: the kind of radiation, and its energy in the units of every kind of reader."""

import math

import h5py

from streamptycho.files.items import ENTRY, put
from streamptycho.messages.geometry import JOULE_PER_EV, Geometry, Radiation

SOURCE = f"{ENTRY}/instrument_1/source_1"
BEAM = f"{ENTRY}/instrument_1/beam_1"
_ENERGY = {
    Radiation.PHOTONS: "photon energy in electronvolts; CXI 1.6 has joules here, which are in beam_1/energy",
    Radiation.ELECTRONS: "kinetic energy of an electron in electronvolts; the wavelength beside it is relativistic",
}


def describe_source(file: h5py.File, geometry: Geometry, *, joules: bool = False) -> None:
    """Put radiation, energy and wavelength; a wavelength that nobody has said is left out.

    joules : the energy of the source is in joules, as CXI 1.6 has it, instead of electronvolts.
    """
    put(file, f"{SOURCE}/name", "unknown")
    electrons = geometry.radiation is Radiation.ELECTRONS
    put(file, f"{SOURCE}/probe", "electron" if electrons else "x-ray")
    if not electrons:
        put(file, f"{SOURCE}/type", "Synchrotron X-ray Source")
    if math.isnan(geometry.wavelength_m):
        return
    energy_ev = geometry.energy_ev
    if joules:
        put(file, f"{SOURCE}/energy", energy_ev * JOULE_PER_EV, "J")
    else:
        put(file, f"{SOURCE}/energy", energy_ev, "eV", note=_ENERGY[geometry.radiation])
    put(file, f"{SOURCE}/wavelength", geometry.wavelength_m, "m")
    put(file, f"{BEAM}/energy", energy_ev * JOULE_PER_EV, "J")
    put(file, f"{BEAM}/incident_beam_energy", energy_ev * JOULE_PER_EV, "J")
    put(file, f"{BEAM}/incident_energy", energy_ev, "eV")
    put(file, f"{BEAM}/incident_energy_spread", math.nan, "eV", meaning="not known; NXcxi_ptycho requires it")
    put(file, f"{BEAM}/incident_wavelength", geometry.wavelength_m, "m")
