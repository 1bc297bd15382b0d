"""Facts of several senders become one scan, and what does not fit is said."""

import dataclasses
import itertools
import random

import numpy as np
import pytest

from streamptycho.compose.composer import Composer
from streamptycho.compose.options import Role, ScanOptions
from streamptycho.dialects.bluesky import Bluesky
from streamptycho.errors import BEGAN_BEFORE, CodecError, GrammarError
from streamptycho.messages.facts import Frames
from streamptycho.messages.reasons import EndReason, Stream
from streamptycho.messages.stream import Frame, Positions, Resume, ScanEnd, ScanStart
from tests import scans
from tests.compose.helpers import (
    DOCUMENTS,
    FRAMES,
    KNOWN,
    POSITIONS,
    Chain,
    began,
    ended,
    frames,
    samples,
    whole,
)  # fmt: skip
from tests.dialects.hearing import told


class TestScan:
    def test_of_two_senders_is_complete_at_once(self):
        chain = Chain(**KNOWN)(*whole(23))
        assert chain.closed == [("series-12", EndReason.COMPLETE, 23)]
        assert chain.indices == list(range(23))
        assert {point.index: point.yx_m for point in chain.points} == {
            i: (pytest.approx(i * 1e-6), pytest.approx(i * 1e-5)) for i in range(23)
        }
        assert chain.refused == {}
        assert chain.said == {}

    @pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
    def test_joins_whatever_begins_first(self, order: tuple[int, ...]):
        blocks = [
            [(FRAMES, began("12", expected=4)), (FRAMES, frames(range(4)))],
            [(POSITIONS, began("abc")), (POSITIONS, samples(0, 4))],
            [(DOCUMENTS, began("uid", wavelength_m=1e-10, metadata={"sample": "gold"}))],
        ]
        values = {key: value for key, value in KNOWN.items() if key != "energy_ev"}
        chain = Chain((FRAMES, POSITIONS, DOCUMENTS), **values)
        for i in order:
            chain(*blocks[i])
        chain((FRAMES, ended("12", 4)), (POSITIONS, ended("abc", 4)), (DOCUMENTS, ended("uid")))
        assert chain.closed == [("series-12", EndReason.COMPLETE, 4)]
        assert chain.start.geometry.wavelength_m == 1e-10
        assert chain.start.metadata["origin.wavelength_m"] == "documents"
        assert chain.start.metadata["sample"] == "gold"

    def test_closes_at_once_when_the_plan_is_carried_out(self):
        chain = Chain(**KNOWN)(*[fact for fact in whole(10) if fact[1].run and not hasattr(fact[1], "reason")])
        assert chain.closed == [("series-12", EndReason.COMPLETE, 10)]

    def test_scans_follow_each_other(self):
        chain = Chain(**KNOWN)
        for number in range(1, 40):
            chain(*whole(6, frames_run=str(number), positions_run="" if number % 2 else f"p{number}")).wait(0.3)
        assert chain.closed == [(f"series-{number}", EndReason.COMPLETE, 6) for number in range(1, 40)]

    def test_waits_for_positions_that_have_not_ended_and_says_so(self):
        chain = Chain(**KNOWN)((FRAMES, began()), (FRAMES, frames(range(4))), (FRAMES, ended("12", 4)))
        chain.wait(6)
        assert "detector.positions" in chain.said["alone"]
        assert chain.closed == []
        assert chain.wait(55).closed == [("series-12", EndReason.INCOMPLETE, 4)]

    def test_positions_that_come_after_the_frames_are_used(self):
        chain = Chain(**KNOWN)((FRAMES, began()), (FRAMES, frames(range(4))), (FRAMES, ended("12", 4))).wait(4)
        chain((POSITIONS, began("abc")), (POSITIONS, samples(0, 4)), (POSITIONS, ended("abc", 4)))
        assert chain.closed == [("series-12", EndReason.COMPLETE, 4)]
        assert len(chain.points) == 4

    def test_frames_of_another_depth_than_announced_overrule_before_the_start(self):
        chain = Chain(**KNOWN)(
            (FRAMES, began(dtype=np.dtype("uint16"), frame_shape=(8, 8))), (FRAMES, frames([0], dtype="uint32"))
        )
        assert (chain.start.dtype, chain.start.geometry.frame_shape) == (np.dtype("uint32"), (4, 6))
        doubts = [text for key, text in chain.start.metadata.items() if key.startswith("doubt.")]
        assert any("uint32" in doubt and "uint16" in doubt for doubt in doubts)

    def test_frames_of_another_depth_later_are_counted_and_said(self):
        chain = Chain(**KNOWN)((FRAMES, began()), (FRAMES, frames([0])), (FRAMES, frames([1, 2], dtype="uint32")))
        assert "uint32" in chain.said["wrong_shape"]
        assert "uint16" in chain.said["wrong_shape"]
        assert chain.scans["series-12"].dropped["wrong_shape"] == 2

    def test_a_run_met_in_its_middle_is_recorded(self):
        chain = Chain(**KNOWN)((FRAMES, frames(range(50, 60))))
        assert chain.indices == list(range(50, 60))
        assert "middle" in chain.said

    def test_the_end_of_the_receiver_lets_all_frames_out(self):
        chain = Chain()((FRAMES, began()), (FRAMES, frames(range(4))), (POSITIONS, samples(0, 4, "abc")))
        assert chain.indices == []
        assert chain.finish().indices == [0, 1, 2, 3]

    def test_frames_after_the_end_are_counted_and_said(self):
        chain = Chain(**KNOWN)(*whole(5)[:-2]).wait(3)((FRAMES, frames([5, 6]))).wait(1)
        assert (chain.closed, chain.refused) == ([("series-12", EndReason.COMPLETE, 5)], {"stray": 2})
        assert not any(finding.reason == "late frames" for finding in chain.composer.fresh())
        chain((FRAMES, frames([8]))).wait(2)
        (said,) = [finding.text for finding in chain.composer.fresh()]
        assert "3 frames of run '12' came after the 5 that were announced" in said
        assert "scan.expected" in said
        assert chain.wait(60).composer.fresh() == []

    def test_a_flood_after_the_end_is_said_while_it_lasts(self):
        chain = Chain(**KNOWN)(*whole(5))
        for number in range(30):
            chain((FRAMES, frames([7 + number]))).wait(1)
        said = [finding.text for finding in chain.composer.fresh()]
        assert len(said) == 1
        assert said[0].startswith("10 frames")
        assert chain.refused == {"stray": 30}

    def test_frames_beyond_the_announced_before_the_end_are_in_the_file_and_said(self):
        chain = Chain(**KNOWN)((FRAMES, began(expected=4)), (FRAMES, frames(range(6))), (POSITIONS, began("abc")))
        chain((POSITIONS, samples(0, 4))).wait(70)
        assert chain.closed == [("series-12", EndReason.INCOMPLETE, 6)]
        assert "2 frames came beyond the 4 that were announced" in chain.said["beyond"]

    def test_dark_frames_count_for_themselves(self):
        chain = Chain(**KNOWN)((FRAMES, began()), (FRAMES, frames([0, 1], dark=True)), (FRAMES, frames([0, 1])))
        assert [(frame.dark, frame.index.tolist()) for frame in chain.of(Frame)] == [(True, [0, 1]), (False, [0, 1])]

    def test_a_run_without_frames_writes_what_was_announced_or_says_that_there_is_nothing(self):
        chain = Chain(**KNOWN)((FRAMES, began(dtype=np.dtype("uint16"), frame_shape=(4, 6))), (FRAMES, ended("12", 9)))
        assert [end.count for end in chain.of(ScanEnd)] == [9]
        chain = Chain(**KNOWN)((FRAMES, began()), (FRAMES, ended("12", 9))).wait(0)
        assert chain.of(ScanStart) == []
        assert chain.refused == {"unrecorded": 1}
        assert "9 frames are announced" in chain.said["empty"]


