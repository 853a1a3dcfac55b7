"""Targets of a route beside one upstream: shares, a mirror, a redirect, a fixed answer, services
that are registered at run time."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

from marshmallow import ValidationError, fields

from gateway.config.tables.declare import setting, table
from gateway.config.tables.schema import (
    Duration,
    FieldName,
    FieldValue,
    HttpUrl,
    Items,
    Map,
    Number,
    Size,
    Text,
    Whole,
)

SERVICE = "{service}"
"""The `upstream` of a route whose path names a pool, and where in the path that stands."""

FRAMING = frozenset(("connection", "content-length", "date", "keep-alive", "transfer-encoding"))
"""Fields that frame a message, which the gateway writes itself."""

BODYLESS = frozenset((204, 205, 304))
"""Statuses of answers that have no content (RFC 9110 sections 15.3.5, 15.3.6 and 15.4.5)."""


@dataclass(frozen=True, slots=True)
class Shares:
    """Several upstreams, each with its part of the requests; the parts need not add up to 100."""

    parts: Mapping[str, int]


class Upstream(Text):
    """An upstream's name, or a table of shares by name."""

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> Any:
        if not isinstance(value, dict):
            return super()._deserialize(value, attr, data, **kwargs)
        part = Whole(least=0, most=1_000_000)
        parts: dict[str, Any] = {}
        faults = {}
        for name, given in value.items():
            try:
                parts[name] = part.deserialize(given)
            except ValidationError as error:
                faults[name] = error.messages
        if faults:
            raise ValidationError(faults)
        if not any(parts.values()):
            raise ValidationError("no upstream has a share")
        return Shares(parts)

    def json_schema(self) -> dict[str, Any]:
        share = {"type": "integer", "minimum": 0}
        return {"anyOf": [{"type": "string"}, {"type": "object", "additionalProperties": share}]}


@table
class MirrorConfig:
    """A second upstream that gets a copy of requests; its answers are dropped."""

    upstream: str = setting(doc="the NAME of an `[upstream.NAME]`")
    share: float = setting(Number(least=0, most=1), default=1.0, doc="of the requests")
    max_body: int = setting(
        Size(), default=65536, doc="requests with longer bodies are not mirrored"
    )
    timeout: float = setting(Duration(), default=5.0, doc="for each copy, its answer included")
    limit: int = setting(
        Whole(least=1), default=100, doc="copies at a time; what is above it is not mirrored"
    )


def _redirect_status(status: int) -> None:
    if status not in (301, 302, 303, 307, 308):
        raise ValidationError("must be 301, 302, 303, 307 or 308")


@table
class RedirectTargetConfig:
    """A route that sends clients elsewhere."""

    to: str = setting(
        doc="where: a URL or a path. `{path}` is the one that came, after `strip_prefix`; "
        "`{?query}`, at the end, the query with its `?`; a template's names are its segments; "
        "`{host}` the host that was asked for, on routes with `hosts`"
    )
    status: int = setting(
        Whole(), default=308, check=_redirect_status, doc="301, 302, 303, 307 or 308"
    )


@table
class RespondConfig:
    """A fixed answer."""

    status: int = setting(Whole(least=200, most=599), default=200, doc="of the answer")
    json: Any = setting(fields.Raw(allow_none=True), default=None, doc="the body, as JSON")
    text: str = setting(Text(empty=True), default="", doc="the body, as it is")
    headers: Mapping[str, str] = setting(
        Map(keys=FieldName(), values=FieldValue()),
        default_factory=dict,
        doc="fields of the answer; Content-Type is that of the body unless it is here",
    )

    def check(self) -> None:
        if self.json is not None and self.text:
            raise ValidationError("stands beside json; an answer has one of them", "text")
        if self.status in BODYLESS and (self.json is not None or self.text):
            raise ValidationError(f"a {self.status} has no body", "status")
        for name in self.headers:
            if name.lower() in FRAMING:
                raise ValidationError(f"the gateway itself writes {name}", "headers")


SERVICE_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
"""Names of services that are a segment of a path as they are."""


class Place(Text):
    """A host's name, "*.example.com" for all below one, or a network."""

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> Any:
        value = super()._deserialize(value, attr, data, **kwargs)
        try:
            network: IPv4Network | IPv6Network = ip_network(value)
        except ValueError:
            if not re.fullmatch(r"(?:\*\.)?[A-Za-z0-9_.-]*[A-Za-z_-][A-Za-z0-9_.-]*", value):
                raise ValidationError(f"is no host's name and no network: {value!r}") from None
            return value.lower()
        return network


def _env(pattern: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_]*\*[A-Za-z0-9_]*", pattern) or pattern == "*":
        raise ValidationError('must be a name with one "*", e.g. "*_SERVICE_URL"')


@table
class ServicesConfig:
    """Services registered at run time, by `POST /admin/services` or the environment."""

    env: str = setting(
        default="",
        check=_env,
        doc='variables with the URLs of services; `"*_SERVICE_URL"`: USER_PROFILE_SERVICE_URL is '
        "`user-profile`",
    )
    allow: tuple[IPv4Network | IPv6Network | str, ...] = setting(
        Items(Place()),
        default=(),
        doc='where services may lie: names, `"*.svc.internal"` for all below one, and networks '
        "for addresses; everywhere but on link-local addresses when left out",
    )
    like: str = setting(
        default="", doc="an upstream whose settings theirs have, all but its endpoints"
    )


def _name(name: str) -> None:
    if not SERVICE_NAME.fullmatch(name):
        raise ValidationError("must be of a-z, 0-9, '.', '_' and '-', at most 64 letters")


def _path(path: str) -> None:
    if not re.fullmatch(r"/[\x21-\x7e]*", path):
        raise ValidationError("must be a path, e.g. /health")


@table
class ServiceConfig:
    """One registration: a service, and one address of it."""

    name: str = setting(check=_name, doc="the service's")
    url: str = setting(HttpUrl(), doc="where it is")
    health_endpoint: str = setting(
        default="", check=_path, doc="the path that is checked; it is not checked when left out"
    )
    weight: int = setting(Whole(least=0, most=65535), default=1, doc="the address's share")
    timeout: float | None = setting(
        Duration(), default=None, doc="between two bytes of an answer; 30 s when left out"
    )
    circuit_breaker_enabled: bool = setting(default=True, doc="whether it has a circuit breaker")


@table
class PortalConfig:
    """What `builtin = "portal"` is like. Times in seconds."""

    title: str = setting(default="API portal", doc="what the page is called")
    session: float = setting(
        Duration(), default=8 * 3600.0, doc="how long a partner stays logged in"
    )
    overlap: float = setting(
        Duration(),
        default=86400.0,
        doc="how long a key goes on that was rotated there, unless its owner chooses less",
    )
