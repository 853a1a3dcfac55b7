"""What survives a reload: objects by key and fingerprint, counted by the snapshots that use them.

Every snapshot is composed from a `Draft`, which acquires what it asks for. An object is closed when
the last draft that acquired it lets go, in whatever order snapshots end. Composing changes nothing
that is in force: new settings of objects that exist, and other steps, wait for `commit`.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import pickle
from collections.abc import Awaitable, Callable, Iterable, Iterator
from functools import partial
from typing import Any

log = logging.getLogger("gateway.state")

Key = tuple[str, ...]


class ConflictingSettings(ValueError):
    """One object is wanted with two different settings."""


class _Entry:
    """One object. `users`: how many drafts hold it."""

    __slots__ = ("fingerprint", "key", "made", "users")

    def __init__(self, key: Key, fingerprint: object, made: Any) -> None:
        self.key = key
        self.fingerprint = fingerprint
        self.made = made
        self.users = 0


class Registry:
    """The objects that are alive: those of the snapshot in force, of older ones that still have
    requests, and of a draft that is being composed.
    """

    def __init__(self) -> None:
        self._entries: dict[Key, list[_Entry]] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._left: dict[Key, Any] = {}
        """States of objects of the program before, by key."""

    def __repr__(self) -> str:
        return f"<Registry {sum(map(len, self._entries.values()))} objects>"

    def __iter__(self) -> Iterator[Any]:
        return iter([entry.made for entries in self._entries.values() for entry in entries])

    def draft(self) -> Draft:
        return Draft(self)

    def close(self) -> None:
        """Close everything, at the end of the process, whoever still holds it. Harmless twice."""
        for entries in reversed(tuple(self._entries.values())):
            for entry in reversed(tuple(entries)):
                self._close(entry)

    async def closed(self) -> None:
        """Wait for closings that take time: those whose `close()` returned an awaitable."""
        while self._closing:
            await asyncio.wait(self._closing)

    def find(self, key: Key) -> Any:
        """Return the object under `key` that was made last; None when there is none."""
        entries = self._entries.get(key)
        return entries[-1].made if entries else None

    def dump(self) -> bytes:
        """Return the states of all objects that have some, for the program that takes this one's
        place (USR2)."""
        states = {}
        for key, entries in self._entries.items():
            dump_state = getattr(entries[-1].made, "dump_state", None)
            if dump_state is not None:
                states[key] = dump_state()
        return pickle.dumps(states)

    def load(self, states: bytes) -> None:
        """Give objects that are made from now on the states that the program before has dumped."""
        try:
            self._left = pickle.loads(states)  # noqa: S301 - this process wrote it
        except Exception:
            log.exception("what the program before has kept cannot be read; it begins anew")

    def _acquire(self, key: Key, fingerprint: object, make: Callable[[], Any]) -> _Entry:
        for entry in self._entries.get(key, ()):
            if entry.fingerprint == fingerprint:
                break
        else:
            entry = _Entry(key, fingerprint, self._made(key, make))
            self._entries.setdefault(key, []).append(entry)
        entry.users += 1
        return entry

    def _made(self, key: Key, make: Callable[[], Any]) -> Any:
        made, state = make(), self._left.pop(key, None)
        if state is not None and hasattr(made, "load_state"):
            try:
                made.load_state(state)
            except Exception:
                log.exception("what the program before has kept of %r begins anew", made)
                return make()
        return made

    def _release(self, entry: _Entry) -> None:
        entry.users -= 1
        if entry.users == 0:
            self._close(entry)

    def _close(self, entry: _Entry) -> None:
        """Close an object once. What its `close()` returns is awaited, if it can be."""
        entries = self._entries.get(entry.key, [])
        if entry not in entries:
            return
        entries.remove(entry)
        if not entries:
            del self._entries[entry.key]
        close = getattr(entry.made, "close", None)
        if close is None:
            return
        try:
            result = close()
            if inspect.isawaitable(result):
                self._await(entry.made, result)
        except Exception:
            log.exception("closing %r failed", entry.made)

    def _await(self, made: object, result: Awaitable[Any]) -> None:
        async def finish() -> None:
            try:
                await result
            except Exception:
                log.exception("closing %r failed", made)

        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # `gateway check` has no loop
            asyncio.run(finish())
            return
        task = loop.create_task(finish())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


class Draft:
    """The objects of one snapshot, acquired one by one while it is composed.

    Then either `commit`, and `release` when the snapshot's last request has ended; or `release`
    alone, which closes what was made for nothing.
    """

    def __init__(self, owner: Registry) -> None:
        self._owner = owner
        self._entries: dict[Key, _Entry] = {}
        self._held: list[_Entry] = []
        self._settings: dict[Key, object] = {}
        self._steps: list[Callable[[], None]] = []

    def keep(
        self, key: Key, fingerprint: object, make: Callable[[], Any], settings: object = None
    ) -> Any:
        """Return the object under `key` that was made with an equal `fingerprint`, or make it.

        settings: what its `adopt` is called with at the commit. Raises ConflictingSettings when
                  this
            draft has already asked for the same object with others.
        """
        if settings is not None and self._settings.setdefault(key, settings) != settings:
            raise ConflictingSettings(key)
        entry = self._entries.get(key)
        if entry is None or entry.fingerprint != fingerprint:
            entry = self._owner._acquire(key, fingerprint, make)
            self._entries[key] = entry
            self._held.append(entry)
        return entry.made

    def at_commit(self, step: Callable[[], None]) -> None:
        """Run `step` at the commit, after new settings have been adopted; never if the reload is
        refused."""
        self._steps.append(step)

    def commit(self) -> None:
        """Put into force what was asked for. A step that fails is logged and does not stop the
        others."""
        settings, self._settings = self._settings, {}
        steps, self._steps = self._steps, []
        for key, wanted in settings.items():
            self._run(partial(self._entries[key].made.adopt, wanted))
        for step in steps:
            self._run(step)

    def release(self) -> None:
        """Let go of every object; those that no other draft holds are closed. Harmless twice.

        The last acquired goes first: it may need those that were made before it.
        """
        held, self._held = self._held, []
        self._entries = {}
        self._settings, self._steps = {}, []
        for entry in reversed(held):
            self._owner._release(entry)

    @staticmethod
    def _run(step: Callable[[], object]) -> None:
        try:
            step()
        except Exception:
            log.exception("a step of taking a configuration failed")


def close_all(objects: Iterable[Any]) -> None:
    """Call `close()` on those that have it; a failure is logged and does not stop the others."""
    for one in objects:
        close = getattr(one, "close", None)
        if close is not None:
            try:
                close()
            except Exception:
                log.exception("closing %r failed", one)
