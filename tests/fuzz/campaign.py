"""Blocks of bad messages, each followed by a scan that must come out as if nothing had happened; the state of all this."""

import dataclasses
import hashlib
import json
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from streamptycho.assess.truth import compare
from streamptycho.display.known import Known
from streamptycho.display.ledger import Ledger
from streamptycho.files.bslz4 import compress
from streamptycho.files.result import read_result
from streamptycho.messages.stream import Frame
from streamptycho.wire.codec import encode
from streamptycho.wire.sockets import new_context
from streamptycho_services.processes.watch import Watcher
from streamptycho_sim.scan import SimulatedScan, SyntheticOptions
from streamptycho_sim.stream import Stream
from tests.chain import assert_frames, assert_positions, facts
from tests.fuzz.doors import Doors, StalledError
from tests.fuzz.mutations import EXAMPLES, Mutations
from tests.fuzz.rig import Apart, Rig, Together, Use, use_of

SCAN = SyntheticOptions(scan_id="good", frames=80, shape=32)
FORMS: tuple[type[Rig], ...] = (Together, Apart)
LONG_S = 90.0
RATE_HZ = 400.0
ALIKE = 0.9
"""Least correlation of a picture's phases with the object's; how far it has got by the end differs with the load."""
GROWN, GROWN_BYTES = 1.25, 64 << 20
"""How much a process may grow in the last two thirds of a session: by this factor and so much more."""
MOST_DESCRIPTORS = 40
"""More than so many descriptors above those of the first block are a leak; those of our own connections come and go."""


@dataclasses.dataclass
class State:
    """What has been done and found: enough to go on."""

    seed: int = 0
    sent: int = 0
    seconds: float = 0.0
    scans: int = 0
    counts: dict[str, int] = dataclasses.field(default_factory=dict)
    findings: list[str] = dataclasses.field(default_factory=list)
    uses: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    """What the processes held after each block."""

    @classmethod
    def load(cls, path: Path | None, seed: int) -> "State":
        """From a file, if there is one."""
        if path is None or not path.exists():
            return cls(seed=seed)
        return cls(**json.loads(path.read_text()))

    def save(self, path: Path | None) -> None:
        """In place of the former one."""
        if path is not None:
            partial = path.with_suffix(".part")
            partial.write_text(json.dumps(dataclasses.asdict(self), indent=1))
            partial.replace(path)

    def table(self) -> str:
        """All figures."""
        lines = [("messages", f"{self.sent}"), *((f"  {way}", str(n)) for way, n in sorted(self.counts.items()))]
        rate = self.sent / self.seconds if self.seconds else 0.0
        lines += [("time", f"{self.seconds:.0f} s, {rate:.0f} messages/s"), ("good scans", str(self.scans))]
        for name in sorted({name for use in self.uses for name in use["of"]}):
            of = [use["of"][name] for use in self.uses if name in use["of"]]
            rss, fds, threads = zip(*of, strict=True)
            text = f"{rss[0] >> 20} to {rss[-1] >> 20} MiB, {max(rss) >> 20} at most"
            lines.append((name, f"{text}; descriptors {max(fds)}, threads {max(threads)} at most"))
        lines.append(("findings", str(len(self.findings))))
        width = max(len(name) for name, _ in lines)
        return "\n".join(f"{name:{width}}  {value}" for name, value in lines)


@dataclasses.dataclass(frozen=True)
class Plan:
    """How much at a time."""

    block: int = 10_000
    """Messages between two good scans."""
    session: int = 250_000
    """Messages between two starts of the programs, whose form alternates."""
    examples: int = EXAMPLES


