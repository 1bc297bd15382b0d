"""Files of many kinds that nobody here wrote: each is read rightly, or refused with the setting that settles it.

The kinds are those of ``shared/data/cases``; files are made here, small, from what the formats say.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from streamptycho.errors import FormatError
from streamptycho.files.options import ReadOptions
from streamptycho.files.scan import open_scan
from streamptycho.messages.geometry import HC_EV_M, JOULE_PER_EV, Radiation
from tests.files.factories import DETECTOR, DISTANCE_M, ENERGY_EV, FIELD_M, PITCH_M, SOURCE, TRANSLATION, Foreign, raster

SHAPE = (24, 24)
FRAMES = "/entry_1/data_1/data"
MASK = f"{DETECTOR}/mask"
N = 30
XY_M = raster(N)
YX_M = XY_M[:, ::-1]


def patterns(n: int = N, shape: tuple[int, int] = SHAPE, peak: float = 400.0) -> np.ndarray:
    """Counts (n, ny, nx) uint16 of a round beam, each frame another one, brighter below than above."""
    y, x = (np.arange(side) - side // 2 for side in shape)
    beam = peak * np.exp(-(y[:, None] ** 2 + x**2) / 18) * (1 + 0.2 * np.sign(y[:, None])) + 0.3
    return np.random.default_rng(3).poisson(beam, (n, *shape)).astype(np.uint16)


COUNTS = patterns()
GEOMETRY = {"energy_ev": ENERGY_EV, "distance_m": DISTANCE_M, "pixel_size_m": (PITCH_M, PITCH_M)}


def cxi(standard: bool = True, **items) -> Foreign:
    """A plain CXI file; `standard`: with joules and a version."""
    energy = {f"{SOURCE}/energy": ENERGY_EV * (JOULE_PER_EV if standard else 1)}
    version = {"cxi_version": 160} if standard else {}
    lengths = {f"{DETECTOR}/distance": DISTANCE_M, f"{DETECTOR}/x_pixel_size": PITCH_M, f"{DETECTOR}/y_pixel_size": PITCH_M}
    translation = {TRANSLATION: np.concatenate([XY_M, np.zeros((N, 1))], axis=1)}
    return Foreign({FRAMES: COUNTS, **version, **energy, **lengths, **translation, **items})


def corners(counts: np.ndarray) -> np.ndarray:
    return np.fft.ifftshift(counts, axes=(1, 2))


def bad(fraction: float) -> np.ndarray:
    """(ny, nx) bool: so many of the darkest pixels."""
    mean = COUNTS.mean(0)
    return mean <= np.quantile(mean, fraction)


@dataclass
class Reads:
    """A file, what settles it, and what is right."""

    foreign: Foreign
    counts: np.ndarray | None = None
    valid: np.ndarray | None = None
    note: str = ""
    energy_ev: float = ENERGY_EV
    radiation: Radiation = Radiation.PHOTONS
    options: dict | None = None


def with_unit(unit: str, scale: float, path: str = TRANSLATION) -> Foreign:
    foreign = cxi()
    foreign.items[path] = foreign.items[path] / scale
    foreign.attrs[path, "units"] = unit
    return foreign


def reserved(dtype: str, value: float) -> tuple[Foreign, np.ndarray]:
    """Frames in another type, whose gaps hold `value`."""
    frames = COUNTS.astype(dtype)
    frames[:, 3, :] = frames[:, 9, 9] = value
    valid = np.ones(SHAPE, np.bool_)
    valid[3] = valid[9, 9] = False
    return cxi(**{FRAMES: frames}), valid


def gaps(dtype: str, value: float) -> Reads:
    foreign, valid = reserved(dtype, value)
    return Reads(foreign, valid=valid, note="nothing is measured there")


READS: dict[str, Callable[[], Reads]] = {
    "joules": lambda: Reads(cxi()),
    "electronvolts": lambda: Reads(cxi(standard=False)),
    "keV attribute": lambda: Reads(_energy(8.8, "keV")),
    "KeV attribute": lambda: Reads(_energy(8.8, "KeV")),
    "text with unit": lambda: Reads(cxi(**{f"{SOURCE}/energy": "8.8 keV"})),
    "energy per frame": lambda: Reads(cxi(**{f"{SOURCE}/energy": np.full(N, ENERGY_EV * JOULE_PER_EV)})),
    "wavelength alone": lambda: Reads(_wavelength(HC_EV_M / ENERGY_EV, None)),
    "wavelength in angstroms": lambda: Reads(_wavelength(HC_EV_M / ENERGY_EV * 1e10, "Angstroms")),
    "wavelength in pm": lambda: Reads(_wavelength(HC_EV_M / ENERGY_EV * 1e12, "picometers")),
    "ring energy beside it": lambda: Reads(
        cxi(**{f"{SOURCE}/energy": 6.0, "/entry_1/instrument_1/beam_1/incident_beam_energy": ENERGY_EV * JOULE_PER_EV})
    ),
    "micrometers": lambda: Reads(with_unit("micrometers", 1e-6)),
    "Millimetres": lambda: Reads(with_unit("Millimetres", 1e-3)),
    "microns": lambda: Reads(with_unit("microns", 1e-6)),
    "angstroms": lambda: Reads(with_unit("angstroms", 1e-10)),
    "nm in brackets": lambda: Reads(with_unit("[nm]", 1e-9)),
    "distance in cm": lambda: Reads(with_unit("centimeters", 1e-2, f"{DETECTOR}/distance")),
    "basis vectors per frame": lambda: Reads(
        cxi(**{f"{DETECTOR}/basis_vectors": np.tile([[0, -PITCH_M, 0], [-PITCH_M, 0, 0]], (N, 1, 1))})
    ),
    "mask of two thirds": lambda: Reads(
        cxi(**{MASK: bad(0.66).astype("u4")}), valid=~bad(0.66), note="0 = good from the standard"
    ),
    "mask 1 = valid": lambda: Reads(
        cxi(standard=False, **{MASK: (~bad(0.1)).astype("u1")}), valid=~bad(0.1), note="1 = valid from the light"
    ),
    "mask 0 and 255": lambda: Reads(cxi(standard=False, **{MASK: 255 * (~bad(0.3)).astype("u1")}), valid=~bad(0.3)),
    "mask 255 = bad": lambda: Reads(cxi(standard=False, **{MASK: 255 * bad(0.3).astype("u1")}), valid=~bad(0.3)),
    "mask of floats": lambda: Reads(cxi(standard=False, **{MASK: (~bad(0.2)).astype("f8")}), valid=~bad(0.2)),
    "mask of one plane": lambda: Reads(cxi(**{MASK: bad(0.2).astype("u4")[None]}), valid=~bad(0.2)),
    "mask per frame, all equal": lambda: Reads(cxi(**{MASK: np.tile(bad(0.2).astype("u1"), (N, 1, 1))}), valid=~bad(0.2)),
    "pixel_mask": lambda: Reads(
        cxi(standard=False, **{f"{DETECTOR}/pixel_mask": bad(0.6).astype("u4")}), valid=~bad(0.6), note="NXdetector"
    ),
    "bits": lambda: Reads(cxi(**{MASK: np.where(bad(0.2), 0x84, 0x1000).astype("u4")}), valid=~bad(0.2)),
    "uint32 with 65535": lambda: gaps("u4", 65535),
    "uint32 with its largest": lambda: gaps("u4", 2**32 - 1),
    "int32 with its largest": lambda: gaps("i4", 2**31 - 1),
    "int32 with -1": lambda: gaps("i4", -1),
    "int64 with 2^32 - 1": lambda: gaps("i8", 2**32 - 1),
    "uint64 with its largest": lambda: gaps("u8", 2**64 - 1),
    "float32 with -1": lambda: gaps("f4", -1),
    "float32 with nan": lambda: gaps("f4", np.nan),
    "float64 with 65535": lambda: gaps("f8", 65535),
    "int64": lambda: Reads(cxi(**{FRAMES: COUNTS.astype("i8")})),
    "bool": lambda: Reads(cxi(**{FRAMES: COUNTS > 200}), counts=(COUNTS > 200).astype("u1")),
    "negative noise": lambda: Reads(cxi(**{FRAMES: _noisy()}), counts=_noisy()),
    "big-endian": lambda: Reads(cxi(**{FRAMES: COUNTS.astype(">u2")})),
    "MATLAB order": lambda: Reads(cxi(**{FRAMES: COUNTS.transpose(1, 2, 0)}), note="stored as y, x, n"),
    "transposed as set": lambda: Reads(cxi(**{FRAMES: COUNTS.transpose(0, 2, 1)}), options={"axes": "nxy"}),
    "fftshifted": lambda: Reads(cxi(**{FRAMES: corners(COUNTS)}), note="moved to the centre"),
    "fftshifted, with a mask": lambda: Reads(
        cxi(**{FRAMES: corners(COUNTS), MASK: np.fft.ifftshift(bad(0.2)).astype("u4")}), valid=~bad(0.2)
    ),
    "fftshifted as set": lambda: Reads(cxi(**{FRAMES: corners(COUNTS)}), options={"shifted": True}),
    "amplitudes": lambda: Reads(cxi(**{FRAMES: np.sqrt(COUNTS.astype("f4"))}), note="squared"),
    "scaled amplitudes": lambda: Reads(
        cxi(**{FRAMES: 0.013 * np.sqrt(COUNTS.astype("f8"))}), counts=0.013**2 * COUNTS, note="squared"
    ),
    "normalised": lambda: Reads(
        cxi(**{FRAMES: (COUNTS / COUNTS.max()).astype("f4")}), counts=(COUNTS / COUNTS.max()).astype("f4")
    ),
    "two entries": lambda: Reads(_two_entries(), options={"entry": "entry_2"}),
    "electrons, as set": lambda: Reads(
        _electrons(), energy_ev=300e3, radiation=Radiation.ELECTRONS, options={"radiation": "electrons"}
    ),
    "electrons by the wavelength": lambda: Reads(
        _electrons(**{f"{SOURCE}/wavelength": 1.96875e-12}), energy_ev=300e3, radiation=Radiation.ELECTRONS
    ),
    "electrons by their source": lambda: Reads(
        _electrons(**{f"{SOURCE}/probe": "electron"}), energy_ev=300e3, radiation=Radiation.ELECTRONS
    ),
    "electrons in keV": lambda: Reads(
        _electrons(**{f"{SOURCE}/energy": "300 keV", f"{SOURCE}/type": "Electron Source"}),
        energy_ev=300e3, radiation=Radiation.ELECTRONS,
    ),
    "beam centre off the detector": lambda: Reads(cxi(**{f"{DETECTOR}/corner_position": [-1.0, -1.0, DISTANCE_M]})),
    "chunks of many frames": lambda: Reads(cxi()),
}  # fmt: skip


def _energy(value: float, unit: str) -> Foreign:
    foreign = cxi(**{f"{SOURCE}/energy": value})
    foreign.attrs[f"{SOURCE}/energy", "units"] = unit
    return foreign


def _wavelength(value: float, unit: str | None) -> Foreign:
    foreign = cxi(**{f"{SOURCE}/wavelength": value})
    del foreign.items[f"{SOURCE}/energy"]
    if unit is not None:
        foreign.attrs[f"{SOURCE}/wavelength", "units"] = unit
    return foreign


def _noisy() -> np.ndarray:
    noise = np.random.default_rng(5).normal(0, 2, COUNTS.shape)
    return (COUNTS + noise).round().astype("i2")


def _electrons(**items) -> Foreign:
    distance = DISTANCE_M * HC_EV_M / ENERGY_EV / Radiation.ELECTRONS.wavelength_m(300e3)
    return cxi(**{f"{SOURCE}/energy": 300e3 * JOULE_PER_EV, f"{DETECTOR}/distance": distance} | items)


def _two_entries() -> Foreign:
    foreign = cxi()
    second = {path.replace("entry_1", "entry_2"): value for path, value in foreign.items.items()}
    foreign.items[FRAMES] = COUNTS[::-1]
    foreign.items |= second
    return foreign


@pytest.mark.parametrize("kind", READS)
def test_it_is_read_rightly(kind: str, tmp_path: Path) -> None:
    case = READS[kind]()
    with open_scan(case.foreign.write(tmp_path / "f.cxi"), ReadOptions(**(case.options or {}))) as scan:
        geometry = scan.geometry
        assert geometry.energy_ev == pytest.approx(case.energy_ev, rel=1e-3)
        assert geometry.radiation is case.radiation
        assert geometry.object_pixel_m(SHAPE) == pytest.approx((FIELD_M / SHAPE[0],) * 2, rel=1e-3)
        assert np.allclose(scan.yx_m, YX_M, atol=1e-12)
        valid = np.ones(SHAPE, np.bool_) if scan.valid is None else scan.valid
        assert np.array_equal(valid, np.ones(SHAPE, np.bool_) if case.valid is None else case.valid)
        counts = COUNTS if case.counts is None else case.counts
        # what is not valid holds no count
        where = valid if {"reserved", "nan"} & scan.understood.keys() else np.ones(SHAPE, np.bool_)
        for i in (0, 7, N - 1):
            assert np.allclose(scan.frame(i)[where], counts[i][where], rtol=1e-4)
            assert np.array_equal(scan.payload(i).decode(0), scan.frame(i), equal_nan=True)
        assert any(case.note in note for note in scan.understood.values())


REFUSED: dict[str, tuple[Callable[[], Foreign], str, dict]] = {
    "positions in um": (lambda: _scaled(1e6), r"in um they would fit; set read.position_unit", {"position_unit": "um"}),
    "positions in mm": (lambda: _scaled(1e3), r"in mm they would fit; set read.position_unit", {"position_unit": "mm"}),
    "positions in nm": (lambda: _scaled(1e9), r"in nm they would fit; set read.position_unit", {"position_unit": "nm"}),
    "unknown unit": (
        lambda: with_unit("clicks", 1e-6),
        r"'clicks' are not understood as a length; set read.position_unit",
        {"position_unit": "um"},
    ),
    "near field": (lambda: _scaled(6.0), "near field", {"distance_m": DISTANCE_M * 10}),
    "energy per frame": (
        lambda: cxi(**{f"{SOURCE}/energy": np.linspace(1.40e-15, 1.42e-15, N)}),
        r"30 values.*set read.energy_ev",
        {"energy_ev": ENERGY_EV},
    ),
    "energy in keV at a path of J": (
        lambda: cxi(**{f"{SOURCE}/energy": 8.8}),
        r"keV would be 8800 eV\); set read.energy_ev",
        {"energy_ev": ENERGY_EV},
    ),
    "energy as a word": (
        lambda: cxi(**{f"{SOURCE}/energy": "high"}),
        r"'high' is not a number; set read.energy_ev",
        {"energy_ev": ENERGY_EV},
    ),
    "energy against wavelength": (
        lambda: cxi(**{f"{SOURCE}/wavelength": 1e-10}),
        r"wavelength.*set read.energy_ev",
        {"energy_ev": ENERGY_EV},
    ),
    "wavelength in nm, bare": (
        lambda: _wavelength(0.1409, None),
        r"wavelength: 0.1409 without units.*nm would be 1.409e-10 m.*set read.energy_ev",
        {"energy_ev": ENERGY_EV},
    ),
    "distance in mm": (
        lambda: cxi(**{f"{DETECTOR}/distance": 1920.0}),
        r"mm would be 1.92 m.*set read.distance_m",
        {"distance_m": DISTANCE_M},
    ),
    "distance in mm, short": (
        lambda: cxi(**{f"{DETECTOR}/distance": 150.0}),
        r"mm would be 0.15 m.*set read.distance_m",
        {"distance_m": DISTANCE_M},
    ),
    "pixel in um": (
        lambda: cxi(**{f"{DETECTOR}/x_pixel_size": 75.0, f"{DETECTOR}/y_pixel_size": 75.0}),
        r"um would be 7.5e-05 m.*set read.pixel_size_m",
        {"pixel_size_m": (PITCH_M, PITCH_M)},
    ),
    "electrons": (_electrons, r"set read.radiation to photons or electrons", {"radiation": "electrons"}),
    "electrons, fine steps": (lambda: _fine(), r"electron microscope.*set read.radiation", {"radiation": "photons"}),
    "mask that hides the light": (
        lambda: cxi(**{MASK: (~bad(0.2)).astype("u1")}),
        r"hold \d+% of the light; set read.mask",
        {"mask": "one-is-valid"},
    ),
    "mask that splits the light": (
        lambda: cxi(standard=False, **{MASK: (np.arange(24) % 2 + np.zeros(SHAPE)).astype("u1")}),
        r"neither 0 nor 1 is clearly 'valid'; set read.mask",
        {"mask": "ignore"},
    ),
    "mask of fractions": (
        lambda: cxi(**{MASK: np.full(SHAPE, 0.5)}),
        r"no mask; set read.mask = 'ignore'",
        {"mask": "ignore"},
    ),
    "mask of each frame": (
        lambda: cxi(**{MASK: (COUNTS > 3).astype("u1")}),
        r"another mask for each frame.*set read.mask = 'ignore'",
        {"mask": "ignore"},
    ),
    "mask of another shape": (
        lambda: cxi(**{MASK: np.zeros((4, 4), "u1")}),
        r"differs from the frame's \(24, 24\); set read.mask = 'ignore'",
        {"mask": "ignore"},
    ),
    "two entries": (_two_entries, r"entry_1, entry_2 have frames each; set read.entry", {"entry": "entry_2"}),
    "frames along which axis": (
        lambda: cxi(**{FRAMES: COUNTS[:28].transpose(1, 2, 0)}),
        r"set read.axes to nyx or yxn",
        {"axes": "yxn", "truncate": True},
    ),
    "half in the corners": (
        lambda: cxi(**{FRAMES: corners(COUNTS) + COUNTS // 3}),
        r"set read.shifted to true or false",
        {"shifted": False},
    ),
    "basis vectors that differ": (
        lambda: cxi(**{f"{DETECTOR}/basis_vectors": np.arange(N * 6.0).reshape(N, 2, 3)}),
        r"differ from frame to frame.*read.basis_vectors = 'ignore'",
        {"basis_vectors": "ignore"},
    ),
}


def _scaled(factor: float) -> Foreign:
    return cxi(**{TRANSLATION: np.concatenate([XY_M * factor, np.zeros((N, 1))], axis=1)})


def _fine() -> Foreign:
    """Steps of 0.2 nm in a field of 2 nm, at an energy that photons have too."""
    scale = 2e-9 / FIELD_M
    foreign = _scaled(0.1 * scale / 0.1)
    foreign.items[f"{DETECTOR}/distance"] = 1.2e-3
    foreign.items[f"{DETECTOR}/x_pixel_size"] = foreign.items[f"{DETECTOR}/y_pixel_size"] = (
        1.2e-3 * HC_EV_M / ENERGY_EV / 2e-9
    )
    return foreign


@pytest.mark.parametrize("kind", REFUSED)
def test_it_is_refused_with_the_setting_that_settles_it(kind: str, tmp_path: Path) -> None:
    make, expected, remedy = REFUSED[kind]
    path = make().write(tmp_path / "f.cxi")
    with pytest.raises(FormatError, match=expected) as refused:
        open_scan(path)
    assert "\n" not in str(refused.value)
    with open_scan(path, ReadOptions(**remedy)) as scan:
        assert len(scan) > 0


@pytest.mark.parametrize(
    ("place", "value", "near"),
    [
        ("/entry_1/near_field", 1, True),
        ("/entry_1/instrument_1/detector_1/is_near_field", True, True),
        ("/entry_1/data_1@propagation", "nearfield", True),
        ("/info/propagation", "near-field", True),
        ("/entry_1/near_field", 0, False),
        ("/info/propagation", "farfield", False),
    ],
)
def test_a_file_that_says_near_field_is_refused(tmp_path, place, value, near):
    path = cxi().write(tmp_path / "f.cxi")
    with h5py.File(path, "r+") as file:
        name, mark, attribute = place.partition("@")
        if mark:
            file[name].attrs[attribute] = value
        else:
            file[name] = value
    if near:
        with pytest.raises(FormatError, match=f"{place} says near field, and only patterns of the far field"):
            open_scan(path)
    else:
        open_scan(path).close()


class TestMissing:
    """What a file only points to."""

    def test_frames_behind_a_link_to_no_file(self, tmp_path):
        path = cxi().write(tmp_path / "f.cxi")
        with h5py.File(path, "r+") as file:
            del file[FRAMES]
            file[FRAMES] = h5py.ExternalLink("gone.h5", "/entry/data/data")
        with pytest.raises(FormatError, match=r"should be in gone.h5::/entry/data/data, which is not there"):
            open_scan(path)

    def test_a_virtual_dataset_whose_sources_are_gone(self, tmp_path):
        path = cxi().write(tmp_path / "f.cxi")
        layout = h5py.VirtualLayout((N, *SHAPE), "u2")
        for k in range(3):
            with h5py.File(tmp_path / f"part{k}.h5", "w") as part:
                part["data"] = COUNTS[10 * k : 10 * k + 10]
            layout[10 * k : 10 * k + 10] = h5py.VirtualSource(f"part{k}.h5", "data", (10, *SHAPE))
        with h5py.File(path, "r+") as file:
            del file[FRAMES]
            file.create_virtual_dataset(FRAMES, layout)
        (tmp_path / "part1.h5").unlink()
        with open_scan(path) as scan:
            assert scan.index.tolist() == [*range(10), *range(20, 30)]
            assert np.array_equal(scan.frame(25), COUNTS[25])
            assert scan.understood["missing"] == "10 frames are missing: not there is part1.h5"

    @pytest.mark.parametrize("gone", [None, 1, 2])
    def test_a_master_file_and_its_series(self, tmp_path, gone):
        np.savetxt(tmp_path / "xy.csv", XY_M, delimiter=",")
        with h5py.File(tmp_path / "m_master.h5", "w") as master:
            master["entry/instrument/beam/incident_wavelength"] = HC_EV_M / ENERGY_EV * 1e10
            detector = master.create_group("entry/instrument/detector")
            detector["detector_distance"], detector["x_pixel_size"], detector["y_pixel_size"] = DISTANCE_M, PITCH_M, PITCH_M
            detector["detectorSpecific/nimages"], detector["detectorSpecific/ntrigger"] = N, 1
            detector["detectorSpecific/pixel_mask"] = bad(0.1).astype("u4")
            for k, rows in enumerate((range(12), range(12, 24), range(24, N)), 1):
                name = f"m_data_{k:06}.h5"
                master[f"entry/data/data_{k:06}"] = h5py.ExternalLink(name, "/entry/data/data")
                if k != gone:
                    with h5py.File(tmp_path / name, "w") as member:
                        member["entry/data/data"] = COUNTS[list(rows)]
        with open_scan(tmp_path / "m_master.h5", ReadOptions(positions="xy.csv")) as scan:
            lost = {None: [], 1: range(12), 2: range(12, 24)}[gone]
            assert scan.index.tolist() == [i for i in range(N) if i not in lost]
            assert np.array_equal(scan.frame(25), COUNTS[25])
            assert np.allclose(scan.yx_m, YX_M)
            assert np.array_equal(scan.valid, ~bad(0.1))
            assert scan.geometry.energy_ev == pytest.approx(ENERGY_EV)


class TestPlaces:
    """Frames, positions, mask and probe where the user says."""

    def test_everything_elsewhere(self, tmp_path):
        with h5py.File(tmp_path / "frames.h5", "w") as file:
            file["run/camera"] = COUNTS
        with h5py.File(tmp_path / "motors.h5", "w") as file:
            file["x"], file["y"] = XY_M.T * 1e6
        with h5py.File(tmp_path / "mask.h5", "w") as file:
            file["bad"] = bad(0.2).astype("u1")
        with h5py.File(tmp_path / "probe.h5", "w") as file:
            file["p"] = np.ones(SHAPE, np.complex64)
        places = {"frames": "/run/camera", "positions": "motors.h5::/x,/y", "position_unit": "um"}
        places |= {"mask": "zero-is-good mask.h5::/bad", "probe": "probe.h5::/p"}
        with open_scan(tmp_path / "frames.h5", ReadOptions(**GEOMETRY, **places)) as scan:
            assert np.allclose(scan.yx_m, YX_M)
            assert np.array_equal(scan.frame(3), COUNTS[3])
            assert np.array_equal(scan.valid, ~bad(0.2))
            assert scan.probe.shape == (1, *SHAPE)

    @pytest.mark.parametrize(
        ("text", "place"),
        [
            ("{x},{y}\n", "p.csv"),
            ("x,y\n", "p.csv"),
            ("n,motor_a,motor_b\n{i},{x},{y}\n", "p.csv::motor_a,motor_b"),
            ("{y},{x}\n", "p.csv::y,x"),
            ("{i} {x} {y}\n", "p.txt::index,x,y"),
            ("# x y\n{x} {y}\n", "p.txt"),
        ],
    )
    def test_columns_of_a_text(self, tmp_path, text, place):
        path = cxi().write(tmp_path / "f.cxi")
        head, _, row = text.rpartition("\n{") if "\n{" in text else ("", "", text)
        if text == "x,y\n":
            head, row = "x,y", "{x},{y}\n"
        elif head:
            head, row = head, "{" + row
        rows = "".join(row.format(i=i, x=repr(float(x)), y=repr(float(y))) for i, (x, y) in enumerate(XY_M))
        (tmp_path / place.partition("::")[0]).write_text((head + "\n" if head else "") + rows)
        with open_scan(path, ReadOptions(positions=place)) as scan:
            assert np.allclose(scan.yx_m, YX_M)

    @pytest.mark.parametrize(
        ("text", "place", "message"),
        [
            ("1,2,3\n", "p.csv", "has 3 columns without a header; set read.positions = 'p.csv::x,y'"),
            ("a,b\n1,2\n", "p.csv", "its columns are a, b; set read.positions = 'p.csv::X,Y'"),
            ("a,b\n1,2\n", "p.csv::a,c", "its columns are a, b"),
            ("x,y\n1,2\n3,?\n", "p.csv", "row 3 is not two numbers"),
            ("", "p.csv", "has no rows"),
            ("1,2\n", "q.csv", "no file 'q.csv' beside"),
        ],
    )
    def test_columns_that_are_not_clear(self, tmp_path, text, place, message):
        path = cxi().write(tmp_path / "f.cxi")
        (tmp_path / "p.csv").write_text(text)
        with pytest.raises(FormatError, match=message):
            open_scan(path, ReadOptions(positions=place))

    @pytest.mark.parametrize(
        ("option", "place"), [("frames", "/none"), ("positions", "/none"), ("mask", "/none"), ("probe", "/none")]
    )
    def test_a_place_that_is_not_there(self, tmp_path, option, place):
        path = cxi().write(tmp_path / "f.cxi")
        with pytest.raises(FormatError, match=f"read.{option}: .*has no dataset '/none'; correct the path"):
            open_scan(path, ReadOptions(**{option: place}))


class TestPrograms:
    """Layouts of other programs and facilities, as their own code writes them."""

    def test_ptypy(self, tmp_path):
        with h5py.File(tmp_path / "f.ptyd", "w") as file:
            file["meta/energy"], file["meta/distance"], file["meta/psize"] = ENERGY_EV / 1e3, DISTANCE_M, [PITCH_M, PITCH_M]
            for k, rows in enumerate((range(10), range(10, 20), range(20, N))):
                file[f"chunks/{k}/data"] = COUNTS[list(rows)].astype("i4")
                file[f"chunks/{k}/positions"] = YX_M[list(rows)]
                file[f"chunks/{k}/weights"] = np.tile((~bad(0.2)).astype(float), (10, 1, 1))
        self.check(tmp_path / "f.ptyd", valid=~bad(0.2))

    def test_ptylab(self, tmp_path):
        with h5py.File(tmp_path / "f.hdf5", "w") as file:
            file["ptychogram"], file["encoder"] = COUNTS, YX_M
            file["wavelength"], file["zo"], file["dxd"] = HC_EV_M / ENERGY_EV, DISTANCE_M, PITCH_M
        self.check(tmp_path / "f.hdf5")

    def test_fold_slice_in_two_files(self, tmp_path):
        with h5py.File(tmp_path / "roi0_dp.hdf5", "w") as file:
            file["dp"] = COUNTS
        with h5py.File(tmp_path / "roi0_para.hdf5", "w") as file:
            file["ppX"], file["ppY"] = XY_M.T
            file["lambda"], file["dx"] = HC_EV_M / ENERGY_EV, FIELD_M / SHAPE[1]
        options = {"positions": "roi0_para.hdf5::/ppX,/ppY", "energy_ev": ENERGY_EV, "distance_m": DISTANCE_M}
        self.check(tmp_path / "roi0_dp.hdf5", **options, pixel_size_m=(PITCH_M, PITCH_M))

    def test_fold_slice_in_one_file(self, tmp_path):
        with h5py.File(tmp_path / "f.h5", "w") as file:
            file["dp"] = COUNTS
            file["ppX"], file["ppY"] = XY_M.T[:, None]
            file["lambda"], file["dx"] = HC_EV_M / ENERGY_EV, FIELD_M / SHAPE[1]
        self.check(tmp_path / "f.h5")

    def test_nsls2(self, tmp_path):
        with h5py.File(tmp_path / "f.h5", "w") as file:
            file["diffamp"], file["points"] = corners(np.sqrt(COUNTS.astype("f4"))), XY_M.T * 1e6
            file["lambda_nm"], file["z_m"], file["ccd_pixel_um"] = HC_EV_M / ENERGY_EV * 1e9, DISTANCE_M, PITCH_M * 1e6
        self.check(tmp_path / "f.h5")

    def test_nanomax(self, tmp_path):
        with h5py.File(tmp_path / "f.h5", "w") as file:
            file["entry/measurement/eiger4m/frames"] = COUNTS
            file["entry/measurement/pseudo/x"], file["entry/measurement/pseudo/y"] = XY_M.T * 1e6
            file["entry/snapshots/post_scan/energy"] = ENERGY_EV
        self.check(tmp_path / "f.h5", distance_m=DISTANCE_M, pixel_size_m=(PITCH_M, PITCH_M))

    def test_aps_9_id(self, tmp_path):
        with h5py.File(tmp_path / "f.h5", "w") as file:
            file["exchange/data"], file["exchange/motor_pos"] = COUNTS, XY_M * 1e3
            file["instrument/source/energy"], file["instrument/detector/distance"] = ENERGY_EV / 1e3, DISTANCE_M
            file["instrument/detector/pixel_size"] = PITCH_M
        self.check(tmp_path / "f.h5")

    def test_ptychodus_diffraction_and_product(self, tmp_path):
        with h5py.File(tmp_path / "product.h5", "w") as file:
            file.attrs["probe_energy_eV"], file.attrs["detector_object_distance_m"] = ENERGY_EV, DISTANCE_M
            file["probe_position_x_m"], file["probe_position_y_m"] = XY_M.T
        np.savez(tmp_path / "d.npz", patterns=COUNTS, indexes=np.arange(N))
        options = {"positions": "product.h5::/probe_position_x_m,/probe_position_y_m", "energy_ev": ENERGY_EV}
        self.check(tmp_path / "d.npz", **options, distance_m=DISTANCE_M, pixel_size_m=(PITCH_M, PITCH_M))

    def test_nexus_raster(self, tmp_path):
        with h5py.File(tmp_path / "f.nxs", "w") as file:
            entry = file.create_group("entry_1/instrument_1")
            file["entry_1/data/data"] = COUNTS.reshape(5, 6, *SHAPE)
            for axis, values in zip("xy", XY_M.T, strict=True):
                file[f"entry_1/data/{axis}"] = values.reshape(5, 6) * 1e3
                file[f"entry_1/data/{axis}"].attrs["units"] = "mm"
            entry["beam_1/energy"] = ENERGY_EV * JOULE_PER_EV
            entry["detector_1/distance"] = DISTANCE_M
            entry["detector_1/x_pixel_size"] = entry["detector_1/y_pixel_size"] = PITCH_M
        self.check(tmp_path / "f.nxs")

    @pytest.mark.parametrize("version", ["5", "7.3"])
    def test_matlab(self, tmp_path, version):
        """MATLAB has frames as (y, x, N); the file of version 7.3 is HDF5 with all axes the other way round."""
        arrays = {"ptychogram": COUNTS.transpose(1, 2, 0), "encoder": YX_M, "wavelength": HC_EV_M / ENERGY_EV}
        arrays |= {"zo": DISTANCE_M, "dxd": PITCH_M}
        if version == "5":
            scipy.io.savemat(tmp_path / "f.mat", arrays)
        else:
            with h5py.File(tmp_path / "f.mat", "w", userblock_size=512) as file:
                for name, value in arrays.items():
                    file[name] = np.atleast_2d(value).T
                    file[name].attrs["MATLAB_class"] = np.bytes_(b"double")
        self.check(tmp_path / "f.mat")

    def check(self, path, *, valid=None, **options):
        with open_scan(path, ReadOptions(**options)) as scan:
            assert np.allclose(scan.yx_m, YX_M, atol=1e-12)
            assert scan.geometry.object_pixel_m(SHAPE) == pytest.approx((FIELD_M / SHAPE[0],) * 2, rel=1e-6)
            for i in (0, 11, N - 1):
                assert np.allclose(scan.frame(i), COUNTS[i], rtol=1e-4)
            assert np.array_equal(
                np.ones(SHAPE, np.bool_) if scan.valid is None else scan.valid,
                np.ones(SHAPE, np.bool_) if valid is None else valid,
            )


POLARITIES = {
    "0 = good": lambda masked: masked,
    "1 = valid": lambda masked: ~masked,
    "255 = valid": lambda masked: ~masked * 255,
}
LAYOUTS = {"nyx": (0, 1, 2), "yxn": (1, 2, 0)}


@pytest.mark.slow
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    standard=st.booleans(),
    said=st.sampled_from([None, "m", "mm", "um", "nm"]),
    stored=st.sampled_from(["m", "mm", "um", "nm"]),
    energy=st.sampled_from([(None, "J"), (None, "eV"), (None, "keV"), ("keV", "keV"), ("eV", "eV"), ("J", "J")]),
    polarity=st.sampled_from(sorted(POLARITIES)),
    share=st.sampled_from([0.02, 0.3, 0.5, 0.7]),
    axes=st.sampled_from(sorted(LAYOUTS)),
    dtype=st.sampled_from(["u1", "u2", "u4", "i2", "i4", "i8", "u8", "f4", "f8", ">u2", ">f4"]),
    shifted=st.booleans(),
    roots=st.booleans(),
)
def test_no_file_is_read_wrongly(
    tmp_path_factory, standard, said, stored, energy, polarity, share, axes, dtype, shifted, roots
):
    """Whatever is stripped or turned round: what is read is right, or it is refused."""
    lengths, energies = {"m": 1.0, "mm": 1e-3, "um": 1e-6, "nm": 1e-9}, {"eV": 1.0, "keV": 1e3, "J": 1 / JOULE_PER_EV}
    truth = np.minimum(COUNTS, 120)
    frames = corners(truth) if shifted else truth
    frames = np.sqrt(frames.astype("f8")).astype(dtype) if roots and "f" in dtype else frames.astype(dtype)
    masked = np.fft.ifftshift(bad(share)) if shifted else bad(share)
    foreign = cxi(standard=standard)
    foreign.items[FRAMES] = frames.transpose(LAYOUTS[axes])
    foreign.items[MASK] = POLARITIES[polarity](masked).astype("u1")
    foreign.items[TRANSLATION] = foreign.items[TRANSLATION] / lengths[stored]
    foreign.items[f"{SOURCE}/energy"] = ENERGY_EV / energies[energy[1]]
    if energy[0]:
        foreign.attrs[f"{SOURCE}/energy", "units"] = energy[0]
    if said == stored:  # an attribute that lies about a small scan is believed, as the user is
        foreign.attrs[TRANSLATION, "units"] = said
    path = foreign.write(tmp_path_factory.mktemp("kind") / "f.cxi")
    try:
        scan = open_scan(path)
    except FormatError as refused:
        event("refused")
        assert re.search(r"set read\.\w+", str(refused))  # noqa: PT017 - it may be read as well
        return
    event("read")
    with scan:
        assert np.allclose(scan.yx_m, YX_M, atol=1e-12)
        assert scan.geometry.energy_ev == pytest.approx(ENERGY_EV, rel=1e-6)
        assert np.array_equal(scan.valid, ~bad(share))
        assert np.allclose(scan.frame(7), truth[7], rtol=1e-3)
