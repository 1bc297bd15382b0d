"""The CUDA sources as text, for NVRTC; no headers are included, so that no toolkit needs to be found."""

from dataclasses import dataclass
from importlib.resources import files

LIBRARY = ("common.cuh", "batch.cu")
ON_CHIP = ("common.cuh", "transform.cuh", "fused.cu")
CHUNKS = 16
"""Blocks that share the projection of one frame in the library path."""
SUMS = 5
"""As in common.cuh."""
THREADS = 256
FUSED_THREADS = 512


@dataclass(frozen=True, slots=True)
class FusedKernel:
    """What a fused kernel asks of the device."""

    name: str
    side: int
    """Frames are side x side."""
    team: int
    """Blocks of one cluster that share a frame."""

    @property
    def shared_bytes(self) -> int:
        """Shared memory of a block: sums, roots of unity, its part of the tile."""
        return 4 * 32 * SUMS + 8 * self.side + 8 * self.side**2 // self.team


FUSED = {(k.side, k.side): k for k in (FusedKernel("fused_64", 64, 1), FusedKernel("fused_128", 128, 1), FusedKernel("fused_256", 256, 4))}


def text(names: tuple[str, ...], primitives: str | None = None) -> str:
    """The sources of :data:`LIBRARY` or :data:`ON_CHIP` in one; `primitives` instead of device.cuh for another machine."""
    folder = files(__package__)
    parts = [folder.joinpath("device.cuh").read_text("utf-8") if primitives is None else primitives]
    return "\n".join(parts + [folder.joinpath(name).read_text("utf-8") for name in names])


def options(modes: int) -> tuple[str, ...]:
    """Compiler options for a probe of so many modes."""
    return ("--std=c++17", f"-DMODES={modes}", f"-DCHUNKS={CHUNKS}")
