"""A scan and its picture as files of other kinds: what they say, and that our reader takes them for the same."""

import json
from dataclasses import replace

import h5py
import numpy as np
import pytest
from PIL import Image

from streamptycho.errors import ConfigError, FormatError
from streamptycho.files.bslz4 import compress
from streamptycho.files.export.convert import convert
from streamptycho.files.export.verify import verify
from streamptycho.files.options import ReadOptions
from streamptycho.files.recorded.layouts import Dialect
from streamptycho.files.result import read_result, write_result
from streamptycho.files.scan import open_scan
from streamptycho.files.writer import CxiWriter
from streamptycho.messages.geometry import JOULE_PER_EV, Radiation
from streamptycho.messages.stream import Positions
from tests.files.bare import bare
from tests.files.factories import (
    DETECTOR,
    DISTANCE_M,
    ENERGY_EV,
    PITCH_M,
    SHAPE,
    SOURCE,
    TRANSLATION,
    aps,
    assessment,
    cxi_ev,
    estimates,
    frame,
    geometry,
    outcome,
    pixels,
    raster,
    raw,
    snapshot,
    start,
)

FRAMES = 25
FINAL = snapshot(4, final=True)
YX_M = raster(FRAMES)[:, ::-1]


def valid():
    mask = np.ones(SHAPE, np.bool_)
    mask[3, 4:7] = False
    return mask


def recorded(folder, *, without=(), **changes):
    """A finished scan with its result; frames `without` have no position."""
    begun = start(valid=valid(), beam_center_px=(8.0, 12.0), **changes)
    index = np.array([i for i in range(FRAMES) if i not in without], np.int64)
    known = np.setdiff1d(np.arange(FRAMES), without)
    learnt = estimates(len(known), index=known, recorded_yx_m=YX_M[known] + 1e-6, refined_yx_m=YX_M[known] + 1.01e-6)
    whole = outcome(FINAL, start=begun, estimates=replace(learnt, flux=None), assessment=assessment())
    path = folder / "scan.cxi"
    with CxiWriter(path, begun) as writer:
        writer.append(raw(pixels(FRAMES)[:20], list(range(20))))
        writer.append(frame(compress(pixels(FRAMES)[20:]), list(range(20, FRAMES))))
        writer.positions(Positions(scan_id="scan", index=index, yx_m=YX_M[index]))
        writer.finish(whole)
    write_result(folder / "scan.result.h5", whole)
    return path


def same_scan(path, rows=range(FRAMES), options=None):
    with open_scan(path, options) as scan:
        assert scan.index.tolist() == list(range(len(rows)))
        assert all(np.array_equal(scan.frame(k), pixels(FRAMES)[row]) for k, row in enumerate(rows))
        assert np.allclose(scan.yx_m, YX_M[list(rows)], rtol=0, atol=1e-15)
        assert scan.geometry.energy_ev == pytest.approx(ENERGY_EV)
        assert scan.geometry.distance_m == DISTANCE_M
        assert scan.geometry.pitch_m == (PITCH_M, 2 * PITCH_M)
        return scan.dialect, scan.valid


