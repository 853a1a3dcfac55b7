"""The promise to operators: ten different mistakes in three files are ten messages, each with its
file, line and a hint."""

import pytest

from gateway.config.toml.problems import ConfigErrors
from tests.unit.config.tree import Tree

GATEWAY = """
    include = ["upstreams.toml", "pipelines/*.toml"]

    [listen]
    port = 80800

    [server]
    hedaer_timeout = "10s"

    [admin]
    token = "${GATEWAY_ADMIN_TOKEN}"
"""

UPSTREAMS = """
    [upstream.becamera]
    balance = "least_conections"
    endpoints = [
      { url = "http://127.0.0.1:3001", weight = 2 },
      { url = "http://127.0.0.1:3001" },
    ]

    [upstream.beauth]
    timeouts = { connect = "5s" }
"""

PIPELINE = """
    request = ["cors", "rate_limt", "auth"]
    error = ["error_handler", "cors"]

    [auth]
    methods = ["api_key", "password"]

    [[route]]
    prefix = "/api/v1/cameras"
    upstream = "becam"

    [[route]]
    path = "/api/v1/cameras/{id}"
    upstream = "becamera"
    rewrite = "/cameras/{camera}"
"""

BALANCE = "least_connections, round_robin, ip_hash, hash, random, random_two"
TOLD = """
gateway.toml:4:1: error: listen.port: must be from 0 to 65535
gateway.toml:7:1: error: server.hedaer_timeout: is not a known key (hint: did you mean 'header_timeout'?)
gateway.toml:10:1: error: the environment has no GATEWAY_ADMIN_TOKEN (hint: set it, or write ${GATEWAY_ADMIN_TOKEN:-default})
pipelines/partner.toml:1:20: error: no middleware is called 'rate_limt' (hint: did you mean 'rate_limit'?)
pipelines/partner.toml:5:23: error: auth.methods: must be one of api_key, jwt
pipelines/partner.toml:9:1: error: route.upstream: no upstream is called 'becam' (hint: did you mean 'becamera'?)
pipelines/partner.toml:14:1: error: route.rewrite: there is nothing called {camera} (hint: known: id, path)
upstreams.toml:2:1: error: upstream.becamera.balance: must be one of {BALANCE} (hint: did you mean 'least_connections'?)
upstreams.toml:5:5: error: 'http://127.0.0.1:3001' is an endpoint of 'becamera' already (hint: see line 4)
upstreams.toml:8:11: error: upstream 'beauth' has no endpoints (hint: endpoints = [{ url = "http://..." }])
""".replace("{BALANCE}", BALANCE)


def write(tree: Tree) -> None:
    tree.write("gateway.toml", GATEWAY)
    tree.write("upstreams.toml", UPSTREAMS)
    tree.write("pipelines/partner.toml", PIPELINE)


def test_every_mistake_is_told_at_once(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree.root)
    write(tree)
    with pytest.raises(ConfigErrors) as caught:
        tree.compile()
    assert str(caught.value).splitlines() == TOLD.strip().splitlines()
    assert len(caught.value.errors) == 10


def test_each_can_be_mended_by_its_message(tree: Tree) -> None:
    """Mending them one after the other leaves the rest as they were, and in the end nothing."""
    write(tree)
    left = len(tree.problems())
    for name, wrong, right in (
        ("gateway.toml", "80800", "8080"),
        ("gateway.toml", "hedaer_timeout", "header_timeout"),
        ("gateway.toml", "${GATEWAY_ADMIN_TOKEN}", "${GATEWAY_ADMIN_TOKEN:-default}"),
        ("pipelines/partner.toml", "rate_limt", "rate_limit"),
        ("pipelines/partner.toml", "password", "jwt"),
        ("pipelines/partner.toml", 'becam"', 'becamera"'),
        ("pipelines/partner.toml", "{camera}", "{id}"),
        ("upstreams.toml", "least_conections", "least_connections"),
        ("upstreams.toml", '3001" }', '3002" }'),
        ("upstreams.toml", "timeouts = {", "url = 'http://127.0.0.1:3003'\ntimeouts = {"),
    ):
        text = (tree.root / name).read_text()
        assert wrong in text
        tree.write(name, text.replace(wrong, right))
        errors = [problem for problem in tree.problems() if problem.severity == "error"]
        assert len(errors) == left - 1, f"{wrong} in {name}"
        left -= 1
    # a finding of its own, made where there are no errors
    unused = "no route leads to the upstream 'beauth'"
    assert [problem.message for problem in tree.compile().warnings] == [unused]
