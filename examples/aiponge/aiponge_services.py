"""The services of aiponge, in memory: users with their logins, AI, music, GraphQL; and how they
misbehave.

    python aiponge_services.py --name user-1 --port 4101

They answer with what they were asked. POST /_faults `{"status": 503, "times": 5}` makes the next
answers fail; /slow?seconds=2 takes its time.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from typing import Any

import jwt
from aiohttp import WSMsgType, web

SECRET = os.environ.get("JWT_SECRET", "a secret of 32 bytes or more, for HS256")
FIELDS = ("X-Client-ID", "X-Client-Roles", "X-Forwarded-Prefix", "X-Gateway-Route", "X-Request-ID")
FAULTS = {"status": 503, "times": 0}


def token(user: str, **more: Any) -> str:
    now = int(time.time())
    claims = {"iss": "aiponge", "aud": "aiponge-api", "sub": user, "iat": now, "exp": now + 3600}
    return jwt.encode({**claims, "roles": ["member"], **more}, SECRET, "HS256")


async def read(request: web.Request) -> dict[str, Any]:
    """The JSON object of a request, empty where there is none."""
    try:
        given = await request.json()
    except ValueError:
        return {}
    return given if isinstance(given, dict) else {}


async def health(request: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})


async def log_in(request: web.Request) -> web.Response:
    """Everybody may log in who names a user; `expired` gives a token that is too old."""
    given = await read(request)
    if not given.get("user"):
        return web.json_response({"error": "no user"}, status=400)
    more = {"exp": int(time.time()) - 3600} if given.get("expired") else {}
    return web.json_response({"token": token(given["user"], **more)})


async def faults(request: web.Request) -> web.Response:
    FAULTS.update(await request.json())
    return web.json_response({})


async def slow(request: web.Request) -> web.Response:
    await asyncio.sleep(min(float(request.query.get("seconds", "1")), 30))
    return web.json_response({"waited": True})


async def graphql(request: web.Request) -> web.StreamResponse:
    if request.headers.get("Upgrade", "").lower() == "websocket":
        socket = web.WebSocketResponse(protocols=("graphql-transport-ws",))
        await socket.prepare(request)
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                await socket.send_str(message.data)
        return socket
    given = await read(request)
    if not isinstance(given.get("query"), str):
        return web.json_response({"errors": [{"message": "no query"}]}, status=400)
    return web.json_response(
        {"data": {"query": given["query"], "viewer": request.headers.get("X-Client-ID")}}
    )


async def answer(request: web.Request) -> web.Response:
    if FAULTS["times"] > 0:
        FAULTS["times"] -= 1
        return web.json_response({"error": "failing on purpose"}, status=FAULTS["status"])
    asked = {
        "instance": request.app["name"],
        "method": request.method,
        "path": request.path_qs,
        "fields": {name: request.headers.get(name) for name in FIELDS},
        "internal": {"host": "10.0.0.7"},
    }
    return web.json_response(asked, headers={"X-Internal-Host": "10.0.0.7"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", required=True)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    app = web.Application()
    app["name"] = options.name
    app.router.add_get("/health", health)
    app.router.add_post("/auth/login", log_in)
    app.router.add_post("/_faults", faults)
    app.router.add_get("/slow", slow)
    app.router.add_route("*", "/graphql", graphql)
    app.router.add_route("*", "/{path:.*}", answer)
    web.run_app(app, host="127.0.0.1", port=options.port, print=None)


if __name__ == "__main__":
    main()
