"""What `pipelines/NAME.toml` says: three ordered lists, a table per middleware, and the routes that use them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.config.tables import tokens
from gateway.config.tables.schema import Boolean, Choice, Duration, FieldName, FieldValue, Items, Map, SubTable, Table, Text
from gateway.config.tables.traffic import POLICIES, LimitConfig, LimitTable

BUILTINS = ("health", "info", "limits", "me", *tokens.BUILTINS)
"""The gateway's own answers that a route may have as its target."""


@dataclass(frozen=True, slots=True)
class RouteConfig:
    """One `[[route]]`. Exactly one of `path` and `prefix` is set, and exactly one of `upstream` and `builtin`.

    path:     exact ("/health") or a template ("/cameras/{id}": one segment each).
    prefix:   whole segments: "/api" takes /api and /api/x, not /apix; "/" takes everything.
    methods, hosts ("*.example.com" takes any one or more labels in front), headers: empty takes all. Hosts are lower case.
    strip_prefix is removed from the path sent on; `rewrite` is a template of it ("/v1{path}", "/things/{id}").
    timeout:  seconds for the whole exchange with the upstream, None for no such limit.
    limit:    how many requests may be under way, None for any number.
    retry:    the name of a policy (config.upstream.POLICIES) instead of the upstream's `retry`, "" for that.
    request, response, error: this route's own lists, None for the pipeline's.
    overrides: this route's own tables by middleware name; False leaves the middleware out.
    """

    name: str = ""
    path: str = ""
    prefix: str = ""
    methods: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    upstream: str = ""
    builtin: str = ""
    strip_prefix: str = ""
    rewrite: str = ""
    timeout: float | None = None
    limit: LimitConfig | None = None
    retry: str = ""
    request: tuple[str, ...] | None = None
    response: tuple[str, ...] | None = None
    error: tuple[str, ...] | None = None
    case_sensitive: bool | None = None
    trailing_slash: str | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict, repr=False)
    settings: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Filled by check: the loaded config of each middleware this route overrides, the pipeline's table merged under it."""


@dataclass(frozen=True, slots=True)
class PipelineConfig:
    """One file under pipelines/. `settings` holds the loaded config of every middleware named in a list, by that name."""

    name: str
    file: Path
    request: tuple[str, ...] = ()
    response: tuple[str, ...] = ()
    error: tuple[str, ...] = ("error_handler",)
    settings: Mapping[str, Any] = field(default_factory=dict, repr=False)
    routes: tuple[RouteConfig, ...] = ()


class PipelineTable(Table):
    """The keys of a pipeline file that are its own; each `[[route]]` is loaded by itself, the rest are middlewares'."""

    makes = dict
    name = Text()
    request = Items(Text())
    response = Items(Text())
    error = Items(Text())
    route = Items(Map())


class RouteTable(Table):
    """The keys of a route that are its own; what else stands in its table are overrides, taken out before loading."""

    makes = RouteConfig
    name = Text()
    path = Text()
    prefix = Text()
    methods = Items(Text())
    hosts = Items(Text())
    headers = Map(keys=FieldName(), values=FieldValue())
    upstream = Text()
    builtin = Choice(*BUILTINS)
    strip_prefix = Text()
    rewrite = Text()
    timeout = Duration()
    limit = SubTable(LimitTable)
    retry = Choice(*POLICIES)
    request = Items(Text())
    response = Items(Text())
    error = Items(Text())
    case_sensitive = Boolean()
    trailing_slash = Choice("strict", "ignore")
