"""What a new password must be like: a length, kinds of characters, and none that is denied.

NIST SP 800-63B section 3.1.1.2 asks for a length and a list of common passwords, and advises
against rules about kinds; those are for operators who are bound to them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gateway.config.tables.tokens import PasswordConfig
from gateway.issuer.passwords import LONGEST, SHORTEST

KINDS: dict[str, tuple[Callable[[str], bool], str]] = {
    "lower": (str.islower, "a lower-case letter"),
    "upper": (str.isupper, "an upper-case letter"),
    "digit": (str.isdigit, "a digit"),
    "symbol": (lambda letter: not letter.isalnum(), "a character that is no letter and no digit"),
}
"""Kinds of characters: a test, and the words for it."""


@dataclass(frozen=True, slots=True)
class PasswordPolicy:
    """min_length: in characters. require: of KINDS; the user's name is refused then, too. denied:
    passwords in lower case.
    """

    min_length: int = 0
    require: tuple[str, ...] = ()
    denied: frozenset[str] = frozenset()

    @classmethod
    def of(cls, config: PasswordConfig) -> PasswordPolicy:
        lines = (line.strip().lower() for line in config.denied.splitlines())
        return cls(config.min_length, config.require, frozenset(filter(None, lines)))

    def problem(self, password: str, name: str) -> str:
        """Return what is wrong with a new password of the user `name`, "" for nothing."""
        size = len(password.encode())
        if size < SHORTEST:
            return f"must have {SHORTEST} bytes or more"
        if size > LONGEST:
            return f"must have {LONGEST} bytes at most"
        if len(password) < self.min_length:
            return f"must have {self.min_length} characters or more"
        for kind in self.require:
            holds, words = KINDS[kind]
            if not any(map(holds, password)):
                return f"must have {words}"
        if self.denied and password.lower() in self.denied:
            return "is one of the most common passwords"
        if self.require and len(name) > 2 and name.lower() in password.lower():
            return "must not hold the user's name"
        return ""


ANY_PASSWORD = PasswordPolicy()
"""The policy that asks for no more than 8 bytes."""
