"""An operation of an OpenAPI document, compiled into checks of parameters and bodies."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, lru_cache
from typing import Any
from urllib.parse import quote, unquote, unquote_plus

import jsonschema_rs

from gateway.config.openapi.document import Document, InvalidDocument, Operation
from gateway.core.exchange import Exchange
from gateway.core.hooks import ConfigProblem
from gateway.middlewares.validation.cleaning import Cleaner, Cleaning
from gateway.middlewares.validation.messages import INVALID, MISSING, Entry, entry
from gateway.middlewares.validation.parameters import Strings, converter
from gateway.middlewares.validation.reading import Kind, form_text
from gateway.middlewares.validation.references import Documents, Place
from gateway.middlewares.validation.schemas import (
    BRANCHING,
    PATTERNS,
    JsonSchema,
    references_of,
)
from gateway.middlewares.validation.serialised import (
    ABSENT,
    RAW,
    NotJson,
    Raw,
    Reader,
    locations,
    reader,
)

_FORM = "application/x-www-form-urlencoded"


class Compiled:
    """What the operations of one document share: its registry, and facts about its schemas."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.tree = _for_requests(document.tree)
        self.registry = jsonschema_rs.Registry([(document.uri, self.tree)])
        self.documents = Documents(self.tree)
        self._facts: dict[str, tuple[int, bool, tuple[str, ...]]] = {}

    def place(self, pointer: str) -> Place:
        """The schema at a JSON Pointer."""
        return Document(self.document.name, self.document.digest, self.tree).at(pointer), ""

    def reference(self, pointer: str) -> dict[str, str]:
        """A schema that means the one at a JSON Pointer."""
        safe = quote(pointer.removeprefix("#"), safe="/~!$&'()*+,;=:@-._")
        return {"$ref": f"{self.document.uri}#{safe}"}

    def validator(self, schema: Any) -> Any:
        """Compile a schema that may refer to the document. Raises ValidationError."""
        return jsonschema_rs.validator_for(
            schema, validate_formats=True, registry=self.registry, pattern_options=PATTERNS
        )

    def measured(self, pointer: str) -> tuple[int, bool, bool]:
        """How many parts a schema has with all it refers to, whether it branches, and whether it
        leads back to itself."""
        parts, branches, endless = 0, False, False
        done: set[str] = set()
        path: list[tuple[str, Iterator[str]]] = [(pointer, iter(self._of(pointer)[2]))]
        while path:
            here, following = path[-1]
            below = next(following, None)
            if below is None:
                path.pop()
                done.add(here)
                size, branching, _ = self._of(here)
                parts, branches = parts + size, branches or branching
            elif any(below == one for one, _ in path):
                endless = True
            elif below not in done:
                path.append((below, iter(self._of(below)[2])))
        return parts, branches, endless

    def bundle(self, pointer: str) -> dict[str, Any]:
        """A schema with all it refers to, at the same places, as a document of its own."""
        found, pending = {pointer}, [pointer]
        while pending:
            for below in self._of(pending.pop())[2]:
                if below not in found:
                    found.add(below)
                    pending.append(below)
        made: dict[str, Any] = {"$ref": pointer}
        for one in sorted(found, key=len):
            steps = one.split("/")[1:]
            if any(one.startswith(f"{other}/") for other in found) or not steps:
                continue  # It is part of another, or all of it.
            part = made
            for step in steps[:-1]:
                part = part.setdefault(_unstep(step), {})
            part[_unstep(steps[-1])] = self.place(one)[0]
        return made

    def _of(self, pointer: str) -> tuple[int, bool, tuple[str, ...]]:
        found = self._facts.get(pointer)
        if found is None:
            size, branching, pending = 0, False, [self.place(pointer)[0]]
            schema = pending[0]
            while pending:
                part = pending.pop()
                size += 1
                if isinstance(part, Mapping):
                    branching = branching or not BRANCHING.isdisjoint(part)
                    pending += part.values()
                elif isinstance(part, list):
                    pending += part
            references = tuple(one for one in references_of(schema) if one.startswith("#"))
            found = self._facts[pointer] = size, branching, references
        return found


@lru_cache(maxsize=16)
def compiled_document(document: Document) -> Compiled:
    """The shared part of a document's operations, made once."""
    return Compiled(document)


