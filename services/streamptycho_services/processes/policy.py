"""When a process is started again: given deaths, silences and times, what to do. Starts nothing, knows no clock."""

from collections import deque

FIRST_S = 0.1
"""Time between a first death and the next start; doubled from death to death."""
LONGEST_S = 30.0
HEALTHY_S = 60.0
"""A process that has run for so long has forgotten its earlier deaths."""
LOOP_DEATHS = 5
LOOP_S = 60.0
"""So many deaths within this time are a crash loop."""
BUSY = 10
"""Times that a silent process which computes is waited for longer than one which does nothing: it may be compiling."""
COMPUTES = 0.25
"""Share of a processor from which a process counts as computing."""
LONGEST_LOOK_S = 1.0
"""Silence that one look can add: who was stopped, or slept with the whole machine, has not listened in between."""


class Restarts:
    """The deaths of one service, and when it is started again. Times in seconds on a clock that never goes back."""

    def __init__(self) -> None:
        self.count = 0
        """Starts after a death."""
        self.looping = False
        """True from the death that made it a crash loop until a minute of health."""
        self._delay_s = FIRST_S
        self._deaths: deque[float] = deque(maxlen=LOOP_DEATHS)
        self._begun_s: float | None = None

    @property
    def next_count(self) -> int:
        """What the count is after the next start."""
        return self.count + bool(self._deaths)

    def started(self, now_s: float) -> None:
        """Note a start."""
        self.count = self.next_count
        self._begun_s = now_s

    def died(self, now_s: float) -> float:
        """Note a death, or a start that failed; how long to wait before the next start, in seconds."""
        self.healthy(now_s)
        self._begun_s = None
        self._deaths.append(now_s)
        self.looping |= len(self._deaths) == LOOP_DEATHS and now_s - self._deaths[0] <= LOOP_S
        delay_s, self._delay_s = self._delay_s, min(2 * self._delay_s, LONGEST_S)
        return delay_s

    def healthy(self, now_s: float) -> bool:
        """True once the process has run for a minute: back-off and crash loop begin anew."""
        healthy = self._begun_s is not None and now_s - self._begun_s >= HEALTHY_S
        if healthy:
            self.looping = False
            self._delay_s = FIRST_S
            self._deaths.clear()
        return healthy


class Silence:
    """For how long a process has said nothing, in seconds during which somebody listened.

    Counted from its first beat on: before it, a process may have to compile for minutes.
    """

    def __init__(self, hung_s: float) -> None:
        self.hung_s = hung_s
        self.heard = False
        """Whether there was a first beat."""
        self.silent_s = 0.0
        self._looked_s: float | None = None
        self._cpu: tuple[float, float] | None = None

    def look(self, now_s: float, *, heard: bool) -> None:
        """Note whether it has beaten since the last look."""
        since_s = 0.0 if self._looked_s is None else min(now_s - self._looked_s, LONGEST_LOOK_S)
        self._looked_s = now_s
        self.heard |= heard
        if heard or not self.heard:
            self.silent_s, self._cpu = 0.0, None
        else:
            self.silent_s += since_s

    @property
    def suspicious(self) -> bool:
        """True once it is time to ask :meth:`hung`."""
        return self.silent_s >= self.hung_s / 2

    def excuse(self) -> None:
        """It could say nothing until now: it has `hung_s` / 2 more for its next beat."""
        self.silent_s = min(self.silent_s, self.hung_s / 2)

    def hung(self, cpu_s: float | None) -> bool:
        """Whether to give it up; `cpu_s` is the processor time it has used since its start, None where nobody knows."""
        computes = False
        if cpu_s is not None:
            self._cpu = self._cpu or (self.silent_s, cpu_s)
            since_s, used_s = self._cpu
            computes = cpu_s - used_s > COMPUTES * (self.silent_s - since_s)
        return self.silent_s >= self.hung_s * (BUSY if computes else 1)
