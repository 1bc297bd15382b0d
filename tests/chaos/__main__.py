"""Kills, stops, cuts and full disks against the real services: ``python -m tests.chaos --events 500 --seed 0``.

The same seed does the same again; a campaign that was ended goes on with ``--first`` and the number of its last round.
Prints what is found as it is found and a table at the end; the exit code is 1 if anything was lost without a word, called
complete although it was not, altered, or lost without need.
"""

import argparse
import math
import os
import signal
import sys
import time

from tests.chaos.campaign import Plan, campaign
from tests.chaos.faults import LONG, SHORT
from tests.chaos.soak import Soak


def main() -> int:
    """The program."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--events", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, metavar="ROUND", help="number of the first round")
    parser.add_argument("--minutes", type=float, default=math.inf, help="end after so long")
    parser.add_argument("--short", action="store_true", help="stops and cuts of at most 3 s")
    parser.add_argument("--frames", type=int, default=300, help="of each scan")
    parser.add_argument("--soak", type=float, metavar="MINUTES", help="scans without a break, with a fault a minute")
    parser.add_argument("--rate", type=float, default=60.0, help="frames/s of the soak")
    parser.add_argument("--shape", type=int, default=128, help="pixels per side of the soak's frames")
    parser.add_argument("--calm", action="store_true", help="the soak without faults")
    parser.add_argument("--keep", action="store_true", help="leave files and logs where they are")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # in order: the services must not be left behind
    plan = Plan(asked.seed, SHORT if asked.short else LONG, frames=asked.frames)
    begun = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - begun:6.0f} s  load {os.getloadavg()[0]:4.1f}  {text}", flush=True)

    if asked.soak is not None:
        soak = Soak(plan, asked.first, asked.rate, asked.shape, calm=asked.calm)
        soak.soak(asked.soak * 60, say)
        print(soak.table())
        return int(soak.failed)
    tally = campaign(plan, asked.events, asked.first, say, keep=asked.keep, seconds=asked.minutes * 60)
    print(tally.table())
    print("\n".join(tally.findings))
    return int(tally.failed)


if __name__ == "__main__":
    sys.exit(main())
