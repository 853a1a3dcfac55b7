"""One document of all published operations, or of those that a caller may use."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Mapping
from functools import reduce
from hashlib import sha256
from importlib.resources import files
from typing import Any

import orjson
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.builtins.openapi.published import Published, either, published, shape, shape_of
from gateway.config.openapi.config import ApiConfig
from gateway.config.openapi.document import Document
from gateway.config.tables.pipeline import PipelineConfig
from gateway.core.exchange import Exchange, Identity, Reply
from gateway.core.failures import Failed, Failure
from gateway.core.identities import covers
from gateway.core.problems import Problems

_KEPT = 64
"""Documents for different callers that are kept."""
_JSON = (
    (b"Content-Type", b"application/json"),
    (b"Cache-Control", b"no-cache"),
    (b"Vary", b"Accept"),
)


class ApiDocument:
    """The answers of `openapi` and `docs`. `publish` is called once all routes are known."""

    def __init__(self, config: ApiConfig | None) -> None:
        self._config = config or ApiConfig()
        self._published: dict[tuple[str, str], Published] = {}
        self._failure: Mapping[str, Any] = {}
        self._known: dict[tuple[bool, ...] | None, bytes] = {}

    def publish(self, published: Iterable[Published], failure: Mapping[str, Any]) -> None:
        """failure: the schema of failures."""
        listed = list(published)
        exact = {shape(one.path) for one in listed if not one.below}
        for one in listed:
            if not (one.below and shape(one.path) in exact):  # OpenAPI takes them for one path.
                self._published.setdefault((one.path, one.method), one)
        self._failure = failure

    def answer(self, exchange: Exchange) -> Reply:
        """The document in JSON."""
        identity = exchange.identity
        visible = None
        if identity is not None:
            visible = tuple(_may(identity, one) for one in self._published.values())
        body = self._known.get(visible)
        if body is None:
            if len(self._known) >= _KEPT:
                self._known.clear()
            body = self._known[visible] = orjson.dumps(self._made(visible))
        return Reply(200, _JSON, body)

    def page(self, exchange: Exchange) -> Reply:
        """A page for browsers, the document for all others."""
        if "text/html" not in exchange.headers.get("Accept", ""):
            return self.answer(exchange)
        return Reply(200, _PAGE_FIELDS, _PAGE)

    def _made(self, visible: tuple[bool, ...] | None) -> dict[str, Any]:
        shown = [
            one
            for place, one in enumerate(self._published.values())
            if visible is None or visible[place]
        ]
        documents = list(dict.fromkeys(one.document for one in shown if one.document is not None))
        components: dict[str, dict[str, Any]] = {
            "schemas": {"Failure": self._failure},
            "securitySchemes": {},
        }
        names = {one.digest: _merge(components, one) for one in documents}
        paths: dict[str, dict[str, Any]] = {}
        for one in shown:
            components["securitySchemes"].update(one.schemes)
            operation: Any = one.operation
            if one.document is not None:
                operation = _renamed(operation, names[one.document.digest])
            paths.setdefault(one.path, {})[one.method.lower()] = operation
        made = {**self._head(documents), "paths": paths}
        made["components"] = {kind: found for kind, found in components.items() if found}
        return made

    def _head(self, documents: list[Document]) -> dict[str, Any]:
        """What the configuration says about the API, else a document that is alone."""
        config = self._config
        only = documents[0].tree if len(documents) == 1 else {}
        info = {"title": "API", "version": "1", **only.get("info", {})}
        for key in ("title", "version", "description"):
            if getattr(config, key):
                info[key] = getattr(config, key)
        made: dict[str, Any] = {"openapi": "3.1.0", "info": info}
        if config.servers:
            made["servers"] = [{"url": url} for url in config.servers]
        if "tags" in only:
            made["tags"] = only["tags"]
        return made


def publish(
    documents: Iterable[ApiDocument], pipelines: Iterable[PipelineConfig], problems: Problems
) -> None:
    """Tell documents of all routes. problems: what renders failures."""
    asked = Exchange("GET", "/", CIMultiDictProxy(CIMultiDict()), (), request_id="id")
    replies = [problems.render(failed, asked) for failed in _SAMPLES]
    bodies = [orjson.loads(reply.body) for reply in replies]  # type: ignore[arg-type]
    failure = reduce(either, map(shape_of, bodies))
    media_type = (replies[0].get(b"content-type") or b"application/json").decode("latin-1")
    listed = [
        one
        for pipeline in pipelines
        for route in pipeline.routes
        for one in published(pipeline, route, media_type)
    ]
    for document in documents:
        document.publish(listed, failure)


def _may(identity: Identity, one: Published) -> bool:
    """Return True if a caller may use an operation."""
    if one.tiers and identity.tier not in one.tiers:
        return False
    return covers(identity.permissions, one.needed)


_SAMPLES = (
    Failed(Failure.INVALID_FIELD, errors=[{"field": "", "code": "", "message": ""}]),
    *map(Failed, (Failure.NO_ROUTE, Failure.RATE_LIMITED, Failure.SUBSCRIPTION_REQUIRED)),
)
"""Failures whose bodies may have different shapes."""

Names = Mapping[tuple[str, str], str]
"""New names of components, by kind and old name."""


def _merge(components: dict[str, dict[str, Any]], document: Document) -> Names:
    """Add a document's components; those whose names are taken get others, which are returned."""
    given: Mapping[str, Mapping[str, Any]] = document.tree.get("components", {})
    names: dict[tuple[str, str], str] = {}
    before = -1
    while len(names) > before:  # What refers to one that gets another name differs too.
        before = len(names)
        for kind, found in given.items():
            taken = components.setdefault(kind, {})
            for name, value in found.items():
                same = name not in taken or taken[name] == _renamed(value, names)
                if (kind, name) not in names and not same:
                    number = 2
                    while f"{name}_{number}" in taken or f"{name}_{number}" in found:
                        number += 1
                    names[kind, name] = f"{name}_{number}"
    for kind, found in given.items():
        for name, value in found.items():
            components[kind][names.get((kind, name), name)] = _renamed(value, names)
    return names


