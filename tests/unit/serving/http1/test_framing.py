from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.failures import Failed, Failure
from gateway.serving.http1.framing import (
    absolute,
    authority,
    behind,
    check_fields,
    check_version,
    hops,
)

HTTP_11 = (1, 1)
HOST = (b"Host", b"A.test:80")


def test_the_host_of_sound_fields():
    assert (
        check_fields(HTTP_11, [HOST, (b"Content-Length", b"3"), (b"Expect", b"100-Continue")])
        == "a.test"
    )
    assert check_fields(HTTP_11, [HOST, (b"Transfer-Encoding", b"Chunked")]) == "a.test"
    assert check_fields((1, 0), [(b"Content-Length", b"0")]) is None


@pytest.mark.parametrize(
    ("version", "pairs", "failure"),
    [
        (HTTP_11, [], Failure.MALFORMED),
        (HTTP_11, [HOST, HOST], Failure.MALFORMED),
        (HTTP_11, [HOST, (b"content-length", b"1"), (b"Content-Length", b"1")], Failure.MALFORMED),
        (HTTP_11, [HOST, (b"Content-Length", b"9223372036854775808")], Failure.MALFORMED),
        (HTTP_11, [HOST, (b"Content-Length", b"0" * 5000)], Failure.MALFORMED),
        (HTTP_11, [HOST, (b"Content-Length", "\u0661".encode())], Failure.MALFORMED),
        (
            HTTP_11,
            [HOST, (b"Transfer-Encoding", b""), (b"Content-Length", b"1")],
            Failure.MALFORMED,
        ),
        (
            HTTP_11,
            [HOST, (b"Transfer-Encoding", b"chunked"), (b"Content-Length", b"1")],
            Failure.MALFORMED,
        ),
        (
            HTTP_11,
            [HOST, (b"Transfer-Encoding", b"chunked"), (b"TRANSFER-ENCODING", b"chunked")],
            Failure.MALFORMED,
        ),
        (HTTP_11, [HOST, (b"Transfer-Encoding", b"chunked,")], Failure.MALFORMED),
        ((1, 0), [HOST, (b"Transfer-Encoding", b"chunked")], Failure.MALFORMED),
        (HTTP_11, [HOST, (b"X", b"a\x00")], Failure.MALFORMED),
        (HTTP_11, [HOST, (b"X", b"a\x7f")], Failure.MALFORMED),
        (HTTP_11, [HOST, (b"Expect", b"")], Failure.EXPECTATION_FAILED),
        (
            HTTP_11,
            [HOST, (b"Expect", b"100-continue"), (b"Expect", b"100-continue")],
            Failure.EXPECTATION_FAILED,
        ),
    ],
)
def test_what_is_refused(version, pairs, failure):
    with pytest.raises(Failed) as caught:
        check_fields(version, pairs)
    assert caught.value.failure is failure


@pytest.mark.parametrize(
    ("value", "host"),
    [
        ("a", "a"),
        ("A:80", "a"),
        ("a:", "a"),
        ("[::1]", "[::1]"),
        ("[2001:DB8::1]:443", "[2001:db8::1]"),
        ("192.0.2.1:1", "192.0.2.1"),
    ],
)
def test_an_authority(value, host):
    assert authority(value, "") == host


@pytest.mark.parametrize(
    "value",
    [
        "",
        ":80",
        "a b",
        "a,b",
        "u@a",
        "a:b",
        "a:65536",
        "a:\u0661",
        "[",
        "[]",
        "[::1",
        "[::1]x",
        "[fe80::1%eth0]",
        "%4",
        "::1",
    ],
)
def test_no_authority(value):
    with pytest.raises(Failed):
        authority(value, "")


def test_absolute_form():
    assert absolute("http://a/b?c") == ("a", "/b?c")
    assert absolute("HTTPS://a?c") == ("a", "/?c")
    with pytest.raises(Failed):
        absolute("ftp://a/")


@pytest.mark.parametrize("version", [(0, 9), (1, 2), (2, 0)])
def test_versions(version):
    check_version((1, 0))
    with pytest.raises(Failed) as caught:
        check_version(version)
    assert caught.value.failure is Failure.VERSION_NOT_SUPPORTED


def test_hops():
    assert (hops(()), hops(("0",)), hops(("12",))) == (None, 0, 12)
    for values in (("1", "1"), ("-1",), ("",), ("1" * 11,)):
        with pytest.raises(Failed):
            hops(values)


@given(st.text(alphabet="ab1.:[]%@,/ \x00\u00e9", max_size=12))
def test_any_authority_is_a_host_or_refused(value):
    try:
        host = authority(value, "")
    except Failed:
        return
    assert host and not set(host) & set("@,/ \x00\u00e9")


@given(
    st.lists(st.tuples(st.integers(0, 2), st.binary(max_size=9)), max_size=4),
    st.binary(max_size=9),
)
def test_what_is_behind_requests(requests: list[tuple[int, bytes]], rest: bytes):
    sent = b"".join(b"\r\n" * empty + b"POST / HTTP/1.1\r\n\r\n" + body for empty, body in requests)
    assert behind(sent + rest, [len(body) for _, body in requests]) == rest


def test_a_head_without_end_has_nothing_behind_it():
    assert behind(b"GET / HTTP/1.1\n\n", [0]) is None
