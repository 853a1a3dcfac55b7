"""Changing the user file: a field of one `[[user]]`, or the whole of it.

The text is edited, not written anew, so comments and whatever else it holds stay; an edit that does not read back as exactly what
was meant is given up. Writers wait for one another (key_edits.locked).
"""

from __future__ import annotations

import copy
import json
import re
import tomllib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gateway.credentials.api_keys import key_edits
from gateway.credentials.api_keys.key_file import KeyFileError
from gateway.credentials.users import user_file
from gateway.credentials.users.user_file import User, UserFileError

_HEAD = re.compile(r"""\s*\[\[\s*(?:user|"user"|'user')\s*\]\]""")
_TABLE = re.compile(r"\s*\[")
CHANGEABLE = ("hash", "totp", "changed")


def change(path: Path, old: User, new: User) -> bool:
    """Writes what `new` has else than `old` in CHANGEABLE; whether it did: not when the file's user is no longer `old`.

    Raises UserFileError.
    """
    try:
        with key_edits.locked(path) as target:
            known = user_file.load(target)
            if known.get(old.name) != old:
                return False
            text = target.read_text("utf-8")
            number = list(known).index(old.name)
            for name in CHANGEABLE:
                if getattr(old, name) != getattr(new, name):
                    text = _with(text, number, name, _literal(new, name), path)
            key_edits.replace_file(target, text)
    except KeyFileError as error:
        raise UserFileError(str(error)) from None
    return True


def remove(path: Path, name: str) -> None:
    """Takes a user out. Raises UserFileError, also when there is none."""
    try:
        with key_edits.locked(path) as target:
            known = user_file.load(target)
            if name not in known:
                raise UserFileError(f"{path} has no user {name}")
            number = list(known).index(name)
            text = target.read_text("utf-8")
            lines = text.splitlines(keepends=True)
            start, end = _span(lines, number, path)
            edited = "".join([*lines[:start], *lines[end:]])
            key_edits.replace_file(target, _checked(text, edited, lambda tables: tables.pop(number), path))
    except KeyFileError as error:
        raise UserFileError(str(error)) from None


def at(user: User, now: float) -> User:
    """The user with a password that changed at `now` (Unix time), to the microsecond, as it will be read back."""
    return replace(user, changed=datetime.fromtimestamp(now, UTC).timestamp())


def _literal(user: User, name: str) -> str:
    """A field as TOML; "" for one that goes."""
    if name == "changed":
        return f"{datetime.fromtimestamp(user.changed, UTC):%Y-%m-%dT%H:%M:%S.%fZ}" if user.changed else ""
    value = getattr(user, name)
    return json.dumps(value) if value else ""


def _with(text: str, number: int, name: str, literal: str, path: Path) -> str:
    lines = text.splitlines(keepends=True)
    start, end = _span(lines, number, path)
    known = [at for at in range(start + 1, end) if re.match(rf"\s*{name}\s*=", lines[at])]
    if known:
        lines[known[0] : known[0] + 1] = [f"{name} = {literal}\n"] if literal else []
    elif literal:
        last = max(at for at in range(start, end) if lines[at].strip() and not lines[at].lstrip().startswith("#"))
        lines[last] = lines[last].removesuffix("\n") + "\n"
        lines.insert(last + 1, f"{name} = {literal}\n")

    def meant(tables: list[dict[str, Any]]) -> None:
        tables[number].pop(name, None)
        if literal:
            tables[number][name] = tomllib.loads(f"x = {literal}")["x"]

    return _checked(text, "".join(lines), meant, path)


def _span(lines: list[str], number: int, path: Path) -> tuple[int, int]:
    """The lines of one table: its head, and the first that is no longer its own."""
    heads = [at for at, one in enumerate(lines) if _HEAD.match(one)]
    if number >= len(heads):
        raise UserFileError(f"{path} is laid out in a way that cannot be changed safely; use one [[user]] table a user")
    start = heads[number]
    return start, next((at for at in range(start + 1, len(lines)) if _TABLE.match(lines[at])), len(lines))


def _checked(text: str, edited: str, meant: Callable[[list[dict[str, Any]]], object], path: Path) -> str:
    """`edited`, if it says what `text` says after `meant`. Raises UserFileError."""
    expected = copy.deepcopy(tomllib.loads(text))
    meant(expected["user"])
    try:
        found = tomllib.loads(edited)
    except tomllib.TOMLDecodeError:
        found = {}
    if found.get("user", []) != expected["user"] or {**found, "user": 0} != {**expected, "user": 0}:
        raise UserFileError(f"{path} is laid out in a way that cannot be changed safely; use one [[user]] table a user")
    return edited
