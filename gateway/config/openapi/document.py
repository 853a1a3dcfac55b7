"""One OpenAPI document: text to a checked tree, and its operations."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

import orjson

from gateway.config.openapi.modern import modern_document

METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
LOCATIONS = ("path", "query", "header", "cookie")
EXTRA = 'pip install "edge-gateway[openapi]"'
_REFERENCES = 16
"""References that are followed one after the other."""
_NOT_PARAMETERS = frozenset(("accept", "content-type", "authorization"))
"""Header parameters that a document does not describe (OpenAPI 3.1.1 section 4.8.12.1)."""


class InvalidDocument(ValueError):
    """A document that cannot be used; the message says what is wrong, and where in it."""


@dataclass(frozen=True)
class Document:
    """A document as OpenAPI 3.1 says it. `digest`: of the text; two with the same are equal."""

    name: str
    digest: str
    tree: Mapping[str, Any] = field(repr=False, compare=False)

    @property
    def uri(self) -> str:
        """The base of its references."""
        return f"urn:openapi:{self.digest}"

    def at(self, pointer: str) -> Any:
        """The part at a JSON Pointer such as "#/paths/~1a". Raises InvalidDocument."""
        found: Any = self.tree
        for step in pointer.removeprefix("#").split("/")[1:]:
            step = unquote(step).replace("~1", "/").replace("~0", "~")
            if isinstance(found, list) and step.isdigit() and int(step) < len(found):
                found = found[int(step)]
            elif isinstance(found, Mapping) and step in found:
                found = found[step]
            else:
                raise InvalidDocument(f"{self.name}: nothing is at {pointer}")
        return found

    def resolved(self, part: Any, pointer: str) -> tuple[Any, str]:
        """What a part, or the reference in its place, means, and where that stands."""
        for _ in range(_REFERENCES):
            reference = part.get("$ref") if isinstance(part, Mapping) else None
            if not isinstance(reference, str):
                return part, pointer
            if not reference.startswith("#"):
                message = "leads out of the document; bundle it into one file"
                raise InvalidDocument(f"{self.name}: {pointer}: {reference} {message}")
            part, pointer = self.at(reference), reference
        raise InvalidDocument(f"{self.name}: {pointer}: references lead in a circle")


@dataclass(frozen=True)
class Operation:
    """One method of one path, with what its path says of all of them.

    pointer: where it stands in the document. parameters: each with its own place. body: likewise,
    None where it takes none. security: alternatives, each the scopes needed by scheme; None where
    nothing is said.
    """

    document: Document
    method: str
    path: str
    pointer: str
    id: str = ""
    parameters: tuple[tuple[Mapping[str, Any], str], ...] = field(default=(), compare=False)
    body: tuple[Mapping[str, Any], str] | None = field(default=None, compare=False)
    security: tuple[Mapping[str, tuple[str, ...]], ...] | None = field(default=None, compare=False)
    report: bool = False
    """Whether what is wrong is only logged and counted."""

    @property
    def raw(self) -> Mapping[str, Any]:
        """The operation as it stands in the document."""
        found: Mapping[str, Any] = self.document.at(self.pointer)
        return found


@lru_cache(maxsize=16)
def document(data: bytes, name: str) -> Document:
    """Read a document of OpenAPI 3.0 or 3.1 in JSON or YAML. Raises InvalidDocument."""
    tree = _parsed(data, name)
    version = tree.get("openapi") if isinstance(tree, dict) else None
    if not isinstance(version, str) or not version.startswith(("3.0.", "3.1.")):
        hint = "openapi: 3.0.x or 3.1.x"
        raise InvalidDocument(f"{name} is no OpenAPI document: it has no line {hint}")
    _check_form(tree, version, name)
    if version.startswith("3.0."):
        tree = modern_document(tree)
    return Document(name, hashlib.sha256(data).hexdigest()[:32], tree)


def operations(made: Document) -> Iterator[Operation]:
    """Yield the operations of a document. Raises InvalidDocument."""
    seen: dict[str, str] = {}
    for path, given in made.tree.get("paths", {}).items():
        if not path.startswith("/"):
            continue  # An extension.
        item, at = made.resolved(given, f"#/paths/{_step(path)}")
        shared = _parameters(made, item, at)
        for method in METHODS:
            if method not in item:
                continue
            found = _operation(made, path, method, item[method], f"{at}/{method}", shared)
            if found.id and seen.setdefault(found.id, found.pointer) is not found.pointer:
                both = f"{seen[found.id]} and {found.pointer}"
                raise InvalidDocument(f"{made.name}: two are called {found.id!r}: {both}")
            yield found


def _operation(
    made: Document,
    path: str,
    method: str,
    raw: Mapping[str, Any],
    pointer: str,
    shared: Mapping[tuple[str, str], tuple[Any, str]],
) -> Operation:
    parameters = {**shared, **_parameters(made, raw, pointer)}
    named = {name for place, name in parameters if place == "path"}
    wanted = {part[1:-1] for part in path.split("/") if part[:1] == "{" and part[-1:] == "}"}
    if wanted - named:
        lacking = ", ".join(sorted(wanted - named))
        raise InvalidDocument(f"{made.name}: {pointer}: no parameter describes {lacking}")
    body = None
    if "requestBody" in raw:
        body = made.resolved(raw["requestBody"], f"{pointer}/requestBody")
    security = raw.get("security", made.tree.get("security"))
    return Operation(
        made,
        method.upper(),
        path,
        pointer,
        raw.get("operationId", ""),
        tuple(parameters.values()),
        body,
        None if security is None else tuple(_alternatives(security)),
    )


def _alternatives(security: Any) -> Iterator[Mapping[str, tuple[str, ...]]]:
    for one in security:
        yield {scheme: tuple(scopes) for scheme, scopes in one.items()}


def _parameters(
    made: Document, raw: Mapping[str, Any], pointer: str
) -> dict[tuple[str, str], tuple[Any, str]]:
    """The parameters by place and name."""
    found = {}
    for number, one in enumerate(raw.get("parameters", ())):
        parameter, at = made.resolved(one, f"{pointer}/parameters/{number}")
        place, name = parameter["in"], parameter["name"]
        if place != "header" or name.lower() not in _NOT_PARAMETERS:
            found[place, name] = parameter, at
    return found


def _step(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _parsed(data: bytes, name: str) -> Any:
    if name.endswith(".json") or data.lstrip()[:1] == b"{":
        try:
            return orjson.loads(data)
        except orjson.JSONDecodeError as error:
            if name.endswith(".json"):
                where = f"{name}:{error.lineno}:{error.colno}"
                raise InvalidDocument(f"{where}: not JSON: {error.msg}") from None
    try:
        import yaml
    except ImportError:
        raise InvalidDocument(f"{name} is YAML, which needs the extra: {EXTRA}") from None
    try:
        # Through JSON, so that keys are texts and nothing but JSON's values is left.
        loaded = yaml.load(data, _loader(yaml))  # noqa: S506 - a safe loader without dates
        return orjson.loads(json.dumps(loaded))
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise InvalidDocument(f"{name} is not YAML: {' '.join(str(error).split())}") from None


@lru_cache(maxsize=1)
def _loader(yaml: Any) -> Any:
    """A safe loader for which dates are texts, as in JSON."""
    base = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    made: Any = type("Loader", (base,), {})
    made.yaml_implicit_resolvers = {
        first: [pair for pair in pairs if pair[0] != "tag:yaml.org,2002:timestamp"]
        for first, pairs in base.yaml_implicit_resolvers.items()
    }
    return made


def _check_form(tree: Any, version: str, name: str) -> None:
    """Check a document against OpenAPI's own schema. Raises InvalidDocument."""
    try:
        from openapi_spec_validator import OpenAPIV30SpecValidator, OpenAPIV31SpecValidator
    except ImportError:
        raise InvalidDocument(f"{name}: OpenAPI documents need the extra: {EXTRA}") from None
    kind = OpenAPIV30SpecValidator if version.startswith("3.0.") else OpenAPIV31SpecValidator
    error = next(iter(kind(tree).schema_validator.iter_errors(tree)), None)
    if error is not None:
        at = "/".join(str(step).replace("/", "~1") for step in error.path)
        raise InvalidDocument(f"{name}: #/{at}: {str(error.message).splitlines()[0][:300]}")
