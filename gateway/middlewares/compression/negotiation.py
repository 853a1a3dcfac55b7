"""What an Accept-Encoding field asks for (RFC 9110 section 12.5.3)."""

from __future__ import annotations

import re

_WEIGHT = re.compile(r"\s*q\s*=\s*(0(?:\.\d{0,3})?|1(?:\.0{0,3})?)\s*")
_ALIASES = {"x-gzip": "gzip"}
"""RFC 9110 section 8.4.1.3."""


def preferred(accept: str, algorithms: tuple[str, ...]) -> str | None:
    """Return which of `algorithms` an Accept-Encoding asks for, None for none.

    The highest weight wins, and among equals the first.

    A weight that is none excludes its coding. `identity` wins only with a weight of its own that is
    higher; where it is excluded and nothing else is left, the answer is sent as it is, as the
    section allows.
    """
    weights: dict[str, float] = {}
    for member in accept.lower().split(","):
        name, semicolon, parameter = member.partition(";")
        weight = _WEIGHT.fullmatch(parameter) if semicolon else None
        weights[_ALIASES.get(name.strip(), name.strip())] = (
            float(weight[1]) if weight else 0.0 if semicolon else 1.0
        )
    others = weights.get("*", 0.0)
    found = [(weights.get(name, others), name) for name in algorithms]
    best = max((weight for weight, _ in found), default=0.0)
    if best == 0 or best < weights.get("identity", 0.0):
        return None
    return next(name for weight, name in found if weight == best)
