"""Sample services behind the gateway: a camera API, an account API and a partner's feed.
Deterministic, in memory.

    python demo/services.py cameras --name camera-1 --port 3001

Each says who it is in X-Instance, so that the gateway's choice can be seen from outside.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from aiohttp import web

INSTANCE = web.AppKey("instance", str)
CAMERAS = web.AppKey("cameras", dict[int, dict[str, Any]])


def camera(number: int) -> dict[str, Any]:
    status = "active" if number % 3 else "offline"
    return {
        "id": number,
        "name": f"camera-{number}",
        "location": f"gate {number}",
        "status": status,
        "count": number * 7,
    }


async def list_cameras(request: web.Request) -> web.Response:
    status = request.query.get("status")
    found = [one for one in request.app[CAMERAS].values() if status in (None, one["status"])]
    return web.json_response(found, headers={"Cache-Control": "no-store"})


def known(request: web.Request) -> dict[str, Any]:
    try:
        return request.app[CAMERAS][int(request.match_info["id"])]
    except (KeyError, ValueError):
        raise web.HTTPNotFound(text="no such camera") from None


async def read_camera(request: web.Request) -> web.Response:
    return web.json_response(known(request), headers={"Cache-Control": "public, max-age=300"})


async def create_camera(request: web.Request) -> web.Response:
    cameras = request.app[CAMERAS]
    made = {**camera(max(cameras) + 1), **await request.json()}
    cameras[made["id"]] = made
    return web.json_response(made, status=201, headers={"Location": f"/cameras/{made['id']}"})


async def replace_camera(request: web.Request) -> web.Response:
    current = known(request)
    current.update(await request.json())
    return web.json_response(current)


async def delete_camera(request: web.Request) -> web.Response:
    del request.app[CAMERAS][known(request)["id"]]
    return web.Response(status=204)


async def counts(request: web.Request) -> web.Response:
    total = sum(one["count"] for one in request.app[CAMERAS].values())
    return web.json_response(
        {"cameras": len(request.app[CAMERAS]), "total": total},
        headers={"Cache-Control": "max-age=60"},
    )


async def slow(request: web.Request) -> web.Response:
    """Answers after `?seconds=` (at most 60), for watching timeouts and draining."""
    await asyncio.sleep(min(float(request.query.get("seconds", "2")), 60))
    return web.json_response({"waited": True})


async def events(request: web.Request) -> web.StreamResponse:
    """Server-sent events: `?count=` of them, a tenth of a second apart."""
    response = web.StreamResponse(
        headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
    )
    await response.prepare(request)
    for number in range(1, int(request.query.get("count", "5")) + 1):
        await response.write(f"id: {number}\nevent: counted\ndata: {number * 7}\n\n".encode())
        await asyncio.sleep(0.1)
    return response


async def log_in(request: web.Request) -> web.Response:
    return web.json_response({"session": "a-sample-session"}, headers={"Cache-Control": "no-store"})


async def feed(request: web.Request) -> web.Response:
    return web.json_response(
        {"partner": request.headers.get("X-Client-ID", ""), "items": [1, 2, 3]}
    )


async def health(request: web.Request) -> web.Response:
    return web.json_response({"status": "ok", "instance": request.app[INSTANCE]})


def cameras() -> list[web.RouteDef]:
    return [
        web.get("/cameras", list_cameras),
        web.post("/cameras", create_camera),
        web.get("/cameras/slow", slow),
        web.get("/cameras/events", events),
        web.get("/cameras/{id}", read_camera),
        web.put("/cameras/{id}", replace_camera),
        web.delete("/cameras/{id}", delete_camera),
        web.get("/analytics", counts),
    ]


SERVICES: dict[str, Callable[[], list[web.RouteDef]]] = {
    "cameras": cameras,
    "accounts": lambda: [web.post("/auth/login", log_in)],
    "feed": lambda: [web.get("/external/{rest:.*}", feed)],
}


def application(service: str, name: str) -> web.Application:
    app = web.Application()
    app[INSTANCE] = name
    app[CAMERAS] = {number: camera(number) for number in range(1, 19)}
    app.add_routes([web.get("/health", health), *SERVICES[service]()])

    async def sign(request: web.Request, response: web.StreamResponse) -> None:
        response.headers["X-Instance"] = name

    async def announce(app: web.Application) -> AsyncIterator[None]:
        print(f"{name} is up", flush=True)
        yield

    app.on_response_prepare.append(sign)
    app.cleanup_ctx.append(announce)
    return app


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("service", choices=SERVICES)
    parser.add_argument("--name", default="sample")
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    web.run_app(
        application(options.service, options.name),
        host="127.0.0.1",
        port=options.port,
        print=None,
        access_log=None,
    )


if __name__ == "__main__":
    main()
