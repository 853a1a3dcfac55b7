"""Where users are who log in here: in a file (user_file.py), or in the shared store.

Passwords are changed by whoever saw the user as it was: a change is taken only while it still is.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from gateway.credentials.users import user_edits, user_file
from gateway.credentials.users.user_file import User
from gateway.lifetime.watch import Stamp, Watched


class Users(Protocol):
    """All users."""

    async def get(self, name: str) -> User | None:
        """One user, if there is one. Raises StoreDown."""

    async def change(self, old: User, new: User) -> bool:
        """Puts `new` in the place of `old`; False when that is no longer how it is. Raises StoreDown or CredentialError."""


class FileUsers:
    """Those of a file, which is watched."""

    def __init__(self, path: Path, users: Mapping[str, User], seen: Stamp) -> None:
        self._path = path
        self._users = dict(users)
        self._writing = 0
        self.listeners: set[Callable[[str, float], None]] = set()
        """Called with a user whose password was changed elsewhere, and when; with one that is gone, and infinity."""
        self._watched = Watched(path, seen, lambda: (self._writing, user_file.load(path)), self._take)

    def __repr__(self) -> str:
        return f"<FileUsers {self._path} {len(self._users)}>"

    def close(self) -> None:
        self._watched.close()

    async def get(self, name: str) -> User | None:
        return self._users.get(name)

    async def change(self, old: User, new: User) -> bool:
        if self._users.get(old.name) != old:
            return False
        self._writing += 1
        try:
            if not await asyncio.to_thread(user_edits.change, self._path, old, new):
                return False
        finally:
            self._writing += 1
        self._users[old.name] = new  # the watch will read the same; until then nobody shall log in with the old password
        return True

    def _take(self, read: tuple[int, Mapping[str, User]]) -> None:
        """What the watch has read, unless the file was being written meanwhile: then it may be the old one, and is read again."""
        began, users = read
        if began != self._writing:
            return
        before, self._users = self._users, dict(users)
        for name, old in before.items():
            new = users.get(name)
            moment = math.inf if new is None else new.changed
            if moment > old.changed:
                for listener in tuple(self.listeners):
                    listener(name, moment)
