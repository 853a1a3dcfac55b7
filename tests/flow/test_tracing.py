"""Traces on real sockets: from a client's traceparent to a collector that reads them with
OpenTelemetry's own messages."""

from __future__ import annotations

import asyncio
import re

import pytest

from gateway.core.exchange import Exchange
from gateway.core.hooks import Context, Hooks
from gateway.core.telemetry import trace_spans_dropped
from gateway.lifetime.logs import posting
from gateway.tracing import exporter
from tests.collector import collecting
from tests.origin import answer, fields_of
from tests.until import until
from tests.websocket import open_tunnel

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SLOW = f"{__name__}:slow"
PIPELINE = f"""
request = ["{SLOW}"]
response = ["logging"]
error = ["error_handler", "logging"]

[logging]
file = "access.log"

[[route]]
name = "cameras"
path = "/cameras/{{id}}"
upstream = "origin"
"""


def slow(config: dict, context: Context) -> Hooks:
    """A middleware that waits."""

    async def request(exchange: Exchange) -> None:
        await asyncio.sleep(0)

    return Hooks(request=request)


def tracing(url: str, more: str = "") -> str:
    return f'[tracing]\notlp = "{url}"\n{more}\n'


def upstream(origin, more: str = "") -> str:
    return f'[upstream.origin]\nurl = "{origin.url}"\n{more}\n'


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(exporter, "INTERVAL", 0.01)
    with collecting() as made:
        yield made


@pytest.mark.modes
async def test_one_trace_from_end_to_end(start, connect, origin_of, collector, tmp_path):
    first = [True]

    async def respond(one, head, reader, writer):
        writer.write(answer(b"no", "503 Busy") if first else answer(b"ok"))
        first.clear()
        return True

    origin = await origin_of(respond)
    retry = 'retry = { attempts = 2, base_delay = "1ms", on = ["503"] }'
    trusted = '[server]\ntrusted_proxies = ["127.0.0.1"]\n'
    gateway = await start(PIPELINE, upstream(origin, retry), trusted + tracing(collector.url))
    client = await connect(gateway)
    parent = f"traceparent: 00-{TRACE}-{CALLER}-01"
    got = await client.get("/cameras/7?token=secret&a=1", parent, "tracestate: vendor=1")
    assert got.status == 200
    spans = {span.span_id: span for span in await asyncio.to_thread(collector.wait, 4)}
    assert {span.trace_id for span in spans.values()} == {TRACE}
    [server] = (span for span in spans.values() if span.parent == CALLER)
    assert (server.name, server.raw.trace_state) == ("GET /cameras/{id}", "vendor=1")
    assert server.attributes["url.query"] == "token=***&a=1"
    assert server.attributes["http.response.status_code"] == 200
    below = [span for span in spans.values() if span.parent == server.span_id]
    assert [span.name for span in below] == [f"hook {SLOW}", "GET", "GET"]
    assert [span.attributes.get("error.type") for span in below] == [None, "503", None]
    assert below[2].attributes["http.request.resend_count"] == 1
    for head, span in zip(origin.heads, below[1:], strict=True):
        assert fields_of(head)["traceparent"] == f"00-{TRACE}-{span.span_id}-01"
        assert fields_of(head)["tracestate"] == "vendor=1"
    outer = server.raw
    assert all(
        outer.start_time_unix_nano <= one.raw.start_time_unix_nano
        and one.raw.start_time_unix_nano <= one.raw.end_time_unix_nano <= outer.end_time_unix_nano
        for one in below
    )
    log = tmp_path / "pipelines" / "access.log"
    await until(lambda: log.exists() and f'"trace_id":"{TRACE}"' in log.read_text())


async def test_a_trace_that_begins_here_is_sampled(start, connect, origin, collector):
    gateway = await start(PIPELINE, upstream(origin), tracing(collector.url, "sample = 0"))
    client = await connect(gateway)
    for sent in (
        (),
        (f"traceparent: 00-{TRACE}-{CALLER}-01",),
        ("traceparent: x", "tracestate: a=1"),
    ):
        assert (await client.get("/cameras/7", *sent)).status == 200
    new, going_on, invalid = (fields_of(head) for head in origin.heads)
    pattern = r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-00"
    assert re.fullmatch(pattern, new["traceparent"])
    # The client is no trusted proxy: its trace goes on, and the gateway decides about its part.
    assert going_on["traceparent"].startswith(f"00-{TRACE}-")
    assert going_on["traceparent"].endswith("-00") and CALLER not in going_on["traceparent"]
    assert re.fullmatch(pattern, invalid["traceparent"]) and "tracestate" not in invalid
    assert len({fields["traceparent"] for fields in (new, going_on, invalid)}) == 3
    assert collector.spans == []


