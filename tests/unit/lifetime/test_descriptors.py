"""Descriptors that are kept, and configurations that want more than there are."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.config.tables.endpoints import EndpointConfig
from gateway.config.tables.server import GatewayConfig, ServerConfig
from gateway.config.tables.upstream import UpstreamConfig
from gateway.lifetime import descriptors
from gateway.lifetime.descriptors import OWN, Reserve, shortage


def test_what_is_kept_can_be_given_up():
    reserve = Reserve(2, "clients")
    assert not reserve.give_up() and repr(reserve) == "<Reserve for clients, 0 of 2>"
    reserve.fill()
    kept = tuple(reserve._kept)
    assert len(reserve) == 2 and not any(os.get_inheritable(one) for one in kept)
    assert reserve.give_up() and len(reserve) == 1
    reserve.fill()
    assert len(reserve) == 2
    reserve.close()
    assert len(reserve) == 0


def test_there_may_be_none_to_keep(monkeypatch: pytest.MonkeyPatch, caplog: Any):
    def none_left(*_: object) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(descriptors.os, "open", none_left)
    reserve = Reserve(2, "clients")
    reserve.fill()
    assert len(reserve) == 0 and "no descriptors are left to reserve for clients" in caplog.text


@pytest.mark.parametrize(
    ("clients", "endpoints", "allowed", "said"),
    [
        (100, [], 100 + OWN, ""),
        (100, [], 99 + OWN, "100 clients need about 164 open files, of which this process may"),
        (100, [5, 6], 111 + OWN, ""),
        (100, [5, 6], 110 + OWN, "100 clients and 11 connections to endpoints need about 175"),
        (0, [], 1000, ""),
        (10**9, [], resource.RLIM_INFINITY, ""),
    ],
)
def test_more_than_there_are(
    monkeypatch: pytest.MonkeyPatch, clients: int, endpoints: list[int], allowed: int, said: str
):
    monkeypatch.setattr(descriptors.resource, "getrlimit", lambda _: (10, allowed))
    urls = [EndpointConfig(f"http://a:{most}", max_connections=most) for most in endpoints]
    loaded: Any = SimpleNamespace(
        gateway=GatewayConfig(server=ServerConfig(max_connections=clients)),
        upstreams={"a": UpstreamConfig(endpoints=tuple(urls))},
        locate=lambda pipeline, path: (Path("gateway.toml"), 3, 1),
    )
    found = shortage(loaded)
    assert bool(found) is bool(said)
    for problem in found:
        assert problem.severity == "warning" and said in problem.message and problem.line == 3
