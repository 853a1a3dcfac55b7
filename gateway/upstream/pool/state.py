"""What operators are shown of a pool, and why a pick finds nothing."""

from __future__ import annotations

from typing import Any

from gateway.core.failures import Failure
from gateway.upstream.pool.breaker import NAMES, OPEN
from gateway.upstream.pool.health import Status
from gateway.upstream.pool.roster import Roster


def status(pool: Roster) -> dict[str, Any]:
    """Plain values for the admin API."""
    now, breaker = pool.now(), pool.breaker
    all_well = all(endpoint.health.status is Status.HEALTHY for endpoint in pool.endpoints)
    circuits = any(one.state for one, _ in pool.circuits())
    usable = (
        bool(pool.eligible) and not pool.trying_all and (breaker is None or breaker.state != OPEN)
    )
    circuit = None
    if breaker is not None:
        circuit = {
            "state": NAMES[breaker.state],
            "failures": breaker.failures,
            "retry_after": breaker.retry_after(now),
        }
    return {
        "name": pool.name,
        "status": "unhealthy"
        if not usable
        else "healthy"
        if all_well and not circuits
        else "degraded",
        "balance": pool.config.balance,
        "in_flight": pool.in_flight,
        "retrying": pool.budget.retrying,
        "trying_all": pool.trying_all,
        "waiting": len(pool.waiting),
        "limit": None if pool.limiter is None else int(pool.limiter.limit),
        "circuit": circuit,
        "endpoints": [
            endpoint.status(now) | {"eligible": endpoint in pool.eligible}
            for endpoint in pool.endpoints
        ],
    }


def explain_outage(pool: Roster) -> tuple[Failure, float, str]:
    """The failure to answer with, when the first endpoint may be back, and why none can be
    picked."""
    checks, now = pool.config.health, pool.now()
    open_circuits = [
        breaker.retry_after(now) + now
        for breaker, _ in pool.circuits()
        if breaker.state and not pool.breaker
    ]
    back = min(
        [endpoint.health.back(checks) for endpoint in pool.endpoints if not endpoint.draining],
        default=0.0,
    )
    if open_circuits:
        back = max(back, min(open_circuits))
    each = "; ".join(
        f"{endpoint.name} is draining"
        if endpoint.draining
        else f"{endpoint.name} {endpoint.health.status}: {endpoint.health.error}"
        for endpoint in pool.endpoints
    )
    failure = Failure.CIRCUIT_OPEN if open_circuits else Failure.NO_ENDPOINT
    return (
        failure,
        back,
        f"upstream {pool.name}: no endpoint can be picked ({each or 'it has none'})",
    )
