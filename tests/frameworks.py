"""Which path of a request common frameworks look up, and a route table as they would search it.

Read from their sources: Werkzeug 3 (`routing/map.py`, `_internal.py`), Django 5
(`core/handlers/wsgi.py`), Starlette with uvicorn (`httptools_impl.py`), Express 4 with
path-to-regexp 0.1, Tomcat 10 (`CoyoteAdapter.java`: parameters, then decoding, then normalising).
Nothing of the gateway is used
here: the two sides must not share their mistakes.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes


def decode(path: bytes) -> bytes:
    return unquote_to_bytes(path)


def flask(path: bytes) -> bytes:
    return re.sub(rb"//+", b"/", b"/" + decode(path).lstrip(b"/"))


def django(path: bytes) -> bytes:
    return decode(path)


starlette = django


def express(path: bytes) -> bytes:
    return path


def tomcat(path: bytes) -> bytes:
    path = decode(re.sub(rb";[^/]*", b"", path)).replace(b"\\", b"/")
    return resolve(re.sub(rb"//+", b"/", path))


def spring(path: bytes) -> bytes:
    """Spring's UrlPathHelper: parameters that are only there after decoding go as well."""
    return resolve(re.sub(rb"//+", b"/", re.sub(rb";[^/]*", b"", decode(path))))


def resolve(path: bytes) -> bytes:
    kept: list[bytes] = []
    for segment in path.split(b"/")[1:]:
        if segment == b"..":
            del kept[-1:]
        elif segment != b".":
            kept.append(segment)
    return b"/" + b"/".join(kept)


View = Callable[[bytes], bytes]
VIEWS: dict[str, View] = {view.__name__: view for view in (flask, django, express, tomcat, spring)}
VIEWS |= {
    f"{name} behind a proxy that decodes": _twice
    for name, view in VIEWS.items()
    for _twice in (lambda path, view=view: view(decode(path)),)
}


@dataclass(frozen=True)
class Rule:
    """A route: literal segments, b"{}" for a variable; `prefix` takes what is below as well."""

    segments: tuple[bytes, ...]
    prefix: bool
    guarded: bool

    @classmethod
    def of(cls, text: str, *, prefix: bool, guarded: bool) -> Rule:
        parts = re.sub(r"\{\w+\}", "{}", text).strip("/").encode().split(b"/")
        return cls(tuple(part for part in parts if part), prefix, guarded)

    def takes(self, segments: list[bytes]) -> bool:
        if len(segments) < len(self.segments) or (
            not self.prefix and len(segments) > len(self.segments)
        ):
            return False
        pairs = zip(self.segments, segments, strict=False)
        return all((mine == b"{}" and theirs) or mine == theirs for mine, theirs in pairs)

    def rank(self) -> tuple[int, int, list[bool]]:
        variables = [segment == b"{}" for segment in self.segments]
        kind = 2 if self.prefix else int(any(variables))
        return kind, sum(variables) - len(variables), variables


def serves(rules: list[Rule], path: bytes) -> Rule | None:
    """The rule that an application with these rules serves `path` by."""
    segments = path.split(b"/")[1:]
    if segments == [b""]:
        segments = []
    return min((rule for rule in rules if rule.takes(segments)), key=Rule.rank, default=None)


_SLASHES = ("/",) * 12 + (
    "//", "%2F", "%2f", "%252F", "%25252f", "%5C", "%255c", "/./", "/%2e/", "/..;/", ";/", ";x=1/", "/;a/", "%3B/", "%253B/",
    "/%2e%2e%2f", "%2F..%2F", "%252e%252e%252f", "/x/%252e%252e/", "%2F%2F", "%2f;",
)  # fmt: skip


def paths(seed: int, words: list[str]) -> Iterator[str]:
    """Endless paths: the words and others, joined and spelt in every way that anyone reads
    differently."""
    chance = random.Random(seed)
    words = [*words, "x", "a b", "é", ".", "..", ""]
    while True:
        made = chance.choice(("/", "/", "/", "//", "/%2F", "/;x/", "/%252f"))
        for _ in range(chance.randint(1, 4)):
            word = chance.choice(words)
            if chance.random() < 0.15:
                word = "".join(_spelt(chance, letter) for letter in word)
            made += word + chance.choice(_SLASHES)
        yield made if chance.random() < 0.4 else made.rstrip("/")


def _spelt(chance: random.Random, letter: str) -> str:
    if chance.random() < 0.6 or not letter.isascii():
        return letter
    once = f"%{ord(letter):02X}"
    return chance.choice((once, once.lower(), once.replace("%", "%25")))
