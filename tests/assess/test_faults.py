"""Each fault is the first finding, and right scans have none."""

import re

import h5py
import numpy as np
import pytest

from streamptycho.assess.halves import ADVANCE, FRAMES, PASSES, SHARE, STEP, central
from streamptycho.messages.geometry import Orientation
from tests.assess.scenes import FAULTS, Measured, Watched, simulated, stages

VISITS = 8
PATHS = ("snake", "spiral")
STAR_PIXEL_M = 1.4089113457261918e-10 * 1.92 / (128 * 75e-6)


def told(name: str, path: str, seed: int, *, probe: bool = True) -> list[str]:
    make, _ = FAULTS[name]
    return Watched(make(path, seed), probe=probe).add().refine(VISITS).told()


@pytest.mark.parametrize(("number", "name"), list(enumerate(FAULTS)), ids=list(FAULTS))
def test_a_fault_is_told_first_and_alone(number, name):
    assert told(name, PATHS[number % 2], seed=number % 3) == [FAULTS[name][1]]


@pytest.mark.slow
@pytest.mark.parametrize("probe", [True, False], ids=["guess", "search"])
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", FAULTS)
def test_faults_on_all_paths_with_and_without_a_probe(name, path, probe):
    for seed in (0, 1, 2):
        assert told(name, path, seed, probe=probe)[:1] == [FAULTS[name][1]], f"seed {seed}"


@pytest.mark.parametrize("visits", [4, 40])
@pytest.mark.parametrize("path", ["raster", "snake", "spiral"])
def test_a_right_scan_has_no_fault_at_any_time(path, visits):
    for watched in stages(simulated(path, seed=3), visits=visits):
        assert watched.told() == []
    watched.finish()
    last = watched.assess(final=True)
    assert last.findings == {}
    assert last.verdict.startswith("Finished: 256 of 256 frames")


@pytest.mark.slow
@pytest.mark.parametrize("visits", [4, 40])
@pytest.mark.parametrize("path", ["raster", "snake", "spiral", "fermat"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"phase_rad": 2.5},
        {"absorption": 0.7},
        {"phase_rad": 0.5, "absorption": 0.1},
        {"photons": 1e4},
        {"photons": 1e6},
        {"overlap": 0.6},
        {"overlap": 0.85},
    ],
    ids=str,
)
def test_right_scans_of_many_kinds_have_no_fault(path, options, visits):
    for seed in (0, 1, 2):
        for watched in stages(simulated(path, seed, **options), visits=visits):
            assert watched.told() == [], f"seed {seed}, {len(watched.points)} frames"


def test_without_a_probe_there_is_no_fault_either():
    watched = Watched(simulated("spiral", seed=4), probe=False)
    for frames in (64, 128, 256):
        assert watched.add(frames).refine(8).told() == []


@pytest.fixture(scope="module")
def star(shared_data):
    with h5py.File(shared_data / "siemens_star_seed.cxi") as stored:
        frames = stored["entry_1/data_1/data"][()].astype(np.float64)
        translation = stored["entry_1/sample_1/geometry_1/translation"][()]
        probe = stored["entry_1/instrument_1/illumination_1/probe"][()]
    return Measured(
        frames,
        translation[:, 1::-1] / STAR_PIXEL_M,
        (STAR_PIXEL_M, STAR_PIXEL_M),
        np.ones(frames.shape, np.bool_),
        np.arange(len(frames)),
        probe[None].astype(np.complex64),
        len(frames),
    )


@pytest.mark.parametrize("visits", [4, pytest.param(40, marks=pytest.mark.slow)])
def test_the_star_has_no_fault_at_any_time(star, visits):
    for watched in stages(star, visits=visits):
        assert watched.told() == []
    watched.finish()
    last = watched.assess(final=True)
    assert last.findings == {}
    assert re.fullmatch(r"Finished: 516 of 516 frames, resolution about \d+ nm\.", last.verdict)
    assert 90e-9 < last.figures["resolution_m"] < 400e-9
    assert last.figures["overlap"] > 0.6


def test_the_star_upside_down(star):
    watched = Watched(Measured(**{**vars(star), "counts": np.roll(star.counts[:, ::-1], 1, 1)})).add().refine(6)
    watched.assess()
    ((code, sentence),) = watched.assess().findings.items()
    assert code == "orientation"
    assert "'flip-y'" in sentence


