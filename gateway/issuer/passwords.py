"""Hash and verify passwords with argon2id (RFC 9106), off the event loop (password_queue.py).

A name that no user has is verified against a hash of the same cost, so that the time tells nothing.
"""

from __future__ import annotations

import base64
import secrets

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError

from gateway.credentials.users import user_file
from gateway.issuer.password_queue import WAITING, PasswordQueue

SHORTEST, LONGEST = 8, 1024
"""Bytes of a password in UTF-8; all of them count.

NIST SP 800-63B section 3.1.1.2 asks for at least 8, and for 64 to be possible.
"""


class Passwords:
    """memory (KiB), passes, lanes: argon2's m, t and p for new hashes; old ones keep theirs."""

    def __init__(
        self, memory: int, passes: int, lanes: int, *, threads: int = 0, waiting: int = WAITING
    ) -> None:
        self._hasher = PasswordHasher(time_cost=passes, memory_cost=memory, parallelism=lanes)
        salt = base64.b64encode(secrets.token_bytes(16)).decode().rstrip("=")
        self._nobody = f"$argon2id$v=19$m={memory},t={passes},p={lanes}${salt}${'A' * 43}"
        self.queue = PasswordQueue(threads=threads, waiting=waiting)

    def __repr__(self) -> str:
        return f"<Passwords {len(self.queue)} under way>"

    def close(self) -> None:
        self.queue.close()

    async def verify(self, hash: str | None, password: str, address: str = "") -> bool:
        """Return True if the password is the hashed one; without a hash, False as late.

        Raises Busy.
        """
        good = await self.queue.run(
            lambda: user_file.verifies(self._nobody if hash is None else hash, password), address
        )
        return good and hash is not None

    async def hash(self, password: str, address: str = "") -> str:
        """A new hash. Raises Busy."""
        return await self.queue.run(lambda: self._hasher.hash(password), address)

    def stale(self, hash: str) -> bool:
        """Return True if new hashes are made with other parameters."""
        try:
            return self._hasher.check_needs_rehash(hash)
        except InvalidHashError:
            return True
