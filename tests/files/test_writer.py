"""The growing file: what goes in comes out, whatever the order of arrival."""

import json
import math
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

import h5py
import numpy as np
import pytest

from streamptycho.display.ledger import Ledger
from streamptycho.errors import FormatError, GrammarError, ScanError
from streamptycho.files.bslz4 import compress
from streamptycho.files.durable.disk import build
from streamptycho.files.options import ReadOptions, WriterOptions
from streamptycho.files.recorded.layouts import Dialect
from streamptycho.files.report import DROP_REASONS
from streamptycho.files.rows import Appended
from streamptycho.files.scan import open_scan
from streamptycho.files.snapshots import rounded
from streamptycho.files.writer import CxiWriter
from streamptycho.messages.geometry import Radiation
from streamptycho.messages.payload import Encoding
from streamptycho.messages.reasons import DropReason, EndReason
from tests.files.bare import bare
from tests.files.factories import (
    DETECTOR,
    DISTANCE_M,
    ENERGY_EV,
    LIVE,
    LIVE_KEY,
    PITCH_M,
    SHAPE,
    STARTED_NS,
    TRANSLATION,
    broken,
    end,
    frame,
    geometry,
    outcome,
    pixels,
    positions,
    raw,
    snapshot,
    start,
)

COUNTERS = f"{LIVE}/counters"
SNAPSHOTS = f"{LIVE}/snapshots"
ROWS = [
    f"{DETECTOR}/data",
    TRANSLATION,
    LIVE_KEY,
    f"{LIVE}/timestamp_ns",
    "/entry_1/sample_1/transformations/x",
    "/entry_1/sample_1/transformations/y",
]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "scan.cxi"


def written(path):
    return h5py.File(path, "r")


def full_start():
    valid = np.ones(SHAPE, np.bool_)
    valid[3, 4:7] = False
    return start(
        valid=valid,
        dark=np.full(SHAPE, 1.5, np.float32),
        probe=snapshot().probe,
        saturation=65000,
        beam_center_px=(7.5, 12.25),
        expected=40,
        metadata={"sample": "µ", "temperature": 293.5, "run": 7, "ok": True},
    )


