"""Disks that refuse: what is said, what waits, what is taken up again, and how far it reaches."""

import logging
import os
import shutil
import tempfile
import threading
import time

import pytest

from streamptycho.files.durable import disk
from streamptycho.files.durable.disk import abandon, free_bytes
from streamptycho.messages.reasons import EndReason, ServiceState
from streamptycho.pipeline import scan_file, write
from tests.files.factories import STARTED_NS
from tests.pipeline.writing import Run, final, over, refusing, snapshot, word
from tests.scans import FRAME_BYTES, frame, positions, start

pytestmark = pytest.mark.expects_errors


@pytest.fixture
def run(tmp_path):
    run = Run(tmp_path / "out")
    yield run
    for scan in run.stage.scans.values():
        scan.writer.discard()
        scan.writer.close()


def status(run, scan_id="s"):
    return next(status for status in run.stage.statuses() if status.scan_id == scan_id)


def counts(said):
    return said.received, said.used, said.waiting, said.dropped


def test_frames_wait_for_a_full_disk_and_are_written_when_there_is_room(run, caplog):
    run(start(), frame([0, 1]), positions([0, 1])).wait()
    with refusing():
        run(frame([2, 3]), positions([2, 3]), snapshot(1)).wait()
        said = status(run)
        assert counts(said) == (4, 2, 2, {})
        assert "No space left on device" in said.trouble
        assert "out/s.cxi" in said.trouble
        assert run.stage.settled, "what waits for a disk does not hold up the receiver"
        run(frame([4]), positions([4])).wait(5)
        assert counts(status(run)) == (5, 2, 3, {})
        assert run.read(swmr=True)["key"] == [1, 1], "as the last flush left it"
    run.wait()
    said = status(run)
    assert counts(said) == (5, 5, 0, {})
    assert said.trouble is None
    run(over(), final()).wait()
    file = run.read()
    assert (file["key"], file["complete"], file["reason"]) == ([1] * 5, 1, "complete")
    assert file["frames"][:, 0, 0].tolist() == [0, 1, 2, 3, 4]
    assert run.out[0].failure is None
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"], "said once, and once that it is over"
    assert "wait in memory" in caplog.messages[0]
    assert "written again after" in caplog.messages[1]


def test_a_scan_may_begin_while_the_disk_refuses(run):
    with refusing():
        run(start(), frame([0, 1]), positions([0, 1])).wait()
        said = status(run)
        assert (counts(said), said.file) == ((2, 0, 2, {}), None)
        assert said.trouble is not None
        assert list(run.directory.iterdir()) == [], "no empty file that blocks the name"
    run(frame(2), positions(2)).wait()
    run(over(), final()).wait()
    assert run.read()["key"] == [1, 1, 1]
    assert run.out[0].file == str(run.directory / "s.cxi")


def test_what_may_wait_is_bounded_and_the_rest_is_counted(tmp_path, caplog):
    run = Run(tmp_path, hold_bytes=3 * FRAME_BYTES)(start(), start("t"), frame(0)).wait()
    with refusing("s"), refusing("t"):
        run(*(frame(i) for i in range(1, 3)), frame(0, "t"), frame(3), frame(4), frame(1, "t"), frame(5, dark=True)).wait()
        assert counts(status(run)) == (5, 1, 2, {"disk": 2})
        assert counts(status(run, "t")) == (2, 0, 1, {"disk": 1}), "all scans share the bound"
        assert run.stage.rejected == {"unfit": 1}
    run.wait()
    run(frame(5), over(count=6), over("t"), final(), final(2, "t")).wait()
    assert run.read()["key"] == [1, 1, 1, 0, 0, 1]
    assert run.read()["reason"] == "incomplete"
    assert run.read()["missing"][0] == 2
    assert "dropped as disk" in caplog.text


def test_a_scan_that_ends_meanwhile_waits_and_is_closed_later(run):
    run(start(), frame([0, 1]), positions([0, 1]))
    with refusing():
        run(frame(2), positions(2), over(), final()).wait(20)
        assert run.out == []
        assert status(run).state is ServiceState.RECEIVING
    run.wait()
    assert (run.read()["complete"], run.read()["key"], run.read()["sequences"]) == (1, [1, 1, 1], [9])
    (said,) = run.out
    assert (said.end, said.failure) == (EndReason.COMPLETE, None)


