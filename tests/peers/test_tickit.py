"""The simulated Eiger of tickit-devices 0.4.1, with an image of a real one: both streams, each as far as it tells."""

import time
from pathlib import Path
from typing import Any

import pytest

from streamptycho.compose.options import Role
from streamptycho.errors import ProtocolError
from streamptycho.messages.facts import Began, Ended, Fact, Frames, StartParts
from streamptycho.sources.listener import Listener, listen
from streamptycho.sources.options import DetectorEndpoint
from streamptycho.wire.security import NO_KEYS
from streamptycho.wire.sockets import new_context
from tests.peers.simplon import Simplon, detector, program
from tests.ports import free_port

IMAGES, TRIES = 5, 8
"""Some of its processes lose every second message of Stream V1: a plain PULL lacks them as well."""
SIMULATION = """
- type: tickit_devices.eiger.Eiger
  name: eiger
  inputs: {{}}
  host: 127.0.0.1
  port: {rest}
  stream_host: 127.0.0.1
  stream_legacy_port: {v1}
  stream_cbor_port: {v2}
"""
SAID = {"distance_m", "frame_shape", "expected"}


def told(parts: StartParts) -> set[str]:
    names = ("wavelength_m", "distance_m", "pitch_m", "frame_shape", "dtype", "expected", "beam_center_px", "valid")
    return {name for name in names if getattr(parts, name) is not None}


def series_of(format: str, detail: str, folder: Path) -> list[Fact]:
    """What is heard of a series from a simulator of its own."""
    ports = {"rest": free_port(), "v1": free_port(), "v2": free_port()}
    (folder / "eiger.yaml").write_text(SIMULATION.format(**ports))
    command = [str(program("daq", "tickit")), "all", str(folder / "eiger.yaml")]
    address = f"tcp://127.0.0.1:{ports['v1' if format == 'dectris-v1' else 'v2']}"
    wanted: dict[tuple[str, str], Any] = {
        ("detector", "nimages"): IMAGES,
        ("detector", "frame_time"): 0.1,
        ("detector", "trigger_mode"): "ints",
        ("stream", "header_detail"): detail,
        ("stream", "format"): "legacy" if format == "dectris-v1" else "cbor",
    }
    with (
        detector(command, f"http://127.0.0.1:{ports['rest']}", "1.8.0", folder) as eiger,
        new_context(NO_KEYS) as context,
        listen(context, {Role.FRAMES: DetectorEndpoint(address=address, format=format)}) as listener,
    ):
        eiger.command("initialize")
        for (module, name), value in wanted.items():
            eiger.put(module, f"config/{name}", value)
        return one_series(eiger, listener)


def one_series(eiger: Simplon, listener: Listener) -> list[Fact]:
    for command in ("arm", "trigger", "disarm"):
        eiger.command(command)
    heard: list[Fact] = []
    until_s = time.monotonic() + 60
    while not any(isinstance(fact, Ended) for fact in heard):
        assert time.monotonic() < until_s, heard
        one = listener.receive(0.05)
        heard += [] if one is None else [one.fact]
    assert [fact for fact in heard if isinstance(fact, ProtocolError)] == []
    return heard


@pytest.mark.peers
@pytest.mark.parametrize(
    ("format", "detail", "known"),
    [
        ("dectris-v1", "none", set()),
        ("dectris-v1", "basic", SAID),
        ("dectris-v1", "all", SAID | {"valid"}),
        ("dectris-v2", "all", SAID | {"wavelength_m", "pitch_m"}),
    ],
)
def test_a_series_is_heard_as_it_was_taken(format: str, detail: str, known: set[str], tmp_path: Path):
    for _ in range(TRIES):
        series = series_of(format, detail, tmp_path)
        numbers = [n for fact in series if isinstance(fact, Frames) for n in fact.number.tolist()]
        assert numbers == sorted(set(numbers)), "each once, in their order"
        if len(numbers) == IMAGES:
            break
    began = series[0]
    assert isinstance(began, Began)
    assert not began.in_middle
    frames = [fact for fact in series if isinstance(fact, Frames)]
    assert numbers == list(range(IMAGES))
    assert {fact.run for fact in frames} == {began.run}
    pixels = frames[0].payload.decode()
    assert pixels.shape == (4362, 4148)
    assert pixels.any()
    assert known <= told(began.parts), (told(began.parts), began.parts.doubts)
    if format == "dectris-v1" and known:  # energies that contradict each other, and pixels of a centimetre
        assert [doubt.split()[0] for doubt in began.parts.doubts][:2] == ["photon_energy", "y_pixel_size"]
