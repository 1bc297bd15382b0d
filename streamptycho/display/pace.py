"""How often work repeats: at most once per period, and in at most a given share of the time."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Pace:
    """When work that repeats is due. It is due at first; afterwards :meth:`turn` around the work sets the next time.

    The period is kept on average even if :attr:`due` is asked a little late.

    Parameters
    ----------
    period_s : least time from one turn to the next.
    clock : seconds, monotonic.
    share : largest part of the time that the turns may take, in (0, 1]: with 0.05, the next turn after one that took 0.1 s
        is due 2 s after that one began.
    spent : clock that the cost of a turn is read from, seconds, if not `clock`; for instance the thread's processor time.
    """

    def __init__(
        self,
        period_s: float,
        clock: Callable[[], float] = time.monotonic,
        *,
        share: float = 1.0,
        spent: Callable[[], float] | None = None,
    ) -> None:
        self.period_s = period_s
        self.share = share
        self._clock = clock
        self._spent = spent or clock
        self._next_s = -math.inf

    @property
    def due(self) -> bool:
        """True if the next turn may begin."""
        return self._clock() >= self._next_s

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Around the work, due or not; an exception leaves the next time as it was."""
        begun_s, before_s = self._clock(), self._spent()
        yield
        cost_s = self._spent() - before_s
        late = begun_s - self.period_s < self._next_s <= begun_s
        self._next_s = max((self._next_s if late else begun_s) + self.period_s, begun_s + cost_s / self.share)

    def wait(self, seconds: float) -> None:
        """Not due before so many seconds from now."""
        self._next_s = max(self._next_s, self._clock() + seconds)
