"""pipelines/NAME.toml: three ordered lists, a table for each middleware, and the routes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field, replace
from pathlib import Path
from typing import Any

from marshmallow import ValidationError

from gateway.config.openapi.config import ApiConfig, OpenApiConfig
from gateway.config.openapi.document import Operation
from gateway.config.tables import tokens
from gateway.config.tables.declare import setting, table
from gateway.config.tables.schema import Choice, Duration, FieldName, FieldValue, Items, Map
from gateway.config.tables.targets import (
    SERVICE,
    MirrorConfig,
    PortalConfig,
    RedirectTargetConfig,
    RespondConfig,
    Shares,
    Upstream,
)
from gateway.config.tables.traffic import POLICIES, LimitConfig
from gateway.config.versions import Day, Version, VersionBy, VersionByField

BUILTINS = (
    "health",
    "info",
    "limits",
    "me",
    "usage",
    "errors",
    "openapi",
    "docs",
    "portal",
    *tokens.BUILTINS,
)
"""The gateway's own answers that a route may have as its target."""


def _successor(value: str) -> None:
    if not re.fullmatch(r"(?:https?:/)?/[\x21\x23-\x3b\x3d\x3f-\x7e]*", value):
        raise ValidationError(f"must be a path or a URL, not {value!r}")


