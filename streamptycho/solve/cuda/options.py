"""Settings of the CUDA path."""

from typing import Literal

from pydantic import Field

from streamptycho.options import Options


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
    transform: Literal["own", "mathdx"] = "own"
    """Transforms in the fused path: our own, or NVIDIA's cuFFTDx (package nvidia-mathdx, CUDA 13)."""
    graphs: bool = True
    """Record the launches of a batch once and replay them (library path)."""
    memory_fraction: float = Field(0.9, gt=0, le=1)
    """Largest part of the card's memory that the engine takes."""
