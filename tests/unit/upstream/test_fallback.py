"""What requests are hashed by, and which target a route gets."""

from __future__ import annotations

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.config.tables.endpoints import DiscoverConfig, EndpointConfig, HashConfig
from gateway.config.tables.health import OutlierConfig
from gateway.config.tables.pipeline import RouteConfig
from gateway.config.tables.traffic import LimitConfig, QueueConfig
from gateway.config.tables.upstream import UpstreamConfig
from gateway.core.exchange import Exchange
from gateway.core.telemetry import Telemetry
from gateway.upstream.connections.transport import Transport
from gateway.upstream.fallback import ObservedForward, WithFallback, WithQueue, affinity, forwarding
from gateway.upstream.forward import Forward
from gateway.upstream.pool.pool import Pool


@pytest.mark.parametrize(
    ("config", "headers", "key"),
    [
        (HashConfig(header="X-User"), {"x-user": "7"}, "7"),
        (HashConfig(header="X-User"), {}, "192.0.2.1"),
        (HashConfig(cookie="session"), {"Cookie": "a=1; session=abc; b=2"}, "abc"),
        (HashConfig(cookie="session"), {"Cookie": "sessions=abc"}, "192.0.2.1"),
        (HashConfig(cookie="session"), {"Cookie": "session="}, "192.0.2.1"),
        (HashConfig(), {}, "192.0.2.1"),
    ],
)
def test_what_a_request_is_hashed_by(config: HashConfig, headers: dict[str, str], key: str) -> None:
    exchange = Exchange("GET", "/", CIMultiDictProxy(CIMultiDict(headers)), (), peer="192.0.2.1")
    assert affinity(exchange, config) == key


def target(**configs: UpstreamConfig) -> object:
    pools = {name: Pool(name, config) for name, config in configs.items()}
    return forwarding(pools, configs, Transport(), RouteConfig(upstream="a"), Telemetry())


def config(**settings: object) -> UpstreamConfig:
    return UpstreamConfig(endpoints=(EndpointConfig("http://a:1"),), **settings)  # type: ignore[arg-type]


def test_what_is_not_asked_for_is_not_there() -> None:
    assert type(target(a=config(discover=DiscoverConfig(api=True)))) is Forward
    for asked in (
        config(outlier=OutlierConfig()),
        config(limit=LimitConfig(1)),
        config(deadline_header="X-Left"),
        config(balance="hash", hash=HashConfig(cookie="a")),
    ):
        assert type(target(a=asked)) is ObservedForward


def test_a_chain_of_fallbacks() -> None:
    made = target(
        a=config(fallback="b", queue=QueueConfig()),
        b=config(fallback="c"),
        c=config(limit=LimitConfig(1)),
    )
    assert isinstance(made, WithFallback)
    assert isinstance(made.first, WithQueue)
    assert isinstance(made.then, WithFallback)
    assert isinstance(made.then.then, ObservedForward)
    assert repr(made).startswith("<WithFallback <WithQueue for <Forward to <Pool a ")
