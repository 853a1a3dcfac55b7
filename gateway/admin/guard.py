"""Decide who may use the admin API, for every request and before it is routed.

With tokens, those who know one: the writer's for everything, a reader's for what changes nothing.
A browser may give one once for a session (sessions.py); its page must be ours to change something.
Without, every client that reaches the listener, which is why it is on 127.0.0.1 by default. What
also reaches it there is a web page in a browser on that machine, and two rules keep pages out:

- The Host must be an address, `localhost`, the configured host, one of `hosts` or a name without a
  dot. A page can have its own name resolve to 127.0.0.1 (DNS rebinding) and is then of the same
  origin, but public names have dots (RFC 7085 on why the others do not work).
- What changes something needs the header X-Gateway-Admin. A page of another origin can only send it
  after a CORS preflight, which is answered to the origins of [admin] alone.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from ipaddress import ip_address

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from gateway.admin import ADMIN_HEADER
from gateway.admin.answers import problem
from gateway.admin.arguments import Unusable
from gateway.admin.audit import AdminAudit
from gateway.admin.dashboard import sessions
from gateway.config.tables.addresses import AdminConfig
from gateway.core.clock import REAL

log = logging.getLogger("gateway.admin")

HEADER = ADMIN_HEADER
WRITER = "operator"
"""What the holder of [admin]'s own token is called."""
SAFE_METHODS = frozenset(("GET", "HEAD", "OPTIONS"))
MAX_BODY = 64 * 1024
BODY_TIMEOUT = 10.0
"""Seconds a request's body may take to arrive."""

SECURITY_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: a name for the log, and whether it may change something.

    by_session: known by the cookie that its browser sends with every request.
    """

    name: str
    writes: bool
    by_session: bool = False


ANYONE = Caller("", True)
"""Where [admin] has no tokens."""
CALLER = web.RequestKey("caller", Caller)


class Access:
    """What [admin] says about callers. wall: the clock of sessions."""

    def __init__(self, config: AdminConfig, wall: Callable[[], float] = REAL.wall) -> None:
        self.hosts = frozenset(
            name.lower().removesuffix(".") for name in (config.host, *config.hosts)
        )
        self.origins = config.origins
        self.cookie = sessions.cookie_name(config.port, secure=config.tls is not None)
        self.secure = config.tls is not None
        self.wall = wall
        known = [(reader.name, False, _bytes(reader.token)) for reader in config.readers]
        if config.token:
            known.insert(0, (WRITER, True, _bytes(config.token)))
        self._callers = tuple(Caller(name, writes) for name, writes, _ in known)
        self.tokens = tuple(token for _, _, token in known)

    @property
    def open(self) -> bool:
        """Whether there are no tokens at all."""
        return not self.tokens

    def holder(self, token: str) -> Caller | None:
        """Return whose token this is."""
        given = _bytes(token)
        # All of them, so that the time taken tells nothing about which is nearly right.
        known = [
            caller
            for caller, one in zip(self._callers, self.tokens, strict=True)
            if hmac.compare_digest(given, one)
        ]
        return known[0] if known else None

    def in_session(self, request: web.Request) -> Caller | None:
        """Return whose session a browser has."""
        value = request.cookies.get(self.cookie)
        place = None if value is None else sessions.owner(value, self.tokens, self.wall())
        return None if place is None else replace(self._callers[place], by_session=True)

    def refusal(self, request: web.Request) -> web.Response | None:
        """The answer to a request that may not be served, None for one that may."""
        if self.open:
            request[CALLER] = ANYONE
            return untrusted(request, self.hosts)
        given = request.headers.get("Authorization")
        caller = self.in_session(request) if given is None else None
        if given is None and caller is None:
            challenge = 'Bearer realm="gateway"'
            detail = "This needs Authorization: Bearer and a token of [admin]."
            return problem(401, detail, headers={"WWW-Authenticate": challenge})
        if given is not None:
            scheme, _, credentials = given.partition(" ")
            caller = self.holder(credentials.strip()) if scheme.lower() == "bearer" else None
        if caller is None:
            challenge = 'Bearer realm="gateway", error="invalid_token"'
            return problem(
                401, "This is not a token of [admin].", headers={"WWW-Authenticate": challenge}
            )
        request[CALLER] = caller
        if request.method in SAFE_METHODS:
            return None
        if not caller.writes:
            return problem(403, f"{caller.name} may look, but change nothing.")
        return _from_other_page(request) if caller.by_session else None


def _from_other_page(request: web.Request) -> web.Response | None:
    """The refusal of a change that a browser did not send from a page of this listener.

    The cookie says only which browser asks. Its page is told by Origin, which browsers send with
    every POST and DELETE (Fetch section 3.2); the scheme is left out, for TLS may end in front.
    """
    origin = request.headers.get("Origin", "")
    if origin.partition("://")[2] != request.headers.get("Host", "") or not origin:
        return problem(403, "A session changes something only from the dashboard's own page.")
    return without_header(request)


def _bytes(token: str) -> bytes:
    return token.encode("utf-8", "surrogateescape")


def guard(
    access: Access, open_paths: Collection[str], audit: AdminAudit | None = None
) -> Middleware:
    """The application's middleware. `open_paths` need no token.

    audit: where what was changed or refused is written, beside the process's log.
    """

    @web.middleware
    async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        began = getattr(request.protocol, "began", None)
        if began is not None:  # A test's client comes without our listener.
            began()
        resource = request.match_info.route.resource
        is_open = resource is not None and resource.canonical in open_paths
        # A question of a browser, which aiohttp_cors answers by the origin (Fetch section 3.2.2).
        is_open = is_open or (bool(access.origins) and is_preflight(request))
        refusal = None if is_open else access.refusal(request)
        response = secured(refusal or await _answered(request, handler))
        if refusal is not None or request.method not in SAFE_METHODS:
            caller = request.get(CALLER, ANYONE).name
            log.info(
                "%s%s: %s %r answered %d",
                request.remote,
                f" ({caller})" if caller else "",
                request.method,
                request.path,
                response.status,
            )
            if audit is not None:
                audit.write(request, caller, response.status)
        return response

    return guarded


def is_preflight(request: web.Request) -> bool:
    """Return True for a browser's question whether a page of another origin may ask."""
    return request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers


