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
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from gateway.credentials.api_keys import key_file, new_keys
from gateway.credentials.api_keys.key_file import Key, KeyFileError
from gateway.credentials.api_keys.new_keys import Wish

_HEAD = re.compile(r"""\s*\[\[\s*(?:key|"key"|'key')\s*\]\]""")
_TABLE = re.compile(r"\s*\[")

OPENING = """\
# API keys, without the keys: each is known by its SHA-256 only. Written by `gateway keys`; comments and other entries stay.
"""


def create(path: Path, wish: Wish, now: float, *, prefix: str = "bec_", existing: str | None = None) -> tuple[Key, str]:
    """Adds a key and returns it with the key itself, which is nowhere else. Makes the file when there is none.

    existing: a key made elsewhere, taken over as it is. now: Unix seconds. Raises KeyFileError.
    """
    new_keys.check(wish, prefix, existing)  # before a file is made
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
        wish, end = new_keys.successor(old, now, overlap, expires)
        new, secret = _add(change, wish, now, prefix, None)
        change.set(number, "expires", time_literal(end.timestamp()))
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
        self.keys = key_file.parse(text, path)

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
        self.keys = key_file.parse(text, self.path)
        self.text = text


@contextmanager
def _changing(path: Path, *, missing_ok: bool = False) -> Iterator[_Change]:
    """The file, for this process alone; written at the end if it was changed and nothing went wrong."""
    with locked(path) as target:
        text = "" if missing_ok and not target.exists() else key_file.read(target)
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


def _add(change: _Change, wish: Wish, now: float, prefix: str, existing: str | None) -> tuple[Key, str]:
    table, secret = new_keys.make(wish, now, prefix, existing, {key.id for key in change.keys})
    digest = key_file.digest(secret)
    for key in change.keys:
        if key.digest == digest:
            raise KeyFileError(f"this key is there already: {key.id} of {key.client}")
    change.append("[[key]]\n" + "".join(f"{name} = {_literal(value)}\n" for name, value in table.items()))
    return change.keys[-1], secret


def _literal(value: Any) -> str:
    """A TOML literal. JSON's are the same for text and arrays of it."""
    return time_literal(value.timestamp()) if isinstance(value, datetime) else json.dumps(value, ensure_ascii=False)


def time_literal(unix: float) -> str:
    """A TOML offset date-time, to the second."""
    return f"{new_keys.moment(unix):%Y-%m-%dT%H:%M:%SZ}"