class TestSamplesPerFrame:
    def test_half_a_scan_whose_frames_nobody_counts_does_not_look_whole(self):
        """One sample comes for each frame, two are expected, and the second half of the frames is lost."""
        chain = Chain(leader="positions", samples_per_frame=2, **KNOWN)((POSITIONS, began("abc")), (FRAMES, began()))
        chain((FRAMES, frames(range(5))), (POSITIONS, samples(0, 10)), (POSITIONS, ended("abc", 10))).wait(6).wait(70)
        assert chain.closed == [("abc", EndReason.INCOMPLETE, 5)]
        assert "scan.samples_per_frame = 2" in chain.said["samples_per_frame"]
        assert "scan.expected" in chain.said["samples_per_frame"]

    @pytest.mark.parametrize("told", [True, False])
    def test_another_number_of_samples_for_each_frame_is_said_with_the_setting(self, told: bool):
        count = 10 if told else None
        chain = Chain(samples_per_frame=2, **KNOWN)((FRAMES, began()), (POSITIONS, began("abc")))
        chain((FRAMES, frames(range(10))), (POSITIONS, samples(0, 10)))
        chain((FRAMES, ended("12", count)), (POSITIONS, ended("abc", count))).wait(6).wait(70)
        assert chain.closed == [("series-12", EndReason.INCOMPLETE, 10)]
        said = chain.said["samples_per_frame"]
        assert "10 samples came for 10 frames, 1 for each, and scan.samples_per_frame is 2" in said
        assert "set it to 1" in said

    def test_the_right_number_is_nothing_to_tell(self):
        chain = Chain(samples_per_frame=2, **KNOWN)((FRAMES, began()), (POSITIONS, began("abc")))
        chain(
            (FRAMES, frames(range(5))), (POSITIONS, samples(0, 10)), (FRAMES, ended("12", 5)), (POSITIONS, ended("abc", 10))
        )
        assert chain.closed == [("series-12", EndReason.COMPLETE, 5)]
        assert "samples_per_frame" not in chain.said


