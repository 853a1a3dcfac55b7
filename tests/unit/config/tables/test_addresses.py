"""Addresses to listen on, as they are written."""

from __future__ import annotations

from pathlib import Path

import pytest
from marshmallow import ValidationError

from gateway.config.tables.addresses import AddressField, FileMode, ListenAddress
from gateway.config.tables.load import load
from gateway.config.tables.server import ListenConfig
from gateway.config.toml.sources import Outside


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("0.0.0.0:8080", ListenAddress("0.0.0.0", 8080)),
        ("[::]:8080", ListenAddress("::", 8080)),
        ("[fe80::1%eth0]:80", ListenAddress("fe80::1%eth0", 80)),
        ("localhost:0", ListenAddress("localhost", 0)),
        ("unix:/run/gateway.sock", ListenAddress(path="/run/gateway.sock")),
    ],
)
def test_addresses(written: str, address: ListenAddress):
    assert AddressField().deserialize(written) == address
    assert str(address) == written


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("8080", "must be an address and a port"),
        (":8080", "must be an address and a port"),
        ("*", "must be an address and a port"),
        ("::1:8080", "must be an address and a port"),
        ("[::1]", "must be an address and a port"),
        ("[127.0.0.1:80", "must be an address and a port"),
        ("127.0.0.1:", "must be an address and a port"),
        ("127.0.0.1:65536", "must be an address and a port"),
        ("127.0.0.1:" + "9" * 5000, "must be an address and a port"),
        ("127.0.0.1:²", "must be an address and a port"),
        ("http://127.0.0.1:80", "must be an address and a port"),
        ("unix:gateway.sock", "must be an absolute path"),
        ("unix:/" + "x" * 107, "is longer than the 107 bytes"),
        ("", "must not be empty"),
        (8080, "must be a string, not 8080"),
    ],
)
def test_what_is_no_address(written: object, said: str):
    with pytest.raises(ValidationError, match=said):
        AddressField().deserialize(written)


@pytest.mark.parametrize("mode", ["0660", "600", "0777"])
def test_modes(mode: str):
    assert FileMode().deserialize(mode) == mode


@pytest.mark.parametrize("mode", ["", "rw-rw----", "0o660", "66", "0888", "4755", 432])
def test_what_is_no_mode(mode: object):
    with pytest.raises(ValidationError):
        FileMode().deserialize(mode)


@pytest.mark.parametrize(
    ("table", "bound", "redirected"),
    [
        ({}, ["127.0.0.1:8080"], []),
        ({"host": "::", "port": 1, "redirect": {"port": 80}}, ["[::]:1"], ["[::]:80"]),
        (
            {"addresses": ["0.0.0.0:1", "[::]:1", "unix:/a"], "redirect": {"port": 80}},
            ["0.0.0.0:1", "[::]:1", "unix:/a"],
            ["0.0.0.0:80", "[::]:80"],
        ),
        (
            {"addresses": ["unix:/a"], "redirect": {"port": 80, "host": "::1"}},
            ["unix:/a"],
            ["[::1]:80"],
        ),
        ({"addresses": Outside("0.0.0.0:1,unix:/a", "${A}")}, ["0.0.0.0:1", "unix:/a"], []),
        ({"addresses": ["127.0.0.1:0", "127.0.0.1:0"]}, ["127.0.0.1:0", "127.0.0.1:0"], []),
    ],
)
def test_where_to_listen(table: dict[str, object], bound: list[str], redirected: list[str]):
    config: ListenConfig = load(ListenConfig, table).value
    assert [str(one) for one in config.bound] == bound
    assert [str(one) for one in config.redirected] == redirected


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"addresses": ["[::]:1"], "port": 1}, "takes the place of host and port"),
        ({"addresses": ["[::]:1"], "host": "::"}, "takes the place of host and port"),
        ({"addresses": ["unix:/a", "unix:/a"]}, "unix:/a is there twice"),
        ({"addresses": ["[::]:1", "[::]:1"]}, "[::]:1 is there twice"),
    ],
)
def test_what_does_not_go_together(table: dict[str, object], said: str):
    (fault,) = load(ListenConfig, table).faults
    assert (fault.path, fault.message) == (("addresses",), said)


def test_none_is_none(tmp_path: Path):
    assert load(ListenConfig, {"addresses": []}).value.bound == (ListenAddress("127.0.0.1", 8080),)
