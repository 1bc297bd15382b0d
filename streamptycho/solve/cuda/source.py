"""The CUDA sources as text, for NVRTC; no headers are included, so that no toolkit needs to be found."""

from dataclasses import dataclass
from importlib.resources import files

LIBRARY = ("common.cuh", "batch.cu")
ON_CHIP = ("common.cuh", "short.cuh", "transform.cuh", "fused.cu")
CHUNKS = 16
"""Blocks that share the projection of one frame in the library path."""
SUMS = 5
"""As in common.cuh."""
THREADS = 256


@dataclass(frozen=True, slots=True)
class FusedKernel:
    """A variant of the fused kernel, and its demands on the device."""

    side: int
    """Frames are side x side."""
    coarse: int
    """Points of the first transforms of a line; the second ones have side / coarse."""
    team: int
    """Blocks of one cluster that share a frame."""
    threads: int

    @property
    def shared_bytes(self) -> int:
        """Shared memory of a block: sums, roots of unity, its part of the tile."""
        return 4 * 32 * SUMS + 8 * self.side + 8 * self.side**2 // self.team

    @property
    def options(self) -> tuple[str, ...]:
        """Compiler options that make this variant."""
        fine = self.side // self.coarse
        return (f"-DCOARSE={self.coarse}", f"-DFINE={fine}", f"-DBLOCKS={self.team}", f"-DTHREADS={self.threads}")


FUSED = (
    FusedKernel(64, 8, 1, 512),
    FusedKernel(128, 16, 4, 256),
    FusedKernel(128, 16, 1, 512),
    FusedKernel(256, 16, 8, 512),
    FusedKernel(256, 16, 4, 512),
)
"""Those with many blocks per frame first: with few frames at once they are faster through one."""


def text(names: tuple[str, ...], primitives: str | None = None) -> str:
    """The sources of :data:`LIBRARY` or :data:`ON_CHIP` in one; `primitives` replaces device.cuh on another machine."""
    folder = files(__package__)
    parts = [folder.joinpath("device.cuh").read_text("utf-8") if primitives is None else primitives]
    return "\n".join(parts + [folder.joinpath(name).read_text("utf-8") for name in names])


def options(modes: int) -> tuple[str, ...]:
    """Compiler options for a probe of so many modes."""
    return ("--std=c++17", f"-DMODES={modes}", f"-DCHUNKS={CHUNKS}")
