"""The command ``streamptycho``.

Exit codes: 0 done; 1 a service or device failed; 2 the command, configuration or a file cannot be used; 3 check found a
stream that is not usable; 130 interrupted, files closed.
"""

import subprocess
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from streamptycho import __version__
from streamptycho.errors import BackendError, StreamPtychoError
from streamptycho_services.cli_options import (
    AllowControl,
    AsJson,
    ConfigFile,
    Documents,
    Output,
    PageHost,
    PagePort,
    PageToken,
    ProbeStart,
    Setting,
    ShowPage,
    fail,
    make_config,
    page_options,
    report,
)

app = typer.Typer(
    name="streamptycho",
    help="Live ptychography: the picture forms while the scan runs.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    epilog="Try [bold]streamptycho demo[/bold] first: no hardware, nothing to configure.",
)

SIMULATOR = {"allow_extra_args": True, "ignore_unknown_options": True}


def main() -> None:
    """Entry point: errors of the user's input end in one line, not in a traceback."""
    try:
        app()
    except BackendError as error:
        fail(error, 1)
    except StreamPtychoError as error:
        fail(error, 2)
    except KeyboardInterrupt:
        raise SystemExit(130) from None


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False) -> None:
    if version:
        print(__version__)
        raise typer.Exit


@app.command(
    context_settings=SIMULATOR,
    epilog="Examples:\n\nstreamptycho demo\n\nstreamptycho demo --replay scan.cxi --rate 100 --probe auto\n\n"
    "streamptycho demo --output out --json -- --drop-frames 0.05 --shuffle 200   (flags after -- go to the simulator)",
)
def demo(
    context: typer.Context,
    replay: Annotated[Path | None, typer.Option(help="Replay this recorded scan instead of simulating one.")] = None,
    rate: Annotated[float, typer.Option(help="Frames per second; 0 = as fast as they are taken.")] = 100.0,
    probe: ProbeStart = None,
    output: Output = None,
    page: ShowPage = True,
    page_host: PageHost = "127.0.0.1",
    page_port: PagePort = None,
    page_token: PageToken = None,
    allow_control: AllowControl = False,
    stay: Annotated[bool, typer.Option("--stay", help="Keep the live page after the end, until Ctrl-C.")] = False,
    documents: Documents = False,
    as_json: AsJson = False,
    config: ConfigFile = None,
    settings: Setting = None,
) -> None:
    """Simulated detector and all services on this machine, until the picture is done."""
    from streamptycho_services.demo import DemoFailedError, Source, run_demo
    from streamptycho_services.session import ServiceDiedError

    effective = make_config(config, settings, output or Path("out"), probe, allow_control=allow_control)
    shown = page_options(effective, show=page, host=page_host, port=page_port, token=page_token)
    try:
        source = Source(replay, rate, context.args)
        outcome = run_demo(effective, source, shown, documents=documents, as_json=as_json, stay=stay and page)
    except (DemoFailedError, ServiceDiedError) as error:
        fail(error, 1)
    report(outcome.summary, as_json)
    if outcome.interrupted:
        raise typer.Exit(130)
    if outcome.problems:
        fail("\n".join(outcome.problems), 1)


@app.command(
    epilog="Examples:\n\nstreamptycho run --output /data/today\n\nstreamptycho run -c beamline.toml --set engine.modes=2"
)
def run(
    output: Output = None,
    probe: ProbeStart = None,
    documents: Documents = True,
    config: ConfigFile = None,
    settings: Setting = None,
    as_json: AsJson = False,
    page: ShowPage = True,
    page_host: PageHost = "127.0.0.1",
    page_port: PagePort = None,
    page_token: PageToken = None,
    allow_control: AllowControl = False,
) -> None:
    """All services on this machine, for scan after scan, until Ctrl-C."""
    from streamptycho_services.run import run_all
    from streamptycho_services.session import ServiceDiedError

    effective = make_config(config, settings, output, probe, allow_control=allow_control)
    shown = page_options(effective, show=page, host=page_host, port=page_port, token=page_token)
    try:
        run_all(effective, shown, documents=documents, as_json=as_json)
    except ServiceDiedError as error:
        fail(error, 1)


