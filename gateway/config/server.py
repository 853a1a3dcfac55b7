"""What `gateway.toml` says: where to listen, limits for strangers, the admin listener, the store, the shape of errors."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

from gateway.config.schema import Boolean, Choice, Duration, Items, Network, Secret, Size, SubTable, Table, Text, Whole


@dataclass(frozen=True, slots=True)
class ListenConfig:
    """The data plane's address; `backlog` connections may wait to be accepted."""

    host: str = "127.0.0.1"
    port: int = 8080
    backlog: int = 1024


@dataclass(frozen=True, slots=True)
class AdminConfig:
    """The admin listener's address. With `token`, every call needs `Authorization: Bearer <token>`."""

    host: str = "127.0.0.1"
    port: int = 9901
    token: str = ""


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """Limits and times of client connections. Times in seconds, sizes in bytes.

    max_header_size bounds all header fields together and each of them; max_headers their number; max_uri the request target.
    """

    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = ()
    shutdown_timeout: float = 30.0
    max_header_size: int = 16 * 1024
    max_headers: int = 100
    max_uri: int = 8 * 1024
    header_timeout: float = 10.0
    idle_timeout: float = 75.0
    max_body: int = 1024**3


@dataclass(frozen=True, slots=True)
class RoutingConfig:
    """How paths are compared: `case_sensitive` letters; `trailing_slash` "strict" tells /a from /a/, "ignore" does not."""

    case_sensitive: bool = True
    trailing_slash: str = "strict"


@dataclass(frozen=True, slots=True)
class StoreConfig:
    """Where shared state lives; "memory://" is this process."""

    url: str = "memory://"


@dataclass(frozen=True, slots=True)
class ErrorsConfig:
    """The shape of error bodies: "problem" (RFC 9457), "envelope" or "success_envelope"."""

    format: str = "problem"


class ListenTable(Table):
    makes = ListenConfig
    host = Text()
    port = Whole(least=0, most=65535)
    backlog = Whole(least=1, most=65535)


class AdminTable(Table):
    makes = AdminConfig
    host = Text()
    port = Whole(least=0, most=65535)
    token = Secret()


class ServerTable(Table):
    makes = ServerConfig
    trusted_proxies = Items(Network())
    shutdown_timeout = Duration()
    max_header_size = Size()
    max_headers = Whole(least=1, most=10_000)
    max_uri = Size()
    header_timeout = Duration()
    idle_timeout = Duration()
    max_body = Size()


class RoutingTable(Table):
    makes = RoutingConfig
    case_sensitive = Boolean()
    trailing_slash = Choice("strict", "ignore")


class StoreTable(Table):
    makes = StoreConfig
    url = Choice("memory://")


class ErrorsTable(Table):
    makes = ErrorsConfig
    format = Choice("problem", "envelope", "success_envelope")


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """`gateway.toml` itself. `include` are paths and glob patterns relative to it."""

    include: tuple[str, ...] = ("upstreams.toml", "pipelines/*.toml")
    listen: ListenConfig = ListenConfig()
    admin: AdminConfig | None = AdminConfig()
    server: ServerConfig = ServerConfig()
    routing: RoutingConfig = RoutingConfig()
    store: StoreConfig = StoreConfig()
    errors: ErrorsConfig = ErrorsConfig()


class GatewayTable(Table):
    makes = GatewayConfig
    include = Items(Text())
    listen = SubTable(ListenTable)
    admin = SubTable(AdminTable)
    server = SubTable(ServerTable)
    routing = SubTable(RoutingTable)
    store = SubTable(StoreTable)
    errors = SubTable(ErrorsTable)