class TestStrict:
    def test_is_cxi_to_the_letter(self, tmp_path):
        path = tmp_path / "scan.strict.cxi"
        assert convert(recorded(tmp_path), path) == [path]
        dialect, mask = same_scan(path)
        assert dialect is Dialect.STANDARD_CXI
        assert np.array_equal(mask, valid())
        with h5py.File(path) as file:
            assert file[f"{SOURCE}/energy"][()] == pytest.approx(ENERGY_EV * JOULE_PER_EV)
            assert np.array_equal(file[f"{DETECTOR}/mask"][()], (~valid()).astype(np.uint32))
            assert file[f"{DETECTOR}/data"].file.filename == str(tmp_path / "scan.cxi")
            assert file.get(f"{DETECTOR}/data", getlink=True).filename == "scan.cxi"
            assert file.get("/entry_1/data_1/data", getlink=True).path == f"{DETECTOR}/data"
            assert file[f"{DETECTOR}/basis_vectors"][()].tolist() == [[0, -PITCH_M, 0], [-2 * PITCH_M, 0, 0]]
            assert file[TRANSLATION].shape == (FRAMES, 3)
            assert np.array_equal(file["/entry_1/image_1/data"][()], FINAL.probe)
            assert np.array_equal(file["/entry_1/image_2/data"][()], FINAL.object)
            assert file["/entry_1/start_time"][()].decode().startswith("2023")
            extras = file["/entry_1/ptychodus"]
            middle = [FINAL.origin_m[i] + FINAL.pixel_m[i] * (FINAL.object.shape[i] - 1) / 2 - 1e-6 for i in (0, 1)]
            assert [extras[f"object_center_{axis}_m"][()] for axis in "yx"] == pytest.approx(middle)
            assert np.array_equal(extras["loss_values"][()], FINAL.error_history)
        found = verify(path)
        plugin = found.pop("h5py")  # for the frames that came as bslz4
        assert len(plugin) == 1
        assert found.pop("PyNX") == [*plugin, f"wants {TRANSLATION} as (3, N), and it is (25, 3)"]
        assert found.pop("cdtools") == plugin
        assert set(map(tuple, found.values())) == {()}
        with open_scan(path) as scan:
            assert scan.stored_at == (tmp_path / "scan.cxi", f"{DETECTOR}/data", FRAMES)

    def test_moves_with_its_folder(self, tmp_path):
        (tmp_path / "a").mkdir()
        convert(recorded(tmp_path / "a"), tmp_path / "a" / "scan.strict.cxi")
        (tmp_path / "a").rename(tmp_path / "b")
        same_scan(tmp_path / "b" / "scan.strict.cxi")
        (tmp_path / "b" / "scan.cxi").unlink()
        assert "bring it" in verify(tmp_path / "b" / "scan.strict.cxi")["ptychodus"][0]

    def test_has_only_frames_that_have_a_position(self, tmp_path):
        path = tmp_path / "scan.strict.cxi"
        convert(recorded(tmp_path, without=(0, 7, 8)), path)
        rows = [i for i in range(FRAMES) if i not in (0, 7, 8)]
        same_scan(path, rows)
        with h5py.File(path) as file:
            assert file[f"{DETECTOR}/data"].is_virtual
            assert np.isfinite(file[TRANSLATION][()]).all()

    def test_of_frames_that_others_store_otherwise_has_a_copy(self, tmp_path):
        source = cxi_ev(FRAMES)
        source.items["/entry_1/data_1/data"] = pixels(FRAMES).transpose(1, 2, 0)
        source.write(tmp_path / "other.cxi")
        source.items["/entry_1/data_1/data"] = pixels(FRAMES)
        source.write(tmp_path / "plain.cxi")
        for name in ("other", "plain"):
            convert(tmp_path / f"{name}.cxi", tmp_path / f"{name}.strict.cxi")
            with open_scan(tmp_path / f"{name}.strict.cxi") as scan:
                assert np.array_equal(scan.frame(3), pixels(FRAMES)[3])
                assert int((~scan.valid).sum()) == 1
            with h5py.File(tmp_path / f"{name}.strict.cxi") as file:
                link = file.get(f"{DETECTOR}/data", getlink=True)
                assert isinstance(link, h5py.ExternalLink) == (name == "plain")

    @pytest.mark.parametrize("name", ["scan.strict.cxi", "copy.cxi", "aps.h5", "scan.npz"])
    def test_electrons_stay_electrons(self, tmp_path, name):
        electrons = replace(
            geometry(), radiation=Radiation.ELECTRONS, wavelength_m=2.508e-12, distance_m=30.0, pitch_m=(PITCH_M, PITCH_M)
        )
        convert(recorded(tmp_path, geometry=electrons), tmp_path / name)
        with open_scan(tmp_path / name) as scan:
            assert scan.geometry.radiation is Radiation.ELECTRONS
            assert scan.geometry.wavelength_m == pytest.approx(2.508e-12)


