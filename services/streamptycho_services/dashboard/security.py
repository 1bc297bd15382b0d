"""Access to the page: viewing and control.

On loopback anyone on the machine may view. A public address, and control anywhere, need a token: it comes once in the
address and then as a cookie. Pages of other sites can neither read nor control: their origin differs, and on loopback only
names of loopback are answered, so that a foreign name that points here does not work.
"""

import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from streamptycho.errors import ConfigError
from streamptycho.wire.security import is_loopback

SHORTEST_TOKEN = 8
RANDOM = "auto"


@dataclass(frozen=True, slots=True)
class Access:
    """The rules of one page."""

    host: str
    token: str | None = None
    allow_control: bool = False
    proxies: tuple[str, ...] = ()
    """Addresses of proxies before the page: what they say of scheme and client is believed."""

    @property
    def public(self) -> bool:
        """True if other machines can reach the page, be it through a proxy on this one."""
        return bool(self.proxies) or not is_loopback(self.host)

    def is_token(self, given: str | None) -> bool:
        """Whether `given` is the token; takes as long either way."""
        if self.token is None or given is None:
            return False
        return hmac.compare_digest(given.encode("utf-8", "replace"), self.token.encode("utf-8", "replace"))

    def may_view(self, given: str | None) -> bool:
        """Whether this token permits viewing."""
        return not self.public or self.is_token(given)

    def may_control(self, given: str | None) -> bool:
        """Whether this token permits control."""
        return self.allow_control and self.is_token(given)

    def answers_to(self, host_header: str) -> bool:
        """Whether a request under this name is answered at all."""
        return self.public or is_loopback(_name(host_header))

    def same_origin(self, origin: str | None, host_header: str) -> bool:
        """Whether a page of `origin` is ours; programs send none."""
        if origin is None:
            return True
        try:
            parts = urlsplit(origin)
        except ValueError:  # no browser says such a thing
            return False
        return parts.scheme in ("http", "https") and parts.netloc.lower() == host_header.lower()


def _name(host_header: str) -> str:
    if host_header.startswith("["):
        return host_header.partition("]")[0][1:]
    return host_header.rpartition(":")[0] if ":" in host_header else host_header


def make_access(host: str, token: str | None, *, allow_control: bool, proxies: tuple[str, ...] = ()) -> Access:
    """Rules for these settings; ``auto``, and control without a token, make a random one.

    Raises :class:`ConfigError` for a public address without a token, and for one that can be guessed.
    """
    if token is not None and token != RANDOM and len(token) < SHORTEST_TOKEN:
        raise ConfigError(f"token of {len(token)} characters: give {SHORTEST_TOKEN} or more, or 'auto' for a random one")
    if token is not None and not token.isprintable():
        raise ConfigError("token: has characters that cannot be printed; use letters and digits")
    if token is None and Access(host, proxies=proxies).public:
        raise ConfigError(f"host {host}: anyone on the network could look; give a token, or 'auto' for a random one")
    if token == RANDOM or (token is None and allow_control):
        token = secrets.token_urlsafe(18)
    return Access(host, token, allow_control, proxies)


def token_of(query: Mapping[str, str], headers: Mapping[str, str], cookies: Mapping[str, str], port: int) -> str | None:
    """The token that a request brings: in the address, as a bearer, or as the cookie of this page."""
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    if "token" in query:
        return query["token"]
    return bearer if scheme.lower() == "bearer" else cookies.get(cookie_name(port))


def cookie_name(port: int) -> str:
    """Cookies know no ports: the name does, so that two pages on one machine do not overwrite each other's."""
    return f"streamptycho_{port}"