class TestPairing:
    def test_by_name_beats_time(self):
        chain = Chain(**KNOWN)(
            (FRAMES, began("a")), (FRAMES, frames([0], "a")), (FRAMES, began("b")), (FRAMES, frames([0], "b"))
        )
        chain((POSITIONS, began("a")), (POSITIONS, samples(3, 1, "a")))
        assert [block.scan_id for block in chain.of(Positions)] == ["a"]

    def test_refuses_what_is_ambiguous_and_names_it(self):
        chain = Chain(**KNOWN)(
            (FRAMES, began("1")), (FRAMES, frames([0], "1")), (FRAMES, began("2")), (FRAMES, frames([0], "2"))
        )
        chain((POSITIONS, began("abc")), (POSITIONS, samples(0, 1))).wait(6)
        assert chain.of(Positions) == []
        assert all(name in chain.said["ambiguous"] for name in ("series-1", "series-2", "abc", "scan.pairing"))

    def test_refuses_two_runs_for_one_scan(self):
        chain = Chain(**KNOWN)((POSITIONS, samples(0, 1, "p")), (POSITIONS, samples(0, 1, "q")), (FRAMES, began("1")))
        chain((FRAMES, frames([0], "1"))).wait(6)
        assert chain.of(Positions) == []
        assert "'p'" in chain.said["ambiguous"]
        assert "'q'" in chain.said["ambiguous"]

    def test_early_positions_of_the_next_scan_do_not_join_the_one_before(self):
        chain = Chain(**KNOWN)((FRAMES, began("1")), (FRAMES, frames(range(4), "1")), (FRAMES, ended("1", 4))).wait(1)
        chain((POSITIONS, began("p2"))).wait(1)
        chain((FRAMES, began("2")), (FRAMES, frames(range(4), "2")), (POSITIONS, samples(0, 4, "p2")))
        assert {block.scan_id for block in chain.of(Positions)} == {"series-2"}

    @pytest.mark.parametrize("count", [3, 5])
    def test_without_overlap_only_equal_counts_join(self, count: int):
        chain = Chain(**KNOWN)((FRAMES, began("1")), (FRAMES, frames(range(4), "1")), (FRAMES, ended("1", 4))).wait(1)
        chain((POSITIONS, began("p")), (POSITIONS, samples(0, count, "p")), (POSITIONS, ended("p", count))).wait(6)
        assert chain.of(Positions) == []
        assert "open-scan" in chain.said["apart"]
        assert "'p'" in chain.said["alone"]
        chain.wait(60)
        assert chain.refused == {"unpaired": 1}

    def test_without_overlap_a_setting_joins(self):
        chain = Chain(pairing="open-scan", **KNOWN)(
            (FRAMES, began("1")), (FRAMES, frames(range(4), "1")), (FRAMES, ended("1", 4))
        )
        chain.wait(1)((POSITIONS, began("p")), (POSITIONS, samples(0, 3, "p"))).wait(6)
        assert sorted(chain.places) == [0, 1, 2]

    def test_outside_the_window_nothing_joins(self):
        chain = Chain(pairing_window_s=10, **KNOWN)((POSITIONS, began("p"))).wait(11)
        chain((FRAMES, began("1")), (FRAMES, frames([0], "1")), (POSITIONS, samples(0, 1, "p"))).wait(6)
        assert chain.of(Positions) == []
        assert "scan.pairing_window_s" in chain.said["window"]

    def test_same_id_alone_joins_nothing_else(self):
        chain = Chain(pairing="same-id", **KNOWN)(*whole(4)[:4]).wait(6)
        assert chain.of(Positions) == []
        assert "set scan.pairing = 'open-scan'" in chain.said["same-id"]

    def test_by_a_field(self):
        options = KNOWN | {"pairing": "field", "pairing_field": "series"}
        chain = Chain(**options)(
            (FRAMES, began("1")), (FRAMES, frames([0], "1")), (FRAMES, began("2")), (FRAMES, frames([0], "2"))
        )
        chain((POSITIONS, began("uid", metadata={"series": 2})), (POSITIONS, samples(0, 1, "uid"))).wait(1)
        assert [block.scan_id for block in chain.of(Positions)] == ["series-2"]

    def test_another_leader(self):
        chain = Chain(leader="positions", **KNOWN)((FRAMES, began("1")), (FRAMES, frames(range(4), "1")))
        assert chain.of(ScanStart) == []
        chain((POSITIONS, began("77")), (POSITIONS, samples(0, 4, "77")))
        chain((FRAMES, ended("1", 4)), (POSITIONS, ended("77", 4)))
        assert chain.closed == [("run-77", EndReason.COMPLETE, 4)]

    def test_frames_do_not_wait_for_a_leader_for_ever(self):
        chain = Chain(leader="positions", **KNOWN)((FRAMES, began("1")), (FRAMES, frames(range(4), "1"))).wait(10)
        assert chain.indices == [0, 1, 2, 3]
        chain((POSITIONS, samples(0, 4, "77")))
        assert sorted(chain.places) == [0, 1, 2, 3]

    @pytest.mark.parametrize(
        ("key", "template", "name"),
        [
            ("12", "", "series-12"), ("scan_7", "", "scan_7"), ("a/b c\x00", "", "a_b_c_"),
            ("..", "", "series-20251201-120301"),
            ("12", "{sample}_{run}", "gold_12"), ("", "", "series-20251201-120301"), ("é" * 100, "", "é" * 62),
            ("3", "{nothing}", "series-3"),
        ],
    )  # fmt: skip
    def test_scan_ids_can_be_read_and_name_files(self, key: str, template: str, name: str):
        chain = Chain(name=template, **KNOWN)((FRAMES, began(key, metadata={"sample": "gold"})), (FRAMES, frames([0], key)))
        assert chain.start.scan_id == name
        said = [finding.text for finding in chain.composer.fresh()]
        assert [text for text in said if "nobody has said nothing" in text] == said[: "nothing" in template]

    def test_a_number_that_comes_again_names_another_run(self):
        chain = Chain(**KNOWN)(*whole(4)).wait(5)(*whole(4))
        assert [end[0] for end in chain.closed] == ["series-12", "series-12"]
        chain = Chain(**KNOWN)((FRAMES, began()), (FRAMES, frames([0])), (FRAMES, began()), (FRAMES, frames([0])))
        assert [start.scan_id for start in chain.of(ScanStart)] == ["series-12", "series-12-2"]

    def test_a_beginning_told_twice_is_one(self):
        chain = Chain(**KNOWN)(
            (FRAMES, began(started_ns=5)), (FRAMES, frames([0])), (FRAMES, began(started_ns=5)), (FRAMES, frames([1]))
        )
        assert len(chain.of(ScanStart)) == 1


