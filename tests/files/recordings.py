"""Recordings made of messages."""

from collections.abc import Iterable
from pathlib import Path

from streamptycho.files.outcome import Outcome
from streamptycho.files.writer import CxiWriter
from streamptycho.messages.kinds import Message
from streamptycho.messages.reasons import Stream
from streamptycho.messages.stream import Frame, Positions, ScanEnd, ScanStart


def write_scan(path: Path, messages: Iterable[Message]) -> Path:
    """A file of our own with the frames and positions of a simulated scan."""
    start, *others = messages
    assert isinstance(start, ScanStart)
    count = 0
    with CxiWriter(path, start) as writer:
        for message in others:
            if isinstance(message, Frame):
                writer.append(message)
                count += len(message)
            elif isinstance(message, Positions):
                writer.positions(message)
        end = ScanEnd(scan_id=start.scan_id, stream=Stream.SCAN, count=count)
        writer.finish(Outcome(start=start, snapshot=None, end=end))
    return path
