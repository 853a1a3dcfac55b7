"""The backend, in memory: cameras, counts, users; and how it misbehaves.

    python camera_backend_services.py --name backend-1 --port 8101

Answers carry X-Made, a number that goes up with every answer, by which those from the gateway's
cache can be told. Camera "unplugged" ends the connection.
"""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime
from itertools import count
from typing import Any

from aiohttp import web

CAMERAS: dict[str, dict[str, Any]] = {
    "1": {"id": "1", "name": "Main Entrance Camera", "location": "Building A", "status": "active"}
}
MADE = count(1)
JSON = "application/json"


async def list_cameras(request: web.Request) -> web.Response:
    return web.json_response(list(CAMERAS.values()))


async def create_camera(request: web.Request) -> web.Response:
    given = await request.json()
    made = {"id": str(len(CAMERAS) + 1), **given}
    CAMERAS[made["id"]] = made
    return web.json_response(made, status=201)


def known(request: web.Request) -> dict[str, Any]:
    number = request.match_info["id"]
    if number not in CAMERAS:
        text = f"Camera with ID {number} not found"
        raise web.HTTPNotFound(text=error(request, "CAMERA_NOT_FOUND", text), content_type=JSON)
    return CAMERAS[number]


def error(request: web.Request, code: str, message: str) -> str:
    """Return the API's envelope for a 404."""
    found = {
        "code": code,
        "type": "NOT_FOUND",
        "message": message,
        "status_code": 404,
        "path": request.path,
        "timestamp": datetime.now(UTC).isoformat(),
    }
    return json.dumps({"error": found})


async def read_camera(request: web.Request) -> web.StreamResponse:
    if request.match_info["id"] == "unplugged" and request.transport is not None:
        request.transport.close()
    return web.json_response(known(request))


async def change_camera(request: web.Request) -> web.Response:
    known(request).update(await request.json())
    return web.json_response(known(request))


async def delete_camera(request: web.Request) -> web.Response:
    del CAMERAS[known(request)["id"]]
    return web.Response(status=204)


async def counts(request: web.Request) -> web.Response:
    return web.json_response([{"camera_id": "1", "count": 5, "confidence": 0.95}])


async def user(request: web.Request) -> web.Response:
    if request.match_info["id"] != "1":
        raise web.HTTPNotFound(
            text=error(request, "USER_NOT_FOUND", "User not found"), content_type=JSON
        )
    return web.json_response({"id": "1", "email": "ops@aicamera.com"})


async def users(request: web.Request) -> web.Response:
    return web.json_response([{"id": "1", "email": "ops@aicamera.com"}])


async def register(request: web.Request) -> web.Response:
    return web.json_response({"registered": (await request.json())["username"]}, status=201)


async def cameras_v2(request: web.Request) -> web.Response:
    features = ["pagination", "filtering"]
    return web.json_response({"version": "2.0", "endpoint": "cameras", "features": features})


async def health(request: web.Request) -> web.Response:
    return web.json_response({"status": "healthy"})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--name", required=True)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    app = web.Application()
    app.add_routes(
        [
            web.get("/health", health),
            web.get("/api/v1/cameras", list_cameras),
            web.post("/api/v1/cameras", create_camera),
            web.get("/api/v1/cameras/{id}", read_camera),
            web.put("/api/v1/cameras/{id}", change_camera),
            web.delete("/api/v1/cameras/{id}", delete_camera),
            web.patch("/api/v1/cameras/{id}/status", change_camera),
            web.get("/api/v1/cameras/{id}/counts", counts),
            web.post("/api/v1/cameras/{id}/counts", counts),
            web.get("/api/v1/counts/realtime", counts),
            web.get("/api/v1/counts/analytics", counts),
            web.get("/api/v1/users", users),
            web.post("/api/v1/users", users),
            web.get("/api/v1/users/{id}", user),
            web.put("/api/v1/users/{id}", user),
            web.delete("/api/v1/users/{id}", user),
            web.post("/api/v1/auth/register", register),
            web.get("/api/v2/cameras", cameras_v2),
        ]
    )

    async def sign(request: web.Request, response: web.StreamResponse) -> None:
        response.headers["X-Made"] = f"{options.name} {next(MADE)}"

    app.on_response_prepare.append(sign)
    web.run_app(app, host="127.0.0.1", port=options.port, print=None, access_log=None)


if __name__ == "__main__":
    main()
