"""Who may use the admin API: every request passes here before it is routed, and every answer on its way back.

With a token, whoever knows it. Without one, whoever reaches the listener, which is why it is on 127.0.0.1 by default. What also
reaches it there is a web page in a browser on that machine, and two rules keep pages out:

- The Host must be an address, `localhost`, the configured host or a name without a dot. A page can have its own name resolve to
  127.0.0.1 (DNS rebinding) and is then of the same origin, but public names have dots (RFC 7085 on why the others do not work).
- What changes something needs the header X-Gateway-Admin. A page of another origin can only send it after a CORS preflight, and
  nothing here ever answers one.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Collection
from ipaddress import ip_address

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from gateway.admin.answers import problem

log = logging.getLogger("gateway.admin")

HEADER = "X-Gateway-Admin"
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


def guard(token: str, host: str, open_paths: Collection[str]) -> Middleware:
    """The application's middleware. `token` is "" for none; `host` is the configured one; `open_paths` are for everybody."""
    expected = token.encode("utf-8", "surrogateescape")

    @web.middleware
    async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        refusal = None
        if request.path not in open_paths:
            refusal = unauthenticated(request, expected) if expected else untrusted(request, host)
        response = refusal or await _answered(request, handler)
        for name, value in SECURITY_HEADERS.items():
            response.headers.setdefault(name, value)
        if refusal is not None or request.method not in SAFE_METHODS:
            log.info("%s: %s %r answered %d", request.remote, request.method, request.path, response.status)
        return response

    return guarded


async def _answered(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The handler's answer; every error as a problem, and nothing internal in it."""
    try:
        if request.can_read_body:
            async with asyncio.timeout(BODY_TIMEOUT):
                await request.read()
        return await handler(request)
    except web.HTTPException as error:
        kept = {name: error.headers[name] for name in ("Allow",) if name in error.headers}
        return problem(error.status, DETAILS.get(error.status, error.reason), headers=kept)
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


def unauthenticated(request: web.Request, expected: bytes) -> web.Response | None:
    """The refusal of a request that does not bring the token (RFC 6750 section 3), None if it does."""
    given = request.headers.get("Authorization")
    if given is None:
        challenge = 'Bearer realm="gateway"'
        return problem(401, "This needs Authorization: Bearer and the token of [admin].", headers={"WWW-Authenticate": challenge})
    scheme, _, credentials = given.partition(" ")
    token = credentials.strip().encode("utf-8", "surrogateescape")
    if scheme.lower() == "bearer" and hmac.compare_digest(token, expected):
        return None
    challenge = 'Bearer realm="gateway", error="invalid_token"'
    return problem(401, "This is not the token of [admin].", headers={"WWW-Authenticate": challenge})


def untrusted(request: web.Request, host: str) -> web.Response | None:
    """The refusal of a request that a web page may have sent, None if none can have."""
    given = request.headers.getall("Host", [])
    if len(given) > 1 or (given and not is_own_name(given[0], host)):
        return problem(
            421,
            "The Host is neither an address, nor localhost, nor the host of [admin], nor a name without a dot. Use one of these, "
            "or set a token.",
        )
    if request.method not in SAFE_METHODS and HEADER not in request.headers:
        return problem(403, f"What changes something needs the header {HEADER}, with any value.")
    return None


def is_own_name(given: str, host: str) -> bool:
    """Whether a Host field is one that no page from elsewhere can have in its address."""
    name = given.lower()
    name = name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0]
    name = name.removesuffix(".")
    if "." not in name and ":" not in name:
        return True
    if name == host.lower() or name.endswith(".localhost"):
        return True
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