def test_it_does_not_wait_for_ever(tmp_path, caplog):
    run = Run(tmp_path, hold_s=60)(start(), frame([0, 1]), positions([0, 1])).wait()
    with refusing():
        run(frame(2), positions(2), over(), final())
        for _ in range(62):
            run.wait()
    (said,) = run.out
    assert (said.state, counts(said), said.end) == (ServiceState.DONE, (3, 2, 0, {"disk": 1}), EndReason.INCOMPLETE)
    assert "No space left" in said.failure
    assert run.stage.scans == {}
    assert "given up" in caplog.text
    assert (run.read()["complete"], run.read()["key"]) == (0, [1, 1]), "open to every program"
    run(frame(3), start("t"), frame(0, "t"), over("t"), final(1, "t")).wait()
    assert run.stage.rejected == {"failed": 1}
    assert run.read("t")["complete"] == 1


def test_a_disk_that_refuses_one_file_costs_only_that_file(run):
    run(start("bad"), start("good"), frame(0, "bad"))
    with refusing("bad"):
        for scan_id in ("bad", "good"):
            run(frame(1, scan_id), positions(1, scan_id), snapshot(1, scan_id), over(scan_id), final(2, scan_id)).wait()
        assert [said.scan_id for said in run.out] == ["good"]
        run.finish()
    bad = run.out[-1]
    assert (bad.scan_id, counts(bad)) == ("bad", (2, 1, 0, {"disk": 1}))
    assert bad.failure is not None
    assert run.read("good")["key"] == [0, 1]


def test_the_folder_is_removed(run, caplog):
    run(start(), frame([0, 1]), positions([0, 1]), frame(2, dark=True), snapshot(0)).wait()
    shutil.rmtree(run.directory)
    run.clock.now += 0.2
    run(frame(2))
    said = status(run)
    assert counts(said) == (3, 2, 1, {})
    assert "No such file" in said.trouble, "said with the next flush"
    run.wait()
    said = status(run)
    assert (counts(said), said.trouble) == ((3, 3, 0, {}), None), "its content was still there, and is there again"
    run(frame(3), positions([2, 3]), snapshot(1), over(), final()).wait()
    file = run.read()
    assert (file["key"], file["complete"], file["sequences"]) == ([1] * 4, 1, [0, 1, 9])
    assert file["frames"][:, 0, 0].tolist() == [0, 1, 2, 3]
    assert "goes on in a new file" in caplog.text


@pytest.mark.parametrize("keep_folder", [True, False])
def test_the_file_of_a_scan_without_beginning_is_removed(run, keep_folder):
    run(start(started_ns=0), frame([0, 1]), positions([0, 1])).wait()
    (run.directory / "s.cxi").unlink()
    if not keep_folder:
        shutil.rmtree(run.directory)
    run(frame(2)).wait().wait()
    assert (counts(status(run)), status(run).trouble) == ((3, 3, 0, {}), None)
    run.finish()
    assert run.read()["key"] == [1] * 3


def test_a_folder_above_it_is_not_made_again(run):
    """It may be the place of a disk that is not there."""
    run.directory.parent.joinpath("deep").mkdir()
    deep = Run(run.directory.parent / "deep" / "out")(start(), frame(0)).wait()
    shutil.rmtree(run.directory.parent / "deep")
    deep(frame(1)).wait().wait()
    assert counts(status(deep)) == (2, 1, 1, {})
    assert "make it, or mount its disk" in status(deep).trouble
    deep.directory.parent.mkdir()
    deep.wait()
    assert counts(status(deep)) == (2, 2, 0, {})
    deep.finish()
    assert deep.read()["key"] == [1, 1]


def test_a_file_whose_content_is_gone_is_begun_anew_and_what_was_in_it_is_counted(run, monkeypatch):
    run(start(), frame([0, 1, 2]), positions([0, 1, 2])).wait()
    shutil.rmtree(run.directory)
    run(frame(3), positions(3))
    run.stage.scans["s"].writer._forget_orphan()
    run.wait()
    assert counts(status(run)) == (4, 1, 0, {"disk": 3})
    run(over(), final()).wait()
    file = run.read()
    assert (file["key"], file["reason"]) == ([0, 0, 0, 1], "incomplete")
    assert file["xyz"].shape[0] == 4
    assert file["xyz"][0, 0] == positions(0).yx_m[0, 1], "positions are known still"


def test_a_file_whose_content_is_damaged_is_begun_anew_too(run):
    run(start(), frame([0, 1, 2]), positions([0, 1, 2])).wait()
    (run.directory / "s.cxi").unlink()
    run(frame(3), positions(3))
    with tempfile.TemporaryFile() as damaged:
        damaged.write(bytes(1000))
        damaged.flush()
        os.dup2(damaged.fileno(), run.stage.scans["s"].writer._orphan)
    run.wait()
    assert "cannot be read" in status(run).trouble
    run.wait()
    assert (counts(status(run)), status(run).trouble) == ((4, 1, 0, {"disk": 3}), None)


