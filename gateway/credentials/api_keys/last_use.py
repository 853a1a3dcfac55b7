"""When keys were last used: `.keys.toml.used` beside the key file, Unix seconds by key as JSON.

Every gateway that uses the file writes it now and then, in a thread; the latest time counts. A
directory that cannot be written to is no error; the times are then unknown.
"""

from __future__ import annotations

import asyncio
import json
import logging
from math import inf
from pathlib import Path

from gateway.config.toml.parse import loads_json
from gateway.credentials import files
from gateway.credentials.files import CredentialError
from gateway.lifetime.supervised import Supervised

log = logging.getLogger("gateway.auth")

EVERY = 60.0
"""Seconds from a use to its being written down, at most."""


class KeyUse:
    """The uses noted and not yet written."""

    def __init__(self, keys: Path, *, every: float = EVERY) -> None:
        self._path = beside(keys)
        self._every = every
        self._noted: dict[str, int] = {}
        self._writing = Supervised("key_use", self._flush, every=every, of=str(keys))
        self._warned = False

    def note(self, id: str, now: float) -> None:
        """A key was used at the Unix time `now`."""
        self._noted[id] = int(now)
        self._writing.start(self._every)

    def close(self) -> None:
        """Write what there is, at once."""
        self._writing.close()
        if self._noted:
            self._write(self._noted)

    async def _flush(self) -> float:
        noted, self._noted = self._noted, {}
        try:
            await asyncio.to_thread(self._write, noted)
        except BaseException:
            self._noted = {**noted, **self._noted}
            raise
        return inf

    def _write(self, noted: dict[str, int]) -> None:
        try:
            with files.locked(self._path) as target:
                known = read(target)
                for id, when in noted.items():
                    known[id] = max(when, known.get(id, 0))
                files.replace_file(target, json.dumps(known, indent=0, sort_keys=True))
        except CredentialError as error:
            if not self._warned:
                log.info("when keys are used is not written down: %s", error)
            self._warned = True


def beside(keys: Path) -> Path:
    """The file for the uses of the keys of another."""
    return keys.with_name(f".{keys.name}.used")


def read(path: Path) -> dict[str, int]:
    """Unix seconds by key; empty when there is no such file, or none that makes sense."""
    try:
        found = loads_json(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return (
        {id: when for id, when in found.items() if isinstance(when, int)}
        if isinstance(found, dict)
        else {}
    )
