"""Launches the kernels: a slice of updates in dependent batches, without waiting for the device."""

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from streamptycho.errors import BackendError
from streamptycho.solve.cuda import source
from streamptycho.solve.devices.backend import Array, Backend
from streamptycho.solve.devices.cuda import Device, Kernel
from streamptycho.solve.frames import Frames, Model, Outcome, Steps

HEADER = 26
"""Words of 8 bytes in the struct Slice of common.cuh; steps, rows and corners follow it."""


class Scratch:
    """Device memory that lasts from slice to slice, for `batch` frames at once; shapes in common.cuh."""

    def __init__(self, xp: Array, probe_shape: tuple[int, int, int], batch: int) -> None:
        modes, ny, nx = probe_shape
        self.field = xp.zeros((batch * modes, ny, nx), xp.complex64)
        self.old = xp.zeros((max(batch, modes), ny, nx), xp.complex64)
        self.gradient = xp.zeros(probe_shape, xp.complex64)
        self.strength = xp.zeros((ny, nx), xp.float32)
        self.power = xp.zeros((ny, nx), xp.float32)
        self.tops = xp.zeros(4, xp.float32)
        self.partial = xp.zeros((batch, source.CHUNKS, source.SUMS), xp.float32)
        self.cursor = xp.zeros(4, xp.uint32)
        self.roots = xp.asarray(np.exp(-2j * np.pi * np.arange(nx) / nx).astype(np.complex64))


