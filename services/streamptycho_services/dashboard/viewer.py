"""One browser: it says what it wants next, and gets that and nothing else.

A viewer sends JSON objects with any of ``want`` (names of items, each good for one message), ``show`` (``{"scan": key or
null, "moment": sequence or null}``), ``quality`` (of pictures: ``raw`` or ``jpeg``) and ``command`` (``{"action",
"scan_id", "started_ns", "value"}``). Nothing is sent unasked, so nothing queues for a viewer that sleeps.
"""

import asyncio
import json
import logging
import math
import queue
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from streamptycho.errors import GrammarError
from streamptycho.messages.live import Action, Command
from streamptycho_services.dashboard.compress import COMPRESSED
from streamptycho_services.dashboard.feed import Feed
from streamptycho_services.dashboard.hub import ITEMS, Hub, Version, least_s

log = logging.getLogger(__name__)

MAX_MESSAGE = 4096
"""Characters of one message of a viewer."""
TURN_S = 0.1
"""Least time between two changes of what is shown; the first one is answered at once."""
_LONGEST_REASON = 120
"""Bytes of the reason in a close frame, which holds 123."""
_QUALITIES = ("raw", "jpeg")
_DIGITS = 20
"""More than any number of 64 bits has; numbers of JavaScript hold fewer, so that times travel as text."""


class RefusedError(ValueError):
    """A viewer's message that cannot be understood: ends its connection."""


class Viewer:
    """What one connection wants and has received."""

    def __init__(self, socket: WebSocket, hub: Hub, feed: Feed, *, control: bool) -> None:
        self._socket = socket
        self._hub = hub
        self._feed = feed
        self._control = control
        self._wanted: set[str] = set()
        self._had: dict[str, Version] = {}
        """Of what is shown now; the times outlive a turn to something else."""
        self._sent_s: dict[str, float] = {}
        self._turned_s: dict[str, float] = {}
        """When an item was sent as the first after a turn."""
        self._scan: str | None = None
        self._moment: int | None = None
        self._jpeg = False
        self._woken = asyncio.Event()
        """Set by a wish, an answer, and by news while something is wanted."""
        self._answers: asyncio.Queue[str] = asyncio.Queue(8)

    async def serve(self) -> None:
        """Until the viewer leaves, or sends what cannot be understood."""
        try:
            async with asyncio.TaskGroup() as tasks:
                sender = tasks.create_task(self._send_until_gone())
                refusal = await self._read_until_gone()
                sender.cancel()
        finally:
            self._hub.wake(self._woken, wanted=False)
        if refusal is not None and self._socket.application_state is WebSocketState.CONNECTED:
            await self._socket.close(1008, refusal.encode()[:_LONGEST_REASON].decode(errors="ignore"))

    async def _read_until_gone(self) -> str | None:
        """Take in what the viewer asks for; the reason to end, if it is the viewer's fault."""
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                return None
            try:
                self._obey(parse(message.get("text")))
            except RefusedError as error:
                return str(error)
            self._woken.set()

    async def _send_until_gone(self) -> None:
        with suppress(WebSocketDisconnect):  # the reader hears of it as well, and ends
            await self._send_forever()

    def _obey(self, asked: dict[str, Any]) -> None:
        if "show" in asked:
            self._scan, self._moment = asked["show"]
            self._had = {item: version for item, version in self._had.items() if item == "status"}
        if "quality" in asked:
            self._jpeg = asked["quality"] == "jpeg"
            self._had = {item: version for item, version in self._had.items() if item not in COMPRESSED}
        self._wanted.update(asked.get("want", ()))
        if "command" in asked:
            self._command(asked["command"])

    def _command(self, command: Command) -> None:
        if not self._control:
            self._answer(command, "refused: this viewer may not control the reconstruction")
            return
        newest = self._feed.state.newest
        if self._scan is not None and (newest is None or self._scan != newest.key):
            self._answer(command, "refused: what is shown is a past scan; choose the newest one")
            return
        try:
            sent = self._feed.send(command)
        except queue.Full:
            self._answer(command, "too many commands wait; try again")
            return
        loop = asyncio.get_running_loop()
        asyncio.wrap_future(sent, loop=loop).add_done_callback(lambda done: self._answer(command, _outcome(done)))

    def _answer(self, command: Command, text: str) -> None:
        """Say what became of a command; a viewer that gives many and reads no answers misses some."""
        if not self._answers.full():
            said = {"item": "answer", "action": command.action, "text": text, "ok": text == "sent"}
            self._answers.put_nowait(json.dumps(said))
        self._woken.set()

    async def _send_forever(self) -> None:
        while True:
            self._woken.clear()
            self._hub.wake(self._woken, wanted=bool(self._wanted))
            while not self._answers.empty():
                await self._socket.send_text(self._answers.get_nowait())
            if "hello" in self._wanted:
                self._wanted.discard("hello")
                await self._socket.send_text(json.dumps({"item": "hello", "control": self._control}))
            wait_s = await self._send_wanted()
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s if self._wanted else None):
                    await self._woken.wait()

    async def _send_wanted(self) -> float:
        """Send what is wanted, new and due; how long to wait for what is not yet due."""
        wait_s = 1.0
        for item in ITEMS:
            if item not in self._wanted:
                continue
            found = self._hub.find(item, self._scan, self._moment)
            if found is None or self._had.get(item) == found[0]:
                continue
            turned = item not in self._had and item in self._sent_s
            last_s, pause_s = (self._turned_s, TURN_S) if turned else (self._sent_s, least_s(item, far=self._jpeg))
            early_s = last_s.get(item, -math.inf) + pause_s - time.monotonic()
            if early_s > 0:
                wait_s = min(wait_s, early_s)
                continue
            version, maker = found
            showing = (self._scan, self._moment, self._jpeg)
            make = self._hub.make_jpeg if self._jpeg and item in COMPRESSED else self._hub.make
            try:
                payload = await make(item, version, maker)
            except Exception:
                log.exception("%s could not be made; the viewer waits for the next one", item)
                self._had[item] = version
                continue
            if showing != (self._scan, self._moment, self._jpeg):
                return 0.0  # the viewer has turned to something else meanwhile
            self._wanted.discard(item)
            last_s[item] = self._sent_s[item] = time.monotonic()
            self._had[item] = version
            await (self._socket.send_text(payload) if isinstance(payload, str) else self._socket.send_bytes(payload))
        return wait_s