class TestStart:
    def test_settings_overrule_detector_overrules_documents(self):
        chain = Chain((FRAMES, POSITIONS, DOCUMENTS), energy_ev=8000, fallback={"saturation": 77, "distance_m": 9})
        chain((DOCUMENTS, began("d", distance_m=3.0, pitch_m=(1e-4, 2e-4))))
        chain((FRAMES, began(wavelength_m=2e-10, distance_m=2.0)), (FRAMES, frames([0])))
        start = chain.start
        assert start.geometry.energy_ev == pytest.approx(8000)
        assert (start.geometry.distance_m, start.geometry.pitch_m, start.saturation) == (2.0, (1e-4, 2e-4), 77)
        origins = {key: value for key, value in start.metadata.items() if key.startswith("origin.")}
        assert origins == {
            "origin.wavelength_m": "setting", "origin.distance_m": "detector", "origin.pitch_m": "documents",
            "origin.saturation": "fallback",
        }  # fmt: skip
        assert any("distance_m: detector says 2, which counts, and documents says 3" in text for text in chain.said.values())

    def test_documents_have_time_before_a_fallback_counts(self):
        options = {"fallback": {"energy_ev": 8000, "distance_m": 2, "pitch_m": 1e-4}}
        chain = Chain((FRAMES, POSITIONS, DOCUMENTS), **options)((FRAMES, began()), (FRAMES, frames([0])))
        assert chain.of(ScanStart) == []
        chain((DOCUMENTS, began("d", distance_m=3.0)))
        assert chain.start.geometry.distance_m == 3.0
        chain = Chain((FRAMES, POSITIONS, DOCUMENTS), **options)((FRAMES, began()), (FRAMES, frames([0]))).wait(10)
        assert chain.start.geometry.distance_m == 2.0

    def test_what_nobody_says_is_asked_for_and_the_frames_are_written(self):
        chain = Chain(distance_m=2)((FRAMES, began()), (FRAMES, frames(range(3)))).wait(9)
        assert chain.of(ScanStart) == []
        chain.wait(1)
        assert chain.start.geometry.unknown == ["wavelength_m", "pitch_m"]
        assert "scan.energy_ev, scan.pitch_m" in chain.said["geometry"]
        assert chain.indices == [0, 1, 2]
        assert any("scan.energy_ev" in str(value) for value in chain.start.metadata.values())

    def test_a_bound_ends_the_wait_and_loses_nothing(self):
        chain = Chain(max_held_bytes=5000)((FRAMES, began()), *((FRAMES, frames([i])) for i in range(20)))
        assert chain.indices == list(range(20))
        assert chain.start.geometry.unknown

    def test_what_cannot_be_right_is_not_used(self):
        parts = {
            "beam_center_px": (2.0, 60.0), "valid": np.ones((3, 3), np.bool_), "wavelength_m": float("nan"),
            "saturation": -1,
            "dark": np.full((4, 6), np.inf, np.float32), "planned_yx_m": np.zeros((0, 2)),
            "doubts": ("the shutter is shut",),
        }  # fmt: skip
        start = Chain(**KNOWN)((FRAMES, began(**parts)), (FRAMES, frames([0]))).start
        assert (start.beam_center_px, start.valid, start.dark, start.saturation, start.planned_yx_m) == (None,) * 5
        doubts = " ".join(str(text) for key, text in start.metadata.items() if key.startswith("doubt."))
        for word in ("beam_center_px", "valid", "dark", "wavelength_m", "saturation", "planned_yx_m", "shutter"):
            assert word in doubts
        assert not any(key.removeprefix("origin.") in ("valid", "dark", "beam_center_px") for key in start.metadata)

    def test_metadata_that_would_not_fit_are_left_out_and_counted(self):
        metadata = {f"key{i}": "x" * 1000 for i in range(100)} | {"big": 1 << 70, "run.frames": "false"}
        start = Chain(**KNOWN)((FRAMES, began(metadata=metadata)), (FRAMES, frames([0]))).start
        assert start.metadata["metadata.left_out"] > 30
        assert start.metadata["run.frames"] == "12"

    def test_a_start_that_cannot_be_made_is_counted(self):
        chain = Chain(**KNOWN)((FRAMES, began(dtype=np.dtype("float64"), frame_shape=(4, 6))), (FRAMES, ended("12", 3)))
        assert chain.refused == {"failed": 1}
        assert "float64" in chain.said["start"]

    @pytest.mark.parametrize(
        "wrong",
        [
            {"energy_ev": 1, "wavelength_m": 1},
            {"pairing": "field"},
            {"pairing_field": "x"},
            {"name": "{"},
            {"energy_ev": -1},
        ],
    )
    def test_settings_that_contradict_each_other_are_refused(self, wrong: dict):
        with pytest.raises(ValueError, match=r"energy_ev|pairing|name"):
            ScanOptions(**wrong)


