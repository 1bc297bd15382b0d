"""The page in a browser, fed over real sockets. Skipped where there is no Chromium or no playwright."""

import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamptycho.messages.live import Action, Command
from streamptycho.messages.reasons import EndReason
from streamptycho.wire.endpoint import Endpoint, SocketKind
from streamptycho.wire.sockets import Receiver, new_context
from streamptycho_services.dashboard import state
from streamptycho_services.dashboard.server import PageOptions
from tests.chain import PROGRAM, wait_until
from tests.chain import Command as Program
from tests.dashboard.browser import CHROMIUM, FLAGS
from tests.dashboard.show import PageThread, Show, Stage
from tests.ports import free_port

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
TOKEN = "correct-horse"
COLOURS = """(id) => {
  const canvas = document.getElementById(id);
  const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  return new Set(new Uint32Array(data.buffer)).size;
}"""
SPECTRUM = """() => {
  const { phase, spectrum } = window.streamptycho;
  const { part: { top, left, n }, exact, pixel_m } = spectrum.view.image;
  const nx = phase.image.shape[1];
  const at = (i) => (top + Math.floor(i / n)) * nx + left + (i % n);
  const values = Array.from({ length: n * n }, (_, i) => phase.image.exact[at(i)]);
  return { n, power: [...exact], step: pixel_m[1], shape: phase.image.shape, values };
}"""
VIEW = "() => { const { view } = window.streamptycho.phase; return view && [view.y, view.x, view.zoom]; }"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        yield browser
        browser.close()


