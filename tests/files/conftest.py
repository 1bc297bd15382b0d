"""What tests of growing files share: a process that writes, and followers that are closed in the end."""

from collections.abc import Iterator

import pytest

from streamptycho.files.growing.follower import Follower
from tests.other_writer import Writer


@pytest.fixture
def writer() -> Iterator[Writer]:
    made = Writer()
    yield made
    made.end()


@pytest.fixture
def followers() -> Iterator[list[Follower]]:
    opened: list[Follower] = []
    yield opened
    for follower in opened:
        follower.close()
