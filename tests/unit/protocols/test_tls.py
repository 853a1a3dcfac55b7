"""TLS for clients: which certificate a name gets, what is said of certificates, and what a reload
keeps."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from pathlib import Path
from time import time
from typing import Any

import pytest

from gateway.config.tables.addresses import CertificateConfig, TlsConfig
from gateway.core.hooks import ConfigProblem
from gateway.lifetime.registry import Registry
from gateway.protocols.tls import ServerTls, renewed, server_tls, warnings
from tests.certificates import Authority


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def table(*names: str, **more: Any) -> TlsConfig:
    first, *others = (CertificateConfig(f"{name}.pem", f"{name}.key") for name in names)
    return TlsConfig(
        first.certificate, first.key, certificates=(*others, *more.pop("certificates", ())), **more
    )


def made(authority: Authority, config: TlsConfig, keep: Any = None) -> ServerTls:
    return server_tls(config, authority.directory, keep or (lambda key, fingerprint, make: make()))


def shown(tls: ServerTls, authority: Authority, asked: str | None) -> str:
    """The first name of the certificate that a client gets that asks for `asked`."""
    ours = authority.trusting()
    ours.check_hostname = False
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = tls.context.wrap_bio(to_server, to_client, server_side=True)
    client = ours.wrap_bio(to_client, to_server, server_hostname=asked)
    for side in (client, server, client):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            pass
    found: Any = client.getpeercert()
    return found["subjectAltName"][0][1]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("edge.test", "edge.test"),
        ("EDGE.test", "edge.test"),
        ("api.test", "api.test"),
        ("a.wild.test", "*.wild.test"),
        ("a.b.wild.test", "edge.test"),
        ("wild.test", "edge.test"),
        ("other.test", "edge.test"),
        (None, "edge.test"),
    ],
)
def test_a_name_gets_its_certificate(authority: Authority, asked: str | None, expected: str):
    for name, dns in (("edge", "edge.test"), ("api", "api.test"), ("wild", "*.wild.test")):
        authority.issue(name, dns)
    assert shown(made(authority, table("edge", "api", "wild")), authority, asked) == expected


def test_the_same_files_are_the_same_object(authority: Authority):
    keep = Registry()
    authority.issue("edge", "edge.test")

    def now(config: TlsConfig) -> ServerTls:
        draft = keep.draft()
        found = made(authority, config, draft.keep)
        draft.commit()
        return found

    first = now(table("edge"))
    assert now(table("edge")) is first
    assert now(table("edge", min_version="1.3")) is not first
    second = now(table("edge"))
    authority.issue("edge", "edge.test")
    assert now(table("edge")) is not second


def test_what_a_reload_has_renewed(authority: Authority):
    authority.issue("edge", "edge.test")
    first = made(authority, table("edge"))
    authority.issue("edge", "edge.test", days=30)
    second = made(authority, table("edge"))
    expires = datetime.fromtimestamp(second.certificates[0].expires, UTC)
    assert list(renewed(first, second)) == [
        f"certificate for edge.test changed, it expires {expires:%Y-%m-%d}"
    ]
    assert (
        list(renewed(first, first))
        == list(renewed(None, first))
        == list(renewed(first, None))
        == []
    )


def test_warnings(authority: Authority):
    for name, days in (("edge", 90.0), ("again", 90.0), ("old", 3.0)):
        authority.issue(name, "old.test" if name == "old" else "edge.test", days=days)
    odd = CertificateConfig("edge.pem", "edge.key", ("other.test",))
    config = table("edge", "again", "old", certificates=(odd,))
    said = list(warnings(config, made(authority, config), time()))
    assert [(at, message.split(" on ")[0]) for at, message, _ in said] == [
        (("certificates", 0, "certificate"), "the certificate for edge.test is never shown"),
        (("certificates", 1, "certificate"), "the certificate for old.test expires"),
        (("certificates", 2, "names", 0), "the certificate is not made out to 'other.test'"),
    ]


@pytest.mark.parametrize(
    ("more", "at", "why"),
    [
        ({"client_auth": "optional"}, ("client_auth",), "means nothing without client_ca"),
        ({"client_ca": "none.pem"}, ("client_ca",), "none.pem"),
        ({"ciphers": "NONE-OF-THESE"}, ("ciphers",), "OpenSSL knows no cipher"),
        (
            {"certificates": (CertificateConfig("none.pem", "none.key"),)},
            ("certificates", 0, "certificate"),
            "none.pem",
        ),
    ],
)
def test_tables_that_cannot_be_used(
    authority: Authority, more: dict[str, Any], at: tuple[Any, ...], why: str
):
    authority.issue("edge", "edge.test")
    with pytest.raises(ConfigProblem, match=why) as caught:
        made(authority, table("edge", **more))
    assert caught.value.at == at


@pytest.mark.parametrize(
    ("settings", "mode"),
    [({}, ssl.CERT_REQUIRED), ({"client_auth": "optional"}, ssl.CERT_OPTIONAL)],
)
def test_who_clients_are_is_asked_where_an_authority_is_named(
    authority: Authority, settings: dict[str, Any], mode: int
):
    authority.issue("edge", "edge.test")
    asking = made(authority, table("edge", client_ca="ca.pem", **settings))
    assert asking.authenticates and asking.context.verify_mode == mode
    plain = made(authority, table("edge"))
    assert not plain.authenticates and plain.context.verify_mode == ssl.CERT_NONE
    assert plain.context.options & ssl.OP_NO_RENEGOTIATION
    assert repr(plain) == "<ServerTls for edge.test>"
