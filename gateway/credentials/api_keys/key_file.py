"""The API key file: one `[[key]]` each, with everything about a key but the key.

    [[key]]
    id = "k_3f9a1c07"                    # how operators call it
    client = "acme"                      # the caller's name: X-Client-ID
    tier = "premium"                     # optional
    permissions = ["cameras:read"]       # optional; "*" is all, "cameras:*" all of cameras
    roles = ["operator"]                 # optional
    networks = ["192.0.2.0/24"]          # optional; refused from anywhere else
    limit = "100/1m"                     # optional: a rate or a class (rate_limit's key_limits)
    label = "their staging system"       # optional, for people
    hash = "sha256:9f86d081884c7d65..."  # of the key
    hint = "bec_4e1f"                    # how the key begins
    created = 2026-01-31T09:30:00Z
    expires = 2026-04-30T00:00:00Z       # optional; refused from then on
    revoked = 2026-02-14T12:00:00Z       # optional; a key with this is refused
    replaced_by = "k_51d0e2b8"           # optional; set by a rotation

Keys are hashed without salt or stretching: they are 28 random bytes, so there is nothing to guess.
Their last eight digits are a checksum, which tells a typo from a guess. Unknown keys of a table
stay as they are. Reading is here, editing in key_edits.py.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from gateway.credentials import files
from gateway.credentials.files import CredentialError

_HASH = re.compile(r"sha256:([0-9a-fA-F]{64})")

VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")
VALUE_RULE = "must be visible ASCII text, for it is sent in a header"
ROLE = re.compile(r"[\x21-\x2b\x2d-\x7e]+")
ROLE_RULE = "must be a word of visible ASCII without commas"
PERMISSION = re.compile(r"\*|[\x21-\x29\x2b\x2d-\x7e]+(?::\*)?")
NETWORK_RULE = (
    "is not an address or a network such as 192.0.2.0/24, with no bits set beyond the prefix"
)
_RATE = re.compile(r"([1-9]\d{0,8})/([1-9]\d{0,5})?(s|m|h|d)")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_CLASS = re.compile(r"[A-Za-z0-9_.-]{1,64}")
LIMIT_RULE = 'must be a rate such as "100/1m" (in s, m, h or d) or the name of a class'
_FORM = re.compile(r"[A-Za-z0-9_.-]*[0-9a-f]{64}")
PERMISSION_RULE = f'{ROLE_RULE}; "*" stands alone or after a colon, as in "cameras:*"'


@dataclass(frozen=True, slots=True)
class Key:
    """One `[[key]]`. `digest` is the key's SHA-256; times are Unix seconds, None where missing."""

    id: str
    client: str
    digest: bytes = field(repr=False)
    tier: str = ""
    permissions: frozenset[str] = frozenset()
    roles: frozenset[str] = frozenset()
    networks: tuple[str, ...] = ()
    limit: str = ""
    label: str = ""
    hint: str = ""
    created: float | None = None
    expires: float | None = None
    revoked: bool = False
    replaced_by: str = ""

    def state(self, now: float) -> str:
        """ "active", "expired" or "revoked", at the Unix time `now`."""
        if self.revoked:
            return "revoked"
        return "expired" if self.expires is not None and now >= self.expires else "active"


def digest(key: str) -> bytes:
    """Return what is stored of a key."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def with_checksum(start: str) -> str:
    """Return a key: its prefix and random digits, and the CRC-32 of those in eight more."""
    return f"{start}{zlib.crc32(start.encode()):08x}"


def mistyped(presented: str) -> bool:
    """Return True for a mistyped key of ours: its form is right, its checksum wrong."""
    return _FORM.fullmatch(presented) is not None and with_checksum(presented[:-8]) != presented


def is_network(text: str) -> bool:
    """Return True for an address or a CIDR network."""
    try:
        ip_network(text)
    except ValueError:
        return False
    return True


def rate(text: str) -> tuple[int, float] | None:
    """Requests and seconds of a rate such as "100/1m"; None when it is none."""
    found = _RATE.fullmatch(text)
    return None if found is None else (int(found[1]), int(found[2] or 1) * _SECONDS[found[3]])


def is_limit(text: str) -> bool:
    """Return True for what may be a key's limit: a rate, or the name of a class."""
    return rate(text) is not None or _CLASS.fullmatch(text) is not None


def load(path: Path) -> tuple[Key, ...]:
    """Every key of a file. Raises CredentialError."""
    return parse(files.read(path, "key file"), path)