def _renamed(part: Any, names: Names) -> Any:
    """The same with references to components, and security schemes, by their new names."""
    if not names:
        return part
    if isinstance(part, list):
        return [_renamed(one, names) for one in part]
    if not isinstance(part, Mapping):
        return part
    made = {key: _renamed(value, names) for key, value in part.items()}
    steps = str(part.get("$ref", "")).split("/")
    if steps[:2] == ["#", "components"] and len(steps) > 3 and (steps[2], steps[3]) in names:
        made["$ref"] = "/".join([*steps[:3], names[steps[2], steps[3]], *steps[4:]])
    if isinstance(part.get("security"), list):
        made["security"] = [
            {names.get(("securitySchemes", name), name): scopes for name, scopes in one.items()}
            for one in part["security"]
        ]
    return made


def _hash(page: bytes, tag: bytes) -> str:
    """What a Content-Security-Policy allows an element of the page by (CSP 3 section 8.4)."""
    text = page.partition(b"<" + tag + b">")[2].partition(b"</" + tag + b">")[0]
    return f"'sha256-{b64encode(sha256(text).digest()).decode()}'"


_PAGE = files("gateway.builtins.openapi").joinpath("docs.html").read_bytes()
_POLICY = (
    f"default-src 'none'; script-src {_hash(_PAGE, b'script')}; "
    f"style-src {_hash(_PAGE, b'style')}; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
_PAGE_FIELDS = (
    (b"Content-Type", b"text/html; charset=utf-8"),
    (b"Content-Security-Policy", _POLICY.encode()),
    (b"X-Content-Type-Options", b"nosniff"),
    (b"Referrer-Policy", b"no-referrer"),
    (b"Cache-Control", b"no-cache"),
    (b"Vary", b"Accept"),
)
