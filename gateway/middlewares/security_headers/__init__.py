"""Response fields that restrict browsers, and the removal of those that describe servers.

    [security_headers]
    preset = "api"                       # or "web" (pages), "minimal"
    content_security_policy = "..."      # any of the preset's fields with another value
    omit = ["Permissions-Policy"]        # or left out
    hsts = { max_age = "365d", include_subdomains = true, preload = true }
    override = false                     # whether the upstream's own values are replaced

Hooks: `response` and `error`, so that answers of the gateway itself carry them too. All lines are
       one block made at build time;
only an answer that has some of the fields already, or one to be removed, costs more.

Strict-Transport-Security goes out over https alone: RFC 6797 section 7.2 forbids it elsewhere, and
browsers ignore it there.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from gateway.config.tables.schema import schema_of
from gateway.core.exchange import Exchange, Reply
from gateway.core.failures import Failed
from gateway.core.headers import lower
from gateway.core.hooks import ConfigProblem, Context, Hooks
from gateway.core.provenance import account
from gateway.middlewares.security_headers.config import (
    PRESETS,
    HstsConfig,
    SecurityHeadersConfig,
)

CONFIG = schema_of(SecurityHeadersConfig)

HSTS = b"strict-transport-security"
_PLANS_MAX = 256

_TITLES = {"hsts": "Strict-Transport-Security"} | {
    key: "-".join(word.capitalize() for word in key.split("_"))
    for key in (field.name for field in fields(SecurityHeadersConfig))
    if key not in ("preset", "hsts", "omit", "remove", "override")
}


def policy(config: SecurityHeadersConfig) -> dict[str, str]:
    """The fields to send and their values.

    Raises ConfigProblem for a name in `omit` that would not be sent anyway.
    """
    lines = dict(PRESETS[config.preset])
    for key, name in _TITLES.items():
        value = getattr(config, key)
        if isinstance(value, str):
            lines[name] = value
    lines[_TITLES["hsts"]] = _hsts(config.hsts)
    known = {name.lower(): name for name in lines}
    for place, name in enumerate(config.omit):
        if known.pop(name.lower(), None) is None:
            hint = "it has " + ", ".join(known.values())
            raise ConfigProblem(
                f"{name!r} is not in preset {config.preset!r}", at=("omit", place), hint=hint
            )
    return {name: lines[name] for name in known.values()}


def _hsts(config: HstsConfig) -> str:
    if config.preload and (not config.include_subdomains or config.max_age < 31536000):
        # https://hstspreload.org: browsers' lists take no weaker one, and refusing later is slow.
        hint = "or say preload = false"
        raise ConfigProblem(
            "preload needs include_subdomains and a max_age of a year",
            at=("hsts", "preload"),
            hint=hint,
        )
    parts = [f"max-age={int(config.max_age)}"]
    parts += ["includeSubDomains"] * config.include_subdomains + ["preload"] * config.preload
    return "; ".join(parts)


class SecurityHeaders:
    """Puts the block into replies. `_plain` is for http, `_secure` for https."""

    def __init__(self, config: SecurityHeadersConfig) -> None:
        self._lines = {
            name.lower().encode(): f"{name}: {value}\r\n".encode()
            for name, value in policy(config).items()
        }
        self._override = config.override
        self._always = config.hsts.always
        self._removed = frozenset(name.lower().encode() for name in config.remove)
        self._watched = self._removed.union(self._lines)
        _, self._plain, self._secure = self._plan(frozenset())
        self._plans: dict[frozenset[bytes], tuple[frozenset[bytes], bytes, bytes]] = {}

    def response(self, exchange: Exchange, reply: Reply) -> None:
        """The usual case is two look-ups and an append."""
        if not self._watched.isdisjoint(reply.index):
            self._adapt(exchange, reply)
        elif exchange.scheme == "https" or exchange.trusted:
            reply.blocks.append(self._secure if self._over_tls(exchange) else self._plain)
        else:
            reply.blocks.append(self._plain)

    def error(self, exchange: Exchange, failed: Failed) -> None:
        """Error pages are pages too."""
        if exchange.reply is not None:
            self.response(exchange, exchange.reply)

    def _adapt(self, exchange: Exchange, reply: Reply) -> None:
        """Adapt a reply that has some of the fields itself, or some to be removed."""
        index = reply.index
        present = self._watched.intersection(index)
        plan = self._plans.get(present)
        if plan is None:
            if len(self._plans) >= _PLANS_MAX:
                self._plans.clear()
            plan = self._plans[present] = self._plan(present)
        gone, plain, secure = plan
        if gone:
            for name in gone:
                del index[name]
            reply.headers = [pair for pair in reply.headers if lower(pair[0]) not in gone]
            reply.joined = None
        reply.blocks.append(secure if self._over_tls(exchange) else plain)

    def _plan(self, present: frozenset[bytes]) -> tuple[frozenset[bytes], bytes, bytes]:
        """Return which of a reply's fields go, and the lines to add over http and over https."""
        gone = present if self._override else present & self._removed
        secure = self._without(present - gone)
        return gone, secure if self._always else self._without(present - gone | {HSTS}), secure

    def _over_tls(self, exchange: Exchange) -> bool:
        """Return True if the client came by https, to the gateway or to a trusted proxy."""
        if self._always or exchange.scheme == "https":
            return True
        return exchange.trusted and account(exchange).proto.lower() == "https"

    def _without(self, names: frozenset[bytes]) -> bytes:
        return b"".join(line for name, line in self._lines.items() if name not in names)


def build(config: Any, context: Context) -> Hooks:
    made = SecurityHeaders(config)
    return Hooks(response=made.response, error=made.error)
