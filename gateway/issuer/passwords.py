"""Hashing and verifying passwords with argon2id (RFC 9106), off the event loop, one a core at a time, for so many as may wait.

Whoever has no hash, because there is no such user, is compared with one of the same cost that no password has.
"""

from __future__ import annotations

import asyncio
import base64
import os
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from math import ceil
from time import perf_counter
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError

from gateway.credentials.users import user_file

T = TypeVar("T")

SHORTEST, LONGEST = 8, 1024
"""Bytes of a password in UTF-8 (NIST SP 800-63B section 3.1.1.2 asks for 8, and for 64 to be possible). All of them count."""
WAITING = 100
"""Passwords that may be under way or wait."""


class Busy(Exception):
    """Too many passwords wait. `seconds`: until there is likely to be room, at least 1."""

    def __init__(self, seconds: int) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class Passwords:
    """memory in KiB, passes and lanes: argon2's m, t and p for new hashes; old ones are verified with their own."""

    def __init__(self, memory: int, passes: int, lanes: int, *, threads: int = 0, waiting: int = WAITING) -> None:
        self._hasher = PasswordHasher(time_cost=passes, memory_cost=memory, parallelism=lanes)
        salt = base64.b64encode(secrets.token_bytes(16)).decode().rstrip("=")
        self._nobody = f"$argon2id$v=19$m={memory},t={passes},p={lanes}${salt}${'A' * 43}"
        self._threads = threads or os.cpu_count() or 1
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="password")
        self._most = waiting
        self._seconds = 0.1
        self.under_way = 0

    def __repr__(self) -> str:
        return f"<Passwords {self.under_way} under way>"

    def close(self) -> None:
        """Nobody waits for what has not begun."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def verify(self, hash: str | None, password: str) -> bool:
        """Whether the password is the one that was hashed; False, as late, without a hash. Raises Busy."""
        good = await self._run(lambda: user_file.verifies(self._nobody if hash is None else hash, password))
        return good and hash is not None

    async def hash(self, password: str) -> str:
        """A new hash. Raises Busy."""
        return await self._run(lambda: self._hasher.hash(password))

    def stale(self, hash: str) -> bool:
        """Whether new hashes are made in another way."""
        try:
            return self._hasher.check_needs_rehash(hash)
        except InvalidHashError:
            return True

    async def _run(self, work: Callable[[], T]) -> T:
        if self.under_way >= self._most:
            raise Busy(max(1, ceil(self.under_way * self._seconds / self._threads)))
        self.under_way += 1
        try:
            result, seconds = await asyncio.get_running_loop().run_in_executor(self._pool, _timed, work)
        finally:
            self.under_way -= 1
        self._seconds += (seconds - self._seconds) / 8
        return result


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    start = perf_counter()
    return work(), perf_counter() - start