def test_the_remedy_for_a_wrong_orientation_follows_what_is_set():
    """Frames that would be right transposed, and are turned by a quarter at present."""
    make, _ = FAULTS["mirrored"]
    watched = Watched(make("snake", 0), orientation=Orientation.ROTATE_90).add().refine(VISITS)
    watched.assess()
    (sentence,) = watched.assess().findings.values()
    _, remedy = sentence.split(". ", 1)
    wanted = Orientation(re.findall("'([a-z0-9-]+)'", remedy)[0])
    frame = np.arange(6).reshape(2, 3)
    seen = Orientation.ROTATE_90.apply(frame)
    assert any(np.array_equal(wanted.apply(frame), o.apply(seen)) for o in (Orientation.FLIP_Y, Orientation.FLIP_X))


def test_a_reconstruction_that_comes_too_late():
    """As many frames again come in the time of a few updates, twice."""
    watched = Watched(simulated())
    codes = []
    for frames in (128, 192, 256):
        watched.add(frames).refine(0.3)
        codes.append(list(watched.assess().findings))
    assert codes == [[], ["slow"], ["slow"]]
    watched.refine(8)
    for _ in range(3):
        last = watched.assess()
    assert last.findings == {}


# resolution


@pytest.mark.parametrize("path", PATHS)
def test_fewer_photons_resolve_less(path):
    found = []
    for photons in (1e5, 1e4, 3e3, 1e3):
        watched = Watched(simulated(path, seed=1, photons=photons)).add().refine(20)
        while watched.assessor.halves.pay(watched.engine):
            pass
        found.append(watched.assess().figures["resolution_m"] / watched.made.pixel_m[0])
    assert (np.diff(found) >= 0).all()
    assert found[0] < 2.2
    assert found[-1] > 2 * found[0]


def test_frames_that_do_not_belong_there_resolve_nothing_fine():
    make, _ = FAULTS["shuffled"]
    watched = Watched(make("snake", 0)).add().refine(20)
    while watched.assessor.halves.pay(watched.engine):
        pass
    resolution_m = watched.assess().figures.get("resolution_m", np.inf)
    assert resolution_m > 4 * watched.made.pixel_m[0]


def test_the_estimate_keeps_to_its_share():
    watched = Watched(simulated())
    halves, engine = watched.assessor.halves, watched.engine
    for frames in (64, 128, 256):
        watched.add(frames)
        for _ in range(100):
            engine.step_slice()
            assert watched.assessor.step(engine) <= STEP
            assert halves.updates <= SHARE * engine.updates + ADVANCE * PASSES * min(frames, FRAMES)
    assert halves.tried >= 1
    assert halves.latest is not None


def test_frames_that_are_moved_meanwhile_find_room():
    watched = Watched(simulated()).add().refine(20)
    halves, engine = watched.assessor.halves, watched.engine
    assert halves.pay(engine)
    engine.store.corners[:FRAMES] += 200
    while halves.pay(engine):
        pass
    assert halves.tried == 1


def test_a_far_away_frame_takes_no_part():
    made = simulated()
    made.yx_px[5] += 3000
    watched = Watched(made).add().refine(20)
    rows = central(watched.engine.solver)
    assert 5 not in rows
    assert len(rows) == FRAMES


def test_halves_are_like_the_fields_of_a_chessboard():
    made = simulated("raster", jitter=0.0)
    rows = central(Watched(made).add().refine(8).engine.solver)
    side = {int(row): half % 2 for half, row in enumerate(rows)}
    beside = [(row, row + 1) for row in side if row + 1 in side and (row + 1) % 16] + [
        (row, row + 16) for row in side if row + 16 in side
    ]
    assert np.mean([side[a] != side[b] for a, b in beside]) > 0.9


def test_a_new_beginning_makes_the_estimate_void():
    watched = Watched(simulated()).add().refine(20)
    while watched.assessor.halves.pay(watched.engine):
        pass
    assert watched.assessor.halves.latest is not None
    watched.engine.reset_object()
    watched.engine.step_slice()
    assert watched.assessor.halves.pay(watched.engine)
    assert watched.assessor.halves.latest is None
    assert watched.assessor.halves.owed(watched.engine)
