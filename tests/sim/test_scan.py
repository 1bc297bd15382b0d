"""A synthetic scan: its truth explains its frames, and its stream follows the grammar."""

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from streamptycho.messages.reasons import Stream
from streamptycho.messages.stream import Frame, Positions, ScanEnd, ScanStart
from streamptycho_sim.forward import DetectorOptions, diffract
from streamptycho_sim.illumination import IlluminationOptions
from streamptycho_sim.scan import ProbeStart, SimulatedScan, SyntheticOptions
from streamptycho_sim.trajectory import TrajectoryOptions
from tests.sim.helpers import SMALL, frames_of, positions_of, small


def truth_of(scan: SimulatedScan, path: Path) -> dict[str, np.ndarray]:
    scan.save_truth(path)
    with np.load(path) as file:
        return dict(file)


def test_defaults_are_a_thousand_frames_of_128() -> None:
    options = SyntheticOptions()
    assert (options.frames, options.shape, options.energy_ev) == (1000, 128, 8800.0)


def test_object_pixel_follows_from_the_geometry() -> None:
    scan = SimulatedScan(SyntheticOptions(frames=1))
    assert scan.pixel_m == scan.geometry.object_pixel_m((128, 128))
    assert scan.pixel_m[0] == pytest.approx(28.18e-9, rel=1e-3)


