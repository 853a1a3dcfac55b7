"""What a route says about itself, as operations of OpenAPI 3.1.

The settings of middlewares are read by attribute: what they are is theirs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from gateway.config.openapi.document import Document
from gateway.config.tables.pipeline import PipelineConfig, RouteConfig
from gateway.config.toml.parse import loads_json
from gateway.core.hooks import kind_of

JSON = "application/json"
_EVERY = ("GET", "POST", "PUT", "PATCH", "DELETE")
_BELOW = "path_below"
"""The variable for all that is below a prefix."""
_VARIABLE = re.compile(r"\{([^{}]+)\}")
_SUMMARIES = {
    "health": "The condition of every upstream",
    "info": "The gateway's version",
    "limits": "The caller's limits, and what is left of them",
    "me": "Who the caller is",
    "usage": "The caller's requests, failures and quotas",
    "errors": "Every error: what it means and what to do",
    "openapi": "This document",
    "docs": "This document, as a page for browsers",
    "login": "Log in with a name and a password",
    "refresh": "A new access token for a refresh token",
    "logout": "End a session",
    "profile": "The user's own data",
    "change_password": "Change the user's own password",
    "jwks": "The keys that tokens are verified with",
}
_BODIES: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "login": (("username", "password"), ("code",)),
    "refresh": (("refresh_token",), ()),
    "logout": ((), ("refresh_token",)),
    "change_password": (("old_password", "new_password"), ()),
}
"""The texts that POST takes in JSON: those that it needs, and others."""
_EMPTY = ("logout", "change_password")
"""Those whose answer is 204."""
_SCHEMES: Mapping[str, dict[str, Any]] = {
    "jwt": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
    "introspection": {"type": "http", "scheme": "bearer"},
    "basic": {"type": "http", "scheme": "basic"},
    "mtls": {"type": "mutualTLS"},
    "signature": {"type": "http", "scheme": "signature"},
}


@dataclass(frozen=True)
class Published:
    """One operation.

    document: the one it is of, None where it is made of the route alone. needed, tiers: the
    permissions and tiers of callers that may use it. schemes: the security schemes that it names.
    below: whether its last variable stands for all that is below a prefix.
    """

    path: str
    method: str
    operation: Mapping[str, Any]
    document: Document | None = None
    needed: frozenset[str] = frozenset()
    tiers: frozenset[str] = frozenset()
    schemes: Mapping[str, Any] = field(default_factory=dict)
    below: bool = False


def published(pipeline: PipelineConfig, route: RouteConfig, media_type: str) -> Iterator[Published]:
    """Yield the operations of a route. media_type: of failures."""
    if not route.published or route.retired:
        return
    about = _About(pipeline, route, media_type)
    for one in route.matches():
        start = one.prefix.rstrip("/")
        paths = [one.path] if one.path else [start, f"{start}/{{{_BELOW}}}"]
        if one.prefix.endswith("/"):
            del paths[0]  # Such a prefix takes only what is below it.
        if not one.path and not start:
            continue  # What takes everything has nothing to say.
        for path in paths:
            below = not one.path and path != start
            for method in route.methods or _usual(route):
                several = below or one is not route
                yield replace(about.operation(path, method, several), below=below)


def _usual(route: RouteConfig) -> tuple[str, ...]:
    """The methods of a route that names none."""
    if route.upstream:
        return _EVERY
    return ("POST",) if route.builtin in _BODIES else ("GET",)


class _About:
    """A route with the settings that hold for it."""

    def __init__(self, pipeline: PipelineConfig, route: RouteConfig, media_type: str) -> None:
        self.route = route
        self.media_type = media_type
        request = pipeline.request if route.request is None else route.request
        settings = {**pipeline.settings, **route.settings}
        kinds = {
            kind_of(name): settings.get(name)
            for name in reversed(request)
            if route.overrides.get(name) is not False
        }
        self.auth: Any = kinds.get("auth")
        self.validation: Any = kinds.get("validation")
        self.is_limited = "rate_limit" in kinds

    def operation(self, path: str, method: str, several: bool) -> Published:
        route, auth = self.route, self.auth
        require: Mapping[str, frozenset[str]] = getattr(auth, "require", None) or {}
        needed = frozenset(require.get(method, require.get("*", frozenset())))
        tiers = frozenset(getattr(auth, "tiers", None) or ())
        schemes: dict[str, Any] = {}
        if route.operation is not None:
            made = dict(route.operation.raw)
            item = route.operation.document.at(route.operation.pointer.rpartition("/")[0])
            shared = [
                one for one in item.get("parameters", ()) if one not in made.get("parameters", ())
            ]
            if shared:
                made["parameters"] = [*shared, *made.get("parameters", ())]
            if "security" not in made and "security" in route.operation.document.tree:
                made["security"] = route.operation.document.tree["security"]
            made["responses"] = {**self._failures(), **made.get("responses", {})}
        else:
            made = self._by_hand(path, method, several)
            schemes = _schemes(auth)
            if schemes:
                made["security"] = [{name: sorted(needed)} for name in schemes]
                if getattr(auth, "optional", False):
                    made["security"].append({})
        if route.deprecated is not None or route.sunset is not None:
            made["deprecated"] = True
        document = None if route.operation is None else route.operation.document
        return Published(path, method, made, document, needed, tiers, schemes)

    def _by_hand(self, path: str, method: str, several: bool) -> dict[str, Any]:
        route = self.route
        name = route.name if not several and len(route.methods) == 1 else f"{method} {path}"
        made: dict[str, Any] = {"operationId": name}
        if route.builtin:
            made["summary"] = _SUMMARIES.get(route.builtin, route.builtin)
            made["tags"] = ["gateway"]
        parameters = [*self._path_parameters(path), *self._query_parameters()]
        if parameters:
            made["parameters"] = parameters
        body = _schema(self.validation, "body")
        methods = getattr(self.validation, "methods", ())
        if body is not None and method in methods:
            made["requestBody"] = {
                "required": bool(self.validation.body_required),
                "content": {JSON: {"schema": body}},
            }
        elif route.builtin in _BODIES:
            made["requestBody"] = _body(*_BODIES[route.builtin])
        made["responses"] = {**_answers(route), **self._failures()}
        return made

    def _path_parameters(self, path: str) -> list[dict[str, Any]]:
        said = (_schema(self.validation, "path") or {}).get("properties", {})
        return [
            {
                "name": name,
                "in": "path",
                "required": True,
                "schema": said.get(name, {"type": "string"}),
            }
            | ({"description": "All below, slashes included"} if name == _BELOW else {})
            for name in _VARIABLE.findall(path)
        ]

    def _query_parameters(self) -> list[dict[str, Any]]:
        schema = _schema(self.validation, "query") or {}
        split = getattr(self.validation, "split", ())
        return [
            {"name": name, "in": "query", "schema": said}
            | ({"required": True} if name in schema.get("required", ()) else {})
            | ({"explode": False} if name in split else {})
            for name, said in schema.get("properties", {}).items()
        ]

    def _failures(self) -> dict[str, Any]:
        """The answers of the gateway's own."""
        found = {}
        if self.auth is not None:
            found["401"] = "Credentials are missing or not valid"
            found["403"] = "The caller may not do this"
        if self.is_limited:
            found["429"] = "A limit is used up; Retry-After says when to try again"
        found["default"] = "A failure"
        content = {self.media_type: {"schema": {"$ref": "#/components/schemas/Failure"}}}
        return {
            status: {"description": description, "content": content}
            for status, description in found.items()
        }