def parse(text: str, path: Path) -> tuple[Key, ...]:
    """Every key of a file's text. Raises CredentialError with everything that is wrong with it."""
    tables = files.tables(files.parse(text, path), "key", path)
    readers = [_Reader(table, number) for number, table in enumerate(tables, 1)]
    keys = tuple(reader.key() for reader in readers)
    problems = [problem for reader in readers for problem in reader.problems]
    if not problems:
        problems = [*_twice(keys, "id"), *_twice(keys, "digest")]
    if problems:
        raise CredentialError(f"{path}: " + "; ".join(problems))
    return keys


def of_table(table: Mapping[str, Any], where: str) -> Key:
    """Return the key of one table. Raises CredentialError that begins with `where`."""
    reader = _Reader(table, 1)
    key = reader.key()
    if reader.problems:
        raise CredentialError(f"{where}: " + "; ".join(reader.problems))
    return key


def _twice(keys: tuple[Key, ...], what: str) -> list[str]:
    seen: dict[Any, Key] = {}
    others = [(seen.setdefault(getattr(key, what), key), key) for key in keys]
    word = "hash" if what == "digest" else what
    return [
        f"{one.id} of {one.client} and {two.id} of {two.client} have the same {word}"
        for one, two in others
        if one is not two
    ]


class _Reader:
    """One table on its way to a Key, and what is wrong with it."""

    def __init__(self, table: Mapping[str, Any], number: int) -> None:
        self.table = table
        self.where = (
            f"key {table['id']}" if isinstance(table.get("id"), str) else f"key number {number}"
        )
        self.problems: list[str] = []

    def key(self) -> Key:
        table = self.table
        revoked = table.get("revoked", False)
        if not isinstance(revoked, bool | date):
            self._wrong("revoked", "must be a date and time, or true")
        return Key(
            id=self._text("id", required=True),
            client=self._text("client", required=True),
            digest=self._digest(),
            tier=self._text("tier"),
            permissions=self._words("permissions", PERMISSION, PERMISSION_RULE),
            roles=self._words("roles", ROLE, ROLE_RULE),
            networks=self._networks(),
            limit=self._limit(),
            label=str(table.get("label", "")),
            hint=str(table.get("hint", "")),
            created=self._time("created"),
            expires=self._time("expires"),
            # Any time counts, also one to come: a wrong clock must not undo a revocation.
            revoked=revoked is not False,
            replaced_by=str(table.get("replaced_by", "")),
        )

    def _wrong(self, name: str, rule: str) -> None:
        self.problems.append(f"{self.where}: {name} {rule if name in self.table else 'is missing'}")

    def _text(self, name: str, *, required: bool = False) -> str:
        value = self.table.get(name, "")
        if isinstance(value, str) and (VALUE.fullmatch(value) or (value == "" and not required)):
            return value
        self._wrong(name, VALUE_RULE)
        return ""

    def _digest(self) -> bytes:
        match = _HASH.fullmatch(str(self.table.get("hash", "")))
        if match is None:
            self._wrong("hash", 'must be "sha256:" and 64 hexadecimal digits')
            return b""
        return bytes.fromhex(match[1])

    def _words(self, name: str, pattern: re.Pattern[str], rule: str) -> frozenset[str]:
        values = self.table.get(name, [])
        if not isinstance(values, list):
            self._wrong(name, "must be an array")
            return frozenset()
        for value in values:
            if not (isinstance(value, str) and pattern.fullmatch(value)):
                self._wrong(name, f"holds {value!r}, which {rule}")
                return frozenset()
        return frozenset(values)

    def _networks(self) -> tuple[str, ...]:
        values = self.table.get("networks", [])
        if not isinstance(values, list):
            self._wrong("networks", "must be an array")
            return ()
        for value in values:
            if not isinstance(value, str) or not is_network(value):
                self._wrong("networks", f"holds {value!r}, which {NETWORK_RULE}")
                return ()
        return tuple(values)

    def _limit(self) -> str:
        value = self.table.get("limit", "")
        if isinstance(value, str) and (value == "" or is_limit(value)):
            return value
        self._wrong("limit", LIMIT_RULE)
        return ""

    def _time(self, name: str) -> float | None:
        value = self.table.get(name)
        if value is None or isinstance(value, date):
            return None if value is None else files.unix_time(value)
        self._wrong(name, "must be a date and time such as 2026-01-31T09:30:00Z, without quotes")
        return None
