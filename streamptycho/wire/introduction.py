"""What a consumer that has begun anew must know of messages that are safe and not sent again. Pure."""

from dataclasses import replace

from streamptycho.messages.kinds import Message
from streamptycho.messages.results import Assessment, Estimates
from streamptycho.messages.run import RunId
from streamptycho.messages.status import Status
from streamptycho.messages.stream import ScanEnd, ScanStart


def lasts(message: Message) -> bool:
    """Whether later messages cannot be understood without this one, or the files of the scan are not whole without it."""
    match message:
        case ScanStart() | ScanEnd() | Estimates():
            return True
        case Status():
            return message.done
        case Assessment():
            return message.final
    return False


class Introduction:
    """The beginnings of all open scans, and what was last said about the newest that are over."""

    def __init__(self, over: int) -> None:
        """Remember `over` scans that are over, or whose start is not sent on this link."""
        self._over = over
        self._runs: dict[RunId, dict[str, Message]] = {}

    def add(self, message: Message) -> None:
        """Take in a message that lasts and is safe."""
        run: RunId | None = getattr(message, "run", None)
        if run is None:
            return
        if isinstance(message, ScanStart):
            self._runs.pop(run, None)
            self._runs[run] = {}
        self._runs.setdefault(run, {})[message.kind] = message
        over = [run for run, said in self._runs.items() if ScanStart.kind not in said or ScanEnd.kind in said]
        nameless = [run for run in over if not run.started_ns]  # whose file could not be told from another run's
        for run in {*over[: max(len(over) - self._over, 0)], *nameless}:
            del self._runs[run]

    @property
    def messages(self) -> list[Message]:
        """In the order in which they were sent; starts say that they are repeated."""
        said = (message for messages in self._runs.values() for message in messages.values())
        return [replace(message, repeated=True) if isinstance(message, ScanStart) else message for message in said]
