"""The thread that listens for the page goes on, whatever comes."""

import pytest

from streamptycho_services.dashboard.feed import Feed
from streamptycho_services.dashboard.images import snapshot_images
from streamptycho_services.dashboard.state import State
from tests.chain import wait_until
from tests.dashboard.show import Show, Stage


@pytest.mark.expects_errors
def test_a_picture_that_cannot_be_kept_costs_that_moment_only(caplog):
    broken = True

    def encode(snapshot, key):
        if broken:
            raise MemoryError("no room")
        return snapshot_images(snapshot, key)

    show = Show(frames=40, shape=32)
    state = State(encode, lambda: 0.0)
    with Stage() as stage, Feed(stage.services, state, lambda: None, control=False) as feed:
        stage.wait()
        stage.send(*show.everything(0.5))
        wait_until(lambda: "could not be kept" in caplog.text, "the complaint")
        broken = False
        stage.send(*show.everything(0.6))
        wait_until(lambda: state.newest and state.newest.history.moments, "the next moment")
        assert feed.alive
    assert f"scan {show.scan_id} could not be kept" in caplog.text
    assert state.newest.snapshot.sequence == state.newest.history.moments[0].sequence
