"""Live ptychography: the picture forms while the scan runs.

The names of :mod:`streamptycho.api`, for notebooks and scripts, are here as well. They are imported when first used, so that
a process imports only what it runs.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamptycho.api import Live, Progress, Result, Scan, open_scan, reconstruct, scan_from_arrays

__version__ = "0.1.0"
__all__ = ["Live", "Progress", "Result", "Scan", "open_scan", "reconstruct", "scan_from_arrays"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.api"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