class DocumentSchema(JsonSchema):
    """The schema at a JSON Pointer of a document."""

    def __init__(self, shared: Compiled, pointer: str, cleaning: Cleaning) -> None:
        self.name = f"{shared.document.name} {pointer}"
        self.split = frozenset()
        self.cleans = bool(cleaning)
        self._shared = shared
        self._pointer = pointer
        self._cleaning = cleaning
        self._parts, self._branches, endless = shared.measured(pointer)
        self._endless = self._branches and endless
        self._validator = shared.validator(shared.reference(pointer))
        self._place = shared.place(pointer)
        self._cleaner = Cleaner(shared.documents, cleaning, self._place)
        self._xml_cleaner = Cleaner(shared.documents, cleaning.for_xml(), self._place)

    @cached_property
    def typed(self) -> Callable[[Strings], dict[str, Any]]:  # type: ignore[override]
        return converter(self._shared.documents, (), self._place)

    @cached_property
    def portable(self) -> dict[str, Any]:  # type: ignore[override]
        name = f"{self._shared.document.digest} {self._pointer}"
        return {
            "name": name, "rules": self._shared.bundle(self._pointer),
            "base": None, "split": [], "cleaning": self._cleaning,
        }  # fmt: skip


class OperationChecks:
    """What one operation asks of requests.

    bodies: schema and kind by media range; a schema of None takes any body. Neither is read where
    the operation says nothing about bodies.
    """

    def __init__(self, operation: Operation, cleaning: Cleaning) -> None:
        """Raises ConfigProblem for schemas that are none."""
        self._shared = shared = compiled_document(operation.document)
        self.name = f"{operation.method} {operation.path}"
        self.required = bool(operation.body and operation.body[0].get("required"))
        self.bodies: dict[str, tuple[DocumentSchema | None, Kind | None]] = {}
        try:
            self._places = [self._of(operation, location) for location in locations(operation)]
            self._query = _QueryCleaner(operation, shared, cleaning)
            if operation.body is not None:
                self._read_bodies(*operation.body, shared, cleaning)
        except jsonschema_rs.ValidationError as error:
            message = f"{operation.document.name}: {operation.pointer}: not a schema"
            raise ConfigProblem(f"{message}: {error.message.splitlines()[0]}") from None
        except (InvalidDocument, jsonschema_rs.ReferencingError) as error:
            message = f"{operation.document.name}: {operation.pointer}: {error}"
            raise ConfigProblem(message) from None

    def parameter_errors(self, exchange: Exchange) -> tuple[str, list[Entry]] | None:
        """The first place with wrong parameters, and what is wrong with them.

        Raises ValueError for a query that is not UTF-8.
        """
        for place in self._places:
            errors = place.errors(exchange)
            if errors:
                return place.location, errors
        return None

    def clean_query(self, exchange: Exchange) -> None:
        """Fill defaults into the query that goes on, and leave unknown parameters out of it."""
        if self._query:
            self._query(exchange)

    def body_for(self, media_type: str) -> tuple[DocumentSchema | None, Kind | None] | None:
        """The schema of a body of a media type, and how it is read; None if it may not be sent."""
        kind = media_type.partition("/")[0]
        for one in (media_type, f"{kind}/*", "*/*"):
            found = self.bodies.get(one)
            if found is not None:
                schema, way = found
                return schema, _kind(media_type) if way is None else way
        return None

    def _of(self, operation: Operation, location: str) -> _Parameters:
        listed = [one for one in operation.parameters if one[0]["in"] == location]
        return _Parameters(location, listed, self._shared)

    def _read_bodies(
        self, body: Mapping[str, Any], pointer: str, shared: Compiled, cleaning: Cleaning
    ) -> None:
        for media_range, said in body.get("content", {}).items():
            media_type = media_range.partition(";")[0].strip().lower()
            kind = None if "*" in media_type else _kind(media_type)
            schema = None
            if "schema" in said and (kind is not None or "*" in media_type):
                at = f"{pointer}/content/{_step(media_range)}/schema"
                schema = DocumentSchema(shared, at, cleaning)
            self.bodies[media_type] = schema, kind