class TestLayout:
    def test_lengths_that_are_not_known_are_not_in_the_file(self, path):
        unknown = replace(geometry(), wavelength_m=math.nan, distance_m=math.nan, pitch_m=(math.nan, math.nan))
        with CxiWriter(path, start(geometry=unknown)) as writer:
            writer.append(raw(pixels(1), [0]))
            writer.positions(positions([0]))
            writer.finish(outcome())
        with h5py.File(path) as file:
            assert file[f"{DETECTOR}/data"].shape == (1, *SHAPE)
            names: list[str] = []
            file.visit(names.append)
        lengths = ("wavelength", "energy", "distance", "pixel_size", "corner_position", "basis_vectors")
        assert not [name for name in names if name.startswith("entry_1/instrument_1") and name.endswith(lengths)]
        with pytest.raises(FormatError, match=r"read\.energy_ev"):
            open_scan(path)
        given = ReadOptions(energy_ev=ENERGY_EV, distance_m=DISTANCE_M, pixel_size_m=(PITCH_M, 2 * PITCH_M))
        with open_scan(path, given) as scan:
            assert scan.geometry.energy_ev == pytest.approx(ENERGY_EV)

    def test_everything_of_the_start_message_comes_back(self, path):
        message = full_start()
        with CxiWriter(path, message) as writer:
            writer.append(raw(pixels(1), [0]))
            writer.positions(positions([0]))
            writer.finish(outcome())
        with open_scan(path) as scan:
            again = scan.start("scan", STARTED_NS)
            assert scan.dialect is Dialect.STREAMPTYCHO
        assert again.geometry.energy_ev == pytest.approx(message.geometry.energy_ev, rel=1e-12)
        assert again.geometry.pitch_m == (PITCH_M, 2 * PITCH_M)
        assert again.geometry.distance_m == DISTANCE_M
        assert again.geometry.frame_shape == SHAPE
        for name in ("valid", "dark", "probe"):
            assert np.array_equal(getattr(again, name), getattr(message, name)), name
        for name in ("saturation", "beam_center_px", "metadata", "dtype"):
            assert getattr(again, name) == getattr(message, name), name

    def test_what_was_not_given_is_not_invented(self, path):
        CxiWriter(path, start()).finish(outcome())
        with open_scan(path) as scan:
            assert (scan.valid, scan.dark, scan.probe, scan.saturation, scan.beam_center_px) == (None,) * 5
            assert scan.metadata == {}

    def test_values_where_cxi_readers_look(self, path):
        CxiWriter(path, full_start(), config_json='{"rate": "µ"}').finish(outcome())
        with written(path) as file:
            assert file["cxi_version"][()] == 160
            source, beam = file["/entry_1/instrument_1/source_1"], file["/entry_1/instrument_1/beam_1"]
            assert source["energy"][()] == pytest.approx(ENERGY_EV)
            assert source["energy"].attrs["units"] == "eV"
            assert beam["energy"][()] == pytest.approx(ENERGY_EV * 1.602176634e-19)
            assert beam["energy"].attrs["units"] == "J"
            assert source["wavelength"][()] == pytest.approx(1.239841984332e-6 / ENERGY_EV)
            detector = file[DETECTOR]
            assert detector["distance"].attrs["units"] == "m"
            assert detector["corner_position"][()].tolist() == [12.25 * 2 * PITCH_M, 7.5 * PITCH_M, DISTANCE_M]
            assert detector["basis_vectors"][()].tolist() == [[0, -PITCH_M, 0], [-2 * PITCH_M, 0, 0]]
            assert detector["mask"].attrs["polarity"] == "1=valid,0=masked"
            assert np.array_equal(detector["mask"][()], full_start().valid)
            assert np.array_equal(detector["pixel_mask"][()] != 0, ~full_start().valid)
            assert json.loads(file[f"{LIVE}/config"][()].decode()) == {"rate": "µ"}
            assert file["/entry_1/start_time"][()].decode() == "2023-11-14T22:13:20+00:00"

    def test_a_start_without_a_time_has_that_of_the_file(self, path):
        CxiWriter(path, start(started_ns=0)).finish(outcome(start=start(started_ns=0)))
        with written(path) as file:
            began = file["/entry_1/start_time"]
            assert abs(datetime.now(UTC) - datetime.fromisoformat(began[()].decode())).total_seconds() < 600
            assert began.attrs["meaning"] == "when the file was begun"

    def test_electrons_stay_electrons(self, path):
        electrons = replace(geometry(), radiation=Radiation.ELECTRONS, wavelength_m=2.508e-12)
        with CxiWriter(path, start(geometry=electrons)) as writer:
            writer.append(raw(pixels(1), [0]))
            writer.positions(positions([0]))
            writer.finish(outcome(start=start(geometry=electrons)))
        with written(path) as file:
            source = file["/entry_1/instrument_1/source_1"]
            assert source["probe"][()] == b"electron"
            assert "type" not in source
            assert source["energy"][()] == pytest.approx(200e3, rel=1e-3)
            assert source["energy"].attrs["note"].startswith("kinetic energy")
            assert file["/entry_1/instrument_1/beam_1/energy"][()] == pytest.approx(200e3 * 1.602176634e-19, rel=1e-3)
        with open_scan(path) as scan:
            assert scan.geometry == electrons

    @pytest.mark.parametrize(
        ("link", "target"),
        [
            ("/entry_1/data_1/data", f"{DETECTOR}/data"),
            (f"{DETECTOR}/data_1", f"{DETECTOR}/data"),
            ("/entry_1/data_1/translation", TRANSLATION),
            (f"{DETECTOR}/translation", TRANSLATION),
            ("/entry_1/data_1/x", "/entry_1/sample_1/transformations/x"),
            ("/entry_1/instrument_1/source_1/illumination", "/entry_1/instrument_1/illumination_1/probe"),
            (f"{DETECTOR}/probe", "/entry_1/instrument_1/illumination_1/probe"),
        ],
    )
    def test_soft_links(self, path, link, target):
        CxiWriter(path, full_start()).finish(outcome())
        with written(path) as file:
            assert file.get(link, getlink=True).path == target
            assert isinstance(file[target], h5py.Dataset)
            assert isinstance(file.get(target, getlink=True), h5py.HardLink)

    def test_no_dataset_has_strings_of_variable_length(self, path):
        CxiWriter(path, full_start()).finish(outcome())
        lengths = {}

        def visit(name, item):
            if isinstance(item, h5py.Dataset) and (info := h5py.check_string_dtype(item.dtype)):
                lengths[name] = info.length

        with written(path) as file:
            file.visititems(visit)
        assert "entry_1/streamptycho/end_reason" in lengths
        assert None not in lengths.values()

    def test_older_hdf5_can_read_the_types(self, path):
        CxiWriter(path, start()).finish(outcome())
        with written(path) as file:
            # the high half of the third byte is the version of the datatype message: HDF5 2.0 would choose 5 by itself,
            # which 1.14 cannot open
            assert file[f"{SNAPSHOTS}/object"].id.get_type().encode()[2] >> 4 == 3
            assert file.id.get_create_plist().get_version()[0] == 3


