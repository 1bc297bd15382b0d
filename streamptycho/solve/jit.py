"""How numeric loops are compiled: once, cached on disk, without the interpreter lock."""

from collections.abc import Callable
from typing import Any

import numba


def jit(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile `function` on first use. fastmath: no NaN and no infinity may reach it."""
    compiled: Callable[..., Any] = numba.njit(nogil=True, fastmath=True, error_model="numpy", cache=True)(function)
    return compiled
