"""Scans that are written into HDF5 files, as a source: a file, or a series of numbered files, is a run."""

import re
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
from streamptycho.files.growing.names import (
    Members,
    State,
    any_number,
    first_of,
    is_numbered,
    runs_in,
    state_of,
    states_in,
    without_number,
)
from streamptycho.messages.facts import Began, Ended, Fact, Learned, Samples, StartParts
from streamptycho.messages.reasons import EndReason
from streamptycho.sources.described import Described
from streamptycho.sources.growing import Background, frames_of, samples_of
from streamptycho.wire.codec import Part

_NUMBER = re.compile(r"(%0\d+d|%d(?![0-9A-Fa-f]))")
"""A running number in an address; all else after ``%`` is an escaped character."""
_LOOK_S = 0.5
"""How often folders are looked through."""
_AHEAD = 4096
"""Rows beyond the latest in which others are looked for that have come out of order."""


class _Scan:
    """One file while it is read."""

    def __init__(self, path: Path, options: Hdf5, now_s: float, left_over: frozenset[State] = frozenset()) -> None:
        self.path, self.since_s = path, now_s
        self.begun = self.over = self.told = False
        self.run = without_number(path.stem)
        self.numbered = is_numbered(path.name) or is_numbered(options.frames)
        members, key = Members(options.first_file, left_over), options.live_key or None
        self.frames = Follower(path, options.frames, key, frames=True, members=members) if options.frames else None
        self.columns = {name: Follower(path, getattr(options, name), members=members) for name in ("y", "x") if options.y}
        self.described = Described(path, options.frames)
        self.taken: NDArray[np.bool_] = np.zeros(0, np.bool_)
        """Rows whose frames have been given."""
        self.low = 0
        """Row before which all are."""
        self.rows = 0
        """Rows whose positions have been given."""
        self.last = 0
        """Rows of its datasets at its end."""
        self.why = ""

    @property
    def length(self) -> int:
        return max(follower.length for follower in self.followers)

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

    def expected(self, options: Hdf5) -> int | None:
        """Rows after which it ends; of numbered names nobody but the detector knows which is the last."""
        return options.expected or (self.described.parts.expected if self.numbered else None)

    def close(self) -> None:
        for follower in self.followers:
            follower.close()


