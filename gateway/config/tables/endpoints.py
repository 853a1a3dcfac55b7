"""Where requests to an upstream go, as `upstreams.toml` says it: addresses, how they are found, chosen among and spoken to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from marshmallow import ValidationError, validates, validates_schema

from gateway.config.tables.schema import Boolean, Choice, Duration, FieldName, HttpUrl, Table, Text, Whole


@dataclass(frozen=True, slots=True)
class EndpointConfig:
    """One address. `weight` is relative to the others'; `max_connections` 0 means no limit.

    With `weight` 0 or `drain` it finishes what it has and gets nothing new. `zone` is where it stands.
    """

    url: str
    weight: int = 1
    max_connections: int = 0
    backup: bool = False
    drain: bool = False
    zone: str = ""


class EndpointTable(Table):
    makes = EndpointConfig
    url = HttpUrl(required=True)
    weight = Whole(least=0, most=65535)
    max_connections = Whole(least=0)
    backup = Boolean()
    drain = Boolean()
    zone = Text(empty=True)


@dataclass(frozen=True, slots=True)
class DiscoverConfig:
    """Where further endpoints come from, looked at every `every` seconds: a watched `file`, environment variables `env` (a name,
    "*" for any letters), `dns` ("host:port", every address of it; "_service._tcp.name", its SRV records; with `scheme`), and with
    `api` the admin API.
    """

    file: str = ""
    env: str = ""
    dns: str = ""
    api: bool = False
    every: float = 10.0
    scheme: str = "http"


class DiscoverTable(Table):
    makes = DiscoverConfig
    file = Text()
    env = Text()
    dns = Text()
    api = Boolean()
    every = Duration()
    scheme = Choice("http", "https")

    @validates("dns")
    def _dns(self, value: str, data_key: str) -> None:
        host, _, port = value.rpartition(":")
        if value.startswith("_") and not host and all(0 < len(label) < 64 for label in value.rstrip(".").split(".")):
            return  # Records of a service name their ports themselves.
        if not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise ValidationError('must be a name and a port, such as "cameras.internal:3001", or a service, "_http._tcp.name"')

    @validates_schema
    def _somewhere(self, data: dict[str, Any], **_: Any) -> None:
        if not (data.keys() & {"file", "env", "dns"} or data.get("api")):
            raise ValidationError("names no source: file, env, dns, or api = true")


@dataclass(frozen=True, slots=True)
class HashConfig:
    """What balance "hash" goes by: a `header`'s value or a `cookie`'s; the client's address where the request has none."""

    header: str = ""
    cookie: str = ""


class HashTable(Table):
    makes = HashConfig
    header = FieldName()
    cookie = FieldName()

    @validates_schema
    def _one(self, data: dict[str, Any], **_: Any) -> None:
        if len(data) != 1:
            raise ValidationError("needs either header or cookie")


@dataclass(frozen=True, slots=True)
class UpstreamTlsConfig:
    """TLS towards endpoints whose URL says https. Paths are relative to the file the table stands in.

    verify: whether they have to prove who they are, to `ca` (the system's authorities without one), as `server_name` (the host of
    their URL without one). certificate, key: what the gateway shows when it is asked.
    """

    verify: bool = True
    ca: str = ""
    server_name: str = ""
    certificate: str = ""
    key: str = ""
    min_version: str = "1.2"


class UpstreamTlsTable(Table):
    makes = UpstreamTlsConfig
    verify = Boolean()
    ca = Text()
    server_name = Text()
    certificate = Text()
    key = Text()
    min_version = Choice("1.2", "1.3")
