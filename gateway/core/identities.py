"""Identities, with the headers that tell the upstream, for every method; and counts by client."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

from gateway.core.exchange import Identity
from gateway.core.headers import Pair
from gateway.core.telemetry import Family, Labels

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


OTHER = "_other"
CLIENTS = 100
CANDIDATES = 1000
"""Clients without a series that are watched at the same time."""
ROUND = 10_000
"""Requests of clients without a series, after which one of them may get one."""


class Clients:
    """Counts by client: up to `most` have a series in `family`, the rest share `_other`.

    The first ones to come get a series. Of the others, up to CANDIDATES are watched for a round of
    ROUND requests; at its end one that asked more than twice as often as a client with a series did
    meanwhile takes that one's place. The series it ends
    is added to `_other`, and its own begins at 0: the sum over all series is exact, and no series
    ever falls.
    """

    __slots__ = ("_before", "_candidates", "_family", "_labels", "_left", "_most")

    def __init__(self, family: Family, most: int = CLIENTS) -> None:
        self._family = family
        self._most = most
        self._labels: dict[str, Labels] = {
            labels[0]: labels for labels in family.values if labels != (OTHER,)
        }
        self._before: dict[str, float] = {}
        self._candidates: dict[str, int] = {}
        self._left = ROUND

    def count(self, client: str) -> None:
        """One more request of `client`."""
        labels = self._labels.get(client)
        if labels is None:
            labels = self._unlisted(client)
        self._family.values[labels] += 1

    def _unlisted(self, client: str) -> Labels:
        """Return the labels for a client without a series.

        A new one while there is room, else those of the rest.
        """
        if client == OTHER:
            return (OTHER,)
        if len(self._labels) < self._most:
            labels = self._labels[client] = _labels(client)
            return labels
        candidates = self._candidates
        if client in candidates or len(candidates) < CANDIDATES:
            candidates[client] = candidates.get(client, 0) + 1
        self._left -= 1
        if self._left == 0:
            self._end_round()
        return (OTHER,)

    def _end_round(self) -> None:
        values = self._family.values
        asked = {
            client: values.get(labels, 0) - self._before.get(client, 0)
            for client, labels in self._labels.items()
        }
        idlest = sorted(asked, key=asked.__getitem__)
        busiest = sorted(self._candidates, key=self._candidates.__getitem__, reverse=True)
        for newcomer, client in zip(busiest, idlest, strict=False):
            if self._candidates[newcomer] <= 2 * asked[client]:
                break
            self._family.add((OTHER,), values.pop(self._labels.pop(client), 0))
            self._labels[newcomer] = _labels(newcomer)
        self._before = {client: values.get(labels, 0) for client, labels in self._labels.items()}
        self._candidates = {}
        self._left = ROUND


def _labels(client: str) -> Labels:
    """Return a client's name as a label: bounded, and without lone surrogates."""
    return (client[:128].encode("utf-8", "replace").decode(),)
