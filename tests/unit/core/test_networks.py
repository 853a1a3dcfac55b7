"""Whether an address is in one of some networks."""

from __future__ import annotations

import pytest

from gateway.core import networks
from gateway.core.networks import Networks


@pytest.mark.parametrize(
    ("listed", "address", "expected"),
    [
        (["10.0.0.0/8"], "10.1.2.3", True),
        (["10.0.0.0/8"], "11.1.2.3", False),
        (["10.0.0.0/8"], "::ffff:10.1.2.3", True),
        (["2001:db8::/32"], "2001:db8::1", True),
        (["2001:db8::/32"], "10.1.2.3", False),
        (["192.0.2.7"], "192.0.2.7", True),
        (["10.0.0.0/8", "::1"], "::1", True),
        (["0.0.0.0/0"], "", False),  # a Unix socket has no address
        ([], "10.1.2.3", False),
    ],
)
def test_membership(listed: list[str], address: str, expected: bool):
    some = Networks(listed)
    assert [address in some for _ in range(2)] == [expected] * 2


def test_its_memory_is_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(networks, "MEMORY", 3)
    some = Networks(["10.0.0.0/8"])
    assert all(f"10.0.0.{number}" in some for number in range(10))
    assert len(some._memory) <= 3


def test_none_at_all():
    assert Networks(["::1"]) and not Networks([])
    assert (
        repr(Networks([])) == "nowhere"
        and repr(Networks(["10.0.0.0/8", "::1"])) == "10.0.0.0/8, ::1/128"
    )


def test_unix_sockets_are_trusted_by_name():
    some = Networks(["unix", "10.0.0.0/8"])
    assert some and "unix" in some and "10.0.0.1" in some and "else" not in some
    assert repr(some) == "10.0.0.0/8, unix"
    assert "unix" not in Networks(["0.0.0.0/0", "::/0"])
    assert Networks(["unix"]) and "10.0.0.1" not in Networks(["unix"])
