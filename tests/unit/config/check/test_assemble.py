"""What routes override, through whole trees: what lies over what, what is said, and where."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from gateway.config.check.settings import merged
from gateway.config.tables.declare import setting, table
from gateway.config.tables.schema import Whole, schema_of
from gateway.config.toml.sources import FileTable, Sources
from tests.unit.config.tree import (
    ROUTE,
    AuthConfig,
    ClassConfig,
    LimitConfig,
    TransformConfig,
    Tree,
)

LIMITS = """
    request = ["rate_limit"]
    [rate_limit]
    limit = 10
    class = "standard"
    classes.standard = { tokens = 5, refill = 2 }
    classes.strict = { tokens = 1 }
    [[route]]
    prefix = "/"
    upstream = "one"
"""


@pytest.mark.parametrize(
    ("what", "override", "loaded"),
    [
        (
            "a key",
            'rate_limit = { class = "strict" }',
            LimitConfig(
                limit=10,
                using="strict",
                classes={"standard": ClassConfig(5, 2), "strict": ClassConfig(1)},
            ),
        ),
        (
            "a key in a table in a table",
            "rate_limit.classes.standard.tokens = 6",
            LimitConfig(
                limit=10, classes={"standard": ClassConfig(6, 2), "strict": ClassConfig(1)}
            ),
        ),
        (
            "another table beside them",
            "rate_limit.classes.free = { tokens = 9 }",
            LimitConfig(
                limit=10,
                classes={
                    "standard": ClassConfig(5, 2),
                    "strict": ClassConfig(1),
                    "free": ClassConfig(9),
                },
            ),
        ),
        (
            "nothing",
            "rate_limit = {}",
            LimitConfig(
                limit=10, classes={"standard": ClassConfig(5, 2), "strict": ClassConfig(1)}
            ),
        ),
    ],
)
def test_a_route_s_table_is_laid_over_the_pipeline_s(
    tree: Tree, what: str, override: str, loaded: LimitConfig
) -> None:
    tree.pipeline(LIMITS, route=override)
    config = tree.compile()
    assert config.pipelines[0].routes[0].settings == {"rate_limit": loaded}, what
    assert config.pipelines[0].settings["rate_limit"].limit == 10


def test_an_array_is_replaced_whole(tree: Tree) -> None:
    tree.pipeline(
        "request = ['auth']\n[auth]\nmethods = ['api_key', 'jwt']\nrealm = 'x'",
        route=ROUTE + "auth.methods = ['jwt']",
    )
    assert tree.compile().pipelines[0].routes[0].settings["auth"] == AuthConfig(("jwt",), realm="x")


def test_a_route_leaves_a_middleware_out(tree: Tree) -> None:
    route = ROUTE + "auth = false\nrate_limit.ip = false"
    tree.pipeline("request = ['rate_limit.ip', 'auth', 'rate_limit']", route=route)
    route_config = tree.compile().pipelines[0].routes[0]
    assert route_config.overrides == {"auth": False, "rate_limit.ip": False}
    assert route_config.settings == {}


def test_a_route_overrides_an_instance(tree: Tree) -> None:
    for written in (
        "rate_limit.ip.limit = 3",
        "rate_limit = { ip = { limit = 3 } }",
        "'rate_limit.ip' = { limit = 3 }",
    ):
        tree.pipeline(
            "request = ['rate_limit.ip', 'rate_limit']\nrate_limit.ip.key = 'client'",
            route=ROUTE + written,
        )
        settings = tree.compile().pipelines[0].routes[0].settings
        assert settings == {"rate_limit.ip": LimitConfig(key="client", limit=3)}, written


def test_what_only_routes_list_is_loaded_for_them(tree: Tree) -> None:
    route = ROUTE + "request = ['transform', 'auth']\ntransform = { script = 'x' }"
    tree.pipeline("[transform]\nbuffer = 5", route=route)
    pipeline = tree.compile().pipelines[0]
    # The pipeline's own table is incomplete, and nobody uses it as it is.
    assert "transform" not in pipeline.settings
    assert pipeline.settings["auth"] == AuthConfig()
    assert pipeline.routes[0].settings == {"transform": TransformConfig("x", 5)}


@pytest.mark.parametrize(
    ("what", "text", "override", "said"),
    [
        (
            "a wrong value in the route",
            "request = ['rate_limit']\n[rate_limit]\nlimit = 1",
            "\nrate_limit = { limit = 0 }",
            ["8: error: rate_limit.limit: must be at least 1"],
        ),
        (
            "a wrong value in the pipeline is said once",
            "request = ['rate_limit']\n[rate_limit]\nlimit = 0",
            "\nrate_limit = { key = 'ip' }",
            ["3: error: rate_limit.limit: must be at least 1"],
        ),
        (
            "the same wrong value in both",
            "request = ['rate_limit']\n[rate_limit]\nlimit = 0",
            "\nrate_limit = { limit = 0 }",
            [
                "3: error: rate_limit.limit: must be at least 1",
                "8: error: rate_limit.limit: must be at least 1",
            ],
        ),
        (
            "what the route makes right is wrong in the pipeline",
            "request = ['rate_limit']\n[rate_limit]\nlimit = 0",
            "\nrate_limit = { limit = 1 }",
            ["3: error: rate_limit.limit: must be at least 1"],
        ),
        (
            "a key missing in both is said once",
            "request = ['transform']\n[transform]\nbuffer = 1",
            "\ntransform = { buffer = 2 }",
            ["2: error: transform.script: is missing"],
        ),
        (
            "a key missing where only the route has the table",
            "name = 'x'\n[transform]\nbuffer = 1",
            "request = ['transform']\ntransform = { buffer = 2 }",
            ["8: error: transform.script: is missing"],
        ),
        (
            "what the pipeline says shows in the route's only",
            "name = 'x'\n[transform]\nbuffer = 'x'",
            "request = ['transform']\ntransform = { script = 'x' }",
            [
                (
                    '3: error: transform.buffer: must be a size such as "10MB" or "64KiB", or a '
                    "number of bytes, not 'x'"
                )
            ],
        ),
        (
            "an unknown key",
            "request = ['rate_limit']",
            "\nrate_limit.classes.a = { tokens = 1, tkens = 1 }",
            ["6: error: rate_limit.classes.a.tkens: is not a known key"],
        ),
        (
            "neither a table nor false",
            "request = ['auth']",
            "\nauth = true",
            ["6: error: auth: must be a table, or false to leave it out"],
        ),
        (
            "a table over what is none",
            "request = ['auth']\nauth = 5",
            "\nauth = { realm = 'x' }",
            ["2: error: auth: must be a table"],
        ),
        (
            "an unknown name",
            "request = ['auth']",
            "\nauht = false\ntimout = '5s'",
            [
                "6: error: route.auht: is not a known key",
                "7: error: route.timout: is not a known key",
            ],
        ),
        (
            "a name that is unknown in the list already",
            "request = ['auht']",
            "\nauht = false",
            ["1: error: no middleware is called 'auht'"],
        ),
        (
            "one that is in no list",
            "request = ['auth']",
            "\ncors = { x = 1 }",
            ["6: warning: this route's 'cors' has no effect: it is in none of its lists"],
        ),
        (
            "one that is not in this route's lists",
            "request = ['auth', 'transform']\ntransform.script = 'x'",
            "request = []\nauth = false\ntransform = { buffer = 'x' }",
            [
                "8: warning: this route's 'transform' has no effect: it is in none of its lists",
                (
                    '8: error: transform.buffer: must be a size such as "10MB" or "64KiB", or a '
                    "number of bytes, not 'x'"
                ),
            ],
        ),
        (
            "lists of a route",
            "request = ['auth']",
            "request = ['auth', 'auth']\nresponse = ['nothing']",
            [
                "5: error: route.request: 'auth' is listed twice",
                "6: error: no middleware is called 'nothing'",
            ],
        ),
    ],
)
def test_what_is_wrong_with_overrides(
    tree: Tree, what: str, text: str, override: str, said: list[str]
) -> None:
    tree.pipeline(text, route=ROUTE.rstrip(" ") + override)
    assert tree.said() == [f"pipelines/main.toml:{line}" for line in said], what


def test_a_hint_for_a_route_s_key(tree: Tree) -> None:
    tree.pipeline("request = ['auth']", route=ROUTE + "timout = '5s'")
    assert tree.only().hint == "did you mean 'timeout'?"


@table
class NumbersConfig:
    """Numbers in a table of their own."""

    low: int = setting(Whole(), default=0, doc="low")
    high: int = setting(Whole(), default=9, doc="high")


@table
class InnerConfig:
    """A limit in one of two ways."""

    ALTERNATIVES: ClassVar = (frozenset(("tokens",)), frozenset(("limit",)))
    tokens: int = setting(Whole(), default=0, doc="tokens")
    limit: int = setting(Whole(), default=0, doc="limit")


@table
class RuleConfig:
    """A rule with keys that stand for one another."""

    ALTERNATIVES: ClassVar = (
        frozenset(("class",)),
        frozenset(("tokens", "burst")),
        frozenset(("limit", "burst")),
    )
    class_: str = setting(default="", name="class", doc="a class")
    tokens: int = setting(Whole(), default=0, doc="tokens")
    limit: int = setting(Whole(), default=0, doc="limit")
    burst: int = setting(Whole(), default=0, doc="burst")
    classes: Mapping[str, NumbersConfig] = setting(default_factory=dict, doc="classes")
    rules: Mapping[str, InnerConfig] = setting(default_factory=dict, doc="rules by name")
    numbers: NumbersConfig = setting(default=NumbersConfig(), doc="numbers")


@pytest.mark.parametrize(
    ("under", "over", "result"),
    [
        ({"class": "a", "classes": {"a": 1}}, {"limit": 1}, {"classes": {"a": 1}, "limit": 1}),
        ({"limit": 1, "burst": 2}, {"class": "a"}, {"class": "a"}),
        ({"limit": 1, "burst": 2}, {"tokens": 3}, {"tokens": 3}),
        ({"limit": 1}, {"burst": 2}, {"limit": 1, "burst": 2}),
        (
            {"classes": {"a": {"low": 1, "high": 2}, "b": {"low": 3}}},
            {"classes": {"a": {"low": 5}}},
            {"classes": {"a": {"low": 5, "high": 2}, "b": {"low": 3}}},
        ),
        (
            {"rules": {"a": {"tokens": 1}, "b": {"tokens": 1}}},
            {"rules": {"a": {"limit": 2}}},
            {"rules": {"a": {"limit": 2}, "b": {"tokens": 1}}},
        ),
        ({"numbers": {"low": 1}}, {"numbers": {"high": 2}}, {"numbers": {"low": 1, "high": 2}}),
    ],
)
def test_merged_as_the_table_has_it(
    under: dict[str, Any], over: dict[str, Any], result: dict[str, Any]
) -> None:
    assert merged(under, over, schema_of(RuleConfig)()) == result


def test_merged(tmp_path: Path) -> None:
    file = FileTable({"file": "x"}, tmp_path, Sources({}))
    other = FileTable({"file": "y"}, file.directory, file.sources)
    assert merged({"a": {"b": 1, "c": [1]}}, {"a": {"c": [2]}, "d": 3}) == {
        "a": {"b": 1, "c": [2]},
        "d": 3,
    }
    assert merged({"a": 1}, {"a": {"b": 1}}) == {"a": {"b": 1}}
    assert merged({"a": {"b": 1}}, {"a": 1}) == {"a": 1}
    assert merged({"a": file}, {"a": other})["a"] is other
    assert merged({"a": file}, {"a": {}})["a"] is file
    assert type(merged({"a": {"b": 1}}, {"a": other})["a"]) is dict
    assert merged({"a": {"b": 1}}, {"a": other})["a"] == {"b": 1, "file": "y"}
