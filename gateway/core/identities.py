"""Identities, with the headers that tell the upstream: the same for every method."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

from gateway.core.exchange import Identity
from gateway.core.headers import Pair

Granted = Mapping[str, tuple[str, ...]]
"""Permissions by role, as the configuration has them."""


def identity(
    client: str,
    method: str,
    granted: Granted,
    *,
    tier: str = "",
    user: str = "",
    roles: frozenset[str] = frozenset(),
    permissions: frozenset[str] = frozenset(),
    claims: Mapping[str, Any],
    limit: str = "",
    prefix: str = "",
    account: str = "",
) -> Identity:
    """Return the caller with these roles and permissions, and those that come with the roles.

    The texts must fit a header.

    prefix: put before the names of client and user.
    """
    client = prefix + client
    headers: list[Pair] = [(b"X-Client-ID", client.encode())]
    if tier:
        headers.append((b"X-Client-Tier", tier.encode()))
    if roles:
        headers.append((b"X-Client-Roles", ",".join(sorted(roles)).encode()))
    every = permissions.union(*(granted.get(role, ()) for role in roles))
    named = prefix + user if user else ""
    return Identity(
        client, method, tier, named, roles, every, tuple(headers), claims, limit, prefix, account
    )


def covers(held: Set[str], needed: Set[str]) -> bool:
    """Return True if `held` grants every permission in `needed`."""
    if "*" in held:
        return True
    prefixes = tuple(word[:-1] for word in held if word.endswith(":*"))
    return all(word in held or word.startswith(prefixes) for word in needed)
