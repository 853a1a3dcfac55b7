"""`builtin = "errors"`: the list, one code, and nothing for codes that there are not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from gateway.builtins.errors import MEANINGS, catalogue
from gateway.config.tables.pipeline import RouteConfig
from gateway.core.failures import Failed, Failure, OwnFailure, own_failure
from gateway.core.problems import Problems
from tests.exchange import exchange

PROBLEMS = Problems(
    codes={Failure.RATE_LIMITED: "RATE_LIMIT_EXCEEDED"},
    statuses={Failure.QUOTA_EXCEEDED: 429},
    types="/errors/",
)


def errors(path: str, prefix: str = "/errors", **params: str) -> list[dict[str, Any]]:
    asked = exchange("GET", path)
    asked.route = SimpleNamespace(config=RouteConfig(prefix=prefix))
    asked.params = params
    reply = catalogue(PROBLEMS)(asked)
    assert isinstance(reply.body, bytes)
    found: list[dict[str, Any]] = orjson.loads(reply.body)["errors"]
    return found


def test_every_failure_that_clients_see_is_explained():
    assert set(Failure) - set(MEANINGS) == {Failure.CLIENT_GONE}
    listed = errors("/errors")
    assert len(listed) == len(MEANINGS)
    assert all(one["meaning"] and one["action"] for one in listed)


@pytest.mark.parametrize("failure", MEANINGS)
def test_every_type_leads_to_its_failure(failure: Failure):
    asked = exchange("GET", "/")
    reply = PROBLEMS.render(Failed(failure), asked)
    assert isinstance(reply.body, bytes)
    found = errors(orjson.loads(reply.body)["type"])
    assert failure.reason in [one["reason"] for one in found]


def test_one_code_by_any_of_its_names():
    for word in ("RATE_001", "rate_limited", "RATE_LIMIT_EXCEEDED", "rate%5Flimit_exceeded"):
        (found,) = errors(f"/errors/{word}")
        assert (found["code"], found["status"]) == ("RATE_LIMIT_EXCEEDED", 429)
    assert errors("/help/RATE_002", "", code="RATE_002")[0]["status"] == 429
    assert len(errors("/errors/")) == len(MEANINGS)


def test_an_unknown_code():
    with pytest.raises(Failed) as caught:
        errors("/errors/SVC_999")
    assert caught.value.failure is Failure.NO_ROUTE


def test_browsers_get_a_page():
    asked = exchange("GET", "/errors/RATE_001", {"Accept": "text/html,*/*;q=0.8"})
    asked.route = SimpleNamespace(config=RouteConfig(prefix="/errors"))
    codes = {Failure.RATE_LIMITED: "SLOW"}
    reply = catalogue(Problems(codes=codes))(asked)
    assert isinstance(reply.body, bytes)
    assert (
        b"<h2><code>SLOW</code>" in reply.body
        and b"<span>429</span>" in reply.body
        and b"X-RateLimit-Reset" not in reply.body
    )
    assert reply.get(b"content-type") == b"text/html; charset=utf-8"
    assert reply.get(b"vary") == b"Accept"


def test_failures_of_middlewares_are_explained() -> None:
    own: list[OwnFailure] = []
    answer = catalogue(PROBLEMS, own)
    own.append(own_failure("LOOKUP_001", 424, "Lookup failed"))
    route = SimpleNamespace(config=SimpleNamespace(prefixed=("/errors",)))
    for word in ("LOOKUP_001", "lookup_001"):
        asked = exchange("GET", f"/errors/{word}", route="errors")
        asked.route = route
        [entry] = orjson.loads(answer(asked).body)["errors"]
        shown = (entry["code"], entry["status"], entry["title"], entry["meaning"])
        assert shown == ("LOOKUP_001", 424, "Lookup failed", "Lookup failed.")