class TestFrames:
    @pytest.mark.parametrize("compression", ["plain", "bslz4", "none"])
    @pytest.mark.parametrize("encoding", ["raw", "bslz4"])
    @pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "int16", "int32", "float32"])
    def test_bit_for_bit(self, path, compression, encoding, dtype):
        frames = pixels(5, dtype=dtype)
        block = frame(compress(frames), list(range(5))) if encoding == "bslz4" else raw(frames, list(range(5)))
        with CxiWriter(path, start(dtype=np.dtype(dtype)), options=WriterOptions(compression=compression)) as writer:
            assert writer.append(block) == Appended(written=5, duplicate=0, corrupt=0)
            writer.positions(positions(list(range(5))))
            writer.finish(outcome())
        with written(path) as file:
            assert file[f"{DETECTOR}/data"][()].tobytes() == frames.tobytes()
            filters = {"plain": 3, "bslz4": 1, "none": 0}[compression]
            assert file[f"{DETECTOR}/data"].id.get_create_plist().get_nfilters() == filters
            assert file[LIVE_KEY][()].tolist() == [1] * 5
            assert file[f"{LIVE}/timestamp_ns"][()].tolist() == [7, 1007, 2007, 3007, 4007]
        with open_scan(path) as scan:
            stored = compression == "bslz4" or (compression, encoding) == ("plain", "bslz4")
            assert scan.payload(3).encoding is (Encoding.BSLZ4 if stored else Encoding.RAW)
            assert scan.payload(3).decode().tobytes() == frames[3].tobytes()

    def test_chunks_of_the_detector_are_stored_byte_for_byte(self, path):
        payload = compress(pixels(3))
        with CxiWriter(path, start()) as writer:
            writer.append(frame(payload, [0, 1, 2]))
            writer.finish(outcome())
        with written(path) as file:
            dataset = file[f"{DETECTOR}/data"]
            assert [dataset.id.read_direct_chunk((i, 0, 0)) for i in range(3)] == [(0b011, bytes(c)) for c in payload.chunks]

    def test_what_came_plain_is_read_without_a_plugin(self, path):
        """Deflated as far as there is time in one commit, else as it came; a frame that came as bslz4 stays that."""
        frames = pixels(8, (512, 1024))
        payload = compress(frames[6:])
        with CxiWriter(path, start(geometry=geometry((512, 1024)))) as writer:
            writer.append(raw(frames[:6], list(range(6))))
            writer.flush()
            writer.append(frame(payload, [6, 7]))
            writer.finish(outcome())
        with written(path) as file:
            dataset = file[f"{DETECTOR}/data"]
            masks = [dataset.id.get_chunk_info_by_coord((i, 0, 0)).filter_mask for i in range(8)]
            assert masks == [0b100] * 4 + [0b111] * 2 + [0b011] * 2
            assert "import hdf5plugin" in dataset.attrs["filters"]
            assert np.array_equal(dataset[()], frames)
        code = f"""
import sys
import h5py
sys.modules["hdf5plugin"] = None
with h5py.File({str(path)!r}) as file:
    print(file["/entry_1/data_1/data"][:6].sum())
    try:
        file["/entry_1/data_1/data"][6]
    except OSError as error:
        print("plugin" in str(error) or "can't open directory" in str(error))
"""
        assert bare(code).split() == [str(frames[:6].sum()), "True"]

    def test_odd_frame_sizes(self, path):
        frames = pixels(2, (7, 5))
        with CxiWriter(path, start(geometry=geometry((7, 5)))) as writer:
            writer.append(frame(compress(frames), [0, 1]))
            writer.finish(outcome())
        with written(path) as file:
            assert np.array_equal(file[f"{DETECTOR}/data"][()], frames)

    def test_out_of_order_with_gaps(self, path):
        frames = pixels(10)
        with CxiWriter(path, start()) as writer:
            for block in ([7], [2, 5, 9], [0], [4]):
                writer.append(raw(frames[block], block))
            writer.flush()
            writer.append(raw(frames[[1]], [1]))
            writer.positions(positions([0, 1, 2, 4, 5, 7, 9]))
            writer.finish(outcome())
        present = [0, 1, 2, 4, 5, 7, 9]
        with written(path) as file:
            data = file[f"{DETECTOR}/data"][()]
            assert np.array_equal(data[present], frames[present])
            assert not data[[3, 6, 8]].any()
            assert np.flatnonzero(file[LIVE_KEY][()]).tolist() == present
            assert file[f"{LIVE}/timestamp_ns"][present].tolist() == [1000 * i + 7 for i in present]
            assert file[f"{COUNTERS}/n_frames"][()] == 7
        with open_scan(path) as scan:
            assert scan.index.tolist() == present
            assert len(scan) == 7
            assert np.isnan(scan.yx_m[[3, 6, 8]]).all()
            with pytest.raises(IndexError, match="no frame 3"):
                scan.payload(3)

    @pytest.mark.parametrize("flush_between", [True, False])
    def test_a_duplicate_does_not_overwrite(self, path, flush_between):
        first, second = pixels(3, seed=1), pixels(3, seed=2)
        with CxiWriter(path, start()) as writer:
            writer.append(raw(first[:2], [0, 1]))
            if flush_between:
                writer.flush()
            assert writer.append(raw(second, [0, 1, 2])) == Appended(written=1, duplicate=2, corrupt=0)
            assert writer.frames == 3
            writer.finish(outcome())
        with written(path) as file:
            assert np.array_equal(file[f"{DETECTOR}/data"][()], [first[0], first[1], second[2]])

    def test_a_corrupt_chunk_is_left_out_and_its_row_stays_free(self, path):
        frames = pixels(4)
        payload = compress(frames)
        with CxiWriter(path, start()) as writer:
            assert writer.append(frame(broken(payload, 2), [0, 1, 2, 3])) == Appended(written=3, duplicate=0, corrupt=1)
            writer.flush()
            with h5py.File(path, "r", swmr=True) as file:
                assert file[LIVE_KEY][()].tolist() == [1, 1, 0, 1]
                assert not file[f"{DETECTOR}/data"][()][2].any()
            assert writer.append(frame(payload, [0, 1, 2, 3])) == Appended(written=1, duplicate=3, corrupt=0)
            writer.finish(outcome())
        with written(path) as file:
            assert np.array_equal(file[f"{DETECTOR}/data"][()], frames)

    def test_a_full_batch_is_committed_without_being_asked(self, path):
        frames = pixels(9)
        with CxiWriter(path, start(), options=WriterOptions(batch_frames=4)) as writer:
            seen = []
            for i in range(9):
                writer.append(raw(frames[[i]], [i]))
                with h5py.File(path, "r", swmr=True) as file:
                    seen.append(int(file[f"{COUNTERS}/n_frames"][()]))
            assert seen == [0, 0, 0, 4, 4, 4, 4, 8, 8]

    def test_so_are_many_bytes(self, path):
        with CxiWriter(path, start(), options=WriterOptions(batch_bytes=2 * SHAPE[0] * SHAPE[1] * 2)) as writer:
            writer.append(raw(pixels(2), [0, 1]))
            with h5py.File(path, "r", swmr=True) as file:
                assert file[f"{COUNTERS}/n_frames"][()] == 2

    def test_closing_commits_what_waits(self, path):
        with CxiWriter(path, start()) as writer:
            writer.append(raw(pixels(2), [0, 1]))
        with written(path) as file:
            assert file[LIVE_KEY][()].tolist() == [1, 1]
            assert file[f"{LIVE}/complete"][()] == 0
            assert file[f"{LIVE}/end_reason"][()] == b""

    def test_a_flush_with_nothing_to_do_leaves_the_file_alone(self, path):
        with CxiWriter(path, start()) as writer:
            writer.append(raw(pixels(1), [0]))
            writer.flush()
            before = path.stat().st_mtime_ns
            writer.flush()
            assert path.stat().st_mtime_ns == before

    def test_dark_exposures_have_rows_of_their_own(self, path):
        darks = pixels(3, seed=5)
        with CxiWriter(path, start()) as writer:
            assert writer.append(raw(darks[:2], [0, 2], dark=True)).written == 2
            assert writer.append(raw(darks[:1], [0], dark=True)).duplicate == 1
            assert writer.append(raw(pixels(1), [0])).written == 1
            assert writer.frames == 1
            writer.finish(outcome())
        with written(path) as file:
            assert np.array_equal(file[f"{DETECTOR}/data_dark"][()][[0, 2]], darks[:2])
            assert file[f"{LIVE}/dark_key"][()].tolist() == [1, 0, 1]
            assert file[f"{LIVE}/dark_timestamp_ns"][()].tolist() == [7, 0, 2007]
            assert len(file[f"{DETECTOR}/data"]) == 1
        with open_scan(path) as scan:
            assert np.allclose(scan.dark, darks[:2].mean(axis=0))

    @pytest.mark.parametrize(
        ("block", "field"),
        [
            (raw(pixels(1), [0], scan_id="other"), "frame.scan_id"),
            (raw(pixels(1, dtype="uint32"), [0]), "frame.payload"),
            (raw(pixels(1, (24, 16)), [0]), "frame.payload"),
            (raw(pixels(2), [0, 1000]), "frame.index"),
            (raw(pixels(1), [20], dark=True), "frame.index"),
        ],
        ids=["scan", "type", "shape", "limit", "dark"],
    )
    def test_blocks_that_do_not_belong_here_are_refused_whole(self, path, block, field):
        options = WriterOptions(max_frames=1000, max_darks=20)
        with CxiWriter(path, start(), options=options) as writer:
            with pytest.raises(GrammarError) as caught:
                writer.append(block)
            assert caught.value.field == field
            assert caught.value.frames == len(block)
            writer.append(raw(pixels(1), [99]))
            writer.append(raw(pixels(1), [199]))
            writer.finish(outcome())
        with written(path) as file:
            assert np.flatnonzero(file[LIVE_KEY][()]).tolist() == [99, 199]

    def test_a_jump_to_the_highest_index_costs_next_to_nothing(self, path):
        highest = WriterOptions().max_frames - 1
        with CxiWriter(path, start()) as writer:
            writer.append(raw(pixels(2), [0, highest]))
            writer.positions(positions([0, highest]))
            writer.flush()
            assert path.stat().st_blocks * 512 < 1 << 20
            writer.append(raw(pixels(1), [1]))
            writer.finish(outcome())
        with written(path) as file:
            assert np.flatnonzero(file[LIVE_KEY][()]).tolist() == [0, 1, highest]
            assert np.array_equal(file[TRANSLATION][highest][1::-1], positions([highest]).yx_m[0])


