"""Positions as home-made senders write them: lines of numbers with units in their header, and JSON."""

import json
from collections.abc import Iterator

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
    """Encodes the positions of scans as JSON in micrometres, with starts and ends, as in docs/how-to/your-own-daq.md."""

    def __init__(self) -> None:
        self._scan = ""

    def messages(self, item: Item) -> Iterator[list[Part]]:
        """The one part of each message that an item becomes."""
        match item.message:
            case ScanStart(scan_id=scan_id):
                self._scan = scan_id
                yield self._text("start", run=self._scan)
            case Positions(index=index, yx_m=yx_m):
                numbers, rows = index.tolist(), (yx_m * 1e6).tolist()
                x, y = [x for _, x in rows], [y for y, _ in rows]
                if len(numbers) == 1:
                    yield self._text("data", n=numbers[0], stage={"x": x[0], "y": y[0]})
                else:
                    yield self._text("data", n=numbers, stage={"x": x, "y": y})
            case ScanEnd(stream=Stream.POSITIONS, count=count):
                yield self._text("end", run=self._scan, rows=count)

    @staticmethod
    def _text(kind: str, **values: object) -> list[Part]:
        return [json.dumps({"type": kind, **values}).encode()]
