"""The services behind the API, as far as its description goes, in memory; and how they misbehave.

    python becamera_services.py cameras|auth|external|elasticsearch --name NAME --port PORT

cameras fails on purpose: /api/v1/cameras/crash answers 500, POST /api/v1/analytics/report?seconds=3
takes so long. auth signs tokens with JWT_SECRET: {"username", "password", "expires_in"}.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import jwt
from aiohttp import web
from aiohttp.typedefs import Handler

CAMERAS = web.AppKey("cameras", dict[str, dict[str, Any]])
USERS = {"root": "admin", "mia": "manager", "otto": "operator", "vera": "viewer", "tim": "viewer"}
"""Users and their roles; every password is "secret"."""


@web.middleware
async def envelope(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Errors in the API's envelope."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        status, message, allow = error.status, error.reason, error.headers.get("Allow")
    except ValueError:
        status, message, allow = 400, "The body must be JSON", None
    found = {
        "code": f"HTTP_{status}",
        "message": message,
        "timestamp": datetime.now(UTC).isoformat(),
        "requestId": request.headers.get("X-Request-ID", ""),
        "correlationId": request.headers.get("X-Request-ID", ""),
    }
    headers = {"Allow": allow} if allow else None
    return web.json_response({"error": found}, status=status, headers=headers)


async def list_cameras(request: web.Request) -> web.Response:
    return web.json_response(list(request.app[CAMERAS].values()))


async def read_camera(request: web.Request) -> web.Response:
    name = request.match_info["id"]
    if name == "crash":
        return web.Response(status=500, text="Traceback: database password is hunter2")
    camera = request.app[CAMERAS].get(name)
    if camera is None:
        raise web.HTTPNotFound
    return web.json_response(camera, headers={"Cache-Control": "max-age=300"})


async def create_camera(request: web.Request) -> web.Response:
    given = await request.json()
    made = {"id": str(len(request.app[CAMERAS]) + 1), **given}
    request.app[CAMERAS][made["id"]] = made
    return web.json_response(made, status=201)


async def change_camera(request: web.Request) -> web.Response:
    camera = request.app[CAMERAS].get(request.match_info["id"])
    if camera is None:
        raise web.HTTPNotFound
    if request.method == "DELETE":
        del request.app[CAMERAS][camera["id"]]
        return web.Response(status=204)
    camera.update(await request.json())
    return web.json_response(camera)


async def analytics(request: web.Request) -> web.Response:
    return web.json_response({"total": 42})


async def report(request: web.Request) -> web.Response:
    await asyncio.sleep(min(float(request.query.get("seconds", "0")), 30))
    return web.json_response({"report": "done"})


async def login(request: web.Request) -> web.Response:
    given = await request.json()
    if not isinstance(given, dict):
        raise web.HTTPBadRequest
    role = USERS.get(given.get("username", ""))
    if role is None or given.get("password") != "secret":
        return web.json_response({"message": "wrong user name or password"}, status=401)
    now = int(time.time())
    claims = {
        "iss": "beauth",
        "aud": "becamera",
        "sub": given["username"],
        "roles": [role],
        "tier": "trial" if given["username"] == "tim" else "premium",
        "iat": now - 3600,
        "exp": now + int(given.get("expires_in", 3600)),
    }
    token = jwt.encode(claims, os.environ["JWT_SECRET"], "HS256")
    return web.json_response({"token": token})


async def external(request: web.Request) -> web.Response:
    return web.json_response({"partner": request.headers.get("X-Client-ID"), "items": [1, 2, 3]})


LOGS: list[dict[str, Any]] = []


async def bulk(request: web.Request) -> web.Response:
    """Elasticsearch's bulk API, as far as the gateway uses it."""
    lines = (await request.text()).splitlines()
    for action, document in zip(lines[::2], lines[1::2], strict=True):
        LOGS.append({**json.loads(action)["index"], **json.loads(document)})
    return web.json_response({"errors": False, "items": []})


async def search(request: web.Request) -> web.Response:
    return web.json_response(LOGS)


SERVICES: dict[str, Callable[[], list[web.RouteDef]]] = {
    "cameras": lambda: [
        web.get("/api/v1/cameras", list_cameras),
        web.post("/api/v1/cameras", create_camera),
        web.get("/api/v1/cameras/{id}", read_camera),
        web.put("/api/v1/cameras/{id}", change_camera),
        web.delete("/api/v1/cameras/{id}", change_camera),
        web.get("/api/v1/analytics", analytics),
        web.post("/api/v1/analytics/report", report),
    ],
    "auth": lambda: [web.post("/api/v1/auth/login", login)],
    "external": lambda: [web.get("/api/v1/external/{rest:.*}", external)],
    "elasticsearch": lambda: [web.post("/_bulk", bulk), web.get("/_search", search)],
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("service", choices=SERVICES)
    parser.add_argument("--name", required=True)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    app = web.Application(middlewares=[envelope])
    app[CAMERAS] = {"1": {"id": "1", "name": "gate", "location": "Building A"}}
    app.add_routes(
        [web.get("/health", lambda _: health()), *SERVICES[options.service]()],
    )

    async def sign(request: web.Request, response: web.StreamResponse) -> None:
        response.headers["X-Instance"] = options.name

    app.on_response_prepare.append(sign)
    web.run_app(app, host="127.0.0.1", port=options.port, print=None, access_log=None)


async def health() -> web.Response:
    return web.json_response({"status": "healthy"})


if __name__ == "__main__":
    main()