class TestPositions:
    def test_before_and_after_their_frames(self, path):
        with CxiWriter(path, start()) as writer:
            assert writer.positions(positions([0, 1, 5])) == 3
            writer.append(raw(pixels(4), [0, 1, 2, 3]))
            writer.flush()
            assert writer.positions(positions([2, 3])) == 2
            writer.finish(outcome())
        with written(path) as file:
            assert {name: len(file[name]) for name in ROWS} == dict.fromkeys(ROWS, 6)
            xyz = file[TRANSLATION][()]
            expected = positions([0, 1, 2, 3, 5]).yx_m
            assert np.array_equal(xyz[[0, 1, 2, 3, 5], :2], expected[:, ::-1])
            assert (xyz[[0, 1, 2, 3, 5], 2] == 0).all()
            assert np.isnan(xyz[4]).all()
            assert np.array_equal(file["/entry_1/sample_1/transformations/x"][()], xyz[:, 0], equal_nan=True)
            assert np.array_equal(file["/entry_1/data_1/y"][()], xyz[:, 1], equal_nan=True)
            assert file[LIVE_KEY][()].tolist() == [1, 1, 1, 1, 0, 0]
        with open_scan(path) as scan:
            assert scan.index.tolist() == [0, 1, 2, 3]
            assert np.array_equal(scan.yx_m[[0, 1, 2, 3, 5]], expected)

    def test_the_first_position_of_a_row_stays(self, path):
        moved = positions([0, 1, 2])
        late = type(moved)(scan_id="scan", index=moved.index, yx_m=moved.yx_m + 1)
        with CxiWriter(path, start()) as writer:
            writer.positions(positions([0, 1]))
            assert writer.positions(late) == 1
            writer.finish(outcome())
        with written(path) as file:
            assert np.array_equal(file[TRANSLATION][:2, 1], moved.yx_m[:2, 0])
            assert file[TRANSLATION][2, 1] == late.yx_m[2, 0]

    def test_positions_alone_keep_all_rows_alike(self, path):
        with CxiWriter(path, start()) as writer:
            writer.positions(positions([3000]))
            writer.flush()
            with h5py.File(path, "r", swmr=True) as file:
                assert {len(file[name]) for name in ROWS} == {3001}
                assert file[f"{COUNTERS}/n_frames"][()] == 0

    def test_many_positions_do_not_wait(self, path):
        with CxiWriter(path, start()) as writer:
            writer.positions(positions(list(range(100_000))))
            with h5py.File(path, "r", swmr=True) as file:
                assert np.isfinite(file[TRANSLATION][()]).all()
                assert len(file[TRANSLATION]) == 100_000

    @pytest.mark.parametrize(
        ("block", "field"),
        [
            (positions([0], scan_id="other"), "positions.scan_id"),
            (positions([1000]), "positions.index"),
        ],
    )
    def test_refused(self, path, block, field):
        with CxiWriter(path, start(), options=WriterOptions(max_frames=1000)) as writer:
            with pytest.raises(GrammarError) as caught:
                writer.positions(block)
            assert caught.value.field == field
            assert writer.positions(positions([99])) == 1


