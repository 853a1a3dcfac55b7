"""DNS look-ups beyond the system's resolver: SRV records (RFC 2782) and TTLs of addresses.

Asked by dnspython, which follows /etc/resolv.conf (name servers, search domains, options), speaks
EDNS, and TCP when an answer is too long for a datagram. It is imported when the first name is
looked up.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from ipaddress import ip_address
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from dns.asyncresolver import Resolver
    from dns.resolver import Answer

TIMEOUT = 2.0
"""Seconds for one name server."""

PORT = 53
EDNS_PAYLOAD = 1232
"""Bytes of a datagram that arrives unfragmented nearly everywhere (DNS flag day 2020)."""

_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?", re.ASCII)


class Service(NamedTuple):
    """One SRV record; the lowest `priority` comes first, `weight` is the share among its equals,
    `ttl` is in seconds."""

    priority: int
    weight: int
    port: int
    target: str
    ttl: int


async def look_up(
    name: str,
    servers: Sequence[str] | None = None,
    port: int = PORT,
    *,
    timeout: float = TIMEOUT,
) -> list[Service]:
    """The services of a name, the first in order of priority; none where DNS says that there are
    none.

    servers: addresses to ask instead of those in /etc/resolv.conf. timeout: seconds for each.
    Raises OSError.
    """
    from dns.exception import DNSException
    from dns.resolver import NoAnswer

    try:
        answer = await _resolver(servers, port, timeout).resolve(name, "SRV", search=True)
    except NoAnswer:
        return []
    except DNSException as error:
        raise OSError(0, _why(error, servers, timeout)) from None
    found, ttl = [], _shortest(answer)
    for record in answer:
        target = record.target.to_text(omit_final_dot=True)
        if target in ("", "."):  # RFC 2782: the service is decidedly not there.
            continue
        if not _HOST.fullmatch(target):
            raise OSError(0, f"{target!r} is no host's name")
        found.append(Service(record.priority, record.weight, record.port, target, ttl))
    return sorted(found)


async def lifetime(
    host: str,
    servers: Sequence[str] | None = None,
    port: int = PORT,
    *,
    timeout: float = TIMEOUT,
) -> float | None:
    """For how many seconds a host's addresses are good; None where DNS does not say, or has not
    been asked."""
    from dns.exception import DNSException

    try:
        ip_address(host)
    except ValueError:
        pass
    else:
        return None
    resolver = _resolver(servers, port, timeout)

    async def ttl(kind: str) -> int | None:
        try:
            return _shortest(await resolver.resolve(host, kind, search=True))
        except DNSException:
            return None

    return min(
        (one for one in await asyncio.gather(ttl("A"), ttl("AAAA")) if one is not None),
        default=None,
    )


def _resolver(servers: Sequence[str] | None, port: int, timeout: float) -> Resolver:
    """Made for each look-up: /etc/resolv.conf may have changed."""
    from dns.asyncresolver import Resolver
    from dns.resolver import NoResolverConfiguration

    try:
        resolver = Resolver(configure=servers is None)
    except NoResolverConfiguration:
        resolver = Resolver(configure=False)
        servers = ("127.0.0.1",)
    if servers is not None:
        resolver.nameservers = list(servers)
    resolver.port = port
    resolver.timeout = timeout
    resolver.lifetime = timeout * max(1, len(resolver.nameservers))
    resolver.use_edns(0, 0, EDNS_PAYLOAD)
    return resolver


def _shortest(answer: Answer) -> int:
    """The TTL of all that led to the answer, names on the way to it (CNAME) included."""
    return min(records.ttl for records in answer.response.answer)


def _why(error: Exception, servers: Sequence[str] | None, timeout: float) -> str:
    from dns.resolver import NXDOMAIN, LifetimeTimeout

    asked = f" ({', '.join(servers)})" if servers else ""
    if isinstance(error, LifetimeTimeout):
        return f"name servers{asked} gave no answer within {timeout:g} s each"
    if isinstance(error, NXDOMAIN):
        return "there is no such name"
    return f"{error}{asked}" if str(error) else f"{type(error).__name__}{asked}"
