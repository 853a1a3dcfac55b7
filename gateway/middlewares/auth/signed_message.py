"""Parse HTTP Message Signatures (RFC 9421): Signature-Input, Signature, and the base. Pure.

A minimal profile: components of the request, without parameters (`sf`, `key`, `bs`, `req`, `tr`).
What is outside of it is refused, because an ignored parameter changes what the signature means.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

MOST = 8
"""Signatures on one message that are looked at."""
LONGEST = 8192
"""Letters of a field that are looked at."""
DERIVED = frozenset(
    ("@method", "@target-uri", "@authority", "@scheme", "@request-target", "@path", "@query")
)
"""RFC 9421 section 2.2, but for @query-param and @status."""
DIGESTS = {"sha-256": hashlib.sha256, "sha-512": hashlib.sha512}
"""RFC 9530 section 5."""

Bare = int | str | bytes | bool

_KEY = re.compile(r"[a-z*][a-z0-9_.*-]*")
_STRING = re.compile(r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"')
_BYTES = re.compile(r":([A-Za-z0-9+/]*={0,2}):")
_INTEGER = re.compile(r"-?\d{1,15}(?![\d.])")
_BOOLEAN = re.compile(r"\?([01])")
_COMMA = re.compile(r"[ \t]*,[ \t]*")
_FIELD = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")


class Unreadable(ValueError):
    """Not what RFC 9421 or RFC 9530 allows, or beyond the profile. The message is for operators."""


@dataclass(frozen=True, slots=True)
class Signed:
    """One signature: its components in order, its parameters (RFC 9421 section 2.3), its bytes."""

    label: str
    components: tuple[str, ...]
    created: int | None
    expires: int | None
    nonce: str
    keyid: str
    alg: str
    params: str
    """The value of "@signature-params"."""
    signature: bytes


def read(inputs: Sequence[str], signatures: Sequence[str], known: Container[str]) -> Signed | None:
    """Return a message's first signature by a `known` key, from its two fields, or None.

    Signatures by other keys may be of any kind. Raises Unreadable.
    """
    members = _Scanner(",".join(inputs)).dictionary(lambda scanner: scanner.inner_list())
    if len(members) > MOST:
        raise Unreadable(f"more than {MOST} signatures")
    for label, (components, params) in members.items():
        if params.get("keyid") in known:
            values = _Scanner(",".join(signatures)).dictionary(
                lambda scanner: scanner.byte_sequence()
            )
            return _signed(label, components, params, values.get(label))
    return None


def base(signed: Signed, value: Callable[[str], str]) -> bytes:
    """Return what is signed (RFC 9421 section 2.5). `value` of a component raises Unreadable."""
    lines = [f'"{name}": {value(name)}\n' for name in signed.components]
    return f'{"".join(lines)}"@signature-params": {signed.params}'.encode(
        "utf-8", "surrogateescape"
    )


def digests(fields: Sequence[str]) -> dict[str, bytes]:
    """Return the checkable digests of Content-Digest by algorithm (RFC 9530 section 2).

    Raises Unreadable when there are none.
    """
    found = _Scanner(",".join(fields)).dictionary(lambda scanner: scanner.byte_sequence())
    usable = {name: digest for name, digest in found.items() if name in DIGESTS}
    if not usable:
        raise Unreadable(f"Content-Digest has none of {', '.join(DIGESTS)}")
    return usable


def _signed(
    label: str, components: tuple[str, ...], params: dict[str, Bare], signature: bytes | None
) -> Signed:
    if signature is None:
        raise Unreadable(f"{label} is in Signature-Input but not in Signature")
    for name in components:
        if name not in DERIVED and not _FIELD.fullmatch(name):
            raise Unreadable(f"{label} covers {name!r}, which is not in this profile")
    if len(set(components)) != len(components):
        raise Unreadable(f"{label} covers a component twice")
    said, numbers, words = "", dict[str, int](), dict[str, str]()
    for name, value in params.items():
        if name in ("created", "expires") and type(value) is int:
            numbers[name] = value
            said += f";{name}={value}"
        elif name in ("nonce", "keyid", "alg", "tag") and isinstance(value, str):
            words[name] = value
            said += f";{name}={_quoted(value)}"
        else:
            raise Unreadable(
                f"{label} has a parameter {name} that is not known, or of another type"
            )
    return Signed(
        label,
        components,
        numbers.get("created"),
        numbers.get("expires"),
        words.get("nonce", ""),
        words.get("keyid", ""),
        words.get("alg", ""),
        f"({' '.join(map(_quoted, components))}){said}",
        signature,
    )


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


class _Scanner:
    """Structured fields (RFC 9651), as far as they are needed."""

    def __init__(self, text: str) -> None:
        if len(text) > LONGEST:
            raise Unreadable(f"a field is longer than {LONGEST} letters")
        self.text = text.strip(" ")
        self.at = 0

    def match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        found = pattern.match(self.text, self.at)
        if found is not None:
            self.at = found.end()
        return found

    def skip(self, letter: str) -> bool:
        """Return True if the letter comes next, and pass it."""
        if self.text.startswith(letter, self.at):
            self.at += 1
            return True
        return False

    def dictionary(self, member: Callable[[_Scanner], T]) -> dict[str, T]:
        """Parse a dictionary (RFC 9651 section 4.2.2).

        A repeated key is an error: readers disagree about which counts.
        """
        found: dict[str, T] = {}
        while True:
            key = self.match(_KEY)
            if key is None or not self.skip("="):
                raise Unreadable(f"there is no member at letter {self.at + 1}")
            if key[0] in found:
                raise Unreadable(f"{key[0]} occurs twice")
            found[key[0]] = member(self)
            if self.at == len(self.text):
                return found
            if self.match(_COMMA) is None:
                raise Unreadable(f"there is something behind {key[0]}")

    def inner_list(self) -> tuple[tuple[str, ...], dict[str, Bare]]:
        """Strings in parentheses, and the list's own parameters."""
        if not self.skip("("):
            raise Unreadable("a member of Signature-Input is not a list")
        components: list[str] = []
        while not self.skip(")"):
            if components and not self.text.startswith((" ", ")"), self.at):
                raise Unreadable("components are not separated")
            while self.skip(" "):
                pass
            if self.skip(")"):
                break
            found = self.match(_STRING)
            if found is None:
                raise Unreadable("a component is not a string")
            name = _unquoted(found[1])
            components.append(f"{name};..." if self.parameters() else name)
        return tuple(components), self.parameters()

    def parameters(self) -> dict[str, Bare]:
        found: dict[str, Bare] = {}
        while self.skip(";"):
            while self.skip(" "):
                pass
            key = self.match(_KEY)
            if key is None or key[0] in found:
                raise Unreadable("a parameter without a name, or twice")
            found[key[0]] = self.bare() if self.skip("=") else True
        return found

    def bare(self) -> Bare:
        if (found := self.match(_STRING)) is not None:
            return _unquoted(found[1])
        if (found := self.match(_INTEGER)) is not None:
            return int(found[0])
        if (found := self.match(_BOOLEAN)) is not None:
            return found[1] == "1"
        return self.byte_sequence()

    def byte_sequence(self) -> bytes:
        found = self.match(_BYTES)
        try:
            if found is not None:
                return base64.b64decode(found[1], validate=True)
        except binascii.Error:
            pass
        raise Unreadable("something that should be is no byte sequence (:base64:)")


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)
