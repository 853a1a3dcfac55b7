"""What one client has asked for, whether it is among the busiest or not."""

from __future__ import annotations

from aiohttp import web
from marshmallow import Schema, fields

from gateway.admin.answers import answer, described, problem
from gateway.admin.openapi import Answer, Endpoint, refusal
from gateway.admin.state import STATE


class Period(Schema):
    """Requests of an hour, a day, or a route and method."""

    start = fields.String(metadata=described("When the hour or day begins (RFC 3339)"))
    route = fields.String()
    path = fields.String()
    method = fields.String()
    requests = fields.Integer(required=True)
    errors = fields.Integer(required=True, metadata=described("Answered with 400 and above"))
    avgResponseTime = fields.Float(metadata=described("Milliseconds"))
    bytesIn = fields.Integer()
    bytesOut = fields.Integer()


class Usage(Schema):
    """What is kept of a client, as `builtin = "usage"` tells the client itself."""

    client = fields.String(required=True)
    totalRequests = fields.Integer(required=True)
    failedRequests = fields.Integer(required=True)
    averageResponseTime = fields.Float()
    bytesIn = fields.Integer()
    bytesOut = fields.Integer()
    byStatus = fields.Dict(keys=fields.String(), values=fields.Integer())
    endpoints = fields.List(fields.Nested(Period), required=True)
    hours = fields.List(fields.Nested(Period), required=True)
    days = fields.List(fields.Nested(Period), required=True)


async def client(request: web.Request) -> web.StreamResponse:
    """The usage of one client."""
    name = request.match_info["client"]
    try:
        found = await request.app[STATE].usage(name)
    except OSError as error:
        return problem(503, f"Usage cannot be looked up: {error}")
    if found is None:
        detail = 'Usage is not counted here: no route has `builtin = "usage"` or "portal".'
        return problem(409, detail)
    if not found["totalRequests"]:
        return problem(404, f"Nothing is known of a client {name!r}.")
    return answer(Usage, {"client": name, **found})


ENDPOINTS = (
    Endpoint(
        "GET",
        "/admin/clients/{client}",
        client,
        "What a client has asked for, by hour, day and route",
        (
            Answer(200, "Its usage", Usage),
            refusal(404, "No request of it is remembered"),
            refusal(409, "Usage is not counted"),
            refusal(503, "It cannot be looked up"),
        ),
    ),
)