def test_another_file_in_its_place_is_left_alone(run):
    run(start(), frame(0)).wait()
    (run.directory / "s.cxi").unlink()
    (run.directory / "s.cxi").write_bytes(b"not ours")
    run(frame(1)).wait().wait()
    assert status(run).file == str(run.directory / "s-2.cxi")
    assert (run.directory / "s.cxi").read_bytes() == b"not ours"
    run.finish()
    assert run.read("s-2")["key"] == [1, 1]


def test_a_result_that_cannot_be_written_is_tried_again(run, monkeypatch):
    run(start(), frame(0), positions(0))
    with monkeypatch.context() as patch:
        patch.setattr("streamptycho.files.result.build", full)
        run(over(count=1), final()).wait()
        assert run.out == []
        assert "the result cannot be written" in status(run).trouble
        assert run.read()["complete"] == 1
    run.wait()
    assert run.out[0].failure is None
    assert (run.directory / "s.result.h5").is_file()


def full(*args, **more):
    raise OSError(28, "No space left on device")


def test_a_picture_that_cannot_be_written_costs_nothing_and_is_said_once(run, monkeypatch, caplog):
    monkeypatch.setattr(scan_file, "save_picture", full)
    with caplog.at_level(logging.WARNING):
        run(start(), frame(0), positions(0), snapshot(1)).wait()
        run(snapshot(2), over(count=1), final()).wait()
    assert caplog.text.count("the picture cannot be written") == 1
    assert (run.out[0].picture, run.out[0].failure) == (None, None)
    assert run.read()["complete"] == 1


def test_a_disk_that_refuses_now_and_then_fills_no_log(run, caplog):
    run(start())
    for i in range(10):
        with refusing():
            run(frame(i)).wait()
        run.wait()
    assert counts(status(run)) == (10, 10, 0, {})
    assert len(caplog.records) == 2


def test_no_attempt_is_made_where_it_would_only_fill_the_disk(run, monkeypatch):
    run(start(), frame(0)).wait()
    with refusing():
        run(frame(1)).wait()
    monkeypatch.setattr(scan_file, "free_bytes", lambda directory: 1 << 20)
    run.wait(5)
    assert status(run).waiting == 1
    monkeypatch.undo()
    run.wait(5)
    assert status(run).waiting == 0


def test_only_so_many_ended_scans_wait(tmp_path):
    run = Run(tmp_path)
    with refusing(""):
        for i in range(write._ENDED + 2):
            run(start(f"s{i}"), frame(0, f"s{i}"), over(f"s{i}"), final(1, f"s{i}"))
        assert [said.scan_id for said in run.out] == ["s0", "s1"]
        assert run.out[0].dropped == {"disk": 1}
    run.wait()
    assert len(run.out) == write._ENDED + 2


# space


def test_free_space_is_a_figure(run, tmp_path):
    run(start(), *(frame(i) for i in range(3))).wait()
    said = status(run)
    assert abs(said.free_bytes - free_bytes(tmp_path)) < 1 << 30
    assert FRAME_BYTES < said.frame_bytes < 1 << 20
    run.finish()
    assert run.stage.statuses()[0].free_bytes == said.free_bytes, "also without a scan"


