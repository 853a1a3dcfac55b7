"""Where users who log in are kept: a file (user_file.py), or the shared store.

A change is taken only if the user is still as the writer saw it.
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


class UserStore(Protocol):
    """All users."""

    async def get(self, name: str) -> User | None:
        """One user, if there is one. Raises StoreDown."""

    async def change(self, old: User, new: User) -> bool:
        """Replace `old` by `new`; return False if the user is no longer `old`.

        Raises StoreDown or CredentialError.
        """


class FileUsers:
    """The users of a file, which is watched."""

    def __init__(self, path: Path, users: Mapping[str, User], seen: Stamp) -> None:
        self._path = path
        self._users = dict(users)
        self._writing = 0
        self.listeners: set[Callable[[str, float], None]] = set()
        """Called with a user changed elsewhere, and when its password was; infinity if gone."""
        self._watched = Watched(
            path, seen, lambda: (self._writing, user_file.load(path)), self._take
        )

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
        # The watch will read the same. Until then the old password must not do.
        self._users[old.name] = new
        return True

    def _take(self, read: tuple[int, Mapping[str, User]]) -> None:
        """Take what was read, unless the file was written meanwhile: it is read again."""
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
