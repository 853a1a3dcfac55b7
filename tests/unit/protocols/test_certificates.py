"""What certificates say, and what is said about those that cannot be used."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.core.hooks import ConfigProblem
from gateway.protocols.certificates import Certificate, certificate, load_chain, subject
from tests.certificates import Authority

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def der(path: Path) -> bytes:
    return x509.load_pem_x509_certificate(path.read_bytes()).public_bytes(Encoding.DER)


def named(**parts: str) -> x509.Name:
    return x509.Name(
        [x509.NameAttribute(getattr(x509.NameOID, key), value) for key, value in parts.items()]
    )


@pytest.mark.parametrize(
    ("who", "names", "expected"),
    [
        (named(COMMON_NAME="robot"), (), "CN=robot"),
        (named(ORGANIZATION_NAME="A, B", COMMON_NAME="robot"), (), r"CN=robot,O=A\, B"),
        (named(COMMON_NAME="Jürgen"), (), "CN=Jürgen"),
        (named(COMMON_NAME="a\r\nX-Client-ID: admin"), (), r"CN=a\0D\0AX-Client-ID: admin"),
        (x509.Name([]), ("spiffe://edge.test/robot",), "URI=spiffe://edge.test/robot"),
        (x509.Name([]), ("robot.test",), "DNS=robot.test"),
        (x509.Name([]), ("192.0.2.7",), "IP=192.0.2.7"),
        (x509.Name([]), (), ""),
    ],
)
def test_whom_a_certificate_is_made_out_to(authority, who, names, expected):
    assert subject(der(authority.issue("one", *names, subject=who))) == expected


def test_what_it_is_called(authority):
    def name(*names: str, **settings: object) -> tuple[str, tuple[str, ...]]:
        path = authority.issue("file", *names, **settings)  # type: ignore[arg-type]
        known = certificate(path, path.with_suffix(".key"))
        return known.name, known.names

    assert name("B.test", "a.test", "::1") == ("b.test", ("b.test", "a.test", "::1"))
    assert name(subject=named(COMMON_NAME="common")) == ("common", ())
    assert name(subject=x509.Name([])) == ("file.pem", ())


def test_the_digest_is_of_both_files(authority):
    path = authority.issue("one", "one.test")
    key = path.with_suffix(".key")
    first = certificate(path, key)
    assert certificate(path, key) == first
    key.write_bytes(key.read_bytes() + b"\n")
    assert certificate(path, key).digest != first.digest


@pytest.mark.parametrize(
    ("begins", "ends", "expected"),
    [
        (-1, 100, ""),
        (-1, 14, ""),
        (-1, 13.5, "expires on 2030-01-15 00:00 UTC, in 13 days"),
        (-1, 1.5, "expires on 2030-01-03 00:00 UTC, in 1 day"),
        (-1, 0, "expired on 2030-01-01 12:00 UTC"),
        (-9, -1, "expired on 2029-12-31 12:00 UTC"),
        (1, 100, "is not valid before 2030-01-02 12:00 UTC"),
        (0, 100, ""),
    ],
)
def test_its_condition(begins, ends, expected):
    ends_at = (NOON + timedelta(days=ends)).timestamp()
    assert (
        Certificate("a", ("a",), NOON + timedelta(days=begins), ends_at, "").condition(NOON)
        == expected
    )


def test_a_key_of_another_is_said_to_be_one(authority):
    one, other = authority.issue("one", "a.test"), authority.issue("other", "b.test")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    load_chain(context, one, one.with_suffix(".key"))
    with pytest.raises(ConfigProblem, match="is not the key of") as caught:
        load_chain(context, one, other.with_suffix(".key"), ("tls",))
    assert caught.value.at == ("tls", "key")
    with pytest.raises(ConfigProblem, match="cannot read") as caught:
        load_chain(context, one.with_name("none.pem"), one.with_suffix(".key"), ("tls",))
    assert caught.value.at == ("tls", "certificate")


def test_a_path_with_a_zero_byte_is_no_path(authority):
    with pytest.raises(ConfigProblem, match="cannot read"):
        certificate(Path("a\0b"), authority.file)