def _one(name: str, config: Path | None, settings: list[str] | None, output: Path | None, as_json: bool) -> None:
    from streamptycho_services.logs import configure_logging
    from streamptycho_services.run import run_one

    configure_logging(as_json, service=name)
    run_one(name, make_config(config, settings, output, None))


@app.command(epilog="Example:\n\nstreamptycho receive -c beamline.toml")
def receive(config: ConfigFile = None, settings: Setting = None, as_json: AsJson = False) -> None:
    """Only the receiver, for services on several hosts."""
    _one("receive", config, settings, None, as_json)


@app.command(epilog="Example:\n\nstreamptycho reconstruct -c beamline.toml --set engine.backend=cupy")
def reconstruct(config: ConfigFile = None, settings: Setting = None, as_json: AsJson = False) -> None:
    """Only the reconstruction, for services on several hosts."""
    _one("reconstruct", config, settings, None, as_json)


@app.command(epilog="Example:\n\nstreamptycho write -c beamline.toml --output /data/today")
def write(config: ConfigFile = None, settings: Setting = None, output: Output = None, as_json: AsJson = False) -> None:
    """Only the writer, for services on several hosts."""
    _one("write", config, settings, output, as_json)


@app.command(
    epilog="Examples:\n\nstreamptycho dashboard -c beamline.toml\n\n"
    "streamptycho dashboard -c beamline.toml --host 0.0.0.0 --token auto --allow-control"
)
def dashboard(
    host: Annotated[str, typer.Option(help="Address to serve on; a public one needs a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 is any that is free.")] = 8000,
    token: Annotated[
        str | None,
        typer.Option(envvar="STREAMPTYCHO_TOKEN", help="Asked of viewers elsewhere, and of who acts; 'auto': random."),
    ] = None,
    allow_control: AllowControl = False,
    config: ConfigFile = None,
    settings: Setting = None,
    as_json: AsJson = False,
) -> None:
    """Only the live page, for services that run elsewhere; `run` and `demo` bring their own."""
    from streamptycho_services.dashboard.server import PageOptions
    from streamptycho_services.logs import configure_logging
    from streamptycho_services.run import run_page

    configure_logging(as_json, service="page")
    run_page(make_config(config, settings, None, None), PageOptions(host, port, token, allow_control))


@app.command(name="documents", epilog="Example:\n\nstreamptycho documents -c beamline.toml")
def send_documents(config: ConfigFile = None, settings: Setting = None, as_json: AsJson = False) -> None:
    """Only the bluesky documents, beside services that run elsewhere."""
    from streamptycho_services.logs import configure_logging
    from streamptycho_services.run import run_documents

    configure_logging(as_json, service="documents")
    run_documents(make_config(config, settings, None, None))


def _simulator(arguments: list[str]) -> NoReturn:
    """Hand over to the simulator, which is a program of its own."""
    raise SystemExit(subprocess.run([sys.executable, "-m", "streamptycho_sim", *arguments], check=False).returncode)


@app.command(context_settings=SIMULATOR, epilog="Example:\n\nstreamptycho replay scan.cxi --rate-hz 100")
def replay(context: typer.Context, file: Annotated[Path, typer.Argument(help="CXI, APS HDF5 or our own file.")]) -> None:
    """Send a recorded scan like a detector would. Further flags: streamptycho-sim replay --help."""
    _simulator(["replay", str(file), *context.args])


@app.command(
    context_settings=SIMULATOR, epilog="Example:\n\nstreamptycho simulate --frames 2000 --path spiral --rate-hz 200"
)
def simulate(context: typer.Context) -> None:
    """Send a synthetic scan like a detector would. Flags: streamptycho-sim synthetic --help."""
    _simulator(["synthetic", *context.args])


