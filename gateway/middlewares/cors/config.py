"""`[cors]`: which origins may read answers, and what they may send."""

from __future__ import annotations

from gateway.config.tables.declare import setting, table
from gateway.config.tables.schema import Duration, FieldName, Items

HEADERS = ("Authorization", "Content-Type", "X-Request-ID", "X-Client-Version", "Accept-Language")
EXPOSE = (
    "X-Request-ID",
    "X-RateLimit-Limit",
    "X-RateLimit-Remaining",
    "X-RateLimit-Reset",
    "Retry-After",
)


@table
class CorsConfig:
    """Which origins may read answers, and what they may send. `methods` (): those of the routes."""

    origins: tuple[str, ...] = setting(
        doc='who may read answers: `"https://app.example.com"`, `"https://*.example.com"`, '
        '`"https://app-*.example.com"`, '
        '`"http://localhost:*"`, a pattern such as `"^https://pr-[0-9]+[.]example[.]com$"`, '
        '`"*"`, `"null"`'
    )
    methods: tuple[str, ...] = setting(
        Items(FieldName()),
        default=(),
        doc='what may be sent; the routes\' methods when left out, `"*"`: what is asked for',
    )
    headers: tuple[str, ...] = setting(
        Items(FieldName()),
        default=HEADERS,
        doc='request headers that may be sent; `"*"` allows what is asked for',
    )
    expose: tuple[str, ...] = setting(
        Items(FieldName()), default=EXPOSE, doc="response headers that scripts may read"
    )
    credentials: bool = setting(
        default=False, doc="whether cookies and client certificates may be sent"
    )
    max_age: float = setting(
        Duration(zero=True), default=3600.0, doc="how long a browser may remember a preflight"
    )
    private_network: bool = setting(
        default=False,
        doc="whether pages of public sites may reach this gateway on a private address",
    )
    reject: bool = setting(
        default=False,
        doc="refuse other origins with 403; otherwise their browsers keep the answer from them",
    )
    shadow: bool = setting(
        default=False,
        doc="with `reject`, and for WebSockets: only count, log and remember what would be refused "
        "([explain.md](explain.md#before-it-is-switched-on))",
    )
