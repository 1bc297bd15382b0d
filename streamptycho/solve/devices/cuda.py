"""The device as the launching of kernels needs it, and CuPy's version of it. `backend` hands CuPy in."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from streamptycho.solve.settings import CudaOptions

Array = Any
Kernel = Callable[[tuple[int, ...], int, Array, int], None]
"""Launch with (grid, threads of a block, the slice, bytes of shared memory)."""


class Device(Protocol):
    """Seam between the launching code and a device, so that tests can stand in for one."""

    options: CudaOptions
    multiprocessors: int
    shared_bytes: int
    """Largest shared memory of a block."""
    clusters: bool
    """True if blocks can share their shared memory (compute capability 9.0)."""

    def pointer(self, array: Array) -> int:
        """Address of an array's first element."""

    def kernel(self, code: str, options: tuple[str, ...], name: str) -> Kernel:
        """A kernel out of a source; compiled once per source and options."""

    def plan(self, field: Array) -> tuple[Callable[[], None], Callable[[], None]]:
        """Forward and inverse transform of `field` (batch, ny, nx) in place, neither normalised."""

    def ordered(self) -> AbstractContextManager[None]:
        """Work inside runs after what has been launched before, and before what is launched afterwards."""

    def send(self, target: Array, source: NDArray[Any]) -> None:
        """Copy host values, in order with the kernels; `source` may be changed at once."""

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """A replay of the launches of `work` for the price of one launch."""


class Staging:
    """Pinned memory through which host values travel; waits only when more than `SLOTS` copies are under way."""

    SLOTS = 8

    def __init__(self, xp: Any) -> None:
        self._cuda = xp.cuda
        self._memory: list[Any] = [None] * self.SLOTS
        self._sizes = [0] * self.SLOTS
        self._done: list[Any] = [None] * self.SLOTS
        self._next = 0

    def copy(self, target: Array, source: NDArray[Any], stream: Any) -> Any:
        """Copy `source` to the contiguous `target` of the same size on `stream`; returns the event of its end."""
        slot = self._next
        self._next = (slot + 1) % self.SLOTS
        if self._done[slot] is not None:
            self._done[slot].synchronize()
        if self._sizes[slot] < source.nbytes:
            self._sizes[slot] = source.nbytes
            self._memory[slot] = self._cuda.alloc_pinned_memory(source.nbytes)
        memory = self._memory[slot]
        np.frombuffer(memory, source.dtype, source.size)[:] = source.ravel()
        target.data.copy_from_host_async(memory.ptr, source.nbytes, stream)
        self._done[slot] = stream.record()
        return self._done[slot]


class CupyDevice:
    """A :class:`Device` through CuPy: `xp` is the module, `get_fft_plan` that of cupyx.scipy.fft."""

    def __init__(self, xp: Any, get_fft_plan: Callable[..., Any], options: CudaOptions) -> None:
        self.options = options
        self._xp = xp
        self._get_fft_plan = get_fft_plan
        card = xp.cuda.Device(options.device)
        self.multiprocessors = int(card.attributes["MultiProcessorCount"])
        self.shared_bytes = int(card.attributes["MaxSharedMemoryPerBlockOptin"])
        self.clusters = int(card.attributes["ComputeCapabilityMajor"]) >= 9
        self._stream = xp.cuda.Stream(non_blocking=True)
        self._uploads = xp.cuda.Stream(non_blocking=True)
        self._tables, self._frames = Staging(xp), Staging(xp)
        self._modules: dict[tuple[str, tuple[str, ...]], Any] = {}

    def pointer(self, array: Array) -> int:
        """See :class:`Device`."""
        return int(array.data.ptr)

    def kernel(self, code: str, options: tuple[str, ...], name: str) -> Kernel:
        """See :class:`Device`; CuPy keeps the compiled code on disk."""
        module = self._modules.setdefault((code, options), self._xp.RawModule(code=code, options=options))
        function = module.get_function(name)

        def launch(grid: tuple[int, ...], threads: int, argument: Array, shared_bytes: int) -> None:
            if shared_bytes > 48 * 1024:  # more must be asked for
                function.max_dynamic_shared_size_bytes = shared_bytes
            function(grid, (threads,), (argument,), shared_mem=shared_bytes)

        return launch

    def plan(self, field: Array) -> tuple[Callable[[], None], Callable[[], None]]:
        """See :class:`Device`; called directly, the plan allocates nothing, which a recording needs."""
        plan = self._get_fft_plan(field, axes=(1, 2), value_type="C2C")
        return lambda: plan.fft(field, field, -1), lambda: plan.fft(field, field, 1)

    @contextmanager
    def ordered(self) -> Iterator[None]:
        """See :class:`Device`: on a stream of its own, since CUDA's default stream cannot be recorded."""
        outside = self._xp.cuda.get_current_stream()
        self._stream.wait_event(outside.record())
        with self._stream:
            yield
        outside.wait_event(self._stream.record())

    def send(self, target: Array, source: NDArray[Any]) -> None:
        """See :class:`Device`."""
        self._tables.copy(target, source, self._xp.cuda.get_current_stream())

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """See :class:`Device`: a CUDA graph. `work` runs once beforehand, since loading code cannot be recorded."""
        stream = self._xp.cuda.get_current_stream()
        work()
        stream.begin_capture()
        work()
        graph = stream.end_capture()
        return lambda: graph.launch(stream)

    def upload(self, target: Array, source: NDArray[Any], *, fresh: bool) -> None:
        """Copy a frame while kernels run; whatever is launched later sees it.

        `fresh`: nothing launched before this reads or writes `target`; else the copy waits for it.
        """
        stream = self._xp.cuda.get_current_stream()
        if not fresh:
            self._uploads.wait_event(stream.record())
        stream.wait_event(self._frames.copy(target, source, self._uploads))
