"""A write stage under test, its messages, and a disk that refuses on request."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import pytest

from streamptycho.files.durable.superblock import End
from streamptycho.messages.kinds import Message
from streamptycho.messages.reasons import EndReason, ServiceState, Stream
from streamptycho.messages.results import Snapshot
from streamptycho.messages.status import ReceiveStatus, ReconstructStatus, Status
from streamptycho.messages.stream import Frame, Positions, ScanEnd, ScanStart
from streamptycho.pipeline.options import WriteOptions
from streamptycho.pipeline.stage import Port
from streamptycho.pipeline.write import WriteStage
from tests.files.factories import LIVE, LIVE_KEY, TRANSLATION
from tests.files.factories import snapshot as picture
from tests.scans import Clock, balanced, end


def snapshot(sequence: int = 0, scan_id: str = "s", **changes: Any) -> Snapshot:
    return picture(sequence, scan_id=scan_id, **({"started_ns": 1} | changes))


def final(sequence: int = 9, scan_id: str = "s") -> Snapshot:
    return snapshot(sequence, scan_id, final=True)


def over(scan_id: str = "s", reason: EndReason = EndReason.COMPLETE, count: int = 3) -> Message:
    return end(count, Stream.SCAN, scan_id, reason)


WORDS: dict[str, type[Status]] = {"receive": ReceiveStatus, "reconstruct": ReconstructStatus}


def word(service: str, scan_id: str = "s", used: int = 0, waiting: int = 0, **more: Any) -> Status:
    """A status of another service."""
    dropped = more.pop("dropped", {})
    return WORDS[service](
        scan_id=scan_id,
        state=more.pop("state", ServiceState.RECEIVING),
        time_ns=1,
        received=used + waiting + sum(dropped.values()),
        used=used,
        waiting=waiting,
        dropped=dropped,
        **more,
    )


def last_word(**counts: int) -> Status:
    """The receiver's at the end of a scan."""
    return word("receive", state=ServiceState.DONE, **({"missing": 0, "missing_positions": 0} | counts))


class Run:
    def __init__(self, directory: Path, **options: Any) -> None:
        self.directory = directory
        self.clock = Clock()
        self.stage = WriteStage(WriteOptions(directory=directory, **options), '{"a": 1}', self.clock, self.clock.ns)
        self.out: list[Status] = []
        self._sent: dict[str, list[set[int]]] = {}
        """Indices of frames and positions sent so far, by scan id."""
        self._counts: dict[str, ReceiveStatus] = {}

    def __call__(self, *messages: object, counted: bool = True) -> "Run":
        """Hand the stage the messages; if `counted`, before each end the receiver's count of what has been sent."""
        for message in messages:
            if counted and isinstance(message, ScanEnd) and message.scan_id in self._sent:
                self._take(self.stage.handle(self._last_word(message)))
            self._take(self.stage.handle(message))
            self._note(message)
            self.clock.now += 0.2  # so that each next message finds a flush due
        return self

    def _note(self, message: object) -> None:
        if isinstance(message, ScanStart):
            self._sent[message.scan_id] = [set(), set()]
            self._counts.pop(message.scan_id, None)
        elif (
            isinstance(message, Frame | Positions) and message.scan_id in self._sent and not getattr(message, "dark", False)
        ):
            self._sent[message.scan_id][isinstance(message, Positions)].update(message.index.tolist())
        elif isinstance(message, ReceiveStatus):
            self._counts[message.scan_id] = message

    def _last_word(self, over: ScanEnd) -> ReceiveStatus:
        frames, places = self._sent[over.scan_id]
        said = self._counts.get(over.scan_id) or word("receive", over.scan_id, started_ns=over.started_ns)
        whole = {"unique": len(frames), "positions": len(places), "missing": 0, "missing_positions": 0}
        return replace(said, state=ServiceState.DONE, **whole)

    def wait(self, seconds: float = 1.0) -> "Run":
        self.clock.now += seconds
        self._take(self.stage.idle())
        return self

    def finish(self) -> None:
        self._take(self.stage.finish())

    def _take(self, outputs: Iterable[tuple[Port, Message]]) -> None:
        for port, message in outputs:
            assert port is Port.DISPLAY
            assert isinstance(message, Status)
            self.out.append(message)
        assert all(balanced(status) and status.service == "write" for status in [*self.out, *self.stage.statuses()])

    def read(self, name: str = "s", *, swmr: bool = False) -> dict[str, Any]:
        """What the file says."""
        with h5py.File(self.directory / f"{name}.cxi", "r", swmr=swmr) as file:
            live = file[LIVE]
            counters = live["counters"]
            return {
                "frames": file["/entry_1/data_1/data"][()],
                "key": file[LIVE_KEY][()].tolist(),
                "xyz": file[TRANSLATION][()],
                "complete": int(live["complete"][()]),
                "reason": live["end_reason"][()].decode(),
                "sequences": live["snapshots/sequence"][()].tolist(),
                "counters": {name: int(counters[name][()]) for name in ("received", "used", "waiting", "n_frames")},
                "missing": tuple(int(counters[name][()]) for name in ("missing", "missing_positions", "gaps")),
                "dropped": {name: int(d[()]) for name, d in counters["dropped"].items() if d[()]},
            }


@contextmanager
def refusing(scan_id: str = "s", why: str = "No space left on device") -> Iterator[None]:
    """While this lasts the disk takes nothing more for the files of a scan."""
    real = End.reserve

    def reserve(self: End, size: int) -> None:
        if f"{scan_id}.cxi" in self._file.filename:
            raise OSError(28, why)
        real(self, size)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(End, "reserve", reserve)
        yield
