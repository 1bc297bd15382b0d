"""Positions as home-made senders write them: lines of numbers with units in their header, and JSON."""

import json
from collections.abc import Iterator
from typing import ClassVar

from streamptycho.messages.reasons import Stream
from streamptycho.messages.stream import Positions, ScanEnd, ScanStart
from streamptycho.wire.codec import Part
from streamptycho_sim.stream import Item


class TableCsv:
    """Encodes the positions of scans as ``index,x,y`` in micrometres; a header line begins each message."""

    def messages(self, item: Item) -> Iterator[list[Part]]:
        """The one part of each message that an item becomes."""
        match item.message:
            case Positions(index=index, yx_m=yx_m):
                rows = zip(index.tolist(), yx_m.tolist(), strict=True)
                lines = (f"{number},{x * 1e6!r},{y * 1e6!r}\n" for number, (y, x) in rows)
                yield ["".join(["index,x [um],y [um]\n", *lines]).encode()]


class TableJson:
    """Encodes the positions of scans as JSON objects of lists, with starts and ends, for the options in `OPTIONS`."""

    OPTIONS: ClassVar = {"kind": "type", "start": "begin", "end": "done", "run": "id", "count": "sent", "unit_field": "unit"}

    def __init__(self) -> None:
        self._scan = ""

    def messages(self, item: Item) -> Iterator[list[Part]]:
        """The one part of each message that an item becomes."""
        match item.message:
            case ScanStart(scan_id=scan_id):
                self._scan = scan_id
                yield self._text("begin", unit="m")
            case Positions(index=index, yx_m=yx_m):
                yield self._text("rows", index=index.tolist(), x=yx_m[:, 1].tolist(), y=yx_m[:, 0].tolist())
            case ScanEnd(stream=Stream.POSITIONS, count=count):
                yield self._text("done", sent=count)

    def _text(self, kind: str, **values: object) -> list[Part]:
        return [json.dumps({"type": kind, "id": self._scan, **values}).encode()]