def _outcome(done: "asyncio.Future[bool]") -> str:
    if done.cancelled():
        return "not sent: the page is ending"
    if done.result():
        return "sent"
    return "not taken: the reconstruction listens to commands only with reconstruct.allow_control"


def parse(text: str | None) -> dict[str, Any]:
    """A viewer's message, checked: ``want`` items, ``show`` (scan, moment), ``quality``, ``command`` a :class:`Command`.

    Raises :class:`RefusedError` naming field and value.
    """
    if text is None or len(text) > MAX_MESSAGE:
        raise RefusedError(f"message: send text of at most {MAX_MESSAGE} characters")
    try:
        asked = json.loads(text)
    except (ValueError, RecursionError):
        raise RefusedError("message: not JSON") from None
    if not isinstance(asked, dict) or not asked.keys() <= _CHECKS.keys():
        raise RefusedError(f"message: an object with {', '.join(sorted(_CHECKS))} is expected")
    return {name: _CHECKS[name](value) for name, value in asked.items()}


def _items(wanted: object) -> list[str]:
    if not isinstance(wanted, list):
        raise RefusedError("want: a list of items is expected")
    for item in wanted:
        if item not in (*ITEMS, "hello"):
            raise RefusedError(f"want: {str(item)[:40]!r} is not one of {', '.join(ITEMS)}")
    return wanted


def _a_quality(quality: object) -> object:
    if quality not in _QUALITIES:
        raise RefusedError(f"quality: {str(quality)[:40]!r} is not one of {', '.join(_QUALITIES)}")
    return quality


def _what_to_show(show: object) -> tuple[str | None, int | None]:
    if not isinstance(show, dict) or not show.keys() <= {"scan", "moment"}:
        raise RefusedError("show: an object with scan and moment is expected")
    scan, moment = show.get("scan"), show.get("moment")
    if not (scan is None or isinstance(scan, str)):
        raise RefusedError("show.scan: a key or null is expected")
    if not (moment is None or (isinstance(moment, int) and not isinstance(moment, bool))):
        raise RefusedError("show.moment: a number or null is expected")
    return scan, moment


def _a_command(command: object) -> Command:
    if not isinstance(command, dict) or not command.keys() <= {"action", "scan_id", "started_ns", "value"}:
        raise RefusedError("command: an object with action, scan_id, started_ns and value is expected")
    action, scan_id, value = command.get("action"), command.get("scan_id"), command.get("value", 0)
    started_ns = command.get("started_ns", "0")
    if not isinstance(action, str) or action not in set(Action):
        raise RefusedError(f"command.action: {str(action)[:40]!r} is not one of {', '.join(Action)}")
    if not isinstance(scan_id, str) or not isinstance(value, int) or isinstance(value, bool):
        raise RefusedError("command: scan_id is a text and value a whole number")
    if not (isinstance(started_ns, str) and started_ns.isascii() and started_ns.isdecimal() and len(started_ns) < _DIGITS):
        raise RefusedError("command.started_ns: a text of digits is expected, as the status has it")
    try:
        return Command(action=Action(action), scan_id=scan_id, started_ns=int(started_ns), value=value)
    except GrammarError as error:
        raise RefusedError(str(error)) from None


_CHECKS: dict[str, Callable[[object], Any]] = {
    "want": _items,
    "show": _what_to_show,
    "quality": _a_quality,
    "command": _a_command,
}
