"""A running gateway as the admin application sees it, to be set up by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prometheus_client import REGISTRY

from gateway.config.tables.endpoints import EndpointConfig
from gateway.config.tables.targets import ServiceConfig
from gateway.config.toml.problems import Problem
from gateway.core.telemetry import Telemetry
from gateway.runtime.reload import Outcome
from gateway.store.purges import Purge

HEALTH = {
    "status": "healthy",
    "upstreams": {
        "becamera": {
            "name": "becamera",
            "status": "healthy",
            "balance": "least_connections",
            "in_flight": 3,
            "retrying": 0,
            "trying_all": False,
            "waiting": 0,
            "limit": None,
            "circuit": {"state": "closed", "failures": 1, "retry_after": None},
            "endpoints": [
                {
                    "name": "127.0.0.1:3001",
                    "url": "http://127.0.0.1:3001",
                    "status": "healthy",
                    "weight": 2,
                    "backup": False,
                    "draining": False,
                    "zone": "",
                    "circuit": None,
                    "max_connections": 0,
                    "in_flight": 3,
                    "idle": 1,
                    "last_error": None,
                    "ejected_for": 0.0,
                    "checked_ago": 1.5,
                    "check_seconds": 0.002,
                    "eligible": True,
                }
            ],
        },
        "plain": {"status": "healthy", "circuit": None, "endpoints": []},
    },
}

CONFIG = {
    "hash": "abc123",
    "loaded_at": 1_790_000_000.5,
    "files": ["gateway.toml", "pipelines/partner.toml"],
    "warnings": ["pipelines/partner.toml:3:1: warning: caching never looks up"],
    "upstreams": {
        "becamera": {"balance": "least_connections", "endpoints": ["http://127.0.0.1:3001"]}
    },
    "pipelines": {
        "partner": {
            "file": "pipelines/partner.toml",
            "request": ["auth", "logging"],
            "response": ["logging"],
            "error": ["error_handler"],
            "routes": [
                {
                    "name": "cameras",
                    "match": "/cameras",
                    "kind": "prefix",
                    "methods": ["GET"],
                    "hosts": [],
                    "target": "becamera",
                }
            ],
        }
    },
}

WHY: dict[str, Any] = {
    "time": "2026-11-30T18:41:27.968Z",
    "request": {
        "id": "42ec2af8/1",
        "method": "GET",
        "path": "/cameras",
        "client_ip": "192.0.2.7",
    },
    "client": "partner-a",
    "route": "cameras",
    "pipeline": "partner",
    "decisions": [
        {
            "hook": "auth",
            "outcome": "refused",
            "why": "require: GET needs cameras:read; client partner-a has none",
            "at": "pipelines/partner.toml:13",
        }
    ],
    "upstream": None,
    "attempts": [{"endpoint": "127.0.0.1:3001", "ms": 12.5, "why": "connect_failed: refused"}],
    "status": 403,
    "reason": "forbidden",
    "code": "AUTH_003",
    "detail": "This needs the permission cameras:read.",
    "duration_ms": 1.897,
}

STATUS = {
    "version": "1.2.3",
    "pid": 42,
    "uptime_seconds": 12.5,
    "configuration": "abc123",
    "connections": 7,
    "in_flight": 3,
    "snapshots_alive": 1,
    "python": "3.13.0",
    "compiled": True,
}

WARNING = Problem(
    Path("/etc/gateway/pipelines/a.toml"), 3, 5, "caching before auth", "move it", "warning"
)
ERROR = Problem(Path("/etc/gateway/upstreams.toml"), 1, 2, "no endpoints")


EXPLAINED: dict[str, Any] = {
    **{name: value for name, value in WHY.items() if name not in ("time", "detail", "duration_ms")},
    "attempts": [],
    "cache_key": "http://localhost/cameras",
    "limits": [{"policy": "default", "limit": 5, "remaining": 4}],
    "endpoints": [
        {"upstream": "o", "url": "http://127.0.0.1:1", "status": "healthy", "eligible": True}
    ],
    "sends": {
        "endpoint": "127.0.0.1:1",
        "method": "GET",
        "target": "/cameras",
        "protocol": "HTTP/1.1",
        "headers": [["Host", "localhost"]],
        "body_bytes": 2,
    },
}


class Known:
    """The Requests of State."""

    def __init__(self) -> None:
        self.wanted: dict[str, str] = {}
        self.question: Any = None
        self.explained: dict[str, Any] | None = EXPLAINED

    async def explain(self, question: Any) -> Mapping[str, Any] | None:
        self.question = question
        return self.explained

    async def why(self, request_id: str) -> Mapping[str, Any] | None:
        return WHY if request_id == WHY["request"]["id"] else None

    async def recent(self, most: int, wanted: Mapping[str, str]) -> Sequence[Mapping[str, Any]]:
        self.wanted = dict(wanted)
        return [WHY][: most if wanted.get("client") in (None, WHY["client"]) else 0]


class State:
    """An AdminState. `outcome` is what a reload comes to, or the exception it raises."""

    def __init__(self) -> None:
        self.telemetry = Telemetry()
        self.requests = Known()
        self.others = REGISTRY
        self.is_ready = True
        self.health_now: dict[str, Any] = HEALTH
        self.config_now: dict[str, Any] = CONFIG
        self.outcome: Outcome | Exception = Outcome(
            True, "def456", (WARNING,), ("upstream becamera changed: weight",)
        )
        self.reloads = self.refreshed = 0
        self.registered: list[EndpointConfig] = []
        self.services: list[ServiceConfig] = []
        self.purged: list[Purge] = []
        self.drained: list[tuple[str, str, bool]] = []
        self.caches = True
        self.untold: Exception | None = None
        self.usage_now: dict[str, Any] | Exception | None = None
        self.unable: Exception | None = None
        """What registering a service raises."""

    async def refresh(self) -> None:
        self.refreshed += 1

    async def usage(self, client: str) -> dict[str, Any] | None:
        if isinstance(self.usage_now, Exception):
            raise self.usage_now
        return self.usage_now

    def ready(self) -> bool:
        return self.is_ready

    def reset_circuit(self, name: str) -> bool | None:
        return {"becamera": True, "plain": False}.get(name)

    async def purge(self, purges: Sequence[Purge]) -> bool:
        self.purged += purges
        if self.untold is not None:
            raise self.untold
        return self.caches

    def drain(self, name: str, url: str, drained: bool) -> bool | None:
        if name not in self.health_now["upstreams"]:
            return None
        known = url == "http://127.0.0.1:3001"
        if known:
            self.drained.append((name, url, drained))
        return known

    def register(self, name: str, config: EndpointConfig) -> bool | None:
        if name == "becamera":
            self.registered.append(config)
        return {"becamera": True, "plain": False}.get(name)

    def deregister(self, name: str, url: str) -> bool:
        return name == "becamera" and url in [config.url for config in self.registered]

    async def register_service(self, one: ServiceConfig) -> bool:
        if self.unable is not None:
            raise self.unable
        self.services.append(one)
        return True

    async def deregister_service(self, name: str, url: str) -> bool:
        if self.unable is not None:
            raise self.unable
        return any(one.name == name and url in ("", one.url) for one in self.services)

    def health(self) -> dict[str, Any]:
        return self.health_now

    def config(self) -> dict[str, Any]:
        return self.config_now

    def status(self) -> dict[str, Any]:
        return STATUS

    async def reload(self) -> Outcome:
        self.reloads += 1
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome
