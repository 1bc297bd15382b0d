"""Layouts of files: where programs and facilities keep things, and in which units where the file says nothing.

Owns the paths of all layouts. Says nothing about what the numbers mean: see :mod:`~streamptycho.files.recorded.quantities`.
In a path ``{entry}`` stands for the entry that is read, ``*`` for the numbers of a series, ``@name`` is an attribute.
"""

from dataclasses import dataclass
from enum import StrEnum


class Dialect(StrEnum):
    """Layouts that are distinguished."""

    SEED_CXI = "cxi-ev"
    """CXI paths, energy in electronvolts, mask 1 = valid."""
    STANDARD_CXI = "cxi-1.6"
    """CXI 1.6: energy in joules, mask a bit field with 0 = good."""
    APS = "aps-hdf5"
    """``/exchange`` and ``/instrument``: positions in micrometres, energy in kiloelectronvolts."""
    STREAMPTYCHO = "streamptycho"
    """Written by this project, finished or still growing."""
    NEXUS = "nexus"
    """NXdetector below an entry: DECTRIS master files, NXcxi_ptycho, odin-data, Diamond."""
    NANOMAX = "nanomax"
    NSLS2 = "nsls2"
    """``/diffamp``: amplitudes, fftshifted, as the HXN beamline prepares them."""
    PTYPY = "ptypy"
    """``.ptyd``: frames in chunks."""
    PTYLAB = "ptylab"
    FOLD_SLICE = "fold_slice"
    """``/dp`` of fold_slice and PtychoShelves; positions in the ``_para`` file."""
    PTYCHODUS = "ptychodus"
    """``patterns`` beside a product with the positions."""


@dataclass(frozen=True, slots=True)
class Place:
    """A dataset or attribute, and the units that its numbers are in where nothing says so, the standard one first."""

    path: str
    units: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PositionPlace:
    """One dataset of rows, or one for each column; `columns` names what is stored, in order."""

    paths: tuple[str, ...]
    unit: str
    columns: str = "xy"


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a family of files keeps things; the first that exists counts."""

    dialect: Dialect
    frames: tuple[str, ...]
    positions: tuple[PositionPlace, ...] = ()
    energy: tuple[Place, ...] = ()
    wavelength: tuple[Place, ...] = ()
    distance: tuple[Place, ...] = ()
    pixel_y: tuple[Place, ...] = ()
    pixel_x: tuple[Place, ...] = ()
    object_pixel: tuple[Place, ...] = ()
    """Of the object, where a file has that instead of a distance."""
    mask: tuple[str, ...] = ()
    zero_is_good: bool = False
    """Whether the mask of this layout is a bit field by its standard."""
    weights: tuple[str, ...] = ()
    """Weights of the pixels of each frame: 0 = not measured."""
    dark: tuple[str, ...] = ()
    probe: tuple[str, ...] = ()
    beam_center: tuple[str, ...] = ()
    """Paths of y and x, pixels."""
    radiation: tuple[str, ...] = ()
    """Texts that say what makes the patterns."""
    amplitudes: bool = False
    """Whether the frames are square roots of counts."""


_J_EV, _KEV, _EV, _M = ("J", "eV"), ("keV",), ("eV",), ("m",)
_CXI_ENERGY = tuple(
    Place(f"/{{entry}}/instrument_1/{name}", _J_EV)
    for name in ("source_1/energy", "beam_1/incident_energy", "beam_1/incident_beam_energy", "beam_1/energy")
)
_CXI_DETECTOR = "/{entry}/instrument_1/detector_1"
CXI = Layout(
    Dialect.SEED_CXI,
    frames=("/{entry}/data_1/data", f"{_CXI_DETECTOR}/data"),
    positions=(
        PositionPlace(("/{entry}/sample_1/geometry_1/translation",), "m", "xyz"),
        PositionPlace(("/{entry}/data_1/translation",), "m", "xyz"),
        PositionPlace((f"{_CXI_DETECTOR}/translation",), "m", "xyz"),
        PositionPlace(("/{entry}/sample_1/transformations/x", "/{entry}/sample_1/transformations/y"), "m"),
    ),
    energy=_CXI_ENERGY,
    wavelength=tuple(
        Place(f"/{{entry}}/instrument_1/{name}", _M)
        for name in ("source_1/wavelength", "beam_1/incident_wavelength", "beam_1/wavelength")
    ),
    distance=(Place(f"{_CXI_DETECTOR}/distance", _M),),
    pixel_y=(Place(f"{_CXI_DETECTOR}/y_pixel_size", _M),),
    pixel_x=(Place(f"{_CXI_DETECTOR}/x_pixel_size", _M),),
    mask=(f"{_CXI_DETECTOR}/mask", f"{_CXI_DETECTOR}/pixel_mask"),
    dark=(f"{_CXI_DETECTOR}/data_dark", f"{_CXI_DETECTOR}/dark"),
    probe=(
        "/{entry}/instrument_1/illumination_1/probe", "/{entry}/instrument_1/source_1/illumination",
        f"{_CXI_DETECTOR}/probe",
    ),
    radiation=("/{entry}/instrument_1/source_1/probe", "/{entry}/instrument_1/source_1/type"),
)  # fmt: skip
APS = Layout(
    Dialect.APS,
    frames=("/exchange/data",),
    positions=(
        PositionPlace(("/exchange/positions_x", "/exchange/positions_y"), "um"),
        PositionPlace(("/exchange/motor_pos",), "mm"),
    ),
    energy=(Place("/instrument/source/energy", _KEV),),
    wavelength=(Place("/instrument/source/wavelength", _M),),
    distance=(Place("/instrument/detector/distance", _M),),
    pixel_y=(Place("/instrument/detector/y_pixel_size", _M), Place("/instrument/detector/pixel_size", _M)),
    pixel_x=(Place("/instrument/detector/x_pixel_size", _M), Place("/instrument/detector/pixel_size", _M)),
    mask=("/instrument/detector/mask", "/exchange/mask"),
    dark=("/exchange/data_dark",),
    radiation=("/instrument/source/probe",),
)


def _below(groups: tuple[str, ...], *names: str) -> tuple[Place, ...]:
    """Lengths below groups of an entry, in metres by their standard."""
    return tuple(Place(f"/{{entry}}/{group}/{name}", _M) for group in groups for name in names)


_NX_DETECTORS = ("instrument/detector", "instrument/detector_1", "instrument_1/detector_1", "instrument/eiger")
NEXUS = Layout(
    Dialect.NEXUS,
    frames=("/{entry}/data/data", "/{entry}/data/data_*", *(f"/{{entry}}/{group}/data" for group in _NX_DETECTORS)),
    positions=(
        PositionPlace(("/{entry}/data/x", "/{entry}/data/y"), "m"),
        PositionPlace(("/{entry}/sample/transformations/x", "/{entry}/sample/transformations/y"), "m"),
        PositionPlace(("/{entry}/sample/geometry/translation",), "m", "xyz"),
    ),
    energy=(
        Place("/{entry}/instrument/beam/incident_energy", _EV), Place("/{entry}/instrument/beam/incident_beam_energy", _EV),
        Place("/{entry}/instrument/detector/detectorSpecific/photon_energy", _EV),
        Place("/{entry}/instrument/monochromator/energy", _EV), Place("/{entry}/instrument_1/beam_1/energy", _J_EV),
    ),
    wavelength=(
        Place("/{entry}/instrument/beam/incident_wavelength", ("angstrom",)),
        Place("/{entry}/instrument/monochromator/wavelength", ("angstrom",)),
    ),
    distance=_below(_NX_DETECTORS, "detector_distance", "distance"),
    pixel_y=_below(_NX_DETECTORS, "y_pixel_size"),
    pixel_x=_below(_NX_DETECTORS, "x_pixel_size"),
    mask=tuple(place.path for place in _below(_NX_DETECTORS, "pixel_mask", "detectorSpecific/pixel_mask")),
    zero_is_good=True,
    beam_center=("/{entry}/instrument/detector/beam_center_y", "/{entry}/instrument/detector/beam_center_x"),
    radiation=("/{entry}/instrument/source/probe",),
)  # fmt: skip
NANOMAX = Layout(
    Dialect.NANOMAX,
    frames=(
        *(f"/{{entry}}/measurement/{name}/frames" for name in ("eiger4m", "eiger1m", "eiger", "merlin", "pilatus")),
        "/{entry}/measurement/Eiger/data",
    ),
    positions=(PositionPlace(("/{entry}/measurement/pseudo/x", "/{entry}/measurement/pseudo/y"), "um"),),
    energy=(Place("/{entry}/snapshots/post_scan/energy", _EV), Place("/{entry}/snapshots/pre_scan/energy", _EV)),
)
NSLS2 = Layout(
    Dialect.NSLS2,
    frames=("/diffamp",),
    positions=(PositionPlace(("/points",), "um"),),
    wavelength=(Place("/lambda_nm", ("nm",)),),
    distance=(Place("/z_m", _M),),
    pixel_y=(Place("/ccd_pixel_um", ("um",)),),
    pixel_x=(Place("/ccd_pixel_um", ("um",)),),
    amplitudes=True,
)
NSLS2_RAW = Layout(
    Dialect.NSLS2,
    frames=("/diff_data/merlin1/det_images",),
    positions=(PositionPlace(("/scan/scan_positions",), "um"),),
    energy=(Place("/scan/energy", _KEV),),
)
PTYPY = Layout(
    Dialect.PTYPY,
    frames=("/chunks/*/data",),
    positions=(PositionPlace(("/chunks/*/positions",), "m", "yx"),),
    energy=(Place("/meta/energy", _KEV), Place("/info/energy", _KEV)),
    distance=(Place("/meta/distance", _M), Place("/info/distance", _M)),
    pixel_y=(Place("/meta/psize", _M), Place("/info/psize", _M)),
    pixel_x=(Place("/meta/psize", _M), Place("/info/psize", _M)),
    weights=("/chunks/*/weights",),
)
PTYLAB = Layout(
    Dialect.PTYLAB,
    frames=("/ptychogram",),
    positions=(PositionPlace(("/encoder",), "m", "yx"), PositionPlace(("/positions",), "m", "yx")),
    wavelength=(Place("/wavelength", _M),),
    distance=(Place("/zo", _M),),
    pixel_y=(Place("/dxd", _M),),
    pixel_x=(Place("/dxd", _M),),
    dark=("/background",),
    radiation=("/radiation",),
)
FOLD_SLICE = Layout(
    Dialect.FOLD_SLICE,
    frames=("/dp",),
    positions=(PositionPlace(("/ppX", "/ppY"), "m"),),
    wavelength=(Place("/lambda", _M),),
    object_pixel=(Place("/dx", _M),),
)
PTYCHODUS = Layout(
    Dialect.PTYCHODUS,
    frames=("/patterns",),
    positions=(PositionPlace(("/probe_position_x_m", "/probe_position_y_m"), "m"),),
    energy=(Place("/@probe_energy_eV", _EV),),
    distance=(Place("/@detector_object_distance_m", _M),),
    probe=("/probe",),
)
LAYOUTS = (CXI, APS, NEXUS, NANOMAX, NSLS2, NSLS2_RAW, PTYPY, PTYLAB, FOLD_SLICE, PTYCHODUS)