def test_truth_file_explains_every_noiseless_frame(tmp_path: Path) -> None:
    """From the saved numbers alone: where the window lies, what the wave is, what the detector counts."""
    scan = small(detector=DetectorOptions(noise=False, photons=1e6))
    truth = truth_of(scan, tmp_path / "truth.npz")
    n = truth["probe"].shape[-1]
    for i in range(len(scan)):
        centre = (truth["yx_m"][i] - truth["origin_m"]) / truth["pixel_m"]
        corner = np.rint(centre - n // 2).astype(int)
        np.testing.assert_allclose(centre - n // 2, corner, atol=1e-6)
        window = truth["obj"][corner[0] : corner[0] + n, corner[1] : corner[1] + n]
        expected = (abs(np.fft.fftshift(np.fft.fft2(truth["probe"] * window, norm="ortho"), axes=(1, 2))) ** 2).sum(axis=0)
        np.testing.assert_allclose(scan.intensity(i, i + 1)[0], expected, rtol=1e-3, atol=1e-2)
        assert abs(scan.frame(i) - expected).max() <= 0.6


def test_truth_explains_subpixel_frames(tmp_path: Path) -> None:
    scan = small(subpixel=True, frames=5)
    truth = truth_of(scan, tmp_path / "truth.npz")
    for i in range(5):
        centre = (truth["yx_m"][i] - truth["origin_m"]) / truth["pixel_m"] - SMALL // 2
        corner = np.rint(centre).astype(int)
        expected = diffract(truth["obj"], truth["probe"], corner[None], (centre - corner)[None])[0]
        np.testing.assert_allclose(scan.intensity(i, i + 1)[0], expected, rtol=1e-3, atol=1e-2)
    assert scan.shifts is not None
    assert 0.05 < abs(scan.shifts).max() <= 0.5


def test_subpixel_positions_are_those_of_the_plan() -> None:
    """Rounding moves each position by at most half a pixel."""
    whole, exact = small(), small(subpixel=True)
    moved = (whole.yx_m - exact.yx_m) / whole.pixel_m
    assert np.ptp(moved, axis=0).max() <= 1.0 + 1e-6


def test_truth_file_has_what_is_documented(tmp_path: Path) -> None:
    scan = small(illumination=IlluminationOptions(modes=2))
    truth = truth_of(scan, tmp_path / "truth.npz")
    assert set(truth) == {"scan_id", "obj", "support", "probe", "yx_m", "pixel_m", "origin_m"}
    assert str(truth["scan_id"]) == small().options.scan_id
    assert truth["obj"].dtype == np.complex64
    assert truth["support"].dtype == bool
    assert truth["support"].shape == truth["obj"].shape
    assert truth["probe"].shape == (2, SMALL, SMALL)
    assert truth["yx_m"].shape == (20, 2)
    assert truth["pixel_m"].shape == truth["origin_m"].shape == (2,)


def test_every_window_lies_inside_the_object() -> None:
    for subpixel in (False, True):
        scan = small(frames=60, subpixel=subpixel)
        assert scan.corners.min() >= 1
        assert (scan.corners.max(axis=0) + SMALL < scan.obj.shape).all()


def test_support_is_where_the_beam_was() -> None:
    scan = small(frames=100)
    inner = scan.support[SMALL // 2 + 4 : -SMALL // 2 - 4, SMALL // 2 + 4 : -SMALL // 2 - 4]
    assert inner.mean() > 0.95
    assert not scan.support[:6].any()
    assert not scan.support[:, :6].any()


def test_overlap_sets_the_step() -> None:
    def step(overlap: float) -> float:
        scan = small(shape=128, trajectory=TrajectoryOptions(overlap=overlap, jitter=0, columns=5))
        return float((scan.yx_m[1, 1] - scan.yx_m[0, 1]) / scan.pixel_m[1])

    assert step(0.75) == pytest.approx(0.31 * 128 * 0.25, abs=0.51)
    assert step(0.5) == pytest.approx(0.31 * 128 * 0.5, abs=0.51)


def test_positions_surround_zero() -> None:
    scan = small(frames=100)
    middle = (scan.yx_m.max(axis=0) + scan.yx_m.min(axis=0)) / 2 / scan.pixel_m
    assert abs(middle).max() <= 3


def test_same_options_same_scan() -> None:
    a, b = small(), small()
    np.testing.assert_array_equal(a.obj, b.obj)
    np.testing.assert_array_equal(a.yx_m, b.yx_m)
    for i in (0, 7, 19):
        np.testing.assert_array_equal(a.frame(i), b.frame(i))


def test_seed_changes_everything() -> None:
    a, b = small(), small(seed=1)
    assert (a.yx_m != b.yx_m).any()
    assert (a.frame(0) != b.frame(0)).any()


def test_a_frame_is_the_same_in_any_order_and_way() -> None:
    scan = small()
    backwards = {i: scan.frame(i) for i in reversed(range(len(scan)))}
    for i, counts in enumerate(scan.counts()):
        np.testing.assert_array_equal(counts, backwards[i])


def test_rendered_frames_are_the_same() -> None:
    plain, rendered = small(), small()
    rendered.render()
    assert len(rendered._rendered) == 20
    for a, b in zip(plain.counts(), rendered.counts(), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(plain.frame(3), rendered.frame(3))


def test_rendering_can_be_interrupted_and_resumed() -> None:
    scan = small()
    asked = iter([False, False, True])
    scan.render(lambda: next(asked))
    assert len(scan._rendered) == 3
    assert len(list(scan.counts())) == 20
    scan.render()
    for a, b in zip(scan.counts(), small().counts(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_stream_follows_the_grammar() -> None:
    items = list(small().items(started_ns=5))
    messages = [item.message for item in items]
    assert isinstance(messages[0], ScanStart)
    assert messages[0].started_ns == 5
    assert messages[0].expected == 20
    assert [m.stream for m in messages[-2:]] == [Stream.FRAMES, Stream.POSITIONS]  # type: ignore[union-attr]
    assert all(m.count == 20 and m.complete for m in messages if isinstance(m, ScanEnd))
    assert frames_of(items) == positions_of(items) == list(range(20))
    assert {m.scan_id for m in messages} == {"synthetic"}  # type: ignore[union-attr]


def test_each_message_goes_to_its_socket() -> None:
    for item in small(frames=3).items():
        if isinstance(item.message, ScanStart | Frame):
            assert item.stream is Stream.FRAMES
        if isinstance(item.message, Positions):
            assert item.stream is Stream.POSITIONS


def test_ticks_count_exposures() -> None:
    items = list(small(frames=4, detector=DetectorOptions(dark_counts=1, dark_frames=2)).items())
    assert [item.tick for item in items if isinstance(item.message, Frame)] == [1, 2, 3, 4, 5, 6]
    assert [item.tick for item in items if isinstance(item.message, Positions)] == [3, 4, 5, 6]
    assert items[0].tick == 0
    assert [item.tick for item in items[-2:]] == [6, 6]


def test_frames_in_the_stream_are_the_frames() -> None:
    scan = small(frames=6)
    frames = [item.message for item in scan.items() if isinstance(item.message, Frame)]
    for i, frame in enumerate(frames):
        np.testing.assert_array_equal(frame.payload.decode(), scan.frame(i))
    rows = [item.message for item in scan.items() if isinstance(item.message, Positions)]
    np.testing.assert_array_equal(np.concatenate([row.yx_m for row in rows]), scan.yx_m)


def test_start_describes_the_detector() -> None:
    options = DetectorOptions(saturation=900, hot_pixels=2, beamstop_px=2, dtype="uint32")
    start = small(detector=options).start(1)
    assert start.dtype == np.uint32
    assert start.saturation == 900
    assert start.valid is not None
    assert start.dark is None
    assert start.geometry.frame_shape == (SMALL, SMALL)
    assert start.beam_center_px == (SMALL / 2, SMALL / 2)


def test_dark_exposures_come_before_the_frames() -> None:
    items = list(small(frames=3, detector=DetectorOptions(dark_counts=5, dark_frames=4)).items())
    frames = [item.message for item in items if isinstance(item.message, Frame)]
    assert [frame.dark for frame in frames] == [True] * 4 + [False] * 3
    assert [int(frame.index[0]) for frame in frames] == [0, 1, 2, 3, 0, 1, 2]
    assert items[0].message.dark is None  # type: ignore[union-attr]


def test_dark_may_be_announced_instead() -> None:
    items = list(small(frames=3, detector=DetectorOptions(dark_counts=5, dark_frames=0)).items())
    start = items[0].message
    assert isinstance(start, ScanStart)
    assert start.dark is not None
    assert (start.dark == 5).all()
    assert not any(item.message.dark for item in items if isinstance(item.message, Frame))


def test_no_dark_exposures_without_dark_current() -> None:
    items = small(frames=3, detector=DetectorOptions(dark_frames=4)).items()
    assert not any(item.message.dark for item in items if isinstance(item.message, Frame))


def test_the_start_tells_the_path() -> None:
    scan = small()
    np.testing.assert_array_equal(scan.start(1).planned_yx_m, scan.yx_m)


def test_probe_start() -> None:
    assert small().start(1).probe is None
    true = small(probe_start=ProbeStart.TRUE)
    np.testing.assert_array_equal(true.start(1).probe, true.probe)
    guessed = small(probe_start=ProbeStart.GUESS).start(1).probe
    assert guessed is not None
    assert guessed.shape == true.probe.shape
    assert (guessed != true.probe).any()


@pytest.mark.parametrize("wrong", [{"frames": 0}, {"shape": 4}, {"scan_id": ""}, {"energy_ev": 0}, {"unknown": 1}])
def test_impossible_scans_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        SyntheticOptions(**wrong)


def test_a_few_sweeps_of_epie_find_the_object() -> None:
    """The data are good ptychography: with the true probe, a textbook ePIE returns the true object."""
    scan = small(shape=64, frames=64, detector=DetectorOptions(photons=1e7))
    probe, obj = scan.probe[0], np.ones_like(scan.obj)
    amplitudes = [np.fft.ifftshift(np.sqrt(counts.astype(np.float32))) for counts in scan.counts()]
    step = probe.conj() / (abs(probe) ** 2).max()
    for _ in range(15):
        for (y, x), amplitude in zip(scan.corners, amplitudes, strict=True):
            window = obj[y : y + 64, x : x + 64]
            exit_wave = probe * window
            far = np.fft.fft2(exit_wave, norm="ortho")
            window += step * (np.fft.ifft2(amplitude * np.exp(1j * np.angle(far)), norm="ortho") - exit_wave)
    found, true = obj[scan.support], scan.obj[scan.support]
    found = found * np.vdot(found, true) / np.vdot(found, found)
    assert np.linalg.norm(found - true) < 0.15 * np.linalg.norm(true)
