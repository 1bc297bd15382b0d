"""The limit on wrong tokens, on a clock of our own and on the page."""

import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from streamptycho.config import Config, ServiceEndpoints, load
from streamptycho.errors import ConfigError
from streamptycho_services.dashboard import attempts as module
from streamptycho_services.dashboard.app import make_app
from streamptycho_services.dashboard.attempts import MAX_ADDRESSES, OVERALL, PER_ADDRESS, WINDOW_S, Attempts
from streamptycho_services.dashboard.images import snapshot_images
from streamptycho_services.dashboard.security import Access, cookie_name, make_access
from streamptycho_services.dashboard.server import PageOptions
from streamptycho_services.dashboard.state import State
from tests.dashboard.show import PageThread
from tests.ports import free_address
from tests.scans import Clock

TOKEN = "correct-horse"
HERE, THERE = "192.0.2.1", "192.0.2.2"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def attempts(clock: Clock) -> Attempts:
    return Attempts(clock)


def guess(attempts: Attempts, address: str, count: int, *, cookie: bool = False) -> None:
    for i in range(count):
        attempts.wrong(address, f"guess {i}", cookie=cookie)


class TestAttempts:
    def test_after_so_many_none_is_looked_at_until_time_has_passed(self, attempts, clock):
        guess(attempts, HERE, PER_ADDRESS - 1)
        assert attempts.wait_s(HERE) == 0
        guess(attempts, HERE, 1)
        assert attempts.wait_s(HERE) == pytest.approx(WINDOW_S / PER_ADDRESS)
        assert attempts.wait_s(THERE) == 0, "others are not held up"
        clock.now += WINDOW_S / PER_ADDRESS
        assert attempts.wait_s(HERE) == 0
        guess(attempts, HERE, 1)
        assert attempts.wait_s(HERE) > 0, "one try has come back, not all"

    def test_many_addresses_share_a_limit_that_does_not_lock_out_who_is_in(self, attempts):
        attempts.right(HERE)
        for i in range(OVERALL):
            guess(attempts, f"10.0.{i // 250}.{i % 250}", 1)
        assert attempts.wait_s("192.0.2.77") > 0
        assert attempts.wait_s(HERE) == 0
        guess(attempts, HERE, PER_ADDRESS)
        assert attempts.wait_s(HERE) > 0, "its own limit holds"

    def test_an_old_cookie_that_is_sent_for_ever_is_one_try(self, attempts):
        for _ in range(1000):
            attempts.wrong(HERE, "the token of yesterday", cookie=True)
        assert attempts.wait_s(HERE) == 0
        guess(attempts, HERE, PER_ADDRESS, cookie=True)
        assert attempts.wait_s(HERE) > 0, "different ones are tries"

    def test_the_same_in_an_address_counts_each_time(self, attempts):
        for _ in range(PER_ADDRESS):
            attempts.wrong(HERE, "wrong", cookie=False)
        assert attempts.wait_s(HERE) > 0

    def test_a_network_of_one_host_is_one_address(self, attempts):
        for i in range(PER_ADDRESS):
            guess(attempts, f"2001:db8::{i:x}", 1)
        assert attempts.wait_s("2001:db8::ffff") > 0
        assert attempts.wait_s("2001:db8:0:1::1") == 0
        assert attempts.wait_s("fe80::1%eth0") == 0

    def test_memory_is_bounded(self, attempts, clock):
        for i in range(3 * MAX_ADDRESSES):
            guess(attempts, f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}", 1)
            clock.now += WINDOW_S  # so that the common limit is not what bounds it
        assert len(attempts._addresses) == MAX_ADDRESSES


@pytest.fixture
def public() -> Iterator[TestClient]:
    services = ServiceEndpoints(**{name: free_address() for name in ServiceEndpoints.model_fields if name != "hung_s"})
    app = make_app(services, Access("0.0.0.0", TOKEN), State(snapshot_images, module_clock))
    with TestClient(app, base_url="https://beamline.example") as client:
        yield client


