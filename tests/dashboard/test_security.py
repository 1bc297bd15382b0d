"""Access and control."""

import pytest

from streamptycho.errors import ConfigError
from streamptycho.wire.security import is_loopback
from streamptycho_services.dashboard.security import Access, cookie_name, make_access, token_of

TOKEN = "correct-horse"


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("[::1]", True), ("localhost", True), ("LocalHost", True),
     ("0.0.0.0", False), ("::", False), ("10.0.0.3", False), ("localhost.evil.org", False), ("", False)],
)  # fmt: skip
def test_loopback(host, expected):
    assert is_loopback(host) is expected


class TestAccess:
    def test_on_loopback_anyone_may_look_and_none_act(self):
        access = make_access("127.0.0.1", None, allow_control=False)
        assert access.token is None
        assert access.may_view(None)
        assert not access.may_control(None)
        assert not access.may_control("anything")

    def test_in_public_a_token_is_needed(self):
        access = make_access("0.0.0.0", TOKEN, allow_control=False)
        assert [access.may_view(given) for given in (None, "", "wrong", TOKEN)] == [False, False, False, True]
        assert not access.may_control(TOKEN), "control was not allowed"

    def test_who_acts_has_the_token(self):
        access = make_access("127.0.0.1", TOKEN, allow_control=True)
        assert [access.may_control(given) for given in (None, "", TOKEN + "x", "\udc80", TOKEN)] == [False] * 4 + [True]
        assert access.may_view(None)

    def test_random_tokens(self):
        tokens = {make_access("127.0.0.1", None, allow_control=True).token for _ in range(20)}
        tokens |= {make_access("0.0.0.0", "auto", allow_control=False).token for _ in range(20)}
        assert len(tokens) == 40
        assert min(map(len, tokens)) >= 20

    @pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "beamline-pc"])
    def test_public_without_token_is_refused(self, host):
        with pytest.raises(ConfigError, match=f"host {host}: .* give a token"):
            make_access(host, None, allow_control=True)

    @pytest.mark.parametrize("token", ["", "short", "with\nline-break"])
    def test_tokens_that_are_none(self, token):
        with pytest.raises(ConfigError, match="token"):
            make_access("127.0.0.1", token, allow_control=True)


@pytest.mark.parametrize(
    ("header", "expected"),
    [("localhost:8000", True), ("127.0.0.1", True), ("[::1]:8000", True), ("evil.org:8000", False), ("", False)],
)
def test_on_loopback_only_our_names_are_answered(header, expected):
    assert Access("127.0.0.1").answers_to(header) is expected
    assert Access("0.0.0.0", TOKEN).answers_to(header), "in public the token decides"


@pytest.mark.parametrize(
    ("origin", "expected"),
    [(None, True), ("http://localhost:8000", True), ("https://localhost:8000", True), ("http://localhost:8001", False),
     ("http://evil.org", False), ("null", False), ("file://localhost:8000", False), ("", False)],
)  # fmt: skip
def test_origin(origin, expected):
    assert Access("127.0.0.1").same_origin(origin, "localhost:8000") is expected


def test_where_a_token_may_come_from():
    cookies = {cookie_name(8000): "cookie"}
    assert token_of({}, {}, cookies, 8000) == "cookie"
    assert token_of({}, {}, cookies, 8001) is None
    assert token_of({}, {"authorization": "Bearer bearer"}, cookies, 8000) == "bearer"
    assert token_of({"token": "query"}, {"authorization": "Bearer bearer"}, cookies, 8000) == "query"
    assert token_of({}, {"authorization": "Basic eA=="}, {}, 8000) is None


def test_an_origin_that_is_no_address_is_refused():
    assert not Access("127.0.0.1").same_origin("http://[", "127.0.0.1:8000")
