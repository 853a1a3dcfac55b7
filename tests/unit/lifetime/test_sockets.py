"""Listening sockets that are bound, and those that another process hands over."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.lifetime.sockets import Named, Sockets, adopt, bind, covers, host_port

PID = os.getpid()


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as one:
        yield one


def close(sockets: list[socket.socket]) -> None:
    for one in sockets:
        one.close()


def port_of(one: socket.socket) -> int:
    return int(one.getsockname()[1])


async def test_an_address_of_each_family_is_bound():
    for host in ("127.0.0.1", "::1"):
        (one,) = await bind("listen", host, 0, 5, Sockets())
        assert one.getsockname()[0] == host and not one.getblocking()
        one.close()


async def test_every_address_has_the_same_free_port():
    sockets = await bind("listen", "", 0, 5, Sockets())
    assert {one.getsockname()[0] for one in sockets} == {"0.0.0.0", "::"}
    assert len({port_of(one) for one in sockets}) == 1
    close(sockets)


async def test_an_address_that_is_taken_is_named(listening):
    port = port_of(listening)
    with pytest.raises(OSError) as caught:
        await bind("listen", "127.0.0.1", port, 5, Sockets())
    assert caught.value.errno == errno.EADDRINUSE
    assert caught.value.strerror == f"cannot listen on 127.0.0.1:{port}: address already in use"


async def test_a_name_that_does_not_resolve():
    with pytest.raises(OSError, match=r"cannot listen on no\.such\.invalid:80: "):
        await bind("listen", "no.such.invalid", 80, 5, Sockets())


async def test_a_socket_with_the_address_is_taken(listening):
    sockets = Sockets([("gateway.socket", listening)])
    assert await bind("listen", "127.0.0.1", port_of(listening), 5, sockets) == [listening]
    sockets.check()


async def test_a_socket_with_the_name_is_taken_whatever_its_address(listening):
    with socket.create_server(("127.0.0.1", 0)) as other:
        sockets = Sockets([("admin", other), ("listen", listening)])
        assert await bind("listen", "0.0.0.0", port_of(other), 5, sockets) == [listening]
        assert await bind("admin", "127.0.0.1", 1, 5, sockets) == [other]
        sockets.check()


async def test_the_address_does_not_count_where_the_name_is_another_listener(listening):
    sockets = Sockets([("admin", listening)])
    with pytest.raises(OSError, match="already in use"):
        await bind("listen", "127.0.0.1", port_of(listening), 5, sockets)


async def test_one_for_both_families_is_all_that_every_address_needs():
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as one:
        for host in ("", "0.0.0.0"):
            assert await bind("listen", host, port_of(one), 5, Sockets([("", one)])) == [one]
        assert not covers(one, socket.AF_INET, ("127.0.0.1", port_of(one)))


async def test_a_socket_of_everyone_is_not_taken_for_one_of_this_machine():
    """It would open the admin listener to all."""
    with socket.create_server(("", 0)) as one:
        sockets = Sockets([("", one)])
        with pytest.raises(OSError, match="already in use"):
            await bind("admin", "127.0.0.1", port_of(one), 5, sockets)
        with pytest.raises(OSError, match="belongs to no listener"):
            sockets.check()


async def test_what_is_not_covered_is_bound():
    with socket.create_server(("0.0.0.0", 0)) as one:
        sockets = await bind("listen", "", port_of(one), 5, Sockets([("", one)]))
        assert [found.family for found in sockets] == [socket.AF_INET, socket.AF_INET6]
        close(sockets)


def handed_over(names: str | None, *sockets: socket.socket, **environ: str) -> list[Named]:
    """What is adopted of copies of these sockets, at descriptors in a row."""
    first = 200
    for number, one in enumerate(sockets):
        os.dup2(one.fileno(), first + number)
    words = {"LISTEN_PID": str(PID), "LISTEN_FDS": str(len(sockets)), **environ}
    if names is not None:
        words["LISTEN_FDNAMES"] = names
    return Sockets.from_environ(words, PID, first)._given


@pytest.mark.parametrize(
    ("names", "expected"),
    [("listen:admin", ["listen", "admin"]), ("x", ["x", ""]), (None, ["", ""])],
)
def test_sockets_of_the_environment(listening, names, expected):
    found = handed_over(names, listening, listening)
    assert [name for name, _ in found] == expected
    for _, one in found:
        assert one.getsockname() == listening.getsockname()
        assert not os.get_inheritable(one.fileno())
        one.close()


def test_those_of_another_process_are_left_alone(listening):
    assert handed_over("listen", listening, LISTEN_PID="1") == []
    os.close(200)


@pytest.mark.parametrize("count", ["", "0", "-1", "65", "all", "1.0"])
def test_a_count_that_is_none(count):
    with pytest.raises(OSError, match="LISTEN_FDS is"):
        Sockets.from_environ({"LISTEN_PID": str(PID), "LISTEN_FDS": count}, PID)


def test_descriptors_that_are_no_tcp_sockets():
    with open(os.devnull) as file, pytest.raises(OSError, match="is no socket"):
        adopt(file.fileno())
    for kind in ((socket.AF_INET, socket.SOCK_DGRAM), (socket.AF_UNIX, socket.SOCK_STREAM)):
        with socket.socket(*kind) as one, pytest.raises(OSError, match="is no TCP socket"):
            adopt(one.fileno())


@given(st.sampled_from(["127.0.0.1", "::1"]), st.integers(0, 65535))
def test_host_and_port_of_a_url(host, port):
    expected = f"[{host}]:{port}" if host == "::1" else f"{host}:{port}"
    assert host_port(host, port) == expected
