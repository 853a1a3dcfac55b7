"""A pool whose time and outcomes a test decides."""

from __future__ import annotations

import random
from typing import Any

import pytest

from gateway.config.tables.endpoints import EndpointConfig
from gateway.config.tables.health import BreakerConfig, HealthConfig, PassiveHealthConfig
from gateway.config.tables.upstream import UpstreamConfig
from gateway.core.clock import Clock
from gateway.core.failures import Failed
from gateway.core.telemetry import Telemetry
from gateway.upstream.pool.endpoint import Endpoint
from gateway.upstream.pool.pool import Pool

HEALTH = HealthConfig(interval=10.0, unhealthy_threshold=3, healthy_threshold=2)
PASSIVE = PassiveHealthConfig(max_fails=2, fail_timeout=20.0)
BREAKER = BreakerConfig(failure_threshold=3, recovery_timeout=30.0, half_open_requests=2)


class World:
    """A pool with a clock that is set by hand."""

    def __init__(self, *endpoints: EndpointConfig | str, **settings: Any) -> None:
        self.now = 1000.0
        self.telemetry = Telemetry()
        self.told: list[tuple[str, tuple[Any, ...]]] = []
        """What the pool had to tell other processes."""
        self.pool = Pool(
            "becamera",
            self.config(*endpoints, **settings),
            clock=Clock(monotonic=lambda: self.now),
            telemetry=self.telemetry,
            rng=random.Random(5),
            tell=lambda name, kind, body: self.told.append((kind, body)),
        )
        self.pool.reconfigure(self.pool.config)

    @staticmethod
    def config(*endpoints: EndpointConfig | str, **settings: Any) -> UpstreamConfig:
        made = tuple(
            EndpointConfig(f"http://{e}:80") if isinstance(e, str) else e for e in endpoints
        )
        return UpstreamConfig(endpoints=made, **settings)

    def reconfigure(
        self, *endpoints: EndpointConfig | str, **settings: Any
    ) -> tuple[Endpoint, ...]:
        return self.pool.reconfigure(self.config(*endpoints, **settings))

    def endpoint(self, name: str) -> Endpoint:
        return next(endpoint for endpoint in self.pool.endpoints if endpoint.host == name)

    def eligible(self) -> str:
        return " ".join(endpoint.host for endpoint in self.pool.eligible)

    def probe(self, name: str, *results: bool) -> None:
        for ok in results:
            self.pool.probed(self.endpoint(name), ok, "" if ok else "connection refused", 0.01)

    def fail(self, name: str, times: int = 1) -> None:
        for _ in range(times):
            endpoint = self.endpoint(name)
            endpoint.in_flight += 1
            self.pool.release(endpoint, False, "connection reset")

    def exchange(self, ok: bool | None = True) -> Endpoint:
        endpoint = self.pool.pick("192.0.2.1")
        self.pool.release(endpoint, ok)
        return endpoint

    def refused(self, tried: tuple[Endpoint, ...] = ()) -> Failed:
        with pytest.raises(Failed) as caught:
            self.pool.pick("192.0.2.1", tried)
        return caught.value

    def healthy(self) -> dict[str, float]:
        return {
            endpoint: value
            for (_, endpoint), value in self.telemetry.endpoint_healthy.values.items()
        }


def backup(name: str) -> EndpointConfig:
    return EndpointConfig(f"http://{name}:80", backup=True)


def limit(name: str, most: int) -> EndpointConfig:
    return EndpointConfig(f"http://{name}:80", max_connections=most)