class TestConvert:
    def test_aps(self, tmp_path):
        path = tmp_path / "aps.h5"
        convert(recorded(tmp_path), path)
        dialect, mask = same_scan(path)
        assert dialect is Dialect.APS
        assert np.array_equal(mask, valid())
        with h5py.File(path) as file:
            assert np.array_equal(file["/dp"][()], pixels(FRAMES))
            assert np.allclose(file["/exchange/motor_pos"][()] * 1e-3, YX_M[:, ::-1], rtol=0, atol=1e-15)
            assert file["/instrument/source/energy"][()] == pytest.approx(ENERGY_EV / 1e3)

    def test_plain_copy_needs_no_plugin(self, tmp_path):
        path = tmp_path / "copy.cxi"
        source = recorded(tmp_path, without=(3,))
        convert(source, path)
        with open_scan(path) as scan, open_scan(source) as before:
            assert scan.dialect is Dialect.STREAMPTYCHO
            assert np.array_equal(scan.yx_m, before.yx_m, equal_nan=True)
            assert np.array_equal(scan.timestamp_ns, before.timestamp_ns)
            assert np.array_equal(scan.valid, before.valid)
            assert scan.report.assessment.verdict == assessment().verdict
        assert np.array_equal(read_result(path).object, FINAL.object)
        code = f"import h5py; print(h5py.File({str(path)!r})['/entry_1/data_1/data'][:].sum())"
        assert bare(code).split() == [str(pixels(FRAMES).sum())]
        assert verify(path)["h5py"] == []
        assert "import hdf5plugin" in verify(source)["h5py"][0]

    def test_a_scan_of_others_becomes_ours(self, tmp_path):
        convert(aps(FRAMES).write(tmp_path / "aps.h5"), tmp_path / "ours.cxi")
        with open_scan(tmp_path / "ours.cxi") as scan:
            assert scan.dialect is Dialect.STREAMPTYCHO
            assert np.array_equal(scan.frame(3), pixels(FRAMES)[3])
            assert np.allclose(scan.yx_m, YX_M)

    def test_npz(self, tmp_path):
        convert(recorded(tmp_path), tmp_path / "scan.npz")
        with np.load(tmp_path / "scan.npz") as found:
            assert np.array_equal(found["ptychogram"], pixels(FRAMES))
            assert np.allclose(found["encoder"], YX_M)
            assert np.array_equal(found["valid"], valid())
            assert np.array_equal(found["object"], FINAL.object)
            assert np.array_equal(found["probe"], FINAL.probe)
        assert (
            same_scan(tmp_path / "scan.npz", options=ReadOptions(pixel_size_m=(PITCH_M, 2 * PITCH_M)))[0] is Dialect.PTYLAB
        )

    def test_product(self, tmp_path):
        path = tmp_path / "scan.product.h5"
        recorded(tmp_path)
        convert(tmp_path / "scan.result.h5", path)  # the scan beside it is used
        with h5py.File(path) as file:
            assert np.array_equal(file["object"][0], FINAL.object)
            assert np.array_equal(file["probe"][0], FINAL.probe)
            assert file.attrs["photon_energy_eV"] == pytest.approx(ENERGY_EV)
            assert file.attrs["detector_object_distance_m"] == DISTANCE_M
            assert file["probe_position_indexes"][()].tolist() == list(range(FRAMES))
            assert np.allclose(file["probe_position_y_m"][()], YX_M[:, 0] + 1.01e-6)
            assert np.allclose(file["probe_position_x_m"][()], YX_M[:, 1] + 1.01e-6)
            middle = FINAL.origin_m[1] + FINAL.pixel_m[1] * 49 / 2
            assert file["object"].attrs["center_x_m"] == pytest.approx(middle)

    def test_tiff(self, tmp_path):
        recorded(tmp_path)
        phase, amplitude = convert(tmp_path / "scan.result.h5", tmp_path / "scan.tif")
        assert (phase.name, amplitude.name) == ("scan.phase.tif", "scan.amplitude.tif")
        for path, values in ((phase, np.angle(FINAL.object)), (amplitude, np.abs(FINAL.object))):
            with Image.open(path) as image:
                assert image.mode == "F"
                assert np.array_equal(np.asarray(image), values)
                assert float(image.tag_v2[283]) == pytest.approx(0.01 / FINAL.pixel_m[0])
                assert float(image.tag_v2[282]) == pytest.approx(0.01 / FINAL.pixel_m[1])
                assert image.tag_v2[296] == 3
                assert json.loads(image.tag_v2[270])["pixel_size_yx_m"] == list(FINAL.pixel_m)

    def test_png(self, tmp_path):
        convert(recorded(tmp_path), tmp_path / "page.png")
        with Image.open(tmp_path / "page.png") as image:
            assert image.width >= 480

    def test_refuses_what_it_would_have_to_guess_or_overwrite(self, tmp_path):
        path = recorded(tmp_path)
        with pytest.raises(ConfigError, match=r"which kind of file is meant\? End its name"):
            convert(path, tmp_path / "scan.xyz")
        with pytest.raises(ConfigError, match="exists and is not overwritten"):
            convert(tmp_path / "scan.result.h5", path)
        aps(FRAMES).write(tmp_path / "aps.h5")
        with pytest.raises(FormatError, match="has no picture; reconstruct it first"):
            convert(tmp_path / "aps.h5", tmp_path / "aps.tif")
        (tmp_path / "scan.result.h5").rename(tmp_path / "alone.h5")
        with pytest.raises(FormatError, match="the frames are not beside it"):
            convert(tmp_path / "alone.h5", tmp_path / "alone.strict.cxi")
        assert not list(tmp_path.glob("*.part"))


def test_verify_says_what_each_stumbles_on(tmp_path):
    found = verify(recorded(tmp_path, without=(3,)))
    assert found["streamptycho"] == ["1 frames have no position"]
    assert [said.split(";")[0] for said in found["ptychodus"]] == [
        "reads /entry_1/instrument_1/source_1/energy = 8800 (eV) as joules",
        f"keeps 3 of {SHAPE[0] * SHAPE[1]} pixels, those with 0 in {DETECTOR}/mask",
        "takes /entry_1/image_1, which is the object, for the probe",
        "1 positions are nan, of frames without one",
    ]
    assert found["silx and NeXus viewers"] == []
    writer = CxiWriter(tmp_path / "open.cxi", start())
    assert "recover" in verify(tmp_path / "open.cxi")["h5py"][0]
    writer.close()
