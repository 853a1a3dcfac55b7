"""Listening sockets that are bound, and those that another process hands over."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.config.tables.addresses import ListenAddress
from gateway.lifetime import sockets as module
from gateway.lifetime.sockets import Named, Sockets, address_of, adopt, covers, port_of

PID = os.getpid()


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as one:
        yield one


def close(sockets: list[socket.socket]) -> None:
    for one in sockets:
        one.close()


async def bind(
    name: str, host: str, port: int, backlog: int, handed_over: Sockets
) -> list[socket.socket]:
    return await module.bind(name, [ListenAddress(host, port)], backlog, handed_over)


async def bind_all(*addresses: str, sockets: Sockets | None = None) -> list[socket.socket]:
    """Sockets of these addresses, each "HOST PORT" or a path."""
    wanted = [
        ListenAddress(path=one) if one.startswith("/") else ListenAddress(one.split()[0], int(one.split()[1]))
        for one in addresses
    ]  # fmt: skip
    return await module.bind("listen", wanted, 5, sockets or Sockets())


def reached(family: int, address: object) -> bool:
    with socket.socket(family, socket.SOCK_STREAM) as one:
        try:
            one.connect(address)  # type: ignore[arg-type]
        except OSError:
            return False
        return True


async def test_an_address_of_each_family_is_bound():
    for host in ("127.0.0.1", "::1"):
        (one,) = await bind("listen", host, 0, 5, Sockets())
        assert one.getsockname()[0] == host and not one.getblocking()
        one.close()


async def test_every_address_has_the_same_free_port():
    sockets = await bind("listen", "", 0, 5, Sockets())
    assert {one.getsockname()[0] for one in sockets} == {"0.0.0.0", "::"}
    assert len({port_of([one]) for one in sockets}) == 1
    close(sockets)


async def test_an_address_that_is_taken_is_named(listening):
    port = port_of([listening])
    with pytest.raises(OSError) as caught:
        await bind("listen", "127.0.0.1", port, 5, Sockets())
    assert caught.value.errno == errno.EADDRINUSE
    assert caught.value.strerror == f"cannot listen on 127.0.0.1:{port}: address already in use"


async def test_a_name_that_does_not_resolve():
    with pytest.raises(OSError, match=r"cannot listen on no\.such\.invalid:80: "):
        await bind("listen", "no.such.invalid", 80, 5, Sockets())


async def test_a_socket_with_the_address_is_taken(listening):
    sockets = Sockets([("gateway.socket", listening)])
    assert await bind("listen", "127.0.0.1", port_of([listening]), 5, sockets) == [listening]
    sockets.check()


async def test_a_socket_with_the_name_is_taken_whatever_its_address(listening):
    with socket.create_server(("127.0.0.1", 0)) as other:
        sockets = Sockets([("admin", other), ("listen", listening)])
        assert await bind("listen", "0.0.0.0", port_of([other]), 5, sockets) == [listening]
        assert await bind("admin", "127.0.0.1", 1, 5, sockets) == [other]
        sockets.check()


async def test_the_address_does_not_count_where_the_name_is_another_listener(listening):
    sockets = Sockets([("admin", listening)])
    with pytest.raises(OSError, match="already in use"):
        await bind("listen", "127.0.0.1", port_of([listening]), 5, sockets)


async def test_one_for_both_families_is_all_that_every_address_needs():
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as one:
        for host in ("", "0.0.0.0"):
            assert await bind("listen", host, port_of([one]), 5, Sockets([("", one)])) == [one]
        assert not covers(one, socket.AF_INET, ("127.0.0.1", port_of([one])))


async def test_a_socket_of_everyone_is_not_taken_for_one_of_this_machine():
    """It would open the admin listener to all."""
    with socket.create_server(("", 0)) as one:
        sockets = Sockets([("", one)])
        with pytest.raises(OSError, match="already in use"):
            await bind("admin", "127.0.0.1", port_of([one]), 5, sockets)
        with pytest.raises(OSError, match="belongs to no listener"):
            sockets.check()


async def test_what_is_not_covered_is_bound():
    with socket.create_server(("0.0.0.0", 0)) as one:
        sockets = await bind("listen", "", port_of([one]), 5, Sockets([("", one)]))
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


def test_descriptors_that_are_no_sockets_to_listen_on():
    with open(os.devnull) as file, pytest.raises(OSError, match="is no socket"):
        adopt(file.fileno())
    for kind in ((socket.AF_INET, socket.SOCK_DGRAM), (socket.AF_UNIX, socket.SOCK_DGRAM)):
        with socket.socket(*kind) as one, pytest.raises(OSError, match="is no TCP or Unix socket"):
            adopt(one.fileno())


async def test_every_address_of_both_families():
    (one,) = await bind_all(":: 0")
    port = port_of([one])
    assert reached(socket.AF_INET6, ("::1", port)) and reached(socket.AF_INET, ("127.0.0.1", port))
    assert str(address_of(one)) == f"[::]:{port}"
    one.close()


async def test_both_families_by_themselves():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = port_of([free])
    sockets = await bind_all(f"127.0.0.1 {port}", f":: {port}")
    assert [str(address_of(one)) for one in sockets] == [f"127.0.0.1:{port}", f"[::]:{port}"]
    assert reached(socket.AF_INET6, ("::1", port)) and reached(socket.AF_INET, ("127.0.0.1", port))
    close(sockets)


async def test_one_ipv6_address_takes_no_ipv4_clients():
    (one,) = await bind_all("::1 0")
    one.setblocking(False)
    reached(socket.AF_INET, ("127.0.0.1", port_of([one])))  # Another process may listen there.
    with pytest.raises(BlockingIOError):
        one.accept()
    one.close()


async def test_an_address_of_a_family_that_is_not_there(monkeypatch: pytest.MonkeyPatch):
    given = [
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2001:db8::1", 0, 0, 0)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0)),
    ]

    async def addresses(*_: object, **__: object) -> object:
        return given

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", addresses)
    (one,) = await bind_all("gateway.test 0")
    one.close()
    del given[1]
    with pytest.raises(OSError, match=r"cannot listen on gateway.test:0: cannot assign requested"):
        await bind_all("gateway.test 0")


async def test_one_that_cannot_be_had_closes_the_others(tmp_path: Path, listening: socket.socket):
    path = tmp_path / "a.sock"
    with pytest.raises(OSError, match="address already in use"):
        await bind_all(str(path), f"127.0.0.1 {port_of([listening])}")
    assert not path.exists()


async def test_a_unix_socket_and_its_file(tmp_path: Path):
    path, sockets = tmp_path / "a.sock", Sockets()
    (one,) = await module.bind("listen", [ListenAddress(path=str(path))], 5, sockets, 0o600)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and reached(socket.AF_UNIX, str(path))
    assert (str(address_of(one)), port_of([one])) == (f"unix:{path}", 0)
    sockets.remove_files()
    assert not path.exists()
    one.close()


async def test_a_unix_socket_that_is_handed_over(tmp_path: Path):
    path = tmp_path / "a.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as given, socket.socket() as other:
        given.bind(str(path))
        given.listen(5)
        other.bind(("127.0.0.1", 0))
        sockets = Sockets([("", given), ("", other)])
        assert await bind_all(str(path), f"127.0.0.1 {port_of([other])}", sockets=sockets) == [
            given,
            other,
        ]
        sockets.remove_files()  # It is the service manager's.
        assert path.exists()
        sockets = Sockets([("x", given)])
        with pytest.raises(OSError, match=f"named 'x', unix:{path}.* belongs to no"):
            sockets.check()
