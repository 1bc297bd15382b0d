"""The newest state of a run from its documents, without a screen."""

import event_model
import numpy as np
import pytest

from streamptycho.errors import GrammarError
from streamptycho_services.view.model import SERIES_LENGTH, ReconModel, Series
from tests.view.helpers import BEGUN_S, Run, diffraction, maps, marked_object, probe, progress


def test_the_newest_array_and_the_whole_curve_are_kept():
    model = ReconModel()
    run = Run(model)
    for i in range(5):
        run.event("progress", progress(error=1 / (i + 2)), after_s=i)
        run.event("object", marked_object(object_frames_used=i))
    state = model.flush()
    assert state.streams == {"progress", "object"}
    assert state.begun
    assert state.newest
    times, errors = state.series["error"]
    np.testing.assert_allclose(times, BEGUN_S + np.arange(5))
    np.testing.assert_allclose(errors, 1 / np.arange(2, 7))
    assert state.last("object_frames_used") == 4
    assert state.words["state"] == "reconstructing"
    np.testing.assert_array_equal(state.arrays["object_phase"], marked_object()["object_phase"])
    assert np.isnan(state.last("nothing_of_this_name"))


def test_a_flush_tells_only_what_is_new():
    model = ReconModel()
    assert model.flush() is None
    run = Run(model)
    assert model.flush().streams == set()
    assert model.flush() is None
    run.event("probe", probe())
    state = model.flush()
    assert state.streams == {"probe"}
    assert not state.begun
    assert model.flush() is None
    run.stop("abort", "stopped by hand")
    assert model.flush().stop["reason"] == "stopped by hand"
    assert model.flush() is None


def test_a_state_does_not_change_afterwards():
    model = ReconModel()
    run = Run(model)
    run.event("progress", progress())
    state = model.flush()
    run.event("progress", progress(error=0.01, state="done"))
    assert state.last("error") == 0.05
    assert state.words["state"] == "reconstructing"


def test_a_curve_stays_bounded_and_keeps_its_ends():
    series = Series(8)
    for i in range(1000):
        series.append(float(i), 2.0 * i)
        assert len(series.arrays()[0]) <= 8
    times, values = series.arrays()
    assert times[0] == 0
    assert times[-1] == 999
    assert (np.diff(times) > 0).all()
    np.testing.assert_array_equal(values, 2 * times)
    assert SERIES_LENGTH >= 1000


def test_a_history_comes_as_a_page():
    told = []
    run = Run(lambda name, document: told.append((name, document)))
    for i in range(4):
        run.event("progress", progress(error=0.1 * (i + 1)), after_s=i)
    model = ReconModel()
    model(*told[0])
    model(*told[1])
    model("event_page", event_model.pack_event_page(*(document for name, document in told if name == "event")))
    np.testing.assert_allclose(model.flush().series["error"][1], [0.1, 0.2, 0.3, 0.4])


def test_a_new_descriptor_of_a_stream_goes_on_with_it():
    model = ReconModel()
    run = Run(model)
    run.event("object", marked_object((60, 80)))
    run.event("object", marked_object((70, 90), object_frames_used=43))
    state = model.flush()
    assert state.arrays["object_phase"].shape == (70, 90)
    np.testing.assert_array_equal(state.series["object_frames_used"][1], [42, 43])


def test_the_run_that_began_last_is_shown():
    model = ReconModel()
    first = Run(model, "first")
    first.event("progress", progress(error=0.5))
    second = Run(model, "second", BEGUN_S + 10)
    second.event("progress", progress(error=0.2))
    first.event("progress", progress(error=0.4))
    first.event("object", marked_object())
    state = model.flush()
    assert state.start["scan_name"] == "second"
    assert state.last("error") == 0.2
    assert "object_phase" not in state.arrays
    first.stop()
    assert model.flush() is None
    Run(model, "of yesterday", BEGUN_S - 10)
    assert model.flush() is None


