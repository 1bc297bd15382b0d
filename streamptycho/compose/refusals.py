"""What was refused of a stream, as long as nothing of it has been understood since."""

from streamptycho.compose.findings import Findings
from streamptycho.compose.options import Role
from streamptycho.errors import BEGAN_BEFORE, ProtocolError


class Refusals:
    """By role of the stream, why the first message was refused since one was understood."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._why: dict[Role, str] = {}

    def understood(self, role: Role) -> None:
        """What was refused before is over."""
        if self._why.pop(role, None) is not None:
            self._findings.forget(role.value)

    def add(self, role: Role, error: ProtocolError) -> None:
        """A message of this stream was refused."""
        self._why.setdefault(role, str(error))
        if error.reason == BEGAN_BEFORE:
            self._findings.say(role.value, error.reason, error.detail)

    def sentences(self) -> tuple[str, ...]:
        """One for each stream of which nothing is understood at present."""
        return tuple(map(_sentence, self._why, self._why.values()))

    def because_of(self, role: Role) -> str:
        """The end of a sentence that says that nothing comes from this stream, with the remedy."""
        why = self._why.get(role)
        if why is None:
            return f"look whether their sender runs, and at detector.{role.value}"
        return _sentence(role, why)


def _sentence(role: Role, why: str) -> str:
    return f"what comes from detector.{role.value} is refused: {why}"
