"""Which upstreams registrations make, and where services may lie."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from gateway.config.tables.endpoints import DiscoverConfig, EndpointConfig
from gateway.config.tables.health import HealthConfig
from gateway.config.tables.targets import ServiceConfig, ServicesConfig
from gateway.config.tables.traffic import RetryConfig, TimeoutsConfig
from gateway.config.tables.upstream import UpstreamConfig
from gateway.upstream.discovery.registered import (
    REGISTRATIONS_MAX,
    Unregistered,
    added,
    in_environment,
    refusal,
    removed,
    upstreams,
)

A = ServiceConfig("a", "http://a:1")
A2 = ServiceConfig("a", "http://a:2", weight=3)
B = ServiceConfig("b", "http://b:1")


def test_adding_and_removing():
    assert added((A, B), A2) == (A, B, A2)
    heavier = ServiceConfig("a", "http://A:1/", weight=9)
    assert added((A, B), heavier) == (B, heavier)
    assert removed((A, A2, B), "a") == (B,)
    assert removed((A, A2, B), "a", "http://a:2") == (A, B)
    assert removed((A, B), "c") == (A, B)


def test_there_is_a_most():
    full = tuple(ServiceConfig("a", f"http://a:{port}") for port in range(1, REGISTRATIONS_MAX + 1))
    with pytest.raises(Unregistered, match="already"):
        added(full, B)
    assert len(added(full, full[0])) == REGISTRATIONS_MAX


def test_upstreams_with_what_the_last_registration_says():
    last = ServiceConfig("a", "http://a:2", "/health", 3, 7.0, circuit_breaker_enabled=False)
    made = upstreams((A, B, last), None)
    assert made.keys() == {"a", "b"}
    assert made["a"].endpoints == (EndpointConfig("http://a:1"), EndpointConfig("http://a:2", 3))
    assert made["a"].health == HealthConfig(path="/health")
    assert (made["a"].timeouts.read, made["a"].circuit_breaker) == (7.0, None)
    assert made["b"].health is None and made["b"].circuit_breaker is not None
    assert made["b"].timeouts == TimeoutsConfig()


def test_upstreams_like_another():
    like = UpstreamConfig(
        url="http://template",
        name="template",
        retry=RetryConfig(),
        health=HealthConfig(path="/x", interval=2.0),
        discover=DiscoverConfig(api=True),
    )
    made = upstreams((ServiceConfig("a", "http://a:1", "/health"),), like)["a"]
    assert (made.name, made.endpoints) == ("a", (EndpointConfig("http://a:1"),))
    assert made.retry == RetryConfig() and made.discover is None and made.circuit_breaker is None
    assert made.health == HealthConfig(path="/health", interval=2.0)


def test_the_environment():
    environ = {
        "USER_SERVICE_URL": "http://user:1, http://user:2",
        "AI_CONTENT_SERVICE_URL": "ai:8000",
        "_SERVICE_URL": "http://nobody",
        "USER_SERVICE": "http://nobody",
        "HOME": "/root",
    }
    found = in_environment("*_SERVICE_URL", environ)
    assert [(one.name, one.url) for one in found] == [
        ("ai-content", "http://ai:8000"),
        ("user", "http://user:1"),
        ("user", "http://user:2"),
    ]
    assert in_environment("", environ) == ()
    with pytest.raises(Unregistered, match=r"\$USER_SERVICE_URL"):
        in_environment("*_SERVICE_URL", {"USER_SERVICE_URL": "http://a:b"})


LIMITED = ServicesConfig(allow=("*.svc.internal", "ai-concierge", ip_network("10.0.0.0/8")))


@pytest.mark.parametrize(
    ("url", "config", "refused"),
    [
        ("http://ai-concierge:8000", ServicesConfig(), False),
        ("http://127.0.0.1:9901", ServicesConfig(), False),
        ("http://169.254.169.254/latest", ServicesConfig(), True),
        ("http://[fe80::1]", ServicesConfig(), True),
        ("http://[::ffff:169.254.169.254]", ServicesConfig(), True),
        ("http://0.0.0.0", ServicesConfig(), True),
        ("http://224.0.0.1", ServicesConfig(), True),
        ("http://2852039166", ServicesConfig(), True),
        ("http://0xa9fea9fe", ServicesConfig(), True),
        ("http://169.254.43518", ServicesConfig(), True),
        ("http://a.svc.internal", LIMITED, False),
        ("http://A.SVC.INTERNAL.:80", LIMITED, False),
        ("http://ai-concierge:8000", LIMITED, False),
        ("https://10.1.2.3", LIMITED, False),
        ("http://[::ffff:10.1.2.3]", LIMITED, False),
        ("http://127.0.0.1", LIMITED, True),
        ("http://svc.internal.evil.example", LIMITED, True),
        ("http://evil-svc.internal", LIMITED, True),
    ],
)
def test_where_services_may_lie(url: str, config: ServicesConfig, refused: bool):
    assert bool(refusal(url, config)) is refused
