"""Rows of a PandA as JSON, in the forms of HXN and of MAX IV: one message in one part each."""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from streamptycho.messages.reasons import Stream
from streamptycho.messages.stream import Positions, ScanEnd, ScanStart
from streamptycho.wire.codec import Part
from streamptycho_sim.stream import Item

Columns = Mapping[str, NDArray[np.float64]]
ARMED = "2025-02-28T18:44:22.905865051Z"


class PandaJson:
    """Encodes the positions of scans as HXN does, in micrometres as ``Y.Mean`` and ``X.Mean``; frames give no message."""

    def __init__(self) -> None:
        self._sent = 0

    def messages(self, item: Item) -> Iterator[list[Part]]:
        """The one part of each message that an item becomes; a piece for each run of rows without a gap."""
        match item.message:
            case ScanStart(started_ns=started_ns):
                self._sent = 0
                armed = datetime.fromtimestamp(started_ns / 1e9, UTC).isoformat().replace("+00:00", "Z")
                yield [_text({"msg_type": "start", "arm_time": armed, "start_time": armed, "hw_time_offset_ns": None})]
            case Positions(index=index, yx_m=yx_m):
                for rows in np.split(np.arange(len(index)), np.flatnonzero(np.diff(index) != 1) + 1):
                    values = {"Y.Mean": yx_m[rows, 0] * 1e6, "X.Mean": yx_m[rows, 1] * 1e6}
                    yield [_data(self._sent, int(index[rows[0]]), {name: v.tolist() for name, v in values.items()})]
                    self._sent += 1
            case ScanEnd(stream=Stream.POSITIONS):
                yield [_text({"msg_type": "stop", "emitted_frames": self._sent})]


def hxn(columns: Columns, rows_per_message: int = 41, arm_time: str = ARMED) -> Iterator[bytes]:
    """A capture as HXN publishes it; columns (n,) as NAME.CAPTURE."""
    yield _text({"msg_type": "start", "arm_time": arm_time, "start_time": arm_time, "hw_time_offset_ns": None})
    sent = 0
    for first, rows in _pieces(columns, rows_per_message):
        yield _data(sent, first, rows)
        sent += 1
    yield _text({"msg_type": "stop", "emitted_frames": sent})


def maxiv(
    columns: Columns, rows_per_message: int = 15, arm_time: str = ARMED, *, numbers_rows: bool = False
) -> Iterator[bytes]:
    """The same as MAX IV does; `numbers_rows`: `frame_number` is that of the first row, not of the message."""
    head = {"version": 1, "message_id": 1}
    yield _text({**head, "message_type": "series-start", "arm_time": arm_time})
    sent = 0
    for first, rows in _pieces(columns, rows_per_message):
        number = first if numbers_rows else sent
        yield _text({**head, "message_id": sent + 2, "message_type": "data", "frame_number": number, **rows})
        sent += 1
    yield _text({**head, "message_id": sent + 2, "message_type": "series-end"})


def _pieces(columns: Columns, size: int) -> Iterator[tuple[int, dict[str, list[float]]]]:
    length = max((len(column) for column in columns.values()), default=0)
    for first in range(0, length, size):
        yield first, {name: column[first : first + size].tolist() for name, column in columns.items()}


def _data(number: int, first: int, rows: Mapping[str, list[float]]) -> bytes:
    datasets = {
        f"/{name}": {"dtype": "float64", "size": len(values), "starting_sample_number": first, "data": values}
        for name, values in rows.items()
    }
    return _text({"msg_type": "data", "frame_number": number, "datasets": datasets})


def _text(message: dict[str, object]) -> bytes:
    return json.dumps(message).encode()