def secured(response: web.StreamResponse) -> web.StreamResponse:
    """The answer, with what keeps browsers from doing anything with it."""
    for name, value in SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
    return response


async def _answered(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The handler's answer; every error as a problem, and nothing internal in it."""
    try:
        if request.can_read_body:
            async with asyncio.timeout(BODY_TIMEOUT):
                await request.read()
        return await handler(request)
    except web.HTTPException as error:
        kept = {name: error.headers[name] for name in ("Allow",) if name in error.headers}
        detail = error.text if isinstance(error, Unusable) else DETAILS.get(error.status)
        return problem(error.status, detail or error.reason, headers=kept)
    except TimeoutError:
        late = problem(408, "The request's body took too long to arrive.")
        late.force_close()
        return late
    except Exception:
        log.exception("%s %r failed", request.method, request.path)
        return problem(500, "The gateway's log says what went wrong.")


DETAILS = {
    404: "There is nothing here; /admin/openapi.json describes what there is.",
    405: "This method cannot be used here.",
    413: f"A request's body may have at most {MAX_BODY} bytes.",
}


def untrusted(request: web.Request, hosts: Collection[str]) -> web.Response | None:
    """The refusal of a request that a web page may have sent, None if none can have."""
    given = request.headers.getall("Host", [])
    if len(given) > 1 or (given and not is_own_name(given[0], hosts)):
        return problem(
            421,
            "The Host is neither an address, nor localhost, nor one of the hosts of [admin], nor "
            "a name without a dot. "
            "Use one of these, or set a token.",
        )
    return None if request.method in SAFE_METHODS else without_header(request)


def without_header(request: web.Request) -> web.Response | None:
    """The refusal of a change without the header that no page of another origin can send."""
    if HEADER in request.headers:
        return None
    return problem(403, f"What changes something needs the header {HEADER}, with any value.")


def is_own_name(given: str, hosts: Collection[str]) -> bool:
    """Return True if a Host field is one that no page from elsewhere can have in its address."""
    name = given.lower()
    name = name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0]
    name = name.removesuffix(".")
    if "." not in name and ":" not in name:
        return True
    if name in hosts or name.endswith(".localhost"):
        return True
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
