"""The whole middleware: fields, query and bodies, either way."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from gateway.core.exchange import Exchange, Identity, Reply
from gateway.core.failures import Failed, Failure
from gateway.core.headers import Pair
from gateway.middlewares import transform
from tests.exchange import Body, Stream, World, exchange, whole_body

JSON = ((b"Content-Type", b"application/json"),)
JSON_FIELDS = [("Content-Type", "application/json")]


def reply(value: Any, *fields: Pair) -> Reply:
    return Reply(200, (*JSON, *fields), orjson.dumps(value))


def posted(data: bytes, kind: str = "application/json", **headers: str) -> Exchange:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return exchange("POST", "/", {"Content-Type": kind, **named}, body=Body(data))


async def ask(table: dict[str, Any], one: Exchange) -> None:
    hooks = World().build(transform, table)
    assert hooks.request is not None
    pending = hooks.request(one)
    if pending is not None:
        await pending  # type: ignore[misc]


async def answer(table: dict[str, Any], made: Reply, one: Exchange | None = None) -> Reply:
    hooks = World().build(transform, table)
    assert hooks.response is not None
    pending = hooks.response(one or exchange(), made)
    if pending is not None:
        await pending
    return made


async def test_a_json_body_is_changed_on_its_way():
    one = posted(b'{"a": 1, "internal": {"x": 2}, "left": 9}', Content_Digest="sha-256=:x:")
    one.identity = Identity("acme", "api_key")
    changes = {"set": {"tenant": "{client}", "left": "{remaining}"}, "remove": ["internal"]}
    await ask({"request": {"body": changes}}, one)
    assert one.body is not None
    assert one.body.complete == b'{"a":1,"tenant":"acme"}'
    assert one.body.length == len(one.body.complete)
    assert b"content-digest" in (one.drop_headers or ())


async def test_a_body_that_one_of_two_fields_calls_json_is_changed():
    """An origin may go by either, so neither leads around what is to be removed."""
    for kinds in (("text/plain", "application/json"), ("application/json", "text/plain")):
        fields = [("Content-Type", kind) for kind in kinds]
        one = exchange("POST", "/", fields, body=Body(b'{"a": 1, "internal": 2}'))
        await ask({"request": {"body": {"remove": ["internal"]}}}, one)
        assert one.body is not None and one.body.complete == b'{"a":1}'
    fields = [*JSON_FIELDS, ("Content-Encoding", "identity"), ("Content-Encoding", "gzip")]
    with pytest.raises(Failed, match="coded"):
        await ask(
            {"request": {"body": {"remove": ["a"]}}},
            exchange("POST", "/", fields, body=Body(b"{}")),
        )


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
async def test_other_bodies_are_not_read(kind: str):
    one = posted(b"a=1", kind)
    await ask({"request": {"body": {"set": {"a": 1}}}}, one)
    assert isinstance(one.body, Body)
    assert one.body.reads == 0


@pytest.mark.parametrize(
    ("data", "headers", "failure"),
    [
        (b"{", {}, Failure.MALFORMED),
        (b'{"a": 1, "a": 2}', {}, Failure.MALFORMED),
        (b"{}", {"Content_Encoding": "gzip"}, Failure.UNSUPPORTED_MEDIA_TYPE),
        (b'{"a": "' + b"x" * 100 + b'"}', {}, Failure.BODY_TOO_LARGE),
    ],
)
async def test_a_body_that_cannot_be_read_is_refused_or_passes(data, headers, failure):
    table: dict[str, Any] = {"request": {"body": {"set": {"a": 1}}}, "max_body": 100}
    with pytest.raises(Failed) as caught:
        await ask(table, posted(data, **headers))
    assert caught.value.failure is failure
    one = posted(data, **headers)
    assert one.body is not None
    one.body.length = len(data)
    await ask({**table, "unreadable": "pass"}, one)
    assert isinstance(one.body, Body)
    assert one.body.data == data


async def test_an_answer_is_changed_and_says_so():
    made = reply(
        {"data": [{"id": 1, "_secret": 2}, {"id": 3}]},
        (b"ETag", b'"x"'),
        (b"Repr-Digest", b"sha-256=:x:"),
        (b"Accept-Ranges", b"bytes"),
        (b"Server", b"x"),
    )
    table = {
        "response": {
            "set": {"X-Route": "{route}"},
            "remove": ["Server"],
            "body": {"set": {"meta.route": "{route}"}, "remove": ["data.*._secret"]},
        }
    }
    await answer(table, made, exchange(route="cameras"))
    assert made.body == b'{"data":[{"id":1},{"id":3}],"meta":{"route":"cameras"}}'
    assert made.length == len(made.body)
    assert made.get(b"etag") == b'W/"x"'
    assert made.get(b"x-route") == b"cameras"
    for name in (b"repr-digest", b"accept-ranges", b"server"):
        assert made.get(name) is None


async def test_an_answer_that_arrives_in_pieces_is_put_together():
    table = {"response": {"body": {"set": {"b": 2}}}}
    made = await answer(table, Reply(200, JSON, Stream(b'{"a"', b":1}")))
    assert made.body == b'{"a":1,"b":2}'


@pytest.mark.parametrize("kind", [b"text/event-stream", b"application/x-ndjson", b"image/png"])
async def test_streams_and_files_are_not_touched(kind: bytes):
    stream = Stream(b"data: {}\n\n")
    made = Reply(200, ((b"Content-Type", kind), (b"ETag", b'"x"')), stream)
    await answer({"response": {"body": {"set": {"a": 1}}}}, made)
    assert made.body is stream
    assert made.get(b"etag") == b'"x"'


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_what_has_no_body_says_what_it_would_have(method: str):
    table = {"response": {"body": {"set": {"a": 1}}}}
    status = 200 if method == "HEAD" else 304
    made = Reply(status, (*JSON, (b"ETag", b'"x"')), length=17)
    await answer(table, made, exchange(method))
    assert (made.body, made.length, made.get(b"etag")) == (b"", None, b'W/"x"')


LARGE = b'{"a": "' + b"x" * 100 + b'"}'


@pytest.mark.parametrize(
    "make",
    [
        lambda: Reply(200, JSON, LARGE),
        lambda: Reply(200, JSON, Stream(LARGE[:50], LARGE[50:])),
        lambda: Reply(200, JSON, Stream(LARGE), length=len(LARGE)),
        lambda: Reply(200, JSON, b"{"),
        lambda: Reply(200, (*JSON, (b"Content-Encoding", b"gzip")), b"\x1f\x8b"),
        lambda: Reply(206, (*JSON, (b"Content-Range", b"bytes 0-1/9")), b"{}"),
    ],
)
async def test_an_answer_that_cannot_be_read_is_refused_or_passes(make: Any):
    table: dict[str, Any] = {"response": {"body": {"set": {"a": 1}}}, "max_body": 100}
    made = make()
    with pytest.raises(Failed) as caught:
        await answer(table, made)
    assert caught.value.failure is Failure.BAD_RESPONSE
    assert caught.value.detail == ""
    if not isinstance(made.body, bytes):
        made.body.abort()
    wanted = await whole_body(make())
    assert await whole_body(await answer({**table, "unreadable": "pass"}, make())) == wanted


async def test_upstreams_are_asked_for_whole_uncoded_answers():
    one = exchange("GET", "/", {"Accept-Encoding": "gzip", "Range": "bytes=0-1"})
    await ask({"response": {"body": {"set": {"a": 1}}}}, one)
    assert one.forward_headers == [(b"Accept-Encoding", b"identity")]
    assert {b"range", b"if-range", b"accept-encoding"} <= (one.drop_headers or set())


def test_only_what_is_changed_has_hooks():
    hooks = World().build(transform)
    assert (hooks.request, hooks.response, hooks.error) == (None, None, None)
    hooks = World().build(transform, {"response": {"set": {"Pragma": "no-cache"}}})
    assert hooks.request is None
    assert hooks.response is not None


def test_error_answers_get_the_fields():
    hooks = World().build(transform, {"response": {"set": {"Pragma": "no-cache", "Expires": "0"}}})
    one = exchange()
    assert hooks.error is not None
    assert hooks.error(one, Failed(Failure.NO_ROUTE)) is None
    one.reply = Reply(404)
    hooks.error(one, Failed(Failure.NO_ROUTE))
    assert one.reply.get(b"pragma") == b"no-cache"
    assert one.reply.get(b"expires") == b"0"


async def test_explain_changes_what_would_be_sent():
    one = posted(b"{}")
    one.decisions = []
    await ask({"request": {"body": {"set": {"a": 1}}}}, one)
    assert one.body is not None and one.body.complete == b'{"a":1}'
    assert [decision.outcome for decision in one.decisions] == ["changed"]
