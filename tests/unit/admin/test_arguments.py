"""Arguments are what the endpoint's schema says; what does not fit is said by field."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web
from marshmallow import Schema, fields, validate

from gateway.admin.arguments import BODY, QUERY, Unusable, faults, parse


class Query(Schema):
    limit = fields.Integer(load_default=10, validate=validate.Range(1, 100))


class Body(Schema):
    name = fields.String(required=True)
    sizes = fields.List(fields.Integer(strict=True))


@pytest.fixture
async def client(aiohttp_client: Any) -> Any:
    async def handle(request: web.Request) -> web.Response:
        try:
            await parse(request, Query, Body if request.method == "POST" else None)
        except Unusable as error:
            return web.json_response({"wrong": error.text}, status=error.status)
        return web.json_response({"query": request[QUERY], "body": request.get(BODY)})

    app = web.Application()
    app.router.add_route("*", "/", handle)
    return await aiohttp_client(app)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", {"query": {"limit": 10}, "body": None}),
        ("?limit=5", {"query": {"limit": 5}, "body": None}),
        ("?other=5", {"query": {"limit": 10}, "body": None}),
        ("?limit=x", {"wrong": "limit: Not a valid integer."}),
        (
            "?limit=0",
            {"wrong": "limit: Must be greater than or equal to 1 and less than or equal to 100."},
        ),
    ],
)
async def test_a_query(client: Any, query: str, found: Any):
    async with client.get(f"/{query}") as response:
        assert await response.json() == found
        assert response.status == (422 if "wrong" in found else 200)


@pytest.mark.parametrize("media_type", ["application/json", "application/x-www-form-urlencoded"])
@pytest.mark.parametrize(
    ("body", "found"),
    [
        ('{"name": "a", "sizes": [1]}', {"name": "a", "sizes": [1]}),
        (
            '{"sizes": [1, "x"]}',
            "name: Missing data for required field.; sizes.1: Not a valid integer.",
        ),
        ('{"name": "a", "more": 1}', "more: Unknown field."),
        ("[]", "Invalid input type."),
        ("", "name: Missing data for required field."),
        ("{", "The body is not JSON: unexpected end of data: line 1 column 2 (char 1)."),
    ],
)
async def test_a_body(client: Any, media_type: str, body: str, found: Any):
    headers = {"Content-Type": media_type}
    async with client.post("/", data=body, headers=headers) as response:
        said = await response.json()
    assert (said["body"] if isinstance(found, dict) else said["wrong"]) == found


def test_faults_that_are_no_lists():
    assert [*faults("so")] == ["so"]
