"""Encodings are made once and kept for other viewers, within a bound."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable

import pytest

from streamptycho_services.dashboard import hub as hub_module
from streamptycho_services.dashboard.hub import Hub
from streamptycho_services.dashboard.state import State
from tests.files.factories import snapshot

NEWEST = "s9@9"


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Room for three encodings of 300 bytes."""
    monkeypatch.setattr(hub_module, "_MADE_BYTES", 1000)


def run(work: Callable[[Hub], Awaitable[None]]) -> None:
    """Do something with a hub of ten scans, of which `NEWEST` began last."""

    async def within_a_loop() -> None:
        state = State(lambda shot, key: {"phase": b"kept"}, time.monotonic)
        for i in range(10):
            scan = state.take(snapshot(1, scan_id=f"s{i}", started_ns=i))
            if scan is not None:
                state.keep(scan)
        hub = Hub(state)
        try:
            await work(hub)
        finally:
            hub.close()

    asyncio.run(within_a_loop())


async def want(hub: Hub, i: int, item: str = "exact", size: int = 300) -> bytes | str:
    made = await hub.make(item, (f"s{i}@{i}", 1), lambda: bytes(size))
    await asyncio.sleep(0)  # room is made after it
    return made


def held(hub: Hub) -> dict[tuple[str, str], int]:
    return {slot: hub_module._size(made) for slot, (_, made) in hub._made.items()}


def test_what_was_wanted_longest_ago_goes():
    async def work(hub: Hub) -> None:
        for i in (1, 2, 3, 1, 4):
            assert len(await want(hub, i)) == 300
        assert held(hub) == {("s3@3", "exact"): 300, ("s1@1", "exact"): 300, ("s4@4", "exact"): 300}

    run(work)


def test_the_newest_scan_keeps_all_of_its_own():
    async def work(hub: Hub) -> None:
        for item, size in (("exact", 5000), ("phase", 700), ("probe", 700)):
            await want(hub, 9, item, size)
        for i in range(1, 8):
            await want(hub, i)
        mine = {item: size for (key, item), size in held(hub).items() if key == NEWEST}
        assert mine == {"exact": 5000, "phase": 700, "probe": 700}
        assert sum(held(hub).values()) - sum(mine.values()) <= 1000

    run(work)


def test_what_is_in_the_making_counts_when_it_is_made():
    async def work(hub: Hub) -> None:
        gate = threading.Event()
        slow = [hub.make("exact", (f"s{i}@{i}", 1), lambda: bytes(300 * gate.wait(10))) for i in range(1, 8)]
        waiting = asyncio.gather(*slow)
        await asyncio.sleep(0.01)
        assert len(hub._made) == 7
        gate.set()
        assert [len(made) for made in await waiting] == [300] * 7
        await asyncio.sleep(0)
        assert list(held(hub)) == [("s5@5", "exact"), ("s6@6", "exact"), ("s7@7", "exact")]

    run(work)


def test_many_small_ones_are_bounded_too():
    """A viewer may ask for the status of any key."""

    async def work(hub: Hub) -> None:
        for i in range(200):
            await hub.make("status", (f"nobody {i}", 1, 1), lambda: "{}")
        await asyncio.sleep(0)
        assert len(hub._made) == hub_module._MADE

    run(work)


def test_what_is_kept_for_looking_back_is_not_kept_twice():
    async def work(hub: Hub) -> None:
        found = hub.find("phase", NEWEST, 1)
        assert found is not None
        assert await hub.make("phase", *found) == b"kept"
        assert not hub._made

    run(work)


def test_what_cannot_be_made_takes_no_room():
    async def work(hub: Hub) -> None:
        with pytest.raises(ZeroDivisionError):
            await hub.make("exact", ("s1@1", 1), lambda: bytes(1 // 0))
        for i in range(2, 5):
            await want(hub, i)
        assert sum(held(hub).values()) == 900

    run(work)
