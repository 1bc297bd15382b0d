"""Progress of a scan on a terminal, as plain lines or as JSON lines."""

import json
import math
import sys
import time
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from streamptycho_services.watch import Watcher

LINE_S = 2.0


class Progress:
    """Shows the newest state of a :class:`Watcher`: a live table on a terminal, else a line every two seconds."""

    def __init__(self, *, as_json: bool = False) -> None:
        self._console = Console(stderr=True)
        self._live = Live(console=self._console, refresh_per_second=4) if self._console.is_terminal and not as_json else None
        self._json = as_json
        self._next_s = 0.0
        self._said: dict[str, dict[str, Any]] = {}
        """What was last said of scans whose files are closed."""

    def __enter__(self) -> "Progress":
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, watcher: Watcher, *, force: bool = False) -> None:
        """Refresh the display, if it is time; of a scan whose file is closed nothing is said twice."""
        if self._live is not None:
            self._live.update(_table(watcher))
            return
        now = time.monotonic()
        if (now < self._next_s and not force) or not watcher.scans:
            return
        self._next_s = now + LINE_S
        written = watcher.written()
        for scan_id in watcher.scans[-2:]:
            facts = gather(watcher, scan_id)
            if scan_id in written and self._said.get(scan_id) == facts:
                continue
            self._said = {known: said for known, said in self._said.items() if known in watcher.scans[-2:]}
            self._said[scan_id] = facts
            print(json.dumps(facts) if self._json else _line(facts), file=sys.stderr, flush=True)


def gather(watcher: Watcher, scan_id: str) -> dict[str, Any]:
    """The figures of one scan; None where not known."""
    receive, engine = watcher.status("receive", scan_id), watcher.status("reconstruct", scan_id)
    write = watcher.status("write", scan_id)
    ledger = watcher.ledger(scan_id)
    expected = receive.figures.get("expected", -1) if receive else -1
    rate = receive.figures.get("rate_hz", 0.0) if receive else 0.0
    left = expected - ledger.received
    error = engine.figures.get("error", math.nan) if engine else math.nan
    state = engine.state if engine else receive.state if receive else None
    return {
        "scan": scan_id,
        "state": str(state) if state else None,
        **ledger.as_dict(),
        "expected": int(expected) if expected >= 0 else None,
        "rate_hz": round(rate, 1),
        "eta_s": round(left / rate, 1) if expected >= 0 and rate > 0 and left > 0 else None,
        "lag_s": round(engine.figures["lag_s"], 2) if engine and "lag_s" in engine.figures else None,
        "error": None if math.isnan(error) else round(error, 5),
        "rejected": int(sum(n for name, n in receive.figures.items() if name.startswith("rejected_"))) if receive else 0,
        "passes": int(engine.figures.get("passes", 0)) if engine else 0,
        "probe": engine.notes.get("probe") if engine else None,
        "written": write.used if write else None,
        "write_problem": watcher.write_problem(scan_id),
        "problem": watcher.problem(scan_id),
    }


def _line(facts: dict[str, Any]) -> str:
    dropped = sum(facts["dropped"].values())
    of = f"/{facts['expected']}" if facts["expected"] is not None else ""
    parts = [
        f"{facts['scan']}: {facts['state']}",
        f"{facts['received']}{of} received at {facts['rate_hz']:.0f}/s",
        f"{facts['used']} used, {facts['waiting']} waiting, {dropped} dropped",
        f"error {facts['error']:.4f}" if facts["error"] is not None else "no picture yet",
    ]
    parts += [f"lag {facts['lag_s']:.1f} s"] if facts["lag_s"] is not None else []
    parts += [f"{facts['eta_s']:.0f} s to go"] if facts["eta_s"] is not None else []
    parts += [f"{facts['rejected']} messages rejected"] if facts["rejected"] else []
    return " | ".join(parts + _problems(facts))


def _problems(facts: dict[str, Any]) -> list[str]:
    """What must not be overlooked, once each: an error of the writer is among both."""
    problem, unwritten = facts["problem"], facts["write_problem"]
    if unwritten and problem and unwritten in problem:
        unwritten = None
    return [text for text in (unwritten, problem) if text]


def _table(watcher: Watcher) -> Table:
    table = Table(expand=False)
    columns = ("scan", "state", "received", "rate", "used", "waiting", "dropped", "lag", "error", "passes", "to go")
    for column in columns:
        table.add_column(column, justify="left" if column in ("scan", "state") else "right")
    for scan_id in watcher.scans[-4:]:
        facts = gather(watcher, scan_id)
        table.caption = f"{facts['rejected']} messages rejected" if facts["rejected"] else None
        of = f"/{facts['expected']}" if facts["expected"] is not None else ""
        table.add_row(
            scan_id,
            "; ".join(_problems(facts)) or facts["state"] or "",
            f"{facts['received']}{of}",
            f"{facts['rate_hz']:.0f}/s",
            str(facts["used"]),
            str(facts["waiting"]),
            str(sum(facts["dropped"].values())),
            "" if facts["lag_s"] is None else f"{facts['lag_s']:.1f} s",
            "" if facts["error"] is None else f"{facts['error']:.4f}",
            str(facts["passes"]),
            "" if facts["eta_s"] is None else f"{facts['eta_s']:.0f} s",
        )
    return table
