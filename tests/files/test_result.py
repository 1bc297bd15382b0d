"""Result files."""

import h5py
import numpy as np
import pytest

from streamptycho.errors import FormatError, ScanError
from streamptycho.files.result import read_result, write_result
from streamptycho.messages.reasons import EndReason
from tests.files.factories import end, outcome, snapshot


def test_round_trip(tmp_path):
    path, taken = tmp_path / "scan_result.h5", snapshot(4, final=True)
    write_result(path, outcome(taken, config_json='{"a": "µ"}'))
    result = read_result(path)
    assert result.object.tobytes() == taken.object.tobytes()
    assert result.probe.tobytes() == taken.probe.tobytes()
    assert result.pixel_m == taken.pixel_m
    assert np.array_equal(result.error_per_iteration, taken.error_history)
    assert result.algorithm == "ePIE"
    assert [p.name for p in tmp_path.iterdir()] == ["scan_result.h5"]


def test_plain_layout(tmp_path):
    path, taken = tmp_path / "r.h5", snapshot(2, pixel_m=(28e-9, 28e-9))
    write_result(path, outcome(taken, end=None))
    with h5py.File(path) as file:
        assert np.array_equal(file["/object/complex"][()], taken.object)
        assert np.allclose(file["/object/amplitude"][()] * np.exp(1j * file["/object/phase"][()]), taken.object, rtol=1e-5)
        assert file["/object/pixel_size"][()] == 28e-9
        assert np.array_equal(file["/probe/complex"][()], taken.probe[0])
        assert np.array_equal(file["/probe/modes"][()], taken.probe)
        assert np.array_equal(file["/metrics/error_per_iteration"][()], taken.error_history)
        assert file["/metrics/n_iterations"][()] == len(taken.error_history)
        assert file["/metrics/algorithm"][()] == b"ePIE"
        assert file["/cxi_version"][()] == 160
        assert np.array_equal(file["/entry_1/image_1/data"][()], taken.object)
        assert np.array_equal(
            file["/entry_1/image_1/data_real"][()] + 1j * file["/entry_1/image_1/data_imag"][()], taken.object
        )
        assert np.array_equal(file["/entry_1/image_2/data"][()], taken.probe[0])
        assert np.array_equal(file["/entry_1/data_1/data"][()], file["/object/phase"][()])
        assert file["/object/y"][0] == taken.origin_m[0]
        assert file["/object/x"][1] - file["/object/x"][0] == pytest.approx(28e-9)
        assert file["/entry_1/streamptycho/complete"][()] == 0


def test_every_plot_has_its_signal_and_axes(tmp_path):
    write_result(tmp_path / "r.h5", outcome(snapshot(2), end=None))
    seen = []

    def check(name, item):
        if item.attrs.get("NX_class") != "NXdata":
            return
        seen.append(name)
        signal = item[item.attrs["signal"]]
        for axis, n in zip(item.attrs["axes"], signal.shape, strict=True):
            assert item[axis].shape == (n,)

    with h5py.File(tmp_path / "r.h5") as file:
        file.visititems(check)
        default = file[file.attrs["default"]]
        assert default[default.attrs["default"]].name == "/entry_1/object"
    assert sorted(seen) == ["entry_1/data_1", "entry_1/image_1", "entry_1/image_2", "metrics", "object", "probe"]


@pytest.mark.parametrize(("reason", "complete"), [(EndReason.COMPLETE, 1), (EndReason.ABORTED, 0), (EndReason.TIMEOUT, 0)])
def test_how_the_scan_ended(tmp_path, reason, complete):
    write_result(tmp_path / "r.h5", outcome(snapshot(1), end=end(reason)))
    with h5py.File(tmp_path / "r.h5") as file:
        assert file["/entry_1/streamptycho/end_reason"][()].decode() == reason.value
        assert file["/entry_1/streamptycho/complete"][()] == complete


def test_an_interim_result_is_replaced_whole(tmp_path):
    path = tmp_path / "r.h5"
    write_result(path, outcome(snapshot(1), end=None))
    with h5py.File(path) as reader:
        write_result(path, outcome(snapshot(2)))
        assert reader["/metrics/n_iterations"][()] == 4
    assert len(read_result(path).error_per_iteration) == 5


def test_before_the_first_pass_the_metrics_are_empty(tmp_path):
    write_result(
        tmp_path / "r.h5", outcome(snapshot(0, error_history=np.zeros(0, np.float32), error=float("nan")), end=None)
    )
    assert read_result(tmp_path / "r.h5").error_per_iteration.shape == (0,)


def test_a_missing_directory_is_a_scan_error_and_leaves_nothing(tmp_path):
    with pytest.raises(ScanError, match=r"absent/r\.h5: the result cannot be written"):
        write_result(tmp_path / "absent" / "r.h5", outcome(snapshot(1), end=None))


def test_a_failed_write_leaves_the_old_result_and_no_rubbish(tmp_path):
    path = tmp_path / "r.h5"
    path.mkdir()
    (path / "kept").touch()
    with pytest.raises(ScanError, match="cannot be written"):
        write_result(path, outcome(snapshot(1), end=None))
    assert [p.name for p in tmp_path.iterdir()] == ["r.h5"]


def test_reading_something_else_says_what_is_missing(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["probe/modes"] = np.zeros((1, 4, 4), np.complex64)
    with pytest.raises(FormatError, match=r"other\.h5: no /entry_1/image_1/pixel_size or /object/pixel_size"):
        read_result(tmp_path / "other.h5")
    (tmp_path / "text.h5").write_text("no HDF5")
    with pytest.raises(FormatError, match="not a readable result file"):
        read_result(tmp_path / "text.h5")


def test_one_mode_without_the_modes_dataset(tmp_path):
    path = tmp_path / "r.h5"
    write_result(path, outcome(snapshot(1), end=None))
    with h5py.File(path, "r+") as file:
        del file["/probe/modes"]
    assert read_result(path).probe.shape == (1, 16, 24)
