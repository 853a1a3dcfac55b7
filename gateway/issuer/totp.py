"""Time-based one-time passwords (RFC 6238) as a second factor: SHA-1, six digits, 30 seconds.

Pure: the time comes in. sessions.py remembers which steps were used.
"""

from __future__ import annotations

import base64
import hmac
import secrets
import struct
from hashlib import sha1
from urllib.parse import quote

STEP = 30
"""Seconds (RFC 6238 section 5.2)."""
DIGITS = 6
DRIFT = 1
"""Steps a client's clock may be off, either way (RFC 6238 section 5.2)."""
SECRET_BYTES = 20
"""As long as the hash (RFC 4226 section 4)."""


def new_secret() -> str:
    """A secret, in base32 as authenticators take it."""
    return base64.b32encode(secrets.token_bytes(SECRET_BYTES)).decode().rstrip("=")


def uri(secret: str, user: str, issuer: str) -> str:
    """Return what a QR code for authenticators holds (the otpauth key URI format)."""
    label = f"{quote(issuer, safe='')}:{quote(user, safe='')}"
    query = f"secret={secret}&issuer={quote(issuer, safe='')}&algorithm=SHA1"
    return f"otpauth://totp/{label}?{query}&digits={DIGITS}&period={STEP}"


def code(secret: str, step: int) -> str:
    """The code of one step (RFC 4226 section 5.3)."""
    key = base64.b32decode(secret + "=" * (-len(secret) % 8))
    digest = hmac.digest(key, struct.pack(">Q", step), sha1)
    start = digest[-1] & 0x0F
    number: int = struct.unpack(">I", digest[start : start + 4])[0] & 0x7FFFFFFF
    return f"{number % 10**DIGITS:0{DIGITS}d}"


def step_of(secret: str, given: str, now: float) -> int | None:
    """Return the step whose code was given at the Unix time `now`, None for a wrong code.

    Every step is compared, in constant time.
    """
    presented = given.encode("utf-8", "surrogateescape")
    current = int(now // STEP)
    found = None
    for step in range(max(0, current - DRIFT), current + DRIFT + 1):
        if hmac.compare_digest(code(secret, step).encode(), presented):
            found = step
    return found
