"""Command-line flags from option tables: each field of a table becomes a flag, and its documentation the help."""

import inspect
import types
from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from typing import Annotated, Any, Literal, NoReturn, Union, get_args, get_origin

import typer
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from streamptycho.errors import ConfigError
from streamptycho.options import Options


def with_tables(**tables: type[Options]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Decorate a command that has option tables as keyword arguments, so that it takes their fields as flags.

    ::

        @app.command()
        @with_tables(scan=ScanOptions, publish=PublishOptions)
        def run(file: Path, *, scan: ScanOptions, publish: PublishOptions) -> None: ...

    Tables within a table are flattened, so the names of all fields must differ.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        own = [p for p in inspect.signature(function).parameters.values() if p.name not in tables]
        flags = [_flag(name, info, panel) for table in tables.values() for name, info, panel in _leaves(table)]

        @wraps(function)
        def command(**values: Any) -> None:
            built = {key: _built(table, values) for key, table in tables.items()}
            function(**{p.name: values[p.name] for p in own}, **built)

        parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own] + flags
        command.__signature__ = inspect.Signature(parameters, return_annotation=None)  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in parameters} | {"return": None}
        return command

    return decorate


def fail(error: Exception, code: int) -> NoReturn:
    """End the command with one line on stderr instead of a traceback."""
    typer.echo(f"error: {error}", err=True)
    raise typer.Exit(code)


def _leaves(table: type[BaseModel], panel: str = "") -> Iterator[tuple[str, FieldInfo, str]]:
    """(name, field, heading) of each field that is not itself a table."""
    heading = panel or table.__name__.removesuffix("Options")
    for name, info in table.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            yield from _leaves(info.annotation, name.capitalize())
        else:
            yield name, info, heading


def _flag(name: str, info: FieldInfo, panel: str) -> inspect.Parameter:
    kind: Any = _bare(info.annotation)
    option = typer.Option(help=info.description, rich_help_panel=panel, show_default=info.default is not None)
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=info.default, annotation=Annotated[kind, option])


def _bare(kind: Any) -> Any:
    """A type without the constraints on its parts, which the table checks."""
    origin = get_origin(kind)
    if origin is Annotated:
        return _bare(get_args(kind)[0])
    if origin is None or origin is Literal:
        return kind
    parts = tuple(_bare(part) for part in get_args(kind))
    return Union[parts] if origin in (Union, types.UnionType) else origin[parts]  # noqa: UP007 - the parts are computed


def _built(table: type[Options], values: dict[str, Any]) -> Options:
    try:
        return table.model_validate(_nested(table, values))
    except ValidationError as error:
        fail(ConfigError("; ".join(_sentence(item) for item in error.errors())), 2)


def _sentence(item: Mapping[str, Any]) -> str:
    """Error of one flag, or of several together."""
    message = str(item["msg"]).removeprefix("Value error, ")
    return f"--{str(item['loc'][-1]).replace('_', '-')}: {message}" if item["loc"] else message


def _nested(table: type[BaseModel], values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _nested(info.annotation, values)
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel)
        else values[name]
        for name, info in table.model_fields.items()
    }
