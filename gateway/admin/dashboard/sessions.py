"""Sessions of browsers at the admin listener: a cookie in exchange for a token.

The cookie holds when it ends and a MAC over that, keyed with the token; nothing is kept here. So
sessions outlast restarts, are those of every gateway with the same token, and end when the token
is taken out of `[admin]`. The token itself never goes to a page.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable

SECONDS = 12 * 3600.0
"""How long a session lasts."""
_CONTEXT = b"gateway admin session, until "


def cookie_name(port: int, *, secure: bool) -> str:
    """Return the cookie's name. Browsers keep cookies by host, so the port tells gateways of one
    host apart; with TLS the prefix binds it to the host (RFC 6265bis section 4.1.3.2)."""
    return f"{'__Host-' if secure else ''}gateway-admin-{port}"


def issue(token: bytes, now: float) -> str:
    """Return the value of a session's cookie. now: Unix seconds."""
    until = int(now + SECONDS)
    return f"{until}.{_mac(token, until)}"


def owner(value: str, tokens: Iterable[bytes], now: float) -> int | None:
    """Return which of `tokens` a session was begun with, None where it is none or is over."""
    until, _, mac = value.partition(".")
    if not until.isascii() or not until.isdecimal() or len(until) > 12 or int(until) <= now:
        return None
    given = mac.encode("utf-8", "surrogateescape")
    found = None
    # All of them, so that the time taken tells nothing.
    for place, token in enumerate(tokens):
        if hmac.compare_digest(_mac(token, int(until)).encode(), given) and token:
            found = place
    return found


def _mac(token: bytes, until: int) -> str:
    return hmac.digest(token, _CONTEXT + str(until).encode(), "sha256").hex()
