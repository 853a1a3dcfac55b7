"""What survives a reload: objects by key and fingerprint, handed to the next snapshot when both are the same.

A reload composes its snapshot from a `Draft`. Nothing the running snapshot uses is touched until `commit`; `discard` closes what
was made for nothing. What a commit drops is returned, for closing once the last request that may use it has ended. An object may
have settings that change under it: those it adopts when the draft is committed, and not before.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any

log = logging.getLogger("gateway.state")

Key = tuple[str, ...]


class Differently(ValueError):
    """One object is wanted with two different settings."""


class Keep:
    """The objects kept now."""

    def __init__(self) -> None:
        self._entries: dict[Key, tuple[object, Any]] = {}

    def __repr__(self) -> str:
        return f"<Keep {len(self._entries)} objects>"

    def __iter__(self) -> Iterator[Any]:
        return iter([kept for _, kept in self._entries.values()])

    def draft(self) -> Draft:
        return Draft(self)

    def close(self) -> None:
        """Closes everything, at the end of the process."""
        entries, self._entries = self._entries, {}
        close_all(kept for _, kept in entries.values())


class Draft:
    """The objects of a snapshot in the making."""

    def __init__(self, owner: Keep) -> None:
        self._owner = owner
        self._entries: dict[Key, tuple[object, Any]] = {}
        self._made: list[Any] = []
        self._settings: dict[Key, object] = {}

    def keep(self, key: Key, fingerprint: object, make: Callable[[], Any], settings: object = None) -> Any:
        """The object under `key` made with an equal `fingerprint`, in this draft or before it; else what `make` makes.

        settings: what its `adopt` is called with when this draft becomes the present. Raises Differently when this draft has
        already asked for the same object with others.
        """
        if settings is not None and self._settings.setdefault(key, settings) != settings:
            raise Differently(key)
        for known in (self._entries.get(key), self._owner._entries.get(key)):
            if known is not None and known[0] == fingerprint:
                self._entries[key] = known
                return known[1]
        made = make()
        self._made.append(made)
        self._entries[key] = (fingerprint, made)
        return made

    def commit(self) -> list[Any]:
        """Makes this draft the present; returns what no longer belongs to it."""
        for key, settings in self._settings.items():
            self._entries[key][1].adopt(settings)
        stays = {id(kept) for _, kept in self._entries.values()}
        dropped = [kept for _, kept in self._owner._entries.values() if id(kept) not in stays]
        self._owner._entries = self._entries
        return dropped

    def discard(self) -> None:
        """Closes what was made for this draft; the present stays as it is."""
        close_all(self._made)
        self._made = []


def close_all(objects: Iterable[Any]) -> None:
    """Calls `close()` on those that have it; a failure is logged and does not stop the others."""
    for one in objects:
        close = getattr(one, "close", None)
        if close is not None:
            try:
                close()
            except Exception:
                log.exception("closing %r failed", one)