@table
class RouteConfig:
    """One `[[route]]`. It has exactly one of `path`, `prefix`, `paths` and `prefixes`, and one
    target: `upstream`, `builtin`, `redirect` or `respond`.

    Hosts are lower case. Where `request`, `response` or `error` is None the pipeline's list holds.
    """

    name: str = setting(default="", doc="in logs and metrics; the path or prefix when left out")
    path: str = setting(
        default="", doc='exact (`"/health"`), or a template (`"/cameras/{id}"`, one segment each)'
    )
    prefix: str = setting(
        default="",
        doc='whole segments: `"/api"` takes `/api/x`, not `/apix`; `"/"` takes everything',
    )
    paths: tuple[str, ...] = setting(
        default=(), doc='several, in place of `path`: `["/cameras", "/cameras/{id}"]`'
    )
    prefixes: tuple[str, ...] = setting(default=(), doc="several, in place of `prefix`")
    methods: tuple[str, ...] = setting(default=(), doc="all when left out")
    hosts: tuple[str, ...] = setting(
        default=(), doc='all when left out; `"*.example.com"` takes one or more labels in front'
    )
    headers: Mapping[str, str] = setting(
        Map(keys=FieldName(), values=FieldValue()),
        default_factory=dict,
        doc='headers a request must have, with these values; `"*"` takes any',
    )
    upstream: str | Shares = setting(
        Upstream(),
        default="",
        doc="the NAME of an `[upstream.NAME]`; or shares of several, "
        '`{ becamera = 95, canary = 5 }`; or `"{service}"`, the one that the path names '
        "([targets.md](targets.md#services))",
    )
    sticky: bool = setting(
        default=False,
        doc="with shares: a client, known by name or else by address, stays with one upstream",
    )
    services: tuple[str, ...] = setting(
        default=(),
        doc='with `upstream = "{service}"`: the upstreams it leads to, in place of the services '
        "registered at run time",
    )
    mirror: MirrorConfig | None = setting(
        default=None, doc="a second upstream that gets copies of requests: `[route.mirror]`"
    )
    builtin: str = setting(
        Choice(*BUILTINS),
        default="",
        doc="one of the gateway's own answers: the condition of every upstream, the gateway's"
        " version, the caller's limits, the caller's identity, what errors mean, this "
        "API as an OpenAPI document and as a page, the partners' own page; the others are those "
        "of `[tokens]`",
    )
    api: ApiConfig | None = setting(
        default=None, doc="with `openapi` and `docs`: what the API is called: `[route.api]`"
    )
    portal: PortalConfig | None = setting(
        default=None, doc="with `portal`: `[route.portal]` ([portal.md](portal.md))"
    )
    published: bool = setting(
        default=True, doc="whether the documents of `openapi` and `docs` have it"
    )
    redirect: RedirectTargetConfig | None = setting(
        default=None, doc="sends clients elsewhere: `[route.redirect]`"
    )
    respond: RespondConfig | None = setting(default=None, doc="a fixed answer: `[route.respond]`")
    strip_prefix: str = setting(
        default="", doc="removed from the front of the path that is sent on"
    )
    restore_prefix: bool = setting(
        default=True,
        doc="with `strip_prefix`: tell the upstream in X-Forwarded-Prefix, and put it back in "
        "front of Location and "
        "Content-Location of its own paths",
    )
    rewrite: str = setting(
        default="",
        doc="the path to send on; `{path}` is the one that came, after `strip_prefix`, and a "
        'template\'s names are its segments: `"/v1{path}"`',
    )
    version: str = setting(
        Version(), default="", doc="the version this is: X-API-Version and X-API-Status say so"
    )
    version_by: VersionBy | None = setting(
        VersionByField(), default=None, doc="in place of `[routing]`'s"
    )
    deprecated: float | None = setting(
        Day(), default=None, doc="the day from which it is deprecated: `2026-06-01`"
    )
    sunset: float | None = setting(
        Day(), default=None, doc="the day on which it ends, at 00:00 UTC; answered 410 from then on"
    )
    successor: str = setting(
        default="", check=_successor, doc="what takes its place, a path or URL, for `Link`"
    )
    retired: bool = setting(default=False, doc="it has ended: 410 with the successor")
    timeout: float | None = setting(
        Duration(),
        default=None,
        doc="for the whole exchange with the upstream, retries included; none when left out",
    )
    pass_headers: tuple[str, ...] = setting(
        Items(FieldName()),
        default=(),
        doc="what is dropped otherwise, e.g. `X-HTTP-Method-Override` or `X-Original-URL`",
    )
    limit: LimitConfig | None = setting(
        default=None, doc="requests at a time on this route: `[route.limit]`"
    )
    retry: str = setting(
        Choice(*POLICIES),
        default="",
        doc="a policy in place of the upstream's `retry` ([above](#upstreamnameretry))",
    )
    request: tuple[str, ...] | None = setting(
        default=None, doc="this route's own list, in place of the pipeline's"
    )
    response: tuple[str, ...] | None = setting(default=None, doc="likewise")
    error: tuple[str, ...] | None = setting(default=None, doc="likewise")
    case_sensitive: bool | None = setting(default=None, doc="in place of `[routing]`'s")
    trailing_slash: str | None = setting(
        Choice("strict", "ignore", "redirect"), default=None, doc="in place of `[routing]`'s"
    )
    encoded_slash: str | None = setting(
        Choice("refuse", "keep"), default=None, doc="in place of `[routing]`'s"
    )
    overrides: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """This route's own tables by middleware name; False leaves the middleware out."""
    settings: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Set by check: the config of each overridden middleware, over the pipeline's table."""
    operation: Operation | None = field(default=None, repr=False)
    """Set by check: the operation of an OpenAPI document that this is the route of."""

    @property
    def upstreams(self) -> tuple[str, ...]:
        """The names of the upstreams it leads to."""
        if isinstance(self.upstream, Shares):
            return tuple(self.upstream.parts)
        if self.upstream == SERVICE:
            return self.services
        return (self.upstream,) if self.upstream else ()

    @property
    def asked(self) -> tuple[str, ...]:
        """The names of the upstreams that its requests go to, as copies or not."""
        return self.upstreams if self.mirror is None else (*self.upstreams, self.mirror.upstream)

    @property
    def target(self) -> str:
        """Its target, for operators: an upstream's name, or "builtin:health" and the like."""
        if isinstance(self.upstream, Shares):
            return ", ".join(f"{name} {part}" for name, part in self.upstream.parts.items())
        if self.redirect is not None:
            return f"redirect:{self.redirect.to}"
        if self.respond is not None:
            return f"respond:{self.respond.status}"
        return self.upstream or f"builtin:{self.builtin}"

    def check(self) -> None:
        if self.version_by is not None and self.version_by.kind != "path" and not self.version:
            raise ValidationError("needs a version", "version_by")
        if (
            self.deprecated is not None
            and self.sunset is not None
            and self.sunset < self.deprecated
        ):
            raise ValidationError("is before deprecated (RFC 9745 section 4)", "sunset")

    @property
    def prefixed(self) -> tuple[str, ...]:
        """Return all its prefixes."""
        return (self.prefix, *self.prefixes) if self.prefix else self.prefixes

    @property
    def has_own_lists(self) -> bool:
        """Return True if it brings a list in place of one of the pipeline's."""
        return any(names is not None for names in (self.request, self.response, self.error))

    def matches(self) -> tuple[RouteConfig, ...]:
        """Return the route once for each path or prefix, with that as its only one."""
        if not self.paths and not self.prefixes:
            return (self,)
        alone = replace(self, path="", prefix="", paths=(), prefixes=())
        return (
            *(replace(alone, path=path) for path in (self.path, *self.paths) if path),
            *(replace(alone, prefix=prefix) for prefix in self.prefixed),
        )


@table
class PipelineConfig:
    """One file under pipelines/. The other keys in it are the tables of middlewares."""

    name: str = setting(default="", doc="the pipeline's name; the file's when left out")
    file: Path = Path()
    request: tuple[str, ...] = setting(default=(), doc="what runs before the upstream is asked")
    response: tuple[str, ...] = setting(default=(), doc="what runs over answers")
    error: tuple[str, ...] = setting(
        default=("error_handler",),
        doc="what runs over failures; `error_handler` is put in front unless it is there",
    )
    settings: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Set by check: the loaded config of every middleware in a list, by its name there."""
    routes: tuple[RouteConfig, ...] = setting(
        Items(Map()), default=(), name="route", doc="the routes: `[[route]]`"
    )
    openapi: tuple[OpenApiConfig, ...] = setting(
        default=(), doc="documents whose operations are routes: `[[openapi]]`"
    )
