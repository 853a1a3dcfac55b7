"""What the demonstration shows: one line to copy each, what to expect of it, and how to tell that
it happened."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass


@dataclass(frozen=True)
class Line:
    """`shows` is the title, `command` a line of shell, `expect` its result in words, `patterns`
    what its output must match."""

    shows: str
    command: str
    expect: str
    patterns: tuple[str, ...]

    def missing(self, output: str) -> list[str]:
        """The patterns that `output` does not match."""
        return [
            one for one in self.patterns if not re.search(one, output, re.MULTILINE | re.IGNORECASE)
        ]

    def run(self) -> str:
        """What the command printed, both streams."""
        done = subprocess.run(
            ["bash", "-c", self.command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.stdout.replace("\r", "") + done.stderr


@dataclass(frozen=True)
class Scene:
    """What the lines speak of: addresses, a working key, processes, and the folder with the
    configuration in force."""

    gateway: str
    admin: str
    key: str
    pid: int
    camera_pid: int
    folder: str
    command: str
    """The gateway's command line, `bin/gateway` as seen from where the lines are run."""


def lines(scene: Scene) -> list[Line]:
    """In an order that matters: a later line may show what an earlier one did."""
    return [*requests(scene), *limits_and_failures(scene), *operations(scene)]


def requests(scene: Scene) -> list[Line]:
    api, key = f"{scene.gateway}/api/v1", f"-H 'X-API-Key: {scene.key}'"
    json = "-H 'Content-Type: application/json'"
    good, bad = '{"name": "roof", "location": "gate 19"}', '{"name": "", "count": -1}'
    return [
        Line(
            "a partner's request",
            f"curl -i {key} {api}/cameras",
            (
                "200 and a list of cameras; X-Instance says which of three instances answered, "
                "RateLimit what is left"
            ),
            (
                r"^HTTP/1.1 200 ",
                r"^X-Instance: camera-\d",
                r"^X-RateLimit-Limit: 1000",
                r"^X-Request-ID: ",
                r'"camera-18"',
            ),
        ),
        Line(
            "without a key",
            f"curl -i {api}/cameras",
            "401, application/problem+json with the code AUTH_001",
            (
                r"^HTTP/1.1 401 ",
                r"^Content-Type: application/problem\+json",
                r"^WWW-Authenticate: ",
                r'"AUTH_001"',
            ),
        ),
        Line(
            "a body that does not fit its schema",
            f"curl -i {key} {json} -d '{bad}' {api}/cameras",
            "422 with one entry per field: location is missing, name is empty, count is negative",
            (
                r"^HTTP/1.1 422 ",
                r'"field": ?"[^"]*location',
                r'"field": ?"[^"]*name',
                r'"field": ?"[^"]*count',
            ),
        ),
        Line(
            "a body that does",
            f"curl -i {key} {json} -d '{good}' {api}/cameras",
            "201 from one of the instances",
            (r"^HTTP/1.1 201 ", r'"name": ?"roof"'),
        ),
        Line(
            "an answer from the cache",
            f"curl -s -o /dev/null {key} {api}/cameras/7; curl -i {key} {api}/cameras/7",
            (
                "200 with Cache-Status: gateway; hit and an Age: the origin allows five minutes, "
                "and "
                "was asked once"
            ),
            (r"^HTTP/1.1 200 ", r"^Cache-Status: gateway; hit", r"^Age: \d+"),
        ),
        Line(
            "a browser's preflight",
            (
                f"curl -i -X OPTIONS -H 'Origin: https://app.example.com' -H "
                f"'Access-Control-Request-Method: PUT' {api}/cameras/7"
            ),
            "204 with Access-Control-Allow-Origin and -Methods",
            (
                r"^HTTP/1.1 204 ",
                r"^Access-Control-Allow-Origin: https://app\.example\.com",
                r"^Access-Control-Allow-Methods: ",
            ),
        ),
        Line(
            "compression",
            f"curl -s -o /dev/null -D - -H 'Accept-Encoding: gzip' {key} {api}/cameras",
            "Content-Encoding: gzip, and Vary names what the answer depends on",
            (r"^Content-Encoding: gzip", r"^Vary: .*Accept-Encoding"),
        ),
        Line(
            "server-sent events, as they come",
            f"curl -sN {key} '{api}/cameras/events?count=3'",
            "three events, a tenth of a second apart",
            (r"^id: 3$", r"^data: 21$"),
        ),
    ]


def limits_and_failures(scene: Scene) -> list[Line]:
    api, key = f"{scene.gateway}/api/v1", f"-H 'X-API-Key: {scene.key}'"
    codes = "curl -s -o /dev/null -w '%{http_code} '"
    return [
        Line(
            "a limit",
            f"for i in $(seq 12); do {codes} -X POST {api}/auth/login; done; echo",
            "ten times 200, then 429: ten logins a minute from one address",
            (r"^(200 ){10}(429 ){2}$",),
        ),
        Line(
            "what is left of it",
            f"curl -s {key} {api}/rate-limit/status; echo",
            "a partner's own limits, policy by policy, without using any of them up",
            (r'"policy": ?"standard"', r'"remaining": ?\d+'),
        ),
        Line(
            "an instance dies",
            (
                f"kill {scene.camera_pid}; sleep 0.3; for i in $(seq 20); do {codes} {key} "
                f"{api}/cameras; done; echo"
            ),
            "twenty times 200: what hits the dead instance is retried on another",
            (r"^(200 ){20}$",),
        ),
    ]


def operations(scene: Scene) -> list[Line]:
    login = f"curl -s -o /dev/null -D - -X POST {scene.gateway}/api/v1/auth/login"
    edit = f"sed -i.bak 's/limit = 10,/limit = 3,/' {scene.folder}/pipelines/public.toml"
    return [
        Line(
            "a reload, without losing a request",
            f"{edit} && kill -HUP {scene.pid} && sleep 1 && {login}",
            "X-RateLimit-Limit is 3 now, and what was counted before still counts: 429",
            (r"^HTTP/1.1 429 ", r"^X-RateLimit-Limit: 3$"),
        ),
        Line(
            "health, for a load balancer",
            f"curl -i {scene.gateway}/health",
            "200, but degraded: requests are served, and one instance of becamera is out",
            (r"^HTTP/1.1 200 ", r'"status": ?"degraded"', r'"becamera": ?{"status": ?"degraded"'),
        ),
        Line(
            "health, for operators",
            f"curl -s {scene.admin}/admin/health; echo",
            (
                "every endpoint with what is known about it, and the dead one ejected for half a "
                "minute"
            ),
            (r'"ejected"', r'"healthy"'),
        ),
        Line(
            "what is running",
            f"{scene.command} status --config {scene.folder}/gateway.toml",
            "version, process, uptime, the hash of the configuration in force",
            (rf'"pid": {scene.pid}', r'"configuration": "[0-9a-f]{16}"'),
        ),
        Line(
            "metrics",
            (
                f"curl -s {scene.admin}/metrics | grep -E "
                f"'^gateway_(requests_total|retries_total|config_last_reload_success)'"
            ),
            "requests by route, method and code; the retries; 1 for the reload",
            (
                r'^gateway_requests_total\{.*route="cameras".*\} [1-9]',
                r"^gateway_retries_total\{",
                r"^gateway_config_last_reload_success 1",
            ),
        ),
        Line(
            "the access log",
            f"tail -n 1 {scene.folder}/access.log",
            "one JSON object: the refused login of before, with the reason",
            (r'"status": ?429', r'"reason": ?"rate_limited"', r'"route": ?"login"'),
        ),
    ]
