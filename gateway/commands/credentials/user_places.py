"""Where `gateway users` keeps users: a file, a store, or what `[tokens]` names."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Protocol

from gateway.credentials.files import CredentialError
from gateway.credentials.store_client import parsed
from gateway.credentials.users import user_edits, user_file
from gateway.credentials.users.user_file import User
from gateway.issuer.password_policy import PasswordPolicy

SOON = "A gateway that is running with this file takes it within a second."


class UserPlace(Protocol):
    """Users somewhere; `str()` of it says where. Everything raises CredentialError."""

    policy: PasswordPolicy
    """What new passwords must be like."""

    @property
    def soon(self) -> str:
        """When running gateways take a change, as a sentence."""

    def load(self) -> dict[str, User]: ...

    def add(self, user: User) -> None: ...

    def change(self, old: User, new: User) -> bool: ...

    def remove(self, name: str) -> None: ...


class UserFile:
    """The users of a file (user_file.py, user_edits.py)."""

    soon = SOON

    def __init__(self, path: Path) -> None:
        self._path = path
        self.policy = PasswordPolicy()

    def __str__(self) -> str:
        return str(self._path)

    def load(self) -> dict[str, User]:
        return user_file.load(self._path)

    def add(self, user: User) -> None:
        user_edits.add(self._path, user)

    def change(self, old: User, new: User) -> bool:
        return user_edits.change(self._path, old, new)

    def remove(self, name: str) -> None:
        user_edits.remove(self._path, name)


def place_of(args: argparse.Namespace) -> UserPlace:
    """The place that the command line names. Raises CredentialError."""
    if args.config is not None:
        return _configured(args.config)
    return _store(args.store) if args.store is not None else UserFile(args.file)


def _store(url: str) -> UserPlace:
    from gateway.issuer.stored_users import StoredUsers

    return StoredUsers(parsed(url))


def _configured(path: Path) -> UserPlace:
    from gateway.config.tables.tokens import USERS_IN_STORE
    from gateway.config.toml.problems import ConfigErrors
    from gateway.runtime.reload import load

    try:
        loaded = load(path, os.environ)
    except ConfigErrors as errors:
        raise CredentialError(
            f"there is no telling where the users are: {errors.problems[0]}"
        ) from None
    tokens = loaded.gateway.tokens
    if tokens is None:
        raise CredentialError(f"{path} has no [tokens]; say which --file")
    stored = tokens.users == USERS_IN_STORE
    place = _store(loaded.gateway.store.url) if stored else UserFile(path.parent / tokens.users)
    place.policy = PasswordPolicy.of(tokens.password)
    return place
