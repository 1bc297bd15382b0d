"""Scans that are over and wait for a picture that nobody is making: the reconstruction that had them has died.

The receiver has nothing more to say of them, the writer waits, and its file has all that is needed.
"""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from streamptycho.errors import FormatError
from streamptycho.files.scan import open_scan
from streamptycho.messages.run import RunId
from streamptycho.messages.status import WriteStatus
from streamptycho.messages.stream import ScanStart

log = logging.getLogger(__name__)

PATIENCE_S = 2.0
"""How long the writer must have waited: what the receiver still has to say comes sooner."""
_RUNS = 1000


class Orphans:
    """Finds them in what the writer says; `clock` in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._had: dict[RunId, None] = {}
        """Those that this process has begun, or has tried to."""
        self._since_s: dict[RunId | None, float] = {}

    def had(self, run: RunId) -> None:
        """Note a scan that this process has begun itself."""
        self._had[run] = None
        self._since_s.pop(run, None)
        if len(self._had) > _RUNS:
            del self._had[next(iter(self._had))]

    def start(self, status: WriteStatus) -> ScanStart | None:
        """The start of a scan to be taken up now, as its file has it; None for any other."""
        run = status.run
        if run is None or run in self._had or status.done or status.end is None or status.file is None:
            self._since_s.pop(run, None)
            return None
        since_s = self._since_s.setdefault(run, self._clock())
        if self._clock() < since_s + PATIENCE_S:
            return None
        self.had(run)
        try:
            with open_scan(Path(status.file)) as scan:
                start = replace(scan.start(run.scan_id, run.started_ns), expected=scan.planned, repeated=True)
        except FormatError as error:
            log.warning("scan %s: its picture is not finished: %s", run.scan_id, error)
            return None
        log.warning("scan %s is over and its picture was not finished; it is taken up from the file", run.scan_id)
        return start
