"""What a reload says it has changed: names of what differs, and no value."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config.check.compile import LoadedConfig
from gateway.config.tables.addresses import TlsConfig
from gateway.config.tables.server import GatewayConfig, ListenConfig
from gateway.runtime.diff import differences, restarts
from gateway.runtime.reload import load
from tests.flow.conftest import write

ROUTE = '[[route]]\nname = "all"\nprefix = "/"\nupstream = "a"\n'
A = (
    '[upstream.a]\nendpoints = [{ url = "http://127.0.0.1:3001" }, { url = '
    '"http://127.0.0.1:3002" }]\n'
)
LIMIT = 'request = ["rate_limit"]\n[rate_limit]\nkey = "ip"\ntokens = 5\nrefill = 5\n'


def loaded(
    directory: Path, pipeline: str = ROUTE, upstreams: str = A, gateway: str = ""
) -> LoadedConfig:
    write(directory, pipeline, upstreams, gateway)
    return load(directory / "gateway.toml", {})


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, []),
        ({"gateway": '[server]\nmax_uri = "4KiB"\n'}, ["[server] changed"]),
        (
            {"gateway": "[listen]\nport = 8081\n"},
            ["[listen] changed (takes effect at the next start)"],
        ),
        ({"upstreams": A + '[upstream.b]\nurl = "http://127.0.0.1:3003"\n'}, ["upstream b added"]),
        ({"upstreams": A + 'balance = "random"\n'}, ["upstream a changed: balance"]),
        (
            {"upstreams": A.replace('3002" }', '3002", weight = 2 }')},
            ["upstream a changed: endpoint http://127.0.0.1:3002"],
        ),
        (
            {"upstreams": A.replace("3002", "3003")},
            [
                (
                    "upstream a changed: endpoint http://127.0.0.1:3003 added, endpoint "
                    "http://127.0.0.1:3002 removed"
                )
            ],
        ),
        ({"pipeline": ROUTE + 'timeout = "5s"\n'}, ["route test/all changed: timeout"]),
        (
            {"pipeline": ROUTE.replace('"all"', '"other"')},
            ["route test/other added", "route test/all removed"],
        ),
        ({"pipeline": LIMIT + ROUTE}, ["pipeline test changed: [rate_limit], request"]),
    ],
)
def test_changes(tmp_path: Path, change: dict[str, str], expected: list[str]):
    old = loaded(tmp_path)
    found = list(differences(old, loaded(tmp_path, **change)))
    assert [sorted_parts(line) for line in found] == [sorted_parts(line) for line in expected]
    back = list(differences(loaded(tmp_path, **change), loaded(tmp_path)))
    assert len(back) == len(expected)


def sorted_parts(line: str) -> tuple[str, list[str]]:
    what, _, parts = line.partition(": ")
    return what, sorted(parts.split(", "))


def test_secrets_are_not_in_it(tmp_path: Path):
    auth = (
        'request = ["auth"]\n[auth]\nmethods = ["jwt"]\n[[auth.jwt]]\nissuer = '
        '"x"\nalgorithms = ["HS256"]\nsecret = "{}"\n'
    )
    one, other = "a" * 64, "b" * 64
    [line] = differences(
        loaded(tmp_path, auth.format(one) + ROUTE),
        loaded(tmp_path, auth.format(other) + ROUTE),
    )
    assert line == "pipeline test changed: [auth]"


def test_what_waits_for_a_restart_is_what_differs_from_the_start(tmp_path: Path):
    started = loaded(tmp_path).gateway
    moved = loaded(tmp_path, gateway="[admin]\nport = 9999\n")
    assert restarts(started, moved.gateway) == ("admin",)
    [line] = differences(loaded(tmp_path), moved, started)
    assert line == "[admin] changed (takes effect at the next start)"
    other = loaded(tmp_path, gateway='[admin]\nport = 9999\n[server]\nmax_uri = "4KiB"\n')
    assert list(differences(moved, other, started)) == ["[server] changed"], "it was said before"
    back = loaded(tmp_path)
    assert list(differences(moved, back, started)) == [
        "[admin] changed back (nothing waits for a restart)"
    ]
    assert restarts(started, back.gateway) == ()


def test_certificates_wait_for_no_restart():
    started = GatewayConfig(listen=ListenConfig(tls=TlsConfig("a.pem", "a.key")))
    renewed = GatewayConfig(listen=ListenConfig(tls=TlsConfig("b.pem", "b.key")))
    assert restarts(started, renewed) == ()
    assert restarts(started, GatewayConfig()) == ("listen",)
