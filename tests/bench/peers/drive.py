"""Builds an environment for each peer under `.bench/` and asks it for passes over the bench's frames."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.bench.scans import ROOT, BenchScan

HERE = Path(__file__).resolve().parent
REQUIREMENTS = {
    "ptylab": ["ptylab>=0.3.7"],
    "ptypy": ["ptypy @ git+https://github.com/ptycho/ptypy"],
    "ptychi": ["torch==2.13.0", "ptychi>=2.2"],
    "phaser": ["phaserEM>=0.3"],
}
"""What pip installs for each; ptypy is not on PyPI."""
ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMEXPR")} | {"MPLBACKEND": "agg"}
INSTALL_S = 1800
ANSWER_S = 900


class PeerError(Exception):
    """A peer that could not be installed or did not run; the text says why."""


@dataclass(frozen=True)
class Outcome:
    """What a peer did."""

    cpu_s: float
    """CPU time of a pass, median."""
    wall_s: float
    error: float
    """E after all passes."""
    passes: int


def environment(name: str) -> Path:
    """Python of the peer's own environment, made if it is not there. Raises :class:`PeerError`."""
    home = ROOT / ".bench" / name
    python, done = home / "bin" / "python", home / "installed.json"
    wanted = REQUIREMENTS[name]
    if done.is_file() and json.loads(done.read_text()) == wanted:
        return python
    _install([sys.executable, "-m", "venv", "--clear", str(home)])
    for upto in range(1, len(wanted) + 1):  # in order, so that what is pinned first is not replaced later
        _install([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted[:upto]])
    done.write_text(json.dumps(wanted))
    return python


def _install(command: list[str]) -> None:
    """Run a step of an installation."""
    patient = os.environ | {"GIT_TERMINAL_PROMPT": "0"}
    try:
        done = subprocess.run(command, check=False, env=patient, capture_output=True, text=True, timeout=INSTALL_S)
    except subprocess.TimeoutExpired as error:
        raise PeerError(f"not installed within {INSTALL_S} s") from error
    if done.returncode:
        raise PeerError(f"not installed: {_last_line(done.stderr)}")


def _last_line(text: str) -> str:
    """What went wrong, as far as one line tells."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith(("WARNING", "[notice]"))]
    told = [line for line in lines if line.startswith(("fatal", "ERROR"))] or lines[-1:] or ["no message"]
    return told[0][:200]


class Peer:
    """A peer's process, set up and waiting. Raises :class:`PeerError`."""

    def __init__(self, name: str, scan: BenchScan, frames: int) -> None:
        script = HERE / f"with_{name}.py"
        if not script.is_file():
            environment(name)
            raise PeerError("installed, but there is no script that runs it here")
        self.python = environment(name)
        folder = ROOT / ".bench" / "peers"
        folder.mkdir(parents=True, exist_ok=True)
        given, self.result = folder / "scan.npz", folder / f"{name}.npz"
        np.savez(given, frames=scan.counts()[:frames], corners=scan.corners[:frames], probe=scan.probe)
        self.scan, self.frames = scan, frames
        self.log = folder / f"{name}.log"
        self.times: list[dict[str, float]] = []
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [str(self.python), str(script), str(given), str(self.result)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=HERE,
                env=os.environ | ONE_THREAD,
            )
        try:
            self._answer()
        except PeerError:
            self.close()
            raise

    def _answer(self) -> dict[str, float]:
        line = self.process.stdout.readline() if self.process.stdout else ""
        if not line:
            self.process.wait(ANSWER_S)
            raise PeerError(f"did not run: {_last_line(self.log.read_text())}")
        answer: dict[str, float] = json.loads(line)
        return answer

    def ask(self, request: str) -> dict[str, float]:
        """Send a line, take the answer."""
        if self.process.stdin is None or self.process.poll() is not None:
            raise PeerError(f"has ended: {_last_line(self.log.read_text())}")
        self.process.stdin.write(request + "\n")
        self.process.stdin.flush()
        return self._answer()

    def run_pass(self) -> None:
        """One pass over all frames."""
        self.times.append(self.ask("run 1"))

    def finish(self) -> Outcome:
        """Fetch the object, end the process, and judge."""
        self.ask("save")
        self.close()
        with np.load(self.result) as stored:
            obj, offset = stored["object"], stored["offset"]
        error = self.scan.judge(obj.astype(np.complex64), (int(offset[0]), int(offset[1])), None, self.frames)
        cpu, wall = (float(np.median([t[key] for t in self.times])) for key in ("cpu_s", "wall_s"))
        return Outcome(cpu, wall, error, len(self.times))

    def close(self) -> None:
        """End the process."""
        try:
            self.process.communicate(timeout=60)  # closes what it reads from, which is its sign to end
        except (subprocess.TimeoutExpired, BrokenPipeError):
            self.process.kill()
            self.process.wait()
