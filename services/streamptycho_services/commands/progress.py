"""Progress of a scan on a terminal, as plain lines or as JSON lines."""

import json
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.live import Live
from rich.table import Table

from streamptycho.display.known import Facts
from streamptycho.display.pace import Pace
from streamptycho.messages.run import RunId
from streamptycho_services.processes.watch import Watcher

LINE_S = 2.0
SILENT_S = 5.0
"""Time without a frame after which that is said."""


class Progress:
    """Shows the newest state of a :class:`Watcher`: a live table on a terminal, else a line every two seconds."""

    def __init__(self, *, as_json: bool = False) -> None:
        self._console = Console(stderr=True)
        self._live = Live(console=self._console, refresh_per_second=4) if self._console.is_terminal and not as_json else None
        self._json = as_json
        self._lines = Pace(LINE_S)
        self._shown: dict[RunId, Facts] = {}

    def __enter__(self) -> "Progress":
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, watcher: Watcher, *, force: bool = False) -> None:
        """Refresh the display, if it is time; the same facts about a scan whose file is closed are printed once."""
        if self._live is not None:
            self._live.update(_table(watcher))
            return
        if not (self._lines.due or force) or not watcher.scans:
            return
        with self._lines.turn():
            shown, self._shown = self._shown, {}
            for known in list(watcher.runs)[-2:]:
                facts = self._shown[known.run] = known.facts()
                before = shown.get(known.run)
                if known.written and before == facts:
                    continue
                told = before.remarks if before is not None and not known.written else ()
                print(json.dumps(facts.as_dict()) if self._json else _line(facts, told), file=sys.stderr, flush=True)


def _line(facts: Facts, told: Sequence[str] = ()) -> str:
    """Facts in a line, without the remarks that the line before has `told`."""
    ledger = facts.ledger
    parts = [
        f"{facts.run.scan_id}: {facts.standing}",
        f"{_received(facts)} received {_rate(facts, 'at ')}",
        f"{ledger.used} used, {ledger.waiting} waiting, {sum(ledger.dropped.values())} dropped",
        f"error {facts.error:.4f}" if facts.error is not None else "no picture yet",
    ]
    parts += [f"lag {facts.lag_s:.1f} s"] if facts.lag_s is not None else []
    parts += [f"{facts.eta_s:.0f} s to go"] if facts.eta_s is not None else []
    parts += [f"{facts.rejected} messages rejected"] if facts.rejected else []
    parts += [facts.verdict] if facts.verdict else []
    return " | ".join([*parts, *facts.problems, *(remark for remark in facts.remarks if remark not in told)])


def _received(facts: Facts) -> str:
    total = facts.expected if facts.expected is not None else facts.announced
    return f"{facts.ledger.received}/{total}" if total is not None else str(facts.ledger.received)


def _rate(facts: Facts, before: str = "") -> str:
    if facts.silence_s is not None and facts.silence_s >= SILENT_S:
        return f"none for {facts.silence_s:.0f} s"
    return f"{before}{facts.rate_hz:.0f}/s"


def _table(watcher: Watcher) -> Table:
    table = Table(expand=False)
    columns = (
        "scan",
        "state",
        "received",
        "rate",
        "used",
        "waiting",
        "dropped",
        "missing",
        "lag",
        "error",
        "passes",
        "to go",
    )
    for column in columns:
        table.add_column(column, justify="left" if column in ("scan", "state") else "right")
    for known in list(watcher.runs)[-4:]:
        facts = known.facts()
        ledger = facts.ledger
        rejected = f"{facts.rejected} messages rejected" if facts.rejected else ""
        table.caption = "\n".join(filter(None, (*facts.remarks, facts.verdict, *facts.findings.values(), rejected))) or None
        row = [
            facts.run.scan_id,
            "; ".join(facts.problems) or facts.standing,
            _received(facts),
            _rate(facts),
            str(ledger.used),
            str(ledger.waiting),
            str(sum(ledger.dropped.values())),
            "" if facts.missing is None else str(facts.missing),
            "" if facts.lag_s is None else f"{facts.lag_s:.1f} s",
            "" if facts.error is None else f"{facts.error:.4f}",
            str(facts.passes),
            "" if facts.eta_s is None else f"{facts.eta_s:.0f} s",
        ]
        table.add_row(*row)
    return table
