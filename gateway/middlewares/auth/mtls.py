"""Client certificates, verified by the TLS handshake (`[listen] tls`, `client_ca`), by subject."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.core.exchange import Exchange, Identity
from gateway.core.hooks import ConfigProblem
from gateway.core.identities import Granted, identity
from gateway.middlewares.auth.config import MtlsConfig


class Mtls:
    """The method "mtls". An unlisted certificate is no credential: it may be for TLS alone."""

    name = "mtls"
    wanted = "a client certificate that is known here"
    fields: frozenset[bytes] = frozenset()
    # There is no scheme for certificates ("Mutual" is RFC 8120's, something else), but a 401 needs
    # a challenge (RFC 9110 section 15.5.2).
    challenge = rejected = b"ClientCertificate"

    __slots__ = ("_known",)

    def __init__(self, configs: Sequence[MtlsConfig], granted: Granted) -> None:
        self._known = {
            one.subject: identity(
                one.client,
                self.name,
                granted,
                tier=one.tier,
                roles=frozenset(one.roles),
                permissions=frozenset(one.permissions),
                claims={"sub": one.subject},
            )
            for one in configs
        }

    @classmethod
    def of(cls, configs: Sequence[MtlsConfig], granted: Granted) -> Mtls:
        """Build the method. Raises ConfigProblem for no subject, or one that is listed twice."""
        if not configs:
            raise ConfigProblem(
                "no subject, so no certificate could identify a caller",
                at=("methods",),
                hint="add a table [[auth.mtls]]",
            )
        for index, one in enumerate(configs):
            if one.subject in [other.subject for other in configs[:index]]:
                raise ConfigProblem(f"{one.subject} has two tables", at=("mtls", index, "subject"))
        return cls(configs, granted)

    def __repr__(self) -> str:
        return f"<Mtls {len(self._known)} subjects>"

    def identify(self, exchange: Exchange) -> Identity | None:
        """Return the caller of the connection's certificate, None without a listed one."""
        return self._known.get(exchange.tls_subject)
