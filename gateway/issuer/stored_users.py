"""Edit the users of a store, for the command line; changes end the sessions that they must end."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import Any

from gateway.credentials.files import CredentialError
from gateway.credentials.store_client import connected
from gateway.credentials.users.redis_users import SWAP, USERS, packed, unpacked
from gateway.credentials.users.user_file import User
from gateway.issuer import shared_sessions
from gateway.issuer.password_policy import PasswordPolicy
from gateway.store.stores import StoreUrl


class StoredUsers:
    """The users of one store, for the command line. Everything raises CredentialError."""

    soon = "Gateways that are running with this store take it at once."

    def __init__(self, url: StoreUrl) -> None:
        self._url = url
        self.policy = PasswordPolicy()

    def __str__(self) -> str:
        return str(self._url)

    def load(self) -> dict[str, User]:
        """Every user by name."""
        with connected(self._url) as client:
            found = [
                unpacked(text, f"{self}: a user")
                for _, text in client.hscan_iter(USERS, count=1000)
            ]
        return {user.name: user for user in sorted(found, key=lambda user: user.name)}

    def add(self, user: User) -> None:
        checked = unpacked(packed(user), "the user")
        with connected(self._url) as client:
            if not client.eval(SWAP, 1, USERS, checked.name, b"", packed(checked)):
                raise CredentialError(f"{self} has a user {user.name} already")

    def change(self, old: User, new: User) -> bool:
        with connected(self._url) as client:
            if not client.eval(
                SWAP, 1, USERS, old.name, packed(old), packed(replace(new, name=old.name))
            ):
                return False
            if new.changed > old.changed:
                self._end(client, new.name, new.changed)
        return True

    def remove(self, name: str) -> None:
        with connected(self._url) as client:
            if not client.hdel(USERS, name):
                raise CredentialError(f"{self} has no user {name}")
            self._end(client, name, math.inf)  # whatever their time

    def _end(self, client: Any, name: str, moment: float) -> None:
        channel = self._url.channel(shared_sessions.NAME.decode())
        shared_sessions.end_before(client, channel, name, moment, time.time())