class TestSnapshots:
    def test_a_canvas_that_changes_its_size(self, path):
        shapes, modes = [(40, 50), (300, 60), (30, 280)], [1, 3, 2]
        taken = [
            snapshot(i, shape, mode) for i, (shape, mode) in zip((1, 2, 4), zip(shapes, modes, strict=True), strict=True)
        ]
        with CxiWriter(path, start()) as writer:
            assert all(writer.snapshot(one) for one in taken)
            writer.finish(outcome())
        with written(path) as file:
            group = file[SNAPSHOTS]
            assert group["object"].shape == (3, 300, 280)
            assert group["probe"].shape == (3, 3, 16, 24)
            for i, one in enumerate(taken):
                ny, nx = group["shape"][i]
                assert (ny, nx) == shapes[i]
                assert np.array_equal(group["object"][i, :ny, :nx], rounded(one.object))
                assert np.array_equal(group["covered"][i, :ny, :nx], one.covered)
                assert not group["object"][i, ny:].any()
                assert group["probe_shape"][i].tolist() == list(one.probe.shape)
                assert np.array_equal(group["probe"][i, : modes[i]], rounded(one.probe))
                assert group["origin_m"][i].tolist() == list(one.origin_m)
                assert group["pixel_m"][i].tolist() == list(one.pixel_m)
                for name in ("frames_used", "updates", "error", "time_ns", "sequence"):
                    assert group[name][i] == getattr(one, name), name
            assert file[f"{COUNTERS}/snapshots"][()] == 3

    def test_beyond_the_budget_only_the_final_one_is_kept(self, path):
        # one 40 x 50 object counts as a whole tile of 256 x 256, about 0.6 MB with its mask
        with CxiWriter(path, start(), options=WriterOptions(max_snapshot_bytes=2_000_000)) as writer:
            kept = [writer.snapshot(snapshot(2**i)) for i in range(6)]
            assert kept == [True, True, False, False, False, False]
            assert writer.snapshot(snapshot(64, final=True))
            writer.finish(outcome())
        with written(path) as file:
            assert file[f"{SNAPSHOTS}/sequence"][()].tolist() == [1, 2, 64]
            assert file[f"{COUNTERS}/snapshots_skipped"][()] == 4
            assert file[f"{COUNTERS}/snapshots"][()] == 3

    def test_all_have_their_figures_and_some_a_picture(self, path):
        uncovered = snapshot(1).covered & False
        with CxiWriter(path, start()) as writer:
            writer.snapshot(snapshot(0))
            writer.snapshot(snapshot(1, covered=uncovered))
            assert all(writer.snapshot(snapshot(i)) for i in range(2, 10))
            writer.finish(outcome(snapshot(10, final=True)))
        with written(path) as file:
            group = file[SNAPSHOTS]
            assert group["sequence"][()].tolist() == list(range(11))
            assert np.flatnonzero(group["shape"][()].all(axis=1)).tolist() == [2, 4, 8, 10]
            assert np.array_equal(group["object"][4, :40, :50], rounded(snapshot(4).object))
            assert group["updates"][()].tolist() == [25 * i for i in range(11)]
            assert np.abs(rounded(snapshot(4).object) / snapshot(4).object - 1).max() < 2**-8

    def test_beside_many_frames_all_have_a_picture(self, path):
        frames = pixels(10, (512, 1024))
        with CxiWriter(path, start(geometry=geometry((512, 1024)))) as writer:
            writer.append(raw(frames, list(range(10))))
            writer.flush()
            assert all(writer.snapshot(snapshot(i)) for i in (10, 11, 12, 13))
        with written(path) as file:
            assert file[f"{SNAPSHOTS}/shape"][()].tolist() == [[40, 50], [40, 50], [40, 50], [0, 0]]
            assert file[f"{SNAPSHOTS}/object"].id.get_storage_size() < 40_000

    def test_the_latest_that_has_a_picture_is_taken_up(self, path):
        with CxiWriter(path, start()) as writer:
            writer.append(raw(pixels(1), [0]))
            writer.positions(positions([0]))
            for i in (4, 5):
                writer.snapshot(snapshot(i))
        with open_scan(path) as scan:
            found = scan.latest(start().run)
        assert found is not None
        assert found.sequence == 4
        assert np.array_equal(found.object, rounded(snapshot(4).object))

    def test_of_another_scan(self, path):
        with CxiWriter(path, start()) as writer, pytest.raises(GrammarError, match=r"snapshot\.scan_id"):
            writer.snapshot(snapshot(scan_id="other"))


