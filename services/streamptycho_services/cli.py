"""The command ``streamptycho``.

Exit codes: 0 done; 1 a service or device failed; 2 the command, configuration or a file cannot be used; 3 it is done, and
what came of it cannot be used as it is: a stream that check has looked at, the picture of reconstruct-file; 4 frames or
positions of a scan of demo or run are missing; 5 another service has taken the place of this one; 130 interrupted, files
closed.
"""

import subprocess
import sys
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from streamptycho import __version__
from streamptycho.errors import BackendError, ReplacedError, StreamPtychoError
from streamptycho_services import cli_apart
from streamptycho_services.cli_app import app
from streamptycho_services.cli_options import (
    AllowControl,
    AsJson,
    ConfigFile,
    Documents,
    LogFile,
    MetricsHost,
    MetricsPort,
    Output,
    PageHost,
    PagePort,
    PageToken,
    ProbeStart,
    Setting,
    ShowPage,
    fail,
    make_config,
    metrics_at,
    page_options,
    report,
)
from streamptycho_services.errors import FailedError
from streamptycho_services.processes.host import open_streams
from streamptycho_services.processes.logs import Logs, configure_logging

NOT_USABLE, NOT_WHOLE, REPLACED = 3, 4, 5
SIMULATOR = {"allow_extra_args": True, "ignore_unknown_options": True}


__all__ = ["app", "cli_apart", "main"]


def main() -> None:
    """Entry point: errors in the user's input end in one line, not in a traceback."""
    open_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal may not know all characters, for example of a scan id
    try:
        app()
    except (BackendError, FailedError) as error:
        fail(error, 1)
    except ReplacedError as error:
        fail(error, REPLACED)
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
    "streamptycho demo --output out --json -- --drop-frames 0.05 --shuffle 200   (flags after -- go to the simulator)\n\n"
    "Exit codes: 0 every scan is complete; 4 frames or positions are missing, the summary says how many; 1 a service "
    "failed; 2 settings or files cannot be used; 130 interrupted, files closed.",
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
    """Simulated detector and all services on this machine, until all is written and polished."""
    from streamptycho_services.commands.demo import Source, run_demo

    effective = make_config(config, settings, output or Path("out"), probe, allow_control=allow_control)
    configure_logging(Logs(as_json, effective.log), "demo")
    shown = page_options(effective, show=page, host=page_host, port=page_port, token=page_token)
    source = Source(replay, rate, context.args)
    outcome = run_demo(effective, source, shown, documents=documents, as_json=as_json, stay=stay and page)
    report(outcome.summary, as_json)
    if outcome.interrupted:
        raise typer.Exit(130)
    _conclude(outcome.summary)


@app.command(
    epilog="Examples:\n\nstreamptycho run --output /data/today\n\nstreamptycho run -c beamline.toml --set engine.modes=2\n\n"
    "Exit codes, after Ctrl-C: 0 nothing is missing from any scan; 4 frames or positions are missing, the summary says how "
    "many; 1 a service failed; 2 settings or files cannot be used."
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
    metrics_port: MetricsPort = None,
    metrics_host: MetricsHost = "127.0.0.1",
    log_file: LogFile = None,
) -> None:
    """All services on this machine, for scan after scan, until Ctrl-C."""
    from streamptycho_services.commands.run import run_all

    effective = make_config(config, settings, output, probe, allow_control=allow_control, log_file=log_file)
    shown = page_options(effective, show=page, host=page_host, port=page_port, token=page_token)
    configure_logging(Logs(as_json, effective.log), "run")
    metrics = metrics_at(metrics_host, metrics_port)
    summary = run_all(effective, shown, documents=documents, as_json=as_json, metrics=metrics)
    if not summary:
        print("no scan has come", file=sys.stderr)
        return
    report(summary, as_json)
    _conclude(summary)


def _conclude(summary: dict[str, Any]) -> None:
    """Fail if a service has failed, or something is missing; what is missing gives the code, if both."""
    from streamptycho_services.commands.summary import problems, shortfalls

    wrong, short = problems(summary), shortfalls(summary)
    if wrong or short:
        fail("\n".join([*wrong, *short]), NOT_WHOLE if short else 1)


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
    "streamptycho reconstruct-file scan.cxi --output result.h5 --seconds 20 --probe auto --set engine.modes=2\n\n"
    "Exit codes: 0 the picture can be trusted; 3 it is finished and not to be trusted, see verdict and findings; 1 nothing "
    "could be reconstructed, or the device failed; 2 file or settings cannot be used; 130 interrupted, the result is kept.",
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
    from streamptycho_services.commands.reconstruct_file import reconstruct_file

    effective = make_config(config, settings, None, probe)
    summary, interrupted = reconstruct_file(
        effective, file, output, passes=passes, seconds=seconds, truth=truth, as_json=as_json
    )
    for_people = {key: value for key, value in summary.items() if key != "figures" and value != {}}
    report(summary if as_json else for_people, as_json)
    if interrupted:
        raise typer.Exit(130)
    if summary["result"] is None:
        fail(f"{file}: nothing could be reconstructed", 1)
    if not summary["trusted"]:
        raise typer.Exit(NOT_USABLE)


