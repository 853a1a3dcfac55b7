"""Make new API keys: the table that is stored of one. key_edits.py and redis_keys.py store it."""

from __future__ import annotations

import re
import secrets
from collections.abc import Container, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from gateway.credentials import files
from gateway.credentials.api_keys import key_file
from gateway.credentials.api_keys.key_file import Key
from gateway.credentials.files import CredentialError

SHORTEST = 16
"""Letters an existing key must have: stored unsalted, anything shorter could be found by trying."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a new key should be. `expires` in Unix seconds, None for never."""

    client: str
    tier: str = ""
    permissions: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    label: str = ""
    expires: float | None = None
    networks: tuple[str, ...] = ()
    limit: str = ""


def check(wish: Wish, prefix: str = "", existing: str | None = None) -> None:
    """Raises CredentialError when a key cannot be as wished."""
    for what, value in (("client", wish.client), ("tier", wish.tier)):
        if not key_file.VALUE.fullmatch(value) and (value or what == "client"):
            raise CredentialError(f"{what} {value!r} {key_file.VALUE_RULE}")
    _check_words("permission", wish.permissions, key_file.PERMISSION, key_file.PERMISSION_RULE)
    _check_words("role", wish.roles, key_file.ROLE, key_file.ROLE_RULE)
    for network in wish.networks:
        if not key_file.is_network(network):
            raise CredentialError(f"{network!r} {key_file.NETWORK_RULE}")
    if wish.limit and not key_file.is_limit(wish.limit):
        raise CredentialError(f"limit {wish.limit!r} {key_file.LIMIT_RULE}")
    if not wish.label.isprintable():
        raise CredentialError(f"label {wish.label!r} must be one line of text")
    if not re.fullmatch(r"[A-Za-z0-9_.-]*", prefix):
        raise CredentialError(f"prefix {prefix!r} must consist of letters, digits, and _ . -")
    if existing is not None and (
        len(existing) < SHORTEST or not re.fullmatch(r"[\x21-\x7e]+", existing)
    ):
        raise CredentialError(
            f"an existing key must have {SHORTEST} or more visible ASCII letters and no spaces"
        )


def _check_words(what: str, values: Iterable[str], pattern: re.Pattern[str], rule: str) -> None:
    for value in values:
        if not pattern.fullmatch(value):
            raise CredentialError(f"{what} {value!r} {rule}")


def make(
    wish: Wish, now: float, prefix: str, existing: str | None, taken: Container[str] = ()
) -> tuple[dict[str, Any], str]:
    """Return the table of a new key (as in the key file), and the key, which is stored nowhere.

    existing: a key made elsewhere, taken over. taken: used IDs. now: Unix seconds.
    Raises CredentialError.
    """
    check(wish, prefix, existing)
    secret = (
        existing if existing is not None else key_file.with_checksum(prefix + secrets.token_hex(28))
    )
    id = next(id for id in iter(lambda: f"k_{secrets.token_hex(4)}", "") if id not in taken)
    table: dict[str, Any] = {"id": id, "client": wish.client}
    for name in ("tier", "permissions", "roles", "networks", "limit", "label"):
        value = getattr(wish, name)
        if value:
            table[name] = list(value) if isinstance(value, tuple) else value
    table["hash"] = f"sha256:{key_file.digest(secret).hex()}"
    # Enough to tell keys apart, too little to help anyone: a prefix and 16 of 224 bits.
    table["hint"] = (
        secret[: len(prefix) + 4] if existing is None else secret[: 8 if len(secret) >= 32 else 4]
    )
    table["created"] = files.utc_time(now)
    if wish.expires is not None:
        table["expires"] = files.utc_time(wish.expires)
    return table, secret


def successor(
    old: Key, now: float, overlap: float, expires: float | Literal["same"] | None
) -> tuple[Wish, datetime]:
    """Return what the key that replaces `old` should be, and when the old one expires.

    expires: of the new key; "same" gives it the lifetime the old one had. overlap: seconds.
    Raises CredentialError when `old` cannot be replaced.
    """
    if old.revoked:
        raise CredentialError(f"{old.id} was revoked; create a new key instead")
    if old.replaced_by:
        raise CredentialError(f"{old.id} has been rotated already: {old.replaced_by} replaces it")
    if expires == "same":
        expires = None
        if old.expires is not None:
            expires = now + old.expires - (old.created if old.created is not None else now)
    wish = Wish(
        old.client,
        old.tier,
        tuple(sorted(old.permissions)),
        tuple(sorted(old.roles)),
        old.label,
        expires,
        old.networks,
        old.limit,
    )
    return wish, files.utc_time(
        now + overlap if old.expires is None else min(old.expires, now + overlap)
    )
