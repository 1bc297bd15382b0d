"""A private folder for the sockets between processes of this machine; those that killed runs have left are removed."""

import fcntl
import logging
import os
import shutil
import socket
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from streamptycho.config import Config, ServiceEndpoints
from streamptycho.errors import ConfigError

log = logging.getLogger(__name__)

PREFIX = "streamptycho-"
_LOCK = "lock"
FOR_OTHERS = frozenset({"documents", "catch_up"})
"""Addresses that other programs use: they stay as they are."""
INNER = tuple(name for name in ServiceEndpoints.addresses() if name not in FOR_OTHERS)
_LONGEST = max(INNER, key=len)
_HEARD = "heard"
"""File with the detector's streams that the services of a folder listen to."""


@dataclass(frozen=True, slots=True)
class Folder:
    """Where the sockets lie."""

    path: Path
    lock: int
    """Descriptor that holds the folder; every process that uses it inherits it."""


def with_ipc(config: Config, directory: Path) -> Config:
    """The same configuration with the addresses between services in `directory`."""
    endpoints = config.services.model_copy(update={name: f"ipc://{directory / name}" for name in INNER})
    return config.model_copy(update={"services": endpoints})


def say_what_is_heard(config: Config, directory: Path) -> None:
    """Leave word in `directory` of the detector's streams that its services listen to."""
    (directory / _HEARD).write_text(_streams(config), encoding="utf-8")


def displays(config: Config) -> list[str]:
    """Where services of this user on this machine show what they receive from the streams of `config`."""
    found = []
    for path in (path for place in dict.fromkeys(_places()) for path in place.glob(f"{PREFIX}*")):
        try:
            ours = path.stat().st_uid == os.getuid()
            if ours and (path / _HEARD).read_text(encoding="utf-8") == _streams(config):
                found.append(f"ipc://{path / 'display_receive'}")
        except OSError as error:  # gone, another user's, or something else of this name
            log.debug("%s is passed over: %s", path, error)
    return found


def _streams(config: Config) -> str:
    return "\n".join(f"{role.value} {end.address}" for role, end in config.detector.by_role.items())


@contextmanager
def socket_folder() -> Iterator[Folder]:
    """A new folder that only this user can enter, removed at the end.

    The address of a socket has at most 107 bytes: if the temporary directory is too deep, or cannot hold sockets, another
    one is taken. Raises :class:`~streamptycho.errors.ConfigError` where there is none.
    """
    places = list(dict.fromkeys(_places()))
    for place in places:
        remove_left_behind(place)
    with ExitStack() as stack:
        yield _make(places, stack)


def _places() -> Iterator[Path]:
    try:
        yield Path(tempfile.gettempdir())
    except FileNotFoundError as error:  # nothing that Python knows can be written to
        log.debug("no temporary directory: %s", error)
    for name in (os.environ.get("XDG_RUNTIME_DIR"), "/tmp", "/var/tmp", "/dev/shm"):
        if name:
            yield Path(name)


def _make(places: Iterable[Path], stack: ExitStack) -> Folder:
    why = []
    for place in places:
        try:
            path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
        except OSError as error:
            why.append(f"{place} ({error.strerror})")
            continue
        try:
            with socket.socket(socket.AF_UNIX) as trial:
                trial.bind(str(path / _LONGEST))
        except OSError as error:
            why.append(f"{place} ({error.strerror or error})")
            shutil.rmtree(path, ignore_errors=True)
        else:
            stack.callback(shutil.rmtree, path, ignore_errors=True)
            (path / _LONGEST).unlink()
            return Folder(path, _lock(path, stack))
    raise ConfigError(
        f"TMPDIR: no directory for the sockets between services: {', '.join(why)}; "
        "set it to one that can be written to and has a short path"
    )


def _lock(path: Path, stack: ExitStack) -> int:
    """Hold the folder for as long as a process has the descriptor open."""
    new = path / "new"
    lock = stack.enter_context(new.open("w")).fileno()
    fcntl.flock(lock, fcntl.LOCK_SH)
    new.rename(path / _LOCK)  # it is locked from the moment on at which others can see it
    return lock


def remove_left_behind(place: Path) -> None:
    """Remove our folders in `place` that no process holds any more: their processes were killed."""
    for path in place.glob(f"{PREFIX}*"):
        try:
            with (path / _LOCK).open("r+") as lock:
                if path.stat().st_uid == os.getuid():
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(path, ignore_errors=True)
        except OSError as error:  # in use, another user's, or something else of this name
            log.debug("%s stays: %s", path, error)
