from __future__ import annotations

from ipaddress import ip_network

import pytest

from gateway.serving.net import peers as module
from gateway.serving.net.peers import Peers

PROXIES = Peers([ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")])


@pytest.mark.parametrize(
    ("address", "trusted"),
    [("10.1.2.3", True), ("11.1.2.3", False), ("2001:db8::1", True), ("2001:db9::1", False), ("unix", False), ("", False)],
)
def test_only_the_operators_networks_are_trusted(address, trusted):
    assert PROXIES.trusts(address) is trusted
    assert PROXIES.trusts(address) is trusted, "remembered"


def test_nobody_is_trusted_by_default():
    assert not Peers(()).trusts("127.0.0.1")


@pytest.mark.parametrize(
    ("lines", "client", "why"),
    [
        ([], "10.0.0.1", "no account: the proxy itself"),
        (["203.0.113.7"], "203.0.113.7", "one hop"),
        (["6.6.6.6, 203.0.113.7, 10.0.0.2"], "203.0.113.7", "left of the first stranger anybody may have written"),
        (["6.6.6.6", "203.0.113.7"], "203.0.113.7", "lines join in order"),
        (["10.0.0.9, 10.0.0.2"], "10.0.0.9", "all proxies: the farthest"),
        (["203.0.113.7:5555"], "203.0.113.7", "a port is not part of it"),
        (["[2001:db9::7]:5555"], "2001:db9::7", "IPv6 with a port"),
        (["2001:db9::7"], "2001:db9::7", "IPv6 without"),
        (["6.6.6.6, nonsense, 10.0.0.2"], "10.0.0.2", "what is no address ends the account"),
    ],
)
def test_the_client_is_the_rightmost_stranger(lines, client, why):
    assert PROXIES.client("10.0.0.1", lines) == client, why


def test_the_memo_is_bounded(monkeypatch):
    monkeypatch.setattr(module, "_MEMO_MAX", 2)
    peers = Peers([ip_network("10.0.0.0/8")])
    for number in range(5):
        assert peers.trusts(f"10.0.0.{number}")
    assert len(peers._memo) <= 2