class CudaSweep:
    """Updates from batches of frames; one per reconstruction, since it keeps scratch memory."""

    def __init__(self, backend: Backend, device: Device) -> None:
        self._xp = backend.xp
        self._device = device
        self.batch = device.options.racing_updates
        self._probe_shape = (0, 0, 0)
        self._cover: Array = None
        self._table: Array = None
        self._steps: Callable[[int], None]

    def __call__(self, model: Model, frames: Frames, steps: Steps, outcome: Outcome) -> None:
        """:func:`streamptycho.solve.equations.batch.sweep`, `batch` frames at once."""
        if not len(frames):
            return
        arrays = (
            model.object, model.probe, frames.amplitudes, frames.flux, frames.background, outcome.misfit, outcome.figures,
        )  # fmt: skip
        for array in arrays:
            if not array.flags.c_contiguous:
                raise ValueError(f"array of shape {array.shape}: the CUDA kernels need it contiguous in memory")
        fresh = self._make_room(model.object, model.probe.shape, len(frames))
        strengths = steps.strengths
        if self.batch > 1:
            strengths = strengths.copy()
            learning = strengths[:, 1] > 0
            strengths[learning, 1] = np.maximum(strengths[learning, 1], self._device.options.batch_probe_step)
        with self._device.ordered():
            if fresh:
                self._send(arrays, frames.corners[:0], frames.rows[:0], strengths[:0])
                self._prepare_path()
            self._send(arrays, frames.corners, frames.rows, strengths)
            self._steps(len(frames))

    def _make_room(self, obj: Array, probe_shape: tuple[int, int, int], count: int) -> bool:
        """True if the launches must be prepared again."""
        xp = self._xp
        if self._cover is None or self._cover.size != 2 * obj.size:
            self._cover = xp.zeros(2 * obj.size, xp.float32)
        words = HEADER + 5 * count
        fresh = self._table is None or self._table.size < words or self._probe_shape != probe_shape
        if fresh:
            self._table = xp.zeros(2 * words, xp.int64)
            self._scratch = Scratch(xp, probe_shape, self.batch)
            self._probe_shape = probe_shape
        return fresh

    def _send(
        self, arrays: tuple[Array, ...], corners: NDArray[np.int64], rows: NDArray[np.int64], strengths: NDArray[np.float32]
    ) -> None:
        pointer, n, obj, made = self._device.pointer, len(rows), arrays[0], self._scratch
        start = pointer(self._table) + 8 * HEADER
        words = np.empty(HEADER + 5 * n, np.int64)
        words[:HEADER] = [
            *(pointer(array) if array.size else 0 for array in arrays),
            *map(pointer, (made.field, made.old, made.gradient, made.strength, self._cover, made.power, made.tops)),
            *map(pointer, (made.partial, made.cursor, made.roots)),
            *(start, start + 16 * n, start + 24 * n),
            *(obj.shape[1], obj.size, n, self.batch, *self._probe_shape[1:]),
        ]
        words[HEADER : HEADER + 2 * n].view(np.float32)[:] = strengths.ravel()
        words[HEADER + 2 * n : HEADER + 3 * n] = rows
        words[HEADER + 3 * n :] = corners.ravel()
        self._device.send(self._table[: len(words)], words)

    def _prepare_path(self) -> None:
        """Compile, and fix what :attr:`_steps` does for a slice."""
        kernel = choose_fused(self._device, self._probe_shape)
        library = source.text(source.LIBRARY), source.options(self._probe_shape[0])
        prepare, finish = (self._over_pixels(self._device.kernel(*library, name)) for name in ("prepare", "finish"))
        if kernel is None:
            batch = self._library_batch(*library)
            prepare()  # a recording begins with running it
            replay = self._device.record(batch) if self._device.options.graphs else batch

            def middle(count: int) -> None:
                for _ in range(-(-count // self.batch)):
                    replay()
        else:
            options = source.options(self._probe_shape[0]) + kernel.options
            launch = self._device.kernel(source.text(source.ON_CHIP), options, "fused")
            grid, shared = (self.batch * kernel.team,), kernel.shared_bytes

            def middle(count: int) -> None:
                launch(grid, kernel.threads, self._table, shared)

        def steps(count: int) -> None:
            prepare()
            middle(count)
            finish()

        self._steps = steps

    def _over_pixels(self, launch: Kernel) -> Callable[[], None]:
        _, ny, nx = self._probe_shape
        return partial(launch, (-(-ny * nx // source.THREADS),), source.THREADS, self._table, 4 * 32 * source.SUMS)

    def _library_batch(self, code: str, options: tuple[str, ...]) -> Callable[[], None]:
        """The launches of one batch; which one it is, the kernels count themselves."""
        expose, project, apply = (self._device.kernel(code, options, name) for name in ("expose", "project", "apply"))
        forward, inverse = self._device.plan(self._scratch.field)
        exposing, applying = self._over_pixels(expose), self._over_pixels(apply)
        chunks = (source.CHUNKS, self.batch)

        def batch() -> None:
            exposing()
            forward()
            project(chunks, source.THREADS, self._table, 4 * 32 * source.SUMS)
            inverse()
            applying()

        return batch


def choose_fused(device: Device, probe_shape: tuple[int, int, int]) -> source.FusedKernel | None:
    """The fused kernel for this shape, or None; raises :class:`BackendError` if the options insist on an impossible one."""
    if device.options.path == "library":
        return None
    shape = probe_shape[1:]
    sides = sorted({kernel.side for kernel in source.FUSED})
    obstacle = f"frames are {shape[0]} x {shape[1]}, not {', '.join(f'{n} x {n}' for n in sides)}"
    for kernel in source.FUSED:
        if shape == (kernel.side, kernel.side):
            obstacle = _obstacle(device, kernel)
            if not obstacle:
                return kernel
    if device.options.path == "fused":
        raise BackendError(f"engine.cuda.path: fused is impossible: {obstacle}; choose auto")
    return None


def _obstacle(device: Device, kernel: source.FusedKernel) -> str:
    """Why this kernel cannot run here; empty if it can."""
    blocks = device.options.racing_updates * kernel.team
    # blocks wait for each other, so all must run at once; clusters do not fill every group of multiprocessors
    places = device.multiprocessors if kernel.team == 1 else device.multiprocessors * 3 // 4
    if kernel.team > 1 and not device.clusters:
        return "the device has no clusters of blocks"
    if kernel.shared_bytes > device.shared_bytes:
        return f"it takes {kernel.shared_bytes} bytes of shared memory per block, the device has {device.shared_bytes}"
    if blocks > places:
        return f"its {blocks} blocks must run at once, and the device has room for {places}"
    return ""
