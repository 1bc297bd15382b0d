"""A scan for the page without reconstructing one: what the services would publish at any fraction of it.

As a program it shows itself: ``python -m tests.dashboard.show --seconds 60`` serves the page and plays two scans.
"""

import argparse
import dataclasses
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from streamptycho.assess.rings import half_bit
from streamptycho.config import Config, ServiceEndpoints
from streamptycho.messages.kinds import Message
from streamptycho.messages.live import PointState, Preview, Survey
from streamptycho.messages.reasons import ServiceState
from streamptycho.messages.results import Assessment, Snapshot
from streamptycho.messages.status import AnyStatus, ReceiveStatus, ReconstructStatus, Status, WriteStatus
from streamptycho.wire.endpoint import Endpoint, SocketKind
from streamptycho.wire.sockets import Sender, new_context
from streamptycho_services.dashboard.server import PageOptions, address_of, open_page, serve_page
from streamptycho_services.processes.runtime import Control
from streamptycho_sim.scan import SimulatedScan, SyntheticOptions
from tests.ports import free_address

BLOCK = 2000


class PageThread:
    """The page in a thread, a context manager."""

    def __init__(self, config: Config, options: PageOptions) -> None:
        access, listener = open_page(options)
        self.address = address_of(listener, access)
        self._control = Control(finish=threading.Event(), kill=threading.Event())
        self._thread = threading.Thread(target=serve_page, args=(config, access, listener, self._control), name="page")

    def __enter__(self) -> "PageThread":
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._control.finish.set()
        self._thread.join()


