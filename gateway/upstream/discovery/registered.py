"""Registered services: which upstreams a set of registrations makes. Pure.

A registration is one address of a service; a service's later registrations decide about its
health check, time-out and breaker. They are kept in kept.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from ipaddress import ip_address
from urllib.parse import urlsplit

from marshmallow import ValidationError

from gateway.config.tables.endpoints import EndpointConfig
from gateway.config.tables.health import BreakerConfig, HealthConfig
from gateway.config.tables.schema import schema_of
from gateway.config.tables.targets import SERVICE_NAME, ServiceConfig, ServicesConfig
from gateway.config.tables.upstream import UpstreamConfig
from gateway.upstream.pool.endpoint import Address

REGISTRATIONS_MAX = 1000

Registrations = tuple[ServiceConfig, ...]

_NUMERIC = re.compile(r"(?:.*\.)?(?:\d+|0[xX][0-9a-fA-F]*)\.?")
"""Hosts that resolvers take for an IPv4 address in an unusual spelling (inet_aton(3))."""


class Unregistered(ValueError):
    """A registration that cannot be taken; the message says why."""


def added(registrations: Registrations, one: ServiceConfig) -> Registrations:
    """Return them with `one`, which replaces that of the same name and address. Raises
    Unregistered."""
    others = removed(registrations, one.name, one.url)
    if len(others) >= REGISTRATIONS_MAX:
        raise Unregistered(f"there are {REGISTRATIONS_MAX} registrations already")
    return (*others, one)


def removed(registrations: Registrations, name: str, url: str = "") -> Registrations:
    """Return them without that address of a service; without a URL, without the service."""
    gone = Address.of(url) if url else None
    return tuple(
        one
        for one in registrations
        if one.name != name or (gone is not None and Address.of(one.url) != gone)
    )


def refusal(url: str, config: ServicesConfig) -> str:
    """Return why a service may not lie there, "" where it may.

    A name is judged as it is written: what it resolves to is known when connections are opened
    only. So who must bound where registrations lead says in `allow` which names there are.
    """
    host = (urlsplit(url).hostname or "").rstrip(".")
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        if _NUMERIC.fullmatch(host):
            return f"{host!r} is no host's name and no address"
        if config.allow and not any(
            isinstance(place, str) and fnmatchcase(host, place) for place in config.allow
        ):
            return f"{host!r} is not among [services] allow"
        return ""
    plain = getattr(address, "ipv4_mapped", None) or address
    if plain.is_link_local or plain.is_multicast or plain.is_unspecified:
        return f"{host!r} is no address of a service"
    if config.allow and not any(
        not isinstance(place, str) and plain in place for place in config.allow
    ):
        return f"{host!r} is not among [services] allow"
    return ""


def in_environment(pattern: str, environ: Mapping[str, str]) -> Registrations:
    """Return the services whose URLs are in variables; `pattern` as in ServicesConfig.env.

    Raises Unregistered for a value that is no URL.
    """
    found: Registrations = ()
    if not pattern:
        return found
    before, _, after = pattern.partition("*")
    schema = schema_of(ServiceConfig)()
    for variable in sorted(environ):
        middle = variable[len(before) : len(variable) - len(after)]
        if not (variable.startswith(before) and variable.endswith(after) and middle):
            continue
        name = middle.strip("_").lower().replace("_", "-")
        if not SERVICE_NAME.fullmatch(name):
            continue
        for url in environ[variable].replace(",", " ").split():
            full = url if "://" in url else f"http://{url}"
            try:
                found = added(found, schema.load({"name": name, "url": full}))
            except ValidationError as error:
                raise Unregistered(f"${variable}: {error.messages}") from None
    return found


def upstreams(
    registrations: Iterable[ServiceConfig], like: UpstreamConfig | None
) -> dict[str, UpstreamConfig]:
    """Return the upstreams that they make, by name."""
    by_name: dict[str, list[ServiceConfig]] = {}
    for one in registrations:
        by_name.setdefault(one.name, []).append(one)
    return {name: _upstream(name, found, like) for name, found in by_name.items()}


def _upstream(name: str, found: list[ServiceConfig], like: UpstreamConfig | None) -> UpstreamConfig:
    base = like or UpstreamConfig(circuit_breaker=BreakerConfig())
    made = replace(
        base,
        name=name,
        url="",
        endpoints=tuple(EndpointConfig(one.url, one.weight) for one in found),
        discover=None,
    )
    last = found[-1]
    if last.health_endpoint:
        made = replace(
            made, health=replace(base.health or HealthConfig(), path=last.health_endpoint)
        )
    if last.timeout is not None:
        made = replace(made, timeouts=replace(base.timeouts, read=last.timeout))
    if not last.circuit_breaker_enabled:
        made = replace(made, circuit_breaker=None)
    return made
