"""What a reconstruction came to, for people and programs."""

import io
import sys
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from streamptycho.display.ledger import Ledger
from streamptycho.display.phase import displayed_phase
from streamptycho.display.sheet import sheet
from streamptycho.errors import ScanError
from streamptycho.files.outcome import Outcome
from streamptycho.files.result import write_result
from streamptycho.messages.reasons import EndReason
from streamptycho.messages.results import Estimates


@dataclass(eq=False, repr=False)
class Result:
    """A picture, how far it can be trusted, and what was found beside it. Raises ScanError where there is no picture."""

    outcome: Outcome
    """All of it as messages, as the files keep it."""
    finished: bool
    """False if the reconstruction was interrupted, ran out of its time, or goes on."""

    def __post_init__(self) -> None:
        outcome = self.outcome
        self.frames = outcome.ledger or Ledger()
        """Where every frame went: received, used, waiting, dropped by reason."""
        if outcome.snapshot is None or outcome.assessment is None:
            dropped = ", ".join(f"{n} {reason}" for reason, n in self.frames.dropped.items())
            raise ScanError(
                f"{outcome.start.scan_id}: no picture of {self.frames.received} frames ({dropped or 'none computed yet'}); "
                "check positions and masks, or compute longer"
            )
        self._snapshot = snapshot = outcome.snapshot
        self.object = snapshot.object
        """(ny, nx) complex64 transmission, 0 where the beam has not been."""
        self.covered = snapshot.covered
        """(ny, nx) True where the beam has been."""
        self.probe = snapshot.probe
        """(modes, n, n) complex64, strongest mode first; sum |probe|^2 is the counts of a frame."""
        self.pixel_m = snapshot.pixel_m
        """Pixel (y, x) of object and probe, metres."""
        self.origin_m = snapshot.origin_m
        """Centre of object pixel [0, 0] (y, x) in the coordinates of the positions, metres."""
        self.error = snapshot.error
        """Fourier error sum (|model| - sqrt(I))^2 / sum I at the end."""
        self.error_history = snapshot.error_history
        """(k,) the same after each pass over the frames."""
        self.algorithm = snapshot.algorithm
        """What was done."""
        self.assessment = assessment = outcome.assessment
        """Verdict, findings, figures and the ring correlation behind the resolution."""
        self.verdict = assessment.verdict
        """One sentence on how good the picture is."""
        self.findings = assessment.findings
        """What is wrong, gravest first: code to a sentence with reason and remedy."""
        self.figures = assessment.figures
        """The numbers behind verdict and findings, see docs/quality.md."""
        self.resolution_m = assessment.figures.get("resolution_m", float("nan"))
        """Period up to which two halves of the frames agree, metres; NaN where not known."""
        self.trusted = assessment.trusted
        """True if nothing says that the picture is wrong."""
        self.estimates = outcome.estimates
        """Flux of each frame, background, mode powers, trust of the probe; None while the probe is being looked for."""
        self.interrupted = outcome.end is not None and outcome.end.reason is EndReason.INTERRUPTED
        """True if Ctrl-C, or the stop button of a notebook, ended the reconstruction early."""

    @property
    def phase_rad(self) -> NDArray[np.float32]:
        """(ny, nx) phase without the ramp and constant that ptychography cannot know; NaN where not covered."""
        return displayed_phase(self.object, self.covered)

    @property
    def positions(self) -> Estimates:
        """Where the beam was: `index`, `recorded_yx_m`, `refined_yx_m`. Raises ScanError where that is not known yet."""
        if self.estimates is None:
            raise ScanError(f"{self.outcome.start.scan_id}: no positions were kept with this result")
        return self.estimates

    def picture(self) -> Image:
        """Phase with a scale bar, probe, error, and the verdict below."""
        return sheet(self._snapshot, self.assessment, finished=self.finished)

    def show(self) -> None:
        """Show the picture: in the notebook, or else in a window of the system's viewer."""
        if "ipykernel" in sys.modules:
            sys.modules["IPython"].display.display(self.picture())
        else:
            self.picture().show()

    def save(self, path: str | PathLike[str]) -> None:
        """Write the result file (HDF5, see docs/files.md); an earlier result of that name is replaced.

        A ``.png`` is the picture only. Raises ScanError naming the path if it cannot be written.
        """
        path = Path(path)
        if path.suffix.lower() != ".png":
            write_result(path, self.outcome)
            return
        try:
            self.picture().save(path)
        except OSError as error:
            raise ScanError(f"{path}: the picture cannot be written ({error}); write elsewhere") from error

    def _repr_png_(self) -> bytes:
        stream = io.BytesIO()
        self.picture().save(stream, format="PNG")
        return stream.getvalue()

    def __repr__(self) -> str:
        ny, nx = self.object.shape
        y_m, x_m = self.pixel_m
        lines = [
            f"Result of {self.outcome.start.scan_id!r}{'' if self.finished else ', unfinished'}: {self.verdict}",
            f"  object {ny} x {nx}, pixel {y_m * 1e9:.4g} x {x_m * 1e9:.4g} nm; probe modes: {len(self.probe)}",
            f"  Fourier error {self.error:.5f} after {len(self.error_history)} passes; "
            + ("trusted" if self.trusted else "NOT to be trusted"),
        ]
        return "\n".join([*lines, *(f"  {code}: {text}" for code, text in self.findings.items())])
