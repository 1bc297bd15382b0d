"""Scans that are written into HDF5 files, as a source: a file is a run, from its beginning to its end."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from glob import glob, has_magic
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
from numpy.typing import NDArray

from streamptycho.dialects.hdf5 import Hdf5
from streamptycho.errors import CodecError, ConfigError, FormatError, ProtocolError
from streamptycho.files.growing.follower import Follower
from streamptycho.messages.facts import Began, Ended, Fact, Samples, StartParts
from streamptycho.messages.reasons import EndReason
from streamptycho.sources.growing import Background, frames_of, samples_of
from streamptycho.wire.codec import Part

_LOOK_S = 0.5
"""How often folders are looked through."""
_AHEAD = 4096
"""Rows beyond the latest in which others are looked for that have come out of order."""


class _Scan:
    """One file while it is read."""

    def __init__(self, path: Path, options: Hdf5, now_s: float) -> None:
        self.path, self.since_s = path, now_s
        self.begun = self.over = self.told = False
        self.run = path.stem
        self.frames = Follower(path, options.frames, options.live_key or None, frames=True) if options.frames else None
        self.columns = {name: Follower(path, getattr(options, name)) for name in ("y", "x") if options.y}
        self.taken: NDArray[np.bool_] = np.zeros(0, np.bool_)
        """Rows whose frames have been given."""
        self.low = 0
        """Row before which all are."""
        self.rows = 0
        """Rows whose positions have been given."""
        self.why = ""

    @property
    def followers(self) -> list[Follower]:
        return [*([self.frames] if self.frames is not None else []), *self.columns.values()]

    @property
    def generation(self) -> int:
        return max(follower.generation for follower in self.followers)

    @property
    def writing(self) -> bool | None:
        said = {follower.writing for follower in self.followers}
        return True if True in said else None if None in said else False

    def close(self) -> None:
        for follower in self.followers:
            follower.close()


class ScanFiles(Background):
    """Files at an address ``file:///path/to/scan.h5`` or ``file:///folder/*.h5``.

    One path: the file that is there or that comes, and each that replaces it. A pattern: files that appear from now on or
    are being written in SWMR mode now, one after the other.
    """

    def __init__(self, address: str, options: Hdf5, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__("scan files")
        split = urlsplit(address)
        self._pattern = unquote(address.removeprefix("file://"))
        if split.scheme != "file" or not self._pattern.startswith("/"):
            raise ConfigError(f"{address}: no file address; write file:///path/to/scan.h5 or file:///folder/*.h5")
        self._options = options
        self._clock = clock
        self._many = has_magic(self._pattern)
        self._known = {path for path in self._paths() if not _is_written(path)} if self._many else set()
        self._next: deque[Path] = deque()
        self._looked_s = -float("inf")
        self._scan: _Scan | None = None
        self._thread.start()

    @property
    def standing(self) -> str:
        """No connection is made."""
        return ""

    @property
    def pollable(self) -> None:
        """There is nothing to wait for."""

    def poll(self, timeout_s: float) -> Sequence[Part] | None:
        """No messages come from files: :meth:`through` has their facts."""
        return None

    def through(self, facts: Iterable[Fact]) -> Iterator[Fact]:
        """`facts`, and what the files have told meanwhile."""
        yield from facts
        yield from self.found()

    def _paths(self) -> list[Path]:
        return [Path(name) for name in glob(self._pattern)]  # noqa: PTH207 - the pattern is absolute

    def _search(self) -> Iterator[Fact]:
        if self._many and self._clock() - self._looked_s > _LOOK_S:
            self._looked_s = self._clock()
            fresh = [path for path in self._paths() if path not in self._known]
            self._known.update(fresh)
            self._next.extend(sorted(fresh, key=_changed_s))
        if self._scan is None:
            path = (self._next.popleft() if self._next else None) if self._many else Path(self._pattern)
            if path is None:
                return
            self._scan = _Scan(path, self._options, self._clock())
        scan = self._scan
        try:
            yield from self._read(scan)
        except (OSError, ProtocolError) as error:  # may pass, as long as it is written
            scan.why = str(error)
            yield from self._end_if_over(scan)
        except FormatError as error:
            yield CodecError("file", str(error))
            yield from self._end(scan, EndReason.ABORTED, str(error))

    def _read(self, scan: _Scan) -> Iterator[Fact]:
        generation, found = scan.generation, [follower.refresh() for follower in scan.followers]
        if scan.generation != generation:
            if scan.begun:
                yield Ended(run=scan.run, reason=EndReason.SUPERSEDED, detail=f"{scan.path} was replaced")
            self._scan = None
            scan.close()
            return
        if scan.over:
            return
        if not all(found):
            scan.why = next(follower.why for follower, there in zip(scan.followers, found, strict=True) if not there)
            yield from self._end_if_over(scan)
            return
        if not scan.begun:
            scan.begun, scan.since_s = True, self._clock()
            yield Began(run=scan.run, parts=self._parts(scan))
        before = scan.rows, scan.taken.sum()
        if scan.frames is not None:
            yield from self._frames(scan, scan.frames)
        if scan.columns:
            yield from self._samples(scan)
        if (scan.rows, scan.taken.sum()) != before:
            scan.since_s = self._clock()
        yield from self._end_if_over(scan)

    def _parts(self, scan: _Scan) -> StartParts:
        units = {name: self._options.unit or (follower.unit or "") for name, follower in scan.columns.items()}
        return StartParts(
            frame_shape=None if scan.frames is None else scan.frames.frame_shape,
            dtype=None if scan.frames is None else scan.frames.frame_dtype,
            expected=self._options.expected,
            columns=("y", "x") if scan.columns else None,
            units={name: unit for name, unit in units.items() if unit},
            metadata={"file": str(scan.path)},
        )

    def _frames(self, scan: _Scan, follower: Follower) -> Iterator[Fact]:
        """Frames of all rows that have been written since, in whatever order."""
        latest = int(np.flatnonzero(scan.taken)[-1]) + 1 if scan.taken.any() else 0
        stop = min(follower.length, latest + _AHEAD)
        if stop > len(scan.taken):
            scan.taken = np.concatenate([scan.taken, np.zeros(stop - len(scan.taken), np.bool_)])
        fresh = follower.written(scan.low, stop) & ~scan.taken[scan.low : stop]
        steps = np.diff(np.concatenate([[0], fresh, [0]]).astype(np.int8))
        edges = np.flatnonzero(steps).reshape(-1, 2) + scan.low
        for begin, end in edges.tolist():
            for frames in frames_of(scan.run, follower, begin, end, begin):
                yield frames
                scan.taken[frames.number] = True
        scan.low = len(scan.taken) if scan.taken.all() else int(np.argmin(scan.taken))

    def _samples(self, scan: _Scan) -> Iterator[Fact]:
        columns = {name: (follower, 0) for name, follower in scan.columns.items()}
        length = min(follower.length for follower in scan.columns.values())
        settled = scan.writing is False and self._clock() - scan.since_s >= self._options.closed_s
        while scan.rows < length and (found := samples_of(columns, scan.rows, length, settled=settled)):
            numbers = np.arange(scan.rows, scan.rows + len(found["y"]), dtype=np.int64)
            yield Samples(run=scan.run, first=scan.rows, columns=found, number=numbers)
            scan.rows += len(numbers)

    def _end_if_over(self, scan: _Scan) -> Iterator[Fact]:
        silent_s, options = self._clock() - scan.since_s, self._options
        if not scan.begun:
            if self._next and silent_s > options.closed_s:  # another one has been begun
                yield CodecError("file", f"is passed over: {scan.why}")
                yield from self._end(scan, EndReason.TIMEOUT, scan.why)
            elif silent_s > options.silence_s and not scan.told and scan.path.exists():
                scan.told = True
                yield CodecError("file", f"has given nothing for {options.silence_s:g} s: {scan.why}")
            return
        counts = [int(scan.taken.sum())] * (scan.frames is not None) + [scan.rows] * bool(scan.columns)
        if (options.expected is not None and min(counts) >= options.expected) or (
            silent_s > options.closed_s and (scan.writing is False or self._next)
        ):
            yield from self._end(scan, EndReason.COMPLETE, "")
        elif silent_s > options.silence_s:
            why = f"{scan.path}: no new row for {options.silence_s:g} s; raise options.silence_s if it was only slow"
            yield from self._end(scan, EndReason.TIMEOUT, f"{why} ({scan.why})" if scan.why else why)

    def _end(self, scan: _Scan, reason: EndReason, detail: str) -> Iterator[Fact]:
        keyed = bool(self._options.live_key)
        rows = scan.rows if scan.frames is None else int(scan.taken.sum()) if keyed else scan.frames.length
        if scan.begun:
            yield Ended(run=scan.run, reason=reason, count=rows, detail=detail)
        scan.begun, scan.over = False, True
        if self._many:
            self._scan = None
            scan.close()  # of a single path it stays open, so that another file in its place can be told

    def _release(self) -> None:
        if self._scan is not None:
            self._scan.close()


def _is_written(path: Path) -> bool:
    """Whether a writer that names itself in the file has it open."""
    try:
        with path.open("rb") as file:
            head = file.read(12)
    except OSError:
        return False
    return head[8:9] == b"\x03" and len(head) == 12 and head[11] != 0


def _changed_s(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