class TestEnd:
    def test_the_image_and_the_end(self, path):
        final = snapshot(3, final=True)
        writer = CxiWriter(path, start())
        writer.append(raw(pixels(1), [0]))
        writer.finish(outcome(final))
        with written(path) as file:
            image = file["/entry_1/image_1"]
            assert np.array_equal(image["data"][()], final.object)
            assert np.array_equal(image["data_real"][()] + 1j * image["data_imag"][()], final.object)
            assert np.allclose(image["data_phase"][()], np.angle(final.object))
            assert np.allclose(image["data_amplitude"][()], np.abs(final.object))
            assert np.array_equal(image["covered"][()], final.covered)
            assert image["pixel_size"][()].tolist() == list(final.pixel_m)
            assert image["image_size"][()] == pytest.approx([50 * 14e-9, 40 * 28e-9, 0])
            assert image["origin"][()].tolist() == list(final.origin_m)
            assert file[f"{SNAPSHOTS}/sequence"][()].tolist() == [3]
            assert file[f"{LIVE}/end_reason"][()] == b"complete"
            assert file[f"{LIVE}/complete"][()] == 1
            assert file["/entry_1/end_time"][()].startswith(b"20")

    def test_a_result_that_was_a_snapshot_is_not_repeated(self, path):
        writer = CxiWriter(path, start())
        writer.snapshot(snapshot(3, final=True))
        writer.finish(outcome(snapshot(3, final=True)))
        with written(path) as file:
            assert file[f"{SNAPSHOTS}/sequence"][()].tolist() == [3]

    @pytest.mark.parametrize("reason", [r for r in EndReason if r is not EndReason.COMPLETE])
    def test_an_early_end(self, path, reason):
        CxiWriter(path, start()).finish(outcome(end=end(reason)))
        with written(path) as file:
            assert file[f"{LIVE}/end_reason"][()].decode() == reason.value
            assert file[f"{LIVE}/complete"][()] == 0
            assert file["/entry_1/image_1/data"].shape == (0, 0)

    def test_counters(self, path):
        with CxiWriter(path, start()) as writer:
            dropped = {DropReason.CORRUPT: 2, "outside": 1, "meteor": 3, "other": 4}
            writer.counters(Ledger(received=21, used=10, waiting=1, dropped=dropped))
            writer.finish(outcome())
        with written(path) as file:
            group = file[COUNTERS]
            assert (group["received"][()], group["used"][()], group["waiting"][()]) == (21, 10, 1)
            dropped = {reason: int(group[f"dropped/{reason}"][()]) for reason in DROP_REASONS}
            assert dropped == dict.fromkeys(DROP_REASONS, 0) | {"corrupt": 2, "outside": 1, "other": 7}

    def test_nothing_can_be_added_afterwards(self, path):
        writer = CxiWriter(path, start())
        writer.finish(outcome())
        writer.close()
        for call, message in (
            (writer.append, raw(pixels(1), [0])),
            (writer.positions, positions([0])),
            (writer.snapshot, snapshot()),
        ):
            with pytest.raises(ValueError, match=r"scan\.cxi is closed"):
                call(message)

    def test_plain_reading_of_the_finished_file(self, path):
        """The few lines that a stranger writes, without any library of ours."""
        frames = pixels(6)
        with CxiWriter(path, start()) as writer:
            writer.append(frame(compress(frames), list(range(6))))
            writer.positions(positions(list(range(6))))
            writer.finish(outcome(snapshot(1)))
        for swmr in (False, True):
            with h5py.File(path, "r", swmr=swmr) as f:
                diffraction = f["entry_1/data_1/data"][:]
                energy = f["entry_1/instrument_1/source_1/energy"][()]
                distance = f["entry_1/instrument_1/detector_1/distance"][()]
                mask = f["entry_1/instrument_1/detector_1/mask"][:]
                translation = f["entry_1/sample_1/geometry_1/translation"][:]
                picture = f["entry_1/image_1/data_real"][:] + 1j * f["entry_1/image_1/data_imag"][:]
            assert np.array_equal(diffraction, frames)
            assert energy == pytest.approx(ENERGY_EV)
            assert distance == DISTANCE_M
            assert mask.all()
            assert translation.shape == (6, 3)
            assert np.array_equal(picture, snapshot(1).object)


