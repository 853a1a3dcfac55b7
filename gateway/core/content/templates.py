"""Texts with values of the request in them: `"{client}-{param.id}"`.

A template is parsed once, when the configuration is compiled, and read for each request. A text
that is one placeholder alone keeps the value's type; in longer texts every value is text, and one
that is not there is empty. `{{` and `}}` are braces.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote_plus

import orjson

from gateway.core.exchange import Exchange
from gateway.core.hooks import ConfigProblem

Reader = Callable[[Exchange], Any]
"""Returns a value of the request; None where it has none."""

_PART = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_LIMITS = re.compile(
    rb"X-RateLimit-Limit: (\d+)\r\nX-RateLimit-Remaining: (\d+)(?:\r\nX-RateLimit-Reset: (\d+))?"
)


class Template:
    """One text. `constant`: what it says when nothing in it depends on the request, else None.

    strange: whether a client may choose a part of the text (a parameter, a header).
    """

    __slots__ = ("_parts", "constant", "lone", "names", "strange")

    def __init__(self, text: str) -> None:
        """Raises ConfigProblem for a placeholder that does not exist, and for a single brace."""
        self.names: list[str] = []
        self._parts: list[str | Reader] = []
        end = 0
        for found in _PART.finditer(text):
            self._literal(text[end : found.start()])
            end = found.end()
            if found[1] is not None:
                self.names.append(found[1])
                self._parts.append(reader(found[1]))
            elif found[0] in ("{{", "}}"):
                self._literal(found[0][0])
            else:
                raise ConfigProblem(
                    f"{text!r} has a brace without its other half", hint="{{ is a {, }} is a }"
                )
        self._literal(text[end:])
        parts = self._parts
        self.lone: Reader | None = None
        self.constant: str | None = None
        if not self.names:
            self.constant = "".join(str(part) for part in parts)
        elif len(parts) == 1 and not isinstance(parts[0], str):
            self.lone = parts[0]
        self.strange = any(name.partition(".")[0] in _STRANGE for name in self.names)

    def __repr__(self) -> str:
        return f"<Template of {', '.join(self.names) or 'nothing'}>"

    def value(self, exchange: Exchange) -> Any:
        """The value of a lone placeholder as it is, None where there is none; else the text."""
        return self.text(exchange) if self.lone is None else self.lone(exchange)

    def text(self, exchange: Exchange) -> str:
        if self.constant is not None:
            return self.constant
        return "".join(
            [part if isinstance(part, str) else _shown(part(exchange)) for part in self._parts]
        )

    def _literal(self, text: str) -> None:
        if text:
            self._parts.append(text)


def reader(name: str) -> Reader:
    """Return what reads the value called `name` without braces. Raises ConfigProblem."""
    kind, dot, rest = name.partition(".")
    if dot and rest and kind in _NAMED:
        return _NAMED[kind](rest)
    found = _PLAIN.get(name)
    if found is None:
        known = " ".join(f"{{{one}}}" for one in (*_PLAIN, *(f"{kind}.NAME" for kind in _NAMED)))
        raise ConfigProblem(f"there is no value called {{{name}}}", hint=f"there are {known}")
    return found


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple | set | frozenset):
        return ",".join(map(_shown, value))
    return orjson.dumps(value).decode() if isinstance(value, dict) else str(value)


def _of_identity(attribute: str) -> Reader:
    def read(exchange: Exchange) -> Any:
        identity = exchange.identity
        return None if identity is None else getattr(identity, attribute) or None

    return read


def _version(exchange: Exchange) -> Any:
    config = getattr(exchange.route, "config", None)
    return getattr(config, "version", None) or None


def _limit(group: int) -> Reader:
    """Return what reads a part of the account that a reply gives of the caller's limits."""

    def read(exchange: Exchange) -> int | None:
        for block in exchange.reply_blocks or ():
            found = _LIMITS.match(block)
            if found is not None and found[group] is not None:
                return int(found[group])
        return None

    return read


def _reset_at(exchange: Exchange) -> str | None:
    """The time of the reset as RFC 3339 has it."""
    seconds = _limit(3)(exchange)
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def _param(name: str) -> Reader:
    return lambda exchange: exchange.params.get(name)


def _query(name: str) -> Reader:
    def read(exchange: Exchange) -> str | None:
        for part in exchange.query.split("&"):
            key, _, value = part.partition("=")
            if unquote_plus(key) == name:
                return unquote_plus(value)
        return None

    return read


def _header(name: str) -> Reader:
    def read(exchange: Exchange) -> str | None:
        lines = exchange.headers.getall(name, None)
        return None if lines is None else ", ".join(lines)

    return read


def _claim(name: str) -> Reader:
    path = name.split(".")

    def read(exchange: Exchange) -> Any:
        if exchange.identity is None:
            return None
        found: Any = exchange.identity.claims
        if name in found:
            return found[name]
        for step in path:
            try:
                found = found[step]
            except (LookupError, TypeError):
                return None
        return found

    return read


_PLAIN: dict[str, Reader] = {
    "client": _of_identity("client"),
    "tier": _of_identity("tier"),
    "user": _of_identity("user"),
    "request_id": lambda exchange: exchange.request_id,
    "route": lambda exchange: None if exchange.route is None else exchange.route.name,
    "version": _version,
    "limit": _limit(1),
    "remaining": _limit(2),
    "reset": _limit(3),
    "reset_at": _reset_at,
}
_NAMED: dict[str, Callable[[str], Reader]] = {
    "param": _param,
    "query": _query,
    "header": _header,
    "claim": _claim,
}
_STRANGE = frozenset(("param", "query", "header"))
