"""Revoked tokens in Redis: how they are stored, and editing the list for the command line.

    gateway:{revoked}:entries   a hash: by field_of an entry the `[[revoked]]` as JSON
    gateway:{revoked}:version   how many changes there were
    gateway:{revoked}:changes   the channel (of database 1 `...changes:1`): the version, a space,
                                {"by": ..., "entries": [...]}

An entry whose `until` has passed is removed when the next one is made.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from hashlib import sha256
from typing import Any

from gateway.config.toml.parse import loads_json
from gateway.credentials import audit, files
from gateway.credentials.files import CredentialError
from gateway.credentials.revocations import revoked as revocations
from gateway.credentials.revocations.revoked import ALWAYS, Revocation
from gateway.credentials.store_client import connected
from gateway.store.redis import blocking as redis_client
from gateway.store.stores import StoreUrl

NAME = "gateway:{revoked}"
ENTRIES, VERSION = f"{NAME}:entries", f"{NAME}:version"
_TRIES = 10


def packed(entry: Revocation) -> dict[str, str]:
    """An entry as it lies in Redis. Raises CredentialError for times that cannot be written."""
    said = {name: value for name in ("jti", "subject", "issuer") if (value := getattr(entry, name))}
    for name, unix in (("before", entry.before), ("until", entry.until)):
        if unix is not None and unix != ALWAYS:
            said[name] = f"{files.utc_time(unix):%Y-%m-%dT%H:%M:%SZ}"
    return said


def unpacked(said: Any, where: str) -> Revocation:
    """The entry that lies in Redis, parsed. Raises CredentialError."""
    if not isinstance(said, dict):
        raise CredentialError(f"{where} is no JSON object")
    table: dict[str, Any] = dict(said)
    with suppress(ValueError, TypeError):
        table |= {
            name: datetime.fromisoformat(said[name]) for name in ("before", "until") if name in said
        }
    return revocations.of_table(table, where)


def entry_of(text: str | bytes, where: str) -> Revocation:
    """The entry that lies in Redis. Raises CredentialError."""
    try:
        return unpacked(loads_json(text), where)
    except json.JSONDecodeError:
        raise CredentialError(f"{where} is not JSON") from None


def field_of(entry: Revocation) -> str:
    """Return the field for what an entry is about; two about the same are one."""
    return sha256(json.dumps([entry.issuer, entry.jti, entry.subject]).encode()).hexdigest()


class RedisRevocations:
    """The list of one store, for the command line. Everything raises CredentialError."""

    soon = "Gateways that are running with this store take it at once"

    def __init__(self, url: StoreUrl) -> None:
        self._url = url

    def __str__(self) -> str:
        return str(self._url)

    def add(self, entry: Revocation, now: float) -> None:
        """One more entry; one about the same is never made weaker by it. `now`: Unix seconds."""
        with connected(self._url) as client:
            if not any(self._add(client, entry, now) for _ in range(_TRIES)):
                raise CredentialError(f"{self} is being changed by others; try again")

    def load(self) -> tuple[Revocation, ...]:
        """Every entry."""
        with connected(self._url) as client:
            found = [
                entry_of(text, f"{self}: {ENTRIES}")
                for _, text in client.hscan_iter(ENTRIES, count=1000)
            ]
        return tuple(
            sorted(found, key=lambda entry: (entry.before, entry.issuer, entry.subject, entry.jti))
        )

    def _add(self, client: Any, entry: Revocation, now: float) -> bool:
        there = {
            field.decode(): text.decode() for field, text in client.hscan_iter(ENTRIES, count=1000)
        }
        field = field_of(entry)
        was = there.pop(field, "")
        if was:
            old = entry_of(was, f"{self}: {ENTRIES}")
            until = (
                None if old.until is None or entry.until is None else max(old.until, entry.until)
            )
            entry = Revocation(
                entry.jti, entry.subject, entry.issuer, max(old.before, entry.before), until
            )
        changes = [("", field, was, json.dumps(packed(entry)))]
        changes += [("", one, text, "") for one, text in there.items() if _over(text, now)]
        message = json.dumps({"by": audit.operator(), "entries": [packed(entry)]})
        keys = (ENTRIES, ENTRIES, VERSION)
        version, _ = redis_client.change(client, keys, self._url.channel(NAME), message, changes)
        return version > 0


def _over(text: str, now: float) -> bool:
    with suppress(CredentialError):
        entry = entry_of(text, "")
        return entry.until is not None and entry.until < now
    return False


def heard(change: bytes, where: str) -> Iterable[Revocation]:
    """The entries of what was published. Raises ValueError."""
    said = loads_json(change)
    return [unpacked(one, where) for one in said["entries"]]
