"""`[security_headers]`, and its presets."""

from __future__ import annotations

from gateway.config.tables.declare import setting, table
from gateway.config.tables.schema import Choice, Duration, FieldName, FieldValue, Items

_DEVICES = "accelerometer camera geolocation gyroscope magnetometer microphone payment usb"
_NO_DEVICES = ", ".join(f"{device}=()" for device in _DEVICES.split())

_MINIMAL = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "strict-origin-when-cross-origin",
}
_WEB = {
    **_MINIMAL,
    "Content-Security-Policy": (
        "default-src 'self'; base-uri 'self'; font-src 'self' https: data:; form-action 'self'; "
        "frame-ancestors 'none'; img-src 'self' data:; object-src 'none'; script-src 'self'; "
        "script-src-attr 'none'; style-src 'self' 'unsafe-inline'"
    ),
    "X-Frame-Options": "DENY",
    "Permissions-Policy": _NO_DEVICES,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-DNS-Prefetch-Control": "off",
    "X-Permitted-Cross-Domain-Policies": "none",
}
PRESETS: dict[str, dict[str, str]] = {
    "minimal": _MINIMAL,
    "web": _WEB,
    # What an API answers is data: nothing in it may run, load or be framed, and no cache may keep
    # what one caller was told.
    "api": {
        **_WEB,
        "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
        "Cache-Control": "no-store",
    },
}
"""The fields of each preset.

Strict-Transport-Security, which all have, is [security_headers.hsts]'s.
"""


@table
class HstsConfig:
    """Strict-Transport-Security (RFC 6797)."""

    max_age: float = setting(
        Duration(zero=True),
        default=365 * 86400.0,
        doc="how long browsers use https alone; 0 makes them forget",
    )
    include_subdomains: bool = setting(default=True, doc="whether that goes for all names below")
    preload: bool = setting(
        default=True, doc="whether browsers may ship with it; needs the two above"
    )
    always: bool = setting(
        default=False,
        doc="also over http, for when TLS ends in front of a gateway that is not told so",
    )


@table
class SecurityHeadersConfig:
    """A preset, and what differs from it by field name in lower case with underscores."""

    preset: str = setting(Choice(*PRESETS), default="api", doc="the fields to begin with")
    content_security_policy: str | None = setting(
        FieldValue(), default=None, doc="Content-Security-Policy"
    )
    x_frame_options: str | None = setting(
        Choice("DENY", "SAMEORIGIN"), default=None, doc="X-Frame-Options"
    )
    referrer_policy: str | None = setting(FieldValue(), default=None, doc="Referrer-Policy")
    permissions_policy: str | None = setting(FieldValue(), default=None, doc="Permissions-Policy")
    cross_origin_opener_policy: str | None = setting(
        FieldValue(), default=None, doc="Cross-Origin-Opener-Policy"
    )
    cross_origin_embedder_policy: str | None = setting(
        FieldValue(), default=None, doc="Cross-Origin-Embedder-Policy; in no preset"
    )
    cross_origin_resource_policy: str | None = setting(
        FieldValue(), default=None, doc="Cross-Origin-Resource-Policy"
    )
    cache_control: str | None = setting(
        FieldValue(), default=None, doc="Cache-Control, for answers that say nothing about it"
    )
    hsts: HstsConfig = setting(default=HstsConfig(), doc="`[security_headers.hsts]`")
    omit: tuple[str, ...] = setting(
        Items(FieldName()), default=(), doc="fields of the preset that are not sent"
    )
    remove: tuple[str, ...] = setting(
        Items(FieldName()),
        default=("X-Powered-By", "Server", "X-AspNet-Version", "X-AspNetMvc-Version"),
        doc="fields of upstreams that clients do not get",
    )
    override: bool = setting(
        default=False,
        doc="whether values of the upstream's own are replaced; otherwise they are kept",
    )
