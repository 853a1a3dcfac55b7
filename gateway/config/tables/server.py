"""What `gateway.toml` says: where to listen, limits for strangers, the admin listener, the store, the shape of errors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import Any

from marshmallow import ValidationError, validates

from gateway.config.tables.schema import Boolean, Choice, Duration, Items, Network, Secret, Size, SubTable, Table, Text, Whole
from gateway.config.tables.tokens import TokensConfig, TokensTable


@dataclass(frozen=True, slots=True)
class CertificateConfig:
    """One more certificate, for clients that ask for one of `names`; () means the names it is made out to."""

    certificate: str
    key: str
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TlsConfig:
    """TLS for clients. `certificate` is for whoever asks for no name of `certificates`, or for none at all.

    Paths are relative to gateway.toml. ciphers: OpenSSL's list, for TLS 1.2. client_ca: whose client certificates are taken;
    client_auth: whether one is "required" (the default with client_ca) or "optional".
    """

    certificate: str
    key: str
    min_version: str = "1.2"
    ciphers: str = ""
    client_ca: str = ""
    client_auth: str | None = None
    certificates: tuple[CertificateConfig, ...] = ()


@dataclass(frozen=True, slots=True)
class RedirectConfig:
    """A listener for http that sends everybody to https, at `https_port` (0: the data plane's own port)."""

    port: int
    host: str = ""
    status: int = 308
    https_port: int = 0


@dataclass(frozen=True, slots=True)
class ListenConfig:
    """The data plane's address; `backlog` connections may wait to be accepted."""

    host: str = "127.0.0.1"
    port: int = 8080
    backlog: int = 1024
    proxy_protocol: bool = False
    """Whether every connection begins with who it comes from, as the PROXY protocol says it."""
    tls: TlsConfig | None = None
    redirect: RedirectConfig | None = None


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
    A body, or an answer the client takes, must get on by 1 KiB within body_timeout or write_timeout. Of max_connections,
    max_connections_per_ip and max_requests_per_connection 0 means no limit.
    """

    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = ()
    shutdown_timeout: float = 30.0
    shutdown_delay: float = 0.0
    max_header_size: int = 16 * 1024
    max_headers: int = 100
    max_uri: int = 8 * 1024
    header_timeout: float = 10.0
    idle_timeout: float = 75.0
    max_body: int = 1024**3
    body_timeout: float = 60.0
    write_timeout: float = 60.0
    max_connections: int = 16 * 1024
    max_connections_per_ip: int = 0
    max_requests_per_connection: int = 100_000


@dataclass(frozen=True, slots=True)
class RoutingConfig:
    """How paths are compared: `case_sensitive` letters; `trailing_slash` "strict" tells /a from /a/, "ignore" does not."""

    case_sensitive: bool = True
    trailing_slash: str = "strict"


@dataclass(frozen=True, slots=True)
class StoreConfig:
    """Where shared state lives; "memory://" is this process. `deadline`: seconds that a request waits for the store at most."""

    url: str = "memory://"
    deadline: float = 0.01


@dataclass(frozen=True, slots=True)
class ErrorsConfig:
    """The shape of error bodies: "problem" (RFC 9457), "envelope" or "success_envelope"."""

    format: str = "problem"


class CertificateTable(Table):
    makes = CertificateConfig
    certificate = Text(required=True)
    key = Text(required=True)
    names = Items(Text())


class TlsTable(Table):
    makes = TlsConfig
    certificate = Text(required=True)
    key = Text(required=True)
    min_version = Choice("1.2", "1.3")
    ciphers = Text()
    client_ca = Text()
    client_auth = Choice("required", "optional")
    certificates = Items(SubTable(CertificateTable))


class RedirectTable(Table):
    makes = RedirectConfig
    port = Whole(least=0, most=65535, required=True)
    host = Text()
    status = Whole(least=301, most=308)
    https_port = Whole(least=1, most=65535)

    @validates("status")
    def _status(self, value: int, data_key: str) -> None:
        if value not in (301, 302, 307, 308):
            raise ValidationError("must be 301, 302, 307 or 308")


class ListenTable(Table):
    makes = ListenConfig
    host = Text()
    port = Whole(least=0, most=65535)
    backlog = Whole(least=1, most=65535)
    proxy_protocol = Boolean()
    tls = SubTable(TlsTable)
    redirect = SubTable(RedirectTable)


class AdminTable(Table):
    makes = AdminConfig
    host = Text()
    port = Whole(least=0, most=65535)
    token = Secret()


class ServerTable(Table):
    makes = ServerConfig
    trusted_proxies = Items(Network())
    shutdown_timeout = Duration()
    shutdown_delay = Duration(zero=True)
    max_header_size = Size()
    max_headers = Whole(least=1, most=10_000)
    max_uri = Size()
    header_timeout = Duration()
    idle_timeout = Duration()
    max_body = Size()
    body_timeout = Duration()
    write_timeout = Duration()
    max_connections = Whole(least=0)
    max_connections_per_ip = Whole(least=0)
    max_requests_per_connection = Whole(least=0)


class RoutingTable(Table):
    makes = RoutingConfig
    case_sensitive = Boolean()
    trailing_slash = Choice("strict", "ignore")


class StoreUrl(Secret):
    """memory:// or the URL of a Redis; state.stores takes it apart."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        value = super()._deserialize(value, attr, data, **kwargs)
        if not re.fullmatch(r"memory://|(redis|rediss|redis\+sentinel|redis\+cluster)://\S+", value):
            raise ValidationError("must be memory://, or begin with redis://, rediss://, redis+sentinel:// or redis+cluster://")
        return value


class StoreTable(Table):
    makes = StoreConfig
    url = StoreUrl()
    deadline = Duration()


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
    tokens: TokensConfig | None = None


class GatewayTable(Table):
    makes = GatewayConfig
    include = Items(Text())
    listen = SubTable(ListenTable)
    admin = SubTable(AdminTable)
    server = SubTable(ServerTable)
    routing = SubTable(RoutingTable)
    store = SubTable(StoreTable)
    errors = SubTable(ErrorsTable)
    tokens = SubTable(TokensTable)
