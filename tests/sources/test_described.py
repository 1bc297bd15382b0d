"""What files say beside their frames: read while they are written, believed by their units, and kept apart from what others
say.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest

from streamptycho.compose.options import Role
from streamptycho.dialects.nexus import parts_of
from streamptycho.files.growing.nexus import look
from streamptycho.messages.facts import Began, Ended, Frames, Learned, Place, StartParts, Stored
from streamptycho.messages.stream import ScanStart
from streamptycho.sources.growing import StoredReader
from tests.compose.helpers import Chain
from tests.other_writer import Writer
from tests.sources.test_growing import Heard, opened

SHAPE = (8, 6)
MASK = np.zeros(SHAPE, np.uint32)
MASK[0, :2], MASK[3, 3] = 1, 2
E, D = "/entry/instrument", "/entry/instrument/detector"
DECTRIS: dict[str, tuple[Any, str]] = {
    f"{E}/beam/incident_wavelength": (np.float32(1.5498), "angstrom"),
    f"{D}/detector_distance": (np.float32(2.25), "m"),
    f"{D}/x_pixel_size": (np.float32(75e-6), "m"),
    f"{D}/y_pixel_size": (np.float32(75e-6), "m"),
    f"{D}/beam_center_x": (np.float32(2.5), "pixel"),
    f"{D}/beam_center_y": (np.float32(4.25), "pixel"),
    f"{D}/detectorSpecific/photon_energy": (np.float32(8000.0), "eV"),
    f"{D}/detectorSpecific/nimages": (4, ""),
    f"{D}/detectorSpecific/ntrigger": (1, ""),
    f"{D}/pixel_mask": (MASK, ""),
    f"{D}/description": (b"Dectris EIGER2 Si 1M", ""),
}
"""As SIMPLON's file writer has them."""


@pytest.fixture
def writer() -> Iterator[Writer]:
    made = Writer()
    yield made
    made.end()


def write(path: Path, said: dict[str, tuple[Any, str]], frames: str = "/entry/data/data", count: int = 4) -> Path:
    with h5py.File(path, "w", libver="latest") as file:
        for name, (value, unit) in said.items():
            packed = dict(hdf5plugin.Bitshuffle(nelems=0, cname="lz4")) if np.ndim(value) == 2 else {}
            dataset = file.create_dataset(name, data=value, **packed)
            if unit:
                dataset.attrs["units"] = np.bytes_(unit)
        file.create_dataset(frames, data=np.arange(1, count + 1, dtype="u2")[:, None, None] * np.ones((1, *SHAPE), "u2"))
        file[frames].parent.attrs["NX_class"] = "NXdata"
    return path


def said(folder: Path, changes: dict[str, tuple[Any, str] | None], frames: str = "/entry/data/data") -> StartParts:
    values = {name: value for name, value in (DECTRIS | changes).items() if value is not None}
    return parts_of(look(write(folder / "f.h5", values, frames), frames), SHAPE)


def test_a_dectris_master_says_everything(tmp_path: Path):
    parts = said(tmp_path, {})
    assert parts.wavelength_m == pytest.approx(1.5498e-10)
    assert parts.distance_m == pytest.approx(2.25)
    assert parts.pitch_m == pytest.approx((75e-6, 75e-6))
    assert parts.beam_center_px == (4.25, 2.5)
    assert parts.expected == 4
    assert parts.valid is not None
    np.testing.assert_array_equal(parts.valid, MASK == 0)
    assert parts.doubts == ()
    assert parts.metadata["read.distance_m"] == f"{D}/detector_distance = 2.25 m"
    assert parts.metadata["pixel_mask"] == "gap 2, dead 1"


