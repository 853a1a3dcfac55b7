"""Accepting when the system says no, and closing what has not come to a request."""

from __future__ import annotations

import asyncio
import errno
from types import SimpleNamespace

import pytest

from gateway.config.tables.addresses import ListenAddress
from gateway.lifetime.sockets import Sockets, bind
from gateway.serving.net import accept
from gateway.serving.net.accept import Acceptor


def listener(**settings: object) -> SimpleNamespace:
    refused: list[str] = []
    return SimpleNamespace(
        tls=None,
        header_timeout=5.0,
        refused=refused,
        count_refused=refused.append,
        may_introduce=lambda peer: True,
        connection=lambda peer: asyncio.Protocol(),
        **settings,
    )


async def ended(reader: asyncio.StreamReader) -> bool:
    """Whether the other side has closed the connection, with what it was sent read or not."""
    try:
        return await asyncio.wait_for(reader.read(), 5) == b""
    except ConnectionResetError:
        return True


async def accepting(acceptor: Acceptor) -> int:
    sockets = await bind("listen", [ListenAddress("127.0.0.1", 0)], 5, Sockets())
    acceptor.start(sockets)
    port: int = sockets[0].getsockname()[1]
    return port


@pytest.mark.parametrize(
    ("address", "peer"),
    [
        (("192.0.2.1", 5), "192.0.2.1"),
        (("2001:db8::1", 5, 0, 0), "2001:db8::1"),
        (("::ffff:192.0.2.1", 5, 0, 0), "192.0.2.1"),
        (("fe80::1%eth0.5", 5, 0, 2), "fe80::1%eth0.5"),
        ("", "unix"),
        (b"", "unix"),
    ],
)
def test_who_is_at_the_other_end(address: object, peer: str):
    assert accept._peer(address) == peer


async def test_out_of_files_it_waits_and_goes_on(monkeypatch, caplog):
    monkeypatch.setattr(accept, "BREATH", 0.01)
    acceptor = Acceptor(listener(), proxy_protocol=True)  # type: ignore[arg-type]
    port = await accepting(acceptor)
    real, failures = acceptor._sockets[0], [errno.EMFILE, errno.EMFILE]

    class Poor(SimpleNamespace):
        def accept(self):
            if failures:
                raise OSError(failures.pop(), "Too many open files")
            return real.accept()

    asyncio.get_running_loop().remove_reader(real)
    acceptor._sockets[:] = [Poor(fileno=real.fileno, close=real.close)]  # type: ignore[list-item]
    acceptor._watch()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    assert await ended(reader)
    assert caplog.text.count("cannot accept connections: Too many open files") == 2
    writer.close()
    await acceptor.close()


async def test_other_errors_are_not_hidden():
    acceptor = Acceptor(listener(), proxy_protocol=True)  # type: ignore[arg-type]

    def broken() -> None:
        raise OSError(errno.EBADF, "Bad file descriptor")

    with pytest.raises(OSError, match="Bad file"):
        acceptor._accept(SimpleNamespace(accept=broken))  # type: ignore[arg-type]


async def test_closing_gives_up_preambles_under_way():
    made = listener()
    acceptor = Acceptor(made, proxy_protocol=True)  # type: ignore[arg-type]
    port = await accepting(acceptor)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"PROXY ")
    while not acceptor.pending:
        await asyncio.sleep(0.01)
    await acceptor.close()
    assert await ended(reader)
    assert acceptor.pending == set() and made.refused == []
    writer.close()
