"""From a request's head to an Exchange, and what is refused before any route is looked for.

A request reaches routes only if all recipients on its way must read it alike: one origin-form
target, one Host, framing that the parser found sound (framing.py has the rules). The rest is
answered 400, 413, 414, 417, 431 or 505 and its connection closed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import count
from secrets import token_hex
from typing import Any, Final
from uuid import uuid4

from multidict import CIMultiDict, CIMultiDictProxy, MultiMapping, istr

from gateway.config.tables.server import ServerConfig
from gateway.core.exchange import Exchange
from gateway.core.failures import Failed, Failure
from gateway.core.headers import Pair, lower
from gateway.core.methods import misspelt
from gateway.routing.router import ALLOW
from gateway.serving.body import ClientBody
from gateway.serving.http1.framing import absolute, authority, check_fields, check_version
from gateway.serving.net.peers import Peers

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._~+/=:-]{1,128}")
_X_REQUEST_ID: Final = istr("X-Request-ID")
_USUAL: Final = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
_CONTENT_LENGTH = istr("Content-Length")
_EXPECT = istr("Expect")
FRAMING: Final = "framing"
"""The memo's key of what the fields that frame and address a message come to."""
_DIGITS = 19


def _uuid() -> str:
    return str(uuid4())


class Admission:
    """Makes and checks exchanges under one ServerConfig; `uppercase_methods` is `[routing]`'s."""

    def __init__(self, config: ServerConfig, *, uppercase_methods: bool = False) -> None:
        self._uppercase_methods = uppercase_methods
        self._max_body = config.max_body
        self._peers = Peers(config.trusted_proxies)
        self._proxied = bool(config.trusted_proxies)
        self._prefix = token_hex(8)
        self._numbers = count(int(token_hex(5), 16))
        self.new_id: Callable[[], str] = _uuid if config.request_id == "uuid" else self._next_id
        """Returns a request id that no other request has."""

    def _next_id(self) -> str:
        return f"{self._prefix}{next(self._numbers):016x}"

    def exchange(
        self,
        method: str,
        target: str,
        headers: MultiMapping[str],
        raw_headers: Sequence[Pair],
        version: tuple[int, int],
        peer: str,
        scheme: str,
        started: float,
        memo: dict[Any, Any],
    ) -> Exchange:
        """The exchange of a request, not yet checked. An X-Request-ID of sound form is taken over,
        else one is made."""
        given = headers.get(_X_REQUEST_ID)
        exchange = Exchange(
            method,
            target,
            headers,
            raw_headers,
            None,
            peer,
            scheme,
            "",
            version,
            given if given is not None and _REQUEST_ID.fullmatch(given) else self.new_id(),
            started,
            memo,
        )
        if self._proxied and self._peers.trusts(peer):
            exchange.trusted = True
            exchange.client_ip = self._peers.client(peer, headers.getall("X-Forwarded-For", ()))
        return exchange

    def admit(self, exchange: Exchange) -> None:
        """Checks what must be unambiguous before any route is looked for. Raises Failed."""
        # What the fields come to is worked out once for all requests of a connection that repeat
        # them.
        version = exchange.version
        known = exchange.memo.get(FRAMING)
        if known is None or known[0] != version:
            check_version(version)
            known = exchange.memo[FRAMING] = (
                version,
                check_fields(version, exchange.raw_headers) or "",
            )
        exchange.host = known[1]
        target = exchange.target
        if target[:1] != "/" or exchange.method not in _USUAL:
            self._unusual(exchange)
            target = exchange.target
        if "#" in target:
            why = "the request target has a fragment (RFC 9110 section 7.1)"
            detail = "The request target must not have a fragment."
            raise Failed(Failure.MALFORMED, detail, why=why)
        body = exchange.body
        if body is not None and body.length is not None and body.length > self._max_body:
            raise Failed(
                Failure.BODY_TOO_LARGE,
                f"The request's body may have at most {self._max_body} bytes.",
                why=f"Content-Length {body.length} is more than max_body, {self._max_body} bytes",
            )

    def trusts(self, address: str) -> bool:
        """Return True if this address is in `trusted_proxies`."""
        return self._peers.trusts(address)

    def attach_body(
        self, exchange: Exchange, body: ClientBody, go_ahead: Callable[[], None]
    ) -> None:
        """Gives an exchange its body; `go_ahead` tells a client that waits for 100 (Continue) to
        send it."""
        headers = exchange.headers
        stated = headers.get(_CONTENT_LENGTH)
        if stated is None:
            pass  # It is chunked.
        elif body.received:
            body.length = body.arrived  # As the parser found it.
        elif (
            len(stated) <= _DIGITS and stated.isascii() and stated.isdigit()
        ):  # Else `admit` refuses it.
            body.length = int(stated)
        body.limit = self._max_body
        body.exchange = exchange
        if _EXPECT in headers and exchange.version >= (1, 1):
            body.go_ahead = go_ahead
        exchange.body = body

    def _unusual(self, exchange: Exchange) -> None:
        """Methods that are not of the common ones, and targets that are no path. Raises Failed."""
        method = exchange.method
        if method not in _USUAL and (meant := misspelt(method)):
            if not self._uppercase_methods:
                raise Failed(
                    Failure.MALFORMED,
                    f"Methods are case-sensitive: {meant}.",
                    why=f"{method} for {meant}",
                )
            exchange.method = meant
        if exchange.target[:1] != "/" or exchange.method == "CONNECT":
            self._not_a_path(exchange)

    def _not_a_path(self, exchange: Exchange) -> None:
        """Targets that are no path.

        RFC 9112 section 3.2.2: one in absolute-form counts instead of Host, and goes on in
        origin-form with its own.
        """
        target = exchange.target
        if exchange.method == "CONNECT":
            # RFC 9110 section 9.3.6: for proxies that tunnel; this one does not. Its target is no
            # path, so no route has it.
            why = "CONNECT is for proxies that tunnel (RFC 9110 section 9.3.6)"
            raise Failed(Failure.METHOD_NOT_ALLOWED, headers=((b"Allow", ALLOW),), why=why)
        if target == "*" and exchange.method == "OPTIONS":
            return
        given, exchange.target = absolute(target)
        exchange.host = authority(given, "The request target has no sound host.")
        if exchange.method == "OPTIONS" and target.count("/") == 2 and "?" not in target:
            exchange.target = "*"  # Section 3.2.4: a path that is not there asks about the server.
        exchange.path, _, exchange.query = exchange.target.partition("?")
        host = given.encode("latin-1", "replace")
        exchange.raw_headers = [
            (b"Host", host),
            *(pair for pair in exchange.raw_headers if lower(pair[0]) != b"host"),
        ]
        fields = CIMultiDict(exchange.headers)
        fields["Host"] = given
        exchange.headers = CIMultiDictProxy(fields)
        exchange.memo = {}


class Certified(Admission):
    """The admission of a connection whose client has shown a certificate, made out to `subject`."""

    def __init__(self, common: Admission, subject: str) -> None:
        # Its numbers and its peers are those of all.
        self._uppercase_methods = common._uppercase_methods
        self._max_body = common._max_body
        self._peers = common._peers
        self._proxied = common._proxied
        self.new_id = common.new_id
        self._subject = subject

    def exchange(self, *facts: Any) -> Exchange:
        made = Admission.exchange(self, *facts)  # mypyc takes `super()`'s for one argument.
        made.tls_subject = self._subject
        return made
