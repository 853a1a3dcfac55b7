"""Cross-origin requests, by the CORS protocol of the Fetch standard.

https://fetch.spec.whatwg.org/#http-cors-protocol

    [cors] origins = ["https://app.example.com", "https://*.example.com"]   # or "*"; "null" only
    where it is listed methods = ["GET", "POST"]           # default: what the routes there allow;
    "*" allows what is asked for headers = ["Authorization"]         # request headers; "*" allows
    what is asked for expose = ["X-Request-ID"] credentials = true max_age = "1h"

Hooks: `request` answers preflights; `response` and `error` let scripts of an allowed origin read
       what comes back. An origin that
is not allowed gets its answer without CORS fields, and its browser keeps it from the script;
`reject = true` refuses it instead, which also stops requests that need no preflight.
Access-Control-* fields of an upstream are replaced.

Per origin everything is one block of header lines, made at build time or, for wildcards, when first
seen.
"""

from __future__ import annotations

import re
from typing import Any, Final

from multidict import istr

from gateway.config.hosts import a_labels
from gateway.config.tables.schema import schema_of
from gateway.core.exchange import ALLOWED_METHODS, Decision, Exchange, Reply
from gateway.core.failures import Failed, Failure
from gateway.core.hooks import ConfigProblem, Context, Hooks
from gateway.core.refusals import Shadows
from gateway.middlewares.cors.config import CorsConfig
from gateway.protocols.websocket import UPGRADE

CONFIG = schema_of(CorsConfig)

ORIGIN: Final = istr("Origin")
"""An istr is looked up without being folded first."""

METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE"
"""What a route allows that does not say."""

OWNED: Final = frozenset(
    b"access-control-" + name
    for name in (
        b"allow-origin",
        b"allow-credentials",
        b"allow-methods",
        b"allow-headers",
        b"allow-private-network",
        b"expose-headers",
        b"max-age",
    )
)
"""The fields this middleware answers for, lower case."""

_ORIGIN = re.compile(
    r"([a-z][a-z0-9+.-]*)://([a-z0-9_*](?:[a-z0-9_.*-]*[a-z0-9_*])?|\[[0-9a-f:.]+\])(:[0-9]{1,5}|:\*)?"
)
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_METHOD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FIELD_NAMES = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z, \t-]+")
_SEEN_MAX, _SEEN_LONGEST = 1024, 300
"""Origins remembered, and how long they may be: longer than any host with scheme and port."""
_NOTE = "cors"
"""Set on an exchange whose reply is a preflight's: it has all it needs."""


class Origins:
    """Which origins are allowed: by name, wildcard or pattern, or all. Raises ConfigProblem.

    "*." in front of a host stands for any labels, "*" within a label for any part of it, ":*" for
    any port.
    """

    def __init__(self, origins: tuple[str, ...]) -> None:
        self.everyone = "*" in origins
        exact, patterns = [], []
        for place, origin in enumerate(origins):
            if origin in ("*", "null"):
                exact += ["null"] if origin == "null" else []
                continue
            if origin.startswith("^"):
                patterns.append(_given_pattern(place, origin))
                continue
            parts = _ORIGIN.fullmatch(_spelt(origin))
            # A wildcard in the last two labels would allow any owner of a name.
            if parts is None or "*" in ".".join(parts[2].removeprefix("*.").split(".")[-2:]):
                raise ConfigProblem(
                    f"{origin!r} is not an origin", at=("origins", place), hint=_origin_hint(origin)
                )
            scheme, host, port = parts.groups()
            # RFC 6454 section 6.2: browsers leave a scheme's usual port out.
            port = "" if port is None or port == _DEFAULT_PORTS.get(scheme) else port
            if "*" in host + port:
                patterns.append(
                    rf"{re.escape(scheme)}://{_host_pattern(host)}{_port_pattern(port)}"
                )
            else:
                exact.append(f"{scheme}://{host}{port}")
        self.exact = tuple(exact)
        self.pattern = re.compile("|".join(patterns)) if patterns else None


def _spelt(origin: str) -> str:
    """Return an origin as browsers send it: lower case, A-labels; "" if its host is no name."""
    scheme, separator, rest = origin.partition("://")
    host, colon, port = (
        rest.rpartition(":") if rest[-1:].isdigit() or rest[-2:] == ":*" else (rest, "", "")
    )
    try:
        return f"{scheme}{separator}{a_labels(host)}{colon}{port}".lower()
    except ValueError:
        return ""


