"""A route's `pass_headers`: what clients may say there although it is dropped elsewhere."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.core.exchange import Exchange
from gateway.core.headers import OVERRIDES, is_from_proxies, is_own, lower, spelt
from gateway.core.hooks import ConfigProblem, Hooks


def passed_headers(names: Iterable[str]) -> Hooks:
    """Hooks that pass a request's fields of these names on.

    Raises ConfigProblem for a name that is never dropped, or always.
    """
    wanted = frozenset(_checked(place, name) for place, name in enumerate(names))

    def request(exchange: Exchange) -> None:
        given = [pair for pair in exchange.raw_headers if lower(pair[0]) in wanted]
        if given:
            exchange.forward_headers = [*(exchange.forward_headers or ()), *given]

    return Hooks(request=request)


def _checked(place: int, name: str) -> bytes:
    key = spelt(name.encode())
    if is_own(key):
        raise ConfigProblem(f"{name} is the gateway's to set", at=("pass_headers", place))
    if key not in OVERRIDES and not is_from_proxies(key):
        raise ConfigProblem(
            f"{name} is passed on anyway, or never", at=("pass_headers", place), hint="leave it out"
        )
    return name.lower().encode()
