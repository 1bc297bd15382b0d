"""What the progress of a scan says about messages that were refused."""

import pytest

from streamptycho.config import ServiceEndpoints
from streamptycho.display.known import Known
from streamptycho.messages.reasons import ServiceState
from streamptycho.messages.run import RunId
from streamptycho.messages.status import ReceiveStatus
from streamptycho.wire.sockets import new_context
from streamptycho_services.commands import progress
from streamptycho_services.processes.watch import Watcher


@pytest.mark.parametrize(("rejected", "said"), [({}, None), ({"no_start": 2, "undecodable": 3}, "5 messages rejected")])
def test_rejected_messages_are_shown_if_there_are_any(rejected: dict[str, int], said: str | None) -> None:
    status = ReceiveStatus(scan_id="s", state=ServiceState.RECEIVING, time_ns=1, rejected=rejected)
    services = ServiceEndpoints(**{name: f"inproc://{name}" for name in ServiceEndpoints.addresses()})
    with new_context() as context, Watcher(context, services) as watcher:
        watcher.take(status)
        line = progress._line(watcher.known("s").facts())
        caption = progress._table(watcher).caption
    assert "received at 0/s" in line
    assert ("rejected" in line) == (said is not None)
    assert caption == said
    assert said is None or said in line


def test_a_stream_that_has_fallen_silent_is_said() -> None:
    known = Known(RunId("s", 1))
    known.take(ReceiveStatus(scan_id="s", started_ns=1, state=ServiceState.RECEIVING, time_ns=1, silence_s={"frames": 12.4}))
    assert "0 received none for 12 s" in progress._line(known.facts())
    known.take(ReceiveStatus(scan_id="s", started_ns=1, state=ServiceState.DONE, time_ns=2, silence_s={"frames": 99.0}))
    assert "0 received at 0/s" in progress._line(known.facts()), "the scan is over"
