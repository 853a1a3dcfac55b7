"""One address of a pool, with what is known while it is served: counts, health, idle connections.

An endpoint is kept by identity across reloads; only what `configure` takes changes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from gateway.config.hosts import a_labels
from gateway.config.tables.endpoints import EndpointConfig
from gateway.core.telemetry import HistogramCell
from gateway.upstream.pool.breaker import NAMES, Breaker
from gateway.upstream.pool.health import Health

DEFAULT_PORTS = {"http": 80, "https": 443}
UNIX = "unix"
"""The scheme of a Unix socket's URL."""


class Address(NamedTuple):
    """Where an endpoint is; what makes it the same endpoint after a reload. `path` is "" or starts
    with a slash.

    Of a Unix socket the scheme is "unix", the host is its path, and the port 0.
    """

    scheme: str
    host: str
    port: int
    path: str

    @classmethod
    def of(cls, url: str) -> Address:
        """The address of an EndpointConfig's URL, which the schema has checked."""
        parts = urlsplit(url)
        if parts.scheme == UNIX:
            return cls(UNIX, parts.path, 0, "")
        port = DEFAULT_PORTS[parts.scheme] if parts.port is None else parts.port
        host = a_labels(parts.hostname or "")
        return cls(parts.scheme, host, port, parts.path.rstrip("/"))

    @property
    def bracketed(self) -> str:
        """The host as it stands in a URL: RFC 3986 section 3.2.2 puts IPv6 addresses in
        brackets."""
        return f"[{self.host}]" if ":" in self.host else self.host

    @property
    def authority(self) -> str:
        """For the Host field: the port is left out when it is the scheme's own (RFC 9110 section
        4.2.3), and so is the dot of a name that is not to be completed by search domains: it means
        something to the resolver alone."""
        if self.scheme == UNIX:
            return "localhost"
        host = self.bracketed.rstrip(".")
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """As operators know it."""
        return (
            self.names()[0]
            if self.scheme == UNIX
            else f"{self.scheme}://{self.authority}{self.path}"
        )

    def names(self) -> tuple[str, str, str]:
        """Names for it, the shortest first: "host:port", with its path, with everything."""
        if self.scheme == UNIX:
            name = f"{UNIX}:{self.host}"
            return name, name, name
        name = f"{self.bracketed}:{self.port}"
        return name, name + self.path, f"{self.scheme}://{name}{self.path}"


class Endpoint:
    """An address with its counts. `in_flight` changes only in Pool.pick and Pool.release.

    name:   "host:port", or longer where the pool has two of those. A label of metrics, always from
            the configuration.
    idle:   kept connections, last in, first out, filled and emptied by the transport.
    weight: the current weight, relative to the others'; below `share`, the configured one, during a
            slow start.
    max_connections: 0 means no limit. A `backup` is picked when no other can be; a `draining` one
                     never.
    shared: the transport's connections that many requests share (HTTP/2), None without any.
    server_name: asked for and verified over TLS in place of the upstream's `tls.server_name` and
                 the host; "" for those.
    breaker: its own, where the upstream's `circuit_breaker` is for each endpoint.
    duration: its series, once it has been asked.
    drains: as configured. drained: as an operator says (Pool.drain).
    retired: it has left its pool; none of its connections is kept any more.
    """

    __slots__ = (
        "address",
        "authority",
        "backup",
        "breaker",
        "drained",
        "drains",
        "duration",
        "health",
        "host",
        "idle",
        "in_flight",
        "max_connections",
        "name",
        "path",
        "port",
        "retired",
        "scheme",
        "server_name",
        "share",
        "shared",
        "upstream",
        "weight",
        "zone",
    )

    def __init__(self, upstream: str, config: EndpointConfig, name: str = "") -> None:
        address = Address.of(config.url)
        self.upstream = upstream
        self.address = address
        self.name = name or address.names()[0]
        self.authority = address.authority
        self.scheme, self.host, self.port, self.path = address
        self.in_flight = 0
        self.idle: list[Any] = []
        self.shared: Any = None
        self.health = Health()
        self.duration: HistogramCell | None = None
        self.breaker: Breaker | None = None
        self.drained = self.retired = False
        self.configure(config)

    def __repr__(self) -> str:
        limit = f"/{self.max_connections}" if self.max_connections else ""
        backup = " draining" if self.draining else " backup" if self.backup else ""
        return (
            f"<Endpoint {self.upstream}/{self.name} {self.health.status}{backup}, "
            f"weight {self.weight:g}, {self.in_flight}{limit} in flight, {len(self.idle)} idle>"
        )

    def configure(self, config: EndpointConfig) -> None:
        """Take over what a reload may change."""
        self.weight = config.weight or 1.0
        self.share = self.weight
        self.drains = config.drain or not config.weight
        self.zone = config.zone
        self.max_connections = config.max_connections
        self.backup = config.backup
        self.server_name = config.server_name

    def status(self, now: float) -> dict[str, Any]:
        """Plain values for the admin API; `now` in monotonic seconds."""
        health = self.health
        return {
            "name": self.name,
            "url": self.address.url,
            "status": str(health.status),
            "weight": round(self.weight, 3),
            "backup": self.backup,
            "draining": self.draining,
            "zone": self.zone,
            "circuit": None if self.breaker is None else NAMES[self.breaker.state],
            "max_connections": self.max_connections,
            "in_flight": self.in_flight,
            "idle": len(self.idle),
            "last_error": health.error,
            "ejected_for": round(max(0.0, health.passive.until - now), 3),
            "checked_ago": None if health.checked is None else round(now - health.checked, 3),
            "check_seconds": None if health.checked is None else round(health.seconds, 6),
        }

    @property
    def draining(self) -> bool:
        """Return True if it gets no new requests."""
        return self.drains or self.drained

    def close_idle(self) -> None:
        """Close the idle connections; shared ones when they become idle."""
        while self.idle:
            self.idle.pop().close()
        if self.shared is not None:
            self.shared.retire()

    def retire(self) -> None:
        """Leave the pool: close idle connections, and those that become idle from now on."""
        self.retired = True
        self.close_idle()


def by_address(configs: Iterable[EndpointConfig]) -> dict[Address, EndpointConfig]:
    """Endpoints by address. One that is listed twice gets the sum of both weights."""
    merged: dict[Address, EndpointConfig] = {}
    for config in configs:
        address = Address.of(config.url)
        twin = merged.get(address)
        merged[address] = (
            config if twin is None else replace(twin, weight=twin.weight + config.weight)
        )
    return merged
