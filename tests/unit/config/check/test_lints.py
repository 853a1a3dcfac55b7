from types import SimpleNamespace
from typing import Any

import pytest

from gateway.config.check.lints import Lists, findings
from gateway.middlewares.caching.config import CachingConfig
from gateway.middlewares.rate_limit.config import RateLimitConfig
from gateway.middlewares.transform.config import (
    BodyConfig,
    QueryConfig,
    RequestChanges,
    ResponseChanges,
    TransformConfig,
)
from tests.unit.config.tree import ROUTE, Tree

CLEAN = """
    request  = ["cors", "rate_limit.ip", "auth", "rate_limit", "validation", "caching", "logging"]
    response = ["caching", "compression", "cors", "logging", "metrics"]
    error    = ["error_handler", "fallback", "cors", "logging", "metrics"]
    rate_limit = { key = "client", ip = { key = "ip" } }
"""
"""The lists of the contract."""


def test_the_contract_s_lists_mean_what_they_say(tree: Tree) -> None:
    tree.pipeline(CLEAN)
    assert tree.said() == []


@pytest.mark.parametrize(
    ("what", "text"),
    [
        (
            "compression before caching, as in the requirements",
            'request = ["caching"]\nresponse = ["compression", "caching"]',
        ),
        (
            "no auth at all",
            (
                'request = ["rate_limit", "caching", "validation"]\nresponse = '
                '["caching"]\nrate_limit.key = "ip"'
            ),
        ),
        ("a limit by address before auth", 'request = ["rate_limit", "auth"]'),
        ("logging on errors alone", 'error = ["error_handler", "logging"]'),
        ("logging on requests alone", 'request = ["logging"]'),
    ],
)
def test_lists_that_are_fine(tree: Tree, what: str, text: str) -> None:
    tree.pipeline(text)
    assert tree.said() == [], what


@pytest.mark.parametrize(
    ("what", "text", "place", "message"),
    [
        (
            "caching before auth",
            'request = ["caching", "auth"]\nresponse = ["caching"]',
            (1, 12),
            "'caching' comes before 'auth': what it has stored goes to callers nobody has checked",
        ),
        (
            "validation before auth",
            'request = ["validation", "auth"]',
            (1, 12),
            (
                "'validation' comes before 'auth': it reads and judges the bodies of callers "
                "nobody "
                "has checked"
            ),
        ),
        (
            "a limit by client before auth",
            'request = ["rate_limit", "auth"]\nrate_limit.key = "client"',
            (1, 12),
            "'rate_limit' limits by client but comes before 'auth': no client is known there yet",
        ),
        (
            "an instance of one",
            'request = ["rate_limit",\n"rate_limit.x", "auth"]\nrate_limit.x.key = "client"',
            (2, 1),
            "'rate_limit.x' limits by client but comes before 'auth': no client is known there yet",
        ),
        (
            "a limit by client without auth",
            'request = ["rate_limit"]\nrate_limit.key = "client"',
            (1, 12),
            (
                "'rate_limit' limits by client, but without 'auth' no client is known: callers "
                "count "
                "by address"
            ),
        ),
        (
            "caching that never stores",
            'request = ["caching"]',
            (1, 12),
            "caching is in request but not in response: it never stores what it looks up",
        ),
        (
            "caching that never looks up",
            'response = ["caching"]',
            (1, 13),
            "caching is in response but not in request: it never looks up what it stores",
        ),
        (
            "cors in request",
            'request = ["cors"]',
            (1, 12),
            "cors is not in error: browsers hide errors from the pages that asked",
        ),
        (
            "cors in both",
            'request = ["cors"]\nresponse = ["cors"]',
            (2, 13),
            "cors is not in error: browsers hide errors from the pages that asked",
        ),
        (
            "logging of answers alone",
            'response = ["logging"]',
            (1, 13),
            "logging is in response but not in error: requests that fail are not logged",
        ),
        (
            "metrics of answers alone",
            'response = ["metrics"]\nerror = ["error_handler", "logging"]',
            (1, 13),
            "metrics is in response but not in error: requests that fail are not counted",
        ),
    ],
)
def test_lists_that_cannot_mean_what_they_say(
    tree: Tree, what: str, text: str, place: tuple[int, int], message: str
) -> None:
    tree.pipeline(text)
    problem = tree.only()
    assert ((problem.line, problem.column), problem.message, problem.severity) == (
        place,
        message,
        "warning",
    ), what
    assert problem.hint


@pytest.mark.parametrize(
    ("methods", "prefixes", "said"),
    [
        (("jwt",), (None,), False),
        (("jwt",), (None, None), True),
        (("jwt",), (None, "partners:"), False),
        (("jwt",), ("", None), False),
        (("jwt",), (None, None, "x:"), True),
        (("api_key",), (None, None), False),
        (("jwt", "introspection"), (None,), True),
    ],
)
def test_issuers_whose_names_may_be_the_same(
    methods: tuple[str, ...], prefixes: tuple[str | None, ...], said: bool
) -> None:
    issuers = [SimpleNamespace(claims=SimpleNamespace(prefix=prefix)) for prefix in prefixes]
    auth = SimpleNamespace(
        methods=methods,
        jwt=issuers,
        introspection=SimpleNamespace(claims=SimpleNamespace(prefix=None)),
    )
    found = findings(Lists((("auth", ("request", 0)),), (), (), {"auth": auth}))
    assert [path for path, _, _ in found] == ([("request", 0)] if said else [])


