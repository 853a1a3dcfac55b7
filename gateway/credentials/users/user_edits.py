"""Edit the user file: add, change and remove users."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gateway.credentials import files
from gateway.credentials.files import CredentialError, Document
from gateway.credentials.users import user_file
from gateway.credentials.users.user_file import User

OPENING = "# Users, with hashes of their passwords. Comments and other entries stay.\n"
CHANGEABLE = ("hash", "totp", "changed")


def add(path: Path, user: User) -> None:
    """Add a user with its hash; create the file where there is none. Raises CredentialError."""
    said: dict[str, Any] = {
        "name": user.name,
        "hash": user.hash,
        "client": user.client,
        "tier": user.tier,
    }
    said |= {"roles": sorted(user.roles), "permissions": sorted(user.permissions)}
    table = {name: value for name, value in said.items() if value}
    user_file.of_table(table, "the user")  # before a file is made
    with files.locked(path) as target:
        if target.exists() and user.name in user_file.load(target):
            raise CredentialError(f"{path} has a user {user.name} already")
        _edit(target, lambda document: files.append(document, "user", table), OPENING)


def change(path: Path, old: User, new: User) -> bool:
    """Write the fields in CHANGEABLE that differ; return False if the file has another `old`.

    Raises CredentialError.
    """
    with files.locked(path) as target:
        known = user_file.load(target)
        if known.get(old.name) != old:
            return False
        number = list(known).index(old.name)

        def edit(document: Document) -> None:
            table = document["user"][number]
            for name in CHANGEABLE:
                value = getattr(new, name)
                if value == getattr(old, name):
                    continue
                if value:
                    table[name] = datetime.fromtimestamp(value, UTC) if name == "changed" else value
                else:
                    del table[name]

        _edit(target, edit)
    return True


def remove(path: Path, name: str) -> None:
    """Take a user out. Raises CredentialError, also when there is none."""
    with files.locked(path) as target:
        known = user_file.load(target)
        if name not in known:
            raise CredentialError(f"{path} has no user {name}")
        number = list(known).index(name)

        def edit(document: Document) -> None:
            del document["user"][number]
            if not document["user"]:
                del document["user"]

        _edit(target, edit)


def at(user: User, now: float) -> User:
    """Return the user with its sessions ended at the Unix time `now`, as it will be read back."""
    return replace(user, changed=datetime.fromtimestamp(now, UTC).timestamp())


def _edit(path: Path, change: Any, opening: str = "") -> None:
    files.edit(path, change, lambda text: user_file.parse(text, path), opening)