@app.command(
    epilog="Examples:\n\nstreamptycho inspect scan.cxi --picture scan.png\n\nstreamptycho inspect scan.result.h5 --json"
)
def inspect(
    file: Annotated[Path, typer.Argument(help="Recorded scan, growing file or result.")],
    picture: Annotated[
        Path | None, typer.Option(help="Write a PNG: mean pattern and positions of a scan, phase of a result.")
    ] = None,
    config: ConfigFile = None,
    settings: Setting = None,
    as_json: AsJson = False,
) -> None:
    """What is in a file: shapes, units as understood and why, what was estimated, how far to trust the picture."""
    from streamptycho_services.commands.inspect_file import inspect_file, readable

    facts = inspect_file(file, picture, make_config(config, settings, None, None).read)
    if as_json:
        report(facts, as_json)
    else:
        print("\n".join(readable(facts)))


@app.command(epilog="Example:\n\nstreamptycho recover /data/today/*.cxi")
def recover(
    files: Annotated[list[Path], typer.Argument(help="Growing files whose writer died; whole ones are left as they are.")],
) -> None:
    """Make files readable for every program after a crash or a loss of power; all that was flushed is kept."""
    from streamptycho_services.commands.recover import recover_files

    if not recover_files(files):
        raise typer.Exit(2)


@app.command(
    epilog="Examples:\n\nstreamptycho convert scan.cxi scan.strict.cxi\n\nstreamptycho convert scan.result.h5 phase.tif\n\n"
    "The new name says the kind: .cxi our layout, .strict.cxi CXI 1.6 to the letter, .h5 APS HDF5, .product.h5 a product of "
    "ptychodus, .npz, .tif, .png.",
)
def convert(
    file: Annotated[Path, typer.Argument(help="Scan or result; what is beside it under the same name is used as well.")],
    target: Annotated[Path, typer.Argument(help="New file; one that exists is not overwritten.")],
    config: ConfigFile = None,
    settings: Setting = None,
) -> None:
    """Write a scan or a result as a file of another kind."""
    from streamptycho.files.export.convert import convert

    for path in convert(file, target, make_config(config, settings, None, None).read):
        print(path)


@app.command(epilog="Example:\n\nstreamptycho verify scan.cxi")
def verify(
    file: Annotated[Path, typer.Argument(help="Scan or result, of ours or of others.")],
    config: ConfigFile = None,
    settings: Setting = None,
    as_json: AsJson = False,
) -> None:
    """What other programs would stumble on in a file, and what to give them instead."""
    from streamptycho.files.export.verify import verify

    found = verify(file, make_config(config, settings, None, None).read)
    report(found if as_json else {name: sentences or "nothing" for name, sentences in found.items()}, as_json)


@app.command(
    epilog="Example:\n\nstreamptycho check -c beamline.toml --seconds 5\n\n"
    "Exit codes: 0 each stream carries something that is understood; 3 one of them does not, or was not looked at, its "
    "remedy says why; 2 settings cannot be used."
)
def check(
    seconds: Annotated[float, typer.Option(min=0.5, help="How long to listen.")] = 5.0,
    take: Annotated[
        bool, typer.Option("--take", help="Look at pushed streams too: what is seen is taken from the receiver.")
    ] = False,
    config: ConfigFile = None,
    settings: Setting = None,
    as_json: AsJson = False,
) -> None:
    """Whether the detector's streams can be reached, and what they carry. Takes nothing, unless told to."""
    from streamptycho_services.commands.check import check_streams

    found = check_streams(make_config(config, settings, None, None), seconds, take=take)
    report(found, as_json)
    if not found["ok"]:
        raise typer.Exit(NOT_USABLE)


@app.command(
    epilog="Examples:\n\nstreamptycho view\n\nstreamptycho view --headless pictures --address tcp://beamline-pc:5568"
)
def view(
    headless: Annotated[Path | None, typer.Option(help="Write PNG files into this directory; no screen is needed.")] = None,
    address: Annotated[str | None, typer.Option(help="Where the documents come from. Else services.documents.")] = None,
    catch_up: Annotated[str | None, typer.Option(help="Where to request earlier ones. Else the next port.")] = None,
    seconds: Annotated[float | None, typer.Option(min=0.5, help="End after so many seconds.")] = None,
    every: Annotated[float, typer.Option(min=0.2, help="With --headless: seconds between pictures.")] = 2.0,
    config: ConfigFile = None,
    settings: Setting = None,
) -> None:
    """Panels of bluesky-widgets, in a window or as pictures. Needs streamptycho[view]."""
    from streamptycho_services.view import command

    effective = make_config(config, settings, None, None)
    services = effective.services
    configure_logging(Logs(), "view")
    where = (address, catch_up) if address is not None else (services.documents, catch_up or services.catch_up)
    command.view((*where, effective.security), headless, every, seconds)


if __name__ == "__main__":
    main()
