"""Fields of an answer: what goes on, what is understood and stays."""

from __future__ import annotations

import pytest

from gateway.core.headers import Pair
from gateway.upstream.connections.http1.fields import MAX_HEAD, InvalidAnswer, understand


@pytest.mark.parametrize(
    ("fields", "passed", "understood"),
    [
        ([(b"X-A", b"1"), (b"x-a", b"2")], [(b"X-A", b"1"), (b"x-a", b"2")], (None, b"", b"")),
        ([(b"Content-Length", b"5"), (b"Connection", b"Close")], [], (5, b"", b"close")),
        ([(b"Transfer-Encoding", b" Chunked ")], [], (None, b"chunked", b"")),
        (
            [(b"Transfer-Encoding", b"gzip"), (b"transfer-encoding", b"chunked")],
            [],
            (None, b"gzip,chunked", b""),
        ),
        (
            [(b"Connection", b"X-Hop, keep-alive"), (b"X-Hop", b"1"), (b"X-A", b"1")],
            [(b"X-A", b"1")],
            (None, b"", b"x-hop, keep-alive"),
        ),
        (
            [(b"Keep-Alive", b"5"), (b"Upgrade", b"h2c"), (b"Trailer", b"X-Sum")],
            [(b"Trailer", b"X-Sum")],
            (None, b"", b""),
        ),
        ([(b"Proxy-Connection", b"close")], [], (None, b"", b"close")),
        ([(b"Proxy-Connection", b"keep-alive")], [], (None, b"", b"")),
    ],
)
def test_what_goes_on(
    fields: list[Pair], passed: list[Pair], understood: tuple[int | None, bytes, bytes]
) -> None:
    headers, index, (count, lines), *rest = understand(fields)
    assert headers == passed
    assert tuple(rest) == understood
    assert (count, lines) == (len(passed), b"".join(b"%b: %b\r\n" % pair for pair in passed))
    assert index.keys() == {name.lower() for name, _ in passed}


def test_several_lines_are_one_value() -> None:
    assert understand([(b"Via", b"a"), (b"via", b"b")])[1] == {b"via": b"a, b"}


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ([(b"Content-Length", b"9223372036854775808")], "Content-Length of 9223372036854775808"),
        ([(b"X-A", b"x" * MAX_HEAD)], "head of over"),
    ],
)
def test_what_is_too_much(fields: list[Pair], why: str) -> None:
    with pytest.raises(InvalidAnswer, match=why):
        understand(fields)