class TestOurs:
    """Senders that speak our own dialect."""

    def test_pass_unchanged(self):
        sent = [scans.start(), scans.frame(range(4)), scans.positions(range(4)), *scans.ends(4)]
        composer = Composer(ScanOptions())
        roles = (FRAMES, FRAMES, POSITIONS, FRAMES, POSITIONS)
        out = [list(composer.take(role, message, 0.0)) for role, message in zip(roles, sent, strict=True)]
        assert all(len(one) == 1 and one[0] is message for one, message in zip(out, sent, strict=True))

    def test_under_different_ids_are_told(self):
        chain = Chain(())(
            (FRAMES, scans.start("12")), (FRAMES, scans.frame([0], "12")), (POSITIONS, scans.positions([0], "abc"))
        )
        chain.wait(4)
        assert chain.said == {}
        chain.wait(2)
        texts = [finding.text for finding in chain.composer.fresh()]
        assert len(texts) == 2
        assert all("'12'" in text and "'abc'" in text and "scan.pairing = 'open-scan'" in text for text in texts)
        assert chain.wait(9).composer.fresh() == []

    @pytest.mark.parametrize("foreign", [(), (DOCUMENTS,)])
    def test_frames_that_bring_their_positions_want_no_others(self, foreign: tuple[Role, ...]):
        block = dataclasses.replace(scans.frame([0, 1]), taken_yx_m=np.zeros((2, 2)))
        chain = Chain(foreign)((FRAMES, scans.start()), (FRAMES, block)).wait(6)
        assert chain.said == {}
        assert len(chain.points) == 2

    def test_under_different_ids_are_joined_by_a_setting(self):
        chain = Chain((), pairing="open-scan")((FRAMES, scans.start("12")), (FRAMES, scans.frame(range(4), "12")))
        chain((POSITIONS, scans.positions(range(4), "abc")), (FRAMES, scans.end(4, Stream.FRAMES, "12")))
        chain((POSITIONS, scans.end(4, Stream.POSITIONS, "abc")))
        assert chain.closed == [("12", EndReason.COMPLETE, 4)]
        assert len(chain.points) == 4

    def test_a_scan_repeated_before_its_end_takes_its_own_frames(self):
        chain = Chain((POSITIONS,))((FRAMES, scans.start("s")), (FRAMES, scans.frame(range(3), "s")))
        chain((FRAMES, scans.start("s", started_ns=2)), (FRAMES, scans.frame(range(4), "s")))
        assert chain.closed == [("s", EndReason.SUPERSEDED, 3)]
        assert chain.indices == [0, 1, 2, 0, 1, 2, 3]
        assert chain.of(GrammarError) == []

    def test_positions_under_one_id_for_scan_after_scan(self):
        chain = Chain((FRAMES,), **KNOWN)
        for series in ("1", "2", "3"):
            chain((FRAMES, began(series)), (POSITIONS, scans.positions(range(4), "p")), (FRAMES, frames(range(4), series)))
            chain((FRAMES, ended(series, 4)), (POSITIONS, scans.end(4, Stream.POSITIONS, "p")))
        assert chain.closed == [(f"series-{series}", EndReason.COMPLETE, 4) for series in (1, 2, 3)]
        assert len(chain.points) == 12

    def test_what_is_wrong_with_a_scan_is_told_of_its_next_run_too(self):
        chain = Chain(())
        wrong = scans.frame([0], pixels=np.zeros((1, *scans.SHAPE), np.uint32))
        for started_ns in (1, 2):
            chain((FRAMES, scans.start(started_ns=started_ns)), (FRAMES, wrong), (FRAMES, wrong))
            assert [finding.reason for finding in chain.composer.fresh()] == ["wrong_shape"]

    def test_a_start_sent_again_and_darks_before_the_scan_are_nothing_to_tell(self):
        chain = Chain(())((FRAMES, scans.start()), (FRAMES, scans.frame([0], dark=True))).wait(6)
        chain((POSITIONS, scans.positions(range(4))), (FRAMES, scans.frame([0])), (FRAMES, scans.start()))
        chain((FRAMES, scans.frame([1]))).wait(6)
        assert chain.said == {}

    @pytest.mark.parametrize("foreign", [(), (DOCUMENTS,)])
    def test_any_stream_may_bring_the_start(self, foreign: tuple[Role, ...]):
        chain = Chain(foreign)((POSITIONS, scans.start()), (FRAMES, scans.frame(range(4))))
        chain((POSITIONS, scans.positions(range(4))), *((FRAMES, one) for one in scans.ends(4)))
        assert chain.closed == [("s", EndReason.COMPLETE, 4)]

    @pytest.mark.parametrize("foreign", [(), (DOCUMENTS,)])
    def test_positions_of_a_scan_repeated_before_its_end_are_its_own(self, foreign: tuple[Role, ...]):
        chain = Chain(foreign)(
            (FRAMES, scans.start()), (FRAMES, scans.frame(range(3))), (POSITIONS, scans.positions([0, 1]))
        )
        chain((FRAMES, scans.start(started_ns=2)), (FRAMES, scans.frame(range(2))), (POSITIONS, scans.positions([0, 1])))
        late = dataclasses.replace(scans.end(2, Stream.POSITIONS), started_ns=1)
        chain((POSITIONS, late), (FRAMES, scans.frame([2, 3])), (POSITIONS, scans.positions([2, 3])))
        chain(*((FRAMES, one) for one in scans.ends(4)))
        assert chain.closed == [("s", EndReason.SUPERSEDED, 3), ("s", EndReason.COMPLETE, 4)]
        assert len(chain.points) == 6
        assert chain.matcher.rejected == {"stray": 1}

    @pytest.mark.parametrize("foreign", [(), (DOCUMENTS,)])
    def test_positions_that_are_early_wait_for_the_scan_of_their_id(self, foreign: tuple[Role, ...]):
        chain = Chain(foreign)((FRAMES, scans.start("a")), (FRAMES, scans.frame(range(2), "a")))
        chain((POSITIONS, scans.positions(range(2), "b", salt=1))).wait(1)
        assert chain.points == []
        chain((FRAMES, scans.start("b")), (FRAMES, scans.frame(range(2), "b")))
        assert len(chain.points) == len(scans.points_in(chain.engine, "b")) == 2

    @pytest.mark.parametrize("seed", range(40))
    def test_documents_beside_them_change_nothing(self, seed: int):
        draw = random.Random(seed)
        streams: tuple[list[object], list[object]] = ([], [])
        for n, name in enumerate("abc", 1):
            both = [scans.frame(i, name) for i in range(n)], [scans.positions(i, name) for i in range(n)]
            for stream, messages, end in zip(streams, both, scans.ends(n, name), strict=True):
                stream += [scans.start(name)] * (stream is streams[0])
                stream += [one for one in messages for _ in range(draw.choice((0, 1, 1, 1, 1, 2)))]
                stream += [end] * draw.choice((0, 1, 1, 2))
        sent = []
        while any(streams):
            stream = draw.choice([stream for stream in streams if stream])
            sent.append((FRAMES if stream is streams[0] else POSITIONS, stream.pop(0)))
        plain, beside = Chain(())(*sent).wait(70), Chain((DOCUMENTS,))(*sent).wait(70)
        for name in "abc":
            pairs = [[(p.index, p.yx_m) for p in scans.points_in(chain.engine, name)] for chain in (plain, beside)]
            assert pairs[0] == pairs[1]
        assert plain.indices == beside.indices

    def test_frames_with_foreign_positions(self):
        chain = Chain((POSITIONS,), **KNOWN)(
            (FRAMES, scans.start("s")), (POSITIONS, began("abc")), (FRAMES, scans.frame(range(4)))
        )
        chain((POSITIONS, samples(0, 4)), (FRAMES, scans.end(4, Stream.FRAMES)), (POSITIONS, ended("abc", 4)))
        assert chain.closed == [("s", EndReason.COMPLETE, 4)]
        assert len(chain.points) == 4

    def test_positions_with_foreign_frames(self):
        chain = Chain((FRAMES,), **KNOWN)(
            (FRAMES, began()), (POSITIONS, scans.positions(range(4), "p")), (FRAMES, frames(range(4)))
        )
        chain((FRAMES, ended("12", 4)), (POSITIONS, scans.end(4, Stream.POSITIONS, "p")))
        assert chain.closed == [("series-12", EndReason.COMPLETE, 4)]
        assert len(chain.points) == 4

    def test_frames_without_start_and_of_another_depth_are_told(self):
        chain = Chain(())((FRAMES, scans.frame([0])))
        assert "without a start" in chain.said["no_start"]
        chain = Chain(())((FRAMES, scans.start()), (FRAMES, scans.frame([0], pixels=np.zeros((1, *scans.SHAPE), np.uint32))))
        assert "uint32" in chain.said["wrong_shape"]


