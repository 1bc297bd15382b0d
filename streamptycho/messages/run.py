"""The identity of one run of a scan."""

from dataclasses import dataclass
from typing import TypedDict

from streamptycho.messages.checks import Checked


class RunFields(TypedDict):
    """The fields by which a message names its run."""

    scan_id: str
    started_ns: int


@dataclass(frozen=True, slots=True, order=True)
class RunId:
    """One run of a scan id: the same id may be used again, with another beginning."""

    scan_id: str
    started_ns: int = 0
    """Beginning of the run, ns since the Unix epoch; 0 where the sender does not know it."""

    def __str__(self) -> str:
        return f"{self.scan_id}@{self.started_ns}"

    @property
    def fields(self) -> RunFields:
        """Both, as keyword arguments of a message."""
        return {"scan_id": self.scan_id, "started_ns": self.started_ns}

    def may_be(self, run: "RunId") -> bool:
        """Whether a message that names this run can belong to `run`: an unknown beginning fits any."""
        return self.scan_id == run.scan_id and self.started_ns in (0, run.started_ns)


class OfRun(Checked):
    """A message about one run of a scan."""

    __slots__ = ()
    scan_id: str
    started_ns: int

    @property
    def run(self) -> RunId:
        """Which run of which scan."""
        return RunId(self.scan_id, self.started_ns)
