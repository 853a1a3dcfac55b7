"""What clients are told about limits: header lines on every reply, and the failure of a refused
request.

All instances and rules of a pipeline share one account on a reply: RateLimit-Policy lists every
policy, the other fields show the one with the smallest part left. A note on the exchange carries it
from one to the next.
"""

from __future__ import annotations

from math import ceil, floor, inf
from typing import Any

from gateway.core.exchange import Exchange, Reply
from gateway.core.failures import Failed, Failure
from gateway.core.headers import Pair
from gateway.core.problems import timestamp
from gateway.middlewares.rate_limit.policy import Policy

Note = tuple[Policy, int, int, str, bytes]
"""The policy shown, units left, seconds until all are back, all policies, the block of lines."""

NOTE = "rate_limit"

NAMES = (
    b"x-ratelimit-limit",
    b"x-ratelimit-remaining",
    b"x-ratelimit-reset",
    b"ratelimit-policy",
    b"ratelimit",
)
"""The fields of an account, lower case."""


def remove_limits(reply: Reply) -> None:
    """Remove what the upstream says about limits of its own: one reply, one account."""
    for name in NAMES:
        if name in reply.index:
            reply.remove(name)


def write_headers(
    exchange: Exchange, policy: Policy, left: int, seconds: int, unix: int, listed: str
) -> None:
    """Write the headers of `policy`, or of an earlier instance's if that has less left.

    left: units. seconds: until all are back. unix: the time now. listed: this instance's policies.
    """
    blocks = exchange.reply_blocks
    note: Note | None = exchange.notes.get(NOTE)
    if blocks is None or note is None:
        block = policy.lines(left, unix + seconds, seconds, listed)
        exchange.reply_blocks = [*(blocks or ()), block]
    else:
        other, other_left, other_seconds, before, old = note
        listed = f"{before}, {listed}"
        if left * other.limit.quota > other_left * policy.limit.quota:
            policy, left, seconds = other, other_left, other_seconds
        block = policy.lines(left, unix + seconds, seconds, listed)
        blocks[blocks.index(old)] = block
    exchange.notes[NOTE] = (policy, left, seconds, listed, block)


def passed(exchange: Exchange) -> str:
    """Say what was left of the limit that had the least left, of all instances."""
    note: Note | None = exchange.notes.get(NOTE)
    return "" if note is None else f"{note[0].item}: {note[1]} left after it"


def refusal(
    exchange: Exchange,
    policy: Policy,
    wait: float,
    unix: int,
    listed: str,
    by: str,
    message: str,
    who: str,
) -> Failed:
    """The failure of a request that would be admitted in `wait` seconds, inf for never.

    unix: the time now. listed: this instance's policies. by: its name. who: whose limit it is.
    """
    note: Note | None = exchange.notes.pop(NOTE, None)
    if note is not None and exchange.reply_blocks is not None:
        # The failure's own headers say it all.
        exchange.reply_blocks.remove(note[4])
        listed = f"{note[3]}, {listed}"
    quota = policy.limit.ends is not None
    code = Failure.QUOTA_EXCEEDED if quota else Failure.RATE_LIMITED
    why = f"limit {policy.item} of {whose(exchange, who)} used up, {wait:.3f} s to wait"
    if wait == inf:
        # No wait helps. Retry-After and resets are optional (RFC 9110 section 10.2.3, RFC 6585
        # section 4).
        words = f'The {"quota" if quota else "limit"} "{policy.name}" allows no requests.'
        return Failed(
            code,
            message or words,
            headers=tuple(_pairs(policy.none(listed))),
            facts=_facts(policy),
            by=by,
            why=why.replace("inf s", "no time"),
        )
    seconds = max(1, ceil(wait))
    # While nothing is left, the reset is when the next request would be admitted: Retry-After must
    # not be earlier (draft-ietf-httpapi-ratelimit-headers, section "Server Behavior").
    lines = policy.lines(0, unix + seconds, seconds, listed)
    again = f"Try again in {seconds} second{'s' if seconds > 1 else ''}."
    what = "The quota" if quota else "Too many requests: the limit"
    return Failed(
        code,
        message or f'{what} "{policy.name}" is used up. {again}',
        headers=(*_pairs(lines), (b"Retry-After", b"%d" % seconds)),
        facts=_facts(policy) | {"reset": unix + seconds, "reset_at": timestamp(unix + seconds)},
        by=by,
        why=why,
    )


def whose(exchange: Exchange, who: str) -> str:
    """Return whose limit it is, for operators: `who` in the words of `key`, and the value."""
    identity = exchange.identity
    if identity is None and who in ("client", "user"):
        return f"ip {exchange.client_ip}, for want of an identity"
    if identity is not None and who in ("client", "user"):
        return f"{who} {identity.client if who == 'client' else identity.user}"
    return f"ip {exchange.client_ip}" if who == "ip" else who


def _facts(policy: Policy) -> dict[str, Any]:
    """What bodies may say of a limit that is used up."""
    return {"limit": floor(policy.limit.quota), "remaining": 0, "policy": policy.name}


def _pairs(lines: bytes) -> list[Pair]:
    pairs = []
    for line in lines.splitlines():
        name, _, value = line.partition(b": ")
        pairs.append((name, value))
    return pairs