class TestFiles:
    def test_an_existing_file_is_never_touched(self, path):
        path.write_bytes(b"precious")
        with pytest.raises(ScanError, match=r"scan\.cxi: exists and is not overwritten"):
            CxiWriter(path, start())
        assert path.read_bytes() == b"precious"

    def test_a_missing_directory(self, tmp_path):
        with pytest.raises(ScanError, match=r"absent/scan\.cxi: cannot be created"):
            CxiWriter(tmp_path / "absent" / "scan.cxi", start())

    def test_a_failed_creation_leaves_no_file(self, path, monkeypatch):
        def fail(*_):
            raise OSError("disk full")

        monkeypatch.setattr("streamptycho.files.writer.create", fail)
        with pytest.raises(ScanError, match="disk full"):
            CxiWriter(path, start())
        assert not path.exists()


def test_a_large_frame_that_is_only_announced_takes_no_space(path):
    shape = (8192, 8192)
    with CxiWriter(path, start(geometry=geometry(shape))):
        assert path.stat().st_blocks * 512 < 100_000
    with open_scan(path) as scan:
        assert scan.valid is None
        assert scan.geometry.frame_shape == shape


def test_masks_larger_than_a_tile(path):
    valid = np.random.default_rng(0).random((300, 520)) > 0.01
    valid[256:, :256] = True
    with CxiWriter(path, start(geometry=geometry(valid.shape), valid=valid)):
        pass
    with written(path) as file:
        assert np.array_equal(file[DETECTOR]["mask"][()], valid.astype(np.uint8))
        assert np.array_equal(file[DETECTOR]["pixel_mask"][()], (~valid).astype(np.uint32))
    with open_scan(path) as scan:
        assert np.array_equal(scan.valid, valid)


def test_a_reader_that_comes_too_early_keeps_nobody_out(path, monkeypatch):
    """A viewer that polls the directory opens whatever appears there; the file must not be one before it can be read."""
    early = []

    def build_and_look(partial, fill):
        build(partial, fill)
        with suppress(OSError):
            early.append(h5py.File(path, "r"))

    monkeypatch.setattr("streamptycho.files.writer.build", build_and_look)
    with CxiWriter(path, start()) as writer:
        writer.append(raw(pixels(1), [0]))
        writer.finish(outcome())
    assert early == []
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    with open_scan(path) as scan:
        assert scan.index.tolist() == [0]
