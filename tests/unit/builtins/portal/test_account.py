"""What a partner is told: its own failures without what is for operators, what it uses that ends."""

from __future__ import annotations

from typing import Any

from gateway.builtins.portal.account import Account, links_of, notices
from gateway.config.tables.pipeline import PipelineConfig, RouteConfig
from gateway.core.identities import identity
from tests.exchange import exchange

DAY = 86400.0
NOW = 20_000 * DAY
PIPELINE = PipelineConfig(
    "partner",
    routes=(
        RouteConfig("new", prefix="/v2"),
        RouteConfig("old", prefix="/v1", version="1", deprecated=NOW - DAY, sunset=NOW + DAY),
        RouteConfig("ended", path="/v0", sunset=NOW - DAY, successor="/v1"),
        RouteConfig("announced", path="/x", deprecated=NOW + DAY),
        RouteConfig("retired", path="/y", retired=True),
        RouteConfig("errors", path="/errors/{code}", builtin="errors"),
    ),
)
OTHER = PipelineConfig("other", routes=(RouteConfig("docs", path="/docs", builtin="docs"),))
FAILED = {
    "time": "2026-11-30T18:41:27.968Z",
    "request": {"id": "42", "method": "GET", "path": "/v1/a", "client_ip": "192.0.2.7"},
    "client": "acme",
    "decisions": [{"hook": "auth", "outcome": "refused", "why": "s3cr3t", "at": "a.toml:1"}],
    "attempts": [{"endpoint": "10.0.0.7:1", "ms": 1, "why": "s3cr3t"}],
    "upstream": "s3cr3t",
    "status": 403,
    "code": "AUTH_003",
    "detail": "This needs the permission a.",
}


def used(**requests: int) -> dict[str, Any]:
    return {"endpoints": [{"route": name, "requests": count} for name, count in requests.items()]}


def test_only_what_it_uses_is_a_notice():
    found = notices(PIPELINE, used(new=5, old=3, ended=1, announced=2), NOW)
    assert [(one["route"], one["state"], one["requests"]) for one in found] == [
        ("ended", "retired", 1),
        ("old", "deprecated", 3),
        ("announced", "active", 2),
    ]
    assert notices(PIPELINE, used(new=5), NOW) == []


def test_where_usage_is_not_known_all_are():
    assert {one["route"] for one in notices(PIPELINE, None, NOW)} == {
        "old", "ended", "announced", "retired"
    }  # fmt: skip


def test_links():
    assert links_of(PIPELINE, (PIPELINE, OTHER)) == {"errors": "/errors/", "docs": "/docs"}


async def test_everything_at_once():
    asked: list[Any] = []

    async def recent(most: int, wanted: Any) -> Any:
        asked.append(wanted)
        return [FAILED, {**FAILED, "code": None}]

    class Away:
        retention = DAY

        async def history(self, client: str) -> Any:
            raise OSError("late")

    asking = exchange(route="portal")
    asking.route.status = ()
    account = Account(PIPELINE, (PIPELINE, OTHER), Away(), recent, None, lambda: ())  # type: ignore[arg-type]
    who = identity("acme", "jwt", {}, tier="free", permissions=frozenset({"b", "a"}), claims={})
    shown = await account.shown(who, asking, NOW)
    assert asked == [{"client": "acme"}]
    assert (shown["client"], shown["tier"], shown["permissions"]) == ("acme", "free", ["a", "b"])
    assert (shown["usage"], shown["keys"], shown["limits"]) == (None, None, [])
    assert shown["usage_problem"] == "Usage cannot be looked up at the moment."
    assert shown["failures"][0] == {
        "time": FAILED["time"], "id": "42", "method": "GET", "path": "/v1/a", "status": 403,
        "code": "AUTH_003", "detail": FAILED["detail"], "page": "/errors/AUTH_003",
    }  # fmt: skip
    assert shown["failures"][1]["page"] is None
    assert (
        "s3cr3t" not in str(shown)
        and "10.0.0.7" not in str(shown)
        and "192.0.2.7" not in str(shown)
    )
