"""An upstream's protocol against its URLs and checks."""

from __future__ import annotations

import pytest

from gateway.config.check import protocols
from tests.unit.config.tree import Tree

TLS, CLEAR = "https://127.0.0.1:1", "http://127.0.0.1:1"


def problems(tree: Tree, *lines: str) -> list[tuple[str, str, str]]:
    if not (tree.root / "pipelines").exists():
        tree.pipeline("name = 'x'")
    tree.write("upstreams.toml", "\n".join(("[upstream.one]", *lines)))
    return [(one.severity, one.message, one.hint) for one in tree.problems()]


@pytest.mark.parametrize(
    ("protocol", "url"),
    [("http1", CLEAR), ("h2", TLS), ("h2c", CLEAR), ("h2c", "unix:/run/a.sock"), ("auto", TLS)],
)
def test_what_goes_together(tree: Tree, protocol: str, url: str) -> None:
    assert problems(tree, f"protocol = '{protocol}'", f"url = '{url}'") == []


@pytest.mark.parametrize(
    ("protocol", "url", "hint"),
    [
        ("h2", CLEAR, 'use "h2c"'),
        ("h2", "unix:/run/a.sock", 'use "h2c"'),
        ("h2c", TLS, 'use "h2"'),
    ],
)
def test_what_does_not(tree: Tree, protocol: str, url: str, hint: str) -> None:
    for line in (f"url = '{url}'", f"endpoints = [{{ url = '{url}' }}]"):
        ((severity, message, said),) = problems(tree, f"protocol = '{protocol}'", line)
        assert severity == "error" and repr(url) in message and said == hint


def test_auto_needs_tls_to_choose(tree: Tree) -> None:
    ((severity, message, _),) = problems(tree, "protocol = 'auto'", f"url = '{CLEAR}'")
    assert severity == "warning" and "no effect" in message
    found = "discover = { dns = 'a.test:1' }"
    assert problems(tree, "protocol = 'auto'", f"url = '{CLEAR}'", found) == []


def test_checks_by_grpc_need_http2(tree: Tree) -> None:
    check = "health = { type = 'grpc', service = 'a.B' }"
    assert problems(tree, "protocol = 'h2c'", f"url = '{CLEAR}'", check) == []
    ((severity, message, _),) = problems(tree, f"url = '{CLEAR}'", check)
    assert severity == "error" and "grpc" in message
    ((severity, message, _),) = problems(tree, f"url = '{CLEAR}'", "health = { service = 'a' }")
    assert severity == "error" and "service" in message


def test_the_extra_is_named_where_it_is_missing(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocols, "find_spec", lambda name: None)
    assert problems(tree, f"url = '{CLEAR}'") == []
    ((severity, message, hint),) = problems(tree, "protocol = 'h2c'", f"url = '{CLEAR}'")
    assert severity == "error" and "extra http2" in message and "[http2]" in hint
