"""The gateway as an issuer of tokens: what `auth` needs to verify them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gateway.issuer.attempts import Attempts
from gateway.issuer.sessions import Sessions
from gateway.tokens.signing import SigningKeys


@dataclass(frozen=True, slots=True)
class OwnIssuer:
    """`name` is the tokens' iss; `sessions` says which of them have ended.

    attempts: those at the passwords of `users`, the user file, None where users are in the store.
    """

    name: str
    keys: SigningKeys
    sessions: Sessions
    attempts: Attempts
    users: Path | None
