"""Wrong tokens, counted so that nobody can try many. No socket; the clock is passed."""

import ipaddress
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

PER_ADDRESS = 10
OVERALL = 100
WINDOW_S = 60.0
"""So many wrong tokens in so much time; then no further token is looked at for a while."""
MAX_ADDRESSES = 1024
"""Addresses that are remembered; more of them meet the limit of all together."""
_REMEMBERED = 4
"""Different wrong cookies of one address that are recognised."""


@dataclass
class _Bucket:
    """Tries that are left; they come back evenly."""

    size: int
    left: float
    since_s: float

    def refill(self, now_s: float) -> None:
        self.left = min(self.left + (now_s - self.since_s) * self.size / WINDOW_S, float(self.size))
        self.since_s = now_s

    @property
    def wait_s(self) -> float:
        return max(0.0, (1.0 - self.left) * WINDOW_S / self.size)


@dataclass
class _Address:
    bucket: _Bucket
    cookies: deque[int] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))
    was_right: bool = False


class Attempts:
    """Who has presented how many wrong tokens lately."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._all = _Bucket(OVERALL, OVERALL, clock())
        self._addresses: OrderedDict[str, _Address] = OrderedDict()

    def wait_s(self, address: str) -> float:
        """How long no token from this address is looked at; 0 if one is now.

        The limit of all together does not hold for addresses that have presented the right one: somebody who tries many
        from many addresses does not lock out those who are in.
        """
        now_s, known = self._clock(), self._addresses.get(_network(address))
        self._all.refill(now_s)
        if known is None:
            return self._all.wait_s
        known.bucket.refill(now_s)
        return known.bucket.wait_s if known.was_right else max(known.bucket.wait_s, self._all.wait_s)

    def right(self, address: str) -> None:
        """The right token came from this address."""
        self._known(address).was_right = True

    def wrong(self, address: str, token: str, *, cookie: bool) -> None:
        """A wrong token came. The same cookie again does not count: an old window of a browser repeats it for ever."""
        known = self._known(address)
        if cookie and hash(token) in known.cookies:
            return
        known.cookies.append(hash(token))
        for bucket in (known.bucket, self._all):
            bucket.refill(self._clock())
            bucket.left = max(bucket.left - 1, 0.0)

    def _known(self, address: str) -> _Address:
        network = _network(address)
        known = self._addresses.setdefault(network, _Address(_Bucket(PER_ADDRESS, PER_ADDRESS, self._clock())))
        self._addresses.move_to_end(network)
        if len(self._addresses) > MAX_ADDRESSES:
            self._addresses.popitem(last=False)
        return known


def _network(address: str) -> str:
    """What counts as one address: of IPv6 the network of 64 bits, as one host has all of it."""
    try:
        if ipaddress.ip_address(address).version == 6:
            return str(ipaddress.ip_network(f"{address.partition('%')[0]}/64", strict=False))
    except ValueError:  # a name that a test or a proxy gives
        pass
    return address
