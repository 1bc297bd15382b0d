"""The engine's settings, each with the part that it belongs to."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from streamptycho.options import Options
from streamptycho.solve.cores import MOST_THREADS
from streamptycho.solve.cuda.options import CudaOptions
from streamptycho.solve.positions_options import PositionRefinement
from streamptycho.solve.refiner_options import DifferenceMapOptions, LsqmlOptions, Method
from streamptycho.solve.rule_options import RuleOptions

if TYPE_CHECKING:  # settings are read by processes that compute nothing: what computes is imported when it is made
    from streamptycho.solve.backend import Backend


class EngineOptions(Options):
    """How the object is reconstructed."""

    backend: Literal["auto", "cpu", "numpy", "cupy"] = "auto"
    """What computes; auto takes a GPU where one works, else compiled CPU code."""
    cuda: CudaOptions = CudaOptions()
    """How a GPU is used."""
    threads: Literal["auto"] | Annotated[int, Field(ge=1, le=MOST_THREADS)] = "auto"
    """Threads of the compiled updates; auto: one for each core, four at most. 1 makes the same picture from the same
    frames and number of updates every time, more only up to the order of the updates."""
    fft: Literal["rocket", "fftw", "mkl"] = "rocket"
    """Library of the compiled transforms. FFTW (GPL) and MKL (proprietary) are faster; each needs the extra of its name."""
    probe: Literal["file", "previous", "auto"] = "file"
    """file: the probe that came with the scan where there is one, else the last trusted one of the same geometry, else one
    found in the data; previous: the last trusted one first; auto: always one found in the data."""
    modes: int = Field(1, ge=1, le=8)
    """Mutually incoherent probe modes, for partial coherence and motion during the exposure."""
    rule: RuleOptions = RuleOptions()
    flux: bool = False
    """Estimate the intensity of each frame: for a beam whose current or shutter makes it jump."""
    background: bool = False
    """Estimate an incoherent intensity common to all frames: air scatter, stray light, light that is partly coherent."""
    constraints: bool = True
    """Keep phase ramps and runaway amplitudes out of the object, and a given probe in the middle of its window."""
    positions: PositionRefinement = PositionRefinement()
    slice_updates: int = Field(50, ge=1)
    """Updates between two looks at the clock and at the stream."""
    search_frames: int = Field(24, ge=8)
    """Frames with which a search for a probe can be certain; again with twice as many while it is not. A first look is
    taken with six, so that a slow scan shows something."""
    polish: Method = "rule"
    """How passes after the last frame go on: rule (the live one, annealing on), epie, rpie, lsqml, or dm."""
    lsqml: LsqmlOptions = LsqmlOptions()
    dm: DifferenceMapOptions = DifferenceMapOptions()
    polish_passes: int = Field(40, ge=0)
    """Passes over all frames after the last one, at most. Every frame is used once in any case."""
    polish_tolerance: float = Field(0.003, ge=0)
    """Polishing ends when the Fourier error falls by less than this fraction per pass, over five passes; 0: only after
    `polish_passes`."""
    max_object_pixels: int = Field(1 << 26, ge=1 << 16)
    """Largest canvas; frames whose position lies beyond it are not used."""
    seed: int = 0
    """Fixes the order of the updates."""

    def make_backend(self) -> "Backend":
        """What computes, as chosen here; raises :class:`BackendError` if it cannot be had."""
        from streamptycho.solve.backend import choose_backend

        return choose_backend(self.backend, self.threads, self.fft, self.cuda)
