"""The words, and how steady they are."""

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from streamptycho.assess.arrangement import beam_px
from streamptycho.assess.evidence import Evidence, Standing
from streamptycho.assess.finding import Finding
from streamptycho.assess.findings import findings
from streamptycho.assess.rings import RingCorrelation
from streamptycho.assess.signs import gaps, signs_of
from streamptycho.assess.verdict import APPEARS, DISAPPEARS, Steady, length, trusted, verdict
from streamptycho.solve.engine import EngineState
from streamptycho.solve.extent import Extent
from streamptycho.solve.start.trust import Trust

A, B = (Finding(code, f"{code} is wrong", "3 of 4", "Do something.") for code in "ab")
WRONG = Finding("x", "X is wrong", "3 of 4", "Do something.", spoils_picture=True)
CURVE = RingCorrelation(np.arange(3.0), np.ones(3), np.zeros(3), 3.0)


def evidence(count: int = 200, **changes: Any) -> Evidence:
    zeros = np.zeros(count)
    points = {
        "index": np.arange(count), "yx_m": np.zeros((count, 2)), "counts": zeros + 1e4, "dark_field": zeros,
        "centre_px": np.zeros((count, 2)), "saturated": np.zeros(count, np.int64),
    }  # fmt: skip
    return Evidence(**(points | {"shape": (64, 64), "pixel_m": (1e-8, 1e-8), "expected": 400} | changes))


def standing(**changes: Any) -> Standing:
    values: dict[str, Any] = {
        "state": EngineState.LIVE,
        "frames": 200,
        "rows_used": 200,
        "updates": 2000,
        "error": 0.0123,
        "error_history": (0.02, 0.0125, 0.0124, 0.0123),
        "trust": Trust.CONFIDENT,
        "unexplained": 0.3,
        "flux_estimated": False,
        "position_shift_px": 0.0,
        "position_drift_px": 0.0,
        "positions_refined": False,
        "mode_powers": np.ones(1),
        "max_object_pixels": 1 << 26,
        "probe": None,
    }
    return Standing(**(values | changes))


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e12])
def test_the_diameter_of_the_beam_does_not_depend_on_its_power(scale):
    probe = np.zeros((1, 64, 64), np.complex64)
    probe[0, 22:42, 22:42] = scale
    signs = signs_of(evidence(), standing())
    assert beam_px(standing(probe=probe), signs) == pytest.approx(20 * np.sqrt(4 / np.pi))


def test_a_finding_is_told_the_second_time_and_stays_a_while():
    steady = Steady()
    told = [steady(found) for found in ([A], [], [A], [A], [], [], [A], [], [], [], [])]
    codes = ["".join(f.code for f in some) for some in told]
    assert codes == ["", "", "", "a", "a", "a", "a", "a", "a", "", ""]
    assert (APPEARS, DISAPPEARS) == (2, 3)


def test_the_gravest_comes_first_and_the_newest_figures_count():
    steady = Steady()
    steady([B])
    assert steady([A, B]) == [B]
    assert steady([A, B]) == [A, B]
    newer = replace(A, reason="2 of 4")
    assert steady([newer]) == [newer, B]


def test_the_last_word_waits_for_nothing():
    steady = Steady()
    assert steady([A], final=True) == [A]
    steady([B])
    steady([B])
    assert steady([], final=True) == []


@pytest.mark.parametrize(
    ("told", "state", "changes", "resolution_m", "words"),
    [
        ([A], EngineState.LIVE, {}, 1e-7, "a is wrong."),
        ([A, B], EngineState.LIVE, {}, 1e-7, "a is wrong, and 1 more finding."),
        ([A, B, B], EngineState.DONE, {}, 1e-7, "a is wrong, and 2 more findings."),
        ([], EngineState.EMPTY, {"frames": 3}, np.nan, "Gathering: 200 of 400 frames."),
        ([], EngineState.LIVE, {"updates": 0}, np.nan, "Gathering: 200 of 400 frames."),
        ([], EngineState.SEARCHING, {"trust": Trust.FAILED}, np.nan, "Converging: 200 of 400 frames, a probe that explains "
         "them is being looked for."),
        ([], EngineState.LIVE, {"trust": Trust.UNCERTAIN}, 3e-8, "Converging: 200 of 400 frames, Fourier error 0.012, "
         "resolution about 30 nm."),
        ([], EngineState.LIVE, {}, 3e-8, "Good: 200 of 400 frames, resolution about 30 nm."),
        ([], EngineState.POLISHING, {"error_history": (0.03, 0.02, 0.019)}, 3e-8, "Good and improving: 200 of 400 frames, "
         "resolution about 30 nm."),
        ([], EngineState.DONE, {}, 3e-8, "Finished: 200 of 400 frames, resolution about 30 nm."),
        ([], EngineState.DONE, {}, np.nan, "Finished: 200 of 400 frames, nothing resolved that both halves of the frames "
         "agree on."),
    ],
)  # fmt: skip
def test_one_sentence(told, state, changes, resolution_m, words):
    assert verdict(told, evidence(), standing(state=state, **changes), CURVE, resolution_m) == words


