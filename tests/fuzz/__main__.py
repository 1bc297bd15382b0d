"""Bad messages to every port of the real programs: ``python -m tests.fuzz --messages 1000000 --seed 0 --resume FILE``.

After every 10 000 of them each process must be the same as before and hold no more than before, and a good scan must come
out perfect. With ``--resume``, what was done is kept in a file, and the next call goes on there. Prints what is found as it
is found, and a table at the end; the exit code is 1 if anything was found.
"""

import argparse
import os
import sys
import time
from pathlib import Path

from tests.fuzz.campaign import Plan, State, campaign


def main() -> int:
    """The program."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--messages", type=int, default=1_000_000, help="in all, those of earlier calls included")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", type=Path, metavar="FILE", help="where the state is kept")
    parser.add_argument("--block", type=int, default=Plan.block, help="messages between two good scans")
    parser.add_argument("--session", type=int, default=Plan.session, help="messages between two starts of the programs")
    asked = parser.parse_args()
    state, begun = State.load(asked.resume, asked.seed), time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - begun:6.0f} s  load {os.getloadavg()[0]:4.1f}  {text}", flush=True)

    campaign(Plan(asked.block, asked.session), state, asked.messages, asked.resume, say)
    print(state.table())
    print("\n".join(state.findings))
    return int(bool(state.findings))


if __name__ == "__main__":
    sys.exit(main())
