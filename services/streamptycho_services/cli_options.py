"""Flags that several commands share, and what becomes of them."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from streamptycho.config import Config, load

if TYPE_CHECKING:
    from streamptycho_services.dashboard.server import PageOptions

ConfigFile = Annotated[Path | None, typer.Option("--config", "-c", help="TOML file; see docs/configuration.md.")]
Setting = Annotated[
    list[str] | None, typer.Option("--set", "-s", help="Override one setting, e.g. --set engine.modes=2. Repeatable.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Progress as JSON lines on stderr, the summary as one line on stdout.")]
ProbeStart = Annotated[
    str | None,
    typer.Option("--probe", help="'file': the recorded probe where there is one; 'auto': always find one from the data."),
]
Documents = Annotated[bool, typer.Option(help="Send bluesky documents; see docs/documents.md.")]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="Directory for files and pictures.")]
ShowPage = Annotated[bool, typer.Option("--page/--no-page", help="Serve the live page; see docs/dashboard.md.")]
PageHost = Annotated[str, typer.Option("--page-host", help="Address of the live page; a public one needs --page-token.")]
PagePort = Annotated[
    int | None, typer.Option("--page-port", min=0, max=65535, help="Its port. [default: 8000, or a free one]")
]
PageToken = Annotated[
    str | None,
    typer.Option(
        "--page-token",
        envvar="STREAMPTYCHO_TOKEN",
        help="Who has it may look, and act if control is allowed; 'auto': random.",
    ),
]
AllowControl = Annotated[
    bool, typer.Option("--allow-control", help="Let who has the token pause, stop or reset from the page.")
]


def fail(error: object, code: int) -> NoReturn:
    """End the command with one line and an exit code."""
    print(f"error: {error}", file=sys.stderr)
    raise SystemExit(code)


def make_config(
    path: Path | None, settings: list[str] | None, output: Path | None, probe: str | None, *, allow_control: bool = False
) -> Config:
    """The configuration of a command: its flags over its settings over the file."""
    overrides: dict[str, Any] = {}
    for setting in settings or []:
        key, separator, value = setting.partition("=")
        if not separator:
            fail(f"--set {setting}: write it as key=value, e.g. engine.modes=2", 2)
        overrides[key.strip()] = _value(value.strip())
    if output is not None:
        overrides["write.directory"] = output
    if probe is not None:
        overrides["engine.probe"] = probe
    if allow_control:
        overrides["reconstruct.allow_control"] = True
    return load(path, overrides)


def page_options(config: Config, *, show: bool, host: str, port: int | None, token: str | None) -> "PageOptions | None":
    """Options of the page of `demo` and `run`: a port that nobody chose may be another."""
    from streamptycho_services.dashboard.server import PORT, PageOptions

    if not show:
        return None
    chosen = port if port is not None else PORT
    return PageOptions(host, chosen, token, allow_control=config.reconstruct.allow_control, move=port is None)


def _value(text: str) -> Any:
    """A TOML value where it parses as one, else the text itself."""
    import tomllib

    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def report(facts: dict[str, Any], as_json: bool) -> None:
    """The summary: one JSON line for programs, one fact a line for people."""
    if as_json:
        print(json.dumps(facts))
        return
    for key, value in facts.items():
        if isinstance(value, dict):
            print(f"{key}:")
            for name, item in value.items():
                print(f"  {name}: {item}")
        else:
            print(f"{key}: {value}")
