"""The routes of the page and the wire of its viewers, without a browser."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect

from streamptycho.config import ServiceEndpoints
from streamptycho.messages.live import Action, Command
from streamptycho.wire.endpoint import Endpoint, SocketKind
from streamptycho.wire.sockets import Receiver, new_context
from streamptycho_services.dashboard import app as app_module
from streamptycho_services.dashboard import hub as hub_module
from streamptycho_services.dashboard import viewer as viewer_module
from streamptycho_services.dashboard.app import make_app
from streamptycho_services.dashboard.compress import as_jpeg
from streamptycho_services.dashboard.hub import ITEMS
from streamptycho_services.dashboard.images import snapshot_images, unpack
from streamptycho_services.dashboard.security import Access
from streamptycho_services.dashboard.state import State
from streamptycho_services.dashboard.viewer import MAX_MESSAGE, RefusedError, parse
from tests.dashboard.show import Show
from tests.ports import free_address

HERE = "http://127.0.0.1:8000"
LIVE = "ws://127.0.0.1:8000/ws"
TOKEN = "correct-horse"
STARTED_NS = 1_777_000_000_000_000_001  # more digits than a number of JavaScript holds
COMMAND = {"action": "modes", "scan_id": "s", "started_ns": str(STARTED_NS), "value": 3}


class Served:
    """The application with a client, and its state in our hands."""

    def __init__(self, access: Access, services: ServiceEndpoints | None = None) -> None:
        self.state = State(snapshot_images, time.monotonic)
        services = services or ServiceEndpoints(**{name: free_address() for name in ServiceEndpoints.addresses()})
        self.app = make_app(services, access, self.state)
        self.client = TestClient(self.app, base_url=HERE)

    def tell(self, *messages: Any) -> None:
        for message in messages:
            scan = self.state.take(message)
            if scan is not None:
                self.state.keep(scan)
            self.app.state.page.hub.news()


@pytest.fixture
def serve() -> Iterator[Callable[..., Served]]:
    open_clients: list[TestClient] = []

    def make(access: Access | None = None, services: ServiceEndpoints | None = None) -> Served:
        served = Served(access or Access("127.0.0.1"), services)
        open_clients.append(served.client.__enter__())
        return served

    yield make
    for client in open_clients:
        client.__exit__(None, None, None)


@pytest.fixture(scope="module")
def show() -> Show:
    return Show(frames=40, shape=32)


def header_of(message: bytes) -> dict[str, Any]:
    return json.loads(message[4 : 4 + int.from_bytes(message[:4], "little")])


class Browser:
    """One viewer, with whatever it is sent, taken in by a thread so that a test can see that nothing comes."""

    def __init__(self, socket: Any) -> None:
        self.socket = socket

    def ask(self, **message: Any) -> None:
        self.socket.send_text(json.dumps(message))

    def next(self) -> tuple[dict[str, Any], Any]:
        message = self.socket.receive()
        if message["type"] == "websocket.close":
            raise WebSocketDisconnect(message["code"], message["reason"])
        if message.get("text") is not None:
            return json.loads(message["text"]), None
        return unpack(message["bytes"])


class TestRoutes:
    def test_the_page_and_its_parts(self, serve):
        client = serve().client
        page = client.get("/")
        assert page.status_code == 200
        assert "default-src 'self'" in page.headers["content-security-policy"]
        for part in ("static/main.js", "static/page.css", "static/icon.svg"):
            assert part in page.text
            assert client.get(f"/{part}").status_code == 200
        assert client.get("/static/../app.py").status_code == 404
        assert client.get("/nothing").status_code == 404

    def test_nothing_is_fetched_from_elsewhere(self):
        for path in app_module.STATIC.iterdir():
            text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
            assert "http:" not in text and "https:" not in text.replace('"https:"', ""), path.name  # noqa: PT018
            assert "//cdn" not in text

    def test_healthz(self, serve):
        answer = serve().client.get("/healthz")
        assert (answer.status_code, answer.json()) == (200, {"ok": True})

    def test_figures_and_readiness_for_monitors(self, serve, show):
        served = serve()
        assert served.client.get("/readyz").status_code == 503
        assert served.client.get("/readyz").json()["missing"] == ["receive", "reconstruct", "write"]
        served.tell(*show.everything(0.5))
        answer = served.client.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=")
        assert 'streamptycho_frames_received_total{service="receive"} 20.0' in answer.text
        assert 'streamptycho_scan_frames_received{scan_id="show-1",service="receive"} 20.0' in answer.text
        assert "receive" not in served.client.get("/readyz").json()["missing"]

    def test_status(self, serve, show):
        served = serve()
        assert served.client.get("/status").json()["facts"] is None
        served.tell(*show.everything(0.5))
        report = served.client.get("/status").json()
        assert (report["facts"]["scan"], report["facts"]["received"], report["viewers"]) == ("show-1", 20, 0)
        assert served.client.get("/status", params={"scan": "other"}).json()["facts"] is None

    def test_object_png(self, serve, show):
        served = serve()
        assert served.client.get("/object.png").status_code == 404
        served.tell(show.snapshot(0.5))
        first = served.client.get("/object.png")
        assert (first.status_code, first.headers["content-type"]) == (200, "image/png")
        assert first.content.startswith(b"\x89PNG")
        served.tell(show.snapshot(1.0))
        assert served.client.get("/object.png").content != first.content
        assert served.client.get("/object.png", params={"scan": "show-1@1"}).status_code == 200
        assert served.client.get("/object.png", params={"scan": "show-1@2"}).status_code == 404

    def test_a_foreign_name_for_this_machine_is_not_answered(self, serve):
        client = serve().client
        assert client.get("/status", headers={"host": "evil.org"}).status_code == 400
        with pytest.raises(WebSocketDisconnect), client.websocket_connect(LIVE, headers={"host": "evil.org"}):
            pass


class TestToken:
    PUBLIC = Access("0.0.0.0", TOKEN)

    @pytest.mark.parametrize("path", ["/", "/status", "/metrics", "/object.png", "/?token=wrong", "/status?token=wrong"])
    def test_without_it_nothing_is_told(self, serve, show, path):
        served = serve(self.PUBLIC)
        served.tell(show.snapshot(0.5))
        answer = served.client.get(path)
        assert answer.status_code == 403
        assert "token" in answer.text
        assert served.client.get("/healthz").status_code == 200
        assert served.client.get("/readyz").status_code == 503, "what is not ready is told to anyone"
        with pytest.raises(WebSocketDenialResponse) as refused, served.client.websocket_connect(LIVE):
            pass
        assert refused.value.status_code == 403

    def test_in_the_address_it_becomes_a_cookie(self, serve):
        client = serve(self.PUBLIC).client
        answer = client.get(f"/?token={TOKEN}", follow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (303, "./")
        again = client.get(f"/?token={TOKEN}&quality=jpeg", follow_redirects=False)
        assert again.headers["location"] == "./?quality=jpeg"
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=lax" in cookie
        assert client.get("/").status_code == 200
        assert client.get("/status").status_code == 200
        with client.websocket_connect(LIVE) as socket:
            browser = Browser(socket)
            browser.ask(want=["hello"])
            assert browser.next()[0] == {"item": "hello", "control": False}

    def test_programs_send_it_as_bearer(self, serve):
        client = serve(self.PUBLIC).client
        assert client.get("/status", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200

    def test_another_site_is_refused(self, serve):
        client = serve().client
        headers = {"origin": "http://evil.org"}
        with pytest.raises(WebSocketDenialResponse) as refused, client.websocket_connect(LIVE, headers=headers):
            pass
        assert refused.value.status_code == 403
        with client.websocket_connect(LIVE, headers={"origin": HERE}):
            pass

    def test_viewers_are_bounded(self, serve, monkeypatch):
        monkeypatch.setattr(app_module, "MAX_VIEWERS", 1)
        client = serve().client
        with client.websocket_connect(LIVE):
            with pytest.raises(WebSocketDenialResponse) as refused, client.websocket_connect(LIVE):
                pass
            assert refused.value.status_code == 503
        with client.websocket_connect(LIVE):
            pass


class TestCredit:
    def test_nothing_comes_unasked(self, serve, show):
        served = serve()
        with served.client.websocket_connect(LIVE) as socket:
            browser = Browser(socket)
            for fraction in (0.2, 0.4, 0.6):
                served.tell(*show.everything(fraction))
            time.sleep(0.5)
            browser.ask(want=["hello"])
            assert browser.next()[0]["item"] == "hello", "the first thing to come is the first that was asked for"

    def test_one_wish_is_one_message_and_the_newest(self, serve, show):
        served = serve()
        with served.client.websocket_connect(LIVE) as socket:
            browser = Browser(socket)
            browser.ask(want=["phase"])
            time.sleep(0.2)
            served.tell(show.snapshot(0.2))
            assert browser.next()[0]["frames"] == 8
            for fraction in (0.4, 0.6, 0.8):
                served.tell(show.snapshot(fraction))
            time.sleep(0.4)
            browser.ask(want=["phase"])
            header, data = browser.next()
            assert (header["item"], header["frames"]) == ("phase", 32)
            assert data.shape == tuple(header["shape"])
            browser.ask(want=["phase"])
            time.sleep(0.4)
            browser.ask(want=["hello"])
            assert browser.next()[0]["item"] == "hello", "what is known already is not sent again"

    def test_jpeg_is_made_once_for_all_who_want_it(self, serve, show, monkeypatch):
        made = []
        monkeypatch.setattr(hub_module, "as_jpeg", lambda raw: made.append(raw) or as_jpeg(raw))
        served = serve()
        served.tell(*show.everything(0.5))
        connect = served.client.websocket_connect
        with connect(LIVE) as near, connect(LIVE) as far, connect(LIVE) as farther:
            browsers = [Browser(socket) for socket in (near, far, farther)]
            for browser, quality in zip(browsers, ("raw", "jpeg", "jpeg"), strict=True):
                browser.ask(quality=quality, want=["phase"])
            headers = [header_of(browser.socket.receive_bytes()) for browser in browsers]
            assert ["jpeg" in header for header in headers] == [False, True, True]
            assert len(made) == 1
            browsers[1].ask(quality="raw", want=["phase"])
            assert "jpeg" not in header_of(far.receive_bytes()), "the same picture anew, as it was asked for"
            browsers[2].ask(want=["maps"])
            assert "jpeg" not in header_of(farther.receive_bytes()), "small ones are not compressed"

    @pytest.mark.expects_errors
    def test_a_picture_that_cannot_be_made_costs_that_picture_only(self, serve, show, monkeypatch):
        def broken(*_: object) -> bytes:
            raise MemoryError("no room")

        monkeypatch.setattr(hub_module.images, "coverage", broken)
        served = serve()
        served.tell(*show.everything(0.5))
        with served.client.websocket_connect(LIVE) as socket:
            browser = Browser(socket)
            browser.ask(want=["coverage", "amplitude"])
            assert browser.next()[0]["item"] == "amplitude"
            monkeypatch.undo()
            served.tell(*show.everything(0.6))
            assert browser.next()[0]["item"] == "coverage"

    def test_everything_can_be_asked_for(self, serve, show):
        served = serve()
        served.tell(*show.everything(0.5))
        with served.client.websocket_connect(LIVE) as socket:
            browser = Browser(socket)
            browser.ask(want=list(ITEMS))
            came = [browser.next() for _ in ITEMS]
            assert {header["item"] for header, _ in came} == set(ITEMS)
            for header, data in came:
                assert (data is None) == (header["item"] in ("status", "curve", "moments", "ring"))

    def test_status_comes_though_nothing_happens(self, serve):
        with serve().client.websocket_connect(LIVE) as socket:
            browser = Browser(socket)
            for _ in range(3):
                browser.ask(want=["status"])
                assert browser.next()[0]["item"] == "status"

    def test_looking_back_and_at_another_scan(self, serve, show):
        served = serve()
        served.tell(show.snapshot(0.3))
        first = show.sequence
        served.tell(show.snapshot(0.6))
        other = Show("show-2", frames=30, shape=32, seed=1, started_ns=2)
        served.tell(*other.everything(1.0))
        with served.client.websocket_connect(LIVE) as socket:
            browser = Browser(socket)
            browser.ask(want=["phase", "status"])
            came = {header["item"]: header for header, _ in (browser.next(), browser.next())}
            assert came["phase"]["frames"] == 30
            assert came["status"]["key"] == "show-2@2"
            browser.ask(show={"scan": "show-1@1", "moment": None}, want=["phase"])
            assert browser.next()[0]["frames"] == 24
            browser.ask(show={"scan": "show-1@1", "moment": first}, want=["phase"])
            assert browser.next()[0]["frames"] == 12
            browser.ask(show={"scan": None, "moment": None}, want=["phase"])
            assert browser.next()[0]["frames"] == 30

    def test_a_viewer_that_sleeps_holds_nothing_up(self, serve, show):
        served = serve()
        with served.client.websocket_connect(LIVE) as asleep, served.client.websocket_connect(LIVE) as awake:
            Browser(asleep).ask(want=list(ITEMS))
            browser = Browser(awake)
            for step in range(1, 40):
                served.tell(show.snapshot(step / 40))
                browser.ask(want=["phase"])
                assert browser.next()[0]["sequence"] == show.sequence
            assert len(served.app.state.page.hub._made) <= len(ITEMS)


class TestPace:
    def looked(self, browser: Browser, item: str, shows: list[Any], seconds: float) -> int:
        """Messages that a viewer gets which turns to and fro for so long, and asks each time."""
        count, end_s = 0, time.monotonic() + seconds
        while time.monotonic() < end_s:
            browser.ask(show=shows[count % len(shows)], want=[item])
            assert browser.next()[0]["item"] == item
            count += 1
        return count

    @pytest.mark.parametrize("item", ["phase", "curve"])
    def test_turning_to_and_fro_is_no_way_round_it(self, serve, show, item):
        served = serve()
        served.tell(*show.everything(0.3))
        first = show.sequence
        served.tell(*show.everything(0.6))
        shows = [{"scan": None, "moment": first}, {"scan": None, "moment": None}]
        with served.client.websocket_connect(LIVE) as socket:
            assert 2 <= self.looked(Browser(socket), item, shows, 0.5) <= 8

    def test_a_first_look_back_comes_at_once(self, serve, show, monkeypatch):
        monkeypatch.setattr(viewer_module, "least_s", lambda item, far: 30.0)
        monkeypatch.setattr(viewer_module, "TURN_S", 30.0)
        served = serve()
        served.tell(show.snapshot(0.3))
        first = show.sequence
        served.tell(show.snapshot(0.6))
        with served.client.websocket_connect(LIVE) as socket:
            browser = Browser(socket)
            browser.ask(want=["phase"])
            browser.next()
            served.app.state.page.hub.news()
            time.sleep(0.1)
            begun_s = time.monotonic()
            browser.ask(show={"scan": None, "moment": first}, want=["phase"])
            assert browser.next()[0]["sequence"] == first
            assert time.monotonic() - begun_s < 5


class TestBadMessages:
    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("{", "not JSON"),
            ("[" * 3000, "not JSON"),
            ("7", "an object"),
            ('{"wnat": []}', "an object with command, quality, show, want"),
            ('{"want": "phase"}', "want: a list"),
            ('{"want": ["secrets"]}', "want: 'secrets' is not one of"),
            ('{"want": [["phase"]]}', "want:"),
            ('{"show": []}', "show: an object"),
            ('{"show": {"scan": 3}}', "show.scan"),
            ('{"show": {"scan": null, "moment": true}}', "show.moment"),
            ('{"quality": "png"}', "quality: 'png' is not one of raw, jpeg"),
            ('{"command": {"action": "explode", "scan_id": "s"}}', "command.action: 'explode'"),
            ('{"command": {"action": ["stop"], "scan_id": "s"}}', "command.action"),
            ('{"command": {"action": "stop", "scan_id": 3}}', "command: scan_id"),
            ('{"command": {"action": "stop", "scan_id": ""}}', "scan_id"),
            ('{"command": {"action": "modes", "scan_id": "s", "value": 17}}', "command.value"),
            ('{"command": {"action": "stop", "scan_id": "s", "value": 1}}', "command.value"),
            ('{"command": {"action": "modes", "scan_id": "s", "value": 1e999}}', "whole number"),
            ('{"command": {"action": "stop", "scan_id": "s", "started_ns": 5}}', "command.started_ns: a text of"),
            ('{"command": {"action": "stop", "scan_id": "s", "started_ns": "-5"}}', "command.started_ns: a text of"),
            ('{"command": {"action": "stop", "scan_id": "s", "started_ns": "' + "9" * 19 + '"}}', "command.started_ns"),
            ('{"command": {"action": "stop", "scan_id": "s", "started_ns": "' + "9" * 3000 + '"}}', "command.started_ns"),
            ("x" * (MAX_MESSAGE + 1), "at most"),
        ],
    )
    def test_are_refused_with_a_reason_and_end_the_connection(self, serve, text, reason):
        with pytest.raises(RefusedError, match=reason[:20].replace("[", ".")):
            parse(text)
        with serve().client.websocket_connect(LIVE) as socket:
            socket.send_text(text)
            with pytest.raises(WebSocketDisconnect) as closed:
                Browser(socket).next()
            assert closed.value.code == 1008
            assert reason in closed.value.reason

    def test_bytes(self, serve):
        with serve().client.websocket_connect(LIVE) as socket:
            socket.send_bytes(b"\x00")
            with pytest.raises(WebSocketDisconnect) as closed:
                Browser(socket).next()
        assert closed.value.code == 1008

    @pytest.mark.parametrize("origin", [b"http://127.0.0.1:8000", b"http://evil.org"])
    def test_a_viewer_who_is_gone_before_the_answer(self, serve, origin):
        scope = {
            "type": "websocket",
            "path": "/ws",
            "scheme": "ws",
            "query_string": b"",
            "headers": [(b"host", b"127.0.0.1:8000"), (b"origin", origin)],
            "extensions": {"websocket.http.response": {}},
        }

        async def receive() -> dict[str, Any]:
            return {"type": "websocket.connect"}

        async def send(message: dict[str, Any]) -> None:
            raise OSError("gone")

        app = serve().app
        asyncio.run(app(scope, receive, send))
        assert app.state.page.viewers == 0

    def test_good_ones(self):
        asked = parse(
            '{"want": ["phase"], "show": {"scan": "a@1"}, "command": {"action": "passes", "scan_id": "a", "value": 9}}'
        )
        command = Command(action=Action.PASSES, scan_id="a", value=9)
        assert asked == {"want": ["phase"], "show": ("a@1", None), "command": command}


class TestControl:
    def test_who_only_looks_cannot_act(self, serve):
        client = serve(Access("127.0.0.1", TOKEN, allow_control=True)).client
        with client.websocket_connect(LIVE) as socket:
            browser = Browser(socket)
            browser.ask(want=["hello"])
            assert browser.next()[0]["control"] is False
            browser.ask(command=COMMAND)
            answer, _ = browser.next()
            assert (answer["item"], answer["ok"]) == ("answer", False)
            assert "refused" in answer["text"]

    def test_a_command_reaches_the_reconstruction(self, serve):
        services = ServiceEndpoints(**{name: free_address() for name in ServiceEndpoints.addresses()})
        got = []
        with new_context() as context:
            end = Endpoint(address=services.control, socket=SocketKind.PULL, bind=True)
            with Receiver(context, [end]) as receiver:
                listener = threading.Thread(target=lambda: got.append(receiver.receive(10)))
                listener.start()
                client = serve(Access("127.0.0.1", TOKEN, allow_control=True), services).client
                with client.websocket_connect(f"{LIVE}?token={TOKEN}") as socket:
                    browser = Browser(socket)
                    browser.ask(want=["hello"])
                    assert browser.next()[0]["control"] is True
                    browser.ask(command=COMMAND)
                    assert browser.next()[0] == {"item": "answer", "action": "modes", "text": "sent", "ok": True}
                listener.join()
        assert got == [Command(action=Action.MODES, scan_id="s", started_ns=STARTED_NS, value=3)]

    def test_nobody_takes_it(self, serve):
        client = serve(Access("127.0.0.1", TOKEN, allow_control=True)).client
        with client.websocket_connect(f"{LIVE}?token={TOKEN}") as socket:
            browser = Browser(socket)
            browser.ask(command=COMMAND)
            answer, _ = browser.next()
        assert answer["ok"] is False
        assert "reconstruct.allow_control" in answer["text"]
