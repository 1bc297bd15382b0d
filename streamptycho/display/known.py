"""The newest of everything that the services say about a scan, folded once for terminal, page, documents and writer.

:class:`Known` holds one run: take in its messages with :meth:`Known.take`, read figures from :meth:`Known.facts`. Each
figure has one source, so that all displays agree. :mod:`streamptycho.display.scans` finds the run a message belongs to.
"""

import math
from dataclasses import dataclass, field, fields
from typing import Any

from streamptycho.display.ledger import Ledger, Missing, combine, missing, not_written
from streamptycho.display.points import Points
from streamptycho.messages.kinds import Message
from streamptycho.messages.live import Preview, Survey
from streamptycho.messages.reasons import EndReason, ServiceKind, ServiceState
from streamptycho.messages.results import Assessment, Estimates, Snapshot
from streamptycho.messages.run import RunId
from streamptycho.messages.status import ReceiveStatus, ReconstructStatus, WriteStatus
from streamptycho.messages.stream import ScanEnd, ScanStart

MAX_RECONSTRUCTIONS = 8
"""Reconstructions of one run that are followed; what others say is ignored."""
NO_PICTURE = "nothing could be reconstructed"


def finite(value: float | None) -> float | None:
    """`value`, or None where it is not a finite number."""
    return value if value is not None and math.isfinite(value) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """The figures of one run at one moment, named as in the messages that bring them; None where not known, never NaN."""

    run: RunId
    state: ServiceState | None
    ledger: Ledger
    expected: int | None
    announced: int | None
    """Frames that were sent, as the sender says at the end."""
    complete: bool | None
    """True if all that was planned, announced and received is in the file; None before that is closed."""
    missing: int | None
    """Frames that never came, once the receiver is done; and those that are not written, once the file is closed."""
    missing_positions: int | None
    """The same of the positions."""
    gaps: int | None
    """Indices below the largest for which no frame has come."""
    unmatched: int | None
    """Frames and positions that wait for each other."""
    positions: int | None
    rate_hz: float
    """Frames received per second; 0 once the receiver is done."""
    silence_s: float | None
    """Time since the last message on the stream of frames; None once the receiver is done."""
    eta_s: float | None
    """Time to the last planned frame at this rate."""
    lag_s: float | None
    """Age of the newest frame that has reached the reconstruction, by the detector's clock."""
    error: float | None
    """Fourier error, of the newer of status and picture."""
    updates: int
    """Frame updates, of the newer of status and picture."""
    updates_hz: float
    passes: int
    position_shift_px: float | None
    unexplained: float | None
    device: str | None
    probe: str | None
    trust: str | None
    algorithm: str | None
    picture_frames: int | None
    final: bool
    rejected: int
    """Messages that the receiver refused."""
    written: int | None
    file: str | None
    result: str | None
    picture: str | None
    end: EndReason | None
    remarks: tuple[str, ...]
    """What the receiver says of how the scan was put together."""
    write_problem: str | None
    """What is not in the file, and why."""
    problem: str | None
    """Why services cannot go on with this run."""
    verdict: str | None
    findings: dict[str, str]
    figures: dict[str, float]
    """Finite, and in step with what is above."""
    trusted: bool | None
    """Whether the picture can be trusted; None before there is an assessment."""
    judged: bool
    """Verdict, findings and trust are the last ones of the run."""

    @property
    def standing(self) -> str:
        """The state in words; once it is done, also why the scan ended if it is not complete, and a picture not to trust."""
        if self.state is not ServiceState.DONE:
            return str(self.state or "")
        end = [str(self.end)] if self.end not in (None, EndReason.COMPLETE) else []
        return ", ".join(["done", *end, *(["picture not trusted"] if self.trusted is False else [])])

    @property
    def problems(self) -> list[str]:
        """What must not be overlooked, once each: a failure of the writer is among both."""
        unwritten = self.write_problem if self.write_problem and self.write_problem not in (self.problem or "") else None
        lack = str(Missing(self.missing, self.missing_positions))
        return [text for text in (lack, unwritten, self.problem) if text]

    @property
    def resolution_m(self) -> float | None:
        """Period resolved, metres."""
        return self.figures.get("resolution_m")

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; ``started_ns`` as text, as the numbers of JavaScript hold fewer digits."""
        rest = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("run", "ledger")}
        return {"scan": self.run.scan_id, "started_ns": str(self.run.started_ns), **self.ledger.as_dict(), **rest}


@dataclass(eq=False, slots=True)
class Reconstructed:
    """The newest of everything from one reconstruction of a run."""

    status: ReconstructStatus | None = None
    snapshot: Snapshot | None = None
    assessment: Assessment | None = None
    preview: Preview | None = None
    estimates: Estimates | None = None
    points: Points = field(default_factory=Points)

    def take(self, message: Message) -> bool:
        """Take in a message of this reconstruction; False if it is older than what is known."""
        match message:
            case ReconstructStatus():
                self.status = message
            case Snapshot():
                known = self.snapshot if message.started_ns else None  # without a beginning it may be of the next run
                if known is not None and (known.final or message.sequence <= known.sequence):
                    return False
                self.snapshot = message
            case Assessment():
                self.assessment = message
            case Preview():
                self.preview = message
            case Survey():
                self.points.take(message)
            case Estimates():
                self.estimates = message
        return True

    @property
    def done(self) -> bool:
        """True if no further picture will come."""
        return (self.status is not None and self.status.done) or (self.snapshot is not None and self.snapshot.final)

    @property
    def failure(self) -> str | None:
        """Why there will be no picture; None while there may be one."""
        if self.status is None or not self.status.done:
            return None
        return self.status.failure or (NO_PICTURE if self.status.no_picture else None)

    @property
    def newer(self) -> Snapshot | None:
        """The snapshot, if it is newer than the status: then frames, updates and error are its."""
        shot = self.snapshot
        return shot if shot is not None and (self.status is None or shot.time_ns > self.status.time_ns) else None

    @property
    def error(self) -> float | None:
        """Fourier error."""
        source = self.newer or self.status
        return finite(source.error) if source is not None else None


_NOTHING = Reconstructed()
_SILENT = ReconstructStatus(scan_id=None, state=ServiceState.IDLE, time_ns=0)


class Known:
    """The newest of everything about one run of a scan."""

    def __init__(self, run: RunId) -> None:
        self.run = run
        self.start: ScanStart | None = None
        self.end: ScanEnd | None = None
        self.receive: ReceiveStatus | None = None
        self.write: WriteStatus | None = None
        self.reconstructions: dict[str, Reconstructed] = {}
        """By name of the service, in the order in which they were heard."""

    @property
    def lead(self) -> Reconstructed:
        """The reconstruction that is shown: the one named as its kind, else the first heard; an empty one before any."""
        named = self.reconstructions.get(ServiceKind.RECONSTRUCT)
        return named or next(iter(self.reconstructions.values()), _NOTHING)

    def take(self, message: Message) -> bool:
        """Take in a message of this run; False if it changes nothing that is shown: old, or of another reconstruction."""
        match message:
            case ScanStart():
                self.start = message
            case ScanEnd():
                self.end = message
            case ReceiveStatus():
                self.receive = message
            case WriteStatus():
                self.write = message
            case ReconstructStatus() | Snapshot() | Assessment() | Estimates() | Survey() | Preview():
                return self._take_reconstructed(message.service, message)
            case _:
                return False
        return True

    def _take_reconstructed(self, service: str, message: Message) -> bool:
        if service not in self.reconstructions:
            if len(self.reconstructions) >= MAX_RECONSTRUCTIONS:
                return False
            self.reconstructions[service] = Reconstructed()
        source = self.reconstructions[service]
        return source.take(message) and source is self.lead

    def forget_pictures(self) -> None:
        """Let the memory of snapshots go."""
        for reconstruction in self.reconstructions.values():
            reconstruction.snapshot = None

    @property
    def snapshot(self) -> Snapshot | None:
        """The newest picture."""
        return self.lead.snapshot

    @property
    def ledger(self) -> Ledger:
        """Where the frames are."""
        newer = self.lead.newer
        return combine(self.receive, self.lead.status, newer.frames_used if newer is not None else None)

    @property
    def state(self) -> ServiceState | None:
        """What is being done with it: the reconstruction's state, before it has one the receiver's."""
        status = self.lead.status or self.receive
        return status.state if status is not None else None

    @property
    def received(self) -> bool:
        """True if all frames that will come have come."""
        return self.end is not None or (self.receive is not None and self.receive.done)

    @property
    def finished(self) -> bool:
        """True if no further picture is expected."""
        return self.lead.done or self.state is ServiceState.DONE

    @property
    def written(self) -> bool:
        """True if the file is closed."""
        return self.write is not None and self.write.done

    @property
    def problem(self) -> str | None:
        """Why services cannot go on with it."""
        engines = [reconstruction.status for reconstruction in self.reconstructions.values()]
        statuses = (self.receive, *engines, self.write)
        return "; ".join(f"{status.service}: {status.failure}" for status in statuses if status and status.failure) or None

    @property
    def _reason(self) -> EndReason | None:
        """Why the scan ended: the writer, which knows what is in the file, has the last word."""
        write, said = self.write, self.end.reason if self.end else None
        if write is None:
            return said
        if write.done and write.end is None and said is EndReason.COMPLETE:  # its file has failed before
            return EndReason.INCOMPLETE
        return (write.end if write.done else None) or said or write.end

    def facts(self) -> Facts:
        """All figures."""
        receive, write, lead = self.receive, self.write, self.lead
        engine, shot, newer = lead.status or _SILENT, lead.snapshot, lead.newer
        assessment, ledger = lead.assessment, self.ledger
        ended = receive is not None and receive.done
        expected = receive.expected if receive else self.start.expected if self.start else None
        rate_hz = (finite(receive.rate_hz) or 0.0) if receive and not ended else 0.0
        left = max(expected - ledger.received, 0) if expected is not None else 0
        closed = write if write is not None and write.done else None
        lack = missing(receive, (closed.used, closed.positions) if closed else None, expected)
        own = {"error": lead.error} | {name: finite(getattr(engine, name)) for name in ("position_shift_px", "unexplained")}
        figures = assessment.figures if assessment else {}
        newest = figures | {name: value for name, value in own.items() if name in figures and value is not None}
        return Facts(
            run=self.run,
            state=self.state,
            ledger=ledger,
            expected=expected,
            announced=receive.announced if receive else None,
            complete=closed.end is EndReason.COMPLETE if closed else None,
            missing=lack.frames,
            missing_positions=lack.positions,
            gaps=lack.gaps,
            unmatched=receive.waiting if receive else None,
            positions=receive.positions if receive else None,
            rate_hz=rate_hz,
            silence_s=receive.silence_s.get("frames") if receive and not ended else None,
            eta_s=left / rate_hz if left and rate_hz > 0 else None,
            lag_s=finite(engine.lag_s),
            **own,
            updates=(newer or engine).updates,
            updates_hz=finite(engine.updates_hz) or 0.0,
            passes=engine.passes,
            device=engine.device or None,
            probe=engine.probe or None,
            trust=engine.trust or None,
            algorithm=shot.algorithm if shot else None,
            picture_frames=shot.frames_used if shot else None,
            final=shot is not None and shot.final,
            rejected=sum(receive.rejected.values()) if receive else 0,
            written=write.used if write else None,
            file=write.file if write else None,
            result=write.result if write else None,
            picture=write.picture if write else None,
            end=self._reason,
            remarks=receive.remarks if receive else (),
            write_problem=not_written(write),
            problem=self.problem,
            verdict=assessment.verdict if assessment else None,
            findings=dict(assessment.findings) if assessment else {},
            figures={name: value for name, value in newest.items() if value is not None and math.isfinite(value)},
            trusted=assessment.trusted if assessment else None,
            judged=assessment is not None and assessment.final,
        )
