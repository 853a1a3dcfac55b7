"""What a write takes out of the cache: the resource itself, what its answer names, and what the
configuration says (RFC 9111 section 4.4)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from urllib.parse import quote, urljoin, urlsplit

from gateway.core.exchange import Exchange, Reply
from gateway.core.headers import text
from gateway.middlewares.caching.config import CachingConfig
from gateway.middlewares.caching.lookup import ORIGIN, Finder, origin_of
from gateway.store.purges import Purges, of_pattern

_NAME = re.compile(r"\{([A-Za-z_][A-Za-z0-9_-]*)\}")
_PORTS = {"http": 80, "https": 443}


class Invalidation:
    """One pipeline's (or route's)."""

    def __init__(self, config: CachingConfig, finder: Finder, purges: Purges) -> None:
        self._finder = finder
        self._purges = purges
        self._patterns = [partial(filled, pattern) for pattern in config.invalidate]

    def __call__(self, exchange: Exchange, reply: Reply) -> None:
        """Take the answer to a method that is not safe."""
        if not 200 <= reply.status < 400:
            return
        purges, index = self._purges, reply.index
        base, _ = exchange.memo.get(ORIGIN) or origin_of(exchange)
        uris = {self._finder.ask(exchange)[1], f"{base}{exchange.target}"}
        if b"location" in index or b"content-location" in index:
            named = (index.get(b"location"), index.get(b"content-location"))
            uris |= {same_origin(base, exchange.target, text(one)) for one in named if one} - {""}
        # One resource, however it is asked for, by http or https: more than section 4.4 demands,
        # and harmless.
        for uri in uris:
            purges.written(uri)
        for make in self._patterns:
            pattern = make(exchange.params)
            if pattern:
                purges.purge(of_pattern(pattern))


def filled(pattern: str, params: Mapping[str, str]) -> str:
    """Return an `invalidate` with the path's own values in place of its names; "" without them."""
    try:
        return _NAME.sub(lambda name: quote(params[name[1]], safe=""), pattern)
    except KeyError:
        return ""


def same_origin(base: str, target: str, reference: str) -> str:
    """The URI a reference means when it is of the origin `base` ("https://host"), else "".

    RFC 9111 section 4.4, RFC 9110 section 4.3.1.
    """
    try:
        parts = urlsplit(urljoin(f"{base}{target}", reference))
        own = urlsplit(base)
        default = _PORTS.get(own.scheme)
        same = (parts.scheme, parts.hostname, parts.port or default) == (
            own.scheme,
            own.hostname,
            own.port or default,
        )
    except ValueError:
        return ""
    return f"{base}{parts.path or '/'}{'?' + parts.query if parts.query else ''}" if same else ""
