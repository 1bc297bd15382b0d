"""Simulated scans through the publishers of both streams and back."""

import numpy as np
import pytest

from streamptycho.dialects.door import Interpreter
from streamptycho.errors import ProtocolError
from streamptycho.messages.facts import Ended, Frames
from streamptycho_sim.formats.dectris_v1 import DectrisV1, DectrisV1Options
from streamptycho_sim.formats.dectris_v2 import DectrisV2, DectrisV2Options
from streamptycho_sim.forward import DetectorOptions
from streamptycho_sim.scan import SimulatedScan, SyntheticOptions
from streamptycho_sim.stream import pack
from tests.dialects.by_hand import known

STARTED_NS = 1_714_990_272_500_000_020


@pytest.fixture(scope="module")
def scan() -> SimulatedScan:
    options = SyntheticOptions(
        scan_id="star", frames=7, shape=64, detector=DetectorOptions(dead_pixels=20, saturation=40_000)
    )
    scan = SimulatedScan(options)
    scan.render()
    return scan


WAYS = {
    "V1": DectrisV1Options(),
    "V1 without details": DectrisV1Options(header_detail="none", series=40),
    "V1 basic, lz4": DectrisV1Options(header_detail="basic", compression="lz4", trigger_mode="ints"),
    "V1 raw": DectrisV1Options(compression="none"),
    "V1 as LiberTEM": DectrisV1Options(block_header="zeros", header_detail="basic", send_end=False),
    "V1 as eiger-simulator": DectrisV1Options(block_header="none", header_appendix="a", image_appendix='{"b": 1}'),
    "V2": DectrisV2Options(),
    "V2 lz4, two channels": DectrisV2Options(compression="lz4", channels=("a", "b"), prefix=False),
    "V2 raw": DectrisV2Options(compression="none", header_detail="basic", header_appendix="text", image_appendix="b"),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("together", [1, 3])
def test_a_scan_comes_back(scan: SimulatedScan, way: str, together: int):
    options = WAYS[way]
    v1 = isinstance(options, DectrisV1Options)
    publisher = DectrisV1(options) if v1 else DectrisV2(options)
    interpreter = Interpreter("dectris-v1" if v1 else "dectris-v2")
    items = pack(scan.items(STARTED_NS), together, 100)
    facts = [fact for item in items for parts in publisher.messages(item) for fact in interpreter.feed(parts, 0.0)]
    facts += interpreter.tick(10.0)
    assert not [fact for fact in facts if isinstance(fact, ProtocolError)]

    frames = [fact for fact in facts if isinstance(fact, Frames)]
    assert [fact.number.tolist() for fact in frames] == [[i] for i in range(7)]
    for i, fact in enumerate(frames):
        np.testing.assert_array_equal(fact.payload.decode(), scan.frame(i), strict=True)
    run = str(options.series) if v1 else "star"
    assert {fact.run for fact in facts} == {run}
    assert isinstance(facts[-1], Ended) is (not v1 or options.send_end)

    start, parts = scan.start(STARTED_NS), known(facts)
    assert (parts.frame_shape, parts.dtype) == ((64, 64), start.dtype)
    assert all("channels" in doubt for doubt in parts.doubts)
    if way == "V1 without details":
        return
    geometry = start.geometry
    assert parts.wavelength_m == pytest.approx(geometry.wavelength_m)
    assert (parts.distance_m, parts.pitch_m) == (geometry.distance_m, geometry.pitch_m)
    assert (parts.expected, parts.saturation, parts.beam_center_px) == (7, start.saturation, start.beam_center_px)
    if options.header_detail == "all":
        np.testing.assert_array_equal(parts.valid, start.valid)
        assert not start.valid.all()
    if not v1:
        assert parts.started_ns == STARTED_NS
        stamp = frames[0].timestamp_ns.tolist()
        assert stamp == [STARTED_NS]


def test_every_scan_is_a_series_of_its_own(scan: SimulatedScan):
    publisher, interpreter = DectrisV1(DectrisV1Options(series=5)), Interpreter("dectris-v1")
    items = [*scan.items(STARTED_NS), *scan.items(STARTED_NS)]
    facts = [fact for item in items for parts in publisher.messages(item) for fact in interpreter.feed(parts, 0.0)]
    assert [fact.run for fact in facts if isinstance(fact, Ended)] == ["5", "6"]
