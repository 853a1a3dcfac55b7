"""The services of AeroFusionXR, as far as their gateway sees them. In memory.

    python aerofusion_services.py --name ai-concierge --port 8001

They answer with what they were asked. POST /_faults `{"status": 503, "times": 5}` makes the next
answers fail, `{"hang": 5, "times": 1}` makes one wait; GET /_seen has the last requests.
"""

from __future__ import annotations

import argparse
import asyncio
from collections import deque
from typing import Any

from aiohttp import web

NAMES = ("ai-concierge", "wayfinding", "flight-info", "baggage-tracker", "commerce", "user-profile")
IDENTITY = ("X-Client-ID", "X-Client-Roles", "X-Forwarded-Prefix", "X-Request-ID")


class Service:
    """One service: what it was asked, and what its next answers do instead of answering."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.times = 0
        self.status = 503
        self.hang = 0.0
        self.seen: deque[dict[str, Any]] = deque(maxlen=50)

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/health", self.health)
        app.router.add_post("/_faults", self.faults)
        app.router.add_get("/_seen", self.told)
        app.router.add_route("*", "/{path:.*}", self.answer)
        return app

    async def health(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "healthy", "service": self.name})

    async def faults(self, request: web.Request) -> web.Response:
        given = await request.json()
        self.times = int(given.get("times", 0))
        self.status, self.hang = int(given.get("status", 503)), float(given.get("hang", 0))
        return web.json_response({})

    async def told(self, request: web.Request) -> web.Response:
        return web.json_response(list(self.seen))

    async def answer(self, request: web.Request) -> web.Response:
        asked = {
            "service": self.name,
            "method": request.method,
            "path": request.path_qs,
            "fields": {name: request.headers.get(name) for name in IDENTITY},
            "body": await request.text(),
        }
        self.seen.append(asked)
        if self.times > 0:
            self.times -= 1
            if self.hang:
                await asyncio.sleep(self.hang)
            return web.json_response({"error": "failing on purpose"}, status=self.status)
        # Flights may be shown for a second; all else is new each time.
        fresh = "max-age=1" if request.method == "GET" and "flights" in request.path else "no-store"
        return web.json_response(asked, headers={"Cache-Control": fresh, "X-Powered-By": "aiohttp"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", choices=NAMES, required=True)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    web.run_app(Service(options.name).app(), host="127.0.0.1", port=options.port, print=None)


if __name__ == "__main__":
    main()
