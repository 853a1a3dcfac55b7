"""Header fields as raw `(name, value)` byte pairs, and the names that must not cross.

Names keep the case they arrived with; look-ups use lower case. Lower-casing goes through `lower`, a
bounded memo, because the same few dozen names make up nearly all traffic.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, TypeVar

from multidict import MultiMapping, istr

Pair = tuple[bytes, bytes]
_T = TypeVar("_T")

HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-authentication-info",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)
"""RFC 9110 section 7.6.1, with Trailer: a trailer section is re-framed, never copied."""

FRAMING: Final = frozenset((b"content-length", b"transfer-encoding"))
"""Message framing (RFC 9112 section 6) is written anew from what was understood."""

NOT_TRAILERS = (
    HOP_BY_HOP
    | FRAMING
    | frozenset(
        b"host authorization www-authenticate set-cookie cookie cache-control expect "
        b"max-forwards pragma range age expires date location retry-after vary warning "
        b"content-encoding content-type content-range content-location content-language "
        b"etag last-modified accept-ranges allow server via x-request-id "
        b"strict-transport-security content-security-policy x-frame-options "
        b"x-content-type-options referrer-policy".split()
    )
)
"""Fields that must not stand after the body (RFC 9110 section 6.5.1).

Framing, routing, authentication, what controls or describes the message, and what the gateway says
itself. CORS fields (Access-Control-) are only ever read in front.
"""


IDENTITY = frozenset((b"x-client-id", b"x-client-tier", b"x-client-roles", b"x-client-token"))
"""What the gateway alone says about who is calling."""

CERTIFIED = frozenset((b"x-tls-subject", b"client-cert", b"client-cert-chain"))
"""What only the server that ended TLS can say about a client's certificate.

RFC 9440 section 2.4 has the latter two removed.
"""

_FROM_PROXIES = frozenset(
    b"forwarded forwarded-for x-forwarded x-real-ip true-client-ip client-ip "
    b"x-client-ip x-cluster-client-ip cf-connecting-ip cf-connecting-ipv6 "
    b"fastly-client-ip fly-client-ip x-original-forwarded-for x-original-host "
    b"x-original-proto x-host x-scheme x-url-scheme x-ssl front-end-https x-remote-ip "
    b"x-remote-addr x-originating-ip x-envoy-external-address x-azure-clientip "
    b"x-azure-socketip x-appengine-user-ip x-appengine-remote-addr proxy-client-ip "
    b"wl-proxy-client-ip wl-proxy-ssl x-proxyuser-ip x-arr-ssl remote-user "
    b"x-remote-user x-webauth-user x-authenticated-user x-authenticated-userid "
    b"x-consumer-id x-consumer-username x-consumer-custom-id x-credential-identifier "
    b"x-client-user x-client-permissions x-client-scopes x-client-claims".split()
)
_FROM_PROXIES_FAMILIES = (
    b"x-forwarded-",
    b"x-auth-request-",
    b"x-ssl-client-",
    b"ssl-client-",
    b"x-client-cert",
    b"x-arr-clientcert",
    b"x-amzn-mtls-",
    b"x-amzn-oidc-",
    b"x-goog-authenticated-user-",
    b"x-goog-iap-",
    b"cf-access-",
    b"x-ms-client-principal",
    b"x-ms-token-",
    b"x-pomerium-",
    b"x-authentik-",
    b"x-vouch-",
    b"remote-",
    b"x-remote-",
    b"x-envoy-",
)

REWRITTEN = frozenset((b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto"))
"""What the gateway writes anew even behind a trusted proxy: core/provenance.py."""

OVERRIDES = frozenset(
    b"x-original-url x-rewrite-url x-original-uri x-original-method "
    b"x-http-method-override x-http-method x-method-override x-http-host-override "
    b"x-http-path-override x-override-url".split()
)
"""Fields by which some frameworks serve another path or method than the request line's.

They lead around every route.
"""


def spelt(name: bytes) -> bytes:
    """Return a name as CGI and WSGI see it, where all marks are "-"."""
    return _MARK.sub(b"-", name.lower())


_MARK = re.compile(rb"[^a-z0-9]")


def is_client_address(name: bytes) -> bool:
    """Return True for a field that names clients' addresses.

    `name` is `spelt`, and `is_from_proxies`.
    """
    return (
        name.endswith((b"-ip", b"-ipv6", b"-for", b"-addr", b"clientip", b"socketip", b"-address"))
        or name in _ADDRESSES
    )


_ADDRESSES = frozenset((b"forwarded", b"x-forwarded"))


def is_own(name: bytes) -> bool:
    """Return True if only the gateway may say this; `name` is `spelt`."""
    return name in IDENTITY or name in CERTIFIED or name in REWRITTEN


def is_from_proxies(name: bytes) -> bool:
    """Return True if a proxy may say this about a client, but no stranger; `name` is `spelt`.

    Where a request came from and who is calling, by the names that proxies, CDNs and gateways use.
    """
    return name in _FROM_PROXIES or name.startswith(_FROM_PROXIES_FAMILIES)


_TE = istr("TE")


def takes_trailers(headers: MultiMapping[str]) -> bool:
    """Return True if a client asks for trailers (RFC 9110 section 10.1.4).

    It says `TE: trailers`, and names TE in Connection.

    `TE: trailers`, named in Connection as RFC 9110 section 10.1.4 has it.
    """
    te = headers.get(_TE)
    if te is None:
        return False
    named = ",".join(headers.getall("Connection", ())).encode("latin-1", "replace")
    wanted = ",".join(headers.getall("TE", ())).encode("latin-1", "replace")
    return b"te" in tokens(named) and b"trailers" in tokens(wanted)


_PLAIN = rb"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?"
PLAIN_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+): (" + _PLAIN + rb")")
"""A field line (RFC 9112 section 5) of the plainest kind: one space, visible ASCII.

No two readers differ about it.
"""
PLAIN_VALUE: Final = re.compile(_PLAIN)
"""Its value."""


_TRACEPARENT: Final = re.compile(
    r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?"
)


def trace_context(traceparent: str) -> tuple[str, str, bool] | None:
    """Return trace-id, parent-id and the sampled flag of a valid traceparent.

    Later versions may say more. None for any other value (W3C Trace Context section 3.2.2).
    """
    match = _TRACEPARENT.fullmatch(traceparent)
    if match is None or (match[5] and match[1] == "00"):
        return None
    return match[2], match[3], int(match[4], 16) & 1 == 1


def trace_id(traceparent: str) -> str | None:
    """Return the trace-id of a valid traceparent, None for any other value."""
    context = trace_context(traceparent)
    return None if context is None else context[0]


class Memo(dict[bytes, _T]):
    """What depends on a field's name, or another few bytes, alone; worked out once.

    `memo[name]` is `decide(name)`.

    Strangers choose the names: at most `most` are remembered, of up to `longest` bytes; when there
    are more, all are forgotten.
    """

    __slots__ = ("_decide", "_longest", "_most")

    def __init__(
        self, decide: Callable[[bytes], _T], *, most: int = 1024, longest: int = 64
    ) -> None:
        super().__init__()
        self._decide = decide
        self._most = most
        self._longest = longest

    def __missing__(self, name: bytes) -> _T:
        value = self._decide(name)
        if len(name) <= self._longest:
            if len(self) >= self._most:
                self.clear()
            self[name] = value
        return value


class UnsafeField(ValueError):
    """A header field that would end its line early, or is none.

    The hook that set it may have taken it from a stranger.
    """


_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_IS_TOKEN = Memo(lambda name: _TOKEN.fullmatch(name) is not None)


def check_field(name: bytes, value: bytes) -> None:
    """Raises UnsafeField for what no line may hold (RFC 9110 sections 5.1 and 5.5).

    Every writer of fields asks this.
    """
    if b"\n" in value or b"\r" in value or b"\0" in value or not _IS_TOKEN[name]:
        raise UnsafeField(f"the header {name!r} cannot be written: {value[:100]!r}")


lower: Final[Callable[[bytes], bytes]] = Memo(bytes.lower).__getitem__
"""The lower case of a field name, remembered for names seen before."""


def tokens(value: bytes) -> list[bytes]:
    """Return the members of a list field, lower-cased, without empty ones.

    RFC 9110 section 5.6.1.
    """
    return [token for part in value.lower().split(b",") if (token := part.strip())]


def text(value: bytes) -> str:
    """A field value as text: Latin-1, so that every byte survives the way there and back."""
    return value.decode("latin-1")
