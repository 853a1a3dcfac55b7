"""gateway.toml: the data plane, limits for clients, the store, error bodies, traces."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.util import find_spec
from ipaddress import IPv4Network, IPv6Network
from typing import Any

from marshmallow import ValidationError, fields

from gateway.config.tables.addresses import (
    AddressField,
    FileMode,
    ListenAddress,
    RedirectConfig,
    TlsConfig,
)
from gateway.config.tables.addresses import AdminConfig as AdminConfig
from gateway.config.tables.addresses import AdminMetricsConfig as AdminMetricsConfig
from gateway.config.tables.addresses import ReaderConfig as ReaderConfig
from gateway.config.tables.declare import setting, table
from gateway.config.tables.errors import ErrorsConfig
from gateway.config.tables.schema import (
    Choice,
    Duration,
    FieldName,
    HttpUrl,
    Items,
    Map,
    Network,
    Number,
    Secret,
    Size,
    Whole,
)
from gateway.config.tables.targets import ServicesConfig
from gateway.config.tables.tokens import TokensConfig
from gateway.config.versions import VersionBy, VersionByField

HTTP2_EXTRA = 'pip install "edge-gateway[http2]"'


@table
class ListenConfig:
    """The data plane's listener."""

    host: str = setting(
        default="127.0.0.1",
        doc='the address to bind; `"0.0.0.0"` is every IPv4 address, `"::"` every address of '
        "both families",
    )
    port: int = setting(Whole(least=0, most=65535), default=8080, doc="0 takes any free one")
    addresses: tuple[ListenAddress, ...] = setting(
        Items(AddressField()),
        default=(),
        doc="in place of `host` and `port`, as many as you like: "
        '`["0.0.0.0:8080", "[::]:8080", "unix:/run/gateway.sock"]`',
    )
    socket_mode: str = setting(
        FileMode(), default="0660", doc="who may connect to Unix sockets: the files' permissions"
    )
    backlog: int = setting(
        Whole(least=1, most=65535), default=1024, doc="connections that may wait to be accepted"
    )
    proxy_protocol: bool = setting(
        default=False,
        doc="every connection begins with a PROXY protocol preamble, version 1 or 2, before "
        "TLS; the address in it counts as the peer's. With `trusted_proxies` only those "
        "may connect. A connection that begins otherwise is closed",
    )
    http2: bool = setting(
        default=False,
        doc="speak HTTP/2 beside HTTP/1.1: by ALPN with `tls`, else with clients that begin with "
        "its preface; needs the extra `http2`",
    )
    extended_connect: bool = setting(
        default=False,
        doc="with `http2`, take WebSockets on streams of it (RFC 8441), as browsers and proxies "
        "may then do",
    )
    tls: TlsConfig | None = setting(
        default=None, doc="`[listen.tls]`; without it clients speak http"
    )
    redirect: RedirectConfig | None = setting(default=None, doc="`[listen.redirect]`")

    @classmethod
    def of_toml(cls, given: dict[str, Any]) -> ListenConfig:
        addresses = given.get("addresses", ())
        if addresses and given.keys() & {"host", "port"}:
            raise ValidationError("takes the place of host and port", "addresses")
        for index, one in enumerate(addresses):
            if one in addresses[:index] and (one.port or one.path):
                raise ValidationError(f"{one} is there twice", "addresses")
        if given.get("extended_connect") and not given.get("http2"):
            raise ValidationError("means nothing without http2", "extended_connect")
        if given.get("http2") and find_spec("ngh2") is None:
            raise ValidationError(f"needs the extra: {HTTP2_EXTRA}", "http2")
        return cls(**given)

    @property
    def bound(self) -> tuple[ListenAddress, ...]:
        """Where to listen."""
        return self.addresses or (ListenAddress(self.host, self.port),)

    @property
    def redirected(self) -> tuple[ListenAddress, ...]:
        """Where to listen for the http that `redirect` sends to https."""
        if self.redirect is None:
            return ()
        hosts = [self.redirect.host] if self.redirect.host else [one.host for one in self.bound]
        return tuple(
            ListenAddress(host, self.redirect.port) for host in dict.fromkeys(hosts) if host
        )


class WorkersField(fields.Field[Any]):
    """A number of processes, or "auto"."""

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> Any:
        if value == AUTO:
            return AUTO
        try:
            return Whole(least=1, most=MAX_WORKERS).deserialize(value)
        except ValidationError:
            raise ValidationError(
                f'must be a whole number from 1 to {MAX_WORKERS}, or "{AUTO}"'
            ) from None


AUTO = "auto"
MAX_WORKERS = 256


