"""What would happen to a request, in the admin API."""

from __future__ import annotations

from urllib.parse import urlsplit

import orjson
from aiohttp import web
from marshmallow import Schema, ValidationError, fields, validate

from gateway.admin.answers import answer, described, problem
from gateway.admin.openapi import Answer, Endpoint, refusal
from gateway.admin.requests.why import Asked, Attempt, Decision
from gateway.admin.state import STATE

TEXT_MAX = 16 * 1024


class Asking(Schema):
    """A request to be explained."""

    method = fields.String(
        required=True, validate=validate.Regexp(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
    )
    url = fields.String(
        required=True,
        validate=validate.Length(1, TEXT_MAX),
        metadata=described("Absolute, or a path"),
    )
    headers = fields.List(
        fields.Tuple((fields.String(), fields.String())), validate=validate.Length(max=1000)
    )
    body = fields.String(allow_none=True, metadata=described("Text; null for none"))
    client_ip = fields.IP(metadata=described("127.0.0.1 by default"))


class Sent(Schema):
    """What an endpoint would be sent."""

    endpoint = fields.String(required=True)
    method = fields.String(required=True)
    target = fields.String(required=True)
    protocol = fields.String(
        required=True, metadata=described("HTTP/1.1, HTTP/2, or what of both TLS chooses")
    )
    headers = fields.List(fields.List(fields.String()), required=True)
    body_bytes = fields.Integer(allow_none=True)


class Explained(Schema):
    """What would happen to a request; as Why has it, for one that was not sent."""

    request = fields.Nested(Asked, required=True)
    client = fields.String(allow_none=True)
    route = fields.String(allow_none=True)
    pipeline = fields.String(allow_none=True)
    decisions = fields.List(fields.Nested(Decision), required=True)
    upstream = fields.String(allow_none=True)
    attempts = fields.List(fields.Nested(Attempt), required=True, metadata=described("None"))
    status = fields.Integer(
        required=True, allow_none=True, metadata=described("null: what the upstream answers")
    )
    reason = fields.String(allow_none=True)
    code = fields.String(allow_none=True)
    cache_key = fields.String(allow_none=True)
    limits = fields.List(fields.Dict(), metadata=described('As `builtin = "limits"` has them'))
    endpoints = fields.List(fields.Dict(), metadata=described("Of the upstreams, as they stand"))
    sends = fields.Nested(Sent, allow_none=True)


async def explain(request: web.Request) -> web.StreamResponse:
    """Send no request, and count nothing."""
    try:
        asked = Asking().load(orjson.loads(await request.read()))
        urlsplit(asked["url"])
    except ValidationError as error:
        return problem(
            422, "; ".join(f"{name}: {text}" for name, text in error.messages_dict.items())
        )
    except ValueError as error:
        return problem(422, str(error))
    body = asked.get("body")
    found = await request.app[STATE].requests.explain(
        (
            asked["method"],
            asked["url"],
            tuple(asked.get("headers", ())),
            None if body is None else body.encode(),
            str(asked.get("client_ip", "127.0.0.1")),
        )
    )
    if found is None:
        return problem(503, "No worker serves.")
    return answer(Explained, found)


ENDPOINTS = (
    Endpoint(
        "POST",
        "/admin/explain",
        explain,
        "What would happen to a request: a dry run that sends and counts nothing",
        (
            Answer(200, "What would be decided", Explained),
            refusal(422, "No request"),
            refusal(503, "No worker serves"),
        ),
    ),
)
