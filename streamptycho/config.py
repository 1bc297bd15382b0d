"""One TOML file to the option tables of all parts. Strict: an unknown key is an error that names its likely meaning.

Precedence: command line over file over default. What the start message of a scan says about the scan (geometry, mask,
saturation) comes from there; the file holds what the data acquisition does not know.
"""

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from streamptycho.errors import ConfigError
from streamptycho.files.options import ReadOptions
from streamptycho.join import MatchOptions
from streamptycho.options import Options
from streamptycho.pipeline.options import ReconstructOptions, WriteOptions
from streamptycho.preprocess.options import FrameOptions, PositionOptions
from streamptycho.solve.settings import EngineOptions
from streamptycho.transport import Endpoint, SocketKind


class DetectorEndpoints(Options):
    """Where the detector's streams come from."""

    frames: Endpoint = Endpoint(address="tcp://127.0.0.1:5555", socket=SocketKind.PULL)
    """Start messages, frames and their end."""
    positions: Endpoint = Endpoint(address="tcp://127.0.0.1:5556", socket=SocketKind.SUB)
    """Positions and their end."""


class ServiceEndpoints(Options):
    """Addresses between the services. Each is bound by the service that sends; change host names to distribute them."""

    writer: str = "tcp://127.0.0.1:5561"
    """receive to write: everything, lossless."""
    engine: str = "tcp://127.0.0.1:5562"
    """receive to reconstruct: scan points."""
    results: str = "tcp://127.0.0.1:5563"
    """reconstruct to write: snapshots."""
    display_receive: str = "tcp://127.0.0.1:5564"
    """Status of receive, for anyone."""
    display_reconstruct: str = "tcp://127.0.0.1:5565"
    """Snapshots and status of reconstruct, for anyone."""
    display_write: str = "tcp://127.0.0.1:5566"
    """Status of write, for anyone."""
    control: str = "tcp://127.0.0.1:5567"
    """Viewers to reconstruct, which binds it where `reconstruct.allow_control` is set: commands."""
    documents: str = "tcp://127.0.0.1:5568"
    """bluesky documents, for anyone; see docs/documents.md."""
    catch_up: str = "tcp://127.0.0.1:5569"
    """What those documents have been so far, for who asks."""


class Config(Options):
    """Everything that can be configured."""

    detector: DetectorEndpoints = DetectorEndpoints()
    services: ServiceEndpoints = ServiceEndpoints()
    match: MatchOptions = MatchOptions()
    preprocess: FrameOptions = FrameOptions()
    positions: PositionOptions = PositionOptions()
    engine: EngineOptions = EngineOptions()
    reconstruct: ReconstructOptions = ReconstructOptions()
    write: WriteOptions = WriteOptions()
    read: ReadOptions = ReadOptions()


def load(path: Path | None = None, overrides: Mapping[str, Any] | None = None) -> Config:
    """Read `path` (TOML) and lay `overrides` over it, dotted keys such as ``{"engine.modes": 2}``.

    Raises :class:`ConfigError` naming each offending key and the remedy.
    """
    table: dict[str, Any] = {}
    if path is not None:
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read ({error.strerror}); give an existing file") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: not valid TOML ({error})") from error
    for key, value in (overrides or {}).items():
        _put(table, key, value)
    try:
        return Config.model_validate(table)
    except ValidationError as error:
        where = str(path) if path is not None else "configuration"
        raise ConfigError("\n".join(f"{where}: {line}" for line in _explain(error))) from error


def _put(table: dict[str, Any], dotted: str, value: Any) -> None:
    *groups, key = dotted.split(".")
    for group in groups:
        table = table.setdefault(group, {})
        if not isinstance(table, dict):
            raise ConfigError(f"{dotted}: {group} is a value, not a table")
    table[key] = value


def _explain(error: ValidationError) -> list[str]:
    lines = []
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            known = _known_keys(item["loc"][:-1])
            close = difflib.get_close_matches(str(item["loc"][-1]), known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known keys: {', '.join(known)}"
            lines.append(f"{key}: unknown key; {hint}")
        else:
            lines.append(f"{key}: {item['input']!r} - {item['msg']}")
    return lines


def _known_keys(location: tuple[Any, ...]) -> list[str]:
    table: type[BaseModel] = Config
    for part in location:
        annotation = table.model_fields[part].annotation if part in table.model_fields else None
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            table = annotation
    return sorted(table.model_fields)