def test_a_scan_that_will_not_fit_is_told_of(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(write, "free_bytes", lambda directory: 10_000_000)
    run = Run(tmp_path)(start(expected=100_000), *(frame(i) for i in range(30))).wait()
    said = status(run)
    assert said.trouble.startswith(f"{tmp_path}: 0.01 GB are free and the scan needs ")
    assert said.used == 30, "it is written nevertheless"
    run.wait().wait()
    assert caplog.text.count("are free") == 1
    monkeypatch.setattr(write, "free_bytes", lambda directory: 10**15)
    run.wait()
    assert status(run).trouble is None
    run(over(), final()).wait()
    assert run.out[0].trouble is None


# a writer that died


def unfinished(run, *messages):
    """A new stage beside the file of one that died."""
    run(*messages).wait()
    for scan in run.stage.scans.values():
        abandon(scan.writer._file)
    run.stage.scans.clear()
    return Run(run.directory)


BEGUN = {"started_ns": STARTED_NS}


def test_a_writer_goes_on_with_the_file_of_one_that_died(run, caplog):
    again = unfinished(run, start(**BEGUN), frame([0, 1]), positions([0, 1, 2]), snapshot(3, **BEGUN))
    again(start(**BEGUN), frame(1), frame(2), frame(1), positions([2, 3])).wait()
    said = status(again)
    assert counts(said) == (4, 3, 0, {"duplicate": 1}), "a frame that is sent again is no loss; that one more time, it is"
    assert said.positions == 4
    taken = again.stage.scans["s"].writer.taken
    assert taken.frames.tolist() == [True, True, True]
    assert taken.index.tolist() == [0, 1, 2, 3]
    assert taken.yx_m.tolist() == positions([0, 1, 2, 3]).yx_m.tolist()
    assert "goes on in" in caplog.text
    assert "which has 2 frames" in caplog.text
    again(over(), snapshot(9, final=True, **BEGUN)).wait()
    assert again.out[0].file == str(run.directory / "s.cxi")
    assert again.read()["key"] == [1, 1, 1, 0]
    assert again.read()["sequences"] == [3, 9]


def test_another_run_of_that_id_begins_a_file_of_its_own(run):
    again = unfinished(run, start(**BEGUN), frame([0, 1]))
    again(start(started_ns=STARTED_NS + 1), frame(0)).wait()
    again.finish()
    assert (again.read("s", swmr=True)["key"], again.read("s-2")["key"]) == ([1, 1], [1])


def test_without_a_beginning_nobody_knows_whether_it_is_the_same(run):
    again = unfinished(run, start(started_ns=0), frame([0, 1]))
    again(start(started_ns=0), frame(0)).wait()
    again.finish()
    assert again.read("s-2")["key"] == [1]


def test_a_finished_file_is_not_touched(run):
    run(start(**BEGUN), frame([0, 1])).finish()
    before = (run.directory / "s.cxi").read_bytes()
    again = Run(run.directory)(start(**BEGUN), frame(0)).wait()
    again.finish()
    assert (run.directory / "s.cxi").read_bytes() == before
    assert again.read("s-2")["key"] == [1]


def test_a_file_that_a_living_writer_has_is_not_touched(run, caplog):
    run(start(**BEGUN), frame([0, 1])).wait()
    other = Run(run.directory)(start(**BEGUN), frame(0)).wait()
    assert "another process is writing it" in caplog.text
    other.finish()
    run.finish()
    assert (run.read("s")["key"], run.read("s-2")["key"]) == ([1, 1], [1])


def test_a_start_that_is_repeated_changes_nothing(run):
    run(start(), frame(0), start(), frame(1)).wait()
    assert run.stage.rejected == {"repeated_start": 1}
    assert status(run).used == 2


def test_leftovers_of_dead_writers_are_removed(tmp_path, caplog):
    dead, alive, other = (tmp_path / f".{name}.part" for name in ("a.cxi.4194304", "b.result.h5.1", "c.cxi"))
    for path in (dead, alive, other):
        path.write_bytes(b"half")
    with caplog.at_level(logging.WARNING):
        Run(tmp_path)
    assert [path.exists() for path in (dead, alive, other)] == [False, True, True]
    assert "its writer died" in caplog.text


# ends that are lost


def test_a_scan_of_which_the_receiver_says_nothing_is_closed(tmp_path, caplog):
    run = Run(tmp_path, silence_s=30, result_timeout_s=5)(start(), frame([0, 1]), snapshot(1))
    run(word("receive", used=2))
    for _ in range(29):
        run.wait()
    assert run.out == []
    run(word("receive", used=2))
    for _ in range(29):
        run.wait()
    assert run.out == [], "it speaks"
    for _ in range(9):
        run.wait()
    (said,) = run.out
    assert (said.end, run.read()["reason"], run.read()["key"]) == (EndReason.TIMEOUT, "timeout", [1, 1])
    assert "closed without its end" in caplog.text


def test_a_stall_of_the_writer_is_no_silence_of_the_receiver(tmp_path):
    run = Run(tmp_path, silence_s=30)(start(), frame([0, 1])).wait(1000)
    run(word("receive", used=2)).wait(1000)
    assert run.out == []
    run.finish()


def test_descriptors_do_not_grow_with_scans_whose_ends_are_lost(tmp_path):
    from pathlib import Path

    run, before = Run(tmp_path, silence_s=2, result_timeout_s=1, picture=False), None
    for i in range(12):
        run(start(f"s{i}"), frame(0, f"s{i}"))
        for _ in range(3):
            run.wait()
        now = len(list(Path("/proc/self/fd").iterdir()))
        assert before is None or now <= before
        before = now if i == 3 else before
    assert len(run.stage.scans) <= 2
    run.finish()


def test_one_thread_watches_all_disks(tmp_path):
    with disk.watched(tmp_path / "s.cxi"):
        before = threading.active_count()
        for i in range(100):
            with disk.watched(tmp_path / f"s{i}.cxi"):
                assert threading.active_count() == before


def test_a_disk_that_takes_its_time_is_told_of_at_once(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(disk, "SLOW_S", 0.01)
    with disk.watched(tmp_path / "s.cxi"):
        while "has not answered" not in caplog.text:
            time.sleep(0.001)
        assert "answered after" not in caplog.text
    assert "s.cxi: the disk answered after" in caplog.text