@pytest.mark.parametrize(
    ("found", "changes", "words"),
    [
        ([WRONG], {}, "Not to be trusted: x is wrong."),
        ([A, WRONG, B], {}, "Not to be trusted: x is wrong, and 2 more findings."),
        ([], {"trust": Trust.FAILED}, "Not to be trusted: half of the frames do not predict the other half."),
        ([A], {"trust": Trust.FAILED}, "Not to be trusted: half of the frames do not predict the other half, and 1 more "
         "finding."),
    ],
)  # fmt: skip
def test_a_picture_that_is_wrong_is_never_called_finished(found, changes, words):
    over = standing(state=EngineState.DONE, **changes)
    assert not trusted(found, over)
    assert verdict(found, evidence(), over, CURVE, 3e-8) == words
    interrupted = standing(**changes)
    assert verdict(found, evidence(), interrupted, CURVE, 3e-8, final=True) == words
    assert "trusted" not in verdict(found, evidence(), interrupted, CURVE, 3e-8), "it may still come right"


def test_a_picture_that_could_be_better_or_could_not_be_judged_is_trusted():
    assert trusted([A, B], standing())
    assert trusted([], standing(trust=Trust.UNCERTAIN))


def test_without_a_curve_and_without_a_number_of_frames():
    words = verdict([], evidence(expected=None), standing(), None, float("nan"))
    assert words == "Converging: 200 frames, Fourier error 0.012, resolution not known yet."


def test_as_fine_as_the_pixels():
    assert "(as fine as the pixels)" in verdict([], evidence(), standing(), replace(CURVE, resolution_px=2.0), 2e-8)


@pytest.mark.parametrize(
    ("value_m", "words"),
    [
        (3.36e-7, "336 nm"),
        (1.21e-8, "12 nm"),
        (4.56e-9, "4.6 nm"),
        (2.2e-6, "2.2 um"),
        (9.9996e-7, "1.0 um"),
        (3e-13, "3e-13 m"),
    ],
)
def test_lengths(value_m, words):
    assert length(value_m) == words


def test_gaps_count_once_later_frames_are_in():
    holes = np.delete(np.arange(300), [5, 100, 101, 299])
    assert gaps(evidence(296, index=holes, expected=300))[0] == 3
    ended = {"index": holes, "expected": 300, "ended": True}
    assert gaps(evidence(296, **ended, complete=True)) == (4, 300)
    assert gaps(evidence(296, **ended)) == (3, 299), "who breaks off does not miss the rest"
    late = np.concatenate([np.arange(20, 120), np.arange(20)])
    assert gaps(evidence(120, index=late))[0] == 0, "late is not lost"
    assert gaps(evidence(0)) == (0, 0)


def test_a_reconstruction_that_cannot_keep_up():
    def codes(**changes: Any) -> list[str]:
        return [f.code for f in findings(evidence(), standing(**changes), signs_of(evidence(), None))]

    behind = {"updates": 250, "pace": 1.2}
    assert codes(**behind) == ["slow"]
    assert codes(updates=2000, pace=10.0, rows_used=100) == []
    assert codes(updates=2000, pace=1.0, rows_used=100) == ["slow"]
    assert codes(updates=250, pace=4.0) == [], "it is catching up"
    assert codes(updates=250) == [], "the picture began again"
    assert codes(**behind, frames=80) == [], "too early to tell"
    assert codes(**behind, state=EngineState.SEARCHING) == []
    assert codes(updates=250, state=EngineState.DONE) == ["slow"], "and there it ends"


def test_nothing_is_said_of_nothing():
    empty = evidence(0)
    assert findings(empty, standing(frames=0, updates=0, error=float("nan")), signs_of(empty, None)) == []


def test_dropped_frames_are_named():
    made = evidence(200, index=np.arange(0, 400, 2), dropped={"outside": 3, "corrupt": 0}, ended=True, complete=True)
    missing = next(f for f in findings(made, standing(), signs_of(made, None)) if f.code == "missing")
    assert missing.reason == "200 of 400; dropped here: 3 outside"
    assert str(missing).startswith("Frames are missing from the picture: 200 of 400; dropped here: 3 outside. The counts")


def test_who_stops_misses_nothing():
    ended = {"index": np.arange(100), "expected": 400, "ended": True, "complete": True}
    for dropped, codes in (({"stopped": 300}, []), ({}, ["missing"])):
        made = evidence(100, dropped=dropped, **ended)
        assert [f.code for f in findings(made, standing(), signs_of(made, None))] == codes


def test_frames_of_which_none_can_fit_name_the_setting():
    """A sensor of 2048 x 2048 as it is: no frame is admitted, and that is the first thing to be said."""
    nothing = standing(frames=0, rows_used=0, updates=0, error=float("nan"), trust=Trust.UNCERTAIN)
    made = evidence(0, shape=(2048, 2048), dropped={"outside": 24})
    (found,) = findings(made, nothing, signs_of(made, None))
    assert (found.code, found.spoils_picture) == ("frame_size", True)
    assert "24 frames of 2048 x 2048 came" in found.reason
    assert "engine.max_object_pixels" in found.remedy
    needed = int(re.search(r"object of (\d+) pixels", found.reason)[1])
    assert findings(made, replace(nothing, max_object_pixels=needed), signs_of(made, None)) == []
    assert Extent((2048, 2048), needed).take((0, 0))
    assert not Extent((2048, 2048), needed - 1).take((0, 0))


def test_all_frames_empty_is_a_lost_beam():
    made = evidence(100, dropped={"empty": 30})
    assert [f.code for f in findings(made, standing(), signs_of(made, None))] == ["beam"]
