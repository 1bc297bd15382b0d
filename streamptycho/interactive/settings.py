"""Keywords of the API as settings of the configuration file."""

from collections.abc import Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from streamptycho.config import Config, load
from streamptycho.errors import ConfigError
from streamptycho.solve.settings import EngineOptions

_TABLES = {name: type(getattr(Config(), name)).model_fields for name in ("read", "engine", "preprocess", "positions")}
"""The keys of the tables that a reconstruction without services obeys."""


def configured(config: Config | str | PathLike[str] | None, settings: Mapping[str, Any]) -> Config:
    """`config`, or the file of that name, with `settings` over it. Raises ConfigError naming each unknown key."""
    base = config if config is None or isinstance(config, Config) else Path(config)
    return load(base, dict(pair for name, value in settings.items() for pair in _dotted(name, value)))


def _dotted(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Keys as in the file: of ``[engine]`` by their own names, those of other tables in a mapping.

    ``positions`` is both a table and a part of ``[engine]``: each of its keys goes where it exists.
    """
    if isinstance(value, Mapping):
        for key, item in value.items():
            own = name in _TABLES and (name not in EngineOptions.model_fields or key in _TABLES[name])
            yield (f"{name}.{key}" if own else f"engine.{name}.{key}"), item
        return
    if name not in EngineOptions.model_fields:
        for table, keys in _TABLES.items():
            if name in keys:
                place = f"{table}={{{name!r}: {value!r}}}" if table != "read" else f"open_scan(path, {name}={value!r})"
                raise ConfigError(f"{name}: is a key of [{table}]; write {place}")
    yield f"engine.{name}", value
