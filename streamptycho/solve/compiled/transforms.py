"""Fourier transforms inside the compiled loop by a library other than rocket-fft, and memory aligned for them.

FFTW is faster, but GPL: it is no requirement and is used on request, ``engine.fft = "fftw"``, with the extra of the same
name installed. The compiled loop calls the library through its address, without Python.
"""

import ctypes
import threading
from functools import cache
from importlib import metadata
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from streamptycho.errors import BackendError

LIBRARIES = {"fftw": ("pyfftw", "libfftw3f-")}
"""Distribution that brings the library, and how the name of its file begins."""
MEASURE = 0
"""FFTW tries out which of its algorithms is the fastest."""
ALIGNMENT = 64
"""Bytes; FFTW's plans hold for arrays aligned like those they were made for, and so do the widest loads."""
_planning = threading.Lock()
"""FFTW's planner, unlike its plans, serves one thread at a time."""


@cache
def plans_for(library: str, shape: tuple[int, int, int]) -> NDArray[np.int64]:
    """Addresses of the executing function and of the plans forward and backward, in place, for (modes, ny, nx) complex64.

    All 0 for ``rocket``. Raises :class:`BackendError` if the library is not installed or refuses. Plans stay for good.
    """
    if library == "rocket":
        return np.zeros(3, np.int64)
    functions = _open(library)
    trial = aligned(shape)
    address, sizes = ctypes.c_void_p(trial.ctypes.data), (ctypes.c_int * 2)(*shape[1:])
    pixels = shape[1] * shape[2]
    plan = functions.fftwf_plan_many_dft
    plan.restype = ctypes.c_void_p
    layout = (address, None, 1, pixels)
    with _planning:
        plans = [plan(2, sizes, shape[0], *layout, *layout, sign, MEASURE) for sign in (-1, 1)]
    if not all(plans):
        raise BackendError(f"engine.fft: {library} has no transform for {shape}; use rocket")
    execute = ctypes.cast(functions.fftwf_execute_dft, ctypes.c_void_p).value
    return np.array([execute, *plans], np.int64)


@cache
def _open(library: str) -> ctypes.CDLL:
    distribution, start = LIBRARIES[library]
    try:
        files = metadata.files(distribution) or []
    except metadata.PackageNotFoundError as error:
        raise BackendError(f"engine.fft: {library} is not installed; pip install 'streamptycho[{library}]'") from error
    paths = [Path(str(file.locate())) for file in files if file.name.startswith(start)]
    if not paths:
        raise BackendError(f"engine.fft: the package {distribution} brings no {start}*; use rocket")
    return ctypes.CDLL(str(paths[0].resolve()))


def aligned(shape: tuple[int, ...]) -> NDArray[np.complex64]:
    """Zeros of `shape`, complex64, at a multiple of `ALIGNMENT` bytes."""
    size = int(np.prod(shape)) * 8
    memory = np.zeros(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size].view(np.complex64).reshape(shape)
