"""The store as the command line uses it: what goes wrong is a CredentialError."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gateway.credentials.files import CredentialError
from gateway.store import stores
from gateway.store.stores import StoreUrl


@contextmanager
def connected(url: StoreUrl) -> Iterator[Any]:
    """Give a client of the store. Raises CredentialError for any error of it."""
    from gateway.store.redis import blocking  # without a store, the package redis is not needed

    try:
        with blocking.connected(url) as connection:
            yield connection
    except blocking.ClientError as error:
        raise CredentialError(str(error)) from None


def parsed(url: str) -> StoreUrl:
    """The URL of a store. Raises CredentialError."""
    try:
        return stores.parse(url)
    except stores.BadUrl as error:
        raise CredentialError(f"the store's URL {error}") from None
