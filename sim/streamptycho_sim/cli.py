"""The command ``streamptycho-sim``: a detector and a motion controller without hardware.

Exit codes: 0 everything was sent; 1 a receiver stopped accepting messages; 2 the command, a file or an address cannot be
used, or no receiver connected; 130 interrupted, after the receivers were notified.
"""

import json
import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from streamptycho.errors import ConfigError, FormatError, ScanError, StreamPtychoError
from streamptycho.files.options import ReadOptions
from streamptycho.files.scan import open_scan
from streamptycho.messages.payload import Encoding
from streamptycho.wire.security import SecurityOptions
from streamptycho.wire.sockets import new_context
from streamptycho_sim.console import Reporter
from streamptycho_sim.faults import EndLoss, FaultOptions, inject, interleave
from streamptycho_sim.flags import fail, with_tables
from streamptycho_sim.publisher import Context, OutletOptions, Progress, PublishOptions, Stop, publish
from streamptycho_sim.replay import ReplayOptions, replay
from streamptycho_sim.scan import SimulatedScan, SyntheticOptions
from streamptycho_sim.stream import Items, encode
from streamptycho_sim.tally import Tally

Show = Callable[[Progress], None]


def run_synthetic(
    options: SyntheticOptions,
    publish_options: PublishOptions,
    faults: FaultOptions,
    output_truth: Path | None,
    context: Context,
    stop: Stop,
    *,
    outlets: OutletOptions = OutletOptions(),  # noqa: B008 - immutable
    progress: Show = lambda _: None,
    render_first: bool = False,
) -> Tally:
    """Simulate a scan and send it; write the truth to `output_truth` (.npz) before the first message.

    `render_first` simulates all frames beforehand, for rates beyond the speed of the simulation.
    """
    scan = SimulatedScan(options)
    if output_truth is not None:
        _write(output_truth, scan.save_truth)
    if render_first:
        scan.render(stop)
    second: Items | None = None
    if faults.second_after is not None:
        other = options.model_copy(update={"scan_id": f"{options.scan_id}-2", "seed": options.seed + 1})
        second = SimulatedScan(other).items()
    items, tally = _spoilt(scan.items(), second, publish_options.encoding, faults)
    return publish(items, *outlets.endpoints(), publish_options, context=context, stop=stop, progress=progress, tally=tally)


def run_replay(
    file: Path,
    options: ReplayOptions,
    publish_options: PublishOptions,
    faults: FaultOptions,
    context: Context,
    stop: Stop,
    *,
    outlets: OutletOptions = OutletOptions(),  # noqa: B008 - immutable
    read: ReadOptions | None = None,
    progress: Show = lambda _: None,
) -> Tally:
    """Send a recorded scan again, under the name of its file unless the options give another."""
    with open_scan(file, read) as scan:
        name = options.scan_id or scan.scan_id
        second = replay(scan, options, f"{name}-second") if faults.second_after is not None else None
        items, tally = _spoilt(replay(scan, options, name), second, publish_options.encoding, faults)
        return publish(
            items, *outlets.endpoints(), publish_options, context=context, stop=stop, progress=progress, tally=tally
        )


def _spoilt(first: Items, second: Items | None, encoding: Encoding | None, faults: FaultOptions) -> tuple[Items, Tally]:
    """Both scans, encoded, with their faults, and the tally of what is lost."""
    tally = Tally()
    items: Items = inject(encode(first, encoding), faults, tally)
    if second is not None and faults.second_after is not None:
        # the second scan has faults of its own, but it ends
        others = faults.model_copy(update={"fault_seed": faults.fault_seed + 1, "missing_end": EndLoss.NONE})
        items = interleave(items, inject(encode(second, encoding), others, tally), faults.second_after)
    return items, tally


