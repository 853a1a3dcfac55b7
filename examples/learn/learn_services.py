"""The services of the FIS Learn platform, as far as its gateway sees them. In memory.

    python learn_services.py --name auth-service --port 4001

They answer `{"success": true, "data": ...}`. POST /_faults `{"status": 503, "times": 2}` makes the
next answers fail, `{"hang": 5, "times": 1}` makes one wait; GET /_seen has the last requests as
they came.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
import uuid
from collections import deque
from typing import Any

import jwt
from aiohttp import WSMsgType, web

Handler = Any

SECRET = os.environ.get("LEARN_JWT_SECRET", "demo-secret-of-learn-32-bytes-long!")
ACCESS_SECONDS = 15 * 60
USERS = {  # e-mail: id, role, tier
    "admin@fislearn.com": ("11111111-1111-4111-8111-111111111111", "admin", "enterprise"),
    "jane@fislearn.com": ("22222222-2222-4222-8222-222222222222", "instructor", "pro"),
    "bob@fislearn.com": ("33333333-3333-4333-8333-333333333333", "subscriber", "basic"),
    "ann@fislearn.com": ("44444444-4444-4444-8444-444444444444", "free_user", "free"),
}
PASSWORD = "correct horse battery"
COURSE = {
    "id": "55555555-5555-4555-8555-555555555555",
    "title": "Introduction to Python",
    "level": "beginner",
    "instructor": {"id": USERS["jane@fislearn.com"][0], "displayName": "Jane Instructor"},
}


def success(data: Any = None, status: int = 200, **headers: str) -> web.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return web.json_response({"success": True, "data": data}, status=status, headers=named)


def failure(status: int, code: str, message: str) -> web.Response:
    error = {"code": code, "message": message}
    return web.json_response({"success": False, "error": error}, status=status)


class Faults:
    """What the next answers do instead of answering, and what was asked."""

    def __init__(self) -> None:
        self.times = 0
        self.status = 503
        self.hang = 0.0
        self.seen: deque[dict[str, Any]] = deque(maxlen=20)

    async def set(self, request: web.Request) -> web.Response:
        given = await request.json()
        self.times, self.status = given.get("times", 1), given.get("status", 503)
        self.hang = given.get("hang", 0.0)
        self.seen.clear()
        return web.json_response({})

    async def show(self, request: web.Request) -> web.Response:
        return web.json_response(list(self.seen))

    @web.middleware
    async def apply(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.startswith("/_") or request.path == "/health":
            found: web.StreamResponse = await handler(request)
            return found
        body = await request.text() if request.can_read_body else ""
        self.seen.append(
            {
                "method": request.method,
                "target": request.path_qs,
                "headers": {name.lower(): value for name, value in request.headers.items()},
                "body": body,
            }
        )
        if self.times > 0:
            self.times -= 1
            if not self.hang:
                return failure(self.status, "SERVICE_FAILED", "as it was told to")
            await asyncio.sleep(self.hang)
        answer: web.StreamResponse = await handler(request)
        return answer


# auth-service

REFRESH: dict[str, str] = {}


def session(email: str, status: int = 200) -> web.Response:
    number, role, tier = USERS.get(
        email, (str(uuid.uuid5(uuid.NAMESPACE_URL, email)), "free_user", "free")
    )
    now = int(time.time())
    claims = {
        "iss": "https://auth.fislearn.com",
        "aud": "https://api.fislearn.com",
        "sub": number,
        "iat": now,
        "exp": now + ACCESS_SECONDS,
        "tier": tier,
        "roles": [role],
    }
    refresh = uuid.uuid4().hex
    REFRESH[refresh] = email
    data = {
        "accessToken": jwt.encode(claims, SECRET, "HS256"),
        "refreshToken": refresh,
        "expiresIn": ACCESS_SECONDS,
        "user": {"id": number, "email": email, "role": role, "subscription": {"tier": tier}},
    }
    return success(data, status)


async def login(request: web.Request) -> web.Response:
    given = await request.json()
    if given["email"] not in USERS or given["password"] != PASSWORD:
        return failure(401, "UNAUTHORIZED", "Wrong e-mail address or password")
    return session(given["email"])


async def register(request: web.Request) -> web.Response:
    given = await request.json()
    if given["email"] in USERS:
        return failure(409, "CONFLICT", "There is an account of this address")
    return session(given["email"], 201)


async def refresh(request: web.Request) -> web.Response:
    email = REFRESH.pop((await request.json())["refreshToken"], None)
    return session(email) if email else failure(401, "UNAUTHORIZED", "Unknown refresh token")


async def forgot(request: web.Request) -> web.Response:
    return success(status=202)


async def empty(request: web.Request) -> web.Response:
    return web.Response(status=204)


async def sessions(request: web.Request) -> web.Response:
    return success([{"id": "this one"}])


async def reset(request: web.Request) -> web.Response:
    return failure(400, "BAD_REQUEST", "The link has expired")


# user-service


def user(number: str) -> dict[str, Any] | None:
    for email, (known, role, tier) in USERS.items():
        if known == number:
            return {"id": known, "email": email, "role": role, "subscription": {"tier": tier}}
    return None


async def users(request: web.Request) -> web.Response:
    return success([user(number) for number, _, _ in USERS.values()])


async def me(request: web.Request) -> web.Response:
    number = request.headers["X-Client-ID"]
    changes = await request.json() if request.method == "PATCH" else {}
    return success({**(user(number) or {"id": number}), **changes})


async def one_user(request: web.Request) -> web.Response:
    found = user(request.match_info["id"])
    return success(found) if found else failure(404, "NOT_FOUND", "No such user")


# course-service


async def courses(request: web.Request) -> web.Response:
    data = [COURSE][: int(request.query.get("limit", "20"))]
    return success(data, Cache_Control="public, max-age=1, stale-if-error=300")


async def create_course(request: web.Request) -> web.Response:
    made = {**await request.json(), "id": str(uuid.uuid4())}
    return success(made, 201, Location=f"/api/v1/courses/{made['id']}")


async def course(request: web.Request) -> web.Response:
    if request.match_info["id"] != COURSE["id"]:
        return failure(404, "NOT_FOUND", "No such course")
    kind = request.path.rpartition("/")[2]
    if kind == "video":
        return success({"url": "https://cdn.fislearn.com/v"}, X_Kong_Limit_Video="1")
    return success([{"title": "Variables"}] if kind == "lessons" else COURSE)


async def upload(request: web.Request) -> web.Response:
    return success({"id": str(uuid.uuid4()), "size": len(await request.read())}, 201)


# chat-service and code-runner-service

MESSAGES: list[dict[str, Any]] = []


async def channels(request: web.Request) -> web.Response:
    return success([{"id": COURSE["id"], "name": "python"}])


async def messages(request: web.Request) -> web.Response:
    if request.method == "POST":
        MESSAGES.append({"id": str(uuid.uuid4()), **await request.json()})
        return success(MESSAGES[-1], 201)
    return success(MESSAGES[-int(request.query["limit"]) :])


RUNS: dict[str, dict[str, Any]] = {}


async def execute(request: web.Request) -> web.Response:
    given = await request.json()
    made = {"id": str(uuid.uuid4()), "status": "queued", **given}
    RUNS[made["id"]] = made
    return success(made, 202, Location=f"/api/v1/executions/{made['id']}")


async def run(request: web.Request) -> web.Response:
    found = RUNS.get(request.match_info["id"])
    return (
        success({**found, "status": "completed"})
        if found
        else failure(404, "NOT_FOUND", "No such execution")
    )


async def output(request: web.Request) -> web.StreamResponse:
    if request.match_info["id"] not in RUNS:
        return failure(404, "NOT_FOUND", "No such execution")
    answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await answer.prepare(request)
    for line in ("hello", "world"):
        await answer.write(f'data: {{"stdout": "{line}"}}\n\n'.encode())
    return answer


# websocket-service


async def socket(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    await ws.send_str(request.headers.get("X-Client-ID", "nobody"))
    async for message in ws:
        if message.type == WSMsgType.TEXT:
            await ws.send_str(message.data)
    return ws


# logging-service


async def logs(request: web.Request) -> web.Response:
    return web.Response(status=204)


V1 = "/api/v1"
ROUTES: dict[str, list[tuple[str, str, Handler]]] = {
    "auth-service": [
        ("POST", f"{V1}/auth/login", login),
        ("POST", f"{V1}/auth/register", register),
        ("POST", f"{V1}/auth/refresh", refresh),
        ("POST", f"{V1}/auth/forgot-password", forgot),
        ("POST", f"{V1}/auth/reset-password", reset),
        ("POST", f"{V1}/auth/logout", empty),
        ("GET", f"{V1}/auth/sessions", sessions),
        ("DELETE", f"{V1}/auth/sessions", empty),
    ],
    "user-service": [
        ("GET", f"{V1}/users", users),
        ("GET", f"{V1}/users/me", me),
        ("PATCH", f"{V1}/users/me", me),
        ("GET", f"{V1}/users/{{id}}", one_user),
    ],
    "course-service": [
        ("GET", f"{V1}/courses", courses),
        ("POST", f"{V1}/courses", create_course),
        ("GET", f"{V1}/courses/{{id}}", course),
        ("GET", f"{V1}/courses/{{id}}/lessons", course),
        ("GET", f"{V1}/courses/{{id}}/video", course),
        ("POST", f"{V1}/courses/{{id}}/enroll", course),
        ("POST", f"{V1}/files", upload),
    ],
    "chat-service": [
        ("GET", f"{V1}/channels", channels),
        ("GET", f"{V1}/channels/{{id}}/messages", messages),
        ("POST", f"{V1}/channels/{{id}}/messages", messages),
    ],
    "code-runner-service": [
        ("POST", f"{V1}/executions", execute),
        ("GET", f"{V1}/executions/{{id}}", run),
        ("GET", f"{V1}/executions/{{id}}/output", output),
    ],
    "websocket-service": [("GET", "/ws", socket)],
    "logging-service": [("POST", "/logs", logs)],
}


async def healthy(request: web.Request) -> web.Response:
    return web.json_response({"status": "healthy"})


def application(name: str) -> web.Application:
    faults = Faults()
    app = web.Application(middlewares=[faults.apply])
    app.router.add_get("/health", healthy)
    app.router.add_post("/_faults", faults.set)
    app.router.add_get("/_seen", faults.show)
    for method, path, handler in ROUTES[name]:
        app.router.add_route(method, path, handler)
    return app


def main() -> None:
    parser = argparse.ArgumentParser(description="A service of the FIS Learn platform.")
    parser.add_argument("--name", choices=ROUTES, required=True)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    web.run_app(application(options.name), host="127.0.0.1", port=options.port, print=None)


if __name__ == "__main__":
    main()
