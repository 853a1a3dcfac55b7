from __future__ import annotations

import pytest

from gateway.core import networks as module
from gateway.core.networks import Networks, address_key


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "20010db800010002"),
        ("fe80::1%eth0", "fe80000000000000"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::1", "0000000000000000"),
        ("unix:", "unix:"),
        ("unix", "unix"),
        ("", ""),
    ],
)
def test_what_limits_count_an_address_as(address: str, key: str):
    assert address_key(address) == key


def test_the_memory_of_addresses_is_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "MEMORY", 2)
    networks = Networks(["10.0.0.0/8"])
    for number in range(5):
        assert f"10.0.0.{number}" in networks
    assert len(networks._memory) <= 2
