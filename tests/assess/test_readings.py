"""Pictures that are not to be trusted, and why: positions read the wrong way round or at the wrong scale."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from streamptycho.assess.curl import AS_IS, MIRRORED, TRANSPOSED, TURNED
from streamptycho.assess.readings import MATRICES, SCALES, STEP, Readings
from streamptycho.config import load
from streamptycho.files.scan import open_scan
from streamptycho.messages.payload import Payload
from streamptycho.messages.reasons import EndReason, Stream
from streamptycho.messages.results import Assessment
from streamptycho.messages.stream import ScanEnd
from streamptycho.pipeline.points import ScanPoint
from streamptycho.pipeline.reconstruction import Reconstruction
from streamptycho.solve.devices.backend import backend_for
from streamptycho.solve.engine import EngineState, RollingEngine
from streamptycho.solve.settings import EngineOptions
from streamptycho.solve.start.trust import Trust
from tests.assess.scenes import FAULTS, Measured, Watched, simulated

WAYS = {"mirrored": MIRRORED, "swapped": TRANSPOSED, "turned by a quarter": TURNED}


def moved(made: Measured, matrix: object) -> Measured:
    """The same frames at other positions."""
    return replace(made, yx_px=(made.yx_px - made.yx_px.mean(0)) @ np.array(matrix).T)


def concluded(made: Measured, *, probe: bool = False) -> Assessment:
    return Watched(made, probe=probe, polish_passes=5).add().refine(4).conclude()


@pytest.fixture(scope="module")
def sparse() -> Measured:
    """Too few frames for maps of the scan."""
    return simulated("snake", seed=1, frames=48)


@pytest.mark.parametrize("way", WAYS)
def test_axes_that_are_wrong_are_found_in_few_frames(sparse, way):
    last = concluded(moved(sparse, MATRICES[WAYS[way]]))
    assert not last.trusted
    assert list(last.findings) == ["orientation"]
    assert last.verdict.startswith("Not to be trusted: ")
    assert f"most likely {way}" in last.verdict


@pytest.mark.slow
@pytest.mark.parametrize("probe", [True, False], ids=["guess", "search"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("path", ["raster", "snake", "spiral", "fermat"])
@pytest.mark.parametrize("frames", [36, 48, 256])
def test_axes_that_are_wrong_are_found_on_all_paths(path, way, frames, probe):
    last = concluded(moved(simulated(path, seed=frames, frames=frames), MATRICES[WAYS[way]]), probe=probe)
    assert not last.trusted
    assert "orientation" in last.findings
    assert f"most likely {way}" in last.verdict


def test_few_right_frames_are_trusted(sparse):
    last = concluded(sparse)
    assert (last.trusted, last.findings) == (True, {})
    assert last.verdict.startswith("Finished: 48 of 48 frames")


def test_the_criterion_of_the_resolution_is_named(sparse):
    last = concluded(sparse)
    assert last.criterion == "half-bit"
    assert np.isfinite(last.figures["resolution_m"])
    assert Watched(sparse).add(30).assess().criterion == ""


@pytest.mark.slow
@pytest.mark.parametrize("scale", [0.001, 0.1, 0.5, 10])
@pytest.mark.parametrize("probe", [True, False], ids=["guess", "search"])
def test_positions_at_a_wrong_scale(scale, probe):
    last = concluded(moved(simulated("snake", seed=1), np.eye(2) * scale), probe=probe)
    assert not last.trusted
    assert next(iter(last.findings)) in ("scale", "overlap", "probe")
    assert last.verdict.startswith("Not to be trusted: ")


def test_positions_far_out():
    """Metres instead of millimetres: nearly all frames lie outside the largest object."""
    made = moved(simulated("snake", seed=1, frames=48), np.eye(2) * 1000)
    watched = Watched(made.first(2)).add()
    watched.made = replace(made, dropped={"outside": 46})
    watched.ended = True
    last = watched.assess(final=True)
    assert list(last.findings) == ["overlap"]
    assert "outside the largest object" in last.findings["overlap"]
    assert last.verdict == "Not to be trusted: the positions lie too far apart."


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_other_faults_are_not_taken_for_wrong_axes_or_scales(name):
    make, code = FAULTS[name]
    last = concluded(make("snake", 1), probe=True)
    assert next(iter(last.findings)) == code
    if code != "orientation":
        assert not {"orientation", "scale"} & set(last.findings)


@pytest.mark.slow
@pytest.mark.parametrize("path", ["raster", "snake", "spiral", "fermat"])
@pytest.mark.parametrize(
    "options", [{}, {"phase_rad": 2.5}, {"absorption": 0.7}, {"photons": 1e4}, {"overlap": 0.6}, {"overlap": 0.85}], ids=str
)
def test_right_scans_of_many_kinds_are_trusted(path, options):
    for frames in (48, 256):
        last = concluded(simulated(path, seed=5, frames=frames, **options))
        assert last.trusted, (frames, last.verdict)
        assert not {"orientation", "scale", "overlap", "mismatch"} & set(last.findings)


def test_a_trial_is_made_in_small_slices_and_once(sparse):
    engine = Watched(moved(sparse, MATRICES[TRANSPOSED]), probe=False, polish_passes=2).add().refine(4).finish().engine
    readings = Readings()
    assert engine.trust is Trust.FAILED
    slices = 0
    while readings.owed(engine):
        assert readings.pay(engine) <= STEP + 20
        slices += 1
    assert readings.updates > 4 * 1000
    assert slices > 100
    assert np.isfinite(readings.unexplained[[AS_IS, MIRRORED, TRANSPOSED, TURNED]]).all()
    assert np.argmin(readings.unexplained) == TRANSPOSED
    assert not readings.due(engine), "they need not be tried again"


def test_nothing_is_tried_of_a_confirmed_picture(sparse):
    watched = Watched(sparse).add().refine(8).finish()
    assert watched.engine.trust is Trust.CONFIDENT
    assert not watched.assessor.readings.owed(watched.engine)


def test_readings_are_of_metres():
    """Pixels that are not square: swapped positions are so in metres."""
    options = EngineOptions(backend="numpy")
    engine = RollingEngine(options, backend_for(options), (8, 8))
    for yx in ((0.0, 0.0), (10.0, 0.0), (-10.0, 0.0), (0.0, 30.0), (0.0, -30.0)):
        assert engine.add(np.ones((8, 8), np.float32), yx) is not None
    readings = Readings(pixel_m=(1e-8, 2e-8))
    swapped = readings._read(engine, TRANSPOSED).corners[:5] + 4
    assert swapped.tolist() == [[0, 0], [0, 5], [0, -5], [60, 0], [-60, 0]]
    doubled = next(reading for reading, scale in SCALES.items() if scale == 2)
    assert (readings._read(engine, doubled).corners[:5] + 4).tolist() == [[0, 0], [20, 0], [-20, 0], [0, 60], [0, -60]]
    assert engine.store.corners[1].tolist() == [6, -4], "the engine keeps its own"


# recorded scans


def reconstructed(path: Path, orientation: str = "as-is", **positions: object) -> Assessment:
    """As from the command line, with few passes."""
    settings = {f"positions.{name}": value for name, value in positions.items()} | {"preprocess.orientation": orientation}
    config = load(None, settings | {"engine.polish_passes": 10, "engine.backend": "cpu"})
    with open_scan(path, config.read) as scan:
        start = scan.start(scan.scan_id, 1)
        work = Reconstruction(start, config.preprocess, config.positions, config.engine, backend_for(config.engine))
        for index in scan.index.tolist():
            payload: Payload = scan.payload(index)
            work.add(ScanPoint(index, 0, tuple(scan.yx_m[index].tolist()), payload))
    work.engine.finish()
    work.end = ScanEnd(**work.run.fields, stream=Stream.SCAN, count=work.received, reason=EndReason.COMPLETE)
    while work.engine.state is not EngineState.DONE:
        work.engine.step_slice()
        work.assessor.step(work.engine)
    while work.owes_assessment:
        work.assessor.pay(work.engine)
    return work.assessment(1, final=True)


@pytest.mark.slow
def test_positions_stored_y_x_although_read_x_y(shared_data):
    last = reconstructed(shared_data / "cases" / "09_sharp_nsls2_yx0.cxi")
    assert not last.trusted
    assert last.verdict == (
        "Not to be trusted: the axes y and x of the positions or of the detector are most likely swapped."
    )
    assert list(last.findings) == ["orientation"]
    assert "change positions.swap instead" in last.findings["orientation"]
    right = reconstructed(shared_data / "cases" / "09_sharp_nsls2_yx0.cxi", swap=True)
    assert (right.trusted, right.findings) == (True, {})


@pytest.mark.slow
@pytest.mark.parametrize("name", ["siemens_star_seed.cxi", "siemens_star_standard.cxi", "siemens_star_aps.h5"])
def test_the_star_is_trusted_as_it_is_and_not_if_it_is_read_wrongly(shared_data, name):
    right = reconstructed(shared_data / name)
    assert (right.trusted, right.findings) == (True, {})
    for settings in ({"flip_x": True}, {"orientation": "rotate-90"}):
        wrong = reconstructed(shared_data / name, **settings)
        assert not wrong.trusted
        assert "orientation" in wrong.findings
        assert wrong.verdict.startswith("Not to be trusted: ")