class Session:
    """One start of the programs."""

    def __init__(self, plan: Plan, state: State, path: Path | None, say: Callable[[str], None]) -> None:
        self.plan, self.state, self.path, self.say = plan, state, path, say
        self.form = FORMS[state.sent // plan.session % len(FORMS)]
        self.scan = SimulatedScan(SCAN)
        self.pixels = dict(enumerate(self.scan.counts()))
        self._ids = [f"bad-{n}" for n in range(30)]
        self._uses: list[dict[str, Use]] = []

    def run(self, messages: int) -> None:
        """Send until `messages` were sent in all, or the session is over, or nothing goes on any more."""
        over = min(messages, (self.state.sent // self.plan.session + 1) * self.plan.session)
        folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
        context = new_context()
        try:
            with self.form(folder) as self.rig:
                self.doors = Doors(context, self.rig)
                try:
                    self._blocks(context, over)
                except StalledError as error:
                    self._find(f"stalled: {error}: {self._errors()}")
                finally:
                    self.doors.close()
                self._end()
        finally:
            context.destroy(linger=0)
            shutil.rmtree(folder, ignore_errors=True)

    def _blocks(self, context: Any, over: int) -> None:
        with Watcher(context, self.rig.services()) as watcher:
            self._wait(watcher, lambda: watcher.ready, "the services")
        pids = self.rig.pids()
        self._good(context, "first")
        while self.state.sent < over:
            begun = time.monotonic()
            before = Counter(self.state.counts)
            count = min(self.plan.block, over - self.state.sent)
            random = Random(f"{self.state.seed}/{self.state.sent}")
            made = Mutations(random, self._ids, self.plan.examples)
            self.doors.counts.clear()
            for _ in range(count):
                self.doors.throw(random, made)
            self.state.sent += count
            sent_s = time.monotonic() - begun
            self.state.counts = dict(before + self.doors.counts)
            died = pids.items() - self.rig.pids().items()
            if died:
                self._find(f"died: {sorted(name for name, _ in died)}: {self._errors()}")
                return
            self._good(context, str(self.state.sent))
            self._look()
            self.state.seconds += time.monotonic() - begun
            self.state.save(self.path)
            self.say(f"{self.form.__name__} {self.state.sent}: {count / sent_s:.0f}/s, {self._said_of_uses()}")

    def _good(self, context: Any, name: str) -> None:
        """Send a good scan once what was sent before is through, and judge it."""
        # no change of a few bits makes an earlier name one to come, whose scan would take such positions for its own
        scan_id = f"good-{name}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"
        with Watcher(context, self.rig.services()) as watcher:
            self._let_settle(watcher)
            self._send(scan_id, compressed=self.state.scans % 2 == 1)
            self._wait(
                watcher, lambda: (known := watcher.known(scan_id)) is not None and known.written, f"{scan_id} in a file"
            )
            known = watcher.known(scan_id)
        self.state.scans += 1
        self._ids[:5] = [*self._ids[1:5], scan_id]
        if known is None or not known.written:
            return
        try:
            self._judge(known)
        except (AssertionError, OSError) as error:
            self._find(f"imperfect: {scan_id}: {str(error).strip()[:300]}")
        for path in self.rig.output.iterdir():
            path.unlink(missing_ok=True)

    def _let_settle(self, watcher: Watcher) -> None:
        """Wait until the receiver counts nothing new."""
        seen: list[Any] = []

        def still() -> bool:
            said = [known.receive for known in watcher.runs if known.receive is not None] + [watcher.idle.get("receive")]
            newest = max((status for status in said if status is not None), key=lambda status: status.time_ns, default=None)
            if newest is not None and (not seen or seen[-1].time_ns < newest.time_ns):
                seen.append(newest)
            counts = [(sum(status.rejected.values()), status.received) for status in seen[-3:]]
            return len(counts) == 3 and len(set(counts)) == 1

        self._wait(watcher, still, "the receiver to have taken everything")

    def _send(self, scan_id: str, *, compressed: bool) -> None:
        frames, positions = self.doors.detector()
        begun = time.monotonic()
        for k, item in enumerate(self.scan.items()):
            message = dataclasses.replace(item.message, scan_id=scan_id)
            if compressed and isinstance(message, Frame):
                message = dataclasses.replace(message, payload=compress(message.payload.decode(0)[None]))
            (frames if item.stream is Stream.FRAMES else positions).send(encode(message))
            time.sleep(max(0.0, begun + k / 2 / RATE_HZ - time.monotonic()))

    def _judge(self, known: Known) -> None:
        """Complete, bit for bit, with a picture as good as the first one. Raises AssertionError."""
        assert known.write is not None
        count = len(self.scan)
        path = Path(known.write.file or "")
        assert known.ledger == Ledger(received=count, used=count, waiting=0, dropped={}), known.ledger
        assert_frames(path, self.pixels)
        assert_positions(path, self.scan.yx_m, set(range(count)))
        found = facts(path)
        assert (found["complete"], found["missing"], found["missing_positions"]) == (1, 0, 0), found
        assert known.write.result is not None, "no picture"
        alike = self._likeness(Path(known.write.result))
        assert alike >= ALIKE, f"the picture's phases correlate with the object's by {alike:.3f} only"

    def _likeness(self, path: Path) -> float:
        result, pixel_m = read_result(path), np.array(self.scan.pixel_m)
        covered = result.covered if result.covered is not None else abs(result.object) > 0
        origin, truth_origin = (np.array(at) / pixel_m for at in (result.origin_m, self.scan.origin_m))
        agreement = compare(result.object, covered, tuple(origin), self.scan.obj, self.scan.support, tuple(truth_origin))
        assert agreement is not None, "the picture shows nothing of the object"
        return agreement.phase_correlation

    def _wait(self, watcher: Watcher, condition: Callable[[], bool], what: str) -> None:
        until = time.monotonic() + LONG_S
        while not condition():
            if time.monotonic() > until:
                self._find(f"waited {LONG_S:g} s in vain for {what}")
                return
            watcher.poll(0.05)

    def _look(self) -> None:
        """What the processes hold after this block, and whether that grows."""
        uses = {name: use_of(pid) for name, pid in self.rig.pids().items()}
        self._uses.append(uses)
        of = {name: dataclasses.astuple(use) for name, use in uses.items()}
        self.state.uses.append({"sent": self.state.sent, "form": self.form.__name__, "of": of})
        first = self._uses[0]
        for name, use in uses.items():
            if use.descriptors > first[name].descriptors + MOST_DESCRIPTORS:
                self._find(f"descriptors: {name} has {use.descriptors}, {first[name].descriptors} after the first block")

    def _said_of_uses(self) -> str:
        return ", ".join(f"{name} {use.rss_bytes >> 20} MiB {use.descriptors} fds" for name, use in self._uses[-1].items())

    def _end(self) -> None:
        """End the programs, and look back at what they held and said."""
        if len(self._uses) >= 6:
            early, last = self._uses[len(self._uses) // 3], self._uses[-1]
            for name, use in last.items():
                if use.rss_bytes > GROWN * early[name].rss_bytes + GROWN_BYTES:
                    self._find(f"memory: {name} grew from {early[name].rss_bytes >> 20} to {use.rss_bytes >> 20} MiB")
        codes = self.rig.end()
        if set(codes) - {0, 4}:
            self._find(f"exit codes {codes}")
        said = self.rig.said()
        if any(sign in said for sign in ("Traceback", "is started again", "Assertion failed")):
            self._find(f"said: {self._errors()}")

    def _errors(self) -> str:
        """What the programs said last of what they could not cope with."""
        signs = ('"level": "error"', '"level": "critical"', "is started again")
        return "\n".join(line for line in self.rig.said().splitlines() if any(sign in line for sign in signs))[-6000:]

    def _find(self, text: str) -> None:
        self.state.findings.append(f"{self.form.__name__} {self.state.sent}: {text}")
        self.say(self.state.findings[-1])


def campaign(plan: Plan, state: State, messages: int, path: Path | None, say: Callable[[str], None]) -> None:
    """Go on until so many messages were sent in all; `state` is kept in `path`."""
    while state.sent < messages:
        before = state.sent
        Session(plan, state, path, say).run(messages)
        state.save(path)
        if state.sent == before:
            return
