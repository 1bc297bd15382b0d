"""The few operations on which NumPy and CuPy differ. The only import of cupy.

Everything else in `solve` is written with operators, array methods and ``backend.xp`` functions that both libraries spell
alike. Nothing here waits for the device except :meth:`Backend.to_host` and :meth:`Backend.synchronize`.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeAlias

import numpy as np
import scipy.fft
import scipy.ndimage
from numpy.typing import NDArray

from streamptycho.errors import BackendError
from streamptycho.solve.devices.cores import usable_threads
from streamptycho.solve.devices.cuda import CupyDevice, Device
from streamptycho.solve.settings import CudaOptions, EngineOptions

Array: TypeAlias = Any
"""An array of either library; a union type is not worth the fight."""


@dataclass(frozen=True, slots=True)
class Backend:
    """Array library and the operations that need a library of their own."""

    name: str
    device: str
    """``CPU`` or the name of the card, for display."""
    xp: Any
    fft2: Callable[[Array], Array]
    """Orthonormal 2-D transform of the last two axes; may overwrite its argument."""
    ifft2: Callable[[Array], Array]
    gaussian_filter: Callable[..., Array]
    to_host: Callable[[Array], Any]
    synchronize: Callable[[], None]
    cuda: Device | None = None
    threads: int = 1
    """Threads of a compiled sweep on the CPU; one gives the same result every time."""
    fft: str = "rocket"
    """Library that transforms inside compiled sweeps, see :mod:`transforms`."""

    def to_device(self, array: Any) -> Array:
        """Copy a host array to the device."""
        return self.xp.asarray(array)

    def upload(self, target: Array, source: NDArray[Any], *, fresh: bool) -> None:
        """Copy a host array over `target`, while computing goes on where that is possible; `source` may be changed at once.

        `fresh`: nothing that was started before this reads or writes `target`.
        """
        if isinstance(self.cuda, CupyDevice):
            self.cuda.upload(target, np.ascontiguousarray(source, target.dtype), fresh=fresh)
        else:
            target[...] = source


def of_device(error: Exception) -> bool:
    """True for what CuPy raises when the device, its driver or its compiler refuse, or its memory is full.

    They have no common base: known by their home, without importing it.
    """
    return type(error).__module__.partition(".")[0] in ("cupy", "cupy_backends")


def numpy_backend() -> Backend:
    """The CPU: NumPy with scipy.fft, one thread, complex64 throughout."""
    return Backend(
        name="numpy",
        device="CPU",
        xp=np,
        fft2=partial(scipy.fft.fft2, norm="ortho", overwrite_x=True, workers=1),
        ifft2=partial(scipy.fft.ifft2, norm="ortho", overwrite_x=True, workers=1),
        gaussian_filter=scipy.ndimage.gaussian_filter,
        to_host=np.array,
        synchronize=lambda: None,
    )


def cpu_backend(threads: int = 1, fft: str = "rocket") -> Backend:
    """The CPU with compiled kernels; arrays and all else as in :func:`numpy_backend`."""
    return dataclasses.replace(numpy_backend(), name="cpu", threads=threads, fft=fft)


def cupy_backend(options: CudaOptions | None = None) -> Backend:
    """A CUDA device through CuPy, its memory limited; raises :class:`BackendError` if CuPy or the device is missing."""
    options = options or CudaOptions()
    try:
        import cupy
        import cupyx.scipy.fft
        import cupyx.scipy.ndimage
    except ImportError as error:
        raise BackendError("backend cupy: CuPy is not installed; pip install 'streamptycho[gpu12]' or [gpu13]") from error
    try:
        cupy.cuda.Device(options.device).use()
        name = cupy.cuda.runtime.getDeviceProperties(options.device)["name"].decode()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise BackendError(f"backend cupy: device {options.device} cannot be used ({error})") from error

    cupy.get_default_memory_pool().set_limit(fraction=options.memory_fraction)

    return Backend(
        name="cupy",
        device=name,
        xp=cupy,
        fft2=partial(cupyx.scipy.fft.fft2, norm="ortho", overwrite_x=True),
        ifft2=partial(cupyx.scipy.fft.ifft2, norm="ortho", overwrite_x=True),
        gaussian_filter=cupyx.scipy.ndimage.gaussian_filter,
        to_host=cupy.asnumpy,
        synchronize=cupy.cuda.get_current_stream().synchronize,
        cuda=CupyDevice(cupy, cupyx.scipy.fft.get_fft_plan, options),
    )


def choose_backend(
    name: str, threads: int | Literal["auto"] = 1, fft: str = "rocket", cuda: CudaOptions | None = None
) -> Backend:
    """``cpu`` (compiled), ``numpy`` (readable), ``cupy``, or ``auto``: CuPy where it works, else the compiled CPU.

    `threads` (auto: :func:`usable_threads`) and `fft` are for the compiled CPU, `cuda` for the GPU.
    """
    threads = usable_threads() if threads == "auto" else threads
    if name == "numpy":
        return numpy_backend()
    if name == "cpu":
        return cpu_backend(threads, fft)
    if name == "cupy":
        return cupy_backend(cuda)
    if name != "auto":
        raise BackendError(f"backend {name!r} is not one of auto, cpu, numpy, cupy")
    try:
        return cupy_backend(cuda)
    except BackendError:
        return cpu_backend(threads, fft)


def backend_for(options: EngineOptions) -> Backend:
    """The backend that the settings choose; raises :class:`BackendError` if it is missing."""
    return choose_backend(options.backend, options.threads, options.fft, options.cuda)
