"""A reconstruction that fails on purpose, for a process of its own."""

import dataclasses
from itertools import count
from pathlib import Path
from typing import Any

from streamptycho.config import Config
from streamptycho.solve.devices import backend
from streamptycho_services.processes.runtime import Control
from streamptycho_services.processes.services import reconstruct

CALLS = 1000
"""Transforms until the device fails: more than are made before the first frame."""


class CUDARuntimeError(RuntimeError):
    """As CuPy has it: a `RuntimeError`, known by its home."""

    __module__ = "cupy_backends.cuda.api.runtime"


def reconstruct_on_failing_device(mark: Path, config: Config, control: Control) -> None:
    """The device fails in the first process, which leaves `mark`, and works in those after it."""
    if not mark.exists():
        _let_it_fail(mark)
    reconstruct(config, control)


def _let_it_fail(mark: Path) -> None:
    working, calls = backend.numpy_backend, count()

    def failing() -> backend.Backend:
        good = working()

        def fft2(field: Any) -> Any:
            if next(calls) >= CALLS:
                mark.touch()
                raise CUDARuntimeError("cudaErrorIllegalAddress: an illegal memory access was encountered")
            return good.fft2(field)

        return dataclasses.replace(good, device="Test GPU", fft2=fft2)

    backend.numpy_backend = failing
