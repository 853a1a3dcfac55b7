"""Changing the API key file: creating, rotating and revoking keys.

The text is edited, not written anew, so comments and whatever else it holds stay; an edit that does not read back as exactly what
was meant is given up. Writers wait for one another; readers see the file before or after, never between.
"""

from __future__ import annotations

import copy
import fcntl
import json
import os
import re
import secrets
import tempfile
import tomllib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from gateway.state import keyfile
from gateway.state.keyfile import Key, KeyFileError

_HEAD = re.compile(r"""\s*\[\[\s*(?:key|"key"|'key')\s*\]\]""")
_TABLE = re.compile(r"\s*\[")

SHORTEST = 16
"""Letters an existing key must have: stored unsalted, anything shorter could be found by trying."""

OPENING = """\
# API keys, without the keys: each is known by its SHA-256 only. Written by `gateway keys`; comments and other entries stay.
"""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a new key is to be. `expires` in Unix seconds, None for never."""

    client: str
    tier: str = ""
    permissions: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    label: str = ""
    expires: float | None = None
    networks: tuple[str, ...] = ()


def create(path: Path, wish: Wish, now: float, *, prefix: str = "bec_", existing: str | None = None) -> tuple[Key, str]:
    """Adds a key and returns it with the key itself, which is nowhere else. Makes the file when there is none.

    existing: a key made elsewhere, taken over as it is. now: Unix seconds. Raises KeyFileError.
    """
    _check(wish, prefix, existing)
    with _changing(path, missing_ok=True) as change:
        return _add(change, wish, now, prefix, existing)


def rotate(
    path: Path,
    id: str,
    now: float,
    *,
    overlap: float,
    expires: float | Literal["same"] | None = "same",
    prefix: str = "bec_",
) -> tuple[Key, str, Key]:
    """A new key like the one called `id`, which itself expires in `overlap` seconds: (new, the new key itself, old).

    expires: of the new key; "same" lets it live for as long as the old one was meant to. Raises KeyFileError.
    """
    with _changing(path) as change:
        number, old = change.find(id)
        if old.revoked:
            raise KeyFileError(f"{id} was revoked; create a new key instead")
        if old.replaced_by:
            raise KeyFileError(f"{id} has been rotated already: {old.replaced_by} replaces it")
        if expires == "same":
            expires = None
            if old.expires is not None:
                expires = now + old.expires - (old.created if old.created is not None else now)
        wish = Wish(
            old.client, old.tier, tuple(sorted(old.permissions)), tuple(sorted(old.roles)), old.label, expires, old.networks
        )
        _check(wish, prefix, None)
        new, secret = _add(change, wish, now, prefix, None)
        end = now + overlap if old.expires is None else min(old.expires, now + overlap)
        change.set(number, "expires", time_literal(end))
        change.set(number, "replaced_by", json.dumps(new.id))
        return new, secret, change.keys[number]


def revoke(path: Path, id: str, now: float) -> tuple[Key, bool]:
    """Revokes the key called `id`; (the key, whether it was in use until now). Raises KeyFileError."""
    with _changing(path) as change:
        number, key = change.find(id)
        if not key.revoked:
            change.set(number, "revoked", time_literal(now))
        return change.keys[number], not key.revoked


class _Change:
    """A key file's text while it is being changed."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self.text = text
        self.keys = keyfile.parse(text, path)

    def find(self, id: str) -> tuple[int, Key]:
        for number, key in enumerate(self.keys):
            if key.id == id:
                return number, key
        raise KeyFileError(f"{self.path} has no key {id}")

    def append(self, block: str) -> None:
        before = self.text if not self.text or self.text.endswith("\n") else self.text + "\n"
        [table] = tomllib.loads(block)["key"]
        self._edit(f"{before}\n{block}", lambda data: data.setdefault("key", []).append(table))

    def set(self, number: int, name: str, literal: str) -> None:
        """Gives the field `name` of one key another value, a TOML literal."""
        value = tomllib.loads(f"x = {literal}")["x"]
        self._edit(self._with(number, f"{name} = {literal}\n", name), lambda data: data["key"][number].update({name: value}))

    def _with(self, number: int, line: str, name: str) -> str:
        lines = self.text.splitlines(keepends=True)
        heads = [at for at, one in enumerate(lines) if _HEAD.match(one)]
        if number >= len(heads):
            return ""  # `key = [{...}]`: not a layout we can edit, and _edit says so
        start = heads[number] + 1
        end = next((at for at in range(start, len(lines)) if _TABLE.match(lines[at])), len(lines))
        known = [at for at in range(start, end) if re.match(rf"\s*{name}\s*=", lines[at])]
        filled = [at + 1 for at in range(start, end) if lines[at].strip() and not lines[at].lstrip().startswith("#")]
        if known:
            lines[known[0]] = line
        else:
            at = filled[-1] if filled else start
            lines[at - 1] = lines[at - 1].removesuffix("\n") + "\n"
            lines.insert(at, line)
        return "".join(lines)

    def _edit(self, text: str, meant: Callable[[dict[str, Any]], object]) -> None:
        expected = copy.deepcopy(tomllib.loads(self.text))
        meant(expected)
        try:
            fits = tomllib.loads(text) == expected
        except tomllib.TOMLDecodeError:
            fits = False
        if not fits:
            raise KeyFileError(f"{self.path} is laid out in a way that cannot be changed safely; use one [[key]] table a key")
        self.keys = keyfile.parse(text, self.path)
        self.text = text


