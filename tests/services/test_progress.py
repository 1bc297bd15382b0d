"""What the progress of a scan says about messages that were refused."""

import pytest

from streamptycho.config import ServiceEndpoints
from streamptycho.messages import Status
from streamptycho.reasons import ServiceState
from streamptycho.transport import new_context
from streamptycho_services import progress
from streamptycho_services.watch import Watcher


@pytest.mark.parametrize(
    ("figures", "said"), [({}, None), ({"rejected_no_start": 2.0, "rejected_undecodable": 3.0}, "5 messages rejected")]
)
def test_rejected_messages_are_shown_if_there_are_any(figures: dict[str, float], said: str | None) -> None:
    status = Status(service="receive", scan_id="s", state=ServiceState.RECEIVING, time_ns=1, figures=figures)
    services = ServiceEndpoints(**{name: f"inproc://{name}" for name in ServiceEndpoints.model_fields})
    with new_context() as context, Watcher(context, services) as watcher:
        watcher._take(status)
        line = progress._line(progress.gather(watcher, "s"))
        caption = progress._table(watcher).caption
    assert ("rejected" in line) == (said is not None)
    assert caption == said
    assert said is None or said in line