def module_clock() -> float:
    return 0.0


class TestPage:
    @pytest.mark.parametrize("path", ["/", "/status", "/metrics", "/object.png"])
    def test_too_many_are_told_when_to_come_back(self, public, path):
        codes = [public.get(path, params={"token": f"wrong {i}"}).status_code for i in range(PER_ADDRESS + 2)]
        assert codes == [403] * PER_ADDRESS + [429] * 2
        answer = public.get(path, params={"token": TOKEN})
        assert answer.status_code == 429, "not even the right one is looked at, or guessing would go on"
        assert 1 <= int(answer.headers["retry-after"]) <= WINDOW_S / PER_ADDRESS
        assert "Too many wrong tokens: try again in" in answer.text
        assert public.get("/healthz").status_code == 200

    def test_the_right_one_again_and_again_is_no_guess(self, public):
        headers = {"authorization": f"Bearer {TOKEN}"}
        assert {public.get("/status", headers=headers).status_code for _ in range(3 * PER_ADDRESS)} == {200}

    def test_nobody_is_locked_out_by_a_window_with_an_old_cookie(self, public):
        for _ in range(3 * PER_ADDRESS):
            public.cookies.set(cookie_name(80), "of-yesterday")
            assert public.get("/status").status_code == 403
        public.cookies.clear()
        assert public.get(f"/?token={TOKEN}", follow_redirects=False).status_code == 303

    def test_three_hundred_at_once(self, public):
        """As was measured before there was a limit: all of them were answered within a third of a second."""
        codes = [public.get("/status", params={"token": f"wrong {i}"}).status_code for i in range(300)]
        assert codes.count(403) == PER_ADDRESS

    def test_the_cookie_is_secure_where_the_page_is(self, public):
        answer = public.get(f"/?token={TOKEN}", follow_redirects=False)
        assert "; secure" in answer.headers["set-cookie"].lower()


class Unredirected(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


def cookie(address: str, **headers: str) -> str:
    """The cookie that the page sets for a request with these headers."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    with pytest.raises(urllib.error.HTTPError) as answer:
        urllib.request.build_opener(Unredirected).open(urllib.request.Request(address, headers=named), timeout=20)
    assert answer.value.code == 303
    answer.value.close()
    return str(answer.value.headers["set-cookie"]).lower()


class TestProxy:
    def page(self, *proxies: str) -> PageThread:
        return PageThread(Config(), PageOptions(port=0, token=TOKEN, trusted_proxies=proxies))

    def test_a_trusted_one_says_that_the_viewer_has_tls(self):
        with self.page("127.0.0.1") as page:
            assert "; secure" in cookie(page.address, X_Forwarded_Proto="https", Host="beamline.example")
            assert "; secure" not in cookie(page.address, Host="beamline.example")

    def test_others_are_not_believed(self):
        for proxies in ((), ("192.0.2.9",)):
            with self.page(*proxies) as page:
                assert "; secure" not in cookie(page.address, X_Forwarded_Proto="https")

    def test_before_a_page_there_must_be_a_token(self):
        with pytest.raises(ConfigError, match="give a token"):
            make_access("127.0.0.1", None, allow_control=False, proxies=("127.0.0.1",))
        access = make_access("127.0.0.1", TOKEN, allow_control=False, proxies=("127.0.0.1",))
        assert access.answers_to("beamline.example")
        assert not access.may_view(None)

    def test_an_address_that_is_none_is_refused(self):
        with pytest.raises(ConfigError, match=r"page\.trusted_proxies: .*'proxy-pc' is no IP address or network"):
            load(None, {"page.trusted_proxies": ["proxy-pc"]})
        assert load(None, {"page.trusted_proxies": ["10.0.0.0/8", "::1"]}).page.trusted_proxies == ("10.0.0.0/8", "::1")


def test_the_limits_are_those_that_are_documented():
    assert (module.PER_ADDRESS, module.OVERALL, module.WINDOW_S) == (10, 100, 60.0)
