"""Routes of `[[openapi]]`: each operation of a document as the table of a route."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any

from gateway.config.openapi.config import OpenApiConfig
from gateway.config.openapi.document import InvalidDocument, Operation, document, operations
from gateway.config.toml.positions import KeyPath
from gateway.config.toml.problems import nearest
from gateway.config.toml.read import Document
from gateway.core.hooks import kind_of

EVERY = "*"
"""The key of `overrides` for all operations."""

_VARIABLE = re.compile(r"\{[^{}]+\}")

OperationRoute = tuple[KeyPath, dict[str, Any], Operation]
"""A route's place, its table and its operation."""


def operation_routes(
    file: Document, configs: Collection[OpenApiConfig], request: Collection[str]
) -> Iterator[OperationRoute]:
    """Yield the routes of all documents of a pipeline file; report what is wrong with them.

    request: the pipeline's request list.
    """
    for index, config in enumerate(configs):
        place: KeyPath = ("openapi", index)
        try:
            data = file.read(config.file)
            found = list(operations(document(data, config.file)))
        except OSError as error:
            message = f"openapi.file: cannot read {config.file!r}: {error.strerror}"
            file.error((*place, "file"), message)
        except InvalidDocument as problem:
            file.error((*place, "file"), f"openapi.file: {problem}")
        else:
            yield from _routes(file, place, config, found, request)


def _routes(
    file: Document,
    place: KeyPath,
    config: OpenApiConfig,
    found: list[Operation],
    request: Collection[str],
) -> Iterator[OperationRoute]:
    names = [f"{one.method} {one.path}" for one in found]
    for name in config.overrides:
        if name != EVERY and name not in names:
            message = f"openapi.overrides: {config.file} has no operation {name!r}"
            file.error((*place, "overrides", name), message, nearest(name, names))
    guard = next((name for name in request if kind_of(name) == "auth"), "")
    unguarded = False
    for name, operation in zip(names, found, strict=True):
        own = config.overrides.get(name, {})
        if own is False:
            continue
        if unroutable := _unroutable(operation.path):
            message = f"openapi.file: {name}: {unroutable}"
            hint = f'leave it out: overrides = {{ "{name}" = false }}'
            file.error((*place, "file"), message, hint)
            continue
        table: dict[str, Any] = {
            "name": operation.id or name,
            "path": config.prefix.rstrip("/") + operation.path,
            "methods": [operation.method],
        }
        if config.upstream:
            table["upstream"] = config.upstream
        over = _merged(config.overrides.get(EVERY, {}), own)
        if guard:
            table = _merged(table, _auth(file, place, name, operation, guard, over))
        else:
            unguarded = unguarded or bool(operation.security)
        table = _merged(table, over)
        yield (
            (*place, "overrides", name),
            table,
            replace(operation, report=config.validate == "report"),
        )
    if unguarded:
        message = f"openapi: {config.file} asks for credentials, but 'auth' is not in request"
        file.warning((*place, "file"), message, "add 'auth' to request")


def _unroutable(path: str) -> str:
    """Say why a path that a document may have can be no route's; "" where it can."""
    if "#" in path or "?" in path:
        return "no request has a fragment or a query in its path"
    shared = (one for one in path.split("/") if "{" in one and not _VARIABLE.fullmatch(one))
    segment = next(shared, "")
    return segment and f"in {segment!r} a variable shares its segment with text, which no route has"


def _auth(
    file: Document,
    place: KeyPath,
    name: str,
    operation: Operation,
    guard: str,
    over: Mapping[str, Any],
) -> dict[str, Any]:
    """Return what an operation's security means for the middleware `guard`; `over`, which is laid
    on it, decides about the keys that it has."""
    alternatives, own = operation.security, over.get(guard, {})
    if alternatives is None or not isinstance(own, dict):
        return {}
    needed = [one for one in alternatives if one]
    if not needed:
        return {guard: False}  # `security: []`
    optional = len(needed) < len(alternatives)
    made: dict[str, Any] = {"optional": optional} if optional or _is_optional(file, guard) else {}
    scopes = {frozenset(scope for scheme in one.values() for scope in scheme) for one in needed}
    if "require" in own:
        pass
    elif len(scopes) > 1:
        message = f"openapi: {name} takes other scopes for each of several schemes"
        hint = f'overrides = {{ "{name}" = {{ {guard} = {{ require = ["..."] }} }} }}'
        file.error((*place, "file"), message, hint)
    elif all_scopes := scopes.pop():
        made["require"] = sorted(all_scopes)
    return {guard: made} if made else {}


def _is_optional(file: Document, guard: str) -> bool:
    """Whether the pipeline's own table lets callers without credentials pass."""
    table: Any = file.data
    for key in guard.split("."):
        table = table.get(key) if isinstance(table, dict) else None
    return isinstance(table, dict) and table.get("optional", False) is not False


def _merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Lay `over` on `under`, tables key by key."""
    made = dict(under)
    for key, value in over.items():
        below = made.get(key)
        both = isinstance(value, dict) and isinstance(below, dict)
        made[key] = _merged(below, value) if both else value  # type: ignore[arg-type]
    return made
