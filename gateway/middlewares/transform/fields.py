"""Header fields and the query, changed by a plan that is made when the configuration is compiled.

What frames a message, belongs to one connection or is the gateway's own word (identity, the
client's address, the request's id) cannot be changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from urllib.parse import quote, unquote_plus

from gateway.core.content.templates import Template
from gateway.core.exchange import Exchange, Reply
from gateway.core.headers import FRAMING, HOP_BY_HOP, Pair, is_from_proxies, is_own, lower, spelt
from gateway.core.hooks import ConfigProblem
from gateway.middlewares.transform.config import QueryConfig, RequestChanges, ResponseChanges

Place = tuple[str | int, ...]

_FRAMES = HOP_BY_HOP | FRAMING
_REQUEST = _FRAMES | {b"host", b"expect", b"proxy", b"x-request-id", b"via", b"content-encoding"}
_RESPONSE = _FRAMES | frozenset(
    b"content-encoding content-range date via x-request-id x-ratelimit-limit x-ratelimit-remaining "
    b"x-ratelimit-reset ratelimit ratelimit-policy".split()
)
_REMOVABLE = frozenset((b"date",))


class RequestFields:
    """The changes to what an upstream is sent.

    `drop`: names of the client's fields that do not go on as they came.
    """

    def __init__(self, changes: RequestChanges, at: Place) -> None:
        _check(changes, _REQUEST, at, own=True)
        self._renamed = _renamed(changes.rename)
        set_, add = _templates(changes.set, (*at, "set")), _templates(changes.add, (*at, "add"))
        for key, templates in (("set", set_), ("add", add)):
            for name, template in templates:
                if template.strange and is_from_proxies(spelt(name)):
                    message = f"{name.decode()} says who calls, and the client would choose it"
                    raise ConfigProblem(message, at=(*at, key, name.decode()))
        self._removed = _lower([*changes.remove, *changes.rename])
        self._set = _lower(changes.set)
        renamed = {new for _, new in self._renamed.values()}
        self.drop = self._removed | self._set | _lower(changes.add) | renamed
        self._varying = [*set_, *add]
        self._plain = not (self._renamed or add)
        self._pairs = _constant(self._varying)
        self._joined: dict[frozenset[bytes], frozenset[bytes]] = {}

    def __bool__(self) -> bool:
        return bool(self.drop)

    def __call__(self, exchange: Exchange) -> None:
        """Usually two assignments."""
        dropped, forward = exchange.drop_headers, exchange.forward_headers
        drop = self.drop
        if dropped is not None:
            drop = self._joined.get(dropped) or self._join(dropped)
        exchange.drop_headers = drop
        pairs = self._pairs
        if pairs is None:
            pairs = _written(exchange, self._varying)
        if not self._plain or forward:
            pairs = [*self._kept(exchange, forward or (), dropped or frozenset()), *pairs]
        if pairs:
            exchange.forward_headers = pairs

    def _join(self, dropped: frozenset[bytes]) -> frozenset[bytes]:
        """The same set for the same names: heads are remembered by it."""
        if len(self._joined) > 64:
            self._joined.clear()
        joined = self._joined[dropped] = dropped | self.drop
        return joined

    def _kept(
        self, exchange: Exchange, forward: Iterable[Pair], dropped: frozenset[bytes]
    ) -> list[Pair]:
        """What stays of fields with these names: what earlier hooks added, renamed ones, and those
        that are added to."""
        kept: list[Pair] = []
        before: list[Pair] = list(forward)
        named = {lower(name) for name, _ in before}
        for pair in exchange.raw_headers:
            name = lower(pair[0])
            if (name in self._renamed or name in self.drop) and name not in dropped | named:
                before.append(pair)
        for name, value in before:
            key = lower(name)
            if key in self._renamed:
                name, key = self._renamed[key]
            elif key in self._removed:
                continue
            if key not in self._set:
                kept.append((name, value))
        return kept


class ResponseFields:
    """The changes to what a client gets."""

    def __init__(self, changes: ResponseChanges, at: Place) -> None:
        _check(changes, _RESPONSE, at, own=False)
        self._renamed = _renamed(changes.rename)
        set_, add = _templates(changes.set, (*at, "set")), _templates(changes.add, (*at, "add"))
        self._removed = _lower(changes.remove)
        self._set = _lower(changes.set)
        self._varying = [*set_, *add]
        self._pairs = _constant(self._varying)
        self._index = {lower(name): value for name, value in self._pairs or ()}
        # Two lines of one name are an entry of the index that `Reply.add` makes.
        twice = len(self._index) < len(self._pairs or ())
        self._watched = self._removed | self._set | _lower(changes.add) | self._renamed.keys()
        self._at_once = self._pairs is not None and not twice

    def __bool__(self) -> bool:
        return bool(self._watched)

    def __call__(self, exchange: Exchange, reply: Reply) -> None:
        if not self._watched.isdisjoint(reply.index):
            self._adapt(reply)
        elif self._at_once:
            reply.headers += self._pairs or ()
            reply.index.update(self._index)
            return
        pairs = self._pairs
        for name, value in _written(exchange, self._varying) if pairs is None else pairs:
            reply.add(name, value)

    def _adapt(self, reply: Reply) -> None:
        """Rename, remove, and make room for what is set."""
        for old, (name, _) in self._renamed.items():
            lines = [value for key, value in reply.headers if lower(key) == old]
            reply.remove(old)
            for value in lines:
                reply.add(name, value)
        for key in self._removed | self._set:
            reply.remove(key)


class QueryChanges:
    """The changes to the query. Other parameters stay as they were sent, in their order."""

    def __init__(self, config: QueryConfig, at: Place) -> None:
        self._set = [
            (name, template(value, (*at, "set", name))) for name, value in config.set.items()
        ]
        self._gone = frozenset((*config.remove, *config.set))

    def __bool__(self) -> bool:
        return bool(self._gone)

    def __call__(self, exchange: Exchange) -> None:
        parts = [
            part
            for part in exchange.query.split("&")
            if part and unquote_plus(part.partition("=")[0]) not in self._gone
        ]
        for name, wanted in self._set:
            if wanted.lone is None or wanted.lone(exchange) is not None:
                value = wanted.text(exchange).encode("utf-8", "surrogateescape")
                parts.append(f"{quote(name, safe='')}={quote(value, safe='')}")
        exchange.query = "&".join(parts)
        exchange.target = exchange.path + ("?" + exchange.query if parts else "")


def template(text: str, at: Place) -> Template:
    """The template of a value; its problems are at `at`."""
    try:
        return Template(text)
    except ConfigProblem as problem:
        raise ConfigProblem(problem.message, at=at, hint=problem.hint) from None


def _templates(given: Mapping[str, str], at: Place) -> list[tuple[bytes, Template]]:
    return [(name.encode(), template(value, (*at, name))) for name, value in given.items()]


def _renamed(given: Mapping[str, str]) -> dict[bytes, tuple[bytes, bytes]]:
    """The new name, and it in lower case, by the old one in lower case."""
    return {
        old.lower().encode(): (new.encode(), new.lower().encode()) for old, new in given.items()
    }


def _constant(templates: list[tuple[bytes, Template]]) -> list[Pair] | None:
    """The fields if none depends on the request."""
    pairs = []
    for name, wanted in templates:
        if wanted.constant is None:
            return None
        pairs.append((name, wanted.constant.encode("latin-1")))
    return pairs


def _written(exchange: Exchange, templates: list[tuple[bytes, Template]]) -> list[Pair]:
    """The fields of a request; one whose lone value is not there is left out."""
    pairs = []
    for name, wanted in templates:
        lone = wanted.lone
        if lone is None:
            pairs.append((name, _line(wanted.text(exchange))))
        elif (value := lone(exchange)) is not None:
            pairs.append((name, _line(value if type(value) is str else wanted.text(exchange))))
    return pairs


def _line(text: str) -> bytes:
    """A field's value as it came or in UTF-8, with spaces for line breaks and controls."""
    if not text.isprintable():
        text = "".join([letter if letter >= " " and letter != "\x7f" else " " for letter in text])
    return text.strip().encode("utf-8", "surrogateescape")


def _lower(names: Iterable[str]) -> frozenset[bytes]:
    return frozenset(name.lower().encode() for name in names)


def _check(
    changes: RequestChanges | ResponseChanges, refused: frozenset[bytes], at: Place, *, own: bool
) -> None:
    """Refuse the names that are not to be changed, and one that is changed in two ways.

    own: those of the gateway's words to upstreams too.
    """
    written = [
        *(("set", name) for name in changes.set),
        *(("add", name) for name in changes.add),
        *(("rename", name) for name in changes.rename),
        *(("remove", name) for name in changes.remove),
    ]
    for key, name in written:
        names = [name, changes.rename[name]] if key == "rename" else [name]
        for one in names:
            word = spelt(one.encode())
            place = (*at, key, changes.remove.index(name) if key == "remove" else name)
            if (word in refused and not (key == "remove" and word in _REMOVABLE)) or (
                own and is_own(word)
            ):
                raise ConfigProblem(f"{one} is the gateway's to say", at=place, hint="leave it out")
            if own and key == "rename" and one is not name and is_from_proxies(word):
                message = f"{one} says who calls, and the client would choose it"
                raise ConfigProblem(message, at=place)
