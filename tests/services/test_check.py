"""What ``check`` says about a stream: its rate above all."""

import threading
import time
from typing import Any

import numpy as np
import pytest

from streamptycho.config import load
from streamptycho.messages import Message
from streamptycho.transport import Endpoint, Sender, SocketKind, new_context
from streamptycho_services.check import check_streams
from tests.ports import free_address
from tests.scans import broken_frame, frame, positions, start


class Stream:
    """Sends frames and positions at a steady rate, the first one after `delay_s`."""

    def __init__(self, rate_hz: float, seconds: float, make: Any, *, delay_s: float = 0.0) -> None:
        self.endpoints = {name: {"address": free_address(), "socket": "pull"} for name in ("frames", "positions")}
        self._rate_hz, self._delay_s, self._make = rate_hz, delay_s, make
        self._number = round(rate_hz * seconds)
        self._thread = threading.Thread(target=self._work, name="stream")

    def __enter__(self) -> "Stream":
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._thread.join(60)
        assert not self._thread.is_alive()

    def _work(self) -> None:
        with new_context() as context:
            endpoints = [Endpoint(address=e["address"], socket=SocketKind.PUSH, bind=True) for e in self.endpoints.values()]
            with Sender(context, endpoints[0], linger_s=0) as frames, Sender(context, endpoints[1], linger_s=0) as places:
                assert frames.wait_for_peer(10)
                assert places.wait_for_peer(10)
                time.sleep(self._delay_s)
                frames.send(start(), wait_s=1)
                began = time.monotonic()
                for i in range(self._number):
                    time.sleep(max(0.0, began + i / self._rate_hz - time.monotonic()))
                    messages: tuple[Message, Message] = self._make(i)
                    if not (frames.send(messages[0], wait_s=1) and places.send(messages[1], wait_s=1)):
                        return  # nobody listens any more

    def check(self, seconds: float) -> dict[str, Any]:
        config = load(None, {f"detector.{name}": endpoint for name, endpoint in self.endpoints.items()})
        return check_streams(config, seconds)


@pytest.mark.parametrize(("rate_hz", "delay_s"), [(400, 0.0), (50, 1.0)])
def test_rates_are_those_of_the_streams(rate_hz: float, delay_s: float) -> None:
    with Stream(rate_hz, 3, lambda i: (frame(i), positions(i)), delay_s=delay_s) as stream:
        report = stream.check(2)
    assert report["ok"]
    assert report["frames"]["per_second"]["Frame"] == pytest.approx(rate_hz, rel=0.5)
    assert report["positions"]["per_second"]["Positions"] == pytest.approx(rate_hz, rel=0.5)
    assert report["frames"]["per_second"]["ScanStart"] is None, "one message has no rate"


def test_blocks_count_with_all_their_frames() -> None:
    def blocks(i: int) -> tuple[Message, Message]:
        return frame(range(10 * i, 10 * i + 10)), positions(range(10 * i, 10 * i + 10))

    with Stream(20, 3, blocks) as stream:
        report = stream.check(2)
    assert report["frames"]["per_second"]["Frame"] == pytest.approx(200, rel=0.5)
    assert report["positions"]["per_second"]["Positions"] == pytest.approx(200, rel=0.5)


def test_pixels_that_do_not_decode_are_reported() -> None:
    with Stream(20, 1.5, lambda i: (broken_frame(i), positions(i))) as stream:
        report = stream.check(1)
    assert report["frames"]["errors"]
    assert "max_counts" not in report["frames"]
    assert np.isfinite(report["frames"]["per_second"]["Frame"])
