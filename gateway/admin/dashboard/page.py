"""The dashboard's page and its files, what feeds it, and a browser's session."""

from __future__ import annotations

from aiohttp import web
from marshmallow import Schema, fields

from gateway.admin.answers import answer, described, problem
from gateway.admin.arguments import BODY
from gateway.admin.dashboard.live import Live
from gateway.admin.dashboard.sessions import SECONDS, issue
from gateway.admin.guard import ANYONE, CALLER, Access, without_header
from gateway.admin.openapi import Answer, Endpoint, refusal
from gateway.pages.assets import PAGES, POLICY, Asset, assets

LIVE: web.AppKey[Live] = web.AppKey("live", Live)
ACCESS: web.AppKey[Access] = web.AppKey("access", Access)
PAGE = "dashboard"


class SessionAnswer(Schema):
    """A browser's session."""

    known = fields.Boolean(required=True, metadata=described("Whether the caller may look"))
    writes = fields.Boolean(required=True, metadata=described("Whether it may change something"))
    name = fields.String(metadata=described("Who it is: operator, or a reader's name"))
    needed = fields.Boolean(required=True, metadata=described("Whether a token is needed at all"))


class Login(Schema):
    """What a session is begun with."""

    token = fields.String(required=True, metadata=described("A token of [admin]"))


async def page(request: web.Request) -> web.StreamResponse:
    return _file(request, assets(PAGE)[PAGES[PAGE][0]])


async def page_file(request: web.Request) -> web.StreamResponse:
    found = assets(PAGE).get(request.match_info["name"])
    return (
        problem(404, "The dashboard has no such file.") if found is None else _file(request, found)
    )


def _file(request: web.Request, asset: Asset) -> web.Response:
    headers = {
        "Cache-Control": "no-cache",
        "Content-Security-Policy": POLICY,
        "Content-Type": asset.media_type,
        "ETag": asset.tag,
    }
    if any(f'"{tag.value}"' == asset.tag for tag in request.if_none_match or ()):
        return web.Response(status=304, headers=headers)
    return web.Response(body=asset.body, headers=headers)


async def live(request: web.Request) -> web.StreamResponse:
    return web.Response(body=await request.app[LIVE].body(), content_type="application/json")


async def session(request: web.Request) -> web.StreamResponse:
    """Who the browser is; also said without a session, so that a page can ask for a token."""
    access = request.app[ACCESS]
    caller = ANYONE if access.open else access.in_session(request)
    return answer(SessionAnswer, _said(access, caller))


async def begin_session(request: web.Request) -> web.StreamResponse:
    access = request.app[ACCESS]
    if (foreign := without_header(request)) is not None:
        return foreign
    token = request[BODY]["token"]
    caller = access.holder(token)
    if caller is None:
        challenge = {"WWW-Authenticate": 'Bearer realm="gateway", error="invalid_token"'}
        return problem(401, "This is not a token of [admin].", headers=challenge)
    request[CALLER] = caller
    response = answer(SessionAnswer, _said(access, caller))
    _set_cookie(access, response, issue(token.encode("utf-8", "surrogateescape"), access.wall()))
    return response


async def end_session(request: web.Request) -> web.StreamResponse:
    access = request.app[ACCESS]
    if (foreign := without_header(request)) is not None:
        return foreign
    response = answer(SessionAnswer, _said(access, ANYONE if access.open else None))
    _set_cookie(access, response, "", seconds=0)
    return response


def _said(access: Access, caller: object) -> dict[str, object]:
    return {
        "known": caller is not None,
        "writes": getattr(caller, "writes", False),
        "name": getattr(caller, "name", ""),
        "needed": not access.open,
    }


def _set_cookie(
    access: Access, response: web.Response, value: str, *, seconds: float = SECONDS
) -> None:
    response.set_cookie(
        access.cookie,
        value,
        max_age=int(seconds),
        httponly=True,
        samesite="Strict",
        secure=access.secure,
        path="/",
    )


FOREIGN = refusal(403, "Without the header that web pages of another origin cannot send")

ENDPOINTS = (
    Endpoint(
        "GET", "/", page, "The dashboard", (Answer(200, "A page", None, ("text/html",)),), open=True
    ),
    Endpoint(
        "GET",
        "/pages/{name}",
        page_file,
        "A file of the dashboard",
        (
            Answer(200, "It", None, ("text/javascript", "text/css", "text/html", "image/svg+xml")),
            refusal(404, "There is no such file"),
        ),
        open=True,
    ),
    Endpoint(
        "GET",
        "/admin/live",
        live,
        "What the dashboard shows, made anew every two seconds at most",
        (Answer(200, "Figures of the last minute, and the last quarter of an hour in points"),),
    ),
    Endpoint(
        "GET",
        "/admin/session",
        session,
        "Who the browser is",
        (Answer(200, "The session, or that there is none", SessionAnswer),),
        open=True,
    ),
    Endpoint(
        "POST",
        "/admin/session",
        begin_session,
        "Begins a session: a token for a cookie",
        (
            Answer(200, "Begun", SessionAnswer),
            refusal(401, "No such token"),
            FOREIGN,
            refusal(422, "No token"),
        ),
        open=True,
        body=Login,
    ),
    Endpoint(
        "DELETE",
        "/admin/session",
        end_session,
        "Ends the browser's session",
        (Answer(200, "Ended", SessionAnswer), FOREIGN),
        open=True,
    ),
)
