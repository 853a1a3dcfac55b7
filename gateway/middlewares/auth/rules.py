"""Rules beside permissions: networks before credentials are looked at, tiers and ownership after.

A rule is a function that returns a Refused, or None. Only configured rules exist.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import IPv4Network, IPv6Network

from gateway.core.exchange import Exchange, Identity
from gateway.core.failures import Failure
from gateway.core.identities import covers
from gateway.core.networks import Networks
from gateway.core.refusals import Refused
from gateway.tokens.claims import found

Network = IPv4Network | IPv6Network
Rule = Callable[[Exchange, Identity], Refused | None]


def from_where(
    allow: tuple[Network, ...], deny: tuple[Network, ...]
) -> Callable[[Exchange], Refused | None] | None:
    """Return the rule on addresses, None without one: `deny` first, then `allow`."""
    if not allow and not deny:
        return None
    allowed, denied = Networks(allow), Networks(deny)

    def rule(exchange: Exchange) -> Refused | None:
        address = exchange.client_ip
        if denied and address in denied:
            return _denied("network", f"deny: {address} is in {denied!r}", ("deny",))
        if allowed and address not in allowed:
            return _denied("network", f"allow: {address} is not in {allowed!r}", ("allow",))
        return None

    return rule


def rules(
    tiers: tuple[str, ...], owner: Mapping[str, str], owner_except: frozenset[str]
) -> tuple[Rule, ...]:
    """The rules on callers that are known, in the order they are asked.

    tiers: those that may, the least first: it is the one that a refused caller is told to get.
    """
    made: list[Rule] = []
    if tiers:

        def of_tier(exchange: Exchange, identity: Identity) -> Refused | None:
            if identity.tier in tiers:
                return None
            said, wanted = identity.tier or "none", " or ".join(tiers)
            why = f"tiers: client {identity.client} is of tier {said}, not {wanted}"
            return Refused(
                "tier",
                why,
                detail=f"This needs the tier {wanted}.",
                failure=Failure.SUBSCRIPTION_REQUIRED,
                facts={"required_tier": tiers[0], "tier": identity.tier or None},
                at=("tiers",),
            )

        made.append(of_tier)
    for parameter, claim in owner.items():
        made.append(_owner(parameter, claim, owner_except))
    return tuple(made)


def _owner(parameter: str, claim: str, excepted: frozenset[str]) -> Rule:
    def of_owner(exchange: Exchange, identity: Identity) -> Refused | None:
        if excepted and covers(identity.permissions, excepted):
            return None
        wanted = exchange.params.get(parameter)
        # Without the parameter nothing says who the owner is, so nobody passes.
        if claim == "client":
            held: object = identity.client
        else:
            # A caller with a prefix owns what begins with it, whatever else its issuer may claim.
            value = found(identity.claims, claim)
            held = f"{identity.prefix}{value}" if type(value) in (str, int) else None
        if wanted is not None and held == wanted:
            return None
        said = (
            "is not there" if wanted is None else f"is not the {claim} of client {identity.client}"
        )
        why = f"owner: the path's {parameter} {said}"
        return _denied("owner", why, ("owner", parameter))

    return of_owner


def _denied(result: str, why: str, at: tuple[str, ...]) -> Refused:
    return Refused(result, why, detail="You may not do this.", failure=Failure.FORBIDDEN, at=at)
