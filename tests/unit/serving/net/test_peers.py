from __future__ import annotations

from ipaddress import ip_network

import pytest

from gateway.serving.net.peers import Peers

PROXIES = Peers([ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")])


@pytest.mark.parametrize(
    ("address", "trusted"),
    [
        ("10.1.2.3", True),
        ("11.1.2.3", False),
        ("2001:db8::1", True),
        ("2001:db9::1", False),
        ("unix", False),
        ("", False),
        ("::ffff:10.1.2.3", True),
    ],
)
def test_only_the_operators_networks_are_trusted(address, trusted):
    assert PROXIES.trusts(address) is trusted
    assert PROXIES.trusts(address) is trusted, "remembered"


def test_a_network_within_ipv6_means_its_ipv4_one():
    peers = Peers([ip_network("::ffff:10.0.0.0/104")])
    assert (
        peers.trusts("10.1.2.3")
        and peers.trusts("::ffff:10.1.2.3")
        and not peers.trusts("11.1.2.3")
    )
    assert not Peers([ip_network("::/0")]).trusts("10.1.2.3")


def test_nobody_is_trusted_by_default():
    assert not Peers(()).trusts("127.0.0.1")


@pytest.mark.parametrize(
    ("lines", "client", "why"),
    [
        ([], "10.0.0.1", "no account: the proxy itself"),
        (["203.0.113.7"], "203.0.113.7", "one hop"),
        (
            ["6.6.6.6, 203.0.113.7, 10.0.0.2"],
            "203.0.113.7",
            "left of the first stranger anybody may have written",
        ),
        (["6.6.6.6", "203.0.113.7"], "203.0.113.7", "lines join in order"),
        (["10.0.0.9, 10.0.0.2"], "10.0.0.9", "all proxies: the farthest"),
        (["203.0.113.7:5555"], "203.0.113.7", "a port is not part of it"),
        (["[2001:db9::7]:5555"], "2001:db9::7", "IPv6 with a port"),
        (["2001:db9::7"], "2001:db9::7", "IPv6 without"),
        (["6.6.6.6, nonsense, 10.0.0.2"], "10.0.0.2", "what is no address ends the account"),
        (["203.0.113.9, ::ffff:10.0.0.5"], "203.0.113.9", "a proxy's address within IPv6"),
        (["203.0.113.9, [::ffff:10.0.0.5]:443"], "203.0.113.9", "and with a port"),
        (["::ffff:203.0.113.9"], "203.0.113.9", "a client's address within IPv6"),
        (["203.0.113.9,"], "203.0.113.9", "a comma at the end"),
        (["203.0.113.9, , 10.0.0.2,,"], "203.0.113.9", "empty members"),
        ([",", ""], "10.0.0.1", "nothing but commas"),
    ],
)
def test_the_client_is_the_rightmost_stranger(lines, client, why):
    assert PROXIES.client("10.0.0.1", lines) == client, why
