"""`builtin = "errors"`: every error that clients can see, what it means, and what to do.

The list at the route's own path; one code, or a failure's name, below it or in its template. Where
`types` of `[errors]` begins with this address, every problem's `type` leads here. Programs get
JSON, browsers a page.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256
from html import escape
from typing import Any
from urllib.parse import unquote

import orjson

from gateway.core.exchange import Exchange, Reply
from gateway.core.failures import Failed, Failure, OwnFailure
from gateway.core.problems import Problems

_AGAIN = "Try again later; after Retry-After, where the answer has one."
_OWN = "See what `detail` says; the operator's documentation has more."
_REPORT = "Try again; if it goes on, report the request_id to the operator."

MEANINGS: dict[Failure | OwnFailure, tuple[str, str]] = {
    Failure.MALFORMED: ("The request is not valid HTTP or not valid JSON.", "Correct the request."),
    Failure.MISSING_FIELD: (
        "A required field, parameter or the body is missing.",
        "Add what `errors` lists.",
    ),
    Failure.INVALID_FIELD: (
        "A field or parameter has a value that is not allowed.",
        "Correct what `errors` lists.",
    ),
    Failure.BODY_TOO_LARGE: ("The body is larger than is accepted.", "Send less at a time."),
    Failure.URI_TOO_LONG: ("The URL is longer than is accepted.", "Shorten the query."),
    Failure.UNSUPPORTED_MEDIA_TYPE: (
        "The body's media type, charset or coding is not supported.",
        "Send the type that Accept in the answer names.",
    ),
    Failure.HEADERS_TOO_LARGE: (
        "The header fields are too many or too long.",
        "Send fewer and shorter ones; cookies are the usual cause.",
    ),
    Failure.REQUEST_TIMEOUT: ("The request took too long to arrive.", "Send it again, faster."),
    Failure.EXPECTATION_FAILED: ("Expect asks for what is not supported.", "Leave Expect out."),
    Failure.VERSION_NOT_SUPPORTED: ("This version of HTTP is not spoken here.", "Use HTTP/1.1."),
    Failure.NO_ROUTE: ("Nothing is at this path.", "Compare path and host with the documentation."),
    Failure.METHOD_NOT_ALLOWED: (
        "The path does not take this method.",
        "Use one of those in Allow.",
    ),
    Failure.GONE: (
        "This version of the API has ended.",
        "Use its successor, which Link names.",
    ),
    Failure.NOT_ACCEPTABLE: (
        "Accept names no version that there is.",
        "Name one of those that the answer lists.",
    ),
    Failure.VERSION_REQUIRED: (
        "The request names no version of the API.",
        "Name one of those that the answer lists, in the field that it names.",
    ),
    Failure.UNAUTHENTICATED: (
        "Credentials are missing or not valid.",
        "Send a valid key or token; WWW-Authenticate names the kinds.",
    ),
    Failure.EXPIRED: (
        "The key, token or session has expired.",
        "Refresh the token, log in again, or ask for a new key.",
    ),
    Failure.FORBIDDEN: (
        "The caller is known and may not do this.",
        "Ask the operator for the permission; the same request will be refused again.",
    ),
    Failure.SUBSCRIPTION_REQUIRED: (
        "The caller's tier does not include this.",
        "Use an account of a tier that does.",
    ),
    Failure.RATE_LIMITED: (
        "A limit of requests in a period is used up.",
        "Wait as long as Retry-After says; RateLimit-Policy lists the limits.",
    ),
    Failure.QUOTA_EXCEEDED: (
        "A quota of a day or a month is used up.",
        "Wait until X-RateLimit-Reset, or ask for a higher quota.",
    ),
    Failure.LIMITS_UNKNOWN: ("The limits cannot be checked at the moment.", _AGAIN),
    Failure.NO_ENDPOINT: ("The service has no server that is well.", _AGAIN),
    Failure.CIRCUIT_OPEN: ("The service has failed too often and is left alone.", _AGAIN),
    Failure.OVERLOADED: ("There are more requests than can be served.", _AGAIN),
    Failure.CONNECT_FAILED: ("The service could not be reached.", _REPORT),
    Failure.DNS_FAILED: ("The service's name could not be resolved.", _REPORT),
    Failure.TLS_FAILED: ("No secure connection to the service was possible.", _REPORT),
    Failure.NOT_RECEIVED: ("The service closed the connection before the request.", _REPORT),
    Failure.CONNECTION_RESET: ("The service broke the connection off.", _REPORT),
    Failure.BAD_RESPONSE: ("The service's answer was not valid HTTP.", _REPORT),
    Failure.INCOMPLETE_RESPONSE: ("The service's answer broke off.", _REPORT),
    Failure.CONNECT_TIMEOUT: ("The service took too long to accept a connection.", _REPORT),
    Failure.READ_TIMEOUT: ("The service took too long to answer.", _REPORT),
    Failure.WRITE_TIMEOUT: ("The service took too long to read the request.", _REPORT),
    Failure.TIMEOUT: ("The answer took longer than this route allows.", _REPORT),
    Failure.DEADLINE_EXCEEDED: (
        "The time that the call allowed itself is over.",
        "Allow it more, or try again later.",
    ),
    Failure.NOT_CACHED: (
        "only-if-cached was asked for, and nothing is stored.",
        "Leave only-if-cached out.",
    ),
    Failure.INTERNAL: ("Something failed in the gateway.", _REPORT),
}
"""What a failure means and what a client can do. CLIENT_GONE is never seen by one."""


def catalogue(problems: Problems, own: Iterable[OwnFailure] = ()) -> Callable[[Exchange], Reply]:
    """Return the target that lists errors as `problems` shows them.

    own: of operators' middlewares; complete by the first request.
    """
    made: dict[str, tuple[bytes, bytes]] = {}

    def answer(exchange: Exchange) -> Reply:
        if not made:
            made.update(_pages(problems, [*MEANINGS, *own]))
        word = next(iter(exchange.params.values()), "")
        path = exchange.path + "/"
        for prefix in (one.rstrip("/") for one in exchange.route.config.prefixed):
            if not word and path.lower().startswith(prefix.lower() + "/"):
                word = path[len(prefix) :].strip("/")
        found = made.get(unquote(word).lower())
        if found is None:
            raise Failed(Failure.NO_ROUTE, "No error has this code.")
        is_page = "text/html" in exchange.headers.get("Accept", "")
        return Reply(200, _PAGE if is_page else _JSON, found[is_page])

    return answer


_SHARED = ((b"Cache-Control", b"max-age=300"), (b"Vary", b"Accept"))
_JSON = ((b"Content-Type", b"application/json"), *_SHARED)
_STYLE = """
:root { color-scheme: light dark; --text: #151b2b; --quiet: #586179; --line: #dfe4ee }
@media (prefers-color-scheme: dark) {
  :root { --text: #e8ecf5; --quiet: #9aa5bc; --line: #2a3446 }
  body { background: #0e131d }
}
body { font: 15px/1.5 system-ui, sans-serif; color: var(--text) }
main { max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.4rem }
section { border-top: 1px solid var(--line); padding: .9rem 0 }
h2 { font-size: 1rem; margin: 0 0 .2rem }
h2 span { font-weight: 400; color: var(--quiet) }
code { font: 13px/1.45 ui-monospace, monospace }
dl { margin: 0; display: grid; grid-template-columns: 6.5rem 1fr; gap: .15rem }
dt { color: var(--quiet) }
dd { margin: 0 }
"""
_HASH = b64encode(sha256(_STYLE.encode()).digest()).decode()
_PAGE = (
    (b"Content-Type", b"text/html; charset=utf-8"),
    (
        b"Content-Security-Policy",
        f"default-src 'none'; style-src 'sha256-{_HASH}'; frame-ancestors 'none'".encode(),
    ),
    *_SHARED,
)


def _pages(
    problems: Problems, failures: Sequence[Failure | OwnFailure]
) -> dict[str, tuple[bytes, bytes]]:
    """Return JSON and page by code and name; "" has all of them."""
    entries = [_entry(problems, failure) for failure in failures]
    by_word: dict[str, list[dict[str, Any]]] = {"": entries}
    for failure, entry in zip(failures, entries, strict=True):
        for word in {one.lower() for one in (entry["code"], failure.code, failure.reason)}:
            by_word.setdefault(word, []).append(entry)
    return {
        word: (orjson.dumps({"errors": found}), _page(found)) for word, found in by_word.items()
    }


def _page(entries: Sequence[dict[str, Any]]) -> bytes:
    """Return the errors as a page, with a style of its own and no script."""

    def section(entry: Mapping[str, Any]) -> str:
        said = {key: escape(str(value)) for key, value in entry.items()}
        return (
            f"<section>\n<h2><code>{said['code']}</code> {said['title']} "
            f"<span>{said['status']}</span></h2>\n<dl>\n"
            f"<dt>Means</dt><dd>{said['meaning']}</dd>\n"
            f"<dt>What to do</dt><dd>{said['action']}</dd>\n"
            f"<dt>Reason</dt><dd><code>{said['reason']}</code></dd>\n</dl>\n</section>\n"
        )

    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Errors</title>\n<style>{_STYLE}</style>\n<main>\n<h1>Errors</h1>\n"
        f"{''.join(map(section, entries))}</main>\n"
    ).encode()


def _entry(problems: Problems, failure: Failure | OwnFailure) -> dict[str, Any]:
    kind = problems.kinds[failure]
    meaning, action = MEANINGS.get(failure) or (f"{failure.title}.", _OWN)
    return {
        "code": kind.code,
        "reason": failure.reason,
        "status": kind.status,
        "type": kind.type,
        "title": failure.title,
        "meaning": meaning,
        "action": action,
    }