@table
class ServerConfig:
    """Limits and times of client connections. Times in seconds, sizes in bytes."""

    workers: int | str = setting(
        WorkersField(),
        default=1,
        doc='processes that serve; `"auto"` is one for each core that the gateway may use. More '
        "than one work under a supervisor, see [workers.md](workers.md). A reload changes "
        "the number, but from or to 1 takes a restart",
    )
    trusted_proxies: tuple[IPv4Network | IPv6Network | str, ...] = setting(
        Items(Network(unix=True)),
        default=(),
        doc='addresses and networks whose X-Forwarded-For is believed, e.g. `["10.0.0.0/8"]`; '
        '`"unix"` is all that comes over Unix sockets.'
        " It is read from the right: the first address that is not trusted is the client",
    )
    shutdown_timeout: float = setting(
        Duration(), default=30.0, doc="how long a stop waits for exchanges in progress"
    )
    shutdown_delay: float = setting(
        Duration(zero=True),
        default=0.0,
        doc="how long before that it goes on accepting while /admin/ready answers 503 and "
        "replies say Connection: close, so that a balancer in front can turn away",
    )
    watch: float = setting(
        Duration(zero=True),
        default=0.0,
        doc="how often to look at the files of the configuration, and reload when they have "
        "changed and stay so until the next look, as with HUP; 0 only reloads when told to. For "
        "a ConfigMap of Kubernetes",
    )
    max_header_size: int = setting(
        Size(), default=16 * 1024, doc="of all header fields together, and of each; 431 beyond it"
    )
    max_headers: int = setting(
        Whole(least=1, most=10_000), default=100, doc="fields in one request; 431 beyond it"
    )
    max_uri: int = setting(Size(), default=8 * 1024, doc="of the request target; 414 beyond it")
    header_timeout: float = setting(Duration(), default=10.0, doc="for a request's head to arrive")
    idle_timeout: float = setting(
        Duration(), default=75.0, doc="for the next request on a kept-alive connection"
    )
    max_body: int = setting(
        Size(),
        default=1024**3,
        doc="of a request; 413 beyond it. `validation.max_body` can be smaller, route by route",
    )
    body_timeout: float = setting(
        Duration(),
        default=60.0,
        doc="in which a body must get on by 1 KiB or end; then 408, and the connection ends",
    )
    write_timeout: float = setting(
        Duration(),
        default=60.0,
        doc="in which a client must take 1 KiB, or what is left; then the connection ends",
    )
    max_connections: int = setting(
        Whole(least=0),
        default=16 * 1024,
        doc="of clients, at a time; more are answered 503 with Retry-After and closed, over "
        "TLS closed before the handshake. 0 means no limit",
    )
    max_connections_per_ip: int = setting(
        Whole(least=0),
        default=0,
        doc="of one address (IPv6: one /64), at a time; more are answered 429 likewise. "
        "`trusted_proxies` are exempt. 0 means no limit: behind one address may be many",
    )
    max_abuse_per_ip: int = setting(
        Whole(least=0),
        default=10,
        doc="connections of one address (IPv6: one /64) that may be ended for abuse of HTTP/2, see "
        "[http.md](http.md#http2): so many at once, and one a second more. Beyond it new ones of "
        "this address are closed, unread, for `abuse_penalty`. `trusted_proxies` and Unix sockets "
        "are exempt. 0 means no limit",
    )
    abuse_penalty: float = setting(
        Duration(),
        default=30.0,
        doc="how long an address is refused, from the last of its connections that was ended for "
        "abuse. Keep it short: behind one address may be many",
    )
    request_id: str = setting(
        Choice("hex", "uuid"),
        default="hex",
        doc="how X-Request-ID looks where a client sends none: 32 hexadecimal digits, or a UUID",
    )
    max_requests_per_connection: int = setting(
        Whole(least=0),
        default=100_000,
        doc="the last one's answer closes the connection. 0 means no limit",
    )
    state_dir: str = setting(
        default="",
        doc="a directory for what the gateway itself writes down, relative to this file: "
        "services registered at run time and usage, where `[store]` keeps none",
    )
    retention: float = setting(
        Duration(),
        default=30 * 86400.0,
        doc='how long `builtin = "usage"` and `gateway why` remember',
    )
    why: int = setting(
        Whole(least=0, most=1_000_000),
        default=10_000,
        doc="refused, failed and slow requests that `gateway why` remembers, the last ones, in some"
        " 15 MB; see [explain.md](explain.md). 0 remembers none",
    )
    slow: float = setting(
        Duration(), default=5.0, doc="from which on `gateway why` remembers a request as slow"
    )


