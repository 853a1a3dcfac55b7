"""TLS towards an upstream: whose certificates are taken, what is shown, and when connections may be
kept across reloads."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.config.tables.endpoints import UpstreamTlsConfig
from gateway.core.hooks import ConfigProblem
from gateway.upstream.connections.tls import UpstreamTls, upstream_tls
from tests.certificates import Authority


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    made = Authority(tmp_path)
    made.issue("origin", "origin.test")
    made.issue("gateway", "gateway.test")
    return made


def serving(authority: Authority, **settings: object) -> ssl.SSLContext:
    """The context of an endpoint that is called origin.test."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.directory / "origin.pem", authority.directory / "origin.key")
    for name, value in settings.items():
        setattr(context, name, value)
    return context


def shake(tls: UpstreamTls, server: ssl.SSLContext, name: str = "origin.test") -> ssl.SSLObject:
    """The endpoint's end of a handshake. Raises SSLError, at either end."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = tls.contexts["http1"].wrap_bio(back, there, server_hostname=name)
    endpoint = server.wrap_bio(there, back, server_side=True)
    for _ in range(3):
        for one in (client, endpoint):
            try:
                one.do_handshake()
            except ssl.SSLWantReadError:
                pass
    return endpoint


def test_only_certificates_of_the_named_authority_are_taken(tmp_path, authority):
    server = serving(authority)
    tls = UpstreamTls(UpstreamTlsConfig(ca="ca.pem"), tmp_path)
    assert shake(tls, server).version() == "TLSv1.3" and "unverified" not in repr(tls)
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        shake(tls, server, "other.test")
    with pytest.raises(ssl.SSLCertVerificationError, match="local issuer"):
        shake(UpstreamTls(UpstreamTlsConfig(), tmp_path), server)


def test_whatever_is_shown_is_taken_if_nothing_is_verified(tmp_path, authority):
    tls = UpstreamTls(UpstreamTlsConfig(verify=False), tmp_path)
    assert shake(tls, serving(authority), "other.test").version() == "TLSv1.3"
    assert "unverified" in repr(tls)


def test_the_oldest_version_that_is_spoken(tmp_path, authority):
    server = serving(authority, maximum_version=ssl.TLSVersion.TLSv1_2)
    config = UpstreamTlsConfig(ca="ca.pem")
    assert shake(UpstreamTls(config, tmp_path), server).version() == "TLSv1.2"
    with pytest.raises(ssl.SSLError):
        shake(UpstreamTls(UpstreamTlsConfig(ca="ca.pem", min_version="1.3"), tmp_path), server)


def test_http_1_1_is_what_is_offered(tmp_path, authority):
    server = serving(authority)
    server.set_alpn_protocols(["h2", "http/1.1"])
    tls = UpstreamTls(UpstreamTlsConfig(ca="ca.pem"), tmp_path)
    assert shake(tls, server).selected_alpn_protocol() == "http/1.1"


def test_the_gateways_own_certificate_is_shown_to_endpoints_that_ask(tmp_path, authority):
    server = serving(authority, verify_mode=ssl.CERT_REQUIRED)
    server.load_verify_locations(authority.file)
    config = UpstreamTlsConfig(ca="ca.pem", certificate="gateway.pem", key="gateway.key")
    endpoint = shake(UpstreamTls(config, tmp_path), server)
    shown: Any = endpoint.getpeercert()
    assert ("DNS", "gateway.test") in shown["subjectAltName"]


@pytest.mark.parametrize(
    ("settings", "at"),
    [
        ({"certificate": "gateway.pem"}, ("certificate",)),
        ({"key": "gateway.key"}, ("key",)),
        ({"ca": "nowhere.pem"}, ("ca",)),
        ({"ca": "gateway.key"}, ("ca",)),
        ({"certificate": "gateway.pem", "key": "origin.key"}, ("key",)),
    ],
)
def test_what_cannot_be_used_is_a_problem_at_its_key(tmp_path, authority, settings, at):
    with pytest.raises(ConfigProblem) as caught:
        upstream_tls("origin", UpstreamTlsConfig(**settings), tmp_path, Kept())
    assert caught.value.at == at


class Kept:
    """A registry of one object."""

    def __init__(self) -> None:
        self.fingerprint: object = None
        self.made: Any = None

    def __call__(self, key: object, fingerprint: object, make: Callable[[], Any]) -> Any:
        assert key == ("upstream", "origin", "tls")
        if fingerprint != self.fingerprint:
            self.fingerprint, self.made = fingerprint, make()
        return self.made


def test_it_stays_the_same_while_its_settings_and_files_do(tmp_path, authority):
    kept = Kept()

    def load(**settings: str) -> UpstreamTls:
        config = UpstreamTlsConfig(
            ca="ca.pem", certificate="gateway.pem", key="gateway.key", **settings
        )
        return upstream_tls("origin", config, tmp_path, kept)

    first = load()
    assert load() is first
    authority.issue("gateway", "gateway.test")
    renewed = load()
    assert renewed is not first and load() is renewed
    named = load(server_name="other.test")
    assert named is not renewed and named.server_name == "other.test"
    Authority(tmp_path)  # Another authority of the same name.
    assert load(server_name="other.test") is not named
