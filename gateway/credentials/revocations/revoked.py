"""Tokens that are refused before they expire: by jti, by subject, or by when they were issued.

    [[revoked]]
    jti = "0f3c..."                    # one token
    issuer = "https://id.example.com"  # optional; any issuer when left out

    [[revoked]]
    subject = "alice"                  # those of a subject, issued before then if it says so
    before = 2026-01-31T09:30:00Z

    [[revoked]]
    before = 2026-01-31T09:30:00Z      # all that were issued before then

    until = 2026-02-01T00:00:00Z       # optional in each: the tokens have expired by then

The file is read again when it changes; the list may be in Redis instead (redis_revocations.py). A
token without `iat` counts as issued before any time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from gateway.credentials import files
from gateway.credentials.files import CredentialError
from gateway.lifetime.watch import Stamp, Watched, stamp

ALWAYS = float("inf")
OPENING = "# Tokens that are refused before they expire. Comments and other entries stay.\n"


@dataclass(frozen=True, slots=True)
class Revocation:
    """One entry; an empty word stands for any. Times are Unix seconds."""

    jti: str = ""
    subject: str = ""
    issuer: str = ""
    before: float = ALWAYS
    until: float | None = None


class Revocations:
    """The list in force. `listeners` are called when it changes, so that caches are emptied."""

    def __init__(self, entries: Iterable[Revocation] = ()) -> None:
        self.listeners: set[Callable[[], None]] = set()
        self._watched: Watched[tuple[Revocation, ...]] | None = None
        self._set(entries)

    @classmethod
    def of(cls, path: Path) -> Revocations:
        """Return the list of a file, which is watched. Raises CredentialError."""
        seen: Stamp = stamp(path)
        return cls.watching(path, seen, load(path))

    @classmethod
    def watching(cls, path: Path, seen: Stamp, entries: tuple[Revocation, ...]) -> Revocations:
        """Return the list read from a file, which is watched; `seen` is its stamp before that."""
        made = cls(entries)
        made._watched = Watched(path, seen, lambda: load(path), made.replace)
        return made

    def offer(self, seen: Stamp, entries: tuple[Revocation, ...]) -> Callable[[], None]:
        """Return the step that takes the entries that a reload has read (Watched.offer)."""
        assert self._watched is not None
        return self._watched.offer(seen, entries)

    def __repr__(self) -> str:
        return f"<Revocations {len(self._tokens) + len(self._subjects) + len(self._issuers)}>"

    def close(self) -> None:
        if self._watched is not None:
            self._watched.close()

    def replace(self, entries: Iterable[Revocation]) -> None:
        """Replace the list."""
        self._set(entries)
        self._tell()

    def add(self, entries: Iterable[Revocation]) -> None:
        """Add entries."""
        self._put(entries)
        self._tell()

    def _tell(self) -> None:
        for listener in tuple(self.listeners):
            listener()

    def why(self, claims: Mapping[str, Any]) -> str:
        """Return why a token with these claims is refused, "" if it is not."""
        issuer, jti, subject, issued = (claims.get(name) for name in ("iss", "jti", "sub", "iat"))
        since = issued if isinstance(issued, int | float) else float("-inf")
        for who in (issuer, ""):
            if isinstance(jti, str) and (who, jti) in self._tokens:
                return "its jti is revoked"
            if isinstance(subject, str) and since < self._subjects.get(
                (who, subject), float("-inf")
            ):
                return "its subject's tokens from before then are revoked"
            if since < self._issuers.get(who, float("-inf")):
                return "all tokens from before then are revoked"
        return ""

    def _set(self, entries: Iterable[Revocation]) -> None:
        self._tokens: set[tuple[Any, str]] = set()
        self._subjects: dict[tuple[Any, str], float] = {}
        self._issuers: dict[Any, float] = {}
        self._put(entries)

    def _put(self, entries: Iterable[Revocation]) -> None:
        for one in entries:
            if one.jti:
                self._tokens.add((one.issuer, one.jti))
            elif one.subject:
                key = (one.issuer, one.subject)
                self._subjects[key] = max(one.before, self._subjects.get(key, one.before))
            else:
                self._issuers[one.issuer] = max(
                    one.before, self._issuers.get(one.issuer, one.before)
                )


def load(path: Path) -> tuple[Revocation, ...]:
    """The entries of a file; none when there is no such file yet. Raises CredentialError."""
    return parse(files.read(path), path) if path.exists() else ()


def parse(text: str, path: Path) -> tuple[Revocation, ...]:
    """The entries of a file's text. Raises CredentialError."""
    tables = files.tables(files.parse(text, path), "revoked", path)
    return tuple(
        of_table(table, f"{path}: entry {number}") for number, table in enumerate(tables, 1)
    )


def of_table(table: Mapping[str, Any], where: str) -> Revocation:
    """Return the entry of one table. Raises CredentialError that begins with `where`."""
    for name, value in table.items():
        wanted = {"jti": str, "subject": str, "issuer": str, "before": date, "until": date}.get(
            name
        )
        if wanted is None:
            raise CredentialError(f"{where} has a key {name} that means nothing")
        if not isinstance(value, wanted) or value == "":
            raise CredentialError(
                f"{where}: {name} must be {'a date and time' if wanted is date else 'text'}"
            )
    if "jti" not in table and "subject" not in table and "before" not in table:
        raise CredentialError(
            f"{where} says neither jti, subject nor before, so it would refuse everybody"
        )
    times = {name: files.unix_time(table[name]) for name in ("before", "until") if name in table}
    return Revocation(
        table.get("jti", ""), table.get("subject", ""), table.get("issuer", ""), **times
    )


def add(path: Path, entry: Revocation) -> None:
    """Append an entry to the file, which is made when there is none. Raises CredentialError."""
    table: dict[str, Any] = {
        name: value for name in ("jti", "subject", "issuer") if (value := getattr(entry, name))
    }
    for name, value in table.items():
        if not value.isprintable():
            raise CredentialError(f"{name} must be one line of text")
    if entry.before != ALWAYS:
        table["before"] = files.utc_time(entry.before)
    if entry.until is not None:
        table["until"] = files.utc_time(entry.until)
    with files.locked(path) as target:
        files.edit(
            target,
            lambda document: files.append(document, "revoked", table),
            lambda text: parse(text, target),
            OPENING,
        )