def _answers(route: RouteConfig) -> dict[str, Any]:
    """The answers that are no failure; which ones a service gives is its own affair."""
    if route.upstream:
        return {
            "2XX": {"description": "The service's answer"},
            "3XX": {"description": "The answer is elsewhere, or has not changed"},
        }
    status = 204 if route.builtin in _EMPTY else 200
    status = status if route.respond is None else route.respond.status
    status = status if route.redirect is None else route.redirect.status
    return {str(status): {"description": "The answer"}}


def _body(needed: tuple[str, ...], others: tuple[str, ...]) -> dict[str, Any]:
    """A JSON object of texts."""
    texts: dict[str, Any] = {name: {"type": "string"} for name in needed}
    texts.update({name: {"type": ["string", "null"]} for name in others})
    schema = {"type": "object", "required": [*needed], "properties": texts}
    return {"required": bool(needed), "content": {JSON: {"schema": schema}}}


def shape(path: str) -> str:
    """The same for all paths that differ only in the names of their variables."""
    return _VARIABLE.sub("{}", path)


def shape_of(value: Any) -> dict[str, Any]:
    """A schema of what looks like `value`."""
    if isinstance(value, dict):
        return {
            "type": "object",
            "properties": {name: shape_of(below) for name, below in value.items()},
        }
    for kind, name in ((bool, "boolean"), (int, "integer"), (str, "string"), (list, "array")):
        if isinstance(value, kind):
            return {"type": name}
    return {}


def either(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """A shape of what has one of two shapes."""
    if one == other:
        return one
    if "properties" not in one or "properties" not in other:
        return {}
    mine, theirs = one["properties"], other["properties"]
    both = {name: either(mine[name], theirs[name]) for name in mine.keys() & theirs.keys()}
    return {"type": "object", "properties": {**mine, **theirs, **both}}


def _schema(validation: Any, part: str) -> Any:
    """The JSON Schema of a part of requests; None where none is written, or it is Python's."""
    config = getattr(validation, part, None)
    schema, text = getattr(config, "schema", None), getattr(config, "text", None)
    if schema is None and text is not None and isinstance(read := loads_json(text), dict):
        schema = {key: value for key, value in read.items() if key not in ("$schema", "$id")}
    if schema is None or _refers(schema):
        return {} if config is not None and part == "body" else None
    return schema


def _refers(schema: Any) -> bool:
    """Whether a schema refers to itself, which means another place once it is in a document."""
    if isinstance(schema, Mapping):
        return "$ref" in schema or any(_refers(below) for below in schema.values())
    return isinstance(schema, list | tuple) and any(_refers(below) for below in schema)


def _schemes(auth: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for method in getattr(auth, "methods", ()):
        if method == "api_key":
            found[method] = {"type": "apiKey", "in": "header", "name": auth.api_key.header}
        else:
            found[method] = _SCHEMES.get(method, {"type": "http", "scheme": method})
    return found
