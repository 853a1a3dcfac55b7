from __future__ import annotations

import pytest

from gateway.core.hooks import ConfigProblem
from tests.unit.middlewares.auth.bearers import Bearers, asked, bearing, refused, token

ACME = {
    "subject": "CN=acme,O=Acme Inc",
    "client": "acme",
    "tier": "gold",
    "roles": ["partner"],
    "permissions": ["a:b"],
}


def test_a_subject_that_is_listed():
    hook = Bearers().auth(
        methods=["mtls"], mtls=[ACME], roles={"partner": ["c:d"]}, require=["a:b", "c:d"]
    )
    exchange = asked()
    exchange.tls_subject = "CN=acme,O=Acme Inc"
    hook(exchange)
    identity = exchange.identity
    assert identity is not None and (identity.client, identity.tier, identity.method) == (
        "acme",
        "gold",
        "mtls",
    )
    assert identity.headers == (
        (b"X-Client-ID", b"acme"),
        (b"X-Client-Tier", b"gold"),
        (b"X-Client-Roles", b"partner"),
    )


@pytest.mark.parametrize(
    "subject", ["", "CN=acme", "CN=acme,O=Acme Inc,C=DE", "cn=acme,o=acme inc"]
)
def test_others_are_nobody(subject: str):
    hook = Bearers().auth(methods=["mtls", "jwt"], mtls=[ACME])
    exchange = asked()
    exchange.tls_subject = subject
    failed = refused(hook, exchange)
    assert (
        failed.why == "no credentials"
        and (b"WWW-Authenticate", b"ClientCertificate") in failed.headers
    )
    exchange = bearing(token())
    exchange.tls_subject = subject
    hook(exchange)
    assert exchange.identity is not None and exchange.identity.method == "jwt"


def test_tables():
    with pytest.raises(ConfigProblem, match="no subject"):
        Bearers().auth(methods=["mtls"])
    with pytest.raises(ConfigProblem, match="has two tables") as caught:
        Bearers().auth(methods=["mtls"], mtls=[ACME, ACME])
    assert caught.value.at == ("mtls", 1, "subject")
    assert "1 subjects" in repr(Bearers().auth(methods=["mtls"], mtls=[ACME]).__self__)  # type: ignore[attr-defined]
