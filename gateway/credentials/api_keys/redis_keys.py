"""API keys in Redis: how they are stored, and editing them for the command line.

    gateway:{keys}:keys      a hash: by the key's SHA-256 (hexadecimal) the `[[key]]` as JSON
    gateway:{keys}:ids       a hash: that SHA-256 by the key's ID
    gateway:{keys}:used      a hash: the Unix time of the last use by ID
    gateway:{keys}:version   how many changes there were
    gateway:{keys}:changes   the channel (for database 1 `...changes:1`): the version, a space, and
                             {"event": ..., "by": ..., "keys": [{"id", "client", "hash"}, ...]}

A change and its publication are one step, taken only if everything is still as it was read. What a
gateway knows of the keys is shared_keys.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any, Literal

from gateway.config.toml.parse import loads_json
from gateway.credentials import audit, files
from gateway.credentials.api_keys import key_file, new_keys
from gateway.credentials.api_keys.key_file import Key
from gateway.credentials.api_keys.new_keys import Wish
from gateway.credentials.files import CredentialError
from gateway.credentials.store_client import connected
from gateway.store.redis import blocking as redis_client
from gateway.store.stores import StoreUrl

NAME = "gateway:{keys}"
KEYS, IDS, USED, VERSION = (f"{NAME}:{what}" for what in ("keys", "ids", "used", "version"))
_TIMES = ("created", "expires", "revoked")
_TRIES = 10


def packed(table: Mapping[str, Any]) -> str:
    """A key's table as it lies in Redis: times in RFC 3339."""
    plain = {
        name: f"{value:%Y-%m-%dT%H:%M:%SZ}" if isinstance(value, date) else value
        for name, value in table.items()
    }
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":"))


def table_of(text: str | bytes, where: str) -> dict[str, Any]:
    """The table that lies in Redis. Raises CredentialError."""
    try:
        table = loads_json(text)
        for name in _TIMES:
            if isinstance(table.get(name), str):
                table[name] = datetime.fromisoformat(table[name])
    except (ValueError, AttributeError):
        raise CredentialError(f"{where} is no JSON object with a key") from None
    return table  # type: ignore[no-any-return]


def key_of(text: str | bytes, where: str) -> Key:
    """The key that lies in Redis. Raises CredentialError."""
    return key_file.of_table(table_of(text, where), where)


class RedisKeys:
    """The keys of one store, for the command line. Everything raises CredentialError."""

    soon = "Gateways that are running with this store take it at once."

    def __init__(self, url: StoreUrl) -> None:
        self._url = url

    def __str__(self) -> str:
        return str(self._url)

    def create(
        self, wish: Wish, now: float, *, prefix: str = "bec_", existing: str | None = None
    ) -> tuple[Key, str]:
        """Add a key; return it and the key itself, as key_edits.create does."""
        with connected(self._url) as client:
            table, secret = self._add(client, wish, now, prefix, existing, "created", ())
        return key_file.of_table(table, str(self)), secret

    def rotate(
        self,
        id: str,
        now: float,
        *,
        overlap: float,
        expires: float | Literal["same"] | None = "same",
        prefix: str = "bec_",
    ) -> tuple[Key, str, Key]:
        """Add a key like `id`; return (new, the new key itself, old), as key_edits.rotate does."""
        with connected(self._url) as client:
            for _ in range(_TRIES):
                was = self._find(client, id)
                old_table = table_of(was, str(self))
                wish, end = new_keys.successor(
                    key_file.of_table(old_table, str(self)), now, overlap, expires
                )
                old_table["expires"] = end
                try:
                    table, secret = self._add(
                        client, wish, now, prefix, None, "rotated", ((was, old_table),)
                    )
                except _Changed:
                    continue
                return (
                    key_file.of_table(table, str(self)),
                    secret,
                    key_file.of_table(old_table, str(self)),
                )
        raise CredentialError(f"{self}: {id} is being changed by others; try again")

    def revoke(self, id: str, now: float) -> tuple[Key, bool]:
        """Revoke a key; return it, and True unless it was revoked before."""
        with connected(self._url) as client:
            for _ in range(_TRIES):
                was = self._find(client, id)
                table = table_of(was, str(self))
                key = key_file.of_table(table, str(self))
                if key.revoked:
                    return key, False
                table["revoked"] = files.utc_time(now)
                try:
                    self._change(client, "revoked", [(was, table)])
                except _Changed:
                    continue
                return key_file.of_table(table, str(self)), True
        raise CredentialError(f"{self}: {id} is being changed by others; try again")

    def load(self) -> tuple[Key, ...]:
        """Every key, the oldest first."""
        with connected(self._url) as client:
            keys = [
                key_of(text, f"{self}: {KEYS}") for _, text in client.hscan_iter(KEYS, count=1000)
            ]
        return tuple(sorted(keys, key=lambda key: (key.created or 0, key.id)))

    def chain(self, id: str, most: int) -> list[Key]:
        """A key, what replaced it, what replaced that, and so on."""
        found: list[Key] = []
        with connected(self._url) as client:
            while id and len(found) < most:
                found.append(key_of(self._find(client, id), str(self)))
                id = found[-1].replaced_by
        return found

    def used(self) -> dict[str, int]:
        """When keys were last used, in Unix seconds by ID."""
        with connected(self._url) as client:
            return {id.decode(): int(when) for id, when in client.hgetall(USED).items()}

    def _find(self, client: Any, id: str) -> str:
        hash = client.hget(IDS, id)
        text = client.hget(KEYS, hash) if hash is not None else None
        if text is None:
            raise CredentialError(f"{self} has no key {id}")
        return text.decode()  # type: ignore[no-any-return]

    def _add(
        self,
        client: Any,
        wish: Wish,
        now: float,
        prefix: str,
        existing: str | None,
        event: str,
        replaced: Sequence[tuple[str, dict[str, Any]]],
    ) -> tuple[dict[str, Any], str]:
        for _ in range(_TRIES):
            table, secret = new_keys.make(wish, now, prefix, existing)
            for _, old in replaced:
                old["replaced_by"] = table["id"]
            try:
                self._change(client, event, [("", table), *replaced])
            except _Taken:
                continue
            return table, secret
        raise CredentialError(f"{self}: found no ID that is free")

    def _change(
        self, client: Any, event: str, tables: Sequence[tuple[str, dict[str, Any]]]
    ) -> None:
        """Replace what was read ("" for nothing) by tables.

        Raises _Changed, _Taken and CredentialError.
        """
        named = [
            {"id": one["id"], "client": one["client"], "hash": _hash(one)} for _, one in tables
        ]
        message = json.dumps(
            {"event": event, "by": audit.operator(), "keys": named}, separators=(",", ":")
        )
        fields = [(one["id"], _hash(one), was, packed(one)) for was, one in tables]
        version, found = redis_client.change(
            client, (KEYS, IDS, VERSION), self._url.channel(NAME), message, fields
        )
        if version == -1 and found and not tables[0][0]:
            there = key_of(found, str(self))
            if there.digest.hex() == fields[0][1]:
                raise CredentialError(f"this key is there already: {there.id} of {there.client}")
        if version < 0:
            raise _Changed if version == -1 else _Taken


class _Changed(Exception):
    """A key is no longer as it was read."""


class _Taken(Exception):
    """The ID is another key's."""


def _hash(table: Mapping[str, Any]) -> str:
    return str(table["hash"]).removeprefix("sha256:").lower()