@table
class RoutingConfig:
    """How paths are compared."""

    case_sensitive: bool = setting(
        default=True, doc="whether `/Cameras` is another path than `/cameras`"
    )
    trailing_slash: str = setting(
        Choice("strict", "ignore", "redirect"),
        default="strict",
        doc=(
            '`"ignore"` makes `/cameras/` the same path as `/cameras`; `"redirect"` sends the '
            "one to the other with 308"
        ),
    )
    encoded_slash: str = setting(
        Choice("refuse", "keep"),
        default="refuse",
        doc="`refuse`: 400 where `%2F` as a slash is another route; `keep`: it is data (`a%2Fb`)",
    )
    version_by: VersionBy = setting(
        VersionByField(),
        default=VersionBy(),
        doc='how requests name the `version` they want: `"path"`, `"media_type"` (in Accept), '
        '`{ header = "X-API-Version" }`; `default = "1"` is for those that name none',
    )
    uppercase_methods: bool = setting(
        default=False, doc="take `get` for `GET`, and so on; `false`: such methods are 400"
    )


class StoreUrlField(Secret):
    """memory:// or the URL of a Redis; store/stores.py parses it."""

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> Any:
        value = super()._deserialize(value, attr, data, **kwargs)
        if not re.fullmatch(
            r"memory://|(redis|rediss|redis\+sentinel|redis\+cluster)://\S+", value
        ):
            raise ValidationError(
                "must be memory://, or begin with redis://, rediss://, redis+sentinel:// or "
                "redis+cluster://"
            )
        return value


@table
class StoreConfig:
    """Where shared state lives."""

    url: str = setting(
        StoreUrlField(),
        default="memory://",
        doc="`memory://` is this gateway, all its workers; `redis://user:password@host:6379/0`, "
        "`rediss://` (TLS), `redis+sentinel://host,host/service`, `redis+cluster://host,host`: "
        "limits are shared with all gateways that use it, see [limits.md](limits.md)",
    )
    deadline: float = setting(
        Duration(), default=0.01, doc="how long a request waits for the store at most"
    )


@table
class ProcessLogConfig:
    """The process's own log, on standard error: starts, reloads, endpoints, errors."""

    format: str = setting(
        Choice("text", "json"),
        default="text",
        doc="`json`: one object a line. What is logged before this is read is text",
    )
    level: str = setting(
        Choice("debug", "info", "warning", "error"), default="info", doc="the least that is logged"
    )


@table
class LogsConfig:
    """Logs of the gateway itself; requests are logged by the middleware `logging`."""

    process: ProcessLogConfig = setting(
        default=ProcessLogConfig(), doc="on standard error: `[logging.process]`"
    )


@table
class TracingConfig:
    """Spans for an OpenTelemetry collector; requests are not traced without this table."""

    otlp: str = setting(
        HttpUrl(),
        doc="the collector, by OTLP over HTTP with protobuf: `http://127.0.0.1:4318`; `/v1/traces` "
        "is added",
    )
    sample: float = setting(
        Number(least=0, most=1),
        default=1.0,
        doc="the share of requests that is recorded. One that comes by a trusted proxy with a "
        "traceparent is recorded if that says so",
    )
    service: str = setting(default="edge-gateway", doc="`service.name` of the spans")
    headers: Mapping[str, str] = setting(
        Map(keys=FieldName(), values=Secret()),
        default_factory=dict,
        doc='more header fields for the collector: `{ Authorization = "${OTLP_TOKEN}" }`',
    )


@table
class GatewayConfig:
    """`gateway.toml` itself."""

    include: tuple[str, ...] = setting(
        default=("upstreams.toml", "pipelines/*.toml"),
        doc="files and glob patterns with the upstreams and pipelines, relative to this file."
        " A file with `name`, `request`, `response`, `error` or `route` is a pipeline; "
        "others hold `[upstream.NAME]` tables",
    )
    listen: ListenConfig = setting(default=ListenConfig(), doc="where clients come in: `[listen]`")
    admin: AdminConfig | None = setting(
        default=AdminConfig(), doc="where operators come in: `[admin]`"
    )
    server: ServerConfig = setting(
        default=ServerConfig(), doc="limits and times of client connections: `[server]`"
    )
    routing: RoutingConfig = setting(
        default=RoutingConfig(), doc="how paths are compared: `[routing]`"
    )
    store: StoreConfig = setting(default=StoreConfig(), doc="where shared state lives: `[store]`")
    errors: ErrorsConfig = setting(
        default=ErrorsConfig(), doc="what error bodies look like: `[errors]`"
    )
    logging: LogsConfig = setting(default=LogsConfig(), doc="the gateway's own log: `[logging]`")
    services: ServicesConfig | None = setting(
        default=None, doc="services registered at run time: `[services]`"
    )
    tokens: TokensConfig | None = setting(
        default=None, doc="the gateway as an issuer of tokens: `[tokens]`"
    )
    tracing: TracingConfig | None = setting(
        default=None, doc="spans for an OpenTelemetry collector: `[tracing]`"
    )