@pytest.mark.parametrize(
    ("changes", "name", "value"),
    [
        ({f"{E}/beam/incident_wavelength": (0.15498, "nm")}, "wavelength_m", 1.5498e-10),
        ({f"{E}/beam/incident_wavelength": (1.5498, "")}, "wavelength_m", 1.5498e-10),
        ({f"{E}/beam/incident_wavelength": None}, "wavelength_m", 1.5498e-10),
        (
            {f"{E}/beam/incident_wavelength": None, f"{D}/detectorSpecific/photon_energy": None,
             f"{E}/monochromator/energy": (8.0, "keV")},
            "wavelength_m", 1.5498e-10,
        ),
        ({f"{D}/detector_distance": (2250.0, "mm")}, "distance_m", 2.25),
        ({f"{D}/detector_distance": None, f"{D}/distance": (2.25, "")}, "distance_m", 2.25),
        ({f"{D}/x_pixel_size": (75.0, "um"), f"{D}/y_pixel_size": ([0.055], "mm")}, "pitch_m", (55e-6, 75e-6)),
    ],
)  # fmt: skip
def test_units_are_believed_and_the_standard_ones_stand_in(tmp_path: Path, changes: Any, name: str, value: Any):
    parts = said(tmp_path, changes)
    assert getattr(parts, name) == pytest.approx(value, rel=1e-4)
    assert parts.doubts == ()


