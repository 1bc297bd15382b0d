"""Writers killed at random instants: nothing that was acknowledged is lost, and `recover` makes every file whole."""

import pytest

from tests.chaos.writers import campaign


@pytest.mark.slow
def test_a_few_kills():
    tally = campaign(10, seed=1, dumps=[])
    assert tally.findings == []
    assert tally.writers == 10
    assert tally.recoveries > 0
    assert tally.frames >= tally.acknowledged > 0
    assert tally.pictures > 0
