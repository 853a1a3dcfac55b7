"""What is never shown, in a log line or to operators: values of headers and parameters by name, and
of any field by pattern."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network
from urllib.parse import unquote_plus

MASKED = "***"

MASK = (
    "authorization",
    "x-api-key",
    "api_key",
    "cookie",
    "set-cookie",
    "token",
    "access_token",
    "password",
)
"""Headers and parameters that are masked where nothing else is said."""

# Possessive repetition: a value is looked at once, whatever a stranger puts into it.
PATTERNS: Mapping[str, str] = {
    "email": r"(?<![A-Za-z0-9._+-])(?!(?<=%)2[Bb])(?:[A-Za-z0-9._+-]|%2[Bb])++(?:@|%40)"
    r"[A-Za-z0-9-]++(?:\.[A-Za-z0-9-]++)++(?:[A-Za-z0-9._+@-]|%2[Bb]|%40)*+",
    "card": r"(?<![0-9])[0-9](?:[ -]?[0-9]){12,18}(?![0-9])",
    "jwt": r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_-]++\.?[A-Za-z0-9_-]*+",
}
"""Patterns that have a name: e-mail addresses, numbers of cards, tokens."""


def masker(patterns: Iterable[str]) -> Callable[[str], str] | None:
    """Return what masks every match of the patterns in a text; None without any."""
    compiled = [re.compile(PATTERNS.get(pattern, pattern)) for pattern in patterns]
    if not compiled:
        return None

    def mask(text: str) -> str:
        for pattern in compiled:
            text = pattern.sub(MASKED, text)
        return text

    return mask


@lru_cache(maxsize=4096)
def network_of(address: str) -> str | None:
    """The network a client is in, as an address: /24 of IPv4, /48 of IPv6.

    None for what is no address.
    """
    try:
        client = ip_address(address.partition("%")[0])
    except ValueError:
        return None
    if isinstance(client, IPv6Address):
        if client.ipv4_mapped is None:
            return str(ip_network((client, 48), strict=False).network_address)
        client = client.ipv4_mapped
    return str(ip_network((client, 24), strict=False).network_address)


def masked_query(query: str, mask: frozenset[str]) -> str:
    """Return a raw query with the values of masked parameters replaced.

    `a[token]` and `token[]` are called token too.

    Whether ";" separates parameters is up to who reads them. A value is therefore masked up to the
    next "&", and a name is looked for after every ";".
    """
    return "&".join([_masked_part(part, mask) for part in query.split("&")])


def _masked_part(part: str, mask: frozenset[str]) -> str:
    start = 0
    for piece in part.split(";"):
        name, equals, _ = piece.partition("=")
        if equals and any(
            word.strip() in mask for word in re.split(r"[\[\]]", unquote_plus(name).lower())
        ):
            return f"{part[:start]}{name}={MASKED}"
        start += len(piece) + 1
    return part


class Masks:
    """What all logs of a pipeline mask. With no arguments: what a log masks by default.

    names: lower case. query: whether any query is shown. networks: clients are shown as networks.
    """

    __slots__ = ("_mask", "_names", "_networks", "_query")

    def __init__(
        self,
        names: Iterable[str] = MASK,
        patterns: Iterable[str] = (),
        *,
        query: bool = False,
        networks: bool = False,
    ) -> None:
        self._names = frozenset(names)
        self._mask = masker(patterns)
        self._query = query
        self._networks = networks

    def text(self, value: str) -> str:
        """Return any text as it may be shown."""
        return value if self._mask is None else self._mask(value)

    def target(self, path: str, query: str) -> str:
        """Return a path, and where they are shown its query's parameters."""
        if self._query and query:
            path += "?" + masked_query(query, self._names)
        return self.text(path)

    def field(self, name: str, value: str) -> str:
        """Return a header field's value as it may be shown."""
        return MASKED if name.lower() in self._names else self.text(value)

    def address(self, client_ip: str) -> str | None:
        """Return a client's address, or its network."""
        return network_of(client_ip) if self._networks else client_ip or None
