"""What a route may lead to, and where a redirect may send clients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway.config.check.placed import Placed
from gateway.config.check.targets import Destination, check_target, destination
from gateway.config.tables.pipeline import RouteConfig
from gateway.config.tables.targets import (
    MirrorConfig,
    RedirectTargetConfig,
    RespondConfig,
    Shares,
)
from gateway.config.toml.problems import Problems
from gateway.config.toml.read import Document
from gateway.core.hooks import ConfigProblem


@pytest.mark.parametrize(
    ("to", "parts"),
    [
        (
            "https://new.example.com{path}{?query}",
            Destination("https://new.example.com", "{path}", True),
        ),
        ("https://new.example.com", Destination("https://new.example.com", "/", False)),
        ("http://new:8080{?query}", Destination("http://new:8080", "/", True)),
        ("https://new?a=1", Destination("https://new", "/?a=1", False)),
        ("https://[::1]:8443/x", Destination("https://[::1]:8443", "/x", False)),
        ("https://{host}:8443{path}", Destination("https://{host}:8443", "{path}", False)),
        ("https://api.{host}{path}", Destination("https://api.{host}", "{path}", False)),
        ("/v2/{id}?old=1{?query}", Destination("", "/v2/{id}?old=1", True)),
        ("{path}", Destination("", "{path}", False)),
    ],
)
def test_parts_of_a_destination(to: str, parts: Destination) -> None:
    assert destination(to, ("id",), has_hosts=True) == parts


@pytest.mark.parametrize(
    ("what", "to"),
    [
        ("another host by its first slashes", "//new.example.com{path}"),
        ("a template's name as host", "https://{id}/x"),
        ("a name right behind the host", "https://new.example.com{id}"),
        ("a host right behind the path's name", "https://new.example.com.{id}/"),
        ("the host as a user", "https://{host}@new.example.com/"),
        ("a user", "https://user@new.example.com/"),
        ("no host", "https:///x"),
        ("the path in place of a host", "https://{path}"),
        ("a scheme that runs a script", "javascript:alert(1)"),
        ("no URL", "new.example.com"),
        ("an unknown name", "https://new.example.com/{nothing}"),
        ("the query in the middle", "https://new.example.com{?query}/x"),
        ("half a brace", "https://new.example.com/{"),
        ("dots", "https://new.example.com/../x"),
        ("a fragment", "https://new.example.com/#x"),
        ("a port that is none", "https://new.example.com:99999/"),
    ],
)
def test_destinations_that_are_refused(what: str, to: str) -> None:
    with pytest.raises(ConfigProblem) as raised:
        destination(to, ("id",), has_hosts=True)
    assert raised.value.at == ("redirect", "to"), what


def test_the_host_that_was_asked_for_needs_hosts() -> None:
    with pytest.raises(ConfigProblem, match="clients would choose"):
        destination("https://{host}{path}", (), has_hosts=False)


def said(upstreams: tuple[str, ...] = ("one", "two"), **keys: Any) -> list[str]:
    document = Document(Path("/x.toml"), Problems())
    placed = Placed(document, ("route", 0), RouteConfig(prefix="/", **keys))
    check_target(placed, upstreams, ())
    return [f"{problem.severity}: {problem.message}" for problem in document.problems.all()]


TO = RedirectTargetConfig("https://new.example.com{path}")


@pytest.mark.parametrize(
    ("what", "keys", "found"),
    [
        ("an upstream", {"upstream": "one"}, []),
        ("shares", {"upstream": Shares({"one": 9, "two": 1}), "sticky": True}, []),
        ("a redirect", {"redirect": TO, "strip_prefix": "/a"}, []),
        ("an answer", {"respond": RespondConfig(204)}, []),
        ("nothing", {}, ["error: route: has no upstream, builtin, redirect or respond"]),
        (
            "two",
            {"upstream": "one", "redirect": TO},
            ["error: route.redirect: stands beside upstream; a route has one of them"],
        ),
        ("a mirror", {"upstream": "one", "mirror": MirrorConfig("two")}, []),
        (
            "a mirror of an answer",
            {"respond": RespondConfig(), "mirror": MirrorConfig("two")},
            ["warning: route.mirror: has no effect on the gateway's own answers"],
        ),
        (
            "an unknown mirror",
            {"upstream": "one", "mirror": MirrorConfig("tow")},
            ["error: route.mirror: no upstream is called 'tow'"],
        ),
        (
            "an unknown one",
            {"upstream": Shares({"one": 9, "tow": 1})},
            ["error: route.upstream: no upstream is called 'tow'"],
        ),
        (
            "sticky alone",
            {"upstream": "one", "sticky": True},
            ["warning: route.sticky: has an effect on shares of several upstreams only"],
        ),
        (
            "a time for an answer",
            {"respond": RespondConfig(), "timeout": 1.0},
            ["warning: route.timeout: has no effect on the gateway's own answers"],
        ),
        (
            "a rewrite beside a redirect",
            {"redirect": TO, "rewrite": "/x"},
            ["warning: route.rewrite: has no effect beside redirect"],
        ),
        (
            "a redirect to nowhere",
            {"redirect": RedirectTargetConfig("new.example.com")},
            ["error: route.redirect: 'new.example.com' is no http(s) URL and no path"],
        ),
    ],
)
def test_findings_about_a_target(what: str, keys: dict[str, Any], found: list[str]) -> None:
    assert said(**keys) == found, what
