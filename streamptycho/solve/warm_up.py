"""Before the first frames: everything compiled, or loaded from the cache."""

import logging

import numpy as np

from streamptycho.errors import BackendError
from streamptycho.solve.devices.backend import Backend, backend_for, of_device
from streamptycho.solve.equations.modulus import frequencies
from streamptycho.solve.settings import EngineOptions, RuleOptions
from streamptycho.solve.solver import Solver
from streamptycho.solve.store import FrameStore

log = logging.getLogger(__name__)


def ready_backend(options: EngineOptions) -> Backend:
    """The backend that the settings choose, warm; in place of a GPU that fails already then, and was not asked for, the CPU.

    Raises :class:`BackendError` if it is missing, or fails and was asked for.
    """
    backend = backend_for(options)
    try:
        warm_up(backend)
    except Exception as error:
        if not of_device(error):
            raise
        if options.backend != "auto":
            raise BackendError(f"{backend.device} fails: {error}; repair it, or set engine.backend to 'cpu'") from error
        log.warning("%s fails: %s; the CPU computes", backend.device, error)
        backend = backend_for(options.model_copy(update={"backend": "cpu"}))
        warm_up(backend)
    return backend


def warm_up(backend: Backend) -> None:
    """Compile, or load, what the first frames would otherwise wait for."""
    from streamptycho.solve.compiled.sums import pattern_sums

    n = 128 if backend.threads > 1 else 16  # small sweeps are not shared, and sharing is to be compiled as well
    store = FrameStore(backend, (n, n))
    solver = Solver(backend, store, np.ones((1, n, n), np.complex64), RuleOptions(), poor_probe=True)
    for i in range(4):
        solver.admit(store.append(np.ones((n, n), np.float32), (i, i)))
    solver.sweep(np.arange(64) % 4)
    rows = np.arange(4)
    solver.shift_sums(rows)
    solver.misfits(rows)
    pattern_sums(np.ones((n, n), np.float32), np.ones((n, n), np.float32), *frequencies(np, (n, n)))
