"""The thread that listens for the page goes on, whatever comes."""

import pytest

from streamptycho_services.dashboard.feed import Feed
from streamptycho_services.dashboard.images import snapshot_images
from streamptycho_services.dashboard.state import State
from tests.chain import wait_until
from tests.dashboard.show import Show, Stage


@pytest.mark.expects_errors
def test_a_picture_that_cannot_be_kept_costs_that_moment_only(caplog):
    tried = []

    def encode(snapshot, key):
        tried.append(snapshot)
        if not snapshot.final:
            raise MemoryError("no room")
        return snapshot_images(snapshot, key)

    show = Show(frames=40, shape=32)
    state = State(encode, lambda: 0.0)
    with Stage() as stage, Feed(stage.services, state, lambda: None, control=False) as feed:
        stage.wait()
        stage.send(*show.everything(0.5))
        wait_until(lambda: f"scan {show.scan_id} could not be kept" in caplog.text, "the complaint")
        for fraction in (0.6, 0.7, 0.8):
            stage.send(*show.everything(fraction))
        stage.send(*show.everything(1.0, final=True))
        wait_until(lambda: state.newest.history.moments, "the last moment")
        assert feed.alive
    assert [snapshot.final for snapshot in tried] == [False, True], "no try at each snapshot"
