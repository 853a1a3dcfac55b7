"""Tables of upstreams.toml: endpoints, and how they are found, chosen among and spoken to."""

from __future__ import annotations

from marshmallow import ValidationError

from gateway.config.tables.declare import setting, table
from gateway.config.tables.schema import (
    Choice,
    Duration,
    EndpointUrl,
    FieldName,
    HostName,
    Text,
    Whole,
)


@table
class EndpointConfig:
    """One address of an upstream."""

    url: str = setting(
        EndpointUrl(),
        doc='scheme, host and port, e.g. `"http://127.0.0.1:3001"`; or a Unix socket, '
        '`"unix:/run/app.sock"`. '
        "The path of an http URL is put in front of every path that is sent",
    )
    weight: int = setting(
        Whole(least=0, most=65535), default=1, doc="its share, relative to the others'; 0 drains it"
    )
    max_connections: int = setting(
        Whole(least=0), default=0, doc="requests at a time; 0 means no limit"
    )
    backup: bool = setting(default=False, doc="whether it serves only when no other endpoint can")
    drain: bool = setting(default=False, doc="whether it finishes what it has and gets nothing new")
    zone: str = setting(Text(empty=True), default="", doc="where it stands")
    server_name: str = setting(
        HostName(empty=True),
        default="",
        doc="the name to ask for (SNI) and to verify, in place of `tls.server_name`'s",
    )


def _dns(value: str) -> None:
    host, _, port = value.rpartition(":")
    if (
        value.startswith("_")
        and not host
        and all(0 < len(label) < 64 for label in value.rstrip(".").split("."))
    ):
        return  # SRV records name their ports themselves.
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValidationError(
            'must be a name and a port, such as "cameras.internal:3001", or a service, '
            '"_http._tcp.name"'
        )


@table
class DiscoverConfig:
    """Where an upstream's further endpoints come from."""

    file: str = setting(
        default="",
        doc="a file to watch, relative to this one: JSON (an array of URLs, or of tables like"
        " those of `endpoints`) when its name ends in `.json`, else a URL a line",
    )
    env: str = setting(
        default="",
        doc='an environment variable with one URL or more; `"CAMERA_*_URL"` takes all that match',
    )
    dns: str = setting(
        default="",
        check=_dns,
        doc='`"host:port"`: an endpoint for each of its addresses; '
        '`"_http._tcp.cameras.internal"`: one for each SRV record, with its weight, those'
        " of later priorities as backups",
    )
    api: bool = setting(default=False, doc="whether `POST /admin/services` may register endpoints")
    every: float = setting(
        Duration(),
        default=10.0,
        doc="between two looks; names sooner if their TTL is shorter, at most once a second",
    )
    scheme: str = setting(Choice("http", "https"), default="http", doc="of endpoints found by DNS")

    def check(self) -> None:
        if not (self.file or self.env or self.dns or self.api):
            raise ValidationError("names no source: file, env, dns, or api = true")


@table
class HashConfig:
    """What `balance = "hash"` goes by; the client's address where the request has neither."""

    header: str = setting(FieldName(), default="", doc="the header whose value keeps its endpoint")
    cookie: str = setting(FieldName(), default="", doc="the cookie whose value does")

    def check(self) -> None:
        if bool(self.header) == bool(self.cookie):
            raise ValidationError("needs either header or cookie")


@table
class UpstreamTlsConfig:
    """TLS towards endpoints whose URL says https. Paths are relative to the TOML file."""

    verify: bool = setting(
        default=True,
        doc="whether they must prove who they are; a warning without, for others may listen",
    )
    ca: str = setting(
        default="", doc="PEM: the authorities they prove it to; the system's when left out"
    )
    server_name: str = setting(
        HostName(empty=True),
        default="",
        doc="the name that is asked for (SNI) and proved; the host of the URL when left out",
    )
    certificate: str = setting(
        default="", doc="PEM: what the gateway shows when it is asked, then the chain"
    )
    key: str = setting(default="", doc="its key, PEM, not encrypted")
    min_version: str = setting(Choice("1.2", "1.3"), default="1.2", doc="the least version of TLS")
