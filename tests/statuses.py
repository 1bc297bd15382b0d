"""Statuses whose counts add up."""

from typing import Any

from streamptycho.messages.reasons import ServiceKind, ServiceState
from streamptycho.messages.status import AnyStatus, ReceiveStatus, ReconstructStatus, WriteStatus

_TYPES: dict[str, type[AnyStatus]] = {
    ServiceKind.RECEIVE: ReceiveStatus,
    ServiceKind.RECONSTRUCT: ReconstructStatus,
    ServiceKind.WRITE: WriteStatus,
}


def status(service: str = "receive", state: ServiceState = ServiceState.RECEIVING, **values: Any) -> AnyStatus:
    """Of the service of this name; other names are those of further reconstructions."""
    values = {"scan_id": "s", "time_ns": 1, "used": 0, "waiting": 0, "dropped": {}} | values
    received = values["used"] + values["waiting"] + sum(values["dropped"].values())
    made = _TYPES.get(service, ReconstructStatus)
    return made(service=service, state=state, received=received, **values)