class ScanFiles(Background):
    """Files at an address ``file:///path/to/scan.h5`` or ``file:///folder/*.h5``.

    One path: the file that is there or that comes, and each that replaces it. A pattern: files that appear from now on or
    are being written in SWMR mode now, one after the other. A running number, ``scan_%06d.h5`` or ``*_%06d.h5``, stands for
    the files of one run.
    """

    def __init__(self, address: str, options: Hdf5, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__("scan files")
        split = urlsplit(address)
        pieces = _NUMBER.split(address.removeprefix("file://"))
        self._pattern = "".join(piece if at % 2 else unquote(piece) for at, piece in enumerate(pieces))
        if split.scheme != "file" or not self._pattern.startswith("/"):
            raise ConfigError(f"{address}: no file address; write file:///path/to/scan.h5 or file:///folder/*.h5")
        self._options = options
        self._clock = clock
        self._many = has_magic(self._pattern)
        self._known = {path for path in self._paths() if not _is_written(path)} if self._many else set()
        self._next: deque[Path] = deque()
        self._looked_s = -float("inf")
        self._scan: _Scan | None = None
        self._left_over: frozenset[State] = frozenset()
        """Numbered files of the run before under the same names."""
        self._over: set[Path] = set()
        """Runs of a pattern that are over."""
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
        return [Path(name) for name in glob(any_number(self._pattern))]  # noqa: PTH207 - the pattern is absolute

    def _search(self) -> Iterator[Fact]:
        if self._many and self._clock() - self._looked_s > _LOOK_S:
            self._looked_s = self._clock()
            fresh = [path for path in self._paths() if path not in self._known]
            self._known.update(fresh)
            waiting = {*self._next, *([] if self._scan is None else [self._scan.path])}
            runs = runs_in(self._pattern, sorted(fresh, key=_changed_s))
            self._next.extend(run for run in runs if run not in waiting | self._over)
            for run in self._over.intersection(runs):
                yield CodecError(
                    "file", f"another file of {run} came after the end of that run; it is not read: set expected"
                )
        if self._scan is None:
            path = (self._next.popleft() if self._next else None) if self._many else Path(self._pattern)
            if path is None:
                return
            self._scan = _Scan(path, self._options, self._clock(), self._left_over)
        scan = self._scan
        try:
            yield from self._read(scan)
        except (OSError, ProtocolError) as error:  # may pass, as long as it is written
            scan.why = str(error)
            yield from self._end_if_over(scan)
        except FormatError as error:
            if not scan.over:  # said once
                yield CodecError("file", str(error))
                yield from self._end(scan, EndReason.ABORTED, str(error))

    def _read(self, scan: _Scan) -> Iterator[Fact]:
        generation, found = scan.generation, [follower.refresh() for follower in scan.followers]
        if scan.generation != generation:
            if scan.begun:
                yield Ended(run=scan.run, reason=EndReason.SUPERSEDED, detail=f"{scan.path} was replaced")
                begun = state_of(first_of(scan.path) or scan.path)
                self._left_over = frozenset(s for s in states_in(scan.path) if begun is not None and s[1] < begun[1])
            self._scan = None
            scan.close()
            return
        if scan.over:
            if scan.length > scan.last and not scan.told:
                scan.told = True
                text = f"{scan.path} has gone on with row {scan.last} after the end of its run; that is not read: raise"
                yield CodecError("file", f"{text} options.silence_s, or correct options.expected")
            return
        if not all(found):
            scan.why = next(follower.why for follower, there in zip(scan.followers, found, strict=True) if not there)
            yield from self._end_if_over(scan)
            return
        if not scan.begun:
            scan.begun, scan.since_s = True, self._clock()
            self._describe(scan)
            yield Began(run=scan.run, parts=self._parts(scan))
        elif self._describe(scan):
            yield Learned(run=scan.run, parts=self._parts(scan))
        before = scan.rows, scan.taken.sum()
        if scan.frames is not None:
            yield from self._frames(scan, scan.frames)
        if scan.columns:
            yield from self._samples(scan)
        if (scan.rows, scan.taken.sum()) != before:
            scan.since_s = self._clock()
        yield from self._end_if_over(scan)

    def _describe(self, scan: _Scan) -> bool:
        """Look at what the file says beside its frames; whether there was anything new."""
        return scan.frames is not None and scan.described.look(scan.frames.frame_shape, self._clock()) is not None

    def _parts(self, scan: _Scan) -> StartParts:
        units = {name: self._options.unit or (follower.unit or "") for name, follower in scan.columns.items()}
        parts = StartParts(
            frame_shape=None if scan.frames is None else scan.frames.frame_shape,
            dtype=None if scan.frames is None else scan.frames.frame_dtype,
            expected=self._options.expected,
            columns=("y", "x") if scan.columns else None,
            units={name: unit for name, unit in units.items() if unit},
            metadata={"file": str(scan.path)},
        )
        return parts.over(scan.described.parts)

    def _frames(self, scan: _Scan, follower: Follower) -> Iterator[Fact]:
        """Frames of all rows that have been written since, in whatever order."""
        latest = int(np.flatnonzero(scan.taken)[-1]) + 1 if scan.taken.any() else 0
        stop = min(follower.length, latest + _AHEAD)
        if stop > len(scan.taken):
            scan.taken = np.concatenate([scan.taken, np.zeros(stop - len(scan.taken), np.bool_)])
        for first, last in _stretches(~scan.taken[scan.low : stop], scan.low):  # of what is taken nothing more is asked
            for begin, end in _stretches(follower.written(first, last), first):
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
            elif silent_s > options.silence_s and not scan.told and first_of(scan.path):
                scan.told = True
                yield CodecError("file", f"has given nothing for {options.silence_s:g} s: {scan.why}")
            return
        counts = [int(scan.taken.sum())] * (scan.frames is not None) + [scan.rows] * bool(scan.columns)
        expected = scan.expected(options)
        if (expected is not None and min(counts) >= expected) or (
            silent_s > options.closed_s and (scan.writing is False or self._next)
        ):
            yield from self._end(scan, EndReason.COMPLETE, "")
        elif silent_s > options.silence_s:
            why = f"{scan.path}: no new row for {options.silence_s:g} s; raise options.silence_s if it was only slow"
            if scan.numbered and expected is None:
                why += ", or set options.expected, with which the series ends: which file is the last nobody says"
            yield from self._end(scan, EndReason.TIMEOUT, f"{why} ({scan.why})" if scan.why else why)

    def _end(self, scan: _Scan, reason: EndReason, detail: str) -> Iterator[Fact]:
        keyed = bool(self._options.live_key)
        rows = scan.rows if scan.frames is None else int(scan.taken.sum()) if keyed else scan.frames.length
        if scan.begun:
            yield Ended(run=scan.run, reason=reason, count=rows, detail=detail)
        scan.begun, scan.over, scan.told, scan.last = False, True, False, scan.length
        if is_numbered(scan.path.name):
            self._left_over = states_in(scan.path)
            self._over |= {scan.path} if self._many else set()
        if self._many:
            self._scan = None
            scan.close()  # of a single path it stays open, so that another file in its place can be told

    def _release(self) -> None:
        if self._scan is not None:
            self._scan.close()


def _stretches(flags: NDArray[np.bool_], first: int) -> list[list[int]]:
    """Begin and end of what is True without a gap; `first` is the number of the first flag."""
    steps = np.diff(np.concatenate([[0], flags, [0]]).astype(np.int8))
    edges: list[list[int]] = (np.flatnonzero(steps).reshape(-1, 2) + first).tolist()
    return edges


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
