"""Upstreams in the admin API: what there is, and what is registered at run time.

`{"name", "url", ...}` registers a service: an upstream of its own, to which {service} routes lead.
`{"service", "url", ...}` adds an endpoint to an upstream of the configuration.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web
from marshmallow import Schema, ValidationError, fields

from gateway.admin import answers
from gateway.admin.answers import answer, described, problem
from gateway.admin.arguments import BODY, QUERY, faults
from gateway.admin.openapi import Answer, Endpoint, refusal
from gateway.admin.state import STATE
from gateway.config.tables.endpoints import EndpointConfig
from gateway.config.tables.schema import EndpointUrl, HttpUrl, schema_of
from gateway.config.tables.targets import ServiceConfig
from gateway.config.toml.problems import ConfigErrors
from gateway.upstream.discovery.kept import Unkept
from gateway.upstream.discovery.registered import Unregistered
from gateway.upstream.pool.endpoint import Address


async def services(request: web.Request) -> web.StreamResponse:
    """Every upstream and its endpoints."""
    state = request.app[STATE]
    await state.refresh()
    upstreams = state.health()["upstreams"]
    return answer(
        answers.Services, {"services": [{"name": name, **one} for name, one in upstreams.items()]}
    )


async def service(request: web.Request) -> web.StreamResponse:
    """One of them."""
    name = request.match_info["service"]
    state = request.app[STATE]
    await state.refresh()
    found = state.health()["upstreams"].get(name)
    if found is None:
        return problem(404, f"There is no upstream {name!r}.")
    return answer(answers.Upstream, {"name": name, **found})


async def register(request: web.Request) -> web.StreamResponse:
    """Register a service, or an endpoint of an upstream."""
    asked = request[BODY]
    try:
        if "service" in asked:
            return _register_endpoint(request, asked)
        one: ServiceConfig = schema_of(ServiceConfig)().load(asked)
    except ValidationError as error:
        return problem(422, "; ".join(faults(error.messages_dict)))
    state = request.app[STATE]
    known = state.health()["upstreams"].get(one.name)
    if known is not None and not known.get("registered"):
        added = state.register(one.name, EndpointConfig(one.url, one.weight))
        done = _registered(one.name, one.url, kept=False)
        return changed(one.name, added, "is one of the configuration's", done)
    try:
        kept = await state.register_service(one)
    except Unregistered as error:
        return problem(422, f"{error}.")
    except (Unkept, ConfigErrors) as error:
        return _unable(error)
    return _registered(one.name, one.url, kept=kept)


def _register_endpoint(request: web.Request, asked: dict[str, Any]) -> web.Response:
    """Raises ValidationError."""
    config: EndpointConfig = schema_of(EndpointConfig)().load(
        {key: value for key, value in asked.items() if key != "service"}
    )
    name = asked["service"]
    unable = "takes no endpoints here: its discover.api is not true"
    done = _registered(name, config.url, kept=False)
    return changed(name, request.app[STATE].register(name, config), unable, done)


async def deregister(request: web.Request) -> web.StreamResponse:
    """Take a registered service out, or one address of it or of an upstream."""
    name, url = request.match_info["service"], request[QUERY]["url"]
    state = request.app[STATE]
    known = state.health()["upstreams"].get(name) or {}
    try:
        if url or not known.get("registered"):
            HttpUrl().deserialize(url)
    except ValidationError as error:
        return problem(422, f"url: {error}")
    try:
        gone = state.deregister(name, url) or await state.deregister_service(name, url)
    except (Unkept, ConfigErrors) as error:
        return _unable(error)
    if not gone:
        return problem(404, f"{url!r} was not registered with {name!r}.")
    return answer(answers.Registered, {"service": name, "name": name, "url": url})


async def drain(request: web.Request) -> web.StreamResponse:
    """Give an endpoint no new requests."""
    return await _drained(request, drained=True)


async def undrain(request: web.Request) -> web.StreamResponse:
    """Give it requests again."""
    return await _drained(request, drained=False)


async def _drained(request: web.Request, *, drained: bool) -> web.Response:
    name, state = request.match_info["service"], request.app[STATE]
    url = request[BODY]["url"]
    done = state.drain(name, url, drained)
    if not done:
        what = "upstream" if done is None else f"endpoint {url!r} in the upstream"
        return problem(404, f"There is no {what} {name!r}.")
    await state.refresh()
    endpoints = state.health()["upstreams"][name]["endpoints"]
    there: Mapping[str, Any] = next((one for one in endpoints if same(one["url"], url)), {})
    value = {
        "service": name,
        "url": url,
        "draining": there.get("draining", drained),
        "in_flight": there.get("in_flight", 0),
        "eligible": sum(1 for one in endpoints if one.get("eligible")),
    }
    return answer(answers.Drained, value)


def same(one: str, other: str) -> bool:
    """Return True if two URLs are of one endpoint."""
    return Address.of(one) == Address.of(other)


def changed(name: str, outcome: bool | None, unable: str, done: web.Response) -> web.Response:
    """Return the answer to a change of an upstream.

    `outcome` None: there is no such upstream. False: it is `unable`.
    """
    if outcome is None:
        return problem(404, f"There is no upstream {name!r}.")
    return done if outcome else problem(409, f"Upstream {name!r} {unable}.")


def _registered(name: str, url: str, *, kept: bool) -> web.Response:
    value = {"service": name, "name": name, "url": url, "kept": kept}
    return answer(answers.Registered, value, 201)


def _unable(error: Unkept | ConfigErrors) -> web.Response:
    if isinstance(error, Unkept):
        return problem(503, f"{error}.")
    return problem(409, f"The configuration cannot be taken with it: {error.problems[0]}")


class One(Schema):
    """An endpoint of an upstream."""

    url = EndpointUrl(required=True, metadata=described("As configured"))


class At(Schema):
    """The query of a registration's end."""

    url = fields.String(
        load_default="", metadata=described("The address; all of a service's if left out")
    )