def test_a_limit_whose_table_does_not_load_is_left_in_peace(tree: Tree) -> None:
    tree.pipeline('request = ["rate_limit", "auth"]\nrate_limit = { key = "client", limit = 0 }')
    assert tree.only().severity == "error"


@pytest.mark.parametrize(
    ("what", "route", "said"),
    [
        (
            "a list of its own",
            'request = ["caching", "auth"]',
            ["8: 'caching' comes before 'auth'"],
        ),
        (
            "a list that leaves looking up out",
            'request = ["auth"]',
            ["6: caching is in response but not in request"],
        ),
        (
            "what it overrides",
            'rate_limit.ip = { key = "client" }',
            ["8: 'rate_limit.ip' limits by client but comes before 'auth'"],
        ),
        ("leaving out what makes it odd", "auth = false", []),
        ("leaving out one half of two", "cors = false", []),
        ("a gateway's own answer", 'builtin = "health"\nrequest = []', []),
    ],
)
def test_lists_of_routes(tree: Tree, what: str, route: str, said: list[str]) -> None:
    target = "" if "builtin" in route else "upstream = 'one'"
    tree.pipeline(CLEAN, route=f"\n[[route]]\nprefix = '/'\n{route}\n{target}")
    found = [f"{problem.line}: {problem.message}" for problem in tree.problems()]
    assert [line[: len(start)] for line, start in zip(found, said, strict=True)] == said, what


def test_what_holds_for_pipeline_and_route_is_said_once(tree: Tree) -> None:
    tree.pipeline('response = ["logging"]', route=ROUTE + 'request = ["auth"]')
    assert len(tree.problems()) == 1


def test_a_route_that_says_it_does_without_auth_may_limit_by_client(tree: Tree) -> None:
    tree.pipeline(
        'request = ["auth", "rate_limit"]\nrate_limit.key = "client"', route=ROUTE + "auth = false"
    )
    assert tree.said() == []


def lists(settings: dict[str, Any], request: str = "", response: str = "") -> list[str]:
    entries = [[(name, ("request", 0)) for name in names.split()] for names in (request, response)]
    return [message for _, message, _ in findings(Lists(*entries, [], settings))]


def test_a_cost_that_is_never_read() -> None:
    costs = RateLimitConfig(key="ip", cost_header="X-Cost")
    said = ["'rate_limit' has a cost_header but is not in response: no cost is ever read"]
    assert lists({"rate_limit": costs}, "rate_limit") == said
    assert (
        lists(
            {"rate_limit": RateLimitConfig(key="ip", rules=(costs,))}, "rate_limit", "rate_limit.x"
        )
        == said
    )
    assert lists({"rate_limit": costs}, "rate_limit", "rate_limit") == []


def test_names_in_what_is_invalidated() -> None:
    settings = {"caching": CachingConfig(invalidate=("/a/*", "/b/{id}"))}
    listed = [("caching", ("request", 0))]
    said = [
        "invalidate of 'caching' has {id}, which is not in the path: a write takes nothing out by "
        "it"
    ]
    for names, expected in ((None, []), (("id", "x"), []), (("x",), said)):
        found = findings(Lists(listed, listed, (), settings, names=names))
        assert [message for _, message, _ in found] == expected


def test_a_query_that_is_changed_behind_the_cache() -> None:
    said = [
        "'transform' changes the query behind 'caching': what is stored has the key of the one "
        "before"
    ]
    for query in (QueryConfig(set={"tenant": "{client}"}), QueryConfig(remove=("debug",))):
        settings = {"transform": TransformConfig(request=RequestChanges(query=query))}
        assert lists(settings, "caching transform", "caching") == said
        assert lists(settings, "transform caching", "caching") == []
        assert lists(settings, "transform", "") == []
    fields = TransformConfig(request=RequestChanges(set={"X-A": "1"}))
    assert lists({"transform": fields}, "caching transform", "caching") == []


def test_changed_bodies_of_answers() -> None:
    config = TransformConfig(response=ResponseChanges(body=BodyConfig(remove=("a",))))
    settings = {"transform": config}
    assert lists(settings, "caching transform", "caching transform compression") == []
    assert lists(settings, "", "transform") == [
        "'transform' changes bodies but is not in request: upstreams may answer compressed, "
        "which it cannot read"
    ]
    assert lists(settings, "transform caching", "compression transform caching") == [
        "'transform' changes bodies but stands behind 'compression': it cannot read them there",
        "'transform' stands before 'caching': what is stored has one caller's values in it",
    ]
    fields = TransformConfig(response=ResponseChanges(set={"X-A": "1"}))
    assert lists({"transform": fields}, "", "transform") == []
