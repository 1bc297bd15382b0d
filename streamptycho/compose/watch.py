"""Streams in our own dialect need no composing; what is wrong between them, or refused, is told nevertheless."""

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from streamptycho.compose.findings import Findings
from streamptycho.compose.options import Role
from streamptycho.compose.refusals import Refusals
from streamptycho.errors import ProtocolError
from streamptycho.messages.reasons import Stream
from streamptycho.messages.run import RunId
from streamptycho.messages.stream import Frame, Positions, ScanEnd, ScanStart

_KEPT = 100
"""Scan ids that are remembered."""


@dataclass(slots=True)
class _Seen:
    """When something came under a scan id, seconds."""

    run: RunId | None = None
    frames_s: float | None = None
    positions_s: float | None = None
    dtype: np.dtype | None = None
    shape: tuple[int, int] | None = None
    told: bool = False


class Watch:
    """Looks at messages that are passed on as they are."""

    def __init__(self, findings: Findings, partner_s: float) -> None:
        self._findings = findings
        self.refusals = Refusals(findings)
        self._partner_s = partner_s
        self._seen: OrderedDict[str, _Seen] = OrderedDict()
        self._open: RunId | None = None
        """The newest that has begun, as long as it is open."""

    def resume(self, start: ScanStart) -> None:
        """A scan that begins, or is open from before."""
        seen = self._of(start.scan_id)
        seen.run, seen.dtype, seen.shape = start.run, start.dtype, start.geometry.frame_shape
        self._open = start.run

    def closed(self, run: RunId) -> None:
        """A run is over."""
        if self._open == run:
            self._open = None

    def refused(self, role: Role, error: ProtocolError, composed: str | None) -> None:
        """A message that cannot be used: of the scan that it names, else of the one that is open, as `composed` is."""
        self.refusals.add(role, error)
        scan_id = error.scan_id or composed or (None if self._open is None else self._open.scan_id)
        if scan_id is not None:
            self._findings.say(scan_id, f"refused {role.value}", f"a message of detector.{role.value} was refused: {error}")

    def note(self, message: ScanStart | Frame | Positions | ScanEnd, now_s: float) -> None:
        """A message that has come."""
        scan_id = message.scan_id
        seen = self._seen.get(scan_id) or self._of(scan_id)
        if isinstance(message, Frame):
            if seen.dtype is None:
                text = "frames come without a start message: their scan began before the receiver, and none is recorded"
                self._findings.say(scan_id, "no_start", text)
            elif message.payload.dtype != seen.dtype or message.payload.shape != seen.shape:
                found = f"{message.payload.dtype.name} of {message.payload.shape} pixels"
                text = (
                    f"frames are {found}, the start said {seen.dtype.name} of {seen.shape}: they are counted and not written"
                )
                self._findings.say(scan_id, "wrong_shape", text)
            if seen.frames_s is None and not message.dark:
                seen.frames_s = now_s
            if message.taken_yx_m is not None:
                seen.positions_s = now_s
        elif isinstance(message, Positions):
            if seen.positions_s is None:
                seen.positions_s = now_s
        elif isinstance(message, ScanStart):
            if message.started_ns and message.run == seen.run:  # sent again, for those that have missed it
                return
            if seen.positions_s is None or seen.frames_s is not None:  # another run of the id
                self._findings.forget(scan_id)
                del self._seen[scan_id]
            self.resume(message)
        elif message.stream is Stream.POSITIONS and seen.positions_s is None:
            seen.positions_s = now_s

    def tick(self, now_s: float) -> None:
        """Say which scans have had only frames, or only positions, for too long."""
        frames = [scan_id for scan_id, seen in self._seen.items() if seen.positions_s is None and seen.frames_s is not None]
        positions = [
            scan_id for scan_id, seen in self._seen.items() if seen.frames_s is None and seen.positions_s is not None
        ]
        for one, others, names in ((frames, positions, "frames positions"), (positions, frames, "positions frames")):
            these, those = names.split()
            for scan_id in one:
                seen = self._seen[scan_id]
                since_s = seen.frames_s if seen.frames_s is not None else seen.positions_s
                if seen.told or since_s is None or now_s - since_s < self._partner_s:
                    continue
                seen.told = True
                if others:
                    under = ", ".join(repr(other) for other in others[-3:])
                    text = (
                        f"{these} come under {scan_id!r}, {those} under {under}: let both senders give the same scan id, "
                        "or set scan.pairing = 'open-scan'"
                    )
                else:
                    text = f"{these} come and no {those}: {self.refusals.because_of(Role(those))}"
                self._findings.say(scan_id, "alone", text)

    def _of(self, scan_id: str) -> _Seen:
        seen = self._seen.setdefault(scan_id, _Seen())
        while len(self._seen) > _KEPT:
            self._seen.popitem(last=False)
        return seen
