"""The user file: one `[[user]]` each, with a hash of the password.

    [[user]]
    name = "alice"
    hash = "$argon2id$v=19$m=65536,t=3..."  # by `gateway users add`; or bcrypt: "$2y$12$..."
    client = "acme"                         # optional; the name when left out
    tier = "premium"                        # optional
    roles = ["operator"]                    # optional
    permissions = ["cameras:read"]          # optional
    totp = "JBSWY3DPEHPK3PXP..."            # optional: second factor, by `gateway users totp`
    changed = 2026-01-31T09:30:00Z          # sessions begun before then have ended

Reading is here, editing in user_edits.py.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from argon2 import PasswordHasher, extract_parameters
from argon2.exceptions import InvalidHashError, VerificationError

from gateway.config.toml.sources import others_can_read
from gateway.credentials import files
from gateway.credentials.api_keys import key_file
from gateway.credentials.files import CredentialError

_KNOWN = ("name", "hash", "client", "tier", "roles", "permissions", "totp", "changed")
BCRYPT = re.compile(r"\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}")
BCRYPT_COST = 18
"""The greatest cost that is taken: about 15 seconds of a core."""
BCRYPT_LONGEST = 72
"""Bytes of a password that bcrypt knows."""
TOTP = re.compile(r"[A-Z2-7]{26,128}")
"""A secret in base32 without padding: 128 bits or more (RFC 4226 section 4)."""


log = logging.getLogger("gateway.auth")


@dataclass(frozen=True, slots=True)
class User:
    """One `[[user]]`. `changed` is a Unix time, 0 when it is not known."""

    name: str
    hash: str = field(repr=False)
    client: str = ""
    tier: str = ""
    roles: frozenset[str] = frozenset()
    permissions: frozenset[str] = frozenset()
    totp: str = field(default="", repr=False)
    changed: float = 0.0


def hashed(password: str) -> str:
    """Return an argon2id hash of argon2-cffi's default cost.

    A gateway that wants another cost hashes the password again at the next login.
    """
    return PasswordHasher().hash(password)


def verifies(hash: str, password: str) -> bool:
    """Return True if the password is the hashed one. Takes tens of ms, without the GIL."""
    if hash.startswith("$2"):
        return _bcrypt_verifies(hash, password)
    try:
        return PasswordHasher().verify(hash, password)
    except (VerificationError, InvalidHashError):
        return False


def _bcrypt_verifies(hash: str, password: str) -> bool:
    """Verify with bcrypt, which reads only 72 bytes: a longer password is refused, but as late."""
    import bcrypt

    given = password.encode("utf-8", "surrogateescape")
    try:
        return (
            bcrypt.checkpw(given[:BCRYPT_LONGEST], hash.encode()) and len(given) <= BCRYPT_LONGEST
        )
    except ValueError:
        return False


def load(path: Path) -> dict[str, User]:
    """Return every user by name; warn of a file that others can read. Raises CredentialError."""
    users = parse(files.read(path, "user file"), path)
    if others_can_read(path):
        log.warning("%s: every user of this machine can read the hashes in it (chmod 600)", path)
    return users


def parse(text: str, path: Path) -> dict[str, User]:
    """Every user of a file's text, by name. Raises CredentialError."""
    users: dict[str, User] = {}
    for number, table in enumerate(files.tables(files.parse(text, path), "user", path), 1):
        user = of_table(table, f"{path}: user {number}")
        if user.name in users:
            raise CredentialError(f"{path}: there are two users {user.name}")
        users[user.name] = user
    return users


def of_table(table: Mapping[str, Any], where: str) -> User:
    """The user that one table is. Raises CredentialError, which begins with `where`."""
    for name in table:
        if name not in _KNOWN:
            raise CredentialError(f"{where} has a key {name} that means nothing")
    for name in ("name", "hash", "client", "tier"):
        value = table.get(name, "" if name in ("client", "tier") else None)
        if (
            not isinstance(value, str)
            or (value and not key_file.VALUE.fullmatch(value))
            or (name == "name" and not value)
        ):
            raise CredentialError(f"{where}: {name} {key_file.VALUE_RULE}")
    if ":" in table["name"]:
        raise CredentialError(
            f"{where}: name must not hold a colon, which ends it in Basic credentials"
        )
    for name, pattern, rule in (
        ("roles", key_file.ROLE, key_file.ROLE_RULE),
        ("permissions", key_file.PERMISSION, key_file.PERMISSION_RULE),
    ):
        values = table.get(name, [])
        if not isinstance(values, list) or not all(
            isinstance(value, str) and pattern.fullmatch(value) for value in values
        ):
            raise CredentialError(f"{where}: each of {name} {rule}")
    _check_hash(table["hash"], where)
    totp, changed = table.get("totp", ""), table.get("changed")
    if not isinstance(totp, str) or (totp and not TOTP.fullmatch(totp)):
        raise CredentialError(
            f"{where}: totp must be a secret in base32, as `gateway users totp` makes them"
        )
    if changed is not None and not isinstance(changed, datetime):
        raise CredentialError(f"{where}: changed must be a date and time")
    words = {name: frozenset(table.get(name, ())) for name in ("roles", "permissions")}
    since = 0.0 if changed is None else files.unix_time(changed)
    client = table.get("client") or table["name"]
    return User(
        table["name"],
        table["hash"],
        client,
        table.get("tier", ""),
        **words,
        totp=totp,
        changed=since,
    )


def _check_hash(hash: str, where: str) -> None:
    """Raises CredentialError for a hash that could not be verified."""
    if hash.startswith("$2"):
        found = BCRYPT.fullmatch(hash)
        if found is None or not 4 <= int(found[1]) <= BCRYPT_COST:
            raise CredentialError(
                f"{where}: hash must be of bcrypt 2a, 2b or 2y, with a cost from 4 to {BCRYPT_COST}"
            )
        return
    try:
        kind = extract_parameters(hash)
    except InvalidHashError:
        raise CredentialError(f"{where}: hash is not one of argon2 or bcrypt") from None
    if kind.type.name != "ID":
        raise CredentialError(f"{where}: hash must be of argon2id")
