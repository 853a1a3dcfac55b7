"""The gateway as an issuer of tokens, as far as whoever verifies them needs to know it."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.issuer.sessions import Sessions
from gateway.tokens.signing import SigningKeys


@dataclass(frozen=True, slots=True)
class OwnIssuer:
    """`name` is the tokens' iss; `sessions` says which of them have ended."""

    name: str
    keys: SigningKeys
    sessions: Sessions
