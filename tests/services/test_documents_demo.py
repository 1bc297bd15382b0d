"""A demonstration as bluesky hears it: from simulated frames to documents, every part a process."""

import threading
from pathlib import Path

import numpy as np
import pytest
import zmq

from streamptycho.documents import Document, unframe
from streamptycho.files.result import read_result
from tests.chain import PROGRAM, Command
from tests.documents.helpers import check
from tests.ports import free_address


class Hearing:
    """Everything that comes from an address, until its run stops."""

    def __init__(self, address: str) -> None:
        self.documents: list[Document] = []
        self._address = address
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._listen)

    def _listen(self) -> None:
        with zmq.Context() as context, context.socket(zmq.SUB) as subscriber:
            subscriber.linger = 0
            subscriber.subscribe(b"")
            subscriber.connect(self._address)
            while not self._enough.is_set():
                if subscriber.poll(100):
                    self.documents.append(unframe(subscriber.recv()))

    def __enter__(self) -> "Hearing":
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._enough.set()
        self._thread.join()

    def events(self, key: str) -> list[dict[str, object]]:
        return [doc["data"] for name, doc in self.documents if name == "event" and key in doc["data"]]


@pytest.mark.slow
def test_what_is_heard_is_what_is_written(tmp_path: Path) -> None:
    address = free_address()
    addresses = ["--set", f"services.documents='{address}'", "--set", f"services.catch_up='{free_address()}'"]
    flags = ["--frames", 300, "--shape", 64, "--scan-id", "heard"]
    arguments = ["--documents", "--json", "--rate", 150, "--output", tmp_path, "--set", "engine.polish_passes=8", *addresses]
    with Hearing(address) as heard, Command(PROGRAM, "demo", *arguments, "--", *flags) as demo:
        assert demo.wait() == 0, demo.err
        report = demo.report()
    documents = check(heard.documents)
    (start,) = [doc for name, doc in documents if name == "start"]
    (stop,) = [doc for name, doc in documents if name == "stop"]
    assert (start["scan_name"], start["frames_expected"], start["frame_shape"]) == ("heard", 300, [64, 64])
    assert (stop["exit_status"], stop["reason"]) == ("success", "complete")
    progress, pictures = heard.events("error"), heard.events("object_phase")
    assert (progress[-1]["frames_received"], progress[-1]["frames_used"], progress[-1]["state"]) == (300, 300, "done")
    assert progress[0]["error"] > 2 * progress[-1]["error"], "it was seen to improve"
    result = read_result(Path(report["result"]))
    final = pictures[-1]
    assert (final["object_final"], len(pictures) >= 2) == (1, True)
    covered = np.asarray(final["object_covered"], np.bool_)
    np.testing.assert_allclose(np.asarray(final["object_amplitude"])[covered], abs(result.object)[covered], rtol=1e-5)
    flat = result.object * np.exp(-1j * np.asarray(final["object_phase"]))
    steps = [np.angle((a * b.conj())[m]) for a, b, m in neighbours(flat, covered)]
    for step in steps:
        assert np.ptp(np.unwrap(step)) < 1e-2, "but for a constant and a ramp it is the phase of the result"


def neighbours(array: np.ndarray, covered: np.ndarray) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Pairs of rows and of columns that lie side by side, and where both are covered."""
    return [
        (array[1:], array[:-1], covered[1:] & covered[:-1]),
        (array[:, 1:], array[:, :-1], covered[:, 1:] & covered[:, :-1]),
    ]