def _given_pattern(place: int, pattern: str) -> str:
    """A regular expression of the operator's, which has to match a whole origin."""
    try:
        re.compile(pattern)
    except re.error as error:
        raise ConfigProblem(
            f"{pattern!r} is not a pattern: {error}", at=("origins", place)
        ) from None
    if not pattern.endswith("$"):
        raise ConfigProblem(
            f"{pattern!r} does not say where an origin ends",
            at=("origins", place),
            hint="end it with $",
        )
    return f"(?:{pattern})"


def _host_pattern(host: str) -> str:
    start, host = (r"(?:[a-z0-9_-]+\.)+", host[2:]) if host.startswith("*.") else ("", host)
    return start + re.escape(host).replace(r"\*", "[a-z0-9_-]*")


def _port_pattern(port: str) -> str:
    return r"(?::[0-9]{1,5})?" if port == ":*" else re.escape(port)


def _origin_hint(origin: str) -> str:
    if "://" not in origin:
        return f'with its scheme: "https://{origin}"'
    if origin.count("/") > 2:
        return "an origin ends before the path: " + '"' + "/".join(origin.split("/")[:3]) + '"'
    return 'such as "https://app.example.com", "https://*.example.com", "http://localhost:*" or "*"'


class Cors:
    """Decides about origins and answers preflights."""

    def __init__(self, config: CorsConfig, context: Context) -> None:
        self._name = context.name
        self._config = config
        self._origins = origins = Origins(config.origins)
        _check(config, origins)
        self._methods = "*" if "*" in config.methods else ", ".join(config.methods).upper()
        self._headers = "*" if "*" in config.headers else ", ".join(config.headers)
        self._shadows: Shadows | None = None
        if config.shadow:
            self._shadows = Shadows.of(context.keep, context.telemetry)
        self._seen: dict[str, bytes] = {}
        self._blocks = {origin: self._block(origin) for origin in origins.exact}
        self._everyone = self._block("*") if origins.everyone else b""
        vary = ["Origin", "Access-Control-Request-Method", "Access-Control-Request-Headers"]
        if config.private_network:
            vary.append("Access-Control-Request-Private-Network")
        self._preflight_vary = ", ".join(vary).encode()
        self._max_age = b"Access-Control-Max-Age: %d\r\n" % int(config.max_age)

    def request(self, exchange: Exchange) -> Reply | None:
        """Answer a preflight; refuse a WebSocket handshake of an origin that is not allowed."""
        if exchange.method != "OPTIONS":
            if UPGRADE in exchange.notes:
                self._check_handshake(exchange)
            if exchange.decisions is None:
                return None
        origin = exchange.headers.get(ORIGIN)
        if origin is None:
            return None
        method = exchange.headers.get("Access-Control-Request-Method")
        block = self._allowing(origin)
        if exchange.decisions is not None:
            what = "preflight" if exchange.method == "OPTIONS" and method is not None else "pass"
            exchange.decisions.append(
                Decision(self._name, what, f"{origin} is {'' if block else 'not '}allowed")
            )
        return (
            self._preflight(exchange, method, block)
            if exchange.method == "OPTIONS" and method is not None
            else None
        )

    def _check_handshake(self, exchange: Exchange) -> None:
        """Refuse a WebSocket handshake of an origin that is not allowed.

        Browsers send no preflight for it, from any page (RFC 6455 section 10.2).
        """
        for origin in exchange.headers.getall(ORIGIN, ()):
            if not self._allowing(origin) and not _is_same(origin, exchange):
                self._refuse(exchange, f"{origin} is not allowed to open a WebSocket")

    def guard(self, exchange: Exchange) -> Reply | None:
        """The request hook of `reject = true`."""
        for origin in exchange.headers.getall(ORIGIN, ()):
            if not self._allowing(origin) and not _is_same(origin, exchange):
                self._refuse(exchange, f"{origin} is not allowed")
        return self.request(exchange)

    def _refuse(self, exchange: Exchange, why: str) -> None:
        """Raise Failed, or with `shadow` note it."""
        at = ("origins",)
        failed = Failed(Failure.FORBIDDEN, "Origin not allowed", why=why, by=self._name, at=at)
        if self._shadows is None:
            raise failed
        self._shadows.failed(exchange, self._name, failed)

    def response(self, exchange: Exchange, reply: Reply) -> None:
        """Says who may read the reply."""
        if exchange.method == "OPTIONS" and _NOTE in exchange.notes:
            return
        if not OWNED.isdisjoint(reply.index):
            reply.remove(*OWNED)
        if self._everyone:
            # The same for all, and so for requests without an Origin whose answer a cache may give
            # to others.
            reply.blocks.append(self._everyone)
            return
        # Also without an Origin or with another one: a cache must not give this answer to one that
        # is allowed.
        reply.vary(b"Origin")
        origin = exchange.headers.get(ORIGIN)
        if origin is not None:
            block = self._blocks.get(origin) or self._allowing(origin)
            if block:
                reply.blocks.append(block)

    def error(self, exchange: Exchange, failed: Failed) -> None:
        """Scripts may read errors as well."""
        if exchange.reply is not None:
            exchange.notes.pop(_NOTE, None)
            self.response(exchange, exchange.reply)

    def _allowing(self, origin: str) -> bytes:
        """The block for an origin, b"" when it is not allowed."""
        if self._everyone:
            return self._everyone
        block = self._blocks.get(origin)
        if block is not None or self._origins.pattern is None:
            return block or b""
        block = self._seen.get(origin)
        if block is None:
            # RFC 6454 section 6.2: ASCII alone, whatever a pattern of the operator's takes.
            allowed = origin.isascii() and self._origins.pattern.fullmatch(origin)
            block = self._block(origin) if allowed else b""
            if len(origin) <= _SEEN_LONGEST:
                if len(self._seen) >= _SEEN_MAX:
                    self._seen.clear()
                self._seen[origin] = block
        return block

    def _block(self, origin: str) -> bytes:
        return self._grant(origin) + (
            f"Access-Control-Expose-Headers: {', '.join(self._config.expose)}\r\n".encode()
            if self._config.expose
            else b""
        )

    def _grant(self, origin: str) -> bytes:
        credentials = (
            b"Access-Control-Allow-Credentials: true\r\n" if self._config.credentials else b""
        )
        return f"Access-Control-Allow-Origin: {origin}\r\n".encode() + credentials

    def _preflight(self, exchange: Exchange, asked: str, allowed: bytes) -> Reply:
        """Answer a preflight with 204 and all there is to say.

        The browser compares that with what its page asks for.
        """
        exchange.reason = "preflight"
        exchange.notes[_NOTE] = True
        reply = Reply(204, ((b"Vary", self._preflight_vary),))
        if not allowed:
            return reply
        headers = exchange.headers
        block = self._grant("*" if self._everyone else headers["Origin"]) + self._max_age
        methods = self._methods or ", ".join(exchange.notes.get(ALLOWED_METHODS, ())) or METHODS
        if methods == "*":
            methods = asked if _METHOD.fullmatch(asked) else METHODS
        block += f"Access-Control-Allow-Methods: {methods}\r\n".encode()
        names = self._headers
        if names == "*":
            names = ", ".join(headers.getall("Access-Control-Request-Headers", ()))
            names = names if _FIELD_NAMES.fullmatch(names) else ""
        if names:
            block += f"Access-Control-Allow-Headers: {names}\r\n".encode()
        if (
            self._config.private_network
            and headers.get("Access-Control-Request-Private-Network") == "true"
        ):
            block += b"Access-Control-Allow-Private-Network: true\r\n"
        reply.blocks.append(block)
        return reply


def _check(config: CorsConfig, origins: Origins) -> None:
    if config.credentials and origins.everyone:
        hint = "name the origins that may send credentials, or leave credentials out"
        raise ConfigProblem(
            'credentials cannot go with origins = ["*"]', at=("credentials",), hint=hint
        )
    if config.credentials and "*" in config.expose:
        hint = (
            "with credentials browsers take it for a field's name (Fetch standard, "
            "CORS-exposed header-name list)"
        )
        raise ConfigProblem(
            '"*" exposes nothing', at=("expose", config.expose.index("*")), hint=hint
        )


def _is_same(origin: str, exchange: Exchange) -> bool:
    """Return True if the request comes from a page of this host itself.

    Browsers send Origin with every POST.
    """
    authority = origin.partition("://")[2]
    return authority != "" and authority == exchange.headers.get("Host", "").lower()


def build(config: Any, context: Context) -> Hooks:
    cors = Cors(config, context)
    return Hooks(cors.guard if config.reject else cors.request, cors.response, cors.error)
