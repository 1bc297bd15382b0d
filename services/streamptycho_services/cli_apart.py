"""Commands for services that run apart: one each, and what they need."""

from pathlib import Path
from typing import Annotated

import typer

from streamptycho.config import Config
from streamptycho_services.cli_app import app
from streamptycho_services.cli_options import (
    AllowControl,
    AsJson,
    ConfigFile,
    LogFile,
    MetricsHost,
    MetricsPort,
    Output,
    Setting,
    make_config,
    metrics_at,
)
from streamptycho_services.processes.logs import Logs, configure_logging

APART = "Services apart"


def _one(name: str, config: Config, as_json: bool, metrics: tuple[str, int] | None = None) -> None:
    from streamptycho_services.commands.run import run_one

    configure_logging(Logs(as_json, config.log), name)
    run_one(name, config, metrics)


@app.command(rich_help_panel=APART, epilog="Example:\n\nstreamptycho receive -c beamline.toml")
def receive(
    config: ConfigFile = None,
    settings: Setting = None,
    as_json: AsJson = False,
    log_file: LogFile = None,
    metrics_port: MetricsPort = None,
    metrics_host: MetricsHost = "127.0.0.1",
) -> None:
    """Only the receiver, for services on several hosts."""
    _one("receive", make_config(config, settings, log_file=log_file), as_json, metrics_at(metrics_host, metrics_port))


@app.command(rich_help_panel=APART, epilog="Example:\n\nstreamptycho reconstruct -c beamline.toml --set engine.backend=cupy")
def reconstruct(
    config: ConfigFile = None,
    settings: Setting = None,
    as_json: AsJson = False,
    log_file: LogFile = None,
    metrics_port: MetricsPort = None,
    metrics_host: MetricsHost = "127.0.0.1",
) -> None:
    """Only the reconstruction, for services on several hosts."""
    _one("reconstruct", make_config(config, settings, log_file=log_file), as_json, metrics_at(metrics_host, metrics_port))


@app.command(rich_help_panel=APART, epilog="Example:\n\nstreamptycho write -c beamline.toml --output /data/today")
def write(
    config: ConfigFile = None,
    settings: Setting = None,
    output: Output = None,
    as_json: AsJson = False,
    log_file: LogFile = None,
    metrics_port: MetricsPort = None,
    metrics_host: MetricsHost = "127.0.0.1",
) -> None:
    """Only the writer, for services on several hosts."""
    _one("write", make_config(config, settings, output, log_file=log_file), as_json, metrics_at(metrics_host, metrics_port))


@app.command(
    rich_help_panel=APART,
    epilog="Examples:\n\nstreamptycho dashboard -c beamline.toml\n\n"
    "streamptycho dashboard -c beamline.toml --host 0.0.0.0 --token auto --allow-control",
)
def dashboard(
    host: Annotated[str, typer.Option(help="Address to serve on; a public one needs a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 is any that is free.")] = 8000,
    token: Annotated[
        str | None,
        typer.Option(envvar="STREAMPTYCHO_TOKEN", help="Required from remote viewers and for control; 'auto': random."),
    ] = None,
    allow_control: AllowControl = False,
    config: ConfigFile = None,
    settings: Setting = None,
    as_json: AsJson = False,
    log_file: LogFile = None,
) -> None:
    """Only the live page, for services that run elsewhere; `run` and `demo` bring their own."""
    from streamptycho_services.commands.run import run_page
    from streamptycho_services.dashboard.server import PageOptions

    effective = make_config(config, settings, log_file=log_file)
    configure_logging(Logs(as_json, effective.log), "page")
    proxies = effective.page.trusted_proxies
    run_page(effective, PageOptions(host, port, token, allow_control, trusted_proxies=proxies))


@app.command(name="documents", rich_help_panel=APART, epilog="Example:\n\nstreamptycho documents -c beamline.toml")
def send_documents(
    config: ConfigFile = None, settings: Setting = None, as_json: AsJson = False, log_file: LogFile = None
) -> None:
    """Only the bluesky documents, beside services that run elsewhere."""
    _one("documents", make_config(config, settings, log_file=log_file), as_json)


@app.command(
    rich_help_panel=APART,
    epilog="Example:\n\nstreamptycho keys /etc/streamptycho/keys\n\nThen set security.secret_key: docs/how-to/deploy.md.",
)
def keys(
    directory: Annotated[Path, typer.Argument(help="Where the two files go; made if it does not exist.")],
    name: Annotated[str, typer.Option(help="Beginning of the names of the files.")] = "streamptycho",
) -> None:
    """Make a pair of CURVE keys: NAME.key may be given away, NAME.key_secret stays with its owner."""
    from streamptycho.wire.keys import write_key_pair

    public, secret = write_key_pair(directory, name)
    print(f"public key: {public}\nsecret key: {secret}\nto use it: --set security.secret_key={secret}")


@app.command(
    rich_help_panel=APART,
    epilog="Example:\n\nstreamptycho units units --config /etc/streamptycho.toml --output /data --user beamline",
)
def units(
    directory: Annotated[Path, typer.Argument(help="Where the unit files go; made if it does not exist.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory for files and pictures.")],
    user: Annotated[str, typer.Option(help="Who runs the services.")] = "streamptycho",
    config: ConfigFile = None,
) -> None:
    """Write unit files for systemd: one for all services, and one for each."""
    from streamptycho_services.deploy.units import write_units

    for path in write_units(directory, config, output, user):
        print(path)
