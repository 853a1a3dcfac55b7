"""What belongs to listeners: addresses, TLS, redirects to https, and the admin listener."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from marshmallow import ValidationError

from gateway.config.tables.declare import setting, table
from gateway.config.tables.schema import (
    Choice,
    HostName,
    HttpUrl,
    Items,
    Secret,
    Text,
    Whole,
    unix_path,
)

UNIX = "unix:"
_ANY_IPV4 = "0.0.0.0"  # noqa: S104 - compared with, never bound


class ListenAddress(NamedTuple):
    """A host and a port, or the path of a Unix socket. Port 0 takes any free one."""

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return f"{UNIX}{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def clashes(self, bound: Iterable[ListenAddress]) -> bool:
        """Return True if this cannot be listened on beside `bound`."""
        return any(
            one.port == self.port != 0
            and not one.path
            and (one.host == self.host or one._has(self.host) or self._has(one.host))
            for one in bound
        )

    def _has(self, host: str) -> bool:
        """Return True if this stands for all addresses of this machine, `host` among them."""
        return self.host == "::" or (self.host == _ANY_IPV4 and ":" not in host)


class AddressField(Text):
    """One address to listen on."""

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> Any:
        value = super()._deserialize(value, attr, data, **kwargs)
        if value.startswith(UNIX):
            return ListenAddress(path=unix_path(value))
        host, _, port = value.rpartition(":")
        bracketed = re.fullmatch(r"\[([0-9A-Fa-f:.]+(?:%[^\s\]]+)?)\]", host)
        host = bracketed[1] if bracketed else host
        if (
            not host
            or not (port.isascii() and port.isdigit())
            or int(port[:6]) > 65535
            or (":" in host) != bool(bracketed)
            or re.search(r"[\s\[\]/]", host)
        ):
            raise ValidationError(
                'must be an address and a port, such as "0.0.0.0:8080" or "[::]:8080", or a Unix '
                f'socket, "unix:/run/gateway.sock", not {value!r}'
            )
        return ListenAddress(host, int(port))


class FileMode(Text):
    """Permissions of a file in octal digits, such as "0660"."""

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> Any:
        value = super()._deserialize(value, attr, data, **kwargs)
        if not re.fullmatch(r"0?[0-7]{3}", value):
            raise ValidationError(f'must be permissions such as "0660", not {value!r}')
        return value


@table
class CertificateConfig:
    """One more certificate of the listener, chosen by the name a client asks for."""

    certificate: str = setting(doc="as above")
    key: str = setting(doc="as above")
    names: tuple[str, ...] = setting(
        Items(HostName()),
        default=(),
        doc='the names it is for (`"*.example.com"`: one label in front); its own when left out',
    )


@table
class TlsConfig:
    """TLS for clients. Paths are relative to gateway.toml."""

    certificate: str = setting(
        doc="PEM, with the chain; for clients that ask for no name of `certificates`"
    )
    key: str = setting(doc="its key, PEM, not encrypted")
    min_version: str = setting(Choice("1.2", "1.3"), default="1.2", doc="the least version of TLS")
    ciphers: str = setting(
        default="",
        doc="an OpenSSL cipher list for TLS 1.2; `ECDHE+AESGCM:ECDHE+CHACHA20` when left out",
    )
    client_ca: str = setting(
        default="", doc="PEM: authorities of client certificates; without it none is asked for"
    )
    client_auth: str | None = setting(
        Choice("required", "optional"),
        default=None,
        doc="whether clients must show one, `required` by default; a bad one is always refused",
    )
    certificates: tuple[CertificateConfig, ...] = setting(
        default=(),
        doc="more, chosen by the name a client asks for (SNI): `[[listen.tls.certificates]]`",
    )


def _redirect_status(status: int) -> None:
    if status not in (301, 302, 307, 308):
        raise ValidationError("must be 301, 302, 307 or 308")


@table
class RedirectConfig:
    """A second listener, for http, that redirects every request to https."""

    port: int = setting(Whole(least=0, most=65535), doc="usually 80; 0 takes any free one")
    host: str = setting(default="", doc="the address to bind; `[listen]`'s hosts when left out")
    status: int = setting(
        Whole(least=301, most=308), default=308, check=_redirect_status, doc="301, 302, 307 or 308"
    )
    https_port: int = setting(
        Whole(least=1, most=65535),
        default=0,
        doc="the port clients find https at; 0 is `[listen]`'s",
    )


@table
class ReaderConfig:
    """One who may look, and change nothing."""

    name: str = setting(doc="for the log")
    token: str = setting(Secret(), doc="what `Authorization: Bearer TOKEN` has to bring")


@table
class AdminMetricsConfig:
    """A listener for metrics, readiness and health alone."""

    host: str = setting(default="127.0.0.1", doc="the address to bind")
    port: int = setting(Whole(least=0, most=65535), default=9902, doc="0 takes any free one")


def _origins(values: tuple[str, ...]) -> None:
    for value in values:
        if value.count("/") != 2:
            raise ValidationError(
                f'must be origins such as "https://ops.example.com", not {value!r}'
            )


@table
class AdminConfig:
    """The admin listener."""

    host: str = setting(default="127.0.0.1", doc="the address to bind")
    port: int = setting(Whole(least=0, most=65535), default=9901, doc="0 takes any free one")
    token: str = setting(
        Secret(),
        default="",
        doc="every call then needs `Authorization: Bearer TOKEN`; the command line sends it",
    )
    readers: tuple[ReaderConfig, ...] = setting(
        default=(), doc="tokens that may look and change nothing: `[[admin.readers]]`"
    )
    hosts: tuple[str, ...] = setting(
        Items(HostName()),
        default=(),
        doc="names it may have without a token, beside addresses and names without a dot",
    )
    origins: tuple[str, ...] = setting(
        Items(HttpUrl()),
        default=(),
        check=_origins,
        doc="where copies of the dashboard are served from: their pages may ask, with a token: "
        '`["https://ops.example.com"]`',
    )
    audit: str = setting(
        default="",
        doc='a log of what was changed here and who was refused, a JSON object a line; `"-"` is '
        "standard output, a path is relative to this file",
    )
    metrics: AdminMetricsConfig | None = setting(
        default=None,
        doc="metrics, readiness and health on a listener of their own: `[admin.metrics]`",
    )
    tls: TlsConfig | None = setting(
        default=None, doc="TLS, as in `[listen.tls]`; for `metrics` too: `[admin.tls]`"
    )
