"""What can be known to be wrong before anything starts: files, directory, addresses, device. A line each, with a remedy."""

import errno
import importlib.util
import logging
import re
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from streamptycho.config import Config
from streamptycho.errors import ConfigError
from streamptycho.sources.options import host_and_port
from streamptycho.wire.endpoint import SocketKind
from streamptycho.wire.security import leaves_the_machine

log = logging.getLogger(__name__)

BOUND = {
    "receive": ("services.writer", "services.engine", "services.display_receive"),
    "reconstruct": ("services.results", "services.display_reconstruct", "services.control"),
    "write": ("services.display_write",),
    "documents": ("services.documents", "services.catch_up"),
}
"""By service: settings with the addresses that it binds."""
_FORMS = {"tcp": r"tcp://[^/]+:(\d+|\*)", "ipc": r"ipc://.+", "inproc": r"inproc://.+"}
_TRIAL_BYTES = 4096


def check(config: Config, *services: str, apart: bool = False) -> None:
    """Raise :class:`ConfigError`, a line for each thing that `services` could not use; `apart`: each on its own host."""
    found = [line for service in services for line in _OF.get(service, _nothing)(config)]
    found += [line for service in services if apart for line in addresses(config, service)]
    if found:
        raise ConfigError("\n".join(found))
    if "receive" in services:
        _warn_of_open_streams(config)
        _warn_of_unknown_hosts(config)


def addresses(config: Config, service: str) -> Iterator[str]:
    """What is wrong with the addresses that `service` binds: written wrongly, or in use."""
    for key in BOUND[service]:
        if key == "services.control" and not config.reconstruct.allow_control:
            continue
        yield from _address(key, str(_value(config, key)), bind=True)


def _receive(config: Config) -> Iterator[str]:
    for role, endpoint in config.detector.by_role.items():
        yield from _address(f"detector.{role}.address", endpoint.address, bind=endpoint.bind)


def _warn_of_open_streams(config: Config) -> None:
    """One line about the detector's streams that come over a network as plain text; of one that binds its socket tells."""
    plain = [
        f"detector.{role} ({endpoint.address})"
        for role, endpoint in config.detector.by_role.items()
        if not endpoint.bind and leaves_the_machine(endpoint.address)
        if config.security.secret_key is None or not endpoint.curve or endpoint.socket is SocketKind.STREAM
    ]
    if plain:
        log.warning(
            "%s: without keys, others in the network may read along, or speak in the place of the sender: "
            "keep it on a network you trust, or set security.secret_key where the sender has keys too",
            ", ".join(plain),
        )


def _warn_of_unknown_hosts(config: Config) -> None:
    """A line for each sender whose host cannot be looked up: it may be known later, and libzmq says nothing."""
    for role, endpoint in config.detector.by_role.items():
        try:
            host, port = host_and_port(endpoint.address)
        except ValueError:  # no TCP, or something that only ZeroMQ understands
            continue
        try:
            if not endpoint.bind:
                socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:  # a name that cannot be one is not looked up
            words = "detector.%s.address: the host %r is not known (%s): correct it; it is tried again and again"
            log.warning(words, role, host, getattr(error, "strerror", None) or error)


def _reconstruct(config: Config) -> Iterator[str]:
    for key in ("mask_file", "background_file"):
        path = getattr(config.preprocess, key)
        if path is not None:
            yield from _array(f"preprocess.{key}", path)
    if config.preprocess.background == "pattern" and config.preprocess.background_file is None:
        yield "preprocess.background_file: must be given with preprocess.background = 'pattern'"
    if config.engine.backend == "cupy" and importlib.util.find_spec("cupy") is None:
        yield (
            "engine.backend: 'cupy' needs CuPy, which is not installed; pip install 'streamptycho[gpu12]' or [gpu13], "
            "or set it to 'auto'"
        )
    if config.engine.fft == "fftw" and importlib.util.find_spec("pyfftw") is None:
        yield "engine.fft: 'fftw' is not installed; pip install 'streamptycho[fftw]', or set it to 'rocket'"


def _write(config: Config) -> Iterator[str]:
    directory = config.write.directory
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory) as trial:
            trial.write(bytes(_TRIAL_BYTES))
    except OSError as error:
        yield f"write.directory: {directory} cannot be written to ({error.strerror}); choose another --output"


def _nothing(_: Config) -> Iterator[str]:
    return iter(())


_OF = {"receive": _receive, "reconstruct": _reconstruct, "write": _write}


def _value(config: Config, key: str) -> Any:
    value: Any = config
    for name in key.split("."):
        value = getattr(value, name)
    return value


def _array(key: str, path: Path) -> Iterator[str]:
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, kind = read(file)
    except OSError as error:
        yield f"{key}: {path} cannot be read ({error.strerror}); give an existing file, or leave it out"
    except ValueError as error:
        yield f"{key}: {path} is not a NumPy file ({error}); write it with numpy.save"
    else:
        if len(shape) != 2 or kind.kind not in "buif":
            yield f"{key}: {path} holds {kind} of shape {shape}; give one number for each pixel of the detector, (ny, nx)"


def _address(key: str, address: str, *, bind: bool) -> Iterator[str]:
    """Wrong form, or, if it is to be bound, in use. Nothing listens meanwhile, so that no message goes astray."""
    scheme = address.partition("://")[0]
    if re.fullmatch(_FORMS.get(scheme, ".+://.+"), address) is None:
        yield f"{key}: {address!r} is no address; write tcp://HOST:PORT, or ipc://PATH on one machine"
        return
    if not bind or scheme != "tcp" or address.endswith(":*"):
        return
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    host = "0.0.0.0" if host == "*" else host.strip("[]")
    try:
        family, _, _, _, at = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)[0]
    except OSError:  # a name that only ZeroMQ understands, as that of a network card: it will judge
        return
    with socket.socket(family, socket.SOCK_STREAM) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(at)
        except OSError as error:
            remedy = "end the program that has it, or " if error.errno == errno.EADDRINUSE else ""
            yield f"{key}: cannot bind {address}: {error.strerror}; {remedy}choose another address"
