"""One TOML file to the option tables of all parts. Strict: an unknown key is an error that names its likely meaning.

Precedence: command line over file over default. What the start message of a scan says about the scan (geometry, mask,
saturation) comes from there; the file holds what the data acquisition does not know.
"""

import difflib
import ipaddress
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, Field, ValidationError, field_validator

from streamptycho.compose.options import ScanOptions
from streamptycho.dialects.door import OURS
from streamptycho.errors import ConfigError
from streamptycho.files.options import ReadOptions
from streamptycho.join.options import MatchOptions
from streamptycho.options import Options
from streamptycho.pipeline.options import ReconstructOptions, WriteOptions
from streamptycho.preprocess.options import FrameOptions, PositionOptions
from streamptycho.solve.settings import EngineOptions
from streamptycho.sources.options import DetectorEndpoints
from streamptycho.wire.endpoint import LinkOptions
from streamptycho.wire.security import NO_KEYS, SecurityOptions


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
    """Answers late subscribers with the documents so far."""
    hung_s: float = Field(30.0, gt=0)
    """Silence after which a service is taken for hung, ended and started again; ten times as long while it computes."""

    @classmethod
    def addresses(cls) -> list[str]:
        """Names of the settings that are addresses."""
        return [name for name, field in cls.model_fields.items() if field.annotation is str]


class LogOptions(Options):
    """Log lines of a process, besides those on standard error."""

    file: Path | None = None
    """They go here as well. Processes that `run` starts have files beside it, with their service before the suffix."""
    max_bytes: int = Field(10 << 20, ge=1024)
    """Size at which a file is put aside and a new one begun."""
    kept: int = Field(5, ge=1)
    """Files put aside that are kept; the oldest goes."""


class PageSettings(Options):
    """What lies between the live page and its viewers."""

    trusted_proxies: tuple[str, ...] = ()
    """Addresses or networks of proxies whose ``X-Forwarded-For`` and ``X-Forwarded-Proto`` are believed. Then the page is
    public, also on loopback: it answers to any name and wants a token."""

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, proxies: tuple[str, ...]) -> tuple[str, ...]:
        for proxy in proxies:
            try:
                ipaddress.ip_network(proxy)
            except ValueError as error:
                raise ValueError(f"{proxy!r} is no IP address or network; name those of the proxies") from error
        return proxies


class Config(Options):
    """Everything that can be configured."""

    detector: DetectorEndpoints = DetectorEndpoints()
    services: ServiceEndpoints = ServiceEndpoints()
    security: SecurityOptions = NO_KEYS
    links: LinkOptions = LinkOptions()
    scan: ScanOptions = ScanOptions()
    match: MatchOptions = MatchOptions()
    preprocess: FrameOptions = FrameOptions()
    positions: PositionOptions = PositionOptions()
    engine: EngineOptions = EngineOptions()
    reconstruct: ReconstructOptions = ReconstructOptions()
    write: WriteOptions = WriteOptions()
    read: ReadOptions = ReadOptions()
    page: PageSettings = PageSettings()
    log: LogOptions = LogOptions()


def load(base: Path | Config | None = None, overrides: Mapping[str, Any] | None = None) -> Config:
    """Read `base` (TOML) and lay `overrides` over it, dotted keys such as ``{"engine.modes": 2}``.

    Raises :class:`ConfigError` naming each offending key and the remedy.
    """
    table: dict[str, Any] = {}
    if isinstance(base, Config):
        table = base.model_dump(exclude_unset=True)
    elif base is not None:
        try:
            table = tomllib.loads(base.expanduser().read_text(encoding="utf-8"))
        except RuntimeError as error:
            raise ConfigError(f"{base}: no such home directory is known here; write the path without ~") from error
        except OSError as error:
            raise ConfigError(f"{base}: cannot be read ({error.strerror}); give an existing file") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{base}: not valid TOML ({error})") from error
    for key, value in (overrides or {}).items():
        _put(table, key, value)
    where = str(base) if isinstance(base, Path) else "configuration"
    try:
        config = Config.model_validate(table)
    except ValidationError as error:
        raise ConfigError("\n".join(f"{where}: {line}" for line in _explain(error))) from error
    if contradiction := _contradiction(config):
        raise ConfigError(f"{where}: {contradiction}")
    return config


def _contradiction(config: Config) -> str | None:
    """What does not go together, with the remedy."""
    source = config.detector.by_role.get(config.scan.positions_from)
    if config.positions.unit == "m" or source is None or source.format == OURS:
        return None
    return (
        f"positions.unit: {config.positions.unit!r} - positions in the format {source.format!r} are made metres before; "
        "leave it out, and set scan.unit if their sender names no unit or a wrong one"
    )


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
        elif item["type"] == "missing":
            lines.append(f"{key}: missing; set it")
        else:
            lines.append(f"{key}: {item['input']!r} - {item['msg'].removeprefix('Value error, ')}")
    return lines


def _known_keys(location: tuple[Any, ...]) -> list[str]:
    table: type[BaseModel] = Config
    for part in location:
        annotation = table.model_fields[part].annotation if part in table.model_fields else None
        for kind in (annotation, *get_args(annotation)):  # of an optional table too
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                table = kind
    return sorted(table.model_fields)
