"""The admin API in one table of endpoints.

The application's routes and the OpenAPI document are made from it.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from marshmallow import Schema

from gateway import __version__
from gateway.admin.answers import Problem
from gateway.admin.guard import HEADER, SAFE_METHODS

JSON = "application/json"
PROBLEM = "application/problem+json"
OPENAPI = "3.1.0"


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of an endpoint.

    `schema` is of its body, None where the body is no JSON object of ours.
    """

    status: int
    description: str
    schema: type[Schema] | None = None
    content_types: tuple[str, ...] = (JSON,)


def refusal(status: int, description: str, schema: type[Schema] = Problem) -> Answer:
    """A problem (RFC 9457) that an endpoint may answer with."""
    return Answer(status, description, schema, (PROBLEM,))


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of the query, which may be left out."""

    name: str
    description: str
    type: str = "string"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One method of one path. `open` endpoints need no token.

    query, body: what its arguments must be (arguments.py).
    """

    method: str
    path: str
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    summary: str
    answers: tuple[Answer, ...]
    open: bool = False
    parameters: tuple[Parameter, ...] = ()
    query: type[Schema] | None = None
    body: type[Schema] | None = None

    @property
    def name(self) -> str:
        return self.handler.__name__


def document(endpoints: Iterable[Endpoint], token: bool) -> dict[str, Any]:
    """The OpenAPI 3.1 document. `token`: whether a bearer token is needed."""
    spec = APISpec(
        "Gateway admin API",
        __version__,
        OPENAPI,
        plugins=[MarshmallowPlugin()],
        info={"summary": SUMMARY},
    )
    if token:
        spec.components.security_scheme(
            "token", {"type": "http", "scheme": "bearer", "description": "The token of [admin]"}
        )
    for endpoint in endpoints:
        spec.path(endpoint.path, operations={endpoint.method.lower(): _operation(endpoint, token)})
    made: dict[str, Any] = spec.to_dict()
    return made


SUMMARY = "Metrics, health and reload of one gateway, for operators"


def _operation(endpoint: Endpoint, token: bool) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": endpoint.name,
        "summary": endpoint.summary,
        "responses": {str(answer.status): _response(answer) for answer in endpoint.answers},
        "security": [{"token": []}] if token and not endpoint.open else [],
    }
    operation["responses"]["default"] = _response(
        refusal(0, "Anything else is a problem (RFC 9457)")
    )
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)}", endpoint.path)
    ]
    parameters += [
        {
            "name": one.name,
            "in": "query",
            "schema": {"type": one.type},
            "description": one.description,
        }
        for one in endpoint.parameters
    ]
    if endpoint.method not in SAFE_METHODS:
        parameters += [
            {
                "name": HEADER,
                "in": "header",
                "required": not token or endpoint.open,
                "schema": {"type": "string"},
                "description": (
                    "Any value. Web pages of another origin cannot send it; with a "
                    "token it is not needed."
                ),
            }
        ]
    if endpoint.query is not None:
        parameters.append({"in": "query", "schema": endpoint.query})
    if parameters:
        operation["parameters"] = parameters
    if endpoint.body is not None:
        content = {JSON: {"schema": endpoint.body}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _response(answer: Answer) -> dict[str, Any]:
    schema: Any = (
        {"type": "string"}
        if answer.schema is None and JSON not in answer.content_types
        else {"type": "object"}
    )
    content = {kind: {"schema": answer.schema or schema} for kind in answer.content_types}
    return {"description": answer.description, "content": content}