@pytest.mark.parametrize("flushed_between", [False, True])
def test_an_earlier_run_is_given_once_more_when_it_ends(flushed_between: bool):
    model = ReconModel(ended_too=True)
    first = Run(model, "first")
    first.event("object", marked_object())
    if flushed_between:
        model.flush()
    second = Run(model, "second", BEGUN_S + 10)
    second.event("progress", progress())
    if flushed_between:
        model.flush()
    first.event("object", marked_object(object_final=1))
    first.stop()
    ended, now = model.flush(), model.flush()
    assert not ended.newest
    assert ended.begun
    assert ended.start["scan_name"] == "first"
    assert ended.last("object_final") == 1
    assert ended.streams == {"object"}
    assert now.newest
    assert now.begun
    assert now.start["scan_name"] == "second"
    assert now.streams == {"progress"}
    assert model.flush() is None


def test_an_end_is_not_lost_to_the_next_start():
    model = ReconModel(ended_too=True)
    first = Run(model, "first")
    first.event("object", marked_object(object_final=1))
    first.stop()
    Run(model, "second", BEGUN_S + 10)
    assert model.flush().start["scan_name"] == "first"
    assert model.flush().start["scan_name"] == "second"
    assert model.flush() is None


@pytest.mark.parametrize(
    ("stream", "data", "field"),
    [
        ("object", marked_object(object_phase=0.0), "object.object_phase"),
        ("object", marked_object(object_phase=np.zeros((3, 4, 5), np.float32)), "object.object_phase"),
        ("object", marked_object(object_amplitude=np.zeros((60, 81), np.float32)), "object.object_amplitude"),
        ("object", marked_object(object_covered=np.zeros((1, 1), np.uint8)), "object.object_covered"),
        ("object", marked_object(object_pixel_m=np.array([1e-9, 0.0])), "object.object_pixel_m"),
        ("object", marked_object(object_pixel_m=np.array([1e-9])), "object.object_pixel_m"),
        ("object", marked_object(object_origin_m=np.array([np.nan, 0.0])), "object.object_origin_m"),
        ("object", {"object_phase": np.zeros((2, 2), np.float32)}, "object.object_amplitude"),
        ("object", marked_object(object_amplitude=np.zeros((60, 80), np.complex64)), "object.object_amplitude"),
        ("probe", {**probe(), "probe_power": np.ones(2)}, "probe.probe_power"),
        ("probe", {**probe(), "probe_phase": np.zeros((3, 0, 16))}, "probe.probe_phase"),
        ("diffraction", diffraction(pattern_valid=np.ones((30, 41), np.uint8)), "diffraction.pattern_valid"),
        ("diffraction", diffraction(pattern_centre_px=np.array([np.inf, 0.0])), "diffraction.pattern_centre_px"),
        ("diffraction", diffraction(pattern_binning=0), "diffraction.pattern_binning"),
        ("diffraction", diffraction(pattern_index=1.5), "diffraction.pattern_index"),
        ("maps", maps(map_dpc_y=np.zeros((64, 63), np.float32)), "maps.map_dpc_y"),
        ("maps", maps(map_pixel_m=np.array([1e-9, -1e-9])), "maps.map_pixel_m"),
        ("maps", maps(points_yx_m=np.zeros((5, 3))), "maps.points_yx_m"),
        ("maps", maps(points_yx_m=np.full((5, 2), np.nan)), "maps.points_yx_m"),
        ("maps", maps(points_listed=257), "maps.points_listed"),
        ("maps", maps(points_mapped="many"), "maps.points_mapped"),
        ("progress", progress(error=None), "progress.error"),
        ("progress", progress(error={"a": 1}), "progress.error"),
        ("progress", progress(error=[None]), "progress.error"),
        ("object", marked_object(object_pixel_m=["20 nm", "20 nm"]), "object.object_pixel_m"),
    ],
)
def test_an_event_that_does_not_fit_is_refused_and_changes_nothing(stream: str, data: dict, field: str):
    model = ReconModel()
    run = Run(model)
    model.flush()
    with pytest.raises(GrammarError) as caught:
        run.event(stream, data)
    assert caught.value.field == field
    assert model.flush() is None


def test_a_list_of_numbers_is_an_array():
    model = ReconModel()
    Run(model).event("object", marked_object(object_pixel_m=[20e-9, 40e-9]))
    np.testing.assert_array_equal(model.flush().arrays["object_pixel_m"], [20e-9, 40e-9])


def test_a_start_that_cannot_be_shown_is_refused():
    model = ReconModel()
    with pytest.raises(GrammarError, match="frames_expected"):
        Run(model, frames_expected="many")
    assert model.flush() is None
