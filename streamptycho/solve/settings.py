"""Settings of the engine. They are read by processes that compute nothing, and so import nothing that computes."""

import math
from typing import Annotated, Literal, Self

from pydantic import Field

from streamptycho.options import Options
from streamptycho.solve.polish.options import PolishOptions


class CudaOptions(Options):
    """How a CUDA device is used; the CPU ignores it."""

    device: int = Field(0, ge=0)
    """Number of the card."""
    racing_updates: int = Field(8, ge=1, le=256)
    """Frames that are used at once, all on the same object and probe; the next ones build on their outcome. 1 is what the
    CPU does; large batches learn much less from each frame."""
    batch_probe_step: float = Field(0.5, ge=0, le=1)
    """The probe's step does not decay below this when frames are used at once: a batch gives the probe one averaged step
    where single frames give it many."""
    path: Literal["auto", "library", "fused"] = "auto"
    """library: batched cuFFT between kernels, any shape of frames; fused: all in one kernel, frames of 64, 128 or (from
    compute capability 9.0) 256 pixels squared; auto: fused where it can be."""
    graphs: bool = True
    """Record the launches of a batch once and replay them (library path)."""
    memory_fraction: float = Field(0.9, gt=0, le=1)
    """Largest part of the card's memory that the engine takes."""


class RuleOptions(Options):
    """Strength of the updates."""

    algorithm: Literal["streaming", "rpie", "epie"] = "streaming"
    """The whole rule below (streaming), or plain rPIE (`gamma_object` and `object_step` throughout) or ePIE (the same with
    gamma 1): constant object step, no momentum, no correction and no fill. The probe step falls as set in each case."""
    gamma_object: float = Field(0.2, gt=0, le=1)
    """Regularisation of the object's weight for fresh frames; 1 is plain ePIE throughout."""
    gamma_probe: float = Field(1.0, gt=0, le=1)
    """The same for the probe."""
    object_step: float = Field(1.0, gt=0, le=1)
    """Object step for fresh frames."""
    settled_object_step: float = Field(0.5, gt=0, le=1)
    """Object step for frames visited very often."""
    probe_step: float = Field(1.0, ge=0, le=1)
    """Probe step at the start, from a probe that was guessed; 0 keeps the probe."""
    given_probe_step: float = Field(0.7, ge=0, le=1)
    """The same from a probe that came with the scan: the beam may have drifted since. `probe_step` limits it."""
    settled_probe_step: float = Field(0.1, ge=0, le=1)
    """Probe step at the end."""
    probe_memory: float = Field(1000, gt=0)
    """Updates over which the probe step falls to a half."""
    anneal_visits: float = Field(32, gt=0)
    """Visits of a frame over which the rule turns to plain ePIE."""
    momentum: bool = True
    """Momentum of the smooth part of the object."""
    correction: bool = True
    """Correction of the smooth phase from the patterns' centres of mass."""
    correction_visits: float = Field(6, gt=0)
    """Visits of a frame after which its part in the correction is halved. It then falls with their square: residuals that no
    object explains must not wind up."""
    warm_fill: bool = True
    """Continue the known object smoothly into newly covered area."""

    def resolved(self) -> Self:
        """What the chosen algorithm makes of the other settings."""
        if self.algorithm == "streaming":
            return self
        plain = {"momentum": False, "correction": False, "warm_fill": False, "anneal_visits": math.inf}
        gamma = 1.0 if self.algorithm == "epie" else self.gamma_object
        return self.model_copy(update=plain | {"gamma_object": gamma})

    @property
    def name(self) -> str:
        """The algorithm in the field's words."""
        if self.algorithm != "streaming":
            return {"rpie": "rPIE", "epie": "ePIE"}[self.algorithm]
        aids = {"momentum": self.momentum, "centre-of-mass correction": self.correction}
        base = "ePIE" if self.gamma_object == 1 else "ePIE annealed from rPIE"
        return " with ".join([base, *filter(None, [" and ".join(aid for aid, on in aids.items() if on)])])


class PositionRefinement(Options):
    """Whether and how far recorded positions are corrected."""

    refine: Literal["auto", "off", "on"] = "off"
    """on: thoroughly; auto: a little, and thoroughly once positions are found to be wrong; off: never. While frames
    arrive it begins once the picture has settled."""
    max_shift_px: float | None = Field(None, gt=0)
    """Largest offset from the recorded position, drift included; a fifth of the beam's diameter where not given."""
    share: float = Field(0.2, gt=0, le=1)
    """Refined frames per update while positions seem right."""
    busy_share: float = Field(0.5, gt=0, le=1)
    """Refined frames per update when they are not, while frames arrive; afterwards it is one."""


class EngineOptions(PolishOptions):
    """How the object is reconstructed."""

    backend: Literal["auto", "cpu", "numpy", "cupy"] = "auto"
    """What computes; auto takes a GPU where one works, else compiled CPU code."""
    cuda: CudaOptions = CudaOptions()
    """How a GPU is used."""
    threads: Literal["auto"] | Annotated[int, Field(ge=1, le=16)] = "auto"
    """Threads of the compiled updates; auto: one for each core, four at most. 1 makes the same picture from the same
    frames and number of updates every time, more only up to the order of the updates."""
    fft: Literal["rocket", "fftw"] = "rocket"
    """Library of the compiled transforms. FFTW is faster, but GPL; it needs the extra of its name."""
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
    """Updates between two checks of the clock and the stream."""
    search_frames: int = Field(24, ge=8)
    """Frames with which a search for a probe can be certain; again with twice as many while it is not. A first search
    uses six, so that a slow scan shows something."""
    max_object_pixels: int = Field(1 << 26, ge=1 << 16)
    """Largest canvas; frames whose position lies beyond it are not used."""
    seed: int = 0
    """Fixes the order of the updates."""