@app.command(
    name="reconstruct-file",
    epilog="Examples:\n\nstreamptycho reconstruct-file scan.cxi --output result.h5\n\n"
    "streamptycho reconstruct-file scan.cxi --output result.h5 --seconds 20 --probe auto --set engine.modes=2",
)
def reconstruct_file(
    file: Annotated[Path, typer.Argument(help="Recorded scan: CXI, APS HDF5 or our own file.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Result file (HDF5); a PNG is written beside it.")],
    passes: Annotated[int | None, typer.Option(min=1, help="Exactly so many passes over all frames.")] = None,
    seconds: Annotated[float | None, typer.Option(min=0.1, help="Stop after so many seconds of computing.")] = None,
    probe: ProbeStart = None,
    truth: Annotated[Path | None, typer.Option(help="Truth of a simulated scan (.npz) to compare with.")] = None,
    config: ConfigFile = None,
    settings: Setting = None,
    as_json: AsJson = False,
) -> None:
    """Reconstruct a recorded scan, without the network, by the same engine."""
    from streamptycho_services.offline import Limits, reconstruct_file

    effective = make_config(config, settings, None, probe)
    limits = Limits(passes, seconds)
    summary, interrupted = reconstruct_file(effective, file, output, limits, truth=truth, as_json=as_json)
    report(summary, as_json)
    if interrupted:
        raise typer.Exit(130)
    if summary["result"] is None:
        fail(f"{file}: nothing could be reconstructed", 1)


@app.command(epilog="Example:\n\nstreamptycho inspect scan.cxi --picture scan.png")
def inspect(
    file: Annotated[Path, typer.Argument(help="Recorded scan or growing file.")],
    picture: Annotated[Path | None, typer.Option(help="Write a PNG of the mean pattern and the positions.")] = None,
    config: ConfigFile = None,
    settings: Setting = None,
    as_json: AsJson = False,
) -> None:
    """What is in a file: shapes, units as understood and why, positions."""
    from streamptycho_services.inspect_file import inspect_scan

    report(inspect_scan(file, picture, make_config(config, settings, None, None).read), as_json)


@app.command(epilog="Example:\n\nstreamptycho check -c beamline.toml --seconds 5")
def check(
    seconds: Annotated[float, typer.Option(min=0.5, help="How long to listen.")] = 5.0,
    config: ConfigFile = None,
    settings: Setting = None,
    as_json: AsJson = False,
) -> None:
    """Whether the detector's streams can be reached, and what they carry."""
    from streamptycho_services.check import check_streams

    found = check_streams(make_config(config, settings, None, None), seconds)
    report(found, as_json)
    if not found["ok"]:
        raise typer.Exit(3)


@app.command(
    epilog="Examples:\n\nstreamptycho view\n\nstreamptycho view --headless pictures --address tcp://beamline-pc:5568"
)
def view(
    headless: Annotated[Path | None, typer.Option(help="Write PNG files into this directory; no screen is needed.")] = None,
    address: Annotated[str | None, typer.Option(help="Where the documents come from. Else services.documents.")] = None,
    catch_up: Annotated[str | None, typer.Option(help="Where to ask for earlier ones. Else the next port.")] = None,
    seconds: Annotated[float | None, typer.Option(min=0.5, help="End after so many seconds.")] = None,
    every: Annotated[float, typer.Option(min=0.2, help="With --headless: seconds between pictures.")] = 2.0,
    config: ConfigFile = None,
    settings: Setting = None,
) -> None:
    """Panels of bluesky-widgets, in a window or as pictures. Needs streamptycho[view]."""
    from streamptycho_services.logs import configure_logging
    from streamptycho_services.view import command

    services = make_config(config, settings, None, None).services
    configure_logging(False, service="view")
    where = (address, catch_up) if address is not None else (services.documents, catch_up or services.catch_up)
    try:
        command.view(*where, headless, every, seconds)
    except command.NothingHeardError as error:
        fail(error, 1)


if __name__ == "__main__":
    main()
