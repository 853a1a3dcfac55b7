"""Purging caches in the admin API.

`{"url": [...], "prefix": [...], "tag": [...], "all": true, "soft": true}`, any of them; one string
in place of an array will do.
"""

from __future__ import annotations

import logging
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web
from marshmallow import INCLUDE, Schema, fields

from gateway.admin import answers
from gateway.admin.answers import answer, described, problem
from gateway.admin.arguments import BODY
from gateway.admin.openapi import Answer, Endpoint, refusal
from gateway.admin.state import STATE
from gateway.store.purges import Purge
from gateway.store.stores import StoreDown

log = logging.getLogger("gateway.admin")

MAX_NAMES = 1000
"""Names in one request."""
DEFAULT_PORTS = {"http": 80, "https": 443}
_KEYS = ("url", "prefix", "tag", "all", "soft")


class PurgeBody(Schema):
    """What to purge; `purges_of` says what is wrong with it."""

    class Meta:
        unknown = INCLUDE

    error_messages = {"type": "The body must be a JSON object."}  # noqa: RUF012

    url = fields.Raw(metadata=described("URLs or paths, one or an array"))
    prefix = fields.Raw(metadata=described("What URLs or paths begin with, one or an array"))
    tag = fields.Raw(metadata=described("Tags, one or an array"))
    all = fields.Raw(metadata=described("true: everything"))
    soft = fields.Raw(metadata=described("true: answers stay, and are stale"))


async def purge(request: web.Request) -> web.StreamResponse:
    """Take answers out of the caches, or make them stale."""
    try:
        purges = purges_of(request[BODY])
    except ValueError as error:
        return problem(422, str(error))
    try:
        done = await request.app[STATE].purge(purges)
    except StoreDown as error:
        return problem(503, f"Purged here, but other gateways are not told: {error}.")
    if not done:
        return problem(409, "Nothing is cached here: no pipeline has caching.")
    log.info("purged by an operator: %s", ", ".join(f"{one.kind} {one.value}" for one in purges))
    names = [{"kind": one.kind, "value": one.value} for one in purges]
    return answer(answers.Purged, {"purged": names, "soft": purges[0].soft})


def purges_of(said: Any) -> list[Purge]:
    """Return what a request's body asks for. Raises ValueError that says what is wrong with it."""
    if not isinstance(said, dict):
        raise ValueError("The body must be a JSON object.")
    for key in said:
        if key not in _KEYS:
            raise ValueError(f"{key}: there is no such key; there are {', '.join(_KEYS)}.")
    for key in ("all", "soft"):
        if not isinstance(said.get(key, False), bool):
            raise ValueError(f"{key}: must be true or false.")
    soft = said.get("soft", False)
    made = [Purge(key, value, soft) for key in _KEYS[:3] for value in _names(key, said.get(key))]
    if said.get("all"):
        made.append(Purge("all", "", soft))
    if not made:
        raise ValueError("One of url, prefix, tag and all must say what to purge.")
    if len(made) > MAX_NAMES:
        raise ValueError(f"At most {MAX_NAMES} names at once.")
    return made


def _names(key: str, said: Any) -> list[str]:
    listed = [] if said is None else said if isinstance(said, list) else [said]
    if not all(isinstance(value, str) and value for value in listed):
        raise ValueError(f"{key}: must be text, or an array of texts.")
    return [_tag(value) if key == "tag" else _address(key, value) for value in listed]


def _tag(value: str) -> str:
    if "," in value or value.split() != [value]:
        raise ValueError("tag: holds commas or spaces; those stand between tags.")
    return value


def _address(key: str, value: str) -> str:
    """Return a URL or a path as the cache knows it."""
    if value.startswith("/") and not value.startswith("//"):
        return value
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
        raise ValueError(f'{key}: must be "https://host/path" or "/path", not {value!r}.')
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    if port not in (None, DEFAULT_PORTS[parts.scheme]):
        host += f":{port}"
    path = parts.path or ("/" if key == "url" else "")
    return f"{parts.scheme}://{host}{path}" + (f"?{parts.query}" if parts.query else "")


ENDPOINTS = (
    Endpoint(
        "POST",
        "/admin/purge",
        purge,
        "Takes answers out of the caches, by url, prefix, tag or all; with soft they are stale",
        (
            Answer(200, "Purged", answers.Purged),
            refusal(409, "Nothing is cached here"),
            refusal(422, "What to purge is not said, or not understood"),
            refusal(503, "Purged here, but the store that others share does not answer"),
        ),
        body=PurgeBody,
    ),
)