class TestResume:
    def test_a_series_goes_on_in_its_scan(self):
        before = Chain(**KNOWN)(*whole(20)[:8])
        start = before.start
        seen = np.zeros(15, np.bool_)
        seen[:10] = True
        held = Resume(scan_id=start.scan_id, started_ns=start.started_ns, frames=seen)
        after = Chain(**KNOWN)
        after.composer.resume([start, held])
        list(after.matcher.resume(start, held, None, after.now))
        after.scans |= after.matcher.scans
        after((FRAMES, began(in_middle=True)), (FRAMES, frames(range(10, 20))), (POSITIONS, samples(0, 20)))
        after((FRAMES, ended("12", 20)), (POSITIONS, ended("abc", 20)))
        assert after.of(ScanStart) == []
        assert {frame.scan_id for frame in after.of(Frame)} == {"series-12"}
        assert after.closed == [("series-12", EndReason.COMPLETE, 20)]
        assert after.said == {}

    def test_another_series_is_another_scan(self):
        start = Chain(**KNOWN)(*whole(20)[:8]).start
        held = Resume(scan_id=start.scan_id, started_ns=start.started_ns, frames=np.ones(10, np.bool_))
        after = Chain(**KNOWN)
        after.composer.resume([start, held])
        after((FRAMES, began("13")), (FRAMES, frames([0], "13")))
        assert after.start.scan_id == "series-13"


