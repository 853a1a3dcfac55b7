"""Why requests were refused, failed or slow, in the admin API."""

from __future__ import annotations

from aiohttp import web
from marshmallow import Schema, fields

from gateway.admin.answers import answer, described, problem
from gateway.admin.openapi import Answer, Endpoint, Parameter, refusal
from gateway.admin.state import STATE

MOST = 1000
"""Requests in one answer."""
FILTERS = ("client", "route", "reason")
SHADOW = "shadow"


class Asked(Schema):
    """A request, masked as the log masks it."""

    id = fields.String(required=True)
    method = fields.String(required=True)
    path = fields.String(required=True)
    client_ip = fields.String(allow_none=True)


class Decision(Schema):
    """What one hook decided."""

    hook = fields.String(
        required=True,
        metadata=described("As in the lists, or routing, admission, upstream, client, gateway"),
    )
    outcome = fields.String(required=True)
    why = fields.String(allow_none=True)
    at = fields.String(
        allow_none=True, metadata=described("file:line of the table or key that decided")
    )


class Attempt(Schema):
    """An attempt at an endpoint."""

    endpoint = fields.String(required=True)
    ms = fields.Float(required=True)
    why = fields.String(metadata=described("What came of it"))


class Why(Schema):
    """Why a request was answered as it was."""

    time = fields.String(required=True, metadata=described("When it ended (RFC 3339)"))
    request = fields.Nested(Asked, required=True)
    client = fields.String(
        allow_none=True, metadata=described("Also of credentials that were refused")
    )
    route = fields.String(allow_none=True)
    pipeline = fields.String(allow_none=True)
    decisions = fields.List(fields.Nested(Decision), required=True)
    upstream = fields.String(allow_none=True)
    attempts = fields.List(fields.Nested(Attempt), required=True)
    status = fields.Integer(required=True)
    reason = fields.String(allow_none=True, metadata=described("As in the log and in metrics"))
    code = fields.String(allow_none=True, metadata=described("As in the body and X-Error-Code"))
    detail = fields.String(allow_none=True, metadata=described("What the client was told"))
    duration_ms = fields.Float(required=True)


class Recent(Schema):
    """The last refused, failed and slow requests, the newest first."""

    requests = fields.List(fields.Nested(Why), required=True)


async def why(request: web.Request) -> web.StreamResponse:
    """One request."""
    request_id = request.match_info["id"]
    found = await request.app[STATE].requests.why(request_id)
    if found is None:
        detail = (
            f"Nothing is known of request {request_id!r}: it was neither refused nor failed nor "
            "slow, it was too long ago, or it never came here."
        )
        return problem(404, detail)
    return answer(Why, found)


async def recent(request: web.Request) -> web.StreamResponse:
    """The last ones."""
    query = request.query
    limit = query.get("limit", "100")
    if not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:6]) <= MOST):
        return problem(422, f"limit: must be a whole number from 1 to {MOST}")
    wanted = {name: query[name] for name in (*FILTERS, SHADOW) if name in query}
    found = await request.app[STATE].requests.recent(int(limit), wanted)
    return answer(Recent, {"requests": found})


ENDPOINTS = (
    Endpoint(
        "GET",
        "/admin/why",
        recent,
        "The last refused, failed and slow requests, the newest first",
        (Answer(200, "These", Recent), refusal(422, "No such limit")),
        parameters=(
            Parameter("limit", f"At most so many: 1 to {MOST}, 100 by default", "integer"),
            *(Parameter(name, f"Only those of this {name}") for name in FILTERS),
            Parameter(SHADOW, "Instead those that only `shadow = true` let pass; any value"),
        ),
    ),
    Endpoint(
        "GET",
        "/admin/why/{id}",
        why,
        "Why a request was refused, failed or slow",
        (Answer(200, "What was decided", Why), refusal(404, "Nothing is known of it")),
    ),
)
