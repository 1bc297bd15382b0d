"""Several threads in one sweep: frames go to any free thread; one object, and probes that exchange changes."""

import numpy as np

from streamptycho.solve.compiled.atomic import fetch_add, give_way, swap
from streamptycho.solve.compiled.jit import jit
from streamptycho.solve.compiled.pie import update_one

LARGEST_MOVE = np.float32(0.35)
"""Sum of probe steps after which a thread adds its changes of the probe to the shared one. More, and two threads that have
both gone most of the way to the same probe go beyond it together; the live error then is up to a third larger (ADR 9)."""


@jit
def share(
    obj, probe, amplitudes, corners, rows, flux, background, steps, misfit, figures, floor, field, power, lines, plans,
    copies, order, starts, tickets, me,
):  # fmt: skip
    """One thread's share of a :func:`sweep`: its own part of the frames, then those that others have left.

    The object is shared without locks: threads seldom touch the same pixel at once, and then lose one small change of it.
    The probe changes everywhere with every frame, so that each thread has its own; every few frames it adds its changes to
    the shared one and takes over those of the others.

    `copies` (2, modes, ny, nx) complex64 scratch: this thread's probe, and what it was at the last exchange. `order` (k,),
    `starts` (threads + 1,) int64: part t of the frames is ``order[starts[t] : starts[t + 1]]``; `me` is this thread's part.
    `tickets` (1 + threads,) int64, zeros at first: 1 while the shared probe is locked, frames taken from each part.
    """
    o, p, own, base = obj.view(np.float32), probe.view(np.float32), copies[0].view(np.float32), copies[1].view(np.float32)
    axes, threads, moved = np.array([1, 2]), len(starts) - 1, np.float32(0)
    _lock(tickets)
    own[:] = p
    base[:] = p
    swap(tickets, 0, 0)
    for turn in range(threads):
        part = (me + turn) % threads
        i = starts[part] + fetch_add(tickets, 1 + part, 1)
        while i < starts[part + 1]:
            k, after = order[i], order[min(i + 1, len(order) - 1)]
            row = rows[k]
            misfit[row] = update_one(
                o, own, amplitudes[row], corners[k], corners[after], steps[k], flux[row], background, floor, figures[k],
                field, power, lines, axes, plans,
            )  # fmt: skip
            moved += steps[k, 1]
            if moved >= LARGEST_MOVE:
                _exchange(p, own, base, tickets)
                moved = np.float32(0)
            i = starts[part] + fetch_add(tickets, 1 + part, 1)
    _exchange(p, own, base, tickets)


@jit
def _lock(tickets):
    """Wait for the shared probe; a thread keeps it for some microseconds, if it has a core."""
    while swap(tickets, 0, 1) != 0:
        give_way()


@jit
def _exchange(shared, own, base, tickets):
    """Add the change since the last exchange to the shared probe, and take over what others have added."""
    _lock(tickets)
    for m in range(shared.shape[0]):
        for y in range(shared.shape[1]):
            s, q, b = shared[m, y], own[m, y], base[m, y]
            for x in range(len(s)):
                value = s[x] + (q[x] - b[x])
                s[x] = value
                q[x] = value
                b[x] = value
    swap(tickets, 0, 0)