@pytest.mark.parametrize(
    ("changes", "name", "words"),
    [
        ({f"{E}/beam/incident_wavelength": (1.5498, "m")}, "", ["incident_wavelength (1.5498 m)", "scan.wave"]),
        ({f"{E}/beam/incident_wavelength": (1.2, "angstrom")}, "wavelength_m", ["contradict", "scan.energy_ev"]),
        ({f"{E}/beam/incident_wavelength": (1.5, "clicks")}, "", ["'clicks'", "scan.wavelength_m"]),
        ({f"{D}/detector_distance": (2250.0, "m")}, "distance_m", ["2250", "scan.distance_m"]),
        ({f"{D}/detector_distance": (2250.0, "")}, "distance_m", ["2250", "scan.distance_m"]),
        ({f"{D}/detector_distance": ([1.0, 2.0, 3.0], "m")}, "distance_m", ["one is needed", "scan.distance_m"]),
        ({f"{D}/y_pixel_size": (75.0, "m")}, "pitch_m", ["75", "scan.pitch_m"]),
        ({f"{D}/beam_center_x": (600.0, "pixel")}, "beam_center_px", ["600", "scan.beam_center_px"]),
        ({f"{D}/beam_center_x": (0.01, "m")}, "beam_center_px", ["'m'", "scan.beam_center_px"]),
        ({f"{D}/pixel_mask": (np.zeros((3, 3), "u4"), "")}, "valid", ["mask", "3 x 3"]),
        (
            {f"{D}/description": (b"Dectris QUADRO", ""), f"{E}/beam/incident_wavelength": None},
            "wavelength_m", ["electrons", "scan.energy_ev"],
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_right_is_left_out_with_the_setting_that_answers(
    tmp_path: Path, changes: Any, name: str, words: list[str]
):
    parts = said(tmp_path, changes)
    if name:
        assert getattr(parts, name) is None
    (doubt,) = parts.doubts
    for word in words:
        assert word in doubt


def test_zero_is_not_said(tmp_path: Path):
    names = ("beam/incident_wavelength", "detector/detector_distance", "detector/beam_center_x")
    zero = {f"{E}/{name}": (0.0, "m" if "distance" in name else "") for name in names}
    parts = said(tmp_path, zero | {f"{D}/detectorSpecific/photon_energy": (0.0, "eV")})
    assert (parts.wavelength_m, parts.distance_m, parts.beam_center_px, parts.doubts) == (None, None, None, ())


def test_of_several_detectors_the_one_with_the_frames_counts(tmp_path: Path):
    names = {name.replace("/detector/", "/eiger/"): value for name, value in DECTRIS.items()}
    other = {f"{E}/merlin/detector_distance": (9.0, "m"), f"{E}/merlin/x_pixel_size": (55e-6, "m")}
    path = write(tmp_path / "f.h5", names | other, f"{E}/eiger/data")
    assert parts_of(look(path, f"{E}/eiger/data"), SHAPE).distance_m == pytest.approx(2.25)
    path = write(tmp_path / "g.h5", names | other)
    assert parts_of(look(path, "/entry/data/data"), SHAPE).distance_m is None, "which of the two is not known"
    with h5py.File(path, "r+") as file:
        file[f"{E}/eiger"].attrs["NX_class"] = "NXdetector"
    assert parts_of(look(path, "/entry/data/data"), SHAPE).distance_m == pytest.approx(2.25)


def test_a_file_that_has_begun_tells_more_later(tmp_path: Path, writer: Writer):
    path = tmp_path / "scan.h5"
    writer.do(
        f"file = h5py.File({str(path)!r}, 'w', libver='earliest')",
        "d = file.create_dataset('/entry/data/data', data=np.ones((1, 8, 6), 'u2'), maxshape=(None, 8, 6))",
        f"file['{D}/detector_distance'] = 2.0; file.flush()",
    )
    heard = opened(f"file://{path}", frames="/entry/data/data")
    heard.wait(lambda told: told.of(Frames))
    (began,) = heard.of(Began)
    assert (began.parts.distance_m, began.parts.wavelength_m) == (2.0, None)
    writer.do(f"file['{E}/beam/incident_wavelength'] = 1.0; file.flush()")
    heard.wait(lambda told: told.of(Learned))
    heard.reader.close()
    (learned,) = heard.of(Learned)
    assert (learned.parts.distance_m, learned.parts.wavelength_m) == (2.0, pytest.approx(1e-10))
    assert learned.parts.metadata["file"] == str(path)


def test_settings_count_over_the_file_and_the_file_over_documents(tmp_path: Path):
    """The origin of each value goes with the start into the CXI."""
    path = write(tmp_path / "scan.h5", DECTRIS)
    heard = opened(f"file://{path}", frames="/entry/data/data", closed_s=0.1)
    heard.wait(lambda told: told.of(Ended))
    heard.reader.close()
    roles = (Role.FRAMES, Role.POSITIONS, Role.DOCUMENTS)
    chain = Chain(roles, distance_m=3.0, fallback={"energy_ev": 5.0, "saturation": 9})
    chain((Role.DOCUMENTS, Began(run="d", parts=StartParts(wavelength_m=2e-10, started_ns=5))))
    chain(*((Role.FRAMES, fact) for fact in heard.facts))
    (start,) = chain.of(ScanStart)
    assert start.geometry.wavelength_m == pytest.approx(1.5498e-10)
    assert start.geometry.distance_m == 3.0
    assert start.valid is not None
    origins = {name.removeprefix("origin."): at for name, at in start.metadata.items() if name.startswith("origin.")}
    assert origins == {
        "wavelength_m": "detector", "distance_m": "setting", "pitch_m": "detector", "beam_center_px": "detector",
        "valid": "detector", "expected": "detector", "saturation": "fallback", "started_ns": "documents",
    }  # fmt: skip
    assert any("wavelength_m: detector says" in text for text in chain.said.values())


def test_files_that_documents_name_count_over_what_these_say(tmp_path: Path):
    path = write(tmp_path / "scan.h5", DECTRIS)
    heard = Heard(StoredReader())
    frames = Place(path=str(path), dataset="/entry/data/data", row=0)
    parts = StartParts(wavelength_m=2e-10, distance_m=2.25, expected=9)
    begin = [Began(run="a", parts=parts), Stored(run="a", first=0, count=4, frames=frames)]
    heard.facts += heard.reader.through(begin)
    heard.wait(lambda told: told.of(Frames))
    heard.facts += heard.reader.through([Learned(run="a", parts=StartParts(distance_m=5.0)), Ended(run="a", count=4)])
    heard.wait(lambda told: told.of(Ended))
    heard.reader.close()
    first, second = heard.of(Learned)
    known = second.parts.over(first.parts.over(parts))
    assert known.wavelength_m == pytest.approx(1.5498e-10)
    assert known.distance_m == pytest.approx(2.25)
    assert known.expected == 9
    assert len(known.doubts) == 2
    assert "wavelength_m" in known.doubts[0]
    assert "documents say 5.0" in known.doubts[1]
