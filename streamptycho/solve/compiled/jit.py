"""How numeric loops are compiled: once, cached on disk, without the interpreter lock."""

import logging
import os
import stat
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import FunctionCache, NullCache

log = logging.getLogger(__name__)

_settings: Any = numba.config


class _Cache(FunctionCache):
    """A cache that is done without where it cannot be read or written: it saves time and nothing else."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The function as it was compiled earlier, or None."""
        try:
            return super().load_overload(sig, target_context)
        except Exception as error:  # noqa: BLE001 - what the power cut left of a file may be anything
            log.warning("%s: the cache is damaged and is made anew (%r)", self.cache_path, error)
            self._without_disk(self.flush)
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep it, if there is room."""
        self._without_disk(lambda: super(_Cache, self).save_overload(sig, data))

    def _without_disk(self, write: Callable[[], None]) -> None:
        try:
            write()
        except OSError as error:
            log.warning("%s: compiled functions cannot be kept (%s); the next start compiles again", self.cache_path, error)
            self.disable()


def jit(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile `function` on first use. fastmath: no NaN and no infinity may reach it."""
    compiled: Any = numba.njit(nogil=True, fastmath=True, error_model="numpy")(function)
    compiled._cache = _cache_of(function)  # noqa: SLF001 - what ``cache=True`` does, with a cache that may fail
    kept: Callable[..., Any] = compiled
    return kept


def _cache_of(function: Callable[..., Any]) -> Any:
    """Beside the source or in the user's home, as numba does, else in a temporary directory of this user, else nowhere."""
    if not _would_litter():
        try:
            return _Cache(function)
        except RuntimeError as error:
            log.debug("%s", error)  # neither can be written to
    place = _temporary_place()
    if place is None:
        return NullCache()
    _settings.CACHE_DIR = str(place)
    return _Cache(function)


def _would_litter() -> bool:
    """True where no home is known and numba would make a directory ``~`` in the working directory."""
    if _settings.CACHE_DIR or os.environ.get("XDG_CACHE_HOME") or os.access(Path(__file__).parent, os.W_OK):
        return False
    try:
        Path.home()
    except RuntimeError:
        return True
    return False


@cache
def _temporary_place() -> Path | None:
    """A directory that nobody else can write to: what is read from it is executed."""
    why = "neither the installation nor a home directory can be written to"
    try:
        place = Path(tempfile.gettempdir()) / f"streamptycho-numba-{os.getuid()}"
        place.mkdir(mode=0o700, exist_ok=True)
        found = place.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
            raise PermissionError(f"{place} is not this user's alone")
        tempfile.TemporaryFile(dir=place).close()
    except OSError as error:
        log.warning("compiled functions are not kept, set NUMBA_CACHE_DIR: %s, nor a temporary one (%s)", why, error)
        return None
    log.warning("compiled functions are kept in %s: %s", place, why)
    return place