@contextmanager
def _changing(path: Path, *, missing_ok: bool = False) -> Iterator[_Change]:
    """The file, for this process alone; written at the end if it was changed and nothing went wrong."""
    with locked(path) as target:
        text = "" if missing_ok and not target.exists() else keyfile.read(target)
        change = _Change(target, text)
        yield change
        if change.text != text:
            replace_file(target, change.text if text else OPENING + change.text)


@contextmanager
def locked(path: Path) -> Iterator[Path]:
    """The file itself, whatever link led to it, while nobody else changes it. Raises KeyFileError."""
    path = path.resolve()  # a rename onto a symbolic link would replace the link
    lock = path.with_name(f".{path.name}.lock")
    try:
        # Left in place: whoever removed it would leave two writers holding two different locks.
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise KeyFileError(f"cannot write in {path.parent}: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield path
    finally:
        os.close(descriptor)


def replace_file(path: Path, text: str) -> None:
    """Replaces the file in one step, so that a crash or a full disk leaves the old one. Nobody but its owner may read it."""
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
                file.write(text)
                file.flush()
                os.fsync(descriptor)
            with suppress(OSError):  # root changing the gateway's file leaves it the gateway's
                owner = path.stat()
                os.chown(temporary, owner.st_uid, owner.st_gid)
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise KeyFileError(f"cannot write {path}: {error.strerror}") from None


def _check(wish: Wish, prefix: str, existing: str | None) -> None:
    """Raises KeyFileError when a key cannot be as wished."""
    for what, value in (("client", wish.client), ("tier", wish.tier)):
        if not keyfile.VALUE.fullmatch(value) and (value or what == "client"):
            raise KeyFileError(f"{what} {value!r} {keyfile.VALUE_RULE}")
    _check_words("permission", wish.permissions, keyfile.PERMISSION, keyfile.PERMISSION_RULE)
    _check_words("role", wish.roles, keyfile.ROLE, keyfile.ROLE_RULE)
    for network in wish.networks:
        if not keyfile.is_network(network):
            raise KeyFileError(f"{network!r} {keyfile.NETWORK_RULE}")
    if not wish.label.isprintable():
        raise KeyFileError(f"label {wish.label!r} must be one line of text")
    if not re.fullmatch(r"[A-Za-z0-9_.-]*", prefix):
        raise KeyFileError(f"prefix {prefix!r} must consist of letters, digits, and _ . -")
    if existing is not None and (len(existing) < SHORTEST or not re.fullmatch(r"[\x21-\x7e]+", existing)):
        raise KeyFileError(f"an existing key must have {SHORTEST} or more visible ASCII letters and no spaces")


def _check_words(what: str, values: Iterable[str], pattern: re.Pattern[str], rule: str) -> None:
    for value in values:
        if not pattern.fullmatch(value):
            raise KeyFileError(f"{what} {value!r} {rule}")


def _add(change: _Change, wish: Wish, now: float, prefix: str, existing: str | None) -> tuple[Key, str]:
    secret = existing if existing is not None else keyfile.with_checksum(prefix + secrets.token_hex(28))
    digest = keyfile.digest(secret)
    for key in change.keys:
        if key.digest == digest:
            raise KeyFileError(f"this key is there already: {key.id} of {key.client}")
    known = {key.id for key in change.keys}
    id = next(id for id in iter(lambda: f"k_{secrets.token_hex(4)}", "") if id not in known)
    # Enough to tell keys apart, too little to help anyone: a prefix and 16 of 224 bits.
    hint = secret[: len(prefix) + 4] if existing is None else secret[: 8 if len(secret) >= 32 else 4]
    entries: list[tuple[str, str]] = [("id", json.dumps(id)), ("client", json.dumps(wish.client))]
    if wish.tier:
        entries.append(("tier", json.dumps(wish.tier)))
    if wish.permissions:
        entries.append(("permissions", json.dumps(wish.permissions)))
    if wish.roles:
        entries.append(("roles", json.dumps(wish.roles)))
    if wish.networks:
        entries.append(("networks", json.dumps(wish.networks)))
    if wish.label:
        entries.append(("label", json.dumps(wish.label, ensure_ascii=False)))
    entries += [("hash", f'"sha256:{digest.hex()}"'), ("hint", json.dumps(hint)), ("created", time_literal(now))]
    if wish.expires is not None:
        entries.append(("expires", time_literal(wish.expires)))
    change.append("[[key]]\n" + "".join(f"{name} = {literal}\n" for name, literal in entries))
    return change.keys[-1], secret


def time_literal(unix: float) -> str:
    """A TOML offset date-time, to the second."""
    try:
        return f"{datetime.fromtimestamp(int(unix), UTC):%Y-%m-%dT%H:%M:%SZ}"
    except (ValueError, OverflowError, OSError):
        raise KeyFileError("expires too far in the future: the year must be 9999 or earlier") from None
