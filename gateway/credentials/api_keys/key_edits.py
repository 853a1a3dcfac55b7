"""Edit the API key file: create, rotate and revoke keys."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from gateway.credentials import files
from gateway.credentials.api_keys import key_file, new_keys
from gateway.credentials.api_keys.key_file import Key
from gateway.credentials.api_keys.new_keys import Wish
from gateway.credentials.files import CredentialError, Document

OPENING = """\
# API keys, without the keys: each is known by its SHA-256 only.
# Written by `gateway keys`; comments and other entries stay.
"""


def create(
    path: Path, wish: Wish, now: float, *, prefix: str = "bec_", existing: str | None = None
) -> tuple[Key, str]:
    """Add a key; return it and the secret, which is stored nowhere. Creates a missing file.

    existing: a secret made elsewhere, taken over as it is. now: Unix seconds.
    Raises CredentialError.
    """
    new_keys.check(wish, prefix, existing)  # before a file is made
    with files.locked(path) as target:
        known = key_file.load(target) if target.exists() else ()
        table, secret = _new(known, wish, now, prefix, existing)
        _edit(target, lambda document: files.append(document, "key", table), OPENING)
        return key_file.of_table(table, str(target)), secret


def rotate(
    path: Path,
    id: str,
    now: float,
    *,
    overlap: float,
    expires: float | Literal["same"] | None = "same",
    prefix: str = "bec_",
) -> tuple[Key, str, Key]:
    """Add a key like `id`, which then expires in `overlap` seconds; return (new, secret, old).

    expires: of the new key; "same" gives it the lifetime the old one had. Raises CredentialError.
    """
    with files.locked(path) as target:
        known = key_file.load(target)
        number = _number(known, id, target)
        wish, end = new_keys.successor(known[number], now, overlap, expires)
        table, secret = _new(known, wish, now, prefix, None)

        def change(document: Document) -> None:
            document["key"][number].update(expires=end, replaced_by=table["id"])
            files.append(document, "key", table)

        _edit(target, change)
        changed = key_file.load(target)
        return changed[-1], secret, changed[number]


def revoke(path: Path, id: str, now: float) -> tuple[Key, bool]:
    """Revoke a key; return it, and True unless it was revoked before. Raises CredentialError."""
    with files.locked(path) as target:
        known = key_file.load(target)
        number = _number(known, id, target)
        if known[number].revoked:
            return known[number], False
        when = files.utc_time(now)
        _edit(target, lambda document: document["key"][number].update(revoked=when))
        return key_file.load(target)[number], True


def _number(known: tuple[Key, ...], id: str, path: Path) -> int:
    with suppress(ValueError):
        return [key.id for key in known].index(id)
    raise CredentialError(f"{path} has no key {id}")


def _new(
    known: tuple[Key, ...], wish: Wish, now: float, prefix: str, existing: str | None
) -> tuple[dict[str, Any], str]:
    """Return the table and secret of a new key. Raises CredentialError for a known secret."""
    table, secret = new_keys.make(wish, now, prefix, existing, {key.id for key in known})
    digest = key_file.digest(secret)
    for key in known:
        if key.digest == digest:
            raise CredentialError(f"this key is there already: {key.id} of {key.client}")
    return table, secret


def _edit(path: Path, change: Any, opening: str = "") -> None:
    files.edit(path, change, lambda text: key_file.parse(text, path), opening)
