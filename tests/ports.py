"""TCP ports for tests: free now, and still free when a service gets round to binding one."""

import random
import socket
from itertools import cycle
from pathlib import Path

LOWEST, HIGHEST = 10_000, 65_535
EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
USUAL = (32_768, 65_535)
"""What outgoing connections use where the system does not say."""


def lasting_ports(ephemeral: tuple[int, int]) -> list[int]:
    """Ports outside the range from which the system gives any outgoing connection one, first and last included.

    A free port inside that range can be gone a moment later: a connection of the same test may leave from it.
    """
    first, last = ephemeral
    all_ports = range(LOWEST, HIGHEST + 1)
    return [port for port in all_ports if not first <= port <= last] or list(all_ports)


def _ephemeral() -> tuple[int, int]:
    if not EPHEMERAL.is_file():
        return USUAL
    first, last = EPHEMERAL.read_text().split()
    return int(first), int(last)


def _shuffled() -> list[int]:
    ports = lasting_ports(_ephemeral())
    random.SystemRandom().shuffle(ports)  # other test runs on this machine choose as well
    return ports


_ports = cycle(_shuffled())


def _free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A free TCP port of this machine that no other call has returned."""
    return next(filter(_free, _ports))


def free_address() -> str:
    """The same as a ZeroMQ address."""
    return f"tcp://127.0.0.1:{free_port()}"
