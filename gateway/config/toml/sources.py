"""Values from outside the TOML: environment variables and files, each read once and fingerprinted.

Such values may be secrets. While a configuration is checked they are `Outside`, a string whose
`repr` is what the TOML says, so that no error message shows more than the operator wrote. `Secret`
fields keep theirs masked for good.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from errno import EINVAL
from pathlib import Path
from stat import S_IROTH
from typing import Any

from marshmallow import ValidationError

from gateway.config.toml.problems import shown_path


class Outside(str):
    """A string from outside. `written`: what the TOML says; it is all that `repr` shows."""

    __slots__ = ("written",)
    written: str

    def __new__(cls, value: str, written: str) -> Outside:
        made = super().__new__(cls, value)
        made.written = written
        return made

    def __repr__(self) -> str:
        return repr(self.written)

    def __reduce__(self) -> tuple[type[Outside], tuple[str, str]]:
        return type(self), (str(self), self.written)

    def scalar(self) -> int | float | bool | str:
        """Return the number or boolean that the value spells in TOML, or else the value.

        TOML can interpolate only strings, so a number from the environment is `port = "${PORT}"`.
        """
        if self in ("true", "false"):
            return self == "true"
        digits = self.removeprefix("-")
        if not digits.isascii() or not digits.replace(".", "", 1).isdigit():
            return self
        return float(self) if "." in digits else int(self)

    def items(self) -> list[Outside]:
        """Return the values of an array that one string lists, split at commas."""
        return [Outside(item, self.written) for part in self.split(",") if (item := part.strip())]


class SecretText(Outside):
    """A loaded secret. It works as the string it is, but no `repr` shows it."""

    __slots__ = ()


class Sources:
    """Reads the environment and files for one compilation, and remembers what it read."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.variables: dict[str, str | None] = {}
        self.files: dict[Path, bytes] = {}
        self.exposed: set[Path] = set()
        """Files with secrets that every user of the machine can read."""

    def __getstate__(self) -> dict[str, Any]:
        """What was read does not go to other processes with the configuration made of it."""
        return {}

    def variable(self, name: str) -> str | None:
        """Return the variable's value, None when there is none."""
        value = self._environ.get(name)
        if value is not None:
            value = value.strip(
                "\r\n"
            )  # of `$(cat file)` and the like: no key or token ends with them
        self.variables[name] = value
        return value

    def has(self, name: str) -> bool:
        """Return True if there is such a variable; its value does not count for the fingerprint."""
        return name in self._environ

    def read(self, path: Path) -> bytes:
        """Return the file's bytes, read once: a compilation sees one state. Raises OSError."""
        known = self.files.get(path)
        if known is None:
            try:
                known = self.files[path] = path.read_bytes()
            except ValueError as error:  # a NUL in the name
                raise OSError(EINVAL, str(error)) from None
        return known

    def fingerprint(self, directory: Path) -> str:
        """Return the first 16 hex digits of a SHA-256 over everything read.

        Paths count relative to `directory`: the same tree elsewhere has the same fingerprint.
        """
        parts = [
            (b"file", os.fsencode(os.path.relpath(path, directory)), data)
            for path, data in self.files.items()
        ]
        for name, value in self.variables.items():
            kind = b"unset" if value is None else b"variable"
            parts.append((kind, os.fsencode(name), os.fsencode(value or "")))
        digest = hashlib.sha256()
        for part in sorted(parts):
            for field in part:
                digest.update(len(field).to_bytes(8, "big") + field)
        return digest.hexdigest()[:16]


def others_can_read(path: Path) -> bool:
    """Return True if every user of the machine may read the file; its folder may still keep them
    out."""
    try:
        return bool(path.stat().st_mode & S_IROTH)
    except OSError:
        return False


class FileTable(dict[str, Any]):
    """`{ file = "path" }`: a plain table, and for text fields the contents of the file."""

    def __init__(self, table: Mapping[str, Any], directory: Path, sources: Sources) -> None:
        super().__init__(table)
        self.directory = directory
        self.sources = sources

    def contents(self, *, secret: bool = False) -> Outside:
        """Return the file's text without white space around it. Raises ValidationError when it
        cannot be read."""
        name = self["file"]
        where = "" if Path(name).is_absolute() else f" (in {shown_path(self.directory)})"
        try:
            text = self.sources.read(self.directory / name).decode("utf-8-sig")
        except OSError as error:
            raise ValidationError(f"cannot read {name!r}: {error.strerror}{where}") from None
        except UnicodeDecodeError:
            raise ValidationError(f"{name!r} is not text in UTF-8") from None
        if secret and others_can_read(self.directory / name):
            self.sources.exposed.add(self.directory / name)
        return Outside(text.strip(), f'{{ file = "{getattr(name, "written", name)}" }}')


def plain(value: Any) -> Any:
    """Return the value with ordinary strings and tables instead of `Outside` and `FileTable`.

    Secrets stay what they are.
    """
    if type(value) is Outside:
        return str(value)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(plain, value))
    return value
