"""Signs what is sent on to a webhook, so that the receiver knows who sent it and when.

    request = ["webhook"]

    [webhook]
    secret = { file = "webhook.secret" }
    header = "X-Signature"

The header is `t=1767225600,v1=HEX`: HMAC-SHA256 (RFC 2104) over the time in Unix seconds, a dot,
and the body. `verify` is the receiver's half.
"""

from __future__ import annotations

import hmac
from hashlib import sha256

from gateway.config.tables.declare import setting, table
from gateway.config.tables.schema import FieldName, Secret, Size
from gateway.core.exchange import Exchange
from gateway.core.hooks import ConfigProblem, Context, Hooks

SHORTEST = 16
"""Bytes that a secret must have."""


@table
class WebhookConfig:
    """Signs what is sent on."""

    secret: str = setting(Secret(), doc="what sender and receiver share, 16 bytes or more")
    header: str = setting(FieldName(), default="X-Signature", doc="the signature's header")
    max_body: int = setting(Size(), default=1024 * 1024, doc="of a request; 413 beyond it")


CONFIG = WebhookConfig


def signature(secret: bytes, now: int, body: bytes) -> str:
    """Return the header's value."""
    digest = hmac.new(secret, b"%d." % now + body, sha256).hexdigest()
    return f"t={now},v1={digest}"


def verify(secret: bytes, value: str, body: bytes, now: float, leeway: float = 300.0) -> bool:
    """Return True if a header's value signs this body, and is at most `leeway` seconds off."""
    stamp, _, _ = value.removeprefix("t=").partition(",")
    if not (stamp.isascii() and stamp.isdigit()) or abs(now - int(stamp)) > leeway:
        return False
    return hmac.compare_digest(signature(secret, int(stamp), body).encode(), value.encode())


def build(config: WebhookConfig, context: Context) -> Hooks:
    secret, header = config.secret.encode(), config.header.encode()
    if len(secret) < SHORTEST:
        raise ConfigProblem(f"must have {SHORTEST} bytes or more", at=("secret",))
    dropped = frozenset((header.lower(),))

    async def request(exchange: Exchange) -> None:
        body = b"" if exchange.body is None else await exchange.body.whole(config.max_body)
        value = signature(secret, int(context.clock.wall()), body)
        exchange.drop_headers = (exchange.drop_headers or frozenset()) | dropped
        exchange.forward_headers = [*(exchange.forward_headers or ()), (header, value.encode())]

    return Hooks(request=request)