class Watched:
    """A browser page, with what it asked for and complained of."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.requests: list[str] = []
        self.complaints: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("websocket", lambda socket: self.requests.append(socket.url))
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _hear(self, said: Any) -> None:
        if said.type in ("error", "warning") and "willReadFrequently" not in said.text:  # it is the test that reads
            self.complaints.append(said.text)

    def text(self, selector: str) -> str:
        return self.page.locator(selector).inner_text()

    def until(self, condition: str, timeout_s: float = 10) -> None:
        """Wait for an expression in the browser."""
        self.page.wait_for_function(condition, timeout=1000 * timeout_s)

    def frames(self, count: int) -> None:
        """Wait until the picture of so many frames has been painted."""
        self.until(f"() => window.streamptycho.painted.at(-1)?.frames === {count}")


@contextmanager
def opened(chromium: Any, address: str, **settings: Any) -> Iterator[Watched]:
    context = chromium.new_context(**({"viewport": {"width": 1280, "height": 720}} | settings))
    watched = Watched(context.new_page())
    try:
        watched.page.goto(address)
        yield watched
    finally:
        context.close()


@pytest.fixture(scope="module")
def show() -> Show:
    return Show(frames=100, shape=48)


@pytest.fixture
def stage() -> Iterator[Stage]:
    with Stage() as stage:
        yield stage


@pytest.fixture
def served(stage: Stage) -> Iterator[str]:
    with PageThread(stage.config, PageOptions(port=0)) as page:
        stage.wait()
        yield page.address


@pytest.fixture
def page(chromium: Any, served: str) -> Iterator[Watched]:
    """The page, open; at the end: nothing was asked of others, and nothing complained of."""
    with opened(chromium, served) as watched:
        watched.until("() => document.getElementById('lamp').dataset.is === 'live'")
        yield watched
        host = served.removeprefix("http://")
        assert {re.sub(r"^(http|ws)://", "", url).split("/")[0] for url in watched.requests} == {host.rstrip("/")}
        assert watched.complaints == []


class TestPanels:
    CANVASES = ("phase", "amplitude", "pattern", "probe", "map-sum", "map-dark", "map-y", "map-x", "curve", "ring")

    def test_wait_with_words_and_then_paint(self, page, stage, show):
        assert "Waiting for the first picture" in page.text("#panel-phase")
        assert "waiting for a scan" in page.text("#strip")
        assert page.page.evaluate(COLOURS, "phase") == 1
        stage.send(*show.everything(0.5))
        for canvas in self.CANVASES:
            page.page.wait_for_function(f"(id) => ({COLOURS})(id) > 20", arg=canvas, timeout=5000)
        assert page.page.locator(".wait:visible").count() == 0

    def test_without_survey_preview_and_assessment_the_rest_works(self, page, stage, show):
        stage.send(*show.statuses(0.5), show.snapshot(0.5))
        page.frames(50)
        page.until("() => document.getElementById('amplitude').parentElement.classList.contains('painted')")
        page.until("() => document.getElementById('probe').parentElement.classList.contains('painted')")
        assert page.page.locator(".wait:visible").all_inner_texts() == [
            "Waiting for a pattern.", "Waiting for scan points.", "Waiting for an assessment."
        ]  # fmt: skip

    def test_numbers_move(self, page, stage, show):
        stage.send(*show.everything(0.4))
        page.frames(40)
        page.until("() => document.getElementById('facts').innerText.includes('40 / 100')")
        before = page.text("#facts")
        assert "40 %" in page.text("#progress")
        stage.send(*show.everything(0.7))
        page.frames(70)
        page.until("() => document.getElementById('facts').innerText.includes('70')")
        assert page.text("#facts") != before
        assert "70 %" in page.text("#progress")

    def test_the_verdict_and_its_findings(self, page, stage, show):
        stage.send(*show.everything(0.5))
        page.until("() => document.getElementById('findings').innerText.includes('share 31 %')")
        assert "overlap is too small" in page.text("#verdict")
        photons = show.assessment(0.5).figures["photons_per_frame"]
        told = " ".join(page.text("#figures").split())
        assert told == f"resolution 320 nm covered 50 % overlap 31 % photons per frame {photons:,.0f}"
        page.page.click("#more summary")
        for line in ("covered\n15.5 µm²", "step\n410 nm", "probe change\n0.0123 /s"):
            assert line in page.text("#all")
        stage.send(*show.everything(0.8))
        page.until("() => document.getElementById('verdict').innerText.includes('converging')")
        assert page.text("#findings") == ""

    def test_how_a_scan_was_put_together(self, page, stage, show):
        receive, *others = show.statuses(0.5)
        remark = "positions come under run 'motion-17', frames under run '1'"
        stage.send(replace(receive, remarks=(remark, "<i>slanted</i>")), *others)
        page.until("() => document.getElementById('findings').innerText.includes('motion-17')")
        assert remark in page.text("#findings")
        assert "<i>slanted</i>" in page.text("#findings")
        assert page.page.locator("#findings i").count() == 0
        stage.send(receive, *others)
        page.until("() => !document.getElementById('findings').innerText.includes('motion-17')")

    def test_markup_in_words_stays_text(self, page, stage, show):
        assessment = replace(show.assessment(0.5), verdict="<img src=x onerror=alert(1)>", findings={"<b>": "<i>x</i>"})
        stage.send(*show.statuses(0.5), assessment)
        page.until("() => document.getElementById('verdict').innerText.includes('<img')")
        assert page.page.locator("#word img, #word i").count() == 0

    def test_what_is_missing(self, page, stage, show):
        receive, engine, write = show.statuses(1.0, done=True)
        receive = replace(receive, missing=7, missing_positions=2)
        kept = {"received": receive.unique, "used": receive.unique - 3, "dropped": {"failed": 3}}
        stage.send(receive, engine, replace(write, positions=receive.positions, end=EndReason.INCOMPLETE, **kept))
        page.until("() => document.getElementById('facts').innerText.includes('10 + 2 positions')")  # all three have come
        assert "missing 10 + 2 positions" in " ".join(page.text("#facts").lower().split())
        assert "incomplete" in page.text("#state")

    def test_a_scan_in_numbers_that_are_none(self, page, stage, show):
        stage.send(*show.statuses(0.01), replace(show.snapshot(0.01), error=float("nan")))
        page.frames(1)
        assert "NaN" not in page.text("body")


class TestPicture:
    def test_zoom_survives_an_update(self, page, stage, show):
        stage.send(*show.everything(0.4))
        page.frames(40)
        page.page.focus("#phase")
        for key in ("+", "+", "+", "ArrowRight", "ArrowDown"):
            page.page.keyboard.press(key)
        before = page.page.evaluate(VIEW)
        assert before is not None
        stage.send(*show.everything(0.9))
        page.frames(90)
        assert page.page.evaluate(VIEW) == before
        page.page.keyboard.press("0")
        assert page.page.evaluate(VIEW) is None

    def test_wheel_zooms_where_the_pointer_is(self, page, stage, show):
        stage.send(*show.everything(1))
        page.frames(100)
        page.until("() => document.getElementById('verdict').innerText.includes('converging')")  # the last to move the rest
        box = page.page.locator("#phase").bounding_box()
        place = (box["width"] * 0.3, box["height"] * 0.4)
        there = f"() => window.streamptycho.phase.toSample({place[1]}, {place[0]})"
        before = page.page.evaluate(there)
        page.page.mouse.move(box["x"] + place[0], box["y"] + place[1])
        page.page.mouse.wheel(0, -400)
        page.until("() => window.streamptycho.phase.view !== null")
        assert page.page.evaluate(there) == pytest.approx(before, abs=1e-8), "less than half a pixel"

    def test_locked_contrast_stays(self, page, stage, show):
        stage.send(*show.everything(0.2))
        page.frames(20)
        page.page.click("#lock")
        before = page.page.evaluate("() => window.streamptycho.phase.range")
        stage.send(*show.everything(0.9))
        page.frames(90)
        assert page.page.evaluate("() => window.streamptycho.phase.range") == before
        page.page.click("#lock")
        assert page.page.evaluate("() => window.streamptycho.phase.range") != before

    def test_coverage_over_the_object(self, page, stage, show):
        stage.send(*show.everything(0.5))
        page.frames(50)
        number = """(colour) => {
          const canvas = document.getElementById("phase");
          const d = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
          let n = 0;
          const near = (i) => [16, 8, 0].every((bits, k) => Math.abs(d[i + k] - ((colour >> bits) & 255)) < 24);
          for (let i = 0; i < d.length; i += 4) n += near(i);
          return n;
        }"""
        colours = {"used": 0x00A8FF, "waiting": 0xFFB000, "refused": 0xFF5CE1, "no frame": 0xFF5A4F}
        assert [page.page.evaluate(number, colour) for colour in colours.values()] == [0] * 4
        page.page.focus("#phase")
        page.page.keyboard.press("c")
        for colour in colours.values():
            page.page.wait_for_function(f"(colour) => ({number})(colour) > 4", arg=colour)
        told = page.text("#points").replace("\u00a0", " ").splitlines()
        assert [line[2:] for line in told] == ["used 38", "waiting 9", "refused 1", "no frame 2", "planned 50", "newest"]
        stage.send(*show.everything(0.6))
        page.until("() => document.getElementById('points').innerText.includes('used 47')")
        page.page.keyboard.press("c")
        page.page.wait_for_function(f"(colour) => ({number})(colour) === 0", arg=colours["used"])
        assert page.page.locator("#points").is_hidden()

    def test_line_cut_has_exact_values(self, page, stage, show):
        stage.send(*show.everything(1))
        page.frames(100)
        page.page.click("#cut")
        page.until("() => window.streamptycho.phase.image.exact?.length > 0")
        box = page.page.locator("#phase").bounding_box()
        page.page.mouse.move(box["x"] + 150, box["y"] + 150)
        page.page.mouse.down()
        page.page.mouse.move(box["x"] + 350, box["y"] + 250, steps=4)
        page.page.mouse.up()
        assert page.page.evaluate("() => window.streamptycho.phase.line.length") == 2
        assert page.page.evaluate(VIEW) is None, "drawing a line does not move the picture"

    def test_power_spectrum_of_what_is_in_view(self, page, stage, show):
        stage.send(*show.everything(1))
        page.frames(100)
        page.page.focus("#phase")
        page.page.keyboard.press("f")
        exact = "() => window.streamptycho.spectrum.made.endsWith('true]')"
        page.until(exact)
        whole = page.page.evaluate(SPECTRUM)
        n = whole["n"]
        assert n <= min(whole["shape"]) < 2 * n
        assert whole["step"] == pytest.approx(1 / (n * show.scan.pixel_m[1]))
        values = np.array([np.nan if value is None else value for value in whole["values"]]).reshape(n, n)
        hann = np.sin(np.pi * (np.arange(n) + 0.5) / n) ** 2
        window = np.outer(hann, hann) * np.isfinite(values)
        flat = (np.nan_to_num(values) - (np.nan_to_num(values) * window).sum() / window.sum()) * window
        truth = np.log10(abs(np.fft.fftshift(np.fft.fft2(flat))) ** 2 + 1e-12)
        np.testing.assert_allclose(np.array(whole["power"]).reshape(n, n), truth, atol=1e-3)
        page.page.wait_for_function(f"() => ({COLOURS})('spectrum') > 20")
        for _ in range(4):
            page.page.keyboard.press("+")
        page.until(f"() => window.streamptycho.spectrum.view.image.part.n < {n}")
        stage.send(*show.everything(0.9))
        page.until("() => JSON.parse(window.streamptycho.spectrum.made || '[]')[1] === " + str(show.sequence))
        page.page.focus("#spectrum")
        page.page.keyboard.press("+")
        assert page.page.evaluate("() => window.streamptycho.spectrum.view.view !== null"), "it zooms like the others"
        page.page.click("#jpeg")  # the same picture comes anew, and its exact values do not
        page.until("() => window.streamptycho.phase.image.jpeg !== undefined")
        page.page.focus("#phase")
        page.page.keyboard.press("0")
        page.until(f"() => window.streamptycho.spectrum.view.image.part.n === {n}")
        page.until(exact)
        page.page.click("#fft")
        assert page.page.locator("#spectrum").is_hidden()

    def test_jpeg_for_viewers_far_away(self, page, served, stage, show):
        data = "() => Array.from(window.streamptycho.phase.image.data)"
        page.page.goto(f"{served}?quality=jpeg")
        page.until("() => document.getElementById('lamp').dataset.is === 'live'")
        assert page.page.get_attribute("#jpeg", "aria-pressed") == "true"
        stage.send(*show.everything(1), replace(show.preview(1), index=7))
        page.frames(100)
        page.until("() => document.getElementById('n-pattern').innerText.includes('no. 7')")
        far = np.array(page.page.evaluate(data))
        page.page.click("#jpeg")
        page.until("() => !window.streamptycho.phase.image.jpeg")
        near = np.array(page.page.evaluate(data))
        assert far.shape == near.shape
        assert np.array_equal(far == 0, near == 0)
        assert 0 < abs(far - near)[near > 0].mean() < 5
        page.page.click("#jpeg")
        page.until("() => window.streamptycho.phase.image.jpeg > 0")
        page.page.goto(served)
        assert page.page.get_attribute("#jpeg", "aria-pressed") == "true", "the choice is kept"

    def test_save(self, page, stage, show, tmp_path):
        stage.send(*show.everything(1))
        page.frames(100)
        page.until("() => document.getElementById('progress').innerText.includes('100 %')")
        with page.page.expect_download() as download:
            page.page.click("#save")
        assert download.value.suggested_filename == "show-1-phase-100.png"
        download.value.save_as(tmp_path / "saved.png")
        assert (tmp_path / "saved.png").read_bytes().startswith(b"\x89PNG")

    def test_looking_back(self, page, stage, show, monkeypatch):
        monkeypatch.setattr(state, "KEEP_SHARE", 1.0)  # on a busy machine not every picture would be kept
        for fraction in (0.2, 0.5, 0.8):
            stage.send(*show.everything(fraction))
            page.frames(round(100 * fraction))
        page.until("() => document.getElementById('moment').max === '3'")
        page.page.focus("#moment")
        for _ in range(3):
            page.page.keyboard.press("ArrowLeft")
        page.frames(20)
        assert "20 frames" in page.text("#when")
        stage.send(*show.everything(0.9))
        page.until("() => document.getElementById('progress').innerText.includes('90 %')")
        assert page.page.evaluate("() => window.streamptycho.painted.at(-1).frames") == 20, "what is looked at stays"
        page.page.click("#live")
        page.frames(90)
        assert page.text("#when") == "live"


class TestScans:
    def test_switch_by_themselves_and_past_ones_open(self, page, stage, show):
        stage.send(*show.everything(1.0, final=True))
        page.frames(100)
        second = Show("show-2", frames=60, shape=48, seed=3, started_ns=2)
        stage.send(*second.statuses(0.05))
        page.until("() => document.title.includes('show-2')")
        assert "Waiting for the first picture" in page.text("#panel-phase"), "nothing of the first scan stays"
        stage.send(*second.everything(0.5))
        page.frames(30)
        page.page.select_option("#scans", "show-1@1")
        page.frames(100)
        page.until("() => document.title.includes('show-1')")
        stage.send(*second.everything(0.7))
        page.page.wait_for_timeout(500)
        assert "show-1" in page.page.title()
        assert page.page.evaluate(COLOURS, "phase") > 20
        assert page.page.locator(".wait:visible").count() == 0
        page.page.select_option("#scans", "")
        page.frames(42)

    def test_the_curve_goes_on_where_the_reconstruction_begins_again(self, page, stage, show):
        stage.send(*show.everything(0.5))
        page.frames(50)
        stage.send(replace(show.snapshot(0.6), error_history=show.snapshot(0.1).error_history))
        page.frames(60)
        page.page.wait_for_function(f"() => ({COLOURS})('curve') > 20")


class TestStale:
    def test_silent_services_make_it_look_stale(self, page, stage, show):
        stage.send(*show.everything(0.5))
        page.frames(50)
        assert page.page.locator("#stale").is_hidden()
        page.until("() => document.body.classList.contains('stale')", 8)
        assert "No news from the services" in page.text("#stale")
        stage.send(*show.everything(0.6))
        page.until("() => !document.body.classList.contains('stale')", 3)

    def test_a_finished_scan_is_not_stale(self, page, stage, show):
        stage.send(*show.everything(1.0, final=True))
        page.frames(100)
        page.page.wait_for_timeout(4500)
        assert page.page.locator("#stale").is_hidden()
        assert "final" in page.text("#facts")

    def test_server_killed_and_restarted(self, chromium, stage, show):
        port = free_port()
        settings = [f"services.{name}={value}" for name, value in stage.services.model_dump().items()]
        flags = [part for setting in settings for part in ("--set", setting)]
        with Program(PROGRAM, "dashboard", "--port", port, *flags) as first:
            first.wait_while_running(lambda: "live page" in first.err, "the address")
            with opened(chromium, f"http://127.0.0.1:{port}/") as watched:
                watched.until("() => document.getElementById('lamp').dataset.is === 'live'", 30)
                stage.wait()
                wait_until(lambda: self.told(stage, show, 0.4, watched), "the first picture")
                first.process.send_signal(signal.SIGKILL)
                watched.until("() => document.body.classList.contains('stale')", 5)
                assert "No connection" in watched.text("#stale")
                assert watched.text("#lamp") == "lost"
                with Program(PROGRAM, "dashboard", "--port", port, *flags) as second:
                    second.wait_while_running(lambda: "live page" in second.err, "the address")
                    wait_until(lambda: self.told(stage, show, 0.8, watched), "a picture after the restart")
                    assert watched.page.locator("#stale").is_hidden()
                    second.process.send_signal(signal.SIGINT)
                    assert second.wait() == 0, second.err
                    assert "Traceback" not in second.err

    def told(self, stage: Stage, show: Show, fraction: float, watched: Watched) -> bool:
        stage.send(*show.everything(fraction))
        watched.page.wait_for_timeout(200)
        return bool(watched.page.evaluate("() => window.streamptycho.painted.at(-1)?.frames") == round(100 * fraction))


class TestControl:
    def test_token_refused_and_accepted(self, chromium, stage, show):
        with (
            new_context() as context,
            Receiver(context, [Endpoint(address=stage.services.control, socket=SocketKind.PULL, bind=True)]) as receiver,
            PageThread(stage.config, PageOptions(port=0, token=TOKEN, allow_control=True)) as page,
        ):
            stage.wait()
            address = page.address.partition("?")[0]
            with opened(chromium, f"{address}?token=wrong") as watched:
                assert "token is wrong" in watched.text("body")
            with opened(chromium, address) as watched:
                watched.until("() => document.getElementById('lamp').dataset.is === 'live'")
                watched.page.wait_for_timeout(300)
                assert watched.page.locator("#control").count() == 0, "without the token there is nothing to act with"
            with opened(chromium, page.address) as watched:
                assert "token" not in watched.page.url
                watched.page.wait_for_selector("#control")
                stage.send(*show.everything(0.5))
                watched.frames(50)
                watched.until("() => document.title.includes('show-1')")
                watched.page.click("#control button[data-action=pause]")
                assert receiver.receive(5) == Command(action=Action.PAUSE, scan_id="show-1", started_ns=1)
                watched.until("() => document.getElementById('answer').innerText.includes('sent')")
                watched.page.fill("#control input >> nth=0", "3")
                watched.page.click("#control button[data-action=modes]")
                assert receiver.receive(5) == Command(action=Action.MODES, scan_id="show-1", started_ns=1, value=3)
                watched.page.fill("#control input >> nth=0", "99")
                watched.page.click("#control button[data-action=modes]")
                watched.page.once("dialog", lambda dialog: dialog.dismiss())
                watched.page.click("#control button[data-action=stop]")
                assert receiver.receive(0.5) is None, "neither a number that is too large nor a wish that was taken back"
                watched.page.once("dialog", lambda dialog: dialog.accept())
                watched.page.click("#control button[data-action=stop]")
                assert receiver.receive(5) == Command(action=Action.STOP, scan_id="show-1", started_ns=1)

    def test_a_public_page_tells_what_is_wrong(self, chromium, stage):
        with PageThread(stage.config, PageOptions(host="0.0.0.0", port=0, token=TOKEN)) as page:
            port = re.findall(r":(\d+)/", page.address)[0]
            with opened(chromium, f"http://127.0.0.1:{port}/") as watched:
                assert "needs its token" in watched.text("body")
            with opened(chromium, f"http://127.0.0.1:{port}/?token={TOKEN}") as watched:
                watched.until("() => document.getElementById('lamp').dataset.is === 'live'")


@pytest.fixture(scope="module")
def axe() -> str:
    found = find_spec("axe_playwright_python")
    if found is None or found.origin is None:
        pytest.skip("axe-playwright-python is not installed")
    return next(Path(found.origin).parent.rglob("axe.min.js")).read_text(encoding="utf-8")


class TestForEveryone:
    @pytest.mark.parametrize("scheme", ["light", "dark"])
    @pytest.mark.parametrize("control", [False, True])
    def test_axe_finds_nothing(self, chromium, stage, show, axe, scheme, control):
        options = PageOptions(port=0, token=TOKEN, allow_control=True) if control else PageOptions(port=0)
        with PageThread(stage.config, options) as page, opened(chromium, page.address, color_scheme=scheme) as watched:
            stage.wait()
            watched.until("() => document.getElementById('lamp').dataset.is === 'live'")
            stage.send(*show.everything(0.5))
            watched.frames(50)
            watched.page.focus("#phase")
            watched.page.keyboard.press("c")
            watched.page.keyboard.press("f")
            watched.page.wait_for_function(f"() => ({COLOURS})('spectrum') > 20")
            watched.page.wait_for_selector("#points li")
            watched.page.evaluate(axe)
            found = watched.page.evaluate("async () => (await axe.run()).violations")
            told = [(item["id"], [node["html"] for node in item["nodes"]]) for item in found]
            assert told == []

    def test_every_control_is_reached_by_keyboard_and_has_a_name(self, page, stage, show):
        stage.send(*show.everything(0.5))
        page.frames(50)
        seen = []
        for _ in range(40):
            page.page.keyboard.press("Tab")
            seen.append(page.page.evaluate("() => document.activeElement.id"))
        for control in (
            "scans",
            "jpeg",
            "theme",
            "colours",
            "lock",
            "cover",
            "ruler",
            "cut",
            "fft",
            "fit",
            "save",
            "phase",
            "moment",
            "probe-as",
        ):
            assert control in seen
        assert seen.index("theme") < seen.index("lock") < seen.index("phase") < seen.index("probe-as")
        page.page.focus("#panel-phase .grow")
        page.page.keyboard.press("Enter")
        assert page.page.locator("#panel-phase.big").count() == 1

    @pytest.mark.parametrize(
        ("width", "height", "fits"), [(1280, 720, True), (1920, 1080, True), (820, 1180, False), (390, 844, False)]
    )
    def test_fits_the_screen(self, page, stage, show, width, height, fits):
        page.page.set_viewport_size({"width": width, "height": height})
        stage.send(*show.everything(0.5))
        page.frames(50)
        size = page.page.evaluate("() => [document.scrollingElement.scrollWidth, document.scrollingElement.scrollHeight]")
        assert size[0] <= width
        if fits:
            assert size[1] <= height
        picture = page.page.locator("#phase").bounding_box()
        assert min(picture["width"], picture["height"]) > 0.4 * min(width, height)

    def test_light_and_dark(self, page):
        ground = "() => getComputedStyle(document.body).backgroundColor"
        before = page.page.evaluate(ground)
        page.page.click("#theme")
        assert page.page.evaluate(ground) != before
        page.page.reload()
        page.until("() => document.getElementById('lamp').dataset.is === 'live'")
        assert page.page.evaluate(ground) != before, "the choice is kept"


@pytest.mark.slow
def test_the_demonstration(chromium, tmp_path):
    """Within two seconds of the first frames there are maps or a picture; at the end the finished object."""
    flags = ["--frames", 500, "--shape", 64, "--scan-id", "seen"]
    with Program(PROGRAM, "demo", "--rate", 50, "--page-port", 0, "--output", tmp_path, "--", *flags) as demo:
        demo.wait_while_running(lambda: "live page: http" in demo.err, "the address of the page")
        address = re.findall(r"live page: (\S+)", demo.err)[0]
        with opened(chromium, address) as watched:
            watched.until("() => parseInt(document.getElementById('progress').innerText) > 0", 120)
            begun = time.monotonic()
            watched.until("() => window.streamptycho.painted.length > 0", 10)
            assert time.monotonic() - begun < 2
            watched.until("() => document.getElementById('state').innerText === 'done'", 120)
            watched.frames(500)
            assert demo.wait() == 0, demo.err
            watched.until("() => document.getElementById('stale').innerText.includes('finished')")
            assert not watched.page.evaluate("() => document.body.classList.contains('stale')")


@pytest.mark.slow
def test_control_of_a_real_reconstruction(chromium, tmp_path):
    """Pause, resume, and stop before the end: the scan is still written whole."""
    flags = ["--frames", 700, "--shape", 64, "--scan-id", "led"]
    state = "() => document.getElementById('state').innerText"
    with Program(
        PROGRAM, "demo", "--rate", 50, "--page-port", 0, "--allow-control", "--output", tmp_path, "--", *flags
    ) as demo:
        demo.wait_while_running(lambda: "live page: http" in demo.err, "the address of the page")
        with opened(chromium, re.findall(r"live page: (\S+)", demo.err)[0]) as watched:
            watched.until(f"() => ({state})() === 'reconstructing'", 120)
            watched.page.click("#control button[data-action=pause]")
            watched.until(f"() => ({state})() === 'paused'")
            watched.page.click("#control button[data-action=resume]")
            watched.until(f"() => ({state})() === 'reconstructing'")
            watched.page.once("dialog", lambda dialog: dialog.accept())
            watched.page.click("#control button[data-action=stop]")
            watched.until(f"() => ({state})().startsWith('done')", 60)
            assert demo.wait() == 0, demo.err
            assert "written: 700" in demo.out