app = typer.Typer(
    name="streamptycho-sim",
    help="A detector and a motion controller without hardware: stream synthetic or recorded ptychography scans.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

_TallyFile = Annotated[
    Path | None, typer.Option("--tally", help="Write the counts of what was really sent to this JSON file.")
]
_TruthFile = Annotated[Path | None, typer.Option("--truth", help="Write object, probe and positions to this .npz file.")]
_RenderFirst = Annotated[
    bool,
    typer.Option("--render-first", help="Simulate all frames before sending the first, for rates beyond the simulation's."),
]
_File = Annotated[Path, typer.Argument(help="Recorded scan: CXI, APS HDF5 or a file written by streamptycho.")]


@app.command(
    epilog="Examples:\n\n"
    "streamptycho-sim synthetic --frames 1000 --rate-hz 200 --truth truth.npz\n\n"
    "streamptycho-sim synthetic --path spiral --modes 3 --photons 1e5 --encoding bslz4\n\n"
    "streamptycho-sim synthetic --drop-frames 0.02 --shuffle 16 --tally tally.json"
)
@with_tables(
    scan=SyntheticOptions, publish=PublishOptions, outlets=OutletOptions, faults=FaultOptions, security=SecurityOptions
)
def synthetic(
    *,
    truth: _TruthFile = None,
    tally: _TallyFile = None,
    render_first: _RenderFirst = False,
    scan: SyntheticOptions,
    publish: PublishOptions,
    outlets: OutletOptions,
    faults: FaultOptions,
    security: SecurityOptions,
) -> None:
    """Simulate a scan with known truth and stream it."""
    _run(
        lambda context, stop, show: run_synthetic(
            scan, publish, faults, truth, context, stop, outlets=outlets, progress=show, render_first=render_first
        ),
        tally,
        security,
    )


@app.command(
    name="replay",
    epilog="Examples:\n\n"
    "streamptycho-sim replay scan.cxi --rate-hz 100\n\n"
    "streamptycho-sim replay scan.cxi --first 200 --no-with-probe --repeat 3\n\n"
    "streamptycho-sim replay scan.h5 --energy-ev 8800 --mask zero-is-good   (facts that the file lacks or has wrong)",
)
@with_tables(
    recorded=ReplayOptions,
    read=ReadOptions,
    publish=PublishOptions,
    outlets=OutletOptions,
    faults=FaultOptions,
    security=SecurityOptions,
)
def replay_file(
    *,
    file: _File,
    tally: _TallyFile = None,
    recorded: ReplayOptions,
    read: ReadOptions,
    publish: PublishOptions,
    outlets: OutletOptions,
    faults: FaultOptions,
    security: SecurityOptions,
) -> None:
    """Stream a recorded scan again, byte for byte."""
    _run(
        lambda context, stop, show: run_replay(
            file, recorded, publish, faults, context, stop, outlets=outlets, read=read, progress=show
        ),
        tally,
        security,
    )


def main() -> None:
    """Entry point of the console script."""
    app()


def _run(send: Callable[[Context, Stop, Show], Tally], tally_file: Path | None, security: SecurityOptions) -> None:
    """Run until done or interrupted, print a summary, and turn errors into exit codes."""
    with _interruptible() as stop, Reporter() as show:
        try:
            with new_context(security) as context:
                tally = send(context, stop, show)
            if tally_file is not None:
                _write(tally_file, lambda path: path.write_text(json.dumps(tally.as_dict(), indent=2) + "\n"))
        except ScanError as error:
            fail(error, 1)
        except FormatError as error:
            fail(FormatError(_as_flags(str(error))), 2)
        except StreamPtychoError as error:
            fail(error, 2)
    typer.echo(_summary(tally), err=True)
    if tally.stopped or stop():
        raise typer.Exit(130)


def _as_flags(text: str) -> str:
    """Replace names of settings (``read.energy_ev``) by those of the flags here (``--energy-ev``)."""
    return re.sub(r"\bread\.(\w+)", lambda found: "--" + found[1].replace("_", "-"), text)


def _summary(tally: Tally) -> str:
    rate = tally.exposures / tally.seconds if tally.seconds > 0 else 0.0
    size = tally.sent_bytes / 1e6
    scans = ", ".join(f"{scan_id} {len(scan.frames)} frames" for scan_id, scan in tally.scans.items())
    return f"sent {scans}; {tally.messages} messages, {size:.1f} MB in {tally.seconds:.1f} s ({rate:.0f} frames/s)"


def _write(path: Path, write: Callable[[Path], Any]) -> None:
    try:
        write(path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror})") from error


@contextmanager
def _interruptible() -> Iterator[Stop]:
    """Turn SIGINT and SIGTERM into a request to stop; a second one acts as usual."""
    asked = threading.Event()

    def ask(number: int, _: object) -> None:
        asked.set()
        signal.signal(number, before[number])

    before = {int(number): signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