def faulty(seed: int) -> tuple[list[tuple[Role, object]], dict[str, int]]:
    """Facts of three scans, some of them lost, repeated, late or in disorder; and how many frames each should have."""
    draw = random.Random(seed)
    facts: list[tuple[Role, object]] = []
    sizes = {str(number): draw.randint(1, 30) for number in range(3)}
    for number in range(3):
        facts += whole(sizes[str(number)], frames_run=str(number), positions_run=draw.choice(["", f"p{number}"]))
    for i in range(len(facts)):
        match draw.random():
            case chance if chance < 0.05:
                facts[i] = facts[draw.randrange(len(facts))]
            case chance if chance < 0.15:
                facts.insert(draw.randrange(len(facts)), facts[i])
            case chance if chance < 0.25:
                j = min(i + draw.randint(1, 6), len(facts) - 1)
                facts[i], facts[j] = facts[j], facts[i]
    facts = [fact for fact in facts if draw.random() > 0.08]
    return facts, sizes


@pytest.mark.parametrize("part", [0, *(pytest.param(part, marks=pytest.mark.slow) for part in range(1, 8))])
def test_every_frame_leaves_once_or_is_counted(part: int):
    for seed in range(part * 250, (part + 1) * 250):
        facts, sizes = faulty(seed)
        sent = sum(len(fact) for role, fact in facts if role is FRAMES and isinstance(fact, Frames))
        draw = random.Random(seed)
        options = dict(KNOWN) if seed % 3 else {"distance_m": 2.0, "max_held_bytes": draw.choice([3000, 1 << 20])}
        chain = Chain(leader=draw.choice(["frames", "positions"]), samples_per_frame=1 + seed % 2, **options)
        for fact in facts:
            chain(fact)
            if draw.random() < 0.2:
                chain.wait(draw.choice([0.1, 1.0, 7.0]))
        chain.finish()
        passed = sum(len(frame) for frame in chain.of(Frame))
        refused = sum(error.frames for error in chain.of(GrammarError))
        assert passed + refused == sent, seed
        for scan in chain.scans.values():
            assert scan.received == scan.matched + scan.waiting + scan.dropped.total(), seed
        runs = {start.run: str(start.metadata["run.frames"]) for start in chain.of(ScanStart)}
        for end in chain.ends:
            assert not end.complete or end.count == sizes[runs[end.run]], seed


