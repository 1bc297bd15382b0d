"""A recorded scan as a message stream: the same frames, byte for byte, and the recorded positions."""

import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from pydantic import Field

from streamptycho.files.scan import RecordedScan
from streamptycho.messages.reasons import Stream
from streamptycho.messages.stream import MAX_PLANNED
from streamptycho.options import Options
from streamptycho_sim.stream import Item, chain, ends, exposure


class ReplayOptions(Options):
    """Replay of a recorded scan."""

    scan_id: str | None = Field(default=None, min_length=1, max_length=120)
    """Name of the scan; by default the name of the file."""
    with_probe: bool = True
    """Announce the recorded probe, if there is one."""
    first: int | None = Field(default=None, ge=1)
    """Replay only this many frames, from the beginning."""
    repeat: int = Field(default=1, ge=1)
    """Number of replays, each a scan of its own: NAME, NAME-2, NAME-3..."""


def replay(scan: RecordedScan, options: ReplayOptions, name: str) -> Iterator[Item]:
    """The stream of `scan`; frames keep their index and are sent without a position if none is known."""
    names = [f"{name}-{k}" if k > 1 else name for k in range(1, options.repeat + 1)]
    return chain(_once(scan, options, scan_id) for scan_id in names)


def _once(scan: RecordedScan, options: ReplayOptions, scan_id: str) -> Iterator[Item]:
    index = scan.index[: options.first]
    known = np.asarray(np.isfinite(scan.yx_m).all(axis=1))
    whole = np.array_equal(index, np.arange(len(index))) and bool(known[index].all())
    planned = scan.yx_m[: len(index)] if whole and 0 < len(index) <= MAX_PLANNED else None
    start = replace(scan.start(scan_id, time.time_ns()), expected=len(index), planned_yx_m=planned)
    if not options.with_probe:
        start = replace(start, probe=None)
    yield Item(stream=Stream.FRAMES, message=start)
    for tick, i in enumerate(index.tolist(), start=1):
        yield from exposure(scan_id, i, scan.payload(i), scan.yx_m[i] if known[i] else None, tick=tick)
    yield from ends(scan_id, len(index), int(known[index].sum()), tick=len(index))