class Show:
    """One simulated scan and its messages."""

    def __init__(
        self, scan_id: str = "show-1", frames: int = 300, shape: int = 64, seed: int = 0, started_ns: int = 1
    ) -> None:
        self.scan = SimulatedScan(SyntheticOptions(scan_id=scan_id, frames=frames, shape=shape, seed=seed))
        self.scan_id = scan_id
        self.started_ns = started_ns
        self.frames = frames
        self.sequence = 0
        n = shape
        weight = abs(self.scan.probe[0]) ** 2
        self._footprint = weight > 0.02 * weight.max()
        second = np.roll(self.scan.probe[0], n // 16, axis=0) * np.exp(1j * np.linspace(0, 6, n))[:, None] * 0.4
        self._modes = np.concatenate([self.scan.probe[:1], second[None]]).astype(np.complex64)
        y, x = np.mgrid[:n, :n] - n // 2
        self._y, self._x = y, x
        self._counts = np.stack([np.asarray(frame, np.float32) for frame in self.scan.counts()])
        self._bright = np.hypot(y, x) < n / 4

    def reached(self, fraction: float) -> int:
        """Frames so far."""
        return max(1, round(fraction * self.frames))

    def snapshot(self, fraction: float, **changes: Any) -> Snapshot:
        """The picture: better and larger the later it is."""
        done = self.reached(fraction)
        ny, nx = self.scan.obj.shape
        covered = np.zeros((ny, nx), np.bool_)
        n = len(self._footprint)
        for y, x in self.scan.corners[:done]:
            covered[y : y + n, x : x + n] |= self._footprint
        rng = np.random.default_rng(self.sequence)
        noise = 0.25 * (1 - fraction) ** 2 + 0.02
        ramp = np.exp(0.02j * np.arange(nx)).astype(np.complex64)
        blur = rng.normal(scale=noise, size=(ny, nx)) + 1j * rng.normal(scale=noise, size=(ny, nx))
        passes = max(1, round(20 * fraction))
        self.sequence += 1
        fields: dict[str, Any] = {
            "scan_id": self.scan_id,
            "started_ns": self.started_ns,
            "sequence": self.sequence,
            "final": False,
            "time_ns": time.time_ns(),
            "frames_used": done,
            "updates": 20 * done,
            "error": 0.3 / (1 + 10 * fraction),
            "error_history": (0.3 / np.linspace(1, 1 + 10 * fraction, passes)).astype(np.float32),
            "algorithm": "streaming",
            "object": ((self.scan.obj + blur) * ramp).astype(np.complex64),
            "covered": covered,
            "probe": self._modes,
            "origin_m": self.scan.origin_m,
            "pixel_m": self.scan.pixel_m,
        }
        return Snapshot(**(fields | changes))

    def survey(self, fraction: float) -> list[Survey]:
        """All points: the last ten wait, one of fifty was refused, one of thirty lost, and the rest is planned."""
        done = self.reached(fraction)
        rows = np.arange(self.frames)
        state = np.where(rows < done - 10, PointState.USED, PointState.WAITING)
        odd = [rows >= done, rows % 30 == 17, rows % 50 == 23]
        state = np.select(odd, [PointState.PLANNED, PointState.LOST, PointState.REFUSED], state).astype(np.uint8)
        inside = state <= PointState.USED
        counts = self._counts
        total = np.maximum(counts.sum(axis=(1, 2)), 1)
        centre = np.stack([(counts * axis).sum(axis=(1, 2)) / total for axis in (self._y, self._x)], axis=1)
        dark = (counts * ~self._bright).sum(axis=(1, 2))
        return [
            Survey(
                scan_id=self.scan_id,
                started_ns=self.started_ns,
                time_ns=time.time_ns(),
                known=int(inside.sum()),
                index=np.arange(rows.start, min(rows.stop, self.frames)),
                yx_m=self.scan.yx_m[rows],
                counts=np.where(inside, total, 0)[rows].astype(np.float32),
                dark_field=np.where(inside, dark, 0)[rows].astype(np.float32),
                centre_px=np.where(inside[:, None], centre, 0)[rows].astype(np.float32),
                state=state[rows],
            )
            for rows in (slice(first, first + BLOCK) for first in range(0, self.frames, BLOCK))
        ]

    def preview(self, fraction: float) -> Preview:
        """The newest pattern, with a gap and a saturated pixel."""
        i = self.reached(fraction) - 1
        pattern = self._counts[i]
        n = len(pattern)
        valid = np.ones((n, n), np.bool_)
        valid[:, n // 3 : n // 3 + 2] = False
        return Preview(
            scan_id=self.scan_id,
            started_ns=self.started_ns,
            time_ns=time.time_ns(),
            index=i,
            pattern=pattern,
            valid=valid,
            saturated=pattern == pattern.max(),
            binning=1,
            centre_px=(n / 2, n / 2),
            crop_px=(2, 2),
            crop_shape_px=(n - 4, n - 4),
        )

    def assessment(self, fraction: float) -> Assessment:
        """A verdict with a curve; with a finding in the middle of the scan."""
        finest = 1 / (2 * self.scan.pixel_m[0])
        rings = np.arange(60)
        frequency = (rings / 59 * finest).astype(np.float32)
        resolution_m = self.scan.pixel_m[0] * (6 - 3.5 * fraction)  # the period at which the curve is half a bit
        limit = half_bit(np.pi * rings)[round(59 / finest / resolution_m)]
        ring = 1 / (1 + np.exp((frequency - 1 / resolution_m) / finest * 20) * (1 - limit) / limit)
        bad = 0.3 < fraction < 0.6
        return Assessment(
            scan_id=self.scan_id,
            started_ns=self.started_ns,
            time_ns=time.time_ns(),
            verdict="The overlap is too small for a picture that can be trusted." if bad else "The picture is converging.",
            findings={"overlap": "Neighbouring points share 31 % of the beam; make the steps smaller than 400 nm."}
            if bad
            else {},
            figures={
                "resolution_m": resolution_m,
                "covered_fraction": fraction,
                "covered_m2": 3.1e-11 * fraction,
                "overlap": 0.31 if bad else 0.68,
                "step_m": 4.1e-7,
                "probe_change_per_s": 0.0123,
                "photons_per_frame": float(self._counts[0].sum()),
            },
            frequency_per_m=frequency,
            ring_correlation=ring.astype(np.float32),
            trusted=not bad,
        )

    def statuses(self, fraction: float, *, done: bool = False) -> list[AnyStatus]:
        """One of each service."""
        reached = self.reached(fraction)
        used, lost = max(reached - 10, 0) if not done else reached, reached // 100
        used = max(0, min(used, reached - lost))
        state = ServiceState.DONE if done else ServiceState.RECONSTRUCTING
        common = {"scan_id": self.scan_id, "started_ns": self.started_ns, "time_ns": time.time_ns()}
        receiving = ServiceState.RECEIVING if fraction < 1 and not done else ServiceState.DONE
        in_engine = reached - lost
        return [
            ReceiveStatus(
                state=receiving,
                received=reached,
                used=in_engine,
                dropped={"duplicate": lost},
                rate_hz=98.2,
                unique=reached - lost,
                expected=self.frames,
                positions=max(reached - 2, 0),
                **common,
            ),
            ReconstructStatus(
                state=state,
                received=in_engine,
                used=used,
                waiting=in_engine - used,
                error=float("nan") if fraction < 0.05 else 0.3 / (1 + 10 * fraction),
                updates=20 * used,
                updates_hz=5200.0,
                passes=round(20 * fraction),
                lag_s=0.18,
                device="2 cores",
                probe="found in the data",
                trust="confident",
                **common,
            ),
            WriteStatus(state=state, received=reached, used=reached, file=f"{self.scan_id}.cxi", **common),
        ]

    def everything(self, fraction: float, *, final: bool = False) -> list[Message]:
        """All that would be published about now."""
        snapshot = self.snapshot(fraction, final=final)
        rest = [self.preview(fraction), *self.survey(fraction), self.assessment(fraction)]
        return [*self.statuses(fraction, done=final), snapshot, *rest]


class Stage:
    """The three display sockets, bound; a context manager."""

    def __init__(self) -> None:
        self.services = ServiceEndpoints(**{name: free_address() for name in ServiceEndpoints.addresses()})
        self.config = Config(services=self.services)

    def __enter__(self) -> "Stage":
        self._context = new_context()
        names = ("display_receive", "display_reconstruct", "display_write")
        self._senders = {
            name: Sender(
                self._context, Endpoint(address=getattr(self.services, name), socket=SocketKind.PUB, bind=True), linger_s=0
            )
            for name in names
        }
        return self

    def __exit__(self, *exc: object) -> None:
        for sender in self._senders.values():
            sender.close()
        self._context.term()

    def wait(self) -> None:
        """Until the page has subscribed."""
        for sender in self._senders.values():
            assert sender.wait_for_peer(10)

    def send(self, *messages: Message) -> None:
        """Publish where the message belongs."""
        for message in messages:
            service = message.service if isinstance(message, Status) else "reconstruct"
            self._senders[f"display_{service}"].send(message)


def main() -> None:
    """Serve the page and play scans."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--frames", type=int, default=900)
    parser.add_argument("--shape", type=int, default=128)
    parser.add_argument("--port", type=int, default=8000)
    given = parser.parse_args()
    with Stage() as stage, PageThread(stage.config, PageOptions(port=given.port)) as page:
        print(page.address, Path.cwd(), flush=True)
        shows = [Show(f"show-{i}", given.frames, given.shape, i, started_ns=time.time_ns() + i) for i in (1, 2)]
        stage.wait()
        for show in shows:
            begun = time.monotonic()
            while (fraction := 2 * (time.monotonic() - begun) / given.seconds) < 1:
                stage.send(*show.everything(fraction))
                time.sleep(0.4)
            stage.send(*show.everything(1.0, final=True))
            stage.send(*(dataclasses.replace(status, time_ns=1) for status in show.statuses(1.0, done=True)))


if __name__ == "__main__":
    main()