def test_positions_that_come_and_are_refused_are_said_to_be():
    bad = CodecError("header", "not msgpack")
    chain = Chain(**KNOWN)((FRAMES, began()), (FRAMES, frames([0])), (POSITIONS, bad)).wait(6)
    wanted = "no positions come for it: what comes from detector.positions is refused: header: not msgpack"
    assert wanted in [finding.text for finding in chain.composer.fresh()]
    chain = Chain(**KNOWN)((POSITIONS, bad), *whole(2, frames_run="1")).wait(5)
    chain((FRAMES, began("2")), (FRAMES, frames([0], "2"))).wait(6)
    said = [finding.text for finding in chain.composer.fresh()]
    assert any("look whether their sender runs" in text for text in said), "what came later was understood"
    assert not any("is refused" in text for text in said)


EVENTS = [
    b' event {"uid": "e1", "descriptor": "d", "seq_num": 1, "data": {"y": 1.0, "x": 2.0}}',
    b' event_page {"uid": ["e2"], "descriptor": "d", "seq_num": [2], "data": {"y": [1.0], "x": [2.0]}}',
    b' stream_datum {"uid": "s", "descriptor": "d", "stream_resource": "r"}',
]


def test_documents_of_a_run_that_began_before_are_told_once():
    before = [(POSITIONS, error) for error in told(Bluesky(), *EVENTS)]
    assert len(before) == 3
    chain = Chain(**KNOWN)(*before)
    (finding,) = chain.composer.fresh()
    assert str(finding).startswith("positions: documents of a run that began before: its positions cannot be used")
    chain(*whole(2, frames_run="1"), *before)
    assert [str(finding) for finding in chain.composer.fresh() if finding.reason == BEGAN_BEFORE], "after another run, again"


def test_the_first_refusal_within_a_scan_is_a_remark_of_it():
    bad = CodecError("message", "JSON, as in Stream V1")
    chain = Chain(**KNOWN)((FRAMES, began()), (POSITIONS, began("abc")), (FRAMES, frames([0])), (FRAMES, bad), (FRAMES, bad))
    said = [str(finding) for finding in chain.composer.fresh()]
    assert said == [f"series-12: a message of detector.frames was refused: {bad}"]


class TestRefusalsBetweenOurOwnStreams:
    BAD = CodecError("frame.index", "text where a number should be")

    def chain(self, *facts: tuple[Role, object]) -> list[str]:
        chain = Chain(foreign=())(*facts).wait(6)
        return [str(finding) for finding in chain.composer.fresh()]

    def test_the_first_of_each_stream_is_a_remark_of_the_open_scan(self):
        facts = [
            (FRAMES, scans.start()),
            (POSITIONS, self.BAD),
            (POSITIONS, CodecError("header", "second")),
            (FRAMES, self.BAD),
        ]
        assert self.chain(*facts) == [
            f"s: a message of detector.{role} was refused: {self.BAD}" for role in ("positions", "frames")
        ]

    def test_or_of_the_scan_that_it_names(self):
        bad = CodecError("frame.index", "no", scan_id="other", frames=1)
        assert self.chain((FRAMES, scans.start()), (FRAMES, bad)) == [
            f"other: a message of detector.frames was refused: {bad}"
        ]

    def test_of_none_when_the_scan_is_over(self):
        chain = Chain(foreign=())((FRAMES, scans.start()))
        assert list(chain.composer.closed(scans.start().run)) == []
        assert not chain((FRAMES, self.BAD)).composer.fresh()

    def test_why_no_positions_come_is_said(self):
        said = self.chain((FRAMES, scans.start()), (FRAMES, scans.frame(0)), (POSITIONS, self.BAD))
        wanted = f"s: frames come and no positions: what comes from detector.positions is refused: {self.BAD}"
        assert wanted in said
