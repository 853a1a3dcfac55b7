"""Every family of the contract is there by its exact name, type and labels, in both formats,
whatever the label values are."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Iterator

import pytest
from aiohttp.test_utils import TestClient
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.registry import Collector

from gateway.admin import metrics
from gateway.admin.metrics import FamilyCollector, exposition
from gateway.core.telemetry import DURATION_BUCKETS, Measured, Telemetry
from tests.telemetry import observe
from tests.unit.admin.state import State

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
"""What a Prometheus server sends."""

CONTRACT = {
    "gateway_requests_total": ("counter", {"route", "method", "code"}),
    "gateway_request_duration_seconds": ("histogram", {"route", "method"}),
    "gateway_request_size_bytes": ("histogram", {"route"}),
    "gateway_response_size_bytes": ("histogram", {"route"}),
    "gateway_requests_in_flight": ("gauge", set()),
    "gateway_upstream_requests_total": ("counter", {"upstream", "endpoint", "code"}),
    "gateway_upstream_duration_seconds": ("histogram", {"upstream"}),
    "gateway_upstream_endpoint_duration_seconds": ("histogram", {"upstream", "endpoint"}),
    "gateway_upstream_endpoint_healthy": ("gauge", {"upstream", "endpoint"}),
    "gateway_circuit_state": ("gauge", {"upstream"}),
    "gateway_upstream_try_all": ("gauge", {"upstream"}),
    "gateway_retries_total": ("counter", {"upstream", "reason"}),
    "gateway_validation_reports_total": ("counter", {"route", "code"}),
    "gateway_client_errors_total": ("counter", {"client"}),
    "gateway_shadow_refusals_total": ("counter", {"route", "middleware", "reason"}),
    "gateway_client_shadow_refusals_total": ("counter", {"client"}),
    "gateway_active_clients": ("gauge", set()),
    "gateway_mirror_dropped_total": ("counter", {"route", "reason"}),
    "gateway_rate_limited_total": ("counter", {"route", "policy"}),
    "gateway_auth_total": ("counter", {"method", "result"}),
    "gateway_cache_requests_total": ("counter", {"route", "result"}),
    "gateway_cache_bytes": ("gauge", {"pipeline", "route"}),
    "gateway_cache_responses": ("gauge", {"pipeline", "route"}),
    "gateway_cache_evictions_total": ("counter", {"pipeline", "route"}),
    "gateway_failures_total": ("counter", {"reason"}),
    "gateway_client_requests_total": ("counter", {"client"}),
    "gateway_config_last_reload_success": ("gauge", set()),
    "gateway_config_last_reload_timestamp_seconds": ("gauge", set()),
    "gateway_config_info": ("gauge", {"hash"}),
    "gateway_tls_certificate_expiry_timestamp_seconds": ("gauge", {"name"}),
    "gateway_tls_handshake_failures_total": ("counter", set()),
    "gateway_connections": ("gauge", {"listener"}),
    "gateway_connections_refused_total": ("counter", {"reason"}),
    "gateway_http2_requests_total": ("counter", set()),
    "gateway_http2_ended_total": ("counter", {"reason"}),
    "gateway_rate_limit_near_total": ("counter", {"route", "policy"}),
    "gateway_rate_limit_shadow_total": ("counter", {"route", "policy"}),
    "gateway_rate_limit_fallback_total": ("counter", {"policy", "mode"}),
    "gateway_store_up": ("gauge", {"store"}),
    "gateway_store_gateways": ("gauge", set()),
    "gateway_store_failures_total": ("counter", {"reason"}),
    "gateway_background_failures_total": ("counter", {"task"}),
    "gateway_log_lines_dropped_total": ("counter", {"log", "reason"}),
    "gateway_plugin_http_requests_total": ("counter", {"middleware", "code"}),
    "gateway_plugin_http_duration_seconds": ("histogram", {"middleware"}),
    "gateway_trace_spans_dropped_total": ("counter", {"collector", "reason"}),
    "gateway_worker_restarts_total": ("counter", set()),
}


def filled() -> Telemetry:
    """Two of every series, with values that tell them apart."""
    telemetry = Telemetry()
    for number, family in enumerate(telemetry.families, 1):
        for name in ("a", "b") if family.labels else ("",):
            labels = tuple(f"{label}-{name}" for label in family.labels)
            if family.kind == "histogram":
                for value in (0.001, 0.3, 99.0):
                    observe(family.cell(labels), value * number)  # type: ignore[union-attr]
            elif isinstance(family, Measured):
                family.watch(labels, telemetry, lambda _, number=number: number)  # type: ignore[misc]
            else:
                family.add(labels, number)  # type: ignore[union-attr]
    return telemetry


class Nothing(Collector):
    def collect(self) -> Iterator[Metric]:
        return iter(())


async def scraped(telemetry: Telemetry, accept: str = "", others: Collector | None = None) -> str:
    body, _ = await exposition(telemetry, accept, others or Nothing())
    return body.decode()


def by_name(metrics: list[Metric]) -> dict[str, Metric]:
    """By the names the contract uses: the parsers leave `_total` off."""
    return {
        metric.name + ("_total" if metric.type == "counter" else ""): metric for metric in metrics
    }


@pytest.mark.parametrize("telemetry", [Telemetry(), filled()], ids=["empty", "filled"])
@pytest.mark.parametrize("accept", ["", OPENMETRICS])
async def test_every_family_of_the_contract_by_name_and_type(telemetry: Telemetry, accept: str):
    text = await scraped(telemetry, accept)
    parse = parse_openmetrics if accept else parse_text
    assert {name: metric.type for name, metric in by_name(list(parse(text))).items()} == {
        name: kind for name, (kind, _) in CONTRACT.items()
    }


async def test_every_line_has_the_contracts_name_and_labels():
    found: dict[str, set[str]] = {}
    for metric in parse_text(await scraped(filled())):
        for sample in metric.samples:
            found.setdefault(sample.name, set()).update(set(sample.labels) - {"le"})
    expected = {}
    for name, (kind, labels) in CONTRACT.items():
        for suffix in ("_bucket", "_count", "_sum") if kind == "histogram" else ("",):
            expected[name + suffix] = labels
    assert found == expected


async def test_values_are_those_that_were_counted():
    telemetry = Telemetry()
    telemetry.requests.add(("cameras", "GET", "200"), 3)
    telemetry.circuit_state.set(("becamera",), 2)
    text = await scraped(telemetry)
    assert 'gateway_requests_total{code="200",method="GET",route="cameras"} 3.0\n' in text
    assert 'gateway_circuit_state{upstream="becamera"} 2.0\n' in text


async def test_buckets_include_the_smaller_ones():
    telemetry = Telemetry()
    for seconds in (0.001, 0.005, 0.3, 99.0):
        observe(telemetry.request_duration.cell(("cameras", "GET")), seconds)
    samples = {
        (sample.name, sample.labels.get("le")): sample.value
        for metric in parse_text(await scraped(telemetry))
        for sample in metric.samples
        if sample.name.startswith("gateway_request_duration_seconds")
    }
    name = "gateway_request_duration_seconds"
    assert [float(bound) for part, bound in samples if part == f"{name}_bucket"] == [
        *DURATION_BUCKETS,
        float("inf"),
    ]
    assert samples[f"{name}_bucket", "0.005"] == 2
    assert samples[f"{name}_bucket", "0.25"] == 2
    assert samples[f"{name}_bucket", "0.5"] == 3
    assert samples[f"{name}_bucket", "10.0"] == 3
    assert samples[f"{name}_bucket", "+Inf"] == samples[f"{name}_count", None] == 4
    assert samples[f"{name}_sum", None] == pytest.approx(99.306)


async def test_what_has_no_labels_is_there_from_the_start():
    text = await scraped(Telemetry())
    assert "gateway_requests_in_flight 0.0\n" in text


@pytest.mark.parametrize("value", ['a"b', "a\\b", "a\nb", "käse", "\ud800", ""])
async def test_any_label_value(value: str):
    telemetry = Telemetry()
    telemetry.client_requests.add((value,))
    observe(telemetry.upstream_duration.cell((value,)), 1)
    for accept, parse in (("", parse_text), (OPENMETRICS, parse_openmetrics)):
        (metric,) = (
            one
            for one in parse(await scraped(telemetry, accept))
            if one.name == "gateway_client_requests"
        )
        assert [sample.labels["client"] for sample in metric.samples] == [
            value.replace("\ud800", "?")
        ]


# Slices.


@pytest.mark.parametrize("accept", ["", OPENMETRICS])
@pytest.mark.parametrize("series", [1, 9, 10, 11, 45])
async def test_slices_make_the_same_text_as_one_piece(
    monkeypatch: pytest.MonkeyPatch, accept: str, series: int
):
    telemetry = Telemetry()
    for number in range(series):
        telemetry.requests.add((str(number), "GET", "200"))
        observe(telemetry.request_duration.cell((str(number), "GET")), number)
    whole = await scraped(telemetry, accept)
    monkeypatch.setattr(metrics, "SLICE", 10)
    assert await scraped(telemetry, accept) == whole
    if not accept:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(FamilyCollector(telemetry))
        assert generate_latest(registry).decode() == whole


async def test_the_loop_gets_its_turns(monkeypatch: pytest.MonkeyPatch):
    telemetry = Telemetry()
    for number in range(metrics.SLICE * 5):
        telemetry.requests.add((str(number), "GET", "200"))
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(count())
    await scraped(telemetry)
    task.cancel()
    assert turns > len(telemetry.families) + 3


async def test_series_that_come_and_go_meanwhile_do_no_harm():
    telemetry = Telemetry()
    for number in range(metrics.SLICE * 3):
        telemetry.requests.add((str(number), "GET", "200"))

    async def churn() -> None:
        while True:
            telemetry.requests.values.popitem()
            telemetry.requests.add(("new", "GET", str(len(telemetry.requests.values))))
            telemetry.failures.add((str(len(telemetry.failures.values)),))
            await asyncio.sleep(0)

    task = asyncio.create_task(churn())
    text = await scraped(telemetry)
    task.cancel()
    assert by_name(list(parse_text(text))).keys() == CONTRACT.keys()


# Others' metrics.


class Own(Collector):
    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("plugin_things", "Things", value=7)


class Broken(Collector):
    def collect(self) -> Iterator[Metric]:
        raise RuntimeError("no things")


@pytest.mark.parametrize("accept", ["", OPENMETRICS])
async def test_metrics_of_a_middleware_of_ones_own(accept: str):
    text = await scraped(Telemetry(), accept, Own())
    assert "plugin_things 7.0\n" in text
    assert (text.endswith("# EOF\n"), text.count("# EOF")) == ((True, 1) if accept else (False, 0))


@pytest.mark.parametrize("accept", ["", OPENMETRICS])
async def test_a_broken_collector_costs_only_itself(accept: str, caplog: pytest.LogCaptureFixture):
    text = await scraped(filled(), accept, Broken())
    parse = parse_openmetrics if accept else parse_text
    assert by_name(list(parse(text))).keys() == CONTRACT.keys()
    assert "no things" in caplog.text


# Over HTTP.


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (None, "text/plain; version=0.0.4; charset=utf-8"),
        ("*/*", "text/plain; version=0.0.4; charset=utf-8"),
        ("text/html", "text/plain; version=0.0.4; charset=utf-8"),
        (
            OPENMETRICS,
            "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores",
        ),
        (
            PROMETHEUS,
            "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores",
        ),
    ],
)
async def test_the_format_is_negotiated(
    admin: TestClient, state: State, accept: str | None, content_type: str
):
    state.telemetry.requests.add(("cameras", "GET", "200"))
    async with admin.get(
        "/metrics", headers={} if accept is None else {"Accept": accept}
    ) as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == content_type
        text = await response.text()
    parse = parse_openmetrics if content_type.startswith("application") else parse_text
    found = by_name(list(parse(text)))
    assert CONTRACT.keys() <= found.keys()
    assert "process_resident_memory_bytes" in found
    assert "python" in found or "python_info" in found


@pytest.mark.parametrize(
    ("accept", "coding"),
    [("gzip", "gzip"), ("deflate, gzip", "gzip"), ("identity", None), ("br", None)],
)
async def test_large_answers_are_compressed(
    aiohttp_client, state: State, accept: str, coding: str | None
):
    from gateway.admin.application import make_app

    client = await aiohttp_client(make_app(state), auto_decompress=False)
    async with client.get("/metrics", headers={"Accept-Encoding": accept}) as response:
        assert response.headers.get("Content-Encoding") == coding
        body = await response.read()
    assert b"gateway_requests_in_flight 0.0\n" in (gzip.decompress(body) if coding else body)