async def test_requests_without_a_route_and_failures(start, connect, origin, collector):
    gateway = await start(PIPELINE, upstream(origin), tracing(collector.url))
    client = await connect(gateway)
    assert (await client.get("/nowhere")).status == 404
    await origin.stop()
    assert (await client.get("/cameras/7")).status == 502
    spans = await asyncio.to_thread(collector.wait, 4)
    nowhere, _, attempt, failed = spans
    assert (nowhere.name, nowhere.attributes["gateway.reason"]) == ("GET", "no_route")
    assert "error.type" not in nowhere.attributes
    assert attempt.attributes["error.type"] == failed.attributes["error.type"] == "connect_failed"
    assert failed.attributes["http.response.status_code"] == 502


async def test_a_websocket_is_one_span(start, connect, echoing, collector):
    gateway = await start(PIPELINE, upstream(echoing), tracing(collector.url))
    client = await connect(gateway)
    await open_tunnel(client, "/cameras/7")
    assert collector.spans == []
    client.close()
    spans = await asyncio.to_thread(collector.wait, 3)
    assert spans[-1].attributes["http.response.status_code"] == 101


async def test_a_reload_loses_no_span_that_waits(
    start, connect, origin, collector, monkeypatch, tmp_path
):
    monkeypatch.setattr(exporter, "INTERVAL", 60.0)
    gateway = await start(PIPELINE, upstream(origin), tracing(collector.url))
    client = await connect(gateway)
    assert (await client.get("/cameras/7")).status == 200
    toml = tmp_path / "gateway.toml"
    text = toml.read_text()
    toml.write_text(text.replace(tracing(collector.url), ""))
    assert (await gateway.reload()).ok
    assert len(await asyncio.to_thread(collector.wait, 3)) == 3
    assert (await client.get("/cameras/7")).status == 200
    assert "traceparent" not in fields_of(origin.heads[-1])


async def test_a_collector_that_is_down_costs_spans_alone(start, connect, origin, monkeypatch):
    monkeypatch.setattr(exporter, "INTERVAL", 0.01)
    monkeypatch.setattr(posting, "FIRST_PAUSE", 0.001)
    gateway = await start(PIPELINE, upstream(origin), tracing("http://127.0.0.1:1"))
    client = await connect(gateway)
    assert (await client.get("/cameras/7")).status == 200
    labels = ("http://127.0.0.1:1/v1/traces", "failed")
    await until(lambda: trace_spans_dropped.get(labels) >= 3)


async def test_what_a_service_is_asked_is_below_the_hook(
    start, connect, origin, origin_of, collector
):
    authz = await origin_of(answer(b"yes"))
    pipeline = (
        'request = ["forward_auth"]\n[forward_auth]\n'
        f'url = "{authz.url}/check"\n[[route]]\nprefix = "/"\nupstream = "origin"\n'
    )
    gateway = await start(pipeline, upstream(origin), tracing(collector.url))
    assert (await (await connect(gateway)).get("/a")).status == 200
    asked, hook, sent, server = await asyncio.to_thread(collector.wait, 4)
    assert asked.parent == hook.span_id and hook.parent == sent.parent == server.span_id
    assert asked.span_id in fields_of(authz.heads[0])["traceparent"]


async def test_the_copy_of_a_mirrored_request_is_of_the_trace(
    start, connect, origin, origin_of, collector
):
    shadow = await origin_of(answer(b"seen"))
    pipeline = '[[route]]\nprefix = "/"\nupstream = "origin"\nmirror = { upstream = "shadow", share = 1 }\n'
    both = upstream(origin) + f'[upstream.shadow]\nurl = "{shadow.url}"\n'
    gateway = await start(pipeline, both, tracing(collector.url))
    assert (await (await connect(gateway)).get("/a")).status == 200
    await until(lambda: shadow.heads)
    _, server = await asyncio.to_thread(collector.wait, 2)
    assert fields_of(shadow.heads[0])["traceparent"] == f"00-{server.trace_id}-{server.span_id}-01"


async def test_a_traceparent_that_a_hook_sets_is_the_only_one(start, connect, origin, collector):
    own = f"00-{TRACE}-{CALLER}-01"
    pipeline = (
        f'request = ["transform"]\n[transform]\nrequest = {{ set = {{ traceparent = "{own}" }} }}\n'
        '[[route]]\nprefix = "/"\nupstream = "origin"\n'
    )
    gateway = await start(pipeline, upstream(origin), tracing(collector.url))
    assert (await (await connect(gateway)).get("/a")).status == 200
    assert origin.heads[0].lower().count(b"traceparent:") == 1
    assert fields_of(origin.heads[0])["traceparent"] == own