class _QueryCleaner:
    """Changes a query that has been found right; what stays in it stays as it was sent.

    `_names`, `_starts`: of the parameters that are known, the latter of deepObject's.
    """

    def __init__(self, operation: Operation, shared: Compiled, cleaning: Cleaning) -> None:
        self._strips = cleaning.strip
        self._names: set[str] = set()
        self._starts: tuple[str, ...] = ()
        self._defaults: dict[str, str] = {}
        for parameter, pointer in operation.parameters:
            if parameter["in"] != "query":
                continue
            name = parameter["name"]
            self._names.add(name)
            if parameter.get("style") == "deepObject":
                self._starts = (*self._starts, f"{name}[")
            if "schema" not in parameter:
                continue
            place = shared.place(f"{pointer}/schema")
            for part, _ in shared.documents.speaking_of(place):
                self._names.update(part.get("properties", ()))
                default = part.get("default")
                if cleaning.defaults and isinstance(default, str | int | float):
                    self._defaults[name] = form_text({name: default})

    def __bool__(self) -> bool:
        return self._strips or bool(self._defaults)

    def __call__(self, exchange: Exchange) -> None:
        given = [part for part in exchange.query.split("&") if part]
        names = [unquote_plus(part.partition("=")[0]) for part in given]
        parts = [
            part
            for part, name in zip(given, names, strict=True)
            if not self._strips or name in self._names or name.startswith(self._starts)
        ]
        parts += [text for name, text in self._defaults.items() if name not in names]
        if parts != given:
            exchange.query = "&".join(parts)
            exchange.target = exchange.path + ("?" + exchange.query if parts else "")


class _Parameters:
    """The parameters at one place, judged together."""

    def __init__(
        self, location: str, listed: list[tuple[Mapping[str, Any], str]], shared: Compiled
    ) -> None:
        self.location = location
        self._raw = RAW[location]
        self._readers: list[tuple[str, Reader, bool]] = []
        properties: dict[str, Any] = {}
        for parameter, pointer in listed:
            name = parameter["name"]
            at = f"{pointer}/schema"
            if "content" in parameter:
                media_type = next(iter(parameter["content"]))
                at = f"{pointer}/content/{_step(media_type)}/schema"
            try:
                place = shared.place(at)
            except InvalidDocument:
                place = ({}, "")
            else:
                properties[name] = shared.reference(at)
            required = location == "path" or parameter.get("required") is True
            read = reader(parameter, location, place, shared.documents)
            self._readers.append((name, read, required))
        self._schema = _ParameterSchema(shared.validator({"properties": properties}))

    def errors(self, exchange: Exchange) -> list[Entry]:
        raw: Raw = self._raw(exchange)
        values: dict[str, Any] = {}
        errors: list[Entry] = []
        for name, read, required in self._readers:
            try:
                value = read(raw)
            except NotJson:
                errors.append(entry((name,), INVALID, "is not JSON"))
                continue
            if value is not ABSENT:
                values[name] = value
            elif required:
                errors.append(entry((name,), MISSING, "is required"))
        return errors + self._schema.errors(values) if values else errors


class _ParameterSchema(JsonSchema):
    """The object of one place's parameters; all that is wrong with it is listed."""

    def __init__(self, validator: Any) -> None:
        self._validator = validator
        self._parts = 0


def _kind(media_type: str) -> Kind | None:
    """How a body is read; None for what is not."""
    if media_type == "application/json" or media_type.endswith("+json"):
        return "json"
    if media_type == _FORM:
        return "form"
    if media_type in ("application/xml", "text/xml") or media_type.endswith("+xml"):
        return "xml"
    return None


def _step(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _unstep(step: str) -> str:
    return unquote(step).replace("~1", "/").replace("~0", "~")


def _for_requests(tree: Any) -> Any:
    """A document in which no request has to have what is `readOnly` (OpenAPI 3.0.4, 4.7.24.1)."""
    if isinstance(tree, list):
        return [_for_requests(one) for one in tree]
    if not isinstance(tree, Mapping):
        return tree
    made = {key: _for_requests(value) for key, value in tree.items()}
    required, properties = made.get("required"), made.get("properties")
    if isinstance(required, list) and isinstance(properties, Mapping):
        made["required"] = [name for name in required if not _is_read_only(properties.get(name))]
    return made


def _is_read_only(schema: Any) -> bool:
    return isinstance(schema, Mapping) and schema.get("readOnly") is True
