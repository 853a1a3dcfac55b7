"""What operators read: one page for a gateway that is well, and one for a gateway in trouble."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.commands.running.status_page import duration, page

NOW = 1_790_000_000.0
WELL: dict[str, Any] = {
    "at": NOW,
    "recent": 60.0,
    "status": {
        "version": "0.1.0",
        "pid": 42,
        "python": "3.13.0",
        "uptime_seconds": 11_530.2,
        "configuration": "abc123",
        "connections": 7,
        "in_flight": 3,
        "ready": True,
        "addresses": {"listen": "0.0.0.0:8080", "admin": "127.0.0.1:9901"},
        "reloads": [
            {"at": NOW - 300, "ok": True, "hash": "abc123", "changes": ["route a added"]},
        ],
    },
    "health": {
        "status": "healthy",
        "upstreams": {
            "becamera": {
                "status": "healthy",
                "circuit": None,
                "waiting": 0,
                "endpoints": [
                    {
                        "name": "10.0.0.1:3001",
                        "url": "http://10.0.0.1:3001",
                        "status": "healthy",
                        "in_flight": 3,
                        "last_error": "timeout",
                        "checked_ago": 1.0,
                    }
                ],
            }
        },
    },
    "routes": [
        {"rate": 10.0, "total": 5000, "client_errors": 0.01, "server_errors": 0.0},
        {"rate": 2.5, "total": 1000, "client_errors": 0.0, "server_errors": 0.4},
    ],
    "series": {"p50": [3.0, None], "p95": [12.0, None], "p99": [40.0, None]},
    "failures": [
        {"reason": "timeout", "total": 60, "rate": 60.0},
        {"reason": "old", "total": 9, "rate": 0.0},
    ],
    "warnings": [],
}


def test_a_gateway_that_is_well():
    assert list(page(WELL)) == [
        "gateway 0.1.0 serves: pid 42, up 3 h 12 min, Python 3.13.0",
        "  listen  0.0.0.0:8080",
        "  admin   127.0.0.1:9901",
        "  configuration abc123, since 5 min",
        "    route a added",
        "",
        "Upstreams: healthy",
        "  becamera                healthy",
        "    http://10.0.0.1:3001  healthy  3 in flight",
        "",
        "Requests of the last 1 min",
        "  12.5 a second, 6000 since the start, 3 under way, 7 connections",
        "  4xx 0.8%, 5xx 8.0%; p50 3 ms, p95 12 ms, p99 40 ms",
        "  timeout  60 a minute",
    ]


def test_a_compiled_gateway_says_so():
    first = next(iter(page(WELL | {"status": WELL["status"] | {"compiled": True}})))
    assert first.endswith("Python 3.13.0, compiled")


def test_a_gateway_in_trouble():
    refused = {"at": NOW - 2, "ok": False, "changes": [], "problems": ["a.toml:1:1: error: no"]}
    endpoint = {
        "name": "10.0.0.1:3001",
        "status": "unhealthy",
        "in_flight": 0,
        "last_error": "connection refused",
        "checked_ago": 3.0,
    }
    upstream = {
        "status": "unhealthy",
        "circuit": {"state": "open"},
        "trying_all": True,
        "waiting": 4,
        "registered": True,
        "endpoints": [
            endpoint,
            {**endpoint, "ejected_for": 12.0, "checked_ago": None, "circuit": "half-open"},
            {**endpoint, "draining": True, "backup": True},
        ],
    }
    worker = {"worker": 0, "pid": 43, "serving": False, "restarts": 2}
    status = {**WELL["status"], "ready": False, "workers": [worker], "reloads": [refused]}
    told = list(
        page(
            {
                **WELL,
                "status": status,
                "health": {"status": "unhealthy", "upstreams": {"becamera": upstream}},
                "warnings": [{"kind": "restart", "text": "[listen] waits for a restart"}],
                "recent": 0,
                "routes": [],
                "failures": [],
            }
        )
    )
    text = "\n".join(" ".join(line.split()) for line in told)
    for expected in (
        "gateway 0.1.0 does not take requests: pid 42",
        "configuration abc123\n",
        "the last reload was refused 2 s ago:\na.toml:1:1: error: no",
        "Warnings\n[listen] waits for a restart",
        "becamera unhealthy circuit open, none is well: all are tried, 4 waiting, registered at",
        "10.0.0.1:3001 unhealthy 0 in flight connection refused, checked 3 s ago",
        "ejected for 12 s 0 in flight connection refused, circuit half-open",
        "draining 0 in flight connection refused, checked 3 s ago, backup",
        "Requests\n0.0 a second, 0 since the start",
        "Workers\n0 pid 43 starts 0 connections, 0 under way started again 2 times",
    ):
        assert expected in text, f"{expected}\n--\n{text}"


def test_without_upstreams():
    health = {"status": "healthy", "upstreams": {}}
    assert "  none" in list(page({**WELL, "health": health}))


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0 s"), (-1, "0 s"), (59.4, "59 s"), (3600, "1 h"), (90_061, "1 d 1 h")],
)
def test_durations(seconds: float, shown: str):
    assert duration(seconds) == shown
