"""Flags that several commands share, and what they are turned into."""

import json
import sys
import tomllib
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
LogFile = Annotated[Path | None, typer.Option("--log-file", help="Log lines go to this file as well; it is rotated.")]
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
        help="Permits viewing, and control where that is allowed; 'auto': random.",
    ),
]
MetricsPort = Annotated[
    int | None,
    typer.Option("--metrics-port", min=0, max=65535, help="Serve /metrics, /healthz and /readyz here; 0 is any free port."),
]
MetricsHost = Annotated[str, typer.Option("--metrics-host", help="Address for that port: a public one is open to everyone.")]
AllowControl = Annotated[bool, typer.Option("--allow-control", help="Let token holders pause, stop or reset from the page.")]


def fail(error: object, code: int) -> NoReturn:
    """End the command with one line and an exit code."""
    print(f"error: {error}", file=sys.stderr)
    raise SystemExit(code)


def make_config(
    path: Path | None,
    settings: list[str] | None,
    output: Path | None = None,
    probe: str | None = None,
    *,
    allow_control: bool = False,
    log_file: Path | None = None,
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
    if log_file is not None:
        overrides["log.file"] = log_file
    return load(path, overrides)


def metrics_at(host: str, port: int | None) -> tuple[str, int] | None:
    """Where health and metrics are served; None without a port."""
    return None if port is None else (host, port)


def page_options(config: Config, *, show: bool, host: str, port: int | None, token: str | None) -> "PageOptions | None":
    """Options of the page of `demo` and `run`: the default port gives way to a free one."""
    from streamptycho_services.dashboard.server import PORT, PageOptions

    if not show:
        return None
    chosen = port if port is not None else PORT
    control, proxies = config.reconstruct.allow_control, config.page.trusted_proxies
    return PageOptions(host, chosen, token, allow_control=control, move=port is None, trusted_proxies=proxies)


def _value(text: str) -> Any:
    """A TOML value where it parses as one, else the text itself."""
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
            print(f"{key}:" if value else f"{key}: none")
            for name, item in value.items():
                print(f"  {name}: {item}")
        elif isinstance(value, list) and value:
            print(f"{key}:", *value, sep="\n  ")
        else:
            print(f"{key}: {value}")
