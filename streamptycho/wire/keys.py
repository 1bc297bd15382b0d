"""Files with CURVE keys, in the format of pyzmq's and czmq's certificates, so that other programs read them too."""

import logging
import os
import stat
from dataclasses import dataclass
from pathlib import Path

import zmq
from zmq.auth import load_certificate
from zmq.utils import z85

from streamptycho.errors import ConfigError
from streamptycho.wire.security import SecurityOptions

log = logging.getLogger(__name__)

REMEDY = "make a pair with `streamptycho keys DIR`"


@dataclass(frozen=True, slots=True, repr=False)
class Keys:
    """What one program needs to bind and to connect; keys are Z85 text of 40 bytes."""

    public: bytes
    secret: bytes
    server: bytes
    """Public key of the programs that bind."""
    allowed: Path | None
    """Directory with the public keys of those who may connect, besides the own one."""


def load_keys(options: SecurityOptions) -> Keys | None:
    """The keys that the options name; None without a secret key.

    Raises :class:`ConfigError` for a file that cannot be used; warns of one that other users can read.
    """
    if options.secret_key is None:
        if options.server_key is not None or options.allowed_keys is not None:
            raise ConfigError(f"security.secret_key: needed where other keys are given; {REMEDY}")
        return None
    public, secret = _load(options.secret_key, "security.secret_key")
    if secret is None:
        raise ConfigError(f"security.secret_key = {options.secret_key}: holds no secret key; give the file NAME.key_secret")
    if options.secret_key.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        log.warning("%s: the secret key can be read by other users; run chmod 600 on it", options.secret_key)
    if options.allowed_keys is not None and not options.allowed_keys.is_dir():
        raise ConfigError(f"security.allowed_keys = {options.allowed_keys}: no such directory; make it, even if it is empty")
    server = public if options.server_key is None else load_public_key(options.server_key, "security.server_key")
    return Keys(public, secret, server, options.allowed_keys)


def load_public_key(path: Path, setting: str) -> bytes:
    """The public key in a file; raises :class:`ConfigError` naming the setting."""
    return _load(path, setting)[0]


def _load(path: Path, setting: str) -> tuple[bytes, bytes | None]:
    try:
        public, secret = load_certificate(path)
        if len(z85.decode(public)) != 32 or (secret is not None and len(z85.decode(secret)) != 32):
            raise ValueError("another length")  # noqa: TRY301 - as wrong as what is no Z85
    except OSError as error:
        raise ConfigError(f"{setting} = {path}: cannot be read ({error.strerror or 'no such file'}); {REMEDY}") from error
    except (ValueError, KeyError, IndexError) as error:
        raise ConfigError(f"{setting} = {path}: holds no CURVE key; {REMEDY}") from error
    return public, secret


def public_keys(directory: Path, complain: set[str]) -> set[bytes]:
    """All public keys in a directory; a file that cannot be used is named once, and remembered in `complain`."""
    found = set()
    for path in sorted(directory.glob("*.key")):
        try:
            found.add(load_public_key(path, "security.allowed_keys"))
        except ConfigError as error:
            if str(error) not in complain:
                complain.add(str(error))
                log.warning("%s", error)
    return found


def write_key_pair(directory: Path, name: str) -> tuple[Path, Path]:
    """A new pair: ``NAME.key``, which may be given away, and ``NAME.key_secret``, which only its owner can read.

    Raises :class:`ConfigError` if either exists or cannot be written.
    """
    public, secret = (key.decode("ascii") for key in zmq.curve_keypair())
    public_file, secret_file = directory / f"{name}.key", directory / f"{name}.key_secret"
    text = f'# public CURVE key of {name}\n\nmetadata\ncurve\n    public-key = "{public}"\n'
    try:
        directory.mkdir(parents=True, exist_ok=True)
        _write_new(secret_file, text.replace("public", "secret", 1) + f'    secret-key = "{secret}"\n', 0o600)
        _write_new(public_file, text, 0o644)
    except OSError as error:
        raise ConfigError(f"{error.filename}: cannot be written ({error.strerror}); choose another name") from error
    return public_file, secret_file


def _write_new(path: Path, text: str, mode: int) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="ascii") as file:
        file.write(text)