NO_UPSTREAM = refusal(404, "There is no such upstream")

ENDPOINTS = (
    Endpoint(
        "GET",
        "/admin/services",
        services,
        "Upstreams and their endpoints",
        (Answer(200, "All", answers.Services),),
    ),
    Endpoint(
        "GET",
        "/admin/services/{service}",
        service,
        "An upstream and its endpoints",
        (Answer(200, "It", answers.Upstream), NO_UPSTREAM),
    ),
    Endpoint(
        "POST",
        "/admin/services",
        register,
        (
            "Registers a service (name), or an endpoint with an upstream (service); changes the "
            "one at its address"
        ),
        (
            Answer(201, "Registered", answers.Registered),
            NO_UPSTREAM,
            refusal(409, "An upstream of the configuration, whose discover.api is not true"),
            refusal(422, "No service and no endpoint, or where none may lie"),
            refusal(503, "It cannot be kept"),
        ),
        body=answers.Registration,
    ),
    Endpoint(
        "DELETE",
        "/admin/services/{service}",
        deregister,
        "Takes a registered service out, or what is registered at the query's `url`",
        (
            Answer(200, "Taken out", answers.Registered),
            refusal(404, "It was not registered"),
            refusal(409, "The configuration needs it"),
            refusal(422, "Not a URL"),
            refusal(503, "That cannot be kept"),
        ),
        query=At,
    ),
    *(
        Endpoint(
            "POST",
            f"/admin/services/{{service}}/{handler.__name__}",
            handler,
            summary,
            (
                Answer(200, "Done", answers.Drained),
                refusal(404, "There is no such upstream, or no such endpoint"),
                refusal(422, "Not a URL"),
            ),
            body=One,
        )
        for handler, summary in (
            (drain, "Gives the endpoint at the body's `url` no new requests, until a restart"),
            (undrain, "Gives the endpoint at the body's `url` requests again"),
        )
    ),
)
